package logsink

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"strings"

	"novaagent/engine/errdefs"
)

// DefaultJournalSocket is where journald listens.
const DefaultJournalSocket = "/run/systemd/journal/socket"

// journal speaks journald's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): a datagram for each entry, of fields.
type journal struct {
	conn *net.UnixConn
	// common are the fields of every entry, with the names of Docker's journald driver.
	common []byte
}

func openJournal(_ context.Context, o Options, s Source, _ map[string]string) (Sink, error) {
	path := o.JournalSocket
	if path == "" {
		path = DefaultJournalSocket
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("journald is not enabled on this host: %v: %w", err, errdefs.ErrUnavailable)
	}
	j := &journal{conn: conn}
	short := s.ID[:min(12, len(s.ID))]
	for _, f := range [][2]string{
		{"CONTAINER_ID", short}, {"CONTAINER_ID_FULL", s.ID}, {"CONTAINER_NAME", s.Name}, {"CONTAINER_TAG", s.Tag},
		{"IMAGE_NAME", s.Image}, {"SYSLOG_IDENTIFIER", s.Tag},
	} {
		j.common = appendField(j.common, f[0], []byte(f[1]))
	}
	for k, v := range s.Attributes {
		if name := fieldName(k); name != "" {
			j.common = appendField(j.common, name, []byte(v))
		}
	}
	return j, nil
}

// fieldName makes a field's name of a label's: upper case, digits and underscores, no underscore first.
func fieldName(s string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(s))
	return strings.TrimLeft(name, "_")
}

// appendField appends a field in the form for any bytes: name, newline, length, value, newline.
func appendField(b []byte, name string, value []byte) []byte {
	b = append(append(b, name...), '\n')
	b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	return append(append(b, value...), '\n')
}

func (j *journal) Send(l Line) error {
	priority := "6" // info
	if l.Stderr {
		priority = "3" // err
	}
	b := append([]byte(nil), j.common...)
	b = appendField(b, "MESSAGE", l.Text)
	b = appendField(b, "PRIORITY", []byte(priority))
	b = appendField(b, "SYSLOG_TIMESTAMP", []byte(l.Time.UTC().Format("2006-01-02T15:04:05.999999999Z07:00")))
	if l.Partial {
		b = appendField(b, "CONTAINER_PARTIAL_MESSAGE", []byte("true"))
	}
	if _, err := j.conn.Write(b); err != nil {
		return fmt.Errorf("journald: %v: %w", err, errdefs.ErrUnavailable)
	}
	return nil
}

func (j *journal) Close() error { return j.conn.Close() }
