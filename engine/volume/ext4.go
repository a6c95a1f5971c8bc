package volume

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
)

// ext4 reads ext2, ext3 and ext4. The journal is not replayed: a dirty one makes the bitmaps untrusted, and names are those before it.
type ext4 struct {
	r    io.ReaderAt
	size int64 // of the volume
	sb   []byte
	info Info

	block, cluster     int64
	blocks             int64
	first              int64 // first data block
	perGroup           int64 // blocks
	clustersPerGroup   int64
	inodesPerGroup     int64
	inodes             int64
	inodeSize          int64
	descSize           int64
	compat, inc, roc   uint32
	seed               uint32
	firstMetaBG        int64
	groups             int64
	descs              []extGroup
	descsBad           []string
	descRead           bool
	sparse2a, sparse2b int64
	budget             int
}

type extGroup struct {
	bad                                  bool // its descriptor could not be read or checked
	blockBitmap, inodeBitmap, inodeTable int64
	free                                 int64 // blocks, or clusters
	flags                                uint16
	unused                               int64 // inodes at the table's end
	csum                                 uint32
	csumBits                             int
}

const (
	extRecover, extMetaBG, ext64, extSeed, extJournalDev = 0x4, 0x10, 0x80, 0x2000, 0x8
	extSparse, extBigalloc, extMetaCsum, extSparse2      = 0x1, 0x200, 0x400, 0x200
	extInodeUninit, extBlockUninit                       = 1, 2
	extExtents, extInline, extHuge                       = 0x80000, 0x10000000, 0x40000
	extRoot                                              = 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// extCRC is crc32c as ext4 chains it: without the inversions.
func extCRC(seed uint32, b []byte) uint32 { return ^crc32.Update(^seed, castagnoli, b) }

func openExt4(r io.ReaderAt, size int64) (FileSystem, error) {
	sb, err := extSuper(r, size)
	if err != nil {
		return nil, err
	}
	e := &ext4{r: r, size: size, sb: sb}
	e.compat, e.inc, e.roc = le.Uint32(sb[0x5c:]), le.Uint32(sb[0x60:]), le.Uint32(sb[0x64:])
	shift := le.Uint32(sb[0x18:])
	cshift := le.Uint32(sb[0x1c:])
	if shift > 6 || e.roc&extBigalloc != 0 && (cshift < shift || cshift > 20) || e.inc&extJournalDev != 0 {
		return nil, fmt.Errorf("an ext4 super-block with an impossible block size, or of a journal: %w", ErrUnknown)
	}
	e.block = 1024 << shift
	e.cluster = e.block
	if e.roc&extBigalloc != 0 {
		e.cluster = 1024 << cshift
	}
	e.blocks = int64(le.Uint32(sb[4:]))
	if e.inc&ext64 != 0 {
		e.blocks |= int64(le.Uint32(sb[0x150:])) << 32
	}
	e.first, e.perGroup, e.clustersPerGroup = int64(le.Uint32(sb[0x14:])), int64(le.Uint32(sb[0x20:])), int64(le.Uint32(sb[0x20:]))
	if e.roc&extBigalloc != 0 {
		e.clustersPerGroup = int64(le.Uint32(sb[0x24:]))
	}
	e.inodes, e.inodesPerGroup = int64(le.Uint32(sb[0:])), int64(le.Uint32(sb[0x28:]))
	e.inodeSize, e.descSize = 128, 32
	if le.Uint32(sb[0x4c:]) > 0 {
		e.inodeSize = int64(le.Uint16(sb[0x58:]))
	}
	if e.inc&ext64 != 0 {
		e.descSize = int64(le.Uint16(sb[0xfe:]))
	}
	e.firstMetaBG = int64(le.Uint32(sb[0x104:]))
	e.sparse2a, e.sparse2b = int64(le.Uint32(sb[0x24c:])), int64(le.Uint32(sb[0x250:]))
	switch {
	case e.blocks <= e.first || e.blocks > size/e.block+1 || e.perGroup <= 0 || e.perGroup > 8*e.block*(e.cluster/e.block), e.clustersPerGroup <= 0, e.clustersPerGroup > 8*e.block,
		e.inodesPerGroup <= 0, e.inodesPerGroup > 8*e.block, e.inodeSize < 128, e.inodeSize > e.block, e.inodeSize&(e.inodeSize-1) != 0, e.descSize < 32, e.descSize > 1024, e.descSize&(e.descSize-1) != 0:
		return nil, fmt.Errorf("an ext4 super-block whose numbers do not fit each other: %w", ErrUnknown)
	}
	e.groups = (e.blocks - e.first + e.perGroup - 1) / e.perGroup
	e.seed = extCRC(^uint32(0), sb[0x68:0x78])
	if e.inc&extSeed != 0 {
		e.seed = le.Uint32(sb[0x270:])
	}
	id := sb[0x68:0x78]
	e.info = Info{Kind: "ext4", Label: strings.TrimRight(string(sb[0x78:0x88]), "\x00"), UUID: fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:16]),
		Block: e.block, Size: e.blocks * e.block, Dirty: e.dirty()}
	if e.inc&0x40 == 0 {
		e.info.Kind = "ext2"
		if e.compat&4 != 0 {
			e.info.Kind = "ext3"
		}
	}
	return e, nil
}

