// Package intake takes sources in: it reads them, cuts, names, deduplicates, packs and seals, and acknowledges what is
// durable, so that an interrupted intake goes on where it was.
//
// Goroutines: Run starts a feeder, workers, a sequencer, compressors, a packer, sealers and a committer, and returns when all of them have
// ended. Units pass between them in stream order; what is decided, is decided by the sequencer alone, so that the number of workers
// changes nothing in the store.
package intake

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"aslrescue/engine/artifact"
	"aslrescue/engine/chunk"
	"aslrescue/engine/digest"
	"aslrescue/engine/event"
	"aslrescue/engine/source"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
)

// ErrStopped means that the intake was stopped and can go on.
var ErrStopped = errors.New("stopped; the same command goes on from here")

// ErrInside means that an intake would take in its own store.
var ErrInside = errors.New("an intake cannot take in its own store")

// Folder is a folder by device and inode number.
type Folder struct{ Dev, Ino uint64 }

// Options say how. The zero value compresses fast, verifies, and uses DefaultBudget.
type Options struct {
	Label       string
	Compression Compression
	Workers     int   // 0: one per core
	Budget      int64 // bytes of memory; 0 is DefaultBudget
	NoVerify    bool
	Resume      *format.ID    // the unfinished intake to go on with
	ID          format.ID     // of a new intake; zero: NewID()
	AckEvery    time.Duration // how long work may stay unacknowledged; 0 is a second, negative is after every block
	ForceAfter  time.Duration // an unfinished block is sealed after so long; 0 is six seconds, negative is never
	Chunk       chunk.Params  // zero: chunk.Default()
	Avoid       Folder        // the store's own, which no source may hold; zero where it is none
	Clock       func() time.Time
	Events      func(event.Event)
	Witness     Witness  // gathers evidence of devices; nil: none is gathered
	Reading     Reading  // how devices and images are read
	Digest      []string // hashes of whole linear sources, by the names of package digest; none if empty
	// Stop, when it ends, stops reading; what was read is acknowledged and Run returns ErrStopped.
	Stop context.Context
}

// Report is what came of an intake.
type Report struct {
	Result   event.Result
	Intake   format.ID
	Snapshot format.SnapshotAt
	Manifest *format.Manifest
	Blocks   int   // created by this run
	Stored   int64 // bytes of them
	Verified bool  // all blocks of this intake, also those of earlier runs, were read back and found good
	Bad      []format.DamagedObject
	Resumed  int64 // stream offset at which this run went on
	Digests  []format.Digest
	Gone     []error // sources that were no longer there before their end
}

// NewID makes the id of a new intake.
func NewID() (id format.ID) {
	rand.Read(id[:]) // never fails since Go 1.24
	return id
}

// Describe says what a source is, for the log.
func Describe(src source.Source) format.SourceID {
	i := src.Info()
	return format.SourceID{Kind: string(i.Kind), Path: []byte(i.Path), Name: format.Text(i.Name), ID: format.Text(i.ID), Size: i.Size,
		Model: format.Text(i.Model), Serial: format.Text(i.Serial), Sector: i.Sector}
}

// Find gives the unfinished intake of the same sources, the newest if there are several.
func Find(unfinished []format.IntakeState, sources []source.Source) (format.IntakeState, bool) {
	for i := len(unfinished) - 1; i >= 0; i-- {
		if in := unfinished[i]; sameSources(in.Begin.Sources, sources) {
			return in, true
		}
	}
	return format.IntakeState{}, false
}

// InOrderBegun gives sources in the order of the newest unfinished intake that is of the same, whatever their order; false if there is none.
func InOrderBegun(unfinished []format.IntakeState, sources []source.Source) ([]source.Source, bool) {
	for i := len(unfinished) - 1; i >= 0; i-- {
		left, ordered := slices.Clone(sources), []source.Source{}
		for _, was := range unfinished[i].Begin.Sources {
			k := slices.IndexFunc(left, func(s source.Source) bool { return sameSources([]format.SourceID{was}, []source.Source{s}) })
			if k < 0 {
				break
			}
			ordered, left = append(ordered, left[k]), slices.Delete(left, k, k+1)
		}
		if len(left) == 0 && sameSources(unfinished[i].Begin.Sources, ordered) {
			return ordered, true
		}
	}
	return nil, false
}

