package dockerapi

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"

	"novaagent/engine"
	"novaagent/engine/errdefs"
)

// process is what /proc tells of one.
type process struct {
	pid, ppid  int
	uid        string
	comm, args string
	state      string
	tty        int
	ticks      uint64 // of processor time
	started    time.Time
	rss, vsz   uint64 // KiB
}

// column is one of ps's: its title and what it shows.
type column struct {
	title string
	show  func(*process) string
}

// columns are ps's by the name that -o takes. No ps is run: the host may have none, and a
// container's is the tenant's.
var columns = map[string]column{
	"pid":   {"PID", func(p *process) string { return strconv.Itoa(p.pid) }},
	"ppid":  {"PPID", func(p *process) string { return strconv.Itoa(p.ppid) }},
	"uid":   {"UID", func(p *process) string { return p.uid }},
	"user":  {"USER", func(p *process) string { return userName(p.uid) }},
	"comm":  {"COMMAND", func(p *process) string { return p.comm }},
	"args":  {"COMMAND", func(p *process) string { return p.args }},
	"cmd":   {"CMD", func(p *process) string { return p.args }},
	"stat":  {"STAT", func(p *process) string { return p.state }},
	"state": {"S", func(p *process) string { return p.state }},
	"tty":   {"TTY", func(p *process) string { return ttyName(p.tty) }},
	"time":  {"TIME", func(p *process) string { return clock(p.ticks / ticksPerSecond) }},
	"etime": {"ELAPSED", func(p *process) string { return clock(uint64(time.Since(p.started).Seconds())) }},
	"stime": {"STIME", func(p *process) string { return startText(p.started) }},
	"c":     {"C", func(p *process) string { return strconv.Itoa(int(p.share())) }},
	"pcpu":  {"%CPU", func(p *process) string { return fmt.Sprintf("%.1f", p.share()) }},
	"rss":   {"RSS", func(p *process) string { return strconv.FormatUint(p.rss, 10) }},
	"vsz":   {"VSZ", func(p *process) string { return strconv.FormatUint(p.vsz, 10) }},
	"pmem": {"%MEM", func(p *process) string {
		return fmt.Sprintf("%.1f", 100*float64(p.rss<<10)/float64(max(1, memTotal())))
	}},
}

// styles are the arguments of ps that stand for a list of columns.
var styles = map[string]struct{ fields, titles []string }{
	"-ef": {[]string{"user", "pid", "ppid", "c", "stime", "tty", "time", "cmd"}, []string{"UID"}},
	"aux": {[]string{"user", "pid", "pcpu", "pmem", "vsz", "rss", "tty", "stat", "stime", "time", "args"}, nil},
}

func (s *server) containerTop(r *request) error {
	show, titles, err := parsePS(r.query.Get("ps_args"))
	if err != nil {
		return err
	}
	pids, err := s.engine.PIDs(r.Context(), r.vars["id"])
	if err != nil {
		return err
	}
	slices.Sort(pids)
	answer := container.TopResponse{Titles: titles, Processes: [][]string{}}
	boot := bootTime()
	for _, pid := range pids {
		p, ok := readProcess(pid, boot)
		if !ok {
			continue // it has ended
		}
		line := []string{}
		for _, c := range show {
			line = append(line, c.show(p))
		}
		answer.Processes = append(answer.Processes, line)
	}
	s.engine.Tell(r.vars["id"], engine.ActionTop, nil)
	return r.reply(http.StatusOK, answer)
}

