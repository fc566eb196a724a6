package enginetest

import (
	"runtime"

	"github.com/opencontainers/go-digest"
)

const goarch = runtime.GOARCH

func digests(sum [32]byte) []digest.Digest {
	return []digest.Digest{digest.NewDigestFromBytes(digest.SHA256, sum[:])}
}
