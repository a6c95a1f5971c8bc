package local_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"aslrescue/backends/backendtest"
	"aslrescue/backends/local"
	"aslrescue/engine/artifact"
	"aslrescue/engine/store"
	"aslrescue/engine/vfs"
	"aslrescue/engine/vfs/memfs"
)

func TestConformance(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	disk := func() (store.Backend, error) {
		if _, err := os.Stat(dir); err != nil {
			return local.CreatePath(dir)
		}
		return local.OpenPath(dir)
	}
	memory := func(opts memfs.Options) func() (store.Backend, error) {
		fsys := memfs.With(opts)
		if _, err := local.Create(fsys, "memory"); err != nil {
			t.Fatal(err)
		}
		return func() (store.Backend, error) { return local.Open(fsys, "memory") }
	}
	for name, open := range map[string]func() (store.Backend, error){
		"disk":           disk,
		"memory":         memory(memfs.Options{}),
		"without rename": memory(memfs.Options{NoRename: true}),
		"without links":  memory(memfs.Options{NoLink: true}),
	} {
		t.Run(name, func(t *testing.T) {
			if err := backendtest.Check(t.Context(), open); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestFilesOnDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	b, err := local.CreatePath(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	data := []byte("some bytes")
	hash := artifact.HashBytes(data).String()
	for name, file := range map[string]string{
		"blocks/" + hash:              "blocks/" + hash[:2] + "/" + hash,
		"segments/" + hash:            "segments/" + hash,
		"logs/home/000000000001.aol":  "logs/home/000000000001.aol",
		"snapshots/home/000001.note":  "snapshots/home/000001.note",
		"snapshots/other/000001.note": "snapshots/other/000001.note",
	} {
		if err := b.Create(t.Context(), name, data); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %q, %v", file, got, err)
		}
		if fi, err := os.Stat(filepath.Join(dir, file)); err != nil || fi.Mode() != 0o444 {
			t.Errorf("%s: mode %v, %v; want 0444", file, fi.Mode(), err)
		}
	}
	fans, err := os.ReadDir(filepath.Join(dir, "blocks"))
	if err != nil || len(fans) != 256 {
		t.Errorf("blocks has %d folders, %v; want 256", len(fans), err)
	}
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if strings.HasPrefix(d.Name(), local.TempPrefix) {
			t.Errorf("left behind: %s", path)
		}
		return err
	})
	if free, ok := b.Info().Free(); !ok || free <= 0 {
		t.Errorf("free: %d, %v", free, ok)
	}
}

func TestOpenWithoutStore(t *testing.T) {
	if _, err := local.OpenPath(filepath.Join(t.TempDir(), "absent")); !errors.Is(err, local.ErrNoStore) {
		t.Errorf("absent folder: %v", err)
	}
	dir := t.TempDir()
	if _, err := local.OpenPath(dir); !errors.Is(err, local.ErrNoStore) {
		t.Errorf("empty folder: %v", err)
	}
	if list, _ := os.ReadDir(dir); len(list) > 0 {
		t.Errorf("opening left %v", list)
	}
	if _, err := local.CreatePath(filepath.Join(dir, "a", "b")); !errors.Is(err, artifact.ErrNotFound) {
		t.Errorf("a folder in an absent one: %v", err)
	}
}

// TestWhereAStoreMayBegin: only an empty folder, or what is left of a beginning, and nothing is touched otherwise.
func TestWhereAStoreMayBegin(t *testing.T) {
	hash := strings.Repeat("ab", 32)
	for _, tt := range []struct {
		name  string
		files string // a name that ends in / is a folder
		want  error
		says  string
	}{
		{"empty", "", nil, ""},
		{"file system's own", "lost+found/ .zfs/", nil, ""},
		{"beginning", "blocks/ blocks/00/ blocks/7f/", nil, ""},
		{"nearly done", "blocks/ segments/ snapshots/ blocks/00/", nil, ""},
		{"order lost", "logs/ segments/", nil, ""},
		{"interrupted proof", "blocks/ .tmp-0123456789abcdef0123456789abcdef blocks/.tmp-0123456789abcdef0123456789abcdef", nil, ""},
		{"photos", "IMG_1.jpg IMG_2.jpg", local.ErrForeign, "IMG_1.jpg, IMG_2.jpg;"},
		{"many", "a b c d e f g", local.ErrForeign, "a, b, c, d, e and 2 more"},
		{"restic", "config data/ index/", local.ErrForeign, "config, data, index"},
		{"borg", "README data/", local.ErrForeign, "README"},
		{"blocks of another", "blocks/ blocks/x", local.ErrForeign, "blocks/x"},
		{"a file for a folder", "blocks", local.ErrForeign, "blocks"},
		{"beginning with an object", "blocks/ blocks/ab/ blocks/ab/" + hash, local.ErrForeign, hash},
		{"beginning with a domain", "logs/ logs/home/", local.ErrForeign, "logs/home"},
		{"foreign folder in blocks", "blocks/ blocks/zz/", local.ErrForeign, "blocks/zz"},
		{"foreign file in segments", "segments/ segments/notes.txt", local.ErrForeign, "segments/notes.txt"},
		{"somebody's temporary file", ".tmp-mine", local.ErrForeign, ".tmp-mine"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for f := range strings.FieldsSeq(tt.files) {
				if strings.HasSuffix(f, "/") {
					os.Mkdir(filepath.Join(dir, f), 0o755)
				} else {
					os.WriteFile(filepath.Join(dir, f), nil, 0o644)
				}
			}
			before := listing(t, dir)
			b, err := local.CreatePath(dir)
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if err == nil {
				if err := b.Create(t.Context(), "logs/home/1", []byte("x")); err != nil {
					t.Fatal(err)
				}
				if _, err := local.CreatePath(dir); !errors.Is(err, fs.ErrExist) {
					t.Errorf("over a store in use: %v", err)
				}
				return
			}
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%q does not name %q", err, tt.says)
			}
			if after := listing(t, dir); !slices.Equal(before, after) {
				t.Errorf("touched: before %q, after %q", before, after)
			}
		})
	}
}

