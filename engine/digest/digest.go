// Package digest makes the hashes of a whole disk or image, as one run of bytes: BLAKE3 piece by piece while it is read, by several
// workers, and any of BLAKE3, SHA-256 and MD5 out of a snapshot.
package digest

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"math/bits"
	"slices"
	"strings"

	"lukechampine.com/blake3"
	"lukechampine.com/blake3/guts"

	"aslrescue/engine/artifact"
)

// Names of the hashes, as the log holds them.
const (
	BLAKE3 = "blake3"
	SHA256 = "sha256"
	MD5    = "md5"
)

// Parse reads a list such as "sha256,md5". BLAKE3 is always among what it gives.
func Parse(list string) ([]string, error) {
	names := []string{BLAKE3}
	for n := range strings.SplitSeq(list, ",") {
		n = strings.ToLower(strings.TrimSpace(n))
		if n == "" {
			continue
		}
		if !slices.Contains([]string{BLAKE3, SHA256, MD5}, n) {
			return nil, fmt.Errorf("digest %q: want blake3, sha256 or md5", n)
		}
		if !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names, nil
}

func newHash(name string) hash.Hash {
	switch name {
	case SHA256:
		return sha256.New()
	case MD5:
		return md5.New()
	}
	return blake3.New(32, nil)
}

// Piece is what a worker makes of a run of bytes: the top of its part of the BLAKE3 tree.
type Piece struct{ node guts.Node }

// Run hashes a run of bytes step by step, as far as somebody else looks at them anyway.
type Run struct {
	buf   []byte
	first uint64        // number of the first chunk
	done  uint64        // steps that are on the stack
	stack [54][8]uint32 // of complete subtrees of steps; the bits of done say which there are
}

const step = 128 << 10 // bytes of a run that are hashed at once: enough to fill the lanes, less than a processor's own cache

// Begin hashes buf, a run that begins at off, a multiple of its unit. All runs but the last are one unit long, a power of two of at least 1 KiB.
func Begin(buf []byte, off int64) *Run { return &Run{buf: buf, first: uint64(off) / guts.ChunkSize} }

// To hashes what it can of the first n bytes.
func (r *Run) To(n int) {
	for len(r.buf) > step*int(r.done+1) && n >= step*int(r.done+1) {
		cv := guts.ChainingValue(r.node(step * int(r.done+1)))
		i := 0
		for ; r.done&(1<<i) != 0; i++ {
			cv = guts.ChainingValue(guts.ParentNode(r.stack[i], cv, &guts.IV, 0))
		}
		r.stack[i] = cv
		r.done++
	}
}

// node is the top of the subtree of the bytes from the last step up to end.
func (r *Run) node(end int) guts.Node {
	from := step * int(r.done)
	return artifact.Subtree(r.buf[from:end], r.first+uint64(from/guts.ChunkSize))
}

// Piece hashes the rest.
func (r *Run) Piece() Piece {
	r.To(len(r.buf))
	node := r.node(len(r.buf))
	for i := range bits.Len64(r.done) {
		if r.done&(1<<i) != 0 {
			node = guts.ParentNode(r.stack[i], guts.ChainingValue(node), &guts.IV, 0)
		}
	}
	return Piece{node}
}

// Tree puts the pieces of a run together in order. The zero value has none. Its state is a value.
type Tree struct {
	next  int64
	unit  int64
	last  guts.Node
	stack [][8]uint32 // of complete subtrees left of last
}

// Next is the offset that comes next.
func (t *Tree) Next() int64 { return t.next }

// Add takes in the piece of n bytes at Next. A piece shorter than the ones before must be the last.
func (t *Tree) Add(p Piece, n int64) {
	if t.next > 0 {
		cv := guts.ChainingValue(t.last)
		for count := t.next / t.unit; count&1 == 0; count >>= 1 {
			top := len(t.stack) - 1
			cv = guts.ChainingValue(guts.ParentNode(t.stack[top], cv, &guts.IV, 0))
			t.stack = t.stack[:top:top]
		}
		t.stack = append(t.stack, cv)
	} else {
		t.unit = n
	}
	t.last, t.next = p.node, t.next+n
}

// Sum is the BLAKE3 of all bytes so far.
func (t *Tree) Sum() []byte {
	n := t.last
	if t.next == 0 {
		n = guts.CompressChunk(nil, &guts.IV, 0, 0)
	}
	for _, left := range slices.Backward(t.stack) {
		n = guts.ParentNode(left, guts.ChainingValue(n), &guts.IV, 0)
	}
	n.Flags |= guts.FlagRoot
	words := guts.CompressNode(n)
	sum := guts.WordsToBytes(words)
	return sum[:32]
}

const (
	nodeSize = 32 + 64 + 8 + 4 + 4
	cvSize   = 32
)

// State is t as bytes; see docs/store-format.md section 6.1. It is nil where t has no piece.
func (t *Tree) State() []byte {
	if t.next == 0 {
		return nil
	}
	le := binary.LittleEndian
	b := le.AppendUint64(nil, uint64(t.next))
	for _, w := range t.last.CV {
		b = le.AppendUint32(b, w)
	}
	for _, w := range t.last.Block {
		b = le.AppendUint32(b, w)
	}
	b = le.AppendUint64(b, t.last.Counter)
	b = le.AppendUint32(b, t.last.BlockLen)
	b = le.AppendUint32(b, t.last.Flags)
	for _, cv := range t.stack {
		for _, w := range cv {
			b = le.AppendUint32(b, w)
		}
	}
	return b
}

// Restore reads a state. unit is the length of its pieces.
func Restore(b []byte, unit int64) (*Tree, error) {
	t := &Tree{unit: unit}
	if len(b) == 0 {
		return t, nil
	}
	le := binary.LittleEndian
	if len(b) < 8+nodeSize || (len(b)-8-nodeSize)%cvSize != 0 {
		return nil, errors.New("the state of a digest has an impossible length")
	}
	t.next = int64(le.Uint64(b))
	if unit <= 0 || t.next <= 0 || t.next%unit != 0 || bits.OnesCount64(uint64(t.next/unit-1)) != (len(b)-8-nodeSize)/cvSize {
		return nil, errors.New("the state of a digest does not fit its offset")
	}
	b = b[8:]
	words := func(to []uint32) {
		for i := range to {
			to[i] = le.Uint32(b)
			b = b[4:]
		}
	}
	words(t.last.CV[:])
	words(t.last.Block[:])
	t.last.Counter = le.Uint64(b)
	t.last.BlockLen, t.last.Flags = le.Uint32(b[8:]), le.Uint32(b[12:])
	b = b[16:]
	for len(b) > 0 {
		var cv [8]uint32
		words(cv[:])
		t.stack = append(t.stack, cv)
	}
	if t.last.BlockLen > guts.BlockSize {
		return nil, errors.New("the state of a digest has an impossible node")
	}
	return t, nil
}
