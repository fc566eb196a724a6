# The control plane: databases, services, first contents; and 'up' and 'down'.

sql() { /usr/bin/mariadb --no-defaults -uroot -S "$SOCK" "$@"; }

up_mariadb() {
    if [ ! -d "$DATA/mysql/mysql" ]; then
        mkdir -p "$DATA/mysql"
        /usr/bin/mariadb-install-db --no-defaults --user=root --datadir="$DATA/mysql" \
            --auth-root-authentication-method=normal --skip-test-db \
            > "$LOG/mariadb-install.log" 2>&1 || fail_with_log "mariadb-install-db failed" "$LOG/mariadb-install.log"
    fi
    start mariadb /usr/sbin/mariadbd --defaults-file="$ETC/my.cnf"
    wait_for 60 mariadb sql -e 'select 1' || fail_with_log "MariaDB does not answer" "$LOG/mariadb.log"
    local db user
    for db in keystone placement glance nova nova_api nova_cell0 neutron; do
        user=${db%%_*}
        echo "CREATE DATABASE IF NOT EXISTS $db CHARACTER SET utf8mb3;"
        echo "CREATE USER IF NOT EXISTS '$user'@'127.0.0.1' IDENTIFIED BY '$PASS';"
        echo "GRANT ALL ON $db.* TO '$user'@'127.0.0.1';"
    done | sql || die "the databases could not be made"
}

rabbit_env() {
    export HOME=$DATA/rabbitmq
    export RABBITMQ_NODENAME=cluster@localhost RABBITMQ_NODE_IP_ADDRESS=$IP
    export RABBITMQ_NODE_PORT=$P_RABBIT RABBITMQ_DIST_PORT=25672
    export RABBITMQ_MNESIA_BASE=$DATA/rabbitmq/mnesia RABBITMQ_LOG_BASE=$LOG
    export RABBITMQ_CONFIG_FILE=$ETC/rabbitmq/rabbitmq.conf
    export RABBITMQ_ENABLED_PLUGINS_FILE=$ETC/rabbitmq/enabled_plugins
    export RABBITMQ_PID_FILE=$RUN/rabbitmq.pidfile
    export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"
    export ERL_EPMD_ADDRESS=$IP ERL_EPMD_PORT=4369
}

up_rabbitmq() {
    # By itself RabbitMQ would leave epmd behind as a daemon that nobody recorded.
    start epmd epmd -address $IP
    ( rabbit_env; cd "$DATA/rabbitmq" && start rabbitmq /usr/lib/rabbitmq/bin/rabbitmq-server )
}
rabbit_ready() { ( rabbit_env; /usr/lib/rabbitmq/bin/rabbitmqctl -q await_startup --timeout 60 ); }

schema_keystone() {
    local k="keystone-manage --config-file $ETC/keystone/keystone.conf" as="--keystone-user root --keystone-group root"
    mkdir -p "$DATA/keystone" && chmod 700 "$DATA/keystone"
    once keystone-db $k db_sync &&
    once keystone-fernet $k fernet_setup $as &&
    once keystone-cred $k credential_setup $as &&
    once keystone-boot $k bootstrap --bootstrap-password "$PASS" --bootstrap-region-id $REGION \
        --bootstrap-admin-url http://$IP:$P_KEYSTONE/v3 \
        --bootstrap-internal-url http://$IP:$P_KEYSTONE/v3 \
        --bootstrap-public-url http://$IP:$P_KEYSTONE/v3
}
nova_manage() { nova-manage --config-file "$ETC/nova/nova.conf" "$@"; }
nova_cells() {
    nova_manage cell_v2 map_cell0 --database_connection "$(db_url nova nova_cell0)" || return 1
    nova_manage db sync || return 1
    nova_manage cell_v2 list_cells | grep -q cell1 || nova_manage cell_v2 create_cell --name cell1
}
schema_nova() { once nova-api-db nova_manage api_db sync && once nova-cells nova_cells; }
schema_placement() { once placement-db placement-manage --config-file "$ETC/placement/placement.conf" db sync; }
schema_glance() { once glance-db glance-manage --config-file "$ETC/glance/glance-api.conf" db_sync; }
schema_neutron() {
    once neutron-db neutron-db-manage --config-file "$ETC/neutron/neutron.conf" \
        --config-file "$ETC/neutron/ml2.ini" upgrade heads
}

