package store

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/note"

	"aslrescue/engine/artifact"
	"aslrescue/engine/store/format"
)

// ReadSegment reads and checks a whole segment.
func (s *Store) ReadSegment(ctx context.Context, id artifact.Digest) (*format.Segment, error) {
	data, err := readAll(ctx, s.b, "segments/"+id.String())
	if err != nil {
		return nil, shortIsDamage(err)
	}
	return format.DecodeSegment(id, data)
}

// BlockReport is what a block holds.
type BlockReport struct {
	Header  format.BlockHeader
	Entries []format.BlockEntry
	Size    int64
	Bad     []error // per entry; nil where its bytes hash right
}

// ReadBlock reads a block from the medium and checks everything in it. The report holds what could be read, also beside an error.
func (s *Store) ReadBlock(ctx context.Context, id artifact.Digest) (*BlockReport, error) {
	data, err := s.readBlock(Uncached(ctx), id, nil)
	r := &BlockReport{Size: int64(len(data))}
	if err != nil {
		return r, shortIsDamage(err)
	}
	r.Header, r.Entries, err = format.DecodeBlock(id, data)
	if err != nil { // look whether a part of it is still good
		h, herr := format.DecodeBlockHeader(data)
		if herr == nil && h.Size() == int64(len(data)) {
			r.Header = h
			r.Entries, _ = format.DecodeBlockDir(h, data, data[h.Dir:])
		}
	}
	for _, e := range r.Entries {
		_, bad := s.expand(nil, e, data[e.Off:e.Off+e.Stored])
		r.Bad = append(r.Bad, bad)
	}
	return r, err
}

// SegmentAgrees holds a level 0 segment against its SEGMENT_SEAL record and against the directories of its blocks. Blocks that cannot be
// read are left out: they are damage of their own.
func (s *Store) SegmentAgrees(ctx context.Context, seal format.SegmentSeal, seg *format.Segment) error {
	if seal.Size != seg.Meta.Size || uint64(seal.Entries) != seg.Meta.Entries || seg.Meta.Level != 0 {
		return fmt.Errorf("level %d, %d bytes, %d entries; the log says level 0, %d bytes, %d entries: %w",
			seg.Meta.Level, seg.Meta.Size, seg.Meta.Entries, seal.Size, seal.Entries, artifact.ErrDamaged)
	}
	if len(seg.Blocks) != len(seal.Blocks) {
		return fmt.Errorf("%d blocks, the log says %d: %w", len(seg.Blocks), len(seal.Blocks), artifact.ErrDamaged)
	}
	rows := make([][]format.SegmentEntry, len(seg.Blocks))
	for _, e := range seg.Entries {
		rows[e.Block] = append(rows[e.Block], e)
	}
	for i, b := range seg.Blocks {
		if b.ID != seal.Blocks[i] {
			return fmt.Errorf("row %d is block %s, the log says %s: %w", i, b.ID, seal.Blocks[i], artifact.ErrDamaged)
		}
		dir, err := readBlockDir(ctx, s.b, b.ID)
		if errors.Is(err, artifact.ErrDamaged) || errors.Is(err, artifact.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if err := sameRows(rows[i], dir); err != nil {
			return fmt.Errorf("block %s: %w", b.ID, err)
		}
	}
	return nil
}

// sameRows holds what a segment says of a block against the block's own directory.
func sameRows(rows []format.SegmentEntry, dir []format.BlockEntry) error {
	slices.SortFunc(rows, func(a, b format.SegmentEntry) int { return cmp.Compare(a.Off, b.Off) })
	// Two artifacts of no bytes may share an offset.
	byPlace := func(a, b format.BlockEntry) int {
		return cmp.Or(cmp.Compare(a.Off, b.Off), bytes.Compare(a.Ref.Digest[:], b.Ref.Digest[:]))
	}
	said := make([]format.BlockEntry, len(rows))
	for i, e := range rows {
		said[i] = format.BlockEntry{Ref: e.Ref, Tag: e.Tag, Codec: e.Codec, Off: e.Off, Stored: e.Stored, Raw: e.Raw}
	}
	dir = slices.Clone(dir)
	slices.SortFunc(said, byPlace)
	slices.SortFunc(dir, byPlace)
	if !slices.Equal(said, dir) {
		return fmt.Errorf("the segment lists %d artifacts that are not the %d of its directory: %w", len(said), len(dir), artifact.ErrDamaged)
	}
	return nil
}

// RunAgrees holds a merged run against the level 0 segments it stands for. The number is a place in Runs.
func (s *Store) RunAgrees(ctx context.Context, number int) error {
	s.mu.Lock()
	run := s.st.runs[number]
	var from []artifact.Digest
	for _, i := range run.of {
		from = append(from, s.st.sealed[i].Segment)
	}
	s.mu.Unlock()
	if run.Level == 0 {
		return nil
	}
	want, err := s.openRows(ctx, from, true)
	if err != nil {
		return err
	}
	got, err := s.openRows(ctx, run.Segments, false)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		a, err := want.next()
		if err != nil {
			return err
		}
		b, err := got.next()
		if err != nil {
			return err
		}
		if !slices.Equal(a, b) {
			return fmt.Errorf("the merged run and its sources differ in %d and %d rows from artifact %s on: %w", len(b), len(a), firstDigest(a, b), artifact.ErrDamaged)
		}
		if len(a) == 0 {
			return nil
		}
	}
	return ctx.Err()
}

