package store

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"aslrescue/engine/artifact"
	"aslrescue/engine/source"
	"aslrescue/engine/store/format"
)

// GapError says that a snapshot holds no bytes for what was asked. It is no failure of the store.
type GapError struct {
	Off, Len int64 // the whole gap
	Kind     source.RangeKind
}

func (e *GapError) Error() string {
	return fmt.Sprintf("the snapshot holds no bytes for %d at %d: %s", e.Len, e.Off, e.Kind)
}

// Reader reads a linear source out of a snapshot at any offset. Where the source could not be read it gives a *GapError, never zeros. It is safe
// for several goroutines, which wait for each other.
type Reader struct {
	v    *View
	ctx  context.Context
	root format.MapRoot

	mu     sync.Mutex
	nodes  lru[int64, []*artifact.Ref]
	pages  lru[int64, []Stretch]
	chunks lru[int64, []byte]
}

// What a Reader keeps: a page of ranges is up to a megabyte, a chunk a quarter of one as a rule.
const (
	readerNodes  = 4
	readerPages  = 8
	readerChunks = 64
)

// Reader opens the map at root for reading at any offset. ctx bounds all its reads.
func (v *View) Reader(ctx context.Context, root artifact.Ref) (*Reader, error) {
	r, err := v.mapRoot(ctx, root)
	if err != nil {
		return nil, err
	}
	return &Reader{v: v, ctx: ctx, root: r, nodes: lru[int64, []*artifact.Ref]{most: readerNodes}, pages: lru[int64, []Stretch]{most: readerPages},
		chunks: lru[int64, []byte]{most: readerChunks}}, nil
}

// Size is the source's, in bytes.
func (r *Reader) Size() int64 { return r.root.Size }

// ReadAt fills p from off. At a gap it gives the bytes before it and a *GapError.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("offset %d is negative", off)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for n < len(p) {
		if off+int64(n) >= r.root.Size {
			return n, io.EOF
		}
		got, err := r.some(p[n:], off+int64(n))
		n += got
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// Range tells what stands at off: its stretch of the map.
func (r *Reader) Range(off int64) (Stretch, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at(off)
}

func (r *Reader) some(p []byte, off int64) (int, error) {
	st, err := r.at(off)
	if err != nil {
		return 0, err
	}
	skip := off - st.Off
	p = p[:min(int64(len(p)), st.Len-skip)]
	switch st.Kind {
	case source.Data:
		data, err := r.chunk(st)
		if err != nil {
			return 0, err
		}
		return copy(p, data[skip:]), nil
	case source.Zero:
		clear(p)
		return len(p), nil
	}
	return 0, &GapError{Off: st.Off, Len: st.Len, Kind: st.Kind}
}

func (r *Reader) at(off int64) (Stretch, error) {
	page, err := r.page(off / format.MapPageSpan)
	if err != nil {
		return Stretch{}, err
	}
	i, ok := slices.BinarySearchFunc(page, off, func(s Stretch, off int64) int { return cmp.Compare(s.Off, off) })
	if !ok {
		i--
	}
	if i < 0 || off >= page[i].Off+page[i].Len {
		return Stretch{}, fmt.Errorf("the map says nothing of offset %d: %w", off, artifact.ErrDamaged)
	}
	return page[i], nil
}

func (r *Reader) page(i int64) ([]Stretch, error) {
	if p, ok := r.pages.get(i); ok {
		return p, nil
	}
	var ref *artifact.Ref
	if k := i / format.MapNodePages; r.root.Nodes[k] != nil {
		refs, ok := r.nodes.get(k)
		if !ok {
			var err error
			if refs, err = r.v.mapNode(r.ctx, *r.root.Nodes[k], int(min(format.MapNodePages, format.Pages(r.root.Size)-k*format.MapNodePages))); err != nil {
				return nil, err
			}
			r.nodes.put(k, refs)
		}
		ref = refs[i%format.MapNodePages]
	}
	off := i * format.MapPageSpan
	p, err := r.v.mapPage(r.ctx, ref, off, min(format.MapPageSpan, r.root.Size-off))
	if err != nil {
		return nil, err
	}
	r.pages.put(i, p)
	return p, nil
}

func (r *Reader) chunk(st Stretch) ([]byte, error) {
	if data, ok := r.chunks.get(st.Off); ok {
		return data, nil
	}
	ref, err := st.Artifact()
	if err != nil {
		return nil, err
	}
	data, _, err := r.v.Get(r.ctx, ref)
	if err == nil && int64(len(data)) != st.Len {
		err = fmt.Errorf("chunk %s has %d bytes, the map wants %d: %w", ref, len(data), st.Len, artifact.ErrDamaged)
	}
	if err != nil {
		return nil, fmt.Errorf("at %d: %w", st.Off, err)
	}
	r.chunks.put(st.Off, data)
	return data, nil
}

func (v *View) mapNode(ctx context.Context, ref artifact.Ref, pages int) ([]*artifact.Ref, error) {
	data, err := v.getTagged(ctx, ref, artifact.MapNode)
	if err != nil {
		return nil, err
	}
	return format.DecodeMapNode(data, pages)
}

// lru keeps the values that were asked for last. most is small: it is searched from end to end.
type lru[K comparable, V any] struct {
	most int
	keys []K // the last one asked for is the last
	vals []V
}

func (l *lru[K, V]) get(k K) (v V, ok bool) {
	i := slices.Index(l.keys, k)
	if i < 0 {
		return v, false
	}
	v = l.vals[i]
	l.keys, l.vals = append(slices.Delete(l.keys, i, i+1), k), append(slices.Delete(l.vals, i, i+1), v)
	return v, true
}

func (l *lru[K, V]) put(k K, v V) {
	if len(l.keys) == l.most {
		l.keys, l.vals = slices.Delete(l.keys, 0, 1), slices.Delete(l.vals, 0, 1)
	}
	l.keys, l.vals = append(l.keys, k), append(l.vals, v)
}
