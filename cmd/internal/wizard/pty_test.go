package wizard

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"aslrescue/cmd/internal/rehearse"
	"aslrescue/cmd/internal/report"
	"aslrescue/cmd/internal/session"
)

// TestMain is asl-intake itself where a test starts it as such.
func TestMain(m *testing.M) {
	if os.Getenv("ASL_TEST_PROGRAM") == "asl-intake" {
		std := session.StdIO()
		std.Wizard = func(ctx context.Context, w session.Wizard) report.Result {
			if os.Getenv("ASL_TEST_SPEED") == "full" {
				return run(ctx, w, -1)
			}
			return Run(ctx, w)
		}
		os.Exit(session.Intake(context.Background(), os.Args[1:], std))
	}
	os.Exit(m.Run())
}

// console is asl-intake on a terminal.
type console struct {
	t    testing.TB
	cmd  *exec.Cmd
	f    *os.File // the terminal's other end
	slow *os.File // the terminal itself, held open to look at it
	temp string
	stop chan struct{} // closed: nobody reads any more
	baud int           // of a serial line; 0: as fast as it goes

	mu  sync.Mutex
	out bytes.Buffer
}

func on(t testing.TB, size *pty.Winsize, env []string, args ...string) *console {
	t.Helper()
	return onLine(t, 0, size, env, args...)
}

func onLine(t testing.TB, baud int, size *pty.Winsize, env []string, args ...string) *console {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	races := filepath.Join(t.TempDir(), "race") // a report on a terminal that nobody reads would keep the program for ever
	c := &console{t: t, cmd: exec.Command(exe, args...), temp: t.TempDir(), stop: make(chan struct{}), baud: baud}
	c.cmd.Env = append([]string{"ASL_TEST_PROGRAM=asl-intake", "LANG=C.UTF-8", "TMPDIR=" + c.temp, "PATH=/usr/bin:/bin", "GORACE=log_path=" + races}, env...)
	if c.f, c.slow, err = pty.Open(); err != nil {
		t.Fatal(err)
	}
	if err := pty.Setsize(c.f, size); err != nil {
		t.Fatal(err)
	}
	if baud > 0 {
		m, err := unix.IoctlGetTermios(int(c.slow.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		m.Cflag = m.Cflag&^unix.CBAUD | unix.B9600
		if err := unix.IoctlSetTermios(int(c.slow.Fd()), unix.TCSETS, m); err != nil {
			t.Fatal(err)
		}
	}
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = c.slow, c.slow, c.slow
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill() // it has ended, if all went well
		_ = c.f.Close()
		_ = c.slow.Close()
		if all, _ := filepath.Glob(races + ".*"); len(all) > 0 {
			b, _ := os.ReadFile(all[0])
			t.Errorf("a race in the program:\n%s", b)
		}
	})
	go c.read()
	return c
}

func (c *console) read() {
	b := make([]byte, 4096)
	if c.baud > 0 {
		b = b[:c.baud/10/20] // a twentieth of a second, ten bits a byte
	}
	for {
		if c.baud > 0 {
			time.Sleep(time.Second / 20)
		}
		select {
		case <-c.stop:
			return
		default:
		}
		n, err := c.f.Read(b)
		c.mu.Lock()
		c.out.Write(b[:n])
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (c *console) output() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.String()
}

func (c *console) until(what string, f func() bool) {
	c.t.Helper()
	for end := time.Now().Add(120 * time.Second); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			c.t.Fatalf("waited in vain for %s; the terminal got:\n%q", what, c.output())
		}
	}
}

func (c *console) sees(text string) {
	c.t.Helper()
	c.until(text, func() bool { return strings.Contains(plain(c.output()), text) })
}

// plain is output without its escapes.
func plain(s string) string {
	return regexp.MustCompile(`\x1b(\[[0-9;?]*[A-Za-z]|[()][0AB]|[=>])`).ReplaceAllString(s, "")
}

func (c *console) press(keys string) {
	c.t.Helper()
	if _, err := c.f.WriteString(keys); err != nil {
		c.t.Fatal(err)
	}
}

