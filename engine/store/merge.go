package store

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"aslrescue/engine/artifact"
	"aslrescue/engine/store/format"
)

const (
	mergeWidth = 8
	// mergePart is how many entries go into one segment of a merged run, if no digest would be divided: few enough to build in little memory.
	mergePart = 65_536
	// mergeRead is how many pages are read at once from each run that is merged.
	mergeRead = 32
)

// Merge replaces eight runs of one level by one of the next, so that "is this known" asks few filters. It does one such step and tells
// whether there was one to do. It may run beside everything else; the objects it replaces stay.
func (w *Writer) Merge(ctx context.Context) (bool, error) {
	s := w.s
	s.mu.Lock()
	from, of := s.st.mergeable()
	s.mu.Unlock()
	if from == nil {
		return false, nil
	}
	m := merger{s: s, ctx: ctx, level: from[0].Level + 1}
	to, err := m.merge(from)
	if err != nil {
		return false, fmt.Errorf("merging %d runs of level %d: %w", len(from), from[0].Level, err)
	}
	rec := format.SegmentMerge{To: to}
	for _, r := range from {
		rec.From = append(rec.From, r.Segments)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.appendLog(ctx, func(*state) ([]record, error) { return []record{{format.SegmentMergeType, rec}}, nil }); err != nil {
		return false, err
	}
	if err := s.refreshIndex(ctx); err != nil {
		return false, err
	}
	w.adopt(of)
	return true, nil
}

// adopt puts a merged run into the writer's view in place of what it replaces, if the view has all of that. s.mu is held.
func (w *Writer) adopt(of []int) {
	i := slices.IndexFunc(w.s.ix.runs, func(r indexRun) bool { return slices.Equal(r.of, of) })
	w.mu.Lock()
	defer w.mu.Unlock()
	if i < 0 || slices.ContainsFunc(of, func(x int) bool { return !w.may[x] }) {
		return
	}
	inside := func(r indexRun) bool {
		return !slices.ContainsFunc(r.of, func(x int) bool { _, ok := slices.BinarySearch(of, x); return !ok })
	}
	w.view.runs = append(slices.DeleteFunc(slices.Clone(w.view.runs), inside), w.s.ix.runs[i])
}

// mergeable gives the first eight runs of the lowest level that has as many, and the level 0 segments they stand for.
func (s *state) mergeable() (from []format.Run, of []int) {
	byLevel := map[uint16][]runState{}
	for _, r := range s.runs {
		byLevel[r.Level] = append(byLevel[r.Level], r)
		if some := byLevel[r.Level]; len(some) == mergeWidth && (from == nil || r.Level < from[0].Level) {
			from, of = nil, nil
			for _, x := range some {
				from, of = append(from, x.Run), append(of, x.of...)
			}
		}
	}
	slices.Sort(of)
	return from, of
}

type merger struct {
	s       *Store
	ctx     context.Context
	level   uint16
	rows    []format.BlockRow
	rowOf   map[artifact.Digest]uint32
	entries []format.SegmentEntry
	out     format.Run
}

func (m *merger) merge(from []format.Run) (format.Run, error) {
	m.out = format.Run{Level: m.level}
	m.reset()
	var in []*runReader
	for _, r := range from {
		rd := &runReader{m: m, left: r.Segments}
		ok, err := rd.next()
		if err != nil {
			return m.out, err
		}
		if ok {
			in = append(in, rd)
		}
	}
	for len(in) > 0 {
		least := 0
		for i := range in {
			if bytes.Compare(in[i].cur.Ref.Digest[:], in[least].cur.Ref.Digest[:]) < 0 {
				least = i
			}
		}
		rd := in[least]
		if err := m.add(rd.cur, rd.row); err != nil {
			return m.out, err
		}
		ok, err := rd.next()
		if err != nil {
			return m.out, err
		}
		if !ok {
			in = slices.Delete(in, least, least+1)
		}
	}
	return m.out, m.flush()
}

func (m *merger) reset() {
	m.entries, m.rows, m.rowOf = m.entries[:0], nil, map[artifact.Digest]uint32{}
}

func (m *merger) add(e format.SegmentEntry, row format.BlockRow) error {
	if n := len(m.entries); n >= mergePart && m.entries[n-1].Ref.Digest != e.Ref.Digest {
		if err := m.flush(); err != nil {
			return err
		}
	}
	i, ok := m.rowOf[row.ID]
	if !ok {
		i = uint32(len(m.rows))
		m.rowOf[row.ID], m.rows = i, append(m.rows, row)
	}
	e.Block = i
	m.entries = append(m.entries, e)
	return nil
}

func (m *merger) flush() error {
	if len(m.entries) == 0 {
		return nil
	}
	data, err := format.EncodeSegment(m.level, m.rows, m.entries)
	if err != nil {
		return err
	}
	id := artifact.HashBytes(data)
	if err := m.s.b.Create(m.ctx, "segments/"+id.String(), data); err != nil {
		return fmt.Errorf("segment %s: %w", id, err)
	}
	m.out.Segments = append(m.out.Segments, id)
	m.reset()
	return nil
}

// runReader gives the entries of a run in order.
type runReader struct {
	m     *merger
	left  []artifact.Digest // segments not begun
	id    artifact.Digest
	head  format.SegmentHeader
	table []format.BlockRow
	page  int
	buf   []format.SegmentEntry
	cur   format.SegmentEntry
	row   format.BlockRow
}

func (r *runReader) next() (bool, error) {
	for len(r.buf) == 0 {
		if r.page == r.head.Pages() {
			if len(r.left) == 0 {
				return false, nil
			}
			if err := r.open(); err != nil {
				return false, fmt.Errorf("segment %s: %w", r.id, shortIsDamage(err))
			}
			continue
		}
		if err := r.fill(); err != nil {
			return false, fmt.Errorf("segment %s: %w", r.id, shortIsDamage(err))
		}
	}
	r.cur, r.buf = r.buf[0], r.buf[1:]
	if int(r.cur.Block) >= len(r.table) {
		return false, fmt.Errorf("segment %s: entry names block %d of %d: %w", r.id, r.cur.Block, len(r.table), artifact.ErrDamaged)
	}
	r.row = r.table[r.cur.Block]
	return true, nil
}

func (r *runReader) open() error {
	r.id, r.left, r.page = r.left[0], r.left[1:], 0
	name := "segments/" + r.id.String()
	head, err := readRange(r.m.ctx, r.m.s.b, name, 0, format.SegmentHeaderSize)
	if err != nil {
		return err
	}
	if r.head, err = format.DecodeSegmentHeader(head); err != nil {
		return err
	}
	raw, err := readRange(r.m.ctx, r.m.s.b, name, r.head.Table, int64(r.head.Blocks)*format.BlockRowSize)
	if err != nil {
		return err
	}
	r.table, err = format.DecodeBlockRows(raw)
	return err
}

func (r *runReader) fill() error {
	n := min(mergeRead, r.head.Pages()-r.page)
	raw, err := readRange(r.m.ctx, r.m.s.b, "segments/"+r.id.String(), r.head.PageAt(r.page), int64(n)*format.PageSize)
	if err != nil {
		return err
	}
	for i := range n {
		entries, err := format.DecodePage(raw[i*format.PageSize:][:format.PageSize])
		if err != nil {
			return err
		}
		r.buf = append(r.buf, entries...)
	}
	r.page += n
	return nil
}
