package rpc

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"novaagent/engine/errdefs"
)

// TransportURL is a parsed transport_url.
type TransportURL struct {
	Transport   string // "rabbit"
	VirtualHost string // "" stands for "/"
	Hosts       []TransportHost
	Query       map[string]string
}

// TransportHost is one broker. An empty field was not given.
type TransportHost struct {
	Host               string
	Port               int
	Username, Password string
}

// Address is host:port for a dial.
func (h TransportHost) Address() string {
	host, port := h.Host, h.Port
	if host == "" {
		host = "localhost"
	}
	if port == 0 {
		port = defaultPort
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

const defaultPort = 5672

// String hides passwords, for logs and errors.
func (u *TransportURL) String() string {
	hosts := make([]string, len(u.Hosts))
	for i, h := range u.Hosts {
		hosts[i] = h.Address()
	}
	return u.Transport + "://" + strings.Join(hosts, ",") + "/" + url.PathEscape(u.VirtualHost)
}

// ParseTransportURL reads a transport_url as oslo_messaging/transport.py,
// TransportURL.parse, does. ErrInvalid; the error does not show the URL, which
// holds passwords.
func ParseTransportURL(raw string) (*TransportURL, error) {
	invalid := func(format string, args ...any) error {
		return fmt.Errorf("transport_url: "+format+": %w", append(args, errdefs.ErrInvalid)...)
	}
	scheme, rest, found := strings.Cut(raw, ":")
	if !found || scheme == "" || strings.ContainsAny(scheme, "/?#@ ") {
		return nil, invalid("no scheme")
	}
	u := &TransportURL{Transport: strings.ToLower(scheme), Query: map[string]string{}}
	rest, _, _ = strings.Cut(rest, "#")
	rest, query, _ := strings.Cut(rest, "?")
	netloc := ""
	if after, ok := strings.CutPrefix(rest, "//"); ok {
		netloc, rest = after, ""
		if i := strings.IndexByte(after, '/'); i >= 0 {
			netloc, rest = after[:i], after[i:]
		}
	}
	if path, ok := strings.CutPrefix(rest, "/"); ok {
		u.VirtualHost = unquote(path)
	}
	for _, part := range strings.Split(netloc, ",") {
		if part == "" {
			continue
		}
		host, err := parseTransportHost(part)
		if err != nil {
			return nil, invalid("%v", err)
		}
		u.Hosts = append(u.Hosts, host)
	}
	for _, pair := range strings.Split(query, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if value == "" { // parse_qs drops blank values
			continue
		}
		key = unquote(strings.ReplaceAll(key, "+", " "))
		value = unquote(strings.ReplaceAll(value, "+", " "))
		if old, ok := u.Query[key]; ok {
			value = old + "," + value
		}
		u.Query[key] = value
	}
	return u, nil
}

// parseTransportHost reads [user[:password]@]host[:port].
func parseTransportHost(part string) (TransportHost, error) {
	var h TransportHost
	name := part
	if i := strings.LastIndexByte(part, '@'); i >= 0 {
		user := part[:i]
		name = part[i+1:]
		if before, after, ok := strings.Cut(user, ":"); ok {
			user, h.Password = before, unquote(after)
		}
		h.Username = unquote(user)
	}
	port := ""
	if strings.HasPrefix(name, "[") {
		end := strings.IndexByte(name, ']')
		if end < 0 {
			return h, fmt.Errorf("an IPv6 address without its bracket")
		}
		h.Host = name[1:end]
		_, port, _ = strings.Cut(name[end:], ":")
	} else {
		h.Host, port, _ = strings.Cut(name, ":")
	}
	if port != "" {
		n, err := strconv.Atoi(port)
		if err != nil || n < 1 || n > 65535 {
			return h, fmt.Errorf("port %q", port)
		}
		h.Port = n
	}
	return h, nil
}

// unquote is Python's urllib.parse.unquote: what is not a valid escape stays
// as it is.
func unquote(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if b, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				out = append(out, byte(b))
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return strings.ToValidUTF8(string(out), "\ufffd")
}

// apply lets the options in the URL's query override r, and returns the names
// of those that it does not know.
func (u *TransportURL) apply(r *Rabbit) (unknown []string, err error) {
	bools := map[string]*bool{
		"ssl":                               &r.TLS,
		"ssl_enforce_hostname_verification": &r.TLSVerifyHostname,
		"amqp_durable_queues":               &r.Durable,
		"amqp_auto_delete":                  &r.AutoDelete,
		"rabbit_ha_queues":                  &r.HA,
		"rabbit_quorum_queue":               &r.Quorum,
		"rabbit_transient_quorum_queue":     &r.TransientQuorum,
		"rabbit_stream_fanout":              &r.StreamFanout,
		"use_queue_manager":                 &r.QueueManager,
		"enable_cancel_on_failover":         &r.CancelOnFailover,
	}
	texts := map[string]*string{
		"ssl_ca_file":         &r.TLSCAFile,
		"ssl_cert_file":       &r.TLSCertFile,
		"ssl_key_file":        &r.TLSKeyFile,
		"ssl_version":         &r.TLSVersion,
		"rabbit_login_method": &r.LoginMethod,
	}
	seconds := map[string]*time.Duration{
		"heartbeat_timeout_threshold":          &r.Heartbeat,
		"rabbit_retry_interval":                &r.RetryInterval,
		"rabbit_retry_backoff":                 &r.RetryBackoff,
		"rabbit_interval_max":                  &r.RetryMax,
		"kombu_reconnect_delay":                &r.ReconnectDelay,
		"kombu_missing_consumer_retry_timeout": &r.MissingReplyQueueTimeout,
		"rabbit_transient_queues_ttl":          &r.TransientTTL,
	}
	numbers := map[string]*int64{
		"rabbit_quorum_delivery_limit":    &r.QuorumDeliveryLimit,
		"rabbit_quorum_max_memory_length": &r.QuorumMaxMemoryLength,
		"rabbit_quroum_max_memory_length": &r.QuorumMaxMemoryLength,
		"rabbit_quorum_max_memory_bytes":  &r.QuorumMaxMemoryBytes,
		"rabbit_quroum_max_memory_bytes":  &r.QuorumMaxMemoryBytes,
	}
	for name, value := range u.Query {
		bad := func() error {
			return fmt.Errorf("transport_url: option %s=%q: %w", name, value, errdefs.ErrInvalid)
		}
		if p := bools[name]; p != nil {
			switch strings.ToLower(value) { // oslo_config.types.Boolean
			case "true", "1", "on", "yes":
				*p = true
			case "false", "0", "off", "no":
				*p = false
			default:
				return nil, bad()
			}
			continue
		}
		if p := texts[name]; p != nil {
			*p = value
			continue
		}
		if p := seconds[name]; p != nil {
			f, err := strconv.ParseFloat(value, 64)
			if err != nil || !(f >= 0 && f < 1e9) {
				return nil, bad()
			}
			*p = time.Duration(f * float64(time.Second))
			continue
		}
		if p := numbers[name]; p != nil {
			if *p, err = strconv.ParseInt(value, 10, 64); err != nil {
				return nil, bad()
			}
			continue
		}
		if name == "rabbit_qos_prefetch_count" {
			if r.Prefetch, err = strconv.Atoi(value); err != nil {
				return nil, bad()
			}
			continue
		}
		unknown = append(unknown, name)
	}
	return unknown, nil
}
