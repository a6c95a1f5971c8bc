package probe

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// aligned reads a device past the page cache where that is possible: another host may have written to it, and one bad sector must
// not pull readahead over its neighbours. What was read is kept, because those who ask come back to the same few places.
type aligned struct {
	f      *os.File
	r      io.ReaderAt // f
	size   int64
	buf    []byte // page-aligned, of one window
	cache  map[int64][]byte
	failed error // the first error; what else can be read is read all the same
}

const (
	window = 64 << 10
	page   = 4 << 10
)

func openAligned(path string) (*aligned, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) {
		f, err = os.OpenFile(path, os.O_RDONLY, 0) // a file system without O_DIRECT
	}
	if err != nil {
		return nil, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	buf, err := unix.Mmap(-1, 0, window, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &aligned{f: f, r: f, size: size, buf: buf, cache: map[int64][]byte{}}, nil
}

func (d *aligned) close() { _, _ = unix.Munmap(d.buf), d.f.Close() } // only read

// ReadAt gives what is there, and an error for the first part that is not.
func (d *aligned) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		at := off + int64(done)
		if at >= d.size {
			return done, io.EOF
		}
		w, err := d.window(at / window * window)
		if in := at % window; in < int64(len(w)) {
			done += copy(p[done:], w[in:])
			continue
		}
		if err == nil {
			err = io.EOF
		}
		return done, err
	}
	return done, nil
}

// window gives the bytes from at on, as many as can be read of a window.
func (d *aligned) window(at int64) ([]byte, error) {
	if w, ok := d.cache[at]; ok {
		return w, d.failed
	}
	want := int(min(window, d.size-at))
	n, err := d.read(0, want, at)
	if err != nil { // a page at a time up to the bad one: a label may end before it
		n = 0
		for n < want {
			var k int
			k, err = d.read(n, min(page, want-n), at+int64(n))
			n += k
			if err != nil {
				break
			}
		}
	}
	if err != nil && d.failed == nil {
		d.failed = err
	}
	w := append([]byte(nil), d.buf[:n]...)
	d.cache[at] = w
	return w, err
}

// read fills buf from i on. The last bytes of a file that is no device may be less than a sector; then a whole page is asked for.
func (d *aligned) read(i, n int, at int64) (int, error) {
	whole := (n + page - 1) / page * page
	got, err := d.r.ReadAt(d.buf[i:min(i+whole, len(d.buf))], at)
	if errors.Is(err, io.EOF) && got >= n {
		err = nil
	}
	return min(got, n), err
}
