package kill

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// content is bytes of one kind: 0 random, 1 text, 2 zeros, 3 a few bytes among zeros.
func content(rng *rand.Rand, kind, n int) []byte {
	b := make([]byte, 0, n+64)
	switch kind {
	case 0:
		for len(b) < n {
			v := rng.Uint64()
			b = append(b, byte(v), byte(v>>8), byte(v>>16), byte(v>>24), byte(v>>32), byte(v>>40), byte(v>>48), byte(v>>56))
		}
	case 1:
		words := strings.Fields("block segment snapshot log resume point chunk artifact store domain rescue intake the of and is")
		for len(b) < n {
			b = append(append(b, words[rng.IntN(len(words))]...), " 0123456789\n"[rng.IntN(12)])
		}
	case 3:
		b = b[:n]
		for i := 0; i < n; i += 1 + rng.IntN(20_000) {
			b[i] = byte(rng.Uint32())
		}
	default:
		b = b[:n]
	}
	return b[:n]
}

// writeImage makes an image of about size bytes: random, text, zeros, nearly zeros, and what stood before again. The
// last page is not whole.
func writeImage(t *testing.T, path string, seed uint64, size int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	all := make([]byte, 0, size+(24<<20))
	for len(all) < size {
		n := (1 + rng.IntN(700)) << 12
		switch k := rng.IntN(10); {
		case k < 5:
			all = append(all, content(rng, 0, n)...)
		case k < 7:
			all = append(all, content(rng, 1, n)...)
		case k < 8:
			all = append(all, content(rng, 3, n)...)
		case k < 9 && len(all) > n:
			from := rng.IntN(len(all)-n) &^ 4095
			all = append(all, all[from:from+n]...)
		default:
			all = append(all, content(rng, 2, n*(1+rng.IntN(6)))...)
		}
	}
	all = append(all[:size&^4095], "the end"...)
	must(t, os.WriteFile(path, all, 0o644))
}

// writeTree makes a tree of about files files: empty, inline, short, longer than a super-block, sparse, with several
// names, odd names, links, a FIFO, empty folders.
func writeTree(t *testing.T, root string, seed uint64, files int, long int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 2))
	must(t, os.MkdirAll(root, 0o755))
	dirs := []string{root}
	var made []string
	var last []byte
	for i := range files {
		if i%23 == 0 {
			d := filepath.Join(dirs[rng.IntN(len(dirs))], fmt.Sprintf("d%04d", i))
			must(t, os.Mkdir(d, 0o755))
			dirs = append(dirs, d)
		}
		path := filepath.Join(dirs[rng.IntN(len(dirs))], fmt.Sprintf("f%05d", i))
		n := 0
		switch k := rng.IntN(20); {
		case k < 2:
		case k < 8:
			n = rng.IntN(1024)
		case k < 18:
			n = rng.IntN(40_000)
		default:
			n = rng.IntN(400_000)
		}
		if i%50 != 3 {
			last = content(rng, rng.IntN(4), n)
		}
		must(t, os.WriteFile(path, last, 0o600+os.FileMode(rng.IntN(64))))
		made = append(made, path)
	}
	must(t, os.WriteFile(filepath.Join(root, "d0000", "long"), append(content(rng, 0, long), bytes.Repeat([]byte{0, 7}, 1000)...), 0o644))
	for i := range 20 {
		must(t, os.Link(made[rng.IntN(len(made))], filepath.Join(dirs[rng.IntN(len(dirs))], fmt.Sprintf("name-%d", i))))
	}
	must(t, os.Link(filepath.Join(root, "d0000", "long"), filepath.Join(root, "zz-long again")))
	must(t, os.Symlink("nowhere/\xff", filepath.Join(root, "link")))
	must(t, os.WriteFile(filepath.Join(root, "odd \x01\xfe name\n"), []byte("x"), 0o400))
	must(t, syscall.Mkfifo(filepath.Join(root, "fifo"), 0o640))
	must(t, os.MkdirAll(filepath.Join(root, "empty", "emptier"), 0o700))
	wide := filepath.Join(root, "wide") // more names than go into one page of a directory
	must(t, os.Mkdir(wide, 0o755))
	for i := range 1500 {
		must(t, os.WriteFile(filepath.Join(wide, fmt.Sprintf("%0200d", i*7919%1500)), nil, 0o644))
	}
	sparse, err := os.Create(filepath.Join(root, "sparse"))
	must(t, err)
	must(t, sparse.Truncate(40<<20))
	_, err = sparse.WriteAt([]byte("in the middle"), 21<<20)
	must(t, err)
	must(t, sparse.Close())
	old := time.Unix(1_000_000_000, 123_456_789)
	for i, p := range append(made, dirs...) {
		must(t, os.Chtimes(p, old, old.Add(time.Duration(i)*time.Second)))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
