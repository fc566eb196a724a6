package conductor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"novaagent/engine/errdefs"
	"novaagent/nova-agent/objects"
	"novaagent/nova-agent/rpc"
	testcloud "novaagent/tests/cloud"
)

// cloud is the conductor of a real control plane, asked for a host that only this
// test knows.
type cloud struct {
	*Client
	ctx context.Context
	t   *testing.T
}

// openCloud connects to the cloud under test as its nova-compute would.
func openCloud(t *testing.T) *cloud {
	t.Helper()
	options := rpc.DefaultOptions()
	options.TransportURL = testcloud.TransportURL(t)
	bus, err := rpc.New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := bus.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(rpc.WithRequestContext(context.Background(), rpc.NewAdminContext()), 2*time.Minute)
	t.Cleanup(cancel)
	c := &cloud{Client: New(bus, "conductor-test-"+uuid.NewString()[:8]), ctx: ctx, t: t}
	if err := c.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *cloud) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cloud) mustBe(err, want error) {
	c.t.Helper()
	if !errors.Is(err, want) {
		c.t.Errorf("got %v, want %v", err, want)
	}
}

func TestServiceAndNode(t *testing.T) {
	defer goleak.VerifyNone(t)
	t.Run("live", func(t *testing.T) {
		c := openCloud(t)
		testService(c)
		testComputeNode(c)
	})
}

func testService(c *cloud) {
	ctx, t := c.ctx, c.t
	_, err := c.Service(ctx)
	c.mustBe(err, errdefs.ErrNotFound)
	_, err = c.ServiceByComputeHost(ctx, c.Host())
	c.mustBe(err, ErrComputeHostNotFound)
	// 64 is what Nova 26 announces; a cluster of a later release wants more.
	version := 64
	if lowest, err := c.MinimumServiceVersion(ctx, Binary); err != nil {
		t.Fatal(err)
	} else if lowest > version {
		version = lowest
	}
	record := func() *objects.Service {
		return &objects.Service{
			Host: objects.Of(c.Host()), Binary: objects.Of(Binary), Topic: objects.Of("compute"),
			ReportCount: objects.Of(int64(0)), Version: objects.Of(int64(version)),
		}
	}
	s := record()
	c.must(c.CreateService(ctx, s))
	defer func() { c.must(c.DestroyService(ctx, s)) }()
	if !s.ID.IsSet() || s.UUID.Value() == "" || len(objects.Changes(s)) > 0 {
		t.Errorf("id %d, uuid %q, changes %v", s.ID.Value(), s.UUID.Value(), objects.Changes(s))
	}
	err = c.CreateService(ctx, record())
	if !errors.Is(err, ErrServiceBinaryExists) && !errors.Is(err, ErrServiceTopicExists) {
		t.Errorf("a second record: %v", err)
	}
	s.ReportCount.Set(1)
	c.must(c.SaveService(ctx, s))
	if s.LastSeenUp.Value().IsZero() {
		t.Error("the sign of life was not noted")
	}
	again, err := c.Service(ctx)
	c.must(err)
	if again.UUID.Value() != s.UUID.Value() || again.ReportCount.Value() != 1 {
		t.Errorf("read back %s with count %d", again.UUID.Value(), again.ReportCount.Value())
	}
	again.Version.Set(1)
	c.mustBe(c.SaveService(ctx, again), ErrServiceTooOld)
	if !again.Version.Changed() {
		t.Error("a refused save reset the changes")
	}
}

