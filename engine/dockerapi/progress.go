package dockerapi

import (
	"encoding/json"
	"net/http"
	"slices"
	"sync"

	"github.com/moby/moby/api/types/jsonstream"
)

// message is a line of a progress stream. Older clients read an error as text.
type message struct {
	jsonstream.Message
	ErrorText string `json:"error,omitempty"`
}

// progress is an answer that tells how something goes, line by line. Saying something never waits for the
// client: one that reads slowly gets fewer reports of bytes.
type progress struct {
	r    *request
	done chan struct{}
	wake chan struct{}

	mu     sync.Mutex
	queue  []message
	begun  bool
	closed bool
}

// newProgress begins an answer, of which nothing is sent before something is said. The caller ends it with finish.
func (r *request) newProgress() *progress {
	p := &progress{r: r, done: make(chan struct{}), wake: make(chan struct{}, 1)}
	go p.send()
	return p
}

// say adds a line.
func (p *progress) say(m jsonstream.Message) { p.add(message{Message: m}) }

func (p *progress) add(m message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun = true
	if m.Progress != nil {
		// A newer report takes the place of one that isn't sent yet.
		i := slices.IndexFunc(p.queue, func(q message) bool { return q.ID == m.ID && q.Status == m.Status })
		if i >= 0 {
			p.queue[i] = m
			return
		}
	}
	p.queue = append(p.queue, m)
	p.signal()
}

func (p *progress) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// finish sends what is left, and err. It returns err if nothing was said, so that it becomes the status.
func (p *progress) finish(err error) error {
	p.mu.Lock()
	begun := p.begun
	p.mu.Unlock()
	if err != nil && begun {
		text := messageOf(err)
		p.add(message{Message: jsonstream.Message{Error: &jsonstream.Error{Message: text}}, ErrorText: text})
		err = nil
	}
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.signal()
	<-p.done
	return err
}

// send writes the lines until the end.
func (p *progress) send() {
	defer close(p.done)
	control := http.NewResponseController(p.r.w)
	encoder := json.NewEncoder(p.r.w)
	for range p.wake {
		p.mu.Lock()
		queue, closed := p.queue, p.closed
		p.queue = nil
		p.mu.Unlock()
		if len(queue) > 0 {
			p.r.w.Header().Set("Content-Type", "application/json")
		}
		for _, m := range queue {
			if encoder.Encode(m) != nil {
				break // the client is gone; the request's context says so
			}
		}
		if len(queue) > 0 {
			_ = control.Flush() // as above
		}
		if closed {
			return
		}
	}
}
