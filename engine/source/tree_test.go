package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func openTree(t *testing.T, path string, opts ...TreeOption) *tree {
	t.Helper()
	s, err := OpenTree(path, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s.(*tree)
}

func walkAll(t *testing.T, s TreeSource) []Item {
	t.Helper()
	var items []Item
	for it, err := range s.Walk(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, it)
	}
	return items
}

// words is a walk in short: "name", "name(" entering and ")" leaving a directory, "!" with an error.
func words(items []Item) string {
	var w []string
	for _, it := range items {
		s := it.Path[strings.LastIndexByte(it.Path, '/')+1:]
		switch {
		case it.Leave:
			s = ")"
		case it.Meta.Type == Dir:
			s += "("
		}
		if it.Err != "" {
			s += "!"
		}
		w = append(w, s)
	}
	return strings.Join(w, " ")
}

func makeFiles(t *testing.T, names ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, n := range names {
		p := filepath.Join(root, n)
		dir := p
		if !strings.HasSuffix(n, "/") {
			dir = filepath.Dir(p)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(n, "/") {
			if err := os.WriteFile(p, []byte(n), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return root
}

func find(t *testing.T, items []Item, path string) Item {
	t.Helper()
	i := slices.IndexFunc(items, func(it Item) bool { return it.Path == path && !it.Leave })
	if i < 0 {
		t.Fatalf("no %q in the walk", path)
	}
	return items[i]
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can do this")
	}
}

func TestWalkOrder(t *testing.T) {
	root := makeFiles(t, "a/z", "a/b/c", "a-", "a.b", "B", "\xff", "\xc3\xa4", "empty/", "Z/1", "Z/10", "Z/2")
	s := openTree(t, root)
	want := "( B Z( 1 10 2 ) a( b( c ) z ) a- a.b empty( ) \xc3\xa4 \xff )"
	if got := words(walkAll(t, s)); got != want {
		t.Errorf("walk %q, want %q", got, want)
	}
	if got := words(walkAll(t, s)); got != want { // again
		t.Errorf("second walk %q, want %q", got, want)
	}
}

func TestWalkMeta(t *testing.T) {
	root := makeFiles(t, "f", "d/")
	p := filepath.Join(root, "f")
	if err := os.Chmod(p, 0o4751); err != nil {
		t.Fatal(err)
	}
	unix.Chmod(p, 0o4751)
	for k, v := range map[string]string{"user.z": "", "user.a": "\x00\xff", "user.big": strings.Repeat("x", 3000)} {
		if err := unix.Lsetxattr(p, k, []byte(v), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(p, time.Unix(1, 0), time.Unix(-5, 123456789)); err != nil {
		t.Fatal(err)
	}
	os.Link(p, filepath.Join(root, "g"))
	os.Truncate(filepath.Join(root, "f"), 1<<20)
	unix.Chmod(p, 0o4751) // without privileges, cutting a file takes the setuid bit away
	os.Chtimes(p, time.Unix(1, 0), time.Unix(-5, 123456789))
	os.Symlink("to\xff", filepath.Join(root, "l"))
	items := walkAll(t, openTree(t, root))
	f := find(t, items, "f")
	st := stampAt(t, p)
	want := Item{Path: "f", Links: 2, Stamp: st, Meta: Meta{
		Type: Regular, Mode: 0o4751, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), MTime: Time{-5, 123456789},
		Size: 1 << 20, Sparse: true,
		Xattrs: []Xattr{{"user.a", []byte("\x00\xff")}, {"user.big", []byte(strings.Repeat("x", 3000))}, {"user.z", []byte{}}},
	}}
	if !reflect.DeepEqual(f, want) {
		t.Errorf("got  %+v\nwant %+v", f, want)
	}
	if g := find(t, items, "g"); g.Stamp != f.Stamp || g.Links != 2 {
		t.Errorf("the hard link has stamp %+v", g.Stamp)
	}
	if l := find(t, items, "l"); l.Meta.Type != Symlink || string(l.Meta.LinkTarget) != "to\xff" || l.Err != "" {
		t.Errorf("%+v", l)
	}
	if d := find(t, items, "d"); d.Meta.Type != Dir || d.Meta.Mode != 0o755 || d.Meta.Size != 0 || d.Links != 2 {
		t.Errorf("%+v", d)
	}
	if r := find(t, items, ""); r.Meta.Type != Dir || r.Stamp.Ino == 0 {
		t.Errorf("%+v", r)
	}
}

// accessTimes reads them without changing them.
func accessTimes(t *testing.T, paths ...string) (out []unix.Timespec) {
	for _, p := range paths {
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			t.Fatal(err)
		}
		out = append(out, st.Atim)
	}
	return out
}

func TestWalkTouchesNoAccessTime(t *testing.T) {
	root := makeFiles(t, "d/f")
	link := filepath.Join(root, "l")
	os.Symlink("x", link)
	paths := []string{root, filepath.Join(root, "d"), filepath.Join(root, "d/f")}
	if os.Getuid() == 0 {
		paths = append(paths, link)
	}
	old := []unix.Timespec{{Sec: 1}, {Sec: 2_000_000_000}} // older than the modification: relatime would set it
	for _, p := range paths {
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, p, old, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			t.Fatal(err)
		}
	}
	s := openTree(t, root)
	read := func() {
		t.Helper()
		items := walkAll(t, s)
		if it := find(t, items, "l"); string(it.Meta.LinkTarget) != "x" {
			t.Errorf("%+v", it)
		}
		f, err := s.OpenFile("d/f")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.ReadAt(make([]byte, 3), 0); err != nil {
			t.Fatal(err)
		}
		for i, at := range accessTimes(t, paths...) {
			if at != old[0] {
				t.Errorf("%s: the access time is now %v", paths[i], at)
			}
		}
	}
	read()
	// The same for an owner who is not root, and has no view of his own: all but the link.
	plain, err := openNoAtime(unix.AT_FDCWD, root, dirFlags)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	s.fd, s.view, paths = plain, -1, paths[:3]
	read()
}

func TestOpenFile(t *testing.T) {
	root := makeFiles(t, "d/f", "top")
	outside := makeFiles(t, "secret")
	os.Symlink(outside, filepath.Join(root, "out"))
	os.Symlink("f", filepath.Join(root, "d/link"))
	os.Symlink("d", filepath.Join(root, "dlink"))
	unix.Mkfifo(filepath.Join(root, "fifo"), 0o600)
	s := openTree(t, root)
	f, err := s.OpenFile("d/f")
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 10)
	if n, err := f.ReadAt(buf, 1); n != 2 || err != io.EOF || string(buf[:n]) != "/f" {
		t.Errorf("%d, %v, %q", n, err, buf)
	}
	st, err := f.Stamp()
	if err != nil || st != stampAt(t, filepath.Join(root, "d/f")) {
		t.Errorf("%+v, %v", st, err)
	}
	os.Truncate(filepath.Join(root, "d/f"), 1)
	if now, err := f.Stamp(); err != nil || now.Size != 1 || now == st {
		t.Errorf("after truncation %+v, %v", now, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err == nil {
		t.Error("closed twice")
	}
	for _, p := range []string{"out/secret", "d/link", "dlink/f", "../" + filepath.Base(outside) + "/secret", "d/../../x", "/etc/passwd",
		"fifo", "d", "", "none", "d/../../" + filepath.Base(root) + "/top"} {
		if f, err := s.OpenFile(p); err == nil {
			f.Close()
			t.Errorf("%q was opened", p)
		}
	}
}

// hooked opens a tree that calls do at the first step of that name for that path.
func hooked(t *testing.T, root, step, path string, do func()) *tree {
	s := openTree(t, root)
	done := false
	s.hook = func(st, p string) {
		if st == step && p == path && !done {
			done = true
			do()
		}
	}
	t.Cleanup(func() {
		if !done {
			t.Errorf("there was no %s of %q", step, path)
		}
	})
	return s
}

func TestThingsHappenDuringTheWalk(t *testing.T) {
	outside := makeFiles(t, "secret/x")
	for name, c := range map[string]struct {
		step, path string
		do         func(root string) error
		want, err  string
	}{
		"a file vanishes":            {"stat", "b", func(r string) error { return os.Remove(r + "/b") }, "( a b! c( d( e ) ) z )", "vanished"},
		"a directory vanishes":       {"stat", "c", func(r string) error { return os.RemoveAll(r + "/c") }, "( a b c! z )", "vanished"},
		"it vanishes before opening": {"open", "c", func(r string) error { return os.RemoveAll(r + "/c") }, "( a b c(! ) z )", "no such file"},
		"its entries vanish":         {"list", "c/d", func(r string) error { return os.RemoveAll(r + "/c/d") }, "( a b c( d(! ) ) z )", "no such file"},
		"a directory becomes a link out": {"open", "c", func(r string) error {
			return errors.Join(os.RemoveAll(r+"/c"), os.Symlink(outside, r+"/c"))
		}, "( a b c(! ) z )", "replaced"},
		"a directory becomes a file": {"open", "c", func(r string) error {
			return errors.Join(os.RemoveAll(r+"/c"), os.WriteFile(r+"/c", nil, 0o600))
		}, "( a b c(! ) z )", "replaced"},
		"a directory becomes a FIFO": {"open", "c", func(r string) error {
			return errors.Join(os.RemoveAll(r+"/c"), unix.Mkfifo(r+"/c", 0o600))
		}, "( a b c(! ) z )", "replaced"},
		"a file becomes a directory": {"stat", "b", func(r string) error {
			return errors.Join(os.Remove(r+"/b"), os.Mkdir(r+"/b", 0o700), os.WriteFile(r+"/b/new", nil, 0o600))
		}, "( a b( new ) c( d( e ) ) z )", ""},
		"a link becomes a file": {"readlink", "l", func(r string) error {
			return errors.Join(os.Remove(r+"/l"), os.WriteFile(r+"/l", nil, 0o600))
		}, "( a b c( d( e ) ) l! z )", "read link"},
		"a directory moves while the walk is in it": {"list", "c/d", func(r string) error {
			return os.Rename(r+"/c/d", r+"/moved")
		}, "( a b c( d( e ) ) z )", ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := makeFiles(t, "a", "b", "c/d/e", "z")
			if c.step == "readlink" {
				os.Symlink("x", root+"/l")
			}
			s := hooked(t, root, c.step, c.path, func() {
				if err := c.do(root); err != nil {
					t.Error(err)
				}
			})
			items := walkAll(t, s)
			if got := words(items); got != c.want {
				t.Errorf("walk %q, want %q", got, c.want)
			}
			for _, it := range items {
				if it.Err != "" && (c.err == "" || !strings.Contains(it.Err, c.err)) {
					t.Errorf("%q: %s; want %q", it.Path, it.Err, c.err)
				}
			}
		})
	}
}

// nested makes directories below each other named "d", and a file "z" in each, so that a walk comes back to each.
func nested(t *testing.T, root, name string, n int) {
	t.Helper()
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	for i := 0; i < n && err == nil; i++ {
		var f, next int
		if f, err = unix.Openat(fd, "z", unix.O_CREAT|unix.O_WRONLY, 0o644); err == nil {
			unix.Close(f)
			if err = unix.Mkdirat(fd, name, 0o755); err == nil {
				next, err = unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
				unix.Close(fd)
				fd = next
			}
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
}

func TestDeepTrees(t *testing.T) {
	for name, c := range map[string]struct {
		name string
		n    int
	}{"long names": {strings.Repeat("d", 250), 40}, "many levels": {"d", 2500}} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			nested(t, root, c.name, c.n)
			s := openTree(t, root)
			before := openFiles(t)
			most, dirs, files := 0, 0, 0
			var deepest string
			for it, err := range s.Walk(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				if it.Err != "" {
					t.Fatalf("%d levels down: %s", strings.Count(it.Path, "/"), it.Err)
				}
				switch {
				case it.Leave:
				case it.Meta.Type == Dir:
					dirs++
				default:
					files++
					if len(it.Path) > len(deepest) {
						deepest = it.Path
					}
				}
				if dirs%100 == 0 {
					most = max(most, openFiles(t)-before)
				}
			}
			if dirs != c.n+1 || files != c.n {
				t.Errorf("%d directories, %d files; want %d, %d", dirs, files, c.n+1, c.n)
			}
			if most > maxOpen+5 {
				t.Errorf("%d descriptors were open at a time", most)
			}
			if now := openFiles(t); now != before {
				t.Errorf("%d descriptors stayed open", now-before)
			}
			if len(deepest) < 4096 {
				t.Fatalf("the deepest path has only %d bytes", len(deepest))
			}
			f, err := s.OpenFile(deepest)
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
			if now := openFiles(t); now != before {
				t.Errorf("%d descriptors stayed open after OpenFile", now-before)
			}
		})
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

func TestAncestorMovedOrReplacedFarAboveTheWalk(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(root string) error
		lost bool
	}{
		// The walk's own way back is gone, but the directory can be found by its path.
		"the lower part moves": {func(r string) error { return os.Rename(r+"/d/d/d", r+"/elsewhere") }, false},
		"and another takes the place of the upper": {func(r string) error {
			return errors.Join(os.Rename(r+"/d/d/d", r+"/elsewhere"), os.Rename(r+"/d/d", r+"/d/old"), os.Mkdir(r+"/d/d", 0o755),
				os.WriteFile(r+"/d/d/z", []byte("not the same"), 0o644))
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			nested(t, root, "d", maxOpen+10)
			at := strings.Repeat("d/", maxOpen+8) + "d"
			s := hooked(t, root, "list", at, func() {
				if err := c.do(root); err != nil {
					t.Error(err)
				}
			})
			items := walkAll(t, s)
			lost := 0
			depth := 0
			for _, it := range items {
				if it.Meta.Type == Dir {
					depth++
				}
				if it.Leave {
					depth--
				}
				if it.Err == errMoved.Error() {
					lost++
				} else if it.Err != "" {
					t.Errorf("%q: %s", it.Path, it.Err)
				}
			}
			if depth != 0 {
				t.Error("not every directory was left")
			}
			if (lost > 0) != c.lost {
				t.Errorf("%d entries lost", lost)
			}
			if it := find(t, items, "z"); it.Err != "" {
				t.Errorf("the root's file: %s", it.Err)
			}
		})
	}
}

func TestLargeDirectory(t *testing.T) {
	root := t.TempDir()
	const n = 20_000
	for i := range n {
		f, err := unix.Open(fmt.Sprintf("%s/%d", root, i), unix.O_CREAT|unix.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(f)
	}
	last, count := "", 0
	for it, err := range openTree(t, root).Walk(t.Context()) {
		if err != nil || it.Err != "" {
			t.Fatal(err, it.Err)
		}
		if it.Path == "" {
			continue
		}
		if it.Path <= last {
			t.Fatalf("%q after %q", it.Path, last)
		}
		last, count = it.Path, count+1
	}
	if count != n {
		t.Errorf("%d entries, want %d", count, n)
	}
}

func TestMountPointsAreNotEntered(t *testing.T) {
	needRoot(t)
	root := makeFiles(t, "a/hidden", "b", "m", "z/")
	mount := func(src, at, kind string, flags uintptr) {
		if err := unix.Mount(src, at, kind, flags, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) })
	}
	mount("none", filepath.Join(root, "a"), "tmpfs", 0)
	os.WriteFile(filepath.Join(root, "a/on top"), nil, 0o644)
	mount(filepath.Join(root, "b"), filepath.Join(root, "m"), "", unix.MS_BIND) // the same file system, a file
	s := openTree(t, root)
	items := walkAll(t, s)
	if got, want := words(items), "( a(! ) b m! z( ) )"; got != want {
		t.Errorf("walk %q, want %q", got, want)
	}
	if it := find(t, items, "a"); it.Err != errMounted.Error() {
		t.Error(it.Err)
	}
	for _, p := range []string{"a/on top", "m"} {
		if f, err := s.OpenFile(p); err == nil {
			f.Close()
			t.Errorf("%s was opened", p)
		}
	}
	all := openTree(t, root, CrossMounts)
	if got, want := words(walkAll(t, all)), "( a( on top ) b m z( ) )"; got != want {
		t.Errorf("all mounts: %q, want %q", got, want)
	}
	f, err := all.OpenFile("a/on top")
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

// as runs f as another user, on a thread of its own that ends with it: the ids of a thread concern no other.
func as(t *testing.T, uid int, f func()) {
	t.Helper()
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

func TestWhatIsForbiddenIsSaid(t *testing.T) {
	needRoot(t)
	root := makeFiles(t, "closed/in", "file", "no search/in", "open/in")
	for p := root; p != "/"; p = filepath.Dir(p) { // let the other user come here
		st, _ := os.Stat(p)
		if st.Mode()&0o001 == 0 && strings.HasPrefix(p, os.TempDir()+"/") {
			os.Chmod(p, 0o755)
		}
	}
	os.Chmod(filepath.Join(root, "closed"), 0o700)
	os.Chmod(filepath.Join(root, "no search"), 0o744)
	os.Chmod(filepath.Join(root, "file"), 0o600)
	as(t, 65534, func() {
		s, err := OpenTree(root)
		if err != nil {
			t.Error(err)
			return
		}
		defer s.Close()
		var items []Item
		for it, err := range s.Walk(t.Context()) {
			if err != nil {
				t.Error(err)
			}
			items = append(items, it)
		}
		if got, want := words(items), "( closed(! ) file no search( in! ) open( in ) )"; got != want {
			t.Errorf("walk %q, want %q", got, want)
		}
		if _, err := s.OpenFile("file"); !errors.Is(err, os.ErrPermission) {
			t.Errorf("open: %v", err)
		}
		f, err := s.OpenFile("open/in") // not the owner's: no O_NOATIME
		if err != nil {
			t.Error(err)
			return
		}
		f.Close()
	})
}

func TestWalkEndsWithItsContext(t *testing.T) {
	root := makeFiles(t, "a/b", "c", "d")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	var last error
	for it, err := range openTree(t, root).Walk(ctx) {
		if n++; it.Path == "a/b" {
			cancel()
		}
		last = err
	}
	if !errors.Is(last, context.Canceled) || n != 4 {
		t.Errorf("%d items, %v", n, last)
	}
	// Leaving the loop early closes what was open.
	before := openFiles(t)
	for it := range openTree(t, root).Walk(t.Context()) {
		if it.Path == "a/b" {
			break
		}
	}
	if now := openFiles(t); now > before+2 { // the tree itself is open until the test ends
		t.Errorf("%d descriptors stayed open", now-before)
	}
}

func TestOpenTreeThroughALink(t *testing.T) {
	root := makeFiles(t, "f")
	link := filepath.Join(t.TempDir(), "link")
	os.Symlink(root, link)
	s := openTree(t, link)
	if got := words(walkAll(t, s)); got != "( f )" {
		t.Error(got)
	}
	if s.Info().Path != link || s.Info().Kind != Tree {
		t.Errorf("%+v", s.Info())
	}
	for _, p := range []string{filepath.Join(root, "f"), filepath.Join(root, "none")} {
		if _, err := OpenTree(p); err == nil {
			t.Errorf("%s was opened as a tree", p)
		}
	}
}

func TestTheTreeCannotBeWrittenThrough(t *testing.T) {
	needRoot(t)
	s := openTree(t, makeFiles(t, "f"))
	if s.view < 0 {
		t.Fatal("root has no view of its own")
	}
	if fd, err := unix.Openat(s.fd, "f", unix.O_WRONLY, 0); err != unix.EROFS {
		unix.Close(fd)
		t.Errorf("opened for writing: %v", err)
	}
	if err := unix.Unlinkat(s.fd, "f", 0); err != unix.EROFS {
		t.Errorf("unlink: %v", err)
	}
}

func TestNamesOfGetdents(t *testing.T) {
	good := []byte("12345678" + "12345678" + "\x18\x00" + "\x08" + "abc\x00\x00")
	for _, c := range []struct {
		in   []byte
		want []string
	}{
		{good, []string{"abc"}},
		{append(bytes.Clone(good), good...), []string{"abc", "abc"}},
		{good[:20], nil},
		{append(bytes.Clone(good), make([]byte, 30)...), []string{"abc"}},
		{nil, nil},
	} {
		if got := appendNames(nil, c.in); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
	}
}

// TestIDOutlivesABoot: what a tree or an image is found again by says nothing of the device's number, and tells file systems apart where they
// have a name.
func TestIDOutlivesABoot(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "image"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	id := func(path string) string {
		src, err := OpenTree(path)
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		return src.Info().ID
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	img, err := OpenImage(filepath.Join(dir, "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	for _, s := range []string{id(dir), img.Info().ID} {
		if strings.Contains(s, "dev=") || strings.Contains(s, fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))) || !strings.Contains(s, " fs=") || !strings.HasSuffix(s, "path="+dir) && !strings.HasSuffix(s, "path="+dir+"/image") {
			t.Errorf("%q", s)
		}
	}
	if a, b := id(dir), id(dir); a != b {
		t.Errorf("%q is %q the next time", a, b)
	}
	fs := func(id string) string { _, s, _ := strings.Cut(id, " fs="); s, _, _ = strings.Cut(s, " "); return s }
	if a, b := fs(id("/proc")), fs(id(dir)); a == b && a != "unknown" {
		t.Errorf("/proc and %s are one file system: %s", dir, a)
	}
	t.Log(id(dir), img.Info().ID, id("/proc"))
}
