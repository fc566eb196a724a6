package compute

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/google/uuid"

	"novaagent/engine/errdefs"
	"novaagent/nova-agent/conductor"
	"novaagent/nova-agent/objects"
	"novaagent/nova-agent/placement"
)

// tracker keeps the record of this compute node and its resource provider
// (nova/compute/resource_tracker.py). lock is held around every claim and update, in
// the order of arrival, as Nova's COMPUTE_RESOURCE_SEMAPHORE is.
type tracker struct {
	m    *Manager
	lock fairLock

	// The following are guarded by lock.
	uuid    string // of the node and of the provider
	node    *objects.ComputeNode
	ledger  *ledger
	claimed map[string]bool // builds that are not in Nova's list of this host yet
	direct  reserved        // what others than instances take
	// kick asks for an update soon; it holds one request at most.
	kick chan struct{}
}

func newTracker(m *Manager) *tracker {
	return &tracker{m: m, ledger: newLedger(), claimed: map[string]bool{}, kick: make(chan struct{}, 1)}
}

// identify finds out the node's UUID: the file compute_id if there is one, else what Nova has
// for this host and node (a nova-compute was here before), else a new one. A file and
// a record that differ are two nodes, and the operator must say which.
func (t *tracker) identify(ctx context.Context) error {
	path := filepath.Join(t.m.opts.StateDir, "compute_id")
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("compute node identity: %v: %w", err, errdefs.ErrInvalid)
	}
	stored := strings.TrimSpace(string(text))
	if stored != "" {
		if _, err := uuid.Parse(stored); err != nil {
			return fmt.Errorf("compute node identity: %s holds %q, which is no UUID: %w", path, stored, errdefs.ErrInvalid)
		}
	}
	known := ""
	node, err := t.m.conductor.ComputeNode(ctx, t.m.opts.NodeName)
	switch {
	case err == nil:
		known = node.UUID.Value()
		t.node = node
		t.ledger.failedBuilds = failedBuildsOf(plainStats(node))
	case !errors.Is(err, conductor.ErrComputeHostNotFound):
		return fmt.Errorf("compute node %s: %w", t.m.opts.NodeName, err)
	}
	switch {
	case stored != "" && known != "" && stored != known:
		return fmt.Errorf("compute node identity: %s says %s, but Nova knows node %s of host %s as %s. Was this host renamed, or its state copied from another? Correct the file or delete the record: %w",
			path, stored, t.m.opts.NodeName, t.m.opts.Host, known, errdefs.ErrConflict)
	case stored != "":
		t.uuid = stored
		return nil
	case known != "":
		t.uuid = known
	default:
		t.uuid = uuid.NewString()
	}
	return writeFile(path, t.uuid+"\n")
}

