package session

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aslrescue/engine/chunk"
	"aslrescue/engine/intake"
	"aslrescue/engine/restore/treecmp"
	"aslrescue/engine/source"
	"aslrescue/engine/source/sourcetest"
	"aslrescue/engine/store/format"
)

// asl runs a program as its main does.
func asl(t *testing.T, program func(context.Context, []string, IO) int, args ...string) (out, errs string, code int) {
	t.Helper()
	var a, b bytes.Buffer
	code = program(t.Context(), args, IO{Out: &a, Err: &b})
	return a.String(), b.String(), code
}

// want runs a program that must end with a code, and gives its output.
func want(t *testing.T, code int, program func(context.Context, []string, IO) int, args ...string) string {
	t.Helper()
	out, errs, got := asl(t, program, args...)
	if got != code {
		t.Fatalf("%q: exit %d, want %d\n%s%s", args, got, code, out, errs)
	}
	return out
}

// small makes many chunks of little content.
func small() chunk.Params {
	p := chunk.Default()
	p.SuperBlock, p.ZeroRun = 64<<10, 2
	p.Min, p.Avg, p.Max = 4<<10, 8<<10, 16<<10
	p.ByteMin, p.ByteAvg, p.ByteMax = 256, 1<<10, 4<<10
	return p
}

// take makes a snapshot.
func take(t *testing.T, dir string, sources ...source.Source) *format.Manifest {
	t.Helper()
	s, err := CreateOrOpenStore(t.Context(), dir, "", "test")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Backend().Close()
	at := time.Unix(1_800_000_000, 0)
	rep, err := intake.Run(t.Context(), s, sources, intake.Options{Compression: intake.Fast, Chunk: small(), NoVerify: true, ForceAfter: -1, Clock: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	return rep.Manifest
}

func openTree(t *testing.T, dir string) source.Source {
	t.Helper()
	src, err := source.OpenTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = src.Close() })
	return src
}

func mix(n int, seed uint64) []byte {
	b := make([]byte, n)
	sourcetest.Pattern{Seed: seed}.Fill(b, 0)
	return b
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func same(t *testing.T, path string, data []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%s: %d bytes, want %d, equal %v, %v", path, len(got), len(data), bytes.Equal(got, data), err)
	}
}

func TestOddTreesComeBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "odd")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	root := os.Geteuid() == 0
	if err := sourcetest.MakeOdd(dir, sourcetest.Odd{Deep: 25, Wide: 3000, Plain: !root}); err != nil {
		t.Fatal(err)
	}
	place := filepath.Join(t.TempDir(), "store")
	take(t, place, openTree(t, dir))
	to := filepath.Join(t.TempDir(), "back")
	want(t, 0, Admin, "--store", place, "restore", "latest", "--to", to)
	diffs, err := treecmp.Compare(dir, to)
	if err != nil || len(diffs) > 0 {
		t.Errorf("%v\n%s", err, strings.Join(diffs, "\n"))
	}
	// A part of it: its hard links still hang together, though their first name lies elsewhere.
	part := filepath.Join(t.TempDir(), "hard")
	want(t, 0, Admin, "--store", place, "restore", "1:odd/hard", "--to", part)
	same(t, filepath.Join(part, "1"), []byte("linked"))
	a, _ := os.Stat(filepath.Join(part, "1"))
	b, err := os.Stat(filepath.Join(part, "2"))
	if err != nil || !os.SameFile(a, b) {
		t.Errorf("the two names in a part are not one file: %v", err)
	}
	want(t, 1, Admin, "--store", place, "restore", "1", "--to", to)                   // not empty
	out := want(t, 0, Admin, "--store", place, "restore", "1", "--to", to, "--merge") // all of it is kept
	if !strings.Contains(out, "existed and were kept") {
		t.Errorf("a merge does not say what it kept: %s", out)
	}
}

