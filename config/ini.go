package config

import (
	"bytes"
	"fmt"
	"strings"

	"novaagent/engine/errdefs"
)

// option is one value of an oslo.config file and where it stands.
type option struct {
	value string
	file  string
	line  int
}

// options hold section → name → values in the order of the files. An option that
// may be given several times (MultiOpt) has all of them; for others the last counts.
type options map[string]map[string][]option

// read adds a file as oslo.config does (oslo_config/iniparser.py): comments with #
// or ;, "name = value" or "name: value", further lines of a value indented,
// quotes around a whole value taken off.
func (o options) read(file string, data []byte) error {
	section := ""
	var last *option
	for i, raw := range bytes.Split(data, []byte("\n")) {
		line := strings.TrimRight(string(raw), "\r\t ")
		trimmed := strings.TrimSpace(line)
		fault := func(what string) error {
			return fmt.Errorf("%s:%d: %s: %w", file, i+1, what, errdefs.ErrInvalid)
		}
		switch {
		case trimmed == "" || trimmed[0] == '#' || trimmed[0] == ';':
			if trimmed == "" {
				last = nil
			}
		case line[0] == ' ' || line[0] == '\t':
			if last == nil {
				return fault("an indented line that continues nothing")
			}
			last.value += "\n" + trimmed
		case trimmed[0] == '[':
			end := strings.IndexByte(trimmed, ']')
			if end < 2 {
				return fault("want [section], not " + trimmed)
			}
			section, last = trimmed[1:end], nil
			if section != "DEFAULT" {
				section = strings.ToLower(section) // as oslo.config compares them
			}
		default:
			at := strings.IndexAny(trimmed, "=:")
			if at < 1 {
				return fault("want name = value")
			}
			if section == "" {
				return fault("a value before the first section")
			}
			name := strings.TrimSpace(trimmed[:at])
			if o[section] == nil {
				o[section] = map[string][]option{}
			}
			// oslo.config takes - for _ in names.
			name = strings.ReplaceAll(name, "-", "_")
			o[section][name] = append(o[section][name], option{unquote(strings.TrimSpace(trimmed[at+1:])), file, i + 1})
			all := o[section][name]
			last = &all[len(all)-1]
		}
	}
	return nil
}

func unquote(v string) string {
	if len(v) > 1 && (v[0] == '"' || v[0] == '\'') && v[len(v)-1] == v[0] {
		return v[1 : len(v)-1]
	}
	return v
}

// get returns an option's value with $name, ${name} and ${section.name} replaced,
// as oslo.config's templates are; $$ is a dollar.
func (o options) get(section, name string) (option, bool) {
	all := o[section][name]
	if len(all) == 0 {
		return option{}, false
	}
	found := all[len(all)-1]
	found.value = o.substitute(section, found.value, 0)
	return found, true
}

func (o options) substitute(section, text string, depth int) string {
	if depth > 8 || !strings.Contains(text, "$") {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '$' || i+1 == len(text) {
			b.WriteByte(text[i])
			continue
		}
		rest := text[i+1:]
		if rest[0] == '$' {
			b.WriteByte('$')
			i++
			continue
		}
		name, length := "", 0
		if rest[0] == '{' {
			if end := strings.IndexByte(rest, '}'); end > 0 {
				name, length = rest[1:end], end+1
			}
		} else {
			for length < len(rest) && (rest[length] == '_' || rest[length] >= 'a' && rest[length] <= 'z' ||
				rest[length] >= 'A' && rest[length] <= 'Z' || rest[length] >= '0' && rest[length] <= '9') {
				length++
			}
			name = rest[:length]
		}
		value, known := o.lookup(section, name)
		if name == "" || !known {
			b.WriteByte('$')
			continue
		}
		b.WriteString(o.substitute(section, value, depth+1))
		i += length
	}
	return b.String()
}

func (o options) lookup(section, name string) (string, bool) {
	for _, s := range []string{section, "DEFAULT"} {
		if all := o[s][name]; len(all) > 0 {
			return all[len(all)-1].value, true
		}
	}
	if s, n, dotted := strings.Cut(name, "."); dotted {
		if all := o[s][n]; len(all) > 0 {
			return all[len(all)-1].value, true
		}
	}
	return "", false
}
