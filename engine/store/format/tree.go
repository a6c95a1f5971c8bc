package format

import (
	"bytes"
	"fmt"
	"slices"

	"aslrescue/engine/artifact"
	"aslrescue/engine/source"
)

// Sizes and limits of maps and trees; see docs/store-format.md sections 6 and 7.
const (
	MapPageSpan   = 64 << 20 // bytes of offset that a map page covers
	MapNodePages  = 1024
	InlineMax     = 1 << 10 // content that stands in the entry
	RangesInEntry = 16
	DirPageSize   = 256 << 10 // encoded bytes
	DirPagesMax   = 32_768
	TreeLogRows   = 1024
)

// Range is a stretch of a map.
type Range struct {
	_    struct{} `cbor:",toarray"`
	Kind source.RangeKind
	Len  int64  // bytes
	Ref  []byte // binary form of a reference, for data; empty otherwise
}

// DataRange is a range of one chunk.
func DataRange(ref artifact.Ref, n int64) Range {
	b, _ := ref.MarshalBinary()
	return Range{Kind: source.Data, Len: n, Ref: b}
}

// Artifact is the chunk of a data range.
func (r Range) Artifact() (artifact.Ref, error) {
	var ref artifact.Ref
	if err := ref.UnmarshalBinary(r.Ref); err != nil {
		return ref, damaged("range: %v", err)
	}
	return ref, nil
}

// check refuses what no encoder writes.
func (r Range) check() error {
	switch {
	case r.Kind < source.Data || r.Kind > source.Unstable:
		return unsupported("range of kind %d", r.Kind)
	case r.Len <= 0:
		return damaged("range of %d bytes", r.Len)
	case r.Kind != source.Data && len(r.Ref) > 0:
		return damaged("range of kind %s with a reference", r.Kind)
	case r.Kind != source.Data:
		return nil
	case r.Len > artifact.MaxSize:
		return damaged("chunk of %d bytes", r.Len)
	}
	ref, err := r.Artifact()
	if err != nil {
		return err
	}
	return checkRef(&ref)
}

func checkRef(r *artifact.Ref) error {
	switch {
	case r.IsZero():
		return damaged("a reference is missing")
	case r.Hash != artifact.BLAKE3:
		return unsupported("hash id %#04x", uint16(r.Hash))
	}
	return nil
}

// AppendRange adds r to ranges, joining it with the last where both are of one kind and hold no data.
func AppendRange(ranges []Range, r Range) []Range {
	if n := len(ranges); n > 0 && r.Kind != source.Data && ranges[n-1].Kind == r.Kind {
		last := ranges[n-1]
		last.Len += r.Len
		return append(ranges[:n-1:n-1], last) // never in place: a state may share the slice
	}
	return append(ranges, r)
}

func checkRanges(ranges []Range, want int64) error {
	sum := int64(0)
	for i, r := range ranges {
		if err := r.check(); err != nil {
			return fmt.Errorf("range %d: %w", i, err)
		}
		if i > 0 && r.Kind != source.Data && ranges[i-1].Kind == r.Kind {
			return damaged("range %d: should be joined with the one before", i)
		}
		if r.Len > want {
			return damaged("range %d: %d bytes of %d", i, r.Len, want)
		}
		if sum += r.Len; sum > want {
			break
		}
	}
	if sum != want {
		return damaged("ranges sum to %d bytes, want %d", sum, want)
	}
	return nil
}

// least encoded sizes of what arrays hold, in bytes
const (
	leastRange = 4 // [2, 1, '']
	leastEntry = 6 // {1: 'n', 2: 6}
	leastRow   = 10
)

// DecodeMapPage reads a map page that must cover span bytes.
func DecodeMapPage(b []byte, span int64) ([]Range, error) {
	if err := checkCount(b, leastRange, 1<<20); err != nil {
		return nil, fmt.Errorf("map page: %w", err)
	}
	var ranges []Range
	if err := Unmarshal(b, &ranges); err != nil {
		return nil, fmt.Errorf("map page: %w", err)
	}
	if span <= 0 || span > MapPageSpan || len(ranges) == 1 && ranges[0].Kind == source.Zero && span == MapPageSpan {
		return nil, damaged("map page: %d bytes in %d ranges do not make one", span, len(ranges))
	}
	if err := checkRanges(ranges, span); err != nil {
		return nil, fmt.Errorf("map page: %w", err)
	}
	return ranges, nil
}

