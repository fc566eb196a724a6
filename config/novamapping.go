package config

// mapped is an option of nova.conf, and the key that it becomes. Later names win:
// they are the current ones.
type mapped struct {
	section string
	names   []string
	key     string
	// zero is what 0 stands for in nova.conf where it is not 0 here: periodic tasks
	// with a spacing of 0 run once a minute, those with a negative one never. The
	// containers of deleted servers are always looked for.
	zero string
}

const everyMinute = "60"

var mapping = []mapped{
	{"DEFAULT", []string{"host"}, "host", ""},
	{"DEFAULT", []string{"my_ip"}, "my_ip", ""},
	{"DEFAULT", []string{"transport_url"}, "rpc.transport_url", ""},
	{"DEFAULT", []string{"control_exchange"}, "rpc.control_exchange", ""},
	{"DEFAULT", []string{"rpc_response_timeout"}, "rpc.response_timeout", ""},
	{"DEFAULT", []string{"long_rpc_timeout"}, "rpc.long_timeout", ""},
	{"DEFAULT", []string{"rpc_ping_enabled"}, "rpc.ping", ""},
	{"DEFAULT", []string{"rpc_thread_pool_size", "executor_thread_pool_size"}, "rpc.workers", ""},

	{"DEFAULT", []string{"reserved_host_cpus"}, "compute.reserved_host_cpus", ""},
	{"DEFAULT", []string{"reserved_host_memory_mb"}, "compute.reserved_host_memory_mb", ""},
	{"DEFAULT", []string{"reserved_host_disk_mb"}, "compute.reserved_host_disk_mb", ""},
	{"DEFAULT", []string{"cpu_allocation_ratio"}, "compute.cpu_allocation_ratio", ""},
	{"DEFAULT", []string{"ram_allocation_ratio"}, "compute.ram_allocation_ratio", ""},
	{"DEFAULT", []string{"disk_allocation_ratio"}, "compute.disk_allocation_ratio", ""},
	{"DEFAULT", []string{"initial_cpu_allocation_ratio"}, "compute.initial_cpu_allocation_ratio", ""},
	{"DEFAULT", []string{"initial_ram_allocation_ratio"}, "compute.initial_ram_allocation_ratio", ""},
	{"DEFAULT", []string{"initial_disk_allocation_ratio"}, "compute.initial_disk_allocation_ratio", ""},
	{"DEFAULT", []string{"vif_plugging_timeout"}, "compute.vif_plugging_timeout", ""},
	{"DEFAULT", []string{"vif_plugging_is_fatal"}, "compute.vif_plugging_is_fatal", ""},
	{"DEFAULT", []string{"max_concurrent_builds"}, "compute.max_concurrent_builds", ""},
	{"DEFAULT", []string{"resume_guests_state_on_host_boot"}, "compute.resume_guests_state_on_host_boot", ""},
	{"DEFAULT", []string{"shutdown_timeout"}, "compute.shutdown_timeout", ""},
	{"DEFAULT", []string{"report_interval"}, "compute.report_interval", ""},
	{"DEFAULT", []string{"update_resources_interval"}, "compute.update_resources_interval", everyMinute},
	{"DEFAULT", []string{"sync_power_state_interval"}, "compute.sync_power_state_interval", everyMinute},
	{"DEFAULT", []string{"heal_instance_info_cache_interval"}, "compute.heal_instance_info_cache_interval", everyMinute},
	{"DEFAULT", []string{"running_deleted_instance_poll_interval"}, "compute.running_deleted_instance_poll_interval", "1800"},
	{"DEFAULT", []string{"instance_build_timeout"}, "compute.instance_build_timeout", ""},
	{"DEFAULT", []string{"graceful_shutdown_timeout"}, "compute.graceful_shutdown_timeout", ""},

	{"oslo_messaging_rabbit", []string{"amqp_durable_queues"}, "rpc.rabbit.amqp_durable_queues", ""},
	{"oslo_messaging_rabbit", []string{"amqp_auto_delete"}, "rpc.rabbit.amqp_auto_delete", ""},
	{"oslo_messaging_rabbit", []string{"rabbit_ha_queues"}, "rpc.rabbit.rabbit_ha_queues", ""},
	{"oslo_messaging_rabbit", []string{"rabbit_quorum_queue"}, "rpc.rabbit.rabbit_quorum_queue", ""},
	{"oslo_messaging_rabbit", []string{"rabbit_quorum_delivery_limit"}, "rpc.rabbit.rabbit_quorum_delivery_limit", ""},
	{"oslo_messaging_rabbit", []string{"rabbit_quroum_max_memory_length", "rabbit_quorum_max_memory_length"}, "rpc.rabbit.rabbit_quorum_max_memory_length", ""},
	{"oslo_messaging_rabbit", []string{"rabbit_quroum_max_memory_bytes", "rabbit_quorum_max_memory_bytes"}, "rpc.rabbit.rabbit_quorum_max_memory_bytes", ""},
	{"oslo_messaging_rabbit", []string{"rabbit_transient_quorum_queue"}, "rpc.rabbit.rabbit_transient_quorum_queue", ""},
	{"oslo_messaging_rabbit", []string{"rabbit_transient_queues_ttl"}, "rpc.rabbit.rabbit_transient_queues_ttl", ""},
	{"oslo_messaging_rabbit", []string{"rabbit_stream_fanout"}, "rpc.rabbit.rabbit_stream_fanout", ""},
	{"oslo_messaging_rabbit", []string{"use_queue_manager"}, "rpc.rabbit.use_queue_manager", ""},
	{"oslo_messaging_rabbit", []string{"rabbit_qos_prefetch_count"}, "rpc.rabbit.rabbit_qos_prefetch_count", ""},
	{"oslo_messaging_rabbit", []string{"rabbit_login_method"}, "rpc.rabbit.rabbit_login_method", ""},
	{"oslo_messaging_rabbit", []string{"heartbeat_timeout_threshold"}, "rpc.rabbit.heartbeat_timeout_threshold", ""},
	{"oslo_messaging_rabbit", []string{"rabbit_retry_interval"}, "rpc.rabbit.rabbit_retry_interval", ""},
	{"oslo_messaging_rabbit", []string{"rabbit_retry_backoff"}, "rpc.rabbit.rabbit_retry_backoff", ""},
	{"oslo_messaging_rabbit", []string{"rabbit_interval_max"}, "rpc.rabbit.rabbit_interval_max", ""},
	{"oslo_messaging_rabbit", []string{"kombu_reconnect_delay"}, "rpc.rabbit.kombu_reconnect_delay", ""},
	{"oslo_messaging_rabbit", []string{"kombu_missing_consumer_retry_timeout"}, "rpc.rabbit.kombu_missing_consumer_retry_timeout", ""},
	{"oslo_messaging_rabbit", []string{"rabbit_use_ssl", "ssl"}, "rpc.rabbit.ssl", ""},
	{"oslo_messaging_rabbit", []string{"kombu_ssl_ca_certs", "ssl_ca_file"}, "rpc.rabbit.ssl_ca_file", ""},
	{"oslo_messaging_rabbit", []string{"kombu_ssl_certfile", "ssl_cert_file"}, "rpc.rabbit.ssl_cert_file", ""},
	{"oslo_messaging_rabbit", []string{"kombu_ssl_keyfile", "ssl_key_file"}, "rpc.rabbit.ssl_key_file", ""},
	{"oslo_messaging_rabbit", []string{"kombu_ssl_version", "ssl_version"}, "rpc.rabbit.ssl_version", ""},
	{"oslo_messaging_rabbit", []string{"enable_cancel_on_failover"}, "rpc.rabbit.enable_cancel_on_failover", ""},
	{"oslo_messaging_rabbit", []string{"ssl_enforce_hostname_verification"}, "rpc.rabbit.ssl_enforce_hostname_verification", ""},

	{"neutron", []string{"ovs_bridge"}, "neutron.ovs_bridge", ""},
	{"neutron", []string{"extension_sync_interval"}, "neutron.extension_sync_interval", ""},
	{"neutron", []string{"http_retries"}, "neutron.http_retries", ""},
	{"glance", []string{"endpoint_override"}, "glance.endpoint_override", ""},
	{"glance", []string{"region_name"}, "glance.region_name", ""},
	{"glance", []string{"valid_interfaces"}, "glance.valid_interfaces", ""},
	{"glance", []string{"num_retries"}, "glance.num_retries", ""},
	{"image_cache", []string{"remove_unused_original_minimum_age_seconds"}, "glance.evict_after", ""},
	{"image_cache", []string{"manager_interval"}, "glance.evict_interval", "2400"},
	{"service_user", []string{"send_service_user_token"}, "service_user.send_service_user_token", ""},
	{"cinder", []string{"os_region_name"}, "cinder.region_name", ""},
}

