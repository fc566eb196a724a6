package dockerapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/container"

	"novaagent/engine"
	"novaagent/engine/errdefs"
)

func (s *server) containerStart(r *request) error {
	if r.ContentLength > 7 || r.ContentLength == -1 { // {} and null are let through, as Docker does
		return fmt.Errorf("starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24: %w", errdefs.ErrInvalid)
	}
	changed, err := s.engine.Start(r.Context(), r.vars["id"])
	if err != nil {
		return err
	}
	if !changed {
		return r.done(http.StatusNotModified)
	}
	return r.done(http.StatusNoContent)
}

// stopParams are the parameters of stop and restart.
func (r *request) stopParams() (sig syscall.Signal, grace time.Duration, err error) {
	grace = engine.NoGrace
	if text := r.query.Get("signal"); text != "" && r.version >= 42 {
		if sig, err = engine.ParseSignal(text); err != nil {
			return 0, 0, err
		}
	}
	if r.query.Get("t") != "" {
		seconds, err := r.number("t", 0)
		if err != nil {
			return 0, 0, err
		}
		if seconds < -1 || seconds > 1<<31 {
			seconds = -1
		}
		grace = graceOf(seconds)
	}
	return sig, grace, nil
}

func (s *server) containerStop(r *request) error {
	sig, grace, err := r.stopParams()
	if err != nil {
		return err
	}
	// As Docker: a client that leaves does not call the stop off.
	changed, err := s.engine.Stop(context.WithoutCancel(r.Context()), r.vars["id"], sig, grace)
	if err != nil {
		return err
	}
	if !changed {
		return r.done(http.StatusNotModified)
	}
	return r.done(http.StatusNoContent)
}

func (s *server) containerRestart(r *request) error {
	sig, grace, err := r.stopParams()
	if err != nil {
		return err
	}
	if err := s.engine.Restart(context.WithoutCancel(r.Context()), r.vars["id"], sig, grace); err != nil {
		return err
	}
	return r.done(http.StatusNoContent)
}

func (s *server) containerKill(r *request) error {
	sig := syscall.SIGKILL
	if text := r.query.Get("signal"); text != "" {
		var err error
		if sig, err = engine.ParseSignal(text); err != nil {
			return fmt.Errorf("cannot kill container: %s: %w", r.asked, err)
		}
	}
	if err := s.engine.Kill(r.Context(), r.vars["id"], sig); err != nil {
		return fmt.Errorf("cannot kill container: %s: %w", r.asked, err)
	}
	if sig == syscall.SIGKILL {
		// As Docker: the container has ended when the answer comes.
		if _, err := s.engine.Wait(r.Context(), r.vars["id"], engine.WaitNotRunning); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
			return err
		}
	}
	return r.done(http.StatusNoContent)
}

func (s *server) containerPause(r *request) error {
	if err := s.engine.Pause(r.Context(), r.vars["id"]); err != nil {
		return err
	}
	return r.done(http.StatusNoContent)
}

func (s *server) containerUnpause(r *request) error {
	if err := s.engine.Unpause(r.Context(), r.vars["id"]); err != nil {
		return err
	}
	return r.done(http.StatusNoContent)
}

func (s *server) containerRename(r *request) error {
	if err := s.engine.Rename(r.Context(), r.vars["id"], strings.TrimPrefix(r.query.Get("name"), "/")); err != nil {
		return err
	}
	return r.done(http.StatusNoContent)
}

func (s *server) containerRemove(r *request) error {
	if r.boolean("link", false) {
		return notYet("parameter link")
	}
	if err := s.engine.Remove(r.Context(), r.vars["id"], engine.RemoveOptions{Force: r.boolean("force", false), Volumes: r.boolean("v", false)}); err != nil {
		return err
	}
	return r.done(http.StatusNoContent)
}

func (s *server) containerUpdate(r *request) error {
	var body container.UpdateConfig
	if err := r.decode(&body); err != nil {
		return err
	}
	if r.version < 40 {
		body.PidsLimit = nil
	}
	c, err := s.engine.Inspect(r.vars["id"])
	if err != nil {
		return err
	}
	if err := checkUpdate(&body.Resources); err != nil {
		return err
	}
	var front createRequest
	if err := json.Unmarshal(c.Spec.Front, &front); err != nil {
		return err
	}
	merged := front.HostConfig.Resources
	mergeResources(&merged, &body.Resources)
	res, err := resourcesOf(&merged)
	if err != nil {
		return err
	}
	warnings, err := s.moreResources(&merged, &res)
	if err != nil {
		return err
	}
	old := c.Spec.Resources
	res.DiskBytes, res.OOMScoreAdj, res.ShmBytes = old.DiskBytes, old.OOMScoreAdj, old.ShmBytes
	policy := c.Spec.Restart
	if body.RestartPolicy.Name != "" {
		policy = restartOf(body.RestartPolicy)
		front.HostConfig.RestartPolicy = body.RestartPolicy
	}
	front.HostConfig.Resources = merged
	document, err := json.Marshal(front)
	if err != nil {
		return err
	}
	if err := s.engine.Update(r.Context(), c.ID, engine.Changes{Resources: res, Restart: policy, Front: document}); err != nil {
		return err
	}
	return r.reply(http.StatusOK, container.UpdateResponse{Warnings: warnings})
}

