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

// limit is a resource limit to be set.
type limit struct {
	name       string
	number     int
	soft, hard uint64
	// lowers: it is not above the agent's own hard limit.
	lowers bool
}

// sortLimits checks limits. A hard limit above the agent's own needs
// CAP_SYS_RESOURCE (mayRaise); without it the limit is set as high as is allowed, and
// the difference is told in the returned warnings.
func sortLimits(limits []specs.POSIXRlimit, mayRaise bool) (out []limit, warnings []string, err error) {
	for _, l := range limits {
		nr, ok := limitNumbers[l.Type]
		if !ok {
			return nil, nil, fmt.Errorf("limit %q: unknown: %w", l.Type, errdefs.ErrInvalid)
		}
		if l.Soft > l.Hard {
			return nil, nil, fmt.Errorf("limit %s: soft %d is above hard %d: %w", l.Type, l.Soft, l.Hard, errdefs.ErrInvalid)
		}
		_, own, err := kernel.Getrlimit(nr)
		if err != nil {
			return nil, nil, err
		}
		if l.Hard > own && !mayRaise {
			warnings = append(warnings, fmt.Sprintf("%s: hard limit is %d instead of %d: the agent has no CAP_SYS_RESOURCE", l.Type, own, l.Hard))
			l.Hard, l.Soft = own, min(l.Soft, own)
		}
		out = append(out, limit{l.Type, nr, l.Soft, l.Hard, l.Hard <= own})
	}
	return out, warnings, nil
}

// setLimits appends the limits that raise, which needs the host's root, or those that
// lower, which comes late: the launch itself must not run into them.
func (l *launch) setLimits(lowers bool) {
	for _, x := range l.limits {
		if x.lowers == lowers {
			l.b.Setrlimit(x.number, x.soft, x.hard, x.name)
		}
	}
}
