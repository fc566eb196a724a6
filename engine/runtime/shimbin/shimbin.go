// Package shimbin embeds the shim program, engine/shim, that `make shim` has
// built into bin/. Without it the package still compiles, and Program fails.
package shimbin

import (
	"embed"
	"fmt"

	"novaagent/engine/errdefs"
)

//go:embed all:bin
var files embed.FS

// Program returns the shim's executable. errdefs.ErrUnsupported: it was not built
// before this program was.
func Program() ([]byte, error) {
	b, err := files.ReadFile("bin/shim")
	if err != nil {
		return nil, fmt.Errorf("the shim is not built in (make shim): %w", errdefs.ErrUnsupported)
	}
	return b, nil
}
