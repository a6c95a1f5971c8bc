package restore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"aslrescue/engine/artifact"
	"aslrescue/engine/restore"
	"aslrescue/engine/restore/treecmp"
	"aslrescue/engine/source"
	"aslrescue/engine/source/sourcetest"
)

// oddTree makes a tree with everything in it that this user can make.
func oddTree(t *testing.T, o sourcetest.Odd) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "from")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	o.Plain = o.Plain || os.Getuid() != 0
	if err := sourcetest.MakeOdd(dir, o); err != nil {
		t.Fatal(err)
	}
	return dir
}

// content copies a file of src the way the store gives it back: in pieces, and without the long runs of zeros.
func content(src source.TreeSource, it source.Item) func(io.WriterAt) error {
	return func(w io.WriterAt) error {
		f, err := src.OpenFile(it.Path)
		if err != nil {
			return err
		}
		defer f.Close()
		buf := make([]byte, 64<<10)
		for off := int64(0); ; {
			n, err := f.ReadAt(buf, off)
			if n > 0 && len(bytes.Trim(buf[:n], "\x00")) > 0 {
				if _, err := w.WriteAt(buf[:n], off); err != nil {
					return err
				}
			}
			off += int64(n)
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
		}
	}
}

// copyTree walks from and restores it at to. change may alter or drop items (by giving false).
func copyTree(t *testing.T, from, to string, o restore.TreeOptions, change func(*source.Item) bool) *restore.TreeWriter {
	t.Helper()
	src, err := source.OpenTree(from)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	w, err := restore.Tree(to, o)
	if err != nil {
		t.Fatal(err)
	}
	for it, err := range src.Walk(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		whole := content(src, it)
		if change != nil && !change(&it) {
			continue
		}
		w.Queue(it, whole, func(err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	return w
}

func compare(t *testing.T, a, b string) []string {
	t.Helper()
	diffs, err := treecmp.Compare(a, b)
	if err != nil {
		t.Fatal(err)
	}
	return diffs
}

func TestRoundTrip(t *testing.T) {
	from := oddTree(t, sourcetest.Odd{Deep: 70, Wide: 2000})
	to := filepath.Join(t.TempDir(), "to")
	w := copyTree(t, from, to, restore.TreeOptions{}, nil)
	if first, _ := w.Warnings(); len(first) > 0 {
		t.Errorf("warnings: %v", first)
	}
	for _, d := range compare(t, from, to) {
		t.Error(d)
	}
	// A restored tree restores the same.
	again := filepath.Join(t.TempDir(), "again")
	copyTree(t, to, again, restore.TreeOptions{Workers: 4}, nil)
	for _, d := range compare(t, from, again) {
		t.Error("second generation: ", d)
	}
}

// TestLeavingWaits: a directory is left, and gets its times, after all that was queued in it is made; each item is answered for once.
func TestLeavingWaits(t *testing.T) {
	to := filepath.Join(t.TempDir(), "to")
	w := begin(t, to, restore.TreeOptions{Workers: 3})
	d := dir("d")
	d.Meta.MTime = source.Time{Sec: 1_000_000_000}
	var done atomic.Int32
	answer := func(err error) {
		if err != nil {
			t.Error(err)
		}
		done.Add(1)
	}
	w.Queue(d, nil, answer)
	gate := make(chan struct{})
	for i := range 3 {
		f := file(fmt.Sprint("d/", i), strings.Repeat("x", 1<<16))
		w.Queue(f, func(f io.WriterAt) error {
			<-gate
			for at := range int64(1 << 16) {
				if _, err := f.WriteAt([]byte("x"), at); err != nil {
					return err
				}
			}
			return nil
		}, answer)
	}
	close(gate)
	w.Queue(source.Item{Path: "d", Leave: true}, nil, answer)
	if n := done.Load(); n != 5 {
		t.Errorf("%d items were answered for when the directory was left, want 5", n)
	}
	w.Queue(source.Item{Leave: true}, nil, answer)
	if err := w.Finish(); err != nil {
		t.Error(err)
	}
	if st, err := os.Stat(filepath.Join(to, "d")); err != nil || st.ModTime().Unix() != 1_000_000_000 {
		t.Errorf("%v, %v", st, err)
	}
}

// Each way of spoiling one thing is seen by the comparer: if it were blind, an empty list would mean nothing.
func TestEverythingThatIsLostIsSeen(t *testing.T) {
	from := oddTree(t, sourcetest.Odd{Deep: 2, Wide: 2})
	for name, c := range map[string]struct {
		change func(*source.Item) bool
		want   string
	}{
		"attributes": {func(it *source.Item) bool {
			if it.Path == "attrs" {
				it.Meta.Xattrs = it.Meta.Xattrs[1:]
			}
			return true
		}, `"attrs": attribute`},
		"attribute of a directory": {func(it *source.Item) bool {
			if it.Path == "a" {
				it.Meta.Xattrs = nil
			}
			return true
		}, `"a": attribute user.dir only in the first`},
		"attribute's value": {func(it *source.Item) bool {
			if it.Path == "attrs" {
				it.Meta.Xattrs[len(it.Meta.Xattrs)-1].Value = []byte("other")
			}
			return true
		}, `"attrs": attribute user.long is`},
		"mode": {func(it *source.Item) bool {
			if it.Meta.Type != source.Dir { // nobody but root could remove what is in it
				it.Meta.Mode &^= 0o200
			}
			return true
		}, "mode 0"},
		"mtime": {func(it *source.Item) bool { it.Meta.MTime.Nsec /= 1000; return true }, `"B": modified 1000000000.123456789`},
		"link times": {func(it *source.Item) bool {
			if it.Meta.Type == source.Symlink {
				it.Meta.MTime.Sec++
			}
			return true
		}, `"link": modified 12345.`},
		"hard links": {func(it *source.Item) bool { it.Links = 1; return true }, `"hard/1": a hard link of "a/3" and of ""`},
		"wrong group": {func(it *source.Item) bool {
			if it.Path == "page" {
				it.Links, it.Stamp.Ino = 2, 77
			}
			if it.Path == "zz last" {
				it.Stamp.Ino = 77
			}
			return true
		}, `"zz last": a hard link of "a/3" and of "page"`},
		"holes":    {func(it *source.Item) bool { it.Meta.Sparse = false; return true }, `"sparse": of 9437189 bytes`},
		"no holes": {func(it *source.Item) bool { it.Meta.Sparse = true; return true }, `"zeros, allocated": of 1048576 bytes`},
		"size": {func(it *source.Item) bool {
			if it.Path == "hole only" {
				it.Meta.Size++
			}
			return true
		}, `"hole only": 1048576 and 1048577 bytes`},
		"target": {func(it *source.Item) bool {
			if it.Path == "link out" {
				it.Meta.LinkTarget = []byte("/etc")
			}
			return true
		}, `"link out": links to "/etc/shadow" and "/etc"`},
		"a name": {func(it *source.Item) bool { return it.Path != "new\nline" }, `"new\nline": only in the first`},
		"a new name": {func(it *source.Item) bool {
			if it.Path == "new\nline" {
				it.Path = "new line"
			}
			return true
		}, `"new line": only in the second`},
		"type": {func(it *source.Item) bool {
			if it.Meta.Type == source.FIFO {
				it.Meta.Type, it.Meta.Size = source.Symlink, 0
				it.Meta.LinkTarget = []byte("x")
				it.Meta.Xattrs = nil
			}
			return true
		}, `"fifo": type FIFO and symbolic link`},
		"owner": {func(it *source.Item) bool { it.Meta.UID++; return true }, "owner "},
		"device": {func(it *source.Item) bool {
			if it.Meta.Type == source.BlkDev {
				it.Meta.Minor--
			}
			return true
		}, `"disk": device 259:524289 and 259:524288`},
	} {
		t.Run(name, func(t *testing.T) {
			if os.Getuid() != 0 && (name == "owner" || name == "device") {
				t.Skip("only root can make this")
			}
			to := filepath.Join(t.TempDir(), "to")
			copyTree(t, from, to, restore.TreeOptions{}, c.change)
			diffs := compare(t, from, to)
			if !strings.Contains(strings.Join(diffs, "\n"), c.want) {
				t.Errorf("the comparer says %q, want %q among it", diffs, c.want)
			}
		})
	}
	t.Run("content", func(t *testing.T) {
		to := filepath.Join(t.TempDir(), "to")
		copyTree(t, from, to, restore.TreeOptions{}, nil)
		p := filepath.Join(to, "big")
		var st unix.Stat_t
		unix.Stat(p, &st)
		f, err := os.OpenFile(p, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteAt([]byte("!"), 299_999)
		f.Close()
		unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{st.Atim, st.Mtim}, 0)
		if diffs := compare(t, from, to); !reflect.DeepEqual(diffs, []string{`"big": content differs from byte 299999`}) {
			t.Errorf("%q", diffs)
		}
	})
}

func file(path, s string) source.Item {
	return source.Item{Path: path, Links: 1, Meta: source.Meta{Type: source.Regular, Mode: 0o644, Size: int64(len(s)),
		UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}}
}

func dir(path string) source.Item {
	return source.Item{Path: path, Links: 2, Meta: source.Meta{Type: source.Dir, Mode: 0o755, UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}}
}

func text(s string) func(io.WriterAt) error {
	return func(w io.WriterAt) error { _, err := w.WriteAt([]byte(s), 0); return err }
}

func begin(t *testing.T, dst string, o restore.TreeOptions) *restore.TreeWriter {
	t.Helper()
	w, err := restore.Tree(dst, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Put(dir(""), nil); err != nil {
		t.Fatal(err)
	}
	return w
}

func TestNamesThatNoFileCanHaveAreDamage(t *testing.T) {
	outer := t.TempDir()
	dst := filepath.Join(outer, "to")
	w := begin(t, dst, restore.TreeOptions{})
	if err := w.Put(dir("d"), nil); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"", ".", "..", "/", "/etc", "../evil", "d", "d/", "d/.", "d/..", "d/../x", "d//x", "d/a/b", "d/a\x00b",
		"other/x", "x", strings.Repeat("../", 20) + "x"} {
		for _, it := range []source.Item{file(p, "x"), dir(p), {Path: p, Leave: true}} {
			if it.Leave && p == "d" {
				continue
			}
			if err := w.Put(it, text("x")); !errors.Is(err, artifact.ErrDamaged) {
				t.Errorf("%q (leave %v): %v, want ErrDamaged", p, it.Leave, err)
			}
		}
	}
	odd := file("d/f", "x")
	odd.Meta.Type = 99
	if err := w.Put(odd, nil); !errors.Is(err, artifact.ErrDamaged) {
		t.Errorf("type 99: %v", err)
	}
	link := source.Item{Path: "d/l", Meta: source.Meta{Type: source.Symlink, LinkTarget: []byte("a\x00b")}}
	if err := w.Put(link, nil); !errors.Is(err, artifact.ErrDamaged) {
		t.Errorf("target: %v", err)
	}
	// The good ones go on.
	for _, it := range []source.Item{file("d/good", "x"), {Path: "d", Leave: true}, {Leave: true}} {
		if err := w.Put(it, text("x")); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	if got := list(t, outer); got != "to to/d to/d/good" {
		t.Errorf("there is now: %s", got)
	}
}

func list(t *testing.T, root string) string {
	t.Helper()
	var names []string
	filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			t.Error(err)
		}
		if p != root {
			names = append(names, strings.TrimPrefix(p, root+"/"))
		}
		return nil
	})
	return strings.Join(names, " ")
}

func TestWalkMustBeginAndEndWithTheRoot(t *testing.T) {
	w, err := restore.Tree(filepath.Join(t.TempDir(), "to"), restore.TreeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Put(file("x", ""), nil); !errors.Is(err, artifact.ErrDamaged) {
		t.Errorf("begins with a file: %v", err)
	}
	if err := w.Finish(); err == nil {
		t.Error("an empty walk is a whole tree")
	}
	dst := filepath.Join(t.TempDir(), "to")
	w = begin(t, dst, restore.TreeOptions{})
	d := dir("d")
	d.Meta.Mode = 0o751
	d.Meta.MTime = source.Time{Sec: 5}
	w.Put(d, nil)
	w.Put(file("d/f", "x"), text("x"))
	if err := w.Finish(); err == nil || !strings.Contains(err.Error(), "ended early") {
		t.Errorf("ends early: %v", err)
	}
	// What is there is finished as far as it is known.
	if st, err := os.Stat(filepath.Join(dst, "d")); err != nil || st.Mode().Perm() != 0o751 || st.ModTime().Unix() != 5 {
		t.Errorf("%v, %v", st, err)
	}
}

func TestDestinationMustBeEmpty(t *testing.T) {
	dst := t.TempDir()
	if _, err := restore.Tree(filepath.Join(dst, "a/b"), restore.TreeOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no parent: %v", err)
	}
	os.WriteFile(filepath.Join(dst, "f"), []byte("mine"), 0o600)
	if _, err := restore.Tree(dst, restore.TreeOptions{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("not empty: %v", err)
	}
	if _, err := restore.Tree(filepath.Join(dst, "f"), restore.TreeOptions{}); err == nil {
		t.Error("a file is taken for a directory")
	}
}

func TestMergeReplacesAndFollowsNothing(t *testing.T) {
	outside := t.TempDir()
	dst := t.TempDir()
	os.WriteFile(filepath.Join(dst, "mine"), []byte("mine"), 0o600)
	os.Mkdir(filepath.Join(dst, "d"), 0o711)
	os.Symlink(outside, filepath.Join(dst, "out"))
	os.Symlink(filepath.Join(outside, "new"), filepath.Join(dst, "file out"))
	var told []string
	w := begin(t, dst, restore.TreeOptions{Merge: true, Warn: func(x restore.Warning) { told = append(told, x.Path+": "+x.What) }})
	for _, it := range []source.Item{dir("d"), file("d/f", "x"), {Path: "d", Leave: true}, file("file out", "x"), file("mine", "x"),
		dir("out"), file("out/f", "x"), dir("out/sub"), {Path: "out/sub", Leave: true}, {Path: "out", Leave: true}, {Leave: true}} {
		if err := w.Put(it, text("x")); err != nil {
			t.Fatalf("%q: %v", it.Path, err)
		}
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	want := []string{"file out: exists already, kept", "mine: exists already, kept", "out: directory", "out/f: not restored", "out/sub: not restored"}
	if !reflect.DeepEqual(told, want) {
		t.Errorf("warnings %q, want %q", told, want)
	}
	if got := list(t, outside); got != "" {
		t.Errorf("written outside: %s", got)
	}
	if b, _ := os.ReadFile(filepath.Join(dst, "mine")); string(b) != "mine" {
		t.Errorf("mine is now %q", b)
	}
	if b, _ := os.ReadFile(filepath.Join(dst, "d/f")); string(b) != "x" {
		t.Errorf("d/f is %q", b)
	}
	if st, _ := os.Stat(filepath.Join(dst, "d")); st.Mode().Perm() != 0o711 {
		t.Errorf("the mode of a directory that was there is now %v", st.Mode())
	}
	_, count := w.Warnings()
	if count["exists already, kept"] != 2 || count["not restored"] != 2 {
		t.Errorf("%v", count)
	}
}

func TestErrorsOfContent(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "to")
	w := begin(t, dst, restore.TreeOptions{})
	broken := errors.New("block is missing")
	err := w.Put(file("f", "0123456789"), func(out io.WriterAt) error {
		out.WriteAt([]byte("012"), 0)
		return broken
	})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), `"f"`) {
		t.Errorf("%v", err)
	}
	for _, off := range []int64{-1, 8, 1 << 40} {
		err := w.Put(file(fmt.Sprint("out", off), "0123456789"), func(out io.WriterAt) error {
			_, err := out.WriteAt([]byte("abc"), off)
			return err
		})
		if !errors.Is(err, artifact.ErrDamaged) {
			t.Errorf("written at %d: %v", off, err)
		}
	}
	if err := w.Put(source.Item{Leave: true}, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(filepath.Join(dst, "f")); string(b) != "012\x00\x00\x00\x00\x00\x00\x00" {
		t.Errorf("what was there is %q", b)
	}
}

func TestZerosOfSparseFilesBecomeHoles(t *testing.T) {
	data := make([]byte, 1<<20+10)
	copy(data[300_000:], "data")
	copy(data[1<<20:], "the end")
	dst := filepath.Join(t.TempDir(), "to")
	w := begin(t, dst, restore.TreeOptions{})
	for _, sparse := range []bool{true, false} {
		it := file(fmt.Sprint("sparse ", sparse), string(data))
		it.Meta.Sparse = sparse
		if err := w.Put(it, func(out io.WriterAt) error {
			_, err := out.WriteAt(data[:299_001], 0) // no multiple of anything
			if err == nil {
				_, err = out.WriteAt(data[299_001:], 299_001)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(dst, it.Path), &st); err != nil {
			t.Fatal(err)
		}
		if sparse != (st.Blocks*512 <= 64<<10) {
			t.Errorf("%s: %d bytes allocated", it.Path, st.Blocks*512)
		}
		if b, _ := os.ReadFile(filepath.Join(dst, it.Path)); !bytes.Equal(b, data) {
			t.Errorf("%s: other bytes", it.Path)
		}
	}
	w.Put(source.Item{Leave: true}, nil)
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
}

func TestWhatWasNotSavedIsSaid(t *testing.T) {
	w := begin(t, filepath.Join(t.TempDir(), "to"), restore.TreeOptions{})
	lost := file("f", "")
	lost.Err = "stat: input/output error"
	w.Put(lost, nil)
	w.Put(source.Item{Path: "unknown", Err: "it vanished"}, nil)
	w.Put(source.Item{Leave: true}, nil)
	first, count := w.Warnings()
	if count["not saved in full"] != 2 || count["not restored"] != 1 || len(first) != 3 {
		t.Errorf("%v, %v", count, first)
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
}

// as runs f as another user, on a thread of its own that ends with it.
func as(t *testing.T, uid int, f func()) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked
		var err error
		defer func() { done <- err }()
		if _, _, no := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); no != 0 {
			err = no
			return
		}
		for _, nr := range []uintptr{unix.SYS_SETRESGID, unix.SYS_SETRESUID} {
			if _, _, no := unix.RawSyscall(nr, uintptr(uid), uintptr(uid), uintptr(uid)); no != 0 {
				err = no
				return
			}
		}
		f()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestWithoutRootNothingIsLostSilently(t *testing.T) {
	from := oddTree(t, sourcetest.Odd{Deep: 1, Wide: 1})
	src, err := source.OpenTree(from)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	home, err := os.MkdirTemp("", "restore") // the parents of t.TempDir are closed to others
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(home)
	os.Chmod(home, 0o777)
	to := filepath.Join(home, "to")
	told := map[string]bool{}
	type job struct {
		it source.Item
		f  func(io.WriterAt) error
	}
	var jobs []job
	for it, err := range src.Walk(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		var buf keeper
		if it.Meta.Type == source.Regular {
			if err := content(src, it)(&buf); err != nil {
				t.Fatal(err)
			}
		}
		jobs = append(jobs, job{it, buf.replay})
	}
	as(t, 65534, func() {
		w, err := restore.Tree(to, restore.TreeOptions{Warn: func(x restore.Warning) { told[fmt.Sprintf("%q: ", x.Path)+x.What] = true }})
		if err != nil {
			t.Error(err)
			return
		}
		for _, j := range jobs {
			if err := w.Put(j.it, j.f); err != nil {
				t.Errorf("%q: %v", j.it.Path, err)
			}
		}
		if err := w.Finish(); err != nil {
			t.Error(err)
		}
		_, count := w.Warnings()
		if count["owner"] < 20 || count["device node"] == 0 || count["attribute"] == 0 || count["setuid and setgid"] != 1 {
			t.Errorf("%v", count)
		}
	})
	// Each difference is of an entry and a kind that was warned of.
	kinds := map[string]string{"owner": "owner", "mode": "setuid and setgid", "attribute": "attribute", "only": "device node"}
	for _, d := range compare(t, from, to) {
		i := strings.LastIndex(d, `": `)
		path, word := d[:i+3], strings.Fields(d[i+3:])[0]
		switch path { // the root is called otherwise; further names of a file are warned of with the first
		case `".": `:
			path = `"": `
		case `"hard/1": `, `"hard/2": `, `"zz last": `:
			path = `"a/3": `
		case `"link": `:
			path = `"hard/symlink": `
		}
		if !told[path+kinds[word]] && !(word == "only" && told[path+"hard link, restored as a file of its own"]) {
			t.Errorf("not warned of: %s", d)
		}
	}
	if st, err := os.Stat(filepath.Join(to, "setuid")); err != nil || st.Mode()&(os.ModeSetuid|os.ModeSetgid) != 0 {
		t.Errorf("setuid for a wrong owner: %v, %v", st.Mode(), err)
	}
}

// keeper keeps what is written to it.
type keeper struct {
	parts [][]byte
	offs  []int64
}

func (k *keeper) WriteAt(p []byte, off int64) (int, error) {
	k.parts, k.offs = append(k.parts, bytes.Clone(p)), append(k.offs, off)
	return len(p), nil
}

func (k *keeper) replay(w io.WriterAt) error {
	for i := range k.parts {
		if _, err := w.WriteAt(k.parts[i], k.offs[i]); err != nil {
			return err
		}
	}
	return nil
}

func TestFullDestination(t *testing.T) {
	small := smallMount(t)
	w := begin(t, filepath.Join(small, "to"), restore.TreeOptions{})
	big := make([]byte, 3<<20)
	sourcetest.Pattern{Seed: 1}.Fill(big, 0)
	if err := w.Put(file("big", string(big)), text(string(big))); !errors.Is(err, artifact.ErrFull) {
		t.Errorf("tree: %v", err)
	}
	w.Finish()
	l, err := restore.Linear(filepath.Join(small, "img"), 3<<20, restore.Refuse)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Abort()
	if _, err := l.WriteAt(big, 0); !errors.Is(err, artifact.ErrFull) {
		t.Errorf("image: %v", err)
	}
	if _, err := l.WriteAt(big[:1], 0); !errors.Is(err, artifact.ErrFull) {
		t.Errorf("after the failure: %v", err)
	}
	if err := l.Finish(); !errors.Is(err, artifact.ErrFull) {
		t.Errorf("finished: %v", err)
	}
	if _, err := os.Stat(filepath.Join(small, "img")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an image that is not whole has its name: %v", err)
	}
}

// smallMount is a file system of 2 MiB.
func smallMount(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("a small file system is needed, and only root can mount one: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func TestImage(t *testing.T) {
	const size = 20<<20 + 777
	src := sourcetest.NewLinear(sourcetest.Config{Size: size, Pattern: sourcetest.Pattern{Seed: 3, Zero: 50},
		Bad: []source.Gap{{Off: 5000, Len: 512}, {Off: 5512, Len: 512}, {Off: 10 << 20, Len: 1 << 20}}})
	dst := filepath.Join(t.TempDir(), "img")
	w, err := restore.Linear(dst, size, restore.Refuse)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	want := make([]byte, size)
	var wg sync.WaitGroup
	for part := range 4 {
		wg.Go(func() {
			buf := make([]byte, 1<<20)
			for off := int64(part << 20); off < size; off += 4 << 20 {
				n, gaps, err := src.Read(context.Background(), buf, off)
				if err != nil {
					t.Error(err)
				}
				for _, g := range gaps {
					w.Gap(g)
				}
				copy(want[off:], buf[:n])
				// Zero regions are left out, as the store leaves them out.
				for at := 0; at < n; at += sourcetest.Region {
					p := buf[at:min(n, at+sourcetest.Region)]
					if len(bytes.Trim(p, "\x00")) == 0 {
						continue
					}
					if m, err := w.WriteAt(p, off+int64(at)); m != len(p) || err != nil {
						t.Error(m, err)
					}
				}
			}
		})
	}
	wg.Wait()
	if _, err := os.Stat(dst); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it has its name before it is whole: %v", err)
	}
	if _, err := os.Stat(w.Path()); err != nil || w.Path() != dst+restore.PartSuffix {
		t.Errorf("%s: %v", w.Path(), err)
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(dst)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("other bytes, %v", err)
	}
	if w.Path() != dst {
		t.Error(w.Path())
	}
	var st unix.Stat_t
	unix.Stat(dst, &st)
	if st.Blocks*512 > size*3/4 {
		t.Errorf("%d of %d bytes are allocated, half is zeros", st.Blocks*512, size)
	}
	why := unix.EIO.Error()
	if g, want := w.Gaps(), []source.Gap{{Off: 5000, Len: 1024, Kind: source.Unreadable, Why: why},
		{Off: 10 << 20, Len: 1 << 20, Kind: source.Unreadable, Why: why}}; !reflect.DeepEqual(g, want) {
		t.Errorf("gaps %v, want %v", g, want)
	}
	if _, err := w.WriteAt([]byte("x"), 0); err == nil {
		t.Error("written after Finish")
	}
	if got := list(t, filepath.Dir(dst)); got != "img" {
		t.Errorf("there is now: %s", got)
	}
}

func TestImageReplacesOnlyWhatItMay(t *testing.T) {
	dir := t.TempDir()
	path := func(n string) string { return filepath.Join(dir, n) }
	os.WriteFile(path("file"), []byte("old"), 0o644)
	os.Symlink("file", path("link"))
	os.Symlink("nowhere", path("dangling"))
	os.Mkdir(path("dir"), 0o755)
	unix.Mkfifo(path("fifo"), 0o600)
	for _, n := range []string{"file", "link", "dangling", "dir", "fifo"} {
		if _, err := restore.Linear(path(n), 3, restore.Refuse); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: %v", n, err)
		}
		if n == "file" {
			continue
		}
		if _, err := restore.Linear(path(n), 3, restore.ReplaceFile); err == nil {
			t.Errorf("%s is replaced", n)
		}
	}
	for _, n := range []string{"file", "dir", "none", "/dev/null"} {
		if !filepath.IsAbs(n) {
			n = path(n)
		}
		if _, err := restore.Linear(n, 3, restore.WriteDevice); err == nil {
			t.Errorf("%s is taken for a block device", n)
		}
	}
	if _, err := restore.Linear(path("new"), -1, restore.Refuse); err == nil {
		t.Error("negative size")
	}
	w, err := restore.Linear(path("file"), 3, restore.ReplaceFile)
	if err != nil {
		t.Fatal(err)
	}
	w.WriteAt([]byte("new"), 0)
	if b, _ := os.ReadFile(path("file")); string(b) != "old" {
		t.Errorf("replaced before it is whole: %q", b)
	}
	// Somebody else cannot start on the same file meanwhile, and an interrupted one is not overwritten.
	if _, err := restore.Linear(path("file"), 3, restore.ReplaceFile); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second: %v", err)
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path("file")); string(b) != "new" {
		t.Errorf("%q", b)
	}
	for _, c := range []struct{ n, off int64 }{{1, 3}, {4, 0}, {1, -1}} {
		w, err := restore.Linear(path(fmt.Sprint("x", c)), 3, restore.Refuse)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.WriteAt(make([]byte, c.n), c.off); err == nil {
			t.Errorf("%d bytes at %d of 3", c.n, c.off)
		}
		w.Abort()
	}
	// A name that was taken meanwhile is not replaced.
	w, err = restore.Linear(path("race"), 3, restore.Refuse)
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile(path("race"), []byte("theirs"), 0o600)
	if err := w.Finish(); !errors.Is(err, fs.ErrExist) {
		t.Errorf("race: %v", err)
	}
	if b, _ := os.ReadFile(path("race")); string(b) != "theirs" {
		t.Errorf("race: %q", b)
	}
}

// loop attaches a file to a free loop device and gives its path.
func loop(t *testing.T, file string) string {
	t.Helper()
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("a block device is needed, and only root can make one: %v", err)
	}
	defer ctl.Close()
	back, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	for range 20 { // others may take the free one first
		n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			t.Fatal(err)
		}
		path := fmt.Sprintf("/dev/loop%d", n)
		dev, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.IoctlLoopConfigure(int(dev.Fd()), &unix.LoopConfig{Fd: uint32(back.Fd()), Size: 512}); err != nil {
			dev.Close()
			if err == unix.EBUSY {
				continue
			}
			t.Fatal(err)
		}
		t.Cleanup(func() {
			unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_CLR_FD, 0)
			dev.Close()
		})
		return path
	}
	t.Fatal("no free loop device")
	return ""
}

