package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"novaagent/config"
	"novaagent/engine"
	"novaagent/engine/image"
	"novaagent/logging"
	"novaagent/nova-agent/compute"
	"novaagent/nova-agent/conductor"
	"novaagent/nova-agent/keystone"
	"novaagent/nova-agent/neutron"
	"novaagent/nova-agent/observe"
	"novaagent/nova-agent/rpc"
)

// newLogger makes the logger, and the level that SIGHUP changes.
func newLogger(c config.Log) (*slog.Logger, *slog.LevelVar) {
	level := &slog.LevelVar{}
	setLevel(level, c.Level)
	opts := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewTextHandler(os.Stderr, opts)
	if c.Format == "json" {
		h = slog.NewJSONHandler(os.Stderr, opts)
	}
	log := slog.New(logging.Handler{Handler: h})
	adoptForeignLogs(log)
	return log, level
}

func setLevel(v *slog.LevelVar, name string) {
	switch name {
	case "debug":
		v.Set(slog.LevelDebug)
	case "warn":
		v.Set(slog.LevelWarn)
	case "error":
		v.Set(slog.LevelError)
	default:
		v.Set(slog.LevelInfo)
	}
}

func engineOptions(c *config.Config, log *slog.Logger) engine.Options {
	return engine.Options{
		Plugins: pluginFinder(&c.Engine),
		Root:    c.StateDir, RunDir: c.RunDir, CgroupParent: c.Engine.CgroupParent, WarmShims: c.Engine.WarmShims,
		OVSDB: c.Neutron.OVSDB, CDISpecDirs: c.Engine.CDISpecDirs, Runtimes: runtimesOf(c.Engine.Runtimes), DefaultRuntime: c.Engine.DefaultRuntime,
		ImageLimits: image.Limits{MaxUnpackedBytes: int64(c.Engine.MaxImage)}, Logger: log,
	}
}

func rpcOptions(c *config.Config, log *slog.Logger, m *observe.Metrics) rpc.Options {
	o := rpc.DefaultOptions()
	o.TransportURL, o.Exchange, o.Hostname = c.RPC.TransportURL, c.RPC.ControlExchange, c.Host
	o.CallTimeout, o.LongCallTimeout, o.PublishTimeout = c.RPC.ResponseTimeout.D(), c.RPC.LongTimeout.D(), c.RPC.ResponseTimeout.D()
	o.MaxBody = int64(c.RPC.MaxMessage)
	o.Logger = log
	if m != nil {
		o.Observe = rpc.Observer{OnHandled: m.Handled, OnCalled: m.Called, OnState: m.Connected}
	}
	r := c.RPC.Rabbit
	o.Rabbit = rpc.Rabbit{
		TLS: r.TLS, TLSCAFile: r.CAFile, TLSCertFile: r.CertFile, TLSKeyFile: r.KeyFile, TLSVerifyHostname: r.VerifyHostname, TLSVersion: r.TLSVersion,
		LoginMethod: r.LoginMethod, Heartbeat: r.Heartbeat.D(),
		RetryInterval: r.RetryInterval.D(), RetryBackoff: r.RetryBackoff.D(), RetryMax: r.RetryMax.D(),
		ReconnectDelay:           r.ReconnectDelay.D(),
		MissingReplyQueueTimeout: r.MissingReplyQueueTimeout.D(),
		Durable:                  r.Durable, AutoDelete: r.AutoDelete, HA: r.HA,
		Quorum: r.Quorum, QuorumDeliveryLimit: int64(r.QuorumDeliveryLimit),
		QuorumMaxMemoryLength: int64(r.QuorumMaxMemoryLength), QuorumMaxMemoryBytes: int64(r.QuorumMaxMemoryBytes),
		TransientQuorum: r.TransientQuorum, TransientTTL: r.TransientTTL.D(),
		StreamFanout: r.StreamFanout, QueueManager: r.QueueManager, CancelOnFailover: r.CancelOnFailover, Prefetch: r.Prefetch,
	}
	return o
}

func neutronOptions(c *config.Config, s *sessions, client *conductor.Client, log *slog.Logger) neutron.Options {
	return neutron.Options{
		Service: s.neutron, Records: records{client}, Logger: log,
		User: func(ctx context.Context) neutron.Session {
			if rc := rpc.RequestContextFrom(ctx); rc == nil || rc.AuthToken() == "" {
				return nil
			}
			return userOf(ctx, s.neutron)
		},
		AttachExternal: func(ctx context.Context) bool {
			rc := rpc.RequestContextFrom(ctx)
			return rc != nil && rc.IsAdmin()
		},
		OVSBridge: c.Neutron.OVSBridge, ExtensionInterval: c.Neutron.ExtensionSync.D(),
		Timeout: c.Neutron.Timeout.D(), Retries: orNone(c.Neutron.Retries),
	}
}

// orNone makes a number of 0 the negative one that stands for none where 0 is the default.
func orNone(n int) int {
	if n == 0 {
		return -1
	}
	return n
}

