package fork

import (
	"encoding/binary"
	"errors"
	"syscall"
)

// A Kind says what an argument of a step is.
type Kind uint8

const (
	// Value is passed as it is.
	Value Kind = iota
	// Address is the address of the program's data at offset Arg.V.
	Address
	// Descriptor is the descriptor at index Arg.V of those given to Load.
	Descriptor
	// Cell is the int32 that the program's data holds at offset Arg.V when the step
	// runs: what an earlier step has stored there.
	Cell
)

// Arg is one argument of a step.
type Arg struct {
	Kind Kind
	V    uint64
}

// NoCgroup as Program.Cgroup starts the child in the caller's cgroup.
const NoCgroup = -1

// NoCell as Step.Out drops the step's result.
const NoCell = -1

// Step is one system call.
type Step struct {
	// Nr is the number of the system call, or OpFork.
	Nr uint32
	// Args are its arguments.
	Args [6]Arg
	// Out is the offset in the data where the result is stored as an int32, or NoCell.
	Out int32
	// Tolerate are the errnos that do not end the program. AnyErrno tolerates all.
	Tolerate [3]uint16
	// Skip is how many of the following steps are left out if an errno was tolerated.
	Skip uint16
	// SkipOK is how many of the following steps are left out if the step succeeded.
	SkipOK uint16
	// Note asks for a tolerated errno to be reported in Result.Notes.
	Note bool
}

const (
	// OpFork as Step.Nr clones the child once more with the flags in Args[0]. The
	// steps that follow are the new child's. It has the same parent, the caller of
	// Run; the first child ends as soon as the new one has executed or failed.
	OpFork = 1<<32 - 1
	// AnyErrno in Step.Tolerate stands for every errno.
	AnyErrno = 1<<16 - 1
)

// Reloc makes the eight bytes of data at offset At the address of the data at offset
// To: a pointer within the data, as an argument vector has.
type Reloc struct{ At, To uint32 }

// Program is a list of system calls for a new process.
type Program struct {
	// Flags are clone(2)'s for the first fork; CLONE_VM, CLONE_VFORK and SIGCHLD are added.
	Flags uint64
	// Cgroup is the index of the descriptor of a cgroup v2 directory in which the child
	// starts, or NoCgroup.
	Cgroup int
	// Steps are executed in order.
	Steps []Step
	// Data is the memory that the steps use. Offsets that hold structures are multiples
	// of 8.
	Data []byte
	// Relocs are applied to Data by Load.
	Relocs []Reloc
	// Descriptors is how many descriptors Load must be given.
	Descriptors int
}

// Limits on what Load accepts.
const (
	maxSteps  = 4096
	maxData   = 1 << 20
	maxRelocs = 1 << 16
)

var errFormat = errors.New("fork: malformed program")

const (
	formatVersion = 1
	headerSize    = 32
	stepSize      = 80 // a multiple of 8, to keep the data aligned
)

// Encode returns p as bytes for Load.
func (p *Program) Encode() []byte {
	b := make([]byte, 0, headerSize+len(p.Steps)*stepSize+len(p.Relocs)*8+len(p.Data))
	le := binary.LittleEndian
	b = le.AppendUint32(b, formatVersion)
	b = le.AppendUint32(b, uint32(len(p.Steps)))
	b = le.AppendUint32(b, uint32(len(p.Relocs)))
	b = le.AppendUint32(b, uint32(len(p.Data)))
	b = le.AppendUint32(b, uint32(p.Descriptors))
	b = le.AppendUint32(b, uint32(int32(p.Cgroup)))
	b = le.AppendUint64(b, p.Flags)
	for i := range p.Steps {
		s := &p.Steps[i]
		b = le.AppendUint32(b, s.Nr)
		for _, a := range s.Args {
			b = le.AppendUint64(b, a.V)
		}
		for _, a := range s.Args {
			b = append(b, byte(a.Kind))
		}
		note := byte(0)
		if s.Note {
			note = 1
		}
		b = append(b, note, 0)
		b = le.AppendUint32(b, uint32(s.Out))
		for _, e := range s.Tolerate {
			b = le.AppendUint16(b, e)
		}
		b = le.AppendUint16(b, s.Skip)
		b = le.AppendUint16(b, s.SkipOK)
		b = append(b, 0, 0, 0, 0, 0, 0)
	}
	for _, r := range p.Relocs {
		b = le.AppendUint32(b, r.At)
		b = le.AppendUint32(b, r.To)
	}
	return append(b, p.Data...)
}

