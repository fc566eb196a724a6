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
	"GET /networks/{id}":             {summary: "All about a network.", status: http.StatusOK, answer: network.Inspect{}},
	"POST /networks/create":          notAvailable("Make a network.", unsupported),
	"POST /networks/prune":           notAvailable("Remove the networks that no container uses.", unsupported),
	"POST /networks/{id}/connect":    notAvailable("Connect a container.", unsupported),
	"POST /networks/{id}/disconnect": notAvailable("Disconnect a container.", unsupported),
	"DELETE /networks/{id}":          notAvailable("Remove a network.", unsupported),
}