// extSuper reads the super-block, or a copy of it where that cannot be read.
func extSuper(r io.ReaderAt, size int64) ([]byte, error) {
	good := func(sb []byte, err error) bool {
		return err == nil && le.Uint16(sb[0x38:]) == 0xef53 && (le.Uint32(sb[0x64:])&extMetaCsum == 0 || extCRC(^uint32(0), sb[:0x3fc]) == le.Uint32(sb[0x3fc:]))
	}
	sb, err := readFull(r, 1024, 1024)
	if good(sb, err) {
		return sb, nil
	}
	if err == nil && le.Uint16(sb[0x38:]) != 0xef53 {
		return nil, ErrUnknown
	}
	for _, at := range []int64{32768 * 4096, 8193 * 1024, 16384 * 2048} {
		if at+1024 > size {
			continue
		}
		if sb, err := readFull(r, at, 1024); good(sb, err) && int64(1024)<<le.Uint32(sb[0x18:])*int64(le.Uint32(sb[0x20:])) <= at {
			return sb, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("where a super-block of ext4 would be cannot be read: %w: %w", err, ErrUnknown)
	}
	return nil, fmt.Errorf("the checksum of the ext4 super-block is wrong: %w", ErrUnknown)
}

func (e *ext4) Info() Info { return e.info }

// dirty says why the file system is not at rest.
func (e *ext4) dirty() string {
	state := le.Uint16(e.sb[0x3a:])
	switch {
	case e.inc&extRecover != 0:
		return "it was not unmounted: its journal holds what is not in place yet"
	case state&1 == 0:
		return "it was not unmounted"
	case state&2 != 0:
		return "it has errors, as it says itself"
	}
	return ""
}

// hasSuper tells whether a group begins with copies of super-block and descriptors.
func (e *ext4) hasSuper(g int64) bool {
	switch {
	case g == 0:
		return true
	case e.compat&extSparse2 != 0:
		return g == e.sparse2a || g == e.sparse2b
	case e.roc&extSparse == 0 || g == 1:
		return true
	}
	for _, p := range []int64{3, 5, 7} {
		n := p
		for n < g {
			n *= p
		}
		if n == g {
			return true
		}
	}
	return false
}

func (e *ext4) descBlock(i int64) int64 {
	if e.inc&extMetaBG == 0 || i < e.firstMetaBG {
		return e.superBlock() + 1 + i
	}
	g := i * (e.block / e.descSize)
	b := e.first + g*e.perGroup
	if e.hasSuper(g) {
		b++
	}
	return b
}

// superBlock is the block that the super-block stands in.
func (e *ext4) superBlock() int64 {
	if e.block == 1024 {
		return 1
	}
	return 0
}

// metaDescs gives the blocks of descriptors that a group holds besides those next to a super-block.
func (e *ext4) metaDescs(g int64) (block int64, ok bool) {
	per := e.block / e.descSize
	if at := g % per; e.inc&extMetaBG == 0 || g/per < e.firstMetaBG || at > 1 && at != per-1 {
		return 0, false
	}
	block = e.start(g)
	if e.hasSuper(g) {
		block++
		if g == 0 {
			block = e.superBlock() + 1
		}
	}
	return block, true
}

// groupsRead reads the group descriptors, once.
func (e *ext4) groupsRead() {
	if e.descRead {
		return
	}
	e.descRead = true
	per := e.block / e.descSize
	for i := int64(0); i*per < e.groups; i++ {
		b, err := readFull(e.r, e.descBlock(i)*e.block, int(e.block))
		if err != nil && i < 1<<20 { // the copy behind the first copy of the super-block
			if b2, err2 := readFull(e.r, (e.first+e.perGroup+1+i)*e.block, int(e.block)); err2 == nil && e.inc&extMetaBG == 0 {
				b, err = b2, nil
			}
		}
		for k := int64(0); k < per && i*per+k < e.groups; k++ {
			if err != nil {
				e.descs = append(e.descs, extGroup{bad: true})
				continue
			}
			e.descs = append(e.descs, e.group(b[k*e.descSize:(k+1)*e.descSize], i*per+k))
		}
		if err != nil {
			e.descsBad = append(e.descsBad, fmt.Sprintf("descriptors of the groups from %d on cannot be read: %v", i*per, err))
		}
	}
}

func (e *ext4) group(d []byte, g int64) extGroup {
	x := extGroup{blockBitmap: int64(le.Uint32(d)), inodeBitmap: int64(le.Uint32(d[4:])), inodeTable: int64(le.Uint32(d[8:])), free: int64(le.Uint16(d[0xc:])), flags: le.Uint16(d[0x12:]),
		unused: int64(le.Uint16(d[0x1c:])), csum: uint32(le.Uint16(d[0x18:])), csumBits: 16}
	if e.inc&ext64 != 0 && len(d) >= 64 {
		x.blockBitmap |= int64(le.Uint32(d[0x20:])) << 32
		x.inodeBitmap |= int64(le.Uint32(d[0x24:])) << 32
		x.inodeTable |= int64(le.Uint32(d[0x28:])) << 32
		x.free |= int64(le.Uint16(d[0x2c:])) << 16
		x.unused |= int64(le.Uint16(d[0x32:])) << 16
		x.csum, x.csumBits = x.csum|uint32(le.Uint16(d[0x38:]))<<16, 32
	}
	if e.roc&extMetaCsum != 0 {
		c := slices.Clone(d)
		clear(c[0x1e:0x20])
		if uint16(extCRC(extCRC(e.seed, le.AppendUint32(nil, uint32(g))), c)) != le.Uint16(d[0x1e:]) {
			x.bad = true
		}
	}
	in := func(b int64) bool { return b >= e.first && b < e.blocks }
	if !in(x.blockBitmap) || !in(x.inodeBitmap) || !in(x.inodeTable) || x.unused > e.inodesPerGroup {
		x.bad = true
	}
	if x.bad {
		e.descsBad = append(e.descsBad, fmt.Sprintf("the descriptor of group %d is damaged", g))
	}
	return x
}

// start is the first block of a group, count how many it has.
func (e *ext4) start(g int64) int64 { return e.first + g*e.perGroup }
func (e *ext4) count(g int64) int64 { return min(e.perGroup, e.blocks-e.start(g)) }

// copies is how many blocks at a group's beginning hold copies of super-block and descriptors.
func (e *ext4) copies(g int64) int64 {
	if !e.hasSuper(g) {
		return 0
	}
	n := (e.groups*e.descSize + e.block - 1) / e.block
	if e.inc&extMetaBG != 0 {
		n = e.firstMetaBG
	}
	n += 1 + int64(le.Uint16(e.sb[0xce:]))
	if g == 0 {
		n += e.superBlock() - e.first
	}
	return n
}

func (e *ext4) tableBlocks() int64 { return (e.inodesPerGroup*e.inodeSize + e.block - 1) / e.block }

func (e *ext4) Used(ctx context.Context) ([]Span, error) {
	if e.info.Dirty != "" {
		return nil, fmt.Errorf("%s: %w", e.info.Dirty, ErrUntrusted)
	}
	e.groupsRead()
	if len(e.descsBad) > 0 {
		return nil, fmt.Errorf("%s: %w", e.descsBad[0], ErrUntrusted)
	}
	used := []Span{{0, (e.first + 1) * e.block}}
	if end := e.blocks * e.block; end < e.size {
		used = append(used, Span{end, e.size - end})
	}
	freeAll := int64(0)
	for g := range e.groups {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		d := e.descs[g]
		s := e.start(g)
		used = append(used, Span{s * e.block, e.copies(g) * e.block}, Span{d.blockBitmap * e.block, e.block}, Span{d.inodeBitmap * e.block, e.block}, Span{d.inodeTable * e.block, e.tableBlocks() * e.block})
		if b, ok := e.metaDescs(g); ok {
			used = append(used, Span{b * e.block, e.block})
		}
		if d.flags&extBlockUninit != 0 {
			freeAll += d.free
			continue
		}
		free := int64(0)
		bm, err := e.bitmap(g)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", err, ErrUntrusted)
		}
		per := e.cluster / e.block
		n := (e.count(g) + per - 1) / per
		for i := int64(0); i < n; {
			if i%64 == 0 && n-i >= 64 {
				w := le.Uint64(bm[i/8:])
				if w == 0 || w == ^uint64(0) {
					if w == 0 {
						free += 64
					} else {
						used = appendUsed(used, (s+i*per)*e.block, 64*e.cluster)
					}
					i += 64
					continue
				}
			}
			if bm[i/8]>>(i%8)&1 == 0 {
				free++
			} else {
				used = appendUsed(used, (s+i*per)*e.block, e.cluster)
			}
			i++
		}
		if free != d.free {
			return nil, fmt.Errorf("the bitmap of group %d has %d free, its descriptor says %d: %w", g, free, d.free, ErrUntrusted)
		}
		freeAll += free
	}
	said := int64(le.Uint32(e.sb[0xc:]))
	if e.inc&ext64 != 0 {
		said |= int64(le.Uint32(e.sb[0x158:])) << 32
	}
	if per := e.cluster / e.block; said != freeAll && said != freeAll*per {
		return nil, fmt.Errorf("the super-block says that %d blocks are free, the groups say %d: %w", said, freeAll, ErrUntrusted)
	}
	slices.SortFunc(used, bySpan)
	used = joined(used)
	for i := range used { // the last cluster may end behind the volume
		used[i].Len = min(used[i].Len, e.size-used[i].Off)
	}
	if left := e.size - sum(used); left > freeAll*e.cluster {
		return nil, fmt.Errorf("%d bytes would be left out, and the groups call %d free: %w", left, freeAll*e.cluster, ErrUntrusted)
	}
	return used, nil
}

