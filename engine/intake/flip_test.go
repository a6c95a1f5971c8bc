package intake_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"aslrescue/backends/local"
	"aslrescue/engine/artifact"
	"aslrescue/engine/event"
	"aslrescue/engine/intake"
	"aslrescue/engine/source"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
	"aslrescue/engine/vfs/memfs"
)

// specimen is a small store with everything in it, and what it holds.
type specimen struct {
	fsys   *memfs.FS
	files  map[string][]byte
	names  []string // of files, sorted
	worlds []*world // worlds[i] is snapshot i+1
	parts  int
}

// newSpecimen has snapshots that share content, a merged run, a damage record, and blocks of a second generation.
func newSpecimen(ctx context.Context) (*specimen, error) {
	fsys, err := newMedium(memfs.Options{})
	if err != nil {
		return nil, err
	}
	p := &specimen{files: map[string][]byte{}}
	add := func(w *world, c intake.Compression) (*intake.Report, error) {
		o := hasty(c)
		o.ForceAfter, o.AckEvery = -1, 0
		p.worlds = append(p.worlds, w)
		return oneIntake(ctx, fsys, w, o)
	}
	one := newWorld("one", 1, 20_000)
	rep, err := add(one, intake.None)
	if err != nil {
		return nil, err
	}
	if _, err := add(newWorld("two", 1, 26_000), intake.Fast); err != nil {
		return nil, err
	}
	for i := range uint64(6) {
		if _, err := add(onlyImages(fmt.Sprint("small", i), noise(100+i, 700)), intake.None); err != nil {
			return nil, err
		}
	}
	s, err := openStore(fsys)
	if err != nil {
		return nil, err
	}
	seg := s.Segments()[0]
	if err := s.ReportDamage(ctx, []format.DamagedObject{{Name: "blocks/" + seg.Blocks[0].String(), Why: "a test says so"}}); err != nil {
		return nil, err
	}
	again, err := add(sameWorld(one, "one again"), intake.None)
	if err != nil {
		return nil, err
	}
	if again.Blocks == 0 || roots(again.Manifest) != roots(rep.Manifest) {
		return nil, fmt.Errorf("what was damaged was not stored again: %d blocks", again.Blocks)
	}
	p.fsys = settled(fsys)
	if s, err = inspect(ctx, p.fsys, expect{worlds: worlds(p.worlds...)}); err != nil {
		return nil, err
	}
	if runs := s.Runs(); !slices.ContainsFunc(runs, func(r format.Run) bool { return r.Level > 0 }) {
		return nil, fmt.Errorf("no run was merged: %d runs", len(runs))
	}
	_, part := s.Position()
	p.parts = int(part)
	if err := p.walk("."); err != nil {
		return nil, err
	}
	slices.Sort(p.names)
	return p, nil
}

func (p *specimen) walk(dir string) error {
	list, err := p.fsys.ReadDir(dir)
	for _, e := range list {
		name := path.Join(dir, e.Name())
		if e.IsDir() {
			err = errors.Join(err, p.walk(name))
			continue
		}
		f, oerr := p.fsys.Open(name)
		if oerr != nil {
			return oerr
		}
		p.files[name], oerr = io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
		p.names = append(p.names, name)
		err = errors.Join(err, oerr)
	}
	return err
}

// hurt is one file that is not as it was.
type hurt struct {
	name string
	what string
	data []byte // nil: it is gone
	torn bool   // as a write that was cut could leave it
}

// on gives a medium with that file.
func (h hurt) on(base *memfs.FS) (*memfs.FS, error) {
	fsys := base.CrashAt(0, memfs.Pattern{})
	if err := fsys.Remove(h.name); err != nil && !errors.Is(err, fs.ErrNotExist) || h.data == nil {
		return fsys, err
	}
	f, err := fsys.CreateExcl(h.name, 0o444)
	if err == nil {
		_, err = f.Write(h.data)
	}
	return settled(fsys), err
}

// lastPart tells whether the hurt file is the end of the log, where a write that was cut is no damage.
func (p *specimen) lastPart(name string) bool {
	n, ok := store.PartNumber(name)
	return ok && int(n) == p.parts
}

