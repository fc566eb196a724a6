package pipe

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
)

func content(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// TestStream passes streams of several lengths in pieces of several sizes, with both ways to write and to read.
func TestStream(t *testing.T) {
	type writeTo struct{ io.Writer }    // hides ReadFrom
	type readFrom struct{ io.Reader }   // hides WriteTo
	type onlyReader struct{ io.Reader } // hides that of bytes.Reader
	for _, n := range []int{0, 1, chunkBytes - 1, chunkBytes, chunkBytes + 1, 20*chunkBytes + 12345} {
		want := content(n)
		for _, piece := range []int{512, 4097, 1 << 20} {
			for _, whole := range []bool{false, true} {
				r, w := New()
				go func() {
					var to io.Writer = writeTo{w}
					if whole {
						to = w
					}
					_, err := io.CopyBuffer(to, onlyReader{bytes.NewReader(want)}, make([]byte, piece))
					if err == nil {
						err = w.Close()
					}
					if err != nil {
						t.Error(err)
					}
				}()
				var from io.Reader = readFrom{r}
				if whole {
					from = r
				}
				var got bytes.Buffer
				if _, err := io.CopyBuffer(struct{ io.Writer }{&got}, from, make([]byte, piece)); err != nil {
					t.Error(err)
				}
				if !bytes.Equal(got.Bytes(), want) {
					t.Errorf("%d bytes in pieces of %d came as %d", n, piece, got.Len())
				}
				if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
					t.Error("after the end:", n, err)
				}
			}
		}
	}
}

// TestAtOnce: what ReadFrom gets is passed on while it waits for more.
func TestAtOnce(t *testing.T) {
	r, w := New()
	slow, feed := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := w.ReadFrom(slow)
		done <- errors.Join(err, w.Close())
	}()
	for _, text := range []string{"a", "bc"} {
		if _, err := io.WriteString(feed, text); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(text))
		if _, err := io.ReadFull(r, got); err != nil || string(got) != text {
			t.Fatal(string(got), err)
		}
	}
	feed.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestEnds: either end, and others, can end it for both, whatever they wait for.
func TestEnds(t *testing.T) {
	bad := errors.New("bad")
	for _, tt := range []struct {
		name string
		end  func(*Reader, *Writer)
		want error
	}{
		{"close of the reader", func(r *Reader, _ *Writer) { r.Close() }, io.ErrClosedPipe},
		{"abort by the reader", func(r *Reader, _ *Writer) { r.Abort(bad) }, bad},
		{"abort by the writer", func(_ *Reader, w *Writer) { w.Abort(bad) }, bad},
	} {
		r, w := New()
		wrote := make(chan error, 1)
		go func() {
			_, err := io.Copy(struct{ io.Writer }{w}, zeros{})
			wrote <- err
		}()
		if _, err := io.CopyN(io.Discard, r, 3*chunkBytes); err != nil {
			t.Fatal(tt.name, err)
		}
		tt.end(r, w)
		if err := <-wrote; !errors.Is(err, tt.want) {
			t.Errorf("%s: the writer's error is %v, want %v", tt.name, err, tt.want)
		}
		if _, err := io.Copy(io.Discard, r); !errors.Is(err, tt.want) {
			t.Errorf("%s: the reader's error is %v, want %v", tt.name, err, tt.want)
		}

		r, w = New()
		read := make(chan error, 1)
		go func() {
			_, err := r.Read(make([]byte, 1))
			read <- err
		}()
		tt.end(r, w)
		if err := <-read; !errors.Is(err, tt.want) {
			t.Errorf("%s: the waiting reader's error is %v, want %v", tt.name, err, tt.want)
		}
	}
}

// TestReadError: what fails to be read is the copy's error, and what was read is passed on.
func TestReadError(t *testing.T) {
	r, w := New()
	bad := errors.New("bad")
	if n, err := w.ReadFrom(io.MultiReader(bytes.NewReader([]byte("abc")), iotest.ErrReader(bad))); n != 3 || !errors.Is(err, bad) {
		t.Error(n, err)
	}
	got := make([]byte, 3)
	if _, err := io.ReadFull(r, got); err != nil || string(got) != "abc" {
		t.Error(string(got), err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