make_schemas() {
    local log=$LOG/schemas p pids=()
    ( schema_keystone && schema_placement && schema_glance ) > "$log-keystone.log" 2>&1 & pids+=($!)
    ( schema_nova ) > "$log-nova.log" 2>&1 & pids+=($!)
    ( schema_neutron ) > "$log-neutron.log" 2>&1 & pids+=($!)
    for p in "${pids[@]}"; do wait "$p" || die "a database schema could not be made; see $log-*.log"; done
}

start_uwsgi() { # NAME WSGI-FILE PORT ENV=VALUE...
    local name=$1 file=$2 port=$3; shift 3
    start "$name" env "$@" /usr/bin/uwsgi --need-app --master --lazy-apps \
        --plugin python3 --http-socket "$IP:$port" --processes 1 --threads 4 \
        --enable-threads --die-on-term --no-orphans --buffer-size 65535 \
        --post-buffering 65535 --so-keepalive --add-header 'Connection: close' \
        --wsgi-file "$file"
}

start_service() { # NAME: one of the control plane's services or agents
    local nova="--config-file $ETC/nova/nova.conf" neutron="--config-file $ETC/neutron/neutron.conf"
    case $1 in
        rabbitmq) up_rabbitmq; wait_for 90 rabbitmq rabbit_ready || fail_with_log "RabbitMQ does not start" "$LOG/rabbitmq.log" ;;
        keystone) start_uwsgi keystone /usr/bin/keystone-wsgi-public $P_KEYSTONE OS_KEYSTONE_CONFIG_DIR="$ETC/keystone" ;;
        placement) start_uwsgi placement /usr/bin/placement-api $P_PLACEMENT OS_PLACEMENT_CONFIG_DIR="$ETC/placement" ;;
        glance-api) start glance-api glance-api --config-file "$ETC/glance/glance-api.conf" ;;
        neutron-server) start neutron-server neutron-server $neutron --config-file "$ETC/neutron/ml2.ini" ;;
        nova-conductor|nova-scheduler|nova-api) start "$1" "$1" $nova ;;
        neutron-linuxbridge-agent)
            start "$1" env PATH="$SELF/lib/shim:$PATH" neutron-linuxbridge-agent $neutron \
                --config-file "$ETC/neutron/ml2.ini" --config-file "$ETC/neutron/linuxbridge_agent.ini" ;;
        neutron-dhcp-agent) start "$1" "$1" $neutron --config-file "$ETC/neutron/dhcp_agent.ini" ;;
        neutron-l3-agent) start "$1" "$1" $neutron --config-file "$ETC/neutron/l3_agent.ini" ;;
        neutron-metadata-agent) start "$1" "$1" $neutron --config-file "$ETC/neutron/metadata_agent.ini" ;;
        *) die "no service $1; there are: $(services | tr '\n' ' ')" ;;
    esac
}
wait_service() { # NAME: until it answers
    case $1 in
        keystone) wait_for 60 "$1" http_ok http://$IP:$P_KEYSTONE/v3 ;;
        placement) wait_for 90 "$1" http_ok http://$IP:$P_PLACEMENT/ ;;
        glance-api) wait_for 90 "$1" http_ok http://$IP:$P_GLANCE/v2/images ;;
        neutron-server) wait_for 120 "$1" http_ok http://$IP:$P_NEUTRON/v2.0/networks ;;
        nova-api) wait_for 120 "$1" http_ok http://$IP:$P_NOVA/v2.1/servers ;;
    esac || fail_with_log "$1 does not answer" "$LOG/$1.log"
}
service_command() { # start|stop NAME
    need_root
    [ $# = 2 ] || die "service: start NAME or stop NAME"
    PASS=$(password)
    case $1 in
        start) start_service "$2"; wait_service "$2" ;;
        stop) stop "$2" 30 ;;
        *) die "service: start NAME or stop NAME" ;;
    esac
}

