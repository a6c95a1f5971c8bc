// Package job does one intake for faces that look on: it can be paused, gone on with, stopped, and asked how it stands at any
// time. It knows nothing of screens or sockets; the engine's process and the rehearsal both have one.
//
// Goroutines: Start starts one, which lives until the job has ended; Done says when. State may be called from anywhere and waits for
// nothing that works.
package job

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"aslrescue/engine/custody"
	"aslrescue/engine/event"
	"aslrescue/engine/intake"
	"aslrescue/engine/source"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
	"aslrescue/tui/ask"
)

// Options say what to do, and with what.
type Options struct {
	Store   *store.Store
	Sources []source.Source // of Skippable, where one is to be skipped by a person
	Plan    ask.Plan
	Intake  intake.Options // Events, Stop and Resume are the job's
	Resume  *format.ID
	Meter   *Meter // may be nil
	Now     func() time.Time
	Tell    func(event.Event) // each event, in its order, from one goroutine; may be nil
	Say     func(event.Level, string, string)
	Room    func() (free int64, known bool)
	Next    func(*intake.Report, error) (why string, next []string) // what a person is told to do after it
	// After, if not nil, is what else belongs to the job once it is sealed, such as verifying the whole store.
	After func(ctx context.Context, rep *intake.Report, tell func(event.Event)) error
}

// Job is an intake.
type Job struct {
	o    Options
	done chan struct{}

	mu       sync.Mutex
	phase    ask.Phase
	progress event.Progress
	maps     []ask.Map
	gaps     map[string]int // places by source, of runs before the present one
	started  time.Time      // of the present run
	began    time.Time
	skipped  []string
	report   *ask.Report
	stop     context.CancelFunc // of the present run
	want     ask.Verb           // what the present run was stopped for
	goOn     chan struct{}
	heard    map[int]*format.Evidence // of the last run, by source
	rep      *intake.Report
	err      error
}

// Start begins. It returns at once.
func Start(ctx context.Context, o Options) *Job {
	if o.Now == nil {
		o.Now = time.Now
	}
	j := &Job{o: o, done: make(chan struct{}), phase: ask.Running, gaps: map[string]int{}, goOn: make(chan struct{}, 1), began: o.Now()}
	j.progress.Total = -1
	go func() {
		defer close(j.done)
		j.run(ctx)
	}()
	return j
}

// Done is closed when the job has ended.
func (j *Job) Done() <-chan struct{} { return j.done }

// Result is what came of it, after Done.
func (j *Job) Result() (*intake.Report, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.rep, j.err
}

func (j *Job) run(ctx context.Context) {
	resume := j.o.Resume
	for {
		rep, err := j.once(ctx, resume)
		j.mu.Lock()
		paused := errors.Is(err, intake.ErrStopped) && j.want == ask.Pause && ctx.Err() == nil
		if paused {
			j.phase, resume = ask.Paused, &rep.Intake
		}
		j.mu.Unlock()
		if paused && j.wait(ctx) {
			continue
		}
		if err == nil && j.o.After != nil {
			err = j.o.After(ctx, rep, j.event)
		}
		j.end(rep, err)
		return
	}
}

// wait is true when the job is to go on.
func (j *Job) wait(ctx context.Context) bool {
	j.say(event.Info, "", "paused; everything that was read is safe")
	select {
	case <-j.goOn:
	case <-ctx.Done():
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if ctx.Err() != nil || j.want == ask.Stop {
		return false
	}
	j.phase = ask.Running
	return true
}

// once is one run of the intake, to its end or to a pause.
func (j *Job) once(ctx context.Context, resume *format.ID) (*intake.Report, error) {
	stop, cancel := context.WithCancel(ctx)
	defer cancel()
	j.mu.Lock()
	j.stop, j.want, j.started = cancel, "", j.o.Now()
	for _, s := range j.progress.Sources {
		j.gaps[s.Name] += s.Gaps
	}
	j.progress = event.Progress{Total: -1}
	j.mu.Unlock()
	o := j.o.Intake
	o.Stop, o.Resume = stop, resume
	if o.Witness != nil {
		j.heard = map[int]*format.Evidence{}
		o.Witness = listener{o.Witness, j.heard}
	}
	queue := event.NewQueue(1024) // who looks on must hold up nobody
	var told sync.WaitGroup
	told.Go(func() { queue.Run(j.event) })
	o.Events = queue.Put
	rep, err := intake.Run(ctx, j.o.Store, j.o.Sources, o)
	queue.Close()
	told.Wait()
	return rep, err
}

// listener hears what a witness tells at the end, for the report.
type listener struct {
	intake.Witness
	heard map[int]*format.Evidence
}

func (l listener) End(ctx context.Context, i int) *format.Evidence {
	ev := l.Witness.End(ctx, i)
	if ev != nil {
		l.heard[i] = ev
	}
	return ev
}

// written says what the kernel's counters say of the source disks; empty where there is none among the sources.
func (j *Job) written() string {
	var bad []string
	for i, s := range j.o.Plan.Sources {
		if ev := j.heard[i]; ev != nil {
			if w := custody.Written(ev.WritesBegin, ev.WritesEnd); !w.Good {
				bad = append(bad, s.Name+": "+w.Verdict)
			}
		}
	}
	switch {
	case len(j.heard) == 0:
		return ""
	case len(bad) > 0:
		return strings.Join(bad, "; ")
	}
	return "0 bytes"
}

func (j *Job) event(e event.Event) {
	j.mu.Lock()
	j.progress.Apply(e)
	j.maps = ask.Maps(j.maps, e)
	j.mu.Unlock()
	if line := event.Line(e); line != "" {
		level := event.Info
		switch e := e.(type) {
		case event.Message:
			level = e.Level
		case event.Gap:
			level = event.Warning
		}
		j.say(level, "", line)
	}
	if j.o.Tell != nil {
		j.o.Tell(e)
	}
}

func (j *Job) say(l event.Level, from, text string) {
	if j.o.Say != nil {
		j.o.Say(l, from, text)
	}
}

// Do pauses, goes on, stops or skips.
func (j *Job) Do(v ask.Verb, name string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.phase == ask.Ended:
		return fmt.Errorf("%w: the intake has ended", ask.ErrRefused)
	case v == ask.Pause && j.phase == ask.Running:
		j.want, j.phase = ask.Pause, ask.Pausing
		j.stop()
	case v == ask.GoOn && j.phase == ask.Paused:
		j.wake()
	case v == ask.Stop && (j.phase == ask.Running || j.phase == ask.Pausing):
		j.want, j.phase = ask.Stop, ask.Stopping
		j.stop()
	case v == ask.Stop && j.phase == ask.Paused:
		j.want, j.phase = ask.Stop, ask.Stopping
		j.wake()
	case v == ask.Skip:
		return j.skip(name)
	default:
		return fmt.Errorf("%w: to %s makes no sense while it is %s", ask.ErrRefused, v, j.phase)
	}
	return nil
}

