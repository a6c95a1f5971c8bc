package faultfs_test

import (
	"errors"
	"io"
	"syscall"
	"testing"

	"aslrescue/engine/vfs/faultfs"
	"aslrescue/engine/vfs/memfs"
)

func TestWhichOperationFails(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault faultfs.Fault
		want  string // of four mkdirs: . worked, x failed
		used  bool
	}{
		{"first of any kind", faultfs.Fault{}, "x...", true},
		{"third of a kind", faultfs.Fault{Op: faultfs.Mkdir, N: 3}, "..x.", true},
		{"second and on", faultfs.Fault{N: 2, Sticky: true}, ".xxx", true},
		{"by name", faultfs.Fault{Name: "c"}, "..x.", true},
		{"by pattern", faultfs.Fault{Name: "[bd]", N: 2}, "...x", true},
		{"another kind", faultfs.Fault{Op: faultfs.Rename}, "....", false},
		{"too late", faultfs.Fault{N: 5}, "....", false},
	} {
		f := faultfs.New(memfs.New(), nil)
		f.Inject(tt.fault)
		got := ""
		for _, name := range []string{"a", "b", "c", "d"} {
			err := f.Mkdir(name, 0o755)
			switch {
			case err == nil:
				got += "."
			case errors.Is(err, syscall.EIO):
				got += "x"
			}
		}
		if used := len(f.Unused()) == 0; got != tt.want || used != tt.used {
			t.Errorf("%s: %s used %v, want %s used %v", tt.name, got, used, tt.want, tt.used)
		}
	}
}

func TestAfter(t *testing.T) {
	m := memfs.New()
	f := faultfs.New(m, nil)
	f.Inject(faultfs.Fault{Err: syscall.ESTALE, After: true})
	if err := f.Mkdir("a", 0o755); !errors.Is(err, syscall.ESTALE) {
		t.Errorf("got %v", err)
	}
	if _, err := m.Stat("a"); err != nil {
		t.Error("the operation was not carried out")
	}
}

func TestShortWrite(t *testing.T) {
	f := faultfs.New(memfs.New(), nil)
	w, err := f.CreateExcl("a", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f.Inject(faultfs.Fault{Op: faultfs.Write, Err: syscall.ENOSPC, Short: 3})
	if n, err := io.WriteString(w, "abcdef"); n != 3 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("wrote %d, %v", n, err)
	}
	if fi, err := f.Stat("a"); err != nil || fi.Size() != 3 {
		t.Errorf("stat %v, %v", fi, err)
	}
}

// TestFailedSync: after it the file's syncs "work", and what was written is lost.
func TestFailedSync(t *testing.T) {
	m := memfs.New()
	f := faultfs.New(m, m.FailSync)
	w, err := f.CreateExcl("a", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "data")
	f.Inject(faultfs.Fault{Op: faultfs.Sync})
	if err := w.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("got %v", err)
	}
	if err := errors.Join(w.Sync(), w.Close(), f.SyncDir(".")); err != nil {
		t.Fatal(err)
	}
	fi, err := m.CrashAt(m.Ops(), memfs.Pattern{}).Stat("a")
	if err != nil || fi.Size() != 0 {
		t.Errorf("after a power cut: %v, %v", fi, err)
	}
}

func TestTrace(t *testing.T) {
	f := faultfs.New(memfs.New(), nil)
	f.Inject(faultfs.Fault{Op: faultfs.SyncDir, Err: syscall.ENOSPC})
	w, _ := f.CreateExcl(".tmp-8f2e", 0o600)
	io.WriteString(w, "data")
	w.Sync()
	w.Close()
	f.RenameNoReplace(".tmp-8f2e", "final")
	f.Link("final", ".tmp-77")
	f.SyncDir(".")
	f.Remove("absent")
	want := `create .tmp-1 0600
write .tmp-1 4
sync .tmp-1
close .tmp-1
rename .tmp-1 final
link final .tmp-2
syncdir . = no space left on device
remove absent = no such file or directory
`
	if got := f.Trace(); got != want {
		t.Errorf("got\n%s", got)
	}
	if got := f.Trace(); got != "" {
		t.Errorf("a second trace: %q", got)
	}
}