func sameSources(was []format.SourceID, now []source.Source) bool {
	if len(was) != len(now) {
		return false
	}
	for i := range was {
		d := Describe(now[i])
		if was[i].Kind != d.Kind || was[i].ID != d.ID || was[i].Size != d.Size && d.Kind != string(source.Tree) {
			return false
		}
	}
	return true
}

// runner is one call of Run.
type runner struct {
	o       Options
	s       *store.Store
	w       *store.Writer
	sources []source.Source
	begin   format.IntakeBegin
	point   format.ResumePoint // to go on from; State has a row per source
	room    room
	start   time.Time
	stop    context.Context
	before  []artifact.Digest // blocks that earlier runs of this intake made

	slots, arenas, blocks, readers *pool

	lane  []*lane                        // of the sources that are read by passes; nil for the others
	sofar struct{ forced, newRaw int64 } // by this run, in rounds before the present one

	check   *store.Verification // of what this intake stores; nil without verification
	stopped atomic.Bool
	sizes   []atomic.Int64 // of trees, as far as known; 0 where not
}

// Run takes sources in and seals a snapshot. It owns neither the store nor the sources.
func Run(ctx context.Context, s *store.Store, sources []source.Source, o Options) (*Report, error) {
	r, err := prepare(ctx, s, sources, o)
	if err != nil {
		return nil, err
	}
	rep := &Report{Intake: r.w.ID(), Resumed: r.point.Stream, Result: event.Failed}
	total := int64(0)
	for _, src := range sources {
		if n := src.Info().Size; n < 0 || total < 0 {
			total = -1
		} else {
			total += n
		}
	}
	if err := r.distrust(ctx); err != nil {
		return rep, err
	}
	r.emit(event.IntakeBegun{Stamp: r.now(), Intake: fmt.Sprintf("%x", rep.Intake), Label: r.begin.Label, Store: s.Backend().Info().Where,
		Sources: len(sources), Total: total, Resumed: o.Resume != nil})
	if !o.NoVerify {
		r.check = s.Verification(ctx, func(done, total, bad int64) {
			r.emit(event.VerifyProgress{Stamp: r.now(), Done: done, Total: total, Bad: bad})
		})
	}
	if o.Witness != nil {
		defer o.Witness.Close()
		for i, src := range sources {
			o.Witness.Begin(ctx, i, src.Info(), func(l event.Level, text string) {
				r.emit(event.Message{Stamp: r.now(), Level: l, Source: r.begin.Sources[i].Name, Text: text})
			})
		}
	}
	err = r.pipeline(ctx, rep)
	if err == nil && r.stopped.Load() {
		rep.Result, err = event.Stopped, ErrStopped
	}
	if err == nil {
		err = r.seal(ctx, rep)
	}
	if err != nil {
		why := err.Error()
		r.emit(event.IntakeDone{Stamp: r.now(), Result: rep.Result, Why: why})
		return rep, err
	}
	r.emit(event.PhaseEntered{Stamp: r.now(), Phase: event.Done})
	r.emit(event.IntakeDone{Stamp: r.now(), Result: rep.Result, Snapshot: rep.Snapshot.Number})
	return rep, nil
}

