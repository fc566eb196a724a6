package imagebridge

import (
	"crypto/md5"  //nolint:gosec // Glance's legacy checksum, used only where it has no other
	"crypto/sha1" //nolint:gosec // an os_hash_algo an operator may have chosen
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"hash"
	"regexp"
	"strings"

	"novaagent/engine/errdefs"
)

// Record is what Glance says of an image: GET /v2/images/{id}, or the image
// argument of Nova's messages, which is the same but for properties.
type Record struct {
	ID              string `json:"id"`
	Name            string `json:"name"`
	Status          string `json:"status"`
	Size            *int64 `json:"size"` // bytes; null until there are data
	Checksum        string `json:"checksum"`
	HashAlgo        string `json:"os_hash_algo"`
	HashValue       string `json:"os_hash_value"`
	ContainerFormat string `json:"container_format"`
	DiskFormat      string `json:"disk_format"`
}

// imageID is a UUID, as Glance makes them. It becomes part of URLs.
var imageID = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// parseRecord reads a record. Nova folds what it does not know itself into
// properties, the hash among it.
func parseRecord(raw []byte) (Record, error) {
	var doc struct {
		Record
		Properties struct {
			HashAlgo  string `json:"os_hash_algo"`
			HashValue string `json:"os_hash_value"`
		} `json:"properties"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return Record{}, fmt.Errorf("record of an image: %v: %w", err, errdefs.ErrInvalid)
	}
	r := doc.Record
	if r.HashAlgo == "" && r.HashValue == "" {
		r.HashAlgo, r.HashValue = doc.Properties.HashAlgo, doc.Properties.HashValue
	}
	return r, nil
}

// format says how an image's bytes are to be read.
type format int

const (
	archiveFormat format = iota + 1 // docker save or OCI archive
	rootfsFormat                    // tar of a root file system
)

// check refuses an image that cannot be used, whatever its bytes.
func (r Record) check() (format, error) {
	if r.Status != "active" {
		return 0, faultf(NotActive, "its status is %.40q, not active: %w", r.Status, errdefs.ErrConflict)
	}
	switch {
	case r.ContainerFormat == "docker" && r.DiskFormat == "raw":
		return archiveFormat, nil
	case r.ContainerFormat == "bare" && r.DiskFormat == "raw":
		return rootfsFormat, nil
	}
	return 0, faultf(BadFormat, "its container_format is %.40q and its disk_format %.40q; accepted are docker with raw "+
		"(what docker save writes) and bare with raw (a tar of a root file system): %w",
		r.ContainerFormat, r.DiskFormat, errdefs.ErrUnsupported)
}

// same reports whether both records name the same bytes of the same image.
// Records carry one or both of two checksums, depending on where they come from.
func (r Record) same(o Record) bool {
	switch {
	case r.ID != o.ID:
		return false
	case r.HashValue != "" && o.HashValue != "":
		return r.HashAlgo == o.HashAlgo && r.HashValue == o.HashValue
	case r.Checksum != "" && o.Checksum != "":
		return r.Checksum == o.Checksum
	}
	return false
}

// digest is a checksum to be verified.
type digest struct {
	name string
	want string
	hash hash.Hash
}

// digest returns the checksum of the record to verify: os_hash_value, or the
// legacy MD5 sum where there is none or its algorithm isn't known here. Glance
// allows any algorithm of Python's hashlib ([DEFAULT]hashing_algorithm, sha512
// by default).
func (r Record) digest() (digest, error) {
	d := digest{name: r.HashAlgo, want: strings.ToLower(r.HashValue)}
	if d.want != "" {
		switch strings.ReplaceAll(strings.ToLower(r.HashAlgo), "-", "_") {
		case "sha512":
			d.hash = sha512.New()
		case "sha384":
			d.hash = sha512.New384()
		case "sha256":
			d.hash = sha256.New()
		case "sha224":
			d.hash = sha256.New224()
		case "sha3_256":
			d.hash = sha3.New256()
		case "sha3_512":
			d.hash = sha3.New512()
		case "sha1":
			d.hash = sha1.New() //nolint:gosec // see the import
		case "md5":
			d.hash = md5.New() //nolint:gosec // see the import
		}
	}
	if d.hash == nil && r.Checksum != "" {
		d = digest{name: "md5", want: strings.ToLower(r.Checksum), hash: md5.New()} //nolint:gosec // see the import
	}
	if d.hash == nil {
		return d, faultf(Corrupt, "Glance has no checksum of it that can be verified (os_hash_algo %.40q): %w", r.HashAlgo, errdefs.ErrUnsupported)
	}
	return d, nil
}
