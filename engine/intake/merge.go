package intake

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"aslrescue/engine/artifact"
	"aslrescue/engine/event"
	"aslrescue/engine/source"
	"aslrescue/engine/source/mapfile"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
)

// MergeKind is the kind of the sources of a merge's INTAKE_BEGIN, so that no intake takes an interrupted one for its own.
const MergeKind = "merge"

// Part is one of the snapshots that are merged: a linear source of it.
type Part struct {
	View   *store.View
	Source *format.SourceResult
}

// String names the part for people.
func (p Part) String() string { return fmt.Sprintf("%d:%s", p.View.Snapshot.Number, p.Source.Name) }

// MergeOptions say how. The zero value refuses what cannot be told apart.
type MergeOptions struct {
	ID        format.ID // of its intake in the log; zero: NewID()
	Label     string
	Different bool // the parts may be of disks that do not call themselves the same
	Prefer    int  // number of the part whose bytes are taken where parts differ; 0 refuses
	Unstable  bool // where parts differ, none is taken: the place is unstable, and what each read is kept
	Clock     func() time.Time
	Progress  func(done, total int64)
}

// Conflict is a run in which two parts hold different bytes.
type Conflict struct {
	Off, Len int64
	A, B     Part
}

// ErrConflict means that parts of a merge hold different bytes for the same place.
var ErrConflict = errors.New("the snapshots hold different bytes for the same place")

// ErrOther means that the parts of a merge are not of one disk.
var ErrOther = errors.New("the snapshots are not of the same disk")

// Merged is what came of a merge.
type Merged struct {
	Snapshot  format.SnapshotAt
	Manifest  *format.Manifest
	Conflicts []Conflict // the first conflictsKept
	Places    int        // of conflicts, all of them
	Differing int64      // bytes that differ
	Cut       int64      // bytes of chunks stored anew, because only a part of a chunk was wanted
	Stored    int64
	Gained    []int64 // bytes of the merged source that came from each part
}

const conflictsKept = 1000

