package wire

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"aslrescue/cmd/internal/report"
	"aslrescue/engine/approval"
)

// hung only ends what never would.
const hung = time.Minute

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), hung)
	t.Cleanup(cancel)
	return ctx
}

// place has a short path: a socket's has at most 107 bytes.
func place(t *testing.T) Place {
	dir, err := os.MkdirTemp("", "wire")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return At(dir)
}

// engine is a server whose asks are echo, fail, hang, panic and big.
type engine struct {
	*Server
	place   Place
	changed chan struct{}
}

func serve(t *testing.T, limits Limits) *engine {
	e := &engine{place: place(t), changed: make(chan struct{}, 1)}
	l, err := e.place.Listen()
	if err != nil {
		t.Fatal(err)
	}
	e.Server = NewServer("test", limits, func(ctx context.Context, from Face, op string, body json.RawMessage) (any, error) {
		switch op {
		case "echo":
			return body, nil
		case "who":
			return from, nil
		case "hang":
			<-ctx.Done()
			return nil, ctx.Err()
		case "panic":
			panic("on purpose")
		case "big":
			return strings.Repeat("x", 1<<20), nil
		}
		return nil, &report.Error{What: "do " + op, Err: approval.ErrMissing, Means: "means", Next: []string{"next"}}
	}, func() {
		select {
		case e.changed <- struct{}{}:
		default:
		}
	})
	var wg sync.WaitGroup
	wg.Go(func() { _ = e.Serve(l) })
	t.Cleanup(func() { _ = l.Close(); e.Close("the test is over"); wg.Wait() })
	return e
}

// until waits for the faces to be as many.
func (e *engine) until(t *testing.T, n int) {
	ctx := within(t)
	for len(e.Faces()) != n {
		select {
		case <-e.changed:
		case <-ctx.Done():
			t.Fatalf("%d faces, want %d", len(e.Faces()), n)
		}
	}
}

// face folds what it hears.
type face struct {
	*Client
	mu     sync.Mutex
	topics map[string]string
	heard  chan struct{}
	gone   chan error
}

func (e *engine) attach(t *testing.T, name string) *face {
	f := &face{topics: map[string]string{}, heard: make(chan struct{}, 1), gone: make(chan error, 1)}
	note := func(do func()) {
		f.mu.Lock()
		do()
		f.mu.Unlock()
		select {
		case f.heard <- struct{}{}:
		default:
		}
	}
	c, err := Dial(within(t), e.place, "test", name, Ear{
		Tell: func(topic string, body json.RawMessage) { note(func() { f.topics[topic] = string(body) }) },
		Gone: func(err error) { f.gone <- err },
	})
	if err != nil {
		t.Fatal(err)
	}
	f.Client = c
	t.Cleanup(c.Close)
	return f
}

func (f *face) until(t *testing.T, what string, ok func(*face) bool) {
	ctx := within(t)
	for {
		f.mu.Lock()
		is := ok(f)
		f.mu.Unlock()
		if is {
			return
		}
		select {
		case <-f.heard:
		case <-ctx.Done():
			t.Fatalf("never came to %s: %.200v", what, f.topics)
		}
	}
}

func says(topic string, want any) func(*face) bool {
	b, _ := json.Marshal(want)
	return func(f *face) bool { return f.topics[topic] == string(b) }
}

func (e *engine) tell(t *testing.T, topic string, body any) {
	if err := e.Tell(topic, body); err != nil {
		t.Fatal(err)
	}
}

