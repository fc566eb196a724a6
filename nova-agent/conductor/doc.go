// Package conductor is the client of nova-conductor, which has the database that
// a compute service has not: one typed method for each thing that nova-compute
// asks of it. What else travels by the same road is here too: casts and calls
// of the namespace compute_task, and what is told to the schedulers.
//
// Start reading at Client. There are two kinds of calls. One is of an object's
// class (object_class_action_versions): it carries the versions we read, and
// conductor answers in those. The other is of an object (object_action): the whole
// object goes out, the changes come back and are merged into it.
//
// The request context that ctx carries (rpc.WithRequestContext) goes along: who
// asks, read_deleted, and the request ID by which EventStart finds the action.
//
// A failure of conductor's is a *Failure. It has a kind of errdefs and can be
// told by its class: errors.Is(err, conductor.ErrInstanceNotFound).
//
// To add a method: find it in nova/objects, pass what Nova's own nova-compute
// passes positionally in args and the rest in kwargs, and check it in golden_test.go
// if it is in the captures.
//
// A Client has no state of its own and may be used by any number of goroutines;
// the objects handed to it may not. The package leaves nothing on disk.
package conductor
