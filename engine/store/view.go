package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"

	"aslrescue/engine/artifact"
	"aslrescue/engine/source"
	"aslrescue/engine/store/format"
)

// View reads a store as of one snapshot: what was not sealed at or before its position does not exist here. It is safe
// for concurrent use.
type View struct {
	Snapshot format.SnapshotAt
	Manifest *format.Manifest

	s       *Store
	ix      index
	bound   uint64                     // position; records after it are not seen
	visible map[artifact.Digest]uint64 // block: position from which it can be seen
}

// At opens the read API at a snapshot; 0 is the latest.
func (s *Store) At(ctx context.Context, number uint64) (*View, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := len(s.st.snapshots) - 1
	if number != 0 {
		i = slices.IndexFunc(s.st.snapshots, func(x format.SnapshotAt) bool { return x.Number == number })
	}
	if i < 0 {
		if s.broken != nil {
			return nil, fmt.Errorf("snapshot %d: %w: %w", number, artifact.ErrNotFound, s.broken)
		}
		return nil, fmt.Errorf("snapshot %d: %w", number, artifact.ErrNotFound)
	}
	snap := s.st.snapshots[i]
	v := s.viewUpTo(snap.Seq)
	v.Snapshot = snap
	name := fmt.Sprintf("snapshots/%s/m-%s", snap.Domain, snap.Manifest)
	data, err := readAll(ctx, s.b, name)
	if err == nil {
		v.Manifest, err = format.DecodeManifest(snap.Manifest, data)
	}
	if err != nil {
		return nil, fmt.Errorf("snapshot %d: manifest %s: %w", snap.Number, snap.Manifest, goneIsDamage(err))
	}
	return v, nil
}

// Beyond opens the read API without a bound. It is for asl-debug, which says so.
func (s *Store) Beyond() *View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.viewUpTo(^uint64(0))
}

func (s *Store) viewUpTo(seq uint64) *View {
	if s.sealed == nil || s.sealedN != len(s.st.sealed) {
		s.sealed, s.sealedN = map[artifact.Digest]uint64{}, len(s.st.sealed)
		for _, seg := range s.st.sealed {
			for _, b := range seg.Blocks {
				if _, ok := s.sealed[b]; !ok {
					s.sealed[b] = seg.Seq
				}
			}
		}
	}
	v := &View{s: s, bound: seq, visible: s.sealed}
	v.ix = index{b: s.b, cache: s.ix.cache, runs: slices.Clone(s.ix.runs)}
	return v
}

