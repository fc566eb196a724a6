#include "textflag.h"

// func vfork(trap, a1, a2, a3, a4, a5 uintptr) (pid, errno uintptr)
//
// The child returns first and overwrites the stack, where CALL left the return
// address; so that address is kept in a register across the system call.
TEXT ·vfork(SB),NOSPLIT|NOFRAME,$0-64
	MOVQ	a1+8(FP), DI
	MOVQ	a2+16(FP), SI
	MOVQ	a3+24(FP), DX
	MOVQ	a4+32(FP), R10
	MOVQ	a5+40(FP), R8
	MOVQ	$0, R9
	MOVQ	trap+0(FP), AX
	POPQ	R12
	SYSCALL
	PUSHQ	R12
	CMPQ	AX, $0xfffffffffffff001
	JLS	ok
	MOVQ	$-1, pid+48(FP)
	NEGQ	AX
	MOVQ	AX, errno+56(FP)
	RET
ok:
	MOVQ	AX, pid+48(FP)
	MOVQ	$0, errno+56(FP)
	RET

// func park(trap, a1, a2, a3, a4, parent uintptr) (pid, errno uintptr)
//
// The child never touches memory: it sleeps in ppoll(NULL, 0, NULL, NULL) until
// it is killed, by Kill or because the thread that cloned it has ended. If that was before it could ask to be
// killed then, it has another parent by now, and ends.
TEXT ·park(SB),NOSPLIT|NOFRAME,$0-64
	MOVQ	a1+8(FP), DI
	MOVQ	a2+16(FP), SI
	MOVQ	a3+24(FP), DX
	MOVQ	a4+32(FP), R10
	MOVQ	$0, R8
	MOVQ	$0, R9
	MOVQ	parent+40(FP), R12
	MOVQ	trap+0(FP), AX
	SYSCALL
	CMPQ	AX, $0xfffffffffffff001
	JLS	ok
	MOVQ	$-1, pid+48(FP)
	NEGQ	AX
	MOVQ	AX, errno+56(FP)
	RET
ok:
	TESTQ	AX, AX
	JZ	child
	MOVQ	AX, pid+48(FP)
	MOVQ	$0, errno+56(FP)
	RET
child:
	MOVQ	$1, DI	// PR_SET_PDEATHSIG
	MOVQ	$9, SI	// SIGKILL
	MOVQ	$0, DX
	MOVQ	$0, R10
	MOVQ	$0, R8
	MOVQ	$157, AX	// SYS_prctl
	SYSCALL
	MOVQ	$110, AX	// SYS_getppid
	SYSCALL
	CMPQ	AX, R12
	JNE	orphan
	MOVQ	$0, DI
	MOVQ	$0, SI
	MOVQ	$0, DX
	MOVQ	$0, R10
	MOVQ	$0, R8
	MOVQ	$271, AX	// SYS_ppoll
	SYSCALL
	JMP	child
orphan:
	MOVQ	$0, DI
	MOVQ	$231, AX	// SYS_exit_group
	SYSCALL
	JMP	orphan
