package image

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"novaagent/tests/need"
)

// TestMain is also the importer that TestCrash kills: it imports the archive
// again and again and says so after each step.
func TestMain(m *testing.M) {
	dir := os.Getenv("IMAGE_TEST_IMPORTER")
	if dir == "" {
		os.Exit(m.Run())
	}
	if err := importForEver(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func importForEver(dir string) error {
	archive, err := os.ReadFile(filepath.Join(dir, "archive"))
	if err != nil {
		return err
	}
	ctx := context.Background()
	s, err := Open(ctx, filepath.Join(dir, "store"), Options{})
	if err != nil {
		return err
	}
	for {
		img, err := s.Import(ctx, bytes.NewReader(archive), ImportOptions{
			Names: []string{"crash"},
			Progress: func(p Progress) {
				fmt.Println(p.Stage, p.Layer, p.Bytes)
			},
		})
		if err != nil {
			return err
		}
		fmt.Println("imported")
		if err := s.Remove(ctx, string(img.Digest)); err != nil {
			return err
		}
		fmt.Println("removed")
	}
}

// TestCrash kills an importer with SIGKILL after each of its steps. The next
// Open must find the image whole or not at all, and nothing besides.
func TestCrash(t *testing.T) {
	need.Root(t)
	archive := dockerArchive(t, newImage(
		zeros(t, 700_000), mktar(t, file("a", "a")), zeros(t, 300_000), mktar(t, file("etc/motd", "top"))))
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "archive"), archive, 0o600); err != nil {
		t.Fatal(err)
	}
	found := 0
	for step := 1; step <= 24; step++ {
		killAfter(t, dir, step)
		s := openStore(t, filepath.Join(dir, "store"))
		for _, img := range s.List() {
			found++
			if got, _ := readLayers(t, s, img.Digest, "etc/motd"); got != "top" {
				t.Errorf("step %d: image without its top layer", step)
			}
			if got, _ := readLayers(t, s, img.Digest, "zeros"); len(got) != 300_000 {
				t.Errorf("step %d: %d bytes in a layer", step, len(got))
			}
			if err := s.Remove(t.Context(), string(img.Digest)); err != nil {
				t.Error(err)
			}
		}
		mustEmpty(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if found == 0 {
		t.Error("no kill came after an import")
	}
}

// killAfter runs the importer and kills it after so many of its steps.
func killAfter(t *testing.T, dir string, steps int) {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0])
	c.Env = append(os.Environ(), "IMAGE_TEST_IMPORTER="+dir)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for range steps {
		if !lines.Scan() {
			t.Errorf("the importer ended: %s", stderr.String())
			break
		}
	}
	if err := c.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = c.Wait() // killed, as it should be
}
