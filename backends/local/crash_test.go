package local_test

import (
	"bytes"
	"errors"
	"flag"
	"strings"
	"sync"
	"testing"

	"aslrescue/backends/local"
	"aslrescue/engine/artifact"
	"aslrescue/engine/store"
	"aslrescue/engine/vfs/faultfs"
	"aslrescue/engine/vfs/memfs"
)

// deep makes the enumeration of power cuts wider, for nightly runs.
var deep = flag.Int("deep", 1, "how many times as many states after power cuts")

// object is something a test stores, and the operation after which that was acknowledged.
type object struct {
	name  string
	data  []byte
	acked int // 0: never
}

func workload() []*object {
	long := bytes.Repeat([]byte("a block longer than a page. "), 500)
	short := []byte("a short block")
	segment := bytes.Repeat([]byte{7}, 5000)
	return []*object{
		{name: "blocks/" + artifact.HashBytes(long).String(), data: long},
		{name: "blocks/" + artifact.HashBytes(short).String(), data: short},
		{name: "segments/" + artifact.HashBytes(segment).String(), data: segment},
		{name: "logs/home/000000000001.aol", data: []byte("begin")},
		{name: "logs/home/000000000002.aol", data: bytes.Repeat([]byte("part"), 300)},
		{name: "snapshots/home/0000000001.note", data: []byte("note")},
		{name: "blocks/" + artifact.HashBytes(short).String(), data: short}, // once more
	}
}

// TestPowerCut: at every moment and with every pattern, what was acknowledged is whole, and everything else is whole or
// absent; recovery changes nothing that was there, and survives a second power cut.
func TestPowerCut(t *testing.T) {
	for name, opts := range map[string]memfs.Options{"rename": {}, "link": {NoRename: true}} {
		t.Run(name, func(t *testing.T) {
			fsys := newStoreWith(t, opts)
			b, err := local.Open(fsys, "memory")
			if err != nil {
				t.Fatal(err)
			}
			objects := workload()
			for _, o := range objects {
				if err := b.Create(t.Context(), o.name, o.data); err != nil {
					t.Fatal(err)
				}
				o.acked = fsys.Ops()
			}
			states := checkCrashes(t, fsys, objects)
			t.Logf("%d states", states)
		})
	}
}

// TestPowerCutWithManyWriters: the same where several write at once, and the same names.
func TestPowerCutWithManyWriters(t *testing.T) {
	fsys := newStore(t)
	b, err := local.Open(fsys, "memory")
	if err != nil {
		t.Fatal(err)
	}
	var objects []*object
	for range 3 {
		objects = append(objects, workload()...)
	}
	var wg sync.WaitGroup
	for _, o := range objects {
		wg.Go(func() {
			if err := b.Create(t.Context(), o.name, o.data); err != nil {
				t.Error(err)
			}
			o.acked = fsys.Ops()
		})
	}
	wg.Wait()
	t.Logf("%d states", checkCrashes(t, fsys, objects))
}

func checkCrashes(t *testing.T, fsys *memfs.FS, objects []*object) (states int) {
	t.Helper()
	firsts := 0
	for crash, after := range fsys.Crashes(0, 1, 8**deep) {
		states++
		firsts++
		after.Sealed()
		checkState(t, crash, after, objects)
		recover1(t, crash, after, objects)
		if firsts%max(96 / *deep, 1) == 0 { // a second power cut during recovery
			for second, again := range after.Crashes(after.Ops()/2, 2, 2) {
				states++
				checkState(t, memfs.Crash{Op: crash.Op, Pattern: second.Pattern}, again, objects)
			}
		}
		if t.Failed() {
			t.Fatalf("%v\n%q", crash, fsys.Trace())
		}
	}
	return states
}

// checkState looks at what a power cut left.
func checkState(t *testing.T, crash memfs.Crash, after *memfs.FS, objects []*object) {
	t.Helper()
	b, err := local.Open(after, "memory", local.ReadOnly())
	if err != nil {
		t.Fatalf("%v: %v", crash, err)
	}
	for _, o := range objects {
		got, err := read(b, t, o.name)
		absent := errors.Is(err, artifact.ErrNotFound)
		switch {
		case err != nil && !absent:
			t.Errorf("%v: %s: %v", crash, o.name, err)
		case absent && o.acked != 0 && o.acked <= crash.Op:
			t.Errorf("%v: %s was acknowledged after operation %d and is lost", crash, o.name, o.acked)
		case !absent && !bytes.Equal(got, o.data):
			t.Errorf("%v: %s is there with %d wrong bytes", crash, o.name, len(got))
		}
		if file, err := after.Stat(fileOf(o.name)); err == nil && file.Mode() != 0o444 {
			t.Errorf("%v: %s is there with mode %v", crash, o.name, file.Mode())
		}
	}
}

