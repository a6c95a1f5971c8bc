package volume

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf16"
)

// fat reads FAT12, FAT16 and FAT32.
type fat struct {
	r       io.ReaderAt
	size    int64
	info    Info
	bits    int
	sector  int64
	cluster int64 // bytes
	fatAt   int64
	fatLen  int64
	copies  int64
	rootAt  int64 // of FAT12 and FAT16
	rootLen int64
	root    uint32 // of FAT32
	dataAt  int64
	count   int64 // clusters
	table   []byte
	tabErr  error
	boot    []byte
}

// fatMost bounds the table that is held in memory: 2^28 clusters have one of a gigabyte, and nobody has them.
const fatMost = 256 << 20

func openFAT(r io.ReaderAt, size int64) (FileSystem, error) {
	b, err := readFull(r, 0, 512)
	if err != nil || b[510] != 0x55 || b[511] != 0xaa || b[0] != 0xeb && b[0] != 0xe9 || string(b[54:57]) != "FAT" && string(b[82:85]) != "FAT" {
		if b, err = readFull(r, 6*512, 512); err != nil || string(b[82:87]) != "FAT32" { // where FAT32 has a copy
			return nil, ErrUnknown
		}
	}
	f := &fat{r: r, size: size, boot: b, sector: int64(le.Uint16(b[11:])), copies: int64(b[16])}
	f.cluster = f.sector * int64(b[13])
	reserved, entries := int64(le.Uint16(b[14:])), int64(le.Uint16(b[17:]))
	total, fatSectors := int64(le.Uint16(b[19:])), int64(le.Uint16(b[22:]))
	if total == 0 {
		total = int64(le.Uint32(b[32:]))
	}
	if fatSectors == 0 {
		fatSectors = int64(le.Uint32(b[36:]))
	}
	if f.sector < 512 || f.sector > 4096 || f.sector&(f.sector-1) != 0 || f.cluster <= 0 || b[13]&(b[13]-1) != 0 || f.copies < 1 || f.copies > 4 || reserved == 0 || total == 0 || fatSectors == 0 || total > size/f.sector {
		return nil, fmt.Errorf("a boot sector of FAT whose numbers do not fit each other: %w", ErrUnknown)
	}
	f.fatAt, f.fatLen = reserved*f.sector, fatSectors*f.sector
	f.rootAt, f.rootLen = f.fatAt+f.copies*f.fatLen, (entries*32+f.sector-1)/f.sector*f.sector
	f.dataAt = f.rootAt + f.rootLen
	f.count = (total*f.sector - f.dataAt) / f.cluster
	switch {
	case f.count < 4085:
		f.bits = 12
	case f.count < 65525:
		f.bits = 16
	default:
		f.bits, f.root = 32, le.Uint32(b[44:])
	}
	need := (f.count + 2) * int64(f.bits) / 8
	if f.bits == 12 {
		need++ // two bytes are read for the last one and a half
	}
	if f.count < 1 || need > f.fatLen || f.fatLen > fatMost {
		return nil, fmt.Errorf("a FAT whose table does not fit its clusters: %w", ErrUnknown)
	}
	ext := b[36:]
	if f.bits == 32 {
		ext = b[64:]
	}
	f.info = Info{Kind: fmt.Sprintf("fat%d", f.bits), Label: strings.TrimRight(text850(ext[7:18]), " "), UUID: fmt.Sprintf("%04X-%04X", le.Uint16(ext[5:]), le.Uint16(ext[3:])), Block: f.cluster, Size: total * f.sector}
	f.readTable()
	f.info.Dirty = f.dirty(ext[1])
	return f, nil
}

// readTable reads the table, or its copy where that cannot be read.
func (f *fat) readTable() {
	for i := range f.copies {
		b, err := readFull(f.r, f.fatAt+i*f.fatLen, int(f.fatLen))
		if err == nil {
			f.table, f.tabErr = b, nil
			return
		}
		f.tabErr = err
	}
}

