package intake

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"aslrescue/engine/artifact"
	"aslrescue/engine/source"
	"aslrescue/engine/store/format"
)

// editsMost is how many pages may be written again before the nodes that name them are.
const editsMost = 1024

// lbaMap is the map of a source that is read in any order. It is described forwards up to next, with holes where reading jumped, and every
// super-block of that can be described anew. Memory holds the references of all pages, and the pages that change.
type lbaMap struct {
	super, size int64
	get         func(context.Context, artifact.Ref) ([]byte, error)

	next  int64
	refs  []*artifact.Ref // of pages that were put; nil is one zero range
	nodes []*artifact.Ref // of pages that fill one, as they were when it was put
	edits map[int64]*artifact.Ref
	open  map[int64]*lbaPage // pages in memory: the one being filled, and those that change
	loose map[int64]bool     // super-blocks that are not settled
	dirty int                // open pages that must be put before a state can name them
	uses  int64              // of pages, to know which was used last
}

// openMost is how many pages that are stored stay in memory. A pass goes one way: what was put during it and may not be durable yet is among
// the last ones used.
const openMost = 64

// lbaPage is a page by its super-blocks.
type lbaPage struct {
	parts [][]format.LooseRange
	dirty bool
	used  int64
}

func newLbaMap(super, size int64, get func(context.Context, artifact.Ref) ([]byte, error)) *lbaMap {
	return &lbaMap{super: super, size: size, get: get, edits: map[int64]*artifact.Ref{}, open: map[int64]*lbaPage{}, loose: map[int64]bool{}}
}

// loadLbaMap takes a map up where an earlier run left it.
func loadLbaMap(ctx context.Context, super, size int64, get func(context.Context, artifact.Ref) ([]byte, error), st *format.SourceState) (*lbaMap, error) {
	m := newLbaMap(super, size, get)
	if st.Map == nil {
		return m, nil
	}
	m.next, m.nodes = st.Map.Next, st.Map.Nodes
	for _, n := range m.nodes {
		pages := make([]*artifact.Ref, format.MapNodePages)
		if n != nil {
			data, err := get(ctx, *n)
			if err == nil {
				pages, err = format.DecodeMapNode(data, format.MapNodePages)
			}
			if err != nil {
				return nil, fmt.Errorf("map node: %w", err)
			}
		}
		m.refs = append(m.refs, pages...)
	}
	m.refs = append(m.refs, st.Map.Pages...)
	var ranges []format.LooseRange
	for _, r := range st.Map.Ranges {
		ranges = append(ranges, format.LooseRange{Kind: r.Kind, Len: r.Len, Ref: r.Ref})
	}
	if p := st.Passes; p != nil {
		loose, err := decodeLoose(p.Loose, (size+super-1)/super)
		if err != nil {
			return nil, err
		}
		m.loose = loose
		for _, e := range p.Edits {
			if e.Page < 0 || e.Page >= int64(len(m.refs)) {
				return nil, fmt.Errorf("page %d was written again, and there are %d: %w", e.Page, len(m.refs), artifact.ErrDamaged)
			}
			m.refs[e.Page], m.edits[e.Page] = e.Ref, e.Ref
		}
		if len(p.Open) > 0 {
			ranges = p.Open
		}
	}
	if m.next%format.MapPageSpan != 0 {
		m.open[m.next/format.MapPageSpan] = m.split(ranges)
	}
	return m, nil
}

// split sorts ranges from a page's start into super-blocks.
func (m *lbaMap) split(ranges []format.LooseRange) *lbaPage {
	p := &lbaPage{}
	left := int64(0)
	for _, r := range ranges {
		for r.Len > 0 {
			if left == 0 {
				p.parts, left = append(p.parts, nil), m.super
			}
			part := r
			part.Len = min(r.Len, left)
			k := len(p.parts) - 1
			p.parts[k] = append(p.parts[k], part)
			r.Len -= part.Len
			left -= part.Len
		}
	}
	return p
}

func (m *lbaMap) perPage() int64 { return format.MapPageSpan / m.super }

// superLen is the length of a super-block.
func (m *lbaMap) superLen(sb int64) int64 { return min(m.super, m.size-sb*m.super) }

// isLoose tells whether any super-block of a page is not settled.
func (m *lbaMap) isLoose(page int64) bool {
	for k := range m.perPage() {
		if m.loose[page*m.perPage()+k] {
			return true
		}
	}
	return false
}

// page brings a page into memory.
func (m *lbaMap) page(ctx context.Context, n int64) (*lbaPage, error) {
	m.uses++
	if p := m.open[n]; p != nil {
		p.used = m.uses
		return p, nil
	}
	if n >= int64(len(m.refs)) {
		p := &lbaPage{used: m.uses}
		m.open[n] = p
		return p, nil
	}
	ranges, err := readPage(ctx, m.get, m.refs[n], min(format.MapPageSpan, m.size-n*format.MapPageSpan), m.isLoose(n))
	if err != nil {
		return nil, fmt.Errorf("map page %d: %w", n, err)
	}
	p := m.split(ranges)
	p.used = m.uses
	m.open[n] = p
	return p, nil
}

