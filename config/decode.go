package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"novaagent/engine/errdefs"
)

// Load reads a file over the defaults. Every fault of the file is reported, each
// with its line and column; they all are ErrInvalid.
func Load(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w: %w", err, errdefs.ErrInvalid)
	}
	return Parse(path, data)
}

// Parse is Load for a file's contents; name stands for it in errors.
func Parse(name string, data []byte) (*Config, error) {
	c := Default()
	var doc, more yaml.Node
	reader := yaml.NewDecoder(bytes.NewReader(data))
	if err := reader.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %v: %w", name, err, errdefs.ErrInvalid)
	}
	d := &decoder{name: name}
	if err := reader.Decode(&more); err == nil {
		d.fault(&more, "a second document (---) is not read")
	}
	if len(doc.Content) > 0 {
		d.structure(doc.Content[0], reflect.ValueOf(c).Elem(), "")
	}
	d.checkDefaultRuntime(&c.Engine)
	if len(d.faults) > 0 {
		return nil, fmt.Errorf("%w: %w", errors.Join(d.faults...), errdefs.ErrInvalid)
	}
	c.complete()
	return c, nil
}

// Exposed tells whether others than a file's owner and group may read it, which a file
// with passwords should not allow.
func Exposed(path string) (bool, error) {
	info, err := os.Stat(path)
	if err != nil {
		return false, fmt.Errorf("configuration: %w: %w", err, errdefs.ErrInvalid)
	}
	return info.Mode().Perm()&0o007 != 0, nil
}

type decoder struct {
	name   string
	faults []error
	// defaultRuntime is the value of that key, if it is given.
	defaultRuntime *yaml.Node
}

func (d *decoder) fault(n *yaml.Node, format string, args ...any) {
	d.faults = append(d.faults, fmt.Errorf("%s:%d:%d: %s", d.name, n.Line, n.Column, fmt.Sprintf(format, args...)))
}

// key is a field of a struct, or of one embedded in it.
type key struct {
	name  string
	field reflect.StructField
	index []int
}

// keysOf lists a struct's keys in the order of its fields.
func keysOf(t reflect.Type) []key {
	var keys []key
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			for _, k := range keysOf(f.Type) {
				k.index = append([]int{i}, k.index...)
				keys = append(keys, k)
			}
			continue
		}
		keys = append(keys, key{f.Tag.Get("yaml"), f, []int{i}})
	}
	return keys
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return // a section that holds only comments
	}
	if n.Kind != yaml.MappingNode {
		d.fault(n, "%s: want keys and values, not %s", orTop(path), describe(n))
		return
	}
	keys := keysOf(v.Type())
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		full := strings.TrimPrefix(path+"."+name.Value, ".")
		at := slices.IndexFunc(keys, func(k key) bool { return k.name == name.Value })
		if at < 0 {
			d.fault(name, "%s: no such key%s", full, suggest(name.Value, keys))
			continue
		}
		if line, twice := seen[name.Value]; twice {
			d.fault(name, "%s: given a second time, first in line %d", full, line)
			continue
		}
		seen[name.Value] = name.Line
		field := v.FieldByIndex(keys[at].index)
		if field.Kind() == reflect.Struct {
			d.structure(value, field, full)
			continue
		}
		d.scalar(value, field, keys[at].field.Tag, full)
	}
}

func orTop(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, tag reflect.StructTag, path string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if v.Kind() == reflect.Slice {
		d.list(n, v, path)
		return
	}
	if v.Type() == reflect.TypeFor[Runtimes]() {
		d.runtimes(n, v, path)
		return
	}
	if path == "engine.default_runtime" {
		d.defaultRuntime = n
	}
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		d.fault(n, "%s: want %s, not %s", path, typeName(v.Type(), tag), describe(n))
		return
	}
	if err := set(v, n.Value, tag); err != nil {
		shown := strconv.Quote(n.Value)
		if tag.Get("secret") != "" {
			shown = "what is given"
		}
		d.fault(n, "%s: want %s, not %s", path, typeName(v.Type(), tag), shown)
	}
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode {
		d.fault(n, "%s: want a list, not %s", path, describe(n))
		return
	}
	var items []string
	for _, item := range n.Content {
		if item.Kind != yaml.ScalarNode {
			d.fault(item, "%s: want a text, not %s", path, describe(item))
			return
		}
		items = append(items, item.Value)
	}
	v.Set(reflect.ValueOf(items))
}

var runtimeName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

