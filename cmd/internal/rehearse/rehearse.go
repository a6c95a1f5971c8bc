// Package rehearse is a machine to practise on. A captured machine's facts are shown and decided on as if they were found, its disks are
// made up, with the faults that they say they have, and the engine that takes them in is the real one, over a store in a temporary folder.
// Nothing of the machine it runs on is looked at, and nothing but that folder is written.
package rehearse

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"aslrescue/backends/local"
	"aslrescue/cmd/internal/job"
	"aslrescue/cmd/internal/session"
	"aslrescue/detect"
	"aslrescue/engine/event"
	"aslrescue/engine/intake"
	"aslrescue/engine/source"
	"aslrescue/engine/store"
	"aslrescue/tui/ask"
)

// Options say how. The zero value rehearses the built-in machine at the speed of its disks.
type Options struct {
	Facts *detect.Facts // a captured machine; nil: Built
	Name  string        // of it, for people
	Rate  int64         // bytes per second of a disk; 0 is 80 MB/s, negative is as fast as it goes
	Late  time.Duration // how long a probe still looks at the start
	Temp  string        // where the temporary folder is made; empty: the system's own place
	Now   func() time.Time
	Where string                                            // the console, for people
	Hold  func(ctx context.Context, path string, off int64) // called before each read of a disk; what waits there is a disk that hangs. May be nil
	Even  bool                                              // nothing that is stored depends on how fast it goes
}

// Engine is the engine of a rehearsal.
type Engine struct {
	o    Options
	dir  string // temporary, with the store in it
	by   int64  // how much smaller the disks are
	ctx  context.Context
	end  context.CancelFunc
	work sync.WaitGroup
	session.Keeper

	mu      sync.Mutex
	facts   detect.Facts
	late    bool
	version uint64
	lines   []ask.Line
	answers map[string]string // by hash
	folder  string            // that was chosen for the store
	plans   map[string]ask.Plan
	wants   map[string]ask.Want
	store   *store.Store
	meter   *job.Meter
	job     *job.Job
	left    bool
}

var _ ask.Engine = (*Engine)(nil)

// diskRate is what a disk gives where nobody says otherwise.
const diskRate = 80_000_000

// New makes a machine to practise on. Close takes it away again.
func New(o Options) (*Engine, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rate == 0 {
		o.Rate = diskRate
	}
	e := &Engine{o: o, answers: map[string]string{}, plans: map[string]ask.Plan{}, wants: map[string]ask.Want{}, version: 1}
	if o.Facts != nil {
		e.facts = *o.Facts
	} else {
		e.facts = Built()
		e.o.Name = "a small server that went down"
	}
	e.by = shrink(&e.facts)
	dir, err := os.MkdirTemp(o.Temp, "asl-rehearsal-")
	if err != nil {
		return nil, err
	}
	e.dir = dir
	e.Keeper = session.Keeper{Dir: filepath.Join(dir, "store")}
	e.ctx, e.end = context.WithCancel(context.Background())
	if o.Late > 0 {
		e.late = true
		e.later(o.Late, func() { e.late, e.version = false, e.version+1 })
	}
	return e, nil
}

