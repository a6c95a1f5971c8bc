package zfs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeZFS puts a zfs in front of PATH that writes down its arguments and answers as the real one does.
func fakeZFS(t *testing.T) (calls func() []string) {
	dir := t.TempDir()
	log := filepath.Join(dir, "calls")
	script := `#!/bin/sh
echo "$*" >>'` + log + `'
case "$*" in
*keystatus*tank/secret) printf 'tank/secret\tkeystatus\tunavailable\t-\n' ;;
*keystatus*) printf 'x\tkeystatus\t-\t-\n' ;;
list*tank/gone) echo "cannot open 'tank/gone': dataset does not exist" >&2; exit 1 ;;
list*tank/vol) printf 'tank/vol\t-\t56832\t16461824\t-\tlz4\tvolume\t1048576\t-\t12288\t12288\t12288\t12288\n' ;;
list*) printf '%s\t-\t24576\t125829120\t/x/tank\ton\tfilesystem\t-\t0\t24576\t24576\t12288\t24576\n' "$5" ;;
create*full) echo "cannot create 'tank/full': out of space" >&2; exit 1 ;;
esac
`
	if err := os.WriteFile(filepath.Join(dir, "zfs"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":/bin:/usr/bin")
	return func() []string {
		b, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSpace(string(b)), "\n")
	}
}

func TestDatasetsByGoZFS(t *testing.T) {
	calls := fakeZFS(t)
	d, err := GoZFS{}.Get("tank/asl")
	if err != nil || d.Name != "tank/asl" || d.Avail != 125829120 || d.Used != 24576 || !d.Compresses() || d.Locked || d.Type != "filesystem" {
		t.Errorf("got %+v, %v", d, err)
	}
	if d, err = (GoZFS{}).Get("tank/secret"); err != nil || !d.Locked {
		t.Errorf("got %+v, %v", d, err)
	}
	if d, err = (GoZFS{}).Get("tank/vol"); err != nil || d.Type != "volume" {
		t.Errorf("got %+v, %v", d, err)
	}
	if _, err = (GoZFS{}).Get("tank/gone"); !errors.Is(err, ErrDataset) {
		t.Errorf("got %v", err)
	}
	if err := (GoZFS{}).Create("tank/new", map[string]string{noAuto: "noauto"}); err != nil {
		t.Error(err)
	}
	if err := (GoZFS{}).Create("tank/full", nil); !errors.Is(err, ErrDataset) {
		t.Errorf("got %v", err)
	}
	if err := (GoZFS{}).Snapshot("tank/asl", "asl-default-0000000001"); err != nil {
		t.Error(err)
	}
	all := strings.Join(calls(), "\n")
	for _, want := range []string{"create -o canmount=noauto tank/new", "snapshot tank/asl@asl-default-0000000001"} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := (GoZFS{}).Get("tank"); !errors.Is(err, ErrNoZFS) {
		t.Errorf("without zfs: %v", err)
	}
}
