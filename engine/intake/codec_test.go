package intake

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"aslrescue/engine/artifact"
	"aslrescue/engine/store/format"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// codecInputs are bytes of several kinds; what the encoder makes of them decides the names of blocks.
func codecInputs() (names []string, inputs [][]byte) {
	add := func(name string, b []byte) { names, inputs = append(names, name), append(inputs, b) }
	src := rand.NewChaCha8([32]byte{1})
	random := make([]byte, 256<<10)
	src.Read(random)
	rnd := rand.New(src)
	words := strings.Fields("the quick brown fox jumps over a lazy dog while many small files of no great interest are read from disks that fail")
	text := func(n int) []byte {
		var b []byte
		for len(b) < n {
			b = append(b, words[rnd.IntN(len(words))]...)
			b = append(b, " \n,."[rnd.IntN(4)])
		}
		return b[:n]
	}
	table := func(n int) []byte {
		var b []byte
		for i := uint32(0); len(b) < n; i++ {
			b = binary.LittleEndian.AppendUint32(b, i*7)
			b = binary.LittleEndian.AppendUint32(b, rnd.Uint32N(64))
			b = append(b, 0, 0, 0, 0)
		}
		return b[:n]
	}
	add("empty", nil)
	add("63 bytes", text(63))
	add("64 bytes", text(64))
	add("text of 1025 bytes", text(1025))
	add("text of 64 KiB", text(64<<10))
	add("text of 256 KiB", text(256<<10))
	add("table of 64 KiB", table(64<<10))
	add("random of 64 KiB", random[:64<<10])
	add("random, then text", append(bytes.Clone(random[:32<<10]), text(32<<10)...))
	add("text, then random", append(text(32<<10), random[:32<<10]...))
	add("random twice", append(bytes.Clone(random[:32<<10]), random[:32<<10]...))
	add("one letter", bytes.Repeat([]byte("A"), 64<<10))
	add("half zeros", append(make([]byte, 32<<10), random[:32<<10]...))
	add("largest artifact", append(text(1<<20), make([]byte, artifact.MaxSize-1<<20)...))
	return names, inputs
}

// Blocks are named by their bytes, and an interrupted intake must make the same ones when it goes on. If this test fails after an
// update of the library, zstdLibrary has to name the new version, and intakes begun with the old one end with it.
func TestEncoderOutputIsGolden(t *testing.T) {
	names, inputs := codecInputs()
	var out strings.Builder
	fmt.Fprintf(&out, "# %s\n", zstdLibrary)
	for _, mode := range []Compression{Fast, Better} {
		codec, err := Codec(mode)
		if err != nil {
			t.Fatal(err)
		}
		c, err := newCompressor(codec)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "# %s, level %d: input, codec, bytes, BLAKE3 of the stored form\n", mode, codec.Level)
		u := &unit{arena: make([]byte, 1<<20)}
		for _, in := range inputs {
			u.adds = append(u.adds, add{ref: artifact.Sum(in), data: in})
		}
		if err := c.unit(u); err != nil {
			t.Fatal(err)
		}
		for i, a := range u.adds {
			fmt.Fprintf(&out, "%s | %s | %d | %s\n", names[i], a.codec, len(a.stored), artifact.HashBytes(a.stored))
			back, err := c.dec.Expand(nil, a.codec, a.stored, uint32(len(a.data)))
			if err != nil || !bytes.Equal(back, a.data) || len(a.stored) > len(a.data) || (a.codec == format.Plain) != (len(a.stored) == len(a.data)) {
				t.Errorf("%s, %s: %d of %d bytes: %v", mode, names[i], len(a.stored), len(a.data), err)
			}
		}
		// what one encoder made before must not show in what it makes next, nor where the result lies
		again := &unit{}
		for i := len(inputs) - 1; i >= 0; i-- {
			again.adds = append(again.adds, add{ref: artifact.Sum(inputs[i]), data: inputs[i]})
		}
		if err := c.unit(again); err != nil {
			t.Fatal(err)
		}
		for i, a := range again.adds {
			if b := u.adds[len(inputs)-1-i]; a.codec != b.codec || !bytes.Equal(a.stored, b.stored) {
				t.Errorf("%s, %s: the second time it is %s of %d bytes, the first %s of %d", mode, names[len(inputs)-1-i], a.codec, len(a.stored), b.codec, len(b.stored))
			}
		}
	}
	const path = "testdata/codec.txt"
	if *update {
		if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(out.String(), "\n")
	for i, line := range strings.Split(string(want), "\n") {
		if i >= len(got) || got[i] != line {
			t.Fatalf("the encoder's output has changed: got %q, want %q", got[min(i, len(got)-1)], line)
		}
	}
}

// wrongEncoder encodes something else, as an encoder or memory at fault would.
type wrongEncoder struct {
	enc interface{ EncodeAll(src, dst []byte) []byte }
}

func (w wrongEncoder) EncodeAll(src, dst []byte) []byte {
	other := bytes.Clone(src)
	other[len(other)/2] ^= 1
	return w.enc.EncodeAll(other, dst)
}

func TestEncoderAtFaultIsFound(t *testing.T) {
	codec, err := Codec(Fast)
	if err != nil {
		t.Fatal(err)
	}
	c, err := newCompressor(codec)
	if err != nil {
		t.Fatal(err)
	}
	c.enc = wrongEncoder{c.enc}
	data := bytes.Repeat([]byte("some words that compress well, "), 1000)
	if err := c.unit(&unit{adds: []add{{ref: artifact.Sum(data), data: data}}}); err == nil {
		t.Error("bytes that do not expand to the artifact are stored as it")
	}
}
