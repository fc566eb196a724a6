package compute

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"novaagent/engine/errdefs"
)

// guest is what a container is made of, out of an Instance: Nova's words, no
// wire types.
type guest struct {
	uuid             string
	name             string // display_name
	hostname         string
	projectID        string
	userID           string
	availabilityZone string
	launchIndex      int
	configDrive      bool
	userData         string // base64, as Nova keeps it
	keyName          string
	keyData          string

	imageRef string
	// properties are the image's, from system_metadata, without the "image_" that Nova puts before them.
	properties map[string]string
	// metadata is what the user set on the server.
	metadata map[string]string
	flavor   flavor
}

// flavor is the size of an instance.
type flavor struct {
	name        string
	vcpus       int
	memoryMB    int
	rootGB      int
	ephemeralGB int
	swapMB      int
	extraSpecs  map[string]string
}

// rootBytes is what the root disk has room for, 0 if it has no bound.
func (f flavor) rootBytes() int64 { return int64(f.rootGB) << 30 }

func (f flavor) usage(volumeBacked bool) usage {
	u := usage{vcpus: f.vcpus, memoryMB: f.memoryMB, rootGB: f.rootGB, ephemeralGB: f.ephemeralGB, swapMB: f.swapMB}
	if volumeBacked {
		u.rootGB = 0
	}
	return u
}

// containerID is the ID of an instance's container: the UUID's 32 digits and 32 of its hash. It is derived
// so that nothing has to be remembered, and begins with the UUID so that "docker ps"
// shows which instance it is.
func containerID(uuid string) string {
	digits := strings.ToLower(strings.ReplaceAll(uuid, "-", ""))
	sum := sha256.Sum256([]byte("instance " + uuid))
	hash := hex.EncodeToString(sum[:])
	if len(digits) != 32 || strings.Trim(digits, "0123456789abcdef") != "" {
		return hash // not a UUID; Nova does not send any other
	}
	return digits + hash[:32]
}

// containerName is the name of an instance's container.
func containerName(uuid string) string { return namePrefix + uuid }

const namePrefix = "instance-"

// instanceOf is the inverse of containerName.
func instanceOf(name string) (uuid string, ok bool) { return strings.CutPrefix(name, namePrefix) }

// setting looks a run setting up: the user's server metadata goes before the
// image's properties; of several names for the same thing the first one counts.
func (g guest) setting(names ...string) (value string, ok bool) {
	for _, from := range []map[string]string{g.metadata, g.properties} {
		for _, name := range names {
			if v, ok := from[name]; ok && strings.TrimSpace(v) != "" {
				return strings.TrimSpace(v), true
			}
		}
	}
	return "", false
}

// The settings of an image or server that say how its container runs. No others are
// looked at: both are written by tenants. docs/operations-instances.md describes them.
var (
	settingEntrypoint = []string{"container:entrypoint", "docker:entrypoint"}
	settingCommand    = []string{"container:command", "os_command_line", "docker:command", "docker:cmd"}
	settingEnv        = []string{"container:env", "docker:env"}
	settingUser       = []string{"container:user", "docker:user"}
	settingWorkDir    = []string{"container:workdir", "docker:workdir"}
	settingTTY        = []string{"container:tty", "docker:tty"}
	settingInit       = []string{"container:init", "docker:init"}
	settingNoNewPrivs = []string{"container:no_new_privileges"}
)

// words reads a list: a JSON array of strings, or words as a shell splits them.
func words(name, value string) ([]string, error) {
	if strings.HasPrefix(value, "[") {
		var list []string
		if err := json.Unmarshal([]byte(value), &list); err != nil {
			return nil, fmt.Errorf("%s %q is not a JSON array of strings: %w", name, value, errdefs.ErrInvalid)
		}
		return list, nil
	}
	list, err := splitWords(value)
	if err != nil {
		return nil, fmt.Errorf("%s %q: %v: %w", name, value, err, errdefs.ErrInvalid)
	}
	return list, nil
}

// splitWords splits at blanks, as a POSIX shell does outside of expansions: quotes
// and backslashes keep blanks.
func splitWords(s string) ([]string, error) {
	var (
		out    []string
		word   strings.Builder
		inWord bool
		quote  rune
		escape bool
	)
	for _, r := range s {
		switch {
		case escape:
			if quote == '"' && !strings.ContainsRune("\"\\$`", r) {
				word.WriteRune('\\')
			}
			word.WriteRune(r)
			escape = false
		case r == '\\' && quote != '\'':
			escape, inWord = true, true
		case quote != 0:
			if r == quote {
				quote = 0
			} else {
				word.WriteRune(r)
			}
		case r == '\'' || r == '"':
			quote, inWord = r, true
		case r == ' ' || r == '\t' || r == '\n':
			if inWord {
				out = append(out, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if quote != 0 || escape {
		return nil, fmt.Errorf("a quote is not closed")
	}
	if inWord {
		out = append(out, word.String())
	}
	return out, nil
}

// environment reads KEY=value pairs: a JSON object, a JSON array of pairs, or words.
func environment(name, value string) ([]string, error) {
	var list []string
	if strings.HasPrefix(value, "{") {
		var object map[string]string
		if err := json.Unmarshal([]byte(value), &object); err != nil {
			return nil, fmt.Errorf("%s %q is not a JSON object of strings: %w", name, value, errdefs.ErrInvalid)
		}
		for k, v := range object {
			list = append(list, k+"="+v)
		}
	} else {
		var err error
		if list, err = words(name, value); err != nil {
			return nil, err
		}
	}
	for _, pair := range list {
		if key, _, ok := strings.Cut(pair, "="); !ok || key == "" || strings.ContainsRune(pair, 0) {
			return nil, fmt.Errorf("%s: %q is not KEY=value: %w", name, pair, errdefs.ErrInvalid)
		}
	}
	return list, nil
}

// truth reads a boolean as Nova's strutils.bool_from_string does.
func truth(name, value string) (bool, error) {
	switch strings.ToLower(value) {
	case "1", "t", "true", "on", "y", "yes":
		return true, nil
	case "0", "f", "false", "off", "n", "no":
		return false, nil
	}
	return false, fmt.Errorf("%s %q is neither true nor false: %w", name, value, errdefs.ErrInvalid)
}

// number reads a whole number between low and high.
func number(name, value string, low, high int64) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("%s %q is not a whole number from %d to %d: %w", name, value, low, high, errdefs.ErrInvalid)
	}
	return n, nil
}
