package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"novaagent/engine/errdefs"
)

// Imported is what ImportNova made.
type Imported struct {
	Config *Config
	// Left lists the options that nova-agent has no use for, as "[section] name",
	// sorted.
	Left []string
	// Notes are values that were taken over with another meaning.
	Notes []string
}

// ImportNova turns the configuration files of a nova-compute, in the order of its
// --config-file arguments, into nova-agent's. A value that cannot be taken over is an
// ErrInvalid that names its file and line; so is a result without what the service
// needs. Each of set is a "key=value" that counts instead of what the files say, such as
// "observe.listen=127.0.0.1:9464"; a list is written with commas.
func ImportNova(set []string, paths ...string) (*Imported, error) {
	return importNova(set, paths, os.ReadFile)
}

func importNova(set, paths []string, readFile func(string) ([]byte, error)) (*Imported, error) {
	o := options{}
	for _, p := range paths {
		data, err := readFile(p)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalid)
		}
		if err := o.read(p, data); err != nil {
			return nil, err
		}
	}
	c := Default()
	used := map[string]bool{}
	var faults []error
	take := func(section, name string, v reflect.Value, tag reflect.StructTag, zero string) {
		found, ok := o.get(section, name)
		if !ok {
			return
		}
		used[section+"/"+name] = true
		if zero != "" && found.value == "0" {
			found.value = zero
		}
		if err := setNova(v, found.value, tag); err != nil {
			faults = append(faults, fmt.Errorf("%s:%d: [%s] %s: want %s, not %q", found.file, found.line, section, name,
				novaTypeName(v, tag), shownValue(found.value, tag)))
		}
	}
	for _, m := range mapping {
		root := reflect.ValueOf(c).Elem()
		v, tag := fieldAt(root, m.key)
		for _, name := range m.names {
			take(m.section, name, v, tag, m.zero)
		}
	}
	for _, s := range authSections {
		// As keystoneauth's auth_section: another section may hold the credentials.
		from := s.section
		if other, ok := o.get(s.section, "auth_section"); ok {
			from = other.value
			used[s.section+"/auth_section"] = true
		}
		root := reflect.ValueOf(c).Elem()
		for _, k := range authKeys {
			v, tag := fieldAt(root, s.key+"."+k.key)
			for _, name := range k.names {
				take(from, name, v, tag, "")
			}
		}
	}
	importAuthType(o, used, &faults)
	notes := importOthers(o, used, c)
	for _, one := range set {
		if err := c.set(one); err != nil {
			faults = append(faults, err)
		}
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("%w: %w", errors.Join(faults...), errdefs.ErrInvalid)
	}
	if _, set := o.get("neutron", "auth_url"); !set && c.Placement.AuthURL == "" {
		if fallback, ok := o.get("keystone_authtoken", "auth_url"); ok {
			c.Placement.AuthURL = fallback.value
		}
	}
	c.complete()
	if missing := c.Check(); len(missing) > 0 {
		return nil, fmt.Errorf("%s: %s: %w", strings.Join(paths, ", "), strings.Join(missing, "; "), errdefs.ErrInvalid)
	}
	return &Imported{Config: c, Left: leftOver(o, used), Notes: notes}, nil
}

// set takes one "key=value".
func (c *Config) set(one string) error {
	path, value, ok := strings.Cut(one, "=")
	if !ok {
		return fmt.Errorf("%s: want key=value", one)
	}
	v := reflect.ValueOf(c).Elem()
	names := strings.Split(path, ".")
	for i, name := range names {
		keys := keysOf(v.Type())
		at := slices.IndexFunc(keys, func(k key) bool { return k.name == name })
		if at < 0 {
			return fmt.Errorf("%s: no such key%s", strings.Join(names[:i+1], "."), suggest(name, keys))
		}
		v = v.FieldByIndex(keys[at].index)
		last := i == len(names)-1
		if last == (v.Kind() == reflect.Struct) {
			return fmt.Errorf("%s: is not a single value", path)
		}
		if !last {
			continue
		}
		tag := keys[at].field.Tag
		if v.Kind() == reflect.Slice {
			return setNova(v, value, tag)
		}
		if err := set(v, value, tag); err != nil {
			return fmt.Errorf("%s: want %s, not %q", path, typeName(v.Type(), tag), shownValue(value, tag))
		}
	}
	return nil
}

// importAuthType refuses the plug-ins of keystoneauth that nova-agent lacks.
func importAuthType(o options, used map[string]bool, faults *[]error) {
	allowed := []string{"password", "v3password", "v3applicationcredential"}
	for _, s := range authSections {
		found, ok := o.get(s.section, "auth_type")
		if !ok {
			continue
		}
		used[s.section+"/auth_type"] = true
		if !slices.Contains(allowed, found.value) {
			*faults = append(*faults, fmt.Errorf("%s:%d: [%s] auth_type: want one of %s, not %q",
				found.file, found.line, s.section, strings.Join(allowed, ", "), found.value))
		}
	}
}

