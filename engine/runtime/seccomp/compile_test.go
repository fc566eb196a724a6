package seccomp

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	profiles "github.com/moby/profiles/seccomp"

	"novaagent/engine/errdefs"
)

// interpret runs a filter as the kernel does.
func interpret(t testing.TB, f Filter, arch, nr uint32, args [6]uint64) uint32 {
	t.Helper()
	var data [64]byte
	ne := binary.NativeEndian
	ne.PutUint32(data[offNumber:], nr)
	ne.PutUint32(data[offArch:], arch)
	for i, a := range args {
		ne.PutUint64(data[offArgs+8*i:], a)
	}
	var acc uint32
	n := len(f.Program) / 8
	for pc := 0; ; pc++ {
		if pc >= n {
			t.Fatalf("the filter runs off its end")
		}
		i := f.Program[8*pc:]
		code, jt, jf, k := ne.Uint16(i), int(i[2]), int(i[3]), ne.Uint32(i[4:])
		branch := func(yes bool) {
			if yes {
				pc += jt
			} else {
				pc += jf
			}
		}
		switch code {
		case loadWord:
			if k%4 != 0 || k > 60 {
				t.Fatalf("load at %d", k)
			}
			acc = ne.Uint32(data[k:])
		case jeq:
			branch(acc == k)
		case jgt:
			branch(acc > k)
		case jge:
			branch(acc >= k)
		case ja:
			pc += int(k)
		case and:
			acc &= k
		case retK:
			return k
		default:
			t.Fatalf("instruction %#x", code)
		}
	}
}

func TestOperators(t *testing.T) {
	holds := map[specs.LinuxSeccompOperator]func(a, v, v2 uint64) bool{
		specs.OpEqualTo:      func(a, v, _ uint64) bool { return a == v },
		specs.OpNotEqual:     func(a, v, _ uint64) bool { return a != v },
		specs.OpLessThan:     func(a, v, _ uint64) bool { return a < v },
		specs.OpLessEqual:    func(a, v, _ uint64) bool { return a <= v },
		specs.OpGreaterThan:  func(a, v, _ uint64) bool { return a > v },
		specs.OpGreaterEqual: func(a, v, _ uint64) bool { return a >= v },
		specs.OpMaskedEqual:  func(a, v, v2 uint64) bool { return a&v == v2 },
	}
	values := []uint64{0, 1, 2, 1<<32 - 1, 1 << 32, 1<<32 + 1, 2 << 32, 1<<63 + 5, 1<<64 - 1}
	for op, f := range holds {
		for _, v := range values {
			for _, v2 := range []uint64{0, v, 1} {
				filter, err := Compile(&specs.LinuxSeccomp{
					DefaultAction: specs.ActAllow,
					Syscalls: []specs.LinuxSyscall{{
						Names: []string{"read"}, Action: specs.ActErrno,
						Args: []specs.LinuxSeccompArg{{Index: 3, Value: v, ValueTwo: v2, Op: op}},
					}},
				})
				if err != nil {
					t.Fatal(err)
				}
				for _, a := range values {
					want := uint32(retAllow)
					if f(a, v, v2) {
						want = retErrno | eperm
					}
					if got := interpret(t, filter, auditArch, numbers["read"], [6]uint64{3: a}); got != want {
						t.Errorf("%s: argument %#x, value %#x, %#x: %#x, want %#x", op, a, v, v2, got, want)
					}
				}
			}
		}
	}
}

func TestForeignABIs(t *testing.T) {
	f, err := Compile(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow})
	if err != nil {
		t.Fatal(err)
	}
	if got := interpret(t, f, 0x40000003, 11, [6]uint64{}); got != retKillProcess { // AUDIT_ARCH_I386
		t.Errorf("i386: %#x", got)
	}
	if x32Bit != 0 {
		if got := interpret(t, f, auditArch, x32Bit|59, [6]uint64{}); got != retErrno|enosys {
			t.Errorf("x32: %#x", got)
		}
	}
	if got := interpret(t, f, auditArch, 5000, [6]uint64{}); got != retAllow {
		t.Errorf("an unknown number: %#x", got)
	}
}

