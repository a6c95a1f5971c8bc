package memfs

import (
	"fmt"
	"iter"
	"slices"
)

// Pattern says which of the effects that were not synced at the moment of a power cut are found on the medium
// afterwards, and in what shape. They are counted from 0 in the order in which they were made. The zero Pattern is:
// none of them.
type Pattern struct {
	Keep Keep
	N    int    // for Only, Except, Prefix
	Seed uint64 // for Random, and for all that is torn
	Dirs Dirs
	Data Data
}

// Keep says which effects survive.
type Keep uint8

// The ways of surviving.
const (
	None   Keep = iota
	All         // everything
	Only        // number N alone
	Except      // all but number N
	Prefix      // those before number N
	Random      // each with chance one half
)

// Dirs says what happens to names, if not what Keep says.
type Dirs uint8

// The ways of names.
const (
	AsKept Dirs = iota
	Early       // all names are on the medium, whatever is with the data
	Lost        // none is
)

// Data says what is found of a write that Keep lets survive.
type Data uint8

// The shapes of data.
const (
	Whole       Data = iota
	Torn512          // its beginning, to some multiple of 512 bytes
	Torn4096         // its beginning, to some multiple of 4096 bytes
	Holes512         // some of its sectors of 512 bytes, zeros for the others
	Holes4096        // some of its pages of 4096 bytes, zeros for the others
	Zeros            // a file as long as it should be, of zeros
	Stale            // a file as long as it should be, of what was written elsewhere before
	GarbageTail      // its beginning, then random bytes
	Mixed            // any of these, for each write another, also where Keep says no
	dataShapes  = int(Mixed)
)

func (p Pattern) String() string {
	keep := [...]string{"none", "all", "only", "except", "prefix", "random"}[p.Keep]
	dirs := [...]string{"", " names-early", " names-lost"}[p.Dirs]
	data := [...]string{"", " torn-512", " torn-4096", " holes-512", " holes-4096", " zeros", " stale", " garbage-tail", " mixed"}[p.Data]
	return fmt.Sprintf("%s(%d)%s%s seed %d", keep, p.N, dirs, data, p.Seed)
}

// CrashAt gives the folder as a power cut right after the first op operations could leave it: what was synced, and of
// the rest what the pattern says. All of it is durable in the new FS, whose own operations are counted from zero.
func (m *FS) CrashAt(op int, p Pattern) *FS {
	m.mu.Lock()
	defer m.mu.Unlock()
	after := &FS{opts: m.opts, unsynced: map[int][]int{}}
	builder := &FS{} // owns the nodes that this state changes; nobody may change them later
	nodes := slices.Clone(m.base)
	var last []byte // what a recycled place on the medium may hold
	pending := 0
	for i := range m.effects {
		e := &m.effects[i]
		if e.op > op {
			break
		}
		e.grow(&nodes, builder)
		if e.durable(op) {
			e.on(builder.own(nodes, e.node))
		} else {
			p.survive(e, pending, last, builder, nodes)
			pending++
		}
		if e.kind == write {
			last = e.data
		}
	}
	after.base, after.cur = nodes, slices.Clone(nodes)
	return after
}

func (e *effect) durable(op int) bool { return e.synced != 0 && e.synced <= op }

// grow makes room for the node that an entry stands for. It is empty until its own effects come.
func (e *effect) grow(nodes *[]*node, owner *FS) {
	for e.kind == setEntry && e.entry >= len(*nodes) {
		*nodes = append(*nodes, nil)
	}
	if e.kind != setEntry || e.entry == 0 || (*nodes)[e.entry] != nil {
		return
	}
	(*nodes)[e.entry] = fresh(e, owner)
}

// Pending tells how many effects were not durable after the first op operations, and which of them are writes.
func (m *FS) Pending(op int) (count int, writes []int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.effects {
		e := &m.effects[i]
		if e.op > op {
			break
		}
		if e.durable(op) {
			continue
		}
		if e.kind == write {
			writes = append(writes, count)
		}
		count++
	}
	return count, writes
}

// States gives the patterns that matter after the first op operations: nothing and everything, each effect alone and
// each one missing, each prefix, every shape of data with names kept and lost and early, and random ones. Where many
// effects are pending, the single ones are a sample that always holds the last.
func (m *FS) States(op int, seed uint64, random int) iter.Seq[Pattern] {
	const most = 24
	count, writes := m.Pending(op)
	return func(yield func(Pattern) bool) {
		if !yield(Pattern{}) || count == 0 {
			return
		}
		list := []Pattern{{Keep: All}}
		for _, n := range sample(count, most) {
			list = append(list, Pattern{Keep: Only, N: n})
			if count > 1 {
				list = append(list, Pattern{Keep: Except, N: n})
			}
			if n > 1 {
				list = append(list, Pattern{Keep: Prefix, N: n})
			}
		}
		if len(writes) > 0 {
			list = append(list, Pattern{Dirs: Early}, Pattern{Keep: All, Dirs: Lost})
			for d := range dataShapes {
				list = append(list, Pattern{Keep: All, Data: Data(d), Seed: seed}, Pattern{Keep: All, Data: Data(d), Seed: seed + 1})
			}
			for _, i := range sample(len(writes), most) {
				list = append(list, Pattern{Keep: Only, N: writes[i], Dirs: Early})
			}
		}
		for i := range random {
			list = append(list, Pattern{Keep: Random, Seed: seed + uint64(i), Data: Data(i % 2 * int(Mixed)), Dirs: Dirs(i / 2 % 2)})
		}
		for _, p := range list {
			if !yield(p) {
				return
			}
		}
	}
}

