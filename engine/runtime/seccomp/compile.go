package seccomp

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"novaagent/engine/errdefs"
)

// Return values of a filter (linux/seccomp.h).
const (
	retKillThread  = 0x00000000
	retKillProcess = 0x80000000
	retTrap        = 0x00030000
	retErrno       = 0x00050000
	retTrace       = 0x7ff00000
	retLog         = 0x7ffc0000
	retAllow       = 0x7fff0000

	eperm  = 1
	enosys = 38
)

// Flags for seccomp(2).
const (
	flagLog       = 2
	flagSpecAllow = 4
)

// maxInstructions is the kernel's limit (BPF_MAXINSNS).
const maxInstructions = 4096

// Filter is a compiled profile.
type Filter struct {
	// Program is an array of struct sock_filter.
	Program []byte
	// Flags are for seccomp(2).
	Flags uint32
}

// Compile turns a profile into a filter. Names that this architecture doesn't have
// are ignored, as libseccomp's users do. Of several rules for a call the first one
// whose arguments match decides. errdefs.ErrInvalid: the profile makes no sense;
// errdefs.ErrUnsupported: it needs a user-space supervisor.
//
// A call with a number that is unknown here gets ENOSYS, so that programs
// fall back to an older one, unless the profile allows by default.
func Compile(p *specs.LinuxSeccomp) (Filter, error) {
	def, err := action(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		return Filter{}, err
	}
	calls, err := collect(p)
	if err != nil {
		return Filter{}, err
	}
	f := Filter{Flags: flagSpecAllow}
	for _, flag := range p.Flags {
		switch flag {
		case specs.LinuxSeccompFlagLog:
			f.Flags |= flagLog
		case specs.LinuxSeccompFlagSpecAllow, "SECCOMP_FILTER_FLAG_TSYNC":
			// The former is always set; the process has one thread.
		default:
			return Filter{}, fmt.Errorf("seccomp flag %s: %w", flag, errdefs.ErrUnsupported)
		}
	}
	code := []insn{
		load(offArch),
		jump(jeq, auditArch, 1, 0),
		ret(retKillProcess),
		load(offNumber),
	}
	if x32Bit != 0 { // amd64 only
		code = append(code, jump(jge, x32Bit, 0, 1), ret(retErrno|enosys))
	}
	code = append(code, tree(segments(calls, def))...)
	if len(code) > maxInstructions {
		return Filter{}, fmt.Errorf("seccomp profile: %d instructions, of at most %d: %w", len(code), maxInstructions, errdefs.ErrInvalid)
	}
	for _, i := range code {
		f.Program = i.append(f.Program)
	}
	return f, nil
}

// rule is what is done if all conditions hold.
type rule struct {
	conditions []specs.LinuxSeccompArg
	action     uint32
}

// collect returns the rules by system call number, in the profile's order.
func collect(p *specs.LinuxSeccomp) (map[uint32][]rule, error) {
	calls := make(map[uint32][]rule, len(numbers))
	for _, s := range p.Syscalls {
		act, err := action(s.Action, s.ErrnoRet)
		if err != nil {
			return nil, err
		}
		for _, a := range s.Args {
			if a.Index > 5 || !knownOperator(a.Op) {
				return nil, fmt.Errorf("seccomp: argument %d with operator %q: %w", a.Index, a.Op, errdefs.ErrInvalid)
			}
		}
		for _, name := range s.Names {
			nr, ok := numbers[name]
			if !ok {
				continue
			}
			for _, conditions := range alternatives(s.Args) {
				calls[nr] = append(calls[nr], rule{conditions, act})
			}
		}
	}
	return calls, nil
}

// alternatives splits conditions of which two are about the same argument: each then is a rule of its own, as in
// runc (libcontainer/seccomp, matchCall).
func alternatives(args []specs.LinuxSeccompArg) [][]specs.LinuxSeccompArg {
	var seen [6]bool
	for _, a := range args {
		if seen[a.Index] {
			out := make([][]specs.LinuxSeccompArg, len(args))
			for i := range args {
				out[i] = args[i : i+1]
			}
			return out
		}
		seen[a.Index] = true
	}
	return [][]specs.LinuxSeccompArg{args}
}

func action(a specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	data := uint32(eperm)
	if errno != nil {
		data = uint32(*errno)
	}
	if data > 0xfff {
		return 0, fmt.Errorf("seccomp: errno %d: %w", data, errdefs.ErrInvalid)
	}
	switch a {
	case specs.ActKill, specs.ActKillThread:
		return retKillThread, nil
	case specs.ActKillProcess:
		return retKillProcess, nil
	case specs.ActTrap:
		return retTrap, nil
	case specs.ActErrno:
		return retErrno | data, nil
	case specs.ActTrace:
		return retTrace | data, nil
	case specs.ActLog:
		return retLog, nil
	case specs.ActAllow:
		return retAllow, nil
	case specs.ActNotify:
		return 0, fmt.Errorf("seccomp action %s: %w", a, errdefs.ErrUnsupported)
	}
	return 0, fmt.Errorf("seccomp action %q: %w", a, errdefs.ErrInvalid)
}