// authSections are those of nova.conf that hold a service user.
var authSections = []struct{ section, key string }{
	{"placement", "placement"}, {"neutron", "neutron"}, {"cinder", "cinder"}, {"service_user", "service_user"},
}

var authKeys = []struct {
	names []string
	key   string
}{
	{[]string{"auth_url"}, "auth_url"},
	{[]string{"user_name", "username"}, "username"},
	{[]string{"user_id"}, "user_id"},
	{[]string{"password"}, "password"},
	{[]string{"user_domain_name"}, "user_domain_name"},
	{[]string{"user_domain_id"}, "user_domain_id"},
	{[]string{"tenant_name", "project_name"}, "project_name"},
	{[]string{"tenant_id", "project_id"}, "project_id"},
	{[]string{"project_domain_name"}, "project_domain_name"},
	{[]string{"project_domain_id"}, "project_domain_id"},
	{[]string{"application_credential_id"}, "application_credential_id"},
	{[]string{"application_credential_name"}, "application_credential_name"},
	{[]string{"application_credential_secret"}, "application_credential_secret"},
	{[]string{"os_region_name", "region_name"}, "region_name"},
	{[]string{"os_interface", "valid_interfaces"}, "valid_interfaces"},
	{[]string{"endpoint_override"}, "endpoint_override"},
	{[]string{"timeout"}, "timeout"},
	{[]string{"cafile"}, "cafile"},
	{[]string{"certfile"}, "certfile"},
	{[]string{"keyfile"}, "keyfile"},
	{[]string{"insecure"}, "insecure"},
}
