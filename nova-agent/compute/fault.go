package compute

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"novaagent/engine/errdefs"
	"novaagent/imagebridge"
	"novaagent/nova-agent/rpc"
)

// Exception is a failure that Nova has a class for. Class names and message
// formats are those of nova/exception.py; they are wire format.
type Exception struct {
	Module  string // "nova.exception" if empty
	Class   string
	Message string // as the class formats it
	// Code is what the fault shows: 500 if 0.
	Code int
	// Kind is of errdefs; Cause is what happened, for the log. Either may be nil.
	Kind  error
	Cause error
}

// Error implements error.
func (e *Exception) Error() string { return e.Message }

// Unwrap gives the kind. The cause is not part of the chain, since its kind is another one.
func (e *Exception) Unwrap() error { return e.Kind }

// RemoteClass names the exception in an RPC reply (CONTRACT 1.6).
func (e *Exception) RemoteClass() (module, class string) {
	if e.Module == "" {
		return novaModule, e.Class
	}
	return e.Module, e.Class
}

const (
	novaModule     = "nova.exception"
	builtinsModule = "builtins"
)

// remoteClass is the class that err has for Nova, "" if it has none: that of an Exception,
// of an error of the neutron package, or of one that came from another service.
func remoteClass(err error) (module, class string) {
	var named interface{ RemoteClass() (string, string) }
	if errors.As(err, &named) {
		return named.RemoteClass()
	}
	return "", ""
}

// isClass says that err has one of those classes of nova.exception.
func isClass(err error, classes ...string) bool {
	module, class := remoteClass(err)
	if module != novaModule {
		return false
	}
	for _, c := range classes {
		if c == class {
			return true
		}
	}
	return false
}

// Classes that decide what happens next.
const (
	classBuildAbort            = "BuildAbortException"
	classRescheduled           = "RescheduledException"
	classRescheduledByPolicy   = "RescheduledByPolicyException"
	classResourcesUnavailable  = "ComputeResourcesUnavailable"
	classGroupAffinity         = "GroupAffinityViolation"
	classInstanceNotFound      = "InstanceNotFound"
	classUnexpectedTask        = "UnexpectedTaskStateError"
	classUnexpectedDeleting    = "UnexpectedDeletingTaskStateError"
	classNoMoreFixedIPs        = "NoMoreFixedIps"
	classImageUnacceptable     = "ImageUnacceptable"
	classImageNotFound         = "ImageNotFound"
	classVIFCreate             = "VirtualInterfaceCreateException"
	classInvalidBDM            = "InvalidBDM"
	classPreCheck              = "MigrationPreCheckError"
	classInfoCacheNotFound     = "InstanceInfoCacheNotFound"
	classComputeHostNotFound   = "ComputeHostNotFound"
	classServiceNotFound       = "ServiceNotFound"
	classServiceTooOld         = "ServiceTooOld"
	classServiceTopicExists    = "ServiceTopicExists"
	classServiceBinaryExists   = "ServiceBinaryExists"
	classInstanceActionMissing = "InstanceActionNotFound"
	classInstanceGroupNotFound = "InstanceGroupNotFound"
	classVolumeBDMNotFound     = "VolumeBDMNotFound"
)

// disappeared says that the instance was deleted while something was done to it:
// stop, leave no fault, let terminate follow.
func disappeared(err error) bool { return isClass(err, classInstanceNotFound, classUnexpectedDeleting) }

// preempted says that another operation took the instance over.
func preempted(err error) bool {
	return isClass(err, classUnexpectedTask, classUnexpectedDeleting)
}

// notImplemented says that the driver lacks the operation: the API answers 501.
func notImplemented(format string, args ...any) *Exception {
	return &Exception{Module: builtinsModule, Class: "NotImplementedError", Kind: errdefs.ErrUnsupported,
		Message: fmt.Sprintf(format, args...)}
}

func buildAbort(uuid string, reason string, cause error) *Exception {
	return &Exception{Class: classBuildAbort, Kind: errdefs.ErrInvalid, Cause: cause,
		Message: fmt.Sprintf("Build of instance %s aborted: %s", uuid, reason)}
}

func preCheckError(format string, args ...any) *Exception {
	return &Exception{Class: classPreCheck, Kind: errdefs.ErrUnsupported,
		Message: "Migration pre-check error: " + fmt.Sprintf(format, args...)}
}

// imageReasons gives what is wrong with an image the class that Nova has for it. A reason that
// is not here is no fault of the image: Glance does not answer, or the disk is full.
var imageReasons = map[imagebridge.Reason]struct {
	class, format string
	code          int
}{
	imagebridge.NotFound:   {classImageNotFound, "Image %s could not be found.", 404},
	imagebridge.Forbidden:  {"ImageNotAuthorized", "Not authorized for image %s.", 403},
	imagebridge.NotActive:  {"ImageNotActive", "Image %s is not active.", 400},
	imagebridge.BadFormat:  {classImageUnacceptable, "Image %s is unacceptable: ", 400},
	imagebridge.BadContent: {classImageUnacceptable, "Image %s is unacceptable: ", 400},
	imagebridge.NoData:     {classImageUnacceptable, "Image %s is unacceptable: ", 400},
	imagebridge.Corrupt:    {classImageUnacceptable, "Image %s is unacceptable: ", 400},
	imagebridge.TooLarge:   {"FlavorDiskSmallerThanImage", "Flavor's disk is too small for image %s: ", 400},
}

