package format

import (
	"crypto/sha256"
)

// Sizes of the log; see docs/store-format.md section 5.
const (
	PartHeaderSize  = 40
	RecordOverhead  = 48
	PayloadMax      = 64 << 20
	ObjectMax       = 256 << 20 // of any object: a file that somebody made longer must not take all memory
	CheckpointEvery = 1024      // parts
)

var logMagic = [8]byte{'A', 'S', 'L', 'L', 'O', 'G', '0', '1'}

// RecordType says what a record means.
type RecordType uint32

// The record types. The small numbers are ENC/ASL-LOG/1's.
const (
	SegmentSealType  RecordType = 0x01
	TombstoneType    RecordType = 0x10
	PartHeadType     RecordType = 0x4153_0000
	CheckpointType   RecordType = 0x4153_0001
	IntakeBeginType  RecordType = 0x4153_0002
	ResumeType       RecordType = 0x4153_0003
	ResumePointType  RecordType = 0x4153_0004
	SnapshotType     RecordType = 0x4153_0005
	IntakeEndType    RecordType = 0x4153_0006
	SegmentMergeType RecordType = 0x4153_0007
	DamageType       RecordType = 0x4153_0008
	ApprovalType     RecordType = 0x4153_0009
	VerifiedType     RecordType = 0x4153_000a
	DigestType       RecordType = 0x4153_000b
)

// Hash is a link of the log's SHA-256 chain.
type Hash [32]byte

// Record is one record of the log.
type Record struct {
	Seq     uint64
	Type    RecordType
	Payload []byte
	Hash    Hash // of this record, chained
}

// PartBuilder makes the bytes of one part.
type PartBuilder struct {
	buf  []byte
	seq  uint64
	prev Hash
}

// NewPart begins a part whose first record has sequence number seq and chains to prev.
func NewPart(seq uint64, prev Hash) *PartBuilder {
	b := make([]byte, 0, 4096)
	b = append(b, logMagic[:]...)
	b = le.AppendUint32(b, Version)
	b = le.AppendUint32(b, PartHeaderSize)
	b = append(b, make([]byte, PartHeaderSize-len(b))...)
	return &PartBuilder{buf: b, seq: seq, prev: prev}
}

// Add appends a record and gives it back as it stands in the log.
func (p *PartBuilder) Add(t RecordType, payload []byte) Record {
	start := len(p.buf)
	p.buf = le.AppendUint64(p.buf, p.seq)
	p.buf = le.AppendUint32(p.buf, uint32(t))
	p.buf = le.AppendUint32(p.buf, uint32(len(payload)))
	p.buf = append(p.buf, payload...)
	r := Record{p.seq, t, payload, chain(p.prev, p.buf[start:])}
	p.buf = append(p.buf, r.Hash[:]...)
	p.seq, p.prev = p.seq+1, r.Hash
	return r
}

// Bytes finishes the part as it is now.
func (p *PartBuilder) Bytes() []byte {
	h := p.buf[:PartHeaderSize]
	le.PutUint64(h[24:], uint64(len(p.buf)))
	le.PutUint32(h[36:], crc(h[:36]))
	return p.buf
}

// Next is the sequence number and hash that the record after the last one continues from.
func (p *PartBuilder) Next() (uint64, Hash) { return p.seq, p.prev }

func chain(prev Hash, record []byte) Hash {
	h := sha256.New()
	h.Write(prev[:])
	h.Write(record)
	return Hash(h.Sum(nil))
}

// Part is a decoded part of the log.
type Part struct {
	Records []Record
	// Torn tells that the bytes do not decode to their end but look like a write that was cut: they end early, or are
	// zeros from some point on. Records are then the good ones before.
	Torn bool
}

