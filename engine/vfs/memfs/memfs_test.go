package memfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"aslrescue/engine/vfs"
	"aslrescue/engine/vfs/memfs"
)

func create(t *testing.T, m *memfs.FS, name string, parts ...string) vfs.File {
	t.Helper()
	f, err := m.CreateExcl(name, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		if _, err := io.WriteString(f, p); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// show is all of a folder in one line.
func show(t *testing.T, m *memfs.FS) string {
	t.Helper()
	list, err := m.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var s []string
	for _, e := range list {
		f, err := m.Open(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
		if err != nil || int64(len(b)) != f.Size() {
			t.Fatal(err)
		}
		s = append(s, fmt.Sprintf("%s=%q", e.Name(), b))
	}
	return strings.Join(s, " ")
}

// TestPatterns follows one file from its creation to its final name, through what a power cut may leave.
func TestPatterns(t *testing.T) {
	m := memfs.New()
	f := create(t, m, "tmp", "one", "two") // operations 1, 2, 3
	for _, tt := range []struct {
		sync func() error
		op   int
		p    memfs.Pattern
		want string
	}{
		{nil, 0, memfs.Pattern{Keep: memfs.All}, ``},
		{nil, 3, memfs.Pattern{}, ``},
		{nil, 3, memfs.Pattern{Keep: memfs.All}, `tmp="onetwo"`},
		{nil, 2, memfs.Pattern{Keep: memfs.All}, `tmp="one"`},
		{nil, 3, memfs.Pattern{Keep: memfs.Only, N: 0}, `tmp=""`},
		{nil, 3, memfs.Pattern{Keep: memfs.Only, N: 1}, ``},
		{nil, 3, memfs.Pattern{Keep: memfs.Except, N: 1}, `tmp="\x00\x00\x00two"`},
		{nil, 3, memfs.Pattern{Keep: memfs.Prefix, N: 2}, `tmp="one"`},
		{nil, 3, memfs.Pattern{Dirs: memfs.Early}, `tmp=""`},
		{nil, 3, memfs.Pattern{Keep: memfs.All, Dirs: memfs.Lost}, ``},
		{nil, 3, memfs.Pattern{Keep: memfs.All, Data: memfs.Zeros}, `tmp="\x00\x00\x00\x00\x00\x00"`},
		{nil, 3, memfs.Pattern{Keep: memfs.All, Data: memfs.Torn512}, `tmp=""`},
		{f.Sync, 4, memfs.Pattern{}, ``}, // the content is durable, its name not
		{nil, 4, memfs.Pattern{Dirs: memfs.Early}, `tmp="onetwo"`},
		{func() error { return m.RenameNoReplace("tmp", "final") }, 5, memfs.Pattern{}, ``},
		{nil, 5, memfs.Pattern{Keep: memfs.All}, `final="onetwo"`},
		{nil, 5, memfs.Pattern{Keep: memfs.Only, N: 1}, `final="onetwo"`},
		{nil, 5, memfs.Pattern{Keep: memfs.Prefix, N: 2}, `final="onetwo" tmp="onetwo"`},
		{func() error { return m.SyncDir(".") }, 6, memfs.Pattern{}, `final="onetwo"`},
		{nil, 3, memfs.Pattern{}, ``}, // what came later does not change the past
		{nil, 4, memfs.Pattern{Keep: memfs.All}, `tmp="onetwo"`},
	} {
		if tt.sync != nil {
			if err := tt.sync(); err != nil {
				t.Fatal(err)
			}
		}
		after := m.CrashAt(tt.op, tt.p)
		if got := show(t, after); got != tt.want {
			t.Errorf("after operation %d, %v: %s, want %s", tt.op, tt.p, got, tt.want)
		}
		if got := show(t, after.CrashAt(0, memfs.Pattern{})); got != tt.want {
			t.Errorf("after operation %d, %v: a second power cut leaves %s", tt.op, tt.p, got)
		}
		if after.Ops() != 0 {
			t.Errorf("a new folder has %d operations", after.Ops())
		}
	}
}

// TestShapes: a torn write is a beginning, one with holes has whole units, a stale one shows what was elsewhere.
func TestShapes(t *testing.T) {
	m := memfs.New()
	old, data := bytes.Repeat([]byte("old!"), 5000), bytes.Repeat([]byte("new?"), 5001)
	create(t, m, "a", string(old))
	create(t, m, "b", string(data))
	read := func(p memfs.Pattern) []byte {
		after := m.CrashAt(m.Ops(), p)
		f, err := after.Open("b")
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
		return b
	}
	seen := map[string]bool{}
	for seed := range uint64(60) {
		for d, unit := range map[memfs.Data]int{memfs.Torn512: 512, memfs.Torn4096: 4096} {
			got := read(memfs.Pattern{Keep: memfs.All, Data: d, Seed: seed})
			if len(got) == len(data) || len(got)%unit != 0 || !bytes.HasPrefix(data, got) {
				t.Fatalf("torn at %d: %d bytes", unit, len(got))
			}
			seen[fmt.Sprint(unit, len(got))] = true
		}
		for d, unit := range map[memfs.Data]int{memfs.Holes512: 512, memfs.Holes4096: 4096} {
			got := read(memfs.Pattern{Keep: memfs.All, Data: d, Seed: seed})
			if len(got) != len(data) {
				t.Fatalf("holes: %d bytes", len(got))
			}
			for i, piece := range slices.Collect(slices.Chunk(got, unit)) {
				want := data[i*unit:][:len(piece)]
				if !bytes.Equal(piece, want) && !bytes.Equal(piece, make([]byte, len(piece))) {
					t.Fatalf("holes of %d: unit %d is neither", unit, i)
				}
			}
		}
		if got := read(memfs.Pattern{Keep: memfs.All, Data: memfs.GarbageTail, Seed: seed}); len(got) != len(data) || bytes.Equal(got, data) {
			t.Fatal("garbage tail")
		}
	}
	if len(seen) < 30 {
		t.Errorf("only %d ways of tearing", len(seen))
	}
	if got := read(memfs.Pattern{Keep: memfs.All, Data: memfs.Stale}); len(got) != len(data) || !bytes.HasPrefix(got, old) {
		t.Error("stale data is not what was written before")
	}
}

// TestFailedSync: the system goes on showing what it gave up, the next sync works, and the data is lost.
func TestFailedSync(t *testing.T) {
	m := memfs.New()
	f := create(t, m, "f", "lost")
	m.FailSync("f")
	io.WriteString(f, "kept")
	if err := errors.Join(f.Sync(), m.SyncDir(".")); err != nil {
		t.Fatal(err)
	}
	if got := show(t, m); got != `f="lostkept"` {
		t.Errorf("in the cache: %s", got)
	}
	if got := show(t, m.CrashAt(m.Ops(), memfs.Pattern{})); got != `f="\x00\x00\x00\x00kept"` {
		t.Errorf("after a power cut: %s", got)
	}
	f.Uncached()
	if got := show(t, m); got != `f="\x00\x00\x00\x00kept"` {
		t.Errorf("from the medium: %s", got)
	}
}

// TestIndependent: an FS made by a power cut and the one it came from never see each other's changes.
func TestIndependent(t *testing.T) {
	m := memfs.New()
	create(t, m, "f", "old")
	one, two := m.CrashAt(2, memfs.Pattern{Keep: memfs.All}), m.CrashAt(2, memfs.Pattern{Keep: memfs.All})
	create(t, one, "g", "new")
	if err := errors.Join(one.Damage("f", 0), one.Remove("f"), m.Damage("f", 1)); err != nil {
		t.Fatal(err)
	}
	for got, want := range map[string]string{show(t, one): `g="new"`, show(t, two): `f="old"`, show(t, m): `f="o9d"`} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestSealed(t *testing.T) {
	m := memfs.New()
	f := create(t, m, "old", "x")
	if err := m.Mkdir("d", 0o755); err != nil {
		t.Fatal(err)
	}
	m.Sealed()
	g := create(t, m, "d/.tmp-1", "y")
	if err := errors.Join(g.Chmod(0o444), m.Link("d/.tmp-1", "d/new"), m.Remove("d/.tmp-1"), m.Link("old", "d/old"), m.SyncDir("d"), f.Sync()); err != nil {
		t.Fatal(err)
	}
	if v := m.Violations(); len(v) > 0 {
		t.Errorf("allowed: %q", v)
	}
	io.WriteString(f, "more")
	if err := errors.Join(f.Chmod(0o600), m.RenameNoReplace("old", "older"), m.Remove("older")); err != nil {
		t.Fatal(err)
	}
	want := []string{"write old 4", "chmod old 0600", "rename old older", "remove older"}
	if v := m.Violations(); !slices.Equal(v, want) {
		t.Errorf("violations %q, want %q", v, want)
	}
}

func TestStatesAreDistinctAndHoldTheExtremes(t *testing.T) {
	m := memfs.New()
	for i := range 40 {
		create(t, m, fmt.Sprint(i), "data")
	}
	seen := map[memfs.Pattern]bool{}
	for p := range m.States(m.Ops(), 1, 10) {
		if seen[p] {
			t.Errorf("%v comes twice", p)
		}
		seen[p] = true
	}
	for _, p := range []memfs.Pattern{{}, {Keep: memfs.All}, {Dirs: memfs.Early}, {Keep: memfs.All, Dirs: memfs.Lost}, {Keep: memfs.Only, N: 79}, {Keep: memfs.Except}} {
		if !seen[p] {
			t.Errorf("%v is missing", p)
		}
	}
	if n := len(slices.Collect(m.States(0, 1, 10))); n != 1 {
		t.Errorf("%d states before anything was done", n)
	}
}

func TestMediumThatLacksSomething(t *testing.T) {
	m := memfs.With(memfs.Options{NoRename: true, NoLink: true})
	create(t, m, "f")
	for _, err := range []error{m.RenameNoReplace("f", "g"), m.Link("f", "g")} {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("got %v", err)
		}
	}
	if _, err := m.Stat("g"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// BenchmarkCrash measures one state of a store's skeleton with some objects in flight.
func BenchmarkCrash(b *testing.B) {
	m := memfs.New()
	m.Mkdir("d", 0o755)
	for i := range 256 {
		m.Mkdir(fmt.Sprintf("d/%02x", i), 0o755)
	}
	m.SyncDir("d")
	m.SyncDir(".")
	m = m.CrashAt(m.Ops(), memfs.Pattern{})
	for i := range 20 {
		f, _ := m.CreateExcl(fmt.Sprintf("d/%02x/f", i), 0o600)
		f.Write(make([]byte, 1<<20))
	}
	for b.Loop() {
		m.CrashAt(m.Ops(), memfs.Pattern{Keep: memfs.Random})
	}
}
