#include "textflag.h"

// func vfork(trap, a1, a2, a3, a4, a5 uintptr) (pid, errno uintptr)
//
// The return address is in the link register, which the child does not share.
TEXT ·vfork(SB),NOSPLIT|NOFRAME,$0-64
	MOVD	a1+8(FP), R3
	MOVD	a2+16(FP), R4
	MOVD	a3+24(FP), R5
	MOVD	a4+32(FP), R6
	MOVD	a5+40(FP), R7
	MOVD	R0, R8
	MOVD	trap+0(FP), R9
	SYSCALL	R9
	BVC	ok
	MOVD	$-1, R4
	MOVD	R4, pid+48(FP)
	MOVD	R3, errno+56(FP)
	RET
ok:
	MOVD	R3, pid+48(FP)
	MOVD	R0, errno+56(FP)
	RET

// func park(trap, a1, a2, a3, a4, parent uintptr) (pid, errno uintptr)
TEXT ·park(SB),NOSPLIT|NOFRAME,$0-64
	MOVD	a1+8(FP), R3
	MOVD	a2+16(FP), R4
	MOVD	a3+24(FP), R5
	MOVD	a4+32(FP), R6
	MOVD	R0, R7
	MOVD	parent+40(FP), R20
	MOVD	R0, R8
	MOVD	trap+0(FP), R9
	SYSCALL	R9
	BVC	ok
	MOVD	$-1, R4
	MOVD	R4, pid+48(FP)
	MOVD	R3, errno+56(FP)
	RET
ok:
	CMP	R3, $0
	BEQ	child
	MOVD	R3, pid+48(FP)
	MOVD	R0, errno+56(FP)
	RET
child:
	MOVD	$1, R3	// PR_SET_PDEATHSIG
	MOVD	$9, R4	// SIGKILL
	MOVD	$0, R5
	MOVD	$0, R6
	MOVD	$0, R7
	MOVD	$171, R9	// SYS_prctl
	SYSCALL	R9
	MOVD	$64, R9	// SYS_getppid
	SYSCALL	R9
	CMP	R3, R20
	BNE	orphan
	MOVD	$0, R3
	MOVD	$0, R4
	MOVD	$0, R5
	MOVD	$0, R6
	MOVD	$0, R7
	MOVD	$281, R9	// SYS_ppoll
	SYSCALL	R9
	BR	child
orphan:
	MOVD	$0, R3
	MOVD	$234, R9	// SYS_exit_group
	SYSCALL	R9
	BR	orphan