// writeFile replaces a small file durably.
func writeFile(path, text string) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	if _, err := tmp.WriteString(text); err != nil {
		return errors.Join(err, tmp.Close())
	}
	if err := errors.Join(tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// claim takes a build into account before it is recorded in Nova. The scheduler has claimed
// in Placement what it needs, so there is nothing to refuse but another node's name.
func (t *tracker) claim(ctx context.Context, inst *objects.Instance, node string) error {
	if node != "" && node != t.m.opts.NodeName {
		return &Exception{Class: classResourcesUnavailable, Kind: errdefs.ErrExhausted,
			Message: fmt.Sprintf("Insufficient compute resources: node %s is not on host %s.", node, t.m.opts.Host)}
	}
	unlock, err := t.lock.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	t.claimed[inst.UUID.Value()] = true
	t.ledger.set(trackedOf(inst))
	return nil
}

// settle takes in what became of an instance: here as it is now, or gone. The record is
// written by the next update, which is asked for.
func (t *tracker) settle(ctx context.Context, inst *objects.Instance, here bool) {
	unlock, err := t.lock.lock(ctx)
	if err != nil {
		return // the periodic update will see
	}
	defer unlock()
	id := inst.UUID.Value()
	delete(t.claimed, id)
	if here {
		t.ledger.set(trackedOf(inst))
	} else {
		t.ledger.remove(id)
	}
	t.soon()
}

// built notes the outcome of a build for the scheduler's BuildFailureWeigher.
func (t *tracker) built(ctx context.Context, failed bool) {
	unlock, err := t.lock.lock(ctx)
	if err != nil {
		return
	}
	defer unlock()
	if failed {
		t.ledger.failedBuilds++
	} else {
		t.ledger.failedBuilds = 0
	}
	t.soon()
}

func (t *tracker) soon() {
	select {
	case t.kick <- struct{}{}:
	default:
	}
}

// update counts the instances anew if asked to, and writes what has changed: first the
// node, then Placement, whose absence stops nothing.
func (t *tracker) update(ctx context.Context, recount bool) error {
	direct := t.m.direct.measure(ctx) // before claims have to wait
	unlock, err := t.lock.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	t.direct = direct
	if err := t.ensureNode(ctx); err != nil {
		return err
	}
	if recount {
		here, err := t.m.conductor.InstancesByHostAndNode(ctx, t.m.opts.NodeName,
			"system_metadata", "numa_topology", "flavor", "migration_context", "resources")
		if err != nil {
			return err
		}
		list := make([]tracked, 0, len(here))
		for _, i := range here {
			list = append(list, trackedOf(i))
		}
		t.ledger.replace(list, t.claimed)
	}
	if err := t.saveNode(ctx); err != nil {
		return err
	}
	if err := t.syncProvider(ctx); err != nil {
		t.m.log.WarnContext(ctx, "Placement was not brought up to date", "error", err)
	}
	return nil
}

// ensureNode finds the record, or creates it.
func (t *tracker) ensureNode(ctx context.Context) error {
	if t.node == nil {
		node, err := t.m.conductor.ComputeNode(ctx, t.m.opts.NodeName)
		if err != nil && !errors.Is(err, conductor.ErrComputeHostNotFound) {
			return err
		}
		t.node = node
	}
	if t.node != nil {
		return nil
	}
	n := &objects.ComputeNode{}
	n.Host.Set(t.m.opts.Host)
	n.HypervisorHostname.Set(t.m.opts.NodeName)
	n.UUID.Set(t.uuid)
	if err := t.describe(n); err != nil {
		return err
	}
	o := t.m.opts
	n.CPUAllocationRatio.Set(first(o.CPURatio, o.InitialCPURatio))
	n.RAMAllocationRatio.Set(first(o.RAMRatio, o.InitialRAMRatio))
	n.DiskAllocationRatio.Set(first(o.DiskRatio, o.InitialDiskRatio))
	t.use(n)
	if err := t.m.conductor.CreateComputeNode(ctx, n); err != nil {
		return err
	}
	t.node = n
	return nil
}

func first(values ...float64) float64 {
	for _, v := range values {
		if v > 0 {
			return v
		}
	}
	return 1
}

// saveNode writes what changed of the node: what the machine has, and what is used of it.
func (t *tracker) saveNode(ctx context.Context) error {
	if err := t.describe(t.node); err != nil {
		return err
	}
	t.use(t.node)
	if len(objects.Changes(t.node)) == 0 {
		return nil
	}
	if err := t.m.conductor.SaveComputeNode(ctx, t.node); err != nil {
		t.node = nil // read anew next time
		return err
	}
	return nil
}

// put sets a field that holds something else; setting marks it changed.
func put[T comparable](f *objects.Field[T], v T) {
	if f.IsSet() && !f.IsNull() && f.Value() == v {
		return
	}
	f.Set(v)
}

// hypervisorType is free text in Nova; that of both ends of a live migration must be equal.
const hypervisorType = "docker"

// novaArch is Nova's name of this machine's architecture (nova/objects/fields.py, Architecture).
var novaArch = map[string]string{
	"amd64": "x86_64", "arm64": "aarch64", "ppc64le": "ppc64le", "s390x": "s390x", "riscv64": "riscv64",
}[runtime.GOARCH]

// hvTypes are what an image may ask for with img_hv_type to land here.
var hvTypes = []string{"docker", "lxc"}

// describe writes what the machine is and has.
func (t *tracker) describe(n *objects.ComputeNode) error {
	memoryMB, err := machineMemoryMB()
	if err != nil {
		return err
	}
	totalGB, freeGB, err := diskGB(t.m.opts.StateDir)
	if err != nil {
		return err
	}
	cpus := int64(runtime.NumCPU())
	put(&n.VCPUs, cpus)
	put(&n.MemoryMB, memoryMB)
	put(&n.LocalGB, totalGB)
	put(&n.DiskAvailableLeast, freeGB)
	put(&n.HypervisorType, hypervisorType)
	put(&n.HypervisorVersion, t.m.opts.Version)
	put(&n.HostIP, t.m.opts.MyIP)
	put(&n.Metrics, "[]")
	if !n.NUMATopology.IsNull() {
		n.NUMATopology.SetNull()
	}
	info, err := json.Marshal(map[string]any{"arch": novaArch, "model": "", "vendor": "", "features": []string{},
		"topology": map[string]any{"sockets": 1, "cores": cpus, "threads": 1}})
	if err != nil {
		return err
	}
	put(&n.CPUInfo, string(info))
	if n.SupportedHVSpecs.IsSet() && n.HypervisorType.Value() == hypervisorType && len(n.SupportedHVSpecs.Value()) == len(hvTypes) {
		return nil
	}
	var specs []*objects.HVSpec
	for _, kind := range hvTypes {
		s := &objects.HVSpec{}
		s.Arch.Load(novaArch)
		s.HVType.Load(kind)
		s.VMMode.Load("exe")
		specs = append(specs, s)
	}
	n.SupportedHVSpecs.Set(specs)
	pools := &objects.PciDevicePoolList{}
	pools.Objects.Load([]*objects.PciDevicePool{})
	n.PCIDevicePools.Set(pools)
	return nil
}

// use writes what the instances take.
func (t *tracker) use(n *objects.ComputeNode) {
	u := t.ledger.totals(t.reserved())
	put(&n.VCPUsUsed, int64(u.vcpusUsed))
	put(&n.MemoryMBUsed, int64(u.memoryMBUsed))
	put(&n.LocalGBUsed, int64(u.localGBUsed))
	put(&n.FreeRAMMB, n.MemoryMB.Value()-int64(u.memoryMBUsed))
	put(&n.FreeDiskGB, n.LocalGB.Value()-int64(u.localGBUsed))
	put(&n.RunningVms, int64(u.runningVMs))
	put(&n.CurrentWorkload, int64(u.workload))
	stats := map[string]*string{}
	for k, v := range t.ledger.stats() {
		stats[k] = objects.Ptr(v)
	}
	if !maps.Equal(plainStats(n), t.ledger.stats()) {
		n.Stats.Set(stats)
	}
}

func plainStats(n *objects.ComputeNode) map[string]string {
	out := map[string]string{}
	for k, v := range n.Stats.Or(nil) {
		if v != nil {
			out[k] = *v
		}
	}
	return out
}

// reserved is what instances cannot have: the operator's part, and what containers and volumes
// of the Docker API take.
func (t *tracker) reserved() reserved {
	o, d := t.m.opts, t.direct
	return reserved{vcpus: o.ReservedCPUs + d.vcpus, memoryMB: o.ReservedMemoryMB + d.memoryMB, diskMB: o.ReservedDiskMB + d.diskMB}
}

// capabilityTraits are those that Nova's computes set or take away by what their driver can
// (nova/virt/driver.py, CAPABILITY_TRAITS_MAP). True: nova-agent has it.
var capabilityTraits = map[string]bool{
	"COMPUTE_NODE":                          true,
	"COMPUTE_NET_ATTACH_INTERFACE":          true,
	"COMPUTE_IMAGE_TYPE_RAW":                true,
	"COMPUTE_DEVICE_TAGGING":                false,
	"COMPUTE_NET_ATTACH_INTERFACE_WITH_TAG": false,
	"COMPUTE_VOLUME_ATTACH_WITH_TAG":        false,
	"COMPUTE_VOLUME_EXTEND":                 false,
	"COMPUTE_VOLUME_MULTI_ATTACH":           false,
	"COMPUTE_SAME_HOST_COLD_MIGRATE":        false,
	"COMPUTE_RESCUE_BFV":                    false,
	"COMPUTE_TRUSTED_CERTS":                 false,
	"COMPUTE_ACCELERATORS":                  false,
	"COMPUTE_SECURITY_UEFI_SECURE_BOOT":     false,
	"COMPUTE_REMOTE_MANAGED_PORTS":          false,
	"COMPUTE_SOCKET_PCI_NUMA_AFFINITY":      false,
	"COMPUTE_IMAGE_TYPE_AKI":                false,
	"COMPUTE_IMAGE_TYPE_AMI":                false,
	"COMPUTE_IMAGE_TYPE_ARI":                false,
	"COMPUTE_IMAGE_TYPE_ISO":                false,
	"COMPUTE_IMAGE_TYPE_QCOW2":              false,
	"COMPUTE_IMAGE_TYPE_VDI":                false,
	"COMPUTE_IMAGE_TYPE_VHD":                false,
	"COMPUTE_IMAGE_TYPE_VHDX":               false,
	"COMPUTE_IMAGE_TYPE_VMDK":               false,
	"COMPUTE_IMAGE_TYPE_PLOOP":              false,
	traitDisabled:                           false, // set below if the service is
}

const traitDisabled = "COMPUTE_STATUS_DISABLED"

// syncProvider makes Placement's provider what the node is.
func (t *tracker) syncProvider(ctx context.Context) error {
	service, err := t.m.conductor.ServiceByComputeHost(ctx, t.m.opts.Host)
	if err != nil && !conductor.IsNotFound(err) {
		return err
	}
	n, r, o := t.node, t.reserved(), t.m.opts
	inventory := func(total int64, reserved int) placement.Inventory {
		return placement.Inventory{Total: int(total), Reserved: min(reserved, int(total)), MinUnit: 1, MaxUnit: int(total), StepSize: 1}
	}
	node := placement.Node{
		UUID: n.UUID.Value(), Name: t.m.opts.NodeName,
		Inventories: map[string]placement.Inventory{
			"VCPU":      inventory(n.VCPUs.Value(), r.vcpus),
			"MEMORY_MB": inventory(n.MemoryMB.Value(), r.memoryMB),
			"DISK_GB":   inventory(n.LocalGB.Value(), (r.diskMB+1023)/1024),
		},
		Ratios: map[string]placement.Ratio{
			"VCPU":      {Configured: o.CPURatio, Initial: o.InitialCPURatio},
			"MEMORY_MB": {Configured: o.RAMRatio, Initial: o.InitialRAMRatio},
			"DISK_GB":   {Configured: o.DiskRatio, Initial: o.InitialDiskRatio},
		},
	}
	for trait, have := range capabilityTraits {
		node.Managed = append(node.Managed, trait)
		if have || trait == traitDisabled && service != nil && service.Disabled.Or(false) {
			node.Traits = append(node.Traits, trait)
		}
	}
	ratios, err := t.m.placement.Sync(ctx, node)
	if err != nil {
		return err
	}
	// The node's record tells the ratios in force, for those who read it.
	changed := false
	for class, field := range map[string]*objects.Field[float64]{
		"VCPU": &n.CPUAllocationRatio, "MEMORY_MB": &n.RAMAllocationRatio, "DISK_GB": &n.DiskAllocationRatio} {
		if ratios[class] > 0 && field.Or(0) != ratios[class] {
			field.Set(ratios[class])
			changed = true
		}
	}
	if changed {
		return t.m.conductor.SaveComputeNode(ctx, n)
	}
	return nil
}

// machineMemoryMB is the memory of this machine in MiB.
func machineMemoryMB() (int64, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("memory of this machine: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("memory of this machine: %w", err)
			}
			return kb / 1024, nil
		}
	}
	return 0, fmt.Errorf("memory of this machine: no MemTotal in /proc/meminfo: %w", errdefs.ErrUnsupported)
}

// diskGB is the size and the free part of the file system that containers are on, in GiB.
func diskGB(path string) (total, free int64, err error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return 0, 0, fmt.Errorf("disk of %s: %w", path, err)
	}
	size := int64(s.Bsize)
	return int64(s.Blocks) * size >> 30, int64(s.Bavail) * size >> 30, nil
}

// provider is the UUID of the node's resource provider.
func (t *tracker) provider() string { return t.uuid }

// known are the instances that the tracker counts: recorded here, or being built.
func (t *tracker) known(ctx context.Context) (map[string]bool, error) {
	unlock, err := t.lock.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	known := map[string]bool{}
	for uuid := range t.ledger.instances {
		known[uuid] = true
	}
	for uuid := range t.claimed {
		known[uuid] = true
	}
	return known, nil
}
