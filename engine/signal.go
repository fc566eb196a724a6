package engine

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"novaagent/engine/errdefs"
)

// signalNames are Linux's on every architecture that Go calls linux but mips and
// sparc. The real-time ones are counted from the C library's first, 34.
var signalNames = [...]string{1: "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV",
	"USR2", "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU",
	"XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS"}

const (
	sigRTMin = 34
	sigRTMax = 64
)

// ParseSignal takes "SIGTERM", "term", "15", "RTMIN+3" and the like.
func ParseSignal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > sigRTMax {
			return 0, fmt.Errorf("invalid signal: %s: %w", printable(s), errdefs.ErrInvalid)
		}
		return syscall.Signal(n), nil
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	for n, known := range signalNames {
		if known == name && known != "" {
			return syscall.Signal(n), nil
		}
	}
	switch name {
	case "IOT":
		return syscall.SIGABRT, nil
	case "CLD":
		return syscall.SIGCHLD, nil
	case "POLL":
		return syscall.SIGIO, nil
	}
	for prefix, from := range map[string]int{"RTMIN": sigRTMin, "RTMAX": sigRTMax} {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		n, err := strconv.Atoi(strings.TrimPrefix(rest, "+"))
		if rest == "" {
			n, err = 0, nil
		}
		if err == nil && from+n >= sigRTMin && from+n <= sigRTMax {
			return syscall.Signal(from + n), nil
		}
	}
	return 0, fmt.Errorf("invalid signal: %s: %w", printable(s), errdefs.ErrInvalid)
}
