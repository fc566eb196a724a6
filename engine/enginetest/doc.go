// Package enginetest is for tests of the engine and of what is built on it: a
// busybox image made of the host's busybox-static, and a look for whatever a
// container may have left behind.
package enginetest
