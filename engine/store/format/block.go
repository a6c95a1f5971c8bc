package format

import (
	"fmt"
	"slices"

	"github.com/klauspost/compress/zstd"

	"aslrescue/engine/artifact"
)

// Sizes and limits of a block; see docs/store-format.md section 3.
const (
	BlockHeaderSize = 64
	BlockEntrySize  = 52
	BlockTrailer    = 32
	BlockRawMax     = 8 << 20 // raw bytes of artifacts in one block
	BlockCountMax   = 65_536  // artifacts in one block
	// BlockSizeMax bounds the bytes of a whole block.
	BlockSizeMax = BlockHeaderSize + BlockRawMax + BlockCountMax*BlockEntrySize + BlockTrailer
)

var blockMagic = [8]byte{'A', 'S', 'L', 'B', 'L', 'K', '0', '1'}

// Codec says how an artifact's bytes stand in a block.
type Codec uint8

// The codecs of version 1.
const (
	Plain Codec = 0
	Zstd  Codec = 1
)

func (c Codec) String() string {
	switch c {
	case Plain:
		return "plain"
	case Zstd:
		return "zstd"
	}
	return fmt.Sprintf("codec-%d", uint8(c))
}

// BlockEntry is one row of a block's directory.
type BlockEntry struct {
	Ref    artifact.Ref
	Tag    artifact.Tag
	Codec  Codec
	Off    uint32 // from the block's start
	Stored uint32 // bytes in the block
	Raw    uint32 // bytes of the artifact
}

// BlockBuilder packs artifacts into one block, in memory. The zero value is not ready: use Reset.
type BlockBuilder struct {
	buf     []byte
	entries []BlockEntry
	raw     int
}

// Reset makes b empty, to build into buf's memory (its length is ignored, its capacity should be BlockRawMax and some).
func (b *BlockBuilder) Reset(buf []byte) {
	b.buf = append(buf[:0], make([]byte, BlockHeaderSize)...)
	b.entries, b.raw = b.entries[:0], 0
}

// Count is the number of artifacts added.
func (b *BlockBuilder) Count() int { return len(b.entries) }

// RawBytes is the sum of the artifacts' own lengths.
func (b *BlockBuilder) RawBytes() int { return b.raw }

// Entries are the rows of the directory so far. They alias the builder.
func (b *BlockBuilder) Entries() []BlockEntry { return b.entries }

// Fits tells whether an artifact of raw bytes may still be added.
func (b *BlockBuilder) Fits(raw int) bool {
	return b.raw+raw <= BlockRawMax && len(b.entries) < BlockCountMax
}

// Add appends an artifact whose stored form is given.
func (b *BlockBuilder) Add(ref artifact.Ref, tag artifact.Tag, codec Codec, stored []byte, raw int) {
	b.entries = append(b.entries, BlockEntry{ref, tag, codec, uint32(len(b.buf)), uint32(len(stored)), uint32(raw)})
	b.buf = append(b.buf, stored...)
	b.raw += raw
}

// Seal finishes the block. The result aliases the builder until Reset; its BLAKE3 is its name.
func (b *BlockBuilder) Seal(generation uint32) []byte {
	dir := len(b.buf)
	for _, e := range b.entries {
		b.buf = append(b.buf, e.Ref.Digest[:]...)
		b.buf = le.AppendUint16(b.buf, uint16(e.Ref.Hash))
		b.buf = append(b.buf, byte(e.Codec), 0)
		b.buf = le.AppendUint32(b.buf, uint32(e.Tag))
		b.buf = le.AppendUint32(b.buf, e.Off)
		b.buf = le.AppendUint32(b.buf, e.Stored)
		b.buf = le.AppendUint32(b.buf, e.Raw)
	}
	h := b.buf[:BlockHeaderSize]
	clear(h)
	copy(h, blockMagic[:])
	le.PutUint32(h[8:], Version)
	le.PutUint32(h[12:], BlockHeaderSize)
	le.PutUint32(h[24:], generation)
	le.PutUint32(h[32:], uint32(len(b.entries)))
	le.PutUint64(h[40:], uint64(dir))
	le.PutUint32(h[60:], crc(h[:60]))
	sum := blockSum(h, b.buf[dir:])
	b.buf = append(b.buf, sum[:]...)
	return b.buf
}

