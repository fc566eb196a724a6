package dockerapi

import (
	"net/http"

	"github.com/moby/moby/api/types/network"
)

var networkOperations = map[string]operation{
	"GET /networks": {
		summary: "List networks.", params: []param{filterBy("dangling", "driver", "id", "label", "name", "scope", "type")},
		status: http.StatusOK, answer: []networkSummary{},
	},
	"POST /networks/create": {
		summary: "Make a network.", body: networkCreateRequest{}, status: http.StatusCreated, answer: network.CreateResponse{},
		errors: []int{http.StatusForbidden, http.StatusNotFound, conflict, unsupported},
	},
	"POST /networks/prune": {
		summary: "Remove the networks that no container is in.", params: []param{filterBy("label", "label!", "until")},
		status: http.StatusOK, answer: network.PruneReport{}, since: 25,
	},
	"GET /networks/{id}": {
		summary: "All about a network.", params: []param{toggle("verbose", "Of no effect: it is about swarms.").from(28), word("scope", "local, the only one there is.").from(31)},
		status: http.StatusOK, answer: network.Inspect{},
	},
	"DELETE /networks/{id}":          {summary: "Remove a network that no running container is in.", status: http.StatusNoContent, errors: []int{http.StatusForbidden}},
	"POST /networks/{id}/connect":    {summary: "Put a container into a network.", body: network.ConnectRequest{}, status: http.StatusOK, errors: []int{http.StatusForbidden, conflict}},
	"POST /networks/{id}/disconnect": {summary: "Take a container out of a network.", body: network.DisconnectRequest{}, status: http.StatusOK, errors: []int{http.StatusForbidden, conflict}},
}
