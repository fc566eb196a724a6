package logsink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"time"

	"novaagent/engine/errdefs"
)

// facilities are syslog's, by number (RFC 5424, 6.2.1).
var facilities = []string{
	"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
	"", "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
}

const (
	defaultFacility = 3 // daemon, as Docker's
	severityError   = 3
	severityInfo    = 6
	secureProtocol  = "tcp+tls"
	syslogTimeout   = 10 * time.Second
)

// localSyslogs are where a local server may listen.
var localSyslogs = []string{"/dev/log", "/var/run/syslog", "/var/run/log"}

type syslog struct {
	conn     net.Conn
	facility int
	format   string
	framed   bool // by length, RFC 5425
	local    bool
	host     string
	tag      string
}

func parseAddress(text string) (network, address string, err error) {
	if text == "" {
		return "", "", nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return "", "", fmt.Errorf("syslog-address %q: %v: %w", text, err, errdefs.ErrInvalid)
	}
	switch u.Scheme {
	case "unix", "unixgram":
		if u.Path == "" || !path.IsAbs(u.Path) {
			return "", "", fmt.Errorf("syslog-address %q: the path is not absolute: %w", text, errdefs.ErrInvalid)
		}
		return u.Scheme, u.Path, nil
	case "udp", "tcp", secureProtocol:
		host := u.Host
		if _, _, err := net.SplitHostPort(host); err != nil {
			host = net.JoinHostPort(u.Hostname(), "514")
		}
		if u.Hostname() == "" {
			return "", "", fmt.Errorf("syslog-address %q names no host: %w", text, errdefs.ErrInvalid)
		}
		return u.Scheme, host, nil
	}
	return "", "", fmt.Errorf("syslog-address should be in form proto://address, got %v: %w", text, errdefs.ErrInvalid)
}

func parseFacility(text string) (int, error) {
	if text == "" {
		return defaultFacility, nil
	}
	if i := slices.Index(facilities, text); i >= 0 {
		return i, nil
	}
	if n, err := strconv.Atoi(text); err == nil && n >= 0 && n < len(facilities) {
		return n, nil
	}
	return 0, fmt.Errorf("invalid syslog facility %q: %w", text, errdefs.ErrInvalid)
}

func checkSyslog(options map[string]string) error {
	network, _, err := parseAddress(options["syslog-address"])
	if err != nil {
		return err
	}
	if _, err := parseFacility(options["syslog-facility"]); err != nil {
		return err
	}
	switch options["syslog-format"] {
	case "", "rfc3164", "rfc5424", "rfc5424micro":
	default:
		return fmt.Errorf("invalid syslog format %q: use rfc3164, rfc5424 or rfc5424micro: %w", options["syslog-format"], errdefs.ErrInvalid)
	}
	if network == secureProtocol {
		_, err = tlsConfig(options)
	}
	return err
}

func tlsConfig(options map[string]string) (*tls.Config, error) {
	bad := func(option string, err error) (*tls.Config, error) {
		return nil, fmt.Errorf("%s: %v: %w", option, err, errdefs.ErrInvalid)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if _, ok := options["syslog-tls-skip-verify"]; ok {
		c.InsecureSkipVerify = true // whatever its value is, as Docker has it
	}
	if file := options["syslog-tls-ca-cert"]; file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return bad("syslog-tls-ca-cert", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return bad("syslog-tls-ca-cert", fmt.Errorf("%s has no certificate", file))
		}
	}
	if cert, key := options["syslog-tls-cert"], options["syslog-tls-key"]; cert != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return bad("syslog-tls-cert", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

func openSyslog(ctx context.Context, _ Options, s Source, options map[string]string) (Sink, error) {
	network, address, err := parseAddress(options["syslog-address"])
	if err != nil {
		return nil, err
	}
	w := &syslog{format: options["syslog-format"], tag: clean(s.Tag)}
	if w.facility, err = parseFacility(options["syslog-facility"]); err != nil {
		return nil, err
	}
	if w.host, err = os.Hostname(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, syslogTimeout)
	defer cancel()
	if w.conn, err = dialSyslog(ctx, network, address, options); err != nil {
		return nil, fmt.Errorf("syslog: %v: %w", err, errdefs.ErrUnavailable)
	}
	kind := w.conn.RemoteAddr().Network()
	w.local = kind == "unix" || kind == "unixgram"
	w.framed = network == secureProtocol && w.format != "" && w.format != "rfc3164"
	return w, nil
}

func dialSyslog(ctx context.Context, network, address string, options map[string]string) (conn net.Conn, err error) {
	var d net.Dialer
	switch network {
	case "":
		for _, path := range localSyslogs {
			for _, kind := range []string{"unixgram", "unix"} {
				if conn, err = d.DialContext(ctx, kind, path); err == nil {
					return conn, nil
				}
			}
		}
		return nil, fmt.Errorf("no local server listens: %w", err)
	case secureProtocol:
		config, err := tlsConfig(options)
		if err != nil {
			return nil, err
		}
		return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
	}
	return d.DialContext(ctx, network, address)
}

// Send writes one message in the form that Docker's driver has for the format.
func (w *syslog) Send(l Line) error {
	severity := severityInfo
	if l.Stderr {
		severity = severityError
	}
	priority, pid := w.facility*8+severity, os.Getpid()
	var b []byte
	switch w.format {
	case "rfc5424", "rfc5424micro":
		layout := time.RFC3339
		if w.format == "rfc5424micro" {
			layout = "2006-01-02T15:04:05.000000Z07:00"
		}
		b = fmt.Appendf(b, "<%d>1 %s %s %s %d %s - %s", priority, l.Time.Local().Format(layout), w.host, w.tag, pid, w.tag, l.Text)
	case "rfc3164":
		b = fmt.Appendf(b, "<%d>%s %s %s[%d]: %s", priority, l.Time.Local().Format(time.Stamp), w.host, w.tag, pid, l.Text)
	default:
		if w.local {
			b = fmt.Appendf(b, "<%d>%s %s[%d]: %s", priority, l.Time.Local().Format(time.Stamp), w.tag, pid, l.Text)
		} else {
			b = fmt.Appendf(b, "<%d>%s %s %s[%d]: %s", priority, l.Time.Local().Format(time.RFC3339), w.host, w.tag, pid, l.Text)
		}
	}
	b = append(b, '\n')
	if w.framed {
		b = append(strconv.AppendInt(nil, int64(len(b)), 10), append([]byte{' '}, b...)...)
	}
	if err := w.conn.SetWriteDeadline(time.Now().Add(syslogTimeout)); err != nil {
		return fmt.Errorf("syslog: %w", err)
	}
	if _, err := w.conn.Write(b); err != nil {
		return fmt.Errorf("syslog: %v: %w", err, errdefs.ErrUnavailable)
	}
	return nil
}

func (w *syslog) Close() error { return w.conn.Close() }
