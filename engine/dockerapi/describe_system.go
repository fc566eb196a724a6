package dockerapi

import (
	"net/http"

	"github.com/moby/moby/api/types"
	"github.com/moby/moby/api/types/plugin"
	"github.com/moby/moby/api/types/system"
)

var pingAnswer = operation{summary: "Is the engine there? The headers tell its versions.", status: http.StatusOK, answer: media{"text/plain"}}

var systemOperations = map[string]operation{
	"GET /_ping":  pingAnswer,
	"HEAD /_ping": {summary: pingAnswer.summary, status: http.StatusOK},
	"GET /openapi.json": {
		summary: "This document. With a version in the path, as that version has it.",
		status:  http.StatusOK, answer: map[string]any{},
	},
	"GET /version": {summary: "Versions of the engine and of its API.", status: http.StatusOK, answer: system.VersionResponse{}},
	"GET /info":    {summary: "What the engine and its host have.", status: http.StatusOK, answer: infoResponse{}},
	"GET /system/df": {
		summary: "What takes disk space.",
		params: []param{
			many("type", "Only these kinds: container, image, volume, build-cache.").from(42),
			toggle("verbose", "The lists within the figures; without it, 1.52 has both.").from(52),
		},
		status: http.StatusOK, answer: diskUsage{}, since: 25,
	},
	"GET /events": {
		summary: "What happens, as a stream of JSON documents.",
		params: []param{
			when("since", "Begin with the events from then on that are remembered."), when("until", "End then."),
			filterBy("config", "container", "daemon", "event", "image", "label", "network", "node", "plugin", "scope", "secret", "service", "type", "volume"),
		},
		status: http.StatusOK,
		answer: media{types.MediaTypeJSON, types.MediaTypeNDJSON, types.MediaTypeJSONSequence, types.MediaTypeJSONLines},
	},
	"GET /plugins": {
		summary: "The plug-ins that are installed as images: none. Those with a socket are in `GET /info`.",
		params:  []param{filterBy("capability", "enable")}, status: http.StatusOK, answer: []plugin.Plugin{}, since: 25,
	},
	"GET /plugins/{name}/json": {summary: "All about such a plug-in.", status: http.StatusOK, answer: plugin.Plugin{}, since: 25},
	"POST /auth":               notAvailable("Check a registry's login.", http.StatusNotImplemented),
}
