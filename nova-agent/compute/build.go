package compute

import (
	"context"
	"errors"
	"fmt"
	"time"

	"novaagent/engine"
	"novaagent/engine/errdefs"
	"novaagent/engine/store"
	"novaagent/nova-agent/conductor"
	"novaagent/nova-agent/neutron"
	"novaagent/nova-agent/objects"
	"novaagent/nova-agent/rpc"
)

// kindAttempt records the last build of each instance that was taken on. A message that
// comes twice is known by it, even after a restart.
const kindAttempt store.Kind = "build-attempt"

// networkAllocated is the key of system_metadata that tells the next host whether a
// build that is rescheduled still has its ports (nova/compute/manager.py).
const networkAllocated = "network_allocated"

// rootDevice is what Nova shows as an instance's root device.
const rootDevice = "/dev/vda"

// buildAndRun answers at once; the build goes on behind the answer.
func (m *Manager) buildAndRun(ctx context.Context, req *rpc.Request) (any, error) {
	b, err := parseBuild(req)
	if err != nil {
		return nil, err
	}
	ctx = m.about(ctx, b.instance.UUID.Value())
	m.background(ctx, "build", func(ctx context.Context) { m.build(ctx, b) })
	return nil, nil
}

// The ways a build ends, for the metrics.
const (
	outcomeActive      = "active"
	outcomeFailed      = "failed"
	outcomeRescheduled = "rescheduled"
	outcomeGone        = "deleted"
)

// build waits for its turn and sees to what follows a build.
func (m *Manager) build(ctx context.Context, b *buildRequest) {
	uuid := b.instance.UUID.Value()
	began := time.Now()
	unlock, err := m.locks.lock(ctx, uuid)
	if err != nil {
		m.log.WarnContext(ctx, "the build was not begun", "error", err)
		return
	}
	defer unlock()
	if m.builds != nil {
		select {
		case m.builds <- struct{}{}:
			defer func() { <-m.builds }()
		case <-ctx.Done():
			m.log.WarnContext(ctx, "the build was not begun", "error", context.Cause(ctx))
			return
		}
	}
	attempt := b.attempt(rpc.RequestContextFrom(ctx).RequestID())
	if last, err := store.Get[string](m.db, kindAttempt, uuid); err == nil && last == attempt {
		m.log.WarnContext(ctx, "this build was asked for before; the message is dropped", "attempt", attempt)
		return
	}
	m.step("build.begun")
	outcome, err := m.buildOnce(ctx, b, attempt)
	switch outcome {
	case outcomeActive:
		m.tracker.built(ctx, false)
	case outcomeFailed, outcomeRescheduled:
		if !isClass(err, classGroupAffinity) {
			m.tracker.built(context.WithoutCancel(ctx), true)
		}
	}
	if m.opts.Observe.Built != nil {
		m.opts.Observe.Built(outcome, time.Since(began))
	}
	m.operated(ctx, "build_and_run_instance ("+outcome+")", time.Since(began), err)
}

// buildOnce takes the row over, and builds within an event and an intent.
func (m *Manager) buildOnce(ctx context.Context, b *buildRequest, attempt string) (outcome string, err error) {
	inst, uuid := b.instance, b.instance.UUID.Value()
	inst.VMState.Set(vmBuilding)
	setTask(inst, taskNone)
	// The intent comes first: the row says nothing of this host until the claim.
	intent, err := m.db.Begin("build", uuid, nil)
	if errors.Is(err, errdefs.ErrConflict) {
		err = m.settleBuild(ctx, uuid) // of an earlier build whose undoing failed
		if err == nil {
			intent, err = m.db.Begin("build", uuid, nil)
		}
	}
	if err == nil {
		err = store.PutLazy(m.db, kindAttempt, uuid, attempt)
	}
	if err != nil {
		return m.refuseBuild(ctx, b, err)
	}
	if err := m.conductor.SaveInstance(ctx, inst, conductor.SaveOptions{TaskState: conductor.Expect(taskScheduling, taskNone)}); err != nil {
		err = errors.Join(err, intent.End())
		if conductor.IsDeleting(err) || preempted(err) {
			return outcomeGone, errors.Join(err, m.placement.DeleteAllocations(ctx, uuid))
		}
		return m.refuseBuild(ctx, b, err)
	}
	m.step("build.recorded")
	m.eventStart(ctx, uuid, "build_and_run_instance")
	err = m.buildSteps(ctx, b)
	if err == nil {
		m.eventFinish(ctx, uuid, "build_and_run_instance", nil)
		return outcomeActive, intent.End()
	}
	undo, cancel := cleanup(ctx)
	defer cancel()
	outcome, undone := m.buildFailed(undo, b, err)
	m.eventFinish(ctx, uuid, "build_and_run_instance", err)
	if undone == nil {
		undone = intent.End()
	}
	if undone != nil { // the intent stays, and the next start or delete tries again
		m.log.ErrorContext(ctx, "the build was not undone as a whole", "error", undone)
	}
	return outcome, err
}

