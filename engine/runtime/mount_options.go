package runtime

import (
	"fmt"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
)

// mountOptions are an OCI mount's options, sorted out.
type mountOptions struct {
	bind, recursive bool
	set, clear      uint64 // attributes of the top mount
	setAll          uint64 // of all mounts below, too
	propagation     uint64
	propagateAll    bool
	idmap, idmapAll bool
	data            []kernel.MountOption // the file system's own
}

// attributes of a mount by option, as mount(8) names them.
var attributes = map[string]struct{ set, clear uint64 }{
	"ro": {set: kernel.AttrReadOnly}, "rw": {clear: kernel.AttrReadOnly},
	"nosuid": {set: kernel.AttrNoSuid}, "suid": {clear: kernel.AttrNoSuid},
	"nodev": {set: kernel.AttrNoDev}, "dev": {clear: kernel.AttrNoDev},
	"noexec": {set: kernel.AttrNoExec}, "exec": {clear: kernel.AttrNoExec},
	"nodiratime": {set: kernel.AttrNoDirAtime}, "diratime": {clear: kernel.AttrNoDirAtime},
	"nosymfollow": {set: kernel.AttrNoSymFollow}, "symfollow": {clear: kernel.AttrNoSymFollow},
	"noatime":     {set: kernel.AttrNoAtime, clear: kernel.AttrAtimeMask},
	"strictatime": {set: kernel.AttrStrictAtime, clear: kernel.AttrAtimeMask},
	"relatime":    {clear: kernel.AttrAtimeMask}, "atime": {clear: kernel.AttrAtimeMask},
}

var propagations = map[string]uint64{
	"private": kernel.PropagatePrivate, "slave": kernel.PropagateSlave,
	"shared": kernel.PropagateShared, "unbindable": kernel.Unbindable,
}

func parseMount(m specs.Mount) (mountOptions, error) {
	o := mountOptions{bind: m.Type == "bind"}
	for _, opt := range m.Options {
		if a, ok := attributes[opt]; ok {
			o.set = o.set&^a.clear | a.set
			o.clear = o.clear&^a.set | a.clear
			continue
		}
		if a, ok := attributes[strings.TrimPrefix(opt, "r")]; ok && opt[0] == 'r' {
			o.setAll = o.setAll&^a.clear | a.set
			continue
		}
		if p, ok := propagations[opt]; ok {
			o.propagation, o.propagateAll = p, false
			continue
		}
		if p, ok := propagations[strings.TrimPrefix(opt, "r")]; ok {
			o.propagation, o.propagateAll = p, true
			continue
		}
		switch opt {
		case "bind":
			o.bind = true
		case "rbind":
			o.bind, o.recursive = true, true
		case "idmap":
			o.idmap = true
		case "ridmap":
			o.idmap, o.idmapAll = true, true
		case "defaults", "async", "loud", "norelatime", "nostrictatime", "newinstance", "":
		case "tmpcopyup":
			return o, fmt.Errorf("mount %s: option %s: %w", m.Destination, opt, errdefs.ErrUnsupported)
		default:
			k, v, _ := strings.Cut(opt, "=")
			o.data = append(o.data, kernel.MountOption{Key: k, Value: v})
		}
	}
	if len(m.UIDMappings) > 0 || len(m.GIDMappings) > 0 {
		o.idmap = true
	}
	if o.bind && len(o.data) > 0 {
		return o, fmt.Errorf("mount %s: a bind mount has no option %q: %w", m.Destination, o.data[0].Key, errdefs.ErrInvalid)
	}
	return o, nil
}
