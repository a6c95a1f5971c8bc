package local_test

import (
	"bytes"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"testing"

	"aslrescue/backends/local"
	"aslrescue/engine/artifact"
	"aslrescue/engine/store"
	"aslrescue/engine/vfs/faultfs"
	"aslrescue/engine/vfs/memfs"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestTrace pins the order of operations on which durability hangs.
func TestTrace(t *testing.T) {
	for golden, opts := range map[string]memfs.Options{
		"testdata/create.rename.trace": {},
		"testdata/create.link.trace":   {NoRename: true},
	} {
		fsys := faultfs.New(newStoreWith(t, opts), nil)
		b, err := local.Open(fsys, "memory")
		if err != nil {
			t.Fatal(err)
		}
		got := "# open\n" + fsys.Trace()
		for _, step := range []struct{ title, name, data string }{
			{"a block", "blocks/" + artifact.HashBytes([]byte("block")).String(), "block"},
			{"the same block again", "blocks/" + artifact.HashBytes([]byte("block")).String(), "block"},
			{"the first object of a domain", "logs/home/000000000001.aol", "part"},
			{"the second", "logs/home/000000000002.aol", "part"},
		} {
			if err := b.Create(t.Context(), step.name, []byte(step.data)); err != nil {
				t.Fatal(err)
			}
			got += "\n# " + step.title + "\n" + fsys.Trace()
		}
		if *update {
			os.WriteFile(golden, []byte(got), 0o644)
		}
		want, err := os.ReadFile(golden)
		if err != nil || got != string(want) {
			t.Errorf("%s: %v\n%s", golden, err, got)
		}
	}
}

// TestEveryOperationFails: after any failure the object is whole or absent, the error is reported, and a later Create
// works and is durable.
func TestEveryOperationFails(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 600)
	block := "blocks/" + artifact.HashBytes(data).String()
	cases := 0
	for _, name := range []string{block, "logs/home/1"} {
		for _, opts := range []memfs.Options{{}, {NoRename: true}} {
			clean := newStoreWith(t, opts)
			for _, present := range []bool{false, true} {
				base := clean
				if present {
					base = withObject(t, clean, name, data)
				}
				for _, fault := range faults() {
					for n := 1; ; n++ {
						fault.N = n
						c := faultCase{t, base.CrashAt(0, memfs.Pattern{}), fault, name, data}
						if !c.run() {
							break
						}
						cases++
					}
				}
			}
		}
	}
	t.Logf("%d faults", cases)
}

// withObject is a medium as it was, with one more object that is durable.
func withObject(t *testing.T, fsys *memfs.FS, name string, data []byte) *memfs.FS {
	t.Helper()
	fsys = fsys.CrashAt(0, memfs.Pattern{})
	b, err := local.Open(fsys, "memory")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Create(t.Context(), name, data); err != nil {
		t.Fatal(err)
	}
	return fsys.CrashAt(fsys.Ops(), memfs.Pattern{})
}

func faults() []faultfs.Fault {
	var list []faultfs.Fault
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EACCES, syscall.EMFILE, syscall.ESTALE} {
		list = append(list, faultfs.Fault{Err: errno}, faultfs.Fault{Err: errno, Sticky: true}, faultfs.Fault{Err: errno, After: true})
	}
	for _, short := range []int{1, 512, 4096} {
		list = append(list, faultfs.Fault{Op: faultfs.Write, Err: syscall.ENOSPC, Short: short})
	}
	return append(list, faultfs.Fault{Op: faultfs.Sync}, faultfs.Fault{Op: faultfs.Sync, Sticky: true}, faultfs.Fault{Op: faultfs.SyncDir})
}

type faultCase struct {
	t     *testing.T
	fsys  *memfs.FS
	fault faultfs.Fault
	name  string
	data  []byte
}

