package format

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"sort"

	"github.com/FastFilter/xorfilter"

	"aslrescue/engine/artifact"
)

// Sizes and limits of a segment; see docs/store-format.md section 4.
const (
	SegmentHeaderSize = 96
	PageSize          = 4096
	SegmentEntrySize  = 55
	PageEntries       = (PageSize - 8) / SegmentEntrySize
	BlockRowSize      = 44
	SegmentTrailer    = 32
	// SegmentEntriesMax bounds the entries of one segment object; larger runs are divided.
	SegmentEntriesMax = 262_144
)

var segmentMagic = [8]byte{'A', 'S', 'L', 'S', 'E', 'G', '0', '1'}

// BlockRow is a row of a segment's block table.
type BlockRow struct {
	ID         artifact.Digest
	Generation uint32
	Size       uint32 // bytes of the block
}

// SegmentEntry says where an artifact lies.
type SegmentEntry struct {
	Ref    artifact.Ref
	Tag    artifact.Tag
	Codec  Codec
	Block  uint32 // row of the block table
	Off    uint32
	Stored uint32
	Raw    uint32
}

func compareEntries(a, b SegmentEntry) int {
	if c := bytes.Compare(a.Ref.Digest[:], b.Ref.Digest[:]); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(a.Block, b.Block), cmp.Compare(a.Off, b.Off))
}

// Key is what a filter and the fences know of a digest.
func Key(d artifact.Digest) uint64 { return binary.BigEndian.Uint64(d[:8]) }

// EncodeSegment gives the bytes of a segment. It sorts entries in place.
func EncodeSegment(level uint16, blocks []BlockRow, entries []SegmentEntry) ([]byte, error) {
	if len(entries) == 0 || len(entries) > SegmentEntriesMax {
		return nil, damaged("segment of %d entries", len(entries))
	}
	slices.SortFunc(entries, compareEntries)
	pages := (len(entries) + PageEntries - 1) / PageEntries
	out := make([]byte, SegmentHeaderSize+pages*PageSize, SegmentHeaderSize+pages*(PageSize+8)+len(blocks)*BlockRowSize+len(entries)*5/4+2048)
	fences := make([]byte, 0, pages*8)
	for i := range pages {
		some := entries[i*PageEntries : min((i+1)*PageEntries, len(entries))]
		encodePage(out[SegmentHeaderSize+i*PageSize:][:PageSize], some)
		fences = append(fences, some[0].Ref.Digest[:8]...)
	}
	table := len(out)
	for _, r := range blocks {
		out = append(out, r.ID[:]...)
		out = le.AppendUint32(out, r.Generation)
		out = le.AppendUint32(out, r.Size)
		out = le.AppendUint32(out, crc(out[len(out)-BlockRowSize+4:]))
	}
	fencesAt := len(out)
	out = append(out, fences...)
	filterAt := len(out)
	out, err := appendFilter(out, entries)
	if err != nil {
		return nil, err
	}
	h := out[:SegmentHeaderSize]
	copy(h, segmentMagic[:])
	le.PutUint32(h[8:], Version)
	le.PutUint32(h[12:], SegmentHeaderSize)
	le.PutUint16(h[24:], level)
	le.PutUint16(h[26:], PageEntries)
	le.PutUint32(h[28:], uint32(len(blocks)))
	le.PutUint64(h[32:], uint64(len(entries)))
	le.PutUint64(h[40:], SegmentHeaderSize)
	le.PutUint64(h[48:], uint64(table))
	le.PutUint64(h[56:], uint64(fencesAt))
	le.PutUint64(h[64:], uint64(filterAt))
	le.PutUint64(h[72:], uint64(len(out)+SegmentTrailer))
	le.PutUint32(h[92:], crc(h[:92]))
	sum := segmentSum(h, out[fencesAt:])
	return append(out, sum[:]...), nil
}

func segmentSum(header, fencesAndFilter []byte) artifact.Digest {
	return artifact.HashBytes(slices.Concat(header, fencesAndFilter))
}

func encodePage(page []byte, entries []SegmentEntry) {
	le.PutUint32(page, uint32(len(entries)))
	b := page[4:4]
	for _, e := range entries {
		b = append(b, e.Ref.Digest[:]...)
		b = le.AppendUint16(b, uint16(e.Ref.Hash))
		b = append(b, byte(e.Codec))
		b = le.AppendUint32(b, uint32(e.Tag))
		b = le.AppendUint32(b, e.Block)
		b = le.AppendUint32(b, e.Off)
		b = le.AppendUint32(b, e.Stored)
		b = le.AppendUint32(b, e.Raw)
	}
	le.PutUint32(page[PageSize-4:], crc(page[:PageSize-4]))
}

