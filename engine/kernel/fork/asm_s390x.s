#include "textflag.h"

// func vfork(trap, a1, a2, a3, a4, a5 uintptr) (pid, errno uintptr)
//
// The return address is in the link register, which the child does not share.
TEXT ·vfork(SB),NOSPLIT|NOFRAME,$0-64
	MOVD	a1+8(FP), R2
	MOVD	a2+16(FP), R3
	MOVD	a3+24(FP), R4
	MOVD	a4+32(FP), R5
	MOVD	a5+40(FP), R6
	MOVD	$0, R7
	MOVD	trap+0(FP), R1
	SYSCALL
	MOVD	$0xfffffffffffff001, R8
	CMPUBLT	R2, R8, ok
	MOVD	$-1, pid+48(FP)
	NEG	R2, R2
	MOVD	R2, errno+56(FP)
	RET
ok:
	MOVD	R2, pid+48(FP)
	MOVD	$0, errno+56(FP)
	RET

// func park(trap, a1, a2, a3, a4, parent uintptr) (pid, errno uintptr)
TEXT ·park(SB),NOSPLIT|NOFRAME,$0-64
	MOVD	a1+8(FP), R2
	MOVD	a2+16(FP), R3
	MOVD	a3+24(FP), R4
	MOVD	a4+32(FP), R5
	MOVD	$0, R6
	MOVD	parent+40(FP), R9
	MOVD	$0, R7
	MOVD	trap+0(FP), R1
	SYSCALL
	MOVD	$0xfffffffffffff001, R8
	CMPUBLT	R2, R8, ok
	MOVD	$-1, pid+48(FP)
	NEG	R2, R2
	MOVD	R2, errno+56(FP)
	RET
ok:
	CMPBEQ	R2, $0, child
	MOVD	R2, pid+48(FP)
	MOVD	$0, errno+56(FP)
	RET
child:
	MOVD	$1, R2	// PR_SET_PDEATHSIG
	MOVD	$9, R3	// SIGKILL
	MOVD	$0, R4
	MOVD	$0, R5
	MOVD	$0, R6
	MOVD	$172, R1	// SYS_prctl
	SYSCALL
	MOVD	$64, R1	// SYS_getppid
	SYSCALL
	CMPBNE	R2, R9, orphan
	MOVD	$0, R2
	MOVD	$0, R3
	MOVD	$0, R4
	MOVD	$0, R5
	MOVD	$0, R6
	MOVD	$302, R1	// SYS_ppoll
	SYSCALL
	BR	child
orphan:
	MOVD	$0, R2
	MOVD	$248, R1	// SYS_exit_group
	SYSCALL
	BR	orphan