// checkUpdate refuses what can be chosen as a container is made only.
func checkUpdate(r *container.Resources) error {
	for _, field := range []struct {
		name string
		set  bool
	}{
		{"BlkioWeightDevice", len(r.BlkioWeightDevice) > 0}, {"BlkioDeviceReadBps", len(r.BlkioDeviceReadBps) > 0},
		{"BlkioDeviceWriteBps", len(r.BlkioDeviceWriteBps) > 0}, {"BlkioDeviceReadIOps", len(r.BlkioDeviceReadIOps) > 0},
		{"BlkioDeviceWriteIOps", len(r.BlkioDeviceWriteIOps) > 0}, {"CgroupParent", r.CgroupParent != ""}, {"Devices", len(r.Devices) > 0},
		{"DeviceCgroupRules", len(r.DeviceCgroupRules) > 0}, {"DeviceRequests", len(r.DeviceRequests) > 0}, {"Ulimits", len(r.Ulimits) > 0},
		{"MemorySwappiness", r.MemorySwappiness != nil && *r.MemorySwappiness != -1}, {"OomKillDisable", r.OomKillDisable != nil && *r.OomKillDisable},
	} {
		if field.set {
			return fmt.Errorf("%s cannot be changed by an update: %w", field.name, errdefs.ErrInvalid)
		}
	}
	return nil
}

// mergeResources overwrites what an update names.
func mergeResources(to, from *container.Resources) {
	set := func(dst *int64, v int64) {
		if v != 0 {
			*dst = v
		}
	}
	set(&to.CPUShares, from.CPUShares)
	set(&to.Memory, from.Memory)
	set(&to.MemorySwap, from.MemorySwap)
	set(&to.MemoryReservation, from.MemoryReservation)
	set(&to.CPUPeriod, from.CPUPeriod)
	set(&to.CPUQuota, from.CPUQuota)
	set(&to.NanoCPUs, from.NanoCPUs)
	set(&to.CPURealtimePeriod, from.CPURealtimePeriod)
	set(&to.CPURealtimeRuntime, from.CPURealtimeRuntime)
	if from.CpusetCpus != "" {
		to.CpusetCpus = from.CpusetCpus
	}
	if from.CpusetMems != "" {
		to.CpusetMems = from.CpusetMems
	}
	if from.BlkioWeight != 0 {
		to.BlkioWeight = from.BlkioWeight
	}
	if from.PidsLimit != nil {
		to.PidsLimit = from.PidsLimit
	}
}

func (s *server) containerResize(r *request) error {
	width, height, err := r.size()
	if err != nil {
		return err
	}
	c, err := s.engine.Inspect(r.vars["id"])
	if err != nil {
		return err
	}
	if !c.State.Live() {
		return fmt.Errorf("container %s is not running: %w", c.ID, errdefs.ErrConflict)
	}
	if err := s.engine.Resize(r.Context(), r.vars["id"], width, height); err != nil {
		return err
	}
	return r.done(http.StatusOK)
}

func (s *server) containerWait(r *request) error {
	condition := engine.WaitNotRunning
	if text := r.query.Get("condition"); text != "" && r.version >= 30 {
		condition = engine.Condition(text)
	}
	waiter, err := s.engine.Waiter(r.vars["id"], condition)
	if err != nil {
		return err
	}
	if r.version >= 30 {
		// The header tells the client that from now on nothing can be missed.
		r.w.Header().Set("Content-Type", "application/json")
		r.w.WriteHeader(http.StatusOK)
		if err := http.NewResponseController(r.w).Flush(); err != nil {
			return nil
		}
	}
	exit, err := waiter.Wait(r.Context())
	if r.Context().Err() != nil {
		return nil
	}
	if err != nil && condition == engine.WaitRemoved && r.version < 34 {
		return nil // no answer is the only way to tell an error
	}
	answer := container.WaitResponse{StatusCode: int64(exit.Code)}
	if err != nil {
		answer.Error = &container.WaitExitError{Message: messageOf(err)}
	}
	return r.reply(http.StatusOK, answer)
}
