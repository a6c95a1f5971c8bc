// Package sourcetest has sources in memory that behave like the real ones, with their faults planted: bad ranges,
// content that changes, sources that shrink or vanish. They stand beside the real ones in tests.
package sourcetest

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"aslrescue/engine/source"
	"aslrescue/engine/source/passes"
)

// Region is the unit in bytes in which a Pattern is zero or not.
const Region = 64 << 10

// Pattern is content that is a cheap function of seed and offset, so that a source of many TiB takes no room.
type Pattern struct {
	Seed   uint64
	Zero   int   // percent of the regions that are all zeros, 0 to 100
	Period int64 // if not 0, the content repeats every so many bytes; a multiple of Region
}

// mix is the output function of splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// IsZero tells whether the region that holds off is all zeros.
func (p Pattern) IsZero(off int64) bool {
	if p.Period > 0 {
		off %= p.Period
	}
	return p.Zero > 0 && int(mix(p.Seed^mix(uint64(off/Region)))%100) < p.Zero
}

// Fill sets buf to the content at off.
func (p Pattern) Fill(buf []byte, off int64) {
	for len(buf) > 0 {
		n := min(len(buf), int(Region-off%Region))
		if p.IsZero(off) {
			clear(buf[:n])
		} else {
			p.random(buf[:n], off)
		}
		buf, off = buf[n:], off+int64(n)
	}
}

func (p Pattern) random(buf []byte, off int64) {
	if p.Period > 0 {
		off %= p.Period
	}
	var w [8]byte
	for len(buf) > 0 {
		word := mix(p.Seed + uint64(off/8)*0x9e3779b97f4a7c15)
		if off%8 == 0 && len(buf) >= 8 {
			binary.LittleEndian.PutUint64(buf, word)
			buf, off = buf[8:], off+8
			continue
		}
		binary.LittleEndian.PutUint64(w[:], word)
		n := copy(buf, w[off%8:])
		buf, off = buf[n:], off+int64(n)
	}
}

// Config says what a Linear holds and what goes wrong with it. Counts are of calls of Read; 0 means never.
type Config struct {
	Name    string // default "fake"
	Kind    source.Kind
	Size    int64 // bytes
	Pattern Pattern
	Bytes   []byte // if set, the content, in place of Size and Pattern
	Sector  int    // default 512
	ID      string // default from name and size

	Bad         []source.Gap // ranges that cannot be read, in any order
	GoneAfter   int          // Reads after this many fail with source.ErrGone
	ShrinkAfter int          // after so many Reads the source ends at ShrinkTo
	ShrinkTo    int64
	ChangeAfter int                       // after so many Reads the content is another
	OnRead      func(off int64, n int)    // called at the start of each Read
	Block       func(ctx context.Context) // if set, called within each Read: a device that hangs
}

// Linear is a source.Linear in memory. Read may be called from several goroutines at once.
type Linear struct {
	c   Config
	bad []source.Gap

	mu     sync.Mutex
	reads  int
	closed bool
}

var _ source.Linear = (*Linear)(nil)

// NewLinear makes a source of c.
func NewLinear(c Config) *Linear {
	if c.Name == "" {
		c.Name = "fake"
	}
	if c.Kind == "" {
		c.Kind = source.Image
	}
	if c.Bytes != nil {
		c.Size = int64(len(c.Bytes))
	}
	if c.Sector == 0 {
		c.Sector = 512
	}
	if c.ID == "" {
		c.ID = fmt.Sprintf("fake %s size=%d", c.Name, c.Size)
	}
	l := &Linear{c: c, bad: slices.Clone(c.Bad)}
	slices.SortFunc(l.bad, func(a, b source.Gap) int { return int(min(1, max(-1, a.Off-b.Off))) })
	return l
}

// Info describes it.
func (l *Linear) Info() source.Info {
	return source.Info{Kind: l.c.Kind, Path: "/fake/" + l.c.Name, Name: l.c.Name, ID: l.c.ID, Size: l.c.Size,
		Sector: l.c.Sector, Model: "Fake", Serial: fmt.Sprintf("F%d", l.c.Pattern.Seed)}
}

// Reads is how often Read was called.
func (l *Linear) Reads() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reads
}

// Content fills buf with what stands at off before any fault; it is what a test compares with.
func (l *Linear) Content(buf []byte, off int64) {
	if l.c.Bytes != nil {
		copy(buf, l.c.Bytes[off:])
		return
	}
	l.c.Pattern.Fill(buf, off)
}

