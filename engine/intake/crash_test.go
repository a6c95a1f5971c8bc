package intake_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"aslrescue/backends/local"
	"aslrescue/engine/event"
	"aslrescue/engine/intake"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
	"aslrescue/engine/vfs/memfs"
)

// workload is something during which power is lost.
type workload struct {
	name   string
	medium memfs.Options
	worlds []*world // in the order in which they are taken in
	before int      // so many of them are durable before it begins
	opts   intake.Options
	do     func(ctx context.Context, fsys *memfs.FS, k *witness, l *workload) error
	parts  int  // so long is the log made before it begins
	copies bool // an artifact may be stored twice
	states int  // looked at by every run
	resume int  // one of so many is brought to its end
	second int  // power cuts looked at while that is done
}

// inTurn takes in what is not there yet, one after the other.
func inTurn(ctx context.Context, fsys *memfs.FS, k *witness, l *workload) error {
	for _, w := range l.worlds[l.before:] {
		o := l.opts
		o.Events = k.event
		if _, err := oneIntake(ctx, fsys, w, o); err != nil {
			return err
		}
	}
	return nil
}

// stopping is interrupted by the operator after some events, and again, and goes on.
func stopping(every int) func(context.Context, *memfs.FS, *witness, *workload) error {
	return interrupted(every, func(o *intake.Options, ctx, cut context.Context) context.Context { o.Stop = cut; return ctx })
}

// killing is the same with a context that ends at once.
func killing(every int) func(context.Context, *memfs.FS, *witness, *workload) error {
	return interrupted(every, func(_ *intake.Options, _, cut context.Context) context.Context { return cut })
}

func interrupted(every int, with func(o *intake.Options, ctx, cut context.Context) context.Context) func(context.Context, *memfs.FS, *witness, *workload) error {
	return func(ctx context.Context, fsys *memfs.FS, k *witness, l *workload) error {
		for try := 1; ; try++ {
			cut, cancel := context.WithCancel(ctx)
			began := k.seen
			k.at = func(n int) {
				if n-began == every*try {
					cancel()
				}
			}
			o := l.opts
			o.Events = k.event
			_, err := oneIntake(with(&o, ctx, cut), fsys, l.worlds[l.before], o)
			cancel()
			k.at = nil
			if err == nil || !errors.Is(err, intake.ErrStopped) && !errors.Is(err, context.Canceled) {
				return err
			}
			if s, err := openStore(fsys, local.ReadOnly()); err != nil || len(s.Unfinished()) == 0 {
				return err // it was cut after the snapshot
			}
		}
	}
}

