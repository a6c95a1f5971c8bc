package artifact

import (
	"math/bits"

	"lukechampine.com/blake3/guts"
)

const (
	leaf     = guts.MaxSIMD * guts.ChunkSize // what one call hashes with all lanes full
	leafBits = 4                             // log2(MaxSIMD)
)

// HashBytes is BLAKE3-256 on the calling goroutine. The library's own Sum256 starts goroutines for every call, which
// on chunks of 64 KiB costs more than it gives when all cores already hash chunks of their own.
func HashBytes(data []byte) Digest {
	var stack [54][8]uint32
	key, n := &guts.IV, uint64(0) // n counts whole leaves; its bits say which stack slots are taken
	for len(data) > leaf {
		cv := guts.ChainingValue(guts.CompressBuffer((*[leaf]byte)(data), leaf, key, n<<leafBits, 0))
		i := 0
		for ; n&(1<<i) != 0; i++ {
			cv = guts.ChainingValue(guts.ParentNode(stack[i], cv, key, 0))
		}
		stack[i] = cv
		n++
		data = data[leaf:]
	}
	var node guts.Node
	switch {
	case len(data) == leaf:
		node = guts.CompressBuffer((*[leaf]byte)(data), leaf, key, n<<leafBits, 0)
	case len(data) <= guts.ChunkSize:
		node = guts.CompressChunk(data, key, n<<leafBits, 0)
	default:
		var buf [leaf]byte // CompressBuffer wants a whole leaf to read from
		copy(buf[:], data)
		node = guts.CompressBuffer(&buf, len(data), key, n<<leafBits, 0)
	}
	for i := range bits.Len64(n) {
		if n&(1<<i) != 0 {
			node = guts.ParentNode(stack[i], guts.ChainingValue(node), key, 0)
		}
	}
	node.Flags |= guts.FlagRoot
	out := guts.WordsToBytes(guts.CompressNode(node))
	return Digest(out[:32])
}
