package session

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"aslrescue/backends/zfs"
	"aslrescue/cmd/internal/job"
	"aslrescue/cmd/internal/report"
	"aslrescue/engine/event"
	"aslrescue/engine/intake"
	"aslrescue/tui/ask"
)

// Start does the plan that was shown, if the machine is still as it was.
func (l *Live) Start(ctx context.Context, hash string) error {
	if !l.starting.TryLock() {
		return fmt.Errorf("%w: it is beginning", ask.ErrAnswered)
	}
	defer l.starting.Unlock()
	if l.Busy() {
		return fmt.Errorf("%w: an intake is under way", ask.ErrAnswered)
	}
	p, err := l.planned(hash)
	if err != nil {
		return err
	}
	place := l.place(p.want.Place)
	if place.Refused != "" {
		return fmt.Errorf("%w: %s: %s", ask.ErrChanged, p.want.Place, place.Refused)
	}
	if err := ask.Check(ask.Disks(l.facts(), place), p.want.Sources, place); err != nil {
		return fmt.Errorf("%w: %w", ask.ErrChanged, err)
	}
	w, err := l.begin(p)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.work = w
	l.mu.Unlock()
	l.say(event.Info, "", "the intake begins"+by(ctx))
	l.wg.Go(func() {
		<-w.job.Done()
		w.close()
		l.o.Changed()
	})
	return nil
}

// begin opens what the plan names, holds it against the plan, and starts.
func (l *Live) begin(p livePlan) (_ *liveWork, err error) {
	o, err := l.options(p.want)
	if err != nil {
		return nil, err
	}
	j := &intakeJob{o: o, plan: p.plan, dir: p.plan.Store}
	w := &liveWork{}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if err := j.openSources(); err != nil {
		return nil, err
	}
	w.later(j.closeSources)
	if why := p.plan.voids(planOf(j.o, j.o.store, j.o.domain, j.sources)); why != "" {
		return nil, fmt.Errorf("%w: %s", ask.ErrChanged, why)
	}
	meter := job.NewMeter()
	if j.store, err = createOrOpen(l.ctx, p.plan.Store, p.plan.Domain, Tool("asl-intake"), meter.Backend); err != nil {
		return nil, err
	}
	w.later(func() { _ = j.store.Backend().Close() }) // everything acknowledged is durable already
	if err := takesMore(j.store, p.plan.Store); err != nil {
		return nil, err
	}
	if err := handOver(l.ctx, l.o.Pools.state, j.store); err != nil {
		return nil, &report.Error{What: "write approvals into the log of " + p.plan.Store, Err: err}
	}
	if at := l.datasetAt(j.dir); at != nil && at.Dataset.Compresses() && j.plan.Compression == string(intake.Auto) {
		j.compression = intake.None // the dataset does it
	}
	opened := j.sources
	j.sources = slices.Clone(opened)
	for i, src := range opened {
		j.sources[i] = meter.Source(src)
	}
	j.hear = func(e event.Event) {
		if m, ok := e.(event.Message); ok {
			l.say(m.Level, m.Source, m.Text)
		}
	}
	work, claim, err := j.start(l.ctx, func(o *job.Options) {
		o.Plan, o.Meter, o.Now, o.Say, o.Tell = p.shown, meter, l.o.Now, l.say, nil // what it says comes by Say
		o.Room = func() (int64, bool) { return room(p.plan.Store) }
		o.Next = func(rep *intake.Report, err error) (string, []string) { return "", nextAfter(p.plan.Store, rep, err) }
		if at := l.datasetAt(j.dir); at != nil && l.o.Config != nil && l.o.Config.ZFSSnapshots == "yes" {
			o.After = l.andSnapshot(at, j.store.Domain(), o.After)
		}
	})
	if err != nil {
		return nil, err
	}
	w.later(func() { _ = claim.Close() }) // the process's end gives it back too
	w.job = work
	return w, nil
}

// andSnapshot is what is done after an intake, and then a snapshot of ZFS.
func (l *Live) andSnapshot(at *zfs.Attached, domain string, after afterwards) afterwards {
	return func(ctx context.Context, rep *intake.Report, tell func(event.Event)) error {
		if after != nil {
			if err := after(ctx, rep, tell); err != nil {
				return err
			}
		}
		text, err := snapshotToo(at, domain, rep.Snapshot.Number)
		if err == nil {
			l.say(event.Info, "", text)
		}
		return err
	}
}

// afterwards is what belongs to a job once it is sealed.
type afterwards = func(context.Context, *intake.Report, func(event.Event)) error

func (w *liveWork) later(f func()) { w.open = append(w.open, f) }

// close gives back what the work had open, the last first.
func (w *liveWork) close() {
	for _, f := range slices.Backward(w.open) {
		f()
	}
	w.open = nil
}

func room(dir string) (int64, bool) {
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) != nil {
		return 0, false
	}
	return int64(fs.Bavail) * fs.Bsize, true
}

// nextAfter is what to do after an intake, a line each.
func nextAfter(dir string, rep *intake.Report, err error) []string {
	if err != nil {
		if errors.Is(err, intake.ErrStopped) || errors.Is(err, context.Canceled) {
			err = report.ErrStopped
		}
		return report.Explain(err).Next
	}
	n := rep.Snapshot.Number
	return []string{
		fmt.Sprintf("asl-admin --store %s show %d", typed(dir), n),
		fmt.Sprintf("asl-admin --store %s verify %d --read-data", typed(dir), n),
	}
}

// Do pauses, goes on, stops or skips.
func (l *Live) Do(ctx context.Context, v ask.Verb, name string) error {
	l.mu.Lock()
	w := l.work
	l.mu.Unlock()
	if w == nil {
		return fmt.Errorf("%w: nothing was begun", ask.ErrRefused)
	}
	if err := w.job.Do(v, name); err != nil {
		return err
	}
	what := string(v)
	if name != "" {
		what += " " + name
	}
	l.say(event.Info, "", what+" was asked for"+by(ctx))
	return nil
}
