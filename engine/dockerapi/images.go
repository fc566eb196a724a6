package dockerapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/storage"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"novaagent/engine/errdefs"
	images "novaagent/engine/image"
)

// familiar is a name as Docker shows it: without docker.io/library/.
func familiar(name string) string {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.FamiliarString(ref)
}

// noImage gives the error of a missing image Docker's words: clients pull when they see them.
func noImage(name string, err error) error {
	if errors.Is(err, errdefs.ErrNotFound) {
		return fmt.Errorf("No such image: %s: %w", name, errdefs.ErrNotFound) //nolint:staticcheck // Docker's words
	}
	return err
}

func tagsOf(img *images.Image) []string {
	tags := []string{}
	for _, name := range img.Names {
		tags = append(tags, familiar(name))
	}
	return tags
}

func createdAt(img *images.Image) time.Time {
	if img.Config.Created != nil {
		return *img.Config.Created
	}
	return time.Time{}
}

func (s *server) imageList(r *request) error {
	f, err := r.filters("before", "dangling", "label", "reference", "since", "until")
	if err != nil {
		return err
	}
	list := s.engine.Images().List()
	for field, keep := range map[string]func(a, mark time.Time) bool{
		"before": time.Time.Before,
		"since":  time.Time.After,
	} {
		for _, ref := range f[field] {
			mark, err := s.engine.Images().Get(ref)
			if err != nil {
				return noImage(ref, err)
			}
			list = slices.DeleteFunc(list, func(i images.Image) bool { return !keep(createdAt(&i), createdAt(&mark)) })
		}
	}
	until, err := f.until(time.Now())
	if err != nil {
		return err
	}
	if name := r.query.Get("filter"); name != "" && r.version < 25 && len(f["reference"]) == 0 {
		f["reference"] = []string{name}
	}
	shared := r.version >= 42 && r.boolean("shared-size", false)
	users := layerUsers(list)
	out := []imageSummary{}
	for i := range list {
		img := &list[i]
		tags := tagsOf(img)
		if !f.any("dangling", func(v string) bool { return (v == "true" || v == "1") == (len(tags) == 0) }) ||
			!f.labels(img.Config.Config.Labels) || !until.IsZero() && !createdAt(img).Before(until) {
			continue
		}
		if len(f["reference"]) > 0 {
			tags = slices.DeleteFunc(tags, func(tag string) bool { return !matchesAny(tag, f["reference"]) })
			if len(tags) == 0 {
				continue
			}
		}
		summary := summaryOf(img, tags)
		if shared {
			summary.SharedSize = sharedSize(img, users)
		}
		if r.version >= 51 {
			summary.Containers = int64(len(s.engine.Images().Users(img.Digest)))
		}
		if r.version < 43 && len(summary.RepoTags) == 0 && len(summary.RepoDigests) == 0 {
			summary.RepoTags, summary.RepoDigests = []string{"<none>:<none>"}, []string{"<none>@<none>"}
		}
		out = append(out, summary)
	}
	slices.SortFunc(out, func(a, b imageSummary) int { return int(b.Created - a.Created) })
	return r.reply(http.StatusOK, out)
}

// imageSummary has the fields of all versions.
type imageSummary struct {
	image.Summary
	VirtualSize int64
}

// summaryOf is img with those tags of it; its users and what it shares are not counted.
func summaryOf(img *images.Image, tags []string) imageSummary {
	summary := imageSummary{VirtualSize: img.Size, Summary: image.Summary{
		ID: img.ConfigDigest.String(), RepoTags: tags, RepoDigests: []string{}, Size: img.Size, SharedSize: -1,
		Containers: -1, Labels: img.Config.Config.Labels,
	}}
	if at := createdAt(img); !at.IsZero() {
		summary.Created = at.Unix()
	}
	return summary
}

func matchesAny(tag string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		ref, err := reference.ParseNormalizedNamed(tag)
		if err != nil {
			return false
		}
		ok, err := reference.FamiliarMatch(pattern, ref)
		return err == nil && ok || pattern == tag
	})
}

// imageResponse has the fields of all versions: see versions.go.
type imageResponse struct {
	image.InspectResponse
	Config          *imageConfig
	VirtualSize     int64
	Parent          string
	DockerVersion   string
	Comment         string
	Author          string
	Container       string
	ContainerConfig container.Config
}

