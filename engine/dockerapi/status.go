package dockerapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"unicode"

	"github.com/moby/moby/api/types/common"

	"novaagent/engine/errdefs"
)

// errProtocol: the client speaks another HTTP.
var errProtocol = errors.New("HTTP version not supported")

// statuses is the one table from kinds of errors to Docker's statuses.
var statuses = []struct {
	kind error
	code int
}{
	{errdefs.ErrForbidden, http.StatusForbidden},
	{errProtocol, http.StatusHTTPVersionNotSupported},
	{errdefs.ErrInvalid, http.StatusBadRequest},
	{errdefs.ErrDenied, http.StatusUnauthorized},
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
	return visible(withoutKinds(err.Error()))
}

func withoutKinds(text string) string {
	for _, s := range statuses {
		text = strings.ReplaceAll(text, ": "+s.kind.Error(), "")
	}
	return text
}

// visible writes control characters as Go does: a message may quote what a client sent, and ends on a terminal.
func visible(text string) string {
	control := func(c rune) bool { return unicode.IsControl(c) && c != '\n' && c != '\t' }
	if strings.IndexFunc(text, control) < 0 {
		return text
	}
	var b strings.Builder
	for _, c := range text {
		if control(c) {
			quoted := strconv.QuoteRune(c)
			b.WriteString(quoted[1 : len(quoted)-1])
		} else {
			b.WriteRune(c)
		}
	}
	return b.String()
}

// writeError answers in Docker's shape.
func writeError(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(statusOf(err))
	_ = json.NewEncoder(w).Encode(common.ErrorResponse{Message: messageOf(err)}) // the client is gone
}
