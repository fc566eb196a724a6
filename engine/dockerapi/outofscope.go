package dockerapi

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"novaagent/engine/errdefs"
)

// outOfScope are the routes of Docker that will not come, "METHOD PATTERN", by what is answered. Each
// is answered, so that a client is told why.
var outOfScope = map[*refusal][]string{
	&swarmRefusal: {
		"GET /swarm", "POST /swarm/init", "POST /swarm/join", "POST /swarm/leave", "POST /swarm/update", "GET /swarm/unlockkey", "POST /swarm/unlock",
		"GET /nodes", "GET /nodes/{id}", "DELETE /nodes/{id}", "POST /nodes/{id}/update",
		"GET /services", "POST /services/create", "GET /services/{id}", "DELETE /services/{id}", "POST /services/{id}/update", "GET /services/{id}/logs",
		"GET /tasks", "GET /tasks/{id}", "GET /tasks/{id}/logs",
		"GET /secrets", "POST /secrets/create", "GET /secrets/{id}", "DELETE /secrets/{id}", "POST /secrets/{id}/update",
		"GET /configs", "POST /configs/create", "GET /configs/{id}", "DELETE /configs/{id}", "POST /configs/{id}/update",
		"PUT /volumes/{name}",
	},
	&pluginRefusal: {
		"GET /plugins/privileges", "POST /plugins/pull", "POST /plugins/create", "POST /plugins/{name}/enable",
		"POST /plugins/{name}/disable", "POST /plugins/{name}/upgrade", "POST /plugins/{name}/push", "POST /plugins/{name}/set", "DELETE /plugins/{name}",
	},
	&attestationRefusal: {"GET /images/{name}/attestations"},
}

// refusal is an answer that several routes have in common.
type refusal struct {
	// about is what the routes are for, and why not here.
	about  string
	status int
	answer handler
}

var (
	swarmRefusal = refusal{"Of a swarm, which a node is never part of.", http.StatusServiceUnavailable, notASwarm}

	pluginRefusal = refusal{
		"Of plug-ins that are installed as images: here they are programs with a socket of their own.", http.StatusNotImplemented,
		later("plug-ins are not installed as images here: run the plug-in's program so that it makes its socket in /run/docker/plugins"),
	}

	attestationRefusal = refusal{
		"Of image indexes with attestations, which are not kept.", http.StatusNotImplemented,
		later("attestations are not kept: of an image only the manifest for this platform is stored"),
	}
)

// notASwarm answers as a dockerd outside a swarm does.
func notASwarm(*server, *request) error {
	return fmt.Errorf("This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.: %w", errdefs.ErrUnavailable) //nolint:staticcheck // Docker's words
}

// allRoutes are routes and what is out of scope, with all operations.
func allRoutes() ([]route, map[string]operation) {
	all, described := slices.Clone(routes), joined(operations)
	for why, keys := range outOfScope {
		for _, key := range keys {
			method, pattern, _ := strings.Cut(key, " ")
			all = append(all, route{method, pattern, why.answer, none})
			described[key] = notAvailable(why.about, why.status)
		}
	}
	slices.SortFunc(all[len(routes):], func(a, b route) int { return strings.Compare(a.key(), b.key()) })
	return all, described
}
