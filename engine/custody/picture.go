package custody

import (
	"golang.org/x/sys/unix"

	"aslrescue/engine/source"
	"aslrescue/engine/store"
)

// cell is a square of the map: so many bytes of the disk, and what became of them.
type cell struct{ data, zero, bad, untried, unstable, left int64 }

const (
	cellsWide = 96
	cellsMost = cellsWide * 20
	cellLeast = 4096 // bytes of the disk
)

// newCells divides a disk into squares, a few for a small one.
func newCells(size int64) []cell {
	each := cellBytes(size)
	return make([]cell, (size+each-1)/each)
}

// cellBytes is what a square stands for.
func cellBytes(size int64) int64 { return max(cellLeast, (size+cellsMost-1)/cellsMost) }

// paint counts a stretch in the squares that it covers.
func (sr *SourceReport) paint(st store.Stretch, chosen bool) {
	n := int64(len(sr.cells))
	if n == 0 || st.Len <= 0 {
		return
	}
	each := cellBytes(sr.Length)
	for off, end := st.Off, st.Off+st.Len; off < end; {
		i := min(off/each, n-1)
		stop := min(end, (i+1)*each)
		if i == n-1 {
			stop = end
		}
		c := &sr.cells[i]
		switch k := stop - off; st.Kind {
		case source.Data:
			c.data += k
		case source.Zero:
			c.zero += k
		case source.Unstable:
			c.unstable += k
		case source.Untried:
			if chosen {
				c.left += k
			} else {
				c.untried += k
			}
		default:
			c.bad += k
		}
		off = stop
	}
}

// word is what a square is drawn as: the worst that is in it, because a bad sector must be seen on a disk of any size.
func (c cell) word() string {
	switch {
	case c.bad > 0:
		return "bad"
	case c.unstable > 0:
		return "unstable"
	case c.untried > 0:
		return "untried"
	case c.data > 0:
		return "data"
	case c.left > 0:
		return "left"
	}
	return "zero"
}

func errnoText(n uint16) string {
	if n == 0 {
		return ""
	}
	return unix.Errno(n).Error()
}
