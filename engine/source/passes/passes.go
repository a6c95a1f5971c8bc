// Package passes decides what of a hurt disk is read next: a map goes in, a read comes out, and what came of it goes back in. It reads
// nothing itself. The order is GNU ddrescue's: what is easy first, errors and slow areas skipped and come back to, then
// their edges sector by sector, then what lies between, then what is bad once more.
//
// It asks a disk for bad sectors less often than ddrescue does: where reading lands behind a skip, one sector is tried before a
// whole cluster is, so that landing on bad ground costs the one read that it would have cost later anyway.
package passes

import (
	"slices"
	"strings"
	"time"

	"aslrescue/engine/source/mapfile"
)

// Phase is what the passes are about.
type Phase byte

// The phases, in order; as they stand in map files.
const (
	Copying  Phase = '?'
	Trimming Phase = '*'
	Scraping Phase = '/'
	Retrying Phase = '-'
	Finished Phase = '+'
)

func (p Phase) String() string {
	switch p {
	case Copying:
		return "copying"
	case Trimming:
		return "trimming"
	case Scraping:
		return "scraping"
	case Retrying:
		return "retrying"
	}
	return "settling"
}

// ParsePhase reads what String gives.
func ParsePhase(s string) Phase {
	for _, p := range []Phase{Copying, Trimming, Scraping, Retrying} {
		if p.String() == s {
			return p
		}
	}
	return Finished
}

// Sizes in bytes.
const (
	MinCluster = 64 << 10 // what is read at once where errors are near
	MaxCluster = 1 << 20  // and where there are none
	growAfter  = 16 << 20 // bytes without an error after which the cluster doubles
	minSkip    = 64 << 10
	maxSkip    = 1 << 30
)

const (
	lastCopy   = 5                // passes of copying
	slowDelay  = 30 * time.Second // of reading, before it is known what is slow
	slowFactor = 10               // slower than the average by so much is slow
)

// Options say how.
type Options struct {
	Sector    int   // bytes; 512 if 0
	Unit      int64 // no read crosses a multiple of it; none if 0
	MaxPasses int   // end after so many passes; 0 is no limit
	Retry     int   // passes over bad sectors
	Reverse   bool  // begin at the end
	NoTrim    bool
	NoScrape  bool
	Domain    []mapfile.Span // what is to be read, sorted; nil is everything
}

// Read is what to read next: Len bytes at Off in pieces of Step (which end at its multiples), each once, up to the first that fails or is slow.
type Read struct {
	Off, Len int64
	Step     int
	Back     bool          // from the end
	Patience time.Duration // a piece that takes longer is slow; 0 is never
	Ahead    int64         // bytes behind it, in its direction, that are wanted next if all goes well
}

// Piece gives the next piece where done bytes are read already.
func (r Read) Piece(done int64) (off, n int64) {
	if step := int64(r.Step); r.Back {
		end := r.Off + r.Len - done
		off = max(r.Off, (end-1)/step*step)
		return off, end - off
	} else {
		off = r.Off + done
		return off, min(r.Off+r.Len, (off/step+1)*step) - off
	}
}

// Result is what came of a Read.
type Result struct {
	Good int64         // bytes read, from where it began
	Bad  int64         // bytes of the piece behind them that failed; 0 if none did
	Slow bool          // the last good piece was slow
	Took time.Duration // for the good ones
}

// Planner is one reading of one disk. It is a value machine: no clock, no disk.
type Planner struct {
	o   Options
	m   *mapfile.Map
	end int64

	phase   Phase
	pass    int
	passes  int // that had something to do
	worked  bool
	pos     int64 // the next byte; going back, the end of what is next
	skip    int64
	landed  bool // behind a skip, where the ground is not known
	cluster int
	clean   int64 // bytes since the last error

	read    int64 // good bytes of copying
	took    time.Duration
	out     Read
	pending bool
}

// excluded stands for what is not to be read, within a planner only.
const excluded mapfile.Status = '!'

// New plans the reading of what m says is not finished. m is the planner's from now on.
func New(m *mapfile.Map, o Options) *Planner {
	if o.Sector == 0 {
		o.Sector = 512
	}
	p := &Planner{o: o, m: m, end: m.End(), cluster: MaxCluster}
	if o.Domain != nil {
		p.exclude()
	}
	p.enter(Copying, 1)
	return p
}

