package rpc

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"novaagent/engine/errdefs"
)

const (
	// dialTimeout bounds one attempt to connect: TCP, TLS and AMQP's handshake.
	dialTimeout = 30 * time.Second
	// writeTimeout bounds one write. A broker with an alarm stops reading from
	// connections that publish; without a bound, a publish that began before
	// connection.blocked arrived would keep the connection's lock for ever.
	writeTimeout = 30 * time.Second
)

// dial connects to one broker and opens AMQP.
func (l *link) dial(ctx context.Context, host TransportHost) (*amqp.Connection, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	fail := func(step string, err error) error {
		return fmt.Errorf("broker %s: %s: %v: %w", host.Address(), step, err, errdefs.ErrUnavailable)
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", host.Address())
	if err != nil {
		return nil, fail("connect", err)
	}
	// amqp.Open knows no context: closing the connection ends it.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if l.tls != nil {
		secure := tls.Client(conn, tlsFor(l.tls, host.Host))
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, fail("TLS", err)
		}
		conn = secure
	}
	user, password := host.Username, host.Password
	if user == "" && password == "" {
		user, password = "guest", "guest" // kombu's default
	}
	var login amqp.Authentication
	switch l.options.Rabbit.LoginMethod {
	case "PLAIN":
		login = &amqp.PlainAuth{Username: user, Password: password}
	case "EXTERNAL":
		login = &amqp.ExternalAuth{}
	default:
		login = &amqp.AMQPlainAuth{Username: user, Password: password}
	}
	vhost := l.url.VirtualHost
	if vhost == "" {
		vhost = "/"
	}
	_ = conn.SetDeadline(time.Now().Add(dialTimeout)) // cleared by amqp.Open at its end
	c, err := amqp.Open(newLimitedConn(conn, l.options.MaxBody), amqp.Config{
		SASL:      []amqp.Authentication{login},
		Vhost:     vhost,
		Heartbeat: l.options.Rabbit.Heartbeat,
		FrameSize: 128 << 10,
		Locale:    "en_US",
		Properties: amqp.Table{
			"product":         "nova-agent",
			"connection_name": l.options.Name + ":" + l.purpose,
		},
	})
	if err != nil {
		_ = conn.Close()
		if errors.Is(err, amqp.ErrCredentials) {
			err = fmt.Errorf("user %q: %v", user, err)
		}
		return nil, fail("AMQP handshake", err)
	}
	return c, nil
}

// tlsFor is base for one broker's name.
func tlsFor(base *tls.Config, host string) *tls.Config {
	c := base.Clone()
	c.ServerName = host
	return c
}

// tlsConfig makes the TLS settings of oslo.messaging: with a CA file the
// broker's certificate must be signed by it, and only with
// ssl_enforce_hostname_verification must it name the host; without a CA file
// nothing is verified (impl_rabbit.py, _fetch_ssl_params). nil is no TLS.
// ErrInvalid.
func tlsConfig(r *Rabbit) (*tls.Config, error) {
	if !r.TLS {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	switch strings.ToLower(r.TLSVersion) {
	case "", "sslv23", "tlsv1_2":
	case "tlsv1_3":
		c.MinVersion = tls.VersionTLS13
	default:
		return nil, fmt.Errorf("ssl_version %q: TLS 1.2 is the oldest that is spoken: %w", r.TLSVersion, errdefs.ErrInvalid)
	}
	if r.TLSCertFile != "" {
		keyFile := r.TLSKeyFile
		if keyFile == "" {
			keyFile = r.TLSCertFile
		}
		pair, err := tls.LoadX509KeyPair(r.TLSCertFile, keyFile)
		if err != nil {
			return nil, fmt.Errorf("ssl_cert_file, ssl_key_file: %v: %w", err, errdefs.ErrInvalid)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	if r.TLSCAFile == "" {
		c.InsecureSkipVerify = true // the operator named no CA: encryption only
		return c, nil
	}
	pem, err := os.ReadFile(r.TLSCAFile)
	if err != nil {
		return nil, fmt.Errorf("ssl_ca_file: %v: %w", err, errdefs.ErrInvalid)
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ssl_ca_file %s: no certificate in it: %w", r.TLSCAFile, errdefs.ErrInvalid)
	}
	if !r.TLSVerifyHostname {
		roots := c.RootCAs
		c.InsecureSkipVerify = true // the chain is verified below, the name is not
		c.VerifyConnection = func(state tls.ConnectionState) error {
			opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
			for _, cert := range state.PeerCertificates[1:] {
				opts.Intermediates.AddCert(cert)
			}
			_, err := state.PeerCertificates[0].Verify(opts)
			return err
		}
	}
	return c, nil
}

// AMQP frames (AMQP 0-9-1, 4.2.3): type, channel, size, payload, end.
const (
	frameHead        = 7
	frameEnd         = 1
	frameContentHead = 2
	frameBody        = 3
)

// limitedConn bounds what an AMQP connection can make us hold in memory: the
// AMQP library collects a message's whole body before it shows it. The body of
// a message that announces more than max bytes is dropped while it is read;
// the library sees the message with an empty body, and its consumer rejects it.
type limitedConn struct {
	net.Conn
	max  int64
	in   *bufio.Reader
	head []byte           // rewritten bytes that wait to be read
	pass int              // bytes of the current frame to pass on untouched
	drop map[uint16]int64 // channel to body bytes still to drop
}

func newLimitedConn(conn net.Conn, max int64) *limitedConn {
	return &limitedConn{Conn: conn, max: max, in: bufio.NewReaderSize(conn, 64<<10), drop: map[uint16]int64{}}
}

// Write bounds the time of a write.
func (c *limitedConn) Write(p []byte) (int, error) {
	if err := c.Conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// Read gives the stream without the bodies that are too large.
func (c *limitedConn) Read(p []byte) (int, error) {
	for len(c.head) == 0 && c.pass == 0 {
		if err := c.nextFrame(); err != nil {
			return 0, err
		}
	}
	if len(c.head) > 0 {
		n := copy(p, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	n, err := c.in.Read(p[:min(len(p), c.pass)])
	c.pass -= n
	return n, err
}

// nextFrame looks at a frame's head and sets head and pass, or drops the frame.
func (c *limitedConn) nextFrame() error {
	head, err := c.in.Peek(frameHead)
	if err != nil {
		return err
	}
	channel := binary.BigEndian.Uint16(head[1:3])
	size := int(binary.BigEndian.Uint32(head[3:7]))
	switch left := c.drop[channel]; {
	case head[0] == frameBody && left > 0:
		if left -= int64(size); left > 0 {
			c.drop[channel] = left
		} else {
			delete(c.drop, channel)
		}
		_, err := c.in.Discard(frameHead + size + frameEnd)
		return err
	case head[0] == frameContentHead && size >= 12:
		// class (2), weight (2), body size (8), then the properties
		head, err = c.in.Peek(frameHead + 12)
		if err != nil {
			return err
		}
		bodySize := head[frameHead+4 : frameHead+12]
		if n := binary.BigEndian.Uint64(bodySize); n > uint64(c.max) {
			c.drop[channel] = int64(min(n, 1<<62))
			c.head = append(c.head[:0], head...)
			clear(c.head[frameHead+4 : frameHead+12])
			c.pass = size - 12 + frameEnd
			_, err := c.in.Discard(len(head))
			return err
		}
	}
	c.pass = frameHead + size + frameEnd
	return nil
}