func TestDevice(t *testing.T) {
	const size = 8 << 20
	back := filepath.Join(t.TempDir(), "back")
	old := bytes.Repeat([]byte{0xee}, size)
	os.WriteFile(back, old, 0o600)
	dev := loop(t, back)
	if _, err := restore.Linear(dev, size, restore.Refuse); !errors.Is(err, fs.ErrExist) {
		t.Errorf("without leave: %v", err)
	}
	if _, err := restore.Linear(dev, size+1, restore.WriteDevice); !errors.Is(err, artifact.ErrFull) {
		t.Errorf("too small: %v", err)
	}
	const n = size - 5000 // the rest stays
	w, err := restore.Linear(dev, n, restore.WriteDevice)
	if err != nil {
		t.Fatal(err)
	}
	// Without O_EXCL two could write at once.
	if _, err := restore.Linear(dev, n, restore.WriteDevice); !errors.Is(err, unix.EBUSY) {
		t.Errorf("in use: %v", err)
	}
	want := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 1))
	for range 50 {
		off := r.Int64N(n - 40000)
		p := want[off : off+1+r.Int64N(40000)]
		sourcetest.Pattern{Seed: 5}.Fill(p, off)
		if _, err := w.WriteAt(p, off); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(dev)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got[:n], want) {
		t.Error("other bytes: what was not written must be zeros")
	}
	if !bytes.Equal(got[n:], old[n:]) {
		t.Error("written behind the end")
	}
}
