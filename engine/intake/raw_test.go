package intake_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"aslrescue/backends/local"
	"aslrescue/engine/event"
	"aslrescue/engine/intake"
	"aslrescue/engine/source"
	"aslrescue/engine/source/mapfile"
	"aslrescue/engine/source/passes"
	"aslrescue/engine/source/sourcetest"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
	"aslrescue/engine/vfs/memfs"
)

// huge is for a look at memory: go test ./engine/intake -run TestHuge -timeout 0 -args -huge 2048.
var huge = flag.Int64("huge", 1, "GiB of a disk that is read by passes")

// TestHuge: a large disk with bad places all over takes no more memory than a small one.
func TestHuge(t *testing.T) {
	size := *huge << 30
	m := mapfile.New(size)
	r := rand.New(rand.NewPCG(2, 2))
	for range 5 * *huge { // 10 000 in 2 TiB
		m.Mark(r.Int64N(size)/512*512, int64(1+r.IntN(64))*512, mapfile.Bad)
	}
	var bad []source.Gap
	for _, b := range m.Blocks {
		if b.Status == mapfile.Bad {
			bad = append(bad, source.Gap{Off: b.Pos, Len: b.Size})
		}
	}
	b, err := local.CreatePath(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	s, err := store.Create(t.Context(), b, store.Options{Domain: domain})
	if err != nil {
		t.Fatal(err)
	}
	disk := sourcetest.NewDisk(sourcetest.Config{Name: "disk", Size: size, Pattern: sourcetest.Pattern{Seed: 1, Zero: 100}, Bad: bad})
	began := time.Now()
	rep, err := intake.Run(t.Context(), s, []source.Source{disk}, intake.Options{NoVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	c := rep.Manifest.Sources[0].Counts
	if c.Unreadable != m.Sum(mapfile.Bad) || c.Data+c.Zero != m.Sum(mapfile.NonTried) || c.Untried != 0 {
		t.Errorf("%+v: want %d bad", c, m.Sum(mapfile.Bad))
	}
	manifest, err := format.Marshal(rep.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmHWM") {
			t.Logf("%d GiB, %d bad places: %s, %s; manifest %d bytes, %d fault pages, %d blocks of %d bytes, %d reads", *huge, len(bad), time.Since(began).Round(time.Second), strings.TrimSpace(line),
				len(manifest), len(rep.Manifest.Sources[0].Faults), rep.Blocks, rep.Stored, disk.Reads())
		}
	}
}

// faults are bad ranges of a disk of so many bytes, in whole sectors.
func faults(seed uint64, size int64) (bad []source.Gap) {
	r := rand.New(rand.NewPCG(seed, 3))
	m := mapfile.New(size)
	for range 1 + r.IntN(12) {
		off := r.Int64N(size) / 512 * 512
		m.Mark(off, int64(1+r.IntN([]int{1, 3, 40, 300}[r.IntN(4)]))*512, mapfile.Bad)
	}
	for _, b := range m.Blocks {
		if b.Status == mapfile.Bad {
			bad = append(bad, source.Gap{Off: b.Pos, Len: b.Size})
		}
	}
	return bad
}

func diskWorld(label string, content []byte, bad []source.Gap) *world {
	return &world{label: label, truth: map[string]string{"disk": holed(content, bad...)}, sources: func() []source.Source {
		return []source.Source{sourcetest.NewDisk(sourcetest.Config{Name: "disk", Bytes: content, Bad: bad})}
	}}
}

// TestPassesGiveTheRootOfTheBytes: whatever the order of reading, the root is the one that reading from front to back gives.
func TestPassesGiveTheRootOfTheBytes(t *testing.T) {
	for seed := range uint64(5) {
		size := 100_000 + int(seed)*7_777
		content := mixed(seed, size)
		bad := faults(seed, int64(size))
		if seed%8 == 0 {
			bad = nil
		}
		plain, err := newMedium(memfs.Options{})
		if err != nil {
			t.Fatal(err)
		}
		w := &world{label: "plain", sources: func() []source.Source {
			return []source.Source{sourcetest.NewLinear(sourcetest.Config{Name: "disk", Bytes: content, Bad: bad})}
		}}
		want, err := oneIntake(t.Context(), plain, w, hasty(intake.None))
		if err != nil {
			t.Fatal(err)
		}
		for k, rd := range []intake.Reading{{}, {Reverse: true}, {Flush: -1}, {Retry: 2, Flush: -1, Reverse: true}} {
			fsys, err := newMedium(memfs.Options{})
			if err != nil {
				t.Fatal(err)
			}
			o := hasty(intake.None)
			o.Reading = rd
			w := diskWorld("passes", content, bad)
			rep, err := oneIntake(t.Context(), fsys, w, o)
			if err != nil {
				t.Fatalf("seed %d, way %d: %v", seed, k, err)
			}
			if roots(rep.Manifest) != roots(want.Manifest) {
				t.Errorf("seed %d, way %d: another root", seed, k)
			}
			s, was := rep.Manifest.Sources[0], want.Manifest.Sources[0]
			c, d := s.Counts, was.Counts
			if c.Data != d.Data || c.Zero != d.Zero || c.Unreadable != d.Unreadable || c.Untried != 0 || rep.Result != want.Result {
				t.Errorf("seed %d, way %d: counts %+v, want %+v; %s", seed, k, c, d, rep.Result)
			}
			if len(s.Gaps) != len(bad) || (len(bad) > 0) != (len(s.Faults) > 0) {
				t.Errorf("seed %d, way %d: gaps %v, bad %v", seed, k, s.Gaps, bad)
			}
			st, err := inspect(t.Context(), fsys, expect{worlds: worlds(w), readOnly: true})
			if err != nil {
				t.Fatal(err)
			}
			v, err := st.At(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			var rows []source.Gap
			for f, err := range v.Faults(t.Context(), &v.Manifest.Sources[0]) {
				if err != nil {
					t.Fatal(err)
				}
				least := uint32(1 + rd.Retry)
				if f.Kind != source.Unreadable || f.Errno != 5 || f.Tries < least || f.Tries > least+1 {
					t.Errorf("seed %d, way %d: fault %+v", seed, k, f)
				}
				if n := len(rows); n > 0 && rows[n-1].Off+rows[n-1].Len == f.Off {
					rows[n-1].Len += f.Len
				} else {
					rows = append(rows, source.Gap{Off: f.Off, Len: f.Len})
				}
			}
			if !slices.Equal(rows, bad) {
				t.Errorf("seed %d, way %d: faults %v, bad %v", seed, k, rows, bad)
			}
		}
	}
}

// TestPassesOverManyPages: pages are written again and again while passes go over them.
func TestPassesOverManyPages(t *testing.T) {
	const size = 400<<20 + 12_345*512
	pattern := sourcetest.Pattern{Seed: 5, Zero: 99}
	var bad []source.Gap
	m := mapfile.New(size)
	r := rand.New(rand.NewPCG(1, 1))
	for range 60 {
		m.Mark(r.Int64N(size)/512*512, int64(1+r.IntN(100))*512, mapfile.Bad)
	}
	for _, b := range m.Blocks {
		if b.Status == mapfile.Bad {
			bad = append(bad, source.Gap{Off: b.Pos, Len: b.Size})
		}
	}
	want := ""
	for k, o := range []intake.Options{{}, {Reading: intake.Reading{Flush: -1}}, {Reading: intake.Reading{Reverse: true, Retry: 1}}} {
		fsys, err := newMedium(memfs.Options{})
		if err != nil {
			t.Fatal(err)
		}
		o.Compression, o.NoVerify = intake.None, true
		c := sourcetest.Config{Name: "disk", Size: size, Pattern: pattern, Bad: bad}
		w := &world{label: "pages", sources: func() []source.Source {
			if k == 0 {
				return []source.Source{sourcetest.NewLinear(c)}
			}
			return []source.Source{sourcetest.NewDisk(c)}
		}}
		stop, cancel := context.WithCancel(t.Context())
		defer cancel()
		n := 0
		if k > 0 {
			o.Stop = stop
			o.Events = func(e event.Event) {
				if _, ok := e.(event.ResumePoint); ok {
					if n++; n == 12 {
						cancel() // and it goes on
					}
				}
			}
			o.AckEvery = -1
		}
		rep, err := oneIntake(t.Context(), fsys, w, o)
		if errors.Is(err, intake.ErrStopped) {
			o.Stop = nil
			rep, err = oneIntake(t.Context(), fsys, w, o)
		}
		if err != nil {
			t.Fatalf("way %d: %v", k, err)
		}
		if k == 0 {
			want = roots(rep.Manifest)
		} else if roots(rep.Manifest) != want {
			t.Errorf("way %d: another root", k)
		}
	}
}

// TestPassesInterrupted: stopped or killed at any moment, the intake of a hurt disk goes on to the root it would have had.
func TestPassesInterrupted(t *testing.T) {
	content := mixed(4, 120_000)
	bad := []source.Gap{{Off: 4096, Len: 512}, {Off: 40_960, Len: 30_208}, {Off: 100_352, Len: 512}}
	w := diskWorld("hurt", content, bad)
	base, err := newMedium(memfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ways := func(rd intake.Reading) intake.Options {
		o := hasty(intake.None)
		o.Reading = rd
		return o
	}
	cases := 0
	for _, o := range []intake.Options{ways(intake.Reading{Flush: -1}), ways(intake.Reading{Reverse: true, Retry: 1})} {
		k := &witness{}
		o.Events = k.event
		clean, err := oneIntake(t.Context(), base.CrashAt(0, memfs.Pattern{}), w, o)
		if err != nil {
			t.Fatal(err)
		}
		_, used, err := eachN(t.Context(), 1, 19, func(n int) (bool, error) {
			if n > k.seen {
				return false, nil
			}
			for _, soft := range []bool{true, false} {
				if err := hurtAt(t.Context(), base.CrashAt(0, memfs.Pattern{}), w, o, n, soft, roots(clean.Manifest), clean.Manifest.Sources[0].Counts.Unreadable); err != nil {
					return true, fmt.Errorf("%+v at event %d, soft %v: %w", o.Reading, n, soft, err)
				}
			}
			return true, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		cases += 2 * used
	}
	t.Logf("interruptions: %d", cases)
}

func hurtAt(ctx context.Context, fsys *memfs.FS, w *world, o intake.Options, at int, soft bool, want string, unreadable int64) error {
	for try := 0; try < 5; try++ {
		cut, cancel := context.WithCancel(ctx)
		k := &witness{fsys: fsys, at: func(n int) {
			if n == at && try < 2 {
				cancel()
			}
		}}
		o.Events, o.Stop = k.event, nil
		run := cut
		if soft {
			o.Stop, run = cut, ctx
		}
		rep, err := oneIntake(run, fsys, w, o)
		cancel()
		s, ierr := inspect(ctx, fsys, expect{acks: k.until(fsys.Ops()), worlds: worlds(w), readOnly: true})
		if ierr != nil {
			return fmt.Errorf("run %d, which gave %v: %w", try+1, err, ierr)
		}
		switch {
		case err == nil:
			c := rep.Manifest.Sources[0].Counts
			if roots(rep.Manifest) != want || c.Unreadable != unreadable || c.Data+c.Zero+c.Unreadable != 120_000 || rep.Result != event.CompleteWithGaps {
				return fmt.Errorf("other roots, or counts %+v", c)
			}
			return nil
		case soft && errors.Is(err, intake.ErrStopped), !soft && errors.Is(err, context.Canceled):
		default:
			return fmt.Errorf("run %d: %w", try+1, err)
		}
		if len(s.Unfinished()) == 0 && len(s.Snapshots()) == 1 {
			v, err := s.At(ctx, 1)
			if err == nil && roots(v.Manifest) != want {
				err = errors.New("other roots")
			}
			return err
		}
	}
	return errors.New("it does not end")
}

// TestADeviceThatVanishesMayComeBack: nothing is sealed when it goes, and what was read is not read again when it is there again.
func TestADeviceThatVanishesMayComeBack(t *testing.T) {
	content := mixed(6, 200_000)
	bad := []source.Gap{{Off: 30_208, Len: 1024}}
	for _, after := range []int{0, 1, 4, 9, 14} {
		fsys, err := newMedium(memfs.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var read mapfileOf
		w := func(gone int) *world {
			return &world{label: "goes", sources: func() []source.Source {
				d := sourcetest.NewDisk(sourcetest.Config{Name: "disk", Bytes: content, Bad: bad, OnRead: read.add})
				n := 0
				d.OnTry = func(passes.Read) error {
					if n++; gone >= 0 && n > gone {
						return source.ErrGone
					}
					return nil
				}
				return []source.Source{d}
			}}
		}
		o := hasty(intake.None)
		rep, err := oneIntake(t.Context(), fsys, w(after), o)
		if !errors.Is(err, source.ErrGone) || rep.Result != event.Stopped {
			t.Fatalf("after %d: %+v, %v", after, rep, err)
		}
		s, err := inspect(t.Context(), fsys, expect{worlds: map[string]*world{}, readOnly: true})
		if err != nil || len(s.Unfinished()) != 1 || len(s.Snapshots()) != 0 {
			t.Fatalf("after %d: %v", after, err)
		}
		first := read.bytes
		rep, err = oneIntake(t.Context(), fsys, w(-1), o)
		if err != nil || rep.Result != event.CompleteWithGaps || rep.Manifest.Sources[0].Counts.Unreadable != 1024 {
			t.Fatalf("after %d: %+v, %v", after, rep, err)
		}
		if extra := read.bytes - int64(len(content)); after > 1 && extra > 64<<10+first/2 {
			t.Errorf("after %d: %d bytes were read twice, of %d", after, extra, first)
		}
	}
}

type mapfileOf struct{ bytes int64 }

func (m *mapfileOf) add(_ int64, n int) { m.bytes += int64(n) }

// TestADiskThatHangsHoldsUpNoOther: while one disk does not answer, another is read to its end and acknowledged.
func TestADiskThatHangsHoldsUpNoOther(t *testing.T) {
	a, b := mixed(7, 300_000), mixed(8, 500_000)
	release := make(chan struct{})
	w := &world{label: "two", truth: map[string]string{"hangs": string(a), "works": string(b)}, sources: func() []source.Source {
		hangs := sourcetest.NewDisk(sourcetest.Config{Name: "hangs", Kind: source.Device, Bytes: a, Pattern: sourcetest.Pattern{Seed: 1}})
		hangs.OnTry = func(r passes.Read) error {
			if r.Off > 100_000 {
				<-release
			}
			return nil
		}
		return []source.Source{hangs, sourcetest.NewDisk(sourcetest.Config{Name: "works", Kind: source.Device, Bytes: b, Pattern: sourcetest.Pattern{Seed: 2}})}
	}}
	fsys, err := newMedium(memfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	o := hasty(intake.None)
	o.Budget = intake.DefaultBudget
	var once sync.Once
	o.Events = func(e event.Event) {
		if d, ok := e.(event.SourceDone); ok && d.Source == "works" {
			once.Do(func() { close(release) }) // without that the test does not end
		}
	}
	mustComplete(t, fsys, w, o)
	if _, err := inspect(t.Context(), fsys, expect{worlds: worlds(w), readOnly: true}); err != nil {
		t.Fatal(err)
	}
}

// TestARescueOfDdrescueGoesOn: what its map file calls finished is taken from its image, and not asked of the disk.
func TestARescueOfDdrescueGoesOn(t *testing.T) {
	content := mixed(9, 400_000)
	size := int64(len(content))
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 8))
		m := mapfile.New(size)
		image := make([]byte, size)
		for range 6 {
			off, n := r.Int64N(size)/512*512, int64(1+r.IntN(200))*512
			m.Mark(off, n, mapfile.Finished)
		}
		m.Mark(100*512, 512, mapfile.Bad)
		var read int64
		for _, b := range m.Blocks {
			if b.Status == mapfile.Finished {
				copy(image[b.Pos:b.End()], content[b.Pos:])
			}
		}
		bad := []source.Gap{{Off: 100 * 512, Len: 512}}
		w := &world{label: "goes on", truth: map[string]string{"disk": holed(content, bad...)}, sources: func() []source.Source {
			d := sourcetest.NewDisk(sourcetest.Config{Name: "disk", Bytes: content, Bad: bad, OnRead: func(off int64, n int) {
				for i := off; i < off+int64(n); i += 512 {
					if b := m.Blocks[m.Find(i)]; b.Status == mapfile.Finished {
						t.Errorf("seed %d: the disk is asked for %d, which is finished", seed, i)
					}
				}
				read += int64(n)
			}})
			return []source.Source{source.Continued(d, m, bytes.NewReader(image))}
		}}
		fsys, err := newMedium(memfs.Options{})
		if err != nil {
			t.Fatal(err)
		}
		o := hasty(intake.None)
		o.Reading.Reverse = seed%2 == 1
		rep, err := oneIntake(t.Context(), fsys, w, o)
		if err != nil || rep.Manifest.Sources[0].Counts.Data+rep.Manifest.Sources[0].Counts.Zero != size-512 {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if _, err := inspect(t.Context(), fsys, expect{worlds: worlds(w), readOnly: true}); err != nil {
			t.Fatal(err)
		}
	}
}
