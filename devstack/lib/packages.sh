# Debian's packages, without prompts and without any of their services started.

PACKAGES="keystone glance-api placement-api nova-api nova-conductor nova-scheduler
  neutron-server neutron-linuxbridge-agent neutron-dhcp-agent neutron-metadata-agent
  neutron-l3-agent rabbitmq-server mariadb-server uwsgi-core uwsgi-plugin-python3
  python3-openstackclient python3-osc-placement python3-pymysql
  iproute2 iptables ebtables ipset conntrack bridge-utils dnsmasq-base haproxy radvd
  busybox-static iputils-ping iputils-arping procps curl e2fsprogs make git ca-certificates"
PACKAGES_HORIZON="openstack-dashboard"

POLICY=/usr/sbin/policy-rc.d
POLICY_MARK='nova-agent cluster: temporary'

# invoke-rc.d and deb-systemd-invoke both ask this file whether to start a
# service that was just installed.
forbid_service_starts() {
    if [ -e $POLICY ] && ! grep -q "$POLICY_MARK" $POLICY; then
        mv $POLICY $POLICY.before-cluster
    fi
    printf '#!/bin/sh\n# %s\nexit 101\n' "$POLICY_MARK" > $POLICY
    chmod 755 $POLICY
}
allow_service_starts() {
    ! grep -qs "$POLICY_MARK" $POLICY || rm -f $POLICY
    [ ! -e $POLICY.before-cluster ] || mv $POLICY.before-cluster $POLICY
}

preseed() { # the cluster makes its own databases and configuration files
    debconf-set-selections <<'S'
keystone keystone/configure_db boolean false
keystone keystone/create-admin-tenant boolean false
keystone keystone/register-endpoint boolean false
glance-common glance/configure_db boolean false
glance-api glance/register-endpoint boolean false
placement-common placement/configure_db boolean false
placement-api placement/register-endpoint boolean false
nova-common nova/configure_db boolean false
nova-common nova/my-ip string 127.0.0.1
nova-api nova/register-endpoint boolean false
nova-api novaapi/configure_db boolean false
neutron-common neutron/configure_db boolean false
neutron-api neutron/register-endpoint boolean false
neutron-server neutron/register-endpoint boolean false
S
}

install_packages() { # [horizon]
    # shellcheck disable=SC2086
    install_named $PACKAGES $([ "${1:-}" != horizon ] || echo $PACKAGES_HORIZON)
}
install_named() { # PACKAGE...: those of them that are missing
    local log missing
    log=$(mktemp) missing=$(for p in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$p" 2>/dev/null)" = 'ii ' ] || echo "$p"
    done)
    [ -n "$missing" ] || return 0
    local apt="apt-get -q -o DPkg::Lock::Timeout=900 -o Acquire::Retries=3"
    export DEBIAN_FRONTEND=noninteractive
    trap allow_service_starts EXIT
    forbid_service_starts
    {
        $apt update &&
        { command -v debconf-set-selections || $apt install -y --no-install-recommends debconf; } &&
        preseed &&
        $apt install -y --no-install-recommends -o Dpkg::Options::=--force-confdef \
            -o Dpkg::Options::=--force-confold $missing
    } > "$log" 2>&1 || fail_with_log "the packages could not be installed" "$log"
    allow_service_starts
    trap - EXIT
    rm -f "$log"
}
