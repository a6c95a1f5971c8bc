package store

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"aslrescue/engine/artifact"
	"aslrescue/engine/store/format"
)

// location is where a copy of an artifact lies.
type location struct {
	block artifact.Digest
	entry format.BlockEntry
	size  uint32 // of the block; 0 where that is not known
}

// segmentPart is one segment object as the index holds it: filter and fences in memory, pages on the store. Where the
// object is damaged, rescued holds what its blocks' directories say instead.
type segmentPart struct {
	id      artifact.Digest
	meta    *format.SegmentMeta
	rescued atomic.Pointer[rescuedDirs]
}

// indexRun is a run with its parts open.
type indexRun struct {
	of    []int // level 0 segments, as in runState
	parts []*segmentPart
}

// pageCache keeps decoded pages and block rows. Two generations stand for an exact order of use.
type pageCache struct {
	mu         sync.Mutex
	young, old map[pageKey]any
	max        int
}

type pageKey struct {
	part *segmentPart
	page int // pages of entries from 0, groups of block rows from -1 down
}

func newPageCache(pages int) *pageCache {
	return &pageCache{young: map[pageKey]any{}, old: map[pageKey]any{}, max: max(16, pages/2)}
}

func (c *pageCache) get(k pageKey) (any, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.young[k]; ok {
		return v, true
	}
	v, ok := c.old[k]
	if ok {
		c.put(k, v)
	}
	return v, ok
}

func (c *pageCache) add(k pageKey, v any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put(k, v)
}

func (c *pageCache) put(k pageKey, v any) {
	if len(c.young) >= c.max {
		c.young, c.old = make(map[pageKey]any, c.max), c.young
	}
	c.young[k] = v
}

// index answers where an artifact lies, exactly. It is safe for concurrent use as long as its runs are not changed.
type index struct {
	b     Backend
	cache *pageCache
	parts map[artifact.Digest]*segmentPart // open ones, shared by all indexes of a Store
	runs  []indexRun
}

// openPart reads what the index keeps of a segment of a level, which must be of these blocks: of level 0 exactly, otherwise of some of
// them. A damaged one of level 0 is replaced by the blocks' directories.
func openPart(ctx context.Context, b Backend, id artifact.Digest, level uint16, blocks []artifact.Digest) (*segmentPart, error) {
	meta, rows, err := readSegmentMeta(ctx, b, id)
	if err == nil && (meta.Level != level || !sameBlocks(level, rows, blocks)) {
		err = fmt.Errorf("it is another segment than the log says: %w", artifact.ErrDamaged)
	}
	if err == nil {
		return &segmentPart{id: id, meta: meta}, nil
	}
	found := rescuedDirs{}
	if isDamage(err) {
		err = nil
		if level == 0 {
			err = found.directories(ctx, b, blocks)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("segment %s: %w", id, err)
	}
	p := &segmentPart{id: id}
	p.rescued.Store(&found)
	return p, nil
}

func sameBlocks(level uint16, rows []format.BlockRow, blocks []artifact.Digest) bool {
	if level == 0 {
		return slices.EqualFunc(rows, blocks, func(r format.BlockRow, id artifact.Digest) bool { return r.ID == id })
	}
	known := make(map[artifact.Digest]bool, len(blocks))
	for _, id := range blocks {
		known[id] = true
	}
	return !slices.ContainsFunc(rows, func(r format.BlockRow) bool { return !known[r.ID] })
}

func readSegmentMeta(ctx context.Context, b Backend, id artifact.Digest) (*format.SegmentMeta, []format.BlockRow, error) {
	name := "segments/" + id.String()
	head, err := readRange(ctx, b, name, 0, format.SegmentHeaderSize)
	if err != nil {
		return nil, nil, shortIsDamage(err)
	}
	h, err := format.DecodeSegmentHeader(head)
	if err != nil {
		return nil, nil, err
	}
	tail, err := readRange(ctx, b, name, h.Table, h.Size-h.Table)
	if err != nil {
		return nil, nil, shortIsDamage(err)
	}
	rows, err := format.DecodeBlockRows(tail[:h.Fences-h.Table])
	if err != nil {
		return nil, nil, err
	}
	meta, err := format.DecodeSegmentMeta(h, head, tail[h.Fences-h.Table:])
	return meta, rows, err
}

func readBlockDir(ctx context.Context, b Backend, id artifact.Digest) ([]format.BlockEntry, error) {
	name := "blocks/" + id.String()
	head, err := readRange(ctx, b, name, 0, format.BlockHeaderSize)
	if err != nil {
		return nil, shortIsDamage(err)
	}
	h, err := format.DecodeBlockHeader(head)
	if err != nil {
		return nil, err
	}
	tail, err := readRange(ctx, b, name, h.Dir, h.Size()-h.Dir)
	if err != nil {
		return nil, shortIsDamage(err)
	}
	return format.DecodeBlockDir(h, head, tail)
}

// find gives the copies of an artifact: all of them, or for first only some.
func (ix *index) find(ctx context.Context, d artifact.Digest, first bool) ([]location, error) {
	var found []location
	for i := len(ix.runs) - 1; i >= 0; i-- { // what was stored last is asked for first
		for _, p := range ix.runs[i].partsFor(d) {
			if p.rescued.Load() == nil && !p.meta.MayContain(d) {
				continue
			}
			some, err := ix.findIn(ctx, p, d)
			if err != nil {
				return nil, err
			}
			found = append(found, some...)
			if first && len(found) > 0 {
				return found, nil
			}
		}
	}
	return found, nil
}

// partsFor are the parts of the run that can hold the digest: one, as parts divide the digests in order, or two where a part begins
// with the digest's own key. What a part begins with is not known of damaged ones, and then all are asked.
func (r *indexRun) partsFor(d artifact.Digest) []*segmentPart {
	if len(r.parts) == 1 {
		return r.parts
	}
	for _, p := range r.parts {
		if p.meta == nil {
			return r.parts
		}
	}
	k := format.Key(d)
	after := sort.Search(len(r.parts), func(i int) bool { return r.parts[i].meta.First() > k })
	from := max(0, after-1)
	for from > 0 && r.parts[from].meta.First() == k {
		from--
	}
	return r.parts[from:after]
}

func (ix *index) findIn(ctx context.Context, p *segmentPart, d artifact.Digest) ([]location, error) {
	if r := p.rescued.Load(); r != nil {
		return (*r)[d], nil
	}
	var found []location
	first, last := p.meta.PagesFor(d)
	for i := first; i <= last; i++ {
		entries, err := ix.page(ctx, p, i)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.Ref.Digest != d {
				continue
			}
			row, err := ix.blockRow(ctx, p, int(e.Block))
			if err != nil {
				return nil, err
			}
			found = append(found, location{row.ID, format.BlockEntry{Ref: e.Ref, Tag: e.Tag, Codec: e.Codec, Off: e.Off, Stored: e.Stored, Raw: e.Raw}, row.Size})
		}
	}
	return found, nil
}