// Continue is New where an earlier reading had come to a phase and pass, and a place in it.
func Continue(m *mapfile.Map, o Options, phase Phase, pass int, pos int64) *Planner {
	p := New(m, o)
	if phase == Finished {
		phase, pass = Copying, 1 // there may be more to do now: retries, another domain
		pos = -1
	}
	if before, again := p.needed(phase); again {
		phase, pass, pos = before, 1, -1
		if phase == Copying {
			pass = lastCopy
		}
	}
	p.enter(phase, max(1, pass))
	if phase != Copying && phase != Retrying {
		pos = -1 // the map tells what was done
	}
	if pos >= 0 && pos <= p.end {
		p.pos = pos
	}
	p.landed = len(m.Blocks) > 1
	if p.landed {
		p.cluster = MinCluster
	}
	return p
}

// needed gives an earlier phase that has something to do. What a bad landing set aside, an interrupted reading may not have told.
func (p *Planner) needed(phase Phase) (Phase, bool) {
	rank := func(x Phase) int { return strings.IndexByte("?*/-+", byte(x)) }
	for _, n := range []struct {
		phase  Phase
		status mapfile.Status
	}{{Copying, mapfile.NonTried}, {Trimming, mapfile.NonTrimmed}, {Scraping, mapfile.NonScraped}} {
		if rank(n.phase) < rank(phase) && p.has(n.status) {
			return n.phase, true
		}
	}
	return phase, false
}

func (p *Planner) has(s mapfile.Status) bool {
	return slices.ContainsFunc(p.m.Blocks, func(b mapfile.Block) bool { return b.Status == s })
}

func (p *Planner) exclude() {
	at := int64(0)
	if len(p.m.Blocks) > 0 {
		at = p.m.Blocks[0].Pos
	}
	out := func(a, b int64) {
		for a < b {
			blk := p.m.Blocks[p.m.Find(a)]
			end := min(b, blk.End())
			if blk.Status != mapfile.Finished && blk.Status != mapfile.Bad {
				p.m.Mark(a, end-a, excluded)
			}
			a = end
		}
	}
	for _, s := range p.o.Domain {
		if s.Off >= p.end {
			break
		}
		out(at, s.Off)
		at = max(at, s.End)
	}
	out(at, p.end)
}

// Map is the map as it stands, as it would be written: what was not to be read is not tried.
func (p *Planner) Map() *mapfile.Map {
	m := &mapfile.Map{Pos: p.pos, Phase: byte(p.phase), Pass: p.pass, Comments: p.m.Comments}
	for _, b := range p.m.Blocks {
		if b.Status == excluded {
			b.Status = mapfile.NonTried
		}
		if k := len(m.Blocks) - 1; k >= 0 && m.Blocks[k].Status == b.Status {
			m.Blocks[k].Size += b.Size
			continue
		}
		m.Blocks = append(m.Blocks, b)
	}
	return m
}

// Blocks gives the blocks of the map between two offsets, cut to them.
func (p *Planner) Blocks(off, end int64) (out []mapfile.Block) {
	for i := p.m.Find(off); i < len(p.m.Blocks) && p.m.Blocks[i].Pos < end; i++ {
		b := p.m.Blocks[i]
		a, z := max(b.Pos, off), min(b.End(), end)
		if b.Status == excluded {
			b.Status = mapfile.NonTried
		}
		out = append(out, mapfile.Block{Pos: a, Size: z - a, Status: b.Status})
	}
	return out
}

// Complete tells whether all was read.
func (p *Planner) Complete() bool {
	return len(p.m.Blocks) == 0 || len(p.m.Blocks) == 1 && p.m.Blocks[0].Status == mapfile.Finished
}

// At is where the planner is.
func (p *Planner) At() (phase Phase, pass int, pos int64) { return p.phase, p.pass, p.pos }

// Backwards tells the direction of the present pass.
func (p *Planner) Backwards() bool {
	switch p.phase {
	case Copying:
		return (p.pass%2 == 0) != p.o.Reverse
	case Retrying:
		return (p.pass%2 == 0) != p.o.Reverse
	}
	return false
}

func (p *Planner) enter(phase Phase, pass int) {
	if p.worked {
		p.passes++
		p.worked = false
		if p.o.MaxPasses > 0 && p.passes >= p.o.MaxPasses {
			phase = Finished
		}
	}
	p.phase, p.pass = phase, pass
	if p.pos = 0; p.Backwards() {
		p.pos = p.end
	}
	p.skip, p.landed = 0, true
	if phase == Copying && pass == 1 {
		p.landed = false
	}
}