func prepare(ctx context.Context, s *store.Store, sources []source.Source, o Options) (*runner, error) {
	if len(sources) == 0 {
		return nil, errors.New("nothing to take in: no source was given")
	}
	if o.Budget == 0 {
		o.Budget = DefaultBudget
	}
	if o.AckEvery == 0 {
		o.AckEvery = time.Second
	}
	if o.ForceAfter == 0 {
		o.ForceAfter = 6 * time.Second
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Chunk == (chunk.Params{}) {
		o.Chunk = chunk.Default()
	}
	r := &runner{o: o, s: s, sources: sources, start: time.Now(), stop: o.Stop, sizes: make([]atomic.Int64, len(sources))}
	if r.stop == nil {
		r.stop = context.Background()
	}
	if err := r.open(ctx); err != nil {
		return nil, err
	}
	disks := 0
	for _, src := range sources {
		if source.HasReader(src) {
			disks++
		}
	}
	var err error
	r.room, err = divide(o.Budget, o.Workers, int(r.begin.Chunk.SuperBlock), r.compresses(), !o.NoVerify, disks)
	for _, src := range sources {
		source.SetRing(src, r.room.ring)
	}
	return r, err
}

func (r *runner) compresses() bool { return r.begin.Codec.Mode != string(None) }

// open begins the intake, or takes over the one to go on with.
func (r *runner) open(ctx context.Context) error {
	if r.o.Resume != nil {
		w, in, err := r.s.Resume(ctx, *r.o.Resume, r.o.Clock().Unix())
		if err != nil {
			return err
		}
		r.w, r.begin = w, in.Begin
		for _, seg := range r.s.Segments() {
			if slices.Contains(in.Made, seg.Segment) {
				r.before = append(r.before, seg.Blocks...)
			}
		}
		for _, b := range in.Blocks {
			r.before = append(r.before, b.ID)
		}
		if in.Point != nil {
			r.point = *in.Point
		}
		return r.fitPoint()
	}
	codec, err := Codec(r.o.Compression)
	if err != nil {
		return err
	}
	r.begin = format.IntakeBegin{Label: r.o.Label, Chunk: r.o.Chunk, Codec: codec, Clock: r.o.Clock().Unix()}
	if r.begin.Intake = r.o.ID; r.begin.Intake == (format.ID{}) {
		r.begin.Intake = NewID()
	}
	taken := map[string]bool{}
	for _, src := range r.sources {
		d := Describe(src)
		for name, n := d.Name, 2; taken[d.Name]; n++ {
			d.Name = fmt.Sprintf("%s-%d", name, n)
		}
		taken[d.Name] = true
		r.begin.Sources = append(r.begin.Sources, d)
	}
	r.w, err = r.s.Begin(ctx, r.begin)
	r.point.State = make([]format.SourceState, len(r.sources))
	return err
}

// fitPoint makes the resume point one that this run can go on from.
func (r *runner) fitPoint() error {
	if len(r.point.State) == 0 {
		r.point.State = make([]format.SourceState, len(r.sources))
	}
	if len(r.point.State) != len(r.sources) || len(r.begin.Sources) != len(r.sources) {
		return fmt.Errorf("the unfinished intake has %d sources, this command has %d", len(r.begin.Sources), len(r.sources))
	}
	for i := range r.point.State {
		if st := &r.point.State[i]; r.begin.Sources[i].Kind == string(source.Stream) && !st.Done {
			*st = format.SourceState{} // a stream comes from its beginning again; all of it is known by now
		}
	}
	return r.begin.Chunk.Validate()
}

func (r *runner) emit(e event.Event) {
	if r.o.Events != nil {
		r.o.Events(e)
	}
}

func (r *runner) now() event.Stamp { return event.At(time.Since(r.start)) }

// pipeline reads everything and returns when all of it is acknowledged. What is read by passes takes a round for each, and one more to be
// put together, as each needs what the one before has sealed.
func (r *runner) pipeline(ctx context.Context, rep *Report) error {
	if err := r.allocate(); err != nil {
		return err
	}
	defer r.release()
	if err := r.lanes(ctx); err != nil {
		return err
	}
	r.emit(event.PhaseEntered{Stamp: r.now(), Phase: event.Reading})
	defer r.readBack()()
	for n := 0; ; n++ {
		if err := r.round(ctx, n, rep); err != nil || r.stopped.Load() {
			return err
		}
		if !slices.ContainsFunc(r.lane, (*lane).waits) {
			return r.goneAway(rep)
		}
	}
}

// goneAway gives the devices that vanished before their end. Nothing is sealed then: they may come back, and the intake go on.
func (r *runner) goneAway(rep *Report) error {
	var errs []error
	for _, l := range r.lane {
		if l != nil && l.gone {
			errs = append(errs, fmt.Errorf("%s: %w", r.begin.Sources[l.i].Name, l.err))
		}
	}
	if len(errs) > 0 {
		rep.Result = event.Stopped
	}
	return errors.Join(errs...)
}

// round is one run of the pipeline.
func (r *runner) round(ctx context.Context, n int, rep *Report) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for _, l := range r.lane {
		if l != nil && l.finished {
			l.look = l.m.clone()
		}
	}
	fed := make(chan *unit, r.room.slots+1) // in order, to the sequencer
	work := make(chan *unit, r.room.slots)  // to whichever worker is free; a disk does not wait until one is
	packing := make(chan *unit, r.room.slots+1)
	squeeze := make(chan *unit)
	seal := make(chan *blockJob)
	commits := make(chan commitItem, 64)
	var wg sync.WaitGroup
	stage := func(f func() error) {
		wg.Go(func() {
			if err := f(); err != nil {
				cancel(err)
			}
		})
	}
	seq := &sequencer{ctx: ctx, w: r.w, emit: r.emit, now: r.now, states: r.point.State, stream: r.point.Stream, open: r.sources, ids: r.begin.Sources, size: func(i int) int64 { return r.sizes[i].Load() },
		super: int64(r.begin.Chunk.SuperBlock), lanes: r.lane, built: map[int]*sourceBuilder{}, sums: len(r.o.Digest) > 0}
	pk := &packer{ctx: ctx, blocks: r.blocks, seal: seal, commit: commits, force: r.o.ForceAfter, since: time.Now(), free: r.freeUnit}
	if n > 0 || r.point.Stream > 0 {
		states := r.point.State
		pk.state, pk.stream = func() []format.SourceState { return states }, r.point.Stream
	}
	pk.forced = int(r.sofar.forced)
	var forced atomic.Int64
	forced.Store(r.sofar.forced)
	cm := &committer{made: rep.Blocks, written: rep.Stored, newRaw: r.sofar.newRaw, ctx: ctx, w: r.w, check: r.check, emit: r.emit, now: r.now, every: r.o.AckEvery, last: time.Now(), base: r.point, forced: func() int { return int(forced.Load()) }}

	stage(func() error { defer close(fed); defer close(work); return r.feed(ctx, n, fed, work) })
	for range r.room.workers {
		stage(func() error { return r.hash(ctx, work) })
		if r.compresses() {
			stage(func() error { return r.squeeze(ctx, squeeze) })
		}
	}
	stage(func() error {
		defer close(packing)
		defer close(squeeze)
		return r.sequence(ctx, seq, fed, packing, squeeze)
	})
	stage(func() error {
		defer close(commits)
		defer close(seal)
		return r.pack(ctx, pk, packing, func() { forced.Store(int64(pk.forced)) })
	})
	for range max(1, min(3, r.room.blocks-1)) {
		stage(func() error { return r.sealBlocks(ctx, seal) })
	}
	merge := make(chan struct{}, 1)
	stage(func() error {
		defer close(merge)
		for it := range commits {
			if err := cm.item(it); err != nil {
				return err
			}
			if it.endSeg {
				select {
				case merge <- struct{}{}:
				default: // one is waiting to be looked at already
				}
			}
		}
		return nil
	})
	wg.Go(func() {
		for range merge {
			r.mergeRuns(ctx)
		}
	})
	wg.Wait()
	rep.Blocks, rep.Stored = cm.made, cm.written
	r.sofar.forced, r.sofar.newRaw = forced.Load(), cm.newRaw
	r.point.Stream = seq.stream
	if lost := r.w.Lost(); len(lost) > 0 {
		r.emit(event.Message{Stamp: r.now(), Level: event.Warning, Text: fmt.Sprintf("missing or cut in the store: %s of earlier intakes, such as %s. What the sources still have of it was stored again; asl-admin verify finds the rest",
			event.CountOf(int64(len(lost)), "block", "blocks"), lost[0])})
	}
	r.point.State, rep.Gone = seq.states, append(rep.Gone, seq.gone...)
	return context.Cause(ctx)
}