// together runs two intakes at once, each with a store of its own.
func together(ctx context.Context, fsys *memfs.FS, k *witness, l *workload) error {
	var wg sync.WaitGroup
	errs := make([]error, len(l.worlds))
	for i, w := range l.worlds {
		own := &witness{fsys: fsys}
		wg.Go(func() {
			o := l.opts
			o.Events = own.event
			_, errs[i] = oneIntake(ctx, fsys, w, o)
			k.mu.Lock()
			k.acks = append(k.acks, own.acks...)
			k.mu.Unlock()
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func workloads() []*workload {
	size := 120_000
	one, two := newWorld("one", 1, size), newWorld("two", 1, size+40_000) // two shares much with one
	img := onlyImages("images", mixed(3, 60_000), noise(4, 30_000))
	img2 := onlyImages("more images", mixed(3, 50_000), words(5, 90_000))
	var runs []*world // eight of them are merged
	for i := range uint64(8) {
		runs = append(runs, onlyImages(fmt.Sprint("run ", i), noise(50+i, 9000+16*int(i))))
	}
	slow := hasty(intake.None)
	slow.ForceAfter = -1 // one block and one segment, and nothing that could be acknowledged before
	return []*workload{
		{name: "all kinds", worlds: []*world{one}, opts: hasty(intake.None), do: inTurn, states: 7_000, resume: 12},
		{name: "compressed", worlds: []*world{one}, opts: hasty(intake.Fast), do: inTurn, states: 4_000, resume: 12},
		{name: "one block", worlds: []*world{one}, opts: slow, do: inTurn, states: 1_500, resume: 6},
		{name: "links only", medium: memfs.Options{NoRename: true}, worlds: []*world{img}, opts: hasty(intake.None), do: inTurn, states: 3_000, resume: 8},
		{name: "second of the kind", worlds: []*world{one, two}, before: 1, opts: hasty(intake.None), do: inTurn, states: 4_000, resume: 12},
		{name: "same again", worlds: []*world{one, sameWorld(one, "again")}, before: 1, opts: hasty(intake.None), do: inTurn, states: 1_500, resume: 8},
		{name: "stopped", worlds: []*world{one}, opts: hasty(intake.None), do: stopping(25), states: 4_000, resume: 12},
		{name: "killed", worlds: []*world{one}, opts: hasty(intake.None), do: killing(25), states: 4_000, resume: 12},
		{name: "merge", worlds: runs, before: 7, opts: hasty(intake.None), do: inTurn, states: 1_500, resume: 12},
		{name: "checkpoint", worlds: []*world{img}, parts: 1020, opts: hasty(intake.None), do: inTurn, states: 400, resume: 8, second: 4},
		{name: "segments", worlds: []*world{sparseWorld()}, opts: segmented(), do: inTurn, states: 40, resume: 20, second: 2},
		{name: "two at once", worlds: []*world{img, img2}, opts: hasty(intake.None), do: together, copies: true, states: 4_000, resume: 12},
	}
}

func sameWorld(w *world, label string) *world { return &world{label, w.sources, w.truth} }

// trace is a workload that was carried out, and what is known of it.
type trace struct {
	*workload
	fsys  *memfs.FS
	k     *witness
	parts []int // parts[i] is the operation after which log part i+1 was durable
	want  map[string]string
}

func record(ctx context.Context, l *workload) (*trace, error) {
	base, err := newMedium(l.medium)
	if err != nil {
		return nil, err
	}
	for _, w := range l.worlds[:l.before] {
		if _, err := oneIntake(ctx, base, w, l.opts); err != nil {
			return nil, err
		}
	}
	s, err := openStore(base)
	if err != nil {
		return nil, err
	}
	_, first := s.Position()
	for ; first < uint64(l.parts); first++ {
		if err := s.ReportVerified(ctx, format.Verified{All: true, Clock: int64(first)}); err != nil {
			return nil, err
		}
	}
	fsys := settled(base)
	t := &trace{workload: l, fsys: fsys, k: &witness{fsys: fsys}, parts: make([]int, first), want: map[string]string{}}
	if err := l.do(ctx, fsys, t.k, l); err != nil {
		return nil, err
	}
	t.durableParts()
	s, err = inspect(ctx, settled(fsys), expect{acks: t.k.until(fsys.Ops()), part: uint64(len(t.parts)), worlds: worlds(l.worlds...), oneCopy: !l.copies})
	if err != nil {
		return nil, fmt.Errorf("without a power cut: %w", err)
	}
	for _, snap := range s.Snapshots() {
		v, err := s.At(ctx, snap.Number)
		if err != nil {
			return nil, err
		}
		t.want[snap.Label] = roots(v.Manifest)
	}
	if len(t.want) != len(l.worlds) {
		return nil, fmt.Errorf("without a power cut there are %d snapshots, want %d", len(t.want), len(l.worlds))
	}
	return t, nil
}

// durableParts reads out of the trace when each part of the log was durable: at the first sync of its folder.
func (t *trace) durableParts() {
	var waiting []uint64
	for i, line := range t.fsys.Trace() {
		words := strings.Fields(line)
		switch {
		case words[0] == "rename" || words[0] == "link":
			if n, ok := store.PartNumber(words[2]); ok && strings.HasPrefix(words[2], "logs/") {
				waiting = append(waiting, n)
			}
		case line == "syncdir logs/"+domain:
			for _, n := range waiting {
				for uint64(len(t.parts)) < n {
					t.parts = append(t.parts, i+1)
				}
			}
			waiting = nil
		}
	}
}

// expectAt is what must hold after a power cut at an operation.
func (t *trace) expectAt(op int) expect {
	part, _ := slices.BinarySearch(t.parts, op+1)
	return expect{acks: t.k.until(op), part: uint64(part), worlds: worlds(t.worlds...), oneCopy: !t.copies}
}

// look checks what a power cut left. With resume it also goes on to the end, and survives other power cuts on the way.
func (t *trace) look(ctx context.Context, c memfs.Crash, resume bool, seconds int) (states int, err error) {
	after := t.fsys.CrashAt(c.Op, c.Pattern)
	x := t.expectAt(c.Op)
	x.readOnly = true
	if _, err := inspect(ctx, after, x); err != nil || !resume {
		return 1, err
	}
	after.Sealed()
	k := &witness{fsys: after, acks: slices.Clone(x.acks)}
	for i := range k.acks {
		k.acks[i].op = 0
	}
	if err := t.goOn(ctx, after, k); err != nil {
		return 1, fmt.Errorf("going on: %w", err)
	}
	x = expect{acks: k.until(after.Ops()), part: x.part, worlds: x.worlds, oneCopy: x.oneCopy}
	s, err := inspect(ctx, after, x)
	if err == nil {
		err = t.finished(ctx, s)
	}
	if v := after.Violations(); err == nil && len(v) > 0 {
		err = fmt.Errorf("what was there before was touched: %q", v)
	}
	if err != nil {
		return 1, fmt.Errorf("after going on: %w", err)
	}
	r := rand.New(rand.NewPCG(uint64(c.Op), c.Pattern.Seed))
	for range seconds {
		op := r.IntN(after.Ops() + 1)
		patterns := slices.Collect(after.States(op, r.Uint64(), 4))
		p := patterns[r.IntN(len(patterns))]
		again := after.CrashAt(op, p)
		x := expect{acks: k.until(op), part: x.part, worlds: x.worlds, oneCopy: x.oneCopy, readOnly: true}
		if _, err := inspect(ctx, again, x); err != nil {
			return states, fmt.Errorf("going on, and a second %v: %w", memfs.Crash{Op: op, Pattern: p}, err)
		}
		states++
		if states%8 == 0 { // depth three: the end is reached from here too
			if err := t.goOn(ctx, again, &witness{fsys: again}); err != nil {
				return states, fmt.Errorf("going on after a second %v: %w", memfs.Crash{Op: op, Pattern: p}, err)
			}
			if s, err := inspect(ctx, again, expect{worlds: x.worlds, oneCopy: x.oneCopy}); err != nil || t.finished(ctx, s) != nil {
				return states, fmt.Errorf("after a second %v: %w", memfs.Crash{Op: op, Pattern: p}, errors.Join(err, t.finished(ctx, s)))
			}
		}
	}
	return states + 1, nil
}

// goOn does what a later boot does: it brings everything to its end.
func (t *trace) goOn(ctx context.Context, fsys *memfs.FS, k *witness) error {
	for _, w := range t.worlds {
		s, err := openStore(fsys)
		if err != nil {
			return err
		}
		_, unfinished := intake.Find(s.Unfinished(), w.sources())
		if !unfinished && slices.ContainsFunc(s.Snapshots(), func(x format.SnapshotAt) bool { return x.Label == w.label }) {
			continue
		}
		o := t.opts
		o.Events = k.event
		rep, err := run(ctx, s, w, o)
		if err != nil {
			return err
		}
		if rep.Result != event.Complete || !rep.Verified {
			return fmt.Errorf("%s: %s, verified %v", w.label, rep.Result, rep.Verified)
		}
	}
	return nil
}

// finished checks that every world has its snapshot, with the roots that an undisturbed intake gives.
func (t *trace) finished(ctx context.Context, s *store.Store) error {
	if n := len(s.Unfinished()); n > 0 {
		return fmt.Errorf("%d intakes are unfinished", n)
	}
	got := map[string]string{}
	for _, snap := range s.Snapshots() {
		v, err := s.At(ctx, snap.Number)
		if err != nil {
			return err
		}
		got[snap.Label] = roots(v.Manifest)
	}
	for label, want := range t.want {
		if got[label] != want {
			return fmt.Errorf("%s has other roots than without interruption", label)
		}
	}
	return nil
}

// crashes lists the moments and patterns to look at: every operation with nothing and with everything that was not
// synced, and of the rest as many as wanted.
func (t *trace) crashes(seed uint64, random, most int) []memfs.Crash {
	var always, rest []memfs.Crash
	for op := 0; op <= t.fsys.Ops(); op++ {
		for p := range t.fsys.States(op, seed, random) {
			if p == (memfs.Pattern{}) || p == (memfs.Pattern{Keep: memfs.All}) {
				always = append(always, memfs.Crash{Op: op, Pattern: p})
			} else {
				rest = append(rest, memfs.Crash{Op: op, Pattern: p})
			}
		}
	}
	r := rand.New(rand.NewPCG(seed, 2))
	r.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	if most > 0 {
		rest = rest[:max(0, min(len(rest), most-len(always)))]
	}
	return append(always, rest...)
}

// tally counts what was looked at.
type tally struct{ states, resumed, seconds atomic.Int64 }

// search looks at crashes, by all cores at once, and gives the first thing that is wrong.
func (t *trace) search(ctx context.Context, list []memfs.Crash, n *tally) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				resume := i%t.resume == 0
				states, err := t.look(ctx, list[i], resume, cmp.Or(t.second, 10))
				if err != nil && ctx.Err() == nil {
					cancel(fmt.Errorf("%s: %v (seed of the pattern %d): %w", t.name, list[i], list[i].Pattern.Seed, err))
				}
				n.states.Add(int64(states))
				if resume {
					n.resumed.Add(1)
					n.seconds.Add(int64(states - 1))
				}
			}
		})
	}
	for i := range list {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}

