package intake

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"aslrescue/engine/artifact"
	"aslrescue/engine/event"
	"aslrescue/engine/source"
	"aslrescue/engine/source/mapfile"
	"aslrescue/engine/store/format"
)

// rawState is what a sequencer keeps of a source that is read by passes.
type rawState struct {
	m       *lbaMap
	domain  []mapfile.Span
	reverse bool
	why     string // there is a domain
	pos     format.Passes
	faults  []artifact.Ref
	tail    []format.Fault
	flush   time.Duration // how far apart states are that name pages of hurt super-blocks: each costs a page
	point   time.Time     // of the last state that named pages
}

// raw describes what a unit has of a super-block.
func (q *sequencer) raw(u *unit) error {
	b, p := q.cur, u.raw
	c, m := &b.res.Counts, b.lba.m
	hole := func(to int64) { c.Untried += max(0, to-m.next) }
	if p.sb >= 0 {
		parts, err := q.rawPieces(&u.content, u.off)
		if err != nil {
			return err
		}
		old, err := m.get1(q.ctx, p.sb)
		if err != nil {
			return err
		}
		*c = c.Sub(tally(old))
		if !p.whole {
			if old == nil {
				old = []format.LooseRange{{Kind: source.Untried, Len: m.superLen(p.sb)}}
			}
			if parts, err = p.merge(p.sb*m.super, old, parts, u.off); err != nil {
				return err
			}
		}
		hole(p.sb * m.super)
		*c = c.Add(tally(parts))
		if err := m.set(q.ctx, p.sb, parts, !p.whole, q.put); err != nil {
			return err
		}
		for _, f := range p.faults {
			if err := b.lba.fault(f, q.put); err != nil {
				return err
			}
		}
		q.tellFaults(u)
	}
	if p.end {
		hole(m.size)
		if err := m.fill(q.ctx, m.size, q.put); err != nil {
			return err
		}
	}
	c.Known = max(0, c.Data-c.New)
	b.lba.pos = format.Passes{Phase: p.phase.String(), Pass: p.pass, Pos: p.pos}
	return nil
}

func tally(ranges []format.LooseRange) (c format.Counts) {
	for _, r := range ranges {
		switch r.Kind {
		case source.Data:
			c.Data += r.Len
		case source.Zero:
			c.Zero += r.Len
		case source.Unreadable, source.Unstable:
			c.Unreadable += r.Len
		default:
			c.Untried += r.Len
		}
	}
	return c
}

// rawPieces stores what is new of a run and describes it.
func (q *sequencer) rawPieces(r *run, off int64) (parts []format.LooseRange, err error) {
	for _, p := range r.pieces {
		rg := format.LooseRange{Kind: p.kind, Len: int64(p.len), Errno: p.errno, Tries: p.tries}
		if p.kind == source.Data {
			known, err := q.store(p.ref, artifact.NoTag, r.data[p.off:][:p.len])
			if err != nil {
				return nil, err
			}
			if !known {
				q.cur.res.Counts.New += rg.Len
			}
			rg.Ref = format.DataRange(p.ref, rg.Len).Ref
		}
		parts = appendLoose(parts, rg)
	}
	return parts, nil
}

// appendLoose joins neighbours of which the same is known.
func appendLoose(ranges []format.LooseRange, r format.LooseRange) []format.LooseRange {
	if n := len(ranges); n > 0 && r.Kind != source.Data {
		if last := &ranges[n-1]; last.Kind == r.Kind && last.Errno == r.Errno && last.Tries == r.Tries {
			last.Len += r.Len
			return ranges
		}
	}
	return append(ranges, r)
}

// merge lays what a unit says over what was known of its super-block, which begins at base.
func (p *rawPart) merge(base int64, old, parts []format.LooseRange, off int64) ([]format.LooseRange, error) {
	var over []patch
	for _, r := range parts {
		if r.Kind != kept {
			over = append(over, patch{off, r.Len, func(format.LooseRange) format.LooseRange { return r }, r.Kind == source.Data})
		}
		off += r.Len
	}
	out, err := overlay(base, old, over)
	if err != nil {
		return nil, err
	}
	over = over[:0]
	for _, g := range p.rest {
		over = append(over, patch{g.Off, g.Len, func(r format.LooseRange) format.LooseRange { r.Kind = g.Kind; return r }, false})
	}
	if out, err = overlay(base, out, over); err != nil {
		return nil, err
	}
	for _, f := range p.fails { // one after the other: a place may have failed twice
		out, err = overlay(base, out, []patch{{f.off, f.n, func(r format.LooseRange) format.LooseRange {
			if r.Kind != source.Data && r.Kind != source.Zero {
				r.Errno = uint16(f.errno)
				r.Tries++
			}
			return r
		}, false}})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// patch changes what is known of a stretch.
type patch struct {
	off, n int64
	change func(format.LooseRange) format.LooseRange
	once   bool // what it gives stands for the stretch as a whole
}

// overlay applies patches, sorted and apart, to ranges that begin at base. A chunk is never divided.
func overlay(base int64, ranges []format.LooseRange, patches []patch) ([]format.LooseRange, error) {
	out := make([]format.LooseRange, 0, len(ranges)+2*len(patches))
	at, k := base, 0
	for _, r := range ranges {
		end := at + r.Len
		for at < end {
			for k < len(patches) && patches[k].off+patches[k].n <= at {
				k++
			}
			stop, inside := end, false
			if k < len(patches) && patches[k].off < end {
				if inside = patches[k].off <= at; inside {
					stop = min(end, patches[k].off+patches[k].n)
				} else {
					stop = patches[k].off
				}
			}
			part := r
			part.Len = stop - at
			if r.Kind == source.Data && part.Len != r.Len {
				if !inside || patches[k].once {
					return nil, fmt.Errorf("a chunk at %d would be divided at %d", end-r.Len, stop)
				}
			}
			switch {
			case inside && patches[k].once:
				if at == patches[k].off { // the first piece gives the whole, the others nothing
					out = append(out, patches[k].change(part))
				}
			case inside:
				out = appendLoose(out, patches[k].change(part))
			default:
				out = appendLoose(out, part)
			}
			at = stop
		}
	}
	return out, nil
}

// fault notes why a range is missing.
func (s *rawState) fault(f format.Fault, put emit) error {
	if n := len(s.tail); n > 0 {
		if last := s.tail[n-1]; last.Off+last.Len == f.Off && last.Kind == f.Kind && last.Errno == f.Errno && last.Tries == f.Tries {
			last.Len += f.Len
			s.tail = append(s.tail[:n-1:n-1], last) // never in place: a state may share the slice
			return nil
		}
	}
	if s.tail = append(s.tail, f); len(s.tail) < format.FaultRows {
		return nil
	}
	return s.endFaults(put)
}

func (s *rawState) endFaults(put emit) error {
	if len(s.tail) == 0 {
		return nil
	}
	ref, err := put(artifact.FaultPage, s.tail)
	s.faults, s.tail = append(slices.Clip(s.faults), ref), nil
	return err
}

// tellFaults tells the gaps of a settled super-block. What was left out by choice is none.
func (q *sequencer) tellFaults(u *unit) {
	b := q.cur
	for i, f := range u.raw.faults {
		if f.Kind != source.Untried || b.lba.domain == nil {
			q.rawGap(f.Off, f.Len, f.Kind, u.content.gaps[i].Why)
			continue
		}
		at := f.Off
		for _, s := range b.lba.domain {
			if s.End <= at {
				continue
			}
			if s.Off >= f.Off+f.Len {
				break
			}
			q.leave(at, s.Off-at, b.lba.why)
			from, to := max(at, s.Off), min(f.Off+f.Len, s.End)
			q.rawGap(from, to-from, f.Kind, u.content.gaps[i].Why)
			at = to
		}
		q.leave(at, f.Off+f.Len-at, b.lba.why)
	}
}

// rawGap lists and tells a gap. One that goes over from super-block to super-block is one.
func (q *sequencer) rawGap(off, n int64, kind source.RangeKind, why string) {
	res := &q.cur.res
	rows := len(res.Gaps)
	if rows > 0 && int64(rows) == res.GapsAll {
		if last := res.Gaps[rows-1]; last.Off+last.Len == off && last.Kind == kind.String() && last.Why == why {
			last.Len += n
			res.Gaps = append(res.Gaps[:rows-1:rows-1], last) // never in place: a state may share the slice
			q.emit(event.Gap{Stamp: q.now(), Source: res.Name, Kind: event.GapKind(kind.String()), Off: off, Len: n, Why: why})
			return
		}
	}
	q.tellGap("", off, n, kind, why)
}

// rawPoint tells whether the state after a unit is to be told, and puts what it names.
func (q *sequencer) rawPoint(u *unit) (bool, error) {
	s := q.cur.lba
	if s.m.dirty == 0 {
		return true, nil
	}
	if !u.raw.point && !u.last && s.m.dirty < 64 && time.Since(s.point) < s.flush {
		return false, nil
	}
	s.point = time.Now()
	return true, s.m.flush(q.put)
}

// rawSourceState is how to go on with a source that is read by passes.
func (b *sourceBuilder) rawSourceState(st *format.SourceState) {
	s := b.lba
	st.Map, st.Passes = s.m.state()
	if st.Passes == nil && s.pos.Phase == "copying" && s.pos.Pass == 1 && !s.reverse {
		return // forwards, and nothing was left behind: the map says it all
	}
	if st.Passes == nil {
		st.Passes = &format.Passes{}
	}
	st.Passes.Phase, st.Passes.Pass, st.Passes.Pos = s.pos.Phase, s.pos.Pass, s.pos.Pos
	st.Passes.Fault, st.Passes.Tail = s.faults, slices.Clip(s.tail)
}

// finishRaw ends a source that was read by passes.
func (q *sequencer) finishRaw(u *unit) error {
	b := q.cur
	if err := u.content.err; errors.Is(err, source.ErrGone) {
		q.gone = append(q.gone, fmt.Errorf("%s: %w", b.res.Name, err))
	}
	if changed := q.open[b.i].(source.Linear).Changed(); changed != "" {
		b.res.Changed = append(b.res.Changed, changed)
		q.emit(event.Gap{Stamp: q.now(), Source: b.res.Name, Kind: event.Changed, Why: changed})
	}
	root, err := b.lba.m.finish(q.ctx, q.put)
	if err != nil {
		return err
	}
	if err := b.lba.endFaults(q.put); err != nil {
		return err
	}
	b.res.Root, b.res.Length, b.res.Faults = &root, b.lba.m.size, b.lba.faults
	return nil
}
