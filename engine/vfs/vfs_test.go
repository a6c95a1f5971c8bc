package vfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"aslrescue/engine/vfs"
	"aslrescue/engine/vfs/faultfs"
	"aslrescue/engine/vfs/memfs"
)

// everyFS runs a test on each FS there is: what the store is tested on must behave as the system does.
func everyFS(t *testing.T, test func(t *testing.T, fsys vfs.FS)) {
	disk := func(t *testing.T) vfs.FS {
		d, err := vfs.OS(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		return d
	}
	t.Run("disk", func(t *testing.T) { test(t, disk(t)) })
	t.Run("memory", func(t *testing.T) { test(t, memfs.New()) })
	t.Run("faults", func(t *testing.T) { test(t, faultfs.New(disk(t), nil)) })
}

func write(t *testing.T, fsys vfs.FS, name, data string) {
	t.Helper()
	f, err := fsys.CreateExcl(name, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.WriteString(f, data); err != nil || n != len(data) {
		t.Fatal(n, err)
	}
	if err := errors.Join(f.Chmod(0o444), f.Sync()); err != nil {
		t.Fatal(err)
	}
	f.Uncached()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func holds(t *testing.T, fsys vfs.FS, name, want string) {
	t.Helper()
	f, err := fsys.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		got, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<40))
		if err != nil || string(got) != want || f.Size() != int64(len(want)) {
			t.Errorf("%s: %q of %d bytes, %v; want %q", name, got, f.Size(), err, want)
		}
		f.Uncached()
	}
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestVerbs(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys vfs.FS) {
		if err := errors.Join(fsys.Mkdir("d", 0o755), fsys.Mkdir("d/e", 0o755), fsys.SyncDir("."), fsys.SyncDir("d")); err != nil {
			t.Fatal(err)
		}
		write(t, fsys, "d/one", "first")
		holds(t, fsys, "d/one", "first")
		if err := fsys.RenameNoReplace("d/one", "d/e/two"); err != nil {
			t.Fatal(err)
		}
		holds(t, fsys, "d/e/two", "first")
		if err := fsys.Link("d/e/two", "three"); err != nil {
			t.Fatal(err)
		}
		if err := fsys.Remove("d/e/two"); err != nil {
			t.Fatal(err)
		}
		holds(t, fsys, "three", "first")
		fi, err := fsys.Stat("three")
		if err != nil || fi.Mode() != 0o444 || fi.Size() != 5 || fi.Name() != "three" {
			t.Errorf("stat: %v, %v", fi, err)
		}
		write(t, fsys, "d/Z", "")
		write(t, fsys, "d/a", "")
		list, err := fsys.ReadDir("d")
		var names []string
		for _, e := range list {
			names = append(names, e.Name())
		}
		if err != nil || !slices.Equal(names, []string{"Z", "a", "e"}) || !list[2].IsDir() || !list[0].Type().IsRegular() {
			t.Errorf("readdir: %q, %v", names, err)
		}
	})
}

func TestRefusals(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys vfs.FS) {
		if err := fsys.Mkdir("d", 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, fsys, "d/old", "old")
		write(t, fsys, "d/new", "new")
		_, err := fsys.CreateExcl("d/old", 0o600)
		wantErr(t, "create over a file", err, fs.ErrExist)
		_, err = fsys.CreateExcl("d", 0o600)
		wantErr(t, "create over a folder", err, fs.ErrExist)
		_, err = fsys.CreateExcl("no/f", 0o600)
		wantErr(t, "create in no folder", err, fs.ErrNotExist)
		_, err = fsys.CreateExcl("d/old/f", 0o600)
		wantErr(t, "create in a file", err, syscall.ENOTDIR)
		wantErr(t, "rename over a file", fsys.RenameNoReplace("d/new", "d/old"), fs.ErrExist)
		wantErr(t, "rename of nothing", fsys.RenameNoReplace("d/no", "d/x"), fs.ErrNotExist)
		wantErr(t, "link over a file", fsys.Link("d/new", "d/old"), fs.ErrExist)
		wantErr(t, "link of nothing", fsys.Link("d/no", "d/x"), fs.ErrNotExist)
		wantErr(t, "mkdir over a folder", fsys.Mkdir("d", 0o755), fs.ErrExist)
		wantErr(t, "mkdir over a file", fsys.Mkdir("d/old", 0o755), fs.ErrExist)
		wantErr(t, "mkdir in no folder", fsys.Mkdir("no/d", 0o755), fs.ErrNotExist)
		wantErr(t, "remove of nothing", fsys.Remove("d/no"), fs.ErrNotExist)
		wantErr(t, "remove of a folder in use", fsys.Remove("d"), syscall.ENOTEMPTY)
		wantErr(t, "sync of no folder", fsys.SyncDir("no"), fs.ErrNotExist)
		_, err = fsys.Stat("d/no")
		wantErr(t, "stat of nothing", err, fs.ErrNotExist)
		_, err = fsys.ReadDir("no")
		wantErr(t, "readdir of nothing", err, fs.ErrNotExist)
		_, err = fsys.Open("d/no")
		wantErr(t, "open of nothing", err, fs.ErrNotExist)
		_, err = fsys.Open("d")
		wantErr(t, "open of a folder", err, fs.ErrInvalid)
		holds(t, fsys, "d/old", "old")
		holds(t, fsys, "d/new", "new")
	})
}

