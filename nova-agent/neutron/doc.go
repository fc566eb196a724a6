// Package neutron asks Neutron for the ports of Nova's instances and describes
// them the way Nova's database and the rest of this program need: it does what
// nova/network/neutron.py does for a compute service.
//
// Start reading at Client.Allocate, the build's part, then build.go, which turns
// Neutron's resources into a NetworkInfo, Nova's "network info cache".
//
// Two identities are used, as in Nova: the user's, for what the user is
// allowed and charged for (networks, port creation and deletion), and the
// service's, for bindings and for reading what only an administrator sees.
//
// A boot waits for Neutron, so requests that don't depend on each other are
// sent side by side: Allocate of one new port takes four steps one after the
// other (networks, create, bind, read back), where nova-compute takes ten.
//
// Lock order: the lock of an instance's network info, then nothing. Nothing is
// kept on disk.
package neutron
