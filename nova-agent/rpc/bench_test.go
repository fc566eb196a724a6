package rpc

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// BenchmarkCall compares the round trip of a call, one after the other, of this
// package with that of Python's oslo.messaging: client and server each in the
// same language, on the same broker, in the same run.
func BenchmarkCall(b *testing.B) {
	url := broker(b).URL("rabbit")
	o := DefaultOptions()
	o.TransportURL = url
	o.Logger = slog.New(slog.DiscardHandler)
	server, client := newBus(b, o), newBus(b, o)
	args := map[string]any{"text": strings.Repeat("x", 1000)}
	ctx := context.Background()

	b.Run("go", func(b *testing.B) {
		name := topic()
		s := serve(b, server, ServerOptions{Topics: []string{name}}, map[string]Handler{"echo": echo})
		target := Target{Topic: name, Server: "c1", Version: "6.0"}
		for b.Loop() {
			if _, err := client.Call(ctx, target, "echo", args); err != nil {
				b.Fatal(err)
			}
		}
		b.StopTimer()
		if err := s.Stop(timeout(b)); err != nil {
			b.Fatal(err)
		}
	})
	b.Run("go-64-at-a-time", func(b *testing.B) {
		name := topic()
		serve(b, server, ServerOptions{Topics: []string{name}}, map[string]Handler{"echo": echo})
		target := Target{Topic: name, Server: "c1", Version: "6.0"}
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := client.Call(ctx, target, "echo", args); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("python", func(b *testing.B) {
		name := topic()
		osloServer(b, url, name, "c1")
		cmd := exec.Command("/usr/bin/python3", "testdata/oslo_bench.py", url, name, "c1")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		stdin, err := cmd.StdinPipe()
		if err != nil {
			b.Fatal(err)
		}
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		lines := bufio.NewReader(stdout)
		if line, err := lines.ReadString('\n'); err != nil {
			b.Fatalf("%q, %v\n%s", line, err, &stderr)
		}
		b.ResetTimer()
		// The script measures itself, so that this process costs nothing.
		if _, err := fmt.Fprintln(stdin, b.N); err != nil {
			b.Fatal(err)
		}
		line, err := lines.ReadString('\n')
		if err != nil {
			b.Fatalf("%v\n%s", err, &stderr)
		}
		b.StopTimer()
		if _, err := time.ParseDuration(strings.TrimSpace(line)); err != nil {
			b.Fatal(err)
		}
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil {
			b.Fatalf("%v\n%s", err, &stderr)
		}
	})
}
