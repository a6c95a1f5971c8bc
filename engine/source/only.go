package source

import (
	"context"
	"sort"

	"golang.org/x/sys/unix"

	"aslrescue/engine/source/passes"
)

// Stretch is a run of bytes of a source.
type Stretch struct{ Off, Len int64 }

// Chosen is a Linear of which only a part is read, because somebody chose so. The rest is Untried, with LeftOut as its Why.
type Chosen interface {
	Linear
	LeftOut() string
	Wanted() []Stretch // sorted and apart
}

// Only reads no more of src than wanted, which is sorted and apart. why says who chose that, and by what.
func Only(src Linear, wanted []Stretch, why string) Chosen {
	o := &only{src, wanted, why}
	if raw, ok := src.(Raw); ok { // reading by passes is told what is wanted
		return &onlyRaw{o, raw}
	}
	return o
}

type onlyRaw struct {
	*only
	raw Raw
}

func (o *onlyRaw) Try(ctx context.Context, buf []byte, r passes.Read) (passes.Result, unix.Errno, error) {
	return o.raw.Try(ctx, buf, r)
}

type only struct {
	Linear
	wanted []Stretch
	why    string
}

// Under is what a part is read of.
func (o *only) Under() Source { return o.Linear }

func (o *only) LeftOut() string { return o.why }

func (o *only) Wanted() []Stretch { return o.wanted }

// Read reads what is wanted of a range, one part after the other.
func (o *only) Read(ctx context.Context, buf []byte, off int64) (n int, gaps []Gap, err error) {
	if off < 0 || off >= o.Info().Size {
		return o.Linear.Read(ctx, buf, off)
	}
	buf = buf[:min(int64(len(buf)), o.Info().Size-off)]
	end := off + int64(len(buf))
	skip := func(to int64) {
		if at := off + int64(n); to > at {
			clear(buf[n : to-off])
			gaps = append(gaps, Gap{Off: at, Len: to - at, Kind: Untried, Why: o.why})
			n = int(to - off)
		}
	}
	i := sort.Search(len(o.wanted), func(i int) bool { return o.wanted[i].Off+o.wanted[i].Len > off })
	for ; i < len(o.wanted) && o.wanted[i].Off < end; i++ {
		a, b := max(o.wanted[i].Off, off), min(o.wanted[i].Off+o.wanted[i].Len, end)
		skip(a)
		got, more, err := o.Linear.Read(ctx, buf[n:b-off], a)
		n += got
		gaps = append(gaps, more...)
		if err != nil || int64(got) < b-a {
			return n, gaps, err
		}
	}
	skip(end)
	return n, gaps, nil
}
