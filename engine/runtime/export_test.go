package runtime

// ForgetUnified makes r take the host for one with cgroup version 1 alone. It reports
// whether it is one with version 1 at all.
func (r *Runtime) ForgetUnified() bool {
	r.cg.unified = ""
	return !r.cg.pure()
}

// RememberUnified undoes ForgetUnified.
func (r *Runtime) RememberUnified() {
	if h, err := findHierarchies(r.cg.parent); err == nil {
		r.cg.unified = h.unified
	}
}

// ForgetV1 makes r take the host for one with cgroup version 2 alone, until the returned function is called.
// It reports whether version 2 is mounted.
func (r *Runtime) ForgetV1() (undo func(), ok bool) {
	v1 := r.cg.v1
	r.cg.v1 = nil
	return func() { r.cg.v1 = v1 }, r.cg.unified != ""
}
