//go:build failpoint

package main

import (
	"os"
	"syscall"
)

// failpoint kills this process, as kill -9 would, when an operation reaches the step that
// NOVA_AGENT_KILL_AT names (compute.Steps). Only the crash tests build it in.
func failpoint() func(step string) {
	at := os.Getenv("NOVA_AGENT_KILL_AT")
	return func(step string) {
		if step != at {
			return
		}
		if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
			panic(err)
		}
		select {} // nothing more happens until the signal arrives
	}
}
