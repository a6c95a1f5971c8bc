package intake

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"aslrescue/engine/artifact"
	"aslrescue/engine/source"
	"aslrescue/engine/store/format"
)

// TestPagesOfOneKind: a page of a map that is all zeros is left out; one that is all unreadable or untried says so.
func TestPagesOfOneKind(t *testing.T) {
	for kind, stored := range map[source.RangeKind]bool{source.Zero: false, source.Unreadable: true, source.Untried: true} {
		var put [][]format.Range
		m := &mapBuilder{}
		emit := func(tag artifact.Tag, v any) (artifact.Ref, error) {
			if ranges, ok := v.([]format.Range); ok {
				put = append(put, ranges)
			}
			return artifact.SumTagged(tag, []byte{byte(len(put))}), nil
		}
		if err := m.add(format.Range{Kind: kind, Len: 2*format.MapPageSpan + 5}, emit); err != nil {
			t.Fatal(err)
		}
		if _, err := m.finish(emit); err != nil {
			t.Fatal(err)
		}
		want := 1 // the last one, which is not whole
		if stored {
			want = 3
		}
		if len(put) != want {
			t.Errorf("%v: %d pages are stored, want %d", kind, len(put), want)
		}
		for _, page := range put {
			if len(page) != 1 || page[0].Kind != kind {
				t.Errorf("%v: page %+v", kind, page)
			}
		}
	}
}

// TestPagesOfAFolder: every page of a wide folder is listed, in order, and holds what the others do not.
func TestPagesOfAFolder(t *testing.T) {
	var root []format.DirPageRef
	var names []string
	pages := map[artifact.Ref]int{}
	emit := func(tag artifact.Tag, v any) (artifact.Ref, error) {
		data, err := format.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		ref := artifact.SumTagged(tag, data)
		if tag == artifact.DirPage {
			entries, err := format.DecodeDirPage(data)
			if err != nil {
				t.Fatal(err)
			}
			pages[ref] = len(entries)
			for _, e := range entries {
				names = append(names, string(e.Name))
			}
		}
		if tag == artifact.DirRoot {
			if root, err = format.DecodeDirRoot(data); err != nil {
				t.Fatal(err)
			}
		}
		return ref, nil
	}
	tree := &treeBuilder{}
	tree.dirs = append(tree.dirs, &dirFrame{entry: format.Entry{Type: source.Dir, Mode: 0o755}})
	const n = 6000
	for i := range n {
		e := format.Entry{Name: fmt.Appendf(nil, "%06d %s", i, strings.Repeat("n", 180)), Type: source.FIFO, Mode: 0o644}
		if err := tree.add(e, emit); err != nil {
			t.Fatal(err)
		}
	}
	if err := tree.leave(emit); err != nil {
		t.Fatal(err)
	}
	listed := 0
	for _, p := range root {
		listed += pages[p.Ref]
	}
	if len(root) < 3 || listed != n || len(names) != n || !slices.IsSorted(names) || !tree.top.Paged {
		t.Errorf("%d pages list %d of %d entries", len(root), listed, n)
	}
}