up_keystone() {
    start_service keystone
    wait_service keystone
    once identity "$PYTHON" "$SELF/lib/contents.py" identity || die "Keystone's first contents could not be made"
}
up_services() {
    local name
    for name in placement glance-api neutron-server nova-conductor nova-scheduler nova-api; do start_service $name; done
    for name in placement glance-api neutron-server nova-api; do wait_service $name; done
}
up_neutron_agents() {
    local name
    net_up
    for name in linuxbridge dhcp l3 metadata; do start_service neutron-$name-agent; done
}

horizon_django() {
    ( cd /usr/share/openstack-dashboard &&
      PYTHONPATH="$ETC/horizon:/usr/share/openstack-dashboard" DJANGO_SETTINGS_MODULE=cluster_settings \
      "$PYTHON" -m django "$@" ) >> "$LOG/horizon-static.log" 2>&1
}
horizon_static() {
    horizon_django collectstatic --noinput || return 1
    # Two of Debian's xstatic packages share this folder; Django then collects it
    # under the name of the second one only.
    mkdir -p "$DATA/horizon/static/horizon/lib/angular" &&
    cp /usr/share/javascript/angular.js/angular*.js "$DATA/horizon/static/horizon/lib/angular/" &&
    horizon_django compress --force
}
up_horizon() {
    once horizon-static horizon_static || fail_with_log "Horizon's style sheets could not be made" "$LOG/horizon-static.log"
    start horizon /usr/bin/uwsgi --need-app --master --lazy-apps --plugin python3 \
        --http-socket "$IP:$P_HORIZON" --processes 1 --threads 4 --enable-threads \
        --die-on-term --no-orphans --buffer-size 65535 --post-buffering 65535 \
        --static-map "/static=$DATA/horizon/static" --wsgi-file "$ETC/horizon/cluster_horizon.py"
    wait_for 90 horizon http_ok http://$IP:$P_HORIZON/auth/login/ || fail_with_log "Horizon does not answer" "$LOG/horizon.log"
}

