package placement

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"go.uber.org/goleak"

	"novaagent/engine/errdefs"
	"novaagent/nova-agent/keystone"
	"novaagent/tests/cloud"
	"novaagent/tests/faultproxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// live is a real Placement, reached through a proxy that can fail, and without.
type live struct {
	*Client
	t      *testing.T
	ctx    context.Context
	proxy  *faultproxy.Proxy
	direct *Client
}

func openLive(t *testing.T) *live {
	t.Helper()
	l := cloud.Admin(t)
	o := keystone.Options{Region: l.Region, Credentials: keystone.Credentials{
		AuthURL: l.AuthURL, Username: l.Username, Password: l.Password, ProjectName: l.Project,
		UserDomainName: l.UserDomain, ProjectDomainName: l.ProjectDomain}}
	session := func() *keystone.Session {
		s, err := keystone.New(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return s
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	direct := session()
	url, err := direct.Endpoint(ctx, "placement")
	if err != nil {
		t.Fatal(err)
	}
	proxy := faultproxy.New(t, url)
	o.Endpoints = map[string]string{"placement": proxy.URL()}
	return &live{Client: New(session(), nil), t: t, ctx: ctx, proxy: proxy, direct: New(direct, nil)}
}

// node is a compute node that only this test knows; it goes at the end, with the
// allocations on it.
func (l *live) node() Node {
	n := Node{UUID: uuid.NewString(), Name: "placement-test-" + uuid.NewString(),
		Inventories: map[string]Inventory{
			"VCPU":      {Total: 16, MinUnit: 1, MaxUnit: 16, StepSize: 1},
			"MEMORY_MB": {Total: 64000, Reserved: 512, MinUnit: 1, MaxUnit: 64000, StepSize: 1},
			"DISK_GB":   {Total: 400, MinUnit: 1, MaxUnit: 400, StepSize: 1},
		},
		Ratios:  map[string]Ratio{"VCPU": {Initial: 16}, "MEMORY_MB": {Initial: 1.5}, "DISK_GB": {Initial: 1}},
		Traits:  []string{"COMPUTE_NODE", "COMPUTE_NET_ATTACH_INTERFACE"},
		Managed: []string{"COMPUTE_NODE", "COMPUTE_NET_ATTACH_INTERFACE", "COMPUTE_STATUS_DISABLED", "COMPUTE_RESCUE_BFV"},
	}
	l.t.Cleanup(func() {
		ctx := context.WithoutCancel(l.ctx)
		used, err := l.direct.ProviderAllocations(ctx, n.UUID)
		if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
			l.t.Error(err)
		}
		for consumer := range used {
			if err := l.direct.DeleteAllocations(ctx, consumer); err != nil {
				l.t.Error(err)
			}
		}
		if err := l.direct.DeleteProvider(ctx, n.UUID); err != nil {
			l.t.Error(err)
		}
	})
	return n
}

func (l *live) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *live) sync(n Node) map[string]float64 {
	l.t.Helper()
	ratios, err := l.Sync(l.ctx, n)
	l.must(err)
	return ratios
}

// writes are the requests since Heal that changed something.
func (l *live) writes() (found []string) {
	for _, r := range l.proxy.Seen() {
		if r.Method != http.MethodGet {
			found = append(found, r.Method+" "+r.Path)
		}
	}
	return found
}

func (l *live) traits(uuid string) []string {
	l.t.Helper()
	var have struct{ Traits []string }
	l.must(l.direct.call(l.ctx, http.MethodGet, "/resource_providers/"+uuid+"/traits", "1.6", nil, &have))
	slices.Sort(have.Traits)
	return have.Traits
}

func (l *live) inventories(uuid string) map[string]Inventory {
	l.t.Helper()
	var have struct{ Inventories map[string]Inventory }
	l.must(l.direct.call(l.ctx, http.MethodGet, "/resource_providers/"+uuid+"/inventories", "1.26", nil, &have))
	return have.Inventories
}

func (l *live) provider(uuid string) provider {
	l.t.Helper()
	var p provider
	l.must(l.direct.call(l.ctx, http.MethodGet, "/resource_providers/"+uuid, "1.14", nil, &p))
	return p
}