// later does something under the lock after a while, unless the rehearsal ends first.
func (e *Engine) later(d time.Duration, f func()) {
	e.work.Go(func() {
		if !pause(e.ctx, d) {
			return
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		f()
	})
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Close ends the rehearsal and removes what it wrote.
func (e *Engine) Close() error {
	e.end()
	e.work.Wait()
	e.mu.Lock()
	j := e.job
	e.mu.Unlock()
	if j != nil {
		<-j.Done()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.store != nil {
		_ = e.store.Backend().Close() // it is removed anyway
		e.store = nil
	}
	return os.RemoveAll(e.dir)
}

// Temp is the folder that is removed at the end.
func (e *Engine) Temp() string { return e.dir }

// State is as ask.Watcher says.
func (e *Engine) State() ask.State {
	e.mu.Lock()
	j := e.job
	s := ask.State{Look: e.look(), Lines: slices.Clone(e.lines), Machine: e.o.Name, Faces: []ask.Face{{Where: e.where(), Self: true}}}
	e.mu.Unlock()
	if e.by > 1 {
		s.Machine += fmt.Sprintf(", disks 1:%d", e.by)
	}
	if j != nil {
		s.Job = j.State()
	}
	return s
}

func (e *Engine) where() string {
	if e.o.Where != "" {
		return e.o.Where
	}
	return "this console"
}

func (e *Engine) look() ask.Look {
	f := e.facts
	if e.late { // a disk that takes its time to answer, as failing ones do
		f.Probes = slices.Clone(f.Probes)
		f.Disks = slices.Clone(f.Disks)
		for i := range f.Probes {
			if d := f.Probes[i].Name; d == "disk sdc" {
				f.Probes[i].State = detect.Looking
			}
		}
		for i := range f.Disks {
			if f.Disks[i].Name == "sdc" {
				f.Disks[i].Smart = nil
			}
		}
	}
	return ask.Look{Facts: f, Decision: detect.Decide(f, e.policy()), Looking: e.late, Version: e.version}
}

func (e *Engine) policy() detect.Policy {
	return detect.Policy{Mode: "auto", LocalMount: mount}
}

// mount is where a store of a pool is mounted.
const mount = "/mnt/asl/local"

func (e *Engine) say(l event.Level, from, text string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sayLocked(l, from, text)
}

func (e *Engine) sayLocked(l event.Level, from, text string) {
	seq := uint64(1)
	if n := len(e.lines); n > 0 {
		seq = e.lines[n-1].Seq + 1
	}
	e.lines = append(e.lines, ask.Line{Seq: seq, At: e.o.Now(), Level: l, From: from, Text: text})
	if len(e.lines) > 400 {
		e.lines = slices.Clone(e.lines[len(e.lines)-300:])
	}
}

// LookAgain is as ask.Looker says.
func (e *Engine) LookAgain(context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.version++
	if e.o.Late > 0 && !e.late {
		e.late = true
		e.later(e.o.Late, func() { e.late, e.version = false, e.version+1 })
	}
	return nil
}

// open gives the store of the rehearsal.
func (e *Engine) open(ctx context.Context) (*store.Store, error) {
	if e.store != nil {
		return e.store, nil
	}
	b, err := local.CreatePath(e.Keeper.Dir)
	if err != nil {
		return nil, err
	}
	e.meter = job.NewMeter()
	s, err := store.Create(ctx, e.meter.Backend(b), store.Options{Domain: session.DefaultDomain, Tool: session.Tool("asl-intake")})
	if err != nil {
		_ = b.Close() // the first error is the one to tell
		return nil, err
	}
	e.store = s
	return s, nil
}

// Start is as ask.Worker says.
func (e *Engine) Start(ctx context.Context, hash string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	p, ok := e.plans[hash]
	if !ok {
		return fmt.Errorf("%w: no plan of this hash was shown", ask.ErrChanged)
	}
	if e.job != nil {
		select {
		case <-e.job.Done():
		default:
			return fmt.Errorf("%w: an intake is running", ask.ErrRefused)
		}
	}
	now, err := e.makePlan(e.wants[hash])
	if err != nil {
		return err
	}
	if now.Hash != hash {
		return ask.ErrChanged
	}
	s, err := e.open(ctx)
	if err != nil {
		return err
	}
	var sources []source.Source
	for _, ps := range p.Sources {
		sources = append(sources, e.meter.Source(e.source(ps.Path)))
	}
	o := job.Options{Store: s, Sources: sources, Plan: p, Meter: e.meter, Now: e.o.Now, Say: e.tell, Room: e.room, Next: e.next,
		Intake: intake.Options{Label: p.Label, NoVerify: p.Verify == "none"}}
	if e.o.Even {
		o.Intake.ForceAfter = -1
	}
	if in, ok := intake.Find(s.Unfinished(), sources); ok {
		o.Resume = &in.Begin.Intake
	}
	e.job = job.Start(e.ctx, o)
	return nil
}

// tell keeps what an intake says, and adds what the kernel would have said beside it.
func (e *Engine) tell(l event.Level, from, text string) {
	e.say(l, from, text)
}

func (e *Engine) room() (int64, bool) { return 24 * gib, true }

func (e *Engine) source(p string) source.Source {
	rate := max(e.o.Rate, 0)
	for i := range e.facts.Disks {
		d := &e.facts.Disks[i]
		if p == d.Path || slices.ContainsFunc(d.Parts, func(x detect.Part) bool { return x.Path == p }) {
			s := newDisk(d, p, rate, func(ctx context.Context, t time.Duration) { pause(ctx, t) })
			if e.o.Hold != nil {
				s.hold = func(ctx context.Context, off int64) { e.o.Hold(ctx, p, off) }
			}
			s.kernel = func(off int64) {
				e.say(event.Warning, "kernel", fmt.Sprintf("%s: critical medium error, sector %d op 0x0:(READ)", d.Name, off/512))
			}
			return s
		}
	}
	return &tree{root: p}
}

func (e *Engine) next(rep *intake.Report, err error) (why string, next []string) {
	if err != nil || rep == nil || rep.Snapshot.Number == 0 {
		return "", []string{"Start the same intake again: it goes on where it was."}
	}
	n := rep.Snapshot.Number
	return "", []string{
		fmt.Sprintf("asl-admin --store %s show %d", e.Keeper.Dir, n),
		fmt.Sprintf("asl-admin --store %s verify %d --read-data", e.Keeper.Dir, n),
		"The store is removed when the rehearsal ends.",
	}
}

// Do is as ask.Worker says.
func (e *Engine) Do(_ context.Context, v ask.Verb, name string) error {
	e.mu.Lock()
	j := e.job
	e.mu.Unlock()
	if j == nil {
		return fmt.Errorf("%w: no intake is running", ask.ErrRefused)
	}
	return j.Do(v, name)
}

// Leave is as ask.Worker says: a rehearsal leaves nothing behind and switches nothing off.
func (e *Engine) Leave(_ context.Context, powerOff bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.left = true
	if powerOff {
		e.sayLocked(event.Info, "", "the machine would be switched off now; this is a rehearsal")
	}
	return nil
}

// Unfinished is as ask.Worker says.
func (e *Engine) Unfinished(context.Context, string) ([]ask.Unfinished, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.store == nil || e.job != nil && e.job.State().Phase != ask.Ended {
		return nil, nil
	}
	var out []ask.Unfinished
	for _, in := range e.store.Unfinished() {
		u := ask.Unfinished{ID: fmt.Sprintf("%x", in.Begin.Intake[:4]), Began: time.Unix(in.Begin.Clock, 0).UTC(), Label: in.Begin.Label}
		for _, s := range in.Begin.Sources {
			u.Sources = append(u.Sources, fmt.Sprintf("%s %s %s", s.Name, s.Model, s.Serial))
			u.Paths = append(u.Paths, string(s.Path))
			u.Total += max(s.Size, 0)
		}
		if in.Point != nil {
			u.Done = in.Point.Stream
		}
		out = append(out, u)
	}
	return out, nil
}
