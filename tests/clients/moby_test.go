package clients

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"novaagent/tests/peer"
)

// TestMobyClient runs the Go client of Docker's makers, whose version is go.mod's.
func TestMobyClient(t *testing.T) {
	forServers(t, func(t *testing.T, d *peer.Daemon) {
		ctx := t.Context()
		c, err := client.New(client.WithHost("unix://" + d.Socket))
		check(t, err)
		defer c.Close()

		archive, err := os.Open(busybox(t))
		check(t, err)
		defer archive.Close()
		loaded, err := c.ImageLoad(ctx, archive)
		check(t, err)
		if text, err := io.ReadAll(loaded); err != nil || !strings.Contains(string(text), "Loaded image: busybox:latest") {
			t.Errorf("load: %s, %v", text, err)
		}
		loaded.Close()
		saved, err := c.ImageSave(ctx, []string{"busybox"})
		check(t, err)
		if n, err := io.Copy(io.Discard, saved); err != nil || n < 1<<19 {
			t.Errorf("save: %d bytes, %v", n, err)
		}
		saved.Close()
		_, err = c.ImageInspect(ctx, "absent")
		notFound(t, err)

		create := func(name string, command ...string) string {
			t.Helper()
			made, err := c.ContainerCreate(ctx, client.ContainerCreateOptions{
				Name: name, Config: &container.Config{Image: "busybox", Cmd: command, Labels: map[string]string{"who": name}},
				HostConfig: &container.HostConfig{NetworkMode: "none", Binds: []string{"go-data:/data"}},
			})
			check(t, err)
			return made.ID
		}
		listening, stop := context.WithCancel(ctx)
		defer stop()
		events := c.Events(listening, client.EventsListOptions{Filters: make(client.Filters).Add("label", "who=go-first")})
		id := create("go-first", "sh", "-c", "echo out; echo err >&2; sleep 1000")
		_, err = c.ContainerStart(ctx, id, client.ContainerStartOptions{})
		check(t, err)
		_, err = c.ContainerCreate(ctx, client.ContainerCreateOptions{Name: "go-first", Image: "busybox"})
		if !cerrdefs.IsConflict(err) {
			t.Errorf("a name that is taken: %v", err)
		}

		made, err := c.ExecCreate(ctx, id, client.ExecCreateOptions{Cmd: []string{"sh", "-c", "cat; echo err >&2; exit 4"}, AttachStdin: true, AttachStdout: true, AttachStderr: true})
		check(t, err)
		session, err := c.ExecAttach(ctx, made.ID, client.ExecAttachOptions{})
		check(t, err)
		_, err = io.WriteString(session.Conn, "over the wire\n")
		check(t, err)
		check(t, session.CloseWrite())
		expectStreams(t, session.Reader, "over the wire\n", "err\n")
		session.Close()
		if x, err := c.ExecInspect(ctx, made.ID, client.ExecInspectOptions{}); err != nil || x.ExitCode != 4 {
			t.Errorf("exec: %+v, %v", x, err)
		}

		var file bytes.Buffer
		w := tar.NewWriter(&file)
		check(t, w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: 5}))
		_, err = w.Write([]byte("hello"))
		check(t, err)
		check(t, w.Close())
		_, err = c.CopyToContainer(ctx, id, client.CopyToContainerOptions{DestinationPath: "/data", Content: &file})
		check(t, err)
		back, err := c.CopyFromContainer(ctx, id, client.CopyFromContainerOptions{SourcePath: "/data/file"})
		check(t, err)
		r := tar.NewReader(back.Content)
		if h, err := r.Next(); err != nil || h.Name != "file" || back.Stat.Size != 5 {
			t.Errorf("copied: %+v, %+v, %v", h, back.Stat, err)
		}
		back.Content.Close()
		_, err = c.CopyFromContainer(ctx, id, client.CopyFromContainerOptions{SourcePath: "/absent"})
		notFound(t, err)

		logs, err := c.ContainerLogs(ctx, id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true})
		check(t, err)
		expectStreams(t, logs, "out\n", "err\n")
		logs.Close()
		stats, err := c.ContainerStats(ctx, id, client.ContainerStatsOptions{})
		check(t, err)
		if text, err := io.ReadAll(stats.Body); err != nil || !bytes.Contains(text, []byte(`"memory_stats":{"usage":`)) {
			t.Errorf("stats: %s, %v", text, err)
		}
		stats.Body.Close()
		if list, err := c.ContainerList(ctx, client.ContainerListOptions{}); err != nil || len(list.Items) != 1 || list.Items[0].ID != id {
			t.Errorf("list: %+v, %v", list, err)
		}

		gone := c.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionRemoved})
		_, err = c.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: "KILL"})
		check(t, err)
		_, err = c.VolumeRemove(ctx, "go-data", client.VolumeRemoveOptions{})
		if !cerrdefs.IsConflict(err) {
			t.Errorf("a volume in use: %v", err)
		}
		_, err = c.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true})
		check(t, err)
		select {
		case end := <-gone.Result:
			if end.StatusCode != 137 {
				t.Errorf("wait: %+v", end)
			}
		case err := <-gone.Error:
			t.Error(err)
		}
		var seen []string
		for len(seen) == 0 || seen[len(seen)-1] != "destroy" {
			select {
			case e := <-events.Messages:
				if e.Type == "container" {
					seen = append(seen, string(e.Action))
				}
			case err := <-events.Err:
				t.Fatal(err)
			}
		}
		for _, action := range []string{"start", "die", "destroy"} {
			if !strings.Contains(fmt.Sprint(seen), action) {
				t.Errorf("events: %v", seen)
			}
		}
		_, err = c.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
		notFound(t, err)

		// attach before start
		made2, err := c.ContainerCreate(ctx, client.ContainerCreateOptions{
			Config:     &container.Config{Image: "busybox", Cmd: []string{"cat"}, OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true, AttachStderr: true},
			HostConfig: &container.HostConfig{NetworkMode: "none", AutoRemove: true},
		})
		check(t, err)
		attached, err := c.ContainerAttach(ctx, made2.ID, client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true})
		check(t, err)
		ended := c.ContainerWait(ctx, made2.ID, client.ContainerWaitOptions{Condition: container.WaitConditionRemoved})
		_, err = c.ContainerStart(ctx, made2.ID, client.ContainerStartOptions{})
		check(t, err)
		_, err = io.WriteString(attached.Conn, "attached\n")
		check(t, err)
		check(t, attached.CloseWrite())
		expectStreams(t, attached.Reader, "attached\n", "")
		attached.Close()
		select {
		case end := <-ended.Result:
			if end.StatusCode != 0 {
				t.Errorf("wait: %+v", end)
			}
		case err := <-ended.Error:
			t.Error(err)
		}
		_, err = c.VolumeRemove(ctx, "go-data", client.VolumeRemoveOptions{})
		check(t, err)
	})
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func notFound(t *testing.T, err error) {
	t.Helper()
	if !cerrdefs.IsNotFound(err) {
		t.Errorf("of what is not there: %v", err)
	}
}

// expectStreams reads a multiplexed stream to its end.
func expectStreams(t *testing.T, r io.Reader, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &errs, r); err != nil {
		t.Error(err)
	}
	if out.String() != stdout || errs.String() != stderr {
		t.Errorf("stdout %q and stderr %q, want %q and %q", out.String(), errs.String(), stdout, stderr)
	}
}
