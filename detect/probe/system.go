package probe

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"aslrescue/detect"
)

// Terminal is what the environment says of the screen. Only the config reads the environment.
type Terminal struct {
	Term string
	SSH  bool
	UTF8 bool
}

// System is this machine. Whoever calls it must give ChildArg as first argument to Child before anything else.
func System(tool string, t Terminal) *Machine {
	return &Machine{
		Tool: tool, Made: made(), UID: os.Geteuid(), Clock: realClock{},
		Console: func() detect.Console { return console(t) },
		Run:     run,
		Child: func(ctx context.Context, r Request) (io.ReadCloser, error) {
			return again(ctx, []string{"/proc/self/exe"}, r)
		},
		Resolve: net.DefaultResolver.LookupHost,
		Dial:    (&net.Dialer{}).DialContext,
		Addrs:   addrs,
		Synced:  synced,
	}
}

type realClock struct{}

func (realClock) Now() time.Time                         { return time.Now() }
func (realClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

// made is when this program was built, as far as it knows.
func made() int64 {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.time" {
				if t, err := time.Parse(time.RFC3339, s.Value); err == nil {
					return t.Unix()
				}
			}
		}
	}
	return 0
}

// run runs a tool in a group of its own. Where it does not end in time, it is told to, and not waited for: what waits for a
// disk in the kernel does not hear.
func run(ctx context.Context, name string, args ...string) (Output, error) {
	cmd := exec.Command(name, args...)
	// zpool must not load a module of its own accord, nor look where somebody's environment says.
	cmd.Env = []string{"LC_ALL=C", "PATH=" + ToolPath, "ZFS_MODULE_LOADING=no"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r, w, err := os.Pipe()
	if err != nil {
		return Output{}, err
	}
	er, ew, err := os.Pipe()
	if err != nil {
		_, _ = r.Close(), w.Close()
		return Output{}, err
	}
	cmd.Stdout, cmd.Stderr = w, ew
	err = cmd.Start()
	_, _ = w.Close(), ew.Close() // the tool has them now
	if err != nil {
		_, _ = r.Close(), er.Close()
		return Output{}, err
	}
	done := make(chan Output, 1)
	go func() {
		var out Output
		text := make(chan string, 1)
		go func() { text <- readSome(er) }()
		out.Out, out.Err = readSome(r), <-text
		err := cmd.Wait()
		out.Code = cmd.ProcessState.ExitCode()
		if err != nil && out.Code == 0 {
			out.Code = -1
		}
		_, _ = r.Close(), er.Close()
		done <- out
	}()
	select {
	case out := <-done:
		return out, nil
	case <-ctx.Done():
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // it may have ended meanwhile
		return Output{}, context.Cause(ctx)
	}
}

// mostOutput is more than any tool here has to say.
const mostOutput = 4 << 20

func readSome(r io.Reader) string {
	var b bytes.Buffer
	_, _ = io.Copy(&b, io.LimitReader(r, mostOutput)) // what was read until then is what there is
	return b.String()
}

// again starts this program again as a child. Closing what it prints ends it, or abandons it: it is waited for by somebody for whom
// nobody waits.
func again(ctx context.Context, self []string, r Request) (io.ReadCloser, error) {
	req, err := marshal(r)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self[0], append(self[1:], ChildArg, req)...)
	cmd.Env = []string{"LC_ALL=C", "PATH=" + ToolPath, "GOMAXPROCS=2"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pr, pw, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout = pw
	err = cmd.Start()
	_ = pw.Close() // the child has it now
	if err != nil {
		_ = pr.Close()
		return nil, fmt.Errorf("start a process to look: %w", err)
	}
	go func() { _ = cmd.Wait() }()
	stop := context.AfterFunc(ctx, func() {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		_ = pr.Close()
	})
	return &childOutput{pr, stop}, nil
}

type childOutput struct {
	*os.File
	stop func() bool
}

func (c *childOutput) Close() error {
	c.stop()
	return c.File.Close()
}

func addrs(link string) []string {
	i, err := net.InterfaceByName(link)
	if err != nil {
		return nil
	}
	list, err := i.Addrs()
	if err != nil {
		return nil
	}
	var out []string
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLinkLocalUnicast() {
			out = append(out, n.String())
		}
	}
	return out
}

// synced asks without setting anything.
func synced() bool {
	var tx unix.Timex
	state, err := unix.Adjtimex(&tx)
	return err == nil && state != unix.TIME_ERROR && tx.Status&unix.STA_UNSYNC == 0
}

// console looks at what the program was given as its terminal.
func console(t Terminal) detect.Console {
	c := detect.Console{Kind: detect.NoTTY, Term: t.Term, UTF8: t.UTF8}
	for fd := range 3 {
		ws, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
		if err != nil {
			continue
		}
		name, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		c.TTY, c.Cols, c.Rows = name, int(ws.Col), int(ws.Row)
		if c.Kind = consoleKind(name, t.SSH); c.Kind == detect.VT {
			boot, _ := os.ReadFile("/proc/cmdline")
			conf, _ := os.ReadFile("/etc/vconsole.conf") // neither need be there
			c.Keys = layout(string(boot), string(conf))
		}
		return c
	}
	c.Term = ""
	return c
}

// layout is the keyboard's, as the boot line or the file of the console says. The kernel knows keys, and no name for them.
func layout(boot, conf string) string {
	for _, w := range append(strings.Fields(boot), strings.Fields(conf)...) {
		name, value, _ := strings.Cut(w, "=")
		switch strings.ToLower(name) {
		case "setkmap", "vconsole.keymap", "rd.vconsole.keymap", "keyboard-layouts", "keymap":
			if value = strings.Trim(value, `"'`); value != "" {
				return value
			}
		}
	}
	return ""
}

func consoleKind(tty string, ssh bool) detect.ConsoleKind {
	name := strings.TrimPrefix(tty, "/dev/")
	is := func(prefix string) bool { return strings.HasPrefix(name, prefix) }
	switch {
	case is("pts/") && ssh:
		return detect.SSH
	case is("pts/"):
		return detect.PTY
	case is("ttyS"), is("ttyAMA"), is("ttyUSB"), is("ttyACM"), is("hvc"):
		return detect.Serial
	case is("tty") || name == "console":
		return detect.VT
	}
	return detect.OddTerm
}