// listing is all names with modes, sizes and times.
func listing(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		list = append(list, fmt.Sprint(path, fi.Mode(), fi.Size(), fi.ModTime()))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestForeignFilesAmongOurs(t *testing.T) {
	dir := t.TempDir()
	b, err := local.CreatePath(dir)
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	leftover := "blocks/5a/.tmp-0123456789abcdef0123456789abcdef"
	wrongFolder := "blocks/00/" + strings.Repeat("ab", 32)
	want := []string{"README.txt", wrongFolder, leftover, "logs/notes", "segments/.DS_Store"}
	for _, name := range want {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err = local.OpenPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for e, err := range b.List(t.Context(), "", "") {
		t.Errorf("listed: %v, %v", e, err)
	}
	if got := b.Info().Foreign; !slices.Equal(got, want) {
		t.Errorf("foreign: %q, want %q", got, want)
	}
	for _, name := range want {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestNeitherRenameNorLink(t *testing.T) {
	fsys := memfs.With(memfs.Options{NoRename: true, NoLink: true})
	_, err := local.Create(fsys, "a stick")
	if !errors.Is(err, local.ErrNoPublish) {
		t.Fatal(err)
	}
	if list, _ := fsys.ReadDir("."); len(list) > 0 {
		t.Errorf("left behind: %v", list)
	}
}

// TestReadOnlyLeavesNoTrace: opening to read changes nothing, proves nothing, and refuses to write.
func TestReadOnlyLeavesNoTrace(t *testing.T) {
	fsys := newStore(t)
	b, err := local.Open(fsys, "memory", local.ReadOnly())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Create(t.Context(), "logs/home/1", nil); !errors.Is(err, artifact.ErrReadOnly) {
		t.Errorf("Create: %v", err)
	}
	if _, err := b.Stat(t.Context(), "logs/home/1"); !errors.Is(err, artifact.ErrNotFound) {
		t.Errorf("Stat: %v", err)
	}
	if !b.Info().ReadOnly || fsys.Ops() != 0 {
		t.Errorf("read-only %v after %q", b.Info().ReadOnly, fsys.Trace())
	}
	empty := memfs.New()
	if _, err := local.Create(empty, "memory", local.ReadOnly()); !errors.Is(err, artifact.ErrReadOnly) || empty.Ops() != 0 {
		t.Errorf("new store read-only: %v after %q", err, empty.Trace())
	}
}

// TestSameBytesOfAnother: an object that somebody else put there, without syncing, counts only once it is durable.
func TestSameBytesOfAnother(t *testing.T) {
	data := []byte("copied here by hand")
	name := "blocks/" + artifact.HashBytes(data).String()
	file := fileOf(name)
	fsys := newStore(t)
	put(t, fsys, file, data)
	b, err := local.Open(fsys, "memory")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Create(t.Context(), name, data); err != nil {
		t.Fatal(err)
	}
	holds(t, fsys.CrashAt(fsys.Ops(), memfs.Pattern{}), name, data)
}

// TestCachedButNotOnTheMedium: the system still shows what a failed sync lost.
func TestCachedButNotOnTheMedium(t *testing.T) {
	data := []byte("only in the cache")
	name := "blocks/" + artifact.HashBytes(data).String()
	file := fileOf(name)
	fsys := newStore(t)
	put(t, fsys, file, data)
	fsys.FailSync(file)
	b, err := local.Open(fsys, "memory")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Create(t.Context(), name, data); !errors.Is(err, artifact.ErrDamaged) {
		t.Fatalf("got %v, want %v", err, artifact.ErrDamaged)
	}
}

func TestUncachedReadsSeeTheMedium(t *testing.T) {
	fsys := newStore(t)
	b, err := local.Open(fsys, "memory")
	if err != nil {
		t.Fatal(err)
	}
	put(t, fsys, "logs/late", nil) // not an object
	if err := fsys.Mkdir("logs/home", 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, fsys, "logs/home/1", []byte("lost"))
	fsys.FailSync("logs/home/1")
	if got, err := read(b, t, "logs/home/1"); err != nil || string(got) != "\x00\x00\x00\x00" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestWhatIsSeenAtOpeningStays: a writer that was killed left a name that is not durable. Whoever opened the store and saw it may build on it.
func TestWhatIsSeenAtOpeningStays(t *testing.T) {
	fsys := newStore(t)
	b, err := local.Open(fsys, "memory")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"logs/home/1", "snapshots/home/1"} {
		if err := b.Create(t.Context(), name, []byte("first")); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"logs/home/2", "snapshots/home/2"} {
		f, err := fsys.CreateExcl(name, 0o444)
		if err != nil {
			t.Fatal(err)
		}
		_, werr := f.Write([]byte("second"))
		if err := errors.Join(werr, f.Sync(), f.Close()); err != nil { // and killed before the folder was synced
			t.Fatal(err)
		}
	}
	if b, err = local.Open(fsys, "memory"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"logs/home/2", "snapshots/home/2"} {
		if _, err := b.Stat(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		holds(t, fsys.CrashAt(fsys.Ops(), memfs.Pattern{}), name, []byte("second"))
	}
}

// halfWriter is a medium that takes half of what it is given and says so, and no more.
type halfWriter struct{ vfs.FS }

type halfFile struct{ vfs.File }

func (h halfWriter) CreateExcl(name string, perm fs.FileMode) (vfs.File, error) {
	f, err := h.FS.CreateExcl(name, perm)
	return halfFile{f}, err
}

func (h halfFile) Write(p []byte) (int, error) { return h.File.Write(p[:len(p)/2]) }

func TestShortWriteIsNoObject(t *testing.T) {
	b, err := local.Open(halfWriter{newStore(t)}, "memory")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Create(t.Context(), "logs/home/1", []byte("all of it")); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("Create: %v", err)
	}
	if _, err := b.Stat(t.Context(), "logs/home/1"); !errors.Is(err, artifact.ErrNotFound) {
		t.Errorf("Stat: %v", err)
	}
}

// newStore is a store on a fresh medium, all of it durable.
func newStore(t *testing.T) *memfs.FS { return newStoreWith(t, memfs.Options{}) }

func newStoreWith(t *testing.T, opts memfs.Options) *memfs.FS {
	t.Helper()
	fsys := memfs.With(opts)
	if _, err := local.Create(fsys, "memory"); err != nil {
		t.Fatal(err)
	}
	return fsys.CrashAt(fsys.Ops(), memfs.Pattern{})
}

// put writes a file as somebody who does not sync.
func put(t *testing.T, fsys vfs.FS, name string, data []byte) {
	t.Helper()
	f, err := fsys.CreateExcl(name, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	f.Close()
}

// read reads a whole object from the medium.
func read(b store.Backend, t *testing.T, name string) ([]byte, error) {
	r, err := b.Open(store.Uncached(t.Context()), name, 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func holds(t *testing.T, fsys vfs.FS, name string, data []byte) {
	t.Helper()
	b, err := local.Open(fsys, "memory", local.ReadOnly())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := read(b, t, name); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%s: %d bytes, %v; want %d", name, len(got), err, len(data))
	}
}
