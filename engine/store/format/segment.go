package format

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
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
	// SegmentEntriesMax bounds the entries of one segment object, and so the memory that a reader needs.
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

// check refuses what no block holds.
func (e *SegmentEntry) check() error {
	switch {
	case e.Ref.Hash != artifact.BLAKE3 || e.Codec > Zstd:
		return unsupported("segment entry: hash id %#04x, codec %d", uint16(e.Ref.Hash), uint8(e.Codec))
	case e.Raw > artifact.MaxSize || e.Stored > e.Raw || (e.Codec == Plain) != (e.Stored == e.Raw),
		e.Off < BlockHeaderSize || uint64(e.Off)+uint64(e.Stored) > BlockHeaderSize+BlockRawMax:
		return damaged("segment entry: offset %d, stored %d, raw %d do not fit", e.Off, e.Stored, e.Raw)
	}
	return nil
}

// fits refuses what lies outside its block.
func (e *SegmentEntry) fits(blocks []BlockRow) error {
	if uint64(e.Block) >= uint64(len(blocks)) {
		return damaged("segment: entry names block %d of %d", e.Block, len(blocks))
	}
	if size := blocks[e.Block].Size; uint64(e.Off)+uint64(e.Stored)+BlockEntrySize+BlockTrailer > uint64(size) {
		return damaged("segment: entry at offset %d, %d bytes, lies outside its block of %d bytes", e.Off, e.Stored, size)
	}
	return nil
}

func (r BlockRow) check() error {
	if r.Size < BlockHeaderSize+BlockEntrySize+BlockTrailer || r.Size > BlockSizeMax {
		return damaged("segment: block %s of %d bytes", r.ID, r.Size)
	}
	return nil
}

func compareEntries(a, b SegmentEntry) int {
	if c := bytes.Compare(a.Ref.Digest[:], b.Ref.Digest[:]); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(a.Block, b.Block), cmp.Compare(a.Off, b.Off))
}

// Key is what a filter and the fences know of a digest.
func Key(d artifact.Digest) uint64 { return binary.BigEndian.Uint64(d[:8]) }

// EncodeSegment gives the bytes of a segment. It sorts entries in place; what stands there twice is written once.
func EncodeSegment(level uint16, blocks []BlockRow, entries []SegmentEntry) ([]byte, error) {
	slices.SortFunc(entries, compareEntries)
	entries = slices.Compact(entries)
	if len(entries) == 0 || len(entries) > SegmentEntriesMax || len(blocks) > len(entries) {
		return nil, fmt.Errorf("segment of %d entries in %d blocks: want 1 to %d, and no more blocks than entries", len(entries), len(blocks), SegmentEntriesMax)
	}
	for _, r := range blocks {
		if err := r.check(); err != nil {
			return nil, err
		}
	}
	for i, e := range entries {
		if err := e.check(); err != nil {
			return nil, err
		}
		if err := e.fits(blocks); err != nil {
			return nil, err
		}
		if i > 0 && compareEntries(entries[i-1], e) == 0 {
			return nil, damaged("segment: artifact %s lies at offset %d of block %d in two ways", e.Ref, e.Off, e.Block)
		}
	}
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

// DecodePage reads one page of entries. Whether Block names a row of the block table is for the caller to see.
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
		if err := e.check(); err != nil {
			return nil, err
		}
		if i > 0 && compareEntries(entries[i-1], e) >= 0 {
			return nil, damaged("segment page: entries are not sorted")
		}
		entries[i] = e
	}
	if len(trimZeros(page[4+int(n)*SegmentEntrySize:PageSize-4])) > 0 {
		return nil, damaged("segment page: not zero after its entries")
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
	if le.Uint32(b[92:]) != crc(b[:92]) {
		return h, damaged("segment: header checksum is wrong")
	}
	if v := le.Uint32(b[8:]); v != Version {
		return h, unsupported("segment: version %d", v)
	}
	if le.Uint64(b[16:]) != 0 {
		return h, unsupported("segment: flags %#x", le.Uint64(b[16:]))
	}
	h = SegmentHeader{
		Level: le.Uint16(b[24:]), Blocks: le.Uint32(b[28:]), Entries: le.Uint64(b[32:]),
		Table: int64(le.Uint64(b[48:])), Fences: int64(le.Uint64(b[56:])), Filter: int64(le.Uint64(b[64:])), Size: int64(le.Uint64(b[72:])),
	}
	if h.Entries == 0 || h.Entries > SegmentEntriesMax || h.Blocks == 0 || uint64(h.Blocks) > h.Entries ||
		le.Uint32(b[12:]) != SegmentHeaderSize || le.Uint16(b[26:]) != PageEntries || le.Uint64(b[40:]) != SegmentHeaderSize || len(trimZeros(b[80:92])) > 0 ||
		h.Table != h.PageAt(h.Pages()) || h.Fences != h.Table+int64(h.Blocks)*BlockRowSize || h.Filter != h.Fences+8*int64(h.Pages()) ||
		h.Size < h.Filter+filterHeader+SegmentTrailer || h.Size > h.Filter+filterHeader+SegmentTrailer+fingerprintsMax(h.Entries) {
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

// fingerprintsMax bounds a filter: the library takes 12 for one key, and ever fewer per key.
func fingerprintsMax(entries uint64) int64 { return 8*int64(entries) + 64 }

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

// DecodeSegmentMeta reads fences and filter: tail is the segment's bytes from h.Fences on, header the first 96, which
// gave h. What it gives answers MayContain and PagesFor for any digest, whatever the bytes are.
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
	n, length, count := uint64(len(m.filter.Fingerprints)), uint64(m.filter.SegmentLength), uint64(m.filter.SegmentCount)
	if uint64(le.Uint32(f[20:])) != n || length == 0 || length&(length-1) != 0 || length > 1<<18 || count == 0 || (count+2)*length != n ||
		uint64(m.filter.SegmentCountLength) != count*length {
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
	r := BlockRow{artifact.Digest(b[:32]), le.Uint32(b[32:]), le.Uint32(b[36:])}
	return r, r.check()
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

// Fence is the Key of page i's first digest.
func (m *SegmentMeta) Fence(i int) uint64 { return m.fences[i] }

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
		if want := min(PageEntries, int(h.Entries)-i*PageEntries); len(page) != want {
			return nil, damaged("segment: page %d of %d entries, want %d", i, len(page), want)
		}
		if i > 0 && compareEntries(s.Entries[len(s.Entries)-1], page[0]) >= 0 {
			return nil, damaged("segment: page %d is not sorted after the one before", i)
		}
		if Key(page[0].Ref.Digest) != s.Meta.fences[i] {
			return nil, damaged("segment: page %d does not begin at its fence", i)
		}
		s.Entries = append(s.Entries, page...)
	}
	for _, e := range s.Entries {
		if err := e.fits(s.Blocks); err != nil {
			return nil, err
		}
		if !s.Meta.MayContain(e.Ref.Digest) {
			return nil, damaged("segment: its filter knows nothing of %s", e.Ref)
		}
	}
	return s, nil
}
