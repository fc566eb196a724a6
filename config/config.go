package config

import (
	"os"
	"time"
)

// Config is the file. Tags: doc is the key's meaning, default overrides how the
// default is shown, oneof lists what is allowed, min is the smallest number,
// secret keeps a value from being shown.
type Config struct {
	Host     string `yaml:"host" default:"the machine's host name" doc:"Name of this compute service. It must be the 'host' of the Neutron agent on this machine, or ports do not bind, and must never change while servers exist."`
	NodeName string `yaml:"node_name" default:"host" doc:"Name of the hypervisor and of its resource provider in Placement (hypervisor_hostname). It must never change."`
	MyIP     string `yaml:"my_ip" default:"127.0.0.1" doc:"Address of this machine that Nova shows as the hypervisor's."`
	StateDir string `yaml:"state_dir" doc:"Images, containers, records: what outlives a reboot."`
	RunDir   string `yaml:"run_dir" doc:"Sockets and pinned namespaces: what does not. A tmpfs is best."`

	Log         Log         `yaml:"log"`
	RPC         RPC         `yaml:"rpc"`
	Placement   Auth        `yaml:"placement"`
	Neutron     Neutron     `yaml:"neutron"`
	Glance      Glance      `yaml:"glance"`
	Cinder      Auth        `yaml:"cinder"`
	ServiceUser ServiceUser `yaml:"service_user"`
	Compute     Compute     `yaml:"compute"`
	Engine      Engine      `yaml:"engine"`
	DockerAPI   DockerAPI   `yaml:"docker_api"`
	Registries  Registries  `yaml:"registries"`
	Observe     Observe     `yaml:"observe"`
}

// Log is how nova-agent logs, to its standard error.
type Log struct {
	Level  string `yaml:"level" oneof:"debug|info|warn|error" doc:"Least level that is logged. SIGHUP reads it again."`
	Format string `yaml:"format" oneof:"text|json" doc:"Form of a record."`
}

// RPC is Nova's message queue.
type RPC struct {
	TransportURL    string   `yaml:"transport_url" secret:"url" doc:"Broker of this node's cell: rabbit://user:password@host:port[,user:password@host2:port2]/vhost. Needed."`
	ControlExchange string   `yaml:"control_exchange" doc:"Topic exchange of Nova."`
	ResponseTimeout Duration `yaml:"response_timeout" min:"1" doc:"How long an answer is waited for (rpc_response_timeout)."`
	LongTimeout     Duration `yaml:"long_timeout" min:"1" doc:"The same for calls that take long (long_rpc_timeout)."`
	MaxMessage      Size     `yaml:"max_message" min:"65536" doc:"Largest message that is read; larger ones are thrown away."`
	Workers         int      `yaml:"workers" min:"1" doc:"Messages that are handled at the same time (executor_thread_pool_size)."`
	Ping            bool     `yaml:"ping" doc:"Answer oslo_rpc_server_ping, which monitoring tools send (rpc_ping_enabled)."`
	Rabbit          Rabbit   `yaml:"rabbit"`
}

