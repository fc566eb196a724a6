package objects

import (
	"encoding/json"
	"errors"
	"fmt"

	"novaagent/engine/errdefs"
)

// maxDepth bounds how deep arrays and objects may nest, ours and those that are
// kept unread. Nova's own reach about 20.
const maxDepth = 100

var errDepth = errors.New("nested too deep")

// cursor reads a JSON text that json.Valid has accepted, in one pass and without
// a tree: messages reach 100 kB, most of it objects within objects, and
// encoding/json would scan each level anew.
type cursor struct {
	b     []byte
	i     int
	depth int
}

func newCursor(raw []byte) (*cursor, error) {
	if !json.Valid(raw) {
		return nil, fmt.Errorf("object is not JSON: %w", errdefs.ErrInvalid)
	}
	return &cursor{b: raw}, nil
}

// peek returns the first byte of the next token.
func (c *cursor) peek() byte {
	for {
		switch c.b[c.i] {
		case ' ', '\t', '\r', '\n':
			c.i++
		default:
			return c.b[c.i]
		}
	}
}

// null consumes a null, if that is next.
func (c *cursor) null() bool {
	if c.peek() != 'n' {
		return false
	}
	c.i += len("null")
	return true
}

// members calls f with each key of the object that is next; f consumes the value.
// The key is valid until f returns.
func (c *cursor) members(f func(key []byte) error) error {
	if c.peek() != '{' {
		return wrongType("an object", c)
	}
	return c.nested(func() error {
		key := c.stringBytes()
		c.peek() // the colon
		c.i++
		return f(key)
	})
}

// elements calls f for each element of the array that is next; f consumes it.
func (c *cursor) elements(f func() error) error {
	if c.peek() != '[' {
		return wrongType("a list", c)
	}
	return c.nested(f)
}

func (c *cursor) nested(f func() error) error {
	if c.depth++; c.depth > maxDepth {
		return errDepth
	}
	c.i++
	for {
		switch c.peek() {
		case '}', ']':
			c.i++
			c.depth--
			return nil
		case ',':
			c.i++
			c.peek()
		}
		if err := f(); err != nil {
			return err
		}
	}
}

// raw consumes the next value and returns its text, which is part of the input.
func (c *cursor) raw() ([]byte, error) {
	first := c.peek()
	start, depth := c.i, 0
	switch first {
	case '"':
		c.skipString()
		return c.b[start:c.i], nil
	case '{', '[':
	default:
		return c.scalar(), nil
	}
	for {
		switch c.b[c.i] {
		case '"':
			c.skipString()
			continue
		case '{', '[':
			if depth++; c.depth+depth > maxDepth {
				return nil, errDepth
			}
		case '}', ']':
			if depth--; depth == 0 {
				c.i++
				return c.b[start:c.i], nil
			}
		}
		c.i++
	}
}

// scalar consumes a number, true, false or null.
func (c *cursor) scalar() []byte {
	c.peek()
	start := c.i
	for c.i < len(c.b) {
		switch c.b[c.i] {
		case ',', ']', '}', ' ', '\t', '\r', '\n':
			return c.b[start:c.i]
		}
		c.i++
	}
	return c.b[start:]
}

// skipString passes over the string at the cursor, and says whether its text
// needs decoding.
func (c *cursor) skipString() (coded bool) {
	for c.i++; ; c.i++ {
		switch b := c.b[c.i]; {
		case b == '"':
			c.i++
			return coded
		case b == '\\':
			c.i++
			coded = true
		case b >= 0x80:
			coded = true // perhaps not UTF-8
		}
	}
}

// stringBytes consumes a string. The result may be part of the input.
func (c *cursor) stringBytes() []byte {
	start := c.i
	if coded := c.skipString(); !coded {
		return c.b[start+1 : c.i-1]
	}
	var s string
	// Cannot fail: the text is a valid JSON string.
	_ = json.Unmarshal(c.b[start:c.i], &s)
	return []byte(s)
}

// text consumes the string that must be next.
func (c *cursor) text() (string, error) {
	if c.peek() != '"' {
		return "", wrongType("a string", c)
	}
	return string(c.stringBytes()), nil
}

// wrongType names what is next instead of what was wanted, not its value, which
// may be secret.
func wrongType(want string, c *cursor) error {
	got := "a number"
	switch c.peek() {
	case '{':
		got = "an object"
	case '[':
		got = "a list"
	case '"':
		got = "a string"
	case 't', 'f':
		got = "a boolean"
	case 'n':
		got = "null"
	}
	return fmt.Errorf("%s where %s is needed", got, want)
}

func isNull(raw []byte) bool {
	i, j := 0, len(raw)
	space := func(b byte) bool { return b == ' ' || b == '\t' || b == '\r' || b == '\n' }
	for i < j && space(raw[i]) {
		i++
	}
	for i < j && space(raw[j-1]) {
		j--
	}
	return string(raw[i:j]) == "null"
}