func (f *fat) entry(c uint32) uint32 {
	switch f.bits {
	case 12:
		v := le.Uint16(f.table[c+c/2:])
		if c&1 == 1 {
			return uint32(v >> 4)
		}
		return uint32(v & 0xfff)
	case 16:
		return uint32(le.Uint16(f.table[2*c:]))
	}
	return le.Uint32(f.table[4*c:]) & 0x0fffffff
}

func (f *fat) dirty(flags byte) string {
	switch {
	case f.table == nil:
		return "none of its tables can be read"
	case flags&1 != 0:
		return "it says of itself that it was not unmounted"
	case flags&2 != 0:
		return "it has errors, as it says itself"
	case f.bits == 16 && le.Uint16(f.table[2:])&0x8000 == 0, f.bits == 32 && le.Uint32(f.table[4:])&0x08000000 == 0:
		return "it was not unmounted"
	case f.bits == 16 && le.Uint16(f.table[2:])&0x4000 == 0, f.bits == 32 && le.Uint32(f.table[4:])&0x04000000 == 0:
		return "it met errors when it was in use"
	}
	return ""
}

func (f *fat) Info() Info { return f.info }

func (f *fat) at(c uint32) int64 { return f.dataAt + (int64(c)-2)*f.cluster }

func (f *fat) Used(ctx context.Context) ([]Span, error) {
	if f.info.Dirty != "" {
		return nil, fmt.Errorf("%s: %w", f.info.Dirty, ErrUntrusted)
	}
	for i := range f.copies {
		b, err := readFull(f.r, f.fatAt+i*f.fatLen, int(f.fatLen))
		if err != nil {
			return nil, fmt.Errorf("copy %d of its table cannot be read: %w: %w", i+1, err, ErrUntrusted)
		}
		if !bytes.Equal(b[:(f.count+2)*int64(f.bits)/8], f.table[:(f.count+2)*int64(f.bits)/8]) {
			return nil, fmt.Errorf("the copies of its table differ: %w", ErrUntrusted)
		}
	}
	used := []Span{{0, f.dataAt}}
	for c := uint32(2); int64(c) < f.count+2; c++ {
		if f.entry(c) != 0 {
			used = appendUsed(used, f.at(c), f.cluster)
		}
	}
	if end := f.at(uint32(f.count + 2)); end < f.size {
		used = append(used, Span{end, f.size - end})
	}
	slices.SortFunc(used, bySpan)
	return joined(used), ctx.Err()
}

func (f *fat) Touched(ctx context.Context, gaps []Span) (*Findings, error) {
	out := &Findings{}
	if f.info.Dirty != "" {
		out.Problems = append(out.Problems, f.info.Dirty)
	}
	own := func(what string, off, n int64) {
		if b, first := hits(gaps, off, n); b > 0 {
			out.Touches = append(out.Touches, Touch{What: what, Bytes: b, Off: first, Where: cut(gaps, off, n)})
		}
	}
	own("boot sectors", 0, f.fatAt)
	for i := range f.copies {
		own(fmt.Sprintf("table of clusters, copy %d", i+1), f.fatAt+i*f.fatLen, f.fatLen)
	}
	if f.table == nil {
		out.Problems = append(out.Problems, "which files are touched cannot be told")
		return out, nil
	}
	for _, g := range gaps {
		for off := max(g.Off, f.dataAt); off < g.End(); {
			c := (off - f.dataAt) / f.cluster
			end := min(f.dataAt+(c+1)*f.cluster, g.End())
			if c < f.count && f.entry(uint32(c)+2) == 0 {
				out.Free += end - off
			}
			off = end
		}
	}
	w := fatWalk{f: f, ctx: ctx, gaps: gaps, out: out, seen: make([]bool, f.count+2)}
	if f.bits == 32 {
		w.dir("", f.root, nil, 0)
	} else {
		b, _ := readFull(f.r, f.rootAt, int(f.rootLen))
		if hit, first := hits(gaps, f.rootAt, f.rootLen); hit > 0 {
			out.Touches = append(out.Touches, Touch{Path: "/", What: "directory", Bytes: hit, Off: first - f.rootAt, Where: cut(gaps, f.rootAt, f.rootLen)})
		}
		w.dir("", 0, b, 0)
	}
	return out, ctx.Err()
}