// TestNothingOutside: no name reaches what is not in the folder.
func TestNothingOutside(t *testing.T) {
	top := t.TempDir()
	secret := filepath.Join(top, "secret")
	if err := errors.Join(os.WriteFile(secret, []byte("s"), 0o600), os.Mkdir(filepath.Join(top, "in"), 0o755), os.Symlink("..", filepath.Join(top, "in", "up")), os.Symlink("../secret", filepath.Join(top, "in", "leak"))); err != nil {
		t.Fatal(err)
	}
	d, err := vfs.OS(filepath.Join(top, "in"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	write(t, d, "mine", "m")
	for _, name := range []string{"../secret", "up/secret", "leak", secret, "./../secret"} {
		if _, err := d.Open(name); err == nil {
			t.Errorf("opened %s", name)
		}
		if _, err := d.CreateExcl(name+"2", 0o600); err == nil && name != "leak" {
			t.Errorf("created %s2", name)
		}
		if name != "leak" {
			if d.Remove(name) == nil {
				t.Errorf("removed %s", name)
			}
			if d.RenameNoReplace("mine", name+"3") == nil || d.RenameNoReplace(name, "got") == nil {
				t.Errorf("renamed to or from %s", name)
			}
			if d.Link("mine", name+"4") == nil || d.Link(name, "got") == nil {
				t.Errorf("linked to or from %s", name)
			}
			if d.Mkdir(name+"5", 0o755) == nil {
				t.Errorf("made %s5", name)
			}
		}
	}
	list, err := os.ReadDir(top)
	if err != nil || len(list) != 2 {
		t.Errorf("outside: %v, %v", list, err)
	}
	if fi, err := d.Stat("leak"); err != nil || fi.Mode().Type() != fs.ModeSymlink {
		t.Errorf("stat of a symbolic link: %v, %v", fi, err)
	}
}

// TestNotRegular: a name that is a pipe does not block whoever opens it.
func TestNotRegular(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := vfs.OS(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Open("pipe")
	wantErr(t, "open of a pipe", err, fs.ErrInvalid)
	if free, ok := d.Free(); !ok || free <= 0 {
		t.Errorf("free: %d, %v", free, ok)
	}
	d.Close()
	if _, err := d.Stat("pipe"); err == nil {
		t.Error("still open after Close")
	}
	if _, ok := d.Free(); ok {
		t.Error("free is known after Close")
	}
}

// TestUnsupported: the answers of media without these abilities, which Linux also gives for folders.
func TestUnsupported(t *testing.T) {
	d, err := vfs.OS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Mkdir("d", 0o755); err != nil {
		t.Fatal(err)
	}
	for errno, err := range map[error]error{syscall.EPERM: d.Link("d", "e"), syscall.EINVAL: d.RenameNoReplace("d", "d/e")} {
		wantErr(t, "errno", err, errno)
		wantErr(t, "meaning", err, errors.ErrUnsupported)
	}
}

// TestPastTheCache: what is written past the page cache, and read past it, is what was meant, wherever it begins and ends.
func TestPastTheCache(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys vfs.FS) {
		all := make([]byte, 1<<20+4096)
		for i := range all {
			all[i] = byte(i>>12 ^ i*7)
		}
		for i, c := range []struct{ from, n, rest int }{{0, 0, 0}, {0, 1, 5}, {0, 64<<10 - 1, 0}, {0, 64 << 10, 0}, {0, 1 << 20, 4096}, {0, 1<<20 - 77, 90}, {1, 300_000, 200_000}, {512, 1 << 19, 1}} {
			name, want := fmt.Sprint(i), all[c.from:c.from+c.n+c.rest]
			f, err := fsys.CreateExcl(name, 0o444)
			if err != nil {
				t.Fatal(err)
			}
			f.Uncached()
			for _, p := range [][]byte{want[:c.n], want[c.n:]} {
				if n, err := f.Write(p); n != len(p) || err != nil {
					t.Fatalf("%+v: %d, %v", c, n, err)
				}
			}
			if err := errors.Join(f.Sync(), f.Close()); err != nil {
				t.Fatal(err)
			}
			r, err := fsys.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			r.Uncached()
			for _, off := range []int{0, 4096, 8192, 100} {
				if off > len(want) {
					continue
				}
				got := make([]byte, len(want)-off)
				if n, err := r.ReadAt(got, int64(off)); n != len(got) || err != nil || !bytes.Equal(got, want[off:]) {
					t.Errorf("%+v from %d: %d of %d bytes, %v, or other bytes", c, off, n, len(got), err)
				}
			}
			r.Close()
		}
	})
}

// TestLinksAreNotFollowed: a symbolic link is no file of ours, not even where it points into the folder.
func TestLinksAreNotFollowed(t *testing.T) {
	dir := t.TempDir()
	d, err := vfs.OS(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	write(t, d, "file", "content")
	if err := os.Symlink("file", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if f, err := d.Open("link"); err == nil {
		f.Close()
		t.Error("a symbolic link was opened as a file")
	}
}

func TestNoRoot(t *testing.T) {
	_, err := vfs.OS(filepath.Join(t.TempDir(), "no"))
	wantErr(t, "no folder", err, fs.ErrNotExist)
}
