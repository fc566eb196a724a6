package e2e

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
)

// TestTwentyAtOnce: one request for twenty servers, and twenty deletes.
func TestTwentyAtOnce(t *testing.T) {
	c := openCluster(t)
	checkLeaks(t, c)
	const count = 20
	made := c.demo.must(t, http.MethodPost, novaURL+"/servers", object{"server": object{
		"name":                  "crowd",
		"imageRef":              c.demo.named(t, glanceURL+"/images", "images", "web"),
		"flavorRef":             c.demo.named(t, novaURL+"/flavors", "flavors", "c1.tiny"),
		"networks":              []object{{"uuid": c.network(t, "private")}},
		"return_reservation_id": true,
		"min_count":             count, "max_count": count}})
	var crowd []*server
	for _, row := range c.demo.list(t, novaURL+"/servers", "servers", "reservation_id", made["reservation_id"].(string)) {
		s := &server{t: t, c: c, ID: row["id"].(string), Name: row["name"].(string)}
		t.Cleanup(s.delete)
		crowd = append(crowd, s)
	}
	if len(crowd) != count {
		t.Fatalf("%d servers, want %d", len(crowd), count)
	}
	seen := map[string]bool{}
	for _, s := range crowd {
		s.wait("ACTIVE")
		for _, a := range s.addresses("private") {
			if seen[a] {
				t.Errorf("address %s was given twice", a)
			}
			seen[a] = true
		}
	}
	if len(seen) != count {
		t.Errorf("%d addresses for %d servers", len(seen), count)
	}
	ranges := map[string]bool{}
	for _, s := range crowd {
		ranges[c.inside(t, s, "cat", "/proc/self/uid_map")] = true
	}
	if len(ranges) != count {
		t.Errorf("%d ranges of user ids for %d servers", len(ranges), count)
	}
	for _, s := range crowd {
		if _, err := c.admin.do(http.MethodDelete, s.url(), nil); err != nil {
			t.Error(err)
		}
	}
	for _, s := range crowd {
		s.waitGone()
	}
}

// TestBootAndDeleteRace: deletes that arrive at every moment of a boot.
func TestBootAndDeleteRace(t *testing.T) {
	c := openCluster(t)
	checkLeaks(t, c)
	var wait sync.WaitGroup
	for range 4 {
		servers := make([]*server, 3)
		for i := range servers {
			servers[i] = c.create(t, bootOptions{})
		}
		for _, s := range servers {
			wait.Add(1)
			go func() {
				defer wait.Done()
				if _, err := c.admin.do(http.MethodDelete, s.url(), nil); err != nil && !isStatus(err, http.StatusNotFound) {
					t.Error(err)
				}
			}()
		}
		wait.Wait()
	}
}

// TestHundredLifecycles: a hundred servers come and go, five at a time; nothing
// of them is left.
func TestHundredLifecycles(t *testing.T) {
	c := openCluster(t)
	checkLeaks(t, c)
	for round := range 20 {
		made := c.demo.must(t, http.MethodPost, novaURL+"/servers", object{"server": object{
			"name":      fmt.Sprintf("round-%d", round),
			"imageRef":  c.demo.named(t, glanceURL+"/images", "images", "web"),
			"flavorRef": c.demo.named(t, novaURL+"/flavors", "flavors", "c1.tiny"),
			"networks":  "none", "return_reservation_id": true, "min_count": 5, "max_count": 5}})
		for _, row := range c.demo.list(t, novaURL+"/servers", "servers", "reservation_id", made["reservation_id"].(string)) {
			s := &server{t: t, c: c, ID: row["id"].(string), Name: row["name"].(string)}
			s.wait("ACTIVE")
			s.delete()
		}
	}
}
