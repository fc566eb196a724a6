// Package network puts network devices into the namespaces of containers: it
// makes the veth pair of an endpoint, joins its host end to a Linux bridge, to
// Open vSwitch or to nothing, and gives the inner end its addresses and routes.
//
// Start reading at Manager.Plug. An Endpoint is a plain value that says all
// there is to know; nothing about it is remembered here. Every name of a host
// device is a function of the endpoint, so that Unplug needs no record of what
// Plug did, and a Plug that was cut short by a crash is completed or
// begun again by the next one.
//
// The names and settings are those of os-vif and Nova's libvirt driver, since
// Neutron's agents find the devices by them.
//
// Lock order: a bridge's lock, then nothing. Plug works on endpoints
// of different containers side by side; the caller serialises calls for the
// same container.
//
// On disk it leaves nothing but pinned namespaces (NewNamespace), one bind mount
// each. In the kernel it leaves devices of the endpoints and the bridges
// it made, marked with the alias "nova-agent"; in OVSDB one row of Port and
// Interface for each Open vSwitch endpoint.
package network
