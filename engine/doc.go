// Package engine runs containers: their states, what Create, Start, Stop and Remove
// do, execs, streams, logs and events. Both front doors, Nova's and
// Docker's, make a Spec and call it.
package engine