# A port of ours that somebody else has is better said now than found in a log.
check_ports() {
    local pair name port
    for pair in mariadb:$P_MYSQL rabbitmq:$P_RABBIT keystone:$P_KEYSTONE placement:$P_PLACEMENT \
                glance-api:$P_GLANCE neutron-server:$P_NEUTRON nova-api:$P_NOVA; do
        name=${pair%:*} port=${pair#*:}
        pid_of "$name" >/dev/null && continue
        if ss -Hltn "sport = :$port" | grep -q .; then
            die "port $port, which $name needs, is in use: $(ss -Hltnp "sport = :$port" | awk '{print $NF}' | head -n 1)"
        fi
    done
}

cluster_up() {
    local horizon=horizon server=yes
    while [ $# -gt 0 ]; do
        case $1 in
            --no-horizon) horizon= ;;
            --no-server) server= ;;
            *) die "up: unknown option $1; --no-horizon and --no-server are known" ;;
        esac
        shift
    done
    need_root
    . /etc/os-release
    [ "${VERSION_CODENAME:-}" = bookworm ] || die "this needs Debian 12 (bookworm), whose packages have OpenStack Zed; here is ${PRETTY_NAME:-another system}"
    umask 022
    mkdir -p "$CLUSTER_STATE" "$LOG" "$RUN"

    step "Debian packages: OpenStack Zed, RabbitMQ, MariaDB"
    install_packages $horizon
    step "nova-agent: build"
    build_agent
    step "configuration in $ETC"
    check_ports
    grep -qE '\slocalhost(\s|$)' /etc/hosts || echo '127.0.0.1 localhost' >> /etc/hosts
    if ! getent hosts "$(uname -n)" >/dev/null; then
        echo "127.0.0.1 $(uname -n) # nova-agent cluster" >> /etc/hosts
    fi
    write_config $horizon || die "the configuration could not be written"
    step "RabbitMQ and MariaDB"
    up_rabbitmq
    up_mariadb
    step "database schemas"
    make_schemas
    wait_for 90 rabbitmq rabbit_ready || fail_with_log "RabbitMQ does not start" "$LOG/rabbitmq.log"
    step "Keystone"
    up_keystone
    step "Placement, Glance, Neutron, Nova"
    up_services
    step "Neutron's agents: Linux bridge, DHCP, L3, metadata"
    up_neutron_agents
    step "nova-agent, the compute service of host $CLUSTER_HOST"
    agent_start
    step "flavors, networks, security groups, a container image"
    "$PYTHON" "$SELF/lib/image.py" "$DATA/web.tar" || die "the image could not be made"
    "$PYTHON" "$SELF/lib/contents.py" resources "$DATA/web.tar" || die "the first contents could not be made"
    "$PYTHON" "$SELF/lib/contents.py" compute "$CLUSTER_HOST" || fail_with_log "nova-agent does not come up as a compute service" "$LOG/nova-agent.log"
    if [ -n "$horizon" ]; then
        step "Horizon"
        up_horizon
    fi
    if [ -n "$server" ]; then
        step "the first server"
        "$PYTHON" "$SELF/lib/first_server.py" "${horizon:+http://$IP:$P_HORIZON/}" || die "the first server does not answer; see $LOG/nova-agent.log"
    fi
    cat <<D
Next:
  . $CLUSTER_STATE/demo-openrc
  openstack server create --image web --flavor c1.tiny --network private --security-group web --wait web-2
  openstack console log show web-2
  make cluster-down          # puts the machine back
D
    note "done"
}

cluster_down() {
    need_root
    [ -d "$RUN" ] || { note "nothing to stop: no cluster in $CLUSTER_STATE"; return 0; }
    local name f
    step "servers and containers"
    if pid_of nova-api >/dev/null && pid_of keystone >/dev/null; then
        pid_of nova-agent >/dev/null || agent_start
        "$PYTHON" "$SELF/lib/contents.py" clear || note "not everything could be deleted through the API; the rest is removed with the cluster"
    fi
    stop nova-agent 30
    stop nova-compute 20
    agent_purge
    step "services"
    for name in $(services | tac); do
        case $name in
            mariadb|epmd) ;;                # last, below
            rabbitmq) stop rabbitmq 30 ;;
            nova-*|neutron-*|glance-*) stop "$name" 5 ;;
            *) stop "$name" 15 ;;
        esac
    done
    for f in "$DATA"/neutron/dhcp/*/pid; do stop_pidfile "$f" dnsmasq; done
    for f in "$DATA"/neutron/external/pids/* "$DATA"/neutron/external/pids/*/* \
             "$DATA"/neutron/ra/*.pid* "$DATA"/neutron/ha_confs/*.pid*; do
        [ ! -f "$f" ] || stop_pidfile "$f" "$DATA"
    done
    stop mariadb 30
    stop epmd
    step "network devices, namespaces and firewall chains"
    net_down
    sed -i '/# nova-agent cluster$/d' /etc/hosts 2>/dev/null || true
    step "$CLUSTER_STATE"
    case $CLUSTER_STATE in ''|/|/root|/home|/var|/var/lib|/etc|/usr) die "down: refusing to delete CLUSTER_STATE=$CLUSTER_STATE" ;; esac
    [ -d "$DONE" ] || die "down: $CLUSTER_STATE is not a cluster"
    rm -rf -- "$CLUSTER_STATE"
    note "gone; the packages stay"
}