// Rabbit is [oslo_messaging_rabbit]. The flags of queues must be what the other
// services have, or RabbitMQ refuses the queues.
type Rabbit struct {
	Durable                  bool     `yaml:"amqp_durable_queues" doc:"Queues outlive a restart of the broker."`
	AutoDelete               bool     `yaml:"amqp_auto_delete" doc:"Queues go when nobody uses them."`
	HA                       bool     `yaml:"rabbit_ha_queues" doc:"Mirrored queues (x-ha-policy)."`
	Quorum                   bool     `yaml:"rabbit_quorum_queue" doc:"Quorum queues for topics."`
	QuorumDeliveryLimit      int      `yaml:"rabbit_quorum_delivery_limit" min:"0" doc:"Redeliveries in a quorum queue; 0 is no limit."`
	QuorumMaxMemoryLength    int      `yaml:"rabbit_quorum_max_memory_length" min:"0" doc:"Messages that a quorum queue keeps in memory; 0 is no limit."`
	QuorumMaxMemoryBytes     int      `yaml:"rabbit_quorum_max_memory_bytes" min:"0" doc:"Bytes that a quorum queue keeps in memory; 0 is no limit."`
	TransientQuorum          bool     `yaml:"rabbit_transient_quorum_queue" doc:"Quorum queues for replies and fanouts too (2023.2 and later)."`
	TransientTTL             Duration `yaml:"rabbit_transient_queues_ttl" min:"0" doc:"Unused reply and fanout queues go after this; 0 is never."`
	StreamFanout             bool     `yaml:"rabbit_stream_fanout" doc:"Stream queues for fanouts (2023.2 and later)."`
	QueueManager             bool     `yaml:"use_queue_manager" doc:"The same queue names after a restart (2024.1 and later)."`
	CancelOnFailover         bool     `yaml:"enable_cancel_on_failover" doc:"Consume anew when a mirrored queue has another master."`
	Prefetch                 int      `yaml:"rabbit_qos_prefetch_count" min:"0" doc:"Messages that the broker sends ahead; 0 is nova-agent's own bound."`
	LoginMethod              string   `yaml:"rabbit_login_method" oneof:"AMQPLAIN|PLAIN|EXTERNAL" doc:"SASL mechanism."`
	Heartbeat                Duration `yaml:"heartbeat_timeout_threshold" min:"0" doc:"A connection that is silent for this long is dead; 0 leaves it to the broker."`
	RetryInterval            Duration `yaml:"rabbit_retry_interval" min:"0" doc:"Pause after the first failed round of connects."`
	RetryBackoff             Duration `yaml:"rabbit_retry_backoff" min:"0" doc:"How much longer each further pause is."`
	RetryMax                 Duration `yaml:"rabbit_interval_max" min:"0" doc:"Longest pause."`
	ReconnectDelay           Duration `yaml:"kombu_reconnect_delay" min:"0" doc:"A connect after a loss waits a random part of this, so that not all nodes come back at once."`
	MissingReplyQueueTimeout Duration `yaml:"kombu_missing_consumer_retry_timeout" min:"0" doc:"How long a reply is tried whose queue does not exist."`
	TLS                      bool     `yaml:"ssl" doc:"TLS to the broker."`
	CAFile                   string   `yaml:"ssl_ca_file" doc:"PEM file of the authority; without it the broker's certificate is not checked, as in oslo.messaging."`
	CertFile                 string   `yaml:"ssl_cert_file" doc:"Client certificate."`
	KeyFile                  string   `yaml:"ssl_key_file" doc:"Its key."`
	TLSVersion               string   `yaml:"ssl_version" doc:"Lowest TLS version, such as TLSv1_2; empty is 1.2."`
	VerifyHostname           bool     `yaml:"ssl_enforce_hostname_verification" doc:"Check the host name in the broker's certificate."`
}

// Auth is a service user and the service that it is used for.
type Auth struct {
	AuthURL                     string   `yaml:"auth_url" doc:"Keystone. Empty: that of [placement]."`
	Username                    string   `yaml:"username" doc:"Service user."`
	UserID                      string   `yaml:"user_id" doc:"Instead of username and user_domain_*."`
	Password                    string   `yaml:"password" secret:"yes" doc:"Its password."`
	UserDomainName              string   `yaml:"user_domain_name" doc:"Domain of the user."`
	UserDomainID                string   `yaml:"user_domain_id" doc:"Instead of user_domain_name."`
	ProjectName                 string   `yaml:"project_name" doc:"Project of the user."`
	ProjectID                   string   `yaml:"project_id" doc:"Instead of project_name and project_domain_*."`
	ProjectDomainName           string   `yaml:"project_domain_name" doc:"Domain of the project."`
	ProjectDomainID             string   `yaml:"project_domain_id" doc:"Instead of project_domain_name."`
	SystemScope                 bool     `yaml:"system_scope" doc:"A token for the system instead of a project."`
	ApplicationCredentialID     string   `yaml:"application_credential_id" doc:"Instead of a user and password."`
	ApplicationCredentialName   string   `yaml:"application_credential_name" doc:"Instead of application_credential_id; with username and user_domain_*."`
	ApplicationCredentialSecret string   `yaml:"application_credential_secret" secret:"yes" doc:"Its secret."`
	Region                      string   `yaml:"region_name" doc:"Region of the endpoint; empty is any."`
	Interfaces                  []string `yaml:"valid_interfaces" default:"internal, public" doc:"Endpoints that may be used, best first."`
	Endpoint                    string   `yaml:"endpoint_override" doc:"URL of the service, instead of the catalogue's."`
	Timeout                     Duration `yaml:"timeout" min:"1" doc:"Longest time for one request."`
	CAFile                      string   `yaml:"cafile" doc:"PEM file of the authority; empty is the system's."`
	CertFile                    string   `yaml:"certfile" doc:"Client certificate."`
	KeyFile                     string   `yaml:"keyfile" doc:"Its key."`
	Insecure                    bool     `yaml:"insecure" doc:"Do not check the server's certificate."`
}