// run is false when Create has fewer operations than the fault waits for.
func (c faultCase) run() bool {
	t := c.t
	t.Helper()
	faulty := faultfs.New(c.fsys, c.fsys.FailSync)
	b, err := local.Open(faulty, "memory")
	if err != nil {
		t.Fatal(err)
	}
	faulty.Trace()
	faulty.Inject(c.fault)
	err = b.Create(t.Context(), c.name, c.data)
	if len(faulty.Unused()) > 0 {
		if err != nil {
			t.Fatalf("without a fault: %v", err)
		}
		return false
	}
	trace := faulty.Trace()
	fail := func(format string, args ...any) {
		t.Helper()
		t.Errorf(format, args...)
		t.Fatalf("fault %+v\n%s", c.fault, trace)
	}
	// A temporary name that stays is a leftover, not a fault.
	if tolerated := strings.Contains(struckLine(trace), "remove "); err == nil && !tolerated {
		fail("no error is reported")
	}
	if err != nil {
		c.means(err, fail)
	}
	if struck := struckLine(trace); !c.fault.Sticky && !strings.Contains(struck, "create ") && !strings.Contains(struck, "remove ") {
		c.noTemps(fail)
	}
	got, rerr := read(b, t, c.name)
	if !errors.Is(rerr, artifact.ErrNotFound) && (rerr != nil || !bytes.Equal(got, c.data)) {
		fail("after the fault: %d bytes, %v", len(got), rerr)
	}
	if err := b.Create(t.Context(), c.name, c.data); err != nil {
		fail("a later Create: %v", err)
	}
	after := c.fsys.CrashAt(c.fsys.Ops(), memfs.Pattern{})
	again, err := local.Open(after, "memory")
	if err != nil {
		fail("open after a power cut: %v", err)
	}
	if got, err := read(again, t, c.name); err != nil || !bytes.Equal(got, c.data) {
		fail("after a later Create and a power cut: %d bytes, %v", len(got), err)
	}
	return true
}

// means looks whether an error says what callers branch on.
func (c faultCase) means(err error, fail func(string, ...any)) {
	c.t.Helper()
	want := map[syscall.Errno]error{
		syscall.ENOSPC: artifact.ErrFull, syscall.EDQUOT: artifact.ErrFull,
		syscall.EROFS: artifact.ErrReadOnly, syscall.EACCES: artifact.ErrReadOnly,
	}
	errno, _ := c.fault.Err.(syscall.Errno)
	if want[errno] != nil && !errors.Is(err, want[errno]) {
		fail("%v does not say %v", err, want[errno])
	}
	if !strings.HasPrefix(err.Error(), "create "+c.name) {
		fail("%v does not say what was done to what", err)
	}
}

// noTemps looks whether a file that was given up still takes room.
func (c faultCase) noTemps(fail func(string, ...any)) {
	c.t.Helper()
	list, _ := c.fsys.ReadDir(path.Dir(fileOf(c.name)))
	for _, e := range list {
		if strings.HasPrefix(e.Name(), local.TempPrefix) {
			fail("left behind: %s", e.Name())
		}
	}
}

// struckLine is the first line of a trace in which an operation failed that should not.
func struckLine(trace string) string {
	for line := range strings.Lines(trace) {
		if strings.Contains(line, " = ") && !strings.Contains(line, "no such file") && !strings.Contains(line, "file exists") {
			return line
		}
	}
	return ""
}

// TestFullAtOpen: a store without room can still be read, and takes objects again when there is room.
func TestFullAtOpen(t *testing.T) {
	faulty := faultfs.New(newStore(t), nil)
	faulty.Inject(faultfs.Fault{Op: faultfs.Create, Err: syscall.ENOSPC, Sticky: true})
	b, err := local.Open(faulty, "memory")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Create(t.Context(), "logs/home/1", nil); !errors.Is(err, artifact.ErrFull) {
		t.Fatalf("got %v", err)
	}
	faulty.Unused()
	if err := b.Create(t.Context(), "logs/home/1", nil); err != nil {
		t.Fatal(err)
	}
}

func TestReadOnlyMedium(t *testing.T) {
	faulty := faultfs.New(newStore(t), nil)
	for _, op := range []faultfs.Op{faultfs.Create, faultfs.Mkdir, faultfs.Rename, faultfs.Link, faultfs.Remove} {
		faulty.Inject(faultfs.Fault{Op: op, Err: syscall.EROFS, Sticky: true})
	}
	b, err := local.Open(faulty, "memory")
	if err != nil {
		t.Fatal(err)
	}
	if !b.Info().ReadOnly {
		t.Error("it is not told that nothing can be written")
	}
	if err := b.Create(t.Context(), "logs/home/1", nil); !errors.Is(err, artifact.ErrReadOnly) {
		t.Errorf("got %v", err)
	}
}

