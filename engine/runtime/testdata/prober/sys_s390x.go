package main

const (
	sysBPF            = 351
	sysUserfaultfd    = 355
	sysOpenByHandleAt = 336
	sysSetns          = 339
)
