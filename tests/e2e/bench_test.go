package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// pollEvery is how often the benchmark looks. It asks for the names of the ACTIVE servers: a
// server's own page makes Nova ask Neutron for its security groups, which would slow down
// what is being measured.
const pollEvery = 100 * time.Millisecond

// between boots Neutron's DHCP agent forgets the last port; the next boot would wait for it.
const between = 3 * time.Second

// BenchmarkBoot measures the seconds from the API's 202 to ACTIVE, seen by asking
// every 100 ms, for an image that is warm and one port: nova-agent, and beside it
// in the same run Nova's own nova-compute with the fake driver, which starts
// nothing. They take turns on the same control plane under the same host name,
// two blocks of ten boots each. It also reads the memory of both.
func BenchmarkBoot(b *testing.B) {
	c := openCluster(b)
	for b.Loop() {
		took := map[string][]time.Duration{}
		memory := map[string]float64{}
		for range 2 {
			c.control(b, "reference", "stop")
			c.control(b, "agent", "start")
			c.waitAgent(b)
			took["agent"] = append(took["agent"], c.timeBoots(b, 10)...)
			memory["agent"] = c.rssMB(b, "nova-agent")
			c.control(b, "agent", "stop")
			c.control(b, "reference", "start")
			c.waitAgent(b)
			took["reference"] = append(took["reference"], c.timeBoots(b, 10)...)
			memory["reference"] = c.rssMB(b, "nova-compute")
		}
		c.control(b, "reference", "stop")
		c.control(b, "agent", "start")
		c.waitAgent(b)
		for who, all := range took {
			slices.Sort(all)
			b.ReportMetric(all[len(all)/2].Seconds(), who+"-median-s")
			b.ReportMetric(all[0].Seconds(), who+"-min-s")
			b.ReportMetric(all[len(all)-1].Seconds(), who+"-max-s")
			b.ReportMetric(memory[who], who+"-RSS-MB")
		}
		b.ReportMetric(0, "ns/op")
	}
}

// timeBoots boots and deletes n servers one after the other, after one more
// that warms everything and is not counted.
func (c *cluster) timeBoots(b *testing.B, n int) []time.Duration {
	b.Helper()
	server := object{
		"imageRef":  c.demo.named(b, glanceURL+"/images", "images", "web"),
		"flavorRef": c.demo.named(b, novaURL+"/flavors", "flavors", "c1.tiny"),
		"networks":  []object{{"uuid": c.network(b, "private")}}}
	var all []time.Duration
	for i := range n + 1 {
		server["name"] = fmt.Sprintf("bench-%d", i)
		s := c.post(b, server)
		begin := time.Now()
		for len(c.demo.list(b, novaURL+"/servers", "servers", "status", "ACTIVE", "name", "^bench-"+strconv.Itoa(i)+"$")) == 0 {
			if time.Since(begin) > settle {
				b.Fatalf("server %s is %v: %s", s.ID, s.show()["status"], s.fault())
			}
			time.Sleep(pollEvery)
		}
		if i > 0 {
			all = append(all, time.Since(begin))
		}
		s.delete()
		time.Sleep(between)
	}
	return all
}

func (c *cluster) rssMB(b *testing.B, service string) float64 {
	b.Helper()
	pid := c.pid(service)
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "statm"))
	if err != nil {
		b.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		b.Fatal(err)
	}
	return float64(pages*os.Getpagesize()) / (1 << 20)
}
