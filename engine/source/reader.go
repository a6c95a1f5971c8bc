package source

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"aslrescue/engine/source/passes"
)

// A read that is stuck in the kernel can be neither cancelled nor left alone in a goroutine, so a disk is read by a process of its own:
// the engine sends it what to read over a socket, it reads into a ring of shared memory and says which slot holds what. A slot is
// used again only when its bytes were taken out. A process that does not answer is given up together with its ring, of which
// nothing is looked at again: a transfer that comes late changes no byte that counts.
//
// While the engine is busy with what it got, the process reads on into free slots, in pieces of the same size, as far as the planner would anyway;
// it stops at the first piece that fails or is slow, and keeps that answer for when it is asked. So a disk does not wait between two
// requests, and no place is tried that would not have been, or twice.

const slotSize = 1 << 20 // bytes; no piece is larger

// What a reader takes of memory: RingMin to RingMax slots of a MiB, and as much as the process has for itself; bytes.
const (
	RingMin   = 2
	RingMax   = 8
	RingSlot  = slotSize
	ReaderOwn = 8 << 20
)

// Messages: six numbers of 64 bits.
const (
	msgReady  = iota // reader: the device is open; sector, size, 0 or the landlock level
	msgRead          // engine: offset, length, step and direction, patience, how much to read ahead
	msgPiece         // reader: offset, length, slot, time taken
	msgFailed        // reader: offset, length, errno (0: the source ended)
	msgEnd           // reader: all is read, or what came last was slow
	msgTaken         // engine: a slot may be used again
)

type message [6]int64

func send(c io.Writer, m message) error {
	var b [8 * len(message{})]byte
	for i, v := range m {
		binary.LittleEndian.PutUint64(b[8*i:], uint64(v))
	}
	_, err := c.Write(b[:])
	return err
}

func receive(c io.Reader) (m message, err error) {
	var b [8 * len(message{})]byte
	n, err := c.Read(b[:])
	if err == nil && n != len(b) {
		err = io.ErrUnexpectedEOF
	}
	for i := range m {
		m[i] = int64(binary.LittleEndian.Uint64(b[8*i:]))
	}
	return m, err
}

// DefaultReadTimeout is how long one read may take. Kernels give up on most disks before that.
const DefaultReadTimeout = 60 * time.Second

// hangsMost is after how many reads in a row without an answer a device counts as gone.
const hangsMost = 8

// reader is a device that is read by a process of its own. Like a planner, Try is for one goroutine.
type reader struct {
	Raw
	command func(path string) *exec.Cmd // starts the process; descriptors 3 and 4 of it are added
	timeout time.Duration
	slots   int // of the ring of the next process

	mu    sync.Mutex
	now   *readerProcess // nil where there is none
	hangs int
}

// readerProcess is one such process, and its ring.
type readerProcess struct {
	cmd  *exec.Cmd
	conn net.Conn
	ring []byte
}

// InProcess lets a device be read by processes that command starts: this program with ReaderArg and the path. A read that takes longer than
// timeout fails with ETIMEDOUT.
func InProcess(raw Raw, command func(path string) *exec.Cmd, timeout time.Duration) Raw {
	if timeout <= 0 {
		timeout = DefaultReadTimeout
	}
	return &reader{Raw: raw, command: command, timeout: timeout, slots: RingMax}
}

// readerOf gives the process that reads a source; nil where none does.
func readerOf(src Source) *reader {
	for {
		switch s := src.(type) {
		case *reader:
			return s
		case interface{ Under() Source }: // reads by way of another
			src = s.Under()
		default:
			return nil
		}
	}
}

// HasReader tells whether a source is read by a process of its own.
func HasReader(src Source) bool { return readerOf(src) != nil }

// SetRing says how many slots the ring of such a process may have. It holds for the next that is started.
func SetRing(src Source, slots int) {
	if r := readerOf(src); r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.slots = max(RingMin, min(slots, RingMax))
	}
}

// Rest ends the process that reads a source. The next that is asked of the source starts another.
func Rest(src Source) {
	if r := readerOf(src); r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.end()
	}
}

// end lets the process end, as it does when its socket is closed.
func (r *reader) end() {
	if r.now != nil {
		r.now.drop()
		r.now = nil
	}
}

// Try is as Raw says.
func (r *reader) Try(ctx context.Context, buf []byte, rd passes.Read) (res passes.Result, errno unix.Errno, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now == nil {
		if r.now, err = r.start(ctx); err != nil {
			return res, 0, err
		}
	}
	res, errno, err = r.ask(ctx, r.now, buf, rd)
	switch {
	case errors.Is(err, errHung), errors.Is(err, errDied):
		r.giveUp()
		if ctx.Err() != nil {
			return res, 0, ctx.Err()
		}
		// What it was at counts as bad: the next process begins behind it.
		if r.hangs++; r.hangs > hangsMost {
			return res, 0, fmt.Errorf("read %s: it did not answer %d times in a row: %w", r.Info().Path, r.hangs, ErrGone)
		}
		_, n := rd.Piece(res.Good)
		res.Bad, err = n, nil
		errno = unix.ETIMEDOUT
	case err != nil:
		err = fmt.Errorf("read %s at byte %d: %w", r.Info().Path, rd.Off, err)
	case res.Good > 0 || errno != 0:
		r.hangs = 0
	}
	if a, ok := r.Raw.(interface {
		whyGone(unix.Errno, error) error
	}); ok {
		if gone := a.whyGone(errno, err); gone != nil {
			res.Bad, errno, err = 0, 0, fmt.Errorf("read %s: %w", r.Info().Path, gone)
		}
	}
	return res, errno, err
}

