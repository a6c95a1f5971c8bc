package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// run runs a tool of the system.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "PATH=/usr/sbin:/sbin:"+os.Getenv("PATH"), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// sampleTree has short and long files, a deep path, many small files, a hole, and links.
func sampleTree(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, n int) {
		p := filepath.Join(dir, name)
		b := make([]byte, n)
		rand.NewChaCha8([32]byte{byte(len(name)), byte(n)}).Read(b)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, b, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 150 {
		write(fmt.Sprintf("many/file number %03d with a long name", i), 100+37*i)
	}
	write("one/two/three/four/letter.txt", 20_000)
	write("large.bin", 3_500_000)
	write("ünïcode", 5000)
	if err := os.Link(filepath.Join(dir, "ünïcode"), filepath.Join(dir, "one/same")); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "holes"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(60) {
		if _, err := f.WriteAt([]byte("here"), i*40_000); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func mkext(t testing.TB, tree string, args ...string) []byte {
	t.Helper()
	img := filepath.Join(t.TempDir(), "img")
	run(t, "mkfs.ext4", append(append([]string{"-q", "-F", "-L", "sample", "-d", tree}, args...), img, "24m")...)
	b, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func extVariants() map[string][]string {
	return map[string][]string{
		"4k":          {"-b", "4096"},
		"1k":          {"-b", "1024"},
		"ext2":        {"-b", "1024", "-O", "^has_journal,^extents,^64bit,^metadata_csum,^flex_bg,^huge_file"},
		"no checksum": {"-b", "1024", "-O", "^metadata_csum"},
		"bigalloc":    {"-b", "1024", "-O", "bigalloc", "-C", "8192"},
		"meta_bg":     {"-b", "1024", "-O", "meta_bg,^resize_inode"},
	}
}

// TestExt4Used: what is called free is what e2fsprogs calls free, and a copy without it is a whole file system.
func TestExt4Used(t *testing.T) {
	tree := sampleTree(t)
	for name, args := range extVariants() {
		t.Run(name, func(t *testing.T) {
			img := mkext(t, tree, args...)
			fs, err := Open(bytes.NewReader(img), int64(len(img)))
			if err != nil {
				t.Fatal(err)
			}
			used, err := fs.Used(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			free := int64(len(img)) - sum(used)
			file := filepath.Join(t.TempDir(), "img")
			if err := os.WriteFile(file, img, 0o600); err != nil {
				t.Fatal(err)
			}
			out := run(t, "dumpe2fs", "-h", file)
			blocks := number(t, out, `(?m)^Free blocks: +(\d+)`)
			if free != blocks*fs.Info().Block {
				t.Errorf("%d bytes are free, e2fsprogs says %d", free, blocks*fs.Info().Block)
			}
			if i := fs.Info(); i.Label != "sample" || !strings.Contains(out, i.UUID) || i.Dirty != "" {
				t.Errorf("%+v", i)
			}
			some := make([]byte, len(img))
			for i := range some {
				some[i] = 0xa5
			}
			for _, s := range used {
				copy(some[s.Off:s.End()], img[s.Off:s.End()])
			}
			if err := os.WriteFile(file, some, 0o600); err != nil {
				t.Fatal(err)
			}
			run(t, "e2fsck", "-fn", file)
			back := t.TempDir()
			run(t, "debugfs", "-R", "rdump / "+back, file)
			if got, want := listing(t, back), listing(t, tree); got != want {
				t.Errorf("the files are not the same:\n%s", got)
			}
		})
	}
}

func number(t testing.TB, text, pattern string) int64 {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no %s in %s", pattern, text)
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// listing has a line for each file: its path and what its content hashes to.
func listing(t testing.TB, dir string) string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(p)
		rel, _ := filepath.Rel(dir, p)
		h := uint32(0)
		for _, c := range b {
			h = h*16777619 ^ uint32(c)
		}
		out = append(out, fmt.Sprintf("%s %d %x", rel, len(b), h))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// holey is a run of bytes that cannot be read everywhere.
type holey struct {
	b    []byte
	gaps []Span
}

func (h holey) ReadAt(p []byte, off int64) (int, error) {
	n := min(int64(len(p)), int64(len(h.b))-off)
	for _, g := range h.gaps {
		if g.End() > off && g.Off < off+n {
			n = max(0, g.Off-off)
			return copy(p[:n], h.b[off:]), errors.New("unreadable")
		}
	}
	if n <= 0 {
		return 0, io.EOF
	}
	return copy(p[:n], h.b[off:]), nil
}

// TestExt4Touched asks debugfs which inode each of many blocks belongs to and what that is called, and holds it against what is found out of a disk on which
// those blocks cannot be read.
func TestExt4Touched(t *testing.T) {
	tree := sampleTree(t)
	for name, args := range extVariants() {
		t.Run(name, func(t *testing.T) {
			img := mkext(t, tree, args...)
			file := filepath.Join(t.TempDir(), "img")
			if err := os.WriteFile(file, img, 0o600); err != nil {
				t.Fatal(err)
			}
			fs, err := Open(bytes.NewReader(img), int64(len(img)))
			if err != nil {
				t.Fatal(err)
			}
			block := fs.Info().Block
			r := rand.New(rand.NewPCG(1, 7))
			var ask []string
			var gaps []Span
			for b := int64(500); b*block < int64(len(img)); b += 1 + r.Int64N(int64(len(img))/block/150) {
				ask = append(ask, fmt.Sprint(b))
				gaps = append(gaps, Span{b * block, block})
			}
			want := oracle(t, file, ask)
			got, err := fs.Touched(t.Context(), gaps)
			if err != nil {
				t.Fatal(err)
			}
			var have []string
			for _, x := range got.Touches {
				if x.What == "content" {
					have = append(have, x.Path)
				}
			}
			slices.Sort(have)
			have = slices.Compact(have)
			if !slices.Equal(have, want) || len(want) < 2 {
				t.Errorf("touched\n%q\ndebugfs says\n%q", have, want)
			}
		})
	}
}

// oracle gives the paths of the files that own blocks, by debugfs.
func oracle(t testing.TB, file string, blocks []string) []string {
	t.Helper()
	inodes := map[string]bool{}
	for line := range strings.Lines(run(t, "debugfs", "-R", "icheck "+strings.Join(blocks, " "), file)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] != "Block" && len(f[1]) > 0 && f[1][0] >= '0' && f[1][0] <= '9' {
			if n, _ := strconv.Atoi(f[1]); n > 11 {
				inodes[f[1]] = true
			}
		}
	}
	args := "ncheck"
	for i := range inodes {
		args += " " + i
	}
	var paths []string
	for line := range strings.Lines(run(t, "debugfs", "-R", args, file)) {
		ino, p, ok := strings.Cut(strings.TrimSpace(line), "\t")
		if ok && inodes[ino] && strings.Contains(run(t, "debugfs", "-R", "stat <"+ino+">", file), "Type: regular") {
			paths = append(paths, strings.ReplaceAll(p, "//", "/"))
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// TestExt4WithoutWhatIsGone: inodes, directories and indexes that cannot be read hide no more than they must, and never end the search.
func TestExt4WithoutWhatIsGone(t *testing.T) {
	img := mkext(t, sampleTree(t), "-b", "1024", "-O", "^has_journal,^extents,^metadata_csum,^64bit")
	r := rand.New(rand.NewPCG(3, 3))
	e := mustOpen(t, img)
	e.groupsRead()
	table := e.descs[0].inodeTable * e.block
	ino := Span{table + 11*e.inodeSize, 4 * e.inodeSize} // files made first
	f := touched(t, img, []Span{ino})
	named := 0
	for _, x := range f.Touches {
		if x.What == "inode" && x.Path != "" {
			named++
		}
	}
	if named == 0 {
		t.Errorf("files whose inodes are gone have no names: %+v", f.Touches)
	}
	for range 60 {
		var gaps []Span
		for off := r.Int64N(200_000); off < int64(len(img)); off += 512 * (1 + r.Int64N(4000)) {
			gaps = append(gaps, Span{off &^ 511, 512 * (1 + r.Int64N(50))})
			off += gaps[len(gaps)-1].Len
		}
		d := Look(holey{img, gaps}, int64(len(img)), 512)
		if _, err := d.TouchedBy(t.Context(), gaps); err != nil {
			t.Fatal(err)
		}
		if v := d.Volumes[0]; v.fs != nil {
			if used, err := v.fs.Used(t.Context()); err == nil && sum(used) == 0 {
				t.Error("nothing is used")
			}
		}
	}
}

func mustOpen(t testing.TB, img []byte) *ext4 {
	t.Helper()
	fs, err := Open(bytes.NewReader(img), int64(len(img)))
	if err != nil {
		t.Fatal(err)
	}
	return fs.(*ext4)
}

func touched(t testing.TB, img []byte, gaps []Span) *Findings {
	t.Helper()
	fs, err := Open(holey{img, gaps}, int64(len(img)))
	if err != nil {
		t.Fatal(err)
	}
	f, err := fs.Touched(t.Context(), gaps)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestADamagedBitmapIsNotTrusted: one bit more that says free would lose a block.
func TestADamagedBitmapIsNotTrusted(t *testing.T) {
	tree := sampleTree(t)
	for name, args := range extVariants() {
		img := mkext(t, tree, args...)
		e := mustOpen(t, img)
		e.groupsRead()
		bm := e.descs[0].blockBitmap * e.block
		for what, hurt := range map[string]func(b []byte){
			"bitmap":      func(b []byte) { b[bm+100] ^= 1 },
			"descriptor":  func(b []byte) { b[e.descBlock(0)*e.block+0xc] ^= 1 },
			"mounted":     func(b []byte) { b[1024+0x3a] &^= 1 },
			"with errors": func(b []byte) { b[1024+0x3a] |= 2 },
			"journal":     func(b []byte) { b[1024+0x60] |= extRecover },
		} {
			b := bytes.Clone(img)
			hurt(b)
			if e.roc&extMetaCsum != 0 && !strings.HasPrefix(what, "bit") && what != "descriptor" { // as the kernel would have written it
				le.PutUint32(b[1024+0x3fc:], extCRC(^uint32(0), b[1024:1024+0x3fc]))
			}
			fs, err := Open(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatalf("%s, %s: %v", name, what, err)
			}
			if used, err := fs.Used(t.Context()); !errors.Is(err, ErrUntrusted) {
				t.Errorf("%s, %s: %d spans, %v", name, what, len(used), err)
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	img := mkextSmall(f)
	f.Add(img[:2048], uint32(0), byte(0))
	f.Add(img[:4096], uint32(1100), byte(7))
	f.Fuzz(func(t *testing.T, head []byte, at uint32, x byte) {
		b := bytes.Clone(img)
		copy(b, head[:min(len(head), 8192)])
		b[int(at)%len(b)] ^= x
		if len(b) > 2048 {
			le.PutUint32(b[1024+0x3fc:], extCRC(^uint32(0), b[1024:1024+0x3fc]))
		}
		d := Look(bytes.NewReader(b), int64(len(b)), 512)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		used, _, err := d.Used(ctx, int64(len(b)))
		if err != nil || sum(used) > int64(len(b)) {
			t.Fatalf("%d of %d bytes used, %v", sum(used), len(b), err)
		}
		if _, err := d.TouchedBy(ctx, []Span{{0, 512}, {40_000, 100_000}}); err != nil {
			t.Fatal(err)
		}
	})
}

func mkextSmall(t testing.TB) []byte {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), make([]byte, 5000), 0o644); err != nil {
		t.Fatal(err)
	}
	img := filepath.Join(t.TempDir(), "img")
	run(t, "mkfs.ext4", "-q", "-F", "-b", "1024", "-O", "^has_journal", "-d", dir, img, "300k")
	b, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
