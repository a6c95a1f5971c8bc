package intake_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aslrescue/engine/artifact"
	"aslrescue/engine/event"
	"aslrescue/engine/intake"
	"aslrescue/engine/source"
	"aslrescue/engine/source/sourcetest"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
	"aslrescue/engine/vfs/memfs"
)

// rescues takes one disk in several times, each time with other bad ranges, and gives the store and its snapshots.
func rescues(t testing.TB, contents [][]byte, bad [][]source.Gap) (*store.Store, []intake.Part) {
	t.Helper()
	fsys, err := newMedium(memfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range bad {
		w := &world{label: fmt.Sprint(i), sources: func() []source.Source {
			return []source.Source{sourcetest.NewLinear(sourcetest.Config{Name: "disk", Bytes: contents[i], Bad: bad[i]})}
		}}
		if _, err := oneIntake(t.Context(), fsys, w, hasty(intake.Fast)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := openStore(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return s, partsOf(t, s, len(bad))
}

func partsOf(t testing.TB, s *store.Store, n int) (parts []intake.Part) {
	t.Helper()
	for i := range n {
		v, err := s.At(t.Context(), uint64(i+1))
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, intake.Part{View: v, Source: &v.Manifest.Sources[0]})
	}
	return parts
}

// contentOf reads a snapshot back, question marks where it holds nothing.
func contentOf(t testing.TB, s *store.Store, number uint64) string {
	t.Helper()
	v, err := s.At(t.Context(), number)
	if err != nil {
		t.Fatal(err)
	}
	got, err := readBack(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	return got["disk"]
}

// realImage is an ext4 file system with files in it, as mkfs.ext4 makes it.
func realImage(t testing.TB, size int) []byte {
	t.Helper()
	dir := t.TempDir()
	for i := range 12 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file%d", i)), mixed(uint64(i), 90_000+i*7777), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	img := filepath.Join(t.TempDir(), "img")
	cmd := exec.Command("mkfs.ext4", "-q", "-F", "-d", dir, img, fmt.Sprintf("%dk", size>>10))
	cmd.Env = append(os.Environ(), "PATH=/usr/sbin:/sbin:"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestMergeOfTwoHalvesIsTheDisk: each rescue read what the other could not, so together they have all of it, and nothing is stored twice.
func TestMergeOfTwoHalvesIsTheDisk(t *testing.T) {
	img := realImage(t, 8<<20)
	var bad [2][]source.Gap
	for i, off := 0, int64(0); off < int64(len(img)); i, off = i+1, off+700*512 {
		bad[i%2] = append(bad[i%2], source.Gap{Off: off, Len: min(700*512, int64(len(img))-off)})
	}
	s, parts := rescues(t, [][]byte{img, img}, bad[:])
	for _, p := range parts {
		if p.Source.Counts.Unreadable < int64(len(img))/3 {
			t.Fatalf("snapshot %s lacks only %d bytes", p, p.Source.Counts.Unreadable)
		}
	}
	out, err := intake.Merge(t.Context(), s, parts, intake.MergeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if out.Manifest.Result != string(event.Complete) || contentOf(t, s, out.Snapshot.Number) != string(img) {
		t.Errorf("%+v is not the disk", out)
	}
	if out.Cut != 0 {
		t.Errorf("%d bytes of chunks were stored anew, though no two of them overlap", out.Cut)
	}
	if c := out.Manifest.Sources[0].Counts; c.Data+c.Zero != int64(len(img)) || c.New != 0 {
		t.Errorf("counts %+v", c)
	}
	if g := out.Gained; g[0]+g[1] != int64(len(img)) || g[0] == 0 || g[1] == 0 {
		t.Errorf("gained %v", g)
	}
}

// TestMerge holds merges of random rescues against the bytes: all is there that any of them has, gaps are where none has, and they add up.
func TestMerge(t *testing.T) {
	for seed := range uint64(24) {
		r := rand.New(rand.NewPCG(seed, 5))
		size := 20_000 + r.IntN(200_000)
		content := mixed(seed, size)
		n := 2 + r.IntN(2)
		var bad [][]source.Gap
		var contents [][]byte
		want := []byte(strings.Repeat("?", size))
		for range n {
			gaps := randomGaps(r, size)
			have := holed(content, gaps...)
			for i := range want {
				if lost := inGap(gaps, int64(i)); !lost {
					want[i] = have[i]
				}
			}
			bad, contents = append(bad, gaps), append(contents, content)
		}
		s, parts := rescues(t, contents, bad)
		out, err := intake.Merge(t.Context(), s, parts, intake.MergeOptions{Label: "merged"})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if got := contentOf(t, s, out.Snapshot.Number); got != string(want) {
			t.Fatalf("seed %d: other bytes than the rescues have", seed)
		}
		c := out.Manifest.Sources[0].Counts
		if c.Data+c.Zero+c.Unreadable+c.Untried != int64(size) || c.Untried != 0 {
			t.Errorf("seed %d: counts %+v of %d bytes", seed, c, size)
		}
		if len(out.Manifest.Merged) != n {
			t.Errorf("seed %d: made of %v", seed, out.Manifest.Merged)
		}
	}
}

func randomGaps(r *rand.Rand, size int) (gaps []source.Gap) {
	for off := int64(r.IntN(60)) * 512; off < int64(size); {
		n := min(int64(1+r.IntN(40))*512, int64(size)-off)
		gaps = append(gaps, source.Gap{Off: off, Len: n})
		off += n + int64(1+r.IntN(60))*512
	}
	return gaps
}

func inGap(gaps []source.Gap, off int64) bool {
	for _, g := range gaps {
		if off >= g.Off && off < g.Off+g.Len {
			return true
		}
	}
	return false
}

// TestMergeRefusesWhatDiffers: of two versions of a sector none is chosen silently.
func TestMergeRefusesWhatDiffers(t *testing.T) {
	a := mixed(3, 120_000)
	b := append([]byte(nil), a...)
	for _, at := range []int{5_000, 30_000, 30_001, 119_999} { // of noise, of zeros, at the end
		b[at] ^= 1
	}
	s, parts := rescues(t, [][]byte{a, b}, [][]source.Gap{{{Off: 512, Len: 1024}}, nil})
	before := len(s.Snapshots())
	out, err := intake.Merge(t.Context(), s, parts, intake.MergeOptions{})
	if !errors.Is(err, intake.ErrConflict) || out.Places != 3 || out.Conflicts[0].Off != 5_000/512*512 {
		t.Fatalf("%+v, %v", out, err)
	}
	if len(s.Snapshots()) != before || len(s.Unfinished()) != 0 {
		t.Error("a refused merge left something in the store")
	}
	for prefer, want := range map[int][]byte{1: a, 2: b} {
		out, err := intake.Merge(t.Context(), s, parts, intake.MergeOptions{Prefer: prefer})
		if err != nil {
			t.Fatal(err)
		}
		if got := contentOf(t, s, out.Snapshot.Number); prefer == 2 && got != string(want) || prefer == 1 && got[2000:] != string(want[2000:]) {
			t.Errorf("prefer %d: other bytes", prefer)
		}
		if src := out.Manifest.Sources[0]; len(src.Changed) != 3 || src.Whole() {
			t.Errorf("the manifest says %q of what differs", src.Changed)
		}
	}
}

// TestMergeRefusesOtherDisks: two disks are not one, unless somebody says so who knows.
func TestMergeRefusesOtherDisks(t *testing.T) {
	fsys, err := newMedium(memfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	content := mixed(1, 50_000)
	for _, c := range []sourcetest.Config{{Name: "disk", ID: "disk serial=1", Bytes: content}, {Name: "disk", ID: "disk serial=2", Bytes: content}, {Name: "disk", ID: "disk serial=1", Bytes: content[:40_000]}} {
		if _, err := oneIntake(t.Context(), fsys, &world{label: c.ID, sources: func() []source.Source { return []source.Source{sourcetest.NewLinear(c)} }}, hasty(intake.Fast)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := openStore(fsys)
	if err != nil {
		t.Fatal(err)
	}
	parts := partsOf(t, s, 3)
	if _, err := intake.Merge(t.Context(), s, parts[:2], intake.MergeOptions{}); !errors.Is(err, intake.ErrOther) {
		t.Errorf("another serial: %v", err)
	}
	if _, err := intake.Merge(t.Context(), s, parts[:2], intake.MergeOptions{Different: true}); err != nil {
		t.Errorf("another serial, as told: %v", err)
	}
	if _, err := intake.Merge(t.Context(), s, []intake.Part{parts[0], parts[2]}, intake.MergeOptions{Different: true}); !errors.Is(err, intake.ErrOther) {
		t.Errorf("another size: %v", err)
	}
}

// TestMergeKeepsWhatIsKnownOfGaps: of what none of them has, the tries add up; what was left out by choice stays a choice until another has it.
func TestMergeKeepsWhatIsKnownOfGaps(t *testing.T) {
	content := mixed(6, 200_000)
	gaps := []source.Gap{{Off: 8192, Len: 1024}, {Off: 100_352, Len: 512}}
	fsys, err := newMedium(memfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	lin := func(bad ...source.Gap) source.Linear {
		return sourcetest.NewDisk(sourcetest.Config{Name: "disk", Bytes: content, Bad: bad})
	}
	for _, src := range []source.Source{
		source.Only(lin(gaps...), []source.Stretch{{Off: 0, Len: 150_000 &^ 511}}, "used-only: so it was chosen"),
		source.Only(lin(gaps[0]), []source.Stretch{{Off: 0, Len: 160_000 &^ 511}}, "used-only: so it was chosen"),
		lin(gaps...),
	} {
		if _, err := oneIntake(t.Context(), fsys, &world{label: "part", sources: func() []source.Source { return []source.Source{src} }}, hasty(intake.Fast)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := openStore(fsys)
	if err != nil {
		t.Fatal(err)
	}
	parts := partsOf(t, s, 3)
	out, err := intake.Merge(t.Context(), s, parts[:2], intake.MergeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	src := out.Manifest.Sources[0]
	if want := int64(len(content)) - 160_000&^511; src.Left == nil || src.Left.Bytes != want || src.GapsAll != 1 || src.Missing() != gaps[0].Len {
		t.Errorf("left %+v, %d gaps, %d missing", src.Left, src.GapsAll, src.Missing())
	}
	tries := func(p intake.Part) (n uint32) {
		for f, err := range p.View.Faults(t.Context(), p.Source) {
			if err != nil {
				t.Fatal(err)
			}
			if f.Kind == source.Unreadable && f.Off <= gaps[0].Off && gaps[0].Off < f.Off+f.Len {
				n = f.Tries
			}
		}
		return n
	}
	v, err := s.At(t.Context(), out.Snapshot.Number)
	if err != nil {
		t.Fatal(err)
	}
	got, want := tries(intake.Part{View: v, Source: &v.Manifest.Sources[0]}), tries(parts[0])+tries(parts[1])
	if got != want || want < 2 {
		t.Errorf("tried %d times, its parts %d", got, want)
	}
	// With the third nothing is left out any more.
	if out, err = intake.Merge(t.Context(), s, parts, intake.MergeOptions{}); err != nil || out.Manifest.Sources[0].Left != nil || out.Manifest.Sources[0].Missing() != gaps[0].Len {
		t.Errorf("%+v, %v", out.Manifest.Sources[0], err)
	}
}

// TestAMergeThatWasKilled: one that was stopped ends what it began, and one that could not is ended by the next; one that somebody is at is left alone.
func TestAMergeThatWasKilled(t *testing.T) {
	img := mixed(8, 300_000)
	s, parts := rescues(t, [][]byte{img, img}, [][]source.Gap{{{Off: 0, Len: 1024}}, {{Off: 200_192, Len: 1024}}})
	ctx, cancel := context.WithCancel(t.Context())
	clocks := 0
	_, err := intake.Merge(ctx, s, parts, intake.MergeOptions{Clock: func() time.Time {
		if clocks++; clocks == 2 { // all is written but the snapshot
			cancel()
		}
		return time.Unix(1, 0)
	}})
	if !errors.Is(err, context.Canceled) || clocks != 2 {
		t.Fatalf("stopped: %v after %d looks at the clock", err, clocks)
	}
	if n := len(s.Unfinished()); n != 0 {
		t.Fatalf("a merge that was stopped leaves %d intakes unfinished", n)
	}
	codec, err := intake.Codec(intake.None)
	if err != nil {
		t.Fatal(err)
	}
	id := parts[0].Source.SourceID
	id.Kind = intake.MergeKind
	for range 2 {
		if _, err := s.Begin(t.Context(), format.IntakeBegin{Intake: intake.NewID(), Sources: []format.SourceID{id}, Chunk: parts[0].View.Manifest.Chunk, Codec: codec}); err != nil {
			t.Fatal(err)
		}
	}
	busy := s.Unfinished()[1].Begin.Intake
	n, err := intake.EndMerges(t.Context(), s, func(id format.ID) bool { return id != busy }, 2)
	if left := s.Unfinished(); err != nil || n != 1 || len(left) != 1 || left[0].Begin.Intake != busy {
		t.Fatalf("%d ended, %v, left %+v", n, err, left)
	}
	out, err := intake.Merge(t.Context(), s, parts, intake.MergeOptions{})
	if err != nil || contentOf(t, s, out.Snapshot.Number) != string(img) {
		t.Errorf("the next merge: %+v, %v", out, err)
	}
}

// TestMergeKeepsBothReadings: where two rescues differ and nobody chooses, the place is unstable, what each read can be had, and nothing else is missing.
func TestMergeKeepsBothReadings(t *testing.T) {
	a := mixed(3, 3_000_000)
	b := append([]byte(nil), a...)
	want := append([]byte(nil), a...)
	var places [][2]int // in bytes, as they are told
	for _, at := range [][2]int{{5_000, 1}, {30_000, 1}, {900_000, 1_400_000}, {2_999_999, 1}} {
		for i := range at[1] {
			b[at[0]+i] ^= 1
		}
		off, end := at[0]/512*512, min(len(a), (at[0]+at[1]+511)/512*512)
		places = append(places, [2]int{off, end})
		for i := off; i < end; i++ {
			want[i] = '?'
		}
	}
	lost := source.Gap{Off: 512, Len: 1024}
	s, parts := rescues(t, [][]byte{a, b, a}, [][]source.Gap{{lost}, nil, nil})
	out, err := intake.Merge(t.Context(), s, parts, intake.MergeOptions{Unstable: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := contentOf(t, s, out.Snapshot.Number); got != string(want) {
		i := 0
		for i < min(len(got), len(want)) && got[i] == want[i] {
			i++
		}
		t.Errorf("other bytes at %d of %d, %d wanted: %q, not %q", i, len(got), len(want), got[i:i+1], want[i:i+1])
	}
	src := out.Manifest.Sources[0]
	missing := int64(0)
	for _, p := range places {
		missing += int64(p[1] - p[0])
	}
	if out.Manifest.Result != string(event.CompleteWithGaps) || src.Counts.Unreadable != missing || src.Counts.Data+src.Counts.Zero+missing != int64(len(a)) || len(src.Changed) != 0 || src.GapsAll != int64(len(places)) {
		t.Errorf("%s, counts %+v, %d gaps, %d missing", out.Manifest.Result, src.Counts, src.GapsAll, missing)
	}
	v, err := s.At(t.Context(), out.Snapshot.Number)
	if err != nil {
		t.Fatal(err)
	}
	told := int64(0)
	for f, err := range v.Faults(t.Context(), &v.Manifest.Sources[0]) {
		if err != nil {
			t.Fatal(err)
		}
		told += f.Len
		if f.Kind != source.Unstable || len(f.Readings) != 2 {
			t.Fatalf("%+v", f)
		}
		for i, from := range [][]byte{a, b} {
			var ref artifact.Ref
			if err := ref.UnmarshalBinary(f.Readings[i]); err != nil {
				t.Fatal(err)
			}
			if got, _, err := v.Get(t.Context(), ref); err != nil || string(got) != string(from[f.Off:f.Off+f.Len]) {
				t.Fatalf("reading %d at %d: %v", i, f.Off, err)
			}
		}
	}
	if told != missing {
		t.Errorf("of %d bytes the readings are told of %d", missing, told)
	}
	if _, err := intake.Merge(t.Context(), s, parts, intake.MergeOptions{Unstable: true, Prefer: 1}); err == nil {
		t.Error("both were chosen")
	}
}
