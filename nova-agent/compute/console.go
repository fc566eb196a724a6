package compute

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"novaagent/engine"
	"novaagent/engine/errdefs"
	"novaagent/nova-agent/objects"
)

// maxConsole bounds the console log that one call gets, in bytes.
const maxConsole = 1 << 20

// consoleOutput is the last lines of the console log, of a stopped container too. How the
// process ended is its last line then.
func (m *Manager) consoleOutput(ctx context.Context, c *call) (any, error) {
	uuid := c.inst.UUID.Value()
	lines, err := tailLength(c.args)
	if err != nil {
		return nil, err
	}
	container, err := m.engine.Inspect(containerID(uuid))
	var text string
	if err == nil {
		text, err = m.engine.LogTail(ctx, containerID(uuid), lines)
	}
	if err != nil {
		if errors.Is(err, errdefs.ErrNotFound) && c.inst.VMState.Or("") == vmBuilding {
			return nil, &Exception{Class: "InstanceNotReady", Code: 409, Kind: errdefs.ErrConflict,
				Message: fmt.Sprintf("Instance %s is not ready", uuid)}
		}
		return nil, &Exception{Class: "ConsoleNotAvailable", Code: 404, Kind: errdefs.ErrNotFound, Cause: err,
			Message: "Guest does not have a console available."}
	}
	return printable(text) + epilogue(container), nil
}

// epilogue tells how a process that does not run has ended.
func epilogue(c engine.Container) string {
	if c.State != engine.Stopped || c.Finished.IsZero() {
		return ""
	}
	how := "with exit code " + strconv.Itoa(c.Exit.Code)
	switch {
	case c.Exit.Lost:
		how = "and nobody saw how"
	case c.Exit.OOMKilled:
		how = "killed for want of memory, exit code " + strconv.Itoa(c.Exit.Code)
	case c.Exit.Signal != 0:
		how = "by signal " + strconv.Itoa(int(c.Exit.Signal)) + ", exit code " + strconv.Itoa(c.Exit.Code)
	}
	return "[nova-agent: the process ended " + how + " at " + c.Finished.UTC().Format("2006-01-02T15:04:05Z") + "]\n"
}

// tailLength reads the number of lines, which comes as a number, a text or null: all.
func tailLength(a *args) (int, error) {
	if a.null("tail_length") {
		return -1, nil
	}
	text := strings.Trim(string(a.raw["tail_length"]), `"`)
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, typeError("argument tail_length: %q is no number", text)
	}
	return n, nil
}

// printable is ASCII, as Nova sends it, and not longer than maxConsole.
func printable(text string) string {
	if len(text) > maxConsole {
		text = text[len(text)-maxConsole:]
	}
	return strings.Map(func(r rune) rune {
		if r > 126 || r < 32 && r != '\n' && r != '\t' && r != '\r' && r != 27 {
			return '?'
		}
		return r
	}, text)
}

// look is what both forms of diagnostics need, of a container that runs.
func (m *Manager) look(ctx context.Context, c *call) (engine.Diagnostics, error) {
	uuid := c.inst.UUID.Value()
	p := m.power(uuid)
	if p != powerRunning {
		return engine.Diagnostics{}, &Exception{Class: "InstanceInvalidState", Code: 409, Kind: errdefs.ErrConflict,
			Message: fmt.Sprintf("Instance %s in power state %s. Cannot get_diagnostics while the instance is in this state.", uuid, p)}
	}
	return m.engine.Diagnostics(ctx, containerID(uuid))
}

// diagnostics is the form before microversion 2.48: a dict of the driver's own.
func (m *Manager) diagnostics(ctx context.Context, c *call) (any, error) {
	d, err := m.look(ctx, c)
	if err != nil {
		return nil, err
	}
	object, err := m.diagnosticsObject(c, d)
	if err != nil {
		return nil, err
	}
	var primitive struct {
		Data map[string]any `json:"nova_object.data"`
	}
	text, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &primitive); err != nil {
		return nil, err
	}
	out := map[string]any{"written_bytes": d.WrittenBytes, "restarts": d.Container.Restarts, "pid": d.Container.PID}
	for key, value := range primitive.Data {
		if _, list := value.([]any); !list {
			if _, nested := value.(map[string]any); !nested {
				out[key] = value
			}
		}
	}
	for i, n := range d.Interfaces {
		prefix := "nic" + strconv.Itoa(i) + "_"
		out[prefix+"mac"], out[prefix+"rx"], out[prefix+"tx"] = n.MAC, n.RxBytes, n.TxBytes
	}
	out["memory"], out["memory_used"] = d.Stats.MemoryLimitBytes, d.Stats.MemoryBytes
	return out, nil
}

// instanceDiagnostics is the standard form.
func (m *Manager) instanceDiagnostics(ctx context.Context, c *call) (any, error) {
	d, err := m.look(ctx, c)
	if err != nil {
		return nil, err
	}
	return m.diagnosticsObject(c, d)
}

func (m *Manager) diagnosticsObject(c *call, d engine.Diagnostics) (*objects.Diagnostics, error) {
	o := &objects.Diagnostics{
		State: objects.Of("running"),
		// The enumeration knows no driver of containers but libvirt's.
		Driver:       objects.Of("libvirt"),
		Hypervisor:   objects.Of("nova-agent"),
		HypervisorOS: objects.Of(runtime.GOOS),
		ConfigDrive:  objects.Of(false),
		Uptime:       objects.Of(int64(d.Stats.At.Sub(d.Container.Started).Seconds())),
		MemoryDetails: objects.Of(&objects.MemoryDiagnostics{
			Maximum: objects.Of(int64(d.Stats.MemoryLimitBytes >> 20)), Used: objects.Of(int64(d.Stats.MemoryBytes >> 20))}),
	}
	cpus := []*objects.CpuDiagnostics{{ID: objects.Of(int64(0)), Time: objects.Of(int64(d.Stats.CPUNanos))}}
	var nics []*objects.NicDiagnostics
	for _, n := range d.Interfaces {
		nics = append(nics, &objects.NicDiagnostics{MACAddress: objects.Of(n.MAC),
			RXOctets: objects.Of(int64(n.RxBytes)), RXErrors: objects.Of(int64(n.RxErrors)), RXDrop: objects.Of(int64(n.RxDropped)), RXPackets: objects.Of(int64(n.RxPackets)),
			TXOctets: objects.Of(int64(n.TxBytes)), TXErrors: objects.Of(int64(n.TxErrors)), TXDrop: objects.Of(int64(n.TxDropped)), TXPackets: objects.Of(int64(n.TxPackets))})
	}
	disks := []*objects.DiskDiagnostics{{WriteBytes: objects.Of(d.WrittenBytes)}}
	o.CPUDetails, o.NICDetails, o.DiskDetails = objects.Of(cpus), objects.Of(nics), objects.Of(disks)
	o.NumCPUs, o.NumNICs, o.NumDisks = objects.Of(int64(len(cpus))), objects.Of(int64(len(nics))), objects.Of(int64(len(disks)))
	return o, nil
}