// check opens and reads a hurt store: what it gives must be right, what it cannot give must be said, and the object that is
// hurt must be named.
func (p *specimen) check(ctx context.Context, h hurt) error {
	fsys, err := h.on(p.fsys)
	if err != nil {
		return err
	}
	s, err := openStore(fsys, local.ReadOnly())
	if err != nil {
		return fmt.Errorf("it cannot be opened at all: %w", err)
	}
	kind, _, _ := strings.Cut(h.name, "/")
	broken := s.Broken() != nil
	if broken && kind != "logs" {
		return fmt.Errorf("the log counts as damaged: %w", s.Broken())
	}
	if _, part := s.Position(); kind == "logs" && !broken && int(part) < p.parts && !(h.torn && p.lastPart(h.name)) {
		return fmt.Errorf("silently older: the log ends at part %d of %d", part, p.parts)
	}
	snaps := s.Snapshots()
	if !broken && len(snaps) != len(p.worlds) && !h.torn {
		return fmt.Errorf("silently older: %d snapshots of %d", len(snaps), len(p.worlds))
	}
	lost := 0
	for i, snap := range snaps {
		if snap.Label != p.worlds[i].label {
			return fmt.Errorf("snapshot %d is %q", i+1, snap.Label)
		}
		v, err := s.At(ctx, snap.Number)
		if err != nil {
			if !strings.HasSuffix(h.name, snap.Manifest.String()) || !hurtError(err) {
				return fmt.Errorf("snapshot %d: %w", snap.Number, err)
			}
			lost++
			continue
		}
		n, err := mostly(ctx, v, p.worlds[i].truth)
		if err != nil {
			return fmt.Errorf("snapshot %d: %w", snap.Number, err)
		}
		if n > 0 && kind != "blocks" {
			return fmt.Errorf("snapshot %d: %d files cannot be read though every block is whole", snap.Number, n)
		}
		lost += n
	}
	return p.named(ctx, s, h, broken)
}

// hurtError tells whether an error is one of damage, and of nothing else.
func hurtError(err error) bool {
	return errors.Is(err, artifact.ErrDamaged) || errors.Is(err, artifact.ErrNotFound)
}

// mostly reads all it can of a snapshot and compares it. It counts what cannot be read.
func mostly(ctx context.Context, v *store.View, truth map[string]string) (lost int, err error) {
	got := map[string]string{}
	bad := func(err error) error {
		if !hurtError(err) {
			return err
		}
		lost++
		return nil
	}
	for i := range v.Manifest.Sources {
		src := &v.Manifest.Sources[i]
		if src.Root == nil {
			if err := mostlyDir(ctx, v, src.Top, src.Name+"/", got, bad); err != nil {
				return lost, err
			}
			continue
		}
		content, err := readPages(ctx, v, v.MapPages(ctx, *src.Root))
		if err == nil {
			got[src.Name] = content
		} else if err := bad(err); err != nil {
			return lost, err
		}
	}
	for name, g := range got {
		if g != truth[name] {
			return lost, fmt.Errorf("%q is returned wrong, without an error", name)
		}
	}
	if lost == 0 && len(got) < len(v.Manifest.Sources) {
		return lost, errors.New("sources are missing without an error")
	}
	return lost, nil
}

func mostlyDir(ctx context.Context, v *store.View, dir *format.Entry, prefix string, got map[string]string, bad func(error) error) error {
	for e, err := range v.Dir(ctx, dir) {
		if err != nil {
			return bad(err)
		}
		name := prefix + string(e.Name)
		switch {
		case e.Type == source.Dir:
			if err := mostlyDir(ctx, v, e, name+"/", got, bad); err != nil {
				return err
			}
		case e.Type == source.Regular && e.Link == nil && e.Inline == nil:
			content, err := readPages(ctx, v, v.FilePages(ctx, e))
			if err == nil {
				got[name] = "file " + content
			} else if err := bad(fmt.Errorf("%s: %w", name, err)); err != nil {
				return err
			}
		}
	}
	return nil
}

// named checks that looking at everything names the object that is hurt, and no other.
func (p *specimen) named(ctx context.Context, s *store.Store, h hurt, broken bool) error {
	if broken {
		return nil // the error says which part
	}
	found := map[string]bool{}
	bad, err := s.VerifyBlocks(ctx, s.Blocks(), 1, nil)
	if err != nil {
		return err
	}
	for _, o := range bad {
		found["blocks/"+o.Name[7:9]+"/"+o.Name[7:]] = true
	}
	segments := map[artifact.Digest]bool{}
	for _, r := range s.Runs() {
		for _, id := range r.Segments {
			segments[id] = true
		}
	}
	for _, seal := range s.Segments() {
		segments[seal.Segment] = true
	}
	for id := range segments {
		if _, err := s.ReadSegment(ctx, id); err != nil {
			found["segments/"+id.String()] = true
		}
	}
	records := map[uint64]format.Record{}
	keys := map[format.ID][]byte{}
	for r, err := range store.Log(ctx, s.Backend(), domain) {
		if err != nil {
			return err
		}
		records[r.Seq] = r.Record
		var begin format.IntakeBegin
		if r.Type == format.IntakeBeginType && format.Unmarshal(r.Payload, &begin) == nil {
			keys[begin.Nonce] = begin.Key
		}
	}
	for _, snap := range s.Snapshots() {
		if _, err := s.At(ctx, snap.Number); err != nil {
			found["snapshots/"+domain+"/m-"+snap.Manifest.String()] = true
		}
		if _, sig, err := store.CheckNote(ctx, s.Backend(), snap, records[snap.Seq].Hash, keys[snap.Nonce]); err != nil || sig != store.Signed {
			found[store.NoteName(domain, snap.Number)] = true
		}
	}
	if h.torn && p.lastPart(h.name) {
		return nil
	}
	if len(found) != 1 || !found[h.name] {
		return fmt.Errorf("checking everything names %v", found)
	}
	return nil
}