// model decides as the documentation of Compile says.
func model(t testing.TB, p *specs.LinuxSeccomp, nr uint32, args [6]uint64) uint32 {
	t.Helper()
	match := func(a specs.LinuxSeccompArg) bool {
		v := args[a.Index]
		switch a.Op {
		case specs.OpEqualTo:
			return v == a.Value
		case specs.OpNotEqual:
			return v != a.Value
		case specs.OpLessThan:
			return v < a.Value
		case specs.OpGreaterThan:
			return v > a.Value
		case specs.OpMaskedEqual:
			return v&a.Value == a.ValueTwo
		default:
			t.Fatalf("operator %s", a.Op)
			return false
		}
	}
	for _, s := range p.Syscalls {
		for _, name := range s.Names {
			if n, ok := numbers[name]; !ok || n != nr {
				continue
			}
			for _, alternative := range alternatives(s.Args) {
				all := true
				for _, a := range alternative {
					all = all && match(a)
				}
				if all {
					act, err := action(s.Action, s.ErrnoRet)
					if err != nil {
						t.Fatal(err)
					}
					return act
				}
			}
		}
	}
	def, err := action(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		t.Fatal(err)
	}
	return def
}

// TestDefaultProfile compares the compiled profile with the model, call by call.
func TestDefaultProfile(t *testing.T) {
	for _, caps := range [][]string{nil, {"CAP_SYS_ADMIN"}, {"CAP_SYS_PTRACE", "CAP_SYS_CHROOT", "CAP_BPF"}} {
		p, err := profiles.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps}}})
		if err != nil {
			t.Fatal(err)
		}
		f, err := Compile(p)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%v: %d instructions", caps, len(f.Program)/8)
		rng := rand.New(rand.NewPCG(1, 2))
		for name, nr := range numbers {
			for _, first := range []uint64{0, 16, 17, 38, 40, 1, 8, 0x20000, 0x20008, 0xffffffff, 0x10000000, 0x7e020000, rng.Uint64()} {
				args := [6]uint64{first, rng.Uint64() & 0x11, rng.Uint64()}
				if got, want := interpret(t, f, auditArch, nr, args), model(t, p, nr, args); got != want {
					t.Errorf("%v: %s(%#x): %#x, want %#x", caps, name, args, got, want)
				}
			}
		}
	}
}

func TestCompileErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		p    specs.LinuxSeccomp
		kind error
	}{
		"no action": {specs.LinuxSeccomp{}, errdefs.ErrInvalid},
		"notify":    {specs.LinuxSeccomp{DefaultAction: specs.ActNotify}, errdefs.ErrUnsupported},
		"operator": {specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
			{Names: []string{"read"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Op: "x"}}}}}, errdefs.ErrInvalid},
		"argument": {specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
			{Names: []string{"read"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Index: 6, Op: specs.OpEqualTo}}}}}, errdefs.ErrInvalid},
		"flag": {specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{"X"}}, errdefs.ErrUnsupported},
	} {
		if _, err := Compile(&tt.p); !errors.Is(err, tt.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzCompile feeds profiles in Docker's JSON format.
func FuzzCompile(f *testing.F) {
	f.Add(`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}`)
	f.Add(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["clone","socket"],"action":"SCMP_ACT_ERRNO","errnoRet":38,
		"args":[{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"},{"index":0,"value":1,"op":"SCMP_CMP_GT"}]}]}`)
	spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}}
	f.Fuzz(func(t *testing.T, body string) {
		p, err := profiles.LoadProfile(body, spec)
		if err != nil || p == nil {
			return
		}
		filter, err := Compile(p)
		if err != nil {
			return
		}
		for _, nr := range []uint32{0, 1, numbers["socket"], numbers["clone"], 300, 1000, 1 << 31} {
			interpret(t, filter, auditArch, nr, [6]uint64{1, 2, 3, 1 << 40})
		}
	})
}