func appendUsed(used []Span, off, n int64) []Span {
	if l := &used[len(used)-1]; l.End() == off {
		l.Len += n
		return used
	}
	return append(used, Span{off, n})
}

// bitmap reads the block bitmap of a group and holds it against its checksum, where there are such.
func (e *ext4) bitmap(g int64) ([]byte, error) {
	d := e.descs[g]
	bm, err := readFull(e.r, d.blockBitmap*e.block, int(e.block))
	if err != nil {
		return nil, fmt.Errorf("the block bitmap of group %d cannot be read: %w", g, err)
	}
	if e.roc&extMetaCsum != 0 {
		mask := uint32(1)<<(d.csumBits%32) - 1
		if d.csumBits == 32 {
			mask = ^uint32(0)
		}
		if c := extCRC(e.seed, bm[:e.clustersPerGroup/8]); c&mask != d.csum {
			return nil, fmt.Errorf("the checksum of the block bitmap of group %d is wrong", g)
		}
	}
	return bm, nil
}

// free tells how many bytes of gaps lie in blocks that bitmaps call free. What cannot be told is not counted.
func (e *ext4) free(gaps []Span) (n int64) {
	for g := range e.groups {
		s, c := e.start(g)*e.block, e.count(g)*e.block
		if b, _ := hits(gaps, s, c); b == 0 || e.descs[g].bad {
			continue
		}
		var bm []byte
		if e.descs[g].flags&extBlockUninit == 0 {
			var err error
			if bm, err = e.bitmap(g); err != nil {
				continue
			}
		}
		for _, gap := range within(gaps, s, c) {
			for off := gap.Off; off < gap.End(); {
				i := off / e.cluster
				end := min((i+1)*e.cluster, gap.End())
				if bm != nil && bm[i/8]>>(i%8)&1 == 0 || bm == nil && !e.meta(s+off) {
					n += end - off
				}
				off = end
			}
		}
	}
	return n
}

