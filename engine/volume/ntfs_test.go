package volume

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// mkntfs makes an NTFS with files in it, and gives it as bytes and as a file.
func mkntfs(t testing.TB) (img []byte, file string, names []string) {
	t.Helper()
	dir := t.TempDir()
	file = filepath.Join(dir, "img")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 24<<20); err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.ntfs", "-F", "-q", "-f", "-L", "win", file)
	for i := range 9 {
		src := filepath.Join(dir, "src")
		if err := os.WriteFile(src, bytes.Repeat([]byte{byte(i + 1)}, 3000+i*91_000), 0o600); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("a letter %d.bin", i)
		run(t, "ntfscp", file, src, name)
		names = append(names, name)
	}
	img, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return img, file, names
}

// TestNTFS holds what is free, and which file a cluster belongs to, against the tools of ntfs-3g.
func TestNTFS(t *testing.T) {
	img, file, names := mkntfs(t)
	fs, err := Open(bytes.NewReader(img), int64(len(img)))
	if err != nil {
		t.Fatal(err)
	}
	if i := fs.Info(); i.Kind != "ntfs" || i.Label != "win" || i.Dirty != "" || i.Block != 4096 {
		t.Errorf("%+v", i)
	}
	used, err := fs.Used(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if free, says := int64(len(img))-sum(used), 4096*number(t, run(t, "ntfsinfo", "-m", file), `Free Clusters: (\d+)`); free != says {
		t.Errorf("%d bytes are free, ntfsinfo says %d", free, says)
	}
	for _, name := range names {
		for _, m := range regexp.MustCompile(`(?m)^ +(\d+) +(\d+) +(\d+)$`).FindAllStringSubmatch(run(t, "ntfscluster", "-F", name, file), -1) {
			vcn, _ := strconv.ParseInt(m[1], 10, 64)
			lcn, _ := strconv.ParseInt(m[2], 10, 64)
			f := touched(t, img, []Span{{lcn*4096 + 512, 1024}})
			if len(f.Touches) != 1 || f.Touches[0].Path != "/"+name || f.Touches[0].What != "content" || f.Touches[0].Off != vcn*4096+512 || f.Touches[0].Bytes != 1024 {
				t.Errorf("cluster %d of %s: %+v", lcn, name, f)
			}
		}
	}
	// A copy without what is free has all files.
	some := bytes.Repeat([]byte{0xa5}, len(img))
	for _, s := range used {
		copy(some[s.Off:s.End()], img[s.Off:s.End()])
	}
	if err := os.WriteFile(file, some, 0o600); err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		if got := run(t, "ntfscat", file, name); got != string(bytes.Repeat([]byte{byte(i + 1)}, 3000+i*91_000)) {
			t.Errorf("%s is another one", name)
		}
	}
}

// TestNTFSIsNotTrusted: a volume that Windows did not let go of, a bitmap that calls free what a file owns, and a table of files that cannot be read leave nothing out.
func TestNTFSIsNotTrusted(t *testing.T) {
	img, _, _ := mkntfs(t)
	fs, err := Open(bytes.NewReader(img), int64(len(img)))
	if err != nil {
		t.Fatal(err)
	}
	n := fs.(*ntfs)
	runsOf := func(rec int64, kind uint32) int64 {
		b, err := n.read(rec)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range n.attrs(b) {
			if a.kind == kind && len(a.runs) > 0 {
				return a.runs[0].lcn * n.cluster
			}
		}
		t.Fatalf("record %d has no runs", rec)
		return 0
	}
	mft := n.mft[0].lcn * n.cluster
	bm := runsOf(6, ntfsData)
	volume := mft + 3*n.record
	for what, hurt := range map[string]func(b []byte){
		"mounted": func(b []byte) {
			i := bytes.Index(b[volume:volume+n.record], []byte{3, 1, 0, 0}) // version 3.1, flags
			b[volume+int64(i)+2] |= 1
		},
		"bitmap":   func(b []byte) { clear(b[bm : bm+(n.clusters+7)/8]) },
		"log":      func(b []byte) { copy(b[runsOf(2, ntfsData):], "GARBAGE") },
		"a record": func(b []byte) { b[mft+64*n.record+510] ^= 1 },
	} {
		b := bytes.Clone(img)
		hurt(b)
		fs, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if used, err := fs.Used(t.Context()); !errors.Is(err, ErrUntrusted) {
			t.Errorf("%s: %d spans, %v", what, len(used), err)
		}
	}
	// The first records have a copy, and the boot sector has one.
	gaps := []Span{{0, 512}, {mft, 1024}}
	if f := touched(t, img, gaps); len(f.Problems) == 0 {
		t.Errorf("without its first record nothing is said: %+v", f)
	}
}

func FuzzNTFS(f *testing.F) {
	img, _, _ := mkntfs(f)
	img = img[:1<<20]
	fs, err := Open(bytes.NewReader(img), 24<<20)
	if err != nil {
		f.Fatal(err)
	}
	mft := fs.(*ntfs).mft[0].lcn * 4096
	f.Add(img[:512], img[mft:mft+2048], uint16(0))
	f.Fuzz(func(t *testing.T, boot, records []byte, at uint16) {
		b := bytes.Clone(img)
		copy(b, boot[:min(len(boot), 512)])
		copy(b[3:], "NTFS    ")
		copy(b[min(mft+int64(at), int64(len(b))):], records[:min(len(records), 64<<10)])
		d := Look(bytes.NewReader(b), 24<<20, 512)
		if used, _, err := d.Used(t.Context(), 24<<20); err != nil || sum(used) > 24<<20 {
			t.Fatalf("%d bytes, %v", sum(used), err)
		}
		if _, err := d.TouchedBy(t.Context(), []Span{{0, 512}, {40_000, 100_000}}); err != nil {
			t.Fatal(err)
		}
	})
}