// repair reports what is damaged and takes the first world in again: then it reads back whole, and so does the old snapshot
// of it as far as its artifacts are stored anew.
func (p *specimen) repair(ctx context.Context, h hurt) error {
	fsys, err := h.on(p.fsys)
	if err != nil {
		return err
	}
	fsys.Sealed()
	s, err := openStore(fsys)
	if err != nil {
		return err
	}
	bad, err := s.VerifyBlocks(ctx, s.Blocks(), 1, nil)
	if err != nil {
		return err
	}
	if err := s.ReportDamage(ctx, bad); s.Broken() != nil {
		if len(bad) > 0 && !errors.Is(err, artifact.ErrReadOnly) {
			return fmt.Errorf("reporting damage into a damaged log gave %w", err)
		}
		if _, err := run(ctx, s, p.worlds[0], hasty(intake.None)); !errors.Is(err, artifact.ErrReadOnly) {
			return fmt.Errorf("an intake into a damaged log gave %w", err)
		}
		return nil
	} else if err != nil {
		return err
	}
	before := len(s.Snapshots())
	for i, w := range p.worlds[:2] {
		rep, err := run(ctx, s, w, hasty(intake.Fast))
		if err != nil || rep.Result != event.Complete {
			return fmt.Errorf("intake after damage: %w", err)
		}
		if err := readsBack(ctx, s, rep.Snapshot.Number, w); err != nil {
			return fmt.Errorf("the new snapshot: %w", err)
		}
		if strings.Contains(h.name, "/m-") {
			continue
		}
		if err := readsBack(ctx, s, uint64(i+1), w); i < before && err != nil {
			return fmt.Errorf("the old snapshot %d: %w", i+1, err)
		}
	}
	if s, err = openStore(fsys); err != nil { // and the same for whoever opens it next
		return err
	}
	for i, w := range p.worlds[:2] {
		if err := readsBack(ctx, s, uint64(before+1+i), w); err != nil {
			return fmt.Errorf("the new snapshot, opened again: %w", err)
		}
	}
	if v := fsys.Violations(); len(v) > 0 {
		return fmt.Errorf("what was there before was touched: %q", v)
	}
	return nil
}

// flips are single bits of one file, every stride-th byte.
func (p *specimen) flips(name string, stride, seed int, allBits bool) []hurt {
	var list []hurt
	r := rand.New(rand.NewPCG(uint64(seed), uint64(len(name))))
	old := p.files[name]
	for off := seed % stride; off < len(old); off += stride {
		bits := []int{r.IntN(8)}
		if allBits {
			bits = []int{0, 1, 2, 3, 4, 5, 6, 7}
		}
		for _, bit := range bits {
			data := bytes.Clone(old)
			data[off] ^= 1 << bit
			list = append(list, hurt{name: name, what: fmt.Sprintf("bit %d of byte %d flipped", bit, off), data: data})
		}
	}
	return list
}