// allocate uses some of a node, as the scheduler does.
func (l *live) allocate(consumer, node string, r Resources) {
	l.t.Helper()
	body := map[string]any{"allocations": map[string]any{node: map[string]any{"resources": r}},
		"project_id": uuid.NewString(), "user_id": uuid.NewString(), "consumer_generation": nil, "consumer_type": "INSTANCE"}
	l.must(l.direct.call(l.ctx, http.MethodPut, "/allocations/"+consumer, "1.38", body, nil))
}

// TestSync: what is new is made, what is right stays, what differs is changed.
func TestSync(t *testing.T) {
	l := openLive(t)
	n := l.node()
	ratios := l.sync(n)
	if diff := cmp.Diff(map[string]float64{"VCPU": 16, "MEMORY_MB": 1.5, "DISK_GB": 1}, ratios); diff != "" {
		t.Error(diff)
	}
	if p := l.provider(n.UUID); p.Name != n.Name {
		t.Errorf("the provider is %+v", p)
	}
	if inv := l.inventories(n.UUID)["MEMORY_MB"]; inv != (Inventory{64000, 512, 1, 64000, 1, 1.5}) {
		t.Errorf("memory: %+v", inv)
	}
	if diff := cmp.Diff([]string{"COMPUTE_NET_ATTACH_INTERFACE", "COMPUTE_NODE"}, l.traits(n.UUID)); diff != "" {
		t.Error(diff)
	}
	// Nothing differs, so nothing is written.
	l.proxy.Heal()
	l.sync(n)
	if w := l.writes(); len(w) != 0 {
		t.Errorf("without a difference: %v", w)
	}
	// One inventory differs.
	changed := n.Inventories["MEMORY_MB"]
	changed.Reserved = 1024
	n.Inventories["MEMORY_MB"] = changed
	l.sync(n)
	if w := l.writes(); len(w) != 1 || l.inventories(n.UUID)["MEMORY_MB"].Reserved != 1024 {
		t.Errorf("another reservation: %v", w)
	}
}

// TestRatios: the operator's configuration wins over Placement's value, which wins
// over the initial one.
func TestRatios(t *testing.T) {
	l := openLive(t)
	n := l.node()
	l.sync(n)
	inv := l.inventories(n.UUID)
	cpu := inv["VCPU"]
	cpu.AllocationRatio = 3.3
	inv["VCPU"] = cpu
	body := map[string]any{"resource_provider_generation": l.provider(n.UUID).Generation, "inventories": inv}
	l.must(l.direct.call(l.ctx, http.MethodPut, "/resource_providers/"+n.UUID+"/inventories", "1.26", body, nil))
	if ratios := l.sync(n); ratios["VCPU"] != 3.3 || l.inventories(n.UUID)["VCPU"].AllocationRatio != 3.3 {
		t.Errorf("what an operator set by REST is lost: %v", ratios)
	}
	n.Ratios["VCPU"] = Ratio{Configured: 2.123456789, Initial: 16}
	l.sync(n)
	if got := l.inventories(n.UUID)["VCPU"].AllocationRatio; got < 2.1234 || got > 2.1235 {
		t.Errorf("configured: %v", got)
	}
	// Placement keeps fewer digits, which is no difference.
	l.proxy.Heal()
	l.sync(n)
	if w := l.writes(); len(w) != 0 {
		t.Errorf("without a difference: %v", w)
	}
}

