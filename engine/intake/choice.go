package intake

import (
	"aslrescue/engine/source"
	"aslrescue/engine/store/format"
)

// leftOut takes in a range that was not read because the plan says so. It is untried in the map, and no gap: it is what was chosen, and the
// snapshot says so once.
func (q *sequencer) leftOut(off, n int64, why string) bool {
	src, ok := q.open[q.cur.i].(source.Chosen)
	if !ok || why != src.LeftOut() {
		return false
	}
	q.leave(off, n, why)
	return true
}

// leave counts what was left out by choice.
func (q *sequencer) leave(off, n int64, why string) {
	if n <= 0 {
		return
	}
	left := format.Left{Why: why}
	if was := q.cur.res.Left; was != nil {
		left = *was // never in place: a state may share it
	}
	left.Bytes += n
	if off != q.cur.leftEnd {
		left.Places++
	}
	q.cur.leftEnd = off + n
	q.cur.res.Left = &left
}