// Regenerate gives a sealed block another generation, in place.
func (b *BlockBuilder) Regenerate(generation uint32) []byte {
	h := b.buf[:BlockHeaderSize]
	dir := le.Uint64(h[40:])
	le.PutUint32(h[24:], generation)
	le.PutUint32(h[60:], crc(h[:60]))
	end := len(b.buf) - BlockTrailer
	sum := blockSum(h, b.buf[dir:end])
	copy(b.buf[end:], sum[:])
	return b.buf
}

func blockSum(header, dir []byte) artifact.Digest {
	return artifact.HashBytes(slices.Concat(header, dir))
}

// BlockHeader is what the first 64 bytes say.
type BlockHeader struct {
	Generation uint32
	Count      uint32
	Dir        int64 // offset of the directory
}

// Size is the length of the whole block.
func (h BlockHeader) Size() int64 { return h.Dir + int64(h.Count)*BlockEntrySize + BlockTrailer }

// DecodeBlockHeader reads the first bytes of a block.
func DecodeBlockHeader(b []byte) (BlockHeader, error) {
	var h BlockHeader
	if len(b) < BlockHeaderSize {
		return h, damaged("block: %d bytes are too short for a header", len(b))
	}
	b = b[:BlockHeaderSize]
	if [8]byte(b) != blockMagic {
		return h, damaged("block: does not begin with ASLBLK01")
	}
	if le.Uint32(b[60:]) != crc(b[:60]) { // of all versions, so that a flipped bit is not taken for a newer one
		return h, damaged("block: header checksum is wrong")
	}
	if v := le.Uint32(b[8:]); v != Version {
		return h, unsupported("block: version %d", v)
	}
	if le.Uint64(b[16:]) != 0 {
		return h, unsupported("block: flags %#x", le.Uint64(b[16:]))
	}
	if s := le.Uint16(b[28:]); s != 0 {
		return h, unsupported("block: encryption suite %d", s)
	}
	h = BlockHeader{Generation: le.Uint32(b[24:]), Count: le.Uint32(b[32:]), Dir: int64(le.Uint64(b[40:]))}
	if le.Uint32(b[12:]) != BlockHeaderSize || h.Count == 0 || h.Count > BlockCountMax || h.Dir < BlockHeaderSize || h.Dir > BlockHeaderSize+BlockRawMax ||
		le.Uint16(b[30:]) != 0 || le.Uint32(b[36:]) != 0 || le.Uint64(b[48:]) != 0 || le.Uint32(b[56:]) != 0 {
		return h, damaged("block: header fields out of range")
	}
	return h, nil
}

// DecodeBlockDir reads a block's directory: tail is the block's bytes from h.Dir on, header the first 64, which gave h.
func DecodeBlockDir(h BlockHeader, header, tail []byte) ([]BlockEntry, error) {
	if int64(len(tail)) != h.Size()-h.Dir || len(header) < BlockHeaderSize {
		return nil, damaged("block: directory is %d bytes, want %d", len(tail), h.Size()-h.Dir)
	}
	dir, sum := tail[:len(tail)-BlockTrailer], tail[len(tail)-BlockTrailer:]
	if blockSum(header[:BlockHeaderSize], dir) != artifact.Digest(sum) {
		return nil, damaged("block: directory checksum is wrong")
	}
	entries, err := DecodeEntries(dir)
	if err != nil {
		return nil, err
	}
	last := entries[len(entries)-1]
	next := last.Off + last.Stored
	if int64(next) != h.Dir {
		return nil, damaged("block: artifacts end at %d, directory begins at %d", next, h.Dir)
	}
	return entries, nil
}

