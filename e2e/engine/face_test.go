package engine

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// hung only ends what never would.
const hung = 2 * time.Minute

var bin string // the program; set once by TestMain

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "engine")
	if err == nil {
		bin = filepath.Join(dir, "asl-intake")
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", bin, "../../cmd/asl-intake")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		cmd.Stderr = os.Stderr
		err = cmd.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// place is a folder for one engine and what it works on.
type place struct {
	t   *testing.T
	dir string
}

func newPlace(t *testing.T) *place {
	dir, err := os.MkdirTemp("", "e") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	p := &place{t, dir}
	t.Cleanup(func() {
		if pid := p.lockHolder(); pid > 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		_ = os.RemoveAll(dir)
	})
	return p
}

func (p *place) path(name string) string { return filepath.Join(p.dir, name) }

// args are those of every program here: no config of the machine, little memory.
func (p *place) args(more ...string) []string {
	return append(more, "--run-dir", p.path("run"), "--memory", "96", "--config", p.path("etc"))
}

func (p *place) run(args ...string) (out string, code int) {
	cmd := exec.Command(bin, args...)
	b, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		p.t.Fatal(err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

// start starts an engine as a face does, and gives its process.
func (p *place) start(more ...string) int {
	out, code := p.run(p.args(append([]string{"--engine", "--detach"}, more...)...)...)
	var pid int
	if _, err := fmt.Sscanf(out, "the engine runs: process %d", &pid); err != nil || code != 0 {
		p.t.Fatalf("no engine: exit %d: %s", code, out)
	}
	return pid
}

// lockHolder is the process that holds the lock of the place, by the kernel's list of locks; 0 where there is none.
func (p *place) lockHolder() int {
	var st syscall.Stat_t
	if syscall.Stat(p.path("run/sockets/engine.lock"), &st) != nil {
		return 0
	}
	b, _ := os.ReadFile("/proc/locks")
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 6 || f[1] != "FLOCK" {
			continue
		}
		dev := strings.Split(f[5], ":")
		var pid int
		_, err := fmt.Sscan(f[4], &pid)
		if err == nil && len(dev) == 3 && dev[2] == fmt.Sprint(st.Ino) {
			return pid
		}
	}
	return 0
}

func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(b), ") Z ")
}

// eventually waits for something outside of all sockets.
func (p *place) eventually(what string, ok func() bool) {
	p.t.Helper()
	for end := time.Now().Add(hung); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("never: %s", what)
		}
	}
}

// endless is a source that takes minutes to read, and no room: a terabyte of holes.
func (p *place) endless() string {
	f, err := os.Create(p.path("endless.img"))
	if err == nil {
		err = f.Truncate(1 << 40)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	_ = f.Close()
	return f.Name()
}

// face speaks the protocol by hand.
type face struct {
	t    *testing.T
	conn net.Conn

	mu      sync.Mutex
	news    *sync.Cond
	n       int
	topics  map[string]json.RawMessage
	answers map[int]frame
	bye     string
	gone    bool
}

type frame struct {
	Type     string
	ID       int
	Body     json.RawMessage
	Error    *failure
	Topic    string
	Why      string
	Protocol []int
	PID      int
}

type failure struct {
	Error, Kind string
	Exit        int
}

func (p *place) attach(name string) *face {
	conn, err := net.Dial("unix", p.path("run/sockets/engine.sock"))
	if err != nil {
		p.t.Fatal(err)
	}
	f := &face{t: p.t, conn: conn, topics: map[string]json.RawMessage{}, answers: map[int]frame{}}
	f.news = sync.NewCond(&f.mu)
	p.t.Cleanup(func() { _ = conn.Close() })
	fmt.Fprintf(conn, `{"type":"hello","protocol":[1,1],"name":%q}`+"\n", name)
	go f.read()
	return f
}

func (f *face) read() {
	s := bufio.NewScanner(f.conn)
	s.Buffer(nil, 8<<20)
	for s.Scan() {
		var fr frame
		if err := json.Unmarshal(s.Bytes(), &fr); err != nil {
			f.t.Errorf("the engine said %.100q: %v", s.Text(), err)
		}
		f.mu.Lock()
		switch fr.Type {
		case "tell":
			f.topics[fr.Topic] = fr.Body
		case "answer":
			f.answers[fr.ID] = fr
		case "bye":
			f.bye = fr.Why
		}
		f.news.Broadcast()
		f.mu.Unlock()
	}
	f.mu.Lock()
	f.gone = true
	f.news.Broadcast()
	f.mu.Unlock()
}

// until waits for ok, or for the end of the engine.
func (f *face) until(what string, ok func() bool) {
	f.t.Helper()
	end := time.AfterFunc(hung, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.gone = true
		f.news.Broadcast()
	})
	defer end.Stop()
	f.mu.Lock()
	defer f.mu.Unlock()
	for !ok() {
		if f.gone {
			f.t.Fatalf("never: %s; bye %q, the job is %.300s", what, f.bye, f.topics["job"])
		}
		f.news.Wait()
	}
}

// ask gives the answer, into out, or what is wrong.
func (f *face) ask(op string, body, out any) *failure {
	f.t.Helper()
	f.mu.Lock()
	f.n++
	n := f.n
	f.mu.Unlock()
	line, err := json.Marshal(map[string]any{"type": "ask", "id": n, "op": op, "body": body})
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := f.conn.Write(append(line, '\n')); err != nil {
		f.t.Fatal(err)
	}
	var fr frame
	f.until("the answer to "+op, func() bool { var ok bool; fr, ok = f.answers[n]; return ok })
	if fr.Error == nil && out != nil {
		if err := json.Unmarshal(fr.Body, out); err != nil {
			f.t.Fatalf("%s: %v: %s", op, err, fr.Body)
		}
	}
	return fr.Error
}

func (f *face) must(op string, body, out any) {
	f.t.Helper()
	if fail := f.ask(op, body, out); fail != nil {
		f.t.Fatalf("%s: %+v", op, *fail)
	}
}

type job struct {
	Phase    string
	Progress struct {
		Intake    string
		Safe      int64
		Result    string
		Snapshot  int
		Counts    struct{ Data, Zero int64 }
		Gaps      int
		Begun     bool
		Sources   []struct{ Name string }
		Stage     string
		Total     int64
		Verified  int64
		VerifyOf  int64
		VerifyBad int64
	}
	Report *struct {
		Result string
		Next   []string
	}
}

// job is how it stands; under the lock.
func (f *face) job() (j job) {
	if b := f.topics["job"]; b != nil {
		if err := json.Unmarshal(b, &j); err != nil {
			f.t.Errorf("%v: %s", err, b)
		}
	}
	return j
}

func (f *face) phase(want string) job {
	f.t.Helper()
	var j job
	f.until("the job is "+want, func() bool { j = f.job(); return j.Phase == want })
	return j
}

// further waits until the job has come further than n bytes, all of them safe.
func (f *face) further(n int64) job {
	f.t.Helper()
	var j job
	f.until("it goes on", func() bool { j = f.job(); return j.Progress.Safe > n })
	return j
}

type plan struct {
	Hash, Resume string
	Command      []string
}

// begin plans and starts an intake of a source.
func (f *face) begin(source, store string) plan {
	f.t.Helper()
	var p plan
	f.must("plan", map[string]any{"sources": []string{source}, "place": store}, &p)
	f.must("start", map[string]any{"hash": p.Hash}, nil)
	return p
}

func (f *face) said(what string) bool { return strings.Contains(string(f.topics["lines"]), what) }