// fileOf is where in the folder an object lies.
func fileOf(name string) string {
	if hash, ok := strings.CutPrefix(name, "blocks/"); ok {
		return "blocks/" + hash[:2] + "/" + hash
	}
	return name
}

// recover1 does the work again, as a later boot would.
func recover1(t *testing.T, crash memfs.Crash, after *memfs.FS, objects []*object) {
	t.Helper()
	b, err := local.Open(after, "memory")
	if err != nil {
		t.Fatalf("%v: %v", crash, err)
	}
	for _, o := range objects {
		if err := b.Create(t.Context(), o.name, o.data); err != nil {
			t.Errorf("%v: again: %v", crash, err)
		}
	}
	if v := after.Violations(); len(v) > 0 {
		t.Errorf("%v: recovery changed what was there: %q", crash, v)
	}
}

// TestPowerCutDuringInit: a beginning is no store but becomes one, and a store that was acknowledged is one for ever.
func TestPowerCutDuringInit(t *testing.T) {
	fsys := memfs.New()
	if _, err := local.Create(fsys, "memory"); err != nil {
		t.Fatal(err)
	}
	acked, states := fsys.Ops(), 0
	for op := 0; op <= acked; op++ {
		if op > 30 && op < acked-30 && op%32 != 0 { // the 256 folders are all alike
			continue
		}
		for p := range fsys.States(op, 3, 4) {
			states++
			after := fsys.CrashAt(op, p)
			after.Sealed()
			_, err := local.Open(after, "memory", local.ReadOnly())
			if err != nil && (op == acked || !errors.Is(err, local.ErrNoStore)) {
				t.Fatalf("power cut after operation %d, %v: %v", op, p, err)
			}
			if fans, _ := after.ReadDir("blocks"); err == nil && len(fans) != 256 {
				t.Fatalf("power cut after operation %d, %v: a store with %d folders of blocks", op, p, len(fans))
			}
			initAgain(t, op, p, after, err == nil)
		}
	}
	t.Logf("%d states", states)
}

// initAgain finishes an interrupted beginning, with a second power cut right after it.
func initAgain(t *testing.T, op int, p memfs.Pattern, after *memfs.FS, complete bool) {
	t.Helper()
	var b store.Backend
	var err error
	if complete {
		b, err = local.Open(after, "memory")
	} else {
		b, err = local.Create(after, "memory")
	}
	if err == nil {
		err = b.Create(t.Context(), "logs/home/1", []byte("part"))
	}
	if err != nil {
		t.Fatalf("power cut after operation %d, %v: again: %v", op, p, err)
	}
	if v := after.Violations(); len(v) > 0 {
		t.Fatalf("power cut after operation %d, %v: %q", op, p, v)
	}
	holds(t, after.CrashAt(after.Ops(), memfs.Pattern{}), "logs/home/1", []byte("part"))
}

func TestPowerCutAfterTheRootIsMade(t *testing.T) {
	fsys := memfs.New()
	for range 2 { // made, and found
		if err := local.MakeRoot(fsys, "store"); err != nil {
			t.Fatal(err)
		}
		if _, err := fsys.CrashAt(fsys.Ops(), memfs.Pattern{}).Stat("store"); err != nil {
			t.Error(err)
		}
	}
}

// TestKilledThenPowerCut: a writer that was killed leaves names that are seen but not durable. The next one must not
// build on them.
func TestKilledThenPowerCut(t *testing.T) {
	data := []byte("a block")
	objects := []*object{{name: "blocks/" + artifact.HashBytes(data).String(), data: data}, {name: "logs/home/1", data: data}}
	for n, used := 1, true; used; n++ {
		fsys := memfs.New()
		killed := faultfs.New(fsys, nil)
		killed.Inject(faultfs.Fault{N: n, Sticky: true})
		if b, err := local.Create(killed, "memory"); err == nil {
			for _, o := range objects {
				b.Create(t.Context(), o.name, o.data)
			}
		}
		used = len(killed.Unused()) == 0
		b, err := local.Open(fsys, "memory")
		if errors.Is(err, local.ErrNoStore) {
			b, err = local.Create(fsys, "memory")
		}
		if err != nil {
			t.Fatalf("killed at operation %d: %v", n, err)
		}
		for _, o := range objects {
			if err := b.Create(t.Context(), o.name, o.data); err != nil {
				t.Fatalf("killed at operation %d: %v", n, err)
			}
			holds(t, fsys.CrashAt(fsys.Ops(), memfs.Pattern{}), o.name, o.data)
		}
	}
}
