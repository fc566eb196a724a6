package main

import (
	"flag"
	"log/slog"
	"strings"

	"novaagent/config"
	"novaagent/registry"
)

// registryFlags are the settings of registries as flags.
func registryFlags(f *flag.FlagSet) *config.Registries {
	c := config.Default().Registries
	f.Func("insecure-registry", "a `registry` (host[:port] or network) that may speak plain HTTP; can be repeated", appendTo(&c.Insecure))
	f.Func("registry-mirror", "`URL` of a mirror of Docker Hub; can be repeated", appendTo(&c.Mirrors))
	f.StringVar(&c.CertsDir, "certs-dir", c.CertsDir, "registries' authorities and client certificates are under `dir`")
	f.IntVar(&c.Downloads, "max-concurrent-downloads", c.Downloads, "layers downloaded at the same time")
	f.IntVar(&c.Uploads, "max-concurrent-uploads", c.Uploads, "layers uploaded at the same time")
	return &c
}

// appendTo adds a flag's value to a list.
func appendTo(list *[]string) func(string) error {
	return func(v string) error {
		*list = append(*list, v)
		return nil
	}
}

// newRegistries makes the client of registries.
func newRegistries(c config.Registries, log *slog.Logger) (*registry.Client, error) {
	return registry.New(registry.Options{
		Insecure: c.Insecure, Mirrors: c.Mirrors, CertsDir: c.CertsDir, Downloads: c.Downloads, Uploads: c.Uploads,
		Timeout: c.Timeout.D(), Version: strings.TrimPrefix(version, "v"), Logger: log,
	})
}
