package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// ErrGone means that the source itself is no longer there: unplugged, switched off, its server away.
var ErrGone = errors.New("the source is gone")

// ErrSkipped means that a person gave the source up: what was read of it is all that is wanted. It is told as ErrGone too.
var ErrSkipped = fmt.Errorf("skipped by the operator: %w", ErrGone)

// Source is what every source can do. What Open gives is also a Linear or a TreeSource.
type Source interface {
	Info() Info
	Close() error
}

// Open opens what stands at path by what it is: a directory as a tree, a regular file as an image, a block device
// as a device. A symbolic link at the end of path is followed, here and nowhere else.
func Open(path string) (Source, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open source: %w", err)
	}
	switch m := st.Mode(); {
	case m.IsDir():
		return OpenTree(path)
	case m.IsRegular():
		return OpenImage(path)
	case m&fs.ModeDevice != 0 && m&fs.ModeCharDevice == 0:
		return OpenDevice(path)
	default:
		return nil, fmt.Errorf("open source %s: it is a %s; only directories, regular files and block devices can be "+
			"opened by name, anything else can be piped in", path, typeWord(m))
	}
}

func typeWord(m fs.FileMode) string {
	switch {
	case m&fs.ModeCharDevice != 0:
		return "character device"
	case m&fs.ModeNamedPipe != 0:
		return "FIFO"
	case m&fs.ModeSocket != 0:
		return "socket"
	}
	return "file of an unknown type"
}

// maxPiece bounds one call to the kernel, so that a cancelled context is noticed in time.
const maxPiece = 4 << 20

// steps are the sizes in bytes by which a failed range is taken apart. The sector size comes below the last.
var steps = [...]int{1 << 20, 64 << 10, 4 << 10}

// ReadRange fills buf from r at off and takes a range that fails apart until only the sectors that truly cannot be
// read remain: these are zero in buf and stand in gaps. n < len(buf) only at the end of r. An error means that
// reading cannot go on; n bytes and the gaps among them stand. It serves files of trees as well as whole disks.
func ReadRange(ctx context.Context, r io.ReaderAt, sector int, buf []byte, off int64) (n int, gaps []Gap, err error) {
	rd := ranger{ctx: ctx, r: r, sector: sector}
	n, err = rd.read(buf, off)
	return n, rd.gaps, err
}

// ranger is one call of ReadRange.
type ranger struct {
	ctx     context.Context
	r       io.ReaderAt
	fine    io.ReaderAt  // if set, reads pieces of 64 KiB and less in place of r
	alive   func() error // if set, asked after each failure: an error if the source is gone
	failing func()       // if set, called at the first failure
	sector  int
	failed  bool
	gaps    []Gap
}

// errShort is the end of the source.
var errShort = errors.New("end of source")

