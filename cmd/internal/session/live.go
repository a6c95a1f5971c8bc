package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"aslrescue/backends/zfs"
	"aslrescue/cmd/internal/attach"
	"aslrescue/cmd/internal/config"
	"aslrescue/cmd/internal/job"
	"aslrescue/detect"
	"aslrescue/detect/probe"
	"aslrescue/engine/event"
	"aslrescue/tui/ask"
)

// LiveOptions are what the engine of this machine works with.
type LiveOptions struct {
	Config   *config.Config
	Memory   int64                                                      // bytes, of an intake
	Wish     probe.Wish                                                 // what is looked for
	Look     Looker                                                     // nil: nothing is found
	Pools    pools                                                      // how pools are looked for and used
	Child    childRunner                                                // this program, to do what may hang
	Kernel   func(ctx context.Context, say func(prio int, text string)) // the kernel's words from now on; it ends with ctx
	PowerOff func() error
	Now      func() time.Time
	Changed  func()                    // something is new; it returns at once
	Keep     func(event.Level, string) // keeps what was said, as logging.conf wants it; nil: nobody does
}

// Looker looks at the machine.
type Looker interface {
	Updates() <-chan probe.Update // the newest state of things; closed at the end
	Again(probe.Wish)
}

// Live is the engine on this machine: what the wizard asks, by the functions that batch, asl-admin and asl-debug call too.
//
// Goroutines: looking, listening to the kernel and the job have one each; Close ends and waits for them. No lock is held while a medium is read.
type Live struct {
	o    LiveOptions
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	starting  sync.Mutex // one start at a time
	answering sync.Mutex // one answer at a time: the first wins

	mu       sync.Mutex
	look     ask.Look
	lines    []ask.Line
	seq      uint64
	plans    []livePlan        // that were shown, the newest last
	answers  map[string]string // by hash of the plan: what came of it
	approved map[string]string // by pool and way, for the offers
	attached []*zfs.Attached   // pools that this engine took into use
	work     *liveWork         // the intake; nil before the first
	left     bool              // Leave was asked
	off      bool              // and the machine is to be switched off
	quit     chan struct{}
}

var _ ask.Engine = (*Live)(nil)

// NewLive begins to look around.
func NewLive(o LiveOptions) *Live {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Changed == nil {
		o.Changed = func() {}
	}
	l := &Live{o: o, quit: make(chan struct{}), answers: map[string]string{}, approved: map[string]string{}}
	l.ctx, l.stop = context.WithCancel(context.Background())
	l.look = ask.Look{Facts: detect.Facts{Version: detect.FactsVersion}, Looking: o.Look != nil}
	if o.Look != nil {
		l.wg.Go(l.lookOn)
	}
	if o.Kernel != nil {
		l.wg.Go(func() { o.Kernel(l.ctx, l.kernelSays) })
	}
	return l
}

// Close ends what goes on, as a stop of the intake does.
func (l *Live) Close() error {
	l.mu.Lock()
	w := l.work
	l.mu.Unlock()
	if w != nil {
		_ = w.job.Do(ask.Stop, "") // refused where it has ended
		<-w.job.Done()
	}
	err := l.letGo()
	l.stop()
	l.wg.Wait()
	return err
}

// Left is closed when a face asked to leave; PowerOff then says whether the machine is to be switched off.
func (l *Live) Left() <-chan struct{} { return l.quit }

// Busy tells whether an intake is under way, paused ones included.
func (l *Live) Busy() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.work != nil && !l.work.over()
}

// lookOn keeps what is found as it comes.
func (l *Live) lookOn() {
	for {
		select {
		case <-l.ctx.Done():
			return
		case u, ok := <-l.o.Look.Updates():
			if !ok {
				return
			}
			l.mu.Lock()
			l.look = ask.Look{Facts: u.Facts, Decision: u.Decision, Looking: !u.Done, Version: l.look.Version + 1}
			l.mu.Unlock()
			l.o.Changed()
		}
	}
}

func (l *Live) facts() *detect.Facts {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.look.Facts // nobody changes what was found; a new look makes new facts
	return &f
}

