// nova-agent takes the place of nova-compute on an OpenStack compute node and runs
// each server as a container. This package wires the others together, reads the
// configuration, and does nothing else. Start reading in service.go; each other
// command has a file of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"novaagent/engine/errdefs"
)

// version is set when the binary is built.
var version = "unknown"

// defaultConfig is where the service looks for its configuration.
const defaultConfig = "/etc/nova-agent/nova-agent.yaml"

// command is one word after the program's name.
type command struct {
	name, args, does string
	run              func(ctx context.Context, args []string) error
}

func commands() []command {
	return []command{
		{"run", "[--config FILE]", "be the compute service of this node", runService},
		{"standalone", "--root DIR --host unix:///PATH.sock", "serve the engine alone, without OpenStack", runStandalone},
		{"check", "[--config FILE] [--json]", "tell what this machine and its services offer", runCheck},
		{"config", "show|validate|import|docs", "read, check or make the configuration", runConfig},
		{"purge", "[--config FILE] --yes", "remove every container of a service that is stopped", runPurge},
		{"version", "", "print the version", runVersion},
	}
}

// usageError is a command line that cannot be understood; it ends with status 2.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	err := dispatch(ctx, os.Args[1:])
	var usage *usageError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.As(err, &usage):
		fmt.Fprintln(os.Stderr, "nova-agent:", err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "nova-agent:", plain(err.Error()))
		os.Exit(1)
	}
}

// plain is an error's text without the kind at its end, which is for programs.
func plain(text string) string {
	for _, kind := range []error{errdefs.ErrInvalid, errdefs.ErrNotFound, errdefs.ErrConflict, errdefs.ErrUnavailable, errdefs.ErrUnsupported, errdefs.ErrExhausted} {
		text = strings.TrimSuffix(text, ": "+kind.Error())
	}
	return text
}

func dispatch(ctx context.Context, args []string) error {
	if len(args) == 0 {
		printUsage(os.Stderr)
		return &usageError{"a command is needed"}
	}
	switch args[0] {
	case "help", "-h", "--help":
		printUsage(os.Stdout)
		return nil
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return c.run(ctx, args[1:])
		}
	}
	return &usageError{fmt.Sprintf("no command %q; `nova-agent help` lists them", args[0])}
}

func printUsage(w io.Writer) {
	fmt.Fprintln(w, "usage: nova-agent COMMAND [OPTIONS]")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-46s %s\n", c.name+" "+c.args, c.does)
	}
}

// parse reads a command's options and refuses arguments beyond them.
func parse(f *flag.FlagSet, args []string) error {
	f.SetOutput(io.Discard)
	err := f.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		f.SetOutput(os.Stdout)
		f.Usage()
		return err
	}
	if err != nil {
		return &usageError{f.Name() + ": " + err.Error()}
	}
	return nil
}

// parseAll is parse for commands that take options only.
func parseAll(f *flag.FlagSet, args []string) error {
	if err := parse(f, args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return &usageError{fmt.Sprintf("%s: unexpected %q", f.Name(), strings.Join(f.Args(), " "))}
	}
	return nil
}

func newFlags(name string) *flag.FlagSet { return flag.NewFlagSet(name, flag.ContinueOnError) }

func runVersion(_ context.Context, args []string) error {
	if err := parseAll(newFlags("version"), args); err != nil {
		return err
	}
	fmt.Printf("nova-agent %s, %s, %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}