// TestTraits: those of others stay, our own follow the node, unknown ones are left out.
func TestTraits(t *testing.T) {
	l := openLive(t)
	n := l.node()
	l.sync(n)
	custom := "CUSTOM_TEST_" + strings.ToUpper(strings.ReplaceAll(uuid.NewString(), "-", "_"))
	t.Cleanup(func() {
		if err := l.direct.call(context.WithoutCancel(l.ctx), http.MethodDelete, "/traits/"+custom, "1.6", nil, nil); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		if err := l.direct.DeleteProvider(context.WithoutCancel(l.ctx), n.UUID); err != nil {
			t.Error(err)
		}
	})
	l.must(l.direct.call(l.ctx, http.MethodPut, "/traits/"+custom, "1.6", nil, nil))
	body := map[string]any{"resource_provider_generation": l.provider(n.UUID).Generation, "traits": []string{custom, "HW_CPU_X86_AVX2", "COMPUTE_RESCUE_BFV"}}
	l.must(l.direct.call(l.ctx, http.MethodPut, "/resource_providers/"+n.UUID+"/traits", "1.6", body, nil))
	n.Traits = append(n.Traits, "COMPUTE_STATUS_DISABLED", "OWNER_FROM_THE_FUTURE")
	l.sync(n)
	want := []string{"COMPUTE_NET_ATTACH_INTERFACE", "COMPUTE_NODE", "COMPUTE_STATUS_DISABLED", custom, "HW_CPU_X86_AVX2"}
	slices.Sort(want)
	if diff := cmp.Diff(want, l.traits(n.UUID)); diff != "" {
		t.Error(diff)
	}
	l.must(l.SetTrait(l.ctx, n.UUID, "COMPUTE_STATUS_DISABLED", false))
	if got := l.traits(n.UUID); slices.Contains(got, "COMPUTE_STATUS_DISABLED") || !slices.Contains(got, custom) {
		t.Errorf("enabled again: %v", got)
	}
	l.must(l.SetTrait(l.ctx, n.UUID, "COMPUTE_STATUS_DISABLED", true))
	if got := l.traits(n.UUID); !slices.Contains(got, "COMPUTE_STATUS_DISABLED") {
		t.Errorf("disabled: %v", got)
	}
	if err := l.SetTrait(l.ctx, uuid.NewString(), "COMPUTE_STATUS_DISABLED", true); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("a stranger: %v", err)
	}
}

// TestCustomTrait: one that Placement lacks is made, and made again once an operator
// has deleted it.
func TestCustomTrait(t *testing.T) {
	l := openLive(t)
	custom := "CUSTOM_TEST_" + strings.ToUpper(strings.ReplaceAll(uuid.NewString(), "-", "_"))
	remove := func(ctx context.Context) error {
		return l.direct.call(ctx, http.MethodDelete, "/traits/"+custom, "1.6", nil, nil)
	}
	t.Cleanup(func() {
		if err := remove(context.WithoutCancel(l.ctx)); err != nil && !isStatus(err, http.StatusNotFound) {
			t.Error(err)
		}
	})
	n := l.node()
	n.Traits, n.Managed = append(n.Traits, custom), append(n.Managed, custom)
	l.sync(n)
	if !slices.Contains(l.traits(n.UUID), custom) {
		t.Error("it was not made")
	}
	l.must(l.direct.DeleteProvider(l.ctx, n.UUID))
	l.must(remove(l.ctx))
	if _, err := l.Sync(l.ctx, n); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("a trait that is gone: %v", err)
	}
	l.sync(n)
	if !slices.Contains(l.traits(n.UUID), custom) {
		t.Error("it was not made again")
	}
	l.must(l.direct.DeleteProvider(l.ctx, n.UUID))
}

