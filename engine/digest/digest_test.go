package digest

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"testing"

	"lukechampine.com/blake3"
)

func noise(n int, seed byte) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// TestTree puts pieces of every length together, made in any order and with the state written down in between, and holds the sum
// against the library's own.
func TestTree(t *testing.T) {
	all := noise(3<<20, 1)
	for _, unit := range []int{1 << 10, 4 << 10, 16 << 10, 64 << 10, 512 << 10, 2 << 20} {
		for _, n := range []int{0, 1, 63, 1023, 1024, 1025, 2048, 3000, 16 << 10, 16<<10 + 1, 17 << 10, 64 << 10, 65<<10 + 5, 100_000, 256 << 10, 300_000, 3<<20 - 5, 3 << 20} {
			buf := all[:n]
			var pieces []Piece
			for off := 0; off < n; off += unit {
				pieces = append(pieces, of(bytes.Clone(buf[off:min(n, off+unit)]), int64(off)))
			}
			tree := &Tree{}
			for i, p := range pieces {
				tree.Add(p, int64(min(unit, n-i*unit)))
				if i == len(pieces)-1 {
					break
				}
				state := tree.State()
				var err error
				if tree, err = Restore(state, int64(unit)); err != nil || !bytes.Equal(tree.State(), state) || tree.Next() != int64((i+1)*unit) {
					t.Fatalf("unit %d, %d bytes, after %d: %v", unit, n, i, err)
				}
			}
			if want := blake3.Sum256(buf); !bytes.Equal(tree.Sum(), want[:]) {
				t.Errorf("unit %d, %d bytes: %x, want %x", unit, n, tree.Sum(), want)
			}
		}
	}
}

// TestStateIsGolden: what an interrupted intake wrote must be understood by every later version.
func TestStateIsGolden(t *testing.T) {
	tree := &Tree{}
	for i := range 4 {
		tree.Add(of(bytes.Repeat([]byte{byte(i)}, 2048), int64(i)*2048), 2048)
	}
	const want = "0020000000000000" + // next
		"67e6096a85ae67bb72f36e3c3af54fa57f520e518c68059babd9831f19cde05b"
	got := hex.EncodeToString(tree.State())
	if len(got) != 2*(8+nodeSize+2*cvSize) || got[:len(want)] != want {
		t.Errorf("state is now %s", got)
	}
	if sum := blake3.Sum256([]byte(got)); hex.EncodeToString(sum[:8]) != "0889e74a124d46bf" {
		t.Errorf("the state hashes to %x", sum[:8])
	}
}

func TestParse(t *testing.T) {
	for list, want := range map[string][]string{"": {BLAKE3}, "sha256,md5": {BLAKE3, SHA256, MD5}, " MD5 ": {BLAKE3, MD5}, "blake3": {BLAKE3}, "md5,md5": {BLAKE3, MD5}} {
		if got, err := Parse(list); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v", list, got, err)
		}
	}
	if _, err := Parse("crc32"); err == nil {
		t.Error("crc32 passed for a digest")
	}
}

func FuzzRestore(f *testing.F) {
	tree := &Tree{}
	for i := range 4 {
		tree.Add(of(make([]byte, 1024), int64(i)*1024), 1024)
		f.Add(tree.State(), int64(1024))
	}
	f.Fuzz(func(t *testing.T, b []byte, unit int64) {
		tree, err := Restore(b, unit)
		if err != nil || len(b) == 0 {
			return
		}
		if !bytes.Equal(tree.State(), b) {
			t.Fatal("another state is written than was read")
		}
		tree.Sum()
		tree.Add(of(make([]byte, 1024), tree.Next()), unit)
		tree.Sum()
	})
}

// of hashes a run in steps of odd lengths.
func of(buf []byte, off int64) Piece {
	r := Begin(buf, off)
	for n := 1; n < len(buf); n = n*3 + 7 {
		r.To(n)
	}
	return r.Piece()
}

func BenchmarkOf(b *testing.B) {
	buf := noise(16<<20, 1)
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		of(buf, 16<<20)
	}
}
