package conductor

import (
	"errors"
	"fmt"
	"strings"

	"novaagent/engine/errdefs"
	"novaagent/nova-agent/rpc"
)

// Class is the name of an exception that conductor answers with. It is an error so
// that errors.Is finds it in a Failure; the subclasses of Nova's class count too.
type Class string

// Error implements error.
func (c Class) Error() string { return string(c) }

// The classes that a compute service must recognise (nova/exception.py).
const (
	ErrInstanceNotFound        = Class("InstanceNotFound")
	ErrInstanceUpdateConflict  = Class("InstanceUpdateConflict") // any of the next three
	ErrUnexpectedTaskState     = Class("UnexpectedTaskStateError")
	ErrUnexpectedDeletingState = Class("UnexpectedDeletingTaskStateError") // the user deleted it meanwhile
	ErrUnknownUpdateConflict   = Class("UnknownInstanceUpdateConflict")
	ErrInfoCacheNotFound       = Class("InstanceInfoCacheNotFound")
	ErrActionNotFound          = Class("InstanceActionNotFound") // the request ID has no action
	ErrActionEventNotFound     = Class("InstanceActionEventNotFound")
	ErrComputeHostNotFound     = Class("ComputeHostNotFound")
	ErrHostBinaryNotFound      = Class("HostBinaryNotFound")
	ErrServiceNotFound         = Class("ServiceNotFound")
	ErrServiceTooOld           = Class("ServiceTooOld")
	ErrServiceTopicExists      = Class("ServiceTopicExists")
	ErrServiceBinaryExists     = Class("ServiceBinaryExists")
	ErrVolumeBDMNotFound       = Class("VolumeBDMNotFound")
	ErrMigrationNotFound       = Class("MigrationNotFound")
	ErrInstanceGroupNotFound   = Class("InstanceGroupNotFound")
	ErrObjectAction            = Class("ObjectActionError")
	ErrDuplicateRecord         = Class("DuplicateRecord") // since 2023.1
	ErrTokenInUse              = Class("TokenInUse")
	// Of oslo_versionedobjects.exception.
	ErrIncompatibleVersion = Class("IncompatibleObjectVersion")
	ErrUnsupportedObject   = Class("UnsupportedObjectError")
)

// parent is the class that a class is derived from, where that matters here.
func parent(c Class) Class {
	switch c {
	case ErrUnexpectedDeletingState:
		return ErrUnexpectedTaskState
	case ErrUnexpectedTaskState, ErrUnknownUpdateConflict:
		return ErrInstanceUpdateConflict
	case "MigrationNotFoundByStatus", "MigrationNotFoundForInstance":
		return ErrMigrationNotFound
	case "VolumeBDMPathNotFound":
		return ErrVolumeBDMNotFound
	}
	return ""
}

// kindOf says what a caller can do about a class.
func kindOf(module string, c Class) error {
	switch c {
	case ErrInstanceUpdateConflict, ErrUnexpectedTaskState, ErrUnexpectedDeletingState, ErrUnknownUpdateConflict,
		ErrServiceTopicExists, ErrServiceBinaryExists, ErrObjectAction, ErrDuplicateRecord, ErrTokenInUse:
		return errdefs.ErrConflict
	case ErrServiceTooOld, ErrIncompatibleVersion, ErrUnsupportedObject,
		"NoSuchMethod", "UnsupportedVersion", "NotImplementedError":
		return errdefs.ErrUnsupported
	case "MessagingTimeout", "CellTimeout", "DBConnectionError", "DBDeadlock":
		return errdefs.ErrUnavailable
	}
	switch {
	case strings.Contains(string(c), "NotFound"):
		return errdefs.ErrNotFound
	case strings.HasPrefix(module, "oslo_db"), strings.HasPrefix(module, "pymysql"), strings.HasPrefix(module, "sqlalchemy"):
		return errdefs.ErrUnavailable
	}
	// Conductor did not like what it was told, in a way that nobody foresaw.
	return errdefs.ErrInvalid
}

// Failure is an exception that conductor answered with.
type Failure struct {
	Action string // "Instance.save"
	Remote *rpc.RemoteError
	kind   error
}

// Error implements error.
func (f *Failure) Error() string { return fmt.Sprintf("conductor: %s: %v", f.Action, f.Remote) }

// Unwrap returns the remote error and the kind.
func (f *Failure) Unwrap() []error { return []error{f.Remote, f.kind} }

// Is compares the class, and those it is derived from, with a Class.
func (f *Failure) Is(to error) bool {
	want, ok := to.(Class)
	if !ok {
		return false
	}
	for c := Class(f.Remote.Class); c != ""; c = parent(c) {
		if c == want {
			return true
		}
	}
	return false
}

// failed wraps the error of a call.
func failed(action string, err error) error {
	var remote *rpc.RemoteError
	if errors.As(err, &remote) {
		return &Failure{Action: action, Remote: remote, kind: kindOf(remote.Module, Class(remote.Class))}
	}
	return fmt.Errorf("conductor: %s: %w", action, err)
}

// IsNotFound says whether conductor did not find what was asked for, whatever it
// was. Use errors.Is with a Class to know what.
func IsNotFound(err error) bool { return errors.Is(err, errdefs.ErrNotFound) }

// IsDeleting says whether a save was refused because the instance is being deleted
// or is gone: stop, undo, record neither fault nor error.
func IsDeleting(err error) bool {
	return errors.Is(err, ErrUnexpectedDeletingState) || errors.Is(err, ErrInstanceNotFound)
}
