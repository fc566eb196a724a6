package main

import (
	"context"
	"errors"
	"fmt"

	"novaagent/engine"
)

// runPurge removes every container and what belongs to it: namespaces, mounts,
// cgroups, network devices. Nova is not told; it is for a node that leaves.
func runPurge(ctx context.Context, args []string) error {
	f := newFlags("purge")
	path := f.String("config", defaultConfig, "the configuration `file`")
	yes := f.Bool("yes", false, "do it")
	if err := parseAll(f, args); err != nil {
		return err
	}
	c, err := loadConfig(*path)
	if err != nil {
		return err
	}
	if !*yes {
		return &usageError{fmt.Sprintf("purge: this removes every container under %s with its data; add --yes if that is wanted", c.StateDir)}
	}
	log, _ := newLogger(c.Log)
	e, err := engine.Open(ctx, engineOptions(c, log))
	if err != nil {
		return err
	}
	var errs []error
	for _, container := range e.List() {
		errs = append(errs, e.Remove(ctx, container.ID, engine.RemoveOptions{Force: true, Volumes: true}))
	}
	return errors.Join(append(errs, e.Close())...)
}