// next is the phase and pass after the present one.
func (p *Planner) next() (Phase, int) {
	switch {
	case p.phase == Copying && p.pass < lastCopy:
		return Copying, p.pass + 1
	case p.phase == Copying && p.has(mapfile.NonTried): // behind where an interrupted reading went on
		return Copying, lastCopy
	case p.phase == Copying && !p.o.NoTrim:
		return Trimming, 1
	case (p.phase == Copying || p.phase == Trimming) && !p.o.NoScrape:
		return Scraping, 1
	case p.phase != Retrying && p.phase != Finished && p.o.Retry > 0:
		return Retrying, 1
	case p.phase == Retrying && p.pass < p.o.Retry:
		return Retrying, p.pass + 1
	}
	return Finished, 1
}

// Next gives what to read; false where there is nothing left to do. It gives the same until Done was called.
func (p *Planner) Next() (Read, bool) {
	if p.pending {
		return p.out, true
	}
	for p.phase != Finished {
		if r, ok := p.find(); ok {
			p.out, p.pending, p.worked = r, true, true
			return r, true
		}
		p.enter(p.next())
	}
	return Read{}, false
}

func (p *Planner) find() (Read, bool) {
	switch p.phase {
	case Copying:
		return p.copying()
	case Trimming:
		return p.trimming()
	case Scraping:
		return p.single(mapfile.NonScraped)
	case Retrying:
		return p.single(mapfile.Bad)
	}
	return Read{}, false
}

// ahead gives the first block of a status in the direction of the pass, cut to what lies ahead of pos.
func (p *Planner) ahead(s mapfile.Status) (mapfile.Block, bool) {
	if !p.Backwards() {
		for i := p.m.Find(p.pos); i < len(p.m.Blocks); i++ {
			if b := p.m.Blocks[i]; b.Status == s {
				off := max(b.Pos, p.pos)
				return mapfile.Block{Pos: off, Size: b.End() - off, Status: s}, true
			}
		}
		return mapfile.Block{}, false
	}
	if p.pos <= 0 {
		return mapfile.Block{}, false
	}
	for i := min(p.m.Find(p.pos-1), len(p.m.Blocks)-1); i >= 0; i-- {
		if b := p.m.Blocks[i]; b.Status == s && b.Pos < p.pos {
			return mapfile.Block{Pos: b.Pos, Size: min(b.End(), p.pos) - b.Pos, Status: s}, true
		}
	}
	return mapfile.Block{}, false
}

// within cuts a read to one unit, from the end where it begins.
func (p *Planner) within(r Read) Read {
	if u := p.o.Unit; u > 0 {
		if end := r.Off + r.Len; r.Back {
			off := max(r.Off, (end-1)/u*u)
			r.Off, r.Len = off, end-off
		} else {
			r.Len = min(r.Len, (r.Off/u+1)*u-r.Off)
		}
	}
	return r
}

func (p *Planner) copying() (Read, bool) {
	b, ok := p.ahead(mapfile.NonTried)
	if !ok {
		return Read{}, false
	}
	back := p.Backwards()
	at := b.Pos
	if back {
		at = b.End()
	}
	if at != p.pos { // what lay between was read, or given up, by other passes
		p.landed = true
	}
	r := p.within(Read{Off: b.Pos, Len: b.Size, Step: p.cluster, Back: back})
	if p.landed && p.bordersBad(at) {
		r.Step = p.o.Sector
		off, n := r.Piece(0)
		r.Off, r.Len = off, n
	}
	if r.Ahead = b.Size - r.Len; r.Step == p.o.Sector { // what comes after a landing depends on it
		r.Ahead = 0
	}
	if p.pass <= 2 && p.took > slowDelay && p.read > 0 {
		r.Patience = time.Duration(float64(p.took) / float64(p.read) * float64(r.Step) * slowFactor)
	}
	return r, true
}

// bordersBad tells whether what lies on the other side of at was not read.
func (p *Planner) bordersBad(at int64) bool {
	if !p.Backwards() {
		at--
	}
	if at < 0 || at >= p.end {
		return p.skip > 0
	}
	return p.m.Blocks[p.m.Find(at)].Status != mapfile.Finished
}