// Read is as source.Linear says.
func (l *Linear) Read(ctx context.Context, buf []byte, off int64) (int, []source.Gap, error) {
	if l.c.OnRead != nil {
		l.c.OnRead(off, len(buf))
	}
	if l.c.Block != nil {
		l.c.Block(ctx)
	}
	if err := ctx.Err(); err != nil {
		return 0, nil, err
	}
	l.mu.Lock()
	l.reads++
	reads := l.reads
	l.mu.Unlock()
	if l.c.GoneAfter > 0 && reads > l.c.GoneAfter {
		return 0, nil, fmt.Errorf("read %s at byte %d: %w", l.c.Name, off, source.ErrGone)
	}
	size := l.c.Size
	if l.c.ShrinkAfter > 0 && reads > l.c.ShrinkAfter {
		size = min(size, l.c.ShrinkTo)
	}
	if off >= size {
		return 0, nil, nil
	}
	buf = buf[:min(int64(len(buf)), size-off)]
	l.Content(buf, off)
	if l.c.ChangeAfter > 0 && reads > l.c.ChangeAfter {
		for i := range buf {
			buf[i] ^= 0x55
		}
	}
	gaps := cut(l.bad, off, int64(len(buf)))
	for _, g := range gaps {
		clear(buf[g.Off-off:][:g.Len])
	}
	return len(buf), gaps, nil
}

// cut is what of bad lies in n bytes at off.
func cut(bad []source.Gap, off, n int64) []source.Gap {
	var out []source.Gap
	// Sorted, and apart: those that end before off come first.
	first, _ := slices.BinarySearchFunc(bad, off, func(g source.Gap, off int64) int {
		if g.Off+g.Len <= off {
			return -1
		}
		return 1
	})
	for _, g := range bad[first:] {
		if g.Off >= off+n {
			break
		}
		from, to := max(g.Off, off), min(g.Off+g.Len, off+n)
		if from >= to {
			continue
		}
		if g.Kind == 0 {
			g.Kind = source.Unreadable
		}
		if g.Why == "" {
			g.Why = unix.EIO.Error()
		}
		g.Off, g.Len = from, to-from
		out = append(out, g)
	}
	return out
}

// Changed says what the planted faults did so far.
func (l *Linear) Changed() string {
	reads := l.Reads()
	switch {
	case l.c.ShrinkAfter > 0 && reads > l.c.ShrinkAfter:
		return fmt.Sprintf("it shrank from %d to %d bytes", l.c.Size, l.c.ShrinkTo)
	case l.c.ChangeAfter > 0 && reads > l.c.ChangeAfter:
		return "its content was modified"
	}
	return ""
}

// Close is noted, see Closed.
func (l *Linear) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	return nil
}

// Closed tells whether Close was called.
func (l *Linear) Closed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// ReaderAt gives the bytes of a Pattern and fails with EIO as a disk does: a call that meets a bad range gives what
// stands before it.
type ReaderAt struct {
	Pattern Pattern
	Size    int64
	Bad     []source.Gap
	Err     error                  // in place of EIO
	OnRead  func(off int64, n int) // called at the start of each ReadAt
}

// ReadAt is as io.ReaderAt says.
func (r *ReaderAt) ReadAt(p []byte, off int64) (int, error) {
	if r.OnRead != nil {
		r.OnRead(off, len(p))
	}
	n, end := len(p), error(nil)
	if off+int64(n) > r.Size {
		n, end = int(max(0, r.Size-off)), io.EOF
	}
	for _, g := range r.Bad {
		if g.Off < off+int64(n) && g.Off+g.Len > off {
			n, end = int(max(0, g.Off-off)), unix.EIO
			if r.Err != nil {
				end = r.Err
			}
		}
	}
	r.Pattern.Fill(p[:n], off)
	return n, end
}

// Disk is a Linear that is read piece by piece, as devices are: a piece that touches a bad range fails as a whole.
type Disk struct {
	*Linear
	OnTry func(r passes.Read) error // if set, called first; an error ends the reading
}

var _ source.Raw = (*Disk)(nil)

// NewDisk makes a disk of c.
func NewDisk(c Config) *Disk { return &Disk{Linear: NewLinear(c)} }

// Try is as source.Raw says. Each piece counts as a Read.
func (d *Disk) Try(ctx context.Context, buf []byte, r passes.Read) (res passes.Result, errno unix.Errno, err error) {
	if d.OnTry != nil {
		if err := d.OnTry(r); err != nil {
			return res, 0, err
		}
	}
	for res.Good < r.Len {
		off, n := r.Piece(res.Good)
		got, gaps, err := d.Read(ctx, buf[off-r.Off:][:n], off)
		switch {
		case err != nil:
			return res, 0, err
		case int64(got) < n:
			return res, 0, source.ErrShort
		case len(gaps) > 0:
			for i := range buf[off-r.Off:][:n] {
				buf[off-r.Off+int64(i)] = 0xbd // what a failed read leaves behind means nothing
			}
			res.Bad = n
			return res, unix.EIO, nil
		}
		res.Good += n
	}
	return res, 0, nil
}