func decodeBlockEntry(b []byte, off uint32) (BlockEntry, error) {
	e := BlockEntry{
		Ref:   artifact.Ref{Hash: artifact.HashID(le.Uint16(b[32:])), Digest: artifact.Digest(b[:32])},
		Codec: Codec(b[34]), Tag: artifact.Tag(le.Uint32(b[36:])),
		Off: le.Uint32(b[40:]), Stored: le.Uint32(b[44:]), Raw: le.Uint32(b[48:]),
	}
	switch {
	case e.Ref.Hash != artifact.BLAKE3:
		return e, unsupported("hash id %#04x", uint16(e.Ref.Hash))
	case e.Codec > Zstd:
		return e, unsupported("codec %d", e.Codec)
	case b[35] != 0:
		return e, damaged("reserved byte is %#02x", b[35])
	case e.Off != off || e.Raw > artifact.MaxSize || e.Stored > e.Raw || (e.Codec == Plain) != (e.Stored == e.Raw):
		return e, damaged("offset %d, stored %d, raw %d do not fit", e.Off, e.Stored, e.Raw)
	}
	return e, nil
}

// DecodeBlock checks a whole block but its artifacts: header, directory and that the bytes have the name id.
func DecodeBlock(id artifact.Digest, b []byte) (BlockHeader, []BlockEntry, error) {
	h, err := DecodeBlockHeader(b)
	if err != nil {
		return h, nil, err
	}
	if int64(len(b)) != h.Size() {
		return h, nil, damaged("block: %d bytes, its header wants %d", len(b), h.Size())
	}
	if got := artifact.HashBytes(b); got != id {
		return h, nil, damaged("block: bytes hash to %s", got)
	}
	entries, err := DecodeBlockDir(h, b, b[h.Dir:])
	return h, entries, err
}

// Decoder turns stored artifacts back into bytes. It is safe for concurrent use.
type Decoder struct{ z *zstd.Decoder }

// NewDecoder makes a Decoder.
func NewDecoder() (*Decoder, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(artifact.MaxSize), zstd.WithDecoderLowmem(true),
		zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, err
	}
	return &Decoder{z}, nil
}

// Expand gives the bytes of an artifact from its stored form, without checking its hash. The result may alias stored or
// dst; dst's length is ignored, its capacity is used.
func (d *Decoder) Expand(dst []byte, codec Codec, stored []byte, raw uint32) ([]byte, error) {
	switch codec {
	case Plain:
		if uint64(len(stored)) != uint64(raw) {
			return nil, damaged("artifact is stored as %d bytes, want %d", len(stored), raw)
		}
		return stored, nil
	case Zstd:
		if raw > artifact.MaxSize {
			return nil, damaged("artifact of %d bytes", raw)
		}
		if cap(dst) < int(raw) {
			dst = make([]byte, 0, raw)
		}
		out, err := d.z.DecodeAll(stored, dst[:0:raw]) // stops where raw is exceeded
		if err != nil {
			return nil, damaged("zstd: %v", err)
		}
		if len(out) != int(raw) {
			return nil, damaged("artifact expands to %d bytes, want %d", len(out), raw)
		}
		return dst[:raw], nil
	}
	return nil, unsupported("codec %d", codec)
}

// DecodeEntries reads the rows of a directory that stand outside their block, in a resume point.
func DecodeEntries(b []byte) ([]BlockEntry, error) {
	if len(b) == 0 || len(b)%BlockEntrySize != 0 || len(b) > BlockCountMax*BlockEntrySize {
		return nil, damaged("block directory of %d bytes", len(b))
	}
	entries := make([]BlockEntry, len(b)/BlockEntrySize)
	next, raw := uint32(BlockHeaderSize), 0
	for i := range entries {
		e, err := decodeBlockEntry(b[i*BlockEntrySize:], next)
		if err != nil {
			return nil, fmt.Errorf("block directory: entry %d: %w", i, err)
		}
		if raw += int(e.Raw); raw > BlockRawMax { // so that no sum of offsets wraps either
			return nil, damaged("block directory: entry %d: more than %d raw bytes", i, BlockRawMax)
		}
		entries[i], next = e, e.Off+e.Stored
	}
	return entries, nil
}