func TestAsksAreAnsweredEachByItsNumber(t *testing.T) {
	e := serve(t, Limits{})
	f := e.attach(t, "tty1")
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			var got int
			if err := f.Ask(within(t), "echo", i, &got); err != nil || got != i {
				t.Errorf("echo %d: %d, %v", i, got, err)
			}
		})
	}
	wg.Wait()
	var who Face
	if err := f.Ask(within(t), "who", nil, &who); err != nil || who.Name != "tty1" || who.PID != os.Getpid() || who.Number != f.Engine().Face {
		t.Errorf("who: %+v, %v", who, err)
	}
	err := f.Ask(within(t), "no such thing", nil, nil)
	want := report.Explain(&report.Error{What: "do no such thing", Err: approval.ErrMissing, Means: "means", Next: []string{"next"}})
	got := report.Explain(err)
	if !errors.Is(err, approval.ErrMissing) || err.Error() != "do no such thing: "+approval.ErrMissing.Error() || got.Code != want.Code || got.Means != want.Means || !reflect.DeepEqual(got.Next, want.Next) {
		t.Errorf("a failure came over as %+v, want %+v", got, want)
	}
	if err := f.Ask(within(t), "panic", nil, nil); !errors.Is(err, report.ErrInternal) || !strings.Contains(err.Error(), "on purpose") {
		t.Errorf("a panic in one answer: %v", err)
	}
	if err := f.Ask(within(t), "echo", strings.Repeat("x", MaxAsk), nil); !errors.Is(err, ErrTooLong) {
		t.Errorf("an ask that is too long: %v", err)
	}
	if err := f.Ask(within(t), "echo", 1, nil); err != nil {
		t.Errorf("after all that: %v", err)
	}
}

func TestWhoComesLaterSeesTheSame(t *testing.T) {
	e := serve(t, Limits{})
	early := e.attach(t, "tty1")
	for i := range 1000 {
		e.tell(t, "job", i)
		e.tell(t, "look", -i)
	}
	late := e.attach(t, "ssh")
	e.tell(t, "lines", "the last")
	for _, f := range []*face{early, late} {
		f.until(t, "the job", says("job", 999))
		f.until(t, "what was found", says("look", -999))
		f.until(t, "the lines", says("lines", "the last"))
	}
}

// raw is a face that does as it likes.
func (e *engine) raw(t *testing.T, says string) (net.Conn, *bufio.Scanner) {
	c, err := net.Dial("unix", e.place.Socket())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(hung))
	go func() { _, _ = c.Write([]byte(says)) }()
	s := bufio.NewScanner(c)
	s.Buffer(nil, MaxTell)
	return c, s
}

const helloLine = `{"type":"hello","protocol":[1,1],"tool":"x","name":"x"}` + "\n"

func TestAFaceThatReadsNothingHoldsUpNobody(t *testing.T) {
	e := serve(t, Limits{})
	_, _ = e.raw(t, helloLine)
	e.until(t, 1)
	f := e.attach(t, "tty1")
	for i := range 200 { // more than a socket takes, and returns all the same
		e.tell(t, "job", strings.Repeat("x", 1<<18)+fmt.Sprint(i))
	}
	f.until(t, "the last of it", says("job", strings.Repeat("x", 1<<18)+"199"))
	if n := len(e.Faces()); n != 2 {
		t.Errorf("%d faces: who is slow is not let go at once", n)
	}
}

func TestAFaceThatReadsNothingForLongIsLetGo(t *testing.T) {
	e := serve(t, Limits{Stuck: 50 * time.Millisecond})
	_, _ = e.raw(t, helloLine)
	e.until(t, 1)
	e.tell(t, "job", strings.Repeat("x", 1<<20))
	e.until(t, 0)
}

