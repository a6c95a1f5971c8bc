package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf16"
)

// ntfs reads NTFS. Its log is not replayed.
type ntfs struct {
	r        io.ReaderAt
	size     int64
	info     Info
	sector   int64
	cluster  int64
	clusters int64
	record   int64 // bytes of a record of the MFT
	mft      []ntfsRun
	records  int64
	mirror   int64 // cluster of the copy of the first records
}

// ntfsRun is a run of clusters of a file; lcn is -1 where there is a hole.
type ntfsRun struct{ vcn, lcn, n int64 }

// ntfsAttr is an attribute of a record.
type ntfsAttr struct {
	kind     uint32
	named    bool
	resident []byte // its value; nil where it lies elsewhere
	runs     []ntfsRun
	size     int64
	first    int64 // lowest vcn
}

const (
	ntfsStandard, ntfsList, ntfsName, ntfsVolumeName, ntfsVolumeInfo, ntfsData, ntfsIndexRoot, ntfsIndex = 0x10, 0x20, 0x30, 0x60, 0x70, 0x80, 0x90, 0xa0
	ntfsMostRuns                                                                                         = 1 << 20
)

func openNTFS(r io.ReaderAt, size int64) (FileSystem, error) {
	b, err := readFull(r, 0, 512)
	if err != nil || string(b[3:11]) != "NTFS    " {
		if b, err = readFull(r, size-512, 512); err != nil || string(b[3:11]) != "NTFS    " { // its copy is the last sector
			return nil, ErrUnknown
		}
	}
	n := &ntfs{r: r, size: size, sector: int64(le.Uint16(b[0x0b:]))}
	per := int64(b[0x0d])
	if per > 0x80 {
		per = 1 << (256 - per)
	}
	n.cluster = n.sector * per
	sectors := int64(le.Uint64(b[0x28:]))
	mft := int64(le.Uint64(b[0x30:]))
	n.mirror = int64(le.Uint64(b[0x38:]))
	if c := int8(b[0x40]); c < 0 && c > -31 {
		n.record = 1 << -c
	} else {
		n.record = int64(c) * n.cluster
	}
	switch {
	case n.sector < 256 || n.sector > 4096 || n.sector&(n.sector-1) != 0, n.cluster <= 0, n.cluster > 2<<20, n.cluster&(n.cluster-1) != 0, sectors <= 0, sectors > size/n.sector,
		n.record < 512, n.record > 64<<10, n.record&(n.record-1) != 0, mft <= 0, mft*n.cluster >= size:
		return nil, fmt.Errorf("a boot sector of NTFS whose numbers do not fit each other: %w", ErrUnknown)
	}
	n.clusters = sectors * n.sector / n.cluster
	n.info = Info{Kind: "ntfs", UUID: fmt.Sprintf("%016X", le.Uint64(b[0x48:])), Block: n.cluster, Size: sectors * n.sector}
	n.mft = []ntfsRun{{0, mft, max(1, 16*n.record/n.cluster)}}
	n.records = 16
	if err := n.openMFT(); err != nil {
		return nil, fmt.Errorf("%w: %w", err, ErrUnknown)
	}
	n.look()
	return n, nil
}

// openMFT finds where the table of files lies, by its own first record, or the copy of that.
func (n *ntfs) openMFT() error {
	rec, err := n.read(0)
	if err != nil {
		saved := n.mft
		n.mft = []ntfsRun{{0, n.mirror, max(1, 4*n.record/n.cluster)}}
		if rec, err = n.read(0); err != nil {
			return fmt.Errorf("the first record of its table of files cannot be read: %w", err)
		}
		n.mft = saved
	}
	attrs := n.attrs(rec)
	var runs []ntfsRun
	size := int64(0)
	for _, a := range attrs {
		if a.kind == ntfsData && !a.named && a.resident == nil {
			runs = append(runs, a.runs...)
			size = max(size, a.size)
		}
	}
	if len(runs) == 0 || size <= 0 || size > n.size {
		return errors.New("its table of files has no place")
	}
	n.mft, n.records = runs, size/n.record
	for _, a := range attrs { // the table is in so many pieces that others of its records say where
		if a.kind != ntfsList {
			continue
		}
		list := a.resident
		if list == nil {
			list, _ = n.content(a.runs, min(a.size, 1<<20))
		}
		for len(list) >= 26 {
			k := int(le.Uint16(list[4:]))
			if le.Uint32(list) == ntfsData && le.Uint64(list[8:]) > 0 {
				if rec, err := n.read(int64(le.Uint64(list[16:]) & (1<<48 - 1))); err == nil {
					for _, x := range n.attrs(rec) {
						if x.kind == ntfsData && !x.named && x.resident == nil {
							n.mft = append(n.mft, x.runs...)
						}
					}
				}
			}
			if k < 26 || k > len(list) {
				break
			}
			list = list[k:]
		}
	}
	return nil
}