func (c *console) ends() int {
	c.t.Helper()
	done := make(chan error, 1)
	go func() { done <- c.cmd.Wait() }()
	select {
	case err := <-done:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			c.t.Fatal(err)
		}
		return c.cmd.ProcessState.ExitCode()
	case <-time.After(120 * time.Second):
		c.t.Fatal("it does not end")
		return 0
	}
}

// cooked tells whether the terminal takes lines again, as a shell wants it.
func (c *console) cooked() bool {
	m, err := unix.IoctlGetTermios(int(c.slow.Fd()), unix.TCGETS)
	return err == nil && m.Lflag&(unix.ICANON|unix.ECHO) == unix.ICANON|unix.ECHO
}

func normal() *pty.Winsize { return &pty.Winsize{Rows: 25, Cols: 80} }

// small is a machine whose intake takes a moment.
func small(t testing.TB) string { return machine(t, 64) }

// machine writes the facts of the built-in machine, its disks so much smaller.
func machine(t testing.TB, by int64) string {
	f := rehearse.Built()
	for i := range f.Disks {
		d := &f.Disks[i]
		d.Size /= by
		for j := range d.Parts {
			d.Parts[j].Start /= by
			d.Parts[j].Size /= by
		}
	}
	b, err := f.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "machine.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// A signal ends the wizard with its code, and the terminal is as it was: lines, echo, a cursor, the first screen.
func TestASignalLeavesTheTerminalAsItWas(t *testing.T) {
	for sig, code := range map[syscall.Signal]int{syscall.SIGHUP: 129, syscall.SIGTERM: 143, syscall.SIGINT: 130} {
		t.Run(sig.String(), func(t *testing.T) {
			c := on(t, normal(), []string{"TERM=xterm-256color"}, "--rehearse")
			c.sees("Who used tank last")
			if c.cooked() {
				t.Error("the wizard did not take the terminal")
			}
			if err := c.cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if got := c.ends(); got != code {
				t.Errorf("exit code %d, want %d: %q", got, code, plain(c.output()))
			}
			c.until("the cursor", func() bool {
				out := c.output()
				return strings.LastIndex(out, "\x1b[?25h") > strings.LastIndex(out, "\x1b[?25l") && strings.LastIndex(out, "\x1b[?1049l") > strings.LastIndex(out, "\x1b[?1049h")
			})
			if !c.cooked() {
				t.Error("the terminal does not take lines any more")
			}
			if left, _ := filepath.Glob(filepath.Join(c.temp, "asl-rehearsal-*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// A terminal that nobody reads holds up nothing: the intake comes to its snapshot, and a signal still ends the wizard.
func TestATerminalThatNobodyReadsHoldsUpNothing(t *testing.T) {
	c := on(t, &pty.Winsize{Rows: 50, Cols: 160}, []string{"TERM=xterm-256color"}, "--rehearse", small(t))
	c.sees("Who used tank last")
	c.press("n")
	c.sees("a folder ...")
	c.press("w")
	c.sees("Type the name of the pool")
	c.press("tank")
	c.sees("press y to do it")
	c.press("y")
	c.sees("(o) /mnt/asl/local")
	c.press("n")
	c.sees("E21740-0417")
	c.press(" ")
	c.sees("[x]")
	c.press("n")
	c.sees("--source /dev/sdb")
	close(c.stop)
	c.until("the start", func() bool { // g is taken once the plan could be read
		c.press("g\x0c") // and each key wants a frame, which fills the terminal
		all, _ := filepath.Glob(filepath.Join(c.temp, "asl-rehearsal-*/store/logs/*/*"))
		return len(all) > 0
	})
	c.until("the snapshot", func() bool {
		all, _ := filepath.Glob(filepath.Join(c.temp, "asl-rehearsal-*/store/snapshots/*/m-*"))
		return len(all) > 0
	})
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := c.ends(); got != 143 {
		t.Errorf("exit code %d", got)
	}
}

// A line that does not know its size is taken for 80x24; a torn escape is no command; an old terminal gets ASCII, and no colour.
func TestOddTerminalsAreServed(t *testing.T) {
	c := on(t, &pty.Winsize{}, []string{"TERM=vt220"}, "--rehearse")
	c.sees("Who used tank last")
	c.press("\x1b")
	c.press("[A")
	c.press("n") // also where it is read in one piece with what is left of the arrow
	c.sees("a folder ...")
	if err := pty.Setsize(c.f, &pty.Winsize{Rows: 12, Cols: 44}); err != nil {
		t.Fatal(err)
	}
	c.sees("[2 Approve] 3  4  5  6")
	if err := pty.Setsize(c.f, &pty.Winsize{Rows: 1, Cols: 1}); err != nil {
		t.Fatal(err)
	}
	seen := len(c.output())
	if err := pty.Setsize(c.f, normal()); err != nil {
		t.Fatal(err)
	}
	c.until("the names of the steps", func() bool { return strings.Contains(plain(c.output()[seen:]), "3 Sources") })
	c.press("q")
	c.sees("leave the wizard")
	c.press("d")
	if got := c.ends(); got != 0 {
		t.Errorf("exit code %d", got)
	}
	out := c.output()
	if i := strings.IndexFunc(out, func(r rune) bool { return r > '~' }); i >= 0 {
		t.Errorf("a vt220 got %q", out[i:min(i+20, len(out))])
	}
	if m := regexp.MustCompile(`\x1b\[[0-9;]*(3|4|9)[0-7]m`).FindString(out); m != "" {
		t.Errorf("a vt220 got the colour %q", m)
	}
}

// A line of 9600 baud carries less than a thousand bytes a second. The first screen takes seconds on it; what moves by itself leaves it room for what a
// key changes, and leaving waits for no more than what is under way.
func TestALineOf9600BaudIsEnough(t *testing.T) {
	c := onLine(t, 9600, &pty.Winsize{Rows: 24, Cols: 80}, []string{"TERM=vt220"}, "--rehearse")
	c.upTo()
	time.Sleep(time.Second)
	c.press("g")
	c.sees("TOTAL")
	from, was := time.Now(), len(c.output())
	time.Sleep(4 * time.Second)
	if per := float64(len(c.output())-was) / time.Since(from).Seconds(); per > 0.9*960 {
		t.Errorf("figures that move take %.0f bytes a second of the line's 960", per)
	}
	from = time.Now()
	c.press("?")
	c.sees("Everywhere")
	if took := time.Since(from); took > 6*time.Second { // a frame is two
		t.Errorf("the help took %s", took)
	}
	from = time.Now()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got, took := c.ends(), time.Since(from); got != 143 || took > 10*time.Second {
		t.Errorf("exit code %d after %s", got, took)
	}
	if !c.cooked() {
		t.Error("the terminal does not take lines any more")
	}
}

// Batch prints JSON and not one escape, also on a terminal that is asked nothing and would answer nothing.
func TestBatchAsksTheTerminalNothing(t *testing.T) {
	source := t.TempDir()
	if err := os.WriteFile(filepath.Join(source, "file"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := on(t, normal(), []string{"TERM=xterm-256color"}, "--batch", "--json", "--source", source, "--store", filepath.Join(t.TempDir(), "store"))
	if got := c.ends(); got != 0 {
		t.Errorf("exit code %d", got)
	}
	c.sees(`"type":"result"`)
	out := c.output()
	if !strings.HasPrefix(out, "{") || strings.Contains(out, "\x1b") {
		t.Errorf("batch wrote %q", out[:min(len(out), 200)])
	}
}

func TestPlainAsksLineByLine(t *testing.T) {
	cmd := exec.Command(os.Args[0], "--rehearse", small(t), "--plain")
	cmd.Env = []string{"ASL_TEST_PROGRAM=asl-intake", "TMPDIR=" + t.TempDir(), "PATH=/usr/bin:/bin"}
	cmd.Stdin = strings.NewReader("\nn\n1\ny\n2\ntank\n\ny\n1\n1\n3\n\ngo\n")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"Who used tank last", "imported read-only", "Not to be chosen: this system was booted from it", "asl-intake --batch --source /dev/sdb", "The result: COMPLETE."} {
		if !strings.Contains(string(out), want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	if bytes.ContainsRune(out, '\x1b') {
		t.Error("there are escapes in it")
	}
}
