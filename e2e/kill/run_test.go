package kill

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// hung is how long a process may take before the test gives it up. It only ends what never would.
const hung = 2 * time.Minute

// line is what is read of the JSON lines.
type line struct {
	Type     string  `json:"type"`
	Phase    string  `json:"phase"`
	Source   string  `json:"source"`
	Root     string  `json:"root"`
	Text     string  `json:"text"`
	Settled  int64   `json:"settled"`
	Result   string  `json:"result"`
	Exit     int     `json:"exit"`
	WentOn   int64   `json:"went_on_from"`
	Snapshot uint64  `json:"snapshot"`
	Error    string  `json:"error"`
	Totals   *totals `json:"totals"`
}

type totals struct {
	New        int64 `json:"new"`
	Unreadable int64 `json:"unreadable"`
	Untried    int64 `json:"untried"`
}

// outcome is what was heard of one process until its end.
type outcome struct {
	lines  []line
	stderr string
	state  *os.ProcessState
	took   time.Duration
}

// acknowledged is the last acknowledgement that came whole.
func (o *outcome) acknowledged() int64 {
	most := int64(-1)
	for _, l := range o.lines {
		if l.Type == "resume_point" {
			most = l.Settled
		}
	}
	return most
}

func (o *outcome) find(kind string) *line {
	for i := range o.lines {
		if o.lines[i].Type == kind {
			return &o.lines[i]
		}
	}
	return nil
}

// roots are the roots of the sources that this process finished.
func (o *outcome) roots() map[string]string {
	all := map[string]string{}
	for _, l := range o.lines {
		if l.Type == "source_done" {
			all[l.Source] = l.Root
		}
	}
	return all
}

// code is the exit code as a shell would say it.
func (o *outcome) code() int {
	if ws := o.state.Sys().(syscall.WaitStatus); ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return o.state.ExitCode()
}

func (o *outcome) killed() bool {
	ws := o.state.Sys().(syscall.WaitStatus)
	return ws.Signaled() && ws.Signal() == syscall.SIGKILL
}

func (o *outcome) String() string {
	var b strings.Builder
	for _, l := range o.lines[max(0, len(o.lines)-12):] {
		fmt.Fprintf(&b, "    %+v\n", l)
	}
	return fmt.Sprintf("exit %d after %v\n%s    stderr: %s", o.code(), o.took.Round(time.Millisecond), &b, o.stderr)
}

// process is a program under way.
type process struct {
	cmd  *exec.Cmd
	out  chan line   // every whole line as it comes; closed at the end
	errs chan string // the same of standard error
	done chan struct{}
	o    outcome
	mu   sync.Mutex
	over bool
}

// start runs a program in a process group of its own. stdin, if not nil, is copied into a pipe.
func start(stdin io.Reader, argv ...string) (*process, error) {
	p := &process{cmd: exec.Command(argv[0], argv[1:]...), out: make(chan line, 1024), errs: make(chan string, 64), done: make(chan struct{})}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Stdout, p.cmd.Stderr = outW, errW
	var inR, inW *os.File
	if stdin != nil {
		if inR, inW, err = shellPipe(); err != nil {
			return nil, err
		}
		p.cmd.Stdin = inR
	}
	began := time.Now()
	err = p.cmd.Start()
	outW.Close()
	errW.Close()
	if inR != nil {
		inR.Close()
	}
	if err != nil {
		return nil, err
	}
	if inW != nil {
		go func() { // ends when the process does: the pipe breaks then
			_, _ = io.Copy(inW, stdin)
			_ = inW.Close()
			if c, ok := stdin.(io.Closer); ok {
				_ = c.Close()
			}
		}()
	}
	var errs strings.Builder
	heard := make(chan struct{})
	go func() {
		for in := bufio.NewReader(errR); ; {
			l, err := in.ReadString('\n')
			errs.WriteString(l)
			if err != nil {
				break
			}
			select {
			case p.errs <- l:
			default:
			}
		}
		_ = errR.Close()
		close(p.errs)
		close(heard)
	}()
	giveUp := time.AfterFunc(hung, func() { p.signal(syscall.SIGQUIT); p.kill() })
	go func() {
		p.read(outR)
		<-heard
		giveUp.Stop()
		p.end()
		_ = p.cmd.Wait() // ProcessState says it better
		p.o.state, p.o.stderr, p.o.took = p.cmd.ProcessState, errs.String(), time.Since(began)
		close(p.out)
		close(p.done)
	}()
	return p, nil
}

// shellPipe is a pipe as shells make them: who reads from it waits in the kernel.
func shellPipe() (r, w *os.File, err error) {
	var fd [2]int
	if err := syscall.Pipe2(fd[:], syscall.O_CLOEXEC); err != nil {
		return nil, nil, err
	}
	if err := syscall.SetNonblock(fd[1], true); err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fd[0]), "pipe"), os.NewFile(uintptr(fd[1]), "pipe"), nil
}

func (p *process) read(r io.ReadCloser) {
	defer r.Close()
	in := bufio.NewReaderSize(r, 1<<20)
	for {
		raw, err := in.ReadBytes('\n')
		if err != nil {
			return // what has no newline was never said
		}
		var l line
		if json.Unmarshal(raw, &l) != nil {
			l = line{Type: "garbage", Text: string(raw)}
		}
		p.o.lines = append(p.o.lines, l)
		select {
		case p.out <- l:
		default: // nobody waits for lines here
		}
	}
}

// end forbids signals from here on: the process may be reaped, and its number given to another.
func (p *process) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGCONT) // it closed its output, so it is about to exit
}

// signal gives a signal to the whole group, if it is still there.
func (p *process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.over {
		_ = syscall.Kill(-p.cmd.Process.Pid, s)
	}
}

func (p *process) kill() { p.signal(syscall.SIGKILL) }

// wait hears the process to its end.
func (p *process) wait() *outcome {
	<-p.done
	return &p.o
}

// after calls f once that time has passed, unless the process ended before.
func (p *process) after(d time.Duration, f func()) {
	select {
	case <-time.After(d):
		f()
	case <-p.done:
	}
}

// until waits for a line that match accepts; false if the process ended without one.
func (p *process) until(match func(line) bool) bool {
	for l := range p.out {
		if match(l) {
			return true
		}
	}
	return false
}

// says waits for words on standard error; false if the process ended without them.
func (p *process) says(words string) bool {
	for l := range p.errs {
		if strings.Contains(l, words) {
			return true
		}
	}
	return false
}

// brake lets the process run only a part of the time, so that a small source takes long enough to be acknowledged
// piece by piece. It costs no processor.
func (p *process) brake(rng *rand.Rand, run, rest time.Duration) {
	jitter := func(d time.Duration) time.Duration { return d/2 + time.Duration(rng.Int64N(int64(d))) }
	go func() {
		for {
			select {
			case <-p.done:
				return
			case <-time.After(jitter(run)):
			}
			p.signal(syscall.SIGSTOP)
			time.Sleep(jitter(rest))
			p.signal(syscall.SIGCONT)
		}
	}()
}