func computeOptions(c *config.Config, log *slog.Logger, m *observe.Metrics) compute.Options {
	o := c.Compute
	return compute.Options{
		Host: c.Host, NodeName: c.NodeName, MyIP: c.MyIP, StateDir: c.StateDir,
		Version: numberOf(version), ServiceVersion: o.ServiceVersion,
		ReservedCPUs: o.ReservedCPUs, ReservedMemoryMB: o.ReservedMemoryMB, ReservedDiskMB: o.ReservedDiskMB,
		CPURatio: float64(o.CPURatio), RAMRatio: float64(o.RAMRatio), DiskRatio: float64(o.DiskRatio),
		InitialCPURatio: float64(o.InitialCPURatio), InitialRAMRatio: float64(o.InitialRAMRatio), InitialDiskRatio: float64(o.InitialDiskRatio),
		VIFPluggingTimeout: o.VIFPluggingTimeout.D(), VIFPluggingIsFatal: o.VIFPluggingIsFatal,
		MaxConcurrentBuilds: o.MaxConcurrentBuilds, ResumeGuests: o.ResumeGuests, ShutdownTimeout: o.ShutdownTimeout.D(),
		ReportInterval: o.ReportInterval.D(), UpdateInterval: o.UpdateResourcesInterval.D(), PowerInterval: o.SyncPowerStateInterval.D(),
		HealInterval: o.HealInfoCacheInterval.D(), RunningDeletedInterval: o.RunningDeletedInterval.D(), BuildTimeout: o.BuildTimeout.D(),
		LogBytes: int64(c.Engine.LogMaxSize), LogFiles: c.Engine.LogMaxFiles,
		Logger:  log,
		Observe: compute.Observer{Built: m.Built, Operated: m.Operated, Ran: m.Ran, Heartbeat: m.Heartbeat},
		Step:    failpoint(),
	}
}

// numberOf makes Nova's form of a version, major*1,000,000 + minor*1,000 + patch, of
// v1.2.3 and the like; what is no number counts as 0.
func numberOf(version string) (n int64) {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	for i := range 3 {
		part := 0
		if i < len(parts) {
			digits, _, _ := strings.Cut(parts[i], "-")
			part, _ = strconv.Atoi(digits)
		}
		n = n*1000 + int64(min(max(part, 0), 999))
	}
	return n
}

// sessionOptions are of one section's user; service is the service user's session,
// or nil.
func sessionOptions(a config.Auth, service *keystone.Session, log *slog.Logger) keystone.Options {
	return keystone.Options{
		Credentials: keystone.Credentials{
			AuthURL: a.AuthURL, Username: a.Username, UserID: a.UserID, Password: a.Password,
			UserDomainName: a.UserDomainName, UserDomainID: a.UserDomainID,
			ProjectName: a.ProjectName, ProjectID: a.ProjectID,
			ProjectDomainName: a.ProjectDomainName, ProjectDomainID: a.ProjectDomainID, SystemScope: a.SystemScope,
			ApplicationCredentialID: a.ApplicationCredentialID, ApplicationCredentialName: a.ApplicationCredentialName,
			ApplicationCredentialSecret: a.ApplicationCredentialSecret,
		},
		TLS:    keystone.TLS{CAFile: a.CAFile, CertFile: a.CertFile, KeyFile: a.KeyFile, Insecure: a.Insecure},
		Region: a.Region, Interfaces: a.Interfaces, Timeout: a.Timeout.D(), Service: service, Logger: log,
	}
}

// sessions are nova-agent's identities.
type sessions struct {
	placement, neutron, glance, cinder *keystone.Session
	all                                []*keystone.Session
}

// close gives up the connections that nobody uses.
func (s *sessions) close() {
	for _, one := range s.all {
		one.Close()
	}
}

// newSessions makes them. Glance has no user of its own: images are read with the
// user's token, and [placement]'s finds the endpoint.
func newSessions(c *config.Config, log *slog.Logger) (*sessions, error) {
	all := &sessions{}
	var service *keystone.Session
	var err error
	if c.ServiceUser.Send {
		if service, err = keystone.New(sessionOptions(c.ServiceUser.Auth, nil, log)); err != nil {
			return nil, fmt.Errorf("service_user: %w", err)
		}
		all.all = append(all.all, service)
	}
	make := func(section string, a config.Auth, serviceType string) (*keystone.Session, error) {
		o := sessionOptions(a, service, log)
		if a.Endpoint != "" {
			o.Endpoints = map[string]string{serviceType: a.Endpoint}
		}
		s, err := keystone.New(o)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", section, err)
		}
		all.all = append(all.all, s)
		return s, nil
	}
	if all.placement, err = make("placement", c.Placement, "placement"); err != nil {
		return nil, err
	}
	if all.neutron, err = make("neutron", c.Neutron.Auth, "network"); err != nil {
		return nil, err
	}
	glance := c.Placement
	glance.Endpoint, glance.Region, glance.Interfaces = c.Glance.Endpoint, c.Glance.Region, c.Glance.Interfaces
	if all.glance, err = make("glance", glance, "image"); err != nil {
		return nil, err
	}
	if c.Cinder.Password != "" || c.Cinder.ApplicationCredentialSecret != "" {
		if all.cinder, err = make("cinder", c.Cinder, "volumev3"); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// userOf is the identity of the user whose request ctx carries.
func userOf(ctx context.Context, s *keystone.Session) *keystone.User {
	if rc := rpc.RequestContextFrom(ctx); rc != nil {
		return s.ForUser(rc.AuthToken())
	}
	return s.ForUser("")
}
