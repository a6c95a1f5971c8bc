package source

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"time"
	"unsafe"

	"github.com/landlock-lsm/go-landlock/landlock"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/psx"

	"aslrescue/engine/source/passes"
)

// ReaderArg is the first argument of a process that only reads one device. It is between the program and itself.
const ReaderArg = "--read-one-device"

// Descriptors that a reader is started with.
const (
	readerSocket = 3
	readerRing   = 4
)

// ReaderMain is the main function of such a process: args are the path. It ends when the engine closes the socket.
func ReaderMain(args []string) int {
	conn, err := net.FileConn(os.NewFile(readerSocket, "engine"))
	if err != nil || len(args) != 1 {
		fmt.Fprintln(os.Stderr, "this is a part of asl-intake that it starts itself")
		return 2
	}
	if err := serveDevice(conn, args[0]); err != nil && !errors.Is(err, io.EOF) {
		fmt.Fprintf(os.Stderr, "reading %s: %v\n", args[0], err)
		return 1
	}
	return 0
}

func serveDevice(conn net.Conn, path string) error {
	var st unix.Stat_t
	if err := unix.Fstat(readerRing, &st); err != nil {
		return err
	}
	ring, err := unix.Mmap(readerRing, 0, int(st.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	unix.Close(readerRing)
	src, err := OpenDevice(path)
	if err != nil {
		no := unix.EIO
		errors.As(err, &no)
		if errors.Is(err, ErrGone) {
			no = unix.ENXIO
		}
		send(conn, message{msgFailed, 0, 0, int64(no)})
		return err
	}
	defer src.Close()
	if err := confine(); err != nil {
		send(conn, message{msgFailed, 0, 0, int64(unix.EPERM)})
		return err
	}
	if err := send(conn, message{msgReady, int64(src.Info().Sector), src.Info().Size}); err != nil {
		return err
	}
	return serve(conn, src.(*linear).r, ring, src.(*linear).calm)
}

// confine takes away all that reading an open device does not need: from here on nothing can be opened, mounted or gained.
func confine() error {
	// Kernels without landlock, or with less of it, do what they can; the rest of this holds everywhere.
	if err := landlock.V5.BestEffort().RestrictPaths(); err != nil {
		return fmt.Errorf("landlock: %w", err)
	}
	if _, _, no := psx.Syscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); no != 0 {
		return fmt.Errorf("no new privileges: %w", no)
	}
	return dropCapabilities()
}

// server does what the engine asks for, and reads ahead of it.
type server struct {
	conn   net.Conn
	f      io.ReaderAt
	ring   []byte
	calm   func() // called at the first error
	free   chan int64
	asked  chan message
	failed chan error

	next  passes.Read // what will be asked for next, if all goes well
	done  int64       // bytes of it that are in ahead
	ahead []readPiece // read, in order, and not asked for yet
	halt  bool        // no further: the last of ahead failed or was slow
}

// readPiece is a piece that was read.
type readPiece struct {
	off, n int64
	slot   int64 // -1 where it failed
	errno  unix.Errno
	took   time.Duration
}

func serve(conn net.Conn, f io.ReaderAt, ring []byte, calm func()) error {
	slots := len(ring) / slotSize
	s := &server{conn: conn, f: f, ring: ring, calm: calm, free: make(chan int64, slots), asked: make(chan message, 1), failed: make(chan error, 1)}
	for i := range int64(slots) {
		s.free <- i
	}
	go s.hear()
	for {
		m, err := s.wait()
		if err != nil {
			return err
		}
		if err := s.answer(m); err != nil {
			return err
		}
	}
}

// hear takes in what the engine says.
func (s *server) hear() {
	defer close(s.asked)
	for {
		m, err := receive(s.conn)
		if err != nil {
			s.failed <- err
			return
		}
		switch m[0] {
		case msgRead:
			s.asked <- m
		case msgTaken:
			if m[1] < 0 || m[1] >= int64(cap(s.free)) || len(s.free) == cap(s.free) {
				s.failed <- errors.New("a slot that was not in use came back")
				return
			}
			s.free <- m[1]
		}
	}
}

// wait reads ahead until something is asked for.
func (s *server) wait() (message, error) {
	for {
		free := s.free
		if s.halt || s.done >= s.next.Len {
			free = nil
		}
		select {
		case m, ok := <-s.asked:
			if !ok {
				return m, <-s.failed
			}
			return m, nil
		case slot := <-free:
			select {
			case m, ok := <-s.asked: // what is asked for goes first
				if ok {
					s.free <- slot
					return m, nil
				}
				return m, <-s.failed
			default:
			}
			p := s.read(s.next, s.done, slot)
			s.ahead, s.done = append(s.ahead, p), s.done+p.n
			s.halt = p.slot < 0 || p.slow(s.next)
		}
	}
}

func (p readPiece) slow(rd passes.Read) bool { return rd.Patience > 0 && p.took > rd.Patience }

// read reads the next piece of rd, of which done bytes are read.
func (s *server) read(rd passes.Read, done, slot int64) readPiece {
	off, n := rd.Piece(done)
	p := readPiece{off: off, n: n, slot: slot}
	began := time.Now()
	got, err := s.f.ReadAt(s.ring[slot*slotSize:][:n], off)
	p.took = time.Since(began)
	if int64(got) == n {
		return p
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.As(err, &p.errno) {
		p.errno = unix.EIO
	}
	s.calm()
	s.free <- slot // it holds nothing that counts, and its read has returned
	p.slot = -1
	return p
}

// answer gives the engine what it asks for, first what was read ahead.
func (s *server) answer(m message) error {
	rd := passes.Read{Off: m[1], Len: m[2], Step: int(max(m[3], -m[3])), Back: m[3] < 0, Patience: time.Duration(m[4])}
	if rd.Step <= 0 || rd.Step > slotSize || rd.Len < 0 || rd.Off < 0 || m[5] < 0 || m[5] > math.MaxInt64-rd.Off-rd.Len || rd.Back && m[5] > rd.Off {
		return errors.New("the engine asks for what cannot be")
	}
	if rd.Back != s.next.Back {
		s.forget()
	}
	ended := false
	for done := int64(0); done < rd.Len; {
		p, ok := s.known(rd, done)
		if !ok {
			slot, err := s.slot()
			if err != nil {
				return err
			}
			p = s.read(rd, done, slot)
		}
		if p.slot < 0 {
			s.forget()
			return send(s.conn, message{msgFailed, p.off, p.n, int64(p.errno)})
		}
		if err := send(s.conn, message{msgPiece, p.off, p.n, p.slot, int64(p.took)}); err != nil {
			return err
		}
		done += p.n
		if ended = p.slow(rd); ended {
			break
		}
	}
	if ended {
		s.forget()
		return send(s.conn, message{msgEnd, 1})
	}
	s.next = passes.Read{Off: rd.Off + rd.Len, Len: m[5], Step: rd.Step, Back: rd.Back, Patience: rd.Patience}
	if rd.Back {
		s.next.Off = rd.Off - m[5]
	}
	s.done, s.halt = 0, s.halt && len(s.ahead) > 0
	for _, p := range s.ahead {
		s.done += p.n
	}
	return send(s.conn, message{msgEnd, 0})
}

// known gives the next piece of rd where that was read ahead. What was read ahead of something else is forgotten.
func (s *server) known(rd passes.Read, done int64) (readPiece, bool) {
	if len(s.ahead) == 0 {
		return readPiece{}, false
	}
	p := s.ahead[0]
	left := rd.Len - done
	begins := p.off == rd.Off+done
	if rd.Back {
		begins = p.off+p.n == rd.Off+left
	}
	switch {
	case begins && p.n <= left:
	case begins && p.slot < 0: // of what failed, as much as is asked for
		if rd.Back {
			p.off += p.n - left
		}
		p.n = left
	default:
		s.forget()
		return readPiece{}, false
	}
	s.ahead = s.ahead[1:]
	return p, true
}

// forget lets go of what was read ahead.
func (s *server) forget() {
	for _, p := range s.ahead {
		if p.slot >= 0 {
			s.free <- p.slot
		}
	}
	s.ahead, s.halt, s.next, s.done = nil, false, passes.Read{}, 0
}

// slot waits for one that is free.
func (s *server) slot() (int64, error) {
	select {
	case slot := <-s.free:
		return slot, nil
	case err := <-s.failed:
		s.failed <- err
		return 0, err
	}
}

// dropCapabilities takes all of them from all threads.
func dropCapabilities() error {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if _, _, no := psx.Syscall3(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&none)), 0); no != 0 {
		return fmt.Errorf("capabilities: %w", no)
	}
	return nil
}
