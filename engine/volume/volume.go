// Package volume reads partition tables and file systems out of a run of bytes, far enough to say what is in use and which files a
// range of bytes belongs to. It reads disks that are hurt and file systems that may be hostile: nothing that stands there is trusted, everything is
// bounded, and what cannot be told is said.
package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
)

// ErrUnknown means that no file system which is known here was found.
var ErrUnknown = errors.New("no file system that is known here")

// ErrUntrusted means that what a file system says of its free space cannot be relied on.
var ErrUntrusted = errors.New("its free space cannot be relied on")

// Span is a run of bytes.
type Span struct {
	Off int64 `json:"off"`
	Len int64 `json:"len"`
}

// End is the first byte behind it.
func (s Span) End() int64 { return s.Off + s.Len }

// Info is what a file system says of itself.
type Info struct {
	Kind  string `json:"kind"` // ext4, xfs, ntfs, fat
	Label string `json:"label,omitempty"`
	UUID  string `json:"uuid,omitempty"`
	Block int64  `json:"block"` // bytes
	Size  int64  `json:"size"`  // bytes that it takes up
	Dirty string `json:"dirty,omitempty"`
}

// Touch is something that a gap touches.
type Touch struct {
	Path  string `json:"path,omitempty"`  // of a file, from the file system's root; several names are several rows
	Inode uint64 `json:"inode,omitempty"` // or what numbers files there
	What  string `json:"what"`            // content, directory, inode, and so on
	Bytes int64  `json:"bytes"`           // of it that are missing
	Off   int64  `json:"off"`             // of the first of them, in the file where What is content, otherwise in the file system
	Where []Span `json:"where"`           // the first of them on the disk
}

// Findings are what is touched of one file system.
type Findings struct {
	Touches  []Touch  `json:"touches,omitempty"`
	Free     int64    `json:"free"` // bytes of the gaps in free space: nothing is lost there
	Problems []string `json:"problems,omitempty"`
}

// FileSystem is one that was found. Offsets are from its own beginning.
type FileSystem interface {
	Info() Info
	// Used gives what is not free, sorted and joined; it covers everything outside of the file system's own blocks too. An error that
	// wraps ErrUntrusted says why the file system's word on it is not good enough to leave anything out.
	Used(ctx context.Context) ([]Span, error)
	// Touched tells what lies in gaps, which are sorted and apart.
	Touched(ctx context.Context, gaps []Span) (*Findings, error)
}

