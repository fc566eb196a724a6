package e2e

import (
	"net/http"
	"testing"
)

// TestBrokerRestart: RabbitMQ goes away and comes back while servers boot. Each
// boot ends, ACTIVE or in ERROR (a message that the broker had taken and lost is
// lost), and the agent serves on.
func TestBrokerRestart(t *testing.T) {
	c := openCluster(t)
	checkLeaks(t, c)
	var servers []*server
	for range 3 {
		servers = append(servers, c.create(t, bootOptions{}))
	}
	c.control(t, "service", "stop", "rabbitmq")
	c.control(t, "service", "start", "rabbitmq")
	c.waitAgent(t)
	after := c.boot(t, bootOptions{})
	if got := after.addresses("private"); len(got) != 1 {
		t.Errorf("addresses after the restart: %v", got)
	}
	for _, s := range servers {
		s.delete()
	}
}

// TestServiceAway: a service that a boot needs does not answer. The boot fails
// with a fault that says so, nothing stays behind, and with the service back
// the next boot works.
func TestServiceAway(t *testing.T) {
	c := openCluster(t)
	for _, tt := range []struct {
		service string
		options bootOptions
	}{
		{"glance-api", bootOptions{Image: "away", Networks: []object{}}},
		{"neutron-server", bootOptions{}},
	} {
		t.Run(tt.service, func(t *testing.T) {
			checkLeaks(t, c)
			if tt.options.Image != "" { // one that no cache has
				c.upload(t, tt.options.Image, "docker", dockerArchive(t, []string{"/bin/sleep", "1000"}))
			}
			request := c.request(t, tt.options)
			// nova-api asks Glance and Neutron itself before it accepts a request, so
			// the service goes away between that and the compute service: the agent
			// is held meanwhile.
			resume := c.holdAgent(t)
			s := c.post(t, request)
			eventually(t, settle, "the scheduler to have chosen", func() bool { return c.allocated(t, s.ID) })
			c.control(t, "service", "stop", tt.service)
			t.Cleanup(func() { c.control(t, "service", "start", tt.service) })
			resume()
			eventually(t, settle, "the build to have ended", s.buildEnded)
			c.control(t, "service", "start", tt.service)
			s.wait("ERROR")
			t.Logf("fault: %s", s.fault())
			s.delete()
			c.boot(t, tt.options)
		})
	}
}

// TestPlacementAway: the agent lives through it.
func TestPlacementAway(t *testing.T) {
	c := openCluster(t)
	checkLeaks(t, c)
	s := c.boot(t, bootOptions{Networks: []object{}})
	c.control(t, "service", "stop", "placement")
	t.Cleanup(func() { c.control(t, "service", "start", "placement") })
	s.mustAction("os-stop", nil)
	s.wait("SHUTOFF")
	s.mustAction("os-start", nil)
	s.wait("ACTIVE")
	c.control(t, "service", "start", "placement")
	c.boot(t, bootOptions{Networks: []object{}})
}

// buildEnded tells whether the event of the build has. Nova's API answers that without
// Neutron, unlike the server itself.
func (s *server) buildEnded() bool {
	s.t.Helper()
	for _, action := range s.c.admin.list(s.t, s.url()+"/os-instance-actions", "instanceActions") {
		got := s.c.admin.must(s.t, http.MethodGet, s.url()+"/os-instance-actions/"+action["request_id"].(string), nil)["instanceAction"].(object)
		for _, e := range got["events"].([]any) {
			event := e.(object)
			if event["event"] == "compute__do_build_and_run_instance" && event["result"] != nil {
				return true
			}
		}
	}
	return false
}

// allocated tells whether Placement has an allocation for a server.
func (c *cluster) allocated(t testing.TB, id string) bool {
	t.Helper()
	got := c.admin.must(t, http.MethodGet, placementURL+"/allocations/"+id, nil)
	return len(got["allocations"].(object)) > 0
}