func firstDigest(a, b []fullRow) artifact.Digest {
	switch {
	case len(a) == 0:
		return b[0].entry.Ref.Digest
	case len(b) == 0 || bytes.Compare(a[0].entry.Ref.Digest[:], b[0].entry.Ref.Digest[:]) < 0:
		return a[0].entry.Ref.Digest
	}
	return b[0].entry.Ref.Digest
}

// fullRow is a row of a segment with its block's name in place of its number.
type fullRow struct {
	block artifact.Digest
	entry format.BlockEntry
}

// rowReader gives the rows of several segments in order of their digests. It holds one page of each in memory.
type rowReader struct {
	ctx  context.Context
	ix   *index
	open []*rowCursor
}

type rowCursor struct {
	part *segmentPart
	page int
	rows []format.SegmentEntry
}

func (s *Store) openRows(ctx context.Context, ids []artifact.Digest, levelZero bool) (*rowReader, error) {
	r := &rowReader{ctx: ctx, ix: &index{b: s.b, cache: newPageCache(64)}}
	for _, id := range ids {
		meta, _, err := readSegmentMeta(ctx, s.b, id)
		if err != nil {
			return nil, fmt.Errorf("segment %s: %w", id, err)
		}
		if (meta.Level == 0) != levelZero {
			return nil, fmt.Errorf("segment %s is of level %d: %w", id, meta.Level, artifact.ErrDamaged)
		}
		r.open = append(r.open, &rowCursor{part: &segmentPart{id: id, meta: meta}})
	}
	return r, nil
}

// next gives all rows of the next digest, each once, sorted; none at the end.
func (r *rowReader) next() ([]fullRow, error) {
	var least *artifact.Digest
	for _, c := range r.open {
		if err := r.fill(c); err != nil {
			return nil, err
		}
		if len(c.rows) > 0 && (least == nil || bytes.Compare(c.rows[0].Ref.Digest[:], least[:]) < 0) {
			least = &c.rows[0].Ref.Digest
		}
	}
	if least == nil {
		return nil, nil
	}
	d := *least
	var out []fullRow
	for _, c := range r.open {
		for len(c.rows) > 0 && c.rows[0].Ref.Digest == d {
			e := c.rows[0]
			row, err := r.ix.blockRow(r.ctx, c.part, int(e.Block))
			if err != nil {
				return nil, err
			}
			out = append(out, fullRow{row.ID, format.BlockEntry{Ref: e.Ref, Tag: e.Tag, Codec: e.Codec, Off: e.Off, Stored: e.Stored, Raw: e.Raw}})
			c.rows = c.rows[1:]
			if err := r.fill(c); err != nil {
				return nil, err
			}
		}
	}
	slices.SortFunc(out, func(a, b fullRow) int {
		return cmp.Or(bytes.Compare(a.block[:], b.block[:]), cmp.Compare(a.entry.Off, b.entry.Off))
	})
	return slices.Compact(out), nil
}

func (r *rowReader) fill(c *rowCursor) error {
	for len(c.rows) == 0 && c.page < c.part.meta.Pages() {
		rows, err := r.ix.page(r.ctx, c.part, c.page)
		if err != nil {
			return err
		}
		c.rows, c.page = rows, c.page+1
	}
	return nil
}

// Signature says what became of a snapshot's note.
type Signature string

// The findings about a note.
const (
	Signed   Signature = "signed by the writer of the intake"
	Unsigned Signature = "has no note: the writer died before it could sign"
	Forged   Signature = "the note does not fit"
)

// CheckNote reads a snapshot's note and checks it against record, the hash of its SNAPSHOT record, and key, the writer's as the
// log tells it. err says why a note does not fit.
func CheckNote(ctx context.Context, b Backend, snap format.SnapshotAt, record format.Hash, key []byte) (text []byte, found Signature, err error) {
	text, err = readAll(ctx, b, NoteName(snap.Domain, snap.Number))
	if errors.Is(err, artifact.ErrNotFound) {
		return nil, Unsigned, nil
	}
	if err != nil {
		return nil, "", err
	}
	if len(key) != ed25519.PublicKeySize {
		return text, Forged, fmt.Errorf("the log holds no key of the writer %x: %w", snap.Nonce, artifact.ErrDamaged)
	}
	name := fmt.Sprintf("writer-%x", snap.Nonce)
	n, err := note.Open(text, note.VerifierList(writerVerifier{name, key}))
	if err != nil {
		return text, Forged, fmt.Errorf("%w: %w", artifact.ErrDamaged, err)
	}
	if n.Text != NoteText(snap.Domain, snap.Number, record) {
		return text, Forged, fmt.Errorf("it signs something else than snapshot %d: %w", snap.Number, artifact.ErrDamaged)
	}
	return text, Signed, nil
}

// writerVerifier checks what writerKey signed.
type writerVerifier struct {
	name string
	key  ed25519.PublicKey
}

func (v writerVerifier) Name() string                { return v.name }
func (v writerVerifier) KeyHash() uint32             { return KeyHash(v.name, v.key) }
func (v writerVerifier) Verify(msg, sig []byte) bool { return ed25519.Verify(v.key, msg, sig) }

// PartList is the parts of the domain's log that are listed and those that stand after the last one read. A log that ends early has
// strays.
func PartList(ctx context.Context, b Backend, domain string, last uint64) (parts int, strays []string, err error) {
	for e, err := range b.List(ctx, "logs/"+domain+"/", "") {
		if err != nil {
			return parts, strays, err
		}
		n, ok := PartNumber(e.Name)
		if !ok || n > last {
			strays = append(strays, e.Name)
			continue
		}
		parts++
	}
	return parts, strays, nil
}