// meta tells whether a byte of a group without a bitmap belongs to the file system itself.
func (e *ext4) meta(off int64) bool {
	b := off / e.block
	for g := range e.groups {
		d := e.descs[g]
		if m, ok := e.metaDescs(g); ok && b == m {
			return true
		}
		if b == d.blockBitmap || b == d.inodeBitmap || b >= d.inodeTable && b < d.inodeTable+e.tableBlocks() || b >= e.start(g) && b < e.start(g)+e.copies(g) {
			return true
		}
	}
	return false
}

// budget bounds how many blocks of indexes are followed: a loop must end.
const extBudget = 20_000_000

func (e *ext4) Touched(ctx context.Context, gaps []Span) (*Findings, error) {
	e.groupsRead()
	e.budget = extBudget
	f := &Findings{Problems: slices.Clone(e.descsBad)}
	if e.info.Dirty != "" {
		f.Problems = append(f.Problems, e.info.Dirty+"; names are as of before")
	}
	f.Free = e.free(gaps)
	s := extSearch{e: e, ctx: ctx, gaps: gaps, f: f, found: map[uint32][]Touch{}, parents: map[uint32]extName{}, names: map[uint32][]extName{}}
	s.structures()
	for g := range e.groups {
		if err := s.group(g); err != nil {
			return nil, err
		}
	}
	if len(s.found) > 0 {
		for _, d := range s.dirs {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			s.entries(d)
		}
	}
	s.name()
	if e.budget <= 0 {
		f.Problems = append(f.Problems, "the file system refers to itself more often than it can; the search was ended")
	}
	return f, ctx.Err()
}