// cuts are all ways a file ends early, is too long, is gone, or has ranges of other bytes.
func (p *specimen) cuts(name string) []hurt {
	old := p.files[name]
	list := []hurt{{name: name, what: "gone"}}
	ends := map[int]bool{0: true, 1: true, 7: true, 8: true, 15: true, 16: true, 39: true, 40: true, 41: true, 63: true, 64: true, 65: true, 88: true, 95: true, 96: true, 97: true, len(old) / 2: true}
	for i := range 66 {
		ends[len(old)-i] = true
	}
	for i := 0; i < len(old); i += 512 {
		ends[i] = true
	}
	for i := 0; strings.HasPrefix(name, "logs/") && i < len(old); i += 3 {
		ends[i] = true
	}
	for n := range ends {
		if n < 0 || n >= len(old) {
			continue
		}
		list = append(list, hurt{name: name, what: fmt.Sprintf("cut to %d bytes", n), data: append([]byte{}, old[:n]...), torn: true})
		zeros := append(bytes.Clone(old[:n]), make([]byte, len(old)-n)...)
		if !bytes.Equal(zeros, old) {
			list = append(list, hurt{name: name, what: fmt.Sprintf("zeros from byte %d", n), data: zeros, torn: len(old)-n >= 8})
		}
	}
	list = append(list, hurt{name: name, what: "one byte more", data: append(bytes.Clone(old), 0)}, hurt{name: name, what: "a page more", data: append(bytes.Clone(old), make([]byte, 4096)...)})
	for _, unit := range []int{512, 4096} {
		for at := 0; at < len(old); at += unit {
			for _, fill := range []byte{0, 0xff} {
				end := min(len(old), at+unit)
				data := slices.Concat(old[:at], bytes.Repeat([]byte{fill}, end-at), old[end:])
				if !bytes.Equal(data, old) {
					list = append(list, hurt{name: name, what: fmt.Sprintf("bytes %d to %d are %#02x", at, end, fill), data: data, torn: fill == 0 && (end == len(old) || at == 0)})
				}
			}
		}
	}
	for a := 96; strings.HasPrefix(name, "segments/") && a+2*format.PageSize < len(old); a += format.PageSize {
		b := a + format.PageSize
		list = append(list, hurt{name: name, what: fmt.Sprintf("pages at %d and %d exchanged", a, b),
			data: slices.Concat(old[:a], old[b:b+format.PageSize], old[a:b], old[b+format.PageSize:])})
	}
	for _, other := range p.names { // another file of the same kind in its place
		if other != name && path.Dir(path.Dir(other)) == path.Dir(path.Dir(name)) && !bytes.Equal(p.files[other], old) {
			list = append(list, hurt{name: name, what: "has the bytes of " + other, data: p.files[other]})
		}
	}
	return list
}

// searchHurts checks a list by all cores at once; one of so many is also repaired.
func (p *specimen) searchHurts(ctx context.Context, list []hurt, repair int, n *hurtTally) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				h := list[i]
				err := p.guarded(ctx, h, p.check)
				if err == nil && i%repair == 0 && !strings.HasPrefix(h.name, "logs/") {
					n.repaired.Add(1)
					err = p.guarded(ctx, h, p.repair)
				}
				if err != nil && ctx.Err() == nil {
					cancel(fmt.Errorf("%s, %s: %w", h.name, h.what, err))
				}
				n.checked.Add(1)
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

type hurtTally struct{ checked, repaired atomic.Int64 }

// guarded turns a panic into an error that says of what.
func (p *specimen) guarded(ctx context.Context, h hurt, f func(context.Context, hurt) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			stack := make([]byte, 4096)
			err = fmt.Errorf("panic: %v\n%s", r, stack[:runtime.Stack(stack, false)])
		}
	}()
	return f(ctx, h)
}

// TestFlips: whatever byte of whatever file is not as it was, nothing wrong is ever given for right, what is hurt is named,
// and what cannot be had any more can be taken in again.
func TestFlips(t *testing.T) {
	p, err := newSpecimen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	size := 0
	for _, b := range p.files {
		size += len(b)
	}
	t.Logf("%d files, %d bytes", len(p.files), size)
	var flips, cuts hurtTally
	for _, kind := range []struct {
		dir          string
		stride, most int
	}{{"blocks", 7, 2000}, {"segments", 7, 2000}, {"logs", 5, 2000}, {"snapshots", 7, 1000}} {
		t.Run(kind.dir, func(t *testing.T) {
			var one, other []hurt
			for i, name := range p.names {
				if strings.HasPrefix(name, kind.dir+"/") {
					one = append(one, p.flips(name, kind.stride, i, false)...)
					other = append(other, p.cuts(name)...)
				}
			}
			r := rand.New(rand.NewPCG(3, 4))
			for n, list := range map[*hurtTally][]hurt{&flips: one, &cuts: other} {
				r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
				if *deep == 0 {
					list = list[:min(len(list), kind.most)]
				}
				if err := p.searchHurts(t.Context(), list, 16, n); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	if *deep > 0 && !t.Failed() {
		until := time.Now().Add(*deep)
		for i, name := range p.names {
			for list := range slices.Chunk(p.flips(name, 1, i, true), 4096) {
				if err := p.searchHurts(t.Context(), list, 64, &flips); err != nil {
					t.Fatal(err)
				}
				if time.Now().After(until) {
					return
				}
			}
		}
	}
	t.Logf("damage: %d bits flipped, %d files cut, zeroed, swapped or gone; %d of the stores repaired; 0 wrong bytes returned",
		flips.checked.Load(), cuts.checked.Load(), flips.repaired.Load()+cuts.repaired.Load())
}