// Merge lays linear sources of several snapshots, each of which may hold what the others could not read, over each other, and seals what
// comes of it as a snapshot of its own. No data is copied: only maps are written, and those chunks of which a part was wanted. Everything that two of
// them hold is the same bytes, or the merge is refused; with Prefer it is not, and the manifest says where.
func Merge(ctx context.Context, s *store.Store, parts []Part, o MergeOptions) (*Merged, error) {
	if err := mergeable(parts, o); err != nil {
		return nil, err
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	m := &merger{ctx: ctx, parts: parts, o: o, out: &Merged{Gained: make([]int64, len(parts))}}
	for _, p := range parts {
		r, err := p.View.Reader(ctx, *p.Source.Root)
		if err != nil {
			return nil, fmt.Errorf("snapshot %s: %w", p, err)
		}
		m.readers = append(m.readers, r)
	}
	// What differs is found before anything is written.
	if err := m.compareAll(); err != nil {
		return m.out, err
	}
	if m.out.Places > 0 && o.Prefer == 0 && !o.Unstable {
		return m.out, ErrConflict
	}
	if len(m.differ) > mostFaults {
		return m.out, fmt.Errorf("%d places differ, too many for a disk that is only unstable: %w", m.out.Places, ErrConflict)
	}
	m.differ = mapfile.Join(m.differ)
	return m.out, m.write(s)
}

func mergeable(parts []Part, o MergeOptions) error {
	if len(parts) < 2 {
		return errors.New("merging wants two snapshots or more")
	}
	first := parts[0]
	for _, p := range parts {
		switch {
		case p.Source.Root == nil:
			return fmt.Errorf("snapshot %s is a tree: only disks, images and streams can be merged", p)
		case p.Source.Length != first.Source.Length:
			return fmt.Errorf("snapshot %s has %d bytes, %s has %d: %w", first, first.Source.Length, p, p.Source.Length, ErrOther)
		case !o.Different && p.Source.ID != first.Source.ID:
			return fmt.Errorf("snapshot %s is of %q, %s of %q: %w", first, first.Source.ID, p, p.Source.ID, ErrOther)
		}
	}
	if o.Prefer > 0 && o.Unstable {
		return errors.New("either one part's bytes are taken where parts differ, or nobody's")
	}
	if o.Prefer < 0 || o.Prefer > len(parts) {
		return fmt.Errorf("there is no part %d to prefer", o.Prefer)
	}
	return nil
}

type merger struct {
	ctx     context.Context
	parts   []Part
	readers []*store.Reader
	o       MergeOptions
	out     *Merged
	res     format.SourceResult
	faults  [][]format.Fault // of every part
	rows    []format.Fault   // of the merged source
	buf     [2][]byte
	done    int64
	differ  []mapfile.Span // places that are unstable
}

func (m *merger) first() int { return max(0, m.o.Prefer-1) }

// each gives the pages of all parts side by side.
func (m *merger) each(use func(pages [][]store.Stretch) error) error {
	var next []func() ([]store.Stretch, error, bool)
	for _, p := range m.parts {
		n, stop := iter.Pull2(p.View.MapPages(m.ctx, *p.Source.Root))
		defer stop()
		next = append(next, n)
	}
	for {
		pages := make([][]store.Stretch, len(next))
		for i, n := range next {
			page, err, ok := n()
			if err != nil {
				return fmt.Errorf("snapshot %s: %w", m.parts[i], err)
			}
			if !ok {
				return m.ctx.Err()
			}
			pages[i] = page
		}
		if err := use(pages); err != nil {
			return err
		}
	}
}

func (m *merger) compareAll() error {
	return m.each(func(pages [][]store.Stretch) error {
		_, doubts := mergePages(pages, m.o.Prefer-1)
		for _, d := range doubts {
			if err := m.compare(d); err != nil {
				return err
			}
		}
		for _, st := range pages[0] {
			m.done += st.Len
		}
		if m.o.Progress != nil {
			m.o.Progress(m.done, m.parts[0].Source.Length)
		}
		return nil
	})
}

// compareStep bounds what is compared at a time.
const compareStep = 1 << 20

// sectorSize is the finest that a conflict is told.
const sectorSize = 512

func (m *merger) compare(d doubt) error {
	for i := range m.buf {
		if m.buf[i] == nil {
			m.buf[i] = make([]byte, compareStep)
		}
	}
	for n := int64(0); n < d.Len; n += compareStep {
		a, b := m.buf[0][:min(compareStep, d.Len-n)], m.buf[1][:min(compareStep, d.Len-n)]
		for _, x := range []struct {
			i   int
			buf []byte
		}{{d.A, a}, {d.B, b}} {
			if _, err := m.readers[x.i].ReadAt(x.buf, d.Off+n); err != nil {
				return fmt.Errorf("snapshot %s at %d: %w", m.parts[x.i], d.Off+n, err)
			}
		}
		if bytes.Equal(a, b) {
			continue
		}
		for i := 0; i < len(a); i += sectorSize {
			if j := min(i+sectorSize, len(a)); !bytes.Equal(a[i:j], b[i:j]) {
				m.differs(Conflict{Off: d.Off + n + int64(i), Len: int64(j - i), A: m.parts[d.A], B: m.parts[d.B]})
			}
		}
	}
	return nil
}

func (m *merger) differs(c Conflict) {
	m.out.Differing += c.Len
	if m.o.Unstable && len(m.differ) <= mostFaults {
		if k := len(m.differ) - 1; k >= 0 && m.differ[k].End == c.Off {
			m.differ[k].End += c.Len
		} else {
			m.differ = append(m.differ, mapfile.Span{Off: c.Off, End: c.Off + c.Len})
		}
	}
	if k := len(m.out.Conflicts); k > 0 {
		if l := &m.out.Conflicts[k-1]; l.A == c.A && l.B == c.B && l.Off+l.Len == c.Off {
			l.Len += c.Len
			return
		}
	}
	m.out.Places++
	if len(m.out.Conflicts) < conflictsKept {
		m.out.Conflicts = append(m.out.Conflicts, c)
	}
}

// write stores the merged map and seals the snapshot.
func (m *merger) write(s *store.Store) error {
	first := m.parts[m.first()]
	now := m.o.Clock().Unix()
	id := first.Source.SourceID
	id.Kind = MergeKind
	codec, err := Codec(None)
	if err != nil {
		return err
	}
	if m.o.ID == (format.ID{}) {
		m.o.ID = NewID()
	}
	begin := format.IntakeBegin{Intake: m.o.ID, Label: m.o.Label, Sources: []format.SourceID{id}, Chunk: first.View.Manifest.Chunk, Codec: codec, Clock: now}
	w, err := s.Begin(m.ctx, begin)
	if err != nil {
		return err
	}
	fail := func(err error) error { // nobody could go on with it
		return errors.Join(err, w.End(context.WithoutCancel(m.ctx), "the merge failed: "+err.Error()))
	}
	if err := m.fill(w); err != nil {
		return fail(err)
	}
	man := &format.Manifest{Label: m.o.Label, Chunk: begin.Chunk, Codec: codec, Sources: []format.SourceResult{m.res}, Totals: m.res.Counts, Began: now, Ended: m.o.Clock().Unix()}
	man.Totals.Stored = m.out.Stored
	for _, p := range m.parts {
		man.Merged = append(man.Merged, p.View.Snapshot.Number)
	}
	man.Result = string(event.Complete)
	if !m.res.Whole() {
		man.Result = string(event.CompleteWithGaps)
	}
	m.out.Manifest = man
	if m.out.Snapshot, err = w.Snapshot(m.ctx, man); err != nil && m.out.Snapshot.Number == 0 {
		return fail(err)
	}
	return err
}

// EndMerges ends merges that were killed: what they read lies in the store, so that nothing is lost with them but their maps, and the same command makes
// them again. dead tells of one that no process of this machine is at it; one of another machine finds itself ended, and says so.
func EndMerges(ctx context.Context, s *store.Store, dead func(format.ID) bool, clock int64) (ended int, err error) {
	for _, in := range s.Unfinished() {
		if !IsMerge(in.Begin) || !dead(in.Begin.Intake) {
			continue
		}
		w, _, err := s.Resume(ctx, in.Begin.Intake, clock)
		if errors.Is(err, artifact.ErrNotFound) { // it came to its end meanwhile
			continue
		}
		if err == nil {
			err = w.End(ctx, "the merge was interrupted")
		}
		if err != nil {
			return ended, fmt.Errorf("ending the interrupted merge %x: %w", in.Begin.Intake, err)
		}
		ended++
	}
	return ended, nil
}

// IsMerge tells a merge from an intake.
func IsMerge(b format.IntakeBegin) bool {
	return len(b.Sources) == 1 && b.Sources[0].Kind == MergeKind
}

func (m *merger) fill(w *store.Writer) error {
	p := w.Packer(format.ResumePoint{})
	put := func(tag artifact.Tag, v any) (artifact.Ref, error) { return p.Put(m.ctx, tag, v) }
	first := m.parts[m.first()].Source
	if err := m.readFaults(); err != nil {
		return err
	}
	m.res = format.SourceResult{SourceID: first.SourceID, Length: first.Length}
	b := &mapBuilder{}
	m.done = 0
	err := m.each(func(pages [][]store.Stretch) error {
		pieces, _ := mergePages(pages, m.o.Prefer-1)
		for _, pc := range apart(pieces, m.differ) {
			rg, err := m.piece(p, pc)
			if err != nil {
				return err
			}
			m.count(pc, rg)
			if err := b.add(rg, put); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	root, err := b.finish(put)
	if err != nil {
		return err
	}
	m.res.Root = &root
	if err := m.writeFaults(put); err != nil {
		return err
	}
	for _, part := range m.parts {
		for _, what := range part.Source.Changed {
			if m.res.Changed = append(m.res.Changed, what); len(m.res.Changed) > errorsKept {
				m.res.Changed = m.res.Changed[:errorsKept]
			}
		}
	}
	for _, c := range m.out.Conflicts {
		if m.o.Unstable { // the gaps say it
			break
		}
		m.res.Changed = append(m.res.Changed, fmt.Sprintf("%d bytes at %d differ between snapshots %s and %s; those of %s were taken", c.Len, c.Off, c.A, c.B, m.parts[m.first()]))
	}
	if !m.o.Unstable {
		m.res.Counts.Failed = int64(m.out.Places)
	}
	_, err = p.Finish(m.ctx)
	m.out.Stored = p.Stored
	return err
}

// piece is a piece as a range of the new map. A part of a chunk becomes a chunk of its own: a map names chunks whole.
func (m *merger) piece(p *store.Packer, pc mergedPiece) (format.Range, error) {
	if pc.unstable {
		return format.Range{Kind: source.Unstable, Len: pc.Len}, m.readings(p, pc)
	}
	rg := pc.Of.Range
	rg.Len = pc.Len
	if rg.Kind != source.Data || pc.whole() {
		return rg, nil
	}
	data := make([]byte, pc.Len)
	if _, err := m.readers[pc.From].ReadAt(data, pc.Off); err != nil {
		return rg, fmt.Errorf("snapshot %s at %d: %w", m.parts[pc.From], pc.Off, err)
	}
	m.out.Cut += pc.Len
	ref, err := p.PutBytes(m.ctx, artifact.NoTag, data)
	return format.DataRange(ref, pc.Len), err
}

func (m *merger) count(pc mergedPiece, rg format.Range) {
	c := &m.res.Counts
	switch rg.Kind {
	case source.Data:
		c.Data += rg.Len
		c.Known += rg.Len
	case source.Zero:
		c.Zero += rg.Len
	default:
		if rg.Kind == source.Untried {
			c.Untried += rg.Len
			if m.leftOut(pc) {
				return
			}
		} else {
			c.Unreadable += rg.Len
		}
		m.gap(pc, rg)
		if !pc.unstable { // of that the readings are told
			m.fault(pc, rg.Kind)
		}
		return
	}
	m.out.Gained[pc.From] += rg.Len
}

func (m *merger) gap(pc mergedPiece, rg format.Range) {
	row := format.GapRow{Off: pc.Off, Len: pc.Len, Kind: rg.Kind.String(), Why: m.why(pc)}
	if k := len(m.res.Gaps); k > 0 {
		if l := &m.res.Gaps[k-1]; l.Off+l.Len == row.Off && l.Kind == row.Kind && l.Why == row.Why {
			l.Len += row.Len
			return
		}
	}
	m.res.GapsAll++
	if len(m.res.Gaps) < format.GapsKept {
		m.res.Gaps = append(m.res.Gaps, row)
	}
}

// readings keeps what each part holds of an unstable place.
func (m *merger) readings(p *store.Packer, pc mergedPiece) error {
	row := format.Fault{Off: pc.Off, Len: pc.Len, Kind: source.Unstable}
	for i := range m.parts {
		data := make([]byte, pc.Len)
		var gap *store.GapError
		if _, err := m.readers[i].ReadAt(data, pc.Off); errors.As(err, &gap) {
			continue
		} else if err != nil {
			return fmt.Errorf("snapshot %s at %d: %w", m.parts[i], pc.Off, err)
		}
		ref, err := p.PutBytes(m.ctx, artifact.NoTag, data)
		if err != nil {
			return err
		}
		m.out.Cut += pc.Len
		b := format.DataRange(ref, pc.Len).Ref
		if !slices.ContainsFunc(row.Readings, func(r []byte) bool { return bytes.Equal(r, b) }) {
			row.Readings = append(row.Readings, b)
		}
	}
	m.rows = append(m.rows, row)
	return nil
}

// why is what the part's manifest says of a gap.
func (m *merger) why(pc mergedPiece) string {
	if pc.unstable {
		return "the snapshots that were merged hold different bytes; what each holds is kept"
	}
	gaps := m.parts[pc.From].Source.Gaps
	i := slices.IndexFunc(gaps, func(g format.GapRow) bool { return g.Off <= pc.Off && pc.Off < g.Off+g.Len })
	if i < 0 {
		return ""
	}
	return gaps[i].Why
}
