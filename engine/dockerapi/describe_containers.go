package dockerapi

import (
	"net/http"

	"github.com/moby/moby/api/types"
	"github.com/moby/moby/api/types/common"
	"github.com/moby/moby/api/types/container"
)

const (
	conflict    = http.StatusConflict
	unsupported = http.StatusNotImplemented
)

var (
	graceParams = []param{
		number("t", "Seconds until it is killed; -1 is never. Without it, what the container was made with."),
		word("signal", "The signal that asks it to end.").from(42),
	}
	attachParams = []param{
		word("detachKeys", "Keys that end the connection and not the process, as `ctrl-p,ctrl-q`."),
		toggle("logs", "Begin with what was logged."), toggle("stream", "Go on with what comes."),
		toggle("stdin", "Send to the process."), toggle("stdout", "Receive stdout."), toggle("stderr", "Receive stderr."),
	}
	sizeParams  = []param{number("h", "Rows of the terminal.").needed(), number("w", "Columns of the terminal.").needed()}
	pathParam   = word("path", "In the container.").needed()
	streamMedia = media{types.MediaTypeRawStream, types.MediaTypeMultiplexedStream}
	tarMedia    = media{"application/x-tar"}
)

var containerOperations = map[string]operation{
	"GET /containers/json": {
		summary: "List containers.",
		params: []param{
			toggle("all", "Those that don't run, too."), number("limit", "The newest of all, this many."), toggle("size", "With the sizes of their files."),
			filterBy(listFilters...),
		},
		status: http.StatusOK, answer: []container.Summary{},
	},
	"POST /containers/create": {
		summary: "Make a container.",
		params: []param{
			word("name", "Its name; without it one is made up."), word("platform", "os[/arch[/variant]], which must be the host's.").from(41),
		},
		body: createRequest{}, status: http.StatusCreated, answer: container.CreateResponse{}, errors: []int{http.StatusNotFound, conflict, unsupported},
	},
	"POST /containers/prune": {
		summary: "Remove the containers that don't run; never Nova's.", params: []param{filterBy("label", "label!", "until")},
		status: http.StatusOK, answer: container.PruneReport{}, since: 25,
	},
	"GET /containers/{id}/json": {
		summary: "All about a container.", params: []param{toggle("size", "With the sizes of its files.")},
		status: http.StatusOK, answer: inspectResponse{},
	},
	"GET /containers/{id}/top": {
		summary: "The processes of a container.", params: []param{word("ps_args", "Columns as ps(1) has them: -ef, aux or -o LIST.")},
		status: http.StatusOK, answer: container.TopResponse{}, errors: []int{conflict},
	},
	"GET /containers/{id}/logs": {
		summary: "What a container wrote.",
		params: []param{
			toggle("follow", "Go on with what comes."), toggle("stdout", "Of stdout."), toggle("stderr", "Of stderr."), when("since", "From then on."),
			when("until", "Until then.").from(35), toggle("timestamps", "With the time of each line."), word("tail", "This many lines from the end, or all."),
			toggle("details", "With the logger's attributes, of which there are none."),
		},
		status: http.StatusOK, answer: streamMedia, errors: []int{unsupported},
	},
	"GET /containers/{id}/stats": {
		summary: "What a container uses, each second.",
		params: []param{
			toggle("stream", "Go on; the default."), toggle("one-shot", "Without a stream: at once, without rates.").from(41),
		},
		status: http.StatusOK, answer: container.StatsResponse{},
	},
	"POST /containers/{id}/resize":  {summary: "Set the size of a container's terminal.", params: sizeParams, status: http.StatusOK, errors: []int{conflict}},
	"POST /containers/{id}/start":   {summary: "Start a container.", params: []param{word("detachKeys", "Of no effect.")}, status: http.StatusNoContent, also: []int{http.StatusNotModified}, errors: []int{conflict, unsupported}},
	"POST /containers/{id}/stop":    {summary: "Stop a container.", params: graceParams, status: http.StatusNoContent, also: []int{http.StatusNotModified}, errors: []int{conflict}},
	"POST /containers/{id}/restart": {summary: "Stop and start a container.", params: graceParams, status: http.StatusNoContent, errors: []int{conflict}},
	"POST /containers/{id}/kill": {
		summary: "Send a signal to a container's first process.", params: []param{word("signal", "Name or number; SIGKILL without it.")},
		status: http.StatusNoContent, errors: []int{conflict},
	},
	"POST /containers/{id}/update": {
		summary: "Change limits and the restart policy.", body: container.UpdateConfig{}, status: http.StatusOK, answer: container.UpdateResponse{},
		errors: []int{conflict, unsupported},
	},
	"POST /containers/{id}/rename":  {summary: "Give a container another name.", params: []param{word("name", "The new one.").needed()}, status: http.StatusNoContent, errors: []int{conflict}},
	"POST /containers/{id}/pause":   {summary: "Freeze a container's processes.", status: http.StatusNoContent, errors: []int{conflict}},
	"POST /containers/{id}/unpause": {summary: "Thaw a container's processes.", status: http.StatusNoContent, errors: []int{conflict}},
	"POST /containers/{id}/attach": {
		summary: "Connect to the streams of a container's first process; the connection becomes a stream.",
		params:  attachParams, status: http.StatusOK, answer: streamMedia, also: []int{http.StatusSwitchingProtocols}, errors: []int{conflict},
	},
	"GET /containers/{id}/attach/ws": {
		summary: "The same by websocket: raw streams in messages.",
		params:  attachParams, status: http.StatusSwitchingProtocols, errors: []int{conflict},
	},
	"POST /containers/{id}/wait": {
		summary: "Wait for a container; the header of the answer comes at once.",
		params:  []param{word("condition", "not-running, next-exit or removed.").from(30)},
		status:  http.StatusOK, answer: container.WaitResponse{},
	},
	"DELETE /containers/{id}": {
		summary: "Remove a container.",
		params: []param{
			toggle("force", "Also if it runs."), toggle("v", "With its anonymous volumes."), toggle("link", "Not available."),
		},
		status: http.StatusNoContent, errors: []int{conflict, unsupported},
	},
	"GET /containers/{id}/changes":  {summary: "What differs from the image.", status: http.StatusOK, answer: []container.FilesystemChange{}},
	"GET /containers/{id}/export":   {summary: "A container's files as a tar archive.", status: http.StatusOK, answer: media{"application/octet-stream"}},
	"HEAD /containers/{id}/archive": {summary: "How a path looks, in the header X-Docker-Container-Path-Stat.", params: []param{pathParam}, status: http.StatusOK},
	"GET /containers/{id}/archive":  {summary: "A path as a tar archive.", params: []param{pathParam}, status: http.StatusOK, answer: tarMedia},
	"PUT /containers/{id}/archive": {
		summary: "Unpack a tar archive, compressed or not, into a directory.",
		params: []param{
			pathParam, toggle("noOverwriteDirNonDir", "Don't put a file where a directory is, or the other way round."), toggle("copyUIDGID", "Owners are the container's user."),
		},
		body: tarMedia, status: http.StatusOK, errors: []int{conflict},
	},
	"POST /containers/{id}/exec": {
		summary: "Make an exec: a process that is to run in a container.", body: container.ExecCreateRequest{},
		status: http.StatusCreated, answer: common.IDResponse{}, errors: []int{conflict},
	},
	"POST /exec/{id}/start": {
		summary: "Run an exec; unless it is detached the connection becomes a stream.", body: container.ExecStartRequest{},
		status: http.StatusOK, answer: streamMedia, also: []int{http.StatusSwitchingProtocols}, errors: []int{conflict},
	},
	"POST /exec/{id}/resize": {summary: "Set the size of an exec's terminal.", params: sizeParams, status: http.StatusOK, errors: []int{conflict}},
	"GET /exec/{id}/json":    {summary: "All about an exec.", status: http.StatusOK, answer: container.ExecInspectResponse{}},
	"POST /commit": {
		summary: "Make an image of a container.",
		params: []param{
			word("container", "Its name or ID.").needed(), word("repo", "The image's name."), word("tag", "And tag."), word("comment", ""), word("author", ""),
			toggle("pause", "Freeze it meanwhile; the default."), many("changes", "Instructions of a Dockerfile."),
		},
		body: createRequest{}, optional: true, status: http.StatusCreated, answer: common.IDResponse{}, errors: []int{http.StatusNotFound, conflict},
	},
}
