package main

const (
	sysBPF            = 321
	sysUserfaultfd    = 323
	sysOpenByHandleAt = 304
	sysSetns          = 308
)
