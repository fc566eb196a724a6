package seccomp

// auditArch is this architecture's AUDIT_ARCH_* (linux/audit.h). x32Bit marks the
// numbers of the x32 ABI, which has no value of its own. offHigh and offLow are
// the halves of a 64-bit argument.
const (
	auditArch = 0xc00000f3
	x32Bit    = 0
	offHigh   = 4
	offLow    = 0
)
