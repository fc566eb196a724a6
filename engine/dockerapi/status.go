package dockerapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/moby/moby/api/types/common"

	"novaagent/engine/errdefs"
)

// statuses is the one table from kinds of errors to Docker's statuses.
var statuses = []struct {
	kind error
	code int
}{
	{errdefs.ErrForbidden, http.StatusForbidden},
	{errdefs.ErrInvalid, http.StatusBadRequest},
	{errdefs.ErrNotFound, http.StatusNotFound},
	{errdefs.ErrConflict, http.StatusConflict},
	{errdefs.ErrUnsupported, http.StatusNotImplemented},
	{errdefs.ErrExhausted, http.StatusInsufficientStorage},
	{errdefs.ErrUnavailable, http.StatusServiceUnavailable},
}

func statusOf(err error) int {
	for _, s := range statuses {
		if errors.Is(err, s.kind) {
			return s.code
		}
	}
	return http.StatusInternalServerError
}

// messageOf is err for people: the kind is told by the status already.
func messageOf(err error) string {
	text := err.Error()
	for _, s := range statuses {
		text = strings.ReplaceAll(text, ": "+s.kind.Error(), "")
	}
	return text
}

// writeError answers in Docker's shape.
func writeError(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(statusOf(err))
	_ = json.NewEncoder(w).Encode(common.ErrorResponse{Message: messageOf(err)}) // the client is gone
}