// copies gives where an artifact lies, the best copy first: visible and not known to be damaged. Without any copy that the
// bound lets through there is none.
func (v *View) copies(ctx context.Context, ref artifact.Ref) ([]location, error) {
	if ref.Hash != artifact.BLAKE3 {
		return nil, fmt.Errorf("reference with hash id %#04x: %w", uint16(ref.Hash), artifact.ErrUnsupported)
	}
	var all []location
	for {
		var err error
		all, err = v.ix.find(ctx, ref.Digest, false)
		var bad *damagedSegment
		if errors.As(err, &bad) && (errors.Is(err, artifact.ErrDamaged) || errors.Is(err, artifact.ErrNotFound)) {
			if err := v.s.rescuePart(ctx, bad.part); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		break
	}
	if !slices.ContainsFunc(all, func(l location) bool { return v.visible[l.block] <= v.bound }) {
		return nil, fmt.Errorf("artifact %s: %w", ref, artifact.ErrNotFound)
	}
	slices.SortStableFunc(all, func(a, b location) int { return v.rank(a) - v.rank(b) })
	return all, nil
}

func (v *View) rank(l location) int {
	n := 0
	if v.visible[l.block] > v.bound {
		n++
	}
	if v.s.isDamaged(l.block) {
		n += 2
	}
	return n
}

// Get reads an artifact and checks it. Of several copies the first good one is given; ErrDamaged if none is.
func (v *View) Get(ctx context.Context, ref artifact.Ref) ([]byte, artifact.Tag, error) {
	all, err := v.copies(ctx, ref)
	if err != nil {
		return nil, 0, err
	}
	var errs []error
	for _, l := range all {
		data, err := v.s.readCopy(ctx, l)
		if err == nil {
			return data, l.entry.Tag, nil
		}
		if ctx.Err() != nil {
			return nil, 0, ctx.Err()
		}
		errs = append(errs, err)
	}
	return nil, 0, fmt.Errorf("artifact %s: no good copy: %w", ref, errors.Join(errs...))
}

// Where gives the blocks that hold an artifact.
func (v *View) Where(ctx context.Context, ref artifact.Ref) ([]artifact.Digest, error) {
	all, err := v.copies(ctx, ref)
	var ids []artifact.Digest
	for _, l := range all {
		ids = append(ids, l.block)
	}
	return ids, err
}

func (s *Store) readCopy(ctx context.Context, l location) ([]byte, error) {
	raw, err := readRange(ctx, s.b, "blocks/"+l.block.String(), int64(l.entry.Off), int64(l.entry.Stored))
	if err != nil {
		return nil, fmt.Errorf("block %s: %w", l.block, goneIsDamage(shortIsDamage(err)))
	}
	data, err := s.expand(nil, l.entry, raw)
	if err != nil {
		return nil, fmt.Errorf("block %s: %w", l.block, err)
	}
	return data, nil
}

// expand turns stored bytes into an artifact and checks it. The result may alias stored or dst.
func (s *Store) expand(dst []byte, e format.BlockEntry, stored []byte) ([]byte, error) {
	data, err := s.dec.Expand(dst, e.Codec, stored, e.Raw)
	if err != nil {
		return nil, err
	}
	return data, artifact.Verify(e.Ref, e.Tag, data)
}

func (v *View) getTagged(ctx context.Context, ref artifact.Ref, tag artifact.Tag) ([]byte, error) {
	data, got, err := v.Get(ctx, ref)
	if err == nil && got != tag {
		return nil, fmt.Errorf("artifact %s is %s, want %s: %w", ref, got, tag, artifact.ErrDamaged)
	}
	return data, err
}

// Stretch is a range of a map and where it begins.
type Stretch struct {
	Off int64
	format.Range
}

// fetchSpan bounds one read of neighbouring artifacts.
const fetchSpan = 1 << 20

// Fetch reads the data ranges among stretches, neighbours in one go, and calls use for each with its bytes, in order. Bytes are
// valid until use returns. A chunk that cannot be had is given as an error to bad, which decides whether to go on.
func (v *View) Fetch(ctx context.Context, stretches []Stretch, use func(Stretch, []byte) error, bad func(Stretch, error) error) error {
	f := fetcher{v: v, use: use, bad: bad}
	for _, st := range stretches {
		if st.Kind != source.Data {
			continue
		}
		ref, err := st.Artifact()
		if err == nil {
			var all []location
			if all, err = v.copies(ctx, ref); err == nil {
				err = f.add(ctx, st, all[0])
				if err != nil {
					return err
				}
				continue
			}
		}
		if err := f.flush(ctx); err != nil {
			return err
		}
		if err := bad(st, err); err != nil {
			return err
		}
	}
	return f.flush(ctx)
}

type fetcher struct {
	v    *View
	use  func(Stretch, []byte) error
	bad  func(Stretch, error) error
	todo []Stretch
	at   []location
	raw  []byte
	span []byte
}

func (f *fetcher) add(ctx context.Context, st Stretch, l location) error {
	if n := len(f.at); n > 0 {
		last := f.at[n-1]
		if last.block != l.block || last.entry.Off+last.entry.Stored != l.entry.Off || l.entry.Off+l.entry.Stored-f.at[0].entry.Off > fetchSpan {
			if err := f.flush(ctx); err != nil {
				return err
			}
		}
	}
	f.todo, f.at = append(f.todo, st), append(f.at, l)
	return nil
}

func (f *fetcher) flush(ctx context.Context) error {
	defer func() { f.todo, f.at = f.todo[:0], f.at[:0] }()
	if len(f.at) == 0 {
		return ctx.Err()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	first, last := f.at[0].entry, f.at[len(f.at)-1].entry
	span, err := f.read(ctx, int64(first.Off), int64(last.Off+last.Stored-first.Off))
	for i, st := range f.todo {
		e := f.at[i].entry
		var data []byte
		each := err
		if each == nil {
			data, each = f.v.s.expand(f.raw, e, span[e.Off-first.Off:][:e.Stored])
		}
		if each == nil && e.Codec != format.Plain {
			f.raw = data // its memory serves the next one
		}
		if each != nil { // another copy, or an answer with the reasons
			data, _, each = f.v.Get(ctx, e.Ref)
		}
		if each == nil && int64(len(data)) != st.Len {
			each = fmt.Errorf("chunk %s has %d bytes, the map wants %d: %w", e.Ref, len(data), st.Len, artifact.ErrDamaged)
		}
		if each != nil {
			each = f.bad(st, each)
		} else {
			each = f.use(st, data)
		}
		if each != nil {
			return each
		}
	}
	return nil
}

// read reads from the block at hand into memory that the next read uses again.
func (f *fetcher) read(ctx context.Context, off, n int64) ([]byte, error) {
	r, err := f.v.s.b.Open(ctx, "blocks/"+f.at[0].block.String(), off, n)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // what was read is checked by its hash
	if int64(cap(f.span)) < n {
		f.span = make([]byte, max(n, fetchSpan))
	}
	_, err = io.ReadFull(r, f.span[:n])
	return f.span[:n], err
}

// Evidence reads what the machine that read a source could tell of it.
func (v *View) Evidence(ctx context.Context, ref artifact.Ref) (*format.Evidence, error) {
	data, err := v.getTagged(ctx, ref, artifact.Evidence)
	if err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	return format.DecodeEvidence(data)
}

// MapPages walks a map page by page: at most 64 MiB of offset each. Beside an error stands the one stretch, of no kind, that it hides;
// the walk goes on behind it if it is let.
func (v *View) MapPages(ctx context.Context, root artifact.Ref) iter.Seq2[[]Stretch, error] {
	return func(yield func([]Stretch, error) bool) {
		r, err := v.mapRoot(ctx, root)
		if err != nil {
			yield(nil, err)
			return
		}
		for i, node := range r.Nodes {
			pages := min(format.MapNodePages, int(format.Pages(r.Size)-int64(i)*format.MapNodePages))
			refs := make([]*artifact.Ref, pages)
			if node != nil {
				var err error
				if refs, err = v.mapNode(ctx, *node, pages); err != nil {
					off := int64(i) * format.MapNodePages * format.MapPageSpan
					lost := place(off, []format.Range{{Len: min(int64(pages)*format.MapPageSpan, r.Size-off)}})
					if !yield(lost, fmt.Errorf("map node %d: %w", i, err)) {
						return
					}
					continue
				}
			}
			for j, ref := range refs {
				off := (int64(i)*format.MapNodePages + int64(j)) * format.MapPageSpan
				span := min(format.MapPageSpan, r.Size-off)
				page, err := v.mapPage(ctx, ref, off, span)
				if err != nil {
					page = place(off, []format.Range{{Len: span}})
				}
				if !yield(page, err) {
					return
				}
			}
		}
	}
}

func (v *View) mapRoot(ctx context.Context, root artifact.Ref) (format.MapRoot, error) {
	data, err := v.getTagged(ctx, root, artifact.MapRoot)
	if err != nil {
		return format.MapRoot{}, fmt.Errorf("map: %w", err)
	}
	return format.DecodeMapRoot(data)
}

func (v *View) mapPage(ctx context.Context, ref *artifact.Ref, off, span int64) ([]Stretch, error) {
	if ref == nil {
		return []Stretch{{off, format.Range{Kind: source.Zero, Len: span}}}, nil
	}
	data, err := v.getTagged(ctx, *ref, artifact.MapPage)
	if err != nil {
		return nil, fmt.Errorf("map page at %d: %w", off, err)
	}
	ranges, err := format.DecodeMapPage(data, span)
	if err != nil {
		return nil, fmt.Errorf("map page at %d: %w", off, err)
	}
	return place(off, ranges), nil
}

// Faults gives why ranges of a linear source are missing, in order of offset. An error stands for a page of them.
func (v *View) Faults(ctx context.Context, src *format.SourceResult) iter.Seq2[format.Fault, error] {
	return func(yield func(format.Fault, error) bool) {
		for _, ref := range src.Faults {
			rows, err := v.faultPage(ctx, ref)
			if err != nil && !yield(format.Fault{}, err) {
				return
			}
			for _, f := range rows {
				if !yield(f, nil) {
					return
				}
			}
		}
	}
}

func (v *View) faultPage(ctx context.Context, ref artifact.Ref) ([]format.Fault, error) {
	data, err := v.getTagged(ctx, ref, artifact.FaultPage)
	if err != nil {
		return nil, fmt.Errorf("fault page: %w", err)
	}
	return format.DecodeFaultPage(data)
}

func place(off int64, ranges []format.Range) []Stretch {
	out := make([]Stretch, len(ranges))
	for i, r := range ranges {
		out[i] = Stretch{off, r}
		off += r.Len
	}
	return out
}

// FilePages walks the content of a regular file's entry as MapPages walks a map. Inline content is not walked.
func (v *View) FilePages(ctx context.Context, e *format.Entry) iter.Seq2[[]Stretch, error] {
	if e.Map != nil {
		return v.MapPages(ctx, *e.Map)
	}
	return func(yield func([]Stretch, error) bool) {
		if len(e.Ranges) > 0 {
			yield(place(0, e.Ranges), nil)
		}
	}
}

// Dir gives the entries of a directory, sorted by name. An error stands for a page of them; the next ones follow if it is let.
func (v *View) Dir(ctx context.Context, dir *format.Entry) iter.Seq2[*format.Entry, error] {
	return func(yield func(*format.Entry, error) bool) {
		if dir.Dir == nil {
			return
		}
		pages := []artifact.Ref{*dir.Dir}
		if dir.Paged {
			rows, err := v.dirRoot(ctx, *dir.Dir)
			if err != nil {
				yield(nil, err)
				return
			}
			pages = pages[:0]
			for _, r := range rows {
				pages = append(pages, r.Ref)
			}
		}
		for _, ref := range pages {
			entries, err := v.dirPage(ctx, ref)
			if err != nil && !yield(nil, err) {
				return
			}
			for i := range entries {
				if !yield(&entries[i], nil) {
					return
				}
			}
		}
	}
}

func (v *View) dirRoot(ctx context.Context, ref artifact.Ref) ([]format.DirPageRef, error) {
	data, err := v.getTagged(ctx, ref, artifact.DirRoot)
	if err != nil {
		return nil, err
	}
	return format.DecodeDirRoot(data)
}

func (v *View) dirPage(ctx context.Context, ref artifact.Ref) ([]format.Entry, error) {
	data, err := v.getTagged(ctx, ref, artifact.DirPage)
	if err != nil {
		return nil, err
	}
	return format.DecodeDirPage(data)
}

// Child finds one entry of a directory. Of many pages it reads one.
func (v *View) Child(ctx context.Context, dir *format.Entry, name []byte) (*format.Entry, error) {
	if dir.Dir == nil {
		return nil, fmt.Errorf("%q: %w", name, artifact.ErrNotFound)
	}
	ref := *dir.Dir
	if dir.Paged {
		rows, err := v.dirRoot(ctx, ref)
		if err != nil {
			return nil, err
		}
		i, exact := slices.BinarySearchFunc(rows, name, func(r format.DirPageRef, n []byte) int { return bytes.Compare(r.First, n) })
		if !exact {
			i = max(0, i-1)
		}
		ref = rows[i].Ref
	}
	entries, err := v.dirPage(ctx, ref)
	if err != nil {
		return nil, err
	}
	i, ok := slices.BinarySearchFunc(entries, name, func(e format.Entry, n []byte) int { return bytes.Compare(e.Name, n) })
	if !ok {
		return nil, fmt.Errorf("%q: %w", name, artifact.ErrNotFound)
	}
	return &entries[i], nil
}