// Neutron is [neutron].
type Neutron struct {
	Auth          `yaml:",inline"`
	OVSBridge     string   `yaml:"ovs_bridge" doc:"Integration bridge of Open vSwitch ports that name none."`
	OVSDB         string   `yaml:"ovsdb_socket" doc:"Unix socket of ovsdb-server."`
	ExtensionSync Duration `yaml:"extension_sync_interval" min:"0" doc:"How long Neutron's list of extensions is believed."`
	Retries       int      `yaml:"http_retries" min:"0" doc:"Repetitions of a request that did not reach Neutron."`
}

// Glance is [glance]. Images are read with the token of the user who boots.
type Glance struct {
	Endpoint   string   `yaml:"endpoint_override" doc:"URL of Glance, instead of the catalogue's."`
	Region     string   `yaml:"region_name" doc:"Region of the endpoint; empty is any."`
	Interfaces []string `yaml:"valid_interfaces" default:"internal, public" doc:"Endpoints that may be used, best first."`
	Retries    int      `yaml:"num_retries" min:"0" doc:"Repetitions of a request or of a download that broke without getting further."`

	DownloadTimeout Duration `yaml:"download_timeout" min:"1" doc:"Longest time to download and unpack an image."`
	EvictAfter      Duration `yaml:"evict_after" min:"0" doc:"An image that no server uses is removed when nobody has asked for it for this long (remove_unused_original_minimum_age_seconds); 0 is never."`
	EvictInterval   Duration `yaml:"evict_interval" min:"0" doc:"How often such images are looked for (image_cache.manager_interval); 0 is never."`
}

// ServiceUser is [service_user]: whose token goes along with a user's.
type ServiceUser struct {
	Send bool `yaml:"send_service_user_token" doc:"Send it. A Cinder with the fix for CVE-2023-2088 needs it."`
	Auth `yaml:",inline"`
}

// Compute is what nova-compute reads from [DEFAULT], [compute] and [workarounds].
type Compute struct {
	ServiceVersion int `yaml:"service_version" min:"0" doc:"Version of nova-compute that is advertised; 0 picks the one of the control plane's release."`

	ReservedCPUs     int   `yaml:"reserved_host_cpus" min:"0" doc:"CPUs kept from servers."`
	ReservedMemoryMB int   `yaml:"reserved_host_memory_mb" min:"0" doc:"MiB kept from servers."`
	ReservedDiskMB   int   `yaml:"reserved_host_disk_mb" min:"0" doc:"MiB kept from servers."`
	CPURatio         Ratio `yaml:"cpu_allocation_ratio" min:"0" doc:"vCPUs for each CPU; 0 leaves it to Placement's present value."`
	RAMRatio         Ratio `yaml:"ram_allocation_ratio" min:"0" doc:"The same for memory."`
	DiskRatio        Ratio `yaml:"disk_allocation_ratio" min:"0" doc:"The same for disk."`
	InitialCPURatio  Ratio `yaml:"initial_cpu_allocation_ratio" min:"0" doc:"vCPUs for each CPU when the node is new."`
	InitialRAMRatio  Ratio `yaml:"initial_ram_allocation_ratio" min:"0" doc:"The same for memory."`
	InitialDiskRatio Ratio `yaml:"initial_disk_allocation_ratio" min:"0" doc:"The same for disk."`

	VIFPluggingTimeout  Duration `yaml:"vif_plugging_timeout" min:"0" doc:"How long network-vif-plugged is waited for; 0 is not at all."`
	VIFPluggingIsFatal  bool     `yaml:"vif_plugging_is_fatal" doc:"A server whose port is not plugged in time fails."`
	MaxConcurrentBuilds int      `yaml:"max_concurrent_builds" min:"0" doc:"Servers built at the same time; 0 is no limit."`
	ResumeGuests        bool     `yaml:"resume_guests_state_on_host_boot" doc:"Start what ran before the machine rebooted."`
	ShutdownTimeout     Duration `yaml:"shutdown_timeout" min:"0" doc:"Time from the stop signal to SIGKILL; an image's os_shutdown_timeout overrides it."`

	ReportInterval          Duration `yaml:"report_interval" min:"1" doc:"Heartbeat of the service record."`
	UpdateResourcesInterval Duration `yaml:"update_resources_interval" min:"1" doc:"How often usage is counted anew and Placement synchronised."`
	SyncPowerStateInterval  Duration `yaml:"sync_power_state_interval" min:"0" doc:"How often Nova's power states are compared with the containers'; 0 is never."`
	HealInfoCacheInterval   Duration `yaml:"heal_instance_info_cache_interval" min:"0" doc:"How often one server's network information is read anew from Neutron; 0 is never."`
	RunningDeletedInterval  Duration `yaml:"running_deleted_instance_poll_interval" min:"1" doc:"How often containers of deleted servers are looked for."`
	BuildTimeout            Duration `yaml:"instance_build_timeout" min:"0" doc:"A server that builds for longer is in error; 0 is never."`
	ShutdownGrace           Duration `yaml:"graceful_shutdown_timeout" min:"0" doc:"How long nova-agent waits for its operations when it is told to stop."`
}

