package intake_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"aslrescue/backends/local"
	"aslrescue/engine/artifact"
	"aslrescue/engine/event"
	"aslrescue/engine/intake"
	"aslrescue/engine/store"
	"aslrescue/engine/vfs"
	"aslrescue/engine/vfs/faultfs"
	"aslrescue/engine/vfs/memfs"
)

// mediumFaults are all that a medium does to us, each to be tried at every operation.
func mediumFaults() []faultfs.Fault {
	var list []faultfs.Fault
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EMFILE, syscall.ESTALE} {
		list = append(list, faultfs.Fault{Err: errno}, faultfs.Fault{Err: errno, Sticky: true})
	}
	return append(list,
		faultfs.Fault{Err: syscall.EIO, After: true}, // it was done, and says that it was not
		faultfs.Fault{Op: faultfs.Write, Err: syscall.ENOSPC, Short: 1},
		faultfs.Fault{Op: faultfs.Write, Err: syscall.ENOSPC, Short: 512, Sticky: true},
		faultfs.Fault{Op: faultfs.Write, Err: syscall.EIO, Short: 4096},
		faultfs.Fault{Op: faultfs.Sync}, // the pages count as clean afterwards, and the next sync "works"
		faultfs.Fault{Op: faultfs.Sync, Sticky: true},
		faultfs.Fault{Op: faultfs.SyncDir},
		faultfs.Fault{Op: faultfs.SyncDir, After: true},
		faultfs.Fault{Op: faultfs.Rename, After: true},
		faultfs.Fault{Op: faultfs.Create, Err: syscall.ENOSPC, Sticky: true},
		faultfs.Fault{Op: faultfs.Read},
		faultfs.Fault{Op: faultfs.Open, Err: syscall.EMFILE},
	)
}

// faultCase is one intake during which one fault strikes.
type faultCase struct {
	base   *memfs.FS
	worlds []*world // the last is taken in, the others are there
	opts   intake.Options
	fault  faultfs.Fault
}

// run tells whether the fault struck, and what is wrong.
func (c *faultCase) run(ctx context.Context) (struck, complete bool, err error) {
	fsys := c.base.CrashAt(0, memfs.Pattern{})
	fsys.Sealed()
	faulty := faultfs.New(fsys, fsys.FailSync)
	faulty.Inject(c.fault)
	k := &witness{fsys: fsys}
	o := c.opts
	o.Events = k.event
	rep, ierr := oneIntake(ctx, faulty, c.worlds[len(c.worlds)-1], o)
	if len(faulty.Unused()) > 0 {
		if ierr != nil {
			return false, false, fmt.Errorf("no fault, and yet: %w", ierr)
		}
		return false, true, nil
	}
	trace := faulty.Trace()
	err = c.means(ierr, trace)
	if err == nil && ierr == nil && rep.Result != event.Complete {
		err = fmt.Errorf("no error, and %s", rep.Result)
	}
	if err == nil {
		err = c.after(ctx, fsys, k, ierr == nil)
	}
	if err != nil {
		err = fmt.Errorf("%+v: the intake gave %v: %w\nfirst failures:\n%s", c.fault, ierr, err, failures(trace))
	}
	return true, ierr == nil, err
}

// after looks at the store when the fault is over: as it is seen, and after a power cut.
func (c *faultCase) after(ctx context.Context, fsys *memfs.FS, k *witness, complete bool) error {
	x := expect{acks: k.until(fsys.Ops()), worlds: worlds(c.worlds...), oneCopy: true, readOnly: true}
	for _, p := range []memfs.Pattern{{}, {Keep: memfs.All}, {Keep: memfs.Random, Data: memfs.Mixed, Seed: uint64(c.fault.N)}} {
		s, err := inspect(ctx, fsys.CrashAt(fsys.Ops(), p), x)
		if err == nil && complete && len(s.Snapshots()) != len(c.worlds) {
			err = errors.New("the snapshot is not there")
		}
		if err != nil {
			return fmt.Errorf("after a power cut (%v): %w", p, err)
		}
	}
	if _, err := inspect(ctx, fsys, x); err != nil {
		return fmt.Errorf("afterwards: %w", err)
	}
	t := &trace{workload: &workload{worlds: c.worlds, opts: c.opts}}
	if err := t.goOn(ctx, fsys, k); err != nil {
		return fmt.Errorf("going on: %w", err)
	}
	x.acks = k.until(fsys.Ops())
	s, err := inspect(ctx, fsys.CrashAt(fsys.Ops(), memfs.Pattern{}), x)
	if err != nil {
		return fmt.Errorf("after going on: %w", err)
	}
	if len(s.Unfinished()) > 0 || len(s.Snapshots()) != len(c.worlds) {
		return fmt.Errorf("after going on: %d unfinished, %d snapshots", len(s.Unfinished()), len(s.Snapshots()))
	}
	if v := fsys.Violations(); len(v) > 0 {
		return fmt.Errorf("what was there before was touched: %q", v)
	}
	return nil
}