// DecodePage reads one page of entries.
func DecodePage(page []byte) ([]SegmentEntry, error) {
	if len(page) != PageSize {
		return nil, damaged("segment page: %d bytes", len(page))
	}
	if le.Uint32(page[PageSize-4:]) != crc(page[:PageSize-4]) {
		return nil, damaged("segment page: checksum is wrong")
	}
	n := le.Uint32(page)
	if n == 0 || n > PageEntries {
		return nil, damaged("segment page: %d entries", n)
	}
	entries := make([]SegmentEntry, n)
	for i := range entries {
		b := page[4+i*SegmentEntrySize:]
		e := SegmentEntry{
			Ref:   artifact.Ref{Hash: artifact.HashID(le.Uint16(b[32:])), Digest: artifact.Digest(b[:32])},
			Codec: Codec(b[34]), Tag: artifact.Tag(le.Uint32(b[35:])),
			Block: le.Uint32(b[39:]), Off: le.Uint32(b[43:]), Stored: le.Uint32(b[47:]), Raw: le.Uint32(b[51:]),
		}
		if e.Ref.Hash != artifact.BLAKE3 || e.Codec > Zstd {
			return nil, unsupported("segment entry: hash id %#04x, codec %d", uint16(e.Ref.Hash), e.Codec)
		}
		if e.Raw > artifact.MaxSize || e.Stored > e.Raw {
			return nil, damaged("segment entry: stored %d, raw %d", e.Stored, e.Raw)
		}
		if i > 0 && compareEntries(entries[i-1], e) >= 0 {
			return nil, damaged("segment page: entries are not sorted")
		}
		entries[i] = e
	}
	return entries, nil
}

// SegmentHeader is what the first 96 bytes say.
type SegmentHeader struct {
	Level   uint16
	Blocks  uint32
	Entries uint64
	Table   int64 // offset of the block table
	Fences  int64
	Filter  int64
	Size    int64 // of the whole segment
}

// Pages is the number of pages of entries.
func (h SegmentHeader) Pages() int { return int((h.Entries + PageEntries - 1) / PageEntries) }

// PageAt is the offset of page i.
func (h SegmentHeader) PageAt(i int) int64 { return SegmentHeaderSize + int64(i)*PageSize }

// DecodeSegmentHeader reads the first bytes of a segment.
func DecodeSegmentHeader(b []byte) (SegmentHeader, error) {
	var h SegmentHeader
	if len(b) < SegmentHeaderSize {
		return h, damaged("segment: %d bytes are too short for a header", len(b))
	}
	b = b[:SegmentHeaderSize]
	if [8]byte(b) != segmentMagic {
		return h, damaged("segment: does not begin with ASLSEG01")
	}
	if v := le.Uint32(b[8:]); v != Version {
		return h, unsupported("segment: version %d", v)
	}
	if le.Uint32(b[92:]) != crc(b[:92]) {
		return h, damaged("segment: header checksum is wrong")
	}
	if le.Uint64(b[16:]) != 0 {
		return h, unsupported("segment: flags %#x", le.Uint64(b[16:]))
	}
	h = SegmentHeader{
		Level: le.Uint16(b[24:]), Blocks: le.Uint32(b[28:]), Entries: le.Uint64(b[32:]),
		Table: int64(le.Uint64(b[48:])), Fences: int64(le.Uint64(b[56:])), Filter: int64(le.Uint64(b[64:])), Size: int64(le.Uint64(b[72:])),
	}
	if h.Entries == 0 || h.Entries > SegmentEntriesMax || le.Uint16(b[26:]) != PageEntries ||
		h.Table != h.PageAt(h.Pages()) || h.Fences != h.Table+int64(h.Blocks)*BlockRowSize ||
		h.Filter != h.Fences+8*int64(h.Pages()) || h.Size < h.Filter+filterHeader+SegmentTrailer || h.Size > h.Filter+16*SegmentEntriesMax {
		return h, damaged("segment: header fields do not fit each other")
	}
	return h, nil
}

// SegmentMeta is the part of a segment that opening keeps in memory.
type SegmentMeta struct {
	SegmentHeader
	fences []uint64
	filter xorfilter.BinaryFuse[uint8]
}

// Bytes is about how much memory m takes.
func (m *SegmentMeta) Bytes() int { return 8*len(m.fences) + len(m.filter.Fingerprints) + 160 }

const filterHeader = 24

func appendFilter(out []byte, sorted []SegmentEntry) ([]byte, error) {
	keys := make([]uint64, 0, len(sorted))
	for _, e := range sorted {
		if k := Key(e.Ref.Digest); len(keys) == 0 || keys[len(keys)-1] != k {
			keys = append(keys, k)
		}
	}
	f, err := xorfilter.NewBinaryFuse[uint8](keys)
	if err != nil {
		return nil, err
	}
	out = le.AppendUint64(out, f.Seed)
	out = le.AppendUint32(out, f.SegmentLength)
	out = le.AppendUint32(out, f.SegmentCountLength)
	out = le.AppendUint32(out, f.SegmentCount)
	out = le.AppendUint32(out, uint32(len(f.Fingerprints)))
	return append(out, f.Fingerprints...), nil
}

