package engine

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// wizard is a face with screens on a terminal of its own.
type wizard struct {
	p      *place
	cmd    *exec.Cmd
	master *os.File

	mu  sync.Mutex
	out strings.Builder
}

func (p *place) wizard() *wizard {
	master, slave := pty(p.t)
	w := &wizard{p: p, cmd: exec.Command(bin, p.args()...), master: master}
	w.cmd.Env = []string{"TERM=xterm", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	w.cmd.Stdin, w.cmd.Stdout, w.cmd.Stderr = slave, slave, slave
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := w.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	_ = slave.Close()
	p.t.Cleanup(func() { _ = w.cmd.Process.Kill(); _ = w.cmd.Wait(); _ = master.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			w.mu.Lock()
			w.out.Write(buf[:n])
			w.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return w
}

var escapes = regexp.MustCompile(`\x1b(\[[0-9;?]*[A-Za-z]|[()][0AB]|[=>])`)

// seen is what came to the terminal, without its escapes.
func (w *wizard) seen() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return escapes.ReplaceAllString(w.out.String(), "")
}

func (w *wizard) sees(text string) {
	w.p.t.Helper()
	for end := time.Now().Add(hung); !strings.Contains(w.seen(), text); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			w.p.t.Fatalf("the terminal never got %q, but\n%s", text, w.seen())
		}
	}
}

// again forgets what was seen.
func (w *wizard) again() *wizard {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out.Reset()
	return w
}

func (w *wizard) press(keys string) {
	w.p.t.Helper()
	if _, err := w.master.WriteString(keys); err != nil {
		w.p.t.Fatal(err)
	}
}

// The wizard is killed in the middle: the work goes on, and the next wizard shows it. What one of two consoles does, the other sees.
func TestTheWizardIsKilledAndTheNextShowsTheSame(t *testing.T) {
	p := newPlace(t)
	first := p.wizard()
	first.sees("What was checked")
	engine := p.lockHolder()
	f := p.attach("hand")
	f.begin(p.endless(), p.path("store"))
	first.sees("TOTAL") // it was begun elsewhere, and is shown here
	was := f.further(0).Progress.Safe
	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.cmd.Wait()
	f.further(was)
	next, other := p.wizard(), p.wizard()
	for _, w := range []*wizard{next, other} {
		w.sees("TOTAL")
		w.sees("endless")
	}
	if p.lockHolder() != engine || !alive(engine) {
		t.Error("the engine is another by now")
	}
	next.press("p")
	f.phase("paused")
	next.sees("paused")
	other.sees("paused")
	other.press("p")
	f.phase("running")
	next.again().press("q")
	next.sees("comes back to it")
	next.press("d")
	if err := next.cmd.Wait(); err != nil {
		t.Errorf("left with %v: %s", err, next.seen())
	}
	next.sees("The intake goes on")
	if !alive(engine) {
		t.Error("the engine ended with the wizard")
	}
}

// The engine is killed under the wizard: it says so, has another started, and offers to go on.
func TestTheEngineIsKilledUnderTheWizard(t *testing.T) {
	p := newPlace(t)
	w := p.wizard()
	w.sees("What was checked")
	f := p.attach("hand")
	source := p.endless()
	f.begin(source, p.path("store"))
	w.sees("TOTAL")
	f.further(0)
	engine := p.lockHolder()
	if err := syscall.Kill(engine, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.sees("THE ENGINE DOES NOT ANSWER")
	w.sees("Another engine was started. What was read is safe")
	w.sees("go on: intake")
	if now := p.lockHolder(); now == engine || now == 0 {
		t.Errorf("the engine is process %d, as before", now)
	}
	w.again().press("\r")
	w.sees("It goes on with the interrupted intake")
	p.eventually("it goes on", func() bool {
		w.press("g") // it is taken when the plan could be read
		time.Sleep(200 * time.Millisecond)
		return strings.Contains(w.seen(), "TOTAL")
	})
	f = p.attach("hand")
	f.further(0)
}