func TestAHostileFaceIsToldWhyAndLetGo(t *testing.T) {
	ask := func(n int, op string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `{"type":"ask","id":%d,"op":%q}`+"\n", i+1, op)
		}
		return b.String()
	}
	for name, c := range map[string]struct{ says, why string }{
		"garbage":         {"\x00\xff\xfe garbage\n", "no JSON object"},
		"half JSON":       {`{"type":"hello","protocol":[1,` + "\n", "not of this protocol"},
		"wrong types":     {`{"type":"hello","protocol":"1"}` + "\n", "not of this protocol"},
		"no versions":     {`{"type":"hello"}` + "\n", "no versions"},
		"a newer version": {`{"type":"hello","protocol":[7,9]}` + "\n", "speaks versions 7 to 9"},
		"no hello":        {ask(1, "echo"), `said "ask" before hello`},
		"a huge line":     {strings.Repeat("x", MaxAsk+10), "sent a line of more than"},
		"a huge ask":      {helloLine + `{"type":"ask","id":1,"op":"echo","body":"` + strings.Repeat("x", MaxAsk) + `"}` + "\n", "sent a line of more than"},
		"deep JSON":       {helloLine + `{"type":"ask","id":1,"op":"echo","body":` + strings.Repeat("[", 100_000) + "\n", "not of this protocol"},
		"no number":       {helloLine + `{"type":"ask","op":"echo"}` + "\n", "no number"},
		"asks at once":    {helloLine + ask(100, "hang"), "asked for more than 32 things at once"},
		"never reads":     {helloLine + ask(32, "big"), ""}, // 32 MiB wait: more than may
	} {
		t.Run(name, func(t *testing.T) {
			e := serve(t, Limits{})
			good := e.attach(t, "good")
			conn, in := e.raw(t, c.says)
			if c.why == "" {
				hangsUp(t, conn)
			} else {
				last := ""
				for in.Scan() {
					last = in.Text()
				}
				f, err := Decode([]byte(last))
				if err != nil || f.Type != Bye || !strings.Contains(f.Why, c.why) {
					t.Errorf("the last line is %.200q (%v), want bye: %s", last, err, c.why)
				}
			}
			e.until(t, 1)
			if err := good.Ask(within(t), "echo", 1, nil); err != nil {
				t.Errorf("the other face: %v", err)
			}
		})
	}
}

// hangsUp waits for the other side to close, and reads nothing meanwhile.
func hangsUp(t *testing.T, c net.Conn) {
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	cerr := raw.Control(func(fd uintptr) {
		for n, err = 0, unix.EINTR; errors.Is(err, unix.EINTR); {
			n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}, int(hung.Milliseconds()))
		}
	})
	if cerr != nil || err != nil || n == 0 {
		t.Errorf("it was not let go: %v, %v", cerr, err)
	}
}

func TestWhoDoesNotSayHelloIsLetGo(t *testing.T) {
	e := serve(t, Limits{Hello: 50 * time.Millisecond})
	_, in := e.raw(t, "")
	last := ""
	for in.Scan() {
		last = in.Text()
	}
	if !strings.Contains(last, "did not say hello in time") {
		t.Errorf("the last line is %q", last)
	}
}

func TestOnlySoManyFacesAtOnce(t *testing.T) {
	e := serve(t, Limits{Faces: 2})
	a, b := e.attach(t, "a"), e.attach(t, "b")
	_, err := Dial(within(t), e.place, "test", "c", Ear{})
	var ended *EndedError
	if !errors.As(err, &ended) || !strings.Contains(ended.Why, "2 faces are attached") {
		t.Fatalf("the third: %v", err)
	}
	a.Close()
	if err := <-a.gone; err != nil {
		t.Errorf("who leaves is told %v", err)
	}
	e.until(t, 1)
	c := e.attach(t, "c")
	for _, f := range []*face{b, c} {
		if err := f.Ask(within(t), "echo", 1, nil); err != nil {
			t.Error(err)
		}
	}
}

// What ends the engine ends no face: each is told, and asks that are open end.
func TestTheEngineSaysByeOrIsGone(t *testing.T) {
	p := place(t)
	l, err := p.Listen()
	if err != nil {
		t.Fatal(err)
	}
	e := &engine{place: p, Server: NewServer("test", Limits{}, func(ctx context.Context, _ Face, _ string, _ json.RawMessage) (any, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}, nil)}
	go func() { _ = e.Serve(l) }()
	f := e.attach(t, "tty1")
	asked := make(chan error, 1)
	go func() { asked <- f.Ask(within(t), "hang", nil, nil) }()
	for len(e.Faces()) == 0 {
	}
	e.Close("enough for today")
	var ended *EndedError
	if err := <-f.gone; !errors.As(err, &ended) || ended.Why != "enough for today" {
		t.Errorf("gone: %v", err)
	}
	if err := <-asked; err == nil {
		t.Error("an open ask was answered by an engine that ended")
	}
	if err := f.Ask(within(t), "hang", nil, nil); !errors.As(err, &ended) {
		t.Errorf("an ask after the end: %v", err)
	}
	_ = l.Close()
	if _, err := Dial(within(t), p, "test", "late", Ear{}); !errors.Is(err, ErrNoEngine) {
		t.Errorf("dial after the end: %v", err)
	}
}

