package intake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"aslrescue/engine/artifact"
	"aslrescue/engine/digest"
	"aslrescue/engine/event"
	"aslrescue/engine/source"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
)

const (
	segmentSpan = 256 << 20 // stream offset between ends of blocks and segments; a format constant
	segmentAdds = 131_072   // new artifacts after which they end too; a format constant
	errorsKept  = 1000      // in a manifest; all are events
)

// sequencer decides in stream order what is new, and describes what was read. It is one goroutine.
type sequencer struct {
	ctx    context.Context
	w      *store.Writer
	emit   func(event.Event)
	now    func() event.Stamp
	states []format.SourceState
	stream int64
	cur    *sourceBuilder
	open   []source.Source
	ids    []format.SourceID
	u      *unit // being worked on
	size   func(i int) int64
	gone   []error
	adds   int // new artifacts since the last segment ended
	super  int64
	lanes  []*lane
	built  map[int]*sourceBuilder // of sources that are not done
	sums   bool                   // make the BLAKE3 of linear sources
}

// sourceBuilder is what is known of the source being read.
type sourceBuilder struct {
	i       int
	from    format.SourceState // where an earlier run left it
	res     format.SourceResult
	lin     *mapBuilder
	lba     *rawState    // of a linear source that is read by passes, in place of lin
	sum     *digest.Tree // of a linear source, as long as it is read from its beginning on without a jump
	tree    *treeBuilder
	file    *mapBuilder      // a long file of a tree
	fileRow *format.SeenFile // its path and stamp
	fileE   format.Entry
	leftEnd int64               // where the last range that was left out by choice ended
	bad     int64               // unreadable or untried bytes of that file
	before  format.SourceResult // what was told before it
}

func (q *sequencer) begin(i int) {
	st := q.states[i]
	b := &sourceBuilder{i: i, from: st, res: format.SourceResult{SourceID: q.ids[i], Counts: st.Counts}}
	if st.Partial != nil {
		b.res.Gaps, b.res.GapsAll, b.res.Errors, b.res.Changed, b.res.Length = st.Partial.Gaps, st.Partial.GapsAll, st.Partial.Errors, st.Partial.Changed, st.Partial.Length
		b.res.Left = st.Partial.Left
	}
	if source.Kind(q.ids[i].Kind) == source.Tree {
		b.tree = &treeBuilder{logs: st.Logs, tail: st.Tail}
		b.res.Counts = format.Counts{New: st.Counts.New, Known: st.Counts.Known} // the walk counts the rest again
		b.res.Gaps, b.res.GapsAll, b.res.Errors, b.res.Changed, b.res.Length = nil, 0, nil, nil, 0
	} else {
		b.sum = q.sumOf(st)
		if l := q.lanes[i]; l != nil {
			b.lba = l.begin(st)
			b.res.Left = l.left(st)
		} else {
			b.lin = &mapBuilder{}
			if st.Map != nil {
				b.lin = resumeMap(*st.Map)
			}
		}
	}
	q.cur, q.built[i] = b, b
}

// unit does the sequencer's part of one unit.
func (q *sequencer) unit(u *unit) error {
	q.u = u
	if q.cur == nil || q.cur.i != u.src {
		if q.cur = q.built[u.src]; q.cur == nil {
			q.begin(u.src)
		}
	}
	var err error
	switch {
	case u.raw != nil:
		if err = q.raw(u); err == nil && u.raw.whole && len(u.content.gaps) == 0 {
			q.cur.addSum(u, q.super)
		}
	case q.cur.tree != nil:
		err = q.steps(u)
	default:
		err = q.linear(u)
	}
	if err != nil {
		return err
	}
	if u.last {
		if err := q.finish(u); err != nil {
			return err
		}
	}
	tell := true
	if u.raw != nil && !u.last {
		if tell, err = q.rawPoint(u); err != nil {
			return err
		}
	}
	was := q.stream
	if u.raw != nil {
		q.stream += u.raw.fresh
	} else {
		q.stream += int64(len(u.content.data)) + u.bytes
	}
	u.stream = q.stream
	q.adds += len(u.adds)
	if u.endSeg = q.stream/segmentSpan > was/segmentSpan || q.adds >= segmentAdds; u.endSeg {
		q.adds = 0
		q.w.NextSegment()
	}
	if tell {
		u.state = q.snapshotState()
	}
	q.progress(u)
	return nil
}