// runtimes reads OCI runtimes by their names, which are no keys of ours.
func (d *decoder) runtimes(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.fault(n, "%s: want names of runtimes with a path each, not %s", path, describe(n))
		return
	}
	all := Runtimes{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		if name.Value == ownRuntime || !runtimeName.MatchString(name.Value) {
			d.fault(name, "%s: want a name of letters, digits, _, . and - other than %s, which is the engine's own, not %q", path, ownRuntime, name.Value)
			continue
		}
		var r Runtime
		full := path + "." + name.Value
		d.structure(value, reflect.ValueOf(&r).Elem(), full)
		if r.Path == "" {
			d.fault(value, "%s.path: want a program, absolute or in $PATH, not nothing", full)
		}
		all[name.Value] = r
	}
	v.Set(reflect.ValueOf(all))
}

// checkDefaultRuntime refuses one that is not there.
func (d *decoder) checkDefaultRuntime(e *Engine) {
	if _, ok := e.Runtimes[e.DefaultRuntime]; !ok && e.DefaultRuntime != ownRuntime && d.defaultRuntime != nil {
		d.fault(d.defaultRuntime, "engine.default_runtime: want %s or one of engine.runtimes, not %q", ownRuntime, e.DefaultRuntime)
	}
}

var errValue = errors.New("wrong value")

// set puts text into a field, if it is of its type and allowed.
func set(v reflect.Value, text string, tag reflect.StructTag) error {
	var number float64
	switch v.Interface().(type) {
	case string:
		if allowed := tag.Get("oneof"); allowed != "" && !slices.Contains(strings.Split(allowed, "|"), text) {
			return errValue
		}
		v.SetString(text)
		return nil
	case bool:
		b, err := parseBool(text)
		if err != nil {
			return err
		}
		v.SetBool(b)
		return nil
	case Duration:
		parsed, err := time.ParseDuration(text)
		if err != nil {
			return errValue
		}
		v.SetInt(int64(parsed))
		number = parsed.Seconds()
	case Size:
		parsed, err := parseSize(text)
		if err != nil {
			return err
		}
		v.SetInt(parsed)
		number = float64(parsed)
	case int:
		parsed, err := strconv.Atoi(text)
		if err != nil {
			return errValue
		}
		v.SetInt(int64(parsed))
		number = float64(parsed)
	case Ratio:
		parsed, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsInf(parsed, 0) || math.IsNaN(parsed) {
			return errValue
		}
		v.SetFloat(parsed)
		number = parsed
	default:
		return fmt.Errorf("type %s: %w", v.Type(), errdefs.ErrUnsupported)
	}
	if least := tag.Get("min"); least != "" {
		if limit, err := strconv.ParseFloat(least, 64); err != nil || number < limit {
			return errValue
		}
	}
	return nil
}

func parseBool(text string) (bool, error) {
	switch text {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, errValue
}

// units are powers of 1024; a plain B or none is bytes.
var units = []string{"B", "KiB", "MiB", "GiB", "TiB"}

func parseSize(text string) (int64, error) {
	digits := strings.TrimRight(text, "BKMGTi")
	shift := slices.Index(units, text[len(digits):])
	if text[len(digits):] == "" {
		shift = 0
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || shift < 0 || n < 0 || n > math.MaxInt64>>(10*shift) {
		return 0, errValue
	}
	return n << (10 * shift), nil
}

// String writes a size with the largest unit that divides it.
func (s Size) String() string {
	n, unit := int64(s), 0
	for n != 0 && n%1024 == 0 && unit+1 < len(units) {
		n, unit = n/1024, unit+1
	}
	return strconv.FormatInt(n, 10) + units[unit]
}

func (d Duration) String() string {
	text := time.Duration(d).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// typeName says what a key takes.
func typeName(t reflect.Type, tag reflect.StructTag) string {
	least := tag.Get("min")
	if least == "0" {
		least = ""
	}
	atLeast := func(unit string) string {
		if least == "" {
			return ""
		}
		return " of at least " + least + unit
	}
	switch reflect.Zero(t).Interface().(type) {
	case Runtimes:
		return "names with a path each"
	case bool:
		return "true or false"
	case Duration:
		return "a duration such as 30s or 5m" + atLeast("s")
	case Size:
		return "a size such as 512MiB" + atLeast(" bytes")
	case int:
		return "a whole number from " + tag.Get("min") + " up"
	case Ratio:
		return "a number from " + tag.Get("min") + " up"
	}
	if allowed := tag.Get("oneof"); allowed != "" {
		return "one of " + strings.ReplaceAll(allowed, "|", ", ")
	}
	return "a text"
}

func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "keys and values"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Tag == "!!null":
		return "nothing"
	}
	return strconv.Quote(n.Value)
}

// suggest names the key that was probably meant, or all that there are.
func suggest(name string, keys []key) string {
	best, least := "", 1+len(name)/3
	var all []string
	for _, k := range keys {
		all = append(all, k.name)
		if d := distance(name, k.name); d <= least {
			best, least = k.name, d
		}
	}
	if best != "" {
		return "; did you mean " + best + "?"
	}
	return "; there are " + strings.Join(all, ", ")
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
