package format

import (
	"bytes"
	"fmt"

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
	Ref  []byte // binary form of a reference, for data; nil otherwise
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
	case r.Kind < source.Data || r.Kind > source.Untried:
		return unsupported("range of kind %d", r.Kind)
	case r.Len <= 0:
		return damaged("range of %d bytes", r.Len)
	case (r.Kind == source.Data) != (len(r.Ref) == artifact.RefSize), r.Kind != source.Data && r.Ref != nil:
		return damaged("range of kind %s with a reference of %d bytes", r.Kind, len(r.Ref))
	case r.Kind == source.Data && r.Len > artifact.MaxSize:
		return damaged("chunk of %d bytes", r.Len)
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
		if sum += r.Len; sum > want {
			break
		}
	}
	if sum != want {
		return damaged("ranges sum to %d bytes, want %d", sum, want)
	}
	return nil
}

// DecodeMapPage reads a map page that must cover span bytes.
func DecodeMapPage(b []byte, span int64) ([]Range, error) {
	var ranges []Range
	if err := Unmarshal(b, &ranges); err != nil {
		return nil, err
	}
	return ranges, checkRanges(ranges, span)
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
		return r, err
	}
	if r.Version != Version {
		return r, unsupported("map root: version %d", r.Version)
	}
	if r.Size < 0 || r.Size > 1<<62 || int64(len(r.Nodes)) != (Pages(r.Size)+MapNodePages-1)/MapNodePages {
		return r, damaged("map root: %d nodes for %d bytes", len(r.Nodes), r.Size)
	}
	return r, nil
}

// DecodeMapNode reads a map node that must have n pages.
func DecodeMapNode(b []byte, n int) ([]*artifact.Ref, error) {
	var refs []*artifact.Ref
	if err := Unmarshal(b, &refs); err != nil {
		return nil, err
	}
	if len(refs) != n {
		return nil, damaged("map node: %d pages, want %d", len(refs), n)
	}
	return refs, nil
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

func (e *Entry) check() error {
	switch {
	case e.Type < source.Regular || e.Type > source.Socket:
		return unsupported("entry %q: type %d", e.Name, e.Type)
	case len(e.Name) == 0 || len(e.Name) > 4096 || bytes.ContainsAny(e.Name, "/\x00") || string(e.Name) == "." || string(e.Name) == "..":
		return damaged("entry: the name %q cannot be a file's", e.Name)
	case e.Size < 0 || e.Mode&^07777 != 0 || e.MNsec < 0 || e.MNsec >= 1e9:
		return damaged("entry %q: size %d, mode %o, nanoseconds %d", e.Name, e.Size, e.Mode, e.MNsec)
	case e.Type != source.Regular && (e.Inline != nil || e.Ranges != nil || e.Map != nil), e.Type != source.Dir && e.Dir != nil:
		return damaged("entry %q: content does not fit its type", e.Name)
	case e.Inline != nil && int64(len(e.Inline)) != e.Size:
		return damaged("entry %q: %d bytes inline, size %d", e.Name, len(e.Inline), e.Size)
	case e.Ranges != nil:
		return checkRanges(e.Ranges, e.Size)
	}
	return nil
}

// DecodeDirPage reads a directory page.
func DecodeDirPage(b []byte) ([]Entry, error) {
	var entries []Entry
	if err := Unmarshal(b, &entries); err != nil {
		return nil, err
	}
	for i := range entries {
		if err := entries[i].check(); err != nil {
			return nil, err
		}
		if i > 0 && bytes.Compare(entries[i-1].Name, entries[i].Name) >= 0 {
			return nil, damaged("directory: %q stands after %q", entries[i].Name, entries[i-1].Name)
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
	var rows []DirPageRef
	if err := Unmarshal(b, &rows); err != nil {
		return nil, err
	}
	if len(rows) < 2 || len(rows) > DirPagesMax {
		return nil, damaged("directory root of %d pages", len(rows))
	}
	for i := range rows[1:] {
		if bytes.Compare(rows[i].First, rows[i+1].First) >= 0 {
			return nil, damaged("directory root: pages are not sorted")
		}
	}
	return rows, nil
}

// DecodeTreeLog reads a tree log.
func DecodeTreeLog(b []byte) ([]SeenFile, error) {
	var rows []SeenFile
	if err := Unmarshal(b, &rows); err != nil {
		return nil, err
	}
	if len(rows) > TreeLogRows {
		return nil, damaged("tree log of %d rows", len(rows))
	}
	return rows, nil
}
