package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
	"novaagent/engine/runtime"
)

// QuotaKind names the mechanism that bounds what a container writes.
type QuotaKind string

const (
	QuotaNone    QuotaKind = ""        // no quota asked for
	QuotaBtrfs   QuotaKind = "btrfs"   // a subvolume with a qgroup limit
	QuotaProject QuotaKind = "project" // a project quota of ext4 or xfs
	QuotaLoop    QuotaKind = "loop"    // a sparse file with a file system of its own
)

// minDisk is the smallest quota; an ext4 with a journal needs about half of it.
const minDisk = 16 << 20

const quotaImage = "quota.img"

// diskDir is where the writable layer of a container with a quota is.
func diskDir(dir string) string { return filepath.Join(dir, "disk") }

// rootfs is the overlay of a container.
func (e *Engine) rootfs(rec *Container, lowers []string) runtime.Rootfs {
	layer := e.containerDir(rec.ID)
	if rec.Spec.Resources.DiskBytes > 0 {
		layer = diskDir(layer)
	}
	return runtime.Rootfs{Lowers: append(slices.Clip(lowers), e.skeletonDir()), Upper: filepath.Join(layer, "upper"), Work: filepath.Join(layer, "work")}
}

// prepareQuota makes disk/ a directory that holds no more than the container may write, with
// the best mechanism the file system has. What was begun before is completed with the same one.
func (e *Engine) prepareQuota(ctx context.Context, rec *Container) (QuotaKind, error) {
	dir := e.containerDir(rec.ID)
	disk := diskDir(dir)
	if rec.Quota != QuotaNone {
		return rec.Quota, e.applyQuota(ctx, rec, rec.Quota)
	}
	if _, err := os.Lstat(disk); err == nil {
		return QuotaNone, fmt.Errorf("%s is there already: %w", disk, errdefs.ErrConflict)
	}
	for _, kind := range []QuotaKind{QuotaBtrfs, QuotaProject} {
		err := e.applyQuota(ctx, rec, kind)
		if !errors.Is(err, errdefs.ErrUnsupported) {
			return kind, err
		}
	}
	return QuotaLoop, e.applyQuota(ctx, rec, QuotaLoop)
}

// applyQuota is idempotent. ErrUnsupported: the file system has no such mechanism.
func (e *Engine) applyQuota(ctx context.Context, rec *Container, kind QuotaKind) error {
	dir := e.containerDir(rec.ID)
	limit := rec.Spec.Resources.DiskBytes
	switch kind {
	case QuotaBtrfs:
		return kernel.BtrfsQuota(diskDir(dir), limit)
	case QuotaProject:
		// The id range is this container's alone, so its first id will do for a project, too.
		if rec.IDs.IsZero() {
			return fmt.Errorf("project quota without an id range: %w", errdefs.ErrUnsupported)
		}
		return kernel.ProjectQuota(diskDir(dir), rec.IDs.Start, limit)
	case QuotaLoop:
		return loopQuota(ctx, dir, limit)
	}
	return fmt.Errorf("quota of kind %q: %w", kind, errdefs.ErrUnsupported)
}

// loopQuota mounts a file system of limit bytes, in a sparse file, at disk/.
func loopQuota(ctx context.Context, dir string, limit int64) error {
	disk := diskDir(dir)
	if err := mkdirs(disk); err != nil {
		return err
	}
	if mounted, err := kernel.IsMountPoint(disk); err != nil || mounted {
		return err
	}
	img := filepath.Join(dir, quotaImage)
	if _, err := os.Stat(img); err != nil {
		if err := makeExt4(ctx, img, limit); err != nil {
			return err
		}
	}
	return kernel.MountLoop(img, disk, "ext4")
}

// makeExt4 makes an empty file system; half-made ones have another name.
func makeExt4(ctx context.Context, img string, size int64) (err error) {
	half := img + ".new"
	f, err := os.OpenFile(half, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err == nil {
		err = errors.Join(f.Truncate(size&^4095), f.Close())
	}
	if err != nil {
		return fileError(err)
	}
	mkfs, err := lookSbin("mkfs.ext4")
	if err != nil {
		return fmt.Errorf("this file system has no quotas, and a file system of its own for the container needs mkfs.ext4 (e2fsprogs): %v: %w",
			err, errdefs.ErrUnsupported)
	}
	// Lazy: neither inode tables nor journal are written now; the file stays sparse.
	cmd := exec.CommandContext(ctx, mkfs, "-q", "-F", "-m", "0", "-b", "4096",
		"-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", half)
	if out, err := cmd.CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("%s: %v: %s: %w", mkfs, err, out, errdefs.ErrUnavailable), os.Remove(half))
	}
	return fileError(os.Rename(half, img))
}

// lookSbin finds a program of the administrator's, wherever PATH points.
func lookSbin(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	path, err := exec.LookPath("/usr/sbin/" + name)
	if err != nil {
		path, err = exec.LookPath("/sbin/" + name)
	}
	return path, err
}

// purgeQuota undoes prepareQuota but for the files, in a container's directory.
func (e *Engine) purgeQuota(_ context.Context, dir string) error {
	disk := diskDir(dir)
	if _, err := os.Lstat(disk); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := kernel.Unmount(disk); err != nil {
		return err
	}
	return kernel.RemoveQuota(disk)
}

// fileError gives an error of the file system its kind; nil stays nil.
func fileError(err error) error {
	switch {
	case err == nil:
		return nil
	case kernel.IsNoSpace(err):
		return fmt.Errorf("%v: %w", err, errdefs.ErrExhausted)
	}
	return fmt.Errorf("%w: %w", err, errdefs.ErrUnavailable)
}