// TestTogether: several want the same new node at the same time.
func TestTogether(t *testing.T) {
	l := openLive(t)
	n := l.node()
	var wait sync.WaitGroup
	for range 3 { // few enough for nobody to lose `conflicts` times
		wait.Go(func() {
			if _, err := l.Sync(l.ctx, n); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if len(l.inventories(n.UUID)) != 3 || len(l.traits(n.UUID)) != 2 {
		t.Errorf("inventories %v, traits %v", l.inventories(n.UUID), l.traits(n.UUID))
	}
}

// TestAggregatesStay, which nova-api and operators set.
func TestAggregatesStay(t *testing.T) {
	l := openLive(t)
	n := l.node()
	l.sync(n)
	path := "/resource_providers/" + n.UUID + "/aggregates"
	group := uuid.NewString()
	body := map[string]any{"aggregates": []string{group}, "resource_provider_generation": l.provider(n.UUID).Generation}
	l.must(l.direct.call(l.ctx, http.MethodPut, path, "1.19", body, nil))
	n.Ratios["DISK_GB"] = Ratio{Configured: 2}
	l.sync(n)
	var have struct{ Aggregates []string }
	l.must(l.direct.call(l.ctx, http.MethodGet, path, "1.19", nil, &have))
	if diff := cmp.Diff([]string{group}, have.Aggregates); diff != "" {
		t.Error(diff)
	}
}

// TestNameTaken: another node's host name is not ours to take.
func TestNameTaken(t *testing.T) {
	l := openLive(t)
	first, second := l.node(), l.node()
	l.sync(first)
	second.Name = first.Name
	if _, err := l.Sync(l.ctx, second); !errors.Is(err, errdefs.ErrConflict) || !strings.Contains(err.Error(), first.Name) {
		t.Errorf("got %v", err)
	}
}

// TestClassInUse: an inventory that something uses cannot go.
func TestClassInUse(t *testing.T) {
	l := openLive(t)
	n := l.node()
	l.sync(n)
	l.allocate(uuid.NewString(), n.UUID, Resources{"DISK_GB": 1})
	delete(n.Inventories, "DISK_GB")
	l.proxy.Heal()
	if _, err := l.Sync(l.ctx, n); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("got %v", err)
	}
	if w := l.writes(); len(w) != 1 {
		t.Errorf("it was tried again: %v", w)
	}
	if err := l.DeleteProvider(l.ctx, n.UUID); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("a provider in use was deleted: %v", err)
	}
}

func TestAllocations(t *testing.T) {
	l := openLive(t)
	source, dest := l.node(), l.node()
	l.sync(source)
	l.sync(dest)
	instance, migration := uuid.NewString(), uuid.NewString()
	if a, err := l.Allocations(l.ctx, instance); err != nil || len(a.Providers) != 0 || a.Generation != nil {
		t.Errorf("a stranger: %+v, %v", a, err)
	}
	small := Resources{"VCPU": 1, "MEMORY_MB": 512}
	l.allocate(migration, source.UUID, small)
	l.allocate(instance, dest.UUID, Resources{"VCPU": 2, "MEMORY_MB": 1024})
	// The resize is taken back.
	l.must(l.Move(l.ctx, migration, instance))
	a, err := l.Allocations(l.ctx, instance)
	l.must(err)
	if diff := cmp.Diff(map[string]Resources{source.UUID: small}, a.Providers); diff != "" {
		t.Error(diff)
	}
	if used, err := l.ProviderAllocations(l.ctx, source.UUID); err != nil || len(used) != 1 || used[instance]["VCPU"] != 1 {
		t.Errorf("used: %v, %v", used, err)
	}
	l.must(l.Move(l.ctx, migration, instance)) // there is nothing left to move
	l.must(l.RemoveProvider(l.ctx, instance, dest.UUID))
	if a, err := l.Allocations(l.ctx, instance); err != nil || len(a.Providers) != 1 {
		t.Errorf("another provider's part went: %+v, %v", a, err)
	}
	l.must(l.RemoveProvider(l.ctx, instance, source.UUID))
	l.must(l.RemoveProvider(l.ctx, instance, source.UUID))
	if a, err := l.Allocations(l.ctx, instance); err != nil || len(a.Providers) != 0 {
		t.Errorf("after the last part went: %+v, %v", a, err)
	}
	l.allocate(instance, source.UUID, small)
	l.must(l.DeleteAllocations(l.ctx, instance))
	l.must(l.DeleteAllocations(l.ctx, instance))
	l.must(l.DeleteProvider(l.ctx, source.UUID))
	l.must(l.DeleteProvider(l.ctx, source.UUID))
}

// TestGenerations: somebody else changes the provider between our reading and writing.
func TestGenerations(t *testing.T) {
	l := openLive(t)
	n := l.node()
	l.sync(n)
	flip := 0
	other := func() { // bumps the provider's generation, and then the trait again
		flip++
		if err := l.direct.SetTrait(l.ctx, n.UUID, "HW_CPU_X86_AVX2", flip%2 == 1); err != nil {
			t.Error(err)
		}
	}
	for _, tt := range []struct {
		times int
		want  error
	}{{1, nil}, {conflicts - 1, nil}, {0, errdefs.ErrConflict}} {
		l.proxy.Heal()
		l.proxy.Fail(faultproxy.Fault{Method: "PUT", Path: "/inventories", Times: tt.times, Do: faultproxy.After(other, faultproxy.Forward())})
		changed := n.Inventories["VCPU"]
		changed.Total++
		n.Inventories["VCPU"] = changed
		_, err := l.Sync(l.ctx, n)
		if !errors.Is(err, tt.want) {
			t.Errorf("%d times: %v", tt.times, err)
		}
		if got := l.inventories(n.UUID)["VCPU"].Total; (got == changed.Total) != (tt.want == nil) {
			t.Errorf("%d times: %d CPUs", tt.times, got)
		}
	}
	if w := l.writes(); len(w) != conflicts {
		t.Errorf("always: %d attempts, want %d", len(w), conflicts)
	}
	// The consumer changes between reading and moving: somebody works on the same instance.
	l.proxy.Heal()
	l.sync(n)
	instance, migration := uuid.NewString(), uuid.NewString()
	l.allocate(migration, n.UUID, Resources{"VCPU": 1})
	l.proxy.Fail(faultproxy.Fault{Method: "POST", Path: "/allocations", Times: 1, Do: faultproxy.After(func() {
		l.allocate(instance, n.UUID, Resources{"VCPU": 2})
	}, faultproxy.Forward())})
	if err := l.Move(l.ctx, migration, instance); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("another writer: %v", err)
	}
}