type extName struct {
	dir  uint32
	name string
}

// extSearch finds the files that gaps touch.
type extSearch struct {
	e       *ext4
	ctx     context.Context
	gaps    []Span
	f       *Findings
	found   map[uint32][]Touch
	order   []uint32
	dirs    []uint32
	parents map[uint32]extName // of directories
	names   map[uint32][]extName
}

func (s *extSearch) hit(ino uint32, t Touch) {
	if len(s.order) >= keptTouches {
		return
	}
	list, ok := s.found[ino]
	if !ok {
		s.order = append(s.order, ino)
	}
	for i := range list {
		if list[i].What == t.What {
			list[i].Bytes += t.Bytes
			list[i].Off = min(list[i].Off, t.Off)
			if len(list[i].Where) < keptWhere {
				list[i].Where = append(list[i].Where, t.Where...)
			}
			return
		}
	}
	t.Inode = uint64(ino)
	s.found[ino] = append(list, t)
}

// structures tells which of the file system's own are hit.
func (s *extSearch) structures() {
	e := s.e
	own := func(what string, block, n int64) {
		if b, first := hits(s.gaps, block*e.block, n*e.block); b > 0 {
			s.f.Touches = append(s.f.Touches, Touch{What: what, Bytes: b, Off: first, Where: cut(s.gaps, block*e.block, n*e.block)})
		}
	}
	for g := range e.groups {
		if n := e.copies(g); n > 0 {
			what := fmt.Sprintf("copy of super-block and descriptors in group %d", g)
			if g == 0 {
				what = "super-block and descriptors"
			}
			own(what, e.start(g), n)
		}
		d := e.descs[g]
		if d.bad {
			continue
		}
		own(fmt.Sprintf("block bitmap of group %d", g), d.blockBitmap, 1)
		own(fmt.Sprintf("inode bitmap of group %d", g), d.inodeBitmap, 1)
		own(fmt.Sprintf("inode table of group %d", g), d.inodeTable, e.tableBlocks())
	}
}

