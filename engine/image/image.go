package image

import (
	"time"

	"github.com/containerd/platforms"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is one image of the store as it was when the value was made. It is a
// value: later tags and removals do not show in it. Callers must not change
// what its slices and maps hold.
type Image struct {
	// Digest is the digest of the image manifest: the image's identity.
	Digest digest.Digest
	// Target describes the manifest.
	Target ocispec.Descriptor
	// ConfigDigest is the digest of the image configuration, which the
	// Docker API shows as the image's ID.
	ConfigDigest digest.Digest
	// Config is the image's configuration: command, environment, user,
	// history and so on, as its author wrote it and thus not to be trusted.
	Config ocispec.Image
	// Layers are the layers, the base first.
	Layers []Layer
	// Size is the disk space of the unpacked layers in bytes. Layers that
	// images share count for each.
	Size int64
	// Names are the references that point to the image, sorted. An image
	// may have none.
	Names []string
	// Digests are references by digest, sorted: where the image was pulled from or pushed to. The digest
	// is that of what the registry has under the name, which may be an index that lists the image.
	Digests []string
	// Created is when the image was first imported here.
	// Config.Created is what its author says.
	Created time.Time
}

// Layer is one layer of an image.
type Layer struct {
	// DiffID is the digest of the uncompressed tar stream.
	DiffID digest.Digest
	// ChainID identifies the layer with all those below it, see
	// https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md#layer-chainid.
	ChainID digest.Digest
	// Blob describes the layer as it was in the archive, compressed or not.
	// The store has these bytes only if the image was imported with
	// ImportOptions.KeepBlobs.
	Blob ocispec.Descriptor
	// Size is the disk space of the unpacked layer in bytes.
	Size int64
}

// Limits bound what an import may cost. A zero field means the default.
type Limits struct {
	// MaxArchiveBytes bounds the archive, after an outer compression is
	// taken off. Default 64 GiB.
	MaxArchiveBytes int64
	// MaxUnpackedBytes bounds the sum over an image's layers of the bytes of
	// their uncompressed tar streams, and likewise of the sizes of their
	// files, where a hole counts as data. Default 64 GiB.
	MaxUnpackedBytes int64
	// MaxEntries bounds the tar entries of all layers of an image.
	// Default 1,000,000.
	MaxEntries int
	// MaxLayers bounds the layers of an image. Default and maximum 500,
	// which is what the kernel's overlay file system takes.
	MaxLayers int
	// MaxJSONBytes bounds each manifest, index and configuration.
	// Default 4 MiB.
	MaxJSONBytes int64
}

// DefaultLimits are the limits that apply where none is set.
func DefaultLimits() Limits {
	return Limits{
		MaxArchiveBytes:  64 << 30,
		MaxUnpackedBytes: 64 << 30,
		MaxEntries:       1_000_000,
		MaxLayers:        maxOverlayLayers,
		MaxJSONBytes:     4 << 20,
	}
}

// maxOverlayLayers is OVL_MAX_STACK of fs/overlayfs/params.h.
const maxOverlayLayers = 500

// or fills l's unset fields from def.
func (l Limits) or(def Limits) Limits {
	if l.MaxArchiveBytes <= 0 {
		l.MaxArchiveBytes = def.MaxArchiveBytes
	}
	if l.MaxUnpackedBytes <= 0 {
		l.MaxUnpackedBytes = def.MaxUnpackedBytes
	}
	if l.MaxEntries <= 0 {
		l.MaxEntries = def.MaxEntries
	}
	if l.MaxLayers <= 0 {
		l.MaxLayers = def.MaxLayers
	}
	l.MaxLayers = min(l.MaxLayers, maxOverlayLayers)
	if l.MaxJSONBytes <= 0 {
		l.MaxJSONBytes = def.MaxJSONBytes
	}
	return l
}

// ImportOptions say what to take from an archive and how.
type ImportOptions struct {
	// Names are references given to the image, besides those that
	// ArchiveNames lets in.
	Names []string
	// ArchiveNames also gives the image the names that the archive carries
	// (as `docker load` does). Leave it off for archives of strangers: a name
	// moves from the image that had it.
	ArchiveNames bool
	// Ref picks one image of an archive with several, by a name that the
	// archive carries.
	Ref string
	// AnyPlatform accepts images of another CPU architecture.
	AnyPlatform bool
	// Platform is what images must fit instead of the store's; AnyPlatform goes before it.
	Platform platforms.Matcher
	// Describe, if set, completes the configuration of an image that ImportRootfs makes.
	Describe func(*dockerspec.DockerOCIImage)
	// KeepBlobs keeps the layers' blobs, so that the image can be pushed or
	// saved bit for bit; it costs their size on disk once more.
	KeepBlobs bool
	// Limits override the store's.
	Limits Limits
	// Progress, if set, is told how the import goes, from the importing
	// goroutine and at most every few hundred kilobytes. It must not block.
	Progress func(Progress)
}

// Progress is one report of a running import.
type Progress struct {
	// Stage is what is being done.
	Stage Stage
	// Layer of Layers is being unpacked, counted from 1; 0 while reading.
	Layer, Layers int
	// Bytes read so far: of the archive while reading, of the layer's
	// blob while unpacking.
	Bytes int64
}

// Stage is a step of an import.
type Stage string

const (
	// StageReading: the archive is read and its blobs are verified.
	StageReading Stage = "reading"
	// StageUnpacking: the layers are unpacked and their diff IDs verified.
	StageUnpacking Stage = "unpacking"
)

// DiskUsage is the disk space that a store takes, in bytes.
type DiskUsage struct {
	// Layers is what the unpacked layers take, each counted once.
	Layers int64
	// Blobs is what manifests, configurations and kept layer blobs take.
	Blobs int64
	// Reclaimable is the part of Layers that belongs to no used image.
	Reclaimable int64
	// Images counts the images, Used those with a container.
	Images, Used int
}
