#include "textflag.h"

// func vfork(trap, a1, a2, a3, a4, a5 uintptr) (pid, errno uintptr)
//
// The return address is in the link register, which the child does not share.
TEXT ·vfork(SB),NOSPLIT,$0-64
	MOVD	a1+8(FP), R0
	MOVD	a2+16(FP), R1
	MOVD	a3+24(FP), R2
	MOVD	a4+32(FP), R3
	MOVD	a5+40(FP), R4
	MOVD	$0, R5
	MOVD	trap+0(FP), R8
	SVC
	CMN	$4095, R0
	BCC	ok
	MOVD	$-1, R4
	MOVD	R4, pid+48(FP)
	NEG	R0, R0
	MOVD	R0, errno+56(FP)
	RET
ok:
	MOVD	R0, pid+48(FP)
	MOVD	ZR, errno+56(FP)
	RET

// func park(trap, a1, a2, a3, a4, parent uintptr) (pid, errno uintptr)
TEXT ·park(SB),NOSPLIT,$0-64
	MOVD	a1+8(FP), R0
	MOVD	a2+16(FP), R1
	MOVD	a3+24(FP), R2
	MOVD	a4+32(FP), R3
	MOVD	$0, R4
	MOVD	$0, R5
	MOVD	parent+40(FP), R9
	MOVD	trap+0(FP), R8
	SVC
	CMN	$4095, R0
	BCC	ok
	MOVD	$-1, R4
	MOVD	R4, pid+48(FP)
	NEG	R0, R0
	MOVD	R0, errno+56(FP)
	RET
ok:
	CBZ	R0, child
	MOVD	R0, pid+48(FP)
	MOVD	ZR, errno+56(FP)
	RET
child:
	MOVD	$1, R0	// PR_SET_PDEATHSIG
	MOVD	$9, R1	// SIGKILL
	MOVD	$0, R2
	MOVD	$0, R3
	MOVD	$0, R4
	MOVD	$167, R8	// SYS_prctl
	SVC
	MOVD	$173, R8	// SYS_getppid
	SVC
	CMP	R9, R0
	BNE	orphan
	MOVD	$0, R0
	MOVD	$0, R1
	MOVD	$0, R2
	MOVD	$0, R3
	MOVD	$0, R4
	MOVD	$73, R8	// SYS_ppoll
	SVC
	B	child
orphan:
	MOVD	$0, R0
	MOVD	$94, R8	// SYS_exit_group
	SVC
	B	orphan
