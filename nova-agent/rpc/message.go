package rpc

import (
	"bytes"
	"compress/bzip2"
	"compress/zlib"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"novaagent/engine/errdefs"
)

// envelopeVersion is what we send. Messages of the same major version and no
// later minor are accepted (oslo_messaging/_drivers/common.py, deserialize_msg).
const envelopeVersion = "2.0"

// maxDepth bounds the nesting of JSON in a message. Nova's deepest (a
// RequestSpec with NUMA topologies) stays below 40.
const maxDepth = 200

// maxName bounds method, namespace, version, queue names and IDs, in bytes: an
// AMQP short string.
const maxName = 255

// contextPrefix marks the request context's keys in a message.
const contextPrefix = "_context_"

// incoming is a request as it came.
type incoming struct {
	method, namespace, version string
	args                       map[string]json.RawMessage
	uniqueID, msgID, replyQ    string
	monitor                    int // call-monitor period in seconds; 0 is none
	context                    *RequestContext
}

// openEnvelope returns the message inside body. A JSON object without the
// envelope's keys is a message itself. ErrInvalid.
func openEnvelope(body []byte) ([]byte, error) {
	if err := checkDepth(body); err != nil {
		return nil, fmt.Errorf("envelope: %w", err)
	}
	var envelope struct {
		Version *string `json:"oslo.version"`
		Message *string `json:"oslo.message"`
	}
	if err := json.Unmarshal(body, &envelope); err != nil {
		return nil, fmt.Errorf("envelope: %v: %w", err, errdefs.ErrInvalid)
	}
	if envelope.Version == nil || envelope.Message == nil {
		return body, nil
	}
	if !compatible(envelopeVersion, *envelope.Version) {
		return nil, fmt.Errorf("envelope of version %.20q: %w", *envelope.Version, errdefs.ErrInvalid)
	}
	inner := []byte(*envelope.Message)
	if err := checkDepth(inner); err != nil {
		return nil, fmt.Errorf("message: %w", err)
	}
	return inner, nil
}

// sealEnvelope is the body of a message.
func sealEnvelope(message []byte) ([]byte, error) {
	return json.Marshal(struct {
		Version string `json:"oslo.version"`
		Message string `json:"oslo.message"`
	}{envelopeVersion, string(message)})
}

// decodeRequest reads the message inside an envelope. ErrInvalid.
func decodeRequest(message []byte) (*incoming, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(message, &fields); err != nil {
		return nil, fmt.Errorf("message: %v: %w", err, errdefs.ErrInvalid)
	}
	in := &incoming{version: "1.0"}
	for _, field := range []struct {
		key  string
		into *string
	}{
		{"method", &in.method}, {"namespace", &in.namespace}, {"version", &in.version},
		{"_unique_id", &in.uniqueID}, {"_msg_id", &in.msgID}, {"_reply_q", &in.replyQ},
	} {
		if err := name(fields, field.key, field.into); err != nil {
			return nil, err
		}
	}
	if in.method == "" {
		return nil, fmt.Errorf("message without method: %w", errdefs.ErrInvalid)
	}
	if raw := fields["args"]; raw != nil {
		if err := json.Unmarshal(raw, &in.args); err != nil {
			return nil, fmt.Errorf("message: args: %v: %w", err, errdefs.ErrInvalid)
		}
	}
	if in.args == nil {
		in.args = map[string]json.RawMessage{}
	}
	if in.msgID != "" && !isReplyQueue(in.replyQ) {
		// A forged name would make us put replies into a service's queue.
		return nil, fmt.Errorf("message: reply queue %.40q: %w", in.replyQ, errdefs.ErrInvalid)
	}
	in.monitor = monitorPeriod(fields["_timeout"])
	in.context = &RequestContext{values: make(map[string]json.RawMessage)}
	for key, value := range fields {
		if short, ok := strings.CutPrefix(key, contextPrefix); ok {
			in.context.values[short] = value
		}
	}
	return in, nil
}

// name reads a short string; null and absent leave *into as it is.
func name(fields map[string]json.RawMessage, key string, into *string) error {
	raw := fields[key]
	if raw == nil {
		return nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("message: %s: %v: %w", key, err, errdefs.ErrInvalid)
	}
	if len(*into) > maxName {
		return fmt.Errorf("message: %s of %d bytes: %w", key, len(*into), errdefs.ErrInvalid)
	}
	return nil
}

// isReplyQueue knows the names that oslo.messaging gives to reply queues, old
// (reply_<32 hex>) and of its queue manager (reply_<host>:<process>:<n>).
func isReplyQueue(queue string) bool { return strings.HasPrefix(queue, "reply_") }

// monitorPeriod is Python's int(_timeout), 0 for what is none.
func monitorPeriod(raw json.RawMessage) int {
	text := strings.Trim(string(raw), `" `)
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || !(f >= 1 && f <= math.MaxInt32) {
		return 0
	}
	return int(f)
}

