package dockerapi

import "net/http"

// handler answers a request; an error that it returns is answered by the server.
type handler func(*server, *request) error

// route is one line of the table. A pattern's {id} is one segment, {name} one or more.
type route struct {
	method  string
	pattern string
	handle  handler
	// changes says what the openstack command for it is called, if it changes a
	// container: on those of Nova it is refused. See owner.go.
	changes change
}

// routes are what is served, in the order of Docker's reference. outofscope.go has what never will be. Each
// is described in describe_*.go.
var routes = []route{
	{http.MethodGet, "/_ping", (*server).ping, none},
	{http.MethodHead, "/_ping", (*server).ping, none},
	{http.MethodGet, "/openapi.json", (*server).openAPI, none},
	{http.MethodGet, "/version", (*server).version, none},
	{http.MethodGet, "/info", (*server).info, none},
	{http.MethodGet, "/system/df", (*server).systemDF, none},
	{http.MethodGet, "/events", (*server).events, none},

	{http.MethodGet, "/containers/json", (*server).containerList, none},
	{http.MethodPost, "/containers/create", (*server).containerCreate, none},
	{http.MethodPost, "/containers/prune", (*server).containerPrune, none},
	{http.MethodGet, "/containers/{id}/json", (*server).containerInspect, none},
	{http.MethodGet, "/containers/{id}/top", (*server).containerTop, none},
	{http.MethodGet, "/containers/{id}/logs", (*server).containerLogs, none},
	{http.MethodGet, "/containers/{id}/stats", (*server).containerStats, none},
	{http.MethodPost, "/containers/{id}/resize", (*server).containerResize, none},
	{http.MethodPost, "/containers/{id}/start", (*server).containerStart, start},
	{http.MethodPost, "/containers/{id}/stop", (*server).containerStop, stop},
	{http.MethodPost, "/containers/{id}/restart", (*server).containerRestart, reboot},
	{http.MethodPost, "/containers/{id}/kill", (*server).containerKill, stop},
	{http.MethodPost, "/containers/{id}/update", (*server).containerUpdate, resize},
	{http.MethodPost, "/containers/{id}/rename", (*server).containerRename, rename},
	{http.MethodPost, "/containers/{id}/pause", (*server).containerPause, pause},
	{http.MethodPost, "/containers/{id}/unpause", (*server).containerUnpause, unpause},
	{http.MethodPost, "/containers/{id}/attach", (*server).containerAttach, none},
	{http.MethodGet, "/containers/{id}/attach/ws", (*server).containerAttachWS, none},
	{http.MethodPost, "/containers/{id}/wait", (*server).containerWait, none},
	{http.MethodDelete, "/containers/{id}", (*server).containerRemove, remove},
	{http.MethodGet, "/containers/{id}/changes", (*server).containerChanges, none},
	{http.MethodGet, "/containers/{id}/export", (*server).containerExport, none},
	{http.MethodHead, "/containers/{id}/archive", (*server).archiveStat, none},
	{http.MethodGet, "/containers/{id}/archive", (*server).archiveGet, none},
	{http.MethodPut, "/containers/{id}/archive", (*server).archivePut, none},
	{http.MethodPost, "/containers/{id}/exec", (*server).execCreate, none},
	{http.MethodPost, "/exec/{id}/start", (*server).execStart, none},
	{http.MethodPost, "/exec/{id}/resize", (*server).execResize, none},
	{http.MethodGet, "/exec/{id}/json", (*server).execInspect, none},

	{http.MethodPost, "/commit", (*server).commit, none},
	{http.MethodGet, "/images/json", (*server).imageList, none},
	{http.MethodPost, "/images/create", (*server).imageCreate, none},
	{http.MethodGet, "/images/search", (*server).imageSearch, none},
	{http.MethodPost, "/images/load", (*server).imageLoad, none},
	{http.MethodPost, "/images/prune", (*server).imagePrune, none},
	{http.MethodGet, "/images/get", (*server).imagesSave, none},
	{http.MethodGet, "/images/{name}/get", (*server).imageSave, none},
	{http.MethodGet, "/images/{name}/json", (*server).imageInspect, none},
	{http.MethodGet, "/images/{name}/history", (*server).imageHistory, none},
	{http.MethodPost, "/images/{name}/tag", (*server).imageTag, none},
	{http.MethodPost, "/images/{name}/push", (*server).imagePush, none},
	{http.MethodDelete, "/images/{name}", (*server).imageRemove, none},

	{http.MethodPost, "/auth", (*server).registryLogin, none},
	{http.MethodGet, "/distribution/{name}/json", (*server).distributionInspect, none},

	{http.MethodGet, "/networks", (*server).networkList, none},
	{http.MethodPost, "/networks/create", (*server).networkCreate, none},
	{http.MethodPost, "/networks/prune", (*server).networkPrune, none},
	{http.MethodGet, "/networks/{id}", (*server).networkInspect, none},
	{http.MethodDelete, "/networks/{id}", (*server).networkRemove, none},
	{http.MethodPost, "/networks/{id}/connect", (*server).networkConnect, none},
	{http.MethodPost, "/networks/{id}/disconnect", (*server).networkDisconnect, none},

	{http.MethodGet, "/volumes", (*server).volumeList, none},
	{http.MethodPost, "/volumes/create", (*server).volumeCreate, none},
	{http.MethodPost, "/volumes/prune", (*server).volumePrune, none},
	{http.MethodGet, "/volumes/{name}", (*server).volumeInspect, none},
	{http.MethodDelete, "/volumes/{name}", (*server).volumeRemove, none},

	{http.MethodGet, "/plugins", (*server).pluginList, none},
	{http.MethodGet, "/plugins/{name}/json", (*server).pluginInspect, none},

	// Docker has these; here they come later. They answer 501 with the reason.
	{http.MethodPost, "/build", later("building images is not available yet: load one with `docker load`"), none},
	{http.MethodPost, "/session", later("building images is not available yet: load one with `docker load`"), none},
	{http.MethodPost, "/build/prune", later("building images is not available yet"), none},
}
