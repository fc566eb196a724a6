package kernel

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"novaagent/tests/need"
)

// TestOverlayWays mounts an overlay over idmapped layers in each of the ways that kernels of
// different age take, and in the one that MountOverlay chooses for this kernel.
func TestOverlayWays(t *testing.T) {
	need.Root(t)
	user, _, err := NewNamespaces(IDMap{UIDs: []IDRange{{0, 1_600_000_000, 65536}}, GIDs: []IDRange{{0, 1_600_000_000, 65536}}}, false)
	if err != nil {
		t.Fatal(err)
	}
	defer user.Close()
	ways := map[string]func(OverlayOptions, []*os.File) (*os.File, error){
		"chosen":   func(o OverlayOptions, _ []*os.File) (*os.File, error) { return MountOverlay(o) },
		"attached": mountOverlayAttached,
	}
	if overlayTakesFDs() {
		ways["by descriptor"] = func(o OverlayOptions, l []*os.File) (*os.File, error) { return mountOverlay(o, l, nil) }
	}
	for name, mount := range ways {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o := OverlayOptions{IDMap: int(user.Fd()), Upper: dir + "/upper", Work: dir + "/work", Attrs: AttrNoDev}
			var lowers []*os.File
			for _, d := range []string{"top", "bottom", "upper", "work"} {
				if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			for _, d := range []string{"top", "bottom"} {
				if err := os.WriteFile(filepath.Join(dir, d, "file"), []byte(d), 0o644); err != nil {
					t.Fatal(err)
				}
				f, err := Bind(unix.AT_FDCWD, filepath.Join(dir, d), BindOptions{IDMap: o.IDMap})
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				lowers = append(lowers, f)
				o.Lowers = append(o.Lowers, filepath.Join(dir, d))
			}
			m, err := mount(o, lowers)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			b, err := ReadFileInRoot(m, "file", 10)
			if err != nil || string(b) != "top" {
				t.Errorf("%q, %v", b, err)
			}
			f, err := OpenInRoot(m, "file", unix.O_PATH)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			var st unix.Stat_t
			if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Uid != 1_600_000_000 {
				t.Errorf("owner %d, %v", st.Uid, err)
			}
		})
	}
}