// readPage reads a page that was put.
func readPage(ctx context.Context, get func(context.Context, artifact.Ref) ([]byte, error), ref *artifact.Ref, span int64, loose bool) ([]format.LooseRange, error) {
	if ref == nil {
		return []format.LooseRange{{Kind: source.Zero, Len: span}}, nil
	}
	data, err := get(ctx, *ref)
	if err != nil {
		return nil, err
	}
	if loose {
		return format.DecodeLoosePage(data, span)
	}
	final, err := format.DecodeMapPage(data, span)
	if err != nil {
		return nil, err
	}
	ranges := make([]format.LooseRange, len(final))
	for i, r := range final {
		ranges[i] = format.LooseRange{Kind: r.Kind, Len: r.Len, Ref: r.Ref}
	}
	return ranges, nil
}

// get1 gives what is known of a super-block, nil if nothing is.
func (m *lbaMap) get1(ctx context.Context, sb int64) ([]format.LooseRange, error) {
	if sb*m.super >= m.next {
		return nil, nil
	}
	p, err := m.page(ctx, sb/m.perPage())
	if err != nil {
		return nil, err
	}
	return p.parts[sb%m.perPage()], nil
}

// set describes a super-block. Those before it that were never described are holes.
func (m *lbaMap) set(ctx context.Context, sb int64, ranges []format.LooseRange, loose bool, put emit) error {
	if err := m.fill(ctx, sb*m.super, put); err != nil {
		return err
	}
	page, k := sb/m.perPage(), int(sb%m.perPage())
	p, err := m.page(ctx, page)
	if err != nil {
		return err
	}
	if loose {
		m.loose[sb] = true
	} else {
		delete(m.loose, sb)
	}
	if sb*m.super < m.next {
		p.parts[k] = ranges
		if !p.dirty && page < int64(len(m.refs)) {
			p.dirty = true
			m.dirty++
		}
		return nil
	}
	p.parts = append(p.parts, ranges)
	m.next += m.superLen(sb)
	if m.next%format.MapPageSpan != 0 {
		return nil
	}
	return m.endPage(page, p, put)
}

// fill describes what lies before off and was passed over.
func (m *lbaMap) fill(ctx context.Context, off int64, put emit) error {
	for m.next < off {
		sb := m.next / m.super
		if err := m.set(ctx, sb, []format.LooseRange{{Kind: source.Untried, Len: m.superLen(sb)}}, true, put); err != nil {
			return err
		}
	}
	return nil
}

// endPage puts the page that was filled last.
func (m *lbaMap) endPage(n int64, p *lbaPage, put emit) error {
	ref, err := m.put(n, p, put)
	if err != nil {
		return err
	}
	m.refs = append(m.refs, ref)
	m.trim()
	if first := len(m.nodes) * format.MapNodePages; len(m.refs)-first == format.MapNodePages {
		node, err := putNode(m.refs[first:], put)
		if err != nil {
			return err
		}
		m.nodes = append(m.nodes, node)
	}
	return nil
}

// trim forgets stored pages that were not used for long.
func (m *lbaMap) trim() {
	for len(m.open) > openMost {
		oldest := int64(-1)
		for n, p := range m.open {
			if n < int64(len(m.refs)) && !p.dirty && (oldest < 0 || p.used < m.open[oldest].used) {
				oldest = n
			}
		}
		if oldest < 0 {
			return
		}
		delete(m.open, oldest)
	}
}

func putNode(pages []*artifact.Ref, put emit) (*artifact.Ref, error) {
	if !slices.ContainsFunc(pages, func(p *artifact.Ref) bool { return p != nil }) {
		return nil, nil
	}
	r, err := put(artifact.MapNode, pages)
	return &r, err
}

// put stores a page in the form that it has now.
func (m *lbaMap) put(n int64, p *lbaPage, put emit) (*artifact.Ref, error) {
	if m.isLoose(n) {
		r, err := put(artifact.LoosePage, p.flat())
		return &r, err
	}
	ranges := p.final()
	if len(ranges) == 1 && ranges[0].Kind == source.Zero && ranges[0].Len == format.MapPageSpan {
		return nil, nil
	}
	r, err := put(artifact.MapPage, ranges)
	return &r, err
}

func (p *lbaPage) flat() (all []format.LooseRange) {
	for _, part := range p.parts {
		all = append(all, part...)
	}
	return all
}

// final is a settled page as a map has it.
func (p *lbaPage) final() (all []format.Range) {
	for _, part := range p.parts {
		for _, r := range part {
			all = appendJoined(all, format.Range{Kind: r.Kind, Len: r.Len, Ref: r.Ref})
		}
	}
	return all
}