// refuseBuild is for builds that could not even be begun.
func (m *Manager) refuseBuild(ctx context.Context, b *buildRequest, err error) (string, error) {
	undo, cancel := cleanup(ctx)
	defer cancel()
	outcome, undone := m.buildFailed(undo, b, err)
	return outcome, errors.Join(err, undone)
}

// result of something that runs beside the build.
type result[T any] struct {
	value T
	err   error
}

// beside runs f and lets its result be waited for. A panic of it is an error.
func beside[T any](f func() (T, error)) <-chan result[T] {
	ch := make(chan result[T], 1)
	go func() {
		var r result[T]
		defer func() {
			if p := recover(); p != nil {
				r.err = fmt.Errorf("panic: %v", p)
			}
			ch <- r
		}()
		r.value, r.err = f()
	}()
	return ch
}

// buildSteps builds. What can, goes on side by side: the image is fetched and the ports are
// made while the claim is recorded, and the container is prepared while Nova is told
// so. The instance is touched by this goroutine alone, except for one save.
func (m *Manager) buildSteps(ctx context.Context, b *buildRequest) error {
	if err := m.checkBuild(b); err != nil {
		return err
	}
	inst, uuid := b.instance, b.instance.UUID.Value()
	if err := m.conductor.LoadInstance(ctx, inst, "metadata", "system_metadata", "flavor", "info_cache"); err != nil {
		return err
	}
	image := beside(func() (string, error) {
		digest, err := m.opts.Images.Ensure(ctx, b.image.ID, b.image.raw)
		return digest, imageError(b.image.ID, err)
	})
	before := objects.Clone(inst)
	network := beside(func() (neutron.NetworkInfo, error) { return m.networkForBuild(ctx, b, before) })
	err := m.claimBuild(ctx, b)
	// Both are waited for whatever happened: what they made must be there to be undone.
	vifs, layers := <-network, <-image
	if err := errors.Join(err, vifs.err, layers.err); err != nil {
		return firstOf(err, vifs.err, layers.err)
	}
	m.step("build.allocated")

	spec, err := specFor(guestOf(inst), layers.value, vifs.value, nil, m.specOptions())
	if err != nil {
		return imageError(b.image.ID, err)
	}
	plugged := m.expectPlugged(uuid, vifs.value)
	defer plugged.cancel()
	saved := beside(func() (struct{}, error) {
		if err := loadNetwork(inst, vifs.value); err != nil {
			return struct{}{}, err
		}
		inst.VMState.Set(vmBuilding)
		setTask(inst, taskSpawning)
		objects.Put(&inst.SystemMetadata, networkAllocated, objects.Ptr("True"))
		inst.RootDeviceName.Set(rootDevice)
		return struct{}{}, m.conductor.SaveInstance(ctx, inst, conductor.SaveOptions{TaskState: conductor.Expect(taskNetworking)})
	})
	_, err = m.engine.Create(ctx, spec)
	if s := <-saved; s.err != nil {
		return s.err
	}
	if err != nil {
		return m.containerError(b.image.ID, err)
	}
	m.step("build.created")
	if err := m.waitPlugged(ctx, uuid, plugged); err != nil {
		return err
	}
	m.step("build.plugged")
	if _, err := m.engine.Start(ctx, spec.ID); err != nil {
		return m.containerError(b.image.ID, err)
	}
	m.step("build.started")

	objects.Delete(&inst.SystemMetadata, networkAllocated)
	inst.PowerState.Set(int64(powerRunning))
	inst.VMState.Set(vmActive)
	setTask(inst, taskNone)
	inst.LaunchedAt.Set(time.Now().UTC())
	if err := m.conductor.SaveInstance(ctx, inst, conductor.SaveOptions{TaskState: conductor.Expect(taskSpawning)}); err != nil {
		return err
	}
	m.step("build.active")
	m.tracker.settle(ctx, inst, true)
	if err := m.conductor.UpdateInstanceInfo(ctx, inst); err != nil {
		m.log.WarnContext(ctx, "the schedulers were not told", "error", err)
	}
	return nil
}

