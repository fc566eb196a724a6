package main

import (
	"errors"
	"flag"
	"fmt"
	"strings"

	"novaagent/config"
	"novaagent/engine/runtime"
)

func runtimesOf(c config.Runtimes) map[string]runtime.OCI {
	all := map[string]runtime.OCI{}
	for name, r := range c {
		all[name] = runtime.OCI{Path: r.Path, Args: r.Args}
	}
	return all
}

// runtimeFlags are dockerd's flags for OCI runtimes.
func runtimeFlags(f *flag.FlagSet) *config.Engine {
	c := config.Default().Engine
	c.Runtimes = config.Runtimes{}
	f.Func("add-runtime", "let containers be run with an OCI runtime: `NAME=PATH`; may be repeated", func(text string) error {
		name, path, ok := strings.Cut(text, "=")
		if !ok || name == "" || path == "" {
			return errors.New("want NAME=PATH")
		}
		if _, twice := c.Runtimes[name]; twice {
			return fmt.Errorf("runtime %s is there already", name)
		}
		c.Runtimes[name] = config.Runtime{Path: path}
		return nil
	})
	f.StringVar(&c.DefaultRuntime, "default-runtime", c.DefaultRuntime, "runtime of containers that name none")
	return &c
}
