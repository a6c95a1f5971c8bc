package intake_test

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"aslrescue/engine/digest"
	"aslrescue/engine/event"
	"aslrescue/engine/intake"
	"aslrescue/engine/source"
	"aslrescue/engine/source/sourcetest"
	"aslrescue/engine/vfs/memfs"
)

// TestLeftOut: what is left out by choice is not read, is no gap, and makes no snapshot less than COMPLETE; what cannot be read besides is one, and does. An
// interruption changes nothing.
func TestLeftOut(t *testing.T) {
	content := mixed(8, 300_000)
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 9))
		var wanted []source.Stretch
		for off := int64(r.IntN(40)) * 512; off < int64(len(content)); {
			n := min(int64(1+r.IntN(90))*512, int64(len(content))-off)
			wanted = append(wanted, source.Stretch{Off: off, Len: n})
			off += n + int64(1+r.IntN(90))*512
		}
		var bad []source.Gap
		if seed%3 == 0 {
			bad = []source.Gap{{Off: wanted[1].Off, Len: 512}}
		}
		want := []byte(strings.Repeat("?", len(content)))
		read := int64(0)
		for _, w := range wanted {
			copy(want[w.Off:w.Off+w.Len], content[w.Off:])
			read += w.Len
		}
		for _, g := range bad {
			copy(want[g.Off:g.Off+g.Len], bytes.Repeat([]byte("?"), int(g.Len)))
		}
		fsys, err := newMedium(memfs.Options{})
		if err != nil {
			t.Fatal(err)
		}
		w := &world{label: "left", sources: func() []source.Source {
			c := sourcetest.Config{Name: "disk", Bytes: content, Bad: bad}
			var lin source.Linear = sourcetest.NewLinear(c)
			if seed >= 6 { // by passes
				lin = sourcetest.NewDisk(c)
			}
			return []source.Source{source.Only(lin, wanted, "used-only: so it was chosen")}
		}}
		o := hasty(intake.Fast)
		o.Digest = []string{digest.BLAKE3}
		rep, err := stoppedIntake(t, fsys, w, o, int(seed%4))
		if err != nil {
			t.Fatal(err)
		}
		s, err := openStore(fsys)
		if err != nil {
			t.Fatal(err)
		}
		if got := contentOf(t, s, 1); got != string(want) {
			t.Fatalf("seed %d: other bytes", seed)
		}
		src := rep.Manifest.Sources[0]
		left := int64(len(content)) - read
		if src.Left == nil || src.Left.Bytes != left || src.Counts.Untried != left || src.Left.Why == "" || int(src.GapsAll) != len(bad) {
			t.Errorf("seed %d: %+v, want %d bytes left out", seed, src.Left, left)
		}
		if word := map[bool]event.Result{true: event.Complete, false: event.CompleteWithGaps}[len(bad) == 0]; rep.Result != word {
			t.Errorf("seed %d: %s", seed, rep.Result)
		}
		gaps, at := 0, int64(0) // what is bad lies at the beginning of a range and belongs to the gap before it
		for _, w := range wanted {
			if w.Off > at {
				gaps++
			}
			at = w.Off + w.Len
		}
		if at < int64(len(content)) {
			gaps++
		}
		if d := rep.Digests[0]; d.Gaps != int64(gaps) {
			t.Errorf("seed %d: the digest has %d gaps, want %d", seed, d.Gaps, gaps)
		}
	}
}
