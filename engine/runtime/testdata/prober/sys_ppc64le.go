package main

const (
	sysBPF            = 361
	sysUserfaultfd    = 364
	sysOpenByHandleAt = 346
	sysSetns          = 350
)