// TestListThatFails: a list that ends early says so.
func TestListThatFails(t *testing.T) {
	fsys := withObject(t, newStore(t), "logs/home/1", nil)
	faulty := faultfs.New(fsys, nil)
	b, err := local.Open(faulty, "memory", local.ReadOnly())
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; ; n++ {
		faulty.Inject(faultfs.Fault{Op: faultfs.ReadDir, N: n})
		err := listAll(t, b)
		if len(faulty.Unused()) > 0 {
			break
		}
		if !errors.Is(err, syscall.EIO) {
			t.Fatalf("folder %d cannot be read: %v", n, err)
		}
	}
}

func listAll(t *testing.T, b store.Backend) error {
	for _, err := range b.List(t.Context(), "", "") {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestRenameThatClobbers: a medium that renames over what is there is found out, and links are used.
func TestRenameThatClobbers(t *testing.T) {
	b, err := local.Open(clobbering{newStore(t)}, "memory")
	if err != nil {
		t.Fatal(err)
	}
	if got := b.Info().Publish; got != "link" {
		t.Errorf("it publishes by %q", got)
	}
}

// clobbering ignores that a rename must not replace.
type clobbering struct{ *memfs.FS }

func (c clobbering) RenameNoReplace(oldname, newname string) error {
	c.FS.Remove(newname)
	return c.FS.RenameNoReplace(oldname, newname)
}

// TestRenameThatOnlyTheKernelKnows: of NFS and FUSE the kernel answers for a name that is taken, and only for a free one asks the medium, which
// cannot do it.
func TestRenameThatOnlyTheKernelKnows(t *testing.T) {
	b, err := local.Open(kernelOnly{newStore(t)}, "memory")
	if err != nil {
		t.Fatal(err)
	}
	if got := b.Info().Publish; got != "link" {
		t.Errorf("it publishes by %q", got)
	}
	name := "blocks/" + artifact.HashBytes([]byte("x")).String()
	if err := b.Create(t.Context(), name, []byte("x")); err != nil {
		t.Error(err)
	}
	fsys := memfs.With(memfs.Options{NoLink: true})
	if _, err := local.Create(kernelOnly{fsys}, "memory"); !errors.Is(err, local.ErrNoPublish) {
		t.Errorf("without links, too: %v", err)
	}
	if list, _ := fsys.ReadDir("."); len(list) > 0 {
		t.Errorf("left behind: %v", list)
	}
}

type kernelOnly struct{ *memfs.FS }

func (k kernelOnly) RenameNoReplace(_, newname string) error {
	if _, err := k.FS.Stat(newname); err == nil {
		return &fs.PathError{Op: "rename", Path: newname, Err: fs.ErrExist}
	}
	return &fs.PathError{Op: "rename", Path: newname, Err: errors.ErrUnsupported}
}

// TestCleanupSparesTheFinalName: another writer was faster, and our own attempt fails. What stands under the name is
// the other's.
func TestCleanupSparesTheFinalName(t *testing.T) {
	for _, opts := range []memfs.Options{{}, {NoRename: true}} {
		for _, errno := range []error{syscall.EIO, syscall.ENOSPC} {
			fsys := overtaken{newStoreWith(t, opts), errno}
			b, err := local.Open(fsys.FS, "memory")
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Create(t.Context(), "logs/home/0", nil); err != nil {
				t.Fatal(err)
			}
			b, err = local.Open(fsys, "memory")
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Create(t.Context(), "logs/home/1", []byte("ours")); !errors.Is(err, errno) {
				t.Errorf("got %v", err)
			}
			if got, err := read(b, t, "logs/home/1"); err != nil || string(got) != "theirs" {
				t.Errorf("%q, %v", got, err)
			}
		}
	}
}

// overtaken puts another's object in place just before ours, whose publishing then fails.
type overtaken struct {
	*memfs.FS
	err error
}

func (o overtaken) RenameNoReplace(oldname, newname string) error {
	return o.overtake(newname, func() error { return o.FS.RenameNoReplace(oldname, newname) })
}

func (o overtaken) Link(oldname, newname string) error {
	return o.overtake(newname, func() error { return o.FS.Link(oldname, newname) })
}

func (o overtaken) overtake(name string, publish func() error) error {
	if name != "logs/home/1" {
		return publish()
	}
	if f, err := o.FS.CreateExcl(name, 0o444); err == nil {
		f.Write([]byte("theirs"))
	}
	return o.err
}