// group looks at the inodes of a group.
func (s *extSearch) group(g int64) error {
	e := s.e
	d := e.descs[g]
	if d.bad || d.flags&extInodeUninit != 0 {
		return s.ctx.Err()
	}
	bm, _ := readFull(e.r, d.inodeBitmap*e.block, int(e.block)) // without it all are looked at
	inUse := func(i int64) bool { return len(bm) < int(e.block) || bm[i/8]>>(i%8)&1 == 1 }
	per := e.block / e.inodeSize
	used := e.inodesPerGroup - d.unused
	for i := int64(0); i < used; i += per {
		if s.ctx.Err() != nil {
			return s.ctx.Err()
		}
		any := false
		for k := i; k < min(i+per, used); k++ {
			any = any || inUse(k)
		}
		if !any {
			continue
		}
		b, err := readFull(e.r, (d.inodeTable+i/per)*e.block, int(e.block))
		for k := i; k < min(i+per, used); k++ {
			ino := uint32(g*e.inodesPerGroup + k + 1)
			if !inUse(k) {
				continue
			}
			off := (k - i) * e.inodeSize
			if err != nil { // some of its sectors may have been read
				at := d.inodeTable*e.block + k*e.inodeSize
				if n, first := hits(s.gaps, at, e.inodeSize); n > 0 {
					s.hit(ino, Touch{What: "inode", Bytes: n, Off: first, Where: cut(s.gaps, at, e.inodeSize)})
					continue
				}
				one, err := readFull(e.r, at, int(e.inodeSize))
				if err == nil {
					s.inode(ino, one)
				}
				continue
			}
			s.inode(ino, b[off:off+e.inodeSize])
		}
	}
	return nil
}

func (s *extSearch) inode(ino uint32, b []byte) {
	mode := le.Uint16(b)
	if mode == 0 || le.Uint16(b[0x1a:]) == 0 && ino >= 11 {
		return
	}
	what := "content"
	switch {
	case mode&0xf000 == 0x4000:
		what = "directory"
		s.dirs = append(s.dirs, ino)
	case ino == uint32(le.Uint32(s.e.sb[0xe0:])) && ino != 0:
		what = "journal"
	case ino < 11 && ino != extRoot:
		what = "reserved file"
	}
	if acl := int64(le.Uint32(b[0x68:])) | int64(le.Uint16(b[0x76:]))<<32; acl != 0 {
		if n, first := hits(s.gaps, acl*s.e.block, s.e.block); n > 0 {
			s.hit(ino, Touch{What: "attributes", Bytes: n, Off: first, Where: cut(s.gaps, acl*s.e.block, s.e.block)})
		}
	}
	s.e.walk(b, func(logical, phys, n int64, index bool) {
		hit, first := hits(s.gaps, phys*s.e.block, n*s.e.block)
		if hit == 0 {
			return
		}
		where := cut(s.gaps, phys*s.e.block, n*s.e.block)
		if index {
			s.hit(ino, Touch{What: "index of blocks", Bytes: hit, Off: first, Where: where})
			return
		}
		s.hit(ino, Touch{What: what, Bytes: hit, Off: logical*s.e.block + first - phys*s.e.block, Where: where})
	})
}

// walk gives the blocks of an inode: runs of content, and blocks of indexes.
func (e *ext4) walk(b []byte, use func(logical, phys, n int64, index bool)) {
	mode, flags := le.Uint16(b), le.Uint32(b[0x20:])
	if k := mode & 0xf000; k != 0x8000 && k != 0x4000 && k != 0xa000 || flags&extInline != 0 {
		return
	}
	if k := mode & 0xf000; k == 0xa000 && flags&extExtents == 0 && le.Uint32(b[4:]) < 60 {
		return // the target stands in the inode
	}
	if flags&extExtents != 0 {
		e.extents(b[0x28:0x28+60], -1, use)
		return
	}
	logical, per := int64(0), e.block/4
	for i := range 12 {
		if p := int64(le.Uint32(b[0x28+4*i:])); p != 0 {
			use(int64(i), p, 1, false)
		}
	}
	logical = 12
	span := per
	for depth := 1; depth <= 3; depth++ {
		e.indirect(int64(le.Uint32(b[0x28+4*(11+depth):])), logical, depth, use)
		logical += span
		span *= per
	}
}

func (e *ext4) indirect(block, logical int64, depth int, use func(logical, phys, n int64, index bool)) {
	if block == 0 || block >= e.blocks || e.budget <= 0 {
		return
	}
	e.budget--
	use(logical, block, 1, true)
	b, err := readFull(e.r, block*e.block, int(e.block))
	if err != nil {
		return // it was told as hit
	}
	per, span := e.block/4, int64(1)
	for range depth - 1 {
		span *= per
	}
	for i := int64(0); i < per; i++ {
		p := int64(le.Uint32(b[4*i:]))
		switch {
		case p == 0 || p >= e.blocks:
		case depth == 1:
			use(logical+i, p, 1, false)
		default:
			e.indirect(p, logical+i*span, depth-1, use)
		}
	}
}

