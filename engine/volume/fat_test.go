package volume

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// mkfat makes a FAT with files in it.
func mkfat(t testing.TB, bits int, megabytes int64) (img []byte, file string, names []string) {
	t.Helper()
	dir := t.TempDir()
	file = filepath.Join(dir, "img")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, megabytes<<20); err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.vfat", "-F", fmt.Sprint(bits), "-s", "1", "-n", "CAMERA", "-i", "1234ABCD", file)
	run(t, "mmd", "-i", file, "::DCIM", "::DCIM/a longer name")
	for i := range 9 {
		src := filepath.Join(dir, "src")
		if err := os.WriteFile(src, bytes.Repeat([]byte{byte(i + 1)}, 700+i*41_000), 0o600); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("/DCIM/a longer name/photograph %d.jpeg", i)
		if i%3 == 0 {
			name = fmt.Sprintf("/P%d.JPG", i)
		}
		run(t, "mcopy", "-i", file, src, "::"+name)
		names = append(names, name)
	}
	img, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return img, file, names
}

// TestFAT holds what is free, and which file a cluster belongs to, against mtools and dosfstools.
func TestFAT(t *testing.T) {
	for bits, size := range map[int]int64{12: 2, 16: 12, 32: 40} {
		img, file, names := mkfat(t, bits, size)
		opened, err := Open(bytes.NewReader(img), int64(len(img)))
		if err != nil {
			t.Fatal(bits, err)
		}
		fs := opened.(*fat)
		if i := fs.Info(); i.Kind != fmt.Sprintf("fat%d", bits) || i.Label != "CAMERA" || i.UUID != "1234-ABCD" || i.Dirty != "" {
			t.Errorf("%+v", i)
		}
		used, err := fs.Used(t.Context())
		if err != nil {
			t.Fatal(bits, err)
		}
		m := regexp.MustCompile(`(\d+)/(\d+) clusters`).FindStringSubmatch(run(t, "fsck.fat", "-n", file))
		if m == nil {
			t.Fatal("fsck.fat says nothing of clusters")
		}
		taken, _ := strconv.ParseInt(m[1], 10, 64)
		all, _ := strconv.ParseInt(m[2], 10, 64)
		if free := int64(len(img)) - sum(used); free != (all-taken)*fs.cluster || free == 0 {
			t.Errorf("FAT%d: %d bytes are free, fsck.fat says %d of %d clusters of %d are taken", bits, free, taken, all, fs.cluster)
		}
		for _, name := range names {
			for _, m := range regexp.MustCompile(`<(\d+)`).FindAllStringSubmatch(run(t, "mshowfat", "-i", file, "::"+name), -1) {
				c, _ := strconv.ParseInt(m[1], 10, 64)
				f := touched(t, img, []Span{{fs.at(uint32(c)), 512}})
				if len(f.Touches) != 1 || f.Touches[0].Path != name || f.Touches[0].Bytes != 512 || f.Free != 0 {
					t.Errorf("FAT%d, cluster %d of %s: %+v", bits, c, name, f)
				}
			}
		}
		some := bytes.Repeat([]byte{0xa5}, len(img))
		for _, s := range used {
			copy(some[s.Off:s.End()], img[s.Off:s.End()])
		}
		if err := os.WriteFile(file, some, 0o600); err != nil {
			t.Fatal(err)
		}
		for i, name := range names {
			if run(t, "mtype", "-i", file, "::"+name) != strings.Repeat(string([]byte{byte(i + 1)}), 700+i*41_000) {
				t.Errorf("FAT%d: %s is another one", bits, name)
			}
		}
		for what, hurt := range map[string]func(b []byte){
			"copies": func(b []byte) { b[fs.fatAt+fs.fatLen+20] ^= 1 },
			"mounted": func(b []byte) {
				if bits == 32 {
					b[65] |= 1
				} else {
					b[37] |= 1
				}
			},
		} {
			b := bytes.Clone(img)
			hurt(b)
			fs, err := Open(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := fs.Used(t.Context()); !errors.Is(err, ErrUntrusted) {
				t.Errorf("FAT%d, %s: %v", bits, what, err)
			}
		}
	}
}

func FuzzFAT(f *testing.F) {
	img, _, _ := mkfat(f, 12, 2)
	f.Add(img[:512], img[512:4096], uint16(512))
	f.Fuzz(func(t *testing.T, boot, part []byte, at uint16) {
		b := bytes.Clone(img)
		copy(b, boot[:min(len(boot), 510)])
		copy(b[at:], part)
		b[510], b[511], b[0] = 0x55, 0xaa, 0xeb
		copy(b[54:], "FAT")
		d := Look(bytes.NewReader(b), int64(len(b)), 512)
		if used, _, err := d.Used(t.Context(), int64(len(b))); err != nil || sum(used) > int64(len(b)) {
			t.Fatalf("%d bytes, %v", sum(used), err)
		}
		if _, err := d.TouchedBy(t.Context(), []Span{{0, 512}, {40_000, 100_000}}); err != nil {
			t.Fatal(err)
		}
	})
}
