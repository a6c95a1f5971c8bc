// Package meter runs a command and measures the whole process tree it starts.
package meter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Cmd is what is run. If Sync is set, the file system it lies on is synced within the measured span: that makes a tool
// that leaves its bytes in the page cache comparable to one that does not.
type Cmd struct {
	Argv []string
	Env  []string
	Dir  string
	Sync string
}

// Usage is what a command took.
type Usage struct {
	Wall   float64 // s, Sync included
	User   float64 // s, of all processes
	System float64
	PSS    int64   // bytes, the largest sum over the tree seen in samples
	MaxRSS int64   // bytes, the largest of a single process, as the kernel counted it
	Others float64 // CPU s that the rest of the machine used meanwhile: how noisy the figure is
}

// CPU is user and system time.
func (u Usage) CPU() float64 { return u.User + u.System }

// interval between samples; a peak shorter than it is seen in MaxRSS only.
const interval = 50 * time.Millisecond

// Run starts c and waits for it and all that it started.
func Run(ctx context.Context, c Cmd) (Usage, error) {
	becomeSubreaper()
	var said tail
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = c.Env, c.Dir, &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	busy, children, start := busyCPU(), childCPU(), time.Now()
	if err := cmd.Start(); err != nil {
		return Usage{}, err
	}
	peak := watch(cmd.Process.Pid)
	err := cmd.Wait()
	u := Usage{PSS: <-peak(), MaxRSS: maxRSS(cmd.ProcessState)}
	reapOrphans(cmd.Process.Pid)
	if err == nil && c.Sync != "" {
		err = syncFS(ctx, c.Sync)
	}
	u.Wall = time.Since(start).Seconds()
	used := childCPU().minus(children)
	u.User, u.System = used.user, used.system
	u.Others = max(0, busyCPU()-busy-u.CPU())
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(c.Argv, " "), err, said.text())
	}
	return u, err
}

func syncFS(ctx context.Context, path string) error {
	return exec.CommandContext(ctx, "sync", "-f", path).Run()
}

// tail keeps the end of what a command said, for the error.
type tail struct{ buf bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	const keep = 2000
	t.buf.Write(p)
	if n := t.buf.Len(); n > 4*keep {
		t.buf.Next(n - keep)
	}
	return len(p), nil
}

func (t *tail) text() string {
	b := t.buf.Bytes()
	return strings.TrimSpace(string(b[max(0, len(b)-2000):]))
}

type cpu struct{ user, system float64 }

func (a cpu) minus(b cpu) cpu { return cpu{a.user - b.user, a.system - b.system} }

func childCPU() cpu {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_CHILDREN, &r) != nil {
		return cpu{}
	}
	return cpu{seconds(r.Utime), seconds(r.Stime)}
}

func seconds(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }

func maxRSS(s *os.ProcessState) int64 {
	if r, ok := s.SysUsage().(*syscall.Rusage); ok {
		return r.Maxrss << 10
	}
	return 0
}

// becomeSubreaper makes processes whose parent died ours, so that their CPU time is counted, too.
func becomeSubreaper() {
	const prSetChildSubreaper = 36
	syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0)
}

// reapOrphans ends what the command left running in its process group and collects it.
func reapOrphans(group int) {
	for {
		if syscall.Kill(-group, syscall.SIGKILL) != nil {
			return
		}
		_, err := syscall.Wait4(-group, nil, 0, nil)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return
		}
	}
}
