// Package dockerapi serves the Docker Engine API on the engine, for unmodified
// Docker clients.
//
// Start reading at routes.go: every route there is, on one screen, those that are
// refused included. server.go takes a request to its handler; create.go makes an
// engine.Spec of a request, and refuse.go names every field that cannot be
// honoured, so that none is ignored silently. status.go maps kinds of errors to
// statuses. attach.go has the connections that become streams.
//
// Containers that Nova owns can be looked at by all routes and changed by none:
// owner.go.
//
// It holds no state of its own and leaves nothing on disk: what a client asked for
// travels in Spec.Front. It holds no locks across calls.
//
// To add a route: a line in routes.go, a handler, its description in describe_*.go, its line in
// docs/docker-api.md, a script in testdata; then `go test . -run Reference -update`. The tests name what
// is missing, and hold every answer against its description. To add a field: create.go and inspect.go, and take it
// out of refuse.go; if not all versions have it, versions.go.
package dockerapi