func TestOneEngineForEachPlaceAndAStaleSocketIsReplaced(t *testing.T) {
	p := place(t)
	if _, err := Dial(within(t), p, "test", "x", Ear{}); !errors.Is(err, ErrNoEngine) {
		t.Fatalf("without a folder: %v", err)
	}
	first, err := p.Listen()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Listen(); !errors.Is(err, report.ErrLocked) || report.CodeOf(err) != report.Locked {
		t.Fatalf("the second: %v, exit %d", err, report.CodeOf(err))
	}
	for path, mode := range map[string]os.FileMode{filepath.Dir(p.Socket()): 0o700, p.Socket(): 0o600, p.Lock(): 0o600} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v, want %o", path, st.Mode(), err, mode)
		}
	}
	first.SetUnlinkOnClose(false) // as a killed one leaves it
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(p.Socket()); err != nil {
		t.Fatalf("the test left no stale socket: %v", err)
	}
	if _, err := Dial(within(t), p, "test", "x", Ear{}); !errors.Is(err, ErrNoEngine) {
		t.Fatalf("dial to a stale socket: %v", err)
	}
	again, err := p.Listen()
	if err != nil {
		t.Fatalf("a stale socket keeps the next engine out: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAFolderThatIsNotOursIsRefused(t *testing.T) {
	p := place(t)
	other := t.TempDir()
	if err := os.Symlink(other, filepath.Dir(p.Socket())); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Listen(); err == nil || !strings.Contains(err.Error(), "is no folder") {
		t.Errorf("listen behind a symbolic link: %v", err)
	}
	if _, err := Dial(within(t), p, "test", "x", Ear{}); err == nil || errors.Is(err, ErrNoEngine) {
		t.Errorf("dial behind a symbolic link: %v", err)
	}
}

func TestAnotherUserIsShownTheDoor(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("becomes another user, which needs root")
	}
	q := place(t)
	if err := q.Make(); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(filepath.Dir(q.Socket()), 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Listen(); !errors.Is(err, ErrForeign) {
		t.Errorf("listen in another user's folder: %v", err)
	}
	e := serve(t, Limits{})
	for _, p := range []string{filepath.Dir(filepath.Dir(e.place.Socket())), filepath.Dir(e.place.Socket()), e.place.Socket()} {
		if err := os.Chmod(p, 0o777); err != nil { // as if the modes kept nobody out
			t.Fatal(err)
		}
	}
	for uid, want := range map[int]bool{0: true, 12345: false} {
		if got := talksTo(t, e.place.Socket(), uid); got != want {
			t.Errorf("the engine talks to user %d: %v", uid, got)
		}
	}
}

// talksTo connects as a user and tells whether the engine says anything.
func talksTo(t *testing.T, socket string, uid int) bool {
	said := make(chan bool)
	go func() { // its thread changes its user, and ends with it
		runtime.LockOSThread()
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); e != 0 {
				err = e
			}
		}
		if err == nil {
			err = unix.Connect(fd, &unix.SockaddrUnix{Name: socket})
		}
		if err != nil {
			t.Errorf("connect as user %d: %v", uid, err)
		}
		n, _ := unix.Read(fd, make([]byte, 100))
		_ = unix.Close(fd)
		said <- n > 0
	}()
	return <-said
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{helloLine, `{"type":"ask","id":7,"op":"status"}`, `{"type":"answer","id":7,"error":{"error":"x","exit":5}}`,
		`{"type":"tell","topic":"state","body":{}}`, `{"type":"bye","why":"x"}`, `{"type":"future","x":[1]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		fr, err := Decode(line)
		if err != nil {
			return
		}
		out, err := Encode(fr, MaxTell)
		if err != nil {
			if errors.Is(err, ErrTooLong) {
				return
			}
			t.Fatalf("%q was read and cannot be written: %v", line, err)
		}
		again, err := Decode(out)
		if err != nil {
			t.Fatalf("%q became %q, which cannot be read: %v", line, out, err)
		}
		twice, err := Encode(again, MaxTell)
		if err != nil || string(twice) != string(out) {
			t.Fatalf("%q became %q, then %q (%v)", line, out, twice, err)
		}
	})
}