// parsePS understands -ef, aux and -o LIST.
func parsePS(args string) (show []column, titles []string, err error) {
	args = strings.TrimSpace(args)
	if args == "" {
		args = "-ef"
	}
	style, ok := styles[args]
	if !ok && args == "-aux" {
		style, ok = styles["aux"], true
	}
	fields := style.fields
	if !ok {
		words := strings.Fields(args)
		for len(words) > 1 && (words[0] == "-e" || words[0] == "-A") {
			words = words[1:]
		}
		if len(words) == 0 || !strings.HasPrefix(words[0], "-o") && !strings.HasPrefix(words[0], "-eo") {
			return nil, nil, fmt.Errorf("ps_args %q: use -ef, aux or -o LIST: %w", args, errdefs.ErrInvalid)
		}
		list := strings.TrimPrefix(strings.TrimPrefix(strings.Join(words, ","), "-eo"), "-o")
		for field := range strings.SplitSeq(list, ",") {
			if field != "" && field != "-o" {
				fields = append(fields, strings.TrimPrefix(field, "-o"))
			}
		}
	}
	if len(fields) == 0 {
		return nil, nil, fmt.Errorf("ps_args %q names no column: %w", args, errdefs.ErrInvalid)
	}
	for _, field := range fields {
		name, title, renamed := strings.Cut(field, "=")
		c, known := columns[name]
		if !known {
			return nil, nil, fmt.Errorf("ps_args: there is no column %q: %w", name, errdefs.ErrInvalid)
		}
		if renamed {
			c.title = title
		}
		show = append(show, c)
		titles = append(titles, c.title)
	}
	copy(titles, style.titles)
	return show, titles, nil
}

// readProcess reads /proc/PID; ok is false if there is no such process.
func readProcess(pid int, boot time.Time) (p *process, ok bool) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return nil, false
	}
	// The name is in parentheses and may hold anything, so look for the last one (proc_pid_stat(5)).
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return nil, false
	}
	fields := strings.Fields(string(stat[end+1:]))
	if len(fields) < 22 {
		return nil, false
	}
	number := func(i int) uint64 { n, _ := strconv.ParseUint(fields[i-3], 10, 64); return n } // as the manual counts
	p = &process{
		pid: pid, ppid: int(number(4)), comm: string(stat[open+1 : end]), state: fields[0], tty: int(number(7)),
		ticks: number(14) + number(15), vsz: number(23) >> 10, rss: number(24) * uint64(os.Getpagesize()) >> 10,
		started: boot.Add(time.Duration(number(22)) * time.Second / ticksPerSecond),
	}
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return nil, false
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "Uid:"); ok {
			if ids := strings.Fields(rest); len(ids) > 1 {
				p.uid = ids[1]
			}
		}
	}
	cmdline, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	p.args = strings.TrimSpace(strings.ReplaceAll(string(cmdline), "\x00", " "))
	if err != nil || p.args == "" {
		p.args = "[" + p.comm + "]"
	}
	return p, true
}

// share is the processor time as a part of the life, in per cent.
func (p *process) share() float64 {
	life := time.Since(p.started).Seconds()
	if life <= 0 {
		return 0
	}
	return 100 * float64(p.ticks) / ticksPerSecond / life
}

func bootTime() time.Time {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return time.Time{}
	}
	for line := range strings.Lines(string(stat)) {
		if rest, ok := strings.CutPrefix(line, "btime "); ok {
			seconds, _ := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
			return time.Unix(seconds, 0)
		}
	}
	return time.Time{}
}

// userName is the host's name of a uid, as ps shows it.
func userName(uid string) string {
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return uid
}

func ttyName(device int) string {
	major, minor := device>>8&0xfff, device&0xff|device>>12&0xfff00
	switch {
	case device == 0:
		return "?"
	case major >= 136 && major <= 143:
		return "pts/" + strconv.Itoa((major-136)<<8|minor)
	case major == 4:
		return "tty" + strconv.Itoa(minor)
	}
	return "?"
}

func clock(seconds uint64) string {
	return fmt.Sprintf("%02d:%02d:%02d", seconds/3600, seconds/60%60, seconds%60)
}

func startText(t time.Time) string {
	if time.Since(t) < 24*time.Hour {
		return t.Format("15:04")
	}
	return t.Format("Jan02")
}
