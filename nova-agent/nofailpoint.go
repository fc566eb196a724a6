//go:build !failpoint

package main

// failpoint is for the crash tests, which build with the tag failpoint.
func failpoint() func(step string) { return nil }