// at tells where a byte of the table of files lies.
func at(runs []ntfsRun, off, cluster int64) (int64, bool) {
	vcn := off / cluster
	for _, r := range runs {
		if vcn >= r.vcn && vcn < r.vcn+r.n && r.lcn >= 0 {
			return (r.lcn+vcn-r.vcn)*cluster + off%cluster, true
		}
	}
	return 0, false
}

// read reads a record and undoes what protects its sectors.
func (n *ntfs) read(i int64) ([]byte, error) {
	var b []byte
	for len(b) < int(n.record) {
		step := min(n.record, n.cluster)
		off, ok := at(n.mft, i*n.record+int64(len(b)), n.cluster)
		if !ok {
			return nil, fmt.Errorf("record %d has no place", i)
		}
		part, err := readFull(n.r, off, int(step))
		if err != nil {
			return nil, err
		}
		b = append(b, part...)
	}
	return b, fixup(b, "FILE", int64(512))
}

// fixup checks the marks at the end of every sector and puts back what stood there.
func fixup(b []byte, magic string, sector int64) error {
	if string(b[:4]) != magic {
		return fmt.Errorf("it is no record but %q", b[:4])
	}
	off, count := int(le.Uint16(b[4:])), int(le.Uint16(b[6:]))
	if count < 2 || off+2*count > len(b) || int64(count-1)*sector > int64(len(b)) {
		return errors.New("the marks of a record are damaged")
	}
	mark := le.Uint16(b[off:])
	for i := 1; i < count; i++ {
		end := int64(i)*sector - 2
		if le.Uint16(b[end:]) != mark {
			return errors.New("a record was written in part only")
		}
		copy(b[end:end+2], b[off+2*i:])
	}
	return nil
}

// attrs takes a record apart. What does not fit ends it.
func (n *ntfs) attrs(b []byte) (all []ntfsAttr) {
	for off := int(le.Uint16(b[0x14:])); off+24 <= len(b); {
		kind, size := le.Uint32(b[off:]), int(le.Uint32(b[off+4:]))
		if kind == 0xffffffff || size < 24 || off+size > len(b) {
			return all
		}
		x := b[off : off+size]
		a := ntfsAttr{kind: kind, named: x[9] > 0}
		if x[8] == 0 {
			v, k := int(le.Uint16(x[20:])), int(le.Uint32(x[16:]))
			if v > size || k < 0 || k > size-v {
				return all
			}
			a.resident = x[v : v+k : v+k]
			if a.resident == nil {
				a.resident = []byte{}
			}
		} else {
			if size < 64 {
				return all
			}
			a.first, a.size = int64(le.Uint64(x[16:])), int64(le.Uint64(x[48:]))
			if p := int(le.Uint16(x[32:])); p < size {
				a.runs = n.runs(x[p:], a.first)
			}
		}
		all = append(all, a)
		off += size
	}
	return all
}

// runs decodes a list of runs.
func (n *ntfs) runs(b []byte, vcn int64) (runs []ntfsRun) {
	lcn := int64(0)
	for len(b) > 0 && b[0] != 0 && len(runs) < ntfsMostRuns {
		nl, no := int(b[0]&15), int(b[0]>>4)
		if nl == 0 || nl > 8 || no > 8 || 1+nl+no > len(b) {
			return runs
		}
		count := signed(b[1 : 1+nl])
		r := ntfsRun{vcn, -1, count}
		if no > 0 {
			lcn += signed(b[1+nl : 1+nl+no])
			r.lcn = lcn
		}
		if count <= 0 || count > n.clusters || r.lcn >= n.clusters || r.lcn < -1 || r.lcn >= 0 && r.lcn+count > n.clusters {
			return runs
		}
		runs = append(runs, r)
		vcn += count
		b = b[1+nl+no:]
	}
	return runs
}

func signed(b []byte) int64 {
	v := int64(int8(b[len(b)-1]))
	for i := len(b) - 2; i >= 0; i-- {
		v = v<<8 | int64(b[i])
	}
	return v
}

// content reads the bytes of a file by its runs.
func (n *ntfs) content(runs []ntfsRun, size int64) ([]byte, error) {
	var out []byte
	for _, r := range runs {
		k := min(r.n*n.cluster, size-int64(len(out)))
		if k <= 0 {
			break
		}
		if r.lcn < 0 {
			return nil, errors.New("a hole where none can be")
		}
		b, err := readFull(n.r, r.lcn*n.cluster, int(k))
		if err != nil {
			return nil, err
		}
		out = append(out, b...)
	}
	if int64(len(out)) < size {
		return nil, errors.New("it ends early")
	}
	return out, nil
}

