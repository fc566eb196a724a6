package kernel_test

import (
	"testing"

	"novaagent/engine/kernel"
	"novaagent/tests/need"
)

func TestFeatures(t *testing.T) {
	need.Root(t)
	for _, f := range kernel.Features() {
		t.Logf("%s %s: %v", f.Name, f.Detail, f.Err)
		if f.Needed && f.Err != nil {
			t.Errorf("%s: %v", f.Name, f.Err)
		}
		if f.Without == "" {
			t.Errorf("%s: nothing is said of what needs it", f.Name)
		}
	}
}
