// Package console is the terminal below the screens: what it is, what its font has, how large it is, and how it is left as it was found.
package console

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

const kdgkbtype = 0x4B33

// IsVT tells whether f is a console of the kernel's own. Its name may lie, and so may TERM; this call does not.
func IsVT(f *os.File) bool {
	var kind byte
	return ioctlByte(f.Fd(), kdgkbtype, &kind) == nil
}

// Size is how large the terminal says it is; zeros where it does not know, as on a serial line.
func Size(f *os.File) (w, h int) {
	w, h, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0, 0
	}
	return w, h
}

// Flush throws away what was typed and not read yet.
func Flush(f *os.File) {
	_ = unix.IoctlSetInt(int(f.Fd()), unix.TCFLSH, unix.TCIFLUSH) // what is no terminal has no such thing
}

// Speed is the line's bits per second; 0 where there is no line.
func Speed(f *os.File) int {
	t, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return 0
	}
	rates := map[uint32]int{unix.B1200: 1200, unix.B2400: 2400, unix.B4800: 4800, unix.B9600: 9600, unix.B19200: 19200, unix.B38400: 38400, unix.B57600: 57600, unix.B115200: 115200}
	return rates[t.Cflag&unix.CBAUD]
}

// consoleLevel is the action of syslog(2) that sets which messages reach the console.
const consoleLevel = 8

// QuietKernel keeps the kernel's messages off the console, all but those of its death, and gives what undoes that. Without the right to
// it nothing happens. The messages are not lost: they stand in the kernel's log, which the engine reads.
func QuietKernel() (restore func()) {
	b, err := os.ReadFile("/proc/sys/kernel/printk")
	if err != nil {
		return func() {}
	}
	was := 0
	if f := bytes.Fields(b); len(f) > 0 {
		was, _ = strconv.Atoi(string(f[0]))
	}
	if was <= 1 {
		return func() {}
	}
	if _, err := unix.Klogctl(consoleLevel, make([]byte, 1)); err != nil {
		return func() {}
	}
	return func() { _, _ = unix.Klogctl(consoleLevel, make([]byte, was)) }
}

// Terminal is a terminal that will be left as it was found, whatever happens.
type Terminal struct {
	in    *os.File
	tty   *os.File
	out   *Out
	state *term.State
	vt    bool
	loud  func()
	once  sync.Once
}

// Take remembers how the terminal is, turns blanking off, and keeps the kernel's messages away if it is the kernel's console.
func Take(in, tty *os.File, out *Out, vt bool) *Terminal {
	t := &Terminal{in: in, tty: tty, out: out, vt: vt, loud: func() {}}
	if s, err := term.GetState(int(in.Fd())); err == nil {
		t.state = s
	}
	if vt {
		t.loud = QuietKernel()
		fmt.Fprint(out, "\x1b[9;0]\x1b[14;0]")
	}
	return t
}

// leaveStuck tries to write to a terminal that takes nothing, without waiting, and lets what the program still says go nowhere: a write to
// such a terminal would keep the process for ever.
func leaveStuck(tty *os.File, back string) {
	if fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", tty.Fd()), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0); err == nil {
		_, _ = unix.Write(fd, []byte(back)) // it takes it, or it does not
		_ = unix.Close(fd)
	}
	null, err := unix.Open(os.DevNull, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	for _, fd := range []int{1, 2} {
		if term.IsTerminal(fd) {
			_ = unix.Dup3(null, fd, 0)
		}
	}
}

// Own is the same terminal by a number of its own, so that a write that waits for it holds nobody else's.
func Own(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("use the terminal: %w", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// Restore puts everything right. It may be called several times, from any goroutine, and waits for a terminal that takes nothing only a moment.
func (t *Terminal) Restore() {
	t.once.Do(func() {
		back := "\x1b[0m\x1b[?2004l\x1b[?25h\x1b[?1049l"
		if t.vt { // older kernels have no second screen to come back from
			back = "\x1b[0m\x1b[2J\x1b[H\x1b[?25h\x1b[?1049l"
		}
		fmt.Fprint(t.out, back)
		if !t.out.Drain() { // nobody reads it: what is said at the end must not wait for that
			t.out.GiveUp()
			leaveStuck(t.tty, back)
		}
		if t.state != nil {
			_ = term.Restore(int(t.in.Fd()), t.state) // it is gone if this fails
		}
		t.loud()
	})
}
