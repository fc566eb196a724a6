// Package objects holds the versioned objects that Nova's services exchange
// (oslo.versionedobjects, namespace "nova"): one Go struct for each object, and
// the code that reads and writes their wire form, the "primitive":
//
//	{"nova_object.name": "Tag", "nova_object.namespace": "nova",
//	 "nova_object.version": "1.1", "nova_object.data": {"tag": "x"},
//	 "nova_object.changes": ["tag"]}
//
// Start reading at Field, which is the type of every field of every object:
// unset, null and holding a value are three different things, and each field
// knows whether it was changed since it came. Then Decode, Changes and
// ApplyUpdates. The tables of fields are in instance.go, service.go and the
// other files named after what they describe.
//
// The structs are those of Nova 26 (Zed), whose object versions every later
// release still accepts. Reading is tolerant: fields that the struct does not
// have, objects that have no struct and newer minor versions are kept as they
// came and written out again with the version they came with. Only a version of
// another major number is refused (VersionError).
//
// How a field is written down:
//
//	MemoryMB Field[int64] `nova:"memory_mb,null"`
//
// The tag is the name on the wire and then, each optional: null (null is
// allowed), ro (Nova refuses a second, different value), is=X (Nova accepts only
// the values of X: a list of enums.go, or ip, ip4, ip6), of=X (an Object that is
// X or one of its subclasses), set (an array without order), default=JSON.
//
// To add an object: write the struct with Header first, its three methods, add
// it to known in plan.go. The test against testdata compares it with Nova's
// registry.
//
// Objects are not safe for concurrent use; Clone gives each goroutine its own.
// The package has no locks and leaves nothing on disk.
package objects
