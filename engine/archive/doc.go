// Package archive makes tar streams of a container's files, and puts the files of such
// streams into it, the way docker cp does.
//
// Start reading at Root (root.go); write.go and extract.go are the two directions.
//
// # Trust
//
// Both sides are hostile: an archive may hold any name, link or device, and the
// container's processes rename and link while it is being worked on. So every path is looked up by the
// kernel with the container's root as root (openat2, RESOLVE_IN_ROOT) and what was found is
// used by descriptor. Nothing is opened whose type is not known, no existing file is opened for
// writing, and device nodes are neither read, archived nor made. The caller runs all of it on a
// thread of kernel.OnFileThread, which has no capabilities but those over files.
//
// It has no locks and leaves nothing on disk but the files of the container.
package archive