// MapRoot is the top of a map.
type MapRoot struct {
	_       struct{} `cbor:",toarray"`
	Version int
	Size    int64
	Nodes   []*artifact.Ref // nil where all is zero
}

// Pages is the number of pages of a map of size bytes.
func Pages(size int64) int64 { return (size + MapPageSpan - 1) / MapPageSpan }

// DecodeMapRoot reads a map root.
func DecodeMapRoot(b []byte) (MapRoot, error) {
	var r MapRoot
	if err := Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("map root: %w", err)
	}
	if r.Version != Version {
		return r, unsupported("map root: version %d", r.Version)
	}
	if r.Size < 0 || r.Size > 1<<62 || int64(len(r.Nodes)) != (Pages(r.Size)+MapNodePages-1)/MapNodePages {
		return r, damaged("map root: %d nodes for %d bytes", len(r.Nodes), r.Size)
	}
	return r, checkRefs(r.Nodes)
}

func checkRefs(refs []*artifact.Ref) error {
	for _, r := range refs {
		if r == nil {
			continue
		}
		if err := checkRef(r); err != nil {
			return err
		}
	}
	return nil
}

// DecodeMapNode reads a map node that must have n pages.
func DecodeMapNode(b []byte, n int) ([]*artifact.Ref, error) {
	var refs []*artifact.Ref
	if err := Unmarshal(b, &refs); err != nil {
		return nil, fmt.Errorf("map node: %w", err)
	}
	if n < 1 || n > MapNodePages || len(refs) != n {
		return nil, damaged("map node: %d pages, want %d", len(refs), n)
	}
	if !slices.ContainsFunc(refs, func(r *artifact.Ref) bool { return r != nil }) {
		return nil, damaged("map node: no page")
	}
	return refs, checkRefs(refs)
}

// Xattr is one extended attribute of an entry.
type Xattr struct {
	_     struct{} `cbor:",toarray"`
	Name  []byte
	Value []byte
}

// Entry is what a tree keeps of one name.
type Entry struct {
	Name       []byte          `cbor:"1,keyasint,omitempty"`
	Type       source.FileType `cbor:"2,keyasint,omitempty"`
	Mode       uint32          `cbor:"3,keyasint,omitempty"`
	UID        uint32          `cbor:"4,keyasint,omitempty"`
	GID        uint32          `cbor:"5,keyasint,omitempty"`
	MSec       int64           `cbor:"6,keyasint,omitempty"`
	MNsec      int32           `cbor:"7,keyasint,omitempty"`
	Size       int64           `cbor:"8,keyasint,omitempty"`
	Major      uint32          `cbor:"9,keyasint,omitempty"`
	Minor      uint32          `cbor:"10,keyasint,omitempty"`
	Target     []byte          `cbor:"11,keyasint,omitempty"`
	Xattrs     []Xattr         `cbor:"12,keyasint,omitempty"`
	Sparse     bool            `cbor:"13,keyasint,omitempty"`
	Inline     []byte          `cbor:"14,keyasint,omitempty"`
	Ranges     []Range         `cbor:"15,keyasint,omitempty"`
	Map        *artifact.Ref   `cbor:"16,keyasint,omitempty"`
	Dir        *artifact.Ref   `cbor:"17,keyasint,omitempty"`
	Paged      bool            `cbor:"18,keyasint,omitempty"`
	Link       []byte          `cbor:"19,keyasint,omitempty"`
	Err        string          `cbor:"20,keyasint,omitempty"`
	Changed    string          `cbor:"21,keyasint,omitempty"`
	Unreadable int64           `cbor:"22,keyasint,omitempty"`
}

// check refuses what no encoder writes. An entry whose type is not known has type 0 and says why.
// Check refuses what a directory page cannot hold.
func (e *Entry) Check() error {
	if len(e.Name) == 0 || len(e.Name) > 4096 || bytes.ContainsAny(e.Name, "/\x00") || string(e.Name) == "." || string(e.Name) == ".." {
		return damaged("entry: the name %q cannot be a file's", e.Name)
	}
	return e.checkBody()
}

