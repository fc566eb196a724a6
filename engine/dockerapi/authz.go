package dockerapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"

	"novaagent/engine/errdefs"
)

// Authorization plug-ins are asked about every request before it is handled, and about its answer before that is
// sent. Whatever goes wrong with one refuses the request.

const (
	// authorizer is what such a plug-in implements.
	authorizer = "authz"
	// maxShown bounds the body of a request that is shown, Docker's bound. What is longer is refused: it
	// could not be judged.
	maxShown = 1 << 20
	// maxAnswerShown bounds the body of an answer; of longer ones and of streams only the header is shown.
	maxAnswerShown = 64 << 10
)

// authRequest is what a plug-in is told. Its fields are Docker's (docs.docker.com/engine/extend/plugins_authorization).
type authRequest struct {
	User                    string            `json:"User,omitempty"`
	UserAuthNMethod         string            `json:"UserAuthNMethod,omitempty"`
	RequestMethod           string            `json:"RequestMethod,omitempty"`
	RequestURI              string            `json:"RequestUri,omitempty"`
	RequestBody             []byte            `json:"RequestBody,omitempty"`
	RequestHeaders          map[string]string `json:"RequestHeaders,omitempty"`
	RequestPeerCertificates []string          `json:"RequestPeerCertificates,omitempty"`
	ResponseStatusCode      int               `json:"ResponseStatusCode,omitempty"`
	ResponseBody            []byte            `json:"ResponseBody,omitempty"`
	ResponseHeaders         map[string]string `json:"ResponseHeaders,omitempty"`
}

// authorize asks every plug-in about a request, and lets handle answer it if all allow it.
func (s *server) authorize(r *request, handle func() error) error {
	if len(s.opts.Authorization) == 0 {
		return handle()
	}
	asked := authRequest{RequestMethod: r.Method, RequestURI: r.RequestURI, RequestHeaders: plainHeader(r.Header)}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		asked.User, asked.UserAuthNMethod = r.TLS.PeerCertificates[0].Subject.CommonName, "TLS"
		for _, cert := range r.TLS.PeerCertificates {
			block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
			asked.RequestPeerCertificates = append(asked.RequestPeerCertificates, string(block))
		}
	}
	var err error
	if asked.RequestBody, err = r.peekBody(); err != nil {
		return err
	}
	if err := s.ask(r.Context(), "AuthZPlugin.AuthZReq", &asked); err != nil {
		return err
	}
	w := &authWriter{ResponseWriter: r.w, header: http.Header{}, decide: func(status int, header http.Header, body []byte) error {
		asked.ResponseStatusCode, asked.ResponseHeaders, asked.ResponseBody = status, plainHeader(header), body
		return s.ask(r.Context(), "AuthZPlugin.AuthZRes", &asked)
	}}
	for name, values := range r.w.Header() {
		w.header[name] = values
	}
	rec := &recorder{ResponseWriter: w}
	outer := r.w
	r.w = rec
	err = handle()
	r.w = outer
	if err != nil {
		rec.fail(err)
	}
	if o, ok := outer.(*recorder); ok && rec.status == http.StatusSwitchingProtocols {
		o.status = rec.status // the connection is a stream's, or was
	}
	return w.finish()
}

// ask has every plug-in decide.
func (s *server) ask(ctx context.Context, method string, asked *authRequest) error {
	for _, name := range s.opts.Authorization {
		p, err := s.engine.Plugins().Get(ctx, name, authorizer)
		if err != nil {
			return fmt.Errorf("plugin %s failed with error: %v", name, err)
		}
		var answer struct {
			Allow bool
			Msg   string
		}
		if err := p.Call(ctx, method, asked, &answer); err != nil {
			return fmt.Errorf("plugin %s failed with error: %v", name, err)
		}
		if !answer.Allow {
			return fmt.Errorf("authorization denied by plugin %s: %s: %w", name, answer.Msg, errdefs.ErrForbidden)
		}
	}
	return nil
}

// plainHeader is a header with one value each, without what would give the plug-in a registry's password.
func plainHeader(h http.Header) map[string]string {
	out := map[string]string{}
	for name, values := range h {
		if name != "X-Registry-Auth" && name != "X-Registry-Config" && len(values) > 0 {
			out[name] = values[len(values)-1]
		}
	}
	return out
}

// peekBody returns a body of JSON, which the handler still finds.
func (r *request) peekBody() ([]byte, error) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" || r.ContentLength == 0 {
		return nil, nil
	}
	body, err := r.readBody(maxShown)
	if err != nil {
		return nil, fmt.Errorf("request body, for authorization plug-ins to judge: %v: %w", err, errdefs.ErrForbidden)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return body, nil
}

// authWriter holds an answer back until the plug-ins have decided about it.
type authWriter struct {
	http.ResponseWriter
	header  http.Header
	status  int
	body    bytes.Buffer
	decide  func(status int, header http.Header, body []byte) error
	decided bool
	denied  error
}

func (w *authWriter) Header() http.Header { return w.header }

func (w *authWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *authWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if !w.decided && w.body.Len()+len(b) <= maxAnswerShown {
		return w.body.Write(b)
	}
	if err := w.release(nil); err != nil {
		return 0, err
	}
	return w.ResponseWriter.Write(b)
}

// release asks about the answer and sends what is there of it, if it may be. shown is the body that the
// plug-ins see.
func (w *authWriter) release(shown []byte) error {
	if w.decided {
		return w.denied
	}
	w.decided = true
	if w.status == 0 {
		w.status = http.StatusOK
	}
	if w.denied = w.decide(w.status, w.header, shown); w.denied != nil {
		return w.denied
	}
	to := w.ResponseWriter.Header()
	clear(to)
	for name, values := range w.header {
		to[name] = values
	}
	w.ResponseWriter.WriteHeader(w.status)
	if w.body.Len() == 0 {
		return nil
	}
	_, err := w.ResponseWriter.Write(w.body.Bytes())
	return err
}

// finish sends what is still held back. It returns why the answer is refused, if it is.
func (w *authWriter) finish() error {
	err := w.release(w.body.Bytes())
	if errors.Is(err, w.denied) {
		return w.denied
	}
	return nil // the client is gone
}

// FlushError is for http.ResponseController: from here on it is a stream.
func (w *authWriter) FlushError() error {
	if err := w.release(nil); err != nil {
		return err
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack is for http.ResponseController: the plug-ins are asked about the upgrade.
func (w *authWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if !w.decided {
		w.decided = true
		if w.denied = w.decide(http.StatusSwitchingProtocols, w.header, nil); w.denied != nil {
			return nil, nil, w.denied
		}
	}
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

// Unwrap is for http.ResponseController: deadlines and full duplex.
func (w *authWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
