package runtime

import (
	"fmt"

	"novaagent/engine/errdefs"
)

// capabilityNames are those of linux/capability.h, by number.
var capabilityNames = [...]string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
	"CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
	"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
	"CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

const ()

// Capabilities lists all that this package knows, by number.
func Capabilities() []string { return append([]string(nil), capabilityNames[:]...) }

// capabilityMask turns names into a set. Those that the kernel does not have (above last) are left out.
func capabilityMask(names []string, last int) (uint64, error) {
	var mask uint64
next:
	for _, name := range names {
		for i, known := range capabilityNames {
			if known == name {
				if i <= last {
					mask |= 1 << i
				}
				continue next
			}
		}
		return 0, fmt.Errorf("capability %q: unknown: %w", name, errdefs.ErrInvalid)
	}
	return mask, nil
}

// capabilityList is the inverse of capabilityMask.
func capabilityList(mask uint64) []string {
	var names []string
	for i, name := range capabilityNames {
		if mask&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}