var (
	errHung = errors.New("the reader does not answer")
	errDied = errors.New("the reader died")
)

// ask has one Read done.
func (r *reader) ask(ctx context.Context, p *readerProcess, buf []byte, rd passes.Read) (res passes.Result, errno unix.Errno, err error) {
	defer context.AfterFunc(ctx, func() { p.conn.SetReadDeadline(time.Unix(1, 0)) })()
	step := int64(rd.Step)
	if step > slotSize {
		step = slotSize
	}
	if rd.Back {
		step = -step
	}
	if err := send(p.conn, message{msgRead, rd.Off, rd.Len, step, int64(rd.Patience), rd.Ahead}); err != nil {
		return res, 0, errDied
	}
	for {
		if err := p.conn.SetReadDeadline(time.Now().Add(r.timeout)); err != nil {
			return res, 0, errDied
		}
		if ctx.Err() != nil { // the deadline that it set was moved again
			return res, 0, errHung
		}
		m, err := receive(p.conn)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return res, 0, errHung
		}
		if err != nil {
			return res, 0, errDied
		}
		switch m[0] {
		case msgPiece:
			off, n, slot := m[1]-rd.Off, m[2], m[3]
			if off < 0 || n < 0 || n > slotSize || off+n > rd.Len || slot < 0 || slot >= int64(len(p.ring)/slotSize) {
				return res, 0, errDied // it is not itself any more
			}
			copy(buf[off:off+n], p.ring[slot*slotSize:])
			res.Good += n
			res.Took += time.Duration(m[4])
			if err := send(p.conn, message{msgTaken, slot}); err != nil {
				return res, 0, errDied
			}
		case msgFailed:
			no := unix.Errno(m[3])
			switch {
			case no == 0:
				return res, 0, ErrShort
			case goneErr(no):
				return res, 0, fmt.Errorf("%w: %w", ErrGone, no)
			case !mediumErr(no):
				return res, 0, no
			}
			res.Bad = m[2]
			return res, no, nil
		case msgEnd:
			res.Slow = m[1] != 0
			return res, 0, nil
		}
	}
}

// start starts a process and waits until it has opened the device.
func (r *reader) start(ctx context.Context) (*readerProcess, error) {
	fail := func(err error) (*readerProcess, error) {
		return nil, fmt.Errorf("starting a reader for %s: %w", r.Info().Path, err)
	}
	fd, err := unix.MemfdCreate("asl-ring", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return fail(err)
	}
	mem := os.NewFile(uintptr(fd), "ring")
	defer mem.Close() // both sides have it mapped
	if err := mem.Truncate(int64(r.slots) * slotSize); err != nil {
		return fail(err)
	}
	if _, err := unix.FcntlInt(mem.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		return fail(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	mine, theirs := os.NewFile(uintptr(pair[0]), "reader"), os.NewFile(uintptr(pair[1]), "engine")
	defer mine.Close()
	defer theirs.Close()
	conn, err := net.FileConn(mine)
	if err != nil {
		return fail(err)
	}
	p := &readerProcess{conn: conn, cmd: r.command(r.Info().Path)}
	p.cmd.ExtraFiles = []*os.File{theirs, mem}
	if p.ring, err = unix.Mmap(fd, 0, r.slots*slotSize, unix.PROT_READ, unix.MAP_SHARED); err != nil {
		conn.Close()
		return fail(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.drop()
		return fail(err)
	}
	go func() { _ = p.cmd.Wait() }() // one that is stuck in the kernel ends when the kernel lets it
	theirs.Close()
	defer context.AfterFunc(ctx, func() { p.conn.SetReadDeadline(time.Unix(1, 0)) })()
	p.conn.SetReadDeadline(time.Now().Add(r.timeout))
	m, err := receive(p.conn)
	if err == nil && m[0] == msgFailed {
		err = unix.Errno(m[3])
		if goneErr(err) || errors.Is(err, unix.ENOENT) {
			err = fmt.Errorf("%w: %w", ErrGone, err)
		}
	}
	if err != nil {
		_ = p.cmd.Process.Kill()
		p.drop()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = fmt.Errorf("it does not even open: %w", ErrGone)
		}
		return fail(err)
	}
	return p, nil
}

// drop ends the connection, which ends the process, and lets go of the ring.
func (p *readerProcess) drop() {
	_ = p.conn.Close()
	_ = unix.Munmap(p.ring)
	p.ring = nil
}

// giveUp leaves a process that does not answer to itself.
func (r *reader) giveUp() {
	if r.now != nil {
		_ = r.now.cmd.Process.Kill()
		r.now.drop()
		r.now = nil
	}
}

// Read takes apart what fails, by the process too.
func (r *reader) Read(ctx context.Context, buf []byte, off int64) (int, []Gap, error) {
	if off < 0 || off >= r.Info().Size {
		return r.Raw.Read(ctx, buf, off)
	}
	buf = buf[:min(int64(len(buf)), r.Info().Size-off)]
	n, gaps, err := ReadRange(ctx, readerAt{ctx, r}, r.Info().Sector, buf, off)
	return n, gaps, err
}

type readerAt struct {
	ctx context.Context
	r   *reader
}

func (a readerAt) ReadAt(p []byte, off int64) (int, error) {
	res, errno, err := a.r.Try(a.ctx, p, passes.Read{Off: off, Len: int64(len(p)), Step: slotSize})
	switch {
	case err != nil:
		return int(res.Good), err
	case errno != 0:
		return int(res.Good), errno
	case res.Good < int64(len(p)):
		return int(res.Good), io.EOF
	}
	return len(p), nil
}

// Close ends the process and closes the device.
func (r *reader) Close() error {
	Rest(r)
	return r.Raw.Close()
}