// segment is a range of numbers, from first on to the next segment, that are treated alike.
type segment struct {
	first uint32
	rules []rule // in order; the default follows
	def   uint32
}

// segments lists all numbers from 0 on.
func segments(calls map[uint32][]rule, def uint32) []segment {
	var known uint32
	for _, nr := range numbers {
		known = max(known, nr)
	}
	beyond := def
	if def&0xffff0000 == retErrno {
		beyond = retErrno | enosys
	}
	var out []segment
	for nr := uint32(0); nr <= known; nr++ {
		s := segment{first: nr, def: def}
		for _, r := range calls[nr] {
			if len(r.conditions) == 0 {
				s.def = r.action
				break
			}
			s.rules = append(s.rules, r)
		}
		if n := len(out); n > 0 && len(s.rules) == 0 && len(out[n-1].rules) == 0 && out[n-1].def == s.def {
			continue
		}
		out = append(out, s)
	}
	return append(out, segment{first: known + 1, def: beyond})
}

// tree is a binary search for the number in the accumulator.
func tree(s []segment) []insn {
	if len(s) == 1 {
		return s[0].code()
	}
	mid := len(s) / 2
	left, right := tree(s[:mid]), tree(s[mid:])
	var code []insn
	if len(left) <= 255 {
		code = append(code, jump(jge, s[mid].first, uint8(len(left)), 0))
	} else {
		code = append(code, jump(jge, s[mid].first, 0, 1), insn{code: ja, k: uint32(len(left))})
	}
	return slices.Concat(code, left, right)
}

func (s segment) code() []insn {
	var code []insn
	for _, r := range s.rules {
		code = append(code, r.code()...)
	}
	return append(code, ret(s.def))
}

// code tests the conditions; it falls through to what follows if one doesn't hold.
func (r rule) code() []insn {
	var code []insn
	const fail = 0xff // placeholder for "behind this rule"
	for _, c := range r.conditions {
		code = append(code, test(c, fail)...)
	}
	code = append(code, ret(r.action))
	for i := range code {
		if code[i].code&7 != classJump || code[i].code == ja {
			continue
		}
		past := uint8(len(code) - i - 1)
		if code[i].jt == fail {
			code[i].jt = past
		}
		if code[i].jf == fail {
			code[i].jf = past
		}
	}
	return code
}

func knownOperator(op specs.LinuxSeccompOperator) bool {
	switch op {
	case specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo,
		specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual:
		return true
	}
	return false
}

// test falls through if c holds and jumps to fail if not. BPF has 32-bit words, so
// the halves of the 64-bit argument are compared one after the other.
func test(c specs.LinuxSeccompArg, fail uint8) []insn {
	hi, lo := load(offArgs+8*uint32(c.Index)+offHigh), load(offArgs+8*uint32(c.Index)+offLow)
	vhi, vlo := uint32(c.Value>>32), uint32(c.Value)
	switch c.Op {
	case specs.OpEqualTo:
		return []insn{hi, jump(jeq, vhi, 0, fail), lo, jump(jeq, vlo, 0, fail)}
	case specs.OpNotEqual:
		return []insn{hi, jump(jeq, vhi, 0, 2), lo, jump(jeq, vlo, fail, 0)}
	case specs.OpGreaterThan:
		return []insn{hi, jump(jgt, vhi, 3, 0), jump(jeq, vhi, 0, fail), lo, jump(jgt, vlo, 0, fail)}
	case specs.OpGreaterEqual:
		return []insn{hi, jump(jgt, vhi, 3, 0), jump(jeq, vhi, 0, fail), lo, jump(jge, vlo, 0, fail)}
	case specs.OpLessThan: // not >=
		return []insn{hi, jump(jgt, vhi, fail, 0), jump(jeq, vhi, 0, 2), lo, jump(jge, vlo, fail, 0)}
	case specs.OpLessEqual: // not >
		return []insn{hi, jump(jgt, vhi, fail, 0), jump(jeq, vhi, 0, 2), lo, jump(jgt, vlo, fail, 0)}
	default: // specs.OpMaskedEqual: argument & Value == ValueTwo
		dhi, dlo := uint32(c.ValueTwo>>32), uint32(c.ValueTwo)
		return []insn{
			hi, {code: and, k: vhi}, jump(jeq, dhi, 0, fail),
			lo, {code: and, k: vlo}, jump(jeq, dlo, 0, fail),
		}
	}
}

// insn is struct sock_filter.
type insn struct {
	code   uint16
	jt, jf uint8
	k      uint32
}

// Classic BPF (linux/bpf_common.h).
const (
	classJump = 0x05
	loadWord  = 0x20
	jeq       = 0x15
	jgt       = 0x25
	jge       = 0x35
	ja        = 0x05
	and       = 0x54
	retK      = 0x06
)

// Offsets in struct seccomp_data.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
)

func load(at uint32) insn                         { return insn{code: loadWord, k: at} }
func ret(v uint32) insn                           { return insn{code: retK, k: v} }
func jump(code uint16, k uint32, t, f uint8) insn { return insn{code: code, jt: t, jf: f, k: k} }

func (i insn) append(b []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, i.code)
	b = append(b, i.jt, i.jf)
	return binary.NativeEndian.AppendUint32(b, i.k)
}