func TestFilesAndImagesComeBack(t *testing.T) {
	tmp := t.TempDir()
	big, img := mix(9_000_000, 3), mix(3_000_001, 4)
	clear(img[500_000:1_500_000])
	tree := sourcetest.NewTree("t", []sourcetest.Entry{
		{Path: "d/big", Meta: source.Meta{Type: source.Regular, Mode: 0o640}, Content: big},
		{Path: "d/small", Meta: source.Meta{Type: source.Regular, Mode: 0o600}, Content: []byte("small")},
	})
	place := filepath.Join(tmp, "store")
	take(t, place, tree, sourcetest.NewLinear(sourcetest.Config{Name: "img", Bytes: img}))

	to := filepath.Join(tmp, "all")
	want(t, 0, Admin, "restore", "1", "--to", to, "--store", place)
	same(t, filepath.Join(to, "img"), img)
	same(t, filepath.Join(to, "t/d/big"), big)

	file := filepath.Join(tmp, "file")
	want(t, 0, Admin, "restore", "1:t/d/big", "--to", file, "--store", place)
	same(t, file, big)
	want(t, 1, Admin, "restore", "1:t/d/small", "--to", file, "--store", place)
	same(t, file, big)
	want(t, 0, Admin, "restore", "1:t/d/small", "--to", file, "--store", place, "--overwrite")
	same(t, file, []byte("small"))
	want(t, 0, Admin, "restore", "1:img", "--to", file, "--store", place, "--overwrite")
	same(t, file, img)
	if left, _ := filepath.Glob(file + ".*"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if got := want(t, 0, Admin, "--store", place, "cat", "1:img"); got != string(img) {
		t.Errorf("cat of the image: %d bytes, equal %v", len(got), got == string(img))
	}
	if got := want(t, 0, Admin, "--store", place, "cat", "1:t/d/small"); got != "small" {
		t.Errorf("cat: %q", got)
	}
	want(t, 2, Admin, "--store", place, "cat", "1:t/d")
	want(t, 10, Admin, "--store", place, "cat", "1:t/d/none")
	want(t, 10, Admin, "--store", place, "cat", "2:img")
}

func TestGapsAreSaid(t *testing.T) {
	tmp := t.TempDir()
	img := mix(300_000, 5)
	src := sourcetest.NewLinear(sourcetest.Config{Name: "sdx", Kind: source.Device, Bytes: img,
		Bad: []source.Gap{{Off: 8192, Len: 1024, Kind: source.Unreadable, Why: "input/output error"}}})
	place := filepath.Join(tmp, "store")
	take(t, place, src)
	want(t, 2, Admin, "--store", place, "restore", "1", "--to", filepath.Join(tmp, "sdx"))
	want(t, 2, Admin, "--store", place, "restore", "1", "--to", filepath.Join(tmp, "sdx"), "--fill", "keep")
	want(t, 2, Admin, "--store", place, "restore", "1", "--to", filepath.Join(tmp, "sdx"), "--fill", "lies")
	if _, err := os.Lstat(filepath.Join(tmp, "sdx")); err == nil {
		t.Error("what was refused left something behind")
	}
	out := want(t, 3, Admin, "--store", place, "restore", "1", "--to", filepath.Join(tmp, "sdx"), "--fill", "zero")
	if !strings.Contains(out, "MISSING sdx: 1.0 kB unreadable at 8192") {
		t.Errorf("the gap is not listed: %s", out)
	}
	clear(img[8192:9216])
	same(t, filepath.Join(tmp, "sdx"), img)
	want(t, 3, Admin, "--store", place, "restore", "1", "--to", filepath.Join(tmp, "seen"), "--fill", "pattern")
	seen := bytes.Clone(img)
	copy(seen[8192:9216], strings.Repeat("ASL-GAP\n", 128))
	same(t, filepath.Join(tmp, "seen"), seen)
	for _, line := range []string{"0x00000000  0x00002000  +", "0x00002000  0x00000400  -", "0x00002400  0x00046FE0  +"} {
		if out := want(t, 0, Admin, "--store", place, "mapfile", "1"); !strings.Contains(out, line) {
			t.Errorf("the map file lacks %q: %s", line, out)
		}
	}
	if got := want(t, 3, Admin, "--store", place, "cat", "1:sdx"); got != string(img) {
		t.Error("cat does not give zeros in the gap and all the rest")
	}
	if out := want(t, 0, Admin, "--store", place, "show", "1"); !strings.Contains(out, "MISSING 1.0 kB unreadable at 8192: input/output error") {
		t.Errorf("show: %s", out)
	}
}

func TestDiffNamesWhatChanged(t *testing.T) {
	tmp := t.TempDir()
	file := source.Meta{Type: source.Regular, Mode: 0o644}
	img := mix(1<<20, 6)
	place := filepath.Join(tmp, "store")
	take(t, place, sourcetest.NewTree("t", []sourcetest.Entry{
		{Path: "a/same", Meta: file, Content: mix(5000, 7)},
		{Path: "b/changed", Meta: file, Content: mix(100_000, 8)},
		{Path: "b/goes", Meta: file, Content: []byte("x")},
		{Path: "b/mode", Meta: file, Content: []byte("x")},
		{Path: "gone/with/all", Meta: file, Content: []byte("x")},
	}), sourcetest.NewLinear(sourcetest.Config{Name: "img", Bytes: img}))
	other := bytes.Clone(img)
	copy(other[600_000:], "something else")
	changed := mix(100_000, 8)
	changed[50_000] ^= 1
	exe := file
	exe.Mode = 0o755
	take(t, place, sourcetest.NewTree("t", []sourcetest.Entry{
		{Path: "a/same", Meta: file, Content: mix(5000, 7)},
		{Path: "b/changed", Meta: file, Content: changed},
		{Path: "b/came", Meta: file, Content: []byte("x")},
		{Path: "b/mode", Meta: exe, Content: []byte("x")},
	}), sourcetest.NewLinear(sourcetest.Config{Name: "img", Bytes: other}))
	got := want(t, 0, Admin, "--store", place, "diff", "1", "latest")
	golden := `+ t/b/came
M t/b/changed: content 2.8 kB at 47201
- t/b/goes
M t/b/mode: mode 0644 -> 0755
- t/gone
- t/gone/with
- t/gone/with/all
M img: content 12.2 kB at 593920
    12.2 kB at 593920
1 added, 4 removed, 3 changed; 15.1 kB of content differ
`
	if got != golden {
		t.Errorf("\n got %s\nwant %s", got, golden)
	}
	if got := want(t, 0, Admin, "--store", place, "diff", "2", "2"); got != "no difference\n" {
		t.Errorf("with itself: %s", got)
	}
}

// objects gives the files of a store under a prefix.
func objects(t *testing.T, place, under string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(filepath.Join(place, under), func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			all = append(all, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// flip changes one bit of a file, as a medium does.
func flip(t *testing.T, path string, at int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 4
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o444); err != nil {
		t.Fatal(err)
	}
}

func sample(t *testing.T) (place string) {
	place = filepath.Join(t.TempDir(), "store")
	take(t, place, sourcetest.NewTree("t", []sourcetest.Entry{
		{Path: "a", Meta: source.Meta{Type: source.Regular, Mode: 0o600}, Content: mix(20_000, 1)},
		{Path: "d/b", Meta: source.Meta{Type: source.Regular, Mode: 0o600}, Content: mix(200_000, 2)},
	}))
	return place
}

// state is the content of every file in a folder.
func state(t *testing.T, place string) string {
	t.Helper()
	h := sha256.New()
	for _, p := range objects(t, place, "") {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(h, "%s %d %x\n", p, len(b), sha256.Sum256(b))
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

func TestAGoodStoreIsFoundGood(t *testing.T) {
	place := sample(t)
	before := state(t, place)
	want(t, 0, Debug, "--store", place, "validate")
	want(t, 0, Admin, "--store", place, "verify")
	want(t, 0, Admin, "--store", place, "gc", "check")
	if state(t, place) != before {
		t.Error("looking changed the store")
	}
	want(t, 0, Admin, "--store", place, "verify", "1", "--read-data")
	want(t, 0, Admin, "--store", place, "verify", "--read-data")
	if out := want(t, 0, Admin, "--store", place, "show", "1"); !strings.Contains(out, "all blocks it needs") || !strings.Contains(out, "all blocks of the store") {
		t.Errorf("show does not tell of the verifications: %s", out)
	}
	want(t, 0, Debug, "--store", place, "validate")
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	for _, under := range []string{"blocks", "segments", "logs", "snapshots"} {
		place := sample(t)
		for _, path := range objects(t, place, under) {
			st, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, at := range []int64{8, 70, st.Size() / 2, st.Size() - 1} {
				at = min(at, st.Size()-1)
				flip(t, path, at)
				before := state(t, place)
				out, errs, code := asl(t, Debug, "--store", place, "validate")
				if code != 8 && !(code == 1 && strings.Contains(errs, "newer version")) {
					t.Errorf("%s flipped at %d: exit %d\n%s%s", path, at, code, out, errs)
				}
				if state(t, place) != before {
					t.Errorf("%s flipped at %d: validate changed the store", path, at)
				}
				flip(t, path, at)
			}
		}
		want(t, 0, Debug, "--store", place, "validate")
	}
}

func TestVerifyRecordsDamage(t *testing.T) {
	place := sample(t)
	block := objects(t, place, "blocks")[0]
	flip(t, block, 5000) // within content
	want(t, 0, Admin, "--store", place, "verify")
	want(t, 8, Admin, "--store", place, "verify", "latest", "--read-data")
	out := want(t, 0, Debug, "--store", place, "log")
	if !strings.Contains(out, "DAMAGE") || !strings.Contains(out, filepath.Base(block)) || strings.Contains(out, "VERIFIED") {
		t.Errorf("the log tells: %s", out)
	}
	out = want(t, 8, Debug, "--store", place, "block", filepath.Base(block)[:8])
	if strings.Count(out, "good") < 2 || strings.Count(out, "hash to") != 2 || !strings.Contains(out, "the log knows it as damaged") {
		t.Errorf("block: %s", out)
	}
	// The rest of it can still be had.
	to := filepath.Join(t.TempDir(), "to")
	out = want(t, 3, Admin, "--store", place, "restore", "1", "--to", to)
	if !strings.Contains(out, "MISSING") {
		t.Errorf("restore: %s", out)
	}
	if err := os.Remove(block); err != nil {
		t.Fatal(err)
	}
	want(t, 8, Admin, "--store", place, "verify", "1")
}

func TestVerifyBlamesTheBlockOfAHurtPage(t *testing.T) {
	place := sample(t)
	block := objects(t, place, "blocks")[0]
	for line := range strings.Lines(want(t, 0, Debug, "--store", place, "--json", "block", filepath.Base(block))) {
		var row struct {
			Tag string `json:"tag"`
			Off int64  `json:"off"`
		}
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatal(err)
		}
		if row.Tag == "dir-page" {
			flip(t, block, row.Off+3)
		}
	}
	out := want(t, 8, Admin, "--store", place, "verify")
	if !strings.Contains(out, "DAMAGED snapshot 1: t: block "+filepath.Base(block)) {
		t.Errorf("verify: %s", out)
	}
	if out := want(t, 0, Debug, "--store", place, "log"); !strings.Contains(out, "DAMAGE") {
		t.Errorf("the log does not tell of it: %s", out)
	}
}

func TestABrokenLogIsStillShown(t *testing.T) {
	place := sample(t)
	parts := objects(t, place, "logs")
	flip(t, parts[len(parts)-1], 100)
	out, errs, code := asl(t, Admin, "--store", place, "snapshots")
	if code != 8 || !strings.Contains(errs, "the log of this store is damaged") || !strings.Contains(out, "unfinished") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	out = want(t, 8, Debug, "--store", place, "log")
	if !strings.Contains(out, "INTAKE_BEGIN") {
		t.Errorf("log: %s", out)
	}
	want(t, 8, Admin, "--store", place, "gc", "check")
}

func TestOrphansAndLeftoversAreNamed(t *testing.T) {
	place := sample(t)
	block := strings.Repeat("ab", 32)
	write(t, filepath.Join(place, "blocks/ab", block), []byte("left"))
	write(t, filepath.Join(place, "segments/.tmp-"+strings.Repeat("0", 32)), []byte("half"))
	write(t, filepath.Join(place, "logs/holiday.jpg"), []byte("x"))
	out := want(t, 0, Admin, "--store", place, "gc", "check")
	for _, s := range []string{"loose  blocks/" + block + "  4 B", "loose  segments/.tmp-", "nothing needs 8 B in 2 objects; nothing was deleted"} {
		if !strings.Contains(out, s) {
			t.Errorf("no %q in %s", s, out)
		}
	}
	if strings.Contains(out, "loose  logs/holiday.jpg") {
		t.Error("somebody else's file is called loose")
	}
}

func TestForgedNotesAreFound(t *testing.T) {
	place := sample(t)
	if out := want(t, 0, Debug, "--store", place, "snapshot", "1"); !strings.Contains(out, "signed by the writer") {
		t.Errorf("snapshot: %s", out)
	}
	note := filepath.Join(place, "snapshots", DefaultDomain, "0000000001.note")
	b, err := os.ReadFile(note)
	if err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(note)
	want(t, 0, Debug, "--store", place, "snapshot", "1")
	write(t, note, bytes.Replace(b, []byte("\n1\n"), []byte("\n2\n"), 1))
	want(t, 8, Debug, "--store", place, "snapshot", "1")
	want(t, 8, Debug, "--store", place, "validate")
}

func TestEverythingSpeaksJSON(t *testing.T) {
	place := sample(t)
	segment := filepath.Base(objects(t, place, "segments")[0])
	block := filepath.Base(objects(t, place, "blocks")[0])
	admin, debug := Admin, Debug
	for _, c := range []struct {
		program func(context.Context, []string, IO) int
		args    string
	}{
		{admin, "snapshots"}, {admin, "show 1"}, {admin, "ls 1 -R"}, {admin, "ls 1 d/b"}, {admin, "cat 1:a"}, {admin, "diff 1 1"}, {admin, "verify --read-data"}, {admin, "gc check"}, {admin, "config"},
		{debug, "validate"}, {debug, "log"}, {debug, "log --part 2"}, {debug, "snapshot 1"}, {debug, "block " + block}, {debug, "segment " + segment[:10]},
		{admin, "show 9"}, {admin, "nonsense"}, {debug, "block zz"},
	} {
		out, _, _ := asl(t, c.program, append([]string{"--store", place, "--json"}, strings.Fields(c.args)...)...)
		var last map[string]any
		for line := range strings.Lines(out) {
			last = nil
			if err := json.Unmarshal([]byte(line), &last); err != nil {
				t.Fatalf("%s: %q: %v", c.args, line, err)
			}
			if strings.Count(line, `"type":`) > strings.Count(line, `{`) {
				t.Errorf("%s: two types in %q", c.args, line)
			}
		}
		if last["type"] != "result" {
			t.Errorf("%s: the last line is %v", c.args, last)
		}
	}
}

func TestHelpAndUsage(t *testing.T) {
	for _, c := range []struct {
		program func(context.Context, []string, IO) int
		names   string
	}{{Admin, "snapshots show ls cat diff verify restore gc config"}, {Debug, "validate log snapshot block segment artifact labels"}} {
		if out := want(t, 0, c.program, "--help"); !strings.Contains(out, "Examples") || !strings.Contains(out, "Exit codes") {
			t.Errorf("help: %s", out)
		}
		for _, name := range strings.Fields(c.names) {
			if out := want(t, 0, c.program, name, "--help"); !strings.Contains(out, "Examples\n  asl-") {
				t.Errorf("%s --help: %s", name, out)
			}
		}
		want(t, 0, c.program, "--version")
		want(t, 2, c.program)
		want(t, 2, c.program, "--nonsense")
	}
	want(t, 2, Admin, "show")
	want(t, 2, Admin, "show", "1", "2")
	want(t, 2, Admin, "--store", sample(t), "show", "one")
	want(t, 10, Admin, "--store", filepath.Join(t.TempDir(), "none"), "snapshots")
}