// put stores an artifact of our own making.
func (q *sequencer) put(tag artifact.Tag, v any) (artifact.Ref, error) {
	data, err := format.Marshal(v)
	if err != nil {
		return artifact.Ref{}, err
	}
	if len(data) > artifact.MaxSize {
		return artifact.Ref{}, fmt.Errorf("a %s of %d bytes is larger than an artifact may be", tag, len(data))
	}
	ref := artifact.SumTagged(tag, data)
	_, err = q.store(ref, tag, data)
	return ref, err
}

func (q *sequencer) store(ref artifact.Ref, tag artifact.Tag, data []byte) (known bool, err error) {
	known, err = q.w.Known(q.ctx, ref.Digest)
	if err != nil || known {
		return known, err
	}
	q.w.Added(ref.Digest)
	q.u.adds = append(q.u.adds, add{ref: ref, tag: tag, data: data})
	q.u.newRaw += int64(len(data))
	return false, nil
}

// pieces describes a run in a map and stores its new chunks.
func (q *sequencer) pieces(r *run, m func(format.Range) error, path string, base int64) (missing int64, err error) {
	c := &q.cur.res.Counts
	for _, p := range r.pieces {
		rg := format.Range{Kind: p.kind, Len: int64(p.len)}
		switch p.kind {
		case source.Data:
			known, err := q.store(p.ref, artifact.NoTag, r.data[p.off:][:p.len])
			if err != nil {
				return missing, err
			}
			c.Data += rg.Len
			if known {
				c.Known += rg.Len
			} else {
				c.New += rg.Len
			}
			rg = format.DataRange(p.ref, rg.Len)
		case source.Zero:
			c.Zero += rg.Len
		default:
			missing += rg.Len
			q.gap(path, base+int64(p.off), rg.Len, p.kind, p.why)
		}
		if err := m(rg); err != nil {
			return missing, err
		}
	}
	return missing, nil
}

func (q *sequencer) gap(path string, off, n int64, kind source.RangeKind, why string) {
	if c := &q.cur.res.Counts; kind == source.Untried {
		c.Untried += n
		if q.leftOut(off, n, why) {
			return
		}
	} else {
		c.Unreadable += n
	}
	q.tellGap(path, off, n, kind, why)
}

// tellGap lists and tells a gap that is counted already.
func (q *sequencer) tellGap(path string, off, n int64, kind source.RangeKind, why string) {
	res := &q.cur.res
	eventKind := event.Unreadable
	if kind == source.Untried {
		eventKind = event.Untried
	}
	res.GapsAll++
	if len(res.Gaps) < format.GapsKept {
		row := format.GapRow{Off: off, Len: n, Kind: kind.String(), Why: why}
		if path != "" {
			row.Path = []byte(path)
		}
		res.Gaps = append(slices.Clip(res.Gaps), row)
	}
	q.emit(event.Gap{Stamp: q.now(), Source: res.Name, Kind: eventKind, Path: path, Off: off, Len: n, Why: why})
}

// note records what could not be read of an entry, or how it changed.
func (q *sequencer) note(path, what string, changed bool) {
	res := &q.cur.res
	kind, list := event.Unreadable, &res.Errors
	if changed {
		kind, list = event.Changed, &res.Changed
	}
	res.Counts.Failed++
	if len(*list) < errorsKept {
		*list = append(slices.Clip(*list), path+": "+what)
	}
	q.emit(event.Gap{Stamp: q.now(), Source: res.Name, Kind: kind, Path: path, Why: what})
}

func (q *sequencer) linear(u *unit) error {
	b := q.cur
	_, err := q.pieces(&u.content, func(r format.Range) error { return b.lin.add(r, q.put) }, "", u.off)
	b.addSum(u, q.super)
	return err
}

