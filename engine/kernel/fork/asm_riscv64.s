#include "textflag.h"

// func vfork(trap, a1, a2, a3, a4, a5 uintptr) (pid, errno uintptr)
//
// The return address is in the link register, which the child does not share.
TEXT ·vfork(SB),NOSPLIT|NOFRAME,$0-64
	MOV	a1+8(FP), A0
	MOV	a2+16(FP), A1
	MOV	a3+24(FP), A2
	MOV	a4+32(FP), A3
	MOV	a5+40(FP), A4
	MOV	ZERO, A5
	MOV	trap+0(FP), A7
	ECALL
	MOV	$-4096, T0
	BLTU	T0, A0, err
	MOV	A0, pid+48(FP)
	MOV	ZERO, errno+56(FP)
	RET
err:
	MOV	$-1, T0
	MOV	T0, pid+48(FP)
	SUB	A0, ZERO, A0
	MOV	A0, errno+56(FP)
	RET

// func park(trap, a1, a2, a3, a4, parent uintptr) (pid, errno uintptr)
TEXT ·park(SB),NOSPLIT|NOFRAME,$0-64
	MOV	a1+8(FP), A0
	MOV	a2+16(FP), A1
	MOV	a3+24(FP), A2
	MOV	a4+32(FP), A3
	MOV	ZERO, A4
	MOV	ZERO, A5
	MOV	parent+40(FP), S2
	MOV	trap+0(FP), A7
	ECALL
	MOV	$-4096, T0
	BLTU	T0, A0, err
	BEQZ	A0, child
	MOV	A0, pid+48(FP)
	MOV	ZERO, errno+56(FP)
	RET
err:
	MOV	$-1, T0
	MOV	T0, pid+48(FP)
	SUB	A0, ZERO, A0
	MOV	A0, errno+56(FP)
	RET
child:
	MOV	$1, A0	// PR_SET_PDEATHSIG
	MOV	$9, A1	// SIGKILL
	MOV	ZERO, A2
	MOV	ZERO, A3
	MOV	ZERO, A4
	MOV	$167, A7	// SYS_prctl
	ECALL
	MOV	$173, A7	// SYS_getppid
	ECALL
	BNE	A0, S2, orphan
	MOV	ZERO, A0
	MOV	ZERO, A1
	MOV	ZERO, A2
	MOV	ZERO, A3
	MOV	ZERO, A4
	MOV	$73, A7	// SYS_ppoll
	ECALL
	JMP	child
orphan:
	MOV	ZERO, A0
	MOV	$94, A7	// SYS_exit_group
	ECALL
	JMP	orphan