// readBack verifies beside the writing, in memory of the budget, what is durable by then. What is not reached before all is written is for
// verify. The call that it gives waits for the blocks at hand.
func (r *runner) readBack() (done func()) {
	if r.check == nil {
		return func() {}
	}
	var wg sync.WaitGroup
	for _, mem := range r.readers.all {
		wg.Go(func() { r.check.Beside(mem[:format.BlockSizeMax:format.BlockSizeMax], mem[format.BlockSizeMax:]) })
	}
	return func() { r.check.Rest(); wg.Wait() }
}

func (r *runner) allocate() (err error) {
	if r.slots, err = newPool(r.room.slots, int(r.begin.Chunk.SuperBlock)); err != nil {
		return err
	}
	if r.arenas, err = newPool(r.room.arenas, int(r.begin.Chunk.SuperBlock)); err != nil {
		return err
	}
	if r.blocks, err = newPool(r.room.blocks, format.BlockSizeMax); err != nil {
		return err
	}
	r.readers, err = newPool(r.room.readers, readerSize(r.compresses()))
	return err
}

func (r *runner) release() {
	for _, p := range []*pool{r.slots, r.arenas, r.blocks, r.readers} {
		if p != nil {
			p.release()
		}
	}
}

// freeUnit gives a unit's memory back once it is packed.
func (r *runner) freeUnit(u *unit) {
	r.slots.put(u.slot)
	r.arenas.put(u.arena)
	u.slot, u.arena, u.adds, u.steps = nil, nil, nil, nil
}