// look reads label and state.
func (n *ntfs) look() {
	rec, err := n.read(3)
	if err != nil {
		n.info.Dirty = "whether it was unmounted cannot be read: " + err.Error()
		return
	}
	known := false
	for _, a := range n.attrs(rec) {
		switch {
		case a.kind == ntfsVolumeName && a.resident != nil:
			n.info.Label = utf16Text(a.resident)
		case a.kind == ntfsVolumeInfo && len(a.resident) >= 12:
			known = true
			if le.Uint16(a.resident[10:])&1 != 0 {
				n.info.Dirty = "it says of itself that it was not unmounted"
			}
		}
	}
	if !known {
		n.info.Dirty = "whether it was unmounted is not said"
	}
	if n.info.Dirty == "" {
		n.info.Dirty = n.logState()
	}
}

// logState tells whether the log was closed: it is not where Windows crashed or hibernated.
func (n *ntfs) logState() string {
	rec, err := n.read(2)
	if err != nil {
		return "its log cannot be read: " + err.Error()
	}
	for _, a := range n.attrs(rec) {
		if a.kind != ntfsData || a.named || len(a.runs) == 0 || a.runs[0].lcn < 0 {
			continue
		}
		b, err := readFull(n.r, a.runs[0].lcn*n.cluster, 4096)
		if err != nil {
			return "its log cannot be read: " + err.Error()
		}
		if allOnes(b) {
			return ""
		}
		if string(b[:4]) != "RSTR" {
			return "its log cannot be understood"
		}
		if at := int(le.Uint16(b[0x18:])); at+16 <= len(b) && (le.Uint16(b[at+12:]) == 0xffff || le.Uint16(b[at+14:])&2 != 0) {
			return ""
		}
		return "its log was not closed: Windows crashed, or hibernates"
	}
	return "it has no log"
}

func allOnes(b []byte) bool {
	for _, x := range b {
		if x != 0xff {
			return false
		}
	}
	return true
}

func (n *ntfs) Info() Info { return n.info }

// bitmap is the file that has a bit for every cluster.
func (n *ntfs) bitmap() ([]byte, error) {
	rec, err := n.read(6)
	if err != nil {
		return nil, fmt.Errorf("the record of its bitmap cannot be read: %w", err)
	}
	for _, a := range n.attrs(rec) {
		if a.kind != ntfsData || a.named {
			continue
		}
		b := a.resident
		if b == nil {
			if b, err = n.content(a.runs, min(a.size, (n.clusters+7)/8)); err != nil {
				return nil, fmt.Errorf("its bitmap cannot be read: %w", err)
			}
		}
		if int64(len(b)) < n.clusters/8 {
			return nil, errors.New("its bitmap is too short")
		}
		return append(b, 0xff), nil
	}
	return nil, errors.New("it has no bitmap")
}

func (n *ntfs) Used(ctx context.Context) ([]Span, error) {
	if n.info.Dirty != "" {
		return nil, fmt.Errorf("%s: %w", n.info.Dirty, ErrUntrusted)
	}
	bm, err := n.bitmap()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, ErrUntrusted)
	}
	used := []Span{{0, n.cluster}}
	if end := n.clusters * n.cluster; end < n.size {
		used = append(used, Span{end, n.size - end})
	}
	for c := int64(0); c < n.clusters; c++ {
		if bm[c/8]>>(c%8)&1 == 1 {
			used = appendUsed(used, c*n.cluster, n.cluster)
		}
	}
	slices.SortFunc(used, bySpan)
	used = joined(used)
	// A bitmap has no checksum. But everything that a file owns must be used in it, or the bitmap is not one to leave things out by.
	free := complement(used, n.size)
	bad := ""
	err = n.each(ctx, func(i int64, owner int64, a ntfsAttr) {
		for _, r := range a.runs {
			if r.lcn < 0 || owner == 8 { // $BadClus has the whole volume as a hole
				continue
			}
			if k, _ := hits(free, r.lcn*n.cluster, r.n*n.cluster); k > 0 && bad == "" {
				bad = fmt.Sprintf("%d bytes that file %d owns are free in its bitmap", k, owner)
			}
		}
	}, func(i int64, err error) {
		if bad == "" {
			bad = fmt.Sprintf("record %d of its table of files cannot be read, so its bitmap cannot be checked: %v", i, err)
		}
	}, nil)
	if err != nil {
		return nil, err
	}
	if bad != "" {
		return nil, fmt.Errorf("%s: %w", bad, ErrUntrusted)
	}
	return used, nil
}