func (q *sequencer) steps(u *unit) error {
	for i := range u.steps {
		if err := q.step(&u.steps[i]); err != nil {
			return err
		}
		t := q.cur.tree
		for _, what := range t.odd {
			q.note(u.steps[i].item.Path, what, false)
		}
		t.odd = nil
	}
	return nil
}

func (q *sequencer) step(s *step) error {
	t := q.cur.tree
	if s.item.Leave {
		return t.leave(q.put)
	}
	if s.whole || s.first {
		q.cur.res.Counts.Files++
		if s.item.Err != "" {
			q.note(s.item.Path, s.item.Err, false)
		}
	}
	e := entryOf(s.item.Path, &s.item.Meta)
	e.Err = s.item.Err
	switch {
	case s.item.Meta.Type == source.Dir:
		t.enter(e)
		return nil
	case s.item.Meta.Type != source.Regular:
		e.Link = []byte(s.link)
		return t.add(e, q.put)
	}
	return q.regular(s, e)
}

func (q *sequencer) regular(s *step, e format.Entry) error {
	t, path := q.cur.tree, s.item.Path
	switch {
	case s.link != "":
		e.Link = []byte(s.link)
		return t.add(e, q.put)
	case s.row != nil:
		e.Size, e.Ranges, e.Map, e.Unreadable = s.row.Content.Size, s.row.Content.Ranges, s.row.Content.Map, s.row.Content.Unreadable
		q.cur.res.Length += e.Size
		return q.countRow(&e, path)
	case s.fail != "":
		e.Err = s.fail
		q.note(path, s.fail, false)
		return t.add(e, q.put)
	case e.Err != "":
		return t.add(e, q.put)
	case s.whole:
		return q.wholeFile(s, e)
	}
	return q.part(s, e)
}

// countRow takes in a file that an earlier run of this intake stored.
func (q *sequencer) countRow(e *format.Entry, path string) error {
	c := &q.cur.res.Counts
	data := e.Size - e.Unreadable
	for _, r := range e.Ranges {
		if r.Kind == source.Zero {
			c.Zero += r.Len
			data -= r.Len
		}
	}
	c.Data += data
	if e.Unreadable > 0 {
		q.gap(path, 0, e.Unreadable, source.Unreadable, "read by an earlier run of this intake; its map says where")
	}
	return q.cur.tree.add(*e, q.put)
}

func (q *sequencer) wholeFile(s *step, e format.Entry) error {
	path := s.item.Path
	e.Size = int64(len(s.run.data))
	e.Changed = s.moved
	if s.moved != "" {
		q.note(path, s.moved, true)
	}
	q.cur.res.Length += e.Size
	if e.Size <= format.InlineMax && len(s.run.gaps) == 0 {
		if e.Size > 0 {
			e.Inline = s.run.data
		}
		q.cur.res.Counts.Data += e.Size
		return q.cur.tree.add(e, q.put)
	}
	var ranges []format.Range
	missing, err := q.pieces(&s.run, func(r format.Range) error { ranges = format.AppendRange(ranges, r); return nil }, path, 0)
	if err != nil {
		return err
	}
	e.Unreadable = missing
	if len(ranges) <= format.RangesInEntry {
		e.Ranges = ranges
	} else {
		m := mapBuilder{}
		for _, r := range ranges {
			if err := m.add(r, q.put); err != nil {
				return err
			}
		}
		root, err := m.finish(q.put)
		if err != nil {
			return err
		}
		e.Map = &root
	}
	return q.fileDone(s, e)
}

func (q *sequencer) fileDone(s *step, e format.Entry) error {
	t := q.cur.tree
	if e.Changed == "" && e.Unreadable == 0 { // what was not read well is read again
		if err := t.seen(rowOf(s.item.Path, s.item.Stamp, e), q.put); err != nil {
			return err
		}
	}
	return t.add(e, q.put)
}

