package compute

import (
	"context"
	"errors"
	"fmt"
	"strings"
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
	attempt := b.attempt(requestID(ctx))
	if last, err := store.Get[string](m.db, kindAttempt, uuid); err == nil && last == attempt {
		m.log.WarnContext(ctx, "this build was asked for before; the message is dropped", "attempt", attempt)
		return
	}
	m.step(ctx, "build.begun")
	m.late.begin(uuid)
	outcome, err := m.buildOnce(ctx, b, attempt)
	changed := m.late.end(uuid)
	switch outcome {
	case outcomeActive:
		m.tracker.built(ctx, false)
		m.watchPower(b.instance)
		if changed {
			m.refreshLater(ctx, b.instance)
		}
	case outcomeFailed, outcomeRescheduled:
		if !isClass(err, classGroupAffinity) {
			m.tracker.built(context.WithoutCancel(ctx), true)
		}
	}
	if m.opts.Observe.Built != nil {
		m.opts.Observe.Built(outcome, time.Since(began))
	}
	m.operated(ctx, "build_and_run_instance", time.Since(began), err, "outcome", outcome)
}

// requestID is that of the request that ctx is about, "" if it is of none.
func requestID(ctx context.Context) string {
	if rc := rpc.RequestContextFrom(ctx); rc != nil {
		return rc.RequestID()
	}
	return ""
}

// refreshLater looks at what Neutron said of the ports while they were being built into a container.
func (m *Manager) refreshLater(ctx context.Context, inst *objects.Instance) {
	inst = objects.Clone(inst)
	m.background(ctx, "network refresh", func(ctx context.Context) {
		if err := m.refreshNetwork(ctx, inst, ""); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
			m.log.WarnContext(ctx, "the network info was not refreshed", "error", err)
		}
	})
}

// buildOnce builds within an event and an intent.
func (m *Manager) buildOnce(ctx context.Context, b *buildRequest, attempt string) (outcome string, err error) {
	intent, err := m.beginBuild(ctx, b, attempt)
	if err != nil {
		return m.buildEnded(ctx, b, err)
	}
	m.step(ctx, "build.recorded")
	event := beside(func() (struct{}, error) {
		m.eventStart(ctx, b.instance.UUID.Value(), "build_and_run_instance")
		return struct{}{}, nil
	})
	err = m.guarded(ctx, "build", func() error { return m.buildSteps(ctx, b) })
	if err == nil {
		<-event
		m.eventFinish(ctx, b.instance.UUID.Value(), "build_and_run_instance", nil)
		return outcomeActive, intent.End()
	}
	outcome, failure := m.buildEnded(ctx, b, err)
	<-event
	m.eventFinish(ctx, b.instance.UUID.Value(), "build_and_run_instance", failure)
	return outcome, failure
}

// beginBuild records what is about to be done, before anything of it is.
func (m *Manager) beginBuild(ctx context.Context, b *buildRequest, attempt string) (store.Intent, error) {
	uuid := b.instance.UUID.Value()
	detail := buildDetail{RequestID: requestID(ctx), ProjectID: b.instance.ProjectID.Or("")}
	for _, n := range b.networks {
		if n.PortID != "" {
			detail.Ports = append(detail.Ports, n.PortID)
		}
	}
	intent, err := m.db.Begin(intentBuild, uuid, detail)
	if errors.Is(err, errdefs.ErrConflict) {
		// An earlier build on this host, whose undoing failed.
		err = errors.Join(m.removeContainer(ctx, uuid), m.endIntents(uuid))
		if err == nil {
			intent, err = m.db.Begin(intentBuild, uuid, detail)
		}
	}
	if err != nil {
		return intent, err
	}
	return intent, store.PutLazy(m.db, kindAttempt, uuid, attempt)
}