func testComputeNode(c *cloud) {
	ctx, t := c.ctx, c.t
	_, err := c.ComputeNode(ctx, c.Host())
	c.mustBe(err, ErrComputeHostNotFound)
	_, err = c.ComputeNodes(ctx)
	c.mustBe(err, ErrComputeHostNotFound)
	n := &objects.ComputeNode{
		Host: objects.Of(c.Host()), HypervisorHostname: objects.Of(c.Host()), HypervisorType: objects.Of("docker"),
		HypervisorVersion: objects.Of(int64(1)), VCPUs: objects.Of(int64(2)), VCPUsUsed: objects.Of(int64(0)),
		MemoryMB: objects.Of(int64(1024)), MemoryMBUsed: objects.Of(int64(0)), LocalGB: objects.Of(int64(10)), LocalGBUsed: objects.Of(int64(0)),
		CPUInfo: objects.Of("{}"), HostIP: objects.Of("192.0.2.1"),
		SupportedHVSpecs:   objects.Of([]*objects.HVSpec{{Arch: objects.Of("x86_64"), HVType: objects.Of("docker"), VMMode: objects.Of("exe")}}),
		CPUAllocationRatio: objects.Of(4.0), RAMAllocationRatio: objects.Of(1.0), DiskAllocationRatio: objects.Of(1.0),
		// So that no scheduler maps a host that is about to vanish.
		Mapped: objects.Of(int64(1)),
	}
	c.must(c.CreateComputeNode(ctx, n))
	destroyed := false
	defer func() {
		if !destroyed {
			c.must(c.DestroyComputeNode(ctx, n))
		}
	}()
	n.Stats.Set(map[string]*string{"failed_builds": objects.Ptr("0"), "nothing": nil})
	n.FreeDiskGB.Set(10)
	c.must(c.SaveComputeNode(ctx, n))
	for what, read := range map[string]func() (*objects.ComputeNode, error){
		"by name":     func() (*objects.ComputeNode, error) { return c.ComputeNode(ctx, c.Host()) },
		"by uuid":     func() (*objects.ComputeNode, error) { return c.ComputeNodeByUUID(ctx, n.UUID.Value()) },
		"by nodename": func() (*objects.ComputeNode, error) { return c.ComputeNodeByNodename(ctx, c.Host()) },
		"first":       func() (*objects.ComputeNode, error) { return c.FirstComputeNode(ctx, c.Host()) },
		"all": func() (*objects.ComputeNode, error) {
			list, err := c.Replica().ComputeNodes(ctx)
			if err == nil && len(list) != 1 {
				err = fmt.Errorf("%d nodes", len(list))
			}
			return append(list, nil)[0], err
		},
		"by uuids": func() (*objects.ComputeNode, error) {
			list, err := c.ComputeNodesByUUIDs(ctx, []string{n.UUID.Value()})
			if err == nil && len(list) != 1 {
				err = fmt.Errorf("%d nodes", len(list))
			}
			return append(list, nil)[0], err
		},
	} {
		got, err := read()
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if got.ID.Value() != n.ID.Value() || *got.Stats.Value()["failed_builds"] != "0" || got.SupportedHVSpecs.Value()[0].HVType.Value() != "docker" {
			t.Errorf("%s: got %+v", what, got)
		}
	}
	if devices, err := c.PCIDevices(ctx, n.ID.Value()); err != nil || len(devices.Objects.Value()) > 0 {
		t.Errorf("PCI devices: %v, %v", devices, err)
	}
	c.must(c.DestroyComputeNode(ctx, n))
	destroyed = true
	_, err = c.ComputeNodeByUUID(ctx, n.UUID.Value())
	c.mustBe(err, ErrComputeHostNotFound)
}

