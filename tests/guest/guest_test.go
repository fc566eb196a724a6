package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"novaagent/engine/enginetest"
	"novaagent/tests/need"
	"novaagent/tests/program"
)

// patience bounds one boot with all it runs.
const patience = 15 * time.Minute

// suites are the tests that run in the guest: what depends on the kernel.
var suites = []struct {
	pkg  string
	disk string // of disks
	run  string // as -test.run
}{
	{"engine/kernel", "xfs", "."},
	{"engine/runtime", "xfs", "^Test(DefaultConfinement|DeviceCgroup|CapabilitiesAndFlags|SeccompProfileOfTheUser|FileOwnership|Mounts|" +
		"NamesSysctlsAndHostNetwork|ContainersSurviveTheAgent|ShimKilled|Exec|ExecTerminal|OutOfMemory|Limits.*|Pause.*|UnifiedHierarchyAlone)$"},
	{"engine", "xfs", "^TestQuota$/^here$"},
	{"engine", "ext4", "^TestSharedDevices$"},
	{"engine", "ext4", "^Test(Quota|Bridge|Ports|RunWaitRemove|ContainersOutliveTheEngine)$/^(here|[^b]*)$"},
}

// disks are the scratch disks that suites run on: how they are made and mounted.
var disks = map[string]struct {
	mkfs    []string
	options string
}{
	"xfs":  {[]string{"mkfs.xfs", "-q"}, "-t xfs -o prjquota"},
	"ext4": {[]string{"mkfs.ext4", "-q", "-F", "-O", "quota,project"}, "-t ext4 -o prjquota"},
}

func setUp(t *testing.T) *machine {
	t.Helper()
	need.Root(t)
	need.Command(t, "qemu-system-x86_64", "cpio", "depmod", "modprobe", "mkfs.xfs", "mkfs.ext4", "busybox", "apt-get")
	if runtime.GOARCH != "amd64" {
		need.Unmet(t, "an amd64 machine: the guest sees its programs")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	m, err := newMachine(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// boot runs a job in the guest. end tells what the job has to have said.
func (m *machine) boot(t *testing.T, job, end string) string {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, errors.New("the guest did not end"))
	defer cancel()
	text, err := m.run(ctx, job, t.Output())
	if err != nil || !strings.Contains(text, end) {
		t.Fatalf("the guest ended early: %v", err)
	}
	return text
}

// TestDebianKernel runs the suites.
func TestDebianKernel(t *testing.T) {
	m := setUp(t)
	build := errgroup.Group{}
	for _, pkg := range []string{"engine/shim", "engine/runtime/testdata/prober"} {
		build.Go(func() error {
			return program.BuildTo(filepath.Join(m.dir, "programs", path.Base(pkg)), "build", "novaagent/"+pkg)
		})
	}
	built := map[string]bool{}
	for _, s := range suites {
		if !built[s.pkg] {
			built[s.pkg] = true
			build.Go(func() error { return program.BuildTo(m.testBinary(s.pkg), "test", "novaagent/"+s.pkg) })
		}
	}
	if err := build.Wait(); err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range disks {
		t.Run(name, func(t *testing.T) {
			if err := m.makeDisk(t.Context(), d.options, d.mkfs...); err != nil {
				t.Fatal(err)
			}
			job, count := "", 0
			for _, s := range suites {
				if s.disk != name {
					continue
				}
				count++
				job += fmt.Sprintf("cd %s && NOVA_AGENT_TEST_QUOTA=project NOVA_AGENT_TEST_MODULES=all %s -test.v -test.run '%s'; echo \"guest: suite $?\"\n",
					filepath.Join(root, s.pkg), m.testBinary(s.pkg), s.run)
			}
			text := m.boot(t, job, "guest: done")
			if n := strings.Count(text, "guest: suite "); n != count {
				t.Errorf("%d of %d suites were run", n, count)
			}
			report(t, text)
		})
	}
}

func (m *machine) testBinary(pkg string) string {
	return filepath.Join(m.dir, strings.ReplaceAll(pkg, "/", "-")+".test")
}

var result = regexp.MustCompile(`(?m)^--- (PASS|FAIL|SKIP): (\S+)`)

// report makes a test of each test that the guest has run.
func report(t *testing.T, text string) {
	t.Helper()
	found := result.FindAllStringSubmatch(text, -1)
	if len(found) == 0 {
		t.Error("no test was run")
	}
	for _, r := range found {
		t.Run(r[2], func(t *testing.T) {
			if r[1] != "PASS" {
				t.Errorf("%s in the guest: its output is above", r[1])
			}
		})
	}
	if n := strings.Count(text, "guest: suite 0"); n != strings.Count(text, "guest: suite ") {
		t.Error("a suite failed")
	}
}

// TestReboot takes the power from a machine with containers that run and boots it again: those that are to be restarted
// are, with their files, their volume and their published port; those that are not are stopped.
func TestReboot(t *testing.T) {
	need.Command(t, "docker", "curl")
	m := setUp(t)
	d := disks["xfs"]
	if err := m.makeDisk(t.Context(), d.options, d.mkfs...); err != nil {
		t.Fatal(err)
	}
	agent := filepath.Join(m.dir, "nova-agent")
	if err := program.BuildTo(agent, "build", "novaagent/nova-agent"); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(m.dir, "image.tar")
	if err := os.WriteFile(image, enginetest.Archive(t, "busybox:latest", ocispec.ImageConfig{Cmd: []string{"sh"}, Env: []string{"PATH=/bin"}}), 0o644); err != nil {
		t.Fatal(err)
	}
	script := func(name string) string {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return strings.NewReplacer("@agent@", agent, "@image@", image).Replace(string(b))
	}
	m.boot(t, script("reboot-before"), "guest: before is done")
	text := m.boot(t, script("reboot-after"), "guest: done")
	for _, want := range []string{
		"names: always ",      // what runs now
		"stopped: 255 /never", // and what does not, with Docker's exit code for a lost one
		"starts: 2 in the files, 2 in the volume",
		"port: 2",
		"left: lo ",
	} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("after the reboot there is no %q", want)
		}
	}
}