// DecodeSegmentMeta reads fences and filter: tail is the segment's bytes from h.Fences on, header its first 96.
func DecodeSegmentMeta(h SegmentHeader, header, tail []byte) (*SegmentMeta, error) {
	if int64(len(tail)) != h.Size-h.Fences || len(header) < SegmentHeaderSize {
		return nil, damaged("segment: %d bytes from the fences on, want %d", len(tail), h.Size-h.Fences)
	}
	body, sum := tail[:len(tail)-SegmentTrailer], tail[len(tail)-SegmentTrailer:]
	if segmentSum(header[:SegmentHeaderSize], body) != artifact.Digest(sum) {
		return nil, damaged("segment: checksum of fences and filter is wrong")
	}
	m := &SegmentMeta{SegmentHeader: h, fences: make([]uint64, h.Pages())}
	for i := range m.fences {
		m.fences[i] = binary.BigEndian.Uint64(body[8*i:])
		if i > 0 && m.fences[i] < m.fences[i-1] {
			return nil, damaged("segment: fences are not sorted")
		}
	}
	f := body[8*len(m.fences):]
	m.filter = xorfilter.BinaryFuse[uint8]{
		Seed: le.Uint64(f), SegmentLength: le.Uint32(f[8:]), SegmentCountLength: le.Uint32(f[12:]), SegmentCount: le.Uint32(f[16:]),
		Fingerprints: bytes.Clone(f[filterHeader:]),
	}
	m.filter.SegmentLengthMask = m.filter.SegmentLength - 1
	n := uint64(le.Uint32(f[20:]))
	if n != uint64(len(m.filter.Fingerprints)) || m.filter.SegmentLength == 0 || m.filter.SegmentLength&m.filter.SegmentLengthMask != 0 ||
		uint64(m.filter.SegmentCountLength)+2*uint64(m.filter.SegmentLength) > n {
		return nil, damaged("segment: filter fields do not fit each other")
	}
	return m, nil
}

// MayContain is false if no entry has the digest.
func (m *SegmentMeta) MayContain(d artifact.Digest) bool { return m.filter.Contains(Key(d)) }

// PagesFor gives the pages, first to last inclusive, that can hold the digest; first > last if none can.
func (m *SegmentMeta) PagesFor(d artifact.Digest) (first, last int) {
	k := Key(d)
	last = sort.Search(len(m.fences), func(i int) bool { return m.fences[i] > k }) - 1
	first = max(0, sort.Search(len(m.fences), func(i int) bool { return m.fences[i] >= k })-1)
	return first, last
}

// DecodeBlockRow reads one row of the block table.
func DecodeBlockRow(b []byte) (BlockRow, error) {
	if len(b) != BlockRowSize {
		return BlockRow{}, damaged("segment: block row of %d bytes", len(b))
	}
	if le.Uint32(b[40:]) != crc(b[:40]) {
		return BlockRow{}, damaged("segment: block row checksum is wrong")
	}
	return BlockRow{artifact.Digest(b[:32]), le.Uint32(b[32:]), le.Uint32(b[36:])}, nil
}

// DecodeBlockRows reads a block table, or some whole rows of it.
func DecodeBlockRows(b []byte) ([]BlockRow, error) {
	rows := make([]BlockRow, 0, len(b)/BlockRowSize)
	for ; len(b) > 0; b = b[min(len(b), BlockRowSize):] {
		r, err := DecodeBlockRow(b[:min(len(b), BlockRowSize)])
		if err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// First is the Key of the segment's first digest.
func (m *SegmentMeta) First() uint64 { return m.fences[0] }

// Segment is a whole segment, decoded.
type Segment struct {
	Meta    *SegmentMeta
	Blocks  []BlockRow
	Entries []SegmentEntry
}

// DecodeSegment checks and reads a whole segment, and that the bytes have the name id.
func DecodeSegment(id artifact.Digest, b []byte) (*Segment, error) {
	h, err := DecodeSegmentHeader(b)
	if err != nil {
		return nil, err
	}
	if int64(len(b)) != h.Size {
		return nil, damaged("segment: %d bytes, its header wants %d", len(b), h.Size)
	}
	if got := artifact.HashBytes(b); got != id {
		return nil, damaged("segment: bytes hash to %s", got)
	}
	s := &Segment{}
	if s.Meta, err = DecodeSegmentMeta(h, b, b[h.Fences:]); err != nil {
		return nil, err
	}
	if s.Blocks, err = DecodeBlockRows(b[h.Table:h.Fences]); err != nil {
		return nil, err
	}
	for i := range h.Pages() {
		page, err := DecodePage(b[h.PageAt(i):][:PageSize])
		if err != nil {
			return nil, err
		}
		for _, e := range page {
			if e.Block >= h.Blocks {
				return nil, damaged("segment: entry names block %d of %d", e.Block, h.Blocks)
			}
		}
		s.Entries = append(s.Entries, page...)
	}
	if uint64(len(s.Entries)) != h.Entries {
		return nil, damaged("segment: %d entries, its header wants %d", len(s.Entries), h.Entries)
	}
	return s, nil
}
