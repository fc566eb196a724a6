package main

import (
	"context"
	"errors"
	"flag"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"novaagent/config"
	"novaagent/engine"
	"novaagent/engine/dockerapi"
	"novaagent/engine/plugin"
)

// dockerFlags are the flags of the keys of docker_api, called as dockerd calls them.
func dockerFlags(f *flag.FlagSet) *config.DockerAPI {
	c := config.Default().DockerAPI
	f.Func("host", "serve the Docker API at unix:///PATH, tcp://ADDRESS:PORT or fd://; may be repeated", func(host string) error {
		c.Listen = strings.TrimPrefix(c.Listen+","+host, ",")
		return nil
	})
	f.StringVar(&c.SocketGroup, "group", "", "`group` of Unix sockets")
	f.StringVar(&c.SocketMode, "socket-mode", c.SocketMode, "`mode` of Unix sockets")
	f.StringVar(&c.TLSCA, "tlscacert", "", "`file` of the authorities of client certificates")
	f.StringVar(&c.TLSCert, "tlscert", "", "`file` of the server's certificate")
	f.StringVar(&c.TLSKey, "tlskey", "", "`file` of the server's key")
	f.BoolVar(&c.TLSVerify, "tlsverify", c.TLSVerify, "ask clients for certificates; TLS without is refused")
	f.Func("authorization-plugin", "ask the plug-in of that `name` about every request; may be repeated", func(name string) error {
		c.AuthorizationPlugins = append(c.AuthorizationPlugins, name)
		return nil
	})
	f.BoolVar(&c.PlainTCP, "plain-tcp", false, "let tcp:// on a loopback address do without TLS; every user of the host is root then")
	return &c
}

// dockerServer is the Docker API being served.
type dockerServer struct {
	server    *http.Server
	listeners int
	done      chan error
}

// serveDocker serves e where c says. seen, if not nil, is told of each request.
func serveDocker(c *config.DockerAPI, e *engine.Engine, log *slog.Logger, seen func(method, pattern string, status int, took time.Duration)) (*dockerServer, error) {
	listeners, err := listenDocker(c, log)
	if err != nil {
		return nil, err
	}
	s := &dockerServer{
		server: dockerapi.NewServer(dockerapi.New(e, dockerapi.Options{
			Version: strings.TrimPrefix(version, "v"), Logger: log, Observe: seen, Authorization: c.AuthorizationPlugins,
		})),
		listeners: len(listeners), done: make(chan error, len(listeners)),
	}
	for _, l := range listeners {
		go func() { s.done <- s.server.Serve(l) }()
	}
	return s, nil
}

// listenDocker opens all addresses, or none.
func listenDocker(c *config.DockerAPI, log *slog.Logger) (all []net.Listener, err error) {
	endpoint, err := dockerEndpoint(c, log)
	if err != nil {
		return nil, err
	}
	for host := range strings.SplitSeq(c.Listen, ",") {
		endpoint.Host = strings.TrimSpace(host)
		list, err := endpoint.Listen()
		if err != nil {
			errs := []error{err}
			for _, l := range all {
				errs = append(errs, l.Close())
			}
			return nil, errors.Join(errs...)
		}
		all = append(all, list...)
	}
	return all, nil
}

// dockerEndpoint is what c says about every address.
func dockerEndpoint(c *config.DockerAPI, log *slog.Logger) (dockerapi.Endpoint, error) {
	e := dockerapi.Endpoint{Group: c.SocketGroup, Plain: c.PlainTCP, Logger: log}
	mode, err := strconv.ParseUint(c.SocketMode, 8, 9)
	if err != nil || mode == 0 {
		return e, errors.New("docker_api.socket_mode " + strconv.Quote(c.SocketMode) + " is no mode: want an octal number such as 0660")
	}
	e.Mode = fs.FileMode(mode)
	if c.TLSCA == "" && c.TLSCert == "" && c.TLSKey == "" {
		return e, nil
	}
	if !c.TLSVerify {
		return e, errors.New("docker_api.tls_verify is false: TLS without client certificates would make whoever reaches the port root")
	}
	e.TLS = &dockerapi.TLSFiles{CA: c.TLSCA, Cert: c.TLSCert, Key: c.TLSKey}
	return e, nil
}

// Close lets requests end for a moment, then ends them.
func (s *dockerServer) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := s.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.server.Close()
	}
	for range s.listeners {
		if served := <-s.done; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
	}
	return err
}

// pluginFinder looks where c says.
func pluginFinder(c *config.Engine) plugin.Finder {
	return plugin.Finder{Sockets: strings.Split(c.PluginSockets, ":"), Specs: strings.Split(c.PluginSpecs, ":")}
}
