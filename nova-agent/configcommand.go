package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"novaagent/config"
	"novaagent/nova-agent/rpc"
)

func runConfig(_ context.Context, args []string) error {
	if len(args) == 0 {
		return &usageError{"config: one of show, validate, import and docs is needed"}
	}
	switch args[0] {
	case "show":
		return configShow(args[1:])
	case "validate":
		return configValidate(args[1:])
	case "import":
		return configImport(args[1:])
	case "docs":
		if err := parseAll(newFlags("config docs"), args[1:]); err != nil {
			return err
		}
		_, err := os.Stdout.Write(config.Markdown())
		return err
	}
	return &usageError{fmt.Sprintf("config: no command %q; there are show, validate, import and docs", args[0])}
}

// configShow prints what is in force, without passwords.
func configShow(args []string) error {
	f := newFlags("config show")
	path := f.String("config", defaultConfig, "the configuration `file`")
	if err := parseAll(f, args); err != nil {
		return err
	}
	c, err := loadConfig(*path)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(c.YAML(false, false))
	return err
}

func configValidate(args []string) error {
	f := newFlags("config validate")
	path := f.String("config", defaultConfig, "the configuration `file`")
	if err := parseAll(f, args); err != nil {
		return err
	}
	c, err := loadConfig(*path)
	if err != nil {
		return err
	}
	if err := checkConfig(*path, c); err != nil {
		return err
	}
	if exposed, err := config.Exposed(*path); err != nil {
		return err
	} else if exposed {
		fmt.Fprintf(os.Stderr, "%s has passwords and everybody may read it; chmod 600 %s\n", *path, *path)
	}
	fmt.Println(*path, "is good")
	return nil
}

// missingConfig says what to do when there is no file.
type missingConfig struct {
	path  string
	cause error
}

func (m *missingConfig) Error() string {
	return fmt.Sprintf("there is no %s; make one with: nova-agent config import --output %s /etc/nova/nova.conf", m.path, m.path)
}

func (m *missingConfig) Unwrap() error { return m.cause }

// loadConfig is config.Load, and says what to do when there is no file.
func loadConfig(path string) (*config.Config, error) {
	c, err := config.Load(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, &missingConfig{path, err}
	}
	return c, err
}

// checkConfig refuses a configuration with which the service cannot run: what is
// missing, a transport URL or certificate that cannot be read.
func checkConfig(path string, c *config.Config) error {
	problems := c.Check()
	if len(problems) == 0 {
		if _, err := rpc.ParseTransportURL(c.RPC.TransportURL); err != nil {
			problems = append(problems, "rpc.transport_url: "+err.Error())
		}
		s, err := newSessions(c, slog.New(slog.DiscardHandler))
		if err != nil {
			problems = append(problems, err.Error())
		} else {
			s.close()
		}
	}
	if len(problems) > 0 {
		return fmt.Errorf("%s: %s", path, strings.Join(problems, "; "))
	}
	return nil
}

// repeated is an option that may be given several times.
type repeated []string

func (r *repeated) String() string     { return strings.Join(*r, " ") }
func (r *repeated) Set(v string) error { *r = append(*r, v); return nil }

// configImport makes nova-agent's file out of a nova-compute's.
func configImport(args []string) error {
	f := newFlags("config import")
	first := f.String("config-file", "", "a nova.conf `file`; more may follow")
	output := f.String("output", "", "write to `file` (mode 0600) instead of standard output")
	var set repeated
	f.Var(&set, "set", "set a `key=value`, such as observe.listen=127.0.0.1:9464; may be repeated")
	if err := parse(f, args); err != nil {
		return err
	}
	files, err := novaFiles(append(strings.Fields(*first), f.Args()...))
	if err != nil {
		return err
	}
	imported, err := config.ImportNova(set, files...)
	if err != nil {
		return err
	}
	text := imported.Config.YAML(true, true)
	header := []byte("# Made by nova-agent config import from " + strings.Join(files, ", ") + ".\n")
	for _, note := range imported.Notes {
		fmt.Fprintln(os.Stderr, "note:", note)
		header = append(header, "# Note: "+note+"\n"...)
	}
	for _, name := range imported.Left {
		fmt.Fprintln(os.Stderr, "not carried over:", name)
		text = append(text, "# Not carried over: "+name+"\n"...)
	}
	if *output == "" {
		_, err = os.Stdout.Write(append(header, text...))
		return err
	}
	return writeSecret(*output, append(header, text...))
}

// novaFiles takes nova-compute's own arguments, too: --config-file FILE and
// --config-dir DIR, whose *.conf count in the order of their names.
func novaFiles(args []string) (files []string, err error) {
	for len(args) > 0 {
		name, value, joined := strings.Cut(args[0], "=")
		if !strings.HasPrefix(name, "-") {
			files, args = append(files, args[0]), args[1:]
			continue
		}
		if !joined && len(args) > 1 {
			value, args = args[1], args[1:]
		}
		args = args[1:]
		switch strings.TrimLeft(name, "-") {
		case "config-file":
			files = append(files, value)
		case "config-dir":
			found, err := filepath.Glob(filepath.Join(value, "*.conf"))
			if err != nil {
				return nil, err
			}
			files = append(files, found...)
		default:
			return nil, &usageError{fmt.Sprintf("config import: no option %s after the first file; there are --config-file and --config-dir", name)}
		}
	}
	if len(files) == 0 {
		return nil, &usageError{"config import: which nova.conf? As nova-compute, it takes several, and the last wins"}
	}
	return files, nil
}

// writeSecret replaces a file that only its owner may read.
func writeSecret(path string, data []byte) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".nova-agent-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	if _, err := tmp.Write(data); err != nil {
		return errors.Join(err, tmp.Close())
	}
	if err := errors.Join(tmp.Chmod(0o600), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
