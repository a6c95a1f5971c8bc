package volume

import (
	"io"
	"sync"
)

const (
	windowSize = 256 << 10
	windowMost = 32
)

// windows reads a little around what is asked for and keeps it: file systems are read in small pieces that lie together. Where a window cannot be read
// whole, exactly what is asked for is read.
type windows struct {
	r    io.ReaderAt
	size int64

	mu   sync.Mutex
	have map[int64][]byte // nil: it cannot be read whole
	age  []int64
}

func (w *windows) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || len(p) > windowSize {
		return w.r.ReadAt(p, off)
	}
	n := 0
	for n < len(p) {
		b := w.window((off + int64(n)) / windowSize)
		at := (off + int64(n)) % windowSize
		if b == nil || at >= int64(len(b)) {
			k, err := w.r.ReadAt(p[n:], off+int64(n))
			return n + k, err
		}
		n += copy(p[n:], b[at:])
	}
	return n, nil
}

func (w *windows) window(i int64) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	if b, ok := w.have[i]; ok {
		return b
	}
	off := i * windowSize
	if off >= w.size {
		return nil
	}
	if w.have == nil {
		w.have = map[int64][]byte{}
	}
	if len(w.age) == windowMost {
		delete(w.have, w.age[0])
		w.age = w.age[1:]
	}
	b := make([]byte, min(windowSize, w.size-off))
	if n, _ := w.r.ReadAt(b, off); n < len(b) {
		b = nil
	}
	w.have[i], w.age = b, append(w.age, i)
	return b
}