// Engine is the container engine.
type Engine struct {
	CgroupParent   string   `yaml:"cgroup_parent" doc:"Cgroup of all containers and shims."`
	WarmShims      int      `yaml:"warm_shims" min:"1" doc:"Idle shims kept ready for the next starts."`
	MaxImage       Size     `yaml:"max_image" min:"0" doc:"Largest unpacked image; 0 is nova-agent's own bound."`
	LogMaxSize     Size     `yaml:"log_max_size" min:"4096" doc:"Size of one file of a console log."`
	LogMaxFiles    int      `yaml:"log_max_files" min:"1" doc:"Files kept of a console log."`
	PluginSockets  string   `yaml:"plugin_sockets" doc:"Directories of the sockets of volume and authorization plug-ins, with colons between."`
	PluginSpecs    string   `yaml:"plugin_specs" doc:"Directories of their .spec and .json files, which name an address."`
	CDISpecDirs    []string `yaml:"cdi_spec_dirs" default:"/etc/cdi, /var/run/cdi" doc:"Directories of specifications of devices for the Docker API's containers (Container Device Interface); a later one goes first."`
	DefaultRuntime string   `yaml:"default_runtime" doc:"Runtime of the Docker API's containers that name none: nova-agent, the engine's own, or one of runtimes. Servers have the engine's own."`
	Runtimes       Runtimes `yaml:"runtimes" default:"none" doc:"OCI runtimes that containers can be run with (docker run --runtime NAME), each as NAME: {path: PROGRAM, args: [TEXT, ...]}, where args go before its own arguments, as dockerd's runtimes do."`
}

// Runtimes are OCI runtimes by name.
type Runtimes map[string]Runtime

// Runtime is a program with the command line interface of runc.
type Runtime struct {
	Path string   `yaml:"path"`
	Args []string `yaml:"args"`
}

// DockerAPI is where the Docker API is served.
type DockerAPI struct {
	Listen               string   `yaml:"listen" default:"unix://RUN_DIR/docker.sock" doc:"unix:///PATH, tcp://ADDRESS:PORT or fd:// for systemd's sockets, several with commas between; none switches it off."`
	SocketMode           string   `yaml:"socket_mode" doc:"Mode of Unix sockets, octal: whoever can open one is root."`
	SocketGroup          string   `yaml:"socket_group" doc:"Group of Unix sockets, a name or number; empty is the process's."`
	TLSCA                string   `yaml:"tls_ca" doc:"File of the authorities that certificates of TCP clients are checked against. This and the next two are read again when they change."`
	TLSCert              string   `yaml:"tls_cert" doc:"File of the server's certificate, with its chain."`
	TLSKey               string   `yaml:"tls_key" doc:"File of the server's key."`
	TLSVerify            bool     `yaml:"tls_verify" doc:"Ask clients for certificates. TLS without is refused."`
	AuthorizationPlugins []string `yaml:"authorization_plugins" doc:"Plug-ins that are asked about every request and its answer, in this order; whatever goes wrong with one refuses the request."`
	PlainTCP             bool     `yaml:"plain_tcp" doc:"Let TCP on a loopback address do without TLS: every user of the host is root then."`
}

// Registries is how the Docker API reaches registries of images. HTTPS_PROXY, HTTP_PROXY and NO_PROXY
// of the environment apply.
type Registries struct {
	Insecure  []string `yaml:"insecure" doc:"Registries that may speak plain HTTP or have any certificate: HOST, HOST:PORT, or a network such as 10.0.0.0/8. Those on a loopback address always may."`
	Mirrors   []string `yaml:"mirrors" doc:"URLs of mirrors of Docker Hub, which are asked before it; they get no credentials."`
	CertsDir  string   `yaml:"certs_dir" doc:"Directory with one for each registry, HOST or HOST:PORT: authorities in *.crt, client certificates in *.cert with their keys in *.key, as in /etc/docker/certs.d. Empty is none."`
	Downloads int      `yaml:"max_concurrent_downloads" min:"1" doc:"Layers downloaded at the same time."`
	Uploads   int      `yaml:"max_concurrent_uploads" min:"1" doc:"Layers uploaded at the same time."`
	Timeout   Duration `yaml:"timeout" min:"1" doc:"How long a registry may be silent before a request counts as lost, and is tried again."`
}

