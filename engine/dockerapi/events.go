package dockerapi

import (
	"fmt"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types"
	"github.com/moby/moby/api/types/events"

	"novaagent/engine"
	"novaagent/engine/errdefs"
	images "novaagent/engine/image"
)

// eventMessage has the fields that clients up to 1.51 find at the top.
type eventMessage struct {
	Status string `json:"status,omitempty"`
	ID     string `json:"id,omitempty"`
	From   string `json:"from,omitempty"`
	events.Message
}

func (s *server) events(r *request) error {
	f, err := r.filters("container", "event", "image", "label", "type", "daemon", "scope", "network", "volume", "plugin", "node", "service", "secret", "config")
	if err != nil {
		return err
	}
	since, err := r.moment("since")
	if err != nil {
		return err
	}
	until, err := r.moment("until")
	if err != nil {
		return err
	}
	if !until.IsZero() && until.Before(since) {
		return fmt.Errorf("`since` time (%s) cannot be after `until` time (%s): %w", r.query.Get("since"), r.query.Get("until"), errdefs.ErrInvalid)
	}
	stream := s.engine.SubscribeUntil(r.Context(), since, until)
	media := r.streamMedia()
	r.w.Header().Set("Content-Type", media)
	r.w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(r.w)
	if err := control.Flush(); err != nil {
		return nil
	}
	for ev := range stream {
		message := messageOfEvent(ev)
		if !wanted(f, &message.Message) {
			continue
		}
		if media == types.MediaTypeJSONSequence {
			if _, err := r.w.Write([]byte{recordSeparator}); err != nil {
				return nil // the client is gone
			}
		}
		if r.line(message) != nil || control.Flush() != nil {
			return nil // the client is gone
		}
	}
	return nil
}

// recordSeparator begins each document of a JSON text sequence (RFC 7464).
const recordSeparator = 0x1e

// streamMedia is the first type of a stream of JSON documents that the client accepts. The default is no
// stream's type, but the one that clients have always got.
func (r *request) streamMedia() string {
	for _, accepted := range strings.Split(strings.Join(r.Header.Values("Accept"), ","), ",") {
		media, _, err := mime.ParseMediaType(accepted)
		switch {
		case err != nil:
		case r.version >= 52 && (media == types.MediaTypeNDJSON || media == types.MediaTypeJSONSequence),
			r.version >= 53 && media == types.MediaTypeJSONLines:
			return media
		}
	}
	return types.MediaTypeJSON
}

// wanted tells whether an event fits the filters, by the rules of moby's daemon/events/filter.go.
func wanted(f filters, m *events.Message) bool {
	equals := func(v string) func(string) bool { return func(want string) bool { return v == want } }
	action := equals(string(m.Action))
	if slices.ContainsFunc(f["event"], func(v string) bool { return v == "health_status" || v == "exec_create" || v == "exec_start" }) {
		// What follows in the action is the status or the command.
		action = func(want string) bool { return strings.HasPrefix(string(m.Action), want) }
	}
	for _, field := range []string{"config", "container", "daemon", "network", "node", "plugin", "secret", "service", "volume"} {
		if !f.any(field, func(want string) bool {
			return strings.HasPrefix(m.Actor.ID, want) || strings.HasPrefix(m.Actor.Attributes["name"], want)
		}) {
			return false
		}
	}
	image := m.Actor.Attributes["image"]
	if m.Type == events.ImageEventType {
		image = m.Actor.Attributes["name"]
	}
	return f.any("event", action) && f.any("type", equals(string(m.Type))) && f.any("scope", equals(m.Scope)) &&
		f.any("image", func(want string) bool {
			return want == m.Actor.ID || want == image || want == repository(m.Actor.ID) || want == repository(image)
		}) &&
		f.labels(m.Actor.Attributes)
}

// repository is an image's name without its tag.
func repository(name string) string {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.FamiliarName(ref)
}

