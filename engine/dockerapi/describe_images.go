package dockerapi

import (
	"net/http"

	"github.com/moby/moby/api/types"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/registry"
)

var (
	namesParam    = many("names", "Which images.").needed()
	platformParam = many("platform", "A JSON document of an OCI platform, which must be the image's.").from(48)
	authParam     = header("X-Registry-Auth", "Credentials for the registry: JSON in base64url.")
	manifests     = toggle("manifests", "With the manifest of each.").from(48)
)

var imageOperations = map[string]operation{
	"GET /images/json": {
		summary: "List images.", params: []param{
			filterBy("before", "dangling", "label", "reference", "since", "until"), toggle("all", "Of no effect: there are no hidden images."),
			toggle("shared-size", "With the size of what is shared with other images.").from(42), manifests, word("filter", "A reference, as the filter of that name.").to(24),
		},
		status: http.StatusOK, answer: []imageSummary{}, errors: []int{http.StatusNotFound, unsupported},
	},
	"POST /images/load": {
		summary: "Import an archive of `docker save` or an OCI layout, compressed or not. Progress comes as a stream of JSON documents.",
		params:  []param{toggle("quiet", "Without progress."), many("platform", "A JSON document of an OCI platform: only images for it.").from(48)}, body: media{"application/x-tar"}, status: http.StatusOK, answer: media{types.MediaTypeJSON},
	},
	"POST /images/prune": {
		summary: "Remove images without a name, or all that no container uses.", params: []param{filterBy("dangling", "label", "label!", "until")},
		status: http.StatusOK, answer: image.PruneReport{}, since: 25,
	},
	"GET /images/get":            {summary: "An archive of images.", params: []param{namesParam, platformParam}, status: http.StatusOK, answer: tarMedia, errors: []int{http.StatusNotFound, conflict, unsupported}},
	"GET /images/{name}/get":     {summary: "An archive of an image.", params: []param{platformParam}, status: http.StatusOK, answer: tarMedia, errors: []int{conflict, unsupported}},
	"GET /images/{name}/json":    {summary: "All about an image.", params: []param{manifests, word("platform", "A JSON document of an OCI platform, which must be the image's.").from(49)}, status: http.StatusOK, answer: imageResponse{}},
	"GET /images/{name}/history": {summary: "The layers of an image, and how they came about.", params: []param{platformParam}, status: http.StatusOK, answer: []image.HistoryResponseItem{}},
	"POST /images/{name}/tag":    {summary: "Give an image another name.", params: []param{word("repo", "The name.").needed(), word("tag", "latest without it.")}, status: http.StatusCreated, errors: []int{conflict}},
	"DELETE /images/{name}":      {summary: "Remove a name of an image, and with its last name the image.", params: []param{toggle("force", "By ID: with all names."), toggle("noprune", "Of no effect: layers go with their last image.")}, status: http.StatusOK, answer: []image.DeleteResponse{}, errors: []int{conflict}},
	"POST /build":                notAvailable("Build an image.", unsupported),
	"POST /build/prune":          notAvailable("Remove the builder's cache.", unsupported),
	"POST /session":              notAvailable("A session of BuildKit.", unsupported),
	"POST /images/create": {
		summary: "Pull an image, or import one from a root file system. Progress comes as a stream of JSON documents.",
		params: []param{
			word("fromImage", "The image to pull."), word("tag", "Its tag or digest; without it all tags. Of an import, the tag of the new image."),
			word("fromSrc", "What to import: - for the body, or a URL of http or https."), word("repo", "Name of the imported image."),
			word("message", "Comment of the imported image."), many("changes", "Instructions of a Dockerfile for the imported image."),
			word("platform", "Such as linux/arm64."), authParam,
		},
		body: media{"application/x-tar"}, optional: true, status: http.StatusOK, answer: media{types.MediaTypeJSON},
		errors: []int{http.StatusNotFound, http.StatusUnauthorized, http.StatusServiceUnavailable, http.StatusInsufficientStorage, unsupported},
	},
	"GET /images/search": {
		summary: "Search a registry for repositories.",
		params:  []param{word("term", "What for, after the registry and a slash if it isn't Docker Hub.").needed(), number("limit", "At most so many, 25 without it."), filterBy("is-automated", "is-official", "stars"), authParam},
		status:  http.StatusOK, answer: []registry.SearchResult{}, errors: []int{http.StatusUnauthorized, http.StatusServiceUnavailable, unsupported},
	},
	"POST /images/{name}/push": {
		summary: "Push an image. Progress comes as a stream of JSON documents.",
		params:  []param{word("tag", "Which; all without it."), many("platform", "A JSON document of an OCI platform, which must be the image's.").from(46), authParam},
		status:  http.StatusOK, answer: media{types.MediaTypeJSON}, errors: []int{http.StatusNotFound},
	},
	"GET /distribution/{name}/json": {
		summary: "What a registry has under a name.", params: []param{authParam}, status: http.StatusOK, answer: registry.DistributionInspect{},
		errors: []int{http.StatusUnauthorized, http.StatusServiceUnavailable, unsupported}, since: 30,
	},
}
