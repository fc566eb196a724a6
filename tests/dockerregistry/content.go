package dockerregistry

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The types of Docker's documents.
const (
	DockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	DockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// Image is an image to be put into a registry.
type Image struct {
	Platform ocispec.Platform
	Config   ocispec.ImageConfig
	Tars     [][]byte
	Format   string // of the layers: gzip, zstd or plain
}

// do makes a request to a plain registry without a login.
func (r *Registry) do(t testing.TB, method, path, mediaType string, body []byte, want int) *http.Response {
	t.Helper()
	req, err := http.NewRequest(method, path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", mediaType)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body) // for the error alone
	if resp.StatusCode != want {
		t.Fatalf("%s %s: %s %s", method, path, resp.Status, text)
	}
	return resp
}

// PutBlob uploads a blob.
func (r *Registry) PutBlob(t testing.TB, repo, mediaType string, data []byte) ocispec.Descriptor {
	t.Helper()
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	resp := r.do(t, "POST", "http://"+r.Addr+"/v2/"+repo+"/blobs/uploads/", "", nil, http.StatusAccepted)
	u, err := url.Parse(resp.Header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("digest", d.Digest.String())
	u.RawQuery = q.Encode()
	r.do(t, "PUT", u.String(), "application/octet-stream", data, http.StatusCreated)
	return d
}

// PutManifest uploads a manifest or index, by tag, or by digest if that is empty.
func (r *Registry) PutManifest(t testing.TB, repo, tag, mediaType string, doc any) ocispec.Descriptor {
	t.Helper()
	raw, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if tag == "" {
		tag = d.Digest.String()
	}
	r.do(t, "PUT", "http://"+r.Addr+"/v2/"+repo+"/manifests/"+tag, mediaType, raw, http.StatusCreated)
	return d
}

// Put uploads an image under a tag. Several, which differ in their platforms, are put as an index.
func (r *Registry) Put(t testing.TB, repo, tag string, images ...Image) ocispec.Descriptor {
	t.Helper()
	single := len(images) == 1
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, i := range images {
		config := ocispec.Image{Platform: i.Platform, Config: i.Config, RootFS: ocispec.RootFS{Type: "layers"}}
		created := time.Unix(1700000000, 0).UTC()
		config.Created = &created
		m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
		for _, tar := range i.Tars {
			config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(tar))
			mediaType, data := pack(t, i.Format, tar)
			m.Layers = append(m.Layers, r.PutBlob(t, repo, mediaType, data))
		}
		raw, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		m.Config = r.PutBlob(t, repo, ocispec.MediaTypeImageConfig, raw)
		if single {
			return r.PutManifest(t, repo, tag, m.MediaType, m)
		}
		d := r.PutManifest(t, repo, "", m.MediaType, m)
		d.Platform = &i.Platform
		index.Manifests = append(index.Manifests, d)
	}
	return r.PutManifest(t, repo, tag, index.MediaType, index)
}

func pack(t testing.TB, format string, data []byte) (mediaType string, packed []byte) {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	switch format {
	case "gzip":
		w, mediaType = gzip.NewWriter(&out), ocispec.MediaTypeImageLayerGzip
	case "zstd":
		z, err := zstd.NewWriter(&out)
		if err != nil {
			t.Fatal(err)
		}
		w, mediaType = z, ocispec.MediaTypeImageLayerZstd
	default:
		return ocispec.MediaTypeImageLayer, data
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return mediaType, out.Bytes()
}