// outgoingRequest is the message of a call or a cast. Pointers are left out
// when nil.
type outgoingRequest struct {
	target   Target
	method   string
	args     map[string]any
	uniqueID string
	context  *RequestContext
	call     *callFields
}

type callFields struct {
	msgID, replyQ string
	monitor       int // seconds; 0 is null
}

// encode returns the body. ErrInvalid if an argument is not JSON.
func (o *outgoingRequest) encode() ([]byte, error) {
	args := o.args
	if args == nil {
		args = map[string]any{}
	}
	message := map[string]any{"method": o.method, "args": args, "_unique_id": o.uniqueID}
	if o.target.Namespace != "" {
		message["namespace"] = o.target.Namespace
	}
	if o.target.Version != "" {
		message["version"] = o.target.Version
	}
	if o.call != nil {
		message["_msg_id"] = o.call.msgID
		message["_reply_q"] = o.call.replyQ
		message["_timeout"] = nil
		if o.call.monitor > 0 {
			message["_timeout"] = o.call.monitor
		}
	}
	for key, value := range o.context.values {
		message[contextPrefix+key] = value
	}
	return seal(message)
}

func seal(message any) ([]byte, error) {
	inner, err := json.Marshal(message)
	if err != nil {
		return nil, fmt.Errorf("encode message: %v: %w", err, errdefs.ErrInvalid)
	}
	body, err := sealEnvelope(inner)
	if err != nil {
		return nil, fmt.Errorf("encode envelope: %v: %w", err, errdefs.ErrInvalid)
	}
	return body, nil
}

// wireReply is a reply or, with Ending false, a sign of life.
type wireReply struct {
	Result   json.RawMessage `json:"result"`
	Failure  *string         `json:"failure"`
	Ending   bool            `json:"ending"`
	MsgID    string          `json:"_msg_id"`
	UniqueID string          `json:"_unique_id"`
}

// decodeReply reads the message inside an envelope. ErrInvalid.
func decodeReply(message []byte) (*wireReply, error) {
	reply := new(wireReply)
	if err := json.Unmarshal(message, reply); err != nil {
		return nil, fmt.Errorf("reply: %v: %w", err, errdefs.ErrInvalid)
	}
	if reply.MsgID == "" {
		return nil, fmt.Errorf("reply without _msg_id: %w", errdefs.ErrInvalid)
	}
	return reply, nil
}

// checkDepth refuses JSON that is nested too deep for the decoders above us.
// It looks at brackets only; the JSON decoder judges the rest.
func checkDepth(data []byte) error {
	depth, inString := 0, false
	for i := 0; i < len(data); i++ {
		c := data[i]
		switch {
		case inString:
			if c == '\\' {
				i++
			} else if c == '"' {
				inString = false
			}
		case c == '"':
			inString = true
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return fmt.Errorf("JSON nested deeper than %d: %w", maxDepth, errdefs.ErrInvalid)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

// decompress undoes kombu_compression (kombu/compression.py; its "gzip" is the
// zlib format). The result is bounded by limit bytes. ErrInvalid, ErrUnsupported.
func decompress(body []byte, method string, limit int64) ([]byte, error) {
	var r io.Reader
	switch method {
	case "application/x-gzip", "gzip", "zlib":
		z, err := zlib.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, fmt.Errorf("compressed body: %v: %w", err, errdefs.ErrInvalid)
		}
		r = z
	case "application/x-bz2", "bzip2", "bzip":
		r = bzip2.NewReader(bytes.NewReader(body))
	default:
		return nil, fmt.Errorf("compression %.40q: %w", method, errdefs.ErrUnsupported)
	}
	plain, err := io.ReadAll(io.LimitReader(r, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("compressed body: %v: %w", err, errdefs.ErrInvalid)
	case int64(len(plain)) > limit:
		return nil, fmt.Errorf("compressed body larger than %d bytes: %w", limit, errdefs.ErrInvalid)
	}
	return plain, nil
}

// compatible says whether an implementation of version have serves a request of
// version want: same major, minor and revision not larger
// (oslo_messaging/_utils.py, version_is_compatible).
func compatible(have, want string) bool {
	h, err1 := parseVersion(have)
	w, err2 := parseVersion(want)
	if err1 != nil || err2 != nil || h[0] != w[0] {
		return false
	}
	return w[1] < h[1] || w[1] == h[1] && w[2] <= h[2]
}

var errVersion = errors.New("not a version")

// parseVersion reads "6.1" or "6.1.2".
func parseVersion(s string) (v [3]int, err error) {
	parts := strings.Split(s, ".")
	if len(parts) < 2 || len(parts) > 3 {
		return v, errVersion
	}
	for i, part := range parts {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 {
			return v, errVersion
		}
		v[i] = n
	}
	return v, nil
}
