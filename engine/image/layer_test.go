package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"novaagent/engine/errdefs"
	"novaagent/tests/need"
)

// mountLayers mounts layers, topmost first, as a container would see them.
// There is no upper directory, because unmounting one syncs its file system.
func mountLayers(t testing.TB, lowers []string, scratch string) (root string, unmount func()) {
	t.Helper()
	root = filepath.Join(scratch, "root")
	bottom := filepath.Join(scratch, "bottom") // a single layer can't be mounted
	for _, d := range []string{root, bottom} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	opts := "lowerdir=" + strings.Join(append(slices.Clone(lowers), bottom), ":")
	if err := syscall.Mount("overlay", root, "overlay", 0, opts); err != nil {
		t.Fatal(err)
	}
	return root, func() {
		if err := syscall.Unmount(root, 0); err != nil {
			t.Error(err)
		}
	}
}

// listTree describes each file below root.
func listTree(t testing.TB, root string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(p, root)
		switch d.Type() {
		case fs.ModeDir:
			if name != "" {
				out[name] = "dir"
			}
		case 0:
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			out[name] = "file " + string(b)
		case fs.ModeSymlink:
			l, err := os.Readlink(p)
			if err != nil {
				return err
			}
			out[name] = "link " + l
		default:
			out[name] = d.Type().String()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// flatten is the reference: what the OCI specification says that layers make,
// on plain maps.
type flatten map[string]string

func (f flatten) removeBelow(dir string) {
	maps.DeleteFunc(f, func(p, _ string) bool { return strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/") })
}

func (f flatten) apply(layer []entry) {
	own := flatten{}
	fresh, hidden := map[string]bool{}, map[string]bool{}
	for _, e := range layer {
		p := path.Clean("/" + e.Name)
		dir, base := path.Dir(p), path.Base(p)
		for d := dir; d != "/"; d = path.Dir(d) {
			own[d] = "dir"
		}
		switch {
		case base == whiteoutOpaque:
			fresh[dir] = true
		case strings.HasPrefix(base, whiteoutPrefix):
			hidden[path.Join(dir, strings.TrimPrefix(base, whiteoutPrefix))] = true
		case e.Typeflag == tar.TypeDir:
			if old, ok := own[p]; ok && old != "dir" {
				fresh[p] = true
			}
			own[p] = "dir"
		default:
			own.removeBelow(p)
			own[p] = "file " + e.data
			if e.Typeflag == tar.TypeSymlink {
				own[p] = "link " + e.Linkname
			}
		}
	}
	for p := range hidden {
		delete(f, p)
		f.removeBelow(p)
	}
	for p := range fresh {
		f.removeBelow(p)
	}
	for _, p := range slices.Sorted(maps.Keys(own)) {
		what := own[p]
		if what != "dir" || f[p] != "dir" {
			f.removeBelow(p)
		}
		f[p] = what
	}
}

func randomLayer(rt *rapid.T, n int) []entry {
	names := rapid.SampledFrom([]string{"a", "b", "c"})
	var out []entry
	leaf := map[string]bool{}     // names that are no directories now
	explicit := map[string]bool{} // directories with an entry of their own
	// containerd's applier sets the time of a directory at the end, and
	// fails if the layer itself has put something else in its place by then.
	buried := func(p string) bool {
		for q := range explicit {
			if q == p || strings.HasPrefix(q, p+"/") {
				return true
			}
		}
		return false
	}
	for i := range rapid.IntRange(1, 10).Draw(rt, "entries") {
		p := strings.Join(rapid.SliceOfN(names, 1, 3).Draw(rt, "name"), "/")
		blocked := false
		for d := path.Dir(p); d != "."; d = path.Dir(d) {
			blocked = blocked || leaf[d]
		}
		if blocked {
			continue
		}
		dirOf, base := path.Split(p)
		switch rapid.IntRange(0, 5).Draw(rt, "kind") {
		case 0:
			out = append(out, dir(p))
			delete(leaf, p)
			explicit[p] = true
		case 1:
			if buried(p) {
				continue
			}
			out = append(out, symlink(p, fmt.Sprintf("l%d-%d", n, i)))
			leaf[p] = true
		case 2:
			out = append(out, file(dirOf+whiteoutPrefix+base, ""))
		case 3:
			if !leaf[p] {
				out = append(out, file(p+"/"+whiteoutOpaque, ""))
			}
		default:
			if buried(p) {
				continue
			}
			out = append(out, file(p, fmt.Sprintf("%d-%d", n, i)))
			leaf[p] = true
		}
		if leaf[p] {
			maps.DeleteFunc(leaf, func(q string, _ bool) bool { return strings.HasPrefix(q, p+"/") })
		}
	}
	return out
}

// TestWhiteouts compares layers as the kernel overlays them with the reference.
func TestWhiteouts(t *testing.T) {
	need.Root(t)
	rapid.Check(t, func(rt *rapid.T) {
		scratch, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		want := flatten{}
		var lowers []string
		for n := range rapid.IntRange(1, 4).Draw(rt, "layers") {
			l := randomLayer(rt, n)
			for _, e := range l {
				rt.Logf("layer %d: %c %s", n, e.Typeflag, e.Name)
			}
			want.apply(l)
			u := unpackedLayer{dir: filepath.Join(scratch, fmt.Sprint(n))}
			if err := os.Mkdir(u.dir, 0o755); err != nil {
				t.Fatal(err)
			}
			a, err := applyLayer(t.Context(), u.dir, bytes.NewReader(mktar(t, l...)), lowers, newBudget(DefaultLimits()))
			if err != nil {
				rt.Fatal(err)
			}
			u.opaque = a.opaqueRoot
			lowers = u.onto(lowers)
		}
		root, unmount := mountLayers(t, lowers, scratch)
		defer unmount()
		if diff := cmp.Diff(map[string]string(want), listTree(t, root)); diff != "" {
			rt.Fatalf("wanted (-) and got (+):\n%s", diff)
		}
	})
}

func TestOpaqueRoot(t *testing.T) {
	s := newStore(t)
	img, err := s.Import(t.Context(), bytes.NewReader(dockerArchive(t, newImage(
		mktar(t, file("old", "")), mktar(t, file("new", ""), file(whiteoutOpaque, "")), mktar(t, file("top", "")),
	))), ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		lowers, err := s.Lowers(t.Context(), img.Digest)
		if err != nil || len(lowers) != 2 {
			t.Errorf("lowers %v, %v", lowers, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openStore(t, s.dir)
	}
}

func paxFile(name string, records map[string]string) entry {
	e := file(name, "x")
	e.PAXRecords, e.Format = records, tar.FormatPAX
	return e
}

func withOwner(e entry, uid, gid int) entry {
	e.Uid, e.Gid, e.Format = uid, gid, tar.FormatPAX
	return e
}

func device(name string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 5}, ""}
}

// retyped changes the type of the first entry of a tar.
func retyped(data []byte, typ byte) []byte {
	data = slices.Clone(data)
	data[156] = typ
	copy(data[148:], "        ")
	sum := 0
	for _, b := range data[:512] {
		sum += int(b)
	}
	copy(data[148:], fmt.Sprintf("%06o\x00 ", sum))
	return data
}

// sparseBomb is a PAX sparse file of 8 EiB - 1 with no data.
func sparseBomb(t testing.TB) []byte {
	const size = "9223372036854775807"
	var body bytes.Buffer
	body.WriteString("1\n" + size + "\n0\n")
	body.Write(make([]byte, 512-body.Len()))
	e := entry{tar.Header{Name: "GNUSparseFile.0/big", Typeflag: tar.TypeReg, Mode: 0o644, Size: 512, Format: tar.FormatPAX,
		PAXRecords: map[string]string{"XGNU.sparse.major": "1", "XGNU.sparse.minor": "0", "XGNU.sparse.name": "big", "XGNU.sparse.realsize": size},
	}, body.String()}
	return bytes.ReplaceAll(mktar(t, e), []byte("XGNU.sparse."), []byte("GNU.sparse."))
}

// TestHostileLayers unpacks what an attacker would write. The trap is
// outside of the store and must stay untouched.
func TestHostileLayers(t *testing.T) {
	trap := filepath.Join(t.TempDir(), "trap")
	if err := os.MkdirAll(filepath.Join(trap, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(trap, "file"), []byte("host"), 0o600); err != nil {
		t.Fatal(err)
	}
	up := strings.Repeat("../", 40)
	long := strings.Repeat("d/", maxDepth) + "f"
	for name, tt := range map[string]struct {
		layer []byte
		want  error
		has   map[string]string // files that must be there then
	}{
		"dotdot":                 {mktar(t, file(up+trap[1:]+"/new", "x")), errdefs.ErrInvalid, nil},
		"dotdot inside":          {mktar(t, file("a/../../b", "x")), errdefs.ErrInvalid, nil},
		"absolute":               {mktar(t, file(trap+"/new", "x")), nil, map[string]string{trap + "/new": "file x"}},
		"through symlink":        {mktar(t, symlink("s", trap), file("s/new", "x")), nil, map[string]string{trap + "/new": "file x"}},
		"through rel. symlink":   {mktar(t, symlink("s", up+trap[1:]), file("s/new", "x")), nil, map[string]string{trap + "/new": "file x"}},
		"onto symlink":           {mktar(t, symlink("s", trap+"/file"), file("s", "x")), nil, map[string]string{"/s": "file x"}},
		"dir onto symlink":       {mktar(t, symlink("s", trap), dir("s"), file("s/new", "x")), nil, map[string]string{"/s/new": "file x"}},
		"hard link to symlink":   {mktar(t, symlink("s", trap+"/file"), hardlink("h", "s")), nil, map[string]string{"/h": "link " + trap + "/file"}},
		"hard link out":          {mktar(t, hardlink("h", up+trap[1:]+"/file")), errdefs.ErrInvalid, nil},
		"hard link absolute":     {mktar(t, hardlink("h", trap+"/file")), errdefs.ErrInvalid, nil},
		"hard link via symlink":  {mktar(t, symlink("s", trap), hardlink("h", "s/file"), file("h", "x")), errdefs.ErrInvalid, nil},
		"whiteout of dotdot":     {mktar(t, file("a/.wh...", "")), errdefs.ErrInvalid, nil},
		"whiteout of dot":        {mktar(t, file("a/.wh..", "")), errdefs.ErrInvalid, nil},
		"whiteout of nothing":    {mktar(t, file("a/.wh.", "")), errdefs.ErrInvalid, nil},
		"whiteout via symlink":   {mktar(t, symlink("s", trap), file("s/.wh.file", "")), nil, nil},
		"opaque via symlink":     {mktar(t, symlink("s", trap), file("s/"+whiteoutOpaque, "")), nil, nil},
		"aufs bookkeeping":       {mktar(t, file(".wh..wh.aufs", ""), file("f", "x")), nil, map[string]string{"/f": "file x"}},
		"devices":                {mktar(t, device("null"), device(".wh.x"), file("f", "x")), nil, map[string]string{"/f": "file x"}},
		"user id":                {mktar(t, withOwner(file("f", ""), 65536, 0)), errdefs.ErrInvalid, nil},
		"group id":               {mktar(t, withOwner(file("f", ""), 0, 1<<31)), errdefs.ErrInvalid, nil},
		"greatest id":            {mktar(t, withOwner(file("f", "x"), 65535, 65535)), nil, map[string]string{"/f": "file x"}},
		"sparse 8 EiB":           {sparseBomb(t), errdefs.ErrInvalid, nil},
		"too deep":               {mktar(t, file(long, "")), errdefs.ErrInvalid, nil},
		"name of 64 KiB":         {mktar(t, file(strings.Repeat("n", 65536), "")), errdefs.ErrInvalid, nil},
		"component of 300 bytes": {mktar(t, file(strings.Repeat("n", 300), "")), errdefs.ErrInvalid, nil},
		"symlink of 64 KiB":      {mktar(t, symlink("s", strings.Repeat("n", 65536))), errdefs.ErrInvalid, nil},
		"huge attribute":         {mktar(t, paxFile("f", map[string]string{paxXattr + "user.x": strings.Repeat("v", 60000)})), errdefs.ErrInvalid, nil},
		"file as directory":      {mktar(t, file("f", "x"), file("f/g", "x")), errdefs.ErrInvalid, nil},
		"symlink loop":           {mktar(t, symlink("a", "b"), symlink("b", "a"), file("a/x", "")), errdefs.ErrInvalid, nil},
		"root as file":           {mktar(t, file(".", "x"), file("f", "x")), nil, map[string]string{"/f": "file x"}},
		"no tar":                 {[]byte(strings.Repeat("this is no tar ", 100)), errdefs.ErrInvalid, nil},
		"xz":                     {[]byte("\xfd7zXZ\x00rest of it"), errdefs.ErrInvalid, nil},
		"PAX record of 900 KB":   {mktar(t, paxFile("f", map[string]string{"comment": strings.Repeat("v", 900_000)})), nil, map[string]string{"/f": "file x"}},
		"PAX header of 2 MiB":    {retyped(mktar(t, file("pax", strings.Repeat("v", 2<<20)), file("f", "x")), tar.TypeXHeader), errdefs.ErrInvalid, nil},
		"unknown type":           {retyped(mktar(t, file("f", "x")), 'Z'), errdefs.ErrInvalid, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			img, err := s.Import(t.Context(), bytes.NewReader(dockerArchive(t, newImage(tt.layer))), ImportOptions{})
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if err != nil && (strings.Contains(err.Error(), s.dir) || len(err.Error()) > 2000) {
				t.Errorf("error tells too much: %.3000s", err)
			}
			if got := listTree(t, trap); !maps.Equal(got, map[string]string{"/sub": "dir", "/file": "file host"}) {
				t.Errorf("the trap is %v", got)
			}
			if err != nil {
				mustEmpty(t, s)
				return
			}
			lowers, err := s.Lowers(t.Context(), img.Digest)
			if err != nil {
				t.Fatal(err)
			}
			tree := listTree(t, lowers[0])
			for name, want := range tt.has {
				if tree[name] != want {
					t.Errorf("%s is %q, want %q", name, tree[name], want)
				}
			}
			for name, what := range tree {
				if strings.HasPrefix(what, "D") || strings.Contains(name, whiteoutPrefix) {
					t.Errorf("%s is %s", name, what)
				}
			}
		})
	}
}

func TestAttributes(t *testing.T) {
	caps2 := "\x01\x00\x00\x02" + "\x00\x04\x00\x00" + strings.Repeat("\x00", 12)
	caps3 := "\x01\x00\x00\x03" + caps2[4:] + "\x00\x00\x00\x00"
	foreign := caps3[:20] + "\x10\x27\x00\x00"
	s := newStore(t)
	img, err := s.Import(t.Context(), bytes.NewReader(dockerArchive(t, newImage(mktar(t,
		paxFile("caps2", map[string]string{paxXattr + "security.capability": caps2}),
		paxFile("caps3", map[string]string{paxXattr + "security.capability": caps3}),
		paxFile("foreign", map[string]string{paxXattr + "security.capability": foreign}),
		paxFile("bad", map[string]string{paxXattr + "security.capability": "x"}),
		paxFile("others", map[string]string{
			paxXattr + "user.mine": "kept", paxXattr + "user.overlay.opaque": "y", paxXattr + "trusted.overlay.opaque": "y",
			paxXattr + "security.selinux": "system_u", paxXattr + "security.ima": "x", paxXattr + "system.posix_acl_access": "x",
		}),
	)))), ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	lowers, err := s.Lowers(t.Context(), img.Digest)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]map[string]string{
		"caps2": {"security.capability": caps2}, "caps3": {"security.capability": caps2},
		"foreign": {}, "bad": {}, "others": {"user.mine": "kept"},
	} {
		if got := xattrs(t, filepath.Join(lowers[0], name)); !maps.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func xattrs(t testing.TB, name string) map[string]string {
	t.Helper()
	buf := make([]byte, 4096)
	n, err := syscall.Listxattr(name, buf)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for a := range strings.SplitSeq(strings.TrimRight(string(buf[:n]), "\x00"), "\x00") {
		if a == "" {
			continue
		}
		v := make([]byte, 4096)
		n, err := syscall.Getxattr(name, a, v)
		if err != nil {
			t.Fatal(err)
		}
		out[a] = string(v[:n])
	}
	return out
}

// zeros is a tar of one file of zeros, endless to an unpacker.
func zeros(t testing.TB, size int64) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "zeros", Typeflag: tar.TypeReg, Mode: 0o644, Size: size}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(w, zeroReader{}, size); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestLimits(t *testing.T) {
	many := make([]entry, 101)
	for i := range many {
		many[i] = file(fmt.Sprint(i), "")
	}
	layers := make([][]byte, 6)
	for i := range layers {
		layers[i] = mktar(t, file(fmt.Sprint(i), "x"))
	}
	bomb := func() *testImage { return newImage(zeros(t, 8<<20)) }
	small := Limits{MaxUnpackedBytes: 4 << 20}
	for name, tt := range map[string]struct {
		archive []byte
		limits  Limits
	}{
		"unpacked, plain": {dockerArchive(t, bomb()), small},
		"unpacked, gzip":  {dockerArchive(t, bomb().compressed(t, gz)), small},
		"unpacked, zstd":  {dockerArchive(t, bomb().compressed(t, zst)), small},
		"padding":         {dockerArchive(t, newImage(append(mktar(t, file("f", "")), make([]byte, 8<<20)...)).compressed(t, gz)), small},
		"sum of layers":   {dockerArchive(t, newImage(zeros(t, 3<<20), zeros(t, 3<<20+1))), small},
		"entries":         {dockerArchive(t, newImage(mktar(t, many...))), Limits{MaxEntries: 100}},
		"layers":          {dockerArchive(t, newImage(layers...)), Limits{MaxLayers: 5}},
		"archive":         {dockerArchive(t, bomb()), Limits{MaxArchiveBytes: 1 << 20}},
		"outer gzip":      {gz(t, dockerArchive(t, bomb())), Limits{MaxArchiveBytes: 1 << 20}},
		"JSON":            {dockerArchive(t, newImage(layers...)), Limits{MaxJSONBytes: 200}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			_, err := s.Import(t.Context(), bytes.NewReader(tt.archive), ImportOptions{Limits: tt.limits})
			if !errors.Is(err, errdefs.ErrInvalid) || !strings.Contains(fmt.Sprint(err), "limit") && name != "entries" {
				t.Errorf("got %v", err)
			}
			mustEmpty(t, s)
		})
	}
}

func TestFileModes(t *testing.T) {
	suid := file("suid", "x")
	suid.Mode = 0o4755
	s := newStore(t)
	img, err := s.ImportRootfs(t.Context(), bytes.NewReader(mktar(t, withOwner(suid, 0, 7), hardlink("twin", "suid"))), ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	lowers, err := s.Lowers(t.Context(), img.Digest)
	if err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(filepath.Join(lowers[0], "suid"))
	if err != nil {
		t.Fatal(err)
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || st.Nlink != 2 {
		t.Errorf("stat %+v", st)
	}
	names := slices.Sorted(maps.Keys(listTree(t, lowers[0])))
	if !slices.Equal(names, []string{"/suid", "/twin"}) {
		t.Errorf("files %v", names)
	}
	fi, err = os.Stat(s.dir)
	if err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("the store's directory is %v, %v", fi.Mode(), err)
	}
}
