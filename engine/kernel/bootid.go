package kernel

import (
	"fmt"
	"os"
	"strings"
)

// BootID identifies the host's current boot: a random UUID of the kernel's.
func BootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("boot id: %w", err)
	}
	return strings.TrimSpace(string(id)), nil
}