// TestFaults: each request of each operation fails in each way. What Placement did not
// do is an error of the right kind, and what is asked again then succeeds.
func TestFaults(t *testing.T) {
	l := openLive(t)
	n := l.node()
	instance := uuid.NewString()
	operations := []struct {
		name  string
		setup func()
		run   func() error
	}{
		{"sync", func() { l.must(l.direct.DeleteProvider(l.ctx, n.UUID)) }, func() error { _, err := l.Sync(l.ctx, n); return err }},
		{"delete allocations", func() { l.allocate(instance, n.UUID, Resources{"VCPU": 1}) }, func() error { return l.DeleteAllocations(l.ctx, instance) }},
	}
	faults := []struct {
		name string
		do   faultproxy.Action
		want error
	}{
		{"reset", faultproxy.Reset(), errdefs.ErrUnavailable},
		{"lost", faultproxy.Lose(), errdefs.ErrUnavailable},
		{"500", faultproxy.Status(500, "<html>oops</html>"), errdefs.ErrUnavailable},
		{"503", faultproxy.Status(503, "", "Retry-After", "1"), errdefs.ErrUnavailable},
		{"403", faultproxy.Status(403, `{"errors": [{"status": 403, "detail": "no role"}]}`), errdefs.ErrInvalid},
		{"401", faultproxy.Status(401, ""), errdefs.ErrUnavailable},
	}
	for _, op := range operations {
		for range 2 { // the second time the traits are known, as from then on
			op.setup()
			l.proxy.Heal()
			if err := op.run(); err != nil {
				t.Fatal(op.name, err)
			}
		}
		for step, request := range l.proxy.Seen() {
			for _, f := range faults {
				if f.name == "401" && step > 0 {
					continue // each costs Keystone a login
				}
				name := fmt.Sprintf("%s, request %d (%s %s), %s", op.name, step, request.Method, request.Path, f.name)
				op.setup()
				l.proxy.Heal()
				l.proxy.Fail(faultproxy.Fault{Skip: step, Do: f.do})
				err := op.run()
				if f.name == "lost" && err == nil {
					continue // Go's client repeats what is idempotent on a connection that died
				}
				if !errors.Is(err, f.want) {
					t.Errorf("%s: %v", name, err)
				}
				l.proxy.Heal()
				if err := op.run(); err != nil {
					t.Errorf("%s, then again: %v", name, err)
				}
			}
		}
		l.sync(n)
	}
	// Answers that cannot be believed.
	for name, do := range map[string]faultproxy.Action{
		"cut off": faultproxy.Truncate(10), "garbage": faultproxy.Rewrite(func([]byte) []byte { return []byte(`{"uuid": {`) }),
		"another type": faultproxy.Rewrite(func([]byte) []byte { return []byte(`{"uuid": 7, "generation": "x"}`) }),
		"endless":      faultproxy.Flood(200, maxAnswer+1<<20),
	} {
		l.proxy.Heal()
		l.proxy.Fail(faultproxy.Fault{Do: do})
		if _, err := l.Sync(l.ctx, n); !errors.Is(err, errdefs.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	l.proxy.Heal()
	l.proxy.Down()
	if _, err := l.Sync(l.ctx, n); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("nobody listens: %v", err)
	}
	short, cancel := context.WithTimeout(l.ctx, 100*time.Millisecond)
	defer cancel()
	l.proxy.Up(t)
	l.proxy.Fail(faultproxy.Fault{Do: faultproxy.Hang()})
	if _, err := l.Sync(short, n); !errors.Is(err, errdefs.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no answer: %v", err)
	}
}
