package wire

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"aslrescue/cmd/internal/report"
)

// ErrNoEngine means that nobody listens: no engine runs here.
var ErrNoEngine = errors.New("no engine runs here")

// ErrForeign is a peer, or a folder, of another user.
var ErrForeign = errors.New("belongs to another user")

// Place is the folder of one engine: its lock, its socket, its messages.
type Place struct{ dir string }

// At is the place below a run folder.
func At(runDir string) Place { return Place{filepath.Join(runDir, "sockets")} }

// Socket, Lock and Messages are the files in a place.
func (p Place) Socket() string   { return filepath.Join(p.dir, "engine.sock") }
func (p Place) Lock() string     { return filepath.Join(p.dir, "engine.lock") }
func (p Place) Messages() string { return filepath.Join(p.dir, "engine.messages") }

// Make makes the folder, or sees that the one there is ours and nobody else's.
func (p Place) Make() error {
	if err := os.MkdirAll(filepath.Dir(p.dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(p.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := p.ours(); err != nil {
		return err
	}
	return os.Chmod(p.dir, 0o700)
}

// ours refuses a folder in which somebody else could put a socket in the engine's place.
func (p Place) ours() error {
	var st unix.Stat_t
	if err := unix.Lstat(p.dir, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: p.dir, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("%s is no folder", p.dir)
	}
	if !trusted(st.Uid) {
		return fmt.Errorf("%s: %w (uid %d)", p.dir, ErrForeign, st.Uid)
	}
	return nil
}

// trusted tells whether a user may talk to this process.
func trusted(uid uint32) bool { return uid == 0 || uid == uint32(os.Geteuid()) }

// Listener is the one engine of a place.
type Listener struct {
	*net.UnixListener
	lock *os.File
}

// Listen takes the lock and makes the socket; what a dead engine left is replaced. Where an engine runs it is report.ErrLocked.
func (p Place) Listen() (*Listener, error) {
	if err := p.Make(); err != nil {
		return nil, &report.Error{What: "make the folder of the engine's socket", Err: err, Next: []string{"Remove it, or give another place with --run-dir."}}
	}
	lock, err := os.OpenFile(p.Lock(), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	l, err := p.listen(lock)
	if err != nil {
		_ = lock.Close() // gives it back
		return nil, err
	}
	return l, nil
}

func (p Place) listen(lock *os.File) (*Listener, error) {
	err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, &report.Error{What: "be the engine in " + p.dir, Err: report.ErrLocked, Means: "An engine runs there. There is one for each place.",
			Next: []string{"asl-intake attaches to it."}}
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", p.Lock(), err)
	}
	// Who holds the lock is the engine: a socket that is there has nobody behind it.
	if err := os.Remove(p.Socket()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: p.Socket(), Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", p.Socket(), err)
	}
	if err := os.Chmod(p.Socket(), 0o600); err != nil { // nobody else reaches it meanwhile: the folder is 0700
		_ = l.Close()
		return nil, err
	}
	return &Listener{l, lock}, nil
}

// Close takes the socket away, then gives the lock back.
func (l *Listener) Close() error { return errors.Join(l.UnixListener.Close(), l.lock.Close()) }

// connect reaches the engine of a place. Nobody there, or only the socket of a dead one, is ErrNoEngine.
func (p Place) connect(ctx context.Context) (*net.UnixConn, error) {
	if err := p.ours(); errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoEngine
	} else if err != nil {
		return nil, err
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", p.Socket())
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoEngine
	}
	if err != nil {
		return nil, err
	}
	conn := c.(*net.UnixConn)
	if err := peer(conn); err != nil {
		_ = conn.Close() // nothing was said
		return nil, fmt.Errorf("the engine at %s: %w", p.Socket(), err)
	}
	return conn, nil
}

// peer refuses a process of a user who is neither root nor this one.
func peer(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) { cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return err
	}
	if cerr != nil {
		return cerr
	}
	if !trusted(cred.Uid) {
		return fmt.Errorf("process %d: %w (uid %d)", cred.Pid, ErrForeign, cred.Uid)
	}
	return nil
}