func TestNothingThere(t *testing.T) {
	c := openCloud(t)
	ctx, id := c.ctx, uuid.NewString()
	for what, err := range map[string]error{
		"instances":   second(c.InstancesByHost(ctx, "info_cache", "metadata", "numa_topology")),
		"replica":     second(c.Replica().InstancesByHost(ctx, []string{}...)),
		"by node":     second(c.InstancesByHostAndNode(ctx, c.Host(), "system_metadata", "numa_topology", "flavor", "migration_context", "resources")),
		"by filters":  second(c.InstancesByFilters(ctx, map[string]any{"host": c.Host(), "deleted": true, "uuid": []string{id}})),
		"uuids":       second(c.InstanceUUIDsByHost(ctx)),
		"migrations":  second(c.MigrationsInProgress(ctx, c.Host())),
		"unfinished":  second(c.MigrationsUnfinished(ctx, c.Host())),
		"filtered":    second(c.MigrationsByFilters(ctx, map[string]any{"host": c.Host(), "status": []string{"done"}, "migration_type": "evacuation"})),
		"unconfirmed": second(c.UnconfirmedMigrations(ctx, time.Hour)),
		"disks":       second(c.BlockDeviceMappings(ctx, id)),
		"ports":       second(c.VirtualInterfaces(ctx, id)),
		"port delete": c.DeleteVirtualInterfaces(ctx, id),
		"pci":         second(c.PCIDevicesByInstance(ctx, id)),
		"consoles":    c.CleanConsoleAuths(ctx, id),
		"expired":     c.CleanExpiredConsoleAuths(ctx),
		"tell":        c.UpdateInstanceInfo(ctx),
		"forget":      c.DeleteInstanceInfo(ctx, id),
		"sync":        c.SyncInstanceInfo(ctx, nil),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for want, err := range map[error]error{
		ErrInstanceNotFound:      second(c.InstanceByUUID(ctx, id)),
		ErrInfoCacheNotFound:     second(c.InfoCache(ctx, id)),
		ErrActionNotFound:        c.EventStart(ctx, id, "compute_start_instance"),
		ErrVolumeBDMNotFound:     second(c.BlockDeviceMapping(ctx, id, id)),
		ErrMigrationNotFound:     second(c.MigrationByStatus(ctx, id, "finished")),
		ErrInstanceGroupNotFound: second(c.InstanceGroupByUUID(ctx, id)),
	} {
		if !errors.Is(err, want) || !IsNotFound(err) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	for what, err := range map[string]error{
		"port":        second(c.VirtualInterface(ctx, id)),
		"audit":       second(c.TaskLog(ctx, "instance_usage_audit", time.Now().Add(-time.Hour), time.Now())),
		"resources":   second(c.Resources(ctx, id)),
		"of instance": second(c.MigrationOfInstance(ctx, 1<<30, id)),
	} {
		if !IsNotFound(err) {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

// newInstance stores an instance that no API knows, and removes it in the end.
func newInstance(c *cloud) *objects.Instance {
	c.t.Helper()
	flavor := &objects.Flavor{
		ID: objects.Of(int64(1)), Name: objects.Of("test"), MemoryMB: objects.Of(int64(64)), VCPUs: objects.Of(int64(1)),
		RootGB: objects.Of(int64(1)), EphemeralGB: objects.Of(int64(0)), FlavorID: objects.Of("t"), Swap: objects.Of(int64(0)),
		RXTXFactor: objects.Of(1.0), VCPUWeight: objects.Of(int64(0)), Disabled: objects.Of(false), IsPublic: objects.Of(true),
		ExtraSpecs: objects.Of(map[string]string{"quota:pids": "100"}),
	}
	objects.ResetChanges(flavor) // or the database would keep them
	i := &objects.Instance{
		UUID: objects.Of(uuid.NewString()), ProjectID: objects.Of("conductor-test"), UserID: objects.Of("conductor-test"),
		VMState: objects.Of("building"), TaskState: objects.Of("spawning"), DisplayName: objects.Of("naïve ☃"),
		Hostname: objects.Of("naive"), Host: objects.Of(c.Host()), Node: objects.Of(c.Host()),
		MemoryMB: objects.Of(int64(64)), VCPUs: objects.Of(int64(1)), RootGB: objects.Of(int64(1)), EphemeralGB: objects.Of(int64(0)),
		InstanceTypeID: objects.Of(int64(1)), Metadata: objects.Of(map[string]string{}), SystemMetadata: objects.Of(map[string]*string{}),
		Flavor: objects.Of(flavor),
	}
	i.OldFlavor.SetNull()
	i.NewFlavor.SetNull()
	c.must(c.act(c.ctx, i, "create"))
	c.t.Cleanup(func() {
		if err := c.DestroyInstance(c.ctx, i); err != nil && !errors.Is(err, ErrInstanceNotFound) {
			c.t.Error(err)
		}
	})
	return i
}

func TestInstanceLife(t *testing.T) {
	c := openCloud(t)
	ctx, i := c.ctx, newInstance(c)
	id := i.UUID.Value()

	// Expectations: what is, what is not, null within the list, and no list.
	i.TaskState.Set("networking")
	c.must(c.SaveInstance(ctx, i, SaveOptions{TaskState: Expect("", "spawning"), VMState: Expect("building")}))
	i.TaskState.Set("spawning")
	err := c.SaveInstance(ctx, i, SaveOptions{TaskState: Expect("")})
	c.mustBe(err, ErrUnexpectedTaskState)
	c.mustBe(err, errdefs.ErrConflict)
	if IsDeleting(err) || !i.TaskState.Changed() {
		t.Errorf("refused save: deleting %v, changes %v", IsDeleting(err), objects.Changes(i))
	}
	var failure *Failure
	if !errors.As(err, &failure) || string(failure.Remote.Kwargs["actual"]) == "" {
		t.Errorf("no states in %v", err)
	}
	i.TaskState.SetNull()
	i.VMState.Set("active")
	i.PowerState.Set(1)
	i.LaunchedAt.Set(time.Now())
	objects.Put(&i.SystemMetadata, "a", objects.Ptr("b"))
	objects.Put(&i.SystemMetadata, "none", nil)
	c.must(c.SaveInstance(ctx, i, SaveOptions{TaskState: nil}))
	i.PowerState.Set(4)
	c.must(c.SaveInstance(ctx, i, SaveOptions{TaskState: Expect("")}))
	// Nova's answer has ec2_ids as it made them, and it takes extra specs for
	// changed wherever there are any.
	if changes := objects.Changes(i); !slices.Equal(changes, []string{"flavor", "ec2_ids"}) {
		t.Errorf("changes after save: %v", changes)
	}

	// The network information, saved by itself and then with the instance.
	model, err := objects.NewNetworkModel([]any{map[string]any{"id": "p", "type": "bridge", "network": nil, "address": "fa:16:3e:00:00:01"}})
	c.must(err)
	c.must(c.SaveNetworkInfo(ctx, i, model))
	if cache, _ := i.InfoCache.Get(); len(objects.Changes(cache)) > 0 || !i.InfoCache.Changed() {
		t.Errorf("the copy in the instance is not clean: %v", objects.Changes(cache))
	}
	c.must(c.SaveInstance(ctx, i, SaveOptions{}))
	cache, err := c.InfoCache(ctx, id)
	c.must(err)
	var vifs []struct{ ID string }
	if err := cache.NetworkInfo.Value().Decode(&vifs); err != nil || len(vifs) != 1 || vifs[0].ID != "p" {
		t.Errorf("network information %q, %v", cache.NetworkInfo.Value(), err)
	}
	c.must(c.RefreshInfoCache(ctx, cache))

	// Lazy loads.
	bare := &objects.Instance{}
	bare.UUID.Load(id)
	c.must(c.LoadInstance(ctx, bare, "flavor", "system_metadata", "info_cache", "tags", "host"))
	flavor, _ := bare.Flavor.Get()
	if flavor.ExtraSpecs.Value()["quota:pids"] != "100" || *bare.SystemMetadata.Value()["a"] != "b" || bare.Host.Value() != c.Host() || bare.Flavor.Changed() {
		t.Errorf("loaded %v, changes %v", flavor.ExtraSpecs.Value(), objects.Changes(bare))
	}
	list, err := c.InstancesByHost(ctx, "flavor")
	c.must(err)
	if len(list) != 1 || list[0].DisplayName.Value() != "naïve ☃" {
		t.Errorf("%d instances on the host", len(list))
	}
	uuids, err := c.InstanceUUIDsByHost(ctx)
	c.must(err)
	if len(uuids) != 1 || uuids[0] != id {
		t.Errorf("uuids %v", uuids)
	}
	c.must(c.RefreshInstance(ctx, i))

	// What hangs on it.
	testBelongings(c, id)

	// Conductor rewrites what it is given.
	raw, err := json.Marshal(i)
	c.must(err)
	o, err := c.DecodeKnown(ctx, raw)
	c.must(err)
	older, err := c.Backport(ctx, raw)
	c.must(err)
	rewritten, err := objects.As[objects.Instance](older)
	c.must(err)
	if rewritten.UUID.Value() != id || o.(*objects.Instance).UUID.Value() != id {
		t.Errorf("rewritten is %s", rewritten.UUID.Value())
	}

	// Deleting: the state that a user's request leaves.
	i.TaskState.Set("deleting")
	c.must(c.SaveInstance(ctx, i, SaveOptions{}))
	i.TaskState.SetNull()
	err = c.SaveInstance(ctx, i, SaveOptions{TaskState: Expect("")})
	c.mustBe(err, ErrUnexpectedDeletingState)
	c.mustBe(err, ErrInstanceUpdateConflict)
	if !IsDeleting(err) {
		t.Errorf("not seen as deleting: %v", err)
	}
	c.must(c.DestroyInstance(ctx, i))
	if !i.Deleted.Value() || i.DeletedAt.Value().IsZero() {
		t.Error("not marked deleted")
	}
	_, err = c.InstanceByUUID(ctx, id)
	c.mustBe(err, ErrInstanceNotFound)
	gone, err := c.InstancesByFilters(rpc.WithRequestContext(ctx, rpc.NewAdminContext().ReadDeleted("yes")),
		map[string]any{"deleted": true, "host": c.Host()})
	c.must(err)
	if len(gone) != 1 || gone[0].UUID.Value() != id {
		t.Errorf("%d deleted instances", len(gone))
	}
}

func testBelongings(c *cloud, id string) {
	ctx, t := c.ctx, c.t
	c.must(c.CreateFault(ctx, id, 500, "é"+string(make([]byte, 300)), "details"))

	port := uuid.NewString()
	v := NewVirtualInterface(id, port, "fa:16:3e:00:00:01", "")
	c.must(c.CreateVirtualInterface(ctx, v))
	read, err := c.VirtualInterface(ctx, port)
	c.must(err)
	ports, err := c.VirtualInterfaces(ctx, id)
	c.must(err)
	if read.ID.Value() != v.ID.Value() || len(ports) != 1 {
		t.Errorf("%d ports", len(ports))
	}
	c.must(c.DestroyVirtualInterface(ctx, v))

	volume := uuid.NewString()
	b := &objects.BlockDeviceMapping{
		InstanceUUID: objects.Of(id), VolumeID: objects.Of(volume), SourceType: objects.Of("volume"), DestinationType: objects.Of("volume"),
		DeviceName: objects.Of("/dev/vdb"), DeleteOnTermination: objects.Of(false), VolumeSize: objects.Of(int64(1)),
	}
	c.must(c.CreateBlockDeviceMapping(ctx, b))
	b.ConnectionInfo.Set(`{"driver_volume_type": "rbd"}`)
	c.must(c.SaveBlockDeviceMapping(ctx, b))
	same, err := c.BlockDeviceMapping(ctx, volume, id)
	c.must(err)
	all, err := c.BlockDeviceMappings(ctx, id)
	c.must(err)
	if same.ConnectionInfo.Value() != b.ConnectionInfo.Value() || len(all.Objects.Value()) != 1 {
		t.Errorf("%d disks", len(all.Objects.Value()))
	}
	c.must(c.DestroyBlockDeviceMapping(ctx, b))

	console := &objects.ConsoleAuthToken{
		ConsoleType: objects.Of("novnc"), Host: objects.Of(c.Host()), Port: objects.Of(int64(1)),
		InstanceUUID: objects.Of(id), AccessURLBase: objects.Of("http://192.0.2.1/"),
	}
	console.InternalAccessPath.SetNull()
	token, err := c.AuthorizeConsole(ctx, console, time.Minute)
	c.must(err)
	if token == "" || console.Token.Value() != token {
		t.Errorf("token %q, in the object %q", token, console.Token.Value())
	}
	c.must(c.CleanConsoleAuths(ctx, id))
}
