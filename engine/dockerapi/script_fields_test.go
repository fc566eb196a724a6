package dockerapi_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

type scriptCommand = func(ts *testscript.TestScript, neg bool, args []string)

// withFieldCommands adds to TestDockerCLI's commands those that the scripts about containers' fields need.
func withFieldCommands(cmds map[string]scriptCommand) map[string]scriptCommand {
	cmds["event"] = awaitEvent
	cmds["restart"] = restartAgent
	cmds["process"] = awaitProcess
	cmds["cgroup-parent"] = func(ts *testscript.TestScript, neg bool, args []string) {
		// The engine makes it, and leaves it, as Docker does.
		ts.Defer(func() {
			for _, dir := range cgroupDirs("/" + args[0]) {
				os.Remove(dir)
			}
		})
	}
	cmds["incgroup"] = inCgroup
	cmds["tlsserver"] = tlsServer
	cmds["listen"], cmds["received"] = listen, received
	return cmds
}

func scriptContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

// seen is the number of the latest event that awaitEvent has taken.
type seen struct{ seq uint64 }

// event NAME ACTION: waits for an event of a container, later than the one that was waited for before.
func awaitEvent(ts *testscript.TestScript, neg bool, args []string) {
	last, ok := ts.Value("seen").(*seen)
	if !ok {
		ts.Fatalf("no place for the latest event")
	}
	ctx, cancel := scriptContext()
	defer cancel()
	for ev := range ts.Value("api").(*api).engine.Subscribe(ctx, time.Unix(1, 0)) {
		if ev.Seq > last.seq && ev.Name == args[0] && string(ev.Action) == args[1] {
			last.seq = ev.Seq
			return
		}
	}
	ts.Fatalf("%s: no event %s", args[0], args[1])
}

// restart: the agent lets go of everything, and another one takes over.
func restartAgent(ts *testscript.TestScript, neg bool, args []string) {
	a, t := ts.Value("api").(*api), ts.Value("t").(testing.TB)
	ts.Check(a.stop())
	next := serveDefault(t, ts.Value("root").(string), a.socket, a.engine.DefaultRuntime())
	*a = *next
	ts.Value("seen").(*seen).seq = 0
}

// process NAME COMMAND: waits until a container has a process with that command line; with ! until it has none.
func awaitProcess(ts *testscript.TestScript, neg bool, args []string) {
	e := ts.Value("api").(*api).engine
	ctx, cancel := scriptContext()
	defer cancel()
	for ctx.Err() == nil {
		pids, err := e.PIDs(ctx, args[0])
		ts.Check(err)
		if hasProcess(pids, args[1]) != neg {
			return
		}
		time.Sleep(5 * time.Millisecond) // processes in a container come and go without an event
	}
	ts.Fatalf("%s: process %q: not so in time", args[0], args[1])
}

func hasProcess(pids []int, command string) bool {
	for _, pid := range pids {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " ")) == command {
			return true
		}
	}
	return false
}

// incgroup NAME PARENT: the process of a container is in a cgroup below PARENT, in every hierarchy that limits need.
func inCgroup(ts *testscript.TestScript, neg bool, args []string) {
	c, err := ts.Value("api").(*api).engine.Inspect(args[0])
	ts.Check(err)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", c.PID))
	ts.Check(err)
	found := 0
	for line := range strings.Lines(string(text)) {
		if strings.HasSuffix(strings.TrimSpace(line), ":/"+args[1]+"/"+c.ID) {
			found++
		} else if strings.Contains(line, ":memory:") {
			ts.Fatalf("it is elsewhere: %s", text)
		}
	}
	if found == 0 {
		ts.Fatalf("it is elsewhere: %s", text)
	}
}
