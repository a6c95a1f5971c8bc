package session

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// refused runs a program that must end with a code and say something on standard error.
func refused(t *testing.T, code int, says string, program func(context.Context, []string, IO) int, args ...string) {
	t.Helper()
	out, errs, got := asl(t, program, args...)
	if got != code || !strings.Contains(errs, says) {
		t.Errorf("%q: exit %d, want %d and %q\n%s%s", args, got, code, says, out, errs)
	}
}

func TestMistakesHaveTheirCodesAndSayWhatToDo(t *testing.T) {
	dir := t.TempDir()
	file, place := filepath.Join(dir, "disk.img"), filepath.Join(dir, "store")
	write(t, file, mix(10_000, 1))
	refused(t, 10, "-> Give an empty folder", Intake, "--batch", "--source", file, "--store", file)
	refused(t, 10, "-> Give an empty folder", Admin, "--store", file, "snapshots")
	refused(t, 2, "--domain", Intake, "--batch", "--source", file, "--store", place, "--domain", "a/b")
	refused(t, 2, "--domain", Admin, "--store", place, "--domain", "a/b", "snapshots")
	refused(t, 2, "--source is empty", Intake, "--batch", "--source", "", "--store", place)
	refused(t, 1, "-> Check the path", Intake, "--batch", "--source", filepath.Join(dir, "none"), "--store", place)

	want(t, 0, Intake, "--batch", "--source", file, "--store", place, "--domain", "one")
	refused(t, 2, "-> --domain one", Intake, "--batch", "--source", file, "--store", place, "--domain", "two")
	refused(t, 2, "-> --domain one", Intake, "--dry-run", "--source", file, "--store", place, "--domain", "two")
	refused(t, 10, "-> --domain one", Admin, "--store", place, "--domain", "two", "snapshots")
	refused(t, 10, "-> --domain one", Debug, "--store", place, "--domain", "two", "log")
	want(t, 0, Intake, "--batch", "--source", file, "--store", place)
}

func TestPlansAreReadWithCare(t *testing.T) {
	dir := t.TempDir()
	file, place := filepath.Join(dir, "disk.img"), filepath.Join(dir, "plan.toml")
	write(t, file, mix(10_000, 1))
	t.Chdir(dir)
	good := want(t, 0, Intake, "--dry-run", "--source", file, "--store", "store")
	if !strings.Contains(good, filepath.Join(dir, "store")) {
		t.Errorf("the store is not absolute:\n%s", good)
	}
	for _, c := range []struct{ old, new, says string }{
		{"compression = 'auto'", "compression = 'lots'", "compression"},
		{"verify = 'new'", "verify = 'some'", `verify is "some"`},
		{"verify = 'new'", "verify = 'new'\ncolour = 'red'", "unknown key colour"},
		{"verify = 'new'", "verify = 7", "plan.toml:"},
	} {
		write(t, place, []byte(strings.Replace(good, c.old, c.new, 1)))
		refused(t, 2, c.says, Intake, "--batch", "--plan", place)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, 2, "regular file", Intake, "--batch", "--plan", fifo)
	refused(t, 2, "regular file", Intake, "--batch", "--plan", "/dev/zero")
	write(t, place, []byte(good))
	write(t, file, mix(10_001, 1))
	refused(t, 5, ", 10000 bytes, and is image", Intake, "--batch", "--plan", place)
	if _, err := os.Stat("store"); err == nil {
		t.Error("a store was made")
	}
}
