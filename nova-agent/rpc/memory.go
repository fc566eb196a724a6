package rpc

import (
	"sync"
	"time"
)

// recentIDs remembers the last _unique_ids (oslo_messaging/_drivers/amqp.py,
// _MsgIdCache).
type recentIDs struct {
	mu   sync.Mutex
	ring []string
	next int
	set  map[string]bool
}

func newRecentIDs(size int) *recentIDs {
	return &recentIDs{ring: make([]string, size), set: make(map[string]bool, size)}
}

// add remembers id and says whether it was new. An empty id always is.
func (r *recentIDs) add(id string) bool {
	if id == "" {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.set[id] {
		return false
	}
	delete(r.set, r.ring[r.next])
	r.ring[r.next] = id
	r.set[id] = true
	r.next = (r.next + 1) % len(r.ring)
	return true
}

// goneQueues remembers reply queues that stayed missing: 200 of them for a
// minute (amqpdriver.py, ObsoleteReplyQueuesCache).
type goneQueues struct {
	mu    sync.Mutex
	until map[string]time.Time
	order []string
}

const (
	goneMax = 200
	goneTTL = time.Minute
)

func newGoneQueues() *goneQueues { return &goneQueues{until: make(map[string]time.Time)} }

func (g *goneQueues) add(queue string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.until[queue]; !ok {
		if len(g.order) == goneMax {
			delete(g.until, g.order[0])
			g.order = append(g.order[:0], g.order[1:]...)
		}
		g.order = append(g.order, queue)
	}
	g.until[queue] = time.Now().Add(goneTTL)
}

func (g *goneQueues) has(queue string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	until, ok := g.until[queue]
	return ok && time.Now().Before(until)
}
