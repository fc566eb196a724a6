// Package e2e drives a real OpenStack whose only compute service is nova-agent,
// as its users and operators do: through Nova's, Neutron's, Glance's and
// Placement's REST APIs, and the docker CLI on the node.
//
// The cluster is the one of `make cluster`; the tests find it by CLUSTER_STATE
// (default /var/lib/nova-agent-cluster). Start reading in cloud.go (the REST
// client), then boot_test.go. What a test boots it deletes, and leaks_test.go's
// report after each test looks for what stayed behind: on the node, in
// Placement and in Neutron.
package e2e
