package dockerapi

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/jsonstream"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"novaagent/engine"
	"novaagent/engine/errdefs"
	images "novaagent/engine/image"
)

// importTimeout ends the download of a file of which nothing comes for as long.
const importTimeout = time.Minute

// imageImport makes an image of a root file system: the request's body, or what is at a URL.
func (s *server) imageImport(r *request, src string) error {
	name, err := commitName(r.query.Get("repo"), r.query.Get("tag"))
	if err != nil {
		return err
	}
	platform, err := r.platform()
	if err != nil {
		return err
	}
	config := &container.Config{}
	if err := instructAll(config, r.query["changes"]); err != nil {
		return err
	}
	message := r.query.Get("message")
	if message == "" {
		message = "Imported from " + src
	}
	now := time.Now().UTC()
	opts := images.ImportOptions{KeepBlobs: true, Describe: func(i *dockerspec.DockerOCIImage) {
		if platform != nil {
			i.Platform = *platform
		}
		i.Created, i.Config = &now, configOf(config)
		i.History = []ocispec.History{{Created: &now, Comment: message}}
	}}
	if name != "" {
		opts.Names = []string{name}
	}
	_ = http.NewResponseController(r.w).EnableFullDuplex() // HTTP/1.1 has it
	p := r.newProgress()
	var body io.Reader = r.Body
	if src != "-" {
		download, total, err := fetchURL(r.Context(), src)
		if err != nil {
			return p.finish(err)
		}
		defer download.Close()
		body = download
		p.say(jsonstream.Message{Status: "Downloading from " + src})
		opts.Progress = func(at images.Progress) {
			p.say(jsonstream.Message{Status: "Importing", Progress: &jsonstream.Progress{Current: at.Bytes, Total: total}})
		}
	}
	img, err := s.engine.Images().ImportRootfs(r.Context(), body, opts)
	if err != nil {
		return p.finish(fmt.Errorf("archive: %w", err))
	}
	if name != "" {
		s.tellTag(name, &img)
	}
	s.tellImage(engine.ActionImport, &img)
	p.say(jsonstream.Message{Status: img.ConfigDigest.String()})
	return p.finish(nil)
}

// fetchURL begins a download over HTTP, as the daemon and not the client.
func fetchURL(ctx context.Context, src string) (_ io.ReadCloser, size int64, err error) {
	if !strings.Contains(src, "://") {
		src = "http://" + src // as Docker does
	}
	u, err := url.Parse(src)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, 0, fmt.Errorf("fromSrc %.200q is neither - nor a URL of http or https: %w", src, errdefs.ErrInvalid)
	}
	ctx, cancel := context.WithCancel(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		cancel()
		return nil, 0, fmt.Errorf("fromSrc %.200q: %v: %w", src, err, errdefs.ErrInvalid)
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, DisableCompression: true, ResponseHeaderTimeout: importTimeout}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		cancel()
		return nil, 0, fmt.Errorf("download: %v: %w", err, errdefs.ErrUnavailable)
	}
	d := &urlBody{ReadCloser: resp.Body, cancel: cancel}
	if resp.StatusCode != http.StatusOK {
		d.Close()
		return nil, 0, fmt.Errorf("download %s: the server answered %s: %w", u.Redacted(), resp.Status, errdefs.ErrUnavailable)
	}
	return d, resp.ContentLength, nil
}

// urlBody is a download that ends when nothing comes.
type urlBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

// Read implements io.Reader.
func (b *urlBody) Read(p []byte) (int, error) {
	defer time.AfterFunc(importTimeout, b.cancel).Stop()
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("download: %v: %w", err, errdefs.ErrUnavailable)
	}
	return n, err
}

// Close implements io.Closer.
func (b *urlBody) Close() error {
	b.cancel()
	return b.ReadCloser.Close()
}