// Observe is metrics, health and debugging.
type Observe struct {
	Listen      string `yaml:"listen" doc:"Address of /metrics, /healthz and /readyz; empty switches them off."`
	DebugSocket string `yaml:"debug_socket" default:"RUN_DIR/debug.sock" doc:"Unix socket with pprof, open intents and states; none switches it off."`
}

// Ratio is an allocation ratio.
type Ratio float64

// Duration is written as Go writes durations: 10s, 2m30s, 1h.
type Duration time.Duration

// D returns it as the standard library's.
func (d Duration) D() time.Duration { return time.Duration(d) }

// Size is a number of bytes, written with or without a unit: 1048576, 10MiB, 2GiB.
type Size int64

// Default returns the defaults.
func Default() *Config {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	second := Duration(time.Second)
	auth := Auth{Timeout: 60 * second, UserDomainName: "Default", ProjectDomainName: "Default", ProjectName: "service",
		Interfaces: []string{"internal", "public"}}
	user := func(name string) Auth { a := auth; a.Username = name; return a }
	return &Config{
		Host: host, MyIP: "127.0.0.1",
		StateDir: "/var/lib/nova-agent", RunDir: "/run/nova-agent",
		Log: Log{Level: "info", Format: "text"},
		RPC: RPC{
			ControlExchange: "nova", ResponseTimeout: 60 * second, LongTimeout: 1800 * second,
			MaxMessage: 32 << 20, Workers: 64,
			Rabbit: Rabbit{
				TransientTTL: 1800 * second, LoginMethod: "AMQPLAIN", Heartbeat: 60 * second,
				RetryInterval: second, RetryBackoff: 2 * second, RetryMax: 30 * second, ReconnectDelay: second,
				MissingReplyQueueTimeout: 60 * second,
			},
		},
		Placement:   user("placement"),
		Neutron:     Neutron{Auth: user("neutron"), OVSBridge: "br-int", OVSDB: "/run/openvswitch/db.sock", ExtensionSync: 600 * second, Retries: 3},
		Glance:      Glance{Interfaces: []string{"internal", "public"}, Retries: 3, DownloadTimeout: 7200 * second, EvictAfter: 86400 * second, EvictInterval: 2400 * second},
		Cinder:      user("cinder"),
		ServiceUser: ServiceUser{Auth: user("nova")},
		Compute: Compute{
			ReservedMemoryMB: 512, InitialCPURatio: 16, InitialRAMRatio: 1.5, InitialDiskRatio: 1,
			VIFPluggingTimeout: 300 * second, VIFPluggingIsFatal: true, MaxConcurrentBuilds: 10,
			ShutdownTimeout: 60 * second, ReportInterval: 10 * second, UpdateResourcesInterval: 60 * second,
			SyncPowerStateInterval: 600 * second, HealInfoCacheInterval: 60 * second,
			RunningDeletedInterval: 1800 * second, ShutdownGrace: 60 * second,
		},
		Engine: Engine{CgroupParent: "/nova-agent", WarmShims: 2, LogMaxSize: 10 << 20, LogMaxFiles: 3, CDISpecDirs: []string{"/etc/cdi", "/var/run/cdi"}, DefaultRuntime: ownRuntime,
			PluginSockets: "/run/docker/plugins", PluginSpecs: "/etc/docker/plugins:/usr/lib/docker/plugins"},
		DockerAPI: DockerAPI{SocketMode: "0660", TLSVerify: true},
		Registries: Registries{
			CertsDir: "/etc/nova-agent/certs.d", Downloads: 3, Uploads: 5, Timeout: 60 * second,
		},
		Observe: Observe{Listen: "127.0.0.1:9464"},
	}
}

// ownRuntime is the name of the engine's own runtime.
const ownRuntime = "nova-agent"

// complete fills in the defaults that depend on other keys.
func (c *Config) complete() {
	if c.NodeName == "" {
		c.NodeName = c.Host
	}
	if c.DockerAPI.Listen == "" {
		c.DockerAPI.Listen = "unix://" + c.RunDir + "/docker.sock"
	}
	if c.Observe.DebugSocket == "" {
		c.Observe.DebugSocket = c.RunDir + "/debug.sock"
	}
	for _, a := range []*Auth{&c.Neutron.Auth, &c.Cinder, &c.ServiceUser.Auth} {
		if a.AuthURL == "" {
			a.AuthURL = c.Placement.AuthURL
		}
	}
}
