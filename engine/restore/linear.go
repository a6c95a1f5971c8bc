// Package restore writes back what was saved: runs of bytes into image files or devices, trees into directories.
// It never replaces what it was not told to replace, and what could not be brought back is said, not dropped.
package restore

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"unicode/utf8"
	"unsafe"

	"golang.org/x/sys/unix"

	"aslrescue/engine/artifact"
	"aslrescue/engine/source"
)

// Existing says what may happen to something that already stands at the destination.
type Existing int

const (
	// Refuse leaves it alone: the destination must not exist.
	Refuse Existing = iota
	// ReplaceFile puts the new file in the place of a regular file once it is whole.
	ReplaceFile
	// WriteDevice overwrites a block device that nothing uses.
	WriteDevice
)

// PartSuffix is added to the name of an image file until it is whole.
const PartSuffix = ".partial"

// maxName is what file systems take of a name.
const maxName = 255

// PartName is what a file is called until it is whole: with PartSuffix, for which a name that is too long makes room.
func PartName(dst string) string {
	dir, name := filepath.Split(dst)
	if n := maxName - len(PartSuffix); len(name) > n {
		for k := n; k > n-utf8.UTFMax; k-- { // vfat takes whole letters only
			if utf8.RuneStart(name[k]) {
				n = k
				break
			}
		}
		name = name[:n]
	}
	return dir + name + PartSuffix
}

// maxWrite bounds one write: larger ones cost the page cache a multiple of the CPU time (measured at 4 MiB).
const maxWrite = 512 << 10

// LinearWriter writes one run of bytes. WriteAt and Gap may be called from several goroutines at once. What is not
// written reads as zeros afterwards: in a file it is a hole, on a device it is overwritten with zeros.
type LinearWriter struct {
	f      *os.File
	path   string // what is being written
	dst    string // what it is called at the end
	size   int64
	mode   Existing
	device bool

	mu    sync.Mutex
	gaps  []source.Gap
	spans []span // written ranges of a device, sorted, apart
	err   error  // the first failure; nothing is trusted after it
	done  bool
}

// span is a range of bytes from a to b.
type span struct{ a, b int64 }

// Linear begins to write size bytes to dst. A new image file is called dst plus PartSuffix until Finish gives it its
// name, so that one that was interrupted is never taken for a whole one.
func Linear(dst string, size int64, existing Existing) (*LinearWriter, error) {
	if size < 0 {
		return nil, fmt.Errorf("restore to %s: size %d is negative", dst, size)
	}
	abs, err := filepath.Abs(dst)
	if err != nil {
		return nil, fmt.Errorf("restore to %s: %w", dst, err)
	}
	w := &LinearWriter{dst: abs, size: size, mode: existing}
	if existing == WriteDevice {
		return w, w.openDevice()
	}
	return w, w.createFile()
}

func (w *LinearWriter) createFile() error {
	switch st, err := os.Lstat(w.dst); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("restore: %w", err)
	case w.mode != ReplaceFile:
		return fmt.Errorf("restore to %s: %w", w.dst, fs.ErrExist)
	case !st.Mode().IsRegular():
		return fmt.Errorf("restore to %s: it is not a regular file, and only those can be replaced: %w", w.dst, fs.ErrExist)
	}
	w.path = PartName(w.dst)
	f, err := os.OpenFile(w.path, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("restore to %s: an earlier restore was interrupted and left %s; remove it or take another name: %w",
			w.dst, w.path, err)
	}
	if err != nil {
		return fmt.Errorf("restore: %w", full(err))
	}
	w.f = f
	if err := f.Truncate(w.size); err != nil {
		f.Close()
		os.Remove(w.path) // empty, and made by the call above
		return fmt.Errorf("restore to %s: %d bytes: %w", w.dst, w.size, full(err))
	}
	return nil
}

func (w *LinearWriter) openDevice() error {
	real, err := filepath.EvalSymlinks(w.dst)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if st, err := os.Stat(real); err != nil {
		return fmt.Errorf("restore: %w", err)
	} else if st.Mode()&(os.ModeDevice|os.ModeCharDevice) != os.ModeDevice {
		return fmt.Errorf("restore to %s: it is not a block device", w.dst)
	}
	// Without O_CREAT, O_EXCL makes the kernel refuse a device that is mounted or in use by md, LVM, ZFS or swap.
	f, err := os.OpenFile(real, os.O_RDWR|os.O_EXCL, 0)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("restore to %s: it is in use (mounted, or part of a pool, array or volume group): %w", w.dst, err)
	}
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	have, err := f.Seek(0, io.SeekEnd)
	if err == nil && have < w.size {
		err = fmt.Errorf("it holds %d bytes, %d are wanted: %w", have, w.size, artifact.ErrFull)
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("restore to %s: %w", w.dst, err)
	}
	w.f, w.path, w.device = f, real, true
	return nil
}

// WriteAt writes p at off. After an error nothing can be written any more.
func (w *LinearWriter) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > w.size || int64(len(p)) > w.size-off {
		return 0, fmt.Errorf("restore to %s: %d bytes at %d lie outside its %d bytes", w.dst, len(p), off, w.size)
	}
	if err := w.state(); err != nil {
		return 0, err
	}
	for n := 0; n < len(p); {
		m, err := w.f.WriteAt(p[n:min(len(p), n+maxWrite)], off+int64(n))
		n += m
		if err != nil {
			return n, w.fail(err)
		}
	}
	if w.device {
		w.mu.Lock()
		w.spans = addSpan(w.spans, span{off, off + int64(len(p))})
		w.mu.Unlock()
	}
	return len(p), nil
}

