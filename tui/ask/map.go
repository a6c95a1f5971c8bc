package ask

import (
	"slices"

	"aslrescue/engine/event"
)

// Cell is what is known of a piece of a disk. A piece that holds several kinds shows the one that matters most, the highest.
type Cell = byte

// The kinds of cell.
const (
	Waiting    Cell = iota // not read yet
	Zeros                  // read, nothing but zeros
	Known                  // read, all of it was in the store
	New                    // read and stored
	Later                  // passed over; a later pass will try it
	Unreadable             // tried, and not read
)

// MapCells is into how many pieces a map cuts a source. A screen joins some to one.
const MapCells = 1 << 11

// Map is what is known of a linear source, piece by piece. It is a fold of events, as Progress is.
type Map struct {
	Source string `json:"source"`
	Size   int64  `json:"size"`
	Cells  []Cell `json:"cells"`

	off  int64 // where reading was when the last snapshot came
	last event.Counts
}

// Maps folds an event into the maps of a job.
func Maps(maps []Map, e event.Event) []Map {
	switch e := e.(type) {
	case event.SourceOpened:
		if e.Size <= 0 || e.Kind == "tree" || e.Kind == "stream" {
			return maps
		}
		if i := at(maps, e.Source); i >= 0 && maps[i].Size == e.Size { // it goes on after a pause: what was seen stays
			maps[i].last, maps[i].off = e.Resumed, e.Resumed.Settled()
			return maps
		}
		m := Map{Source: e.Source, Size: e.Size, Cells: make([]Cell, MapCells), last: e.Resumed, off: e.Resumed.Settled()}
		m.fill(0, m.off, Known)
		return append(maps, m)
	case event.SourceProgress:
		if i := at(maps, e.Source); i >= 0 {
			maps[i].advance(e.Off, e.Counts)
		}
	case event.SourceDone:
		if i := at(maps, e.Source); i >= 0 && e.Settled() > 0 {
			maps[i].advance(maps[i].Size, e.Counts)
			if e.Settled() == maps[i].Size {
				maps[i].end(e.Counts)
			}
		}
	case event.Gap:
		if i := at(maps, e.Source); i >= 0 {
			kind := Unreadable
			if e.Kind == event.Untried {
				kind = Later
			}
			maps[i].put(e.Off, e.Len, kind)
		}
	}
	return maps
}

func at(maps []Map, source string) int {
	return slices.IndexFunc(maps, func(m Map) bool { return m.Source == source })
}

// CloneMaps shares nothing with maps.
func CloneMaps(maps []Map) []Map {
	out := slices.Clone(maps)
	for i := range out {
		out[i].Cells = slices.Clone(out[i].Cells)
	}
	return out
}

// advance takes what was read since the last snapshot as one kind: the one it holds most of. Where reading jumped, only as much
// before the place it is at now as the counts say was read.
func (m *Map) advance(off int64, c event.Counts) {
	was := m.last
	moved := c.Settled() + c.Untried - was.Settled() - was.Untried
	from := m.off
	if off-from > moved || off < from {
		from = max(off-moved, 0)
	}
	kind := New
	zero, known, fresh := c.Zero-was.Zero, c.Known-was.Known, c.New-was.New
	switch {
	case moved <= 0 || zero+known+fresh <= 0: // passed over, or left out: nothing was read
		m.off, m.last = off, c
		return
	case zero > known && zero > fresh:
		kind = Zeros
	case known > fresh:
		kind = Known
	}
	m.fill(from, off, kind)
	m.off, m.last = off, c
}

// end says of a source of which all was read or given up that nothing waits: what was read where reading jumped, and no snapshot told of,
// is drawn as what the source mostly is.
func (m *Map) end(c event.Counts) {
	kind := New
	switch {
	case c.Zero > c.Known && c.Zero > c.New:
		kind = Zeros
	case c.Known > c.New:
		kind = Known
	}
	for i, was := range m.Cells {
		if was == Waiting || was == Later {
			m.Cells[i] = kind
		}
	}
}

// fill says of a range that was read what it is; what could not be read within it stays.
func (m *Map) fill(from, to int64, kind Cell) {
	for i := m.cell(from); i < m.cellEnd(to) && from < to; i++ {
		if m.Cells[i] < Later {
			m.Cells[i] = max(m.Cells[i], kind)
		}
		if m.Cells[i] == Later && m.start(i) >= from && m.start(i+1) <= to {
			m.Cells[i] = kind // a later pass came, and it read
		}
	}
}

func (m *Map) put(off, n int64, kind Cell) {
	for i := m.cell(off); i < m.cellEnd(off+max(n, 1)); i++ {
		m.Cells[i] = max(m.Cells[i], kind)
	}
}

func (m *Map) start(i int) int64 { return int64(float64(m.Size) * float64(i) / MapCells) }

func (m *Map) cell(off int64) int {
	return min(max(int(float64(off)/float64(m.Size)*MapCells), 0), MapCells-1)
}

func (m *Map) cellEnd(off int64) int {
	i := m.cell(off)
	if m.start(i) < off || off <= 0 {
		i++
	}
	return min(i, MapCells)
}

// Row joins the cells to n for a screen; of those joined the one that matters most is shown.
func (m *Map) Row(n int) []Cell {
	out := make([]Cell, max(n, 0))
	for i := range out {
		from, to := i*len(m.Cells)/n, (i+1)*len(m.Cells)/n
		to = min(max(to, from+1), len(m.Cells))
		if from < to {
			out[i] = slices.Max(m.Cells[from:to])
		}
	}
	return out
}
