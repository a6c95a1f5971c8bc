package store

import (
	"context"
	"fmt"
	"iter"

	"aslrescue/engine/artifact"
	"aslrescue/engine/source"
	"aslrescue/engine/store/format"
)

// Extent is a range of offsets.
type Extent struct{ Off, Len int64 }

// DiffMaps gives, in order and joined, where two maps differ. What both describe by equal references is not read. Two chunks either are the
// same or differ in all their bytes; behind the end of the shorter one all is different.
func DiffMaps(ctx context.Context, a *View, rootA artifact.Ref, b *View, rootB artifact.Ref) iter.Seq2[Extent, error] {
	return func(yield func(Extent, error) bool) {
		d := mapDiff{ctx: ctx, a: a, b: b, yield: yield}
		if rootA == rootB {
			return
		}
		if err := d.roots(rootA, rootB); err != nil {
			yield(Extent{}, err)
			return
		}
		if !d.ended {
			d.flush()
		}
	}
}

type mapDiff struct {
	ctx   context.Context
	a, b  *View
	yield func(Extent, error) bool
	open  Extent // not given yet: it may go on
	ended bool
}

func (d *mapDiff) add(off, n int64) {
	if d.open.Len > 0 && d.open.Off+d.open.Len == off {
		d.open.Len += n
		return
	}
	d.flush()
	d.open = Extent{off, n}
}

func (d *mapDiff) flush() {
	if d.open.Len > 0 && !d.ended {
		d.ended = !d.yield(d.open, nil)
	}
	d.open = Extent{}
}

func (d *mapDiff) roots(rootA, rootB artifact.Ref) error {
	a, err := d.a.mapRoot(d.ctx, rootA)
	if err != nil {
		return err
	}
	b, err := d.b.mapRoot(d.ctx, rootB)
	if err != nil {
		return err
	}
	both := min(a.Size, b.Size)
	for i := int64(0); i*format.MapNodePages < format.Pages(both) && !d.ended; i++ {
		x, y := a.Nodes[i], b.Nodes[i]
		if sameRef(x, y) && format.Pages(a.Size) == format.Pages(b.Size) && a.Size == b.Size {
			continue
		}
		if err := d.nodes(x, y, i, a.Size, b.Size); err != nil {
			return err
		}
	}
	if most := max(a.Size, b.Size); most > both && !d.ended {
		d.add(both, most-both)
	}
	return nil
}

func sameRef(x, y *artifact.Ref) bool {
	return x == y || x != nil && y != nil && *x == *y
}

func (d *mapDiff) nodes(x, y *artifact.Ref, i, sizeA, sizeB int64) error {
	a, err := d.a.mapNodeRefs(d.ctx, x, i, sizeA)
	if err != nil {
		return err
	}
	b, err := d.b.mapNodeRefs(d.ctx, y, i, sizeB)
	if err != nil {
		return err
	}
	for j := range min(len(a), len(b)) {
		off := (i*format.MapNodePages + int64(j)) * format.MapPageSpan
		spanA, spanB := min(format.MapPageSpan, sizeA-off), min(format.MapPageSpan, sizeB-off)
		if d.ended || sameRef(a[j], b[j]) && spanA == spanB {
			continue
		}
		pageA, err := d.a.mapPage(d.ctx, a[j], off, spanA)
		if err != nil {
			return err
		}
		pageB, err := d.b.mapPage(d.ctx, b[j], off, spanB)
		if err != nil {
			return err
		}
		d.pages(pageA, pageB)
	}
	return d.ctx.Err()
}

// mapNodeRefs gives the pages of node i of a map of size bytes.
func (v *View) mapNodeRefs(ctx context.Context, node *artifact.Ref, i, size int64) ([]*artifact.Ref, error) {
	pages := min(format.MapNodePages, int(format.Pages(size)-i*format.MapNodePages))
	if node == nil {
		return make([]*artifact.Ref, pages), nil
	}
	data, err := v.getTagged(ctx, *node, artifact.MapNode)
	if err != nil {
		return nil, fmt.Errorf("map node %d: %w", i, err)
	}
	return format.DecodeMapNode(data, pages)
}

// DiffRanges gives, joined, where the contents of two files differ that stand in their entries.
func DiffRanges(a, b []format.Range) []Extent {
	var out []Extent
	d := mapDiff{yield: func(e Extent, _ error) bool { out = append(out, e); return true }}
	d.pages(place(0, a), place(0, b))
	sizeA, sizeB := sum(a), sum(b)
	if both := min(sizeA, sizeB); sizeA != sizeB {
		d.add(both, max(sizeA, sizeB)-both)
	}
	d.flush()
	return out
}

func sum(ranges []format.Range) int64 {
	n := int64(0)
	for _, r := range ranges {
		n += r.Len
	}
	return n
}

// pages compares two descriptions of the same offsets, as far as both reach.
func (d *mapDiff) pages(a, b []Stretch) {
	for len(a) > 0 && len(b) > 0 {
		x, y := a[0], b[0]
		off := max(x.Off, y.Off)
		end := min(x.Off+x.Len, y.Off+y.Len)
		same := x.Kind == y.Kind && (x.Kind != source.Data || x.Off == y.Off && x.Len == y.Len && string(x.Ref) == string(y.Ref))
		if !same {
			d.add(off, end-off)
		}
		if x.Off+x.Len == end {
			a = a[1:]
		}
		if y.Off+y.Len == end {
			b = b[1:]
		}
	}
}
