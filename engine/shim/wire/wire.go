package wire

import (
	"encoding/binary"
	"errors"
)

// Version is the protocol's version.
const Version = 1

// HeaderSize is the size of an encoded Header in bytes.
const HeaderSize = 8

// Limits on payloads, in bytes.
const (
	MaxData    = 32 << 10 // of Input and Output
	MaxPayload = 2 << 20  // of any message
)

// MaxDescriptors is how many descriptors one message can carry (SCM_MAX_FD).
const MaxDescriptors = 253

// Type is a message's type.
type Type uint8

const (
	// Hello opens a connection: payload Version as uint32. Reply: Welcome.
	Hello Type = 1 + iota
	// Welcome tells the shim's version and state: payload Status.
	Welcome
	// Launch starts the container: payload LaunchHeader and a program. Reply: Started or Failed.
	Launch
	// Exec starts a further process: payload LaunchHeader and a program.
	Exec
	// Started carries a pidfd and payload Started.
	Started
	// Failed: payload LaunchResult.
	Failed
	// Attach connects to the container's streams; Header.Arg is a set of Stream*. Reply: Done.
	Attach
	// Output is data from the process; Header.Arg is StreamStdout or StreamStderr.
	Output
	// OutputEnd: no more Output will come.
	OutputEnd
	// Input is data for the process's standard input.
	Input
	// InputEnd: no more Input will come.
	InputEnd
	// Exited tells the end of a process: payload Exit.
	Exited
	// Resize sets a terminal's size: payload ResizeRequest. Reply: Done.
	Resize
	// CloseStdin closes the standard input of the exec named in the payload, or
	// of the container if that is empty. Reply: Done.
	CloseStdin
	// ExecStatus asks for the exec named in the payload. Reply: Welcome, or Done with ENOENT.
	ExecStatus
	// Quit lets the shim end. It removes nothing. Reply: Done, then the connection closes.
	Quit
	// Done is a reply: payload errno as uint32, 0 for success.
	Done
	// Reset makes a shim whose container has ended idle again. It forgets the container and closes all
	// connections but this one. Reply: Done; with EBUSY the shim is not idle, and ends.
	Reset
)

// Streams in Header.Arg.
const (
	StreamStdin  = 1
	StreamStdout = 2
	StreamStderr = 4
)

// Header precedes each payload.
type Header struct {
	Length uint32
	Type   Type
	Arg    uint8
}

// ErrMalformed is what decoders return for bytes that are not a message.
var ErrMalformed = errors.New("wire: malformed message")

var le = binary.LittleEndian

// Append appends h to b.
func (h Header) Append(b []byte) []byte {
	b = le.AppendUint32(b, h.Length)
	return append(b, byte(h.Type), h.Arg, 0, 0)
}

// ParseHeader decodes a header; b has HeaderSize bytes.
func ParseHeader(b []byte) (Header, error) {
	if len(b) != HeaderSize {
		return Header{}, ErrMalformed
	}
	h := Header{Length: le.Uint32(b), Type: Type(b[4]), Arg: b[5]}
	if h.Type < Hello || h.Type > Reset || h.Length > MaxPayload {
		return Header{}, ErrMalformed
	}
	if (h.Type == Input || h.Type == Output) && h.Length > MaxData {
		return Header{}, ErrMalformed
	}
	return h, nil
}

// Flags of LaunchHeader.
const (
	// TTY: the program sends a terminal's master to the console socket.
	TTY = 1 << iota
	// HasStdin: a descriptor for standard input follows.
	HasStdin
	// StdinOnce: standard input is closed when the first attachment that has it leaves.
	StdinOnce
	// HasLog: a descriptor of the log's directory follows.
	HasLog
	// LateUnmount: what the process has mounted may be unmounted after its end has been told.
	LateUnmount
	// Bound: an exec is killed, with its process group, when the connection that started it ends.
	Bound
	// Made: the program executes a command that makes the process and ends, an OCI runtime's create or exec. The
	// process, a child of the shim by then, is the one whose number the command has written to the file "pid"
	// (for an exec ID.pid) of the state directory. With TTY the console socket is one that listens.
	Made
)

// Steps of a LaunchResult that are no steps of the program, besides package fork's: what went wrong with a command.
const (
	// StepCommand: it ended with the wait status that the Note of this step has.
	StepCommand = -3
	// StepPID: it left no number of a child of the shim.
	StepPID = -4
)

// LaunchHeader precedes a program in Launch and Exec. The message's descriptors are, in
// this order: for Launch the listening socket and the state directory; the
// log directory if HasLog; the console socket if TTY; else the read ends of
// stdout and stderr and, if HasStdin, the write end of stdin; then the program's.
type LaunchHeader struct {
	Flags       uint32
	LogMaxBytes uint64
	LogMaxFiles uint32
	// LogName is the log's file name in its directory.
	LogName string
	// ID is the container's or the exec's.
	ID string
}

// Append appends h to b.
func (h LaunchHeader) Append(b []byte) []byte {
	b = le.AppendUint32(b, h.Flags)
	b = le.AppendUint64(b, h.LogMaxBytes)
	b = le.AppendUint32(b, h.LogMaxFiles)
	b = appendString(b, h.LogName)
	b = appendString(b, h.ID)
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	return b
}