// TestCrash: at every operation of an intake and with every pattern of what was not synced, what was acknowledged is there and
// whole, what is visible reads back, the log is no older than it must be, and a later run comes to the same end, also
// through further power cuts.
func TestCrash(t *testing.T) {
	var all tally
	for _, l := range workloads() {
		t.Run(l.name, func(t *testing.T) {
			var n tally
			tr, err := record(t.Context(), l)
			if err != nil {
				t.Fatal(err)
			}
			list := tr.crashes(1, 4, l.states)
			if err := tr.search(t.Context(), list, &n); err != nil {
				t.Fatalf("%v\n%s", err, tr.tail())
			}
			t.Logf("%d operations, %d power cuts, %d of them brought to an end, %d second ones", tr.fsys.Ops(), n.states.Load(), n.resumed.Load(), n.seconds.Load())
			all.add(&n)
		})
	}
	if *deep > 0 && !t.Failed() {
		deeper(t, &all)
	}
	t.Logf("power cuts: %d states, %d brought to an end, %d second power cuts, 0 acknowledged bytes lost", all.states.Load(), all.resumed.Load(), all.seconds.Load())
}

func (n *tally) add(m *tally) {
	n.states.Add(m.states.Load())
	n.resumed.Add(m.resumed.Load())
	n.seconds.Add(m.seconds.Load())
}