// Crash is a moment and what survived it.
type Crash struct {
	Op      int
	Pattern Pattern
}

func (c Crash) String() string {
	return fmt.Sprintf("power cut after operation %d, %s", c.Op, c.Pattern)
}

// Crashes gives every moment since from with every pattern that matters, and the folder each leaves.
func (m *FS) Crashes(from int, seed uint64, random int) iter.Seq2[Crash, *FS] {
	return func(yield func(Crash, *FS) bool) {
		for op := from; op <= m.Ops(); op++ {
			for p := range m.States(op, seed, random) {
				if !yield(Crash{op, p}, m.CrashAt(op, p)) {
					return
				}
			}
		}
	}
}

// sample is at most so many of the numbers below n, the first few and the last few among them.
func sample(n, most int) []int {
	var s []int
	for i := range n {
		if n <= most || i < most/3 || i >= n-most/3 || i%(3*n/most+1) == 0 {
			s = append(s, i)
		}
	}
	return s
}

// survive applies what is left of an effect that was not synced.
func (p Pattern) survive(e *effect, number int, last []byte, owner *FS, nodes []*node) {
	dice := mix(p.Seed, uint64(number))
	kept := p.keeps(number, dice)
	switch {
	case e.kind == setEntry && p.Dirs != AsKept:
		kept = p.Dirs == Early
	case e.kind == write && p.Data == Mixed:
		kept = kept || dice&4 == 0
	}
	if !kept {
		return
	}
	n := owner.own(nodes, e.node)
	if e.kind != write {
		e.on(n)
		return
	}
	shape := p.Data
	if shape == Mixed {
		shape = Data(dice >> 8 % uint64(dataShapes))
	}
	at := e.off
	for _, piece := range shape.left(e.data, last, dice>>16) {
		n.content = n.content.with(at, piece)
		at += int64(len(piece))
	}
}

func (p Pattern) keeps(number int, dice uint64) bool {
	switch p.Keep {
	case All:
		return true
	case Only:
		return number == p.N
	case Except:
		return number != p.N
	case Prefix:
		return number < p.N
	case Random:
		return dice&1 == 0
	}
	return false
}

// left is what is found where data was written.
func (d Data) left(data, last []byte, dice uint64) [][]byte {
	switch d {
	case Torn512:
		return [][]byte{torn(data, 512, dice)}
	case Torn4096:
		return [][]byte{torn(data, 4096, dice)}
	case Holes512:
		return holes(data, 512, dice)
	case Holes4096:
		return holes(data, 4096, dice)
	case Zeros:
		return [][]byte{zeros(len(data))}
	case Stale:
		if len(last) == 0 {
			return [][]byte{garbage(len(data), dice)}
		}
		stale := last[:min(len(last), len(data))]
		return [][]byte{stale, garbage(len(data)-len(stale), dice)}
	case GarbageTail:
		head := torn(data, 512, dice)
		return [][]byte{head, garbage(len(data)-len(head), dice)}
	}
	return [][]byte{data}
}

// torn is the beginning of data, never all of it.
func torn(data []byte, unit int, dice uint64) []byte {
	units := (len(data) + unit - 1) / unit
	if units == 0 {
		return nil
	}
	return data[:int(dice%uint64(units))*unit]
}

// holes is data with some units replaced by zeros.
func holes(data []byte, unit int, dice uint64) [][]byte {
	var left [][]byte
	for i := 0; len(data) > 0; i++ {
		piece := data[:min(unit, len(data))]
		data = data[len(piece):]
		if mix(dice, uint64(i))&1 == 0 {
			piece = zeros(len(piece))
		}
		left = append(left, piece)
	}
	return left
}

func zeros(n int) []byte { return make([]byte, n) }

func garbage(n int, dice uint64) []byte {
	b := make([]byte, n)
	for i := range b {
		if i%8 == 0 {
			dice = mix(dice, uint64(i))
		}
		b[i] = byte(dice >> (i % 8 * 8))
	}
	return b
}

// mix is splitmix64 over two numbers.
func mix(a, b uint64) uint64 {
	z := a*0x9e3779b97f4a7c15 + b + 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