// Gap notes a range for which there is no data.
func (w *LinearWriter) Gap(g source.Gap) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gaps = append(w.gaps, g)
}

// Keep leaves what a device has in a range as it is.
func (w *LinearWriter) Keep(off, n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.device {
		w.spans = addSpan(w.spans, span{off, off + n})
	}
}

// Gaps are the ranges noted, sorted, neighbours of one kind and reason joined.
func (w *LinearWriter) Gaps() []source.Gap {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := slices.Clone(w.gaps)
	slices.SortFunc(all, func(a, b source.Gap) int { return cmp.Compare(a.Off, b.Off) })
	out := all[:0]
	for _, g := range all {
		if k := len(out) - 1; k >= 0 && out[k].Off+out[k].Len == g.Off && out[k].Kind == g.Kind && out[k].Why == g.Why {
			out[k].Len += g.Len
			continue
		}
		out = append(out, g)
	}
	return out
}

// Path is where the bytes are now: with PartSuffix until Finish succeeded.
func (w *LinearWriter) Path() string { return w.path }

// Finish makes everything durable and gives a file its name. Without it, see Abort.
func (w *LinearWriter) Finish() error {
	if err := w.state(); err != nil {
		return err
	}
	if w.device {
		if err := w.zeroRest(); err != nil {
			return w.fail(err)
		}
	}
	if err := w.f.Sync(); err != nil {
		return w.fail(err)
	}
	w.mu.Lock()
	w.done = true
	w.mu.Unlock()
	if err := w.f.Close(); err != nil {
		return fmt.Errorf("restore to %s: %w", w.dst, full(err))
	}
	if w.device {
		return nil
	}
	if err := Move(w.path, w.dst, w.mode == ReplaceFile); err != nil {
		return fmt.Errorf("restore to %s: all bytes are in %s, but it could not be renamed: %w", w.dst, w.path, err)
	}
	w.path = w.dst
	return syncDir(filepath.Dir(w.dst))
}

// Move gives a file that is whole its name. Without replace it takes nobody else's.
func Move(from, to string, replace bool) error {
	if replace {
		return os.Rename(from, to)
	}
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if err != unix.EINVAL && err != unix.ENOSYS && err != unix.EOPNOTSUPP {
		return err
	}
	// File systems such as NFS and exFAT-FUSE cannot do that; a link cannot replace anything either.
	if err := os.Link(from, to); err == nil {
		return os.Remove(from)
	}
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return fs.ErrExist
	}
	return os.Rename(from, to)
}

// Abort ends writing without success. What was written stays: of a file under its name with PartSuffix. After Finish it
// does nothing, so it can be deferred.
func (w *LinearWriter) Abort() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done || w.f == nil {
		return nil
	}
	w.done = true
	return w.f.Close()
}

func (w *LinearWriter) state() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	if w.done {
		return fmt.Errorf("restore to %s: %w", w.dst, fs.ErrClosed)
	}
	return nil
}

func (w *LinearWriter) fail(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = fmt.Errorf("restore to %s: %w", w.dst, full(err))
	}
	return w.err
}

// zeroRest overwrites what was not written, which on a device would still be what stood there before.
func (w *LinearWriter) zeroRest() error {
	at := int64(0)
	for _, s := range append(w.spans, span{w.size, w.size}) {
		if s.a > at {
			if err := w.zero(at, s.a); err != nil {
				return err
			}
		}
		at = s.b
	}
	return nil
}

func (w *LinearWriter) zero(a, b int64) error {
	// The device can often do this without a transfer. The kernel wants whole sectors, and the cached pages gone.
	const block = 4096
	lo, hi := (a+block-1)/block*block, b/block*block
	if lo < hi {
		if err := w.f.Sync(); err != nil {
			return err
		}
		r := [2]uint64{uint64(lo), uint64(hi - lo)}
		_, _, no := unix.Syscall(unix.SYS_IOCTL, w.f.Fd(), unix.BLKZEROOUT, uintptr(unsafe.Pointer(&r)))
		if no == 0 {
			if err := w.writeZeros(a, lo); err != nil {
				return err
			}
			return w.writeZeros(hi, b)
		}
	}
	return w.writeZeros(a, b)
}

func (w *LinearWriter) writeZeros(a, b int64) error {
	zeros := make([]byte, min(b-a, maxWrite))
	for a < b {
		n, err := w.f.WriteAt(zeros[:min(b-a, int64(len(zeros)))], a)
		if err != nil {
			return err
		}
		a += int64(n)
	}
	return nil
}

// addSpan adds s to sorted spans that neither touch nor overlap, and keeps them so.
func addSpan(spans []span, s span) []span {
	if s.a >= s.b {
		return spans
	}
	i, _ := slices.BinarySearchFunc(spans, s.a, func(x span, a int64) int { return cmp.Compare(x.b, a) })
	j := i
	for j < len(spans) && spans[j].a <= s.b {
		s.a, s.b = min(s.a, spans[j].a), max(s.b, spans[j].b)
		j++
	}
	return slices.Replace(spans, i, j, s)
}

// full makes "no space" the error that the whole engine knows.
func full(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG) {
		return fmt.Errorf("%w: %w", artifact.ErrFull, err)
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	defer d.Close()
	// Some network file systems do not sync directories, and do not need it.
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("restore: %w", err)
	}
	return nil
}
