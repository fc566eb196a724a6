package rpc

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"os"
	"testing"
)

// samples are bodies of recorded messages, one a line.
func samples(f *testing.F) [][]byte {
	f.Helper()
	data, err := os.ReadFile("testdata/messages.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	var out [][]byte
	for line := range bytes.Lines(data) {
		body, err := sealEnvelope(bytes.TrimSpace(line))
		if err != nil {
			f.Fatal(err)
		}
		out = append(out, body, bytes.TrimSpace(line))
	}
	return out
}

// What is understood as a request can be sent on, and is the same then.
func FuzzRequest(f *testing.F) {
	for _, s := range samples(f) {
		f.Add(s)
	}
	f.Add([]byte(`{"oslo.version":"2.0","oslo.message":"{\"method\":\"x\",\"_timeout\":\"60\",\"_msg_id\":\"1\",\"_reply_q\":\"reply_1\"}"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		inner, err := openEnvelope(body)
		if err != nil {
			return
		}
		watchdogToken(inner)
		in, err := decodeRequest(inner)
		if err != nil {
			return
		}
		if in.context == nil || in.args == nil || in.method == "" {
			t.Fatalf("%+v", in)
		}
		_, _, _ = in.context.Roles(), in.context.RequestID(), in.context.Elevated().IsAdmin()
		out := outgoingRequest{
			target: Target{Namespace: in.namespace, Version: in.version}, method: in.method,
			args: map[string]any{}, uniqueID: in.uniqueID, context: in.context,
		}
		for key, value := range in.args {
			out.args[key] = value
		}
		if in.msgID != "" {
			out.call = &callFields{msgID: in.msgID, replyQ: in.replyQ, monitor: in.monitor}
		}
		again, err := out.encode()
		if err != nil {
			t.Fatal(err)
		}
		if inner, err = openEnvelope(again); err != nil {
			t.Fatal(err)
		}
		second, err := decodeRequest(inner)
		if err != nil {
			t.Fatal(err)
		}
		if second.method != in.method || second.version != in.version && in.version != "" || second.namespace != in.namespace ||
			second.msgID != in.msgID || len(second.args) != len(in.args) || len(second.context.values) != len(in.context.values) {
			t.Fatalf("%+v became %+v", in, second)
		}
	})
}

func FuzzReply(f *testing.F) {
	for _, s := range samples(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		inner, err := openEnvelope(body)
		if err != nil {
			return
		}
		reply, err := decodeReply(inner)
		if err != nil {
			return
		}
		if reply.Failure != nil {
			e := decodeFailure(*reply.Failure)
			if e.Class == "" {
				t.Fatalf("%+v", e)
			}
			if !json.Valid([]byte(encodeFailure(e))) {
				t.Fatal("not JSON")
			}
		}
		if _, err := seal(reply); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzTransportURL(f *testing.F) {
	for _, tt := range transportURLs {
		f.Add(tt)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := ParseTransportURL(raw)
		if err != nil {
			return
		}
		_ = u.String()
		for _, h := range u.Hosts {
			_ = h.Address()
		}
		o := DefaultOptions()
		if _, err := u.apply(&o.Rabbit); err == nil {
			_ = o.check()
		}
	})
}

// FuzzLimitedConn feeds frames: each byte of the recipe is one. What comes out
// is what went in, without the bodies of contents that are too large.
func FuzzLimitedConn(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 250, 251, 252, 253, 254, 255}, 7)
	f.Fuzz(func(t *testing.T, recipe []byte, chunk int) {
		const limit = 300
		var in, want bytes.Buffer
		for _, b := range recipe[:min(len(recipe), 200)] {
			channel, size := uint16(b%3), int(b)*3
			switch b % 4 {
			case 0:
				frame(&in, 1, channel, bytes.Repeat([]byte{b}, size))
				frame(&want, 1, channel, bytes.Repeat([]byte{b}, size))
			case 1:
				frame(&in, 8, 0, nil)
				frame(&want, 8, 0, nil)
			default:
				head := make([]byte, 12+size%20)
				binary.BigEndian.PutUint64(head[4:], uint64(size))
				frame(&in, frameContentHead, channel, head)
				first, second := make([]byte, size/2), make([]byte, size-size/2)
				frame(&in, frameBody, channel, first)
				frame(&in, frameBody, channel, second)
				if size > limit {
					clear(head[4:12])
				}
				frame(&want, frameContentHead, channel, head)
				if size <= limit {
					frame(&want, frameBody, channel, first)
					frame(&want, frameBody, channel, second)
				}
			}
		}
		c := newLimitedConn(&readConn{r: &in, chunk: max(1, chunk%5000)}, limit)
		got, err := io.ReadAll(bufio.NewReader(c))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want.Bytes()) {
			t.Fatalf("%d bytes came out, want %d", len(got), want.Len())
		}
	})
}

func frame(w *bytes.Buffer, kind byte, channel uint16, payload []byte) {
	w.WriteByte(kind)
	_ = binary.Write(w, binary.BigEndian, channel)
	_ = binary.Write(w, binary.BigEndian, uint32(len(payload)))
	w.Write(payload)
	w.WriteByte(0xce)
}

// readConn is a connection that only reads, some bytes at a time.
type readConn struct {
	net.Conn
	r     io.Reader
	chunk int
}

func (c *readConn) Read(p []byte) (int, error) { return c.r.Read(p[:min(len(p), c.chunk)]) }
