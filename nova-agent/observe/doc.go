// Package observe lets operators see what nova-agent does: Prometheus metrics, health
// endpoints and a debug socket.
//
// The packages that do the work know nothing of Prometheus: they have function
// fields, which main sets to the methods of Metrics here. metrics.go lists every
// metric; docs/observability.md explains them. server.go serves.
package observe