// part takes in a super-block of a long file.
func (q *sequencer) part(s *step, e format.Entry) error {
	b := q.cur
	if s.first {
		row := rowOf(s.item.Path, s.item.Stamp, e)
		b.file, b.fileRow, b.fileE, b.bad, b.before = &mapBuilder{}, &row, e, 0, b.res
		if st := b.from; s.off > 0 && st.FileMap != nil {
			b.file = resumeMap(*st.FileMap)
			b.bad = st.File.Content.Unreadable
			b.takeUp(st.Partial, s.off)
		}
	}
	if s.first && b.file.off != s.off {
		return fmt.Errorf("%q: a part at %d follows %d bytes: this program is at fault, nothing is sealed", s.item.Path, s.off, b.file.off)
	}
	if short := s.off - b.file.off; short > 0 && len(s.run.data) > 0 { // it shrank while it was read, and grew again
		q.gap(s.item.Path, b.file.off, short, source.Untried, "was not there while it was read")
		b.bad += short
		if err := b.file.add(format.Range{Kind: source.Untried, Len: short}, q.put); err != nil {
			return err
		}
	}
	missing, err := q.pieces(&s.run, func(r format.Range) error { return b.file.add(r, q.put) }, s.item.Path, s.off)
	if err != nil {
		return err
	}
	b.bad += missing
	if s.moved != "" {
		b.fileE.Changed = s.moved
	}
	if !s.last {
		b.fileRow.Content.Unreadable = b.bad
		return nil
	}
	if err := s.file.Close(); err != nil && !errors.Is(err, io.EOF) {
		b.fileE.Err = err.Error()
	}
	root, err := b.file.finish(q.put)
	if err != nil {
		return err
	}
	e = b.fileE
	e.Size, e.Map, e.Unreadable = b.file.off, &root, b.bad
	b.res.Length += e.Size
	if e.Changed != "" {
		q.note(s.item.Path, e.Changed, true)
	}
	b.file, b.fileRow = nil, nil
	return q.fileDone(s, e)
}

// takeUp counts and tells what an earlier run found in the part of a long file that it read.
func (b *sourceBuilder) takeUp(p *format.SourceResult, off int64) {
	if p == nil {
		p = &format.SourceResult{Counts: format.Counts{Data: off}}
	}
	b.res.Counts = b.res.Counts.Add(p.Counts)
	b.res.GapsAll += p.GapsAll
	b.res.Gaps = append(slices.Clip(b.res.Gaps), p.Gaps[:min(len(p.Gaps), format.GapsKept-len(b.res.Gaps))]...)
}

// fileSoFar is what the long file being read added to the counts and gaps. New and Known are the tree's own.
func (b *sourceBuilder) fileSoFar() *format.SourceResult {
	now, was := b.res.Counts, b.before.Counts
	return &format.SourceResult{
		Counts: format.Counts{Data: now.Data - was.Data, Zero: now.Zero - was.Zero, Unreadable: now.Unreadable - was.Unreadable, Untried: now.Untried - was.Untried},
		Gaps:   slices.Clip(b.res.Gaps[len(b.before.Gaps):]), GapsAll: b.res.GapsAll - b.before.GapsAll,
	}
}

// finish ends a source.
func (q *sequencer) finish(u *unit) error {
	b := q.cur
	if b.tree != nil {
		if b.tree.top == nil {
			return fmt.Errorf("source %s: the walk ended before its root did", b.res.Name)
		}
		b.res.Top = b.tree.top
		b.res.Top.Name = []byte(b.res.Name)
	} else if b.lba != nil {
		if err := q.finishRaw(u); err != nil {
			return err
		}
	} else if err := q.finishLinear(u); err != nil {
		return err
	}
	delete(q.built, b.i)
	res := b.res
	q.states = slices.Clone(q.states) // a state may share it
	q.states[b.i] = format.SourceState{Done: true, Counts: res.Counts, Finished: &res}
	if b.sum != nil {
		q.states[b.i].Hash = b.sum.Sum()
	}
	root := ""
	switch {
	case res.Root != nil:
		root = res.Root.String()
	case res.Top.Dir != nil:
		root = res.Top.Dir.String()
	}
	changed := ""
	if len(res.Changed) > 0 {
		changed = res.Changed[0]
	}
	q.emit(event.SourceDone{Stamp: q.now(), Source: res.Name, Root: root, Counts: counts(res.Counts), Changed: changed, LeftOut: res.Chosen()})
	return nil
}