func (rd *ranger) read(buf []byte, off int64) (int, error) {
	n := 0
	for n < len(buf) {
		got, err := rd.piece(false, buf[n:min(len(buf), n+maxPiece)], off+int64(n))
		n += got
		if err == errShort {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// by is the reader for small pieces, or for large ones.
func (rd *ranger) by(fine bool) io.ReaderAt {
	if fine && rd.fine != nil {
		return rd.fine
	}
	return rd.r
}

// piece reads p whole: where it fails on the medium it goes on by smaller pieces. The error is errShort, or final.
func (rd *ranger) piece(fine bool, p []byte, off int64) (int, error) {
	if err := rd.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := rd.by(fine).ReadAt(p, off)
	switch {
	case n == len(p):
		return n, nil
	case err == nil || errors.Is(err, io.EOF):
		return n, errShort
	case goneErr(err):
		return n, fmt.Errorf("%w: %w", ErrGone, err)
	case !mediumErr(err):
		return n, err
	}
	if !rd.failed && rd.failing != nil {
		rd.failing()
	}
	rd.failed = true
	// A device that was pulled out may answer every read with EIO; without asking, the rest of it would be taken
	// for bad sectors, one by one.
	if rd.alive != nil {
		if gone := rd.alive(); gone != nil {
			return n, gone
		}
	}
	p = p[n:]
	if off += int64(n); rd.inSector(p, off) && (fine || rd.fine == nil) {
		rd.gap(p, off, err)
		return n + len(p), nil
	}
	rest, err := rd.apart(p, off)
	return n + rest, err
}

func (rd *ranger) inSector(p []byte, off int64) bool {
	s := int64(rd.sector)
	return off/s == (off+int64(len(p))-1)/s
}

// apart reads p, which failed as a whole, by smaller pieces.
func (rd *ranger) apart(p []byte, off int64) (int, error) {
	size := rd.sector
	for _, s := range steps {
		// Not the size that just failed: each needless read of a bad sector costs a dying disk.
		if s < len(p) && s > size {
			size = s
			break
		}
	}
	n := 0
	for n < len(p) {
		at := off + int64(n)
		got, err := rd.piece(size <= 64<<10, p[n:min(len(p), n+size-int(at%int64(size)))], at)
		n += got
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (rd *ranger) gap(p []byte, off int64, why error) {
	clear(p)
	g := Gap{Off: off, Len: int64(len(p)), Kind: Unreadable, Why: reason(why)}
	if k := len(rd.gaps) - 1; k >= 0 {
		if l := &rd.gaps[k]; l.Off+l.Len == g.Off && l.Kind == g.Kind && l.Why == g.Why {
			l.Len += g.Len
			return
		}
	}
	rd.gaps = append(rd.gaps, g)
}

// reason is an error without the path and the offset, so that equal reasons are equal text.
func reason(err error) string {
	var no unix.Errno
	if errors.As(err, &no) {
		return no.Error()
	}
	return err.Error()
}

// mediumErr tells errors that belong to a range of the medium: other ranges may well be readable.
func mediumErr(err error) bool {
	var no unix.Errno
	if !errors.As(err, &no) {
		return false
	}
	switch no {
	case unix.EIO, // buffered reads of a bad sector
		unix.ENODATA,                           // the same with O_DIRECT
		unix.EILSEQ,                            // protection information is wrong
		unix.EREMOTEIO,                         // the target says so
		unix.EBADE, unix.EBADMSG, unix.EUCLEAN, // checksums of file systems
		unix.ETIMEDOUT, unix.ENOLINK, unix.EPROTO:
		return true
	}
	return false
}

// goneErr tells errors that mean that nothing can be read any more.
func goneErr(err error) bool {
	var no unix.Errno
	if !errors.As(err, &no) {
		return errors.Is(err, ErrGone)
	}
	switch no {
	case unix.ENXIO, unix.ENODEV, unix.ENOMEDIUM, unix.ESTALE, unix.ENOTCONN, unix.ESHUTDOWN:
		return true
	}
	return false
}

// linear is an image or a device. Read may be called from several goroutines at once.
type linear struct {
	info    Info
	f       *os.File
	r       io.ReaderAt
	fine    io.ReaderAt
	alive   func() error
	changed func() string
	random  atomic.Bool // read-ahead is off
	closers []io.Closer
}

func (l *linear) Info() Info { return l.info }

func (l *linear) Read(ctx context.Context, buf []byte, off int64) (int, []Gap, error) {
	if off < 0 {
		return 0, nil, fmt.Errorf("read %s: offset %d is negative", l.info.Path, off)
	}
	if off >= l.info.Size {
		return 0, nil, nil
	}
	// What a growing file gained since it was opened is not read: its size stands in the plan.
	buf = buf[:min(int64(len(buf)), l.info.Size-off)]
	rd := ranger{ctx: ctx, r: l.r, fine: l.fine, alive: l.alive, failing: l.calm, sector: l.info.Sector}
	n, err := rd.read(buf, off)
	if err == nil && n < len(buf) && l.alive != nil {
		// The kernel sets a device's size to 0 when it loses it: reads then end as at the end of a file.
		err = l.alive()
	}
	if err != nil {
		err = fmt.Errorf("read %s at byte %d: %w", l.info.Path, off+int64(n), err)
	}
	return n, rd.gaps, err
}

// calm stops read-ahead, which would ask a damaged medium again for what was not wanted.
func (l *linear) calm() {
	if l.f != nil && l.random.CompareAndSwap(false, true) {
		unix.Fadvise(int(l.f.Fd()), 0, 0, unix.FADV_RANDOM)
	}
}

func (l *linear) Changed() string { return l.changed() }

func (l *linear) Close() error {
	var errs []error
	for _, c := range l.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// openQuiet opens for reading without touching the access time where the kernel allows that: to the owner and root.
func openQuiet(path string, flags int) (*os.File, error) {
	flags |= unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY
	f, err := os.OpenFile(path, flags|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) {
		f, err = os.OpenFile(path, flags, 0)
	}
	return f, err
}

// OpenImage opens a regular file as one run of bytes.
func OpenImage(path string) (Linear, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open image %s: %w", path, err)
	}
	f, err := openQuiet(abs, 0)
	if err != nil {
		return nil, fmt.Errorf("open image: %w", err)
	}
	l, err := newImage(f, abs)
	if err != nil {
		f.Close()
		return nil, err
	}
	return l, nil
}

func newImage(f *os.File, abs string) (*linear, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, fmt.Errorf("open image %s: %w", abs, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("open image %s: it is not a regular file", abs)
	}
	l := &linear{
		info: Info{
			Kind: Image, Path: abs, Name: filepath.Base(abs), Size: st.Size, Sector: 512,
			ID: fileID("image", abs, int(f.Fd()), st.Ino),
		},
		f: f, r: f, closers: []io.Closer{f},
	}
	l.changed = func() string {
		var now unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &now); err != nil {
			return fmt.Sprintf("whether it changed is unknown: %v", err)
		}
		return changedWords(stampOf(&st), stampOf(&now))
	}
	return l, nil
}

func stampOf(st *unix.Stat_t) Stamp {
	return Stamp{
		Dev: uint64(st.Dev), Ino: st.Ino, Size: st.Size,
		MTime: Time{int64(st.Mtim.Sec), int32(st.Mtim.Nsec)},
		CTime: Time{int64(st.Ctim.Sec), int32(st.Ctim.Nsec)},
	}
}

// changedWords says how a file that was a is now b; empty if they are the same.
func changedWords(a, b Stamp) string {
	var w []string
	switch {
	case b.Size > a.Size:
		w = append(w, fmt.Sprintf("it grew from %d to %d bytes", a.Size, b.Size))
	case b.Size < a.Size:
		w = append(w, fmt.Sprintf("it shrank from %d to %d bytes", a.Size, b.Size))
	}
	switch {
	case a.MTime != b.MTime:
		w = append(w, "its content was modified")
	case a.CTime != b.CTime && len(w) == 0:
		w = append(w, "its inode was changed (links, owner, mode, attributes, or content with the time set back)")
	}
	if a.Dev != b.Dev || a.Ino != b.Ino {
		w = append(w, "another file took its place")
	}
	return strings.Join(w, ", ")
}
