package dockerapi

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"novaagent/engine/errdefs"
)

// instructAll applies the parameters changes, each of one or more lines.
func instructAll(c *container.Config, changes []string) error {
	for _, text := range changes {
		for line := range strings.Lines(text) {
			if strings.TrimSpace(line) == "" {
				continue
			}
			if err := instruct(c, line); err != nil {
				return err
			}
		}
	}
	return nil
}

// instruct applies a line of a Dockerfile to an image's configuration: those of the instructions that
// run nothing and copy nothing. ErrInvalid: it is malformed, or no such instruction.
func instruct(c *container.Config, line string) error {
	word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	rest = strings.TrimSpace(rest)
	word = strings.ToUpper(word)
	bad := func(why string) error { return fmt.Errorf("%s: %s: %w", word, why, errdefs.ErrInvalid) }
	if rest == "" {
		return bad("requires at least one argument")
	}
	switch word {
	case "CMD":
		c.Cmd = command(rest)
	case "ENTRYPOINT":
		c.Entrypoint = command(rest)
	case "ENV", "LABEL":
		pairs, err := assignments(rest)
		if err != nil {
			return bad(err.Error())
		}
		for _, p := range pairs {
			if word == "ENV" {
				c.Env = setEnv(c.Env, p.name, p.value)
				continue
			}
			if c.Labels == nil {
				c.Labels = map[string]string{}
			}
			c.Labels[p.name] = p.value
		}
	case "EXPOSE":
		for text := range strings.FieldsSeq(rest) {
			port, err := network.ParsePort(text)
			if err != nil {
				return bad(err.Error())
			}
			if !slices.Contains([]network.IPProtocol{network.TCP, network.UDP, network.SCTP}, port.Proto()) {
				return bad("invalid proto: " + text)
			}
			if c.ExposedPorts == nil {
				c.ExposedPorts = network.PortSet{}
			}
			c.ExposedPorts[port] = struct{}{}
		}
	case "VOLUME":
		list, isJSON := jsonList(rest)
		if !isJSON {
			list = strings.Fields(rest)
		}
		for _, v := range list {
			if v = strings.TrimSpace(v); v == "" {
				return bad("specified volume can not be an empty string")
			}
			if c.Volumes == nil {
				c.Volumes = map[string]struct{}{}
			}
			c.Volumes[v] = struct{}{}
		}
	case "USER":
		if strings.ContainsAny(rest, " \t") {
			return bad("requires exactly one argument")
		}
		c.User = rest
	case "WORKDIR":
		if !path.IsAbs(rest) {
			rest = path.Join("/", c.WorkingDir, rest)
		}
		c.WorkingDir = path.Clean(rest)
	case "STOPSIGNAL":
		c.StopSignal = rest
	case "HEALTHCHECK":
		check, err := healthcheck(rest)
		if err != nil {
			return bad(err.Error())
		}
		c.Healthcheck = check
	case "ONBUILD":
		trigger, _, _ := strings.Cut(strings.ToUpper(rest), " ")
		switch trigger {
		case "ONBUILD":
			return bad("chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
		case "MAINTAINER", "FROM":
			return bad(trigger + " isn't allowed as an ONBUILD trigger")
		}
		c.OnBuild = append(c.OnBuild, rest)
	default:
		return fmt.Errorf("%s is not a valid change command: %w", word, errdefs.ErrInvalid)
	}
	return nil
}

// command is an instruction's JSON list, or else a line for the shell.
func command(text string) []string {
	if list, ok := jsonList(text); ok {
		return list
	}
	return []string{"/bin/sh", "-c", text}
}

func jsonList(text string) (list []string, ok bool) {
	if !strings.HasPrefix(text, "[") || json.Unmarshal([]byte(text), &list) != nil {
		return nil, false
	}
	return list, true
}

func setEnv(env []string, name, value string) []string {
	for i, v := range env {
		if strings.HasPrefix(v, name+"=") {
			env[i] = name + "=" + value
			return env
		}
	}
	return append(env, name+"="+value)
}

type assignment struct{ name, value string }

// assignments reads name=value pairs, whose values may be quoted as a shell does, or
// the older form of one name and a value that is the rest of the line.
func assignments(text string) ([]assignment, error) {
	words, err := split(text)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(words[0], "=") {
		name, value, ok := strings.Cut(text, " ")
		if !ok {
			return nil, fmt.Errorf("%s must have two arguments", name)
		}
		return []assignment{{name, strings.TrimSpace(value)}}, nil
	}
	var out []assignment
	for _, w := range words {
		name, value, ok := strings.Cut(w, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("syntax error - can't find = in %q. Must be of the form: name=value", w)
		}
		out = append(out, assignment{name, value})
	}
	return out, nil
}

// split splits text at spaces that are not quoted, and takes the quotes away.
func split(text string) ([]string, error) {
	var words []string
	var word strings.Builder
	begun, quote := false, rune(0)
	escaped := false
	for _, c := range text {
		switch {
		case escaped:
			if quote == '"' && c != '"' && c != '\\' && c != '$' {
				word.WriteRune('\\')
			}
			word.WriteRune(c)
			escaped = false
		case c == '\\' && quote != '\'':
			escaped, begun = true, true
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote, begun = c, true
		case quote == 0 && (c == ' ' || c == '\t'):
			if begun {
				words = append(words, word.String())
				word.Reset()
				begun = false
			}
		default:
			word.WriteRune(c)
			begun = true
		}
	}
	if quote != 0 || escaped {
		return nil, fmt.Errorf("unexpected end of statement while looking for matching quote")
	}
	if begun {
		words = append(words, word.String())
	}
	return words, nil
}