func (r *runner) feed(ctx context.Context, round int, fed, work chan<- *unit) error {
	soft, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.stop, cancel)() // an operator's stop ends reading, not the rest
	f := feeder{ctx: soft, slots: r.slots, super: int(r.begin.Chunk.SuperBlock), avoid: r.o.Avoid, load: r.loadRows, get: r.w.Get, pass: r.tellPass, witness: r.o.Witness}
	f.out = func(u *unit) error {
		u.hashed, u.packed = make(chan struct{}), make(chan struct{})
		select {
		case work <- u:
		case <-soft.Done():
			r.slots.put(u.slot)
			return errStop
		}
		select { // a worker has it: it must come through
		case fed <- u:
			return nil
		case <-ctx.Done():
			return errStop
		}
	}
	var queues [][]int // of sources that are read one after the other
	for i, src := range r.sources {
		st, l := &r.point.State[i], r.lane[i]
		if st.Done && round == 0 {
			r.tellDone(i, src.Info(), st)
		}
		if !st.Done && (round == 0 || l.waits()) {
			queues = r.enqueue(queues, i)
		}
	}
	errs := make([]error, len(queues))
	var wg sync.WaitGroup
	for k, queue := range queues {
		wg.Go(func() { errs[k] = r.feedQueue(f, round, queue) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// enqueue gives a disk a queue of its own, as far as there is memory: one that hangs must hold up no other. What lies on one disk, and all that is
// no device, is read in the order given.
func (r *runner) enqueue(queues [][]int, i int) [][]int {
	info := r.sources[i].Info()
	alone := r.lane[i] != nil && info.Kind == source.Device
	devices, last := 0, len(queues)-1
	for k, queue := range queues {
		first := r.sources[queue[0]].Info()
		device := r.lane[queue[0]] != nil && first.Kind == source.Device
		if device && source.HasReader(r.sources[queue[0]]) {
			devices++
			if alone {
				last = k
			}
		}
		if alone == device && (!alone || info.Serial != "" && info.Serial == first.Serial && info.Model == first.Model) {
			queues[k] = append(queue, i)
			return queues
		}
	}
	full := len(queues) >= max(1, r.room.slots-1) // each holds a super-block
	if full || alone && source.HasReader(r.sources[i]) && devices >= r.room.disks {
		queues[last] = append(queues[last], i)
		return queues
	}
	return append(queues, []int{i})
}

// feedQueue reads sources one after the other.
func (r *runner) feedQueue(f feeder, round int, queue []int) error {
	for _, i := range queue {
		err := r.feedSource(&f, round, i, r.sources[i], &r.point.State[i])
		if l := r.lane[i]; len(queue) > 1 || l != nil && l.finished {
			source.Rest(r.sources[i]) // its memory is for the next
		}
		switch {
		case errors.Is(err, errStop) && r.stop.Err() != nil:
			r.stopped.Store(true)
			return nil
		case errors.Is(err, errStop):
			return nil // another stage failed, and has said why
		case err != nil:
			return err
		}
	}
	return nil
}

// tellOpened says that a source is read from here on, and what an earlier run has settled of it.
func (r *runner) tellOpened(i int, info source.Info, st *format.SourceState) {
	r.emit(event.SourceOpened{Stamp: r.now(), Source: r.begin.Sources[i].Name, Kind: string(info.Kind), Path: info.Path, Model: info.Model,
		Serial: info.Serial, Size: info.Size, Resumed: counts(st.Counts)})
}

// tellDone says of a source that an earlier run finished that it is; without it a total would never be reached.
func (r *runner) tellDone(i int, info source.Info, st *format.SourceState) {
	r.tellOpened(i, info, st)
	root := ""
	if f := st.Finished; f != nil && f.Root != nil {
		root = f.Root.String()
	} else if f != nil && f.Top != nil && f.Top.Dir != nil {
		root = f.Top.Dir.String()
	}
	r.emit(event.SourceDone{Stamp: r.now(), Source: r.begin.Sources[i].Name, Root: root, Counts: counts(st.Counts), LeftOut: st.Finished.Chosen()})
}

func (r *runner) tellPass(i int, phase string, pass int, back bool) {
	r.emit(event.PassEntered{Stamp: r.now(), Source: r.begin.Sources[i].Name, Phase: phase, Pass: pass, Backwards: back})
}

func (r *runner) feedSource(f *feeder, round, i int, src source.Source, st *format.SourceState) error {
	info := src.Info()
	if round == 0 {
		r.tellOpened(i, info, st)
	}
	if l := r.lane[i]; l != nil {
		return f.round(l)
	}
	switch src := src.(type) {
	case source.TreeSource:
		defer r.measure(f.ctx, i, src)()
		return f.tree(i, src, st)
	case source.Linear:
		off := int64(0)
		if st.Map != nil {
			off = st.Map.Next
		}
		return f.linear(i, src, off)
	}
	return fmt.Errorf("source %s is neither a tree nor a run of bytes", info.Path)
}

// measureAfter is how long reading a tree takes before its size is worth knowing.
const measureAfter = 2 * time.Second

// measure finds out beside the reading how much a tree holds, so that there is a percentage and a time to the end. A tree that is soon
// done is not walked twice.
func (r *runner) measure(ctx context.Context, i int, src source.TreeSource) (done func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-time.After(measureAfter):
		case <-ctx.Done():
			return
		}
		total, seen := int64(0), map[[2]uint64]bool{}
		for it, err := range src.Walk(ctx) {
			if err != nil || ctx.Err() != nil {
				return
			}
			k := [2]uint64{it.Stamp.Dev, it.Stamp.Ino}
			if it.Leave || it.Meta.Type != source.Regular || it.Links > 1 && seen[k] {
				continue
			}
			if it.Links > 1 {
				seen[k] = true
			}
			total += it.Meta.Size
		}
		r.sizes[i].Store(total)
	})
	return func() { cancel(); wg.Wait() }
}

