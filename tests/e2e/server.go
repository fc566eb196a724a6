package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

const settle = 3 * time.Minute

// server is an instance under test. It is deleted when its test ends.
type server struct {
	t    testing.TB
	c    *cluster
	ID   string
	Name string
}

// bootOptions has the fields of POST /servers that tests vary.
type bootOptions struct {
	Image    string // name; "" means "web"
	Flavor   string // name; "" means "c1.tiny"
	Networks []object
	Groups   []string
	Extra    object
}

// create posts a server and does not wait for it.
func (c *cluster) create(t testing.TB, o bootOptions) *server {
	t.Helper()
	return c.post(t, c.request(t, o))
}

// request makes the body of POST /servers.
func (c *cluster) request(t testing.TB, o bootOptions) object {
	t.Helper()
	if o.Image == "" {
		o.Image = "web"
	}
	if o.Flavor == "" {
		o.Flavor = "c1.tiny"
	}
	body := object{
		"name":      strings.ReplaceAll(strings.ToLower(t.Name()), "/", "-"),
		"imageRef":  c.demo.named(t, glanceURL+"/images", "images", o.Image),
		"flavorRef": c.demo.named(t, novaURL+"/flavors", "flavors", o.Flavor),
	}
	if o.Networks == nil {
		o.Networks = []object{{"uuid": c.network(t, "private")}}
	}
	body["networks"] = o.Networks
	if len(o.Networks) == 0 {
		body["networks"] = "none"
	}
	if len(o.Groups) > 0 {
		groups := []object{}
		for _, g := range o.Groups {
			groups = append(groups, object{"name": g})
		}
		body["security_groups"] = groups
	}
	for k, v := range o.Extra {
		body[k] = v
	}
	return body
}

// post sends a request and sees to it that the server is deleted in the end.
func (c *cluster) post(t testing.TB, body object) *server {
	t.Helper()
	made := c.demo.must(t, http.MethodPost, novaURL+"/servers", object{"server": body})["server"].(object)
	s := &server{t: t, c: c, ID: made["id"].(string), Name: body["name"].(string)}
	t.Cleanup(s.delete)
	return s
}

// boot creates a server and waits until it is ACTIVE.
func (c *cluster) boot(t testing.TB, o bootOptions) *server {
	t.Helper()
	s := c.create(t, o)
	s.wait("ACTIVE")
	return s
}

func (s *server) url() string { return novaURL + "/servers/" + s.ID }

// show returns the record as an admin sees it, or nil if there is none.
func (s *server) show() object {
	s.t.Helper()
	got, err := s.c.admin.do(http.MethodGet, s.url(), nil)
	if isStatus(err, http.StatusNotFound) {
		return nil
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return got["server"].(object)
}

// wait waits for a status with no task under way.
func (s *server) wait(status string) object {
	s.t.Helper()
	var last object
	eventually(s.t, settle, "server "+s.ID+" "+status, func() bool {
		last = s.show()
		if last == nil {
			s.t.Fatalf("server %s is gone; want %s", s.ID, status)
		}
		if last["status"] == "ERROR" && status != "ERROR" {
			s.t.Fatalf("server %s is in ERROR: %s", s.ID, faultOf(last))
		}
		return last["status"] == status && last["OS-EXT-STS:task_state"] == nil
	})
	return last
}

// fault returns the fault message of a server in ERROR.
func (s *server) fault() string {
	s.t.Helper()
	return faultOf(s.show())
}

func faultOf(record object) string {
	fault, _ := record["fault"].(object)
	return fmt.Sprint(fault["message"], " ", fault["details"])
}

// action posts to /servers/ID/action and returns the answer.
func (s *server) action(name string, body any) (object, error) {
	return s.c.demo.do(http.MethodPost, s.url()+"/action", object{name: body})
}

func (s *server) mustAction(name string, body any) object {
	s.t.Helper()
	got, err := s.action(name, body)
	if err != nil {
		s.t.Fatal(err)
	}
	return got
}

// delete deletes the server and waits until Nova knows it no more.
func (s *server) delete() {
	s.t.Helper()
	_, err := s.c.admin.do(http.MethodDelete, s.url(), nil)
	if err != nil && !isStatus(err, http.StatusNotFound) {
		s.t.Errorf("delete server %s: %v", s.ID, err)
	}
	s.waitGone()
}

func (s *server) waitGone() {
	s.t.Helper()
	eventually(s.t, settle, "server "+s.ID+" deleted", func() bool {
		record := s.show()
		if record != nil && record["status"] == "ERROR" && record["OS-EXT-STS:task_state"] == nil {
			// A delete that failed: say why rather than wait.
			if f := faultOf(record); strings.Contains(f, "terminate") {
				s.t.Fatalf("server %s could not be deleted: %s", s.ID, f)
			}
		}
		return record == nil
	})
}

// console returns the console log.
func (s *server) console() string {
	s.t.Helper()
	got, err := s.action("os-getConsoleOutput", object{})
	if err != nil {
		s.t.Fatal(err)
	}
	return got["output"].(string)
}

// addresses returns the fixed addresses on a network, in order.
func (s *server) addresses(network string) []string {
	s.t.Helper()
	var out []string
	rows, _ := s.show()["addresses"].(object)[network].([]any)
	for _, row := range rows {
		if a := row.(object); a["OS-EXT-IPS:type"] == "fixed" {
			out = append(out, a["addr"].(string))
		}
	}
	return out
}

// ports returns the server's Neutron ports.
func (s *server) ports() []object {
	s.t.Helper()
	return s.c.admin.list(s.t, neutronURL+"/ports", "ports", "device_id", s.ID)
}

// floatingIP gives the server's first port an address on the external network.
func (s *server) floatingIP() string {
	s.t.Helper()
	made := s.c.demo.must(s.t, http.MethodPost, neutronURL+"/floatingips", object{"floatingip": object{
		"floating_network_id": s.c.network(s.t, "public"), "port_id": s.ports()[0]["id"]}})["floatingip"].(object)
	s.t.Cleanup(func() {
		_, err := s.c.demo.do(http.MethodDelete, neutronURL+"/floatingips/"+made["id"].(string), nil)
		if err != nil && !isStatus(err, http.StatusNotFound) {
			s.t.Error(err)
		}
	})
	return made["floating_ip_address"].(string)
}

// network returns the id of a network that demo can see.
func (c *cluster) network(t testing.TB, name string) string {
	t.Helper()
	return c.demo.named(t, neutronURL+"/networks", "networks", name)
}
