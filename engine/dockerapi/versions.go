package dockerapi

import (
	"reflect"
	"strconv"
)

// maxVersion and minVersion are the API's minor versions that are served.
const (
	maxVersion = 51
	minVersion = 24
)

func versionText(minor int) string { return "1." + strconv.Itoa(minor) }

// field is a field of a request or an answer that only some versions have.
type field struct {
	of   any    // a value of the struct that declares it
	name string // in JSON
	// since and until are the first and the last minor version with it, 0 for no such bound.
	since, until int
}

// fields are all that differ by version. An answer loses those that the version of the client
// does not have, and so does a request, as with an engine of that version's time.
var fields = []field{
	{imageResponse{}, "VirtualSize", 0, 43},
}

// inVersion tells whether the struct type t has the field of that name in a version.
func inVersion(t reflect.Type, name string, version int) bool {
	for _, f := range fields {
		if f.name == name && reflect.TypeOf(f.of) == t {
			return version >= f.since && (f.until == 0 || version <= f.until)
		}
	}
	return true
}
