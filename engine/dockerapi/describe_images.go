package dockerapi

import (
	"net/http"

	"github.com/moby/moby/api/types"
	"github.com/moby/moby/api/types/image"
)

var (
	namesParam    = many("names", "Which images.").needed()
	platformParam = many("platform", "A JSON document of an OCI platform, which must be the host's.").from(48)
)

var imageOperations = map[string]operation{
	"GET /images/json": {
		summary: "List images.", params: []param{
			filterBy("before", "dangling", "label", "reference", "since", "until"), toggle("all", "Of no effect: there are no hidden images."),
			toggle("shared-size", "With the size of what is shared with other images.").from(42), word("filter", "A reference, as the filter of that name.").to(24),
		},
		status: http.StatusOK, answer: []imageSummary{}, errors: []int{http.StatusNotFound, unsupported},
	},
	"POST /images/load": {
		summary: "Import an archive of `docker save` or an OCI layout, compressed or not. Progress comes as a stream of JSON documents.",
		params:  []param{toggle("quiet", "Without progress.")}, body: media{"application/x-tar"}, status: http.StatusOK, answer: media{types.MediaTypeJSON},
	},
	"POST /images/prune": {
		summary: "Remove images without a name, or all that no container uses.", params: []param{filterBy("dangling", "label", "label!", "until")},
		status: http.StatusOK, answer: image.PruneReport{}, since: 25,
	},
	"GET /images/get":               {summary: "An archive of images.", params: []param{namesParam, platformParam}, status: http.StatusOK, answer: tarMedia, errors: []int{http.StatusNotFound, conflict, unsupported}},
	"GET /images/{name}/get":        {summary: "An archive of an image.", params: []param{platformParam}, status: http.StatusOK, answer: tarMedia, errors: []int{conflict, unsupported}},
	"GET /images/{name}/json":       {summary: "All about an image.", params: []param{word("platform", "A JSON document of an OCI platform, which must be the host's.").from(49)}, status: http.StatusOK, answer: imageResponse{}},
	"GET /images/{name}/history":    {summary: "The layers of an image, and how they came about.", params: []param{platformParam}, status: http.StatusOK, answer: []image.HistoryResponseItem{}},
	"POST /images/{name}/tag":       {summary: "Give an image another name.", params: []param{word("repo", "The name.").needed(), word("tag", "latest without it.")}, status: http.StatusCreated, errors: []int{conflict}},
	"DELETE /images/{name}":         {summary: "Remove a name of an image, and with its last name the image.", params: []param{toggle("force", "By ID: with all names."), toggle("noprune", "Of no effect: layers go with their last image.")}, status: http.StatusOK, answer: []image.DeleteResponse{}, errors: []int{conflict}},
	"POST /build":                   notAvailable("Build an image.", unsupported),
	"POST /build/prune":             notAvailable("Remove the builder's cache.", unsupported),
	"POST /session":                 notAvailable("A session of BuildKit.", unsupported),
	"POST /images/create":           notAvailable("Pull or import an image.", unsupported),
	"GET /images/search":            notAvailable("Search a registry.", unsupported),
	"POST /images/{name}/push":      notAvailable("Push an image.", unsupported),
	"GET /distribution/{name}/json": notAvailable("What a registry has under a name.", unsupported),
}