// checkBody is check but for the name, which of a top entry is its source's.
func (e *Entry) checkBody() error {
	contents := 0
	for _, has := range []bool{len(e.Inline) > 0, len(e.Ranges) > 0, e.Map != nil, len(e.Link) > 0} {
		if has {
			contents++
		}
	}
	regular := e.Type == source.Regular
	switch {
	case e.Type > source.Socket || e.Type == 0 && e.Err == "":
		return unsupported("entry %q: type %d", e.Name, e.Type)
	case e.Size < 0 || e.Mode&^07777 != 0 || e.MNsec < 0 || e.MNsec >= 1e9 || e.Unreadable < 0 || e.Unreadable > e.Size:
		return damaged("entry %q: size %d, unreadable %d, mode %o, nanoseconds %d", e.Name, e.Size, e.Unreadable, e.Mode, e.MNsec)
	case contents > 1 || !regular && (contents > 0 && len(e.Link) == 0 || e.Size > 0), len(e.Link) > 0 && (e.Type == source.Dir || e.Type == 0),
		e.Type != source.Dir && e.Dir != nil, e.Paged && e.Dir == nil:
		return damaged("entry %q: content does not fit its type", e.Name)
	case regular && e.Size > 0 && contents == 0 && e.Err == "":
		return damaged("entry %q: %d bytes without content", e.Name, e.Size)
	case len(e.Inline) > 0 && (int64(len(e.Inline)) != e.Size || e.Size > InlineMax):
		return damaged("entry %q: %d bytes inline, size %d", e.Name, len(e.Inline), e.Size)
	case len(e.Ranges) > RangesInEntry:
		return damaged("entry %q: %d ranges", e.Name, len(e.Ranges))
	}
	if err := checkRefs([]*artifact.Ref{e.Map, e.Dir}); err != nil {
		return fmt.Errorf("entry %q: %w", e.Name, err)
	}
	if len(e.Ranges) > 0 {
		if err := checkRanges(e.Ranges, e.Size); err != nil {
			return fmt.Errorf("entry %q: %w", e.Name, err)
		}
	}
	return nil
}

// DecodeDirPage reads a directory page.
func DecodeDirPage(b []byte) ([]Entry, error) {
	if err := checkCount(b, leastEntry, DirPageSize/leastEntry); err != nil {
		return nil, fmt.Errorf("directory page: %w", err)
	}
	var entries []Entry
	if err := Unmarshal(b, &entries); err != nil {
		return nil, fmt.Errorf("directory page: %w", err)
	}
	const head = 5 // of an array, at most
	if len(entries) == 0 || len(entries) > 1 && len(b) > DirPageSize+head {
		return nil, damaged("directory page: %d entries in %d bytes", len(entries), len(b))
	}
	for i := range entries {
		if err := entries[i].Check(); err != nil {
			return nil, fmt.Errorf("directory page: %w", err)
		}
		if i > 0 && bytes.Compare(entries[i-1].Name, entries[i].Name) >= 0 {
			return nil, damaged("directory page: %q stands after %q", entries[i].Name, entries[i-1].Name)
		}
	}
	return entries, nil
}

// DirPageRef is a row of a directory root.
type DirPageRef struct {
	_     struct{} `cbor:",toarray"`
	First []byte
	Ref   artifact.Ref
}

// DecodeDirRoot reads a directory root.
func DecodeDirRoot(b []byte) ([]DirPageRef, error) {
	if err := checkCount(b, 3+artifact.RefSize, DirPagesMax); err != nil {
		return nil, fmt.Errorf("directory root: %w", err)
	}
	var rows []DirPageRef
	if err := Unmarshal(b, &rows); err != nil {
		return nil, fmt.Errorf("directory root: %w", err)
	}
	if len(rows) < 2 {
		return nil, damaged("directory root of %d pages", len(rows))
	}
	for i := range rows {
		if err := checkRef(&rows[i].Ref); err != nil {
			return nil, fmt.Errorf("directory root: %w", err)
		}
		if i > 0 && bytes.Compare(rows[i-1].First, rows[i].First) >= 0 {
			return nil, damaged("directory root: pages are not sorted")
		}
	}
	return rows, nil
}

// DecodeTreeLog reads a tree log.
func DecodeTreeLog(b []byte) ([]SeenFile, error) {
	if err := checkCount(b, leastRow, TreeLogRows); err != nil {
		return nil, fmt.Errorf("tree log: %w", err)
	}
	var rows []SeenFile
	if err := Unmarshal(b, &rows); err != nil {
		return nil, fmt.Errorf("tree log: %w", err)
	}
	for i := range rows {
		c := rows[i].Content
		c.Type = source.Regular // rows need not say it
		if len(rows[i].Path) == 0 || len(c.Ranges) == 0 && c.Map == nil {
			return nil, damaged("tree log: row %d: no path or no stored content", i)
		}
		if err := c.checkBody(); err != nil {
			return nil, fmt.Errorf("tree log: row %d: %w", i, err)
		}
	}
	return rows, nil
}
