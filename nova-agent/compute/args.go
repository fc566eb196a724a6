package compute

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"novaagent/nova-agent/neutron"
	"novaagent/nova-agent/objects"
	"novaagent/nova-agent/rpc"
)

// args are the keyword arguments of a message. Unknown ones are ignored and missing ones are
// null, since newer control planes send more and older ones less. The first
// value that is not what it should be is kept in err.
type args struct {
	raw map[string]json.RawMessage
	err error
}

// typeError is what Python raises for arguments that don't fit.
func typeError(format string, a ...any) *Exception {
	return &Exception{Module: builtinsModule, Class: "TypeError", Message: fmt.Sprintf(format, a...)}
}

func (a *args) fail(name string, err error) {
	if a.err == nil {
		a.err = typeError("argument %s: %v", name, err)
	}
}

func (a *args) null(name string) bool {
	v := bytes.TrimSpace(a.raw[name])
	return len(v) == 0 || bytes.Equal(v, []byte("null"))
}

// str is "" for null.
func (a *args) str(name string) string { return scalar[string](a, name) }

// flag is false for null.
func (a *args) flag(name string) bool { return scalar[bool](a, name) }

func scalar[T any](a *args, name string) (v T) {
	if a.null(name) {
		return v
	}
	if err := json.Unmarshal(a.raw[name], &v); err != nil {
		a.fail(name, err)
	}
	return v
}

// object reads an object argument, nil for null.
func object[T any, P interface {
	*T
	objects.Object
}](a *args, name string) P {
	if a.null(name) {
		return nil
	}
	p, err := objects.As[T, P](a.raw[name])
	if err != nil {
		a.fail(name, err)
		return nil
	}
	return p
}

// instance reads the argument that most methods have. It must be there and have a UUID.
func (a *args) instance() *objects.Instance {
	inst := object[objects.Instance](a, "instance")
	switch {
	case a.err != nil:
		return nil
	case inst == nil:
		a.fail("instance", errors.New("missing"))
		return nil
	}
	if _, ok := inst.UUID.Get(); !ok {
		a.fail("instance", errors.New("it has no uuid"))
		return nil
	}
	return inst
}

// bdms reads a BlockDeviceMappingList.
func (a *args) bdms(name string) []*objects.BlockDeviceMapping {
	list := object[objects.BlockDeviceMappingList](a, name)
	if list == nil {
		return nil
	}
	return list.Objects.Or(nil)
}

// buildRequest is the message build_and_run_instance. What goes back to the conductor when the build is
// rescheduled is kept as it came.
type buildRequest struct {
	instance       *objects.Instance
	image          image
	requestSpec    *objects.RequestSpec
	filter         filterProperties
	adminPassword  string
	files          []injectedFile
	networks       []neutron.NetworkRequest
	noNetwork      bool // asked for no interface at all
	securityGroups []string
	bdms           []*objects.BlockDeviceMapping
	node           string

	raw map[string]json.RawMessage
}

// image is the part of Glance's record that a build looks at. It is {} for an
// instance whose root disk is a volume.
type image struct {
	ID              string          `json:"id"`
	Name            string          `json:"name"`
	Status          string          `json:"status"`
	Size            int64           `json:"size"`
	MinRAM          int64           `json:"min_ram"`  // MiB
	MinDisk         int64           `json:"min_disk"` // GiB
	ContainerFormat string          `json:"container_format"`
	DiskFormat      string          `json:"disk_format"`
	Properties      json.RawMessage `json:"properties"`

	raw json.RawMessage
}

// filterProperties are the scheduler's. Retry is nil if the build must not be rescheduled.
type filterProperties struct {
	Retry          *retry                     `json:"retry"`
	SchedulerHints map[string]json.RawMessage `json:"scheduler_hints"`
}

type retry struct {
	NumAttempts int `json:"num_attempts"`
}

// injectedFile is a path and its content in base64.
type injectedFile struct{ path, content string }