func (p *Planner) trimming() (Read, bool) {
	for {
		b, ok := p.ahead(mapfile.NonTrimmed)
		if !ok {
			return Read{}, false
		}
		i := p.m.Find(b.Pos)
		b = p.m.Blocks[i]
		r := Read{Off: b.Pos, Len: b.Size, Step: p.o.Sector}
		if i > 0 && p.m.Blocks[i-1].Status == mapfile.Bad {
			r.Back = true
			if i+1 < len(p.m.Blocks) && p.m.Blocks[i+1].Status == mapfile.Bad {
				p.m.Mark(b.Pos, b.Size, mapfile.NonScraped)
				p.pos = b.End()
				continue
			}
		}
		p.pos = b.Pos
		return p.within(r), true
	}
}

func (p *Planner) single(s mapfile.Status) (Read, bool) {
	b, ok := p.ahead(s)
	if !ok {
		return Read{}, false
	}
	return p.within(Read{Off: b.Pos, Len: b.Size, Step: p.o.Sector, Back: p.Backwards()}), true
}

// Done says what came of the last read.
func (p *Planner) Done(res Result) {
	r := p.out
	p.pending = false
	good := r.Off
	if r.Back {
		good = r.Off + r.Len - res.Good
	}
	p.m.Mark(good, res.Good, mapfile.Finished)
	bad := r.Off + res.Good
	if r.Back {
		bad = good - res.Bad
	}
	if p.phase == Copying {
		p.copied(r, res, bad)
		return
	}
	if res.Bad > 0 {
		p.m.Mark(bad, res.Bad, mapfile.Bad)
	}
	if p.phase == Trimming {
		return // what is next follows from the map
	}
	if r.Back {
		p.pos = r.Off + r.Len - res.Good - res.Bad
	} else {
		p.pos = r.Off + res.Good + res.Bad
	}
}

func (p *Planner) copied(r Read, res Result, bad int64) {
	p.read += res.Good
	p.took += res.Took
	if res.Good > 0 && !res.Slow {
		p.skip, p.landed = 0, false
		if p.clean += res.Good; p.clean >= growAfter && p.cluster < MaxCluster {
			p.cluster, p.clean = p.cluster*2, 0
		}
	}
	sign := int64(1)
	edge := r.Off + res.Good
	if r.Back {
		sign, edge = -1, r.Off+r.Len-res.Good
	}
	if res.Bad == 0 {
		p.pos = edge
		if res.Slow && p.pass <= 2 {
			p.jump(sign)
		}
		return
	}
	p.clean, p.cluster = 0, MinCluster
	status := mapfile.NonTrimmed
	if res.Bad <= int64(p.o.Sector) {
		status = mapfile.Bad
	}
	p.m.Mark(bad, res.Bad, status)
	p.pos = edge + sign*res.Bad
	if r.Step == p.o.Sector { // a landing on bad ground: the rest of the cluster is for later
		p.setAside(sign)
	}
	switch {
	case p.pass == 1:
		p.jump(sign)
	case p.pass < lastCopy:
		p.leave(sign)
	default:
		p.landed = true
	}
}

// setAside marks the rest of the cluster behind a bad landing as failed without trying it.
func (p *Planner) setAside(sign int64) {
	n := int64(MinCluster - p.o.Sector)
	off := p.pos
	if sign < 0 {
		off -= n
	}
	for _, b := range p.Blocks(max(0, off), min(p.end, off+n)) {
		if b.Status == mapfile.NonTried && p.m.Blocks[p.m.Find(b.Pos)].Status != excluded {
			p.m.Mark(b.Pos, b.Size, mapfile.NonTrimmed)
		}
	}
	p.pos += sign * n
	p.pos = max(0, min(p.end, p.pos))
}

// jump skips ahead, each time twice as far.
func (p *Planner) jump(sign int64) {
	first := max(minSkip, round(p.end/100_000, p.o.Sector))
	most := max(first, min(maxSkip, p.end/100))
	if p.skip == 0 {
		p.skip = first
	} else {
		p.skip = min(most, p.skip*2)
	}
	p.pos = max(0, min(p.end, p.pos+sign*p.skip))
	p.landed = true
}

// leave goes on behind the present block.
func (p *Planner) leave(sign int64) {
	p.landed = true
	if sign > 0 {
		if i := p.m.Find(p.pos); i < len(p.m.Blocks) && p.m.Blocks[i].Status == mapfile.NonTried {
			p.pos = p.m.Blocks[i].End()
		}
	} else if p.pos > 0 {
		if i := p.m.Find(p.pos - 1); i < len(p.m.Blocks) && p.m.Blocks[i].Status == mapfile.NonTried {
			p.pos = p.m.Blocks[i].Pos
		}
	}
}

func round(n int64, sector int) int64 { return (n + int64(sector) - 1) / int64(sector) * int64(sector) }