func (q *sequencer) finishLinear(u *unit) error {
	b := q.cur
	src := q.open[b.i].(source.Linear)
	if err := u.content.err; err != nil && src.Info().Size < 0 { // how much is missing is not known, but that something is
		why := fmt.Sprintf("it broke off at byte %d: %v", b.lin.off, err)
		b.res.Errors = append(b.res.Errors, why)
		b.res.Counts.Failed++
		q.gone = append(q.gone, fmt.Errorf("%s: %w", b.res.Name, err))
		q.emit(event.Gap{Stamp: q.now(), Source: b.res.Name, Kind: event.Untried, Off: b.lin.off, Why: why})
	}
	if rest := src.Info().Size - b.lin.off; rest > 0 {
		b.sum = nil // what was not read counts as zeros: reading back makes it
		why := "the source ended early"
		if u.content.err != nil {
			why = u.content.err.Error()
			if errors.Is(u.content.err, source.ErrGone) {
				q.gone = append(q.gone, fmt.Errorf("%s: %w", b.res.Name, u.content.err))
			}
		}
		q.gap("", b.lin.off, rest, source.Untried, why)
		if err := b.lin.add(format.Range{Kind: source.Untried, Len: rest}, q.put); err != nil {
			return err
		}
	}
	if b.lin.off == 0 && source.Kind(b.res.Kind) == source.Stream {
		q.emit(event.Message{Stamp: q.now(), Level: event.Warning, Source: b.res.Name, Text: "the stream was empty: did the command before the pipe fail?"})
	}
	if changed := src.Changed(); changed != "" {
		b.res.Changed = append(b.res.Changed, changed)
		q.emit(event.Gap{Stamp: q.now(), Source: b.res.Name, Kind: event.Changed, Why: changed})
	}
	root, err := b.lin.finish(q.put)
	if err != nil {
		return err
	}
	b.res.Root, b.res.Length = &root, b.lin.off
	return nil
}

// snapshotState gives, as a value that later units do not change, how to go on after the present one.
func (q *sequencer) snapshotState() func() []format.SourceState {
	states := slices.Clone(q.states)
	b := q.cur
	if states[b.i].Done {
		return func() []format.SourceState { return states }
	}
	st := format.SourceState{Counts: b.res.Counts}
	part := b.res
	if b.tree == nil {
		if b.lba != nil {
			b.rawSourceState(&st)
		} else {
			m := b.lin.state()
			st.Map = &m
		}
		if b.sum != nil {
			st.Hash = b.sum.State()
		}
		st.Partial = &part
	} else {
		st.Logs, st.Tail = slices.Clip(b.tree.logs), slices.Clip(b.tree.tail)
		if b.file != nil {
			row, m := *b.fileRow, b.file.state()
			st.File, st.FileMap, st.Partial = &row, &m, b.fileSoFar()
		}
	}
	states[b.i] = st
	q.states = states
	return func() []format.SourceState { return states }
}

func (q *sequencer) progress(u *unit) {
	b := q.cur
	p := event.SourceProgress{Stamp: q.now(), Source: b.res.Name, Size: q.size(b.i), Counts: counts(b.res.Counts)}
	if b.lin != nil {
		p.Off = b.lin.off
	} else if u.raw != nil {
		p.Off = max(u.raw.pos, u.off+int64(len(u.content.data)))
	} else if n := len(u.steps); n > 0 {
		p.Path = u.steps[n-1].item.Path
	}
	q.emit(p)
}

func counts(c format.Counts) event.Counts {
	return event.Counts{Data: c.Data, Zero: c.Zero, Unreadable: c.Unreadable, Untried: c.Untried, New: c.New, Known: c.Known, Files: c.Files, FileErrors: c.Failed}
}
