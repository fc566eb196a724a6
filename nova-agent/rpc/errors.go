package rpc

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"novaagent/engine/errdefs"
)

// RemoteError is a failure that the other side of a call returned: a Python
// exception. Recognise it with IsRemote. It has no errdefs kind: only the
// caller knows what a class means to it.
type RemoteError struct {
	Class, Module string // "InstanceNotFound", "nova.exception"
	Message       string
	Trace         []string // lines of the Python traceback
	Kwargs        map[string]json.RawMessage
	Args          []json.RawMessage
}

func (e *RemoteError) Error() string {
	if e.Message == "" {
		return e.Class
	}
	return e.Class + ": " + e.Message
}

// RemoteClass makes a remote error pass through a handler unchanged: our caller
// sees the class that we saw.
func (e *RemoteError) RemoteClass() (module, class string) { return e.Module, e.Class }

// IsRemote says whether err is a failure of the other side, of one of the
// classes if any are named ("InstanceNotFound"). Python's subclasses are not
// known here: name each class that may come.
func IsRemote(err error, classes ...string) bool {
	var remote *RemoteError
	if !errors.As(err, &remote) {
		return false
	}
	return len(classes) == 0 || slices.Contains(classes, remote.Class)
}

// Failure is an error of a handler that knows which Python exception it is on
// the wire. Any other error becomes a RuntimeError of builtins, which Nova's
// API turns into HTTP 500.
//
// The receiver builds only classes of builtins and nova.exception; it is
// called with the error's text as only argument.
type Failure interface {
	error
	RemoteClass() (module, class string)
}

// Exception is a Failure made of its parts.
type Exception struct {
	Module, Class string
	Message       string
	Kwargs        map[string]any // the exception's kwargs, such as "code"; may be nil
	Cause         error          // what Unwrap returns; may be nil
}

// NovaException is a Failure of module nova.exception. %w in the format keeps
// a cause.
func NovaException(class, format string, args ...any) *Exception {
	return newException("nova.exception", class, format, args...)
}

// Builtin is a Failure of Python's builtins: NotImplementedError becomes HTTP
// 501.
func Builtin(class, format string, args ...any) *Exception {
	return newException("builtins", class, format, args...)
}

func newException(module, class, format string, args ...any) *Exception {
	text := fmt.Errorf(format, args...)
	return &Exception{Module: module, Class: class, Message: text.Error(), Cause: errors.Unwrap(text)}
}

func (e *Exception) Error() string { return e.Message }

// Unwrap returns the cause.
func (e *Exception) Unwrap() error { return e.Cause }

// RemoteClass implements Failure.
func (e *Exception) RemoteClass() (module, class string) { return e.Module, e.Class }

// TimeoutError says that no reply came in time. The request may have been
// carried out. Its kind is ErrUnavailable.
type TimeoutError struct {
	Target Target
	Method string
	Reason string
}

func (e *TimeoutError) Error() string {
	return fmt.Sprintf("%s of %s: timed out: %s", e.Method, e.Target, e.Reason)
}

// Unwrap gives the error its kind.
func (e *TimeoutError) Unwrap() error { return errdefs.ErrUnavailable }

// Modules of exceptions on the wire.
const (
	moduleBuiltins   = "builtins"
	moduleDispatcher = "oslo_messaging.rpc.dispatcher"
)

func noSuchMethod(method string) error {
	return &Exception{Module: moduleDispatcher, Class: "NoSuchMethod",
		Message: "Endpoint does not support RPC method " + method}
}

func unsupportedVersion(version, method string) error {
	return &Exception{Module: moduleDispatcher, Class: "UnsupportedVersion",
		Message: fmt.Sprintf("Endpoint does not support RPC version %s. Attempted method: %s", version, method)}
}

// wireFailure is the JSON inside "failure"
// (oslo_messaging/_drivers/common.py, serialize_remote_exception).
type wireFailure struct {
	Class   string   `json:"class"`
	Module  string   `json:"module"`
	Message string   `json:"message"`
	Trace   []string `json:"tb"`
	Args    []any    `json:"args"`
	Kwargs  any      `json:"kwargs"`
}

// maxFailureText bounds the text of a failure, in bytes.
const maxFailureText = 16 << 10

// encodeFailure gives the string that a reply carries for a handler's error.
func encodeFailure(err error) string {
	text := strings.ToValidUTF8(err.Error(), "\ufffd")
	if len(text) > maxFailureText {
		text = strings.ToValidUTF8(text[:maxFailureText], "")
	}
	wire := wireFailure{
		Class: "RuntimeError", Module: moduleBuiltins,
		Message: text, Trace: []string{}, Kwargs: struct{}{},
	}
	var failure Failure
	if errors.As(err, &failure) {
		wire.Module, wire.Class = failure.RemoteClass()
	}
	var remote *RemoteError
	if errors.As(err, &remote) {
		wire.Message = remote.Message
		if remote.Kwargs != nil {
			wire.Kwargs = remote.Kwargs
		}
	}
	var exception *Exception
	if errors.As(err, &exception) && len(exception.Kwargs) > 0 {
		wire.Kwargs = exception.Kwargs
	}
	wire.Args = []any{wire.Message}
	raw, jsonErr := json.Marshal(wire)
	if jsonErr != nil { // a keyword argument that JSON cannot express
		wire.Kwargs = struct{}{}
		raw = mustJSON(wire)
	}
	return string(raw)
}

// decodeFailure reads a reply's failure. Something unreadable is still a
// failure: its text becomes the message.
func decodeFailure(text string) *RemoteError {
	var wire struct {
		Class   string                     `json:"class"`
		Module  string                     `json:"module"`
		Message json.RawMessage            `json:"message"`
		Trace   json.RawMessage            `json:"tb"`
		Args    json.RawMessage            `json:"args"`
		Kwargs  map[string]json.RawMessage `json:"kwargs"`
	}
	if err := json.Unmarshal([]byte(text), &wire); err != nil || wire.Class == "" {
		return &RemoteError{Class: "RemoteError", Module: "oslo_messaging.rpc.client", Message: text}
	}
	e := &RemoteError{Class: wire.Class, Module: wire.Module, Kwargs: wire.Kwargs}
	if json.Unmarshal(wire.Message, &e.Message) != nil {
		e.Message = string(wire.Message) // a message object of oslo.i18n, say
	}
	_ = json.Unmarshal(wire.Trace, &e.Trace) // for people only; may be of any shape
	_ = json.Unmarshal(wire.Args, &e.Args)
	// An exception that was remote before keeps its name without the marks
	// that Python's deserialisation put on it.
	e.Class = strings.TrimSuffix(e.Class, "_Remote")
	e.Module = strings.TrimSuffix(e.Module, "_Remote")
	if e.Module == "exceptions" { // Python 2's name
		e.Module = moduleBuiltins
	}
	return e
}