// buildEnded takes back what a failed build has made. If that does not work as a whole the intent
// stays, and the user's delete or the next start tries again.
func (m *Manager) buildEnded(ctx context.Context, b *buildRequest, failure error) (outcome string, err error) {
	undo, cancel := cleanup(ctx)
	defer cancel()
	outcome, undone := m.buildFailed(undo, b, failure)
	if undone == nil {
		undone = m.endIntents(b.instance.UUID.Value())
	}
	if undone != nil {
		m.log.ErrorContext(ctx, "the build was not undone as a whole", "error", undone)
	}
	return outcome, failure
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

// buildSteps builds. What Nova's compute service does one after the other goes on side by
// side: the image is fetched and the ports are made while the claim and the task are
// recorded. The instance is touched by this goroutine alone.
func (m *Manager) buildSteps(ctx context.Context, b *buildRequest) error {
	inst, uuid := b.instance, b.instance.UUID.Value()
	if err := m.conductor.LoadInstance(ctx, inst, "metadata", "system_metadata", "flavor"); err != nil {
		return err
	}
	if err := m.checkBuild(b); err != nil {
		return err
	}
	if err := m.tracker.claim(ctx, inst, b.node); err != nil {
		return err
	}
	// What one of the three finds wrong ends the other two.
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	image := beside(func() (string, error) {
		digest, err := m.opts.Images.Ensure(ctx, b.image.ID, b.image.raw, guestOf(inst).flavor.rootBytes())
		if err != nil {
			giveUp()
		}
		return digest, imageError(b.image.ID, err)
	})
	before := objects.Clone(inst)
	network := beside(func() (neutron.NetworkInfo, error) {
		vifs, err := m.networkForBuild(ctx, b, before)
		if err != nil {
			giveUp()
		}
		return vifs, err
	})
	err := m.recordClaim(ctx, b)
	if err != nil {
		giveUp()
	}
	// All are waited for whatever happened: what they made must be there to be undone.
	vifs, layers := <-network, <-image
	if err := firstCause(err, layers.err, vifs.err); err != nil {
		return err
	}
	m.step(ctx, "build.allocated")

	files, err := m.prepareFiles(b, vifs.value)
	if err != nil {
		return err
	}
	spec, err := specFor(guestOf(inst), layers.value, vifs.value, files, m.specOptions())
	if err != nil {
		return imageError(b.image.ID, err)
	}
	plugged := m.expectPlugged(uuid, vifs.value)
	defer plugged.cancel()
	if _, err := m.engine.Create(ctx, spec); err != nil {
		return containerError(b.image.ID, uuid, err)
	}
	m.step(ctx, "build.created")
	if err := m.waitPlugged(ctx, uuid, plugged); err != nil {
		return err
	}
	m.step(ctx, "build.plugged")
	if _, err := m.engine.Start(ctx, spec.ID); err != nil {
		return containerError(b.image.ID, uuid, err)
	}
	m.step(ctx, "build.started")
	if err := m.recordActive(ctx, b, vifs.value); err != nil {
		return err
	}
	m.step(ctx, "build.active")
	return nil
}

// recordActive tells Nova that the server runs, and all who want to know.
func (m *Manager) recordActive(ctx context.Context, b *buildRequest, vifs neutron.NetworkInfo) error {
	inst := b.instance
	if err := loadNetwork(inst, vifs); err != nil {
		return err
	}
	objects.Delete(&inst.SystemMetadata, networkAllocated)
	inst.PowerState.Set(int64(m.power(inst.UUID.Value())))
	inst.VMState.Set(vmActive)
	setTask(inst, taskNone)
	inst.LaunchedAt.Set(time.Now().UTC())
	if guestOf(inst).configDrive {
		inst.ConfigDrive.Set("True")
	}
	err := m.conductor.SaveInstance(ctx, inst, conductor.SaveOptions{TaskState: conductor.Expect(taskSpawning)})
	if err != nil {
		return err
	}
	m.tracker.settle(ctx, inst, true)
	if err := m.conductor.UpdateInstanceInfo(ctx, inst); err != nil {
		m.log.WarnContext(ctx, "the schedulers were not told", "error", err)
	}
	m.nameDisks(ctx, b.bdms)
	return nil
}

// nameDisks gives the mappings of local disks the names that Nova shows: a volume that is
// attached later gets the next one.
func (m *Manager) nameDisks(ctx context.Context, bdms []*objects.BlockDeviceMapping) {
	letter := 'a'
	for _, d := range bdms {
		if letter > 'z' || d.DestinationType.Or("") != "local" {
			continue
		}
		if d.DeviceName.Or("") == "" && d.ID.IsSet() {
			d.DeviceName.Set("/dev/vd" + string(letter))
			if err := m.conductor.SaveBlockDeviceMapping(ctx, d); err != nil && !conductor.IsNotFound(err) {
				m.log.WarnContext(ctx, "a disk's name was not recorded", "error", err)
			}
		}
		letter++
	}
}

// firstCause is the error that caused the others: those that only say that they were given up come last.
func firstCause(errs ...error) error {
	var late error
	for _, err := range errs {
		switch {
		case err == nil:
		case errors.Is(err, context.Canceled):
			late = err
		default:
			return err
		}
	}
	return late
}

// checkBuild refuses what a container here cannot have, before anything is made.
func (m *Manager) checkBuild(b *buildRequest) error {
	abort := func(why string) error { return buildAbort(b.instance.UUID.Value(), why, nil) }
	switch {
	case len(volumes(b.bdms)) > 0 || b.image.ID == "":
		return abort("nova-agent cannot boot from or attach volumes")
	case b.tagged():
		return abort("nova-agent does not support device tags")
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

// recordClaim makes the instance this host's, and says what is being done. Who deleted the
// instance, or built it elsewhere, meanwhile is found out here.
func (m *Manager) recordClaim(ctx context.Context, b *buildRequest) error {
	inst := b.instance
	grouped := b.hint("group") != ""
	inst.VMState.Set(vmBuilding)
	// The ports are being made beside this: only the check of a group lies between the two tasks.
	setTask(inst, taskSpawning)
	if grouped {
		setTask(inst, taskNetworking)
	}
	inst.RootDeviceName.Set(rootDevice)
	inst.Host.Set(m.opts.Host)
	inst.Node.Set(m.opts.NodeName)
	inst.LaunchedOn.Set(m.opts.Host)
	if rc := rpc.RequestContextFrom(ctx); rc != nil {
		objects.Put(&inst.SystemMetadata, "boot_roles", objects.Ptr(strings.Join(rc.Roles(), ",")))
	}
	err := m.conductor.SaveInstance(ctx, inst, conductor.SaveOptions{TaskState: conductor.Expect(taskScheduling, taskNone)})
	if err != nil {
		if preempted(err) {
			return &goneError{err} // somebody else's by now: nothing may be written to it
		}
		return err
	}
	m.step(ctx, "build.claimed")
	if !grouped {
		return nil
	}
	if err := m.checkGroup(ctx, b); err != nil {
		return err
	}
	setTask(inst, taskSpawning)
	return m.conductor.SaveInstance(ctx, inst, conductor.SaveOptions{TaskState: conductor.Expect(taskNetworking)})
}

// goneError says that the instance of a build is not this host's to build.
type goneError struct{ error }

// RemoteClass makes it what disappeared looks for.
func (goneError) RemoteClass() (module, class string) { return novaModule, classUnexpectedDeleting }

// Unwrap gives the cause.
func (e *goneError) Unwrap() error { return e.error }

// checkGroup holds an anti-affinity group's policy against the instances that came here
// meanwhile: the schedulers of two requests may have chosen the same host.
func (m *Manager) checkGroup(ctx context.Context, b *buildRequest) error {
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

// containerError says what is wrong with an image that does not run, naming it. The names
// of the container, which are the engine's, are left out: a fault has little room.
func containerError(imageID, uuid string, err error) error {
	if !errors.Is(err, errdefs.ErrInvalid) && !errors.Is(err, errdefs.ErrUnsupported) {
		return err
	}
	why := reason(err)
	for again := true; again; {
		again = false
		for _, prefix := range []string{"start ", "create ", "container " + containerName(uuid) + ": ", "container " + containerID(uuid) + ": ",
			"container " + containerID(uuid)[:12] + ": ", "start: "} {
			if rest, ok := strings.CutPrefix(why, prefix); ok {
				why, again = rest, true
			}
		}
	}
	return &Exception{Class: classImageUnacceptable, Code: 400, Kind: errdefs.ErrInvalid, Cause: err,
		Message: fmt.Sprintf("Image %s is unacceptable: %s", imageID, why)}
}
