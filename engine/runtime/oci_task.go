package runtime

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
)

// removeUnstarted removes a container that its runtime has created and not started, since its agent died in between;
// done tells that it was so. If the runtime does not answer, what runs counts as started.
func (t *Task) removeUnstarted(ctx context.Context) (done bool, err error) {
	status, err := t.r.ociStatus(ctx, t.rec.OCI, t.rec.ID)
	if err != nil {
		t.r.log.WarnContext(ctx, "an OCI runtime does not tell the state of a container", "container_id", t.rec.ID, "runtime", t.rec.OCI.Name, "error", err)
		return false, nil
	}
	if status != "created" && status != "creating" {
		return false, nil
	}
	return true, t.Delete(ctx)
}

// signalOCI is Signal by way of the runtime. False: it could not, the process is to be sent the signal itself.
func (t *Task) signalOCI(ctx context.Context, sig syscall.Signal) bool {
	if t.rec.OCI == nil {
		return false
	}
	_, err := t.r.runOCI(ctx, t.rec.OCI, t.rec.ID, "kill", nil, strconv.Itoa(int(sig)))
	return err == nil
}

// pauseOCI is Pause or Resume by way of the runtime.
func (t *Task) pauseOCI(ctx context.Context, verb string) error {
	if _, err := t.freezer(); err != nil {
		return err
	}
	if _, err := t.r.runOCI(ctx, t.rec.OCI, t.rec.ID, verb, nil); err != nil {
		return fmt.Errorf("container %s: %w", t.rec.ID, err)
	}
	return nil
}

// updateOCI is Update by way of the runtime.
func (t *Task) updateOCI(ctx context.Context, limits *specs.LinuxResources) error {
	data, err := json.Marshal(limits)
	if err != nil {
		return fmt.Errorf("container %s: update: %v: %w", t.rec.ID, err, errdefs.ErrInvalid)
	}
	const name = "resources.json"
	if err := kernel.WriteFile(filepath.Join(t.r.taskDir(t.rec.ID), name), data, os.O_CREATE|os.O_TRUNC); err != nil {
		return fmt.Errorf("container %s: update: %w", t.rec.ID, err)
	}
	if _, err := t.r.runOCI(ctx, t.rec.OCI, t.rec.ID, "update", []string{"--resources", name}); err != nil {
		return fmt.Errorf("container %s: %w: %w", t.rec.ID, err, errdefs.ErrInvalid)
	}
	return nil
}