// ParseLaunch decodes the header and returns the program that follows it.
func ParseLaunch(b []byte) (h LaunchHeader, program []byte, err error) {
	all := len(b)
	if len(b) < 16 {
		return h, nil, ErrMalformed
	}
	h.Flags, h.LogMaxBytes, h.LogMaxFiles = le.Uint32(b), le.Uint64(b[4:]), le.Uint32(b[12:])
	b = b[16:]
	if h.LogName, b, err = cutString(b); err != nil {
		return h, nil, err
	}
	if h.ID, b, err = cutString(b); err != nil {
		return h, nil, err
	}
	for (all-len(b))%8 != 0 {
		if len(b) == 0 {
			return h, nil, ErrMalformed
		}
		b = b[1:]
	}
	return h, b, nil
}

// Descriptors is how many descriptors h announces before the program's.
func (h LaunchHeader) Descriptors(launch bool) int {
	n := 0
	if launch {
		n = 2
	}
	if h.Flags&HasLog != 0 {
		n++
	}
	switch {
	case h.Flags&TTY != 0:
		n++
	case h.Flags&HasStdin != 0:
		n += 3
	default:
		n += 2
	}
	return n
}

// Exit tells how a process ended.
type Exit struct {
	// Status is wait(2)'s.
	Status uint32
	// At is in nanoseconds since 1970.
	At int64
}

// Append appends e to b.
func (e Exit) Append(b []byte) []byte {
	b = le.AppendUint32(b, e.Status)
	return le.AppendUint64(b, uint64(e.At))
}

// ParseExit decodes an Exit.
func ParseExit(b []byte) (Exit, error) {
	if len(b) != 12 {
		return Exit{}, ErrMalformed
	}
	return Exit{Status: le.Uint32(b), At: int64(le.Uint64(b[4:]))}, nil
}

// State is where a container or exec is.
type State uint8

const (
	Idle State = iota
	Running
	Ended
)

// Status is Welcome's payload.
type Status struct {
	Version uint32
	State   State
	PID     uint32
	Exit    Exit
	// LostBytes is how much log was dropped because it could not be written.
	LostBytes uint64
}

// Append appends s to b.
func (s Status) Append(b []byte) []byte {
	b = le.AppendUint32(b, s.Version)
	b = append(b, byte(s.State), 0, 0, 0)
	b = le.AppendUint32(b, s.PID)
	b = s.Exit.Append(b)
	return le.AppendUint64(b, s.LostBytes)
}

// ParseStatus decodes a Status. Bytes that a newer version appends are ignored.
func ParseStatus(b []byte) (Status, error) {
	if len(b) < 32 {
		return Status{}, ErrMalformed
	}
	s := Status{Version: le.Uint32(b), State: State(b[4]), PID: le.Uint32(b[8:]), LostBytes: le.Uint64(b[24:])}
	var err error
	s.Exit, err = ParseExit(b[12:24])
	return s, err
}

// LaunchResult is the payload of Started and Failed.
type LaunchResult struct {
	PID int32
	// Step and Errno say what failed, see fork.Result. Errno is 0 in Started.
	Step  int32
	Errno uint32
	// Notes are the tolerated errors of steps.
	Notes []Note
}

// Note is a tolerated error of a step.
type Note struct{ Step, Errno int32 }

// Append appends r to b.
func (r LaunchResult) Append(b []byte) []byte {
	b = le.AppendUint32(b, uint32(r.PID))
	b = le.AppendUint32(b, uint32(r.Step))
	b = le.AppendUint32(b, r.Errno)
	for _, n := range r.Notes {
		b = le.AppendUint32(b, uint32(n.Step))
		b = le.AppendUint32(b, uint32(n.Errno))
	}
	return b
}

// ParseLaunchResult decodes a LaunchResult.
func ParseLaunchResult(b []byte) (LaunchResult, error) {
	if len(b) < 12 || len(b)%8 != 4 {
		return LaunchResult{}, ErrMalformed
	}
	r := LaunchResult{PID: int32(le.Uint32(b)), Step: int32(le.Uint32(b[4:])), Errno: le.Uint32(b[8:])}
	for b = b[12:]; len(b) > 0; b = b[8:] {
		r.Notes = append(r.Notes, Note{int32(le.Uint32(b)), int32(le.Uint32(b[4:]))})
	}
	return r, nil
}

// ResizeRequest is the payload of Resize.
type ResizeRequest struct {
	Width, Height uint16
	// ID is an exec's, or empty for the container.
	ID string
}

// Append appends r to b.
func (r ResizeRequest) Append(b []byte) []byte {
	b = le.AppendUint16(b, r.Width)
	b = le.AppendUint16(b, r.Height)
	return append(b, r.ID...)
}

// ParseResize decodes a ResizeRequest.
func ParseResize(b []byte) (ResizeRequest, error) {
	if len(b) < 4 {
		return ResizeRequest{}, ErrMalformed
	}
	return ResizeRequest{Width: le.Uint16(b), Height: le.Uint16(b[2:]), ID: string(b[4:])}, nil
}

// AppendUint32 appends v, as Hello and Done carry it.
func AppendUint32(b []byte, v uint32) []byte { return le.AppendUint32(b, v) }

// ParseUint32 decodes what AppendUint32 wrote.
func ParseUint32(b []byte) (uint32, error) {
	if len(b) < 4 {
		return 0, ErrMalformed
	}
	return le.Uint32(b), nil
}

func appendString(b []byte, s string) []byte {
	b = le.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

func cutString(b []byte) (string, []byte, error) {
	if len(b) < 2 {
		return "", nil, ErrMalformed
	}
	n := int(le.Uint16(b))
	if len(b) < 2+n {
		return "", nil, ErrMalformed
	}
	return string(b[2 : 2+n]), b[2+n:], nil
}
