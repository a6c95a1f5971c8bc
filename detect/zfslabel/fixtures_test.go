package zfslabel

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// The fixtures are labels of real pools, each with what zdb said of it. They are made anew with
//
//	go test ./detect/zfslabel -run Fixtures -args -pools DIR[,DIR] -zdb "zdb"
//
// from pools that testdata/pools.sh made. zdb wants to be 2.3 or later: older ones do not check a label's checksum.
var (
	poolsFlag = flag.String("pools", "", "make the fixtures anew from pools in these folders")
	zdbFlag   = flag.String("zdb", "zdb", "how to call zdb")
	update    = flag.Bool("update", false, "write golden files anew")
)

// image is a device of which only the labels are kept; everything else reads as zeros.
type image struct {
	name   string
	size   int64
	labels [4][]byte
	zdb    string // what zdb -lu printed
}

func (m *image) ReadAt(p []byte, off int64) (int, error) {
	n := int(min(int64(len(p)), max(m.size-off, 0)))
	clear(p[:n])
	for i, at := range Offsets(m.size) {
		from, to := max(at, off), min(at+labelSize, off+int64(n))
		if from < to {
			copy(p[from-off:to-off], m.labels[i][from-at:])
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// clone gives an image of its own to break.
func (m *image) clone() *image {
	c := *m
	for i := range c.labels {
		c.labels[i] = bytes.Clone(c.labels[i])
	}
	return &c
}

const archive = "testdata/labels.tar.zst"

// images are the fixtures, in the order of their names. They are read once; whoever changes one takes a clone.
func images(t testing.TB) []*image {
	all, err := loaded()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var loaded = sync.OnceValues(load)

func load() ([]*image, error) {
	f, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := zstd.NewReader(f, zstd.WithDecoderMaxWindow(64<<20))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	var all []*image
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		name, kind, _ := strings.Cut(h.Name, ".")
		if kind == "zdb" {
			all[len(all)-1].zdb = string(data)
			continue
		}
		size, err := strconv.ParseInt(kind, 10, 64)
		if err != nil {
			return nil, err
		}
		m := &image{name: name, size: size}
		for i := range m.labels {
			m.labels[i] = data[i*labelSize:][:labelSize]
		}
		all = append(all, m)
	}
}

// one is the fixture of that name.
func one(t testing.TB, name string) *image {
	all := images(t)
	i := slices.IndexFunc(all, func(m *image) bool { return m.name == name })
	if i < 0 {
		t.Fatalf("no fixture %s", name)
	}
	return all[i].clone()
}

// seal writes the checksum at the end of data, as a machine of that byte order would.
func seal(data []byte, at int64, order binary.ByteOrder) {
	tail := data[len(data)-eckSize:]
	order.PutUint64(tail, eckMagic)
	clear(tail[8:])
	order.PutUint64(tail[8:], uint64(at))
	sum := sha256.Sum256(data)
	for i := range 4 {
		order.PutUint64(tail[8+8*i:], binary.BigEndian.Uint64(sum[8*i:]))
	}
}

// bigEndian makes of a label what a big-endian machine would have written.
func bigEndian(m *image) *image {
	m = m.clone()
	for i, at := range Offsets(m.size) {
		l := m.labels[i]
		l[listAt+1] = 0
		seal(l[listAt:][:listSize], at+listAt, binary.BigEndian)
		for _, u := range Read(m, m.size).Labels[i].Uberblocks {
			slot := l[ringAt+u.Slot*u.Size:][:u.Size]
			for w := range 64 { // every field of an uberblock is a word
				slices.Reverse(slot[8*w:][:8])
			}
			seal(slot, at+ringAt+int64(u.Slot*u.Size), binary.BigEndian)
		}
	}
	return m
}

// kept are the devices whose labels are kept, by their path below the folders of -pools, and their name here.
func kept() [][2]string {
	return [][2]string{
		{"mirror/mirror.0a", "mirror-a"}, {"mirror/mirror.1a", "mirror-b"},
		{"raidz/raidz.0a", "raidz-0"}, {"raidz/raidz.1a", "raidz-1"}, {"raidz/raidz.2a", "raidz-2"}, {"raidz/raidz.3a", "raidz-3"},
		{"draid/draid.0a", "draid-0"}, {"draid/draid.1a", "draid-1"}, {"cache/draid.l2cache.0", "cache"},
		{"special/special.0a", "special-0"}, {"special/special.8a", "special-8"},
		{"wide/wide.0a", "wide"},
		{"multihost/multihost.0a", "multihost"},
		{"new/new.0a", "new-0"}, {"new/new.2a", "new-2"},
		{"expand/expand.0a", "expand"},
		{"fuse/tank1", "tank-1"}, {"fuse/tank2", "tank-2"}, {"fuse/tank3", "tank-3"}, {"fuse/tanklog", "tank-log"}, {"fuse/tankspare", "tank-spare"},
		{"fuse/gone1", "gone-1"}, {"fuse/gone2", "gone-2"}, {"fuse/away", "away"}, {"fuse/off1", "off-1"}, {"fuse/off2", "off-2"}, {"fuse/half", "half"},
	}
}

// broken are images with damage done to them on purpose.
func broken(whole *image) []*image {
	zero := func(b []byte) { clear(b) }
	noise := func(b []byte) { // as good as random here, and small when it is packed
		for i := range b {
			b[i] = byte(i % 251 * 7)
		}
	}
	var all []*image
	add := func(name string, f func(m *image)) {
		m := whole.clone()
		m.name = name
		f(m)
		all = append(all, m)
	}
	add("broken-start-zeroed", func(m *image) { zero(m.labels[0]); zero(m.labels[1]) })
	add("broken-end-zeroed", func(m *image) { zero(m.labels[2]); zero(m.labels[3]) })
	add("broken-start-overwritten", func(m *image) { noise(m.labels[0]); noise(m.labels[1][:64<<10]) })
	add("broken-one-bit-in-the-list", func(m *image) { m.labels[0][listAt+200] ^= 1 })
	add("broken-one-bit-behind-the-list", func(m *image) { m.labels[0][listAt+60<<10] ^= 1 })
	add("broken-one-bit-in-each-list", func(m *image) {
		for i := range m.labels {
			m.labels[i][listAt+60<<10+i] ^= 1
		}
	})
	add("broken-list-cut", func(m *image) {
		for i := range m.labels {
			noise(m.labels[i][listAt+400 : listAt+8192])
		}
	})
	add("broken-rings-zeroed", func(m *image) {
		for i := range m.labels {
			zero(m.labels[i][ringAt:])
		}
	})
	add("broken-ring-half", func(m *image) { noise(m.labels[0][ringAt : ringAt+64<<10]) })
	add("broken-lists-zeroed", func(m *image) {
		for i := range m.labels {
			zero(m.labels[i][listAt : listAt+listSize])
		}
	})
	add("broken-cut-short", func(m *image) { // the last 512 KiB are gone: other bytes stand where labels 2 and 3 would be
		m.size -= 2 * labelSize
		zero(m.labels[2])
		zero(m.labels[3])
	})
	add("broken-moved", func(m *image) { m.labels[0], m.labels[1] = m.labels[1], m.labels[0] })
	add("broken-longer", func(m *image) { m.size += 100 << 10 }) // no whole label more: they are where they were
	add("broken-empty", func(m *image) {
		for i := range m.labels {
			zero(m.labels[i])
		}
	})
	return all
}

func TestMakeFixtures(t *testing.T) {
	if *poolsFlag == "" {
		return // they are there; this makes them anew
	}
	var all []*image
	for _, k := range kept() {
		var path string
		for _, dir := range strings.Split(*poolsFlag, ",") {
			if p := filepath.Join(dir, k[0]); fileThere(p) {
				path = p
			}
		}
		if path == "" {
			t.Logf("no %s", k[0])
			continue
		}
		all = append(all, loadImage(t, path, k[1]))
	}
	named := func(name string) *image {
		return all[slices.IndexFunc(all, func(m *image) bool { return m.name == name })]
	}
	big := bigEndian(named("mirror-a"))
	big.name = "big-endian"
	all = append(all, big)
	all = append(all, broken(named("mirror-a"))...)
	slices.SortFunc(all, func(a, b *image) int { return strings.Compare(a.name, b.name) })
	if err := os.RemoveAll("testdata/zdb"); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("testdata/zdb", 0o755); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithWindowSize(64<<20), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	put := func(name string, data []byte) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data)), Format: tar.FormatUSTAR}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range all {
		path := filepath.Join(t.TempDir(), m.name)
		m.write(t, path)
		put(fmt.Sprintf("%s.%d", m.name, m.size), slices.Concat(m.labels[:]...))
		put(m.name+".zdb", pointers.ReplaceAll(zdb(t, "-lu", path), nil))
		if err := os.WriteFile("testdata/zdb/"+m.name+".txt", zdb(t, "-l", path), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(archive, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d images, %d bytes", len(all), out.Len())
}

func fileThere(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// pointers are what zdb prints of each uberblock's root: long, and not ours to read.
var pointers = regexp.MustCompile(`(?m)^\t(root)?bp = .*\n`)

// zdb runs it. What it says of a cache device's contents is none of a label's.
func zdb(t *testing.T, how, path string) []byte {
	args := append(strings.Fields(*zdbFlag), how, path)
	out, err := exec.Command(args[0], args[1:]...).Output()
	if _, failed := err.(*exec.ExitError); err != nil && !failed {
		t.Fatal(err)
	}
	if i := bytes.Index(out, []byte("L2ARC")); i >= 0 {
		out = bytes.TrimSuffix(out[:i], []byte("------------------------------------\n"))
	}
	return out
}

func loadImage(t *testing.T, path, name string) *image {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	m := &image{name: name, size: fi.Size()}
	for i, at := range Offsets(m.size) {
		if m.labels[i], err = readAll(f, at, labelSize); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (m *image) write(t *testing.T, path string) {
	f, err := os.Create(path)
	if err == nil {
		err = f.Truncate(m.size)
	}
	for i, at := range Offsets(m.size) {
		if err == nil {
			_, err = f.WriteAt(m.labels[i], at)
		}
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// gptHeader is the header of a GPT that stands in a block of 512 bytes and points to its entries.
func gptHeader(block, first int64, entries []byte) []byte {
	h := make([]byte, 512)
	le := binary.LittleEndian
	copy(h, "EFI PART")
	le.PutUint32(h[12:], 92)
	le.PutUint64(h[24:], uint64(block))
	le.PutUint64(h[72:], uint64(first))
	le.PutUint32(h[80:], uint32(len(entries)/128))
	le.PutUint32(h[84:], 128)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(entries))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
	return h
}
