package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
	"lukechampine.com/blake3/guts"
)

// The floors say what the machine gives to a bare loop without index, log or crash rules: nobody who does the same work can
// be faster, and how near somebody comes can be compared between machines.

const (
	floorPiece = 1 << 20
	floorSuper = 16 << 20
	floorWrite = 256 << 10 // one write call; larger ones cost more on virtual machines
	floorFile  = 64 << 20  // one output file
)

// cmdFloor is "floor read|hash|medium SOURCE" or "floor store|twice SOURCE STORE": medium is hash past the page cache, twice reads back what it
// stored that way.
func cmdFloor(_ context.Context, args []string) error {
	stores := len(args) > 0 && (args[0] == "store" || args[0] == "twice")
	if len(args) < 2 || stores != (len(args) == 3) {
		return errUsage
	}
	f := &floor{kind: args[0], seen: map[[32]byte]bool{}}
	if stores {
		f.dir = args[2]
		if err := os.MkdirAll(f.dir, 0o755); err != nil {
			return err
		}
	}
	return f.run(args[1])
}

type floor struct {
	kind string
	dir  string
	mu   sync.Mutex
	seen map[[32]byte]bool
	errs []error
}

type span struct {
	path   string
	off, n int64
}

func (f *floor) run(source string) error {
	spans := make(chan span, 64)
	var workers sync.WaitGroup
	for i := range runtime.NumCPU() {
		workers.Go(func() { f.work(i, spans) })
	}
	err := walk(source, spans)
	close(spans)
	workers.Wait()
	return errors.Join(append(f.errs, err, f.syncDir())...)
}

// walk divides large files, so that all cores have work whatever the source is.
func walk(source string, out chan<- span) error {
	return filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		for off := int64(0); off < st.Size(); off += floorSuper {
			out <- span{path, off, min(floorSuper, st.Size()-off)}
		}
		return nil
	})
}

func (f *floor) work(id int, spans <-chan span) {
	w := &floorWriter{prefix: filepath.Join(f.dir, fmt.Sprint(id)), back: f.kind == "twice"}
	buf, err := aligned()
	if err != nil {
		f.fail(err)
		for range spans { // somebody waits for room in it
		}
		return
	}
	defer func() { _ = unix.Munmap(buf) }() // fails only for what is no mapping
	for s := range spans {
		if err := f.one(s, buf, w); err != nil {
			f.fail(err)
		}
	}
	if err := w.close(); err != nil {
		f.fail(err)
	}
}

func (f *floor) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs = append(f.errs, err)
}

func (f *floor) one(s span, buf []byte, w *floorWriter) error {
	in, err := openFor(s.path, f.kind == "medium")
	if err != nil {
		return err
	}
	defer in.Close()
	for ; s.n > 0; s.off, s.n = s.off+floorPiece, s.n-floorPiece {
		piece := buf[:min(s.n, floorPiece)]
		if n, err := in.ReadAt(buf, s.off); n < len(piece) { // whole pieces, as reading past the cache wants
			return err
		}
		if f.kind == "read" || isZero(piece) || !f.fresh(hash(piece)) || f.dir == "" {
			continue
		}
		if err := w.write(piece); err != nil {
			return err
		}
	}
	return nil
}

func openFor(path string, medium bool) (*os.File, error) {
	if medium {
		return os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT, 0)
	}
	return os.Open(path)
}

// aligned is memory for a piece that can be read to past the page cache.
func aligned() ([]byte, error) {
	return unix.Mmap(-1, 0, floorPiece, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
}

func (f *floor) fresh(sum [32]byte) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	known := f.seen[sum]
	f.seen[sum] = true
	return !known
}

func (f *floor) syncDir() error {
	if f.dir == "" {
		return nil
	}
	d, err := os.Open(f.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

var zeros [4096]byte

func isZero(p []byte) bool {
	for len(p) >= len(zeros) {
		if !bytes.Equal(p[:len(zeros)], zeros[:]) {
			return false
		}
		p = p[len(zeros):]
	}
	return bytes.Equal(p, zeros[:len(p)])
}

// floorWriter appends to files and syncs each beside the next.
type floorWriter struct {
	prefix string
	back   bool // each file is read back past the page cache and hashed
	f      *os.File
	n      int // bytes in f
	files  int
	syncs  sync.WaitGroup
	mu     sync.Mutex
	err    error
}

func (w *floorWriter) write(p []byte) error {
	if w.f == nil {
		f, err := os.Create(fmt.Sprintf("%s-%05d", w.prefix, w.files))
		if err != nil {
			return err
		}
		w.f, w.n, w.files = f, 0, w.files+1
	}
	w.n += len(p)
	for len(p) > 0 {
		n, err := w.f.Write(p[:min(len(p), floorWrite)])
		if err != nil {
			return err
		}
		p = p[n:]
	}
	if w.n >= floorFile {
		w.finish()
	}
	return nil
}

func (w *floorWriter) finish() {
	f := w.f
	w.f = nil
	w.syncs.Go(func() {
		err := errors.Join(f.Sync(), f.Close())
		if w.back && err == nil {
			err = readBack(f.Name())
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.err = errors.Join(w.err, err)
	})
}

func readBack(path string) error {
	in, err := openFor(path, true)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	buf, err := aligned()
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(buf) }() // fails only for what is no mapping
	for off := int64(0); off < st.Size(); off += floorPiece {
		want := int(min(floorPiece, st.Size()-off))
		if n, err := in.ReadAt(buf, off); n < want {
			return err
		}
		hash(buf[:want])
	}
	return nil
}

func (w *floorWriter) close() error {
	if w.f != nil {
		w.finish()
	}
	w.syncs.Wait()
	return w.err
}

// hash is BLAKE3 on one goroutine. The library's Sum256 starts goroutines for every call, which makes it slower where all
// cores already hash: a floor must not be beaten by that.
func hash(data []byte) [32]byte {
	n := node(data, 0)
	n.Flags |= guts.FlagRoot
	var out [32]byte
	words := guts.CompressNode(n)
	for i, w := range words[:8] {
		binary.LittleEndian.PutUint32(out[4*i:], w)
	}
	return out
}

const lanes = guts.MaxSIMD * guts.ChunkSize // what one call hashes

func node(data []byte, chunk uint64) guts.Node {
	switch {
	case len(data) <= guts.ChunkSize:
		return guts.CompressChunk(data, &guts.IV, chunk, 0)
	case len(data) == lanes:
		return guts.CompressBuffer((*[lanes]byte)(data), lanes, &guts.IV, chunk, 0)
	case len(data) < lanes:
		var buf [lanes]byte
		return guts.CompressBuffer(&buf, copy(buf[:], data), &guts.IV, chunk, 0)
	}
	half := 1 << (bits.Len(uint(len(data)-1)) - 1) // the left part is the largest power of two that leaves something
	left, right := node(data[:half], chunk), node(data[half:], chunk+uint64(half/guts.ChunkSize))
	return guts.ParentNode(guts.ChainingValue(left), guts.ChainingValue(right), &guts.IV, 0)
}