// extents walks a node of an extent tree. depth is what its parent wants, -1 for the root.
func (e *ext4) extents(b []byte, depth int, use func(logical, phys, n int64, index bool)) {
	if len(b) < 12 || le.Uint16(b) != 0xf30a {
		return
	}
	n, d := int(le.Uint16(b[2:])), int(le.Uint16(b[6:]))
	if d > 5 || depth >= 0 && d != depth || 12+12*n > len(b) {
		return
	}
	for i := range n {
		x := b[12+12*i:]
		logical := int64(le.Uint32(x))
		if d == 0 {
			count, phys := int64(le.Uint16(x[4:])), int64(le.Uint32(x[8:]))|int64(le.Uint16(x[6:]))<<32
			if count > 32768 { // allocated and never written: it reads as zeros whatever stands there
				continue
			}
			if phys < e.blocks {
				use(logical, phys, min(count, e.blocks-phys), false)
			}
			continue
		}
		if e.budget--; e.budget <= 0 {
			return
		}
		next := int64(le.Uint32(x[4:])) | int64(le.Uint16(x[8:]))<<32
		if next >= e.blocks {
			continue
		}
		use(logical, next, 1, true)
		if node, err := readFull(e.r, next*e.block, int(e.block)); err == nil {
			e.extents(node, d-1, use)
		}
	}
}

// entries reads a directory for the names of what was found and of other directories.
func (s *extSearch) entries(dir uint32) {
	b, err := s.e.inodeBytes(dir)
	if err != nil {
		return
	}
	if le.Uint32(b[0x20:])&extInline != 0 {
		s.block(dir, b[0x28+4:0x28+60])
		return
	}
	s.e.walk(b, func(_, phys, n int64, index bool) {
		for i := int64(0); i < n && !index && s.e.budget > 0; i++ {
			s.e.budget--
			if b, err := readFull(s.e.r, (phys+i)*s.e.block, int(s.e.block)); err == nil {
				s.block(dir, b)
			}
		}
	})
}

func (e *ext4) inodeBytes(ino uint32) ([]byte, error) {
	g, i := (int64(ino)-1)/e.inodesPerGroup, (int64(ino)-1)%e.inodesPerGroup
	if ino == 0 || g >= int64(len(e.descs)) || e.descs[g].bad {
		return nil, errors.New("no such inode")
	}
	return readFull(e.r, e.descs[g].inodeTable*e.block+i*e.inodeSize, int(e.inodeSize))
}

func (s *extSearch) block(dir uint32, b []byte) {
	for len(b) >= 8 {
		ino, n, name := le.Uint32(b), int(le.Uint16(b[4:])), int(b[6])
		if n < 8 || n > len(b) || n%4 != 0 {
			return
		}
		if ino != 0 && name > 0 && 8+name <= n {
			text := string(b[8 : 8+name])
			if text != "." && text != ".." {
				if _, ok := s.found[ino]; ok && len(s.names[ino]) < 64 {
					s.names[ino] = append(s.names[ino], extName{dir, text})
				}
				if b[7] == 2 || b[7] == 0 {
					s.parents[ino] = extName{dir, text}
				}
			}
		}
		b = b[n:]
	}
}

// name turns what was found into rows with paths.
func (s *extSearch) name() {
	for _, ino := range s.order {
		for _, t := range s.found[ino] {
			names := s.names[ino]
			if len(names) == 0 {
				if ino == extRoot {
					t.Path = "/"
				}
				s.f.Touches = append(s.f.Touches, t)
				continue
			}
			for _, n := range names {
				t.Path = s.path(n)
				s.f.Touches = append(s.f.Touches, t)
			}
		}
	}
	if len(s.order) >= keptTouches {
		s.f.Problems = append(s.f.Problems, fmt.Sprintf("more than %d files are touched; the rest is not listed", keptTouches))
	}
}

func (s *extSearch) path(n extName) string {
	p := "/" + n.name
	for range 4096 {
		if n.dir == extRoot {
			return p
		}
		up, ok := s.parents[n.dir]
		if !ok {
			return fmt.Sprintf("(directory %d, whose name is lost)%s", n.dir, p)
		}
		p, n = "/"+up.name+p, up
	}
	return p
}