// imageError tells what is wrong with an image, naming it. What is no fault of the image stays what it is.
func imageError(imageID string, err error) error {
	if err == nil || remoteOf(err) {
		return err
	}
	var bridge *imagebridge.Error
	if errors.As(err, &bridge) {
		row, ok := imageReasons[bridge.Reason]
		if !ok {
			return err
		}
		message := fmt.Sprintf(row.format, imageID)
		if strings.HasSuffix(message, " ") {
			message += reason(bridge.Err)
		}
		return &Exception{Class: row.class, Code: row.code, Kind: errdefs.ErrInvalid, Cause: err, Message: message}
	}
	if errors.Is(err, errdefs.ErrInvalid) || errors.Is(err, errdefs.ErrUnsupported) {
		return &Exception{Class: classImageUnacceptable, Code: 400, Kind: errdefs.ErrInvalid, Cause: err,
			Message: fmt.Sprintf("Image %s is unacceptable: %s", imageID, reason(err))}
	}
	return fmt.Errorf("image %s: %w", imageID, err)
}

func remoteOf(err error) bool {
	_, class := remoteClass(err)
	return class != ""
}

// verdict is what becomes of a build after an error.
type verdict int

const (
	verdictReschedule verdict = iota // another host may do it
	verdictPolicy                    // another host must, by a server group's policy
	verdictAbort                     // no host can
	verdictGone                      // the instance is being deleted
)

// buildClasses is the table of nova/compute/manager.py, _build_and_run_instance. What
// it doesn't list is decided by buildKinds. prefix begins the reason that the fault gives;
// plain leaves it at the exception's own message.
var buildClasses = []struct {
	verdict verdict
	prefix  string
	plain   bool
	classes []string
}{
	{verdict: verdictGone, classes: []string{classInstanceNotFound, classUnexpectedDeleting}},
	{verdict: verdictReschedule, plain: true, classes: []string{classResourcesUnavailable}},
	{verdict: verdictPolicy, plain: true, classes: []string{classGroupAffinity}},
	{verdict: verdictAbort, plain: true, classes: []string{
		"FlavorDiskTooSmall", "FlavorDiskSmallerThanImage", "FlavorMemoryTooSmall", "ImageNotActive", "ImageNotAuthorized",
		classImageUnacceptable, classImageNotFound, "InvalidDiskInfo", "InvalidDiskFormat",
		"SignatureVerificationError", "CertificateValidationFailed", "VolumeEncryptionNotSupported",
		"InvalidInput", "RequestedVRamTooHigh", "InstanceUnacceptable", "OverQuota", classInvalidBDM,
		classUnexpectedTask}},
	{verdict: verdictAbort, prefix: "Failed to allocate the network(s), not rescheduling: ", classes: []string{
		classNoMoreFixedIPs, "ExternalNetworkAttachForbidden", classVIFCreate, "VirtualInterfaceMacAddressException",
		"FixedIpInvalidOnHost", "UnableToAutoAllocateNetwork", "NetworksWithQoSPolicyNotSupported"}},
}

// buildKinds decides about errors without a class that Nova's table has.
var buildKinds = []struct {
	kind    error
	verdict verdict
}{
	{errdefs.ErrInvalid, verdictAbort},
	{errdefs.ErrExhausted, verdictReschedule},
	{errdefs.ErrUnavailable, verdictReschedule},
	{errdefs.ErrUnsupported, verdictReschedule},
}

// judge classifies the error of a build (CONTRACT 3.3) and gives the reason for the fault.
func judge(err error) (v verdict, why string) {
	if isClass(err, classBuildAbort) {
		return verdictAbort, err.Error()
	}
	for _, row := range buildClasses {
		if isClass(err, row.classes...) {
			return row.verdict, row.prefix + reason(err)
		}
	}
	if !remoteOf(err) {
		for _, row := range buildKinds {
			if errors.Is(err, row.kind) {
				return row.verdict, reason(err)
			}
		}
	}
	return verdictReschedule, reason(err)
}

// kinds are left out of what users read: they add nothing to the reason.
var kinds = []error{errdefs.ErrInvalid, errdefs.ErrNotFound, errdefs.ErrConflict, errdefs.ErrExhausted,
	errdefs.ErrUnavailable, errdefs.ErrUnsupported}

// reason is the text of err without the kind at its end.
func reason(err error) string {
	text := err.Error()
	var remote *rpc.RemoteError
	if errors.As(err, &remote) {
		return remote.Message
	}
	for _, k := range kinds {
		if tail := ": " + k.Error(); errors.Is(err, k) && len(text) > len(tail) && text[len(text)-len(tail):] == tail {
			return text[:len(text)-len(tail)]
		}
	}
	return text
}

// maxFault is the length of Nova's column instance_faults.message.
const maxFault = 255

// fault is what a user reads of an error: code and message of an exception. Like Nova, it
// shows the text of errors that it knows only.
func fault(err error) (code int, message string) {
	code = 500
	var e *Exception
	if errors.As(err, &e) {
		if e.Code != 0 {
			code = e.Code
		}
		return code, truncate(e.Message, maxFault)
	}
	var remote *rpc.RemoteError
	if errors.As(err, &remote) {
		return code, truncate(remote.Message, maxFault)
	}
	if remoteOf(err) {
		return code, truncate(err.Error(), maxFault)
	}
	for _, k := range kinds {
		if errors.Is(err, k) {
			return code, truncate(reason(err), maxFault)
		}
	}
	return code, "InternalError"
}

// truncate cuts s to at most n bytes without cutting a character in two.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
