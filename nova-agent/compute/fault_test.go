package compute

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"novaagent/engine/errdefs"
	"novaagent/imagebridge"
	"novaagent/nova-agent/neutron"
	"novaagent/nova-agent/rpc"
)

func nova(class, message string) error {
	return fmt.Errorf("conductor: Instance.save: %w", &rpc.RemoteError{Module: novaModule, Class: class, Message: message})
}

const someImage = "00841d5b-1aa6-4103-8184-d7269f999b8e"

func broken(r imagebridge.Reason, err error) error {
	return imageError(someImage, &imagebridge.Error{Reason: r, ImageID: someImage, Name: "web", Err: err})
}

func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want verdict
		why  string
	}{
		{"deleted meanwhile", nova(classUnexpectedDeleting, "x"), verdictGone, "x"},
		{"gone", nova(classInstanceNotFound, "x"), verdictGone, "x"},
		{"taken over", &goneError{nova(classUnexpectedTask, "x")}, verdictGone, "x"},
		{"another task", nova(classUnexpectedTask, "expected a, actual b"), verdictAbort, "expected a, actual b"},
		{"no room", fmt.Errorf("container x: no id range: %w", errdefs.ErrExhausted), verdictReschedule, "container x: no id range"},
		{"no resources", &Exception{Class: classResourcesUnavailable, Message: "Insufficient compute resources: y."}, verdictReschedule, "Insufficient compute resources: y."},
		{"affinity", &Exception{Class: classGroupAffinity, Message: "z"}, verdictPolicy, "z"},
		{"no addresses", &neutron.Error{Class: classNoMoreFixedIPs, Message: "No fixed IP addresses available for network: n", Kind: errdefs.ErrExhausted}, verdictAbort,
			"Failed to allocate the network(s), not rescheduling: No fixed IP addresses available for network: n"},
		{"not plugged", &Exception{Class: classVIFCreate, Message: "Virtual Interface creation failed: late"}, verdictAbort,
			"Failed to allocate the network(s), not rescheduling: Virtual Interface creation failed: late"},
		{"a port in use", &neutron.Error{Class: "PortInUse", Message: "Port p is still in use.", Kind: errdefs.ErrConflict}, verdictReschedule, "Port p is still in use."},
		{"no such image", broken(imagebridge.NotFound, errdefs.ErrNotFound), verdictAbort, "Image " + someImage + " could not be found."},
		{"a lying image", broken(imagebridge.Corrupt, fmt.Errorf("sha512 is a, Glance says b: %w", errdefs.ErrInvalid)), verdictAbort,
			"Image " + someImage + " is unacceptable: sha512 is a, Glance says b"},
		{"too large an image", broken(imagebridge.TooLarge, fmt.Errorf("unpacked it takes 2 bytes, the disk is to have 1: %w", errdefs.ErrInvalid)), verdictAbort,
			"Flavor's disk is too small for image " + someImage + ": unpacked it takes 2 bytes, the disk is to have 1"},
		{"Glance away", broken(imagebridge.Unavailable, fmt.Errorf("no answer: %w", errdefs.ErrUnavailable)), verdictReschedule,
			"image " + someImage + ` ("web"): no answer`},
		{"a full disk", broken(imagebridge.NoSpace, fmt.Errorf("no space left: %w", errdefs.ErrExhausted)), verdictReschedule,
			"image " + someImage + ` ("web"): no space left`},
		{"no command", imageError(someImage, fmt.Errorf("the image has no command: %w", errdefs.ErrInvalid)), verdictAbort,
			"Image " + someImage + " is unacceptable: the image has no command"},
		{"the kernel lacks something", fmt.Errorf("quota: %w", errdefs.ErrUnsupported), verdictReschedule, "quota"},
		{"Neutron away", fmt.Errorf("neutron: GET /networks: connection refused: %w", errdefs.ErrUnavailable), verdictReschedule, "neutron: GET /networks: connection refused"},
		{"anything else", errors.New("boom"), verdictReschedule, "boom"},
		{"aborted here", buildAbort("u", "volumes", nil), verdictAbort, "Build of instance u aborted: volumes"},
	} {
		v, why := judge(tt.err)
		if v != tt.want || why != tt.why {
			t.Errorf("%s: got %d %q, want %d %q", tt.name, v, why, tt.want, tt.why)
		}
	}
}

func TestFault(t *testing.T) {
	for _, tt := range []struct {
		err     error
		code    int
		message string
	}{
		{&Exception{Class: "X", Code: 404, Message: "gone"}, 404, "gone"},
		{fmt.Errorf("a: %w", &Exception{Class: "X", Message: "m"}), 500, "m"},
		{nova("Y", "what Nova says"), 500, "what Nova says"},
		{&neutron.Error{Class: "PortInUse", Message: "Port p is still in use."}, 500, "Port p is still in use."},
		{fmt.Errorf("container x: no room: %w", errdefs.ErrExhausted), 500, "container x: no room"},
		{errors.New("open /var/lib/secret: denied"), 500, "InternalError"},
	} {
		code, message := fault(tt.err)
		if code != tt.code || message != tt.message {
			t.Errorf("%v: got %d %q, want %d %q", tt.err, code, message, tt.code, tt.message)
		}
	}
}

// TestFaultNamesTheImage: what a user reads of a bad image has the image and the reason, in
// the 255 bytes that Nova has room for.
func TestFaultNamesTheImage(t *testing.T) {
	uuid := "5cff12f2-8833-4c6e-b40a-02b85eaed0f0"
	cause := fmt.Errorf("layer 3 of 7: the tar ends in the middle of a file: %w", errdefs.ErrInvalid)
	_, why := judge(broken(imagebridge.BadContent, cause))
	_, message := fault(buildAbort(uuid, why, nil))
	for _, part := range []string{uuid, someImage, "the tar ends in the middle of a file"} {
		if !strings.Contains(message, part) {
			t.Errorf("%q does not name %q", message, part)
		}
	}
	if len(message) > maxFault {
		t.Errorf("%d bytes", len(message))
	}
}

func TestContainerError(t *testing.T) {
	id := containerID(someUUID)
	for _, text := range []string{
		"start container instance-" + someUUID + ": container " + id + ": start: exec \"/x\": no such file or directory",
		"container " + id[:12] + ": exec \"/x\": no such file or directory",
	} {
		err := containerError(someImage, someUUID, fmt.Errorf("%s: %w", text, errdefs.ErrInvalid))
		if want := "Image " + someImage + " is unacceptable: exec \"/x\": no such file or directory"; err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
	}
	if err := errors.New("x"); containerError(someImage, someUUID, err) != err {
		t.Error("a fault of the host's is the image's")
	}
}

func TestTruncate(t *testing.T) {
	for _, s := range []string{"", "abc", strings.Repeat("é", 200), strings.Repeat("x", 254) + "€", strings.Repeat("𝄞", 100)} {
		got := truncate(s, maxFault)
		if len(got) > maxFault || !utf8.ValidString(got) || !strings.HasPrefix(s, got) || len(s) <= maxFault && got != s {
			t.Errorf("%q of %d bytes became %q of %d", s, len(s), got, len(got))
		}
	}
}

func TestAsAbort(t *testing.T) {
	failure := broken(imagebridge.NotActive, errdefs.ErrConflict)
	_, why := judge(failure)
	module, class := remoteClass(asAbort("u", failure, why))
	if module != novaModule || class != "ImageNotActive" && class != classBuildAbort {
		t.Errorf("got %s.%s", module, class)
	}
}
