# Paths, ports and names that every part shares.

ETC=$CLUSTER_STATE/etc LOG=$CLUSTER_STATE/log RUN=$CLUSTER_STATE/run
DATA=$CLUSTER_STATE/data DONE=$CLUSTER_STATE/done

# The 'host' of every service here. A compute service and the Linux bridge agent
# must agree on it, or ports do not bind.
CLUSTER_HOST=${CLUSTER_HOST:-$(uname -n)}
export CLUSTER_HOST
REGION=RegionOne
IP=127.0.0.1
P_KEYSTONE=5000 P_PLACEMENT=8778 P_GLANCE=9292 P_NOVA=8774 P_METADATA=8775
P_NEUTRON=9696 P_HORIZON=8000 P_RABBIT=5672 P_MYSQL=3306

# Both networks are documentation ranges (RFC 5737), with an unreachable route
# behind them, so that no packet for them ever leaves the machine.
EXT_BRIDGE=br-cluster-ext EXT_NET=198.51.100.0/24 EXT_IP=198.51.100.1
TENANT_NET=192.0.2.0/24

SOCK=$RUN/mysqld.sock
AGENT_BIN=${NOVA_AGENT_BIN:-$PROJECT/bin/nova-agent}

# One password for the services of this one cluster, made at the first 'up'.
password() {
    if [ ! -s "$CLUSTER_STATE/password" ]; then
        ( umask 077; od -An -N12 -tx1 /dev/urandom | tr -d ' \n' > "$CLUSTER_STATE/password" )
    fi
    cat "$CLUSTER_STATE/password"
}