// firstOf prefers the error that says most: that of the row (a delete), then those of the
// user's request.
func firstOf(all error, others ...error) error {
	if disappeared(all) || preempted(all) {
		return all
	}
	for _, err := range others {
		if err != nil {
			return err
		}
	}
	return all
}

// checkBuild refuses what a container here cannot have, before anything is made.
func (m *Manager) checkBuild(b *buildRequest) error {
	abort := func(why string) error { return buildAbort(b.instance.UUID.Value(), why, nil) }
	switch {
	case len(volumes(b.bdms)) > 0 || b.image.ID == "":
		return abort("nova-agent cannot boot from or attach volumes")
	case b.tagged():
		return abort("nova-agent does not support device tags")
	case len(b.files) > 0:
		return abort("nova-agent cannot inject files; use user data and the metadata service")
	case guestOf(b.instance).configDrive:
		return abort("nova-agent cannot make a config drive; the metadata service answers at 169.254.169.254")
	}
	if certs := b.instance.TrustedCerts.Value(); certs != nil && len(certs.IDs.Or(nil)) > 0 {
		return abort("nova-agent does not verify signed images")
	}
	if b.image.Status != "" && b.image.Status != "active" {
		return &Exception{Class: "ImageNotActive", Code: 400, Kind: errdefs.ErrInvalid, Message: fmt.Sprintf("Image %s is not active.", b.image.ID)}
	}
	f := flavorOf(b.instance.Flavor.Value())
	if b.image.MinRAM > int64(f.memoryMB) {
		return &Exception{Class: "FlavorMemoryTooSmall", Code: 400, Kind: errdefs.ErrInvalid,
			Message: fmt.Sprintf("Flavor's memory of %d MB is too small for image %s, which asks for %d.", f.memoryMB, b.image.ID, b.image.MinRAM)}
	}
	if root := int64(f.rootGB); root > 0 && (b.image.MinDisk > root || b.image.Size > root<<30) {
		return &Exception{Class: "FlavorDiskTooSmall", Code: 400, Kind: errdefs.ErrInvalid,
			Message: fmt.Sprintf("Flavor's disk of %d GB is too small for image %s.", root, b.image.ID)}
	}
	return nil
}

// claimBuild takes the instance on: in the ledger, and in its row.
func (m *Manager) claimBuild(ctx context.Context, b *buildRequest) error {
	inst := b.instance
	if err := m.tracker.claim(ctx, inst, b.node); err != nil {
		return err
	}
	inst.Host.Set(m.opts.Host)
	inst.Node.Set(m.opts.NodeName)
	inst.LaunchedOn.Set(m.opts.Host)
	setTask(inst, taskNetworking)
	if err := m.conductor.SaveInstance(ctx, inst, conductor.SaveOptions{TaskState: conductor.Expect(taskNone)}); err != nil {
		return err
	}
	m.step("build.claimed")
	return m.checkGroup(ctx, b)
}

// checkGroup holds an anti-affinity group's policy against the instances that came here
// meanwhile: the schedulers of two requests may have chosen the same host.
func (m *Manager) checkGroup(ctx context.Context, b *buildRequest) error {
	if b.hint("group") == "" {
		return nil
	}
	unlock, err := m.locks.lock(ctx, "group "+b.hint("group"))
	if err != nil {
		return err
	}
	defer unlock()
	uuid := b.instance.UUID.Value()
	group, err := m.conductor.InstanceGroup(ctx, uuid)
	if err != nil {
		// A cell's conductor may have no way to the API's database (disable_group_policy_check_upcall).
		m.log.WarnContext(ctx, "the server group could not be read, its policy is not checked here", "error", err)
		return nil
	}
	if group.Policy.Or("") != "anti-affinity" {
		return nil
	}
	here, err := m.conductor.InstanceUUIDsByHost(ctx)
	if err != nil {
		return err
	}
	on := map[string]bool{}
	for _, id := range here {
		on[id] = true
	}
	others := 0
	for _, member := range group.Members.Or(nil) {
		if member != uuid && on[member] {
			others++
		}
	}
	most := int64(1)
	if n, err := number("max_server_per_host", group.Rules.Or(nil)["max_server_per_host"], 1, 1<<20); err == nil {
		most = n
	}
	if int64(others) >= most {
		return &Exception{Class: classGroupAffinity, Kind: errdefs.ErrExhausted,
			Message: "Server group policy anti-affinity is violated: another member is on this host."}
	}
	return nil
}