func (f *injectedFile) UnmarshalJSON(b []byte) error {
	var pair []string
	if err := json.Unmarshal(b, &pair); err != nil {
		return err
	}
	if len(pair) != 2 {
		return fmt.Errorf("%d elements in place of a path and a content", len(pair))
	}
	f.path, f.content = pair[0], pair[1]
	return nil
}

// parseBuild reads build_and_run_instance.
func parseBuild(req *rpc.Request) (*buildRequest, error) {
	a := &args{raw: req.Args}
	b := &buildRequest{
		instance:       a.instance(),
		image:          scalar[image](a, "image"),
		requestSpec:    object[objects.RequestSpec](a, "request_spec"),
		filter:         scalar[filterProperties](a, "filter_properties"),
		adminPassword:  a.str("admin_password"),
		files:          scalar[[]injectedFile](a, "injected_files"),
		securityGroups: scalar[[]string](a, "security_groups"),
		bdms:           a.bdms("block_device_mapping"),
		node:           a.str("node"),
		raw:            req.Args,
	}
	b.image.raw = req.Args["image"]
	if list := object[objects.NetworkRequestList](a, "requested_networks"); list != nil {
		b.networks, b.noNetwork = networkRequests(list)
	}
	if a.err != nil {
		return nil, a.err
	}
	return b, nil
}

// networkRequests translates what the user asked for. A single request for the network
// "none" is no interface at all; for "auto" it is Neutron's own topology.
func networkRequests(list *objects.NetworkRequestList) (out []neutron.NetworkRequest, none bool) {
	requests := list.Objects.Or(nil)
	for _, r := range requests {
		if len(requests) == 1 && r.NetworkID.Or("") == neutron.NetworkNone {
			return nil, true
		}
		out = append(out, neutron.NetworkRequest{
			NetworkID:    r.NetworkID.Or(""),
			Address:      r.Address.Or(""),
			PortID:       r.PortID.Or(""),
			Tag:          r.Tag.Or(""),
			PCIRequestID: r.PCIRequestID.Or(""),
		})
	}
	return out, false
}

// attempt tells one delivery of a build from another: the request and how often it
// was scheduled. A message that is delivered twice has the same.
func (b *buildRequest) attempt(requestID string) string {
	n := 1
	if b.filter.Retry != nil {
		n = b.filter.Retry.NumAttempts
	}
	return fmt.Sprintf("%s/%d", requestID, n)
}

// hint is a scheduler hint; its value may be a string or a list of one.
func (b *buildRequest) hint(name string) string {
	if b.requestSpec != nil {
		if hints, ok := b.requestSpec.SchedulerHints.Get(); ok && len(hints) > 0 {
			if v := hints[name]; len(v) > 0 {
				return v[0]
			}
			return ""
		}
	}
	raw := b.filter.SchedulerHints[name]
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return one
	}
	var list []string
	if json.Unmarshal(raw, &list) == nil && len(list) > 0 {
		return list[0]
	}
	return ""
}

// providers maps the requesters of resources to the providers that the scheduler chose for them.
func (b *buildRequest) providers() map[string][]string {
	if b.requestSpec == nil {
		return nil
	}
	out := map[string][]string{}
	for _, group := range b.requestSpec.RequestedResources.Or(nil) {
		if id := group.RequesterID.Or(""); id != "" {
			out[id] = group.ProviderUUIDs.Or(nil)
		}
	}
	return out
}

// tagged says that a device tag is asked for.
func (b *buildRequest) tagged() bool {
	for _, n := range b.networks {
		if n.Tag != "" {
			return true
		}
	}
	for _, d := range b.bdms {
		if d.Tag.Or("") != "" {
			return true
		}
	}
	return false
}

// volumes are the mappings of Cinder volumes.
func volumes(bdms []*objects.BlockDeviceMapping) []*objects.BlockDeviceMapping {
	var out []*objects.BlockDeviceMapping
	for _, d := range bdms {
		if d.DestinationType.Or("") == "volume" {
			out = append(out, d)
		}
	}
	return out
}
