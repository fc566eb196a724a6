# Every configuration file, under ETC. Nothing in /etc is changed; only Debian's
# paste files are read from there.

db_url() { echo "mysql+pymysql://$1:$PASS@$IP:$P_MYSQL/$2?charset=utf8"; } # USER DATABASE
mq_url() { echo "rabbit://$1:$PASS@$IP:$P_RABBIT/${2:-}"; }               # USER [VHOST]

auth() { # USER: keystoneauth's options
    cat <<C
auth_type = password
auth_url = http://$IP:$P_KEYSTONE/v3
username = $1
password = $PASS
project_name = service
user_domain_name = Default
project_domain_name = Default
region_name = $REGION
C
}
authtoken() { # USER
    cat <<C
[keystone_authtoken]
$(auth "$1")
www_authenticate_uri = http://$IP:$P_KEYSTONE/v3
service_token_roles = service
service_token_roles_required = true
C
}
messaging() {
    cat <<'C'
[oslo_messaging_notifications]
driver = noop
[oslo_messaging_rabbit]
amqp_auto_delete = false
rabbit_retry_interval = 1
heartbeat_timeout_threshold = 60
C
}

config_mariadb() {
    cat > "$ETC/my.cnf" <<C
[mariadbd]
user = root
datadir = $DATA/mysql
socket = $SOCK
pid-file = $RUN/mariadb.pidfile
tmpdir = $DATA/tmp
bind-address = $IP
port = $P_MYSQL
skip-name-resolve
skip-log-bin
max_connections = 400
character-set-server = utf8mb3
innodb_buffer_pool_size = 128M
innodb_log_file_size = 48M
# A cluster to try things on: speed before durability.
innodb_flush_log_at_trx_commit = 0
innodb_doublewrite = 0
innodb_flush_method = nosync
performance_schema = off
C
}

config_rabbitmq() {
    mkdir -p "$ETC/rabbitmq" "$DATA/rabbitmq"
    cat > "$ETC/rabbitmq/rabbitmq.conf" <<C
listeners.tcp.1 = $IP:$P_RABBIT
load_definitions = $ETC/rabbitmq/definitions.json
log.console = false
log.file = $LOG/rabbitmq-server.log
log.file.level = info
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 200MB
C
    echo '[].' > "$ETC/rabbitmq/enabled_plugins"
    # Users and virtual hosts come with the first start: each rabbitmqctl call
    # takes more than a second.
    local user vhost users='' perms='' sep=''
    for user in nova nova-compute neutron; do
        users="$users$sep{\"name\":\"$user\",\"password\":\"$PASS\",\"tags\":\"administrator\"}"
        for vhost in / neutron; do
            perms="$perms$sep{\"user\":\"$user\",\"vhost\":\"$vhost\",\"configure\":\".*\",\"write\":\".*\",\"read\":\".*\"}"
            sep=,
        done
    done
    cat > "$ETC/rabbitmq/definitions.json" <<C
{"users": [$users], "vhosts": [{"name": "/"}, {"name": "neutron"}], "permissions": [$perms]}
C
}

config_keystone() {
    mkdir -p "$ETC/keystone"
    cat > "$ETC/keystone/keystone.conf" <<C
[DEFAULT]
use_stderr = true
[database]
connection = $(db_url keystone keystone)
[token]
provider = fernet
expiration = 86400
[fernet_tokens]
key_repository = $DATA/keystone/fernet-keys
[credential]
key_repository = $DATA/keystone/credential-keys
[cache]
enabled = true
backend = dogpile.cache.memory
C
}

config_placement() {
    mkdir -p "$ETC/placement"
    cat > "$ETC/placement/placement.conf" <<C
[DEFAULT]
use_stderr = true
[api]
auth_strategy = keystone
[placement_database]
connection = $(db_url placement placement)
$(authtoken placement)
C
}

config_glance() {
    mkdir -p "$ETC/glance" "$DATA/glance/images" "$DATA/glance/staging" "$DATA/glance/tasks"
    cat > "$ETC/glance/glance-api.conf" <<C
[DEFAULT]
use_stderr = true
bind_host = $IP
bind_port = $P_GLANCE
workers = 0
enabled_backends = files:file
[database]
connection = $(db_url glance glance)
[image_format]
container_formats = ami,ari,aki,bare,ovf,ova,docker,compressed
[glance_store]
default_backend = files
[files]
filesystem_store_datadir = $DATA/glance/images
[os_glance_staging_store]
filesystem_store_datadir = $DATA/glance/staging
[os_glance_tasks_store]
filesystem_store_datadir = $DATA/glance/tasks
[paste_deploy]
flavor = keystone
config_file = /etc/glance/glance-api-paste.ini
[oslo_concurrency]
lock_path = $DATA/glance
$(authtoken glance)
C
}

