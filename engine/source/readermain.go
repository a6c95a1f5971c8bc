package source

import (
	"errors"
	"fmt"
	"io"
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
	ring, err := unix.Mmap(readerRing, 0, ringSlots*slotSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
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

// serve does what the engine asks for. calm is called at the first error.
func serve(conn net.Conn, f io.ReaderAt, ring []byte, calm func()) error {
	free := make(chan int64, ringSlots)
	asked := make(chan message, 1)
	failed := make(chan error, 1)
	for i := range int64(ringSlots) {
		free <- i
	}
	go func() {
		defer close(asked)
		for {
			m, err := receive(conn)
			if err != nil {
				failed <- err
				return
			}
			switch m[0] {
			case msgRead:
				asked <- m
			case msgTaken:
				if m[1] < 0 || m[1] >= ringSlots || len(free) == ringSlots {
					failed <- errors.New("a slot that was not in use came back")
					return
				}
				free <- m[1]
			}
		}
	}()
	for m := range asked {
		if err := serveRead(conn, f, ring, m, free, failed, calm); err != nil {
			return err
		}
	}
	return <-failed
}

func serveRead(conn net.Conn, f io.ReaderAt, ring []byte, m message, free chan int64, failed chan error, calm func()) error {
	rd := passes.Read{Off: m[1], Len: m[2], Step: int(max(m[3], -m[3])), Back: m[3] < 0, Patience: time.Duration(m[4])}
	if rd.Step <= 0 || rd.Step > slotSize || rd.Len < 0 || rd.Off < 0 {
		return errors.New("the engine asks for what cannot be")
	}
	for done := int64(0); done < rd.Len; {
		off, n := rd.Piece(done)
		var slot int64
		select {
		case slot = <-free:
		case err := <-failed:
			failed <- err
			return err
		}
		buf := ring[slot*slotSize:][:n]
		began := time.Now()
		got, err := f.ReadAt(buf, off)
		took := time.Since(began)
		if int64(got) < n {
			no := unix.Errno(0)
			if err != nil && !errors.Is(err, io.EOF) && !errors.As(err, &no) {
				no = unix.EIO
			}
			calm()
			// The slot holds nothing that counts, and its read has returned.
			if err := send(conn, message{msgFailed, off, n, int64(no)}); err != nil {
				return err
			}
			free <- slot
			return nil
		}
		if err := send(conn, message{msgPiece, off, n, slot, int64(took)}); err != nil {
			return err
		}
		done += n
		if rd.Patience > 0 && took > rd.Patience {
			return send(conn, message{msgEnd, 1})
		}
	}
	return send(conn, message{msgEnd, 0})
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