// networkForBuild makes the ports, or binds those that an earlier attempt on another host has made.
func (m *Manager) networkForBuild(ctx context.Context, b *buildRequest, inst *objects.Instance) (neutron.NetworkInfo, error) {
	if b.noNetwork {
		return neutron.NetworkInfo{}, nil
	}
	if systemMetadata(inst, networkAllocated) == "True" {
		if err := m.neutron.Rebind(ctx, networkInstance(inst), m.opts.Host, b.providers()); err != nil {
			return nil, err
		}
		return m.neutron.Heal(ctx, networkInstance(inst))
	}
	groups := b.securityGroups
	if len(groups) == 1 && groups[0] == "default" {
		groups = nil // Neutron's own default
	}
	return m.neutron.Allocate(ctx, neutron.AllocateRequest{Instance: networkInstance(inst), Networks: b.networks,
		SecurityGroups: groups, Host: m.opts.Host, Providers: b.providers()})
}

func (m *Manager) specOptions() specOptions {
	return specOptions{stopGrace: m.opts.ShutdownTimeout, log: engine.LogConfig{MaxBytes: m.opts.LogBytes, MaxFiles: m.opts.LogFiles}}
}

// loadNetwork puts network info that is saved already into an instance, so that its next
// save does not write an older one.
func loadNetwork(inst *objects.Instance, vifs neutron.NetworkInfo) error {
	cache := &objects.InstanceInfoCache{InstanceUUID: objects.Of(inst.UUID.Value())}
	if old := inst.InfoCache.Value(); old != nil {
		cache = objects.Clone(old)
	}
	model, err := objects.NewNetworkModel(vifs)
	if err != nil {
		return err
	}
	cache.NetworkInfo.Load(model)
	objects.ResetChanges(cache)
	inst.InfoCache.Load(cache)
	return nil
}

// containerError says what is wrong with an image that does not run, naming it.
func (m *Manager) containerError(imageID string, err error) error {
	if errors.Is(err, errdefs.ErrInvalid) || errors.Is(err, errdefs.ErrUnsupported) {
		return imageError(imageID, err)
	}
	return err
}

// expectPlugged registers for Neutron's word that the ports are wired, before they are
// plugged. A port that is ACTIVE already causes no such event.
func (m *Manager) expectPlugged(uuid string, vifs neutron.NetworkInfo) *expectation {
	var keys []eventKey
	if m.opts.VIFPluggingTimeout > 0 {
		for _, v := range vifs {
			if !v.Active {
				keys = append(keys, eventKey{uuid, eventVIFPlugged, v.ID})
			}
		}
	}
	return m.waiters.expect(keys)
}

// waitPlugged waits for them. Late or failed is the end of the operation, unless the
// operator said otherwise (vif_plugging_is_fatal).
func (m *Manager) waitPlugged(ctx context.Context, uuid string, e *expectation) error {
	waiting, cancel := context.WithTimeoutCause(ctx, m.opts.VIFPluggingTimeout,
		fmt.Errorf("not within vif_plugging_timeout, %s", m.opts.VIFPluggingTimeout))
	defer cancel()
	err := e.wait(waiting)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", context.Cause(ctx), errdefs.ErrUnavailable)
	case !m.opts.VIFPluggingIsFatal:
		m.log.WarnContext(ctx, "a port is not plugged; vif_plugging_is_fatal is off", "error", err)
		return nil
	}
	return &Exception{Class: classVIFCreate, Kind: errdefs.ErrUnavailable, Cause: err,
		Message: "Virtual Interface creation failed: " + reason(err)}
}
