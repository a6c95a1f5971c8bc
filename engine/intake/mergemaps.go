package intake

import (
	"slices"
	"sort"

	"aslrescue/engine/source"
	"aslrescue/engine/source/mapfile"
	"aslrescue/engine/store"
)

// mergedPiece is a run of a merged map: Len bytes from Off, taken from a stretch of the map numbered From.
type mergedPiece struct {
	Off, Len int64
	From     int
	Of       store.Stretch
	unstable bool // several hold other bytes: none of them is taken
}

// whole tells whether the piece is all of its stretch.
func (p mergedPiece) whole() bool { return p.Off == p.Of.Off && p.Len == p.Of.Len }

// doubt is a run that two maps both hold bytes of, and not plainly the same ones: only comparing tells.
type doubt struct {
	Off, Len int64
	A, B     int // maps
}

// mergePages lays maps of one stretch of a source over each other. Every byte comes from a map that holds it, if one does; of those that
// have none, from one that tried. Where several hold it, the one the piece before came from goes on, so that chunks stay whole; what must be
// compared to know that it does not matter is given as doubts. prefer is a map that wins wherever it holds something, -1 for none. It is a pure
// function.
func mergePages(pages [][]store.Stretch, prefer int) (pieces []mergedPiece, doubts []doubt) {
	at := make([]int, len(pages)) // which stretch of each map
	end := func(i int) int64 { s := pages[i][at[i]]; return s.Off + s.Len }
	cur := max(0, prefer)
	for off := pages[0][0].Off; ; {
		stop := end(0)
		for i := range pages {
			stop = min(stop, end(i))
		}
		if prefer >= 0 && held(pages[prefer][at[prefer]].Kind) {
			cur = prefer
		}
		cur = best(pages, at, cur)
		here := pages[cur][at[cur]]
		pieces = appendPiece(pieces, mergedPiece{off, stop - off, cur, here, false})
		for i := range pages {
			if other := pages[i][at[i]]; i != cur && held(here.Kind) && held(other.Kind) && !plainlySame(here, other) {
				doubts = appendDoubt(doubts, doubt{off, stop - off, cur, i})
			}
		}
		off = stop
		for i := range pages {
			if end(i) > off {
				continue
			}
			if at[i]++; at[i] == len(pages[i]) {
				return pieces, doubts
			}
		}
	}
}

// apart cuts pieces where they are unstable, which is sorted and apart, and there into parts that are compared at a time.
func apart(pieces []mergedPiece, unstable []mapfile.Span) []mergedPiece {
	if len(unstable) == 0 {
		return pieces
	}
	var out []mergedPiece
	for _, pc := range pieces {
		end := pc.Off + pc.Len
		i := sort.Search(len(unstable), func(i int) bool { return unstable[i].End > pc.Off })
		for pc.Off < end {
			part := pc
			switch {
			case i == len(unstable) || unstable[i].Off >= end:
				part.Len = end - pc.Off
			case unstable[i].Off > pc.Off:
				part.Len = unstable[i].Off - pc.Off
			default:
				part.Len, part.unstable = min(end, unstable[i].End, pc.Off+compareStep)-pc.Off, true
			}
			out = append(out, part)
			if pc.Off += part.Len; i < len(unstable) && unstable[i].End <= pc.Off {
				i++
			}
		}
	}
	return out
}

// held tells whether a map holds bytes there.
func held(k source.RangeKind) bool { return k == source.Data || k == source.Zero }

// best is the map to take the next bytes from: cur if none is better.
func best(pages [][]store.Stretch, at []int, cur int) int {
	rank := func(i int) int {
		switch k := pages[i][at[i]].Kind; {
		case held(k):
			return 0
		case k == source.Untried:
			return 2
		}
		return 1
	}
	for i := range pages {
		if rank(i) < rank(cur) {
			cur = i
		}
	}
	return cur
}

func plainlySame(a, b store.Stretch) bool {
	if a.Kind != b.Kind {
		return false
	}
	return a.Kind == source.Zero || a.Off == b.Off && a.Len == b.Len && slices.Equal(a.Ref, b.Ref)
}

func appendPiece(pieces []mergedPiece, p mergedPiece) []mergedPiece {
	if n := len(pieces); n > 0 && pieces[n-1].From == p.From && pieces[n-1].Of.Off == p.Of.Off {
		pieces[n-1].Len += p.Len
		return pieces
	}
	return append(pieces, p)
}

func appendDoubt(doubts []doubt, d doubt) []doubt {
	for i := len(doubts) - 1; i >= 0 && i >= len(doubts)-4; i-- {
		if l := &doubts[i]; l.A == d.A && l.B == d.B && l.Off+l.Len == d.Off {
			l.Len += d.Len
			return doubts
		}
	}
	return append(doubts, d)
}
