package image

import (
	"archive/tar"
	"encoding/binary"
	"fmt"
	"path"
	"strings"

	"novaagent/engine/errdefs"
)

const (
	// maxID is the greatest uid and gid that a container's range of 65,536
	// ids can hold.
	maxID = 65535
	// maxDepth bounds the components of a name: each is looked up again for
	// each entry below it.
	maxDepth = 256
	// maxPathBytes bounds the names and link targets of an image's entries,
	// which are held in memory while a layer is unpacked.
	maxPathBytes = 256 << 20
	// maxNameBytes is below PATH_MAX (4096), for the layer's directory is
	// put before the name.
	maxNameBytes = 3500
	// maxXattrBytes is what ext4, the tightest of the usual file systems,
	// can store beside an inode.
	maxXattrBytes = 3500

	paxXattr = "SCHILY.xattr."
)

// budget is what is left of an image's Limits, shared by its layers.
type budget struct {
	limits  Limits
	stream  int64 // bytes of the uncompressed tar streams
	files   int64 // bytes of the files in them
	entries int
	paths   int64
}

func newBudget(l Limits) *budget {
	return &budget{limits: l, stream: l.MaxUnpackedBytes, files: l.MaxUnpackedBytes, entries: l.MaxEntries, paths: maxPathBytes}
}

// filter passes the entries of a hostile layer tar on to containerd's
// applier in a form in which they do no harm. What it refuses would leave the
// image wrong; what it drops (device nodes, foreign attributes) has no
// meaning in a container of ours.
type filter struct {
	budget *budget
}

// entry is an archive.Filter: it may change h, and says whether to apply it.
// It bounds everything the applier keeps in memory or writes.
func (f *filter) entry(h *tar.Header) (bool, error) {
	b := f.budget
	if b.entries--; b.entries < 0 {
		return false, fmt.Errorf("more than %d entries: %w", b.limits.MaxEntries, errdefs.ErrInvalid)
	}
	if b.paths -= int64(len(h.Name) + len(h.Linkname)); b.paths < 0 {
		return false, fmt.Errorf("more than %d bytes of file names: %w", maxPathBytes, errdefs.ErrInvalid)
	}
	// A sparse file of exabytes is a few bytes in the stream.
	if h.Size < 0 || h.Size > b.files {
		return false, fmt.Errorf("file %.200q of %d bytes: %w", h.Name, h.Size, tooLarge("unpacked image", b.limits.MaxUnpackedBytes))
	}
	b.files -= h.Size

	if err := checkName(h.Name); err != nil {
		return false, err
	}
	switch h.Typeflag {
	case tar.TypeBlock, tar.TypeChar:
		// Useless in a user namespace, and 0:0 would be a whiteout.
		return false, nil
	case tar.TypeXGlobalHeader:
		return false, nil
	case tar.TypeGNUSparse, tar.TypeCont:
		h.Typeflag = tar.TypeReg
	case tar.TypeLink:
		h.Linkname = path.Clean(h.Linkname)
		if err := checkName(h.Linkname); err != nil {
			return false, fmt.Errorf("hard link %.200q: %w", h.Name, err)
		}
	case tar.TypeSymlink:
		if len(h.Linkname) > maxNameBytes || h.Linkname == "" {
			return false, fmt.Errorf("symbolic link %.200q: bad target of %d bytes: %w", h.Name, len(h.Linkname), errdefs.ErrInvalid)
		}
	}
	if h.Uid < 0 || h.Uid > maxID || h.Gid < 0 || h.Gid > maxID {
		return false, fmt.Errorf("%.200q belongs to user %d and group %d, a container has ids 0 to %d: %w",
			h.Name, h.Uid, h.Gid, maxID, errdefs.ErrInvalid)
	}
	var err error
	// A new map also lets go of the records we do not need.
	h.PAXRecords, err = keptXattrs(h)
	//lint:ignore SA1019 deprecated, yet filled by the reader
	h.Xattrs = nil
	return true, err
}

// checkName refuses names that point out of the layer and names no kernel
// would take. An absolute name is fine: it is taken from the layer's root,
// and some builders (ko) write nothing else.
func checkName(name string) error {
	switch {
	case name == ".." || strings.HasPrefix(name, "../"):
		return fmt.Errorf("name %.200q points out of the image: %w", name, errdefs.ErrInvalid)
	case len(name) > maxNameBytes:
		return fmt.Errorf("name %.60q... is %d bytes long, the limit is %d: %w", name, len(name), maxNameBytes, errdefs.ErrInvalid)
	case strings.Count(name, "/") >= maxDepth:
		return fmt.Errorf("name %.60q... is deeper than %d directories: %w", name, maxDepth, errdefs.ErrInvalid)
	case strings.IndexByte(name, 0) >= 0:
		return fmt.Errorf("name %.200q holds a NUL: %w", name, errdefs.ErrInvalid)
	}
	return nil
}

// keptXattrs are the PAX records of h that are kept: extended attributes of
// the user, and file capabilities. The trusted and security classes steer the
// overlay file system and the kernel's security modules of the host, and POSIX
// ACLs name ids that nothing maps.
func keptXattrs(h *tar.Header) (map[string]string, error) {
	var kept map[string]string
	var size int
	for record, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(record, paxXattr)
		if !ok {
			continue
		}
		switch {
		case name == "security.capability" && h.Typeflag == tar.TypeReg:
			if value, ok = fileCaps(value); !ok {
				continue
			}
		case strings.HasPrefix(name, "user.overlay."):
			continue // obeyed by overlay mounts with userxattr
		case strings.HasPrefix(name, "user.") && len(name) > len("user.") && (h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeDir):
		default:
			continue
		}
		if size += len(name) + len(value) + 16; len(name) > 255 || size > maxXattrBytes {
			return nil, fmt.Errorf("%.200q: extended attributes of more than %d bytes: %w", h.Name, maxXattrBytes, errdefs.ErrInvalid)
		}
		if kept == nil {
			kept = make(map[string]string)
		}
		kept[record] = value
	}
	return kept, nil
}

// File capabilities, from include/uapi/linux/capability.h: a magic number with
// the revision in its top byte, two pairs of masks, and since revision 3 the
// root id of the user namespace they are valid in.
const (
	capsRevision2, capsSize2 = 0x02, 20
	capsRevision3, capsSize3 = 0x03, 24
)

// fileCaps returns the value of a security.capability attribute as revision 2,
// which an idmapped mount shifts into the container's own namespace, and
// whether there is such a form of it.
func fileCaps(value string) (string, bool) {
	if len(value) < capsSize2 {
		return "", false
	}
	raw := []byte(value)
	magic := binary.LittleEndian.Uint32(raw)
	switch revision := magic >> 24; {
	case revision == capsRevision2 && len(raw) == capsSize2:
		return value, true
	case revision == capsRevision3 && len(raw) == capsSize3 && binary.LittleEndian.Uint32(raw[capsSize2:]) == 0:
		binary.LittleEndian.PutUint32(raw, magic&0x00ffffff|capsRevision2<<24)
		return string(raw[:capsSize2]), true
	}
	return "", false
}
