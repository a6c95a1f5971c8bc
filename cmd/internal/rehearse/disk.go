package rehearse

import (
	"context"
	"encoding/binary"
	"hash/fnv"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"aslrescue/detect"
	"aslrescue/engine/source"
)

// disk is a made-up source: what stands on it is a function of its serial and the offset, it has bad places, and it takes its time.
// It cannot be written to: there is nothing there.
type disk struct {
	info   source.Info
	seed   uint64
	start  int64 // where it begins on its disk; a partition has the bytes that its disk has there
	bad    []source.Gap
	rate   int64 // bytes per second; 0 is as fast as it goes
	wait   func(context.Context, time.Duration)
	kernel func(off int64) // what the kernel would say of a place that cannot be read; may be nil
	reads  atomic.Int64
	hold   func(ctx context.Context, off int64)
}

var _ source.Linear = (*disk)(nil)

const page = 4 * kib

// newDisk makes the disk, or the partition of it, that stands at path.
func newDisk(d *detect.Disk, path string, rate int64, wait func(context.Context, time.Duration)) *disk {
	s := &disk{seed: seedOf(d.Model + d.Serial), rate: rate, wait: wait}
	s.info = source.Info{Kind: source.Device, Path: path, Name: d.Name, Size: d.Size, Model: d.Model, Serial: d.Serial, Sector: max(d.Logical, 512)}
	s.bad = badPlaces(d, s.seed)
	for _, p := range d.Parts {
		if p.Path == path {
			s.info.Name, s.info.Size, s.start = p.Name, p.Size, p.Start
		}
	}
	s.info.ID = "device " + d.Model + " " + d.Serial + " " + s.info.Name
	return s
}

func seedOf(text string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(text)) // a hash cannot fail
	return h.Sum64()
}

// mix is the output function of splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// badPlaces are as many as the disk itself says it has bad sectors.
func badPlaces(d *detect.Disk, seed uint64) []source.Gap {
	if d.Smart == nil {
		return nil
	}
	n := min(d.Smart.Pending+d.Smart.MediaErrors, 40)
	var out []source.Gap
	around := d.Size/8 + int64(mix(seed)%uint64(max(d.Size/4, 1))) // they lie together, as a scratch does
	for i := range n {
		off := (around + i*i*d.Size/4000) / page * page % max(d.Size-page, page)
		out = append(out, source.Gap{Off: off, Len: page << (i % 4)})
	}
	return out
}

func (s *disk) Info() source.Info { return s.info }
func (s *disk) Changed() string   { return "" }
func (s *disk) Close() error      { return nil }

// Read is as source.Linear says.
func (s *disk) Read(ctx context.Context, buf []byte, off int64) (int, []source.Gap, error) {
	s.reads.Add(1)
	if s.hold != nil {
		s.hold(ctx, off)
	}
	if off >= s.info.Size {
		return 0, nil, ctx.Err()
	}
	buf = buf[:min(int64(len(buf)), s.info.Size-off)]
	s.fill(buf, s.start+off)
	gaps := s.gaps(off, int64(len(buf)))
	for _, g := range gaps {
		clear(buf[g.Off-off:][:g.Len])
		if s.kernel != nil {
			s.kernel(s.start + g.Off)
		}
	}
	if s.rate > 0 {
		took := time.Duration(float64(len(buf)) / float64(s.rate) * float64(time.Second))
		took += time.Duration(len(gaps)) * 700 * time.Millisecond // the disk tries again and again before it gives up
		s.wait(ctx, took)
	}
	return len(buf), gaps, ctx.Err()
}

// gaps is what cannot be read of n bytes at off.
func (s *disk) gaps(off, n int64) []source.Gap {
	var out []source.Gap
	for _, g := range s.bad {
		from, to := max(g.Off-s.start, off), min(g.Off+g.Len-s.start, off+n)
		if from < to {
			out = append(out, source.Gap{Off: from, Len: to - from, Kind: source.Unreadable, Why: unix.EIO.Error()})
		}
	}
	slices.SortFunc(out, func(a, b source.Gap) int { return int(min(1, max(-1, a.Off-b.Off))) })
	return join(out)
}

// join makes one of gaps that touch or overlap.
func join(gaps []source.Gap) []source.Gap {
	var out []source.Gap
	for _, g := range gaps {
		if k := len(out) - 1; k >= 0 && out[k].Off+out[k].Len >= g.Off {
			out[k].Len = max(out[k].Len, g.Off+g.Len-out[k].Off)
			continue
		}
		out = append(out, g)
	}
	return out
}

// A disk is laid out in stretches of 16 MiB: of its own, of what all disks of such machines have in common, or of nothing.
const stretch = 16 * mib

// fill makes the bytes at off. Each page is a few bytes again and again: to the store it is as new as any, and takes it little room.
func (s *disk) fill(buf []byte, off int64) {
	var word [32]byte
	for i := 0; i < len(buf); {
		at := off + int64(i)
		n := min(len(buf)-i, int(page-at%page))
		seed := s.seed
		switch mix(s.seed^uint64(at/stretch)) % 5 {
		case 0, 1:
			seed = 7 // the system that all of them have installed
		case 2, 3:
			clear(buf[i : i+n])
			i += n
			continue
		}
		h := mix(seed ^ mix(uint64(at/page)))
		for k := 0; k < len(word); k += 8 {
			binary.LittleEndian.PutUint64(word[k:], h+uint64(k))
		}
		for k := 0; k < n; {
			k += copy(buf[i+k:i+n], word[(int(at%page)+k)%len(word):])
		}
		i += n
	}
}
