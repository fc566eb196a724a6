package runtime

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
)

// limitNumbers are the RLIMIT_* of asm-generic/resource.h.
var limitNumbers = map[string]int{
	"RLIMIT_CPU": 0, "RLIMIT_FSIZE": 1, "RLIMIT_DATA": 2, "RLIMIT_STACK": 3, "RLIMIT_CORE": 4, "RLIMIT_RSS": 5,
	"RLIMIT_NPROC": 6, "RLIMIT_NOFILE": 7, "RLIMIT_MEMLOCK": 8, "RLIMIT_AS": 9, "RLIMIT_LOCKS": 10,
	"RLIMIT_SIGPENDING": 11, "RLIMIT_MSGQUEUE": 12, "RLIMIT_NICE": 13, "RLIMIT_RTPRIO": 14, "RLIMIT_RTTIME": 15,
}

// rlimits appends steps that set limits. A hard limit above the agent's own needs
// CAP_SYS_RESOURCE; without it the limit is set as high as is allowed, and the
// difference is told in the returned warnings.
func rlimits(b *kernel.Builder, limits []specs.POSIXRlimit, mayRaise bool) (warnings []string, err error) {
	for _, l := range limits {
		nr, ok := limitNumbers[l.Type]
		if !ok {
			return nil, fmt.Errorf("limit %q: unknown: %w", l.Type, errdefs.ErrInvalid)
		}
		if l.Soft > l.Hard {
			return nil, fmt.Errorf("limit %s: soft %d is above hard %d: %w", l.Type, l.Soft, l.Hard, errdefs.ErrInvalid)
		}
		if !mayRaise {
			_, hard, err := kernel.Getrlimit(nr)
			if err != nil {
				return nil, err
			}
			if l.Hard > hard {
				warnings = append(warnings, fmt.Sprintf("%s: hard limit is %d instead of %d: the agent has no CAP_SYS_RESOURCE", l.Type, hard, l.Hard))
				l.Hard, l.Soft = hard, min(l.Soft, hard)
			}
		}
		b.Setrlimit(nr, l.Soft, l.Hard, l.Type)
	}
	return warnings, nil
}