# nova_common: what the control plane and a compute node both have.
nova_common() { # RABBITMQ-USER
    cat <<C
[DEFAULT]
host = $CLUSTER_HOST
my_ip = $IP
use_stderr = true
state_path = $DATA/nova
instances_path = $DATA/nova/instances
transport_url = $(mq_url "$1")
vif_plugging_is_fatal = true
vif_plugging_timeout = 120
report_interval = 10
service_down_time = 60
default_log_levels = amqp=WARN,amqplib=WARN,sqlalchemy=WARN,oslo.messaging=INFO,oslo_messaging=INFO,stevedore=WARN,keystonemiddleware=WARN,urllib3=WARN
[glance]
endpoint_override = http://$IP:$P_GLANCE
[placement]
$(auth placement)
valid_interfaces = internal,public
[service_user]
send_service_user_token = true
$(auth nova)
[neutron]
$(auth neutron)
service_metadata_proxy = true
metadata_proxy_shared_secret = $PASS
default_floating_pool = public
[vnc]
enabled = false
[oslo_concurrency]
lock_path = $DATA/nova
$(authtoken nova)
$(messaging)
C
}

config_nova() {
    mkdir -p "$ETC/nova" "$DATA/nova/instances"
    cat > "$ETC/nova/nova.conf" <<C
$(nova_common nova)
[DEFAULT]
enabled_apis = osapi_compute,metadata
osapi_compute_listen = $IP
osapi_compute_listen_port = $P_NOVA
osapi_compute_workers = 1
metadata_listen = $IP
metadata_listen_port = $P_METADATA
metadata_workers = 1
[api]
auth_strategy = keystone
[wsgi]
api_paste_config = /etc/nova/api-paste.ini
[api_database]
connection = $(db_url nova nova_api)
[database]
connection = $(db_url nova nova)
[conductor]
workers = 1
[scheduler]
workers = 1
# A new compute host is mapped to its cell by itself, within this many seconds.
discover_hosts_in_cells_interval = 5
[filter_scheduler]
track_instance_changes = true
C
    # What a compute node has: no database, only the message queue and REST.
    # 'nova-agent config import' reads this very file, and so does the reference
    # nova-compute.
    { nova_common nova-compute; printf '\n[DEFAULT]\n# Containers that mostly wait share CPUs well.\ncpu_allocation_ratio = 16.0\n'; } > "$ETC/nova/nova-compute.conf"
    cat > "$ETC/nova/reference.conf" <<'C'
[DEFAULT]
compute_driver = fake.FakeDriver
C
}

privsep() { # helpers are run directly: everything is root already
    local s
    for s in privsep privsep_dhcp_release privsep_ovs_vsctl privsep_namespace \
             privsep_conntrack privsep_link; do
        printf '[%s]\nhelper_command = /usr/bin/privsep-helper\n' "$s"
    done
}

