package engine_test

import (
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"novaagent/engine"
	"novaagent/engine/enginetest"
	"novaagent/tests/need"
)

// ask sends a datagram and returns the answer.
func ask(conn net.Conn, text string) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return "", err
	}
	if _, err := conn.Write([]byte(text)); err != nil {
		return "", err
	}
	answer := make([]byte, 64)
	n, err := conn.Read(answer)
	return string(answer[:n]), err
}

// TestUDPFlows: a client that goes on sending from one socket is led to the container that has the port now, whatever
// had it when the client began.
func TestUDPFlows(t *testing.T) {
	need.Root(t)
	need.Command(t, "ip")
	root := tempRoot(t)
	enginetest.Leaks(t, root, testCgroup(root))
	e := open(t, options(t, root))
	ctx := testContext(t)
	o := newOutside(t)
	o.up(t)
	publish := func(name string, port uint16) engine.Container {
		s := spec(t, "exec sleep 1000")
		s.Name, s.NetworkMode = name, engine.NetworkBridge
		s.Ports = []engine.Port{{Proto: "udp", ContainerPort: 53, HostIP: o.host, HostPort: port}}
		c := mustRun(t, e, s)
		echoUDP(t, filepath.Join(root, "run", "ns", c.ID, "net"), name+" ")
		return c
	}
	first := publish("first", 0)
	port := first.Published[0].HostPort
	var client net.Conn
	err := o.ns.Do(func() (err error) {
		client, err = net.Dial("udp4", netip.AddrPortFrom(o.host, port).String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if got, err := ask(client, "who"); err != nil || got != "first who" {
		t.Fatalf("%q, %v", got, err)
	}
	if _, err := e.Stop(ctx, first.ID, 9, 0); err != nil {
		t.Fatal(err)
	}
	// Nobody has it: a flow to the host itself begins.
	if got, err := ask(client, "who"); err == nil {
		t.Fatalf("after its end %q answers", got)
	}
	publish("second", port)
	if got, err := ask(client, "who"); err != nil || got != "second who" {
		t.Errorf("%q, %v", got, err)
	}
}
