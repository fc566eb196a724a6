package dockerapi

import (
	"net/http"

	"github.com/moby/moby/api/types/volume"
)

var volumeOperations = map[string]operation{
	"GET /volumes": {
		summary: "List volumes.", params: []param{filterBy("dangling", "driver", "label", "name")},
		status: http.StatusOK, answer: volume.ListResponse{},
	},
	"POST /volumes/create": {
		summary: "Make a volume.", body: volume.CreateRequest{}, status: http.StatusCreated, answer: volume.Volume{},
		errors: []int{http.StatusNotFound, conflict, http.StatusServiceUnavailable},
	},
	"POST /volumes/prune": {
		summary: "Remove the anonymous volumes that no container uses; all before 1.42.", params: []param{filterBy("all", "label", "label!")},
		status: http.StatusOK, answer: volume.PruneReport{}, since: 25,
	},
	"GET /volumes/{name}":    {summary: "All about a volume.", status: http.StatusOK, answer: volume.Volume{}},
	"DELETE /volumes/{name}": {summary: "Remove a volume.", params: []param{toggle("force", "Not there is no error.").from(25)}, status: http.StatusNoContent, errors: []int{conflict}},
}