// messageOfEvent has the attributes that moby's daemon gives.
func messageOfEvent(ev engine.Event) eventMessage {
	message := eventMessage{Message: events.Message{
		Type: events.Type(ev.Kind), Action: events.Action(ev.Action), Scope: "local",
		Time: ev.Time.Unix(), TimeNano: ev.Time.UnixNano(),
	}}
	actor := &message.Actor
	if ev.Action == engine.ActionPrune {
		actor.Attributes = map[string]string{"reclaimed": strconv.FormatUint(ev.Reclaimed, 10)}
		return message
	}
	switch ev.Kind {
	case engine.KindVolume:
		actor.ID, actor.Attributes = ev.Volume, volumeAttributes(ev)
	case engine.KindNetwork:
		actor.ID, actor.Attributes = ev.Network.ID, map[string]string{"name": ev.Network.Name, "type": ev.Network.Driver}
		if ev.ID != "" {
			actor.Attributes["container"] = ev.ID
		}
	case engine.KindImage:
		actor.ID, actor.Attributes = ev.ID, map[string]string{}
		maps.Copy(actor.Attributes, ev.Labels)
		if ev.Name != "" {
			actor.Attributes["name"] = ev.Name
		}
		message.Status, message.ID = string(ev.Action), ev.ID
	case engine.KindContainer:
		if ev.Action == engine.ActionExecCreate || ev.Action == engine.ActionExecStart {
			message.Action = events.Action(fmt.Sprintf("%s: %s", ev.Action, ev.Command))
		}
		actor.ID, actor.Attributes = ev.ID, containerAttributes(ev)
		message.Status, message.ID, message.From = string(message.Action), ev.ID, ev.Image
	}
	return message
}

func containerAttributes(ev engine.Event) map[string]string {
	attributes := map[string]string{}
	maps.Copy(attributes, ev.Labels)
	maps.Copy(attributes, ev.Details)
	attributes["name"] = ev.Name
	if ev.Image != "" {
		attributes["image"] = ev.Image
	}
	switch ev.Action {
	case engine.ActionDie:
		attributes["exitCode"] = strconv.Itoa(ev.Exit.Code)
		attributes["execDuration"] = strconv.Itoa(int(ev.Ran.Seconds()))
	case engine.ActionKill:
		attributes["signal"] = strconv.Itoa(ev.Signal)
	case engine.ActionExecCreate, engine.ActionExecStart, engine.ActionExecDie:
		attributes["execID"] = ev.ExecID
		if ev.Action == engine.ActionExecDie {
			attributes["exitCode"] = strconv.Itoa(ev.Exit.Code)
		}
	}
	return attributes
}

func volumeAttributes(ev engine.Event) map[string]string {
	attributes := map[string]string{"driver": driverOf(&engine.Volume{Driver: ev.Driver})}
	switch ev.Action {
	case engine.ActionMount:
		attributes["container"], attributes["destination"] = ev.ID, ev.Mount.Target
		attributes["read/write"], attributes["propagation"] = strconv.FormatBool(!ev.Mount.ReadOnly), ""
	case engine.ActionUnmount:
		attributes["container"] = ev.ID
	}
	return attributes
}

// tellImage tells of something that was done with an image, by its ID, as dockerd does for all but pulls and pushes.
func (s *server) tellImage(action engine.Action, img *images.Image) {
	id := img.ConfigDigest.String()
	s.engine.TellImage(action, id, id, img.Config.Config.Labels)
}

// tellName is tellImage for a pull or a push of a name.
func (s *server) tellName(action engine.Action, ref reference.Named, img *images.Image) {
	s.engine.TellImage(action, reference.FamiliarString(ref), reference.FamiliarName(ref), img.Config.Config.Labels)
}

// tellTag tells of a name that an image got.
func (s *server) tellTag(name string, img *images.Image) {
	s.engine.TellImage(engine.ActionTag, img.ConfigDigest.String(), familiar(name), img.Config.Config.Labels)
}
