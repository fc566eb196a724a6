// Package keystone is who nova-agent is towards OpenStack's REST services: tokens,
// their renewal, and the catalogue of endpoints.
//
// A Session holds the credentials of one service user, as a section of nova.conf
// such as [neutron] or [placement] does. Session.ForUser borrows the user's token
// of a request instead, with the service's own token beside it
// (keystoneauth's service_auth.py; Cinder refuses a detach without,
// CVE-2023-2088). Start reading in session.go.
//
// Lock: Session.turn guards the token and is held while a new one is fetched, so
// that a crowd of requests makes one login. Nothing is left on disk.
package keystone
