package config

import (
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// hidden stands for a secret that is not shown.
const hidden = "***"

// YAML writes a configuration file. With onlyChanged, keys that have their default
// are left out; without secrets, those are masked.
func (c *Config) YAML(onlyChanged, secrets bool) []byte {
	// What follows from other keys is left out, too: it follows again when the file is read.
	defaults := Default()
	host, runDir := defaults.Host, defaults.RunDir
	defaults.Host, defaults.RunDir, defaults.Placement.AuthURL = c.Host, c.RunDir, c.Placement.AuthURL
	defaults.complete()
	defaults.Host, defaults.RunDir, defaults.Placement.AuthURL = host, runDir, ""
	w := &writer{onlyChanged: onlyChanged, secrets: secrets}
	w.structure(reflect.ValueOf(c).Elem(), reflect.ValueOf(defaults).Elem(), "")
	return []byte(w.b.String())
}

// Changed lists the keys that differ, in the order of the file.
func Changed(a, b *Config) (keys []string) {
	var walk func(a, b reflect.Value, path string)
	walk = func(a, b reflect.Value, path string) {
		for _, k := range keysOf(a.Type()) {
			x, y := a.FieldByIndex(k.index), b.FieldByIndex(k.index)
			full := strings.TrimPrefix(path+"."+k.name, ".")
			if x.Kind() == reflect.Struct {
				walk(x, y, full)
			} else if !reflect.DeepEqual(x.Interface(), y.Interface()) {
				keys = append(keys, full)
			}
		}
	}
	walk(reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem(), "")
	return keys
}

type writer struct {
	b                    strings.Builder
	onlyChanged, secrets bool
}

func (w *writer) structure(v, def reflect.Value, indent string) {
	for _, k := range keysOf(v.Type()) {
		value, standard := v.FieldByIndex(k.index), def.FieldByIndex(k.index)
		if value.Kind() == reflect.Struct {
			sub := &writer{onlyChanged: w.onlyChanged, secrets: w.secrets}
			sub.structure(value, standard, indent+"  ")
			if sub.b.Len() > 0 {
				fmt.Fprintf(&w.b, "%s%s:\n%s", indent, k.name, sub.b.String())
			}
			continue
		}
		if w.onlyChanged && reflect.DeepEqual(value.Interface(), standard.Interface()) {
			continue
		}
		fmt.Fprintf(&w.b, "%s%s: %s\n", indent, k.name, w.text(value, k.field.Tag.Get("secret")))
	}
}

func (w *writer) text(v reflect.Value, secret string) string {
	switch x := v.Interface().(type) {
	case string:
		if !w.secrets && x != "" {
			switch secret {
			case "yes":
				x = hidden
			case "url":
				x = maskURL(x)
			}
		}
		return strconv.Quote(x)
	case []string:
		quoted := make([]string, len(x))
		for i, s := range x {
			quoted[i] = strconv.Quote(s)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	case Runtimes:
		list := make([]string, 0, len(x))
		for _, name := range slices.Sorted(maps.Keys(x)) {
			r := x[name]
			list = append(list, fmt.Sprintf("%s: {path: %s, args: %s}", name, strconv.Quote(r.Path), w.text(reflect.ValueOf(r.Args), "")))
		}
		return "{" + strings.Join(list, ", ") + "}"
	case Ratio:
		return strconv.FormatFloat(float64(x), 'g', -1, 64)
	}
	return fmt.Sprint(v.Interface())
}

// maskURL hides the passwords of a transport URL, which may name several hosts.
func maskURL(text string) string {
	parts := strings.Split(text, ",")
	for i, p := range parts {
		at := strings.LastIndex(p, "@")
		if at < 0 {
			continue
		}
		from := 0
		if scheme := strings.Index(p, "://"); scheme >= 0 {
			from = scheme + 3
		}
		if colon := strings.Index(p[from:at], ":"); colon >= 0 {
			parts[i] = p[:from+colon+1] + hidden + p[at:]
		}
	}
	return strings.Join(parts, ",")
}

// Check refuses a configuration that the compute service cannot run with. It
// lists everything that is missing.
func (c *Config) Check() []string {
	var missing []string
	need := func(value, key, why string) {
		if value == "" {
			missing = append(missing, key+" is missing: "+why)
		}
	}
	need(c.RPC.TransportURL, "rpc.transport_url", "the message queue of Nova")
	if c.RPC.TransportURL != "" {
		if u, err := url.Parse(strings.SplitN(c.RPC.TransportURL, ",", 2)[0]); err != nil || u.Scheme != "rabbit" && u.Scheme != "kombu" {
			missing = append(missing, "rpc.transport_url: want rabbit://…, the only transport that nova-agent speaks")
		}
	}
	for _, s := range []struct {
		section string
		auth    Auth
		needed  bool
	}{{"placement", c.Placement, true}, {"neutron", c.Neutron.Auth, true}, {"service_user", c.ServiceUser.Auth, c.ServiceUser.Send}} {
		if !s.needed {
			continue
		}
		need(s.auth.AuthURL, s.section+".auth_url", "Keystone's address")
		if s.auth.ApplicationCredentialSecret == "" {
			need(s.auth.Password, s.section+".password", "the password of user "+s.auth.Username)
		}
	}
	return missing
}
