package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"novaagent/engine/errdefs"
)

// ovsdb is a client of ovsdb-server's JSON-RPC protocol (RFC 7047) on a Unix
// socket. It connects when it is first needed and again after a loss. Calls run side by
// side over the one connection.
type ovsdb struct {
	path string

	mu     sync.Mutex
	conn   *ovsConn // nil when there is none
	closed bool
}

func newOVSDB(path string) *ovsdb { return &ovsdb{path: path} }

// ovsConn is one connection with its reader.
type ovsConn struct {
	net  net.Conn
	done chan struct{} // closed when the reader has ended

	writeMu sync.Mutex

	mu      sync.Mutex
	next    int
	waiting map[int]chan ovsReply
	err     error // why the connection ended
}

type ovsReply struct {
	Result json.RawMessage
	Error  json.RawMessage
}

// ovsMessage is a request, a notification or a reply; the server sends all three.
type ovsMessage struct {
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	ID     json.RawMessage `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

// maxOVSMessage bounds one message of the server. Our questions have short answers.
const maxOVSMessage = 16 << 20

// Close ends the connection and waits for its reader.
func (o *ovsdb) Close() error {
	o.mu.Lock()
	c := o.conn
	o.conn, o.closed = nil, true
	o.mu.Unlock()
	if c != nil {
		c.net.Close()
		<-c.done
	}
	return nil
}

// connected returns the connection, making one if need be.
func (o *ovsdb) connected(ctx context.Context) (*ovsConn, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, fmt.Errorf("OVSDB: closed: %w", errdefs.ErrUnavailable)
	}
	if o.conn != nil {
		select {
		case <-o.conn.done:
		default:
			return o.conn, nil
		}
	}
	d := net.Dialer{Timeout: 5 * time.Second}
	n, err := d.DialContext(ctx, "unix", o.path)
	if err != nil {
		return nil, fmt.Errorf("OVSDB: %w: %w", err, errdefs.ErrUnavailable)
	}
	o.conn = &ovsConn{net: n, done: make(chan struct{}), waiting: map[int]chan ovsReply{}}
	go o.conn.read()
	return o.conn, nil
}

// transact runs operations as one transaction of the Open_vSwitch database and returns
// the result of each. A transaction that the server refused is an *ovsError.
func (o *ovsdb) transact(ctx context.Context, ops ...map[string]any) ([]ovsResult, error) {
	params := []any{"Open_vSwitch"}
	for _, op := range ops {
		params = append(params, op)
	}
	c, err := o.connected(ctx)
	if err != nil {
		return nil, err
	}
	reply, err := c.call(ctx, "transact", params)
	if err != nil {
		return nil, err
	}
	return parseTransaction(reply, len(ops))
}

// call sends a request and waits for its reply.
func (c *ovsConn) call(ctx context.Context, method string, params []any) (ovsReply, error) {
	answer := make(chan ovsReply, 1)
	c.mu.Lock()
	c.next++
	id := c.next
	c.waiting[id] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, id)
		c.mu.Unlock()
	}()
	if err := c.send(map[string]any{"method": method, "params": params, "id": id}); err != nil {
		return ovsReply{}, err
	}
	select {
	case reply := <-answer:
		return reply, nil
	case <-c.done:
		// The answer may have come just before the end.
		select {
		case reply := <-answer:
			return reply, nil
		default:
		}
		return ovsReply{}, fmt.Errorf("OVSDB: connection lost: %w: %w", c.err, errdefs.ErrUnavailable)
	case <-ctx.Done():
		// A transaction that waits is taken back. Errors show on the connection.
		_ = c.send(map[string]any{"method": "cancel", "params": []any{id}, "id": nil})
		return ovsReply{}, fmt.Errorf("OVSDB: %s: %w: %w", method, context.Cause(ctx), errdefs.ErrUnavailable)
	}
}

func (c *ovsConn) send(msg map[string]any) error {
	b, err := json.Marshal(msg)
	if err != nil {
		return fmt.Errorf("OVSDB: %w: %w", err, errdefs.ErrInvalid)
	}
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	if err := c.net.SetWriteDeadline(time.Now().Add(10 * time.Second)); err == nil {
		_, err = c.net.Write(b)
		if err == nil {
			return nil
		}
		c.net.Close() // half a message is none
		return fmt.Errorf("OVSDB: %w: %w", err, errdefs.ErrUnavailable)
	}
	return fmt.Errorf("OVSDB: closed: %w", errdefs.ErrUnavailable)
}

// read gives replies to their callers until the connection ends.
func (c *ovsConn) read() {
	defer close(c.done)
	defer c.net.Close()
	in := &budgetReader{r: c.net}
	d := json.NewDecoder(in)
	for {
		in.left = maxOVSMessage
		var msg ovsMessage
		if err := d.Decode(&msg); err != nil {
			c.mu.Lock()
			c.err = err
			c.mu.Unlock()
			return
		}
		c.dispatch(msg)
	}
}

func (c *ovsConn) dispatch(msg ovsMessage) {
	switch {
	case msg.Method == "echo":
		// The server's way to find out whether we are alive.
		params := msg.Params
		if params == nil {
			params = json.RawMessage("[]")
		}
		_ = c.send(map[string]any{"result": params, "error": nil, "id": msg.ID})
	case msg.Method != "":
		// A notification that nobody asked for.
	default:
		var id int
		if json.Unmarshal(msg.ID, &id) != nil {
			return
		}
		c.mu.Lock()
		answer := c.waiting[id]
		delete(c.waiting, id)
		c.mu.Unlock()
		if answer != nil {
			answer <- ovsReply{Result: msg.Result, Error: msg.Error}
		}
	}
}

// budgetReader fails once more than left bytes were read.
type budgetReader struct {
	r    io.Reader
	left int
}

// Read implements io.Reader.
func (b *budgetReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("message too long")
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// ovsError is the server's refusal of a transaction.
type ovsError struct{ Kind, Details string }

// Error implements error.
func (e *ovsError) Error() string {
	if e.Details == "" {
		return "OVSDB: " + e.Kind
	}
	return "OVSDB: " + e.Kind + ": " + e.Details
}

// Unwrap gives the kind: a name that is taken is a conflict, a wait that ran out
// and the server's own troubles are for later.
func (e *ovsError) Unwrap() error {
	switch e.Kind {
	case "constraint violation":
		return errdefs.ErrConflict
	case "timed out", "aborted", "canceled", "resources exhausted", "I/O error", "not leader", "not owner":
		return errdefs.ErrUnavailable
	}
	return errdefs.ErrInvalid
}

// ovsResult is the result of one operation.
type ovsResult struct {
	Count int      `json:"count"`
	UUID  ovsUUID  `json:"uuid"`
	Rows  []ovsRow `json:"rows"`
}

// ovsRow has the columns that our questions name.
type ovsRow struct {
	UUID        ovsUUID `json:"_uuid"`
	Name        string  `json:"name"`
	NextCfg     int64   `json:"next_cfg"`
	OFPort      ovsInts `json:"ofport"`
	Error       ovsStrs `json:"error"`
	ExternalIDs ovsMap  `json:"external_ids"`
}

// parseTransaction reads the reply to a transaction of n operations.
func parseTransaction(reply ovsReply, n int) ([]ovsResult, error) {
	if len(reply.Error) > 0 && string(reply.Error) != "null" {
		var e struct{ Error, Details string }
		if json.Unmarshal(reply.Error, &e) != nil || e.Error == "" {
			e.Error = string(reply.Error)
		}
		return nil, &ovsError{Kind: e.Error, Details: e.Details}
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(reply.Result, &raw); err != nil {
		return nil, fmt.Errorf("OVSDB: reply: %v: %w", err, errdefs.ErrUnavailable)
	}
	results := make([]ovsResult, 0, n)
	for _, text := range raw {
		var e struct{ Error, Details string }
		if json.Unmarshal(text, &e) == nil && e.Error != "" {
			return nil, &ovsError{Kind: e.Error, Details: e.Details}
		}
		var r ovsResult
		if err := json.Unmarshal(text, &r); err != nil {
			return nil, fmt.Errorf("OVSDB: reply: %v: %w", err, errdefs.ErrUnavailable)
		}
		results = append(results, r)
	}
	if len(results) < n {
		return nil, fmt.Errorf("OVSDB: %d results of %d operations: %w", len(results), n, errdefs.ErrUnavailable)
	}
	return results, nil
}
