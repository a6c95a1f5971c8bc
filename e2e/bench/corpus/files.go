package corpus

import (
	"bytes"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const page = 4096

// file is one file of an image or the tree: copied, generated or edited.
type file struct {
	name string // inside the image or tree
	from string // the machine's own file; empty = generated
	size int64
	edit bool // some bytes are put into its middle
}

// scan lists the regular files below root in the order of their names.
func scan(root string) ([]file, error) {
	var all []file
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !plain(path) {
			return nil // what cannot be read or named is left out, the machine has enough others
		}
		if st, err := d.Info(); err == nil && st.Size() > 0 && st.Mode().Perm()&0o400 != 0 {
			name := strings.TrimPrefix(path, filepath.Dir(root))
			all = append(all, file{name: strings.TrimPrefix(name, "/"), from: path, size: st.Size()})
		}
		return nil
	})
	slices.SortFunc(all, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return all, err
}

// plain names need no quoting in a debugfs script.
func plain(path string) bool {
	return !strings.ContainsFunc(path, func(r rune) bool {
		return !strings.ContainsRune("/._+-@:=,~%", r) && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// pick takes files in an order that depends on salt and names alone, until the bytes or the count are reached. A file
// larger than a sixteenth of everything is left out: small corpora would be one file.
func pick(all []file, salt string, bytes int64, count int) (taken, rest []file) {
	order := slices.Clone(all)
	slices.SortFunc(order, func(a, b file) int {
		if x, y := mix(salt, a.name), mix(salt, b.name); x != y {
			return cmp64(x, y)
		}
		return strings.Compare(a.name, b.name)
	})
	var sum int64
	for _, f := range order {
		fits := f.size <= bytes/16 && sum+onDisk(f.size) <= bytes
		if !fits || (count > 0 && len(taken) >= count) {
			rest = append(rest, f)
			continue
		}
		taken = append(taken, f)
		sum += onDisk(f.size)
	}
	byName(taken)
	return taken, rest
}

func byName(files []file) {
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
}

func cmp64(x, y uint64) int {
	if x < y {
		return -1
	}
	return 1
}

func onDisk(size int64) int64 { return (size + page - 1) / page * page }

func mix(salt, name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(salt + "\x00" + name))
	x := h.Sum64() // FNV leaves similar names close together
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	return x ^ x>>32
}

// fill adds generated files where the machine had too little.
func fill(files []file, salt string, bytes int64, count int) ([]file, int) {
	var sum int64
	for _, f := range files {
		sum += onDisk(f.size)
	}
	rnd := rand.New(rand.NewPCG(mix(salt, "fill"), 1))
	made := 0
	for sum < bytes-bytes/50 || len(files) < count {
		size := fillSize(rnd, bytes-sum, count-len(files))
		files = append(files, file{name: genName(salt, made), size: size})
		sum += onDisk(size)
		made++
		if count > 0 && len(files) >= count {
			break
		}
	}
	byName(files)
	return files, made
}

// fillSize is skewed as real trees are: most files are small, most bytes are in large ones.
func fillSize(rnd *rand.Rand, bytes int64, count int) int64 {
	mean := int64(64 << 10)
	if count > 0 {
		mean = max(bytes/int64(count), 512)
	}
	size := int64(rnd.ExpFloat64()*rnd.ExpFloat64()*float64(mean)) + 1
	return min(size, max(bytes, 1024), 32<<20)
}

func genName(salt string, i int) string {
	kind := "txt"
	if i%3 == 0 {
		kind = "bin"
	}
	return "generated/" + salt + "-" + strconv.Itoa(i/100) + "/file-" + strconv.Itoa(i) + "." + kind
}

func (f file) bytes() ([]byte, error) {
	if f.from == "" {
		return f.cut(generate(mix("content", f.name), f.size, strings.HasSuffix(f.name, ".bin"))), nil
	}
	data, err := os.ReadFile(f.from)
	return f.cut(data), err
}

// cut puts up to 256 new bytes into the middle of an edited file, so that everything behind them moves.
func (f file) cut(data []byte) []byte {
	if !f.edit {
		return data
	}
	rnd := mix("edit", f.name)
	return slices.Insert(data, len(data)/2, generate(rnd, int64(1+rnd%256), false)...)
}

// stamp is the time of everything in the corpus.
var stamp = time.Unix(1_700_000_000, 0)

func (f file) writeTo(path string) error {
	data, err := f.bytes()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return err
	}
	return os.Chtimes(path, stamp, stamp)
}

type changes struct{ removed, edited, added int }

// another is the same tree as a second machine would have it: 4 % of the files gone, 5 % edited, 2 % others.
func another(first, rest []file) ([]file, changes) {
	var out []file
	var n changes
	for _, f := range first {
		switch x := mix("another", f.name) % 100; {
		case x < 4:
			n.removed++
			continue
		case x < 9:
			n.edited++
			f.edit = true
		}
		out = append(out, f)
	}
	for len(rest) > 0 && n.added < len(first)/50 {
		if f := rest[0]; f.size < 1<<20 {
			out = append(out, f)
			n.added++
		}
		rest = rest[1:]
	}
	for ; n.added < (len(first)+49)/50; n.added++ {
		out = append(out, file{name: genName("added", n.added), size: 20_000})
	}
	byName(out)
	return out, n
}

var words = strings.Fields(`the of and to in is that for it as was with be by on not he this are or his from at which but have
	an had they you were their one all we can her has there been if more when will would who so no error warning info debug
	device block sector pool dataset snapshot mount read write file directory kernel module network interface address route
	return static const struct unsigned int void char include define ifdef endif switch case break while`)

// generate makes text of words, or records of fixed shape with some noise: both compress about as real files do.
func generate(seed uint64, size int64, binary bool) []byte {
	rnd := rand.New(rand.NewPCG(seed, 2))
	var b bytes.Buffer
	for int64(b.Len()) < size {
		if binary {
			record(&b, rnd)
		} else {
			sentence(&b, rnd)
		}
	}
	return b.Bytes()[:size]
}

func sentence(b *bytes.Buffer, rnd *rand.Rand) {
	for range 4 + rnd.IntN(12) {
		n := int(rnd.ExpFloat64() * 15)
		b.WriteString(words[n%len(words)])
		b.WriteByte(' ')
	}
	b.WriteString(strconv.Itoa(rnd.IntN(100_000)))
	b.WriteByte('\n')
}

func record(b *bytes.Buffer, rnd *rand.Rand) {
	b.Write([]byte{0x48, 0x8b, byte(rnd.IntN(16)), 0x24, 0, 0, 0, byte(rnd.IntN(4))})
	for range rnd.IntN(3) {
		x := rnd.Uint64()
		b.Write([]byte{0xe8, byte(x), byte(x >> 8), 0xff, 0xff, 0x0f, byte(x >> 16)})
	}
	b.Write(make([]byte, rnd.IntN(6)))
}
