package session

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"aslrescue/cmd/internal/report"
)

// A snapshot that another process seals while a store is validated is no damage.
func TestASnapshotSealedMeanwhileIsNoFinding(t *testing.T) {
	dir := t.TempDir()
	file, at := filepath.Join(dir, "file"), filepath.Join(dir, "store")
	if err := os.WriteFile(file, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	take := func() {
		t.Helper()
		if out, errs, code := asl(t, Intake, "--batch", "--source", file, "--store", at); code != 0 {
			t.Fatalf("exit %d: %s%s", code, out, errs)
		}
	}
	take()
	s, err := ReadStore(t.Context(), at, "", "test")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Backend().Close()
	take()
	v := &validator{c: &call{dir: at, store: s, pr: report.New(report.Options{Out: io.Discard, Err: io.Discard})}, ctx: t.Context(), hurt: map[string]bool{}, counts: map[string]int64{}}
	if err := v.others(); err != nil || v.bad > 0 || v.remarks > 0 {
		t.Errorf("%d findings, %d remarks, %v", v.bad, v.remarks, err)
	}
}