// Open finds out what file system begins at the beginning of r.
func Open(r io.ReaderAt, size int64) (FileSystem, error) {
	var errs []error
	for _, open := range []func(io.ReaderAt, int64) (FileSystem, error){openExt4, openNTFS, openFAT} {
		fs, err := open(r, size)
		if err == nil {
			return fs, nil
		}
		if !errors.Is(err, ErrUnknown) {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return nil, ErrUnknown
}

// Volume is a place where a file system may be: a partition, or the whole disk.
type Volume struct {
	Partition int    `json:"partition,omitempty"` // its number; 0 is the whole disk
	Off       int64  `json:"off"`
	Len       int64  `json:"len"`
	Info      *Info  `json:"file_system,omitempty"`
	Why       string `json:"why,omitempty"` // why there is none

	fs FileSystem
}

// FS is the file system, nil where none is known.
func (v *Volume) FS() FileSystem { return v.fs }

// Disk is what is on a disk.
type Disk struct {
	Table   *Table   `json:"table"`
	Volumes []Volume `json:"volumes"`
}

// Look finds partitions and file systems. It changes nothing and never fails: what cannot be read is said where it is missing.
func Look(r io.ReaderAt, size int64, sector int) *Disk {
	r = &windows{r: r, size: size}
	d := &Disk{Table: ReadTable(r, size, sector)}
	places := []Volume{{Off: 0, Len: size}}
	if len(d.Table.Partitions) > 0 {
		places = nil
		for _, p := range d.Table.Partitions {
			if !p.Extended {
				places = append(places, Volume{Partition: p.Number, Off: p.Off, Len: p.Len})
			}
		}
	}
	for _, v := range places {
		fs, err := Open(io.NewSectionReader(r, v.Off, v.Len), v.Len)
		if err != nil {
			v.Why = err.Error()
		} else {
			i := fs.Info()
			v.fs, v.Info = fs, &i
		}
		d.Volumes = append(d.Volumes, v)
	}
	return d
}

// within gives the parts of gaps that lie in a run, counted from its beginning.
func within(gaps []Span, off, n int64) (in []Span) {
	for _, g := range gaps {
		a, b := max(g.Off, off), min(g.End(), off+n)
		if a < b {
			in = append(in, Span{a - off, b - a})
		}
	}
	return in
}

// Touched is what gaps of a disk touch, by volume.
type Touched struct {
	Volume int   `json:"volume"` // place in Disk.Volumes; -1: outside of all volumes, or in the partition table
	Bytes  int64 `json:"bytes"`  // of gaps in it
	Findings
}

// TouchedBy tells what gaps, which are sorted and apart, touch.
func (d *Disk) TouchedBy(ctx context.Context, gaps []Span) ([]Touched, error) {
	var all []Touched
	outside := sum(gaps)
	for i := range d.Volumes {
		v := &d.Volumes[i]
		in := within(gaps, v.Off, v.Len)
		if len(in) == 0 {
			continue
		}
		t := Touched{Volume: i, Bytes: sum(in)}
		outside -= t.Bytes
		if v.fs == nil {
			t.Problems = []string{"which files they touch is not known: " + v.Why}
		} else {
			f, err := v.fs.Touched(ctx, in)
			if err != nil {
				return nil, err
			}
			t.Findings = *f
			for k := range t.Touches {
				for w := range t.Touches[k].Where {
					t.Touches[k].Where[w].Off += v.Off
				}
			}
		}
		all = append(all, t)
	}
	if outside > 0 {
		t := Touched{Volume: -1, Bytes: outside}
		for _, p := range d.Table.Where {
			for _, g := range gaps {
				if a, b := max(g.Off, p.Off), min(g.End(), p.End()); a < b {
					t.Touches = append(t.Touches, Touch{What: "partition table", Bytes: b - a, Off: a, Where: []Span{{a, b - a}}})
				}
			}
		}
		all = append(all, t)
	}
	return all, nil
}

// Used gives what of a disk is to be read where only what is in use is wanted: all but what file systems call free. why has a line
// for each volume: what is left out there, or why nothing is.
func (d *Disk) Used(ctx context.Context, size int64) (used []Span, why []string, err error) {
	var free []Span
	for i := range d.Volumes {
		v := &d.Volumes[i]
		name := "the disk"
		if v.Partition > 0 {
			name = fmt.Sprintf("partition %d", v.Partition)
		}
		if v.fs == nil {
			why = append(why, fmt.Sprintf("%s: read whole: %s", name, v.Why))
			continue
		}
		in, err := v.fs.Used(ctx)
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		if err != nil {
			why = append(why, fmt.Sprintf("%s: %s, read whole: %v", name, v.Info.Kind, err))
			continue
		}
		for _, s := range complement(in, v.Len) {
			free = append(free, Span{v.Off + s.Off, s.Len})
		}
		why = append(why, fmt.Sprintf("%s: %s, %d of %d bytes are in use", name, v.Info.Kind, sum(in), v.Len))
	}
	slices.SortFunc(free, bySpan)
	return complement(joined(free), size), why, nil
}

func bySpan(a, b Span) int {
	switch {
	case a.Off < b.Off:
		return -1
	case a.Off > b.Off:
		return 1
	}
	return 0
}

func sum(spans []Span) (n int64) {
	for _, s := range spans {
		n += s.Len
	}
	return n
}

// joined joins sorted spans that touch or overlap.
func joined(spans []Span) (out []Span) {
	for _, s := range spans {
		if n := len(out); n > 0 && s.Off <= out[n-1].End() {
			out[n-1].Len = max(out[n-1].End(), s.End()) - out[n-1].Off
			continue
		}
		if s.Len > 0 {
			out = append(out, s)
		}
	}
	return out
}

// complement gives what sorted spans leave of size bytes.
func complement(spans []Span, size int64) (out []Span) {
	at := int64(0)
	for _, s := range spans {
		if s.Off > at {
			out = append(out, Span{at, min(s.Off, size) - at})
		}
		if at = max(at, s.End()); at >= size {
			return out
		}
	}
	if at < size {
		out = append(out, Span{at, size - at})
	}
	return out
}

// hits tells how many bytes of a run lie in gaps, and where the first does.
func hits(gaps []Span, off, n int64) (bytes, first int64) {
	i := sort.Search(len(gaps), func(i int) bool { return gaps[i].End() > off })
	first = -1
	for ; i < len(gaps) && gaps[i].Off < off+n; i++ {
		a, b := max(gaps[i].Off, off), min(gaps[i].End(), off+n)
		if first < 0 {
			first = a
		}
		bytes += b - a
	}
	return bytes, first
}

// cut gives the parts of a run that lie in gaps, the first keptWhere of them.
func cut(gaps []Span, off, n int64) (in []Span) {
	i := sort.Search(len(gaps), func(i int) bool { return gaps[i].End() > off })
	for ; i < len(gaps) && gaps[i].Off < off+n && len(in) < keptWhere; i++ {
		a, b := max(gaps[i].Off, off), min(gaps[i].End(), off+n)
		in = append(in, Span{a, b - a})
	}
	return in
}

// keptWhere bounds how many places are told of one file.
const keptWhere = 256

// readFull reads exactly n bytes at off.
func readFull(r io.ReaderAt, off int64, n int) ([]byte, error) {
	if off < 0 {
		return nil, fmt.Errorf("offset %d", off)
	}
	b := make([]byte, n)
	k, err := r.ReadAt(b, off)
	if k == n {
		return b, nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return b[:k], err
}

// keptTouches bounds a list; what is more is counted in a problem.
const keptTouches = 100_000
