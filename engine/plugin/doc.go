// Package plugin finds and calls Docker's plug-ins: programs that answer JSON over HTTP on a socket of
// their own. Those that are installed as images are not supported.
//
// Start reading at Finder. The protocol is Docker's (docs.docker.com/engine/extend/plugin_api): a plug-in NAME
// listens at NAME.sock in one of the socket directories, or a file NAME.spec or NAME.json says where. It is
// asked once what it implements, and again whenever its address has changed.
//
// It holds no state on disk and no connection between calls.
package plugin
