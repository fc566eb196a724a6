package compute

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"novaagent/nova-agent/rpc"
)

// hostUptime answers as uptime(1) prints it, which Nova's API reads.
func (m *Manager) hostUptime(context.Context, *rpc.Request) (any, error) {
	up, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return nil, fmt.Errorf("uptime: %w", err)
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return nil, fmt.Errorf("uptime: %w", err)
	}
	return uptimeText(time.Now(), string(up), string(load))
}

// uptimeText puts /proc/uptime and /proc/loadavg into uptime's line.
func uptimeText(now time.Time, up, load string) (string, error) {
	first, _, _ := strings.Cut(up, " ")
	seconds, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return "", fmt.Errorf("uptime: %w", err)
	}
	loads := strings.Fields(load)
	if len(loads) < 3 {
		return "", fmt.Errorf("uptime: /proc/loadavg reads %q", load)
	}
	minutes := int(seconds) / 60
	days, hours, minutes := minutes/1440, minutes/60%24, minutes%60
	text := ""
	switch {
	case days == 1:
		text = "1 day, "
	case days > 1:
		text = strconv.Itoa(days) + " days, "
	}
	if hours > 0 {
		text += fmt.Sprintf("%2d:%02d", hours, minutes)
	} else {
		text += strconv.Itoa(minutes) + " min"
	}
	return fmt.Sprintf(" %s up %s,  0 users,  load average: %s", now.Format("15:04:05"), text, strings.Join(loads[:3], ", ")), nil
}

// setHostEnabled keeps the scheduler from this node, or lets it come again. The record is
// the API's; the periodic update repairs the trait if this call was missed.
func (m *Manager) setHostEnabled(ctx context.Context, req *rpc.Request) (any, error) {
	a := &args{raw: req.Args}
	enabled := a.flag("enabled")
	if a.err != nil {
		return nil, a.err
	}
	if err := m.placement.SetTrait(ctx, m.tracker.provider(), traitDisabled, !enabled); err != nil {
		m.log.WarnContext(ctx, "the trait of a disabled host was not set; the next update will", "enabled", enabled, "error", err)
	}
	if enabled {
		return "enabled", nil
	}
	return "disabled", nil
}