// LookAgain looks at everything anew.
func (l *Live) LookAgain(context.Context) error {
	if l.o.Look != nil {
		l.o.Look.Again(l.o.Wish)
	}
	return nil
}

// say keeps a sentence for every face.
func (l *Live) say(level event.Level, from, text string) {
	l.mu.Lock()
	l.seq++
	l.lines = append(l.lines, ask.Line{Seq: l.seq, At: l.o.Now(), Level: level, From: from, Text: event.Printable(text)})
	if most := l.most(); len(l.lines) > most {
		l.lines = slices.Clone(l.lines[len(l.lines)-most:])
	}
	l.mu.Unlock()
	if from != "" {
		text = from + ": " + text
	}
	if l.o.Keep != nil {
		l.o.Keep(level, text)
	}
	l.o.Changed()
}

// most is how many lines are kept.
func (l *Live) most() int {
	if l.o.Config == nil {
		return config.Default().Messages.Most()
	}
	return l.o.Config.Messages.Most()
}

// by names the face that asks, for the others.
func by(ctx context.Context) string {
	if f := attach.FaceOf(ctx); f != "" {
		return " (" + f + ")"
	}
	return ""
}

// State is how things stand. The job comes first: of its end, the lines say no less.
func (l *Live) State() ask.State {
	l.mu.Lock()
	w := l.work
	l.mu.Unlock()
	var st ask.State
	if w != nil {
		st.Job = w.job.State()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	st.Look, st.Lines = l.look, slices.Clone(l.lines)
	return st
}

// Leave ends the session, not a running intake: what was imported is exported, and then the engine ends.
func (l *Live) Leave(ctx context.Context, powerOff bool) error {
	if l.Busy() {
		return fmt.Errorf("%w: an intake is under way: stop it first, or leave it running", ask.ErrRefused)
	}
	if err := l.letGo(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.left {
		l.left, l.off = true, powerOff
		close(l.quit)
	}
	return nil
}

// Finish does what Leave asked for, once every face was told.
func (l *Live) Finish() error {
	l.mu.Lock()
	off := l.off
	l.mu.Unlock()
	if off && l.o.PowerOff != nil {
		return l.o.PowerOff()
	}
	return nil
}

// liveWork is an intake of this engine.
type liveWork struct {
	job  *job.Job
	open []func() // closes what it has open
}

func (w *liveWork) over() bool {
	select {
	case <-w.job.Done():
		return true
	default:
		return false
	}
}

// keeper looks into the store that the intake goes to, or that the config names.
func (l *Live) keeper() (Keeper, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.work != nil {
		return Keeper{Dir: l.work.job.State().Plan.Place.Path}, nil
	}
	if n := len(l.plans); n > 0 {
		return Keeper{Dir: l.plans[n-1].plan.Store}, nil
	}
	if l.o.Config != nil && l.look.Facts.Store != nil && l.look.Facts.Store.IsStore {
		return Keeper{Dir: l.o.Config.LocalMount}, nil
	}
	return Keeper{}, errors.New("there is no store yet: choose a place for it first")
}

// Snapshots lists them.
func (l *Live) Snapshots(ctx context.Context) ([]ask.Snapshot, error) {
	k, err := l.keeper()
	if err != nil {
		return nil, err
	}
	return k.Snapshots(ctx)
}

// Browse lists a directory of a snapshot.
func (l *Live) Browse(ctx context.Context, snapshot uint64, path string) ([]ask.DirEntry, error) {
	k, err := l.keeper()
	if err != nil {
		return nil, err
	}
	return k.Browse(ctx, snapshot, path)
}

// Segments lists them with their blocks.
func (l *Live) Segments(ctx context.Context) ([]ask.Segment, error) {
	k, err := l.keeper()
	if err != nil {
		return nil, err
	}
	return k.Segments(ctx)
}

// Tool runs a command of asl-admin or asl-debug.
func (l *Live) Tool(ctx context.Context, program string, args ...string) (ask.Printed, error) {
	k, err := l.keeper()
	if err != nil && (len(args) == 0 || !slices.Contains(storeless(), args[0])) {
		return ask.Printed{}, err
	}
	return k.Tool(ctx, program, args...)
}