// imageConfig has those of a container that older versions answer, which no image sets.
type imageConfig struct {
	dockerspec.DockerOCIImageConfig
	User                                    string
	Env, Entrypoint, Cmd, OnBuild           []string
	Volumes                                 map[string]struct{}
	WorkingDir                              string
	Labels                                  map[string]string
	Hostname, Domainname, Image             string
	AttachStdin, AttachStdout, AttachStderr bool
	Tty, OpenStdin, StdinOnce               bool
}

func newImageConfig(c dockerspec.DockerOCIImageConfig) *imageConfig {
	return &imageConfig{
		DockerOCIImageConfig: c, User: c.User, Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd, OnBuild: c.OnBuild,
		Volumes: c.Volumes, WorkingDir: c.WorkingDir, Labels: c.Labels,
	}
}

func (s *server) imageInspect(r *request) error {
	img, err := s.engine.Images().Get(r.vars["name"])
	if err != nil {
		return noImage(r.vars["name"], err)
	}
	if err := r.imagePlatform(49); err != nil {
		return err
	}
	config, err := s.engine.Images().DockerConfig(r.Context(), img.Digest)
	if err != nil {
		return err
	}
	layers := []string{}
	for _, layer := range img.Layers {
		layers = append(layers, layer.DiffID.String())
	}
	answer := imageResponse{InspectResponse: image.InspectResponse{
		ID: img.ConfigDigest.String(), RepoTags: tagsOf(&img), RepoDigests: []string{},
		Architecture: img.Config.Architecture, Variant: img.Config.Variant, Os: img.Config.OS,
		OsVersion: img.Config.OSVersion, Size: img.Size,
		RootFS:      image.RootFS{Type: "layers", Layers: layers},
		Metadata:    image.Metadata{LastTagTime: img.Created},
		GraphDriver: &storage.DriverData{Name: storageDriver},
	}, Config: newImageConfig(config), VirtualSize: img.Size, Author: img.Config.Author}
	if at := createdAt(&img); !at.IsZero() {
		answer.Created = at.Format(time.RFC3339Nano)
	} else if r.version < 44 {
		answer.Created = time.Time{}.Format(time.RFC3339Nano)
	}
	if n := len(img.Config.History); n > 0 {
		answer.Comment = img.Config.History[n-1].Comment
	}
	return r.reply(http.StatusOK, answer)
}

func (s *server) imageHistory(r *request) error {
	img, err := s.engine.Images().Get(r.vars["name"])
	if err != nil {
		return noImage(r.vars["name"], err)
	}
	if err := r.imagePlatform(48); err != nil {
		return err
	}
	out := []image.HistoryResponseItem{}
	layer := 0
	history := img.Config.History
	if len(history) == 0 { // an image without it still has layers
		history = make([]ocispec.History, len(img.Layers))
	}
	for _, h := range history {
		item := image.HistoryResponseItem{ID: "<missing>", CreatedBy: h.CreatedBy, Comment: h.Comment}
		if h.Created != nil {
			item.Created = h.Created.Unix()
		}
		if !h.EmptyLayer && layer < len(img.Layers) {
			item.Size = img.Layers[layer].Size
			layer++
		}
		out = append(out, item)
	}
	slices.Reverse(out)
	if len(out) > 0 {
		out[0].ID, out[0].Tags = img.ConfigDigest.String(), tagsOf(&img)
	}
	return r.reply(http.StatusOK, out)
}

func (s *server) imageTag(r *request) error {
	repo, tag := r.query.Get("repo"), r.query.Get("tag")
	named, err := reference.ParseNormalizedNamed(repo)
	if err != nil {
		return fmt.Errorf("repo %q: %v: %w", repo, err, errdefs.ErrInvalid)
	}
	if !reference.IsNameOnly(named) {
		return fmt.Errorf("repo %q has a tag or digest of its own: %w", repo, errdefs.ErrInvalid)
	}
	if tag == "" {
		tag = "latest"
	}
	tagged, err := reference.WithTag(named, tag)
	if err != nil {
		return fmt.Errorf("tag %q: %v: %w", tag, err, errdefs.ErrInvalid)
	}
	if err := s.engine.Images().Tag(r.Context(), r.vars["name"], tagged.String()); err != nil {
		return noImage(r.vars["name"], err)
	}
	return r.done(http.StatusCreated)
}

