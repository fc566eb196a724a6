// Package logsink sends lines of containers' logs to other programs: a syslog server or systemd's journal.
//
// Start reading at Open. The engine keeps every line in its own file as well and asks a sink to send
// again what it could not, so a sink needs no memory. It holds no locks and leaves nothing on disk.
package logsink
