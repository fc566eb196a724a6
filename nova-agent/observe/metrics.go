package observe

import (
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Metrics are nova-agent's. The zero value is of no use; call NewMetrics.
type Metrics struct {
	registry *prometheus.Registry

	handled, called *prometheus.HistogramVec
	connected       prometheus.Gauge
	builds          *prometheus.HistogramVec
	operations      *prometheus.HistogramVec
	periodic        *prometheus.HistogramVec
	heartbeats      *prometheus.CounterVec
	lastHeartbeat   prometheus.Gauge
	api             *prometheus.HistogramVec
	names           names
	images          *prometheus.CounterVec
	imageBytes      prometheus.Counter
}

// seconds are buckets from a millisecond to ten minutes.
var seconds = []float64{0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180, 600}

// NewMetrics makes the metrics, with version as a label of nova_agent_info.
func NewMetrics(version string) *Metrics {
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "nova_agent", Name: name, Help: help, Buckets: seconds}, labels)
	}
	m := &Metrics{
		registry:      prometheus.NewRegistry(),
		handled:       histogram("rpc_handled_seconds", "Time to handle a message from Nova.", "method", "result"),
		called:        histogram("rpc_called_seconds", "Time of a call or cast to Nova.", "method", "result"),
		connected:     prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "nova_agent", Name: "rpc_connected", Help: "1 while the broker is connected."}),
		builds:        histogram("build_seconds", "Time of a build, by how it ended.", "result"),
		operations:    histogram("operation_seconds", "Time of an operation on a server.", "operation", "result"),
		periodic:      histogram("periodic_task_seconds", "Time of one run of a periodic task.", "task", "result"),
		heartbeats:    prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "nova_agent", Name: "heartbeats_total", Help: "Reports of the service record."}, []string{"result"}),
		lastHeartbeat: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "nova_agent", Name: "last_heartbeat_timestamp_seconds", Help: "When the service record was last reported."}),
		api:           histogram("docker_api_seconds", "Time to answer a request of the Docker API.", "method", "route", "status"),
		images:        prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "nova_agent", Name: "image_requests_total", Help: "Images asked for, by whether the cache had them."}, []string{"result"}),
		imageBytes:    prometheus.NewCounter(prometheus.CounterOpts{Namespace: "nova_agent", Name: "image_downloaded_bytes_total", Help: "Bytes read from Glance."}),
	}
	info := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "nova_agent", Name: "info", Help: "1, with the version.",
		ConstLabels: prometheus.Labels{"version": version}}, func() float64 { return 1 })
	m.registry.MustRegister(m.handled, m.called, m.connected, m.builds, m.operations, m.periodic, m.heartbeats, m.lastHeartbeat, m.api,
		m.images, m.imageBytes, info,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// manyNames is more than there are methods, operations and tasks.
const manyNames = 300

// names bounds the label values that come from outside: whoever can send a message
// chooses its method, and each new value would take memory for ever.
type names struct {
	mu   sync.Mutex // guards seen
	seen map[string]bool
}

// label returns name, or "other" if it is no name or there are too many already.
func (n *names) label(name string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.seen[name] {
		return name
	}
	strange := func(r rune) bool { return r <= ' ' || r > '~' }
	if name == "" || len(name) > 64 || len(n.seen) >= manyNames || strings.ContainsFunc(name, strange) {
		return "other"
	}
	if n.seen == nil {
		n.seen = map[string]bool{}
	}
	n.seen[name] = true
	return name
}

func result(err error) string {
	if err != nil {
		return "error"
	}
	return "ok"
}

// Handled counts a message from Nova.
func (m *Metrics) Handled(method string, took time.Duration, err error) {
	m.handled.WithLabelValues(m.names.label(method), result(err)).Observe(took.Seconds())
}

// Called counts a call or cast to Nova.
func (m *Metrics) Called(method string, took time.Duration, err error) {
	m.called.WithLabelValues(m.names.label(method), result(err)).Observe(took.Seconds())
}

// Connected records whether the broker is.
func (m *Metrics) Connected(yes bool) {
	if yes {
		m.connected.Set(1)
		return
	}
	m.connected.Set(0)
}

// Built counts a build; outcome is "active", "failed" or "rescheduled".
func (m *Metrics) Built(outcome string, took time.Duration) {
	m.builds.WithLabelValues(outcome).Observe(took.Seconds())
}

// Operated counts an operation on a server.
func (m *Metrics) Operated(operation string, took time.Duration, err error) {
	m.operations.WithLabelValues(m.names.label(operation), result(err)).Observe(took.Seconds())
}

// Ran counts a run of a periodic task.
func (m *Metrics) Ran(task string, took time.Duration, err error) {
	m.periodic.WithLabelValues(m.names.label(task), result(err)).Observe(took.Seconds())
}

// Heartbeat counts a report of the service record.
func (m *Metrics) Heartbeat(err error) {
	m.heartbeats.WithLabelValues(result(err)).Inc()
	if err == nil {
		m.lastHeartbeat.SetToCurrentTime()
	}
}

// API counts a request of the Docker API.
func (m *Metrics) API(method, route string, status int, took time.Duration) {
	m.api.WithLabelValues(method, route, strconv.Itoa(status)).Observe(took.Seconds())
}

// Image counts an image that was asked for, by whether it was here.
func (m *Metrics) Image(cached bool) {
	if cached {
		m.images.WithLabelValues("hit").Inc()
		return
	}
	m.images.WithLabelValues("miss").Inc()
}

// ImageFailed counts an image that could not be had.
func (m *Metrics) ImageFailed() { m.images.WithLabelValues("error").Inc() }

// ImageBytes counts bytes from Glance.
func (m *Metrics) ImageBytes(n int64) { m.imageBytes.Add(float64(n)) }

// states collects the number of containers in each state when it is asked.
type states struct {
	desc  *prometheus.Desc
	count func() map[string]int
}

// CountContainers adds a gauge of containers by state, asked from count at each scrape.
func (m *Metrics) CountContainers(count func() map[string]int) {
	m.registry.MustRegister(&states{count: count, desc: prometheus.NewDesc("nova_agent_containers", "Containers in each state.", []string{"state"}, nil)})
}

// queues collects whether each queue is consumed.
type queues struct {
	desc     *prometheus.Desc
	consumed func() map[string]bool
}

// Describe implements prometheus.Collector.
func (q *queues) Describe(ch chan<- *prometheus.Desc) { ch <- q.desc }

// Collect implements prometheus.Collector.
func (q *queues) Collect(ch chan<- prometheus.Metric) {
	for name, consumed := range q.consumed() {
		value := 0.0
		if consumed {
			value = 1
		}
		ch <- prometheus.MustNewConstMetric(q.desc, prometheus.GaugeValue, value, name)
	}
}

// CountQueues adds a gauge of the queues that should be consumed, 1 for those that
// are, asked from consumed at each scrape.
func (m *Metrics) CountQueues(consumed func() map[string]bool) {
	m.registry.MustRegister(&queues{consumed: consumed, desc: prometheus.NewDesc("nova_agent_rpc_queue_consumed", "1 for a queue that is consumed.", []string{"queue"}, nil)})
}

// Gauge adds a gauge that is asked at each scrape.
func (m *Metrics) Gauge(name, help string, value func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "nova_agent", Name: name, Help: help}, value))
}

// Describe implements prometheus.Collector.
func (s *states) Describe(ch chan<- *prometheus.Desc) { ch <- s.desc }

// Collect implements prometheus.Collector.
func (s *states) Collect(ch chan<- prometheus.Metric) {
	for state, n := range s.count() {
		ch <- prometheus.MustNewConstMetric(s.desc, prometheus.GaugeValue, float64(n), state)
	}
}
