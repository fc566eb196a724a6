package main

import (
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

const (
	// gcPercent trades processor time, of which an idle agent needs little, for memory.
	gcPercent = 50
	// memoryLimit makes the collector work harder before the process grows beyond it; it
	// is no hard limit. A hundred containers need a tenth.
	memoryLimit = 512 << 20
)

// tuneMemory keeps the heap small, unless the operator's environment says otherwise.
func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}

// surviveBrokenLog keeps the process alive when nobody reads its log any more: Go ends a
// process that writes to a standard error whose reader is gone. It is caught and not
// ignored, since programs that are started would inherit that.
func surviveBrokenLog() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }
