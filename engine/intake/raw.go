package intake

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"aslrescue/engine/artifact"
	"aslrescue/engine/source"
	"aslrescue/engine/source/mapfile"
	"aslrescue/engine/source/passes"
	"aslrescue/engine/store/format"
)

// Reading says how devices and images are read.
type Reading struct {
	MaxPasses int            // end after so many passes; 0 is no limit
	Retry     int            // passes over what is bad
	Reverse   bool           // begin at the end
	Domain    []mapfile.Span // what is wanted of them, sorted; nil is everything
	Why       string         // there is a Domain
	SealGone  bool           // a device that is gone does not come back: what was read of it is all there is
	Rate      int64          // bytes a second at most; 0 is no limit
	Flush     time.Duration  // how long what was read of a super-block may wait for the rest; 0 is flushAfter, negative is never to wait
}

// flushAfter is how long what was read of a super-block may wait for the rest of it before it is sealed as it is. With the time after which a
// block's end is forced it is less than the ten seconds of work that an interruption may cost.
const flushAfter = 2 * time.Second

func (o Reading) flush() time.Duration {
	if o.Flush == 0 {
		return flushAfter
	}
	return o.Flush
}

// kept is a stretch of a unit that says nothing: what is known of it stays.
const kept source.RangeKind = 0

// rawPart is what a unit of a source that is read by passes has to say beside its content.
type rawPart struct {
	sb     int64        // super-block
	whole  bool         // content is all of it, and cut for good
	rest   []source.Gap // not read of it, as the planner has it now
	fails  []fail       // reads in vain since the last unit of it
	faults []format.Fault
	fresh  int64 // bytes that were read from the source for it
	end    bool  // what was passed over up to the end is described now
	point  bool  // its state must be told
	phase  passes.Phase
	pass   int
	pos    int64
}

// fail is a read in vain.
type fail struct {
	off, n int64
	errno  unix.Errno
}

// lane is the reading of one device or image: the planner belongs to the feeder, the map to the sequencer.
type lane struct {
	i     int
	src   source.Raw
	o     Reading
	size  int64
	super int64
	pl    *passes.Planner
	m     *lbaMap
	look  *lbaMap // what was read, for the feeder to look at

	finished bool  // nothing is left to read
	err      error // nothing further can be read
	began    bool
	loose    map[int64]bool // as the feeder knows them
	settled  bool
	gone     bool // the device is no longer there, and may come back

	phase passes.Phase // of the round
	pass  int

	// the super-block at hand
	sb    int64 // -1 if there is none
	slot  []byte
	have  []mapfile.Span // read of it, in slot
	fresh []mapfile.Span // of these, not told yet
	fails []fail
	since time.Time
	rate  limiter
	fits  int64 // bytes that are read within a turn; 0 if not known
}

// limiter keeps reading below a rate.
type limiter struct {
	rate  int64
	began time.Time
	read  int64
}

func (l *limiter) wait(ctx context.Context, n int64) {
	if l.rate <= 0 {
		return
	}
	if l.began.IsZero() {
		l.began = time.Now()
	}
	l.read += n
	due := l.began.Add(time.Duration(float64(l.read) / float64(l.rate) * float64(time.Second)))
	if d := time.Until(due); d > 0 {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
}

// lanes sets up the sources that are read by passes, from where an earlier run was.
func (r *runner) lanes(ctx context.Context) error {
	r.lane = make([]*lane, len(r.sources))
	super := int64(r.begin.Chunk.SuperBlock)
	for i, src := range r.sources {
		raw, ok := src.(source.Raw)
		st := &r.point.State[i]
		if !ok || st.Done {
			continue
		}
		m, err := loadLbaMap(ctx, super, raw.Info().Size, r.w.Get, st)
		if err != nil {
			return fmt.Errorf("what the interrupted run had read of %s: %w", raw.Info().Path, err)
		}
		l := &lane{i: i, src: raw, o: r.o.Reading, size: raw.Info().Size, super: super, m: m, sb: -1, loose: map[int64]bool{}, rate: limiter{rate: r.o.Reading.Rate}}
		if c, ok := src.(source.Chosen); ok {
			l.o.Domain, l.o.Why = within(l.o.Domain, c.Wanted()), c.LeftOut()
		}
		if err := l.plan(ctx, l.o, st); err != nil {
			return fmt.Errorf("what the interrupted run had read of %s: %w", raw.Info().Path, err)
		}
		r.lane[i] = l
	}
	return nil
}

// within is what of a domain somebody chose. A domain that is nil is everything.
func within(domain []mapfile.Span, chosen []source.Stretch) []mapfile.Span {
	out := []mapfile.Span{}
	for _, c := range chosen {
		a, z := c.Off, c.Off+c.Len
		if domain == nil {
			out = append(out, mapfile.Span{Off: a, End: z})
		}
		for _, d := range domain {
			if from, to := max(a, d.Off), min(z, d.End); from < to {
				out = append(out, mapfile.Span{Off: from, End: to})
			}
		}
	}
	return mapfile.Join(out)
}

// plan makes the planner of what is known so far.
func (l *lane) plan(ctx context.Context, o Reading, st *format.SourceState) error {
	fm := mapfile.New(l.size)
	fm.Mark(0, l.m.next, mapfile.Finished)
	for sb := range l.m.loose {
		l.loose[sb] = true
		ranges, err := l.m.get1(ctx, sb)
		if err != nil {
			return err
		}
		off := sb * l.super
		for _, r := range ranges {
			fm.Mark(off, r.Len, statusOf(r.Kind))
			off += r.Len
		}
		l.m.trim()
	}
	l.m.drop()
	if b, ok := l.src.(interface{ Begun() *mapfile.Map }); ok { // what is finished there is taken, which is reading too
		for _, blk := range b.Begun().Blocks {
			if blk.Status != mapfile.Finished && blk.Pos >= l.m.next {
				fm.Mark(blk.Pos, blk.Size, blk.Status)
			}
		}
	}
	po := passes.Options{Sector: l.src.Info().Sector, Unit: l.super, MaxPasses: o.MaxPasses, Retry: o.Retry, Reverse: o.Reverse, Domain: o.Domain}
	if st.Passes == nil {
		l.pl = passes.New(fm, po)
		return nil
	}
	l.pl = passes.Continue(fm, po, passes.ParsePhase(st.Passes.Phase), st.Passes.Pass, st.Passes.Pos)
	return nil
}

// clone is a copy for reading. Descriptions of super-blocks are never changed in place.
func (m *lbaMap) clone() *lbaMap {
	c := newLbaMap(m.super, m.size, m.get)
	c.next, c.refs, c.loose = m.next, slices.Clone(m.refs), maps.Clone(m.loose)
	for n, p := range m.open {
		c.open[n] = &lbaPage{parts: slices.Clone(p.parts)}
	}
	return c
}

// drop forgets pages that are stored and did not change.
func (m *lbaMap) drop() {
	for n, p := range m.open {
		if n < int64(len(m.refs)) && !p.dirty {
			delete(m.open, n)
		}
	}
}

func statusOf(k source.RangeKind) mapfile.Status {
	switch k {
	case source.Data, source.Zero:
		return mapfile.Finished
	case source.Unreadable:
		return mapfile.Bad
	case format.Untrimmed:
		return mapfile.NonTrimmed
	case format.Unscraped:
		return mapfile.NonScraped
	}
	return mapfile.NonTried
}

func kindOf(s mapfile.Status) source.RangeKind {
	switch s {
	case mapfile.Bad:
		return source.Unreadable
	case mapfile.NonTrimmed:
		return format.Untrimmed
	case mapfile.NonScraped:
		return format.Unscraped
	}
	return source.Untried
}

// round reads on to the end of a pass, or settles what was read.
func (f *feeder) round(l *lane) error {
	if l.finished {
		return f.settle(l)
	}
	l.began = false
	for {
		r, ok := l.pl.Next()
		if phase, pass, _ := l.pl.At(); ok && l.began && (phase != l.phase || pass != l.pass) {
			break // what follows may need what this pass has sealed
		}
		if !ok {
			l.finished = true
			break
		}
		if !l.began {
			l.phase, l.pass, _ = l.pl.At()
			l.began = true
			f.tell(l)
		}
		if err := f.read(l, r); err != nil {
			if errors.Is(err, errStop) {
				return err
			}
			l.err = err
			l.gone = errors.Is(err, source.ErrGone) && !errors.Is(err, source.ErrSkipped) && !l.o.SealGone
			l.finished = !l.gone
			break
		}
	}
	return f.endRound(l)
}

// read does what the planner said.
func (f *feeder) read(l *lane, r passes.Read) error {
	if sb := r.Off / l.super; sb != l.sb {
		if err := f.leave(l); err != nil {
			return err
		}
		slot, err := f.slot()
		if err != nil {
			return err
		}
		l.sb, l.slot, l.since = sb, slot, time.Now()
	}
	base := l.sb * l.super
	if f.witness != nil && f.witness.Hot(l.i) {
		if len(l.fresh)+len(l.fails) > 0 { // that is not for as long
			if err := f.partly(l); err != nil {
				return err
			}
		}
		f.witness.Pause(f.ctx, l.i)
		if f.ctx.Err() != nil {
			return errStop
		}
	}
	r = l.shorten(r)
	began := time.Now()
	res, errno, err := l.src.Try(f.ctx, l.slot[r.Off-base:][:r.Len], r)
	good := mapfile.Span{Off: r.Off, End: r.Off + res.Good}
	if r.Back {
		good = mapfile.Span{Off: r.Off + r.Len - res.Good, End: r.Off + r.Len}
	}
	if res.Good > 0 {
		l.have, l.fresh = addSpan(l.have, good), addSpan(l.fresh, good)
	}
	l.pl.Done(res)
	l.measure(res.Good, max(time.Since(began), res.Took)) // what was read ahead took its time before
	if res.Bad > 0 {
		bad := fail{off: good.End, n: res.Bad, errno: errno}
		if r.Back {
			bad.off = good.Off - res.Bad
		}
		l.addFail(bad)
	}
	l.rate.wait(f.ctx, res.Good+res.Bad)
	if err == nil && f.ctx.Err() != nil {
		err = errStop
	}
	if err != nil {
		if f.ctx.Err() != nil {
			return errStop
		}
		return err
	}
	n := min(l.super, l.size-base)
	if len(l.have) == 1 && l.have[0] == (mapfile.Span{Off: base, End: base + n}) {
		return f.whole(l)
	}
	if time.Since(l.since) > l.o.flush() && len(l.fresh)+len(l.fails) > 0 {
		return f.partly(l)
	}
	return nil
}

// turn is how long one call may read: what was read is looked at between them, to be sealed in time, and a stop is heeded.
const turn = 500 * time.Millisecond

// shorten cuts a read to what will be done in a turn, as far as is known.
func (l *lane) shorten(r passes.Read) passes.Read {
	most := l.fits
	if most == 0 {
		most = passes.MaxCluster
	}
	if rate := l.rate.rate; rate > 0 {
		most = min(most, rate/4)
	}
	most = max(most, passes.MinCluster)
	for r.Step > passes.MinCluster && int64(r.Step) > most {
		r.Step /= 2
	}
	if l.rate.rate > 0 {
		r.Ahead = 0
	}
	if r.Len <= most {
		return r
	}
	// It ends where a piece ends: no sector is read in two parts, and what is read ahead of the next turn is what that asks for.
	step := int64(r.Step)
	all := r.Len
	if r.Back {
		end := r.Off + r.Len
		r.Len = min(all, end-(end-most+step-1)/step*step)
		if r.Len <= 0 {
			_, r.Len = r.Piece(0)
		}
		r.Off = end - r.Len
	} else if r.Len = min(all, (r.Off+most)/step*step-r.Off); r.Len <= 0 {
		_, r.Len = r.Piece(0)
	}
	if r.Ahead > 0 {
		r.Ahead += all - r.Len
	}
	return r
}

// measure learns how much fits into a turn.
func (l *lane) measure(n int64, took time.Duration) {
	if n < passes.MinCluster { // single sectors say nothing of it
		return
	}
	now := max(passes.MinCluster, int64(float64(n)*float64(turn)/float64(max(took, time.Millisecond))))
	if l.fits = min(now, 4*max(l.fits, passes.MaxCluster)); l.fits > l.super {
		l.fits = l.super
	}
}

// addSpan adds to sorted spans that do not touch.
func addSpan(spans []mapfile.Span, s mapfile.Span) []mapfile.Span {
	switch n := len(spans); {
	case n == 0 || spans[n-1].End < s.Off:
		return append(spans, s)
	case spans[n-1].End == s.Off:
		spans[n-1].End = s.End
		return spans
	}
	return mapfile.Join(append(spans, s))
}

func (l *lane) addFail(b fail) {
	if n := len(l.fails); n > 0 && l.fails[n-1].errno == b.errno {
		last := &l.fails[n-1]
		switch {
		case last.off+last.n == b.off:
			last.n += b.n
			return
		case b.off+b.n == last.off:
			last.off, last.n = b.off, last.n+b.n
			return
		}
	}
	l.fails = append(l.fails, b)
}

// rest is what the planner knows of the super-block at hand that was not read.
func (l *lane) rest() (gaps []source.Gap) {
	base := l.sb * l.super
	for _, b := range l.pl.Blocks(base, min(base+l.super, l.size)) {
		if b.Status != mapfile.Finished {
			gaps = append(gaps, source.Gap{Off: b.Pos, Len: b.Size, Kind: kindOf(b.Status)})
		}
	}
	return gaps
}

func (l *lane) part() *rawPart {
	p := &rawPart{sb: l.sb, phase: l.phase, pass: l.pass}
	_, _, p.pos = l.pl.At()
	for _, s := range l.fresh {
		p.fresh += s.End - s.Off
	}
	return p
}

// whole sends a super-block that was read from its beginning to its end while it was at hand.
func (f *feeder) whole(l *lane) error {
	base := l.sb * l.super
	u := &unit{src: l.i, slot: l.slot, off: base, raw: l.part()}
	u.raw.whole = true
	u.content = run{data: l.slot[:l.have[0].End-base]}
	delete(l.loose, l.sb)
	l.away()
	if _, ok := l.pl.Next(); !ok {
		l.finished = true
		l.last(u)
	}
	return f.out(u)
}

// waits tells whether there is more to do.
func (l *lane) waits() bool { return l != nil && !l.settled && !l.gone }

// last makes a unit the source's last where nothing is missing, and nothing is to be put together.
func (l *lane) last(u *unit) {
	u.last = l.pl.Complete() && len(l.loose) == 0
	l.settled = u.last
}

// away forgets the super-block at hand, whose memory went elsewhere.
func (l *lane) away() {
	l.sb, l.slot, l.have, l.fresh, l.fails = -1, nil, nil, nil, nil
}

// leave sends what was read of a super-block that is not whole.
func (f *feeder) leave(l *lane) error {
	if l.sb < 0 {
		return nil
	}
	if len(l.fresh)+len(l.fails) == 0 {
		f.slots.put(l.slot)
		l.away()
		return nil
	}
	u := l.looseUnit(l.slot)
	u.slot = l.slot
	l.away()
	return f.out(u)
}

// partly sends what was read of a super-block that goes on to be read. What is sent is a copy, as it is still wanted for the whole.
func (f *feeder) partly(l *lane) error {
	base := l.sb * l.super
	buf := l.slot
	if n := len(l.fresh); n > 0 {
		a, z := l.fresh[0].Off-base, l.fresh[n-1].End-base
		own := make([]byte, z-a)
		copy(own, l.slot[a:z])
		buf = own
	}
	u := l.looseUnit(buf)
	u.raw.point = true
	l.fresh, l.fails, l.since = nil, nil, time.Now()
	return f.out(u)
}

// looseUnit tells what is new of the super-block at hand. buf is the super-block, or what of it the fresh spans cover.
func (l *lane) looseUnit(buf []byte) *unit {
	base := l.sb * l.super
	u := &unit{src: l.i, off: base, raw: l.part()}
	u.raw.rest, u.raw.fails = l.rest(), l.fails
	l.loose[l.sb] = true
	if len(l.fresh) == 0 {
		return u
	}
	first, last := l.fresh[0].Off, l.fresh[len(l.fresh)-1].End
	if int64(len(buf)) == last-first {
		u.off = first
		u.content.data = buf
	} else {
		u.off = first
		u.content.data = buf[first-base : last-base]
	}
	at := first
	for _, s := range l.fresh {
		if s.Off > at {
			u.content.gaps = append(u.content.gaps, source.Gap{Off: at, Len: s.Off - at, Kind: kept})
		}
		at = s.End
	}
	return u
}

// endRound tells what is at hand, and that the pass is over.
func (f *feeder) endRound(l *lane) error {
	if l.settled {
		return nil
	}
	if err := f.leave(l); err != nil {
		return err
	}
	u := &unit{src: l.i, raw: &rawPart{sb: -1, end: l.finished, point: true}}
	u.raw.phase, u.raw.pass, u.raw.pos = l.pl.At()
	if l.finished {
		l.last(u)
	}
	return f.out(u)
}

func (f *feeder) tell(l *lane) {
	f.pass(l.i, l.phase.String(), l.pass, l.pl.Backwards())
}

// settle puts super-blocks together from the store, and sends them to be cut for good.
func (f *feeder) settle(l *lane) error {
	f.pass(l.i, passes.Finished.String(), 1, false)
	todo := make([]int64, 0, len(l.look.loose))
	for sb := range l.look.loose {
		todo = append(todo, sb)
	}
	slices.Sort(todo)
	for _, sb := range todo {
		ranges, err := l.look.get1(f.ctx, sb)
		if err != nil {
			return f.stopped(err)
		}
		l.look.trim()
		slot, err := f.slot()
		if err != nil {
			return err
		}
		u, err := f.assemble(l, sb, ranges, slot)
		if err != nil {
			f.slots.put(slot)
			return f.stopped(err)
		}
		if err := f.out(u); err != nil {
			return err
		}
	}
	l.settled = true
	return f.out(&unit{src: l.i, last: true, raw: &rawPart{sb: -1, end: true, point: true, phase: passes.Finished, pass: 1}, content: run{err: l.err}})
}

// untried says why a range was not reached.
func (l *lane) untried() string {
	if l.err != nil {
		return l.err.Error()
	}
	return "the passes that were asked for did not reach it"
}

func (f *feeder) stopped(err error) error {
	if f.ctx.Err() != nil {
		return errStop
	}
	return err
}

// assemble reads a super-block back.
func (f *feeder) assemble(l *lane, sb int64, ranges []format.LooseRange, slot []byte) (*unit, error) {
	base := sb * l.super
	u := &unit{src: l.i, slot: slot, off: base, raw: &rawPart{sb: sb, whole: true, phase: passes.Finished, pass: 1}}
	at := int64(0)
	for _, r := range ranges {
		part := slot[at:][:r.Len]
		switch r.Kind {
		case source.Data:
			ref, err := format.Range{Kind: r.Kind, Len: r.Len, Ref: r.Ref}.Artifact()
			if err != nil {
				return nil, err
			}
			data, err := f.get(f.ctx, ref)
			if err == nil && int64(len(data)) != r.Len {
				err = fmt.Errorf("chunk %s has %d bytes, the map wants %d: %w", ref, len(data), r.Len, artifact.ErrDamaged)
			}
			if err != nil {
				return nil, fmt.Errorf("putting together what was read at %d: %w", base+at, err)
			}
			copy(part, data)
		case source.Zero:
			clear(part)
		default:
			clear(part)
			g := source.Gap{Off: base + at, Len: r.Len, Kind: r.Kind, Errno: r.Errno, Tries: r.Tries}
			if r.Kind == format.Untrimmed || r.Kind == format.Unscraped {
				g.Kind = source.Untried
			}
			switch {
			case g.Kind == source.Untried && g.Errno == 0:
				g.Why = l.untried()
			case g.Errno != 0:
				g.Why = unix.Errno(g.Errno).Error()
			}
			u.content.gaps = append(u.content.gaps, g)
			u.raw.faults = append(u.raw.faults, format.Fault{Off: g.Off, Len: g.Len, Kind: g.Kind, Errno: g.Errno, Tries: g.Tries})
		}
		at += r.Len
	}
	u.content.data = slot[:at]
	return u, nil
}

// begin is what the sequencer keeps of the source.
func (l *lane) begin(st format.SourceState) *rawState {
	s := &rawState{m: l.m, domain: l.o.Domain, why: l.o.Why, reverse: l.o.Reverse, flush: l.o.flush()}
	if p := st.Passes; p != nil {
		s.faults, s.tail = p.Fault, p.Tail
		s.pos = format.Passes{Phase: p.Phase, Pass: p.Pass, Pos: p.Pos}
	}
	return s
}

// left is what earlier runs left out by choice.
func (l *lane) left(st format.SourceState) *format.Left {
	if st.Partial == nil {
		return nil
	}
	return st.Partial.Left
}
