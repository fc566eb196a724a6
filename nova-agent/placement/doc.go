// Package placement reports a compute node to OpenStack's Placement and reads and
// frees what its instances use there (nova/scheduler/client/report.py).
//
// A node is one flat resource provider: its UUID is the ComputeNode's, its name
// the hypervisor's host name. Sync in provider.go keeps it as it should be;
// allocations.go has the consumers. Nothing is cached but the provider's
// generation, and nothing is left on disk.
package placement