// fatWalk walks all directories. A cluster that belongs to two of them is walked once: a loop ends.
type fatWalk struct {
	f    *fat
	ctx  context.Context
	gaps []Span
	out  *Findings
	seen []bool
}

// chain gives the clusters of a file.
func (w *fatWalk) chain(c uint32, use func(i int64, c uint32)) {
	for i := int64(0); c >= 2 && int64(c) < w.f.count+2 && !w.seen[c]; i++ {
		w.seen[c] = true
		use(i, c)
		c = w.f.entry(c)
	}
}

func (w *fatWalk) touch(path, what string, start uint32, read func([]byte)) {
	f := w.f
	t := Touch{Path: path, What: what, Off: -1}
	w.chain(start, func(i int64, c uint32) {
		if b, first := hits(w.gaps, f.at(c), f.cluster); b > 0 {
			t.Bytes += b
			if t.Off < 0 {
				t.Off = i*f.cluster + first - f.at(c)
			}
			if len(t.Where) < keptWhere {
				t.Where = append(t.Where, cut(w.gaps, f.at(c), f.cluster)...)
			}
		}
		if read != nil {
			b, err := readFull(f.r, f.at(c), int(f.cluster))
			if err != nil { // what can be read of it, sector by sector
				b = make([]byte, f.cluster)
				for s := int64(0); s < f.cluster; s += f.sector {
					if part, err := readFull(f.r, f.at(c)+s, int(f.sector)); err == nil {
						copy(b[s:], part)
					}
				}
			}
			read(b)
		}
	})
	if t.Bytes > 0 && len(w.out.Touches) < keptTouches {
		w.out.Touches = append(w.out.Touches, t)
	}
}

func (w *fatWalk) dir(path string, start uint32, b []byte, depth int) {
	if depth > 128 || w.ctx.Err() != nil {
		return
	}
	if start != 0 {
		w.touch(or(path, "/"), "directory", start, func(part []byte) {
			if len(b) < 64<<20 {
				b = append(b, part...)
			}
		})
	}
	var long []uint16
	for ; len(b) >= 32; b = b[32:] {
		e := b[:32]
		switch {
		case e[0] == 0 && allZero(e), e[0] == 0xe5:
			long = nil
			continue
		case e[11] == 0x0f:
			var part []uint16
			for _, at := range []int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30} {
				if c := le.Uint16(e[at:]); c != 0 && c != 0xffff {
					part = append(part, c)
				}
			}
			if e[0]&0x40 != 0 {
				long = nil
			}
			long = append(part, long...)
			continue
		case e[11]&0x08 != 0 || e[0] == '.':
			long = nil
			continue
		}
		name := string(utf16.Decode(long))
		long = nil
		if name == "" {
			name = strings.TrimRight(text850(e[:8]), " ")
			if x := strings.TrimRight(text850(e[8:11]), " "); x != "" {
				name += "." + x
			}
		}
		first := uint32(le.Uint16(e[26:]))
		if w.f.bits == 32 {
			first |= uint32(le.Uint16(e[20:])) << 16
		}
		if e[11]&0x10 != 0 {
			if first != 0 {
				w.dir(path+"/"+name, first, nil, depth+1)
			}
			continue
		}
		w.touch(path+"/"+name, "content", first, nil)
	}
}

func or(s, instead string) string {
	if s == "" {
		return instead
	}
	return s
}

// text850 keeps what is ASCII of a short name; the rest depends on a code page that nothing names.
func text850(b []byte) string {
	out := make([]byte, 0, len(b))
	for _, c := range b {
		if c < 0x20 || c > 0x7e {
			c = '_'
		}
		out = append(out, c)
	}
	return string(out)
}
