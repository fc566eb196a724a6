package dockerapi

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"

	"novaagent/engine/errdefs"
)

// TLSFiles are the paths of PEM files: of the authorities that client certificates are checked against, of the
// server's certificate with its chain, and of its key. They are read again when one has changed.
type TLSFiles struct {
	CA, Cert, Key string
}

// stamp tells whether a file is still the one that was read. Times are coarse: a file that was put in its
// place may have the same.
type stamp struct {
	size, modified, changed int64
	inode                   uint64
}

// certificates are what the files held when they were read last.
type certificates struct {
	files TLSFiles
	log   *slog.Logger

	mu     sync.Mutex // guards the following
	stamps [3]stamp
	config *tls.Config
}

// config is a server's that asks each client for a certificate.
func (f *TLSFiles) config(log *slog.Logger) (*tls.Config, error) {
	if f.CA == "" || f.Cert == "" || f.Key == "" {
		return nil, fmt.Errorf("TLS needs three files: the clients' CA, the server's certificate and its key: %w", errdefs.ErrInvalid)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &certificates{files: *f, log: log}
	if err := c.load(); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current(), nil },
	}, nil
}

// current is the configuration of the files as they are now; if they cannot be read, of those before.
func (c *certificates) current() *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	if stamps, err := c.look(); err == nil && stamps == c.stamps {
		return c.config
	}
	if err := c.loadLocked(); err != nil {
		c.log.Error("the Docker API keeps its old certificates", "error", err)
	} else {
		c.log.Info("the Docker API has new certificates", "cert", c.files.Cert)
	}
	return c.config
}

func (c *certificates) look() (out [3]stamp, err error) {
	for i, path := range []string{c.files.CA, c.files.Cert, c.files.Key} {
		info, err := os.Stat(path)
		if err != nil {
			return out, err
		}
		out[i] = stamp{size: info.Size(), modified: info.ModTime().UnixNano()}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			out[i].changed, out[i].inode = st.Ctim.Nano(), st.Ino
		}
	}
	return out, nil
}

func (c *certificates) load() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.loadLocked()
}

func (c *certificates) loadLocked() error {
	stamps, err := c.look()
	if err != nil {
		return fmt.Errorf("TLS: %v: %w", err, errdefs.ErrInvalid)
	}
	pem, err := os.ReadFile(c.files.CA)
	if err != nil {
		return fmt.Errorf("TLS: %v: %w", err, errdefs.ErrInvalid)
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(pem) {
		return fmt.Errorf("TLS: %s holds no certificate in PEM: %w", c.files.CA, errdefs.ErrInvalid)
	}
	own, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
	if err != nil {
		return fmt.Errorf("TLS: %s and %s: %v: %w", c.files.Cert, c.files.Key, err, errdefs.ErrInvalid)
	}
	c.stamps, c.config = stamps, &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{own},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authorities,
		// Streams take the connection over, which HTTP/2 cannot.
		NextProtos: []string{"http/1.1"},
		// A resumed session would not be checked against new authorities.
		SessionTicketsDisabled: true,
	}
	return nil
}
