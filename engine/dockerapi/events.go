package dockerapi

import (
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types"
	"github.com/moby/moby/api/types/events"

	"novaagent/engine"
	"novaagent/engine/errdefs"
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
		if !wanted(f, ev) {
			continue
		}
		if media == types.MediaTypeJSONSequence {
			if _, err := r.w.Write([]byte{recordSeparator}); err != nil {
				return nil // the client is gone
			}
		}
		if r.line(messageOfEvent(ev)) != nil || control.Flush() != nil {
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

func wanted(f filters, ev engine.Event) bool {
	kind := events.ContainerEventType
	switch {
	case ev.Volume != "":
		kind = events.VolumeEventType
	case ev.Network.ID != "":
		kind = events.NetworkEventType
	}
	return f.any("type", func(v string) bool { return v == string(kind) }) &&
		f.any("volume", func(v string) bool { return v == ev.Volume }) &&
		f.any("network", func(v string) bool { return v == ev.Network.Name || v == ev.Network.ID }) &&
		(kind == events.ContainerEventType || len(f["container"]) == 0) &&
		f.any("scope", func(v string) bool { return v == "local" }) &&
		f.any("event", func(v string) bool {
			return v == string(ev.Action) || v == actionText(ev) || strings.HasPrefix(actionText(ev), v+":")
		}) &&
		f.any("container", func(v string) bool {
			return v == ev.Name || len(v) > 0 && strings.HasPrefix(ev.ID, v)
		}) &&
		f.any("image", func(v string) bool { return v == ev.Image }) &&
		f.labels(ev.Labels)
}

// actionText is the action as events tell it.
func actionText(ev engine.Event) string {
	if ev.Action == engine.ActionExecCreate || ev.Action == engine.ActionExecStart {
		return fmt.Sprintf("%s: %s", ev.Action, ev.Command)
	}
	return string(ev.Action)
}

func messageOfEvent(ev engine.Event) eventMessage {
	if ev.Volume != "" {
		return messageOfVolume(ev)
	}
	if ev.Network.ID != "" {
		return messageOfNetwork(ev)
	}
	attributes := map[string]string{"name": ev.Name, "image": ev.Image}
	for k, v := range ev.Labels {
		attributes[k] = v
	}
	action := actionText(ev)
	switch ev.Action {
	case engine.ActionDie:
		attributes["exitCode"] = strconv.Itoa(ev.Exit.Code)
		if ev.State == engine.Restarting {
			attributes["restarting"] = "true"
		}
	case engine.ActionKill:
		attributes["signal"] = strconv.Itoa(ev.Signal)
	case engine.ActionExecCreate, engine.ActionExecStart, engine.ActionExecDie:
		attributes["execID"] = ev.ExecID
		if ev.Action == engine.ActionExecDie {
			attributes["exitCode"] = strconv.Itoa(ev.Exit.Code)
		}
	}
	return eventMessage{
		Status: action, ID: ev.ID, From: ev.Image,
		Message: events.Message{
			Type: events.ContainerEventType, Action: events.Action(action), Scope: "local",
			Actor: events.Actor{ID: ev.ID, Attributes: attributes},
			Time:  ev.Time.Unix(), TimeNano: ev.Time.UnixNano(),
		},
	}
}

// messageOfNetwork has the attributes that moby's daemon gives.
func messageOfNetwork(ev engine.Event) eventMessage {
	attributes := map[string]string{"name": ev.Network.Name, "type": ev.Network.Driver}
	if ev.ID != "" {
		attributes["container"] = ev.ID
	}
	return eventMessage{Message: events.Message{
		Type: events.NetworkEventType, Action: events.Action(ev.Action), Scope: "local",
		Actor: events.Actor{ID: ev.Network.ID, Attributes: attributes},
		Time:  ev.Time.Unix(), TimeNano: ev.Time.UnixNano(),
	}}
}

// messageOfVolume has the attributes that moby's volume service and daemon give.
func messageOfVolume(ev engine.Event) eventMessage {
	attributes := map[string]string{"driver": driverOf(&engine.Volume{Driver: ev.Driver})}
	switch ev.Action {
	case engine.ActionMount:
		attributes["container"], attributes["destination"] = ev.ID, ev.Mount.Target
		attributes["read/write"], attributes["propagation"] = strconv.FormatBool(!ev.Mount.ReadOnly), ""
	case engine.ActionUnmount:
		attributes["container"] = ev.ID
	}
	return eventMessage{Message: events.Message{
		Type: events.VolumeEventType, Action: events.Action(ev.Action), Scope: "local",
		Actor: events.Actor{ID: ev.Volume, Attributes: attributes},
		Time:  ev.Time.Unix(), TimeNano: ev.Time.UnixNano(),
	}}
}
