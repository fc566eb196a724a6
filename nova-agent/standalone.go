package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"novaagent/config"
	"novaagent/engine"
	"novaagent/nova-agent/observe"
)

// closeTimeout is how long streams and requests of the Docker API may go on when the
// program ends.
const closeTimeout = 5 * time.Second

// runStandalone serves the engine alone, with all its state under one directory.
func runStandalone(ctx context.Context, args []string) error {
	f := newFlags("standalone")
	root := f.String("root", "", "keep everything under `dir`")
	api := dockerFlags(f)
	plugins := config.Default().Engine
	f.StringVar(&plugins.PluginSockets, "plugin-sockets", plugins.PluginSockets, "`dir` of the sockets of plug-ins")
	f.StringVar(&plugins.PluginSpecs, "plugin-specs", plugins.PluginSpecs, "`dirs` of the .spec and .json files of plug-ins, with colons between")
	registries := registryFlags(f)
	runtimes := runtimeFlags(f)
	level := f.String("log-level", "info", "debug, info, warn or error")
	format := f.String("log-format", "text", "text or json")
	if err := parseAll(f, args); err != nil {
		return err
	}
	if *root == "" || api.Listen == "" {
		return &usageError{"standalone: --root DIR and --host unix:///PATH.sock are needed"}
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, *level) {
		return &usageError{fmt.Sprintf("standalone: --log-level %s: want debug, info, warn or error", *level)}
	}
	if !slices.Contains([]string{"text", "json"}, *format) {
		return &usageError{fmt.Sprintf("standalone: --log-format %s: want text or json", *format)}
	}
	if registries.Downloads < 1 || registries.Uploads < 1 {
		return &usageError{"standalone: --max-concurrent-downloads and --max-concurrent-uploads are 1 or more"}
	}
	log, _ := newLogger(config.Log{Level: *level, Format: *format})
	tuneMemory()
	surviveBrokenLog()
	path, err := filepath.Abs(*root)
	if err != nil {
		return err
	}
	client, err := newRegistries(*registries, log)
	if err != nil {
		return &usageError{"standalone: " + err.Error()}
	}
	e, err := engine.Open(ctx, engine.Options{Root: path, Logger: log, Plugins: pluginFinder(&plugins),
		Runtimes: runtimesOf(runtimes.Runtimes), DefaultRuntime: runtimes.DefaultRuntime})
	if err != nil {
		return err
	}
	served, err := serveDocker(api, e, client, log, nil)
	if err != nil {
		return errors.Join(err, e.Close())
	}
	log.Info("serving", "host", api.Listen, "root", path, "version", version)
	if err := observe.Notify("READY=1"); err != nil {
		log.Warn("systemd was not told", "error", err)
	}
	<-ctx.Done()
	return errors.Join(served.Close(), e.Close())
}