// encoded is what Encode wrote, cut into its parts.
type encoded struct {
	flags       uint64
	descriptors int
	cgroup      int
	steps       []byte
	relocs      []byte
	data        []byte
}

// parse checks that b is a program and that nothing in it points outside of its data.
func parse(b []byte) (encoded, error) {
	le := binary.LittleEndian
	if len(b) < headerSize || le.Uint32(b) != formatVersion {
		return encoded{}, errFormat
	}
	steps, relocs, data := le.Uint32(b[4:]), le.Uint32(b[8:]), le.Uint32(b[12:])
	if steps > maxSteps || relocs > maxRelocs || data > maxData {
		return encoded{}, errFormat
	}
	e := encoded{descriptors: int(le.Uint32(b[16:])), cgroup: int(int32(le.Uint32(b[20:]))), flags: le.Uint64(b[24:])}
	b = b[headerSize:]
	if len(b) != int(steps)*stepSize+int(relocs)*8+int(data) {
		return encoded{}, errFormat
	}
	e.steps, b = b[:steps*stepSize], b[steps*stepSize:]
	e.relocs, e.data = b[:relocs*8], b[relocs*8:]
	if e.cgroup != NoCgroup && (e.cgroup < 0 || e.cgroup >= e.descriptors) {
		return encoded{}, errFormat
	}
	for i := range int(steps) {
		if s := e.step(i); !e.valid(&s) {
			return encoded{}, errFormat
		}
	}
	for i := range int(relocs) {
		if r := e.reloc(i); r.At%8 != 0 || uint64(r.At)+8 > uint64(data) || r.To >= data {
			return encoded{}, errFormat
		}
	}
	return e, nil
}

func (e *encoded) step(i int) Step {
	le := binary.LittleEndian
	b := e.steps[i*stepSize : (i+1)*stepSize]
	s := Step{Nr: le.Uint32(b), Out: int32(le.Uint32(b[60:])), Note: b[58] == 1, Skip: le.Uint16(b[70:]), SkipOK: le.Uint16(b[72:])}
	for k := range s.Args {
		s.Args[k] = Arg{Kind: Kind(b[52+k]), V: le.Uint64(b[4+8*k:])}
	}
	for k := range s.Tolerate {
		s.Tolerate[k] = le.Uint16(b[64+2*k:])
	}
	return s
}

func (e *encoded) reloc(i int) Reloc {
	le := binary.LittleEndian
	return Reloc{At: le.Uint32(e.relocs[8*i:]), To: le.Uint32(e.relocs[8*i+4:])}
}

func (e *encoded) valid(s *Step) bool {
	for _, a := range s.Args {
		ok := true
		switch a.Kind {
		case Value:
		case Address:
			ok = a.V < uint64(len(e.data))
		case Descriptor:
			ok = a.V < uint64(e.descriptors)
		case Cell:
			ok = e.isCell(a.V)
		default:
			ok = false
		}
		if !ok {
			return false
		}
	}
	return s.Out == NoCell || s.Out >= 0 && e.isCell(uint64(s.Out))
}

func (e *encoded) isCell(at uint64) bool {
	return at%4 == 0 && at <= maxData && at+4 <= uint64(len(e.data))
}

// Result tells how a program ended.
type Result struct {
	// PID is the new process, if it has executed its program.
	PID int
	// Failed is the index of the step that failed, or -1; Errno is its error. A failed
	// first fork is step -2.
	Failed int
	Errno  syscall.Errno
	// Notes are the tolerated errors of steps that asked for it.
	Notes []Note
}

// Failed steps that are not in the program.
const (
	// None: no step failed.
	None = -1
	// FirstFork: the clone before the first step failed.
	FirstFork = -2
)

// Note is a tolerated error.
type Note struct {
	Step  int
	Errno syscall.Errno
}