config_neutron() {
    mkdir -p "$ETC/neutron" "$DATA/neutron"
    cat > "$ETC/neutron/neutron.conf" <<C
[DEFAULT]
host = $CLUSTER_HOST
use_stderr = true
state_path = $DATA/neutron
bind_host = $IP
bind_port = $P_NEUTRON
api_workers = 1
rpc_workers = 1
rpc_state_report_workers = 0
metadata_proxy_socket = $DATA/neutron/metadata_proxy
api_paste_config = /etc/neutron/api-paste.ini
core_plugin = ml2
service_plugins = router
auth_strategy = keystone
transport_url = $(mq_url neutron neutron)
notify_nova_on_port_status_changes = true
notify_nova_on_port_data_changes = true
send_events_interval = 1
interface_driver = linuxbridge
dhcp_agents_per_network = 1
global_physnet_mtu = 1500
agent_down_time = 60
[agent]
root_helper =
report_interval = 15
[experimental]
linuxbridge = true
[database]
connection = $(db_url neutron neutron)
[nova]
$(auth nova)
endpoint_type = internal
[oslo_concurrency]
lock_path = $DATA/neutron/lock
$(privsep)
$(authtoken neutron)
$(messaging)
C
    cat > "$ETC/neutron/ml2.ini" <<C
[ml2]
type_drivers = local,flat,vxlan
tenant_network_types = vxlan
mechanism_drivers = linuxbridge,l2population
extension_drivers = port_security
[ml2_type_flat]
flat_networks = public
[ml2_type_vxlan]
vni_ranges = 1001:1999
[securitygroup]
enable_security_group = true
C
    cat > "$ETC/neutron/linuxbridge_agent.ini" <<C
[linux_bridge]
bridge_mappings = public:$EXT_BRIDGE
[vxlan]
enable_vxlan = true
local_ip = $EXT_IP
l2_population = true
[securitygroup]
enable_security_group = true
firewall_driver = iptables
enable_ipset = true
[agent]
prevent_arp_spoofing = true
polling_interval = 1
C
    cat > "$ETC/neutron/dhcp_agent.ini" <<C
[DEFAULT]
enable_isolated_metadata = true
dhcp_confs = $DATA/neutron/dhcp
dnsmasq_local_resolv = false
C
    cat > "$ETC/neutron/l3_agent.ini" <<C
[DEFAULT]
agent_mode = legacy
ha_confs_path = $DATA/neutron/ha_confs
ra_confs = $DATA/neutron/ra
C
    cat > "$ETC/neutron/metadata_agent.ini" <<C
[DEFAULT]
nova_metadata_host = $IP
nova_metadata_port = $P_METADATA
metadata_proxy_shared_secret = $PASS
metadata_workers = 0
C
}

config_openrc() { # one file for each person: admin and demo
    local who
    for who in admin demo; do
        ( umask 077; cat > "$CLUSTER_STATE/$who-openrc" <<C
export OS_AUTH_URL=http://$IP:$P_KEYSTONE/v3
export OS_USERNAME=$who
export OS_PASSWORD=$PASS
export OS_PROJECT_NAME=$who
export OS_USER_DOMAIN_NAME=Default
export OS_PROJECT_DOMAIN_NAME=Default
export OS_REGION_NAME=$REGION
export OS_IDENTITY_API_VERSION=3
export OS_IMAGE_API_VERSION=2
export OS_PLACEMENT_API_VERSION=1.39
export PATH=/usr/bin:\$PATH no_proxy='*'
C
        )
    done
}

# Horizon in uwsgi, with settings of its own and sessions in signed cookies.
config_horizon() {
    local etc=$ETC/horizon static=$DATA/horizon/static
    mkdir -p "$etc" "$static"
    [ -s "$DATA/horizon/secret" ] || ( umask 077; head -c 32 /dev/urandom | base64 > "$DATA/horizon/secret" )
    cat > "$etc/cluster_settings.py" <<C
from openstack_dashboard.settings import *  # noqa
DEBUG = False
ALLOWED_HOSTS = ['*']
SECRET_KEY = '$(cat "$DATA/horizon/secret")'
# Style sheets are compiled once, by 'up'; without that every page takes seconds.
COMPRESS_OFFLINE = True
COMPRESS_ENABLED = True
COMPRESS_ROOT = '$static'
OPENSTACK_HOST = '$IP'
OPENSTACK_KEYSTONE_URL = 'http://$IP:$P_KEYSTONE/v3'
OPENSTACK_KEYSTONE_MULTIDOMAIN_SUPPORT = False
OPENSTACK_KEYSTONE_DEFAULT_DOMAIN = 'Default'
WEBROOT = '/'
LOGIN_URL = '/auth/login/'
LOGOUT_URL = '/auth/logout/'
LOGIN_REDIRECT_URL = '/'
STATIC_URL = '/static/'
STATIC_ROOT = '$static'
SESSION_ENGINE = 'django.contrib.sessions.backends.signed_cookies'
CACHES = {'default': {'BACKEND': 'django.core.cache.backends.locmem.LocMemCache'}}
CSRF_COOKIE_SECURE = False
SESSION_COOKIE_SECURE = False
C
    cat > "$etc/cluster_horizon.py" <<C
import os
import sys
sys.path.insert(0, '$etc')
sys.path.insert(0, '/usr/share/openstack-dashboard')
os.environ['DJANGO_SETTINGS_MODULE'] = 'cluster_settings'
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
C
}

write_config() { # [horizon]
    mkdir -p "$RUN" "$LOG" "$ETC" "$DATA/tmp" "$DONE"
    PASS=$(password)
    ( umask 077
      config_mariadb; config_rabbitmq; config_keystone; config_placement
      config_glance; config_nova; config_neutron ) || return 1
    config_openrc
    [ "${1:-}" != horizon ] || config_horizon
}
