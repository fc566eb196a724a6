package fork

// cloneOrder gives the first two arguments of clone(2): s390x takes the stack before
// the flags ("C library/kernel differences").
func cloneOrder(flags uintptr) (a1, a2 uintptr) { return 0, flags }