func (j *Job) wake() {
	select {
	case j.goOn <- struct{}{}:
	default: // it was woken already
	}
}

func (j *Job) skip(name string) error {
	if slices.ContainsFunc(j.progress.Sources, func(s event.Source) bool { return s.Name == name && s.Done }) {
		return fmt.Errorf("%w: %s is read already", ask.ErrRefused, name)
	}
	for i, s := range j.o.Sources {
		known := j.o.Plan.Sources[i].Name == name || s.Info().Name == name
		if sk, ok := s.(Skipper); ok && known {
			sk.Skip()
			j.skipped = append(j.skipped, name)
			return nil
		}
	}
	return fmt.Errorf("%w: %s cannot be skipped", ask.ErrRefused, name)
}

// State is how it stands.
func (j *Job) State() ask.Job {
	j.mu.Lock()
	defer j.mu.Unlock()
	p := j.progress.Clone()
	if j.phase == ask.Running && p.Stage != event.Done && p.Begun { // time goes on, also while a disk hangs
		p.Apply(event.Tick{Stamp: event.At(j.o.Now().Sub(j.started))})
	}
	for i := range p.Sources {
		p.Sources[i].Gaps += j.gaps[p.Sources[i].Name]
	}
	for _, n := range j.gaps {
		p.Gaps += n
	}
	s := ask.Job{Phase: j.phase, Plan: j.o.Plan, Progress: p, Maps: ask.CloneMaps(j.maps), Skipped: slices.Clone(j.skipped), Report: j.report}
	if j.o.Meter != nil {
		s.Slowest, s.LastGood = j.o.Meter.Slowest(), j.o.Meter.LastGood()
	}
	if j.o.Room != nil {
		free, known := j.o.Room()
		s.Room = room(&p, free, known)
	}
	return s
}

// room says when the place is full, should things go on like this.
func room(p *event.Progress, free int64, known bool) ask.Room {
	r := ask.Room{Known: known, Free: free}
	done, of := p.Done()
	if !known || p.Stage != event.Reading || done <= 0 || of <= done || p.Stored <= 0 {
		return r
	}
	perByte := float64(p.Stored) / float64(done)
	need := int64(perByte * float64(of-done))
	if rate := p.Rate() * perByte; need > free && rate > 1 {
		r.FullIn = time.Duration(float64(free) / rate * float64(time.Second))
	}
	return r
}

// end makes the report.
func (j *Job) end(rep *intake.Report, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.rep, j.err = rep, err
	r := &ask.Report{Result: event.Failed, Took: j.o.Now().Sub(j.began)}
	if rep != nil {
		r.Result, r.Stored, r.Verified = rep.Result, rep.Stored, rep.Verified
		if m := rep.Manifest; m != nil && rep.Snapshot.Number > 0 {
			r.Snapshot, r.Manifest = rep.Snapshot.Number, rep.Snapshot.Manifest.String()
			r.Hash = r.Manifest
			r.File = fmt.Sprintf("%s/snapshots/%s/m-%s", j.o.Plan.Place.Path, rep.Snapshot.Domain, r.Manifest)
			for i := range m.Sources {
				r.Sources = append(r.Sources, j.row(&m.Sources[i]))
			}
			r.Written = j.written()
		}
	}
	if errors.Is(err, intake.ErrStopped) || errors.Is(err, context.Canceled) {
		r.Result = event.Stopped
	}
	if err != nil {
		r.Why = err.Error()
	}
	if j.o.Next != nil {
		why, next := j.o.Next(rep, err)
		r.Next = next
		if why != "" {
			r.Why = why
		}
	}
	j.report, j.phase = r, ask.Ended
}

func (j *Job) row(s *format.SourceResult) ask.ReportSource {
	c := s.Counts
	row := ask.ReportSource{Name: s.Name, Model: s.Model, Serial: s.Serial, Size: s.Length, New: c.New, Known: c.Known, Zero: c.Zero,
		Unreadable: c.Unreadable, Untried: c.Untried, Places: s.GapsAll, Files: c.Files, Wrong: c.Failed, Skipped: slices.Contains(j.skipped, s.Name)}
	if s.Root != nil {
		row.Root = s.Root.String()
	} else if s.Top != nil && s.Top.Dir != nil {
		row.Root = s.Top.Dir.String()
	}
	return row
}