// DecodePart reads a part whose first record must be seq and chain to prev. Payloads alias b. A part is damaged unless it
// decodes to its end or looks cut; one flipped byte of a whole part never makes it look cut.
func DecodePart(b []byte, seq uint64, prev Hash) (Part, error) {
	var p Part
	if zeros := len(b) - len(trimZeros(b)); len(b) < PartHeaderSize || zeros >= tornZeros && len(b)-zeros < PartHeaderSize {
		p.Torn = true // within the header
		return p, nil
	}
	size, err := decodePartHeader(b)
	if err != nil {
		return p, err
	}
	if uint64(len(b)) > size {
		return p, damaged("log: part is %d bytes, its header wants %d", len(b), size)
	}
	short := uint64(len(b)) < size
	for rest := b[PartHeaderSize:]; len(rest) > 0; {
		r, n, ok := decodeRecord(rest, seq, prev)
		if !ok {
			if !looksCut(rest, n, short) {
				return p, damaged("log: record %d does not verify", seq)
			}
			p.Torn = true
			return p, nil
		}
		p.Records = append(p.Records, r)
		seq, prev, rest = r.Seq+1, r.Hash, rest[n:]
	}
	p.Torn = short
	return p, nil
}

// decodePartHeader gives the length of the part that its header claims.
func decodePartHeader(b []byte) (uint64, error) {
	if len(b) < PartHeaderSize || [8]byte(b) != logMagic {
		return 0, damaged("log: does not begin with ASLLOG01")
	}
	if le.Uint32(b[36:]) != crc(b[:36]) {
		return 0, damaged("log: header checksum is wrong")
	}
	if v := le.Uint32(b[8:]); v != Version {
		return 0, unsupported("log: version %d", v)
	}
	if le.Uint64(b[16:]) != 0 {
		return 0, unsupported("log: flags %#x", le.Uint64(b[16:]))
	}
	size := le.Uint64(b[24:])
	if le.Uint32(b[12:]) != PartHeaderSize || le.Uint32(b[32:]) != 0 || size < PartHeaderSize+RecordOverhead {
		return 0, damaged("log: header fields out of range")
	}
	return size, nil
}

// decodeRecord gives the record at the start of b and its length. ok is false if it does not verify; n is then the length
// it claims, or 0 where it claims none or one that cannot be.
func decodeRecord(b []byte, seq uint64, prev Hash) (r Record, n int, ok bool) {
	if len(b) < recordHead {
		return r, 0, false
	}
	size := le.Uint32(b[12:])
	if size > PayloadMax {
		return r, 0, false
	}
	n = RecordOverhead + int(size)
	if n > len(b) || le.Uint64(b) != seq {
		return r, n, false
	}
	want := chain(prev, b[:n-32])
	if want != Hash(b[n-32:n]) {
		return r, n, false
	}
	return Record{seq, RecordType(le.Uint32(b[8:])), b[recordHead : n-32], want}, n, true
}

const (
	recordHead = 16 // logseq, type and length
	// tornZeros is how many zeros at the end count as the mark of a write that was cut. Fewer may be one flipped byte of a hash.
	tornZeros = 8
)

// looksCut tells whether rest, whose first record does not verify, is the end of a write that was cut: bytes that end before the n that
// the record claims, where the part is short, or zeros to the end from somewhere within the record.
func looksCut(rest []byte, n int, short bool) bool {
	data := len(trimZeros(rest))
	if len(rest)-data >= tornZeros && data < max(n, recordHead) {
		return true
	}
	return short && (len(rest) < recordHead || n > len(rest))
}

func trimZeros(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return b
}

// PeekHead reads the first record of a part without knowing what it chains to. Its hash is not checked.
func PeekHead(b []byte) (head PartHead, seq uint64, ok bool) {
	if _, err := decodePartHeader(b); err != nil || len(b) < PartHeaderSize+RecordOverhead {
		return head, 0, false
	}
	r := b[PartHeaderSize:]
	n := int64(le.Uint32(r[12:]))
	if n > int64(len(r)-RecordOverhead) || RecordType(le.Uint32(r[8:])) != PartHeadType || le.Uint64(r) == 0 {
		return head, 0, false
	}
	if err := Unmarshal(r[recordHead:recordHead+n], &head); err != nil {
		return PartHead{}, 0, false
	}
	return head, le.Uint64(r), true
}
