// Package registry is a client of image registries: it pulls images into the store of
// package image and pushes them from it, checks logins, and asks registries about images. It is a front
// of containerd's registry client (core/remotes/docker), which resolves, authorizes, fetches and uploads.
//
// Start reading at Client (client.go), whose settings are those of an operator; session.go is one
// operation with its credentials and connections, transport.go what all its requests go through. Then
// pull.go with resolve.go, push.go, login.go and search.go.
//
// # Trust
//
// A registry is a stranger, and so is what its redirects lead to. Each answer is bounded: documents by a
// size, blobs by what their manifest says, and silence by a timeout. What it sends is verified by package image. Credentials go to
// the registry that they are for and to the token server that it names, never to a mirror or to where a redirect leads.
//
// It has no state but its settings; certificates are read anew by each operation.
package registry