func (ix *index) page(ctx context.Context, p *segmentPart, i int) ([]format.SegmentEntry, error) {
	k := pageKey{p, i}
	if v, ok := ix.cache.get(k); ok {
		return v.([]format.SegmentEntry), nil
	}
	raw, err := readRange(ctx, ix.b, "segments/"+p.id.String(), p.meta.PageAt(i), format.PageSize)
	if err != nil {
		return nil, segmentErr(p, err)
	}
	entries, err := format.DecodePage(raw)
	if err == nil && format.Key(entries[0].Ref.Digest) != p.meta.Fence(i) {
		err = fmt.Errorf("page %d stands in the place of another: %w", i, artifact.ErrDamaged)
	}
	if err != nil {
		return nil, segmentErr(p, err)
	}
	ix.cache.add(k, entries)
	return entries, nil
}

const rowGroup = 64

func (ix *index) blockRow(ctx context.Context, p *segmentPart, i int) (format.BlockRow, error) {
	if i >= int(p.meta.Blocks) {
		return format.BlockRow{}, segmentErr(p, fmt.Errorf("entry names block %d of %d: %w", i, p.meta.Blocks, artifact.ErrDamaged))
	}
	group := i / rowGroup
	k := pageKey{p, -1 - group}
	if v, ok := ix.cache.get(k); ok {
		return v.([]format.BlockRow)[i%rowGroup], nil
	}
	n := min(rowGroup, int(p.meta.Blocks)-group*rowGroup)
	raw, err := readRange(ctx, ix.b, "segments/"+p.id.String(), p.meta.Table+int64(group)*rowGroup*format.BlockRowSize, int64(n)*format.BlockRowSize)
	if err != nil {
		return format.BlockRow{}, segmentErr(p, err)
	}
	rows, err := format.DecodeBlockRows(raw)
	if err != nil {
		return format.BlockRow{}, segmentErr(p, err)
	}
	ix.cache.add(k, rows)
	return rows[i%rowGroup], nil
}

// damagedSegment says that a segment went bad after it was opened.
type damagedSegment struct {
	part *segmentPart
	err  error
}

func (e *damagedSegment) Error() string { return fmt.Sprintf("segment %s: %v", e.part.id, e.err) }
func (e *damagedSegment) Unwrap() error { return e.err }

func segmentErr(p *segmentPart, err error) error { return &damagedSegment{p, shortIsDamage(err)} }

// memory is about how many bytes the index keeps for answering "surely new".
func (ix *index) memory() (bytes int, entries uint64) {
	for _, r := range ix.runs {
		for _, p := range r.parts {
			if p.meta != nil {
				bytes += p.meta.Bytes()
				entries += p.meta.Entries
			}
		}
	}
	return bytes, entries
}