// means checks that an error says what callers branch on, if nothing but writing failed.
func (c *faultCase) means(err error, trace string) error {
	if err == nil {
		return nil
	}
	for line := range strings.Lines(failures(trace)) {
		verb, _, _ := strings.Cut(line, " ")
		if !slices.Contains([]string{"create", "write", "sync", "rename", "link", "mkdir", "syncdir"}, verb) {
			return nil
		}
	}
	errno, _ := c.fault.Err.(syscall.Errno)
	full := errno == syscall.ENOSPC || errno == syscall.EDQUOT
	if full && !errors.Is(err, artifact.ErrFull) {
		return errors.New("the error does not say that the store is full")
	}
	if errno == syscall.EROFS && !errors.Is(err, artifact.ErrReadOnly) {
		return errors.New("the error does not say that nothing can be written")
	}
	return nil
}

// failures are the first lines of a trace that failed though they should not.
func failures(trace string) string {
	var lines []string
	for line := range strings.Lines(trace) {
		if strings.Contains(line, " = ") && !strings.Contains(line, "no such file") && !strings.Contains(line, "file exists") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[:min(5, len(lines))], "")
}

// TestFaults: whatever fails, and whenever, the intake completes or says so; nothing acknowledged is lost, nothing wrong is
// visible, and when the fault is over a later run comes to its end.
func TestFaults(t *testing.T) {
	one, small := newWorld("one", 1, 60_000), onlyImages("images", mixed(3, 40_000))
	two := newWorld("two", 1, 90_000)
	slow := hasty(intake.Fast)
	slow.ForceAfter, slow.AckEvery = -1, 0
	stride := 12
	if *deep > 0 {
		stride = 1
	}
	var struck, survived atomic.Int64
	for _, c := range []struct {
		name   string
		worlds []*world
		opts   intake.Options
		stride int
	}{
		{"every operation", []*world{small}, slow, 1},
		{"all kinds", []*world{one}, hasty(intake.None), stride},
		{"second of the kind", []*world{one, two}, hasty(intake.Fast), stride},
	} {
		base, err := newMedium(memfs.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range c.worlds[:len(c.worlds)-1] {
			mustComplete(t, base, w, c.opts)
		}
		base = settled(base)
		for i, fault := range mediumFaults() {
			t.Run(fmt.Sprintf("%s/%d", c.name, i), func(t *testing.T) {
				ended, used, err := eachN(t.Context(), i%c.stride+1, c.stride, func(n int) (bool, error) {
					f := fault
					f.N = n
					hit, complete, err := (&faultCase{base, c.worlds, c.opts, f}).run(t.Context())
					if hit && complete {
						survived.Add(1)
					}
					return hit, err
				})
				if err != nil {
					t.Fatal(err)
				}
				if used == 0 || !ended {
					t.Fatalf("the fault %+v never struck", fault)
				}
				struck.Add(int64(used))
			})
		}
	}
	t.Logf("faults: %d struck, %d of them the intake survived, the others it reported; every one was used", struck.Load(), survived.Load())
}

// eachN calls try with from, from+stride … by all cores at once, until it says that there is no such operation.
func eachN(ctx context.Context, from, stride int, try func(n int) (hit bool, err error)) (ended bool, used int, err error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	next, stop := from, false
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				mu.Lock()
				n := next
				next += stride
				over := stop || ctx.Err() != nil
				mu.Unlock()
				if over {
					return
				}
				hit, terr := try(n)
				mu.Lock()
				if terr != nil && err == nil {
					err = terr
				}
				if hit {
					used++
				}
				ended = ended || !hit
				stop = stop || !hit || terr != nil
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return ended, used, err
}

// TestKilled: the program is killed at every operation. What the next one sees when it opens the store is not lost with
// the power afterwards, also where it writes nothing, and also where the medium is full by then.
func TestKilled(t *testing.T) {
	w := onlyImages("images", mixed(3, 40_000))
	base, err := newMedium(memfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, used, err := eachN(t.Context(), 1, 1, func(n int) (bool, error) {
		fsys := base.CrashAt(0, memfs.Pattern{})
		faulty := faultfs.New(fsys, nil)
		faulty.Inject(faultfs.Fault{N: n, Sticky: true})
		_, ierr := oneIntake(t.Context(), faulty, w, hasty(intake.None))
		if len(faulty.Unused()) > 0 {
			return false, ierr
		}
		full := faultfs.New(fsys, nil)
		full.Inject(faultfs.Fault{Op: faultfs.Create, Err: syscall.ENOSPC, Sticky: true})
		for _, seen := range []vfs.FS{full, fsys} {
			s, err := inspect(t.Context(), seen, expect{worlds: worlds(w), oneCopy: true})
			if err != nil {
				return true, fmt.Errorf("killed at operation %d: %w", n, err)
			}
			_, part := s.Position()
			if _, err := inspect(t.Context(), fsys.CrashAt(fsys.Ops(), memfs.Pattern{}), expect{worlds: worlds(w), part: part}); err != nil {
				return true, fmt.Errorf("killed at operation %d, opened, and then a power cut: %w", n, err)
			}
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("killed: at %d operations", used)
}

// TestFaultsAtInit: a store that could not be made is none, and can be made when the fault is over.
func TestFaultsAtInit(t *testing.T) {
	w := onlyImages("images", mixed(3, 20_000))
	cases := 0
	for _, fault := range mediumFaults() {
		_, used, err := eachN(t.Context(), 1, 1, func(n int) (bool, error) {
			if n > 20 && n%16 != 0 { // 256 folders that are alike
				return true, nil
			}
			f := fault
			f.N = n
			fsys := memfs.New()
			faulty := faultfs.New(fsys, fsys.FailSync)
			faulty.Inject(f)
			b, err := local.Create(faulty, "memory")
			if err == nil {
				_, err = store.Create(t.Context(), b, store.Options{Domain: domain})
			}
			if len(faulty.Unused()) > 0 {
				return false, err
			}
			for _, after := range []*memfs.FS{fsys.CrashAt(fsys.Ops(), memfs.Pattern{}), fsys} {
				if err := beginAgain(t.Context(), after, w, err == nil); err != nil {
					return true, fmt.Errorf("%+v: %w\n%s", f, err, failures(faulty.Trace()))
				}
			}
			return true, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if used == 0 {
			t.Fatalf("the fault %+v never struck", fault)
		}
		cases += used
	}
	t.Logf("faults while a store is made: %d", cases)
}

// TestFaultsWhileReading: a read that fails is an error and never the end of the log, a missing snapshot or other content.
func TestFaultsWhileReading(t *testing.T) {
	one, two := newWorld("one", 1, 60_000), newWorld("two", 1, 70_000)
	fsys, err := newMedium(memfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	mustComplete(t, fsys, one, hasty(intake.Fast))
	mustComplete(t, fsys, two, hasty(intake.Fast))
	s, err := openStore(fsys)
	if err != nil {
		t.Fatal(err)
	}
	seq, part := s.Position()
	cases := 0
	for _, fault := range []faultfs.Fault{{Op: faultfs.Read}, {Op: faultfs.Open}, {Op: faultfs.Open, Err: syscall.EMFILE}, {Op: faultfs.ReadDir}, {Op: faultfs.Stat}, {Op: faultfs.Stat, Err: syscall.ESTALE},
		{Op: faultfs.Read, Sticky: true}, {Op: faultfs.Open, Sticky: true}} {
		_, used, err := eachN(t.Context(), 1, 1, func(n int) (bool, error) {
			f := fault
			f.N = n
			faulty := faultfs.New(fsys.CrashAt(fsys.Ops(), memfs.Pattern{Keep: memfs.All}), nil)
			faulty.Inject(f)
			err := readAllOf(t.Context(), faulty, seq, part, one, two)
			if err != nil {
				err = fmt.Errorf("%+v: %w\n%s", f, err, failures(faulty.Trace()))
			}
			return len(faulty.Unused()) == 0, err
		})
		if err != nil {
			t.Fatal(err)
		}
		if used == 0 && fault.Op != faultfs.Stat { // reading need not ask for sizes
			t.Fatalf("the fault %+v never struck", fault)
		}
		cases += used
	}
	t.Logf("faults while reading: %d", cases)
}

// readAllOf opens a store and reads its snapshots. Errors of the medium are fine, wrong answers are not.
func readAllOf(ctx context.Context, faulty *faultfs.FS, seq, part uint64, list ...*world) error {
	s, err := openStore(faulty, local.ReadOnly())
	if err != nil {
		return medium(err)
	}
	if s.Broken() != nil {
		return fmt.Errorf("a read error counts as damage: %w", s.Broken())
	}
	if gotSeq, gotPart := s.Position(); gotSeq != seq || gotPart != part {
		return fmt.Errorf("the log ends at record %d in part %d, it has %d in %d", gotSeq, gotPart, seq, part)
	}
	for i, w := range list {
		if err := readsBack(ctx, s, uint64(i+1), w); err != nil {
			if err := medium(err); err != nil {
				return err
			}
		}
	}
	bad, err := s.VerifyBlocks(ctx, s.Blocks(), 1, nil)
	if err != nil {
		return medium(err)
	}
	for _, b := range bad {
		if !b.Unread {
			return fmt.Errorf("a read error counts as damage: %v", b)
		}
	}
	return nil
}

// medium passes an error only if it is not one of the medium.
func medium(err error) error {
	var errno syscall.Errno
	for _, other := range []error{artifact.ErrNotFound, artifact.ErrDamaged, store.ErrNoStore, local.ErrNoStore, store.ErrBroken} {
		if errors.Is(err, other) {
			return fmt.Errorf("a read error is taken for something else: %w", err)
		}
	}
	if errors.As(err, &errno) {
		return nil
	}
	return err
}