// appendJoined is format.AppendRange for a slice that nobody shares.
func appendJoined(ranges []format.Range, r format.Range) []format.Range {
	if n := len(ranges); n > 0 && r.Kind != source.Data && ranges[n-1].Kind == r.Kind {
		ranges[n-1].Len += r.Len
		return ranges
	}
	return append(ranges, r)
}

// flush puts the pages that changed.
func (m *lbaMap) flush(put emit) error {
	for _, n := range slices.Sorted(maps.Keys(m.open)) {
		p := m.open[n]
		if n >= int64(len(m.refs)) {
			continue // it stands in the state whole
		}
		if p.dirty {
			ref, err := m.put(n, p, put)
			if err != nil {
				return err
			}
			m.refs[n] = ref
			if n < int64(len(m.nodes))*format.MapNodePages {
				m.edits[n] = ref
			}
			p.dirty = false
		}
	}
	m.dirty = 0
	m.trim()
	if len(m.edits) > editsMost {
		return m.fold(put)
	}
	return nil
}

// fold puts the nodes anew whose pages changed.
func (m *lbaMap) fold(put emit) error {
	nodes := slices.Clone(m.nodes) // a state may share the old ones
	done := map[int64]bool{}
	for n := range m.edits {
		done[n/format.MapNodePages] = true
	}
	for _, k := range slices.Sorted(maps.Keys(done)) {
		node, err := putNode(m.refs[k*format.MapNodePages:][:format.MapNodePages], put)
		if err != nil {
			return err
		}
		nodes[k] = node
	}
	m.nodes, m.edits = nodes, map[int64]*artifact.Ref{}
	return nil
}

// state is how to go on from here, as a value. All that changed must have been put.
func (m *lbaMap) state() (*format.MapState, *format.Passes) {
	st := &format.MapState{Next: m.next, Nodes: slices.Clip(m.nodes), Pages: slices.Clone(m.refs[len(m.nodes)*format.MapNodePages:])}
	var ps *format.Passes
	if len(m.loose) > 0 || len(m.edits) > 0 {
		ps = &format.Passes{Loose: encodeLoose(m.loose)}
		for _, n := range slices.Sorted(maps.Keys(m.edits)) {
			ps.Edits = append(ps.Edits, format.PageEdit{Page: n, Ref: m.edits[n]})
		}
	}
	if n := m.next / format.MapPageSpan; m.next%format.MapPageSpan != 0 && n >= int64(len(m.refs)) {
		if p := m.open[n]; m.isLoose(n) {
			ps.Open = p.flat()
		} else {
			st.Ranges = p.final()
		}
	}
	return st, ps
}

// finish puts what is open, and the root.
func (m *lbaMap) finish(ctx context.Context, put emit) (artifact.Ref, error) {
	if err := m.fill(ctx, m.size, put); err != nil {
		return artifact.Ref{}, err
	}
	if n := m.next / format.MapPageSpan; m.next%format.MapPageSpan != 0 && n >= int64(len(m.refs)) {
		p := m.open[n]
		delete(m.open, n)
		ref, err := m.put(n, p, put)
		if err != nil {
			return artifact.Ref{}, err
		}
		m.refs = append(m.refs, ref)
	}
	if err := m.flush(put); err != nil {
		return artifact.Ref{}, err
	}
	if err := m.fold(put); err != nil {
		return artifact.Ref{}, err
	}
	nodes := m.nodes
	if rest := m.refs[len(nodes)*format.MapNodePages:]; len(rest) > 0 {
		node, err := putNode(rest, put)
		if err != nil {
			return artifact.Ref{}, err
		}
		nodes = append(slices.Clone(nodes), node)
	}
	return put(artifact.MapRoot, format.MapRoot{Version: format.Version, Size: m.size, Nodes: nodes})
}

// encodeLoose writes a set of super-blocks as runs.
func encodeLoose(set map[int64]bool) (b []byte) {
	at := int64(0)
	sorted := slices.Sorted(maps.Keys(set))
	for i := 0; i < len(sorted); {
		j := i
		for j < len(sorted) && sorted[j] == sorted[i]+int64(j-i) {
			j++
		}
		b = binary.AppendUvarint(b, uint64(sorted[i]-at))
		b = binary.AppendUvarint(b, uint64(j-i))
		at = sorted[j-1] + 1
		i = j
	}
	return b
}

// decodeLoose reads what encodeLoose writes, of a source of so many super-blocks.
func decodeLoose(b []byte, most int64) (map[int64]bool, error) {
	set, at := map[int64]bool{}, int64(0)
	for len(b) > 0 {
		skip, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, fmt.Errorf("list of loose super-blocks: %w", artifact.ErrDamaged)
		}
		run, k := binary.Uvarint(b[n:])
		if k <= 0 || run == 0 || skip > uint64(most-at) || run > uint64(most-at)-skip {
			return nil, fmt.Errorf("list of loose super-blocks: %w", artifact.ErrDamaged)
		}
		b = b[n+k:]
		at += int64(skip)
		for range run {
			set[at] = true
			at++
		}
	}
	return set, nil
}
