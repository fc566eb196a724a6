package logsink

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"novaagent/engine/errdefs"
)

// Line is one line of a log.
type Line struct {
	Time   time.Time
	Stderr bool
	// Text is without its newline. Partial: the line goes on in the next one of the stream.
	Text    []byte
	Partial bool
}

// Source says whose log it is.
type Source struct {
	ID, Name, Image string // full ID, name without "/", image as it was asked for
	Tag             string
	Attributes      map[string]string // labels and variables that were asked for
}

// Sink takes lines. Send returns once the line has been handed to the operating system; after an error the sink
// is of no use any more.
type Sink interface {
	Send(Line) error
	Close() error
}

// Options configure Open.
type Options struct {
	// JournalSocket is journald's; empty means DefaultJournalSocket.
	JournalSocket string
}

// driver makes a sink, and says which options it has besides those of all.
type driver struct {
	open    func(context.Context, Options, Source, map[string]string) (Sink, error)
	check   func(map[string]string) error
	options []string
}

var drivers = map[string]driver{
	"syslog": {openSyslog, checkSyslog, []string{
		"syslog-address", "syslog-facility", "syslog-format", "syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key", "syslog-tls-skip-verify",
	}},
	"journald": {openJournal, func(map[string]string) error { return nil }, nil},
}

// Drivers are the names that Open takes.
func Drivers() []string { return slices.Sorted(maps.Keys(drivers)) }

// Known tells whether a driver has an option of its own.
func Known(name, option string) bool { return slices.Contains(drivers[name].options, option) }

// Check reports what is wrong with the options of a driver, as errdefs.ErrInvalid.
func Check(name string, options map[string]string) error {
	d, ok := drivers[name]
	if !ok {
		return fmt.Errorf("there is no log driver %s: %w", name, errdefs.ErrInvalid)
	}
	return d.check(options)
}

// Open connects to where the driver name sends lines. errdefs.ErrUnavailable: nobody is there.
func Open(ctx context.Context, name string, o Options, s Source, options map[string]string) (Sink, error) {
	if err := Check(name, options); err != nil {
		return nil, err
	}
	return drivers[name].open(ctx, o, s, options)
}

// clean takes out what would end a line or a word.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f {
			return '_'
		}
		return r
	}, s)
}
