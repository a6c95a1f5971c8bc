package corpus

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const testScale = 0.002

// root is a small machine: some real files, so that both kinds, copied and generated, are met.
func root(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "usr")
	for i, name := range []string{"bin/tool", "bin/other", "share/doc/a.txt", "share/doc/with space", "lib/x.so"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, generate(uint64(i), 30_000, i%2 == 0), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestTheSameMachineMakesTheSameCorpus(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Scale: testScale, Root: root(t), Log: io.Discard}
	a, err := Ensure(t.Context(), cfg)
	if haveTools() != nil {
		if err == nil || !strings.Contains(err.Error(), "install e2fsprogs") {
			t.Fatalf("without its tools the error must name the package, got %v", err)
		}
		return // all that can be said on such a machine
	}
	if err != nil {
		t.Fatal(err)
	}
	cfg.Dir = t.TempDir()
	b, err := Ensure(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if a.Disk.BLAKE3 != b.Disk.BLAKE3 || a.Disk2.BLAKE3 != b.Disk2.BLAKE3 {
		t.Errorf("images differ: %v, %v", a, b)
	}
	if a.Disk.BLAKE3 == a.Disk2.BLAKE3 {
		t.Error("the second machine is the first")
	}
	checkShape(t, a)
}

func checkShape(t *testing.T, c *Corpus) {
	t.Helper()
	if c.TreeFiles != int(treeFiles*testScale) {
		t.Errorf("tree has %d files", c.TreeFiles)
	}
	if c.Removed == 0 || c.Edited == 0 || c.Added == 0 {
		t.Errorf("the second machine changed nothing: %v", c)
	}
	if want := int64(diskContent * testScale); c.Disk.Bytes < want/2 || c.Disk.Bytes > want {
		t.Errorf("disk.img holds %d bytes of %d", c.Disk.Bytes, want)
	}
}

func TestOnlyACompleteCorpusIsReused(t *testing.T) {
	if haveTools() != nil {
		return // the other test says what happens then
	}
	var log bytes.Buffer
	cfg := Config{Dir: t.TempDir(), Scale: testScale, Root: root(t), Log: &log}
	ensure := func(want string) *Corpus {
		t.Helper()
		log.Reset()
		c, err := Ensure(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(log.String(), want) {
			t.Errorf("got %q, want %s", log.String(), want)
		}
		return c
	}
	c := ensure("made")
	ensure("reused")
	if err := os.Truncate(c.Disk2Path(), 5); err != nil {
		t.Fatal(err)
	}
	ensure("made")
	if err := os.RemoveAll(filepath.Join(c.TreePath(), "generated")); err != nil {
		t.Fatal(err)
	}
	ensure("made")
	cfg.Scale = testScale * 2
	ensure("made")
}

func TestPickKeepsToItsBudget(t *testing.T) {
	var all []file
	for i := range 1000 {
		all = append(all, file{name: genName("x", i), size: int64(i) * 100})
	}
	taken, rest := pick(all, "s", 1<<20, 50)
	var sum int64
	for _, f := range taken {
		sum += onDisk(f.size)
		if f.size > 1<<16 {
			t.Errorf("%s is %d bytes", f.name, f.size)
		}
	}
	if sum > 1<<20 || len(taken) > 50 || len(taken)+len(rest) != len(all) {
		t.Errorf("%d files of %d bytes, %d left", len(taken), sum, len(rest))
	}
}

func TestAnEditMovesTheRestOfTheFile(t *testing.T) {
	f := file{name: "a.txt", size: 10_000}
	before, _ := f.bytes()
	f.edit = true
	after, _ := f.bytes()
	grown := len(after) - len(before)
	if grown < 1 || grown > 256 || !bytes.Equal(after[:5000], before[:5000]) || !bytes.Equal(after[5000+grown:], before[5000:]) {
		t.Errorf("%d bytes became %d", len(before), len(after))
	}
}