// each gives every attribute of every file in use, by the record it stands in and the file it belongs to.
func (n *ntfs) each(ctx context.Context, use func(rec, owner int64, a ntfsAttr), bad func(int64, error), begin func(rec, owner int64, dir bool)) error {
	for i := range n.records {
		if i%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		b, err := n.read(i)
		if err != nil {
			if off, ok := at(n.mft, i*n.record, n.cluster); ok {
				if head, herr := readFull(n.r, off, 4); herr == nil && string(head) != "FILE" {
					continue // never used
				}
			}
			bad(i, err)
			continue
		}
		if le.Uint16(b[0x16:])&1 == 0 {
			continue
		}
		owner := int64(le.Uint64(b[0x20:]) & (1<<48 - 1))
		if owner == 0 {
			owner = i
		}
		if begin != nil {
			begin(i, owner, le.Uint16(b[0x16:])&2 != 0)
		}
		for _, a := range n.attrs(b) {
			use(i, owner, a)
		}
	}
	return nil
}

type ntfsFileName struct {
	dir  int64
	name string
}

func (n *ntfs) Touched(ctx context.Context, gaps []Span) (*Findings, error) {
	f := &Findings{}
	if n.info.Dirty != "" {
		f.Problems = append(f.Problems, n.info.Dirty+"; names are as of before")
	}
	if bm, err := n.bitmap(); err != nil {
		f.Problems = append(f.Problems, err.Error())
	} else {
		f.Free = n.freeBytes(bm, gaps)
	}
	found := map[int64][]Touch{}
	var order []int64
	dirs := map[int64]ntfsFileName{}
	names := map[int64][]ntfsFileName{}
	hit := func(owner int64, t Touch) {
		if len(order) >= keptTouches {
			return
		}
		if _, ok := found[owner]; !ok {
			order = append(order, owner)
		}
		t.Inode = uint64(owner)
		for i := range found[owner] {
			if o := &found[owner][i]; o.What == t.What {
				o.Bytes, o.Off = o.Bytes+t.Bytes, min(o.Off, t.Off)
				if len(o.Where) < keptWhere {
					o.Where = append(o.Where, t.Where...)
				}
				return
			}
		}
		found[owner] = append(found[owner], t)
	}
	lost := int64(0)
	err := n.each(ctx, func(rec, owner int64, a ntfsAttr) {
		if a.kind == ntfsName && len(a.resident) >= 66 && a.resident[65] != 2 {
			if k := 66 + 2*int(a.resident[64]); k <= len(a.resident) {
				nm := ntfsFileName{int64(le.Uint64(a.resident) & (1<<48 - 1)), ntfsText(a.resident[66:k])}
				if _, ok := dirs[owner]; !ok {
					dirs[owner] = nm
				}
				if len(names[owner]) < 64 {
					names[owner] = append(names[owner], nm)
				}
			}
		}
		if owner == 8 {
			return
		}
		what := "content"
		switch {
		case owner < 16 && owner != 5:
			what = "the file system's own"
		case a.kind == ntfsIndex:
			what = "directory"
		case a.kind != ntfsData || a.named:
			what = "attribute"
		}
		for _, r := range a.runs {
			if r.lcn < 0 {
				continue
			}
			if k, first := hits(gaps, r.lcn*n.cluster, r.n*n.cluster); k > 0 {
				hit(owner, Touch{What: what, Bytes: k, Off: r.vcn*n.cluster + first - r.lcn*n.cluster, Where: cut(gaps, r.lcn*n.cluster, r.n*n.cluster)})
			}
		}
	}, func(i int64, err error) { lost++ }, nil)
	if err != nil {
		return nil, err
	}
	if lost > 0 {
		f.Problems = append(f.Problems, fmt.Sprintf("%d records of its table of files cannot be read: the files they stand for are not named", lost))
	}
	for _, owner := range order {
		for _, t := range found[owner] {
			list := names[owner]
			if len(list) == 0 {
				f.Touches = append(f.Touches, t)
			}
			for _, nm := range list {
				t.Path = ntfsPath(dirs, nm)
				f.Touches = append(f.Touches, t)
			}
		}
	}
	return f, ctx.Err()
}

func ntfsPath(dirs map[int64]ntfsFileName, nm ntfsFileName) string {
	p := "/" + nm.name
	for range 1024 {
		if nm.dir == 5 {
			return p
		}
		up, ok := dirs[nm.dir]
		if !ok {
			break
		}
		p, nm = "/"+up.name+p, up
	}
	return fmt.Sprintf("(directory %d, whose name is lost)%s", nm.dir, p)
}

func ntfsText(b []byte) string {
	u := make([]uint16, len(b)/2)
	for i := range u {
		u[i] = le.Uint16(b[2*i:])
	}
	return string(utf16.Decode(u))
}

func (n *ntfs) freeBytes(bm []byte, gaps []Span) (free int64) {
	for _, g := range gaps {
		for off := g.Off; off < g.End(); {
			c := off / n.cluster
			end := min((c+1)*n.cluster, g.End())
			if c < n.clusters && bm[c/8]>>(c%8)&1 == 0 {
				free += end - off
			}
			off = end
		}
	}
	return free
}
