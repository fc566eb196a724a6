package guest

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed testdata/init
var firstProgram []byte

//go:embed testdata/stage2
var secondProgram []byte

// modules are what the guest needs before it sees this machine's files; it loads others by itself.
var modules = []string{"virtio_pci", "virtio_blk", "9pnet_virtio", "9p", "overlay", "crc32c_generic", "ext4", "xfs"}

// machine is a guest: its kernel, its first files and its scratch disk, in a directory.
type machine struct {
	dir     string
	release string // of the kernel
}

// newMachine makes a guest with a scratch disk of the file system that mkfs makes.
func newMachine(ctx context.Context, dir string) (*machine, error) {
	m := &machine{dir: dir}
	if err := m.fetchKernel(ctx); err != nil {
		return nil, fmt.Errorf("kernel: %w", err)
	}
	if err := m.makeInitramfs(ctx); err != nil {
		return nil, fmt.Errorf("initramfs: %w", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "programs"), 0o755); err != nil {
		return nil, err
	}
	return m, os.WriteFile(filepath.Join(dir, "stage2"), secondProgram, 0o644)
}

// makeDisk makes the scratch disk anew. It is mounted with the options, mount(8)'s.
func (m *machine) makeDisk(ctx context.Context, options string, mkfs ...string) error {
	disk := filepath.Join(m.dir, "disk")
	if err := errors.Join(os.RemoveAll(disk), os.WriteFile(disk, nil, 0o600), os.Truncate(disk, 3<<30)); err != nil {
		return err
	}
	if _, err := output(ctx, m.dir, mkfs[0], append(mkfs[1:], disk)...); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(m.dir, "mount-options"), []byte(options+"\n"), 0o644)
}

// fetchKernel unpacks the kernel package that Debian's stable release is at into dir/kernel.
func (m *machine) fetchKernel(ctx context.Context) error {
	into := filepath.Join(m.dir, "kernel")
	if err := os.Mkdir(into, 0o755); err != nil {
		return err
	}
	depends, err := output(ctx, into, "apt-cache", "depends", "linux-image-amd64")
	if err != nil {
		return err
	}
	_, name, found := strings.Cut(depends, "Depends: ")
	if !found {
		return fmt.Errorf("linux-image-amd64 depends on no kernel: %s", depends)
	}
	name = strings.Fields(name)[0]
	m.release = strings.TrimPrefix(name, "linux-image-")
	if _, err := output(ctx, into, "apt-get", "-q", "-o", "Acquire::Retries=3", "download", name); err != nil {
		return err
	}
	packages, err := filepath.Glob(filepath.Join(into, "*.deb"))
	if err != nil || len(packages) != 1 {
		return fmt.Errorf("downloaded %v: %w", packages, err)
	}
	if _, err := output(ctx, into, "dpkg-deb", "-x", packages[0], "."); err != nil {
		return err
	}
	if err := os.Remove(packages[0]); err != nil {
		return err
	}
	_, err = output(ctx, into, "depmod", "-b", into, m.release)
	return err
}

func (m *machine) makeInitramfs(ctx context.Context) error {
	root := filepath.Join(m.dir, "initramfs")
	for _, d := range []string{"bin", "proc", "sys", "dev", "lower", "upper", "new", "modules"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	if err := copyFile(filepath.Join(root, "bin/busybox"), busybox, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, "init"), firstProgram, 0o755); err != nil {
		return err
	}
	loaded := map[string]bool{}
	for _, name := range modules {
		text, err := output(ctx, m.dir, "modprobe", "-d", filepath.Join(m.dir, "kernel"), "-S", m.release, "--show-depends", name)
		if err != nil {
			return err
		}
		for line := range strings.Lines(text) {
			f := strings.Fields(line)
			if len(f) < 2 || f[0] != "insmod" || loaded[f[1]] {
				continue
			}
			loaded[f[1]] = true
			// Loaded in the order of their names.
			to := filepath.Join(root, "modules", fmt.Sprintf("%02d-%s", len(loaded), filepath.Base(f[1])))
			if err := copyFile(to, f[1], 0o644); err != nil {
				return err
			}
		}
	}
	_, err = output(ctx, root, "sh", "-c", "find . | cpio --quiet -o -H newc > ../initramfs.cpio")
	return err
}

// run boots the guest for a job, a shell script, and returns what came over the serial line.
// The guest ends by itself; ctx's end is its end, too.
func (m *machine) run(ctx context.Context, job string, progress io.Writer) (string, error) {
	if err := os.WriteFile(filepath.Join(m.dir, "job"), []byte(job), 0o644); err != nil {
		return "", err
	}
	var serial bytes.Buffer
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-M", "pc", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "2048", "-smp", "2",
		"-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio", "-net", "none",
		"-kernel", filepath.Join(m.dir, "kernel/boot/vmlinuz-"+m.release), "-initrd", filepath.Join(m.dir, "initramfs.cpio"),
		"-append", "console=ttyS0 quiet panic=-1 guest.stage2="+filepath.Join(m.dir, "stage2"),
		"-fsdev", "local,id=host,path=/,readonly=on,security_model=none,multidevs=remap",
		"-device", "virtio-9p-pci,fsdev=host,mount_tag=host",
		"-drive", "file="+filepath.Join(m.dir, "disk")+",format=raw,if=virtio,cache=unsafe")
	cmd.Stdout = io.MultiWriter(&serial, progress)
	cmd.Stderr = cmd.Stdout
	err := cmd.Run()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return strings.ReplaceAll(serial.String(), "\r", ""), err
}

func copyFile(to, from string, mode os.FileMode) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, mode)
}

func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	text, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, text)
	}
	return string(text), nil
}
