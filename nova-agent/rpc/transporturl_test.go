package rpc

import (
	"encoding/json"
	"errors"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"novaagent/engine/errdefs"
	"novaagent/tests/need"
)

// transportURLs are URLs of many shapes, right and wrong.
var transportURLs = []string{
	"rabbit://",
	"rabbit:///",
	"rabbit://host",
	"rabbit://host/",
	"rabbit://host:5673/vh",
	"rabbit://user@host/",
	"rabbit://user:pass@host:5672/",
	"rabbit://user:pass@host:5672//",
	"rabbit://user:pass@host:5672/%2Fnova",
	"rabbit://u:p@h1:1,u2:p2@h2:2,h3/vh/x?ssl=1&ssl=0&a=b%20c+d&e=&=f&g",
	"rabbit://u%40x:p%3Aa%2Fb%23c%25@h/v%20h",
	"rabbit://u:p:q@h/",
	"rabbit://u:p@q@h/",
	"rabbit://u:@h/",
	"rabbit://:p@h/",
	"rabbit://@h/",
	"rabbit://u:p@[::1]:5673,[fe80::1]/",
	"rabbit://u:p@[::1/",
	"rabbit://h:/",
	"rabbit://,,h,,/",
	"rabbit://h:port/",
	"rabbit://h/vh#fragment?x=1",
	"rabbit://h?heartbeat_timeout_threshold=10",
	"RABBIT://Host/",
	"kombu+memory://x/",
	"kombu://guest:guest@localhost",
	"rabbit:path",
	"://h/",
	"h",
	"",
	"rabbit://u%zz:%4@h/%e4%f",
}

// The parser agrees with oslo.messaging's own.
func TestTransportURLAsOslo(t *testing.T) {
	t.Parallel()
	needOslo(t)
	script := `
import json, sys
from oslo_config import cfg
from oslo_messaging.transport import TransportURL
out = []
for url in json.load(sys.stdin):
    try:
        u = TransportURL.parse(cfg.ConfigOpts(), url)
        out.append({'Transport': u.transport, 'VirtualHost': u.virtual_host or '', 'Query': u.query,
                    'Hosts': [{'Host': h.hostname or '', 'Port': h.port or 0, 'Username': h.username or '',
                               'Password': h.password or ''} for h in u.hosts]})
    except Exception:
        out.append(None)
json.dump(out, sys.stdout)
`
	urls := slices.Clone(transportURLs)
	for i, u := range urls {
		if u == "" { // the library would ask its configuration
			urls = append(urls[:i:i], urls[i+1:]...)
		}
	}
	cmd := exec.Command("/usr/bin/python3", "-c", script)
	cmd.Stdin = strings.NewReader(string(mustJSON(urls)))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var want []*TransportURL
	if err := json.Unmarshal(out, &want); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	for i, raw := range urls {
		got, err := ParseTransportURL(raw)
		switch {
		case want[i] == nil && !errors.Is(err, errdefs.ErrInvalid):
			t.Errorf("%s: oslo.messaging refuses it; got %+v, %v", raw, got, err)
		case want[i] == nil:
		case err != nil:
			t.Errorf("%s: %v; want %+v", raw, err, want[i])
		default:
			if len(got.Hosts) == 0 {
				got.Hosts = nil
			}
			if len(want[i].Hosts) == 0 {
				want[i].Hosts = nil
			}
			if !reflect.DeepEqual(got, want[i]) {
				t.Errorf("%s:\n got %+v\nwant %+v", raw, got, want[i])
			}
		}
	}
}

func TestTransportURLOptions(t *testing.T) {
	u, err := ParseTransportURL("rabbit://u:secret@h:1,[::1]/v?ssl=yes&ssl_ca_file=/ca&heartbeat_timeout_threshold=10&" +
		"kombu_reconnect_delay=0.5&rabbit_quroum_max_memory_length=7&rabbit_qos_prefetch_count=9&rabbit_ha_queues=0&heartbeat_rate=3")
	if err != nil {
		t.Fatal(err)
	}
	r := Rabbit{HA: true}
	unknown, err := u.apply(&r)
	if err != nil || !reflect.DeepEqual(unknown, []string{"heartbeat_rate"}) {
		t.Errorf("unknown %v, %v", unknown, err)
	}
	want := Rabbit{TLS: true, TLSCAFile: "/ca", Heartbeat: 10 * time.Second, ReconnectDelay: time.Second / 2, QuorumMaxMemoryLength: 7, Prefetch: 9}
	if r != want {
		t.Errorf("got %+v", r)
	}
	if s := u.String(); strings.Contains(s, "secret") || s != "rabbit://h:1,[::1]:5672/v" {
		t.Errorf("String: %s", s)
	}
}

// needOslo requires Python's oslo.messaging and Nova's exceptions.
func needOslo(t testing.TB) {
	t.Helper()
	if out, err := exec.Command("/usr/bin/python3", "-c", "import oslo_messaging, nova.exception").CombinedOutput(); err != nil {
		need.Unmet(t, "python3-oslo.messaging and python3-nova ("+string(out)+")")
	}
}
