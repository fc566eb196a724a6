package engine

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
)

// logFile is one of a log's files. id outlives rotations and compression.
type logFile struct {
	path string
	id   uint64
}

// openLog is a file of a log, as it is or, if it was compressed, as it was.
type openLog struct {
	*os.File
	text *gzip.Reader // nil if it is not compressed
}

// Read reads the log's text.
func (f *openLog) Read(b []byte) (int, error) {
	if f.text != nil {
		return f.text.Read(b)
	}
	return f.File.Read(b)
}

// logIDFormat is how a compressed file's header has the id of the file that it was.
const logIDFormat = "log %x"

// logIDBytes is how much of a file's first line counts for its id.
const logIDBytes = 512

// id is made of the inode and the first line with its time, since inodes are used again. It is not the same before that
// line is there as after.
func (f *openLog) id() (id uint64, err error) {
	if f.text != nil {
		if _, err := fmt.Sscanf(f.text.Comment, logIDFormat, &id); err != nil {
			return 0, fmt.Errorf("%s: compressed by somebody else: %w", f.Name(), err)
		}
		return id, nil
	}
	inode, err := f.inode()
	if err != nil {
		return 0, err
	}
	head := make([]byte, logIDBytes)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	line, _, _ := bytes.Cut(head[:n], []byte{'\n'})
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %s", inode, line)
	return h.Sum64(), nil
}

func (f *openLog) inode() (uint64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return inodeOf(info), nil
}

func openLogFile(path string) (*openLog, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	f := &openLog{File: file}
	magic := make([]byte, 2)
	if _, err = file.ReadAt(magic, 0); err == nil && bytes.Equal(magic, []byte{0x1f, 0x8b}) { // a log's text begins with {
		if f.text, err = gzip.NewReader(file); err != nil {
			err = fmt.Errorf("%s: %w", path, err)
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.Join(err, file.Close())
	}
	return f, nil
}

// rotatedPath is where a log's file is after i rotations.
func rotatedPath(path string, i int) string {
	if i == 0 {
		return path
	}
	return path + "." + strconv.Itoa(i)
}

// files are the log's files, the oldest first.
func (r *logReader) files() (files []logFile) {
	// While files are rotated one may be missing, and one may be seen at two places.
	for i, missing := 0, 0; missing < 2; i++ {
		path := rotatedPath(r.path, i)
		f, err := openLogFile(path)
		if err != nil {
			missing++
			continue
		}
		missing = 0
		id, err := f.id()
		f.Close()
		if err == nil && !slices.ContainsFunc(files, func(other logFile) bool { return other.id == id }) {
			files = append(files, logFile{path, id})
		}
	}
	slices.Reverse(files)
	return files
}

// find opens one of the log's files, wherever rotations have brought it. fs.ErrNotExist: it is gone.
func (r *logReader) find(want logFile) (*openLog, error) {
	for range 10 {
		f, err := openLogFile(want.path)
		if err == nil {
			id, err := f.id()
			if id == want.id {
				return f, err
			}
			f.Close()
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		files := r.files()
		i := slices.IndexFunc(files, func(other logFile) bool { return other.id == want.id })
		if i < 0 {
			break
		}
		want = files[i]
	}
	return nil, fs.ErrNotExist
}

// open goes on with one of files. fs.ErrNotExist: it is gone.
func (r *logReader) open(want logFile, offset int64) error {
	f, err := r.find(want)
	if err != nil {
		return err
	}
	return r.use(f, offset)
}

// use goes on with f, which it closes if it fails.
func (r *logReader) use(f *openLog, offset int64) (err error) {
	if f.text != nil {
		_, err = io.CopyN(io.Discard, f.text, offset)
	} else {
		_, err = f.Seek(offset, io.SeekStart)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if r.file != nil {
		r.file.Close()
	}
	r.file, r.partial, r.passed = f, nil, offset
	if r.buf == nil {
		r.buf = bufio.NewReaderSize(f, 64<<10)
	} else {
		r.buf.Reset(f)
	}
	return nil
}

// tailStart finds where the last n lines of files, which are in the order of their age, begin.
func tailStart(files []logFile, n int) ([]logFile, int64, error) {
	for i := len(files) - 1; i >= 0; i-- {
		offset, found, err := tailOffset(files[i].path, n)
		if err != nil {
			return nil, 0, err
		}
		if n -= found; n <= 0 || i == 0 {
			return files[i:], offset, nil
		}
	}
	return files, 0, nil
}

// tailOffset returns where the last n lines of a file begin, and how many there are.
func tailOffset(path string, n int) (offset int64, found int, err error) {
	f, err := openLogFile(path)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	if f.text != nil {
		return tailOfText(f.text, n)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, 0, err
	}
	if n == 0 {
		return size, 0, nil
	}
	buf := make([]byte, 64<<10)
	for end := size; end > 0; {
		start := max(0, end-int64(len(buf)))
		part := buf[:end-start]
		if _, err := f.ReadAt(part, start); err != nil && !errors.Is(err, io.EOF) {
			return 0, 0, err
		}
		for i := len(part); i > 0; {
			i = bytes.LastIndexByte(part[:i], '\n')
			if i < 0 {
				break
			}
			if start+int64(i) == size-1 {
				continue // the end of the last line, not of one before it
			}
			if found++; found == n {
				return start + int64(i) + 1, n, nil
			}
		}
		end = start
	}
	if size > 0 {
		found++
	}
	return 0, found, nil
}

// tailOfText is tailOffset for a text that can be read from its beginning only.
func tailOfText(text io.Reader, n int) (offset int64, found int, err error) {
	var begins []int64 // of the last lines; those before the last n are dropped now and then
	at, buf := int64(0), bufio.NewReaderSize(text, 64<<10)
	for begin := true; ; {
		piece, err := buf.ReadSlice('\n')
		if len(piece) > 0 && begin {
			if len(begins) >= 2*n+1024 {
				begins = append(begins[:0], begins[len(begins)-n:]...)
			}
			begins = append(begins, at)
		}
		at += int64(len(piece))
		begin = err == nil
		switch {
		case errors.Is(err, io.EOF):
			if n = min(n, len(begins)); n == 0 {
				return at, 0, nil
			}
			return begins[len(begins)-n], n, nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return 0, 0, err
		}
	}
}
