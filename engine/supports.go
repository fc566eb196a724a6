package engine

import (
	"novaagent/engine/kernel"
	"novaagent/engine/runtime"
)

// Limit is a limit that some hosts cannot set.
type Limit = runtime.Limit

// The limits that Supports knows.
const (
	LimitSwappiness   = runtime.LimitSwappiness
	LimitOOMKill      = runtime.LimitOOMKill
	LimitBlkioWeight  = runtime.LimitBlkioWeight
	LimitBlkioDevices = runtime.LimitBlkioDevices
	LimitBlkioRates   = runtime.LimitBlkioRates
	LimitRealtime     = runtime.LimitRealtime
)

// Supports tells whether this host's cgroups have a limit.
func (e *Engine) Supports(l Limit) bool { return e.runtime.Supports(l) }

// Withheld are the capabilities that a privileged container does not get on this host, since the agent has them not.
func Withheld() []string {
	var out []string
	for i, name := range runtime.Capabilities() {
		if i <= kernel.LastCapability() && !kernel.HasCapability(i) {
			out = append(out, name)
		}
	}
	return out
}
