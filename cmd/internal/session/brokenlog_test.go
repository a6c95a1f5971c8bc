package session

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestABrokenLogIsNoEmptyStore(t *testing.T) {
	place, _ := shelf(t)
	parts, err := filepath.Glob(filepath.Join(place, "logs", "*", "*"))
	if err != nil || len(parts) < 2 {
		t.Fatalf("%q, %v", parts, err)
	}
	b, err := os.ReadFile(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.Chmod(parts[1], 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, parts[1], b)
	out, errs, code := asl(t, Admin, "--store", place, "snapshots")
	if code != 8 || strings.Contains(out, "no snapshot yet") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	refused(t, 8, "", Admin, "--store", place, "show", "1")
	refused(t, 8, "", Admin, "--store", place, "verify")
}

func TestHealedDamageIsSaidToBeHealed(t *testing.T) {
	file, place := filepath.Join(t.TempDir(), "disk.img"), filepath.Join(t.TempDir(), "store")
	write(t, file, mix(300_000, 5))
	want(t, 0, Intake, "--batch", "--source", file, "--store", place)
	for _, b := range objects(t, place, "blocks") {
		flip(t, b, 5000)
	}
	if out := want(t, 8, Admin, "--store", place, "verify", "--read-data"); strings.Contains(out, "whole") {
		t.Errorf("said to be whole before it is:\n%s", out)
	}
	want(t, 0, Intake, "--batch", "--source", file, "--store", place)
	out, errs, code := asl(t, Admin, "--store", place, "verify", "--read-data")
	if !strings.Contains(out, "all 2 snapshots are whole") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
}

// TestRemovedEndOfTheLog: what is gone from the end is told as far as it can be.
func TestRemovedEndOfTheLog(t *testing.T) {
	file, place := filepath.Join(t.TempDir(), "disk.img"), filepath.Join(t.TempDir(), "store")
	for i := range uint64(3) {
		write(t, file, mix(100_000, 5+i))
		want(t, 0, Intake, "--batch", "--source", file, "--store", place)
	}
	parts, err := filepath.Glob(filepath.Join(place, "logs", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts[4:] { // in the middle of the first snapshot's or behind it
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
	refused(t, 8, "", Admin, "--store", place, "verify")
	if out, errs, code := asl(t, Debug, "--store", place, "validate"); code != 8 || strings.Count(out+errs, "newest parts were removed or lost") < 2 {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
}
