package dockerapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"novaagent/engine/errdefs"
)

// boolean is Docker's reading of a query parameter: anything but nothing, 0, no, false and none is true.
func (r *request) boolean(name string, def bool) bool {
	if !r.query.Has(name) {
		return def
	}
	switch strings.ToLower(strings.TrimSpace(r.query.Get(name))) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// number returns def if the parameter is absent or empty.
func (r *request) number(name string, def int) (int, error) {
	text := r.query.Get(name)
	if text == "" {
		return def, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("parameter %s: %q is not a number: %w", name, text, errdefs.ErrInvalid)
	}
	return n, nil
}

// size reads the parameters w and h of a terminal.
func (r *request) size() (width, height uint16, err error) {
	values := [2]uint16{}
	for i, name := range []string{"w", "h"} {
		n, err := strconv.ParseUint(r.query.Get(name), 10, 16)
		if err != nil {
			return 0, 0, fmt.Errorf("invalid terminal size: parameter %s: %q: %w", name, r.query.Get(name), errdefs.ErrInvalid)
		}
		values[i] = uint16(n)
	}
	return values[0], values[1], nil
}

// moment reads a time as seconds since 1970, with a fraction if any.
func (r *request) moment(name string) (time.Time, error) {
	text := r.query.Get(name)
	if text == "" {
		return time.Time{}, nil
	}
	whole, fraction, _ := strings.Cut(text, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	nanos := int64(0)
	if err == nil && fraction != "" {
		if len(fraction) > 9 {
			fraction = fraction[:9]
		}
		nanos, err = strconv.ParseInt(fraction+strings.Repeat("0", 9-len(fraction)), 10, 64)
	}
	if err != nil || nanos < 0 {
		if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
			return t, nil
		}
		return time.Time{}, fmt.Errorf("parameter %s: %q is no time: %w", name, text, errdefs.ErrInvalid)
	}
	return time.Unix(seconds, nanos), nil
}

// filters are the parameter of that name: for each field the values of which one must fit.
type filters map[string][]string

// filters reads {"field": {"value": true}}, and the older {"field": ["value"]}, with the fields of allowed only.
func (r *request) filters(allowed ...string) (filters, error) {
	text := r.query.Get("filters")
	if text == "" {
		return filters{}, nil
	}
	bad := func(err error) (filters, error) {
		return nil, fmt.Errorf("invalid filter: %v: %w", err, errdefs.ErrInvalid)
	}
	out := filters{}
	var sets map[string]map[string]bool
	if err := json.Unmarshal([]byte(text), &sets); err != nil {
		if json.Unmarshal([]byte(text), &out) != nil {
			return bad(err)
		}
	}
	for field, set := range sets {
		for _, value := range slices.Sorted(maps.Keys(set)) {
			if set[value] {
				out[field] = append(out[field], value)
			}
		}
	}
	for field := range out {
		if !slices.Contains(allowed, field) {
			return nil, fmt.Errorf("invalid filter '%s': %w", field, errdefs.ErrInvalid)
		}
	}
	return out, nil
}

// any is true if there is no such filter or if a value of it fits.
func (f filters) any(field string, fits func(string) bool) bool {
	values := f[field]
	return len(values) == 0 || slices.ContainsFunc(values, fits)
}

// labels is true if all label filters fit: "name" or "name=value".
func (f filters) labels(labels map[string]string) bool {
	for _, want := range f["label"] {
		name, value, both := strings.Cut(want, "=")
		have, ok := labels[name]
		if !ok || both && have != value {
			return false
		}
	}
	return true
}
