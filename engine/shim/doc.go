// Shim is the parent of one container at a time: it forks the container's first process and its
// execs, reaps them, owns their standard streams and terminals, writes the log and records
// the exit. It lives as long as the container, whatever happens to the agent.
//
// It is started idle by the agent with a socket as descriptor 3. A Launch message
// (package wire) brings a prepared program (package kernel/fork) and all
// descriptors that it will ever need: the shim opens nothing by path. It knows
// neither OCI nor JSON: that a program may be an OCI runtime's, which makes the process and ends, is
// all in made.go.
//
// One goroutine, in loop.go, does everything by epoll, but for execs, whose fork
// may block on a file system that the container itself serves: each is forked on a
// goroutine of its own. The GC is off until the heap is near GOMEMLIMIT; the agent
// sets both in the environment.
//
// On disk it writes the log and, in the state directory it was given, the file "exit".
package main
