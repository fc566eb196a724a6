package dockerapi

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/moby/api/types/jsonstream"

	"novaagent/engine"
	images "novaagent/engine/image"
)

// imageLoad imports an archive and tells the client's terminal how it goes.
func (s *server) imageLoad(r *request) error {
	wanted, err := r.platforms(48)
	if err != nil {
		return err
	}
	// The body is still being read while progress is written.
	_ = http.NewResponseController(r.w).EnableFullDuplex() // HTTP/1.1 has it
	p := r.newProgress()
	// The blobs are kept for `docker save`: the unpacked files don't have the bytes that the digests want.
	opts := images.ImportOptions{ArchiveNames: true, KeepBlobs: true}
	if len(wanted) > 0 {
		opts.Platform = platforms.Any(wanted...)
	}
	if !r.boolean("quiet", true) {
		opts.Progress = func(at images.Progress) { p.say(progressOf(at)) }
	}
	loaded, err := s.engine.Images().Load(r.Context(), r.Body, opts)
	if err != nil {
		return p.finish(err)
	}
	for _, img := range loaded {
		s.tellImage(engine.ActionLoad, &img)
		if len(img.Names) == 0 {
			p.say(jsonstream.Message{Stream: "Loaded image ID: " + img.ConfigDigest.String() + "\n"})
		}
		for _, name := range img.Names {
			p.say(jsonstream.Message{Stream: "Loaded image: " + familiar(name) + "\n"})
		}
	}
	return p.finish(nil)
}

func progressOf(p images.Progress) jsonstream.Message {
	id := string(p.Stage)
	if p.Layers > 0 {
		id = fmt.Sprintf("%s %d/%d", p.Stage, p.Layer, p.Layers)
	}
	return jsonstream.Message{ID: strings.TrimSpace(id), Status: "Loading", Progress: &jsonstream.Progress{Current: p.Bytes}}
}