// loadRows reads a tree log of this intake, which no snapshot shows yet.
func (r *runner) loadRows(ctx context.Context, ref artifact.Ref) ([]format.SeenFile, error) {
	data, err := r.w.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	return format.DecodeTreeLog(data)
}

func (r *runner) hash(ctx context.Context, work <-chan *unit) error {
	p := r.begin.Chunk
	for u := range work {
		if src, ok := r.sources[u.src].(source.TreeSource); ok {
			if u.err = readSteps(ctx, src, u); u.err != nil {
				close(u.hashed)
				return u.err
			}
			for i := range u.steps {
				s := &u.steps[i]
				if len(s.run.data) > format.InlineMax || len(s.run.gaps) > 0 || !s.whole {
					s.run.cutAndHash(p, s.off, p.Bytes, func(int) {})
				}
			}
		} else {
			done := func(int) {}
			var sum *digest.Run
			if len(r.o.Digest) > 0 && (u.raw == nil || u.raw.whole) {
				sum = digest.Begin(u.content.data, u.off)
				done = sum.To
			}
			u.content.cutAndHash(p, u.off, p.Pages, done)
			if sum != nil {
				u.sum = sum.Piece()
			}
		}
		close(u.hashed)
	}
	return nil
}

func (r *runner) sequence(ctx context.Context, q *sequencer, fed <-chan *unit, packing, squeeze chan<- *unit) error {
	for u := range fed {
		select {
		case <-u.hashed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if u.err != nil || ctx.Err() != nil {
			return errors.Join(u.err, context.Cause(ctx))
		}
		if err := q.unit(u); err != nil {
			return err
		}
		if err := r.toPacker(ctx, u, packing, squeeze); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (r *runner) toPacker(ctx context.Context, u *unit, packing, squeeze chan<- *unit) error {
	if !r.compresses() || len(u.adds) == 0 {
		for i := range u.adds {
			u.adds[i].stored = u.adds[i].data
		}
		close(u.packed)
	} else {
		arena, err := r.arenas.get(ctx)
		if err != nil {
			return err
		}
		u.arena = arena
		select {
		case squeeze <- u:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	select {
	case packing <- u:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *runner) squeeze(ctx context.Context, in <-chan *unit) error {
	c, err := newCompressor(r.begin.Codec)
	if err != nil {
		return err
	}
	for u := range in {
		u.err = c.unit(u)
		close(u.packed)
		if u.err != nil {
			return u.err
		}
	}
	return nil
}

func (r *runner) pack(ctx context.Context, p *packer, packing <-chan *unit, forced func()) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for more := true; more; {
		var u *unit
		select {
		case u, more = <-packing:
		case <-tick.C: // a disk may hang, and nothing come for a long time
			if err := p.overdue(); err != nil {
				return err
			}
			forced()
			continue
		}
		if !more {
			break
		}
		select {
		case <-u.packed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if u.err != nil || ctx.Err() != nil {
			return errors.Join(u.err, context.Cause(ctx))
		}
		if err := p.unit(u); err != nil {
			return err
		}
		forced()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if p.state == nil { // nothing was read: all was done before, or the stop came first
		states := r.point.State
		p.state, p.stream = func() []format.SourceState { return states }, r.point.Stream
	}
	return p.finish(!r.stopped.Load())
}

func (r *runner) sealBlocks(ctx context.Context, seal <-chan *blockJob) error {
	for job := range seal {
		job.out, job.err = r.w.SealBlock(ctx, job.bb)
		close(job.done)
		r.blocks.put(job.buf)
		if job.err != nil {
			return job.err
		}
	}
	return nil
}

// mergeRuns keeps the number of runs small. It is upkeep: where it cannot be done, looking things up takes longer and nothing else.
func (r *runner) mergeRuns(ctx context.Context) {
	for more := true; more && ctx.Err() == nil; {
		var err error
		if more, err = r.w.Merge(ctx); err != nil && ctx.Err() == nil {
			r.emit(event.Message{Stamp: r.now(), Level: event.Warning, Text: "the index was not tidied up: " + err.Error()})
			return
		}
	}
}

// seal makes the snapshot and reads back what this run stored.
func (r *runner) seal(ctx context.Context, rep *Report) error {
	r.emit(event.PhaseEntered{Stamp: r.now(), Phase: event.Sealing})
	m := &format.Manifest{Label: r.begin.Label, Tool: r.begin.Tool, Chunk: r.begin.Chunk, Codec: r.begin.Codec, Began: r.begin.Clock, Ended: r.o.Clock().Unix()}
	rep.Result = event.Complete
	for _, st := range r.point.State {
		res := *st.Finished
		m.Sources = append(m.Sources, res)
		m.Totals = m.Totals.Add(res.Counts)
		if !res.Whole() {
			rep.Result = event.CompleteWithGaps
		}
	}
	if err := r.evidence(ctx, rep, m); err != nil {
		return err
	}
	m.Totals.Stored = r.point.Stored + rep.Stored
	m.Result = string(rep.Result)
	snap, err := r.w.Snapshot(ctx, m)
	rep.Snapshot, rep.Manifest = snap, m
	if err != nil && snap.Number == 0 {
		rep.Result = event.Failed
		return err
	}
	if err != nil {
		r.emit(event.Message{Stamp: r.now(), Level: event.Warning, Text: "the snapshot is sealed, its signature is missing: " + err.Error()})
	}
	r.emit(event.SnapshotSealed{Stamp: r.now(), Domain: snap.Domain, Number: snap.Number, Manifest: artifact.Ref{Hash: artifact.BLAKE3, Digest: snap.Manifest}.String()})
	if r.check != nil {
		if err := r.verify(ctx, rep); err != nil {
			return err
		}
	}
	return r.digests(ctx, rep)
}

// verify reads back what was not reached beside the writing, and the blocks of runs that were interrupted: those have most need of it.
func (r *runner) verify(ctx context.Context, rep *Report) error {
	r.emit(event.PhaseEntered{Stamp: r.now(), Phase: event.Verifying})
	r.check.Add(r.point.Stored, r.before...)
	bad, err := r.check.Finish(2 * r.room.workers)
	if err != nil {
		return fmt.Errorf("reading back: %w", err)
	}
	rep.Verified, rep.Bad = len(bad) == 0, bad
	if len(bad) > 0 {
		rep.Result = event.Failed
		if err := r.s.ReportDamage(ctx, bad); err != nil {
			return err
		}
		return fmt.Errorf("%d of the blocks just stored read back wrong: %w", len(bad), artifact.ErrDamaged)
	}
	return r.s.ReportVerified(ctx, format.Verified{Intake: r.w.ID(), Blocks: len(r.before) + rep.Blocks, Bytes: r.point.Stored + rep.Stored, Clock: r.o.Clock().Unix()})
}
