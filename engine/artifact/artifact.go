// Package artifact says what is stored and how it is named: an artifact is bytes with an optional type tag, a
// reference is the BLAKE3 of it. Everything else in the store is built from these two.
//
// The canonical encoding of the public ASL specification (ENC/ASL1-CORE) is not published in full, so ours stands
// here alone and can be exchanged: an artifact without a tag is named by BLAKE3-256 of its bytes, one with a tag by
// BLAKE3 in key-derivation mode over tag and bytes. The two can never meet.
package artifact

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"lukechampine.com/blake3"
)

// MaxSize is the largest artifact in bytes. Longer streams are cut into chunks.
const MaxSize = 8 << 20

// tagContext separates tagged artifacts from plain ones. It is part of the format and never changes.
const tagContext = "asl-rescue 2026-11 artifact with type tag v1"

// Sentinels shared by every part of the engine. Callers branch on them with errors.Is.
var (
	ErrNotFound    = errors.New("not found")
	ErrConflict    = errors.New("exists with other content")
	ErrDamaged     = errors.New("damaged")
	ErrUnsupported = errors.New("written by a newer version")
	ErrFull        = errors.New("no room left")
	ErrReadOnly    = errors.New("read-only")
)

// HashID names a hash algorithm. The number for BLAKE3-256 is from the experimental range until the ASL registry
// assigns one.
type HashID uint16

// BLAKE3 is the only hash written by this version.
const BLAKE3 HashID = 0xfb03

// Digest is the 32 bytes a hash gives.
type Digest [32]byte

// Tag is an artifact's type, 0 where it has none. The numbers are format constants.
type Tag uint32

// Type tags of our own artifacts, from the range above the ones ASL has assigned.
const (
	NoTag   Tag = 0
	MapPage Tag = 0x4153_0001 // ranges of one map page
	MapNode Tag = 0x4153_0002 // references of map pages
	MapRoot Tag = 0x4153_0003 // references of map nodes, and the size
	// Of a linear source that is hurt, and of one whose intake is not finished.
	LoosePage Tag = 0x4153_0004 // a map page whose cuts are not final
	FaultPage Tag = 0x4153_0005 // why ranges are missing
	DirPage   Tag = 0x4153_0010 // entries of a directory, sorted
	DirRoot   Tag = 0x4153_0011 // references of a directory's pages
	TreeLog   Tag = 0x4153_0020 // what an unfinished walk has seen, to go on from

	Evidence Tag = 0x4153_0030 // what the machine that read a source could tell of it
)

func (t Tag) String() string {
	switch t {
	case NoTag:
		return "bytes"
	case MapPage:
		return "map-page"
	case MapNode:
		return "map-node"
	case MapRoot:
		return "map-root"
	case LoosePage:
		return "loose-page"
	case FaultPage:
		return "fault-page"
	case DirPage:
		return "dir-page"
	case DirRoot:
		return "dir-root"
	case TreeLog:
		return "tree-log"
	case Evidence:
		return "evidence"
	}
	return fmt.Sprintf("tag-%08x", uint32(t))
}

// Ref names an artifact by its content. The zero Ref names nothing.
type Ref struct {
	Hash   HashID
	Digest Digest
}

// IsZero tells whether r names nothing.
func (r Ref) IsZero() bool { return r == Ref{} }

// String gives the text form, "b3:" and 64 hex digits.
func (r Ref) String() string {
	if r.IsZero() {
		return "b3:none"
	}
	return "b3:" + hex.EncodeToString(r.Digest[:])
}

// ParseRef reads the text form.
func ParseRef(s string) (Ref, error) {
	h, ok := strings.CutPrefix(s, "b3:")
	if !ok {
		return Ref{}, fmt.Errorf("reference %q: want b3: and 64 hex digits", s)
	}
	d, err := ParseDigest(h)
	if err != nil {
		return Ref{}, fmt.Errorf("reference %q: %w", s, err)
	}
	return Ref{BLAKE3, d}, nil
}

// ParseDigest reads 64 hex digits.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if len(s) != 64 {
		return d, fmt.Errorf("want 64 hex digits, got %d characters", len(s))
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return d, fmt.Errorf("want 64 hex digits: %w", err)
	}
	return d, nil
}

// String gives 64 hex digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Short is enough of a digest for a person to tell two apart on a screen.
func (d Digest) Short() string { return hex.EncodeToString(d[:6]) }

// RefSize is the length of a Ref's binary form: the hash id as big-endian u16, then the digest.
const RefSize = 34

// AppendBinary appends the binary form.
func (r Ref) AppendBinary(b []byte) ([]byte, error) {
	b = binary.BigEndian.AppendUint16(b, uint16(r.Hash))
	return append(b, r.Digest[:]...), nil
}

// MarshalBinary gives the binary form.
func (r Ref) MarshalBinary() ([]byte, error) { return r.AppendBinary(make([]byte, 0, RefSize)) }

// UnmarshalBinary reads the binary form.
func (r *Ref) UnmarshalBinary(b []byte) error {
	if len(b) != RefSize {
		return fmt.Errorf("reference: want %d bytes, got %d", RefSize, len(b))
	}
	r.Hash = HashID(binary.BigEndian.Uint16(b))
	copy(r.Digest[:], b[2:])
	return nil
}

// Sum names bytes without a tag.
func Sum(data []byte) Ref { return Ref{BLAKE3, HashBytes(data)} }

// SumTagged names bytes with a tag; NoTag is the same as Sum.
func SumTagged(tag Tag, data []byte) Ref {
	if tag == NoTag {
		return Sum(data)
	}
	var r Ref
	r.Hash = BLAKE3
	in := make([]byte, 4, 4+len(data))
	binary.LittleEndian.PutUint32(in, uint32(tag))
	blake3.DeriveKey(r.Digest[:], tagContext, append(in, data...))
	return r
}

// Verify tells whether data is what ref names. A mismatch is ErrDamaged.
func Verify(ref Ref, tag Tag, data []byte) error {
	if ref.Hash != BLAKE3 {
		return fmt.Errorf("reference with hash id %#04x: %w", uint16(ref.Hash), ErrUnsupported)
	}
	if got := SumTagged(tag, data); got != ref {
		return fmt.Errorf("artifact %s: its %d bytes hash to %s: %w", ref, len(data), got, ErrDamaged)
	}
	return nil
}
