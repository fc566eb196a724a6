package dockerapi

import (
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strconv"
	"time"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/storage"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"novaagent/engine"
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
		ref, err := reference.ParseAnyReference(name)
		if err != nil {
			return fmt.Errorf("%v: %w", err, errdefs.ErrInvalid)
		}
		if named, ok := ref.(reference.Named); ok {
			name = reference.FamiliarString(reference.TagNameOnly(named))
		}
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

func digestsOf(img *images.Image) []string {
	digests := []string{}
	for _, name := range img.Digests {
		digests = append(digests, familiar(name))
	}
	return digests
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
	for _, v := range f["dangling"] {
		if _, err := strconv.ParseBool(v); err != nil {
			return fmt.Errorf("invalid filter 'dangling=[%s]': %w", v, errdefs.ErrInvalid)
		}
	}
	for _, v := range f["reference"] {
		if _, err := path.Match(v, ""); err != nil {
			return fmt.Errorf("invalid filter 'reference=%s': %v: %w", v, err, errdefs.ErrInvalid)
		}
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
	for _, v := range f["dangling"] {
		if _, err := strconv.ParseBool(v); err != nil {
			return fmt.Errorf("invalid filter 'dangling=[%s]': %w", v, errdefs.ErrInvalid)
		}
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
		if r.version >= 48 {
			summary.Descriptor = &img.Target
			if r.boolean("manifests", false) {
				summary.Manifests = s.manifestsOf(r, img)
			}
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
		ID: img.ConfigDigest.String(), RepoTags: tags, RepoDigests: digestsOf(img), Size: img.Size, SharedSize: -1,
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
	wanted, err := r.platforms(49)
	if err != nil {
		return err
	}
	if len(wanted) > 0 && r.boolean("manifests", false) {
		return fmt.Errorf("conflicting options: manifests and platform options cannot both be set: %w", errdefs.ErrInvalid)
	}
	if err := offers(r.vars["name"], &img, wanted); err != nil {
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
		ID: img.ConfigDigest.String(), RepoTags: tagsOf(&img), RepoDigests: digestsOf(&img),
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
	if r.version >= 48 {
		answer.Descriptor = &img.Target
		if r.boolean("manifests", false) {
			answer.Manifests = s.manifestsOf(r, &img)
		}
	}
	return r.reply(http.StatusOK, answer)
}

// manifestsOf lists the one manifest that each image here has.
func (s *server) manifestsOf(r *request, img *images.Image) []image.ManifestSummary {
	m := image.ManifestSummary{
		ID: img.Digest.String(), Descriptor: img.Target, Available: true, Kind: image.ManifestKindImage,
		ImageData: &image.ImageProperties{Platform: img.Config.Platform, Containers: s.engine.Images().Users(img.Digest)},
	}
	if m.ImageData.Containers == nil {
		m.ImageData.Containers = []string{}
	}
	m.Size.Content = s.engine.Images().BlobBytes(r.Context(), img)
	m.ImageData.Size.Unpacked = img.Size
	m.Size.Total = m.Size.Content + img.Size
	return []image.ManifestSummary{m}
}

// offers refuses an image that is for none of the platforms, if there are any.
func offers(name string, img *images.Image, wanted []ocispec.Platform) error {
	for _, p := range wanted {
		if platforms.OnlyStrict(p).Match(platforms.Normalize(img.Config.Platform)) {
			return nil
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	return fmt.Errorf("image with reference %s was found but does not provide the specified platform (%s): %w",
		name, platforms.FormatAll(wanted[0]), errdefs.ErrNotFound)
}

func (s *server) imageHistory(r *request) error {
	img, err := s.engine.Images().Get(r.vars["name"])
	if err != nil {
		return noImage(r.vars["name"], err)
	}
	wanted, err := r.platforms(48)
	if err == nil {
		err = offers(r.vars["name"], &img, wanted)
	}
	if err != nil {
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
		return fmt.Errorf("%v: %w", err, errdefs.ErrInvalid)
	}
	if !reference.IsNameOnly(named) {
		return fmt.Errorf("repo %q has a tag or digest of its own: %w", repo, errdefs.ErrInvalid)
	}
	if tag == "" {
		tag = "latest"
	}
	tagged, err := reference.WithTag(named, tag)
	if err != nil {
		return fmt.Errorf("%v: %w", err, errdefs.ErrInvalid)
	}
	if err := s.engine.Images().Tag(r.Context(), r.vars["name"], tagged.String()); err != nil {
		return noImage(r.vars["name"], err)
	}
	if img, err := s.engine.Images().Get(tagged.String()); err == nil {
		s.tellTag(tagged.String(), &img)
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
	if gone := untagged(&img, name); gone != nil {
		for _, n := range gone {
			if _, err := store.Untag(r.Context(), n); err != nil {
				return err
			}
			out = append(out, image.DeleteResponse{Untagged: familiar(n)})
		}
		s.tellImage(engine.ActionUntag, &img) // digests that go with the tag are not told
		return r.reply(http.StatusOK, out)
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
	return r.reply(http.StatusOK, s.removed(&img))
}

// removed tells of an image that is gone, and is what an answer has about it.
func (s *server) removed(img *images.Image) (out []image.DeleteResponse) {
	for _, n := range slices.Concat(img.Names, img.Digests) {
		s.tellImage(engine.ActionUntag, img)
		out = append(out, image.DeleteResponse{Untagged: familiar(n)})
	}
	s.tellImage(engine.ActionDelete, img)
	return append(out, image.DeleteResponse{Deleted: img.ConfigDigest.String()})
}

// nameIn is the name of img that ref means, "" if ref is an ID.
func nameIn(img *images.Image, ref string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ""
	}
	if d, ok := named.(reference.Digested); ok {
		if full := reference.TrimNamed(named).Name() + "@" + d.Digest().String(); slices.Contains(img.Digests, full) {
			return full
		}
		return ""
	}
	full := reference.TagNameOnly(named).String()
	if slices.Contains(img.Names, full) {
		return full
	}
	return ""
}

// untagged are the names that go when name is taken from an image that keeps others: with the last tag of a repository
// its digests. None if name is the last tag, or the last digest and there are no tags, or no name: then it is the image that goes.
func untagged(img *images.Image, name string) []string {
	repo := func(n string) string {
		named, err := reference.ParseNormalizedNamed(n)
		if err != nil {
			return n
		}
		return named.Name()
	}
	switch {
	case name == "":
		return nil
	case slices.Contains(img.Digests, name):
		if len(img.Names) > 0 || len(img.Digests) > 1 {
			return []string{name}
		}
		return nil
	case len(img.Names) < 2:
		return nil
	}
	gone := []string{name}
	if !slices.ContainsFunc(img.Names, func(n string) bool { return n != name && repo(n) == repo(name) }) {
		for _, d := range img.Digests {
			if repo(d) == repo(name) {
				gone = append(gone, d)
			}
		}
	}
	return gone
}

func short(id string) string { return id[:min(12, len(id))] }
