package faultproxy

import (
	"maps"
	"net"
	"net/http"
	"strconv"
)

// Exchange is a request that an Action answers.
type Exchange struct {
	p    *Proxy
	w    http.ResponseWriter
	r    *http.Request
	body []byte
	down <-chan struct{} // closed when the proxy goes down
}

// Action answers a request, or does not.
type Action func(x *Exchange)

// Forward lets the service answer.
func Forward() Action {
	return func(x *Exchange) {
		resp, text, err := x.p.ask(x.r, x.body)
		if err != nil {
			panic(http.ErrAbortHandler) // the service is away: so is the proxy
		}
		maps.Copy(x.w.Header(), resp.Header)
		x.w.WriteHeader(resp.StatusCode)
		_, _ = x.w.Write(text) // the client may be gone
	}
}

// Status answers with an error of the service's own kind; headers are pairs, such as
// "Retry-After", "1".
func Status(code int, body string, headers ...string) Action {
	return func(x *Exchange) {
		for i := 0; i+1 < len(headers); i += 2 {
			x.w.Header().Set(headers[i], headers[i+1])
		}
		x.w.WriteHeader(code)
		_, _ = x.w.Write([]byte(body))
	}
}

// Reset ends the connection without an answer, with a TCP reset. The service does
// not hear of the request.
func Reset() Action { return func(x *Exchange) { x.reset() } }

// Lose lets the service do its work and resets the connection instead of answering.
func Lose() Action {
	return func(x *Exchange) {
		if _, _, err := x.p.ask(x.r, x.body); err != nil {
			panic(http.ErrAbortHandler)
		}
		x.reset()
	}
}

// Truncate sends the service's answer with its right length, but only the first n
// bytes of the body, and resets the connection.
func Truncate(n int) Action {
	return func(x *Exchange) {
		resp, text, err := x.p.ask(x.r, x.body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		maps.Copy(x.w.Header(), resp.Header)
		x.w.Header().Del("Transfer-Encoding")
		x.w.Header().Set("Content-Length", strconv.Itoa(len(text)))
		x.w.WriteHeader(resp.StatusCode)
		_, _ = x.w.Write(text[:min(n, len(text))])
		x.reset()
	}
}

// Rewrite lets the service answer and changes the body.
func Rewrite(change func([]byte) []byte) Action {
	return func(x *Exchange) {
		resp, text, err := x.p.ask(x.r, x.body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		maps.Copy(x.w.Header(), resp.Header)
		x.w.Header().Del("Content-Length")
		x.w.WriteHeader(resp.StatusCode)
		_, _ = x.w.Write(change(text))
	}
}

// Flood answers with n bytes of nothing useful.
func Flood(code int, n int64) Action {
	return func(x *Exchange) {
		x.w.WriteHeader(code)
		block := make([]byte, 64<<10)
		for n > 0 {
			m, err := x.w.Write(block[:min(n, int64(len(block)))])
			if err != nil {
				return // the client has had enough
			}
			n -= int64(m)
		}
	}
}

// Hang answers nothing until the client gives up or the test ends.
func Hang() Action {
	return func(x *Exchange) {
		select {
		case <-x.r.Context().Done():
		case <-x.down:
		}
		panic(http.ErrAbortHandler)
	}
}

// After calls do, which may change the service's state behind the client's back, and
// then goes on as next does.
func After(do func(), next Action) Action {
	return func(x *Exchange) {
		do()
		next(x)
	}
}

// reset ends the connection with RST: lingering is off, what is unsent is dropped.
func (x *Exchange) reset() {
	conn, buffered, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	_ = buffered.Flush()
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
