package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"aslrescue/cmd/internal/attach"
	"aslrescue/cmd/internal/config"
	"aslrescue/cmd/internal/report"
	"aslrescue/cmd/internal/wire"
	"aslrescue/detect/probe"
	"aslrescue/engine/event"
	"aslrescue/tui/ask"
)

// engineIdle is how long an engine waits for a face while it has nothing to do.
const engineIdle = 10 * time.Minute

// engineProcess is asl-intake --engine.
type engineProcess struct {
	o    *intakeOptions
	std  IO
	live *Live

	srv   atomic.Pointer[attach.Server] // Live, which is made before it, tells it of news
	faces atomic.Int64
}

// run is the engine until it is told to end, a face ends the session, or nobody wants it.
func (p *engineProcess) run() (err error) {
	ready := p.ready()
	defer func() { ready(err) }()                                   // where it ended before it was ready
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE, syscall.SIGXFSZ) // a terminal that goes, or nobody reading, is nothing to an engine
	ends := make(chan os.Signal, 2)
	signal.Notify(ends, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(ends)
	debug.SetMemoryLimit(int64(p.o.memory) << 20)
	l, err := p.o.place().Listen()
	if err != nil {
		return err
	}
	looking, stopLooking := context.WithCancel(context.Background())
	defer stopLooking()
	p.live = NewLive(p.options(looking))
	srv := attach.NewServer(p.live, attach.Options{Tool: Tool("asl-intake"), Attached: func(n int) { p.faces.Store(int64(n)) }})
	p.srv.Store(srv)
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(l) }) // ends when l is closed
	ready(nil)
	why, err := p.untilEnd(ends)
	srv.Close(why)
	err = errors.Join(err, p.live.Close(), l.Close())
	wg.Wait()
	return errors.Join(err, p.live.Finish())
}

func (p *engineProcess) options(ctx context.Context) LiveOptions {
	c, _ := config.Load(p.o.where()) // its mistakes are rows of the table
	wish := LookWish(p.o.where())
	return LiveOptions{Config: c, Keep: keepIn(keeper(c, "asl-intake", p.std, true)), Wish: wish, Look: probe.Start(ctx, ThisMachine("asl-intake"), wish), Memory: int64(p.o.memory) << 20,
		Pools: realPools(nil, nil), Child: self, Kernel: listenToKernel, PowerOff: func() error { return endMachine("poweroff") }, Changed: p.poke}
}

func (p *engineProcess) poke() {
	if s := p.srv.Load(); s != nil {
		s.Poke()
	}
}

// untilEnd waits until the engine is to end, and says why.
func (p *engineProcess) untilEnd(ends <-chan os.Signal) (why string, err error) {
	idle := p.o.idle
	if idle == 0 {
		idle = engineIdle
	}
	tick := time.NewTicker(max(idle/20, 10*time.Millisecond))
	defer tick.Stop()
	wanted, unseen := time.Now(), false
	for {
		select {
		case sig := <-ends:
			p.live.say(event.Warning, "", "the engine was told to end ("+sig.String()+"): what was read is sealed first")
			p.live.StopWork(ends)
			return "it was told to end by " + sig.String(), report.BySignal(sig.(syscall.Signal))
		case <-p.live.Left():
			return "a face ended the session", nil
		case now := <-tick.C:
			busy, faces := p.live.Busy(), p.faces.Load() > 0
			switch {
			case busy:
				unseen = true // a report that nobody has seen is waited for
			case faces:
				unseen = false
			}
			if busy || faces || unseen {
				wanted = now
			}
			if now.Sub(wanted) >= idle {
				return "nothing is to be done, and nobody is here", nil
			}
		}
	}
}

// StopWork stops the intake as Ctrl-C does; a further signal makes it stop at once.
func (l *Live) StopWork(again <-chan os.Signal) {
	l.mu.Lock()
	w := l.work
	l.mu.Unlock()
	if w == nil {
		return
	}
	_ = w.job.Do(ask.Stop, "") // refused where it has ended
	select {
	case <-w.job.Done():
	case <-again:
		l.stop()
		<-w.job.Done()
	}
}

// readyFD is where a detached engine says once that it is ready, or why it is not.
const readyFD = 3

// ready gives the function that says so; later calls do nothing.
func (p *engineProcess) ready() func(error) {
	if !p.o.detached {
		return func(error) {}
	}
	f := os.NewFile(readyFD, "ready")
	var once sync.Once
	return func(err error) {
		once.Do(func() {
			s := started{PID: os.Getpid(), Exit: report.CodeOf(err)}
			if err != nil {
				s.Error = err.Error()
			}
			_ = json.NewEncoder(f).Encode(s) // who started it may be gone already
			_ = f.Close()
		})
	}
}

// started is what a detached engine says to who started it.
type started struct {
	PID   int         `json:"pid"`
	Error string      `json:"error,omitempty"`
	Exit  report.Code `json:"exit"`
}

// startEngine starts an engine that outlives this process and its terminal, and returns when it can be attached to.
func startEngine(place wire.Place, o *intakeOptions) (started, error) {
	var s started
	if err := place.Make(); err != nil {
		return s, &report.Error{What: "make the folder of the engine's socket", Err: err, Next: []string{"Remove it, or give another place with --run-dir."}}
	}
	messages, err := os.OpenFile(place.Messages(), os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return s, err
	}
	defer messages.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return s, err
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe", "--engine", "--detached", "--run-dir", or(o.runDir, RunDir), "--memory", fmt.Sprint(o.memory), "--idle", o.idle.String())
	if o.config != "" {
		cmd.Args = append(cmd.Args, "--config", o.config)
	}
	cmd.Args[0] = "asl-intake" // as ps shows it
	cmd.Dir, cmd.Stderr, cmd.ExtraFiles = "/", messages, []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal of ours is its own
	err = cmd.Start()
	_ = w.Close() // the child has it
	if err != nil {
		return s, err
	}
	go func() { _ = cmd.Wait() }() // it may end before this process
	if err := json.NewDecoder(r).Decode(&s); err != nil {
		return s, fmt.Errorf("the engine did not start: %s says why", place.Messages())
	}
	if s.Error != "" {
		return s, &report.Error{Err: errors.New(s.Error), Code: s.Exit}
	}
	return s, nil
}

// startTimeout is how long attaching may take: a few engines may end and begin meanwhile.
const startTimeout = 20 * time.Second

// attachEngine attaches to the engine that runs, or starts one. Name is the terminal, for people at other faces.
func attachEngine(ctx context.Context, o *intakeOptions, name string) (*attach.Remote, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, errors.New("the engine does not answer"))
	defer cancel()
	place := o.place()
	for {
		r, err := attach.Dial(ctx, place, Tool("asl-intake"), name)
		if !errors.Is(err, wire.ErrNoEngine) {
			return r, err
		}
		_, err = startEngine(place, o)
		if err != nil && report.CodeOf(err) != report.Locked { // another face was quicker, or the last engine is ending
			return nil, err
		}
		if err != nil {
			select {
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
}