// TestCrashAtInit: a store that is being made is none, or one without anything in it, and can be made and used.
func TestCrashAtInit(t *testing.T) {
	fsys := memfs.New()
	b, err := local.Create(fsys, "memory")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Create(t.Context(), b, store.Options{Domain: domain}); err != nil {
		t.Fatal(err)
	}
	w := onlyImages("images", mixed(3, 20_000))
	states, acked := 0, fsys.Ops()
	for op := 0; op <= acked; op++ {
		if op > 20 && op < acked-40 && op%32 != 0 { // 256 folders that are alike
			continue
		}
		for p := range fsys.States(op, 5, 4) {
			states++
			after := fsys.CrashAt(op, p)
			after.Sealed()
			if err := beginAgain(t.Context(), after, w, op == acked); err != nil {
				t.Fatalf("%v: %v", memfs.Crash{Op: op, Pattern: p}, err)
			}
		}
	}
	t.Logf("power cuts while a store is made: %d", states)
}

// beginAgain makes the store, or what is left to make of it, and uses it.
func beginAgain(ctx context.Context, fsys *memfs.FS, w *world, complete bool) error {
	b, err := local.Open(fsys, "memory")
	if errors.Is(err, local.ErrNoStore) && !complete {
		b, err = local.Create(fsys, "memory")
	}
	if err != nil {
		return err
	}
	s, err := store.Open(ctx, b, store.Options{})
	if errors.Is(err, store.ErrNoStore) && !complete {
		s, err = store.Create(ctx, b, store.Options{Domain: domain})
	}
	if err != nil {
		return err
	}
	if _, err := run(ctx, s, w, hasty(intake.None)); err != nil {
		return err
	}
	if v := fsys.Violations(); len(v) > 0 {
		return fmt.Errorf("what was there before was touched: %q", v)
	}
	if s, err = inspect(ctx, fsys.CrashAt(fsys.Ops(), memfs.Pattern{}), expect{worlds: worlds(w), oneCopy: true}); err == nil && len(s.Snapshots()) != 1 {
		err = fmt.Errorf("%d snapshots", len(s.Snapshots()))
	}
	return err
}

// deeper goes on with other interleavings and seeds.
func deeper(t *testing.T, all *tally) {
	until := time.Now().Add(*deep)
	for seed := uint64(2); time.Now().Before(until); seed++ {
		for _, l := range workloads() {
			tr, err := record(t.Context(), l)
			if err != nil {
				t.Fatal(err)
			}
			for part := range slices.Chunk(tr.crashes(seed, 24, 0), 5000) {
				if err := tr.search(t.Context(), part, all); err != nil {
					t.Fatalf("seed %d: %v\n%s", seed, err, tr.tail())
				}
				if time.Now().After(until) {
					return
				}
			}
		}
		t.Logf("seed %d: %d states so far", seed, all.states.Load())
	}
}

// tail is the trace, for the log of a failure.
func (t *trace) tail() string {
	var b strings.Builder
	for i, line := range t.fsys.Trace() {
		fmt.Fprintf(&b, "%4d %s\n", i+1, line)
	}
	fmt.Fprintf(&b, "durable parts %v, acknowledged %+v", t.parts, t.k.until(t.fsys.Ops()))
	return b.String()
}