// imageRemove takes a name away, and with the last name the image; by ID it takes all,
// if there is one name or force.
func (s *server) imageRemove(r *request) error {
	ref, store := r.vars["name"], s.engine.Images()
	img, err := store.Get(ref)
	if err != nil {
		return noImage(ref, err)
	}
	force := r.boolean("force", false)
	name := nameIn(&img, ref)
	out := []image.DeleteResponse{}
	if name != "" && len(img.Names) > 1 {
		if _, err := store.Untag(r.Context(), name); err != nil {
			return err
		}
		return r.reply(http.StatusOK, append(out, image.DeleteResponse{Untagged: familiar(name)}))
	}
	if name == "" && len(img.Names) > 1 && !force {
		return fmt.Errorf("conflict: unable to delete %s (must be forced) - image is referenced in multiple repositories: %w",
			short(img.ConfigDigest.Encoded()), errdefs.ErrConflict)
	}
	if users := store.Users(img.Digest); len(users) > 0 {
		// Docker lets a forced removal take the name of an image in use, if no container runs.
		if name != "" {
			return fmt.Errorf("conflict: unable to remove repository reference %q (must force) - container %s is using its referenced image %s: %w",
				ref, short(users[0]), short(img.ConfigDigest.Encoded()), errdefs.ErrConflict)
		}
		return fmt.Errorf("conflict: unable to delete %s (cannot be forced) - image is being used by container %s: %w",
			short(img.ConfigDigest.Encoded()), short(users[0]), errdefs.ErrConflict)
	}
	if err := store.Remove(r.Context(), img.Digest.String()); err != nil {
		return err
	}
	for _, n := range img.Names {
		out = append(out, image.DeleteResponse{Untagged: familiar(n)})
	}
	return r.reply(http.StatusOK, append(out, image.DeleteResponse{Deleted: img.ConfigDigest.String()}))
}

// nameIn is the name of img that ref means, "" if ref is an ID.
func nameIn(img *images.Image, ref string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ""
	}
	full := reference.TagNameOnly(named).String()
	if slices.Contains(img.Names, full) {
		return full
	}
	return ""
}

func short(id string) string { return id[:min(12, len(id))] }

// imageLoad imports an archive and tells the client's terminal how it goes.
func (s *server) imageLoad(r *request) error {
	r.w.Header().Set("Content-Type", "application/json")
	control := http.NewResponseController(r.w)
	// The body is still being read while progress is written.
	_ = control.EnableFullDuplex() // HTTP/1.1 has it
	encoder := json.NewEncoder(r.w)
	say := func(m jsonstream.Message) {
		if encoder.Encode(m) == nil {
			_ = control.Flush()
		}
	}
	// The blobs are kept for `docker save`: the unpacked files don't have the bytes that the digests want.
	opts := images.ImportOptions{ArchiveNames: true, KeepBlobs: true}
	if !r.boolean("quiet", true) {
		opts.Progress = func(p images.Progress) { say(progressOf(p)) }
	}
	loaded, err := s.engine.Images().Load(r.Context(), r.Body, opts)
	if err != nil {
		if rec, ok := r.w.(*recorder); ok && rec.status == 0 {
			return err
		}
		say(jsonstream.Message{Error: &jsonstream.Error{Code: statusOf(err), Message: messageOf(err)}})
		return nil
	}
	for _, img := range loaded {
		if len(img.Names) == 0 {
			say(jsonstream.Message{Stream: "Loaded image ID: " + img.ConfigDigest.String() + "\n"})
		}
		for _, name := range img.Names {
			say(jsonstream.Message{Stream: "Loaded image: " + familiar(name) + "\n"})
		}
	}
	return nil
}

func progressOf(p images.Progress) jsonstream.Message {
	id := string(p.Stage)
	if p.Layers > 0 {
		id = fmt.Sprintf("%s %d/%d", p.Stage, p.Layer, p.Layers)
	}
	return jsonstream.Message{ID: strings.TrimSpace(id), Status: "Loading", Progress: &jsonstream.Progress{Current: p.Bytes}}
}