// importOthers takes over what is no plain renaming.
func importOthers(o options, used map[string]bool, c *Config) (notes []string) {
	get := func(section, name string) (string, bool) {
		found, ok := o.get(section, name)
		if ok {
			used[section+"/"+name] = true
		}
		return found.value, ok
	}
	isTrue := func(section, name string) bool {
		v, _ := get(section, name)
		return slices.Contains([]string{"true", "1", "on", "yes"}, strings.ToLower(v))
	}
	if isTrue("DEFAULT", "debug") {
		c.Log.Level = "debug"
	}
	if isTrue("DEFAULT", "use_json") {
		c.Log.Format = "json"
	}
	// api_servers is the older way to name Glance; a client takes any of them.
	if servers, ok := get("glance", "api_servers"); ok && c.Glance.Endpoint == "" {
		first, more, several := strings.Cut(servers, ",")
		if c.Glance.Endpoint = strings.TrimSpace(first); several {
			notes = append(notes, "[glance] api_servers: only the first is used, not "+strings.TrimSpace(more))
		}
	}
	if remove, ok := get("image_cache", "remove_unused_base_images"); ok && slices.Contains([]string{"false", "0", "off", "no"}, strings.ToLower(remove)) {
		c.Glance.EvictAfter = 0
	}
	// service type : service name : interface
	if info, ok := get("cinder", "catalog_info"); ok {
		if parts := strings.Split(info, ":"); len(parts) == 3 {
			c.Cinder.Interfaces = []string{strings.TrimSuffix(parts[2], "URL")}
		}
	}
	if reach, ok := get("DEFAULT", "running_deleted_instance_action"); ok && reach != "reap" {
		notes = append(notes, "[DEFAULT] running_deleted_instance_action = "+reach+": nova-agent always reaps")
	}
	if driver, ok := get("DEFAULT", "compute_driver"); ok {
		notes = append(notes, "[DEFAULT] compute_driver = "+driver+": nova-agent is the driver now; node_name must be what `openstack hypervisor list` shows for this host if the record shall stay")
	}
	return notes
}

func leftOver(o options, used map[string]bool) []string {
	var left []string
	for section, names := range o {
		for name := range names {
			if !used[section+"/"+name] {
				left = append(left, "["+section+"] "+name)
			}
		}
	}
	sort.Strings(left)
	return left
}

// fieldAt finds a field by its dotted key.
func fieldAt(v reflect.Value, path string) (reflect.Value, reflect.StructTag) {
	name, rest, more := strings.Cut(path, ".")
	for _, k := range keysOf(v.Type()) {
		if k.name != name {
			continue
		}
		field := v.FieldByIndex(k.index)
		if more {
			return fieldAt(field, rest)
		}
		return field, k.field.Tag
	}
	panic("no key " + path) // a mistake in the tables below, found by any test
}

// setNova reads a value as oslo.config writes it: booleans in many words, times in
// seconds, lists with commas.
func setNova(v reflect.Value, text string, tag reflect.StructTag) error {
	switch v.Interface().(type) {
	case bool:
		switch strings.ToLower(text) {
		case "true", "1", "on", "yes":
			v.SetBool(true)
		case "false", "0", "off", "no":
			v.SetBool(false)
		default:
			return errValue
		}
		return nil
	case Duration:
		seconds, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return errValue
		}
		if seconds < 0 {
			seconds = 0 // Nova's "never"
		}
		return set(v, time.Duration(seconds*float64(time.Second)).String(), tag)
	case []string:
		var items []string
		for item := range strings.SplitSeq(strings.Trim(text, "[]"), ",") {
			if item = strings.Trim(strings.TrimSpace(item), `"'`); item != "" {
				items = append(items, item)
			}
		}
		v.Set(reflect.ValueOf(items))
		return nil
	case Ratio:
		if text == "" || text == "<None>" {
			return nil
		}
	}
	if allowed := tag.Get("oneof"); allowed != "" {
		for one := range strings.SplitSeq(allowed, "|") {
			if strings.EqualFold(one, text) {
				text = one
			}
		}
	}
	return set(v, text, tag)
}

func novaTypeName(v reflect.Value, tag reflect.StructTag) string {
	if _, ok := v.Interface().(Duration); ok {
		return "a number of seconds"
	}
	return typeName(v.Type(), tag)
}

func shownValue(text string, tag reflect.StructTag) string {
	if tag.Get("secret") != "" {
		return hidden
	}
	return text
}
