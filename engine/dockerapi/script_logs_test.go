package dockerapi_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// receiver is a server that keeps what it is sent.
type receiver struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (r *receiver) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(b)
}

func (r *receiver) matches(expr *regexp.Regexp) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return expr.Match(r.buf.Bytes())
}

// listen NETWORK NAME: a server on a socket of its own, whose address is in $NAME; with "tls" its
// certificate is in the file NAME.pem. It ends with the script.
func listen(ts *testscript.TestScript, neg bool, args []string) {
	network, name := args[0], args[1]
	r := &receiver{}
	ts.Value("receivers").(map[string]*receiver)[name] = r
	switch network {
	case "unixgram":
		path := ts.MkAbs(name)
		os.Remove(path)
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		ts.Check(err)
		keepPackets(ts, r, conn)
		ts.Setenv(name, "unixgram://"+path)
	case "udp":
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		ts.Check(err)
		keepPackets(ts, r, conn)
		ts.Setenv(name, "udp://"+conn.LocalAddr().String())
	case "tcp", "tls":
		l, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		address := "tcp://" + l.Addr().String()
		if network == "tls" {
			address = "tcp+tls://" + l.Addr().String()
			l = tls.NewListener(l, serverCertificate(ts, name))
		}
		keepStreams(ts, r, l)
		ts.Setenv(name, address)
	}
}

func keepPackets(ts *testscript.TestScript, r *receiver, conn net.PacketConn) {
	var done sync.WaitGroup
	done.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			n, _, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			r.Write(append(buf[:n:n], '\n'))
		}
	})
	ts.Defer(func() { conn.Close(); done.Wait() })
}

func keepStreams(ts *testscript.TestScript, r *receiver, l net.Listener) {
	var done sync.WaitGroup
	done.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			done.Go(func() { io.Copy(r, conn); conn.Close() })
			ts.Defer(func() { conn.Close() })
		}
	})
	ts.Defer(func() { l.Close(); done.Wait() })
}

func serverCertificate(ts *testscript.TestScript, name string) *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// received NAME EXPRESSION: waits until what a server was sent matches.
func received(ts *testscript.TestScript, neg bool, args []string) {
	r := ts.Value("receivers").(map[string]*receiver)[args[0]]
	expr, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	if neg {
		if r.matches(expr) {
			ts.Fatalf("%s has received %s", args[0], args[1])
		}
		return
	}
	// The listener collects what comes; a look at it now and then is enough for a test.
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if r.matches(expr) {
			return
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	ts.Fatalf("%s has not received %s, but:\n%s", args[0], args[1], r.buf.String())
}

// journalSocket is where the engine of an API on socket looks for journald.
func journalSocket(socket string) string { return filepath.Join(filepath.Dir(socket), "journal") }
