package neutron

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"novaagent/engine/errdefs"
)

// Error is a failure that Nova has an exception class for. The class is wire
// format: it ends up in an instance's fault and in RPC replies.
type Error struct {
	Class   string // of nova.exception
	Message string
	Kind    error // of errdefs
	Cause   error // what Neutron answered, for the log; may be nil
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// Unwrap gives the kind. The cause isn't part of the chain: its kind is
// another one (a network that is not there is not our caller's ErrNotFound).
func (e *Error) Unwrap() error { return e.Kind }

// RemoteClass names the exception for an RPC reply.
func (e *Error) RemoteClass() (module, class string) { return "nova.exception", e.Class }

// Is makes errors.Is(err, &Error{Class: "PortInUse"}) match by class.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Class == e.Class
}

// HasClass reports whether err is an Error of one of the classes.
func HasClass(err error, classes ...string) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	for _, c := range classes {
		if e.Class == c {
			return true
		}
	}
	return false
}

// The classes of nova.exception that come from here.
const (
	ClassExternalNetworkAttachForbidden    = "ExternalNetworkAttachForbidden"
	ClassFixedIPAlreadyInUse               = "FixedIpAlreadyInUse"
	ClassFixedIPInvalidOnHost              = "FixedIpInvalidOnHost"
	ClassFixedIPNotFoundForInstance        = "FixedIpNotFoundForInstance"
	ClassInterfaceAttachFailedNoNetwork    = "InterfaceAttachFailedNoNetwork"
	ClassInvalidInput                      = "InvalidInput"
	ClassNetworkAmbiguous                  = "NetworkAmbiguous"
	ClassNetworkNotFound                   = "NetworkNotFound"
	ClassNetworkNotFoundForInstance        = "NetworkNotFoundForInstance"
	ClassNetworksWithQoSPolicyNotSupported = "NetworksWithQoSPolicyNotSupported"
	ClassNeutronAdminCredentialInvalid     = "NeutronAdminCredentialConfigurationInvalid"
	ClassNoMoreFixedIPs                    = "NoMoreFixedIps"
	ClassNoUniqueMatch                     = "NoUniqueMatch"
	ClassPortBindingActivationFailed       = "PortBindingActivationFailed"
	ClassPortBindingDeletionFailed         = "PortBindingDeletionFailed"
	ClassPortBindingFailed                 = "PortBindingFailed"
	ClassPortInUse                         = "PortInUse"
	ClassPortLimitExceeded                 = "PortLimitExceeded"
	ClassPortNotFound                      = "PortNotFound"
	ClassPortNotUsable                     = "PortNotUsable"
	ClassPortNotUsableDNS                  = "PortNotUsableDNS"
	ClassPortUpdateFailed                  = "PortUpdateFailed"
	ClassSecurityGroupCannotBeApplied      = "SecurityGroupCannotBeApplied"
	ClassSecurityGroupNotFound             = "SecurityGroupNotFound"
	ClassUnableToAutoAllocateNetwork       = "UnableToAutoAllocateNetwork"
	ClassUnauthorized                      = "Unauthorized"
	ClassForbidden                         = "Forbidden"
	ClassPciDeviceNotFound                 = "PciDeviceNotFound"
)

func fail(class string, kind, cause error, format string, args ...any) *Error {
	return &Error{Class: class, Kind: kind, Cause: cause, Message: fmt.Sprintf(format, args...)}
}

// APIError is an answer of Neutron that says no.
type APIError struct {
	Method, Path string
	Status       int
	Type         string // NeutronError.type, such as "IpAddressInUse"; may be empty
	Message      string
	RequestID    string
}

// Error implements error.
func (e *APIError) Error() string {
	s := fmt.Sprintf("neutron: %s %s: %d", e.Method, e.Path, e.Status)
	if e.Type != "" {
		s += " " + e.Type
	}
	if e.Message != "" {
		s += ": " + e.Message
	}
	if e.RequestID != "" {
		s += " (" + e.RequestID + ")"
	}
	return s
}

// Unwrap gives the kind of the status.
func (e *APIError) Unwrap() error {
	switch {
	case e.Type == "OverQuota":
		return errdefs.ErrConflict
	case e.Status == http.StatusNotFound:
		return errdefs.ErrNotFound
	case e.Status == http.StatusConflict, e.Status == http.StatusPreconditionFailed:
		return errdefs.ErrConflict
	case e.Status == http.StatusTooManyRequests, e.Status == http.StatusRequestTimeout, e.Status >= 500:
		return errdefs.ErrUnavailable
	default:
		return errdefs.ErrInvalid
	}
}

// neutronType is the NeutronError.type of err, "" if Neutron said nothing of the kind.
func neutronType(err error) string {
	var e *APIError
	if errors.As(err, &e) {
		return e.Type
	}
	return ""
}

func isStatus(err error, status int) bool {
	var e *APIError
	return errors.As(err, &e) && e.Status == status
}

// translate gives the refusals of credentials Nova's classes, as Nova's
// ClientWrapper does, and leaves everything else alone.
func translate(err error, admin bool) error {
	var e *APIError
	if err == nil || !errors.As(err, &e) || errors.Is(err, context.Canceled) {
		return err
	}
	switch {
	case e.Status == http.StatusUnauthorized && admin:
		return fail(ClassNeutronAdminCredentialInvalid, errdefs.ErrUnavailable, err,
			"Networking client is experiencing an unauthorized exception.")
	case e.Status == http.StatusUnauthorized:
		return fail(ClassUnauthorized, errdefs.ErrInvalid, err, "Not authorized.")
	case e.Status == http.StatusForbidden:
		return fail(ClassForbidden, errdefs.ErrInvalid, err, "%s", e.Message)
	}
	return err
}
