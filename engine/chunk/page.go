package chunk

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// Hash constants: the fraction bits of the square roots of the first twelve primes.
const (
	k0  = 0x6a09e667f3bcc908
	k1  = 0xbb67ae8584caa73b
	k2  = 0x3c6ef372fe94f82b
	k3  = 0xa54ff53a5f1d36f1
	k4  = 0x510e527fade682d1
	k5  = 0x9b05688c2b3e6c1f
	k6  = 0x1f83d9abfb41bd6b
	k7  = 0x5be0cd19137e2179
	k8  = 0xcbbb9d5dc1059ed8
	k9  = 0x629a292a367cd507
	k10 = 0x9159015a3070dd17
	k11 = 0x152fecd8f70e5939
)

// PageHash is the hash by which PageFold cuts. It is a format constant: another value at any input means other cuts in
// every store. It is fast and spreads low-entropy pages well, but is not safe against a page that is made to collide.
//
// Four lanes take 16 bytes each in turn, as two little-endian words: lane = fold((word ^ k) * (word ^ lane)), where
// fold is the exclusive or of the product's two halves.
func PageHash(page *[PageSize]byte) uint64 {
	var a, b, c, d uint64 = k4, k5, k6, k7
	for p := page[:]; len(p) >= 64; p = p[64:] {
		a = fold(binary.LittleEndian.Uint64(p)^k0, binary.LittleEndian.Uint64(p[8:])^a)
		b = fold(binary.LittleEndian.Uint64(p[16:])^k1, binary.LittleEndian.Uint64(p[24:])^b)
		c = fold(binary.LittleEndian.Uint64(p[32:])^k2, binary.LittleEndian.Uint64(p[40:])^c)
		d = fold(binary.LittleEndian.Uint64(p[48:])^k3, binary.LittleEndian.Uint64(p[56:])^d)
	}
	return fold(fold(a^k8, b^k9)^k4, fold(c^k10, d^k11)^k5)
}

func fold(x, y uint64) uint64 {
	hi, lo := bits.Mul64(x, y)
	return hi ^ lo
}

var zeroPage [PageSize]byte // never written

// isZero tells whether b, of at most a page, is all zero.
func isZero(b []byte) bool { return bytes.Equal(b, zeroPage[:len(b)]) }

// zeroRun counts the zero pages at the start of b.
func zeroRun(b []byte) (pages int) {
	for ; len(b) >= PageSize && isZero(b[:PageSize]); b = b[PageSize:] {
		pages++
	}
	return pages
}
