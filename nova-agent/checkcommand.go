package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"novaagent/config"
	"novaagent/nova-agent/check"
	"novaagent/nova-agent/conductor"
	"novaagent/nova-agent/keystone"
	"novaagent/nova-agent/rpc"
)

// runCheck looks at the kernel and, if there is a configuration, asks the services.
func runCheck(ctx context.Context, args []string) error {
	f := newFlags("check")
	path := f.String("config", defaultConfig, "the configuration `file`")
	timeout := f.Duration("timeout", 15*time.Second, "how long an answer of a service is waited for")
	asJSON := f.Bool("json", false, "print JSON")
	if err := parseAll(f, args); err != nil {
		return err
	}
	c, err := loadConfig(*path)
	known := !errors.Is(err, os.ErrNotExist)
	switch {
	case !known:
		c = config.Default()
	case err != nil:
		return err
	default:
		if err := checkConfig(*path, c); err != nil {
			return err
		}
	}
	report := checkReport{}
	if report.Kernel, err = (check.Machine{StateDir: c.StateDir, OVSDB: c.Neutron.OVSDB}).Kernel(); err != nil {
		return err
	}
	if known {
		if report.Services, err = askServices(ctx, *timeout, c); err != nil {
			return err
		}
	}
	if *asJSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		if err := e.Encode(report); err != nil {
			return err
		}
	} else {
		check.Print(os.Stdout, "This machine", report.Kernel)
		if known {
			check.Print(os.Stdout, "Services", report.Services)
		} else {
			fmt.Printf("Services\n  none is asked: there is no %s\n", *path)
		}
	}
	if missing := check.Missing(report.Kernel) + check.Missing(report.Services); missing > 0 {
		return fmt.Errorf("%d things that servers cannot run without are missing; see above", missing)
	}
	return nil
}

// checkReport is what check --json prints.
type checkReport struct {
	Kernel   []check.Result `json:"kernel"`
	Services []check.Result `json:"services"`
}

func askServices(ctx context.Context, timeout time.Duration, c *config.Config) ([]check.Result, error) {
	services, done, err := servicesToAsk(c)
	if err != nil {
		return nil, err
	}
	results := check.Services(ctx, timeout, services)
	for i := range results {
		results[i].Detail = plain(results[i].Detail)
	}
	return results, done()
}

// servicesToAsk lists the services of a configuration; done ends what asking needs.
func servicesToAsk(c *config.Config) (all []check.Service, done func() error, err error) {
	log := slog.New(slog.DiscardHandler)
	s, err := newSessions(c, log)
	if err != nil {
		return nil, nil, err
	}
	bus, err := rpc.New(rpcOptions(c, log, nil))
	if err != nil {
		return nil, nil, err
	}
	rest := func(name, serviceType, path, without string, needed bool, session *keystone.Session) check.Service {
		return check.Service{Name: name, Needed: needed, Without: without, Ask: func(ctx context.Context) (string, error) {
			base, err := session.Endpoint(ctx, serviceType)
			if err != nil {
				return "", err
			}
			path := path
			if version, _, _ := strings.Cut(path[1:], "/"); strings.HasSuffix(base, "/"+version) {
				path = strings.TrimPrefix(path, "/"+version) // the catalogue's URL has it already
			}
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
			if err != nil {
				return "", err
			}
			resp, err := session.Do(req)
			if err != nil {
				return "", err
			}
			defer resp.Body.Close()
			if resp.StatusCode >= 400 {
				return "", fmt.Errorf("%s: %s", base+path, resp.Status)
			}
			return base, nil
		}}
	}
	done = func() error { s.close(); return bus.Close() }
	all = []check.Service{
		{Name: "RabbitMQ", Needed: true, Without: "nothing reaches this node", Ask: func(ctx context.Context) (string, error) {
			err := bus.Connected(ctx)
			return strings.Join(bus.State().Brokers, ", "), err
		}},
		{Name: "nova-conductor", Needed: true, Without: "the service does not start", Ask: func(ctx context.Context) (string, error) {
			ctx = rpc.WithRequestContext(ctx, rpc.NewAdminContext())
			return "answers", conductor.New(bus, c.Host).Ping(ctx)
		}},
		{Name: "Keystone", Needed: true, Without: "no other service can be asked", Ask: func(ctx context.Context) (string, error) {
			_, err := s.placement.Token(ctx)
			return c.Placement.AuthURL, err
		}},
		{Name: "clock", Needed: false, Without: "Nova may take this node for dead, and tokens end early", Ask: func(ctx context.Context) (string, error) {
			return clock(ctx, s.neutron)
		}},
		rest("Placement", "placement", "/", "the scheduler does not choose this node", true, s.placement),
		rest("Neutron", "network", "/v2.0/extensions", "servers with a network fail", true, s.neutron),
		rest("Glance", "image", "/v2/images?limit=1", "images that are not cached cannot be read", true, s.glance),
	}
	if s.cinder != nil {
		all = append(all, rest("Cinder", "volumev3", "/volumes?limit=1", "volume attachments are left to Nova", false, s.cinder))
	}
	return all, done, nil
}

// maxSkew is how far clocks may be apart: a tenth of Nova's service_down_time of 60 s.
const maxSkew = 6 * time.Second

// clock compares this machine's clock with that of Neutron's, which tells the time in
// its answers.
func clock(ctx context.Context, session *keystone.Session) (string, error) {
	url, err := session.Endpoint(ctx, "network")
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := session.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	theirs, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return "cannot be compared: Neutron tells no time", nil
	}
	// The header has whole seconds.
	if skew := time.Since(theirs).Round(time.Second); skew.Abs() > maxSkew {
		return "", fmt.Errorf("%s apart from Neutron's", skew.Abs())
	}
	return "agrees with Neutron's", nil
}
