package clients

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"novaagent/tests/need"
	"novaagent/tests/peer"
)

// terminal is a program on a pseudo-terminal.
type terminal struct {
	t    *testing.T
	cmd  *exec.Cmd
	pty  *os.File
	seen bytes.Buffer // of what was not expected yet
}

func startTerminal(t *testing.T, d *peer.Daemon, rows, columns uint16, args ...string) *terminal {
	t.Helper()
	cmd := command(t, d, "", args...)
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: rows, Cols: columns})
	if err != nil {
		t.Fatal(err)
	}
	tt := &terminal{t: t, cmd: cmd, pty: f}
	t.Cleanup(func() {
		f.Close()
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	return tt
}

func (tt *terminal) send(keys string) {
	tt.t.Helper()
	if _, err := tt.pty.WriteString(keys); err != nil {
		tt.t.Fatal(err)
	}
}

// expect reads until the text has come.
func (tt *terminal) expect(text string) {
	tt.t.Helper()
	if err := tt.pty.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		tt.t.Fatal(err)
	}
	for b := make([]byte, 4096); ; {
		if i := bytes.Index(tt.seen.Bytes(), []byte(text)); i >= 0 {
			tt.seen.Next(i + len(text))
			return
		}
		n, err := tt.pty.Read(b)
		tt.seen.Write(b[:n])
		if err != nil && n == 0 {
			tt.t.Fatalf("no %q in %q: %v", text, tt.seen.String(), err)
		}
	}
}

// exit waits for the program's end and returns its code.
func (tt *terminal) exit() int {
	tt.t.Helper()
	// What it still prints must not block it.
	tt.pty.SetReadDeadline(time.Now().Add(time.Minute))
	for b := make([]byte, 4096); ; {
		n, err := tt.pty.Read(b)
		tt.seen.Write(b[:n])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			tt.t.Fatalf("it goes on: %q", tt.seen.String())
		}
		if err != nil { // EIO: the other end was closed
			break
		}
	}
	tt.cmd.Wait()
	return tt.cmd.ProcessState.ExitCode()
}

// TestTerminal is docker run -it, attach and exec -it on a real terminal: its size and changes of it, ctrl-c, the
// detach keys, exit codes.
func TestTerminal(t *testing.T) {
	need.Command(t, "docker")
	forServers(t, func(t *testing.T, d *peer.Daemon) {
		run(t, d, "", "docker", "load", "-i", busybox(t))
		// Marks are made by the shell, so that its echo of the command is not one.
		const resized = `until [ "$(stty size)" = "%d %d" ]; do sleep 0.01; done; echo res$((40+2))ized` + "\r"
		for _, how := range []string{"run", "exec"} {
			t.Run(how, func(t *testing.T) {
				args := []string{"docker", "run", "-it", "--rm", "--name", "it-run", "--network", "none", "busybox", "sh"}
				if how == "exec" {
					run(t, d, "", "docker", "run", "-d", "--name", "it-exec", "--network", "none", "busybox", "sleep", "1000")
					defer run(t, d, "", "docker", "rm", "-f", "it-exec")
					args = []string{"docker", "exec", "-it", "it-exec", "sh"}
				}
				tt := startTerminal(t, d, 37, 91, args...)
				tt.send(fmt.Sprintf(resized, 37, 91))
				tt.expect("res42ized")
				if err := pty.Setsize(tt.pty, &pty.Winsize{Rows: 40, Cols: 100}); err != nil {
					t.Fatal(err)
				}
				tt.send(fmt.Sprintf(resized, 40, 100))
				tt.expect("res42ized")
				// Told by the program that is to be interrupted, once the terminal is its own.
				tt.send("sh -c 'echo beg$((40+1))un; exec sleep 1000'\r")
				tt.expect("beg41un")
				tt.send("\x03")
				tt.send("echo inter$((40+3))rupted; exit 7\r")
				tt.expect("inter43rupted")
				if code := tt.exit(); code != 7 {
					t.Errorf("exit code %d", code)
				}
			})
		}
		t.Run("detach", func(t *testing.T) {
			tt := startTerminal(t, d, 24, 80, "docker", "run", "-it", "--name", "it-detach", "--network", "none", "busybox", "sh")
			defer run(t, d, "", "docker", "rm", "-f", "it-detach")
			tt.send("echo beg$((40+1))un\r")
			tt.expect("beg41un")
			tt.send("\x10\x11")
			if code := tt.exit(); code != 0 {
				t.Errorf("run: exit code %d", code)
			}
			tt = startTerminal(t, d, 24, 80, "docker", "attach", "--detach-keys", "ctrl-x,y", "it-detach")
			tt.send("echo ag$((40+2))ain\r")
			tt.expect("ag42ain")
			tt.send("\x18y")
			tt.exit()
			tt = startTerminal(t, d, 24, 80, "docker", "exec", "-it", "--detach-keys", "ctrl-a", "it-detach", "sh")
			tt.send("echo ex$((40+3))ec\r")
			tt.expect("ex43ec")
			tt.send("\x01")
			tt.exit()
			if out := run(t, d, "", "docker", "inspect", "-f", "{{.State.Running}} {{len .ExecIDs}}", "it-detach"); out != "true 1\n" {
				t.Errorf("after detaching: %s", out)
			}
		})
		t.Run("hangup", func(t *testing.T) {
			// The terminal goes; the container stays.
			tt := startTerminal(t, d, 24, 80, "docker", "run", "-it", "--name", "it-gone", "--network", "none", "busybox", "sh")
			defer run(t, d, "", "docker", "rm", "-f", "it-gone")
			tt.send("echo beg$((40+1))un\r")
			tt.expect("beg41un")
			tt.cmd.Process.Signal(syscall.SIGKILL)
			tt.exit()
			if out := run(t, d, "", "docker", "inspect", "-f", "{{.State.Running}}", "it-gone"); out != "true\n" {
				t.Errorf("after the client's end: %s", out)
			}
		})
	})
}
