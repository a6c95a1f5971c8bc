package source

import (
	"context"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"aslrescue/engine/source/mapfile"
	"aslrescue/engine/source/passes"
)

// continued is a device of which another program has read a part already.
type continued struct {
	Raw
	m     *mapfile.Map
	image io.ReaderAt
}

// Continued takes from image what m calls finished, and reads the rest from raw.
func Continued(raw Raw, m *mapfile.Map, image io.ReaderAt) Raw { return &continued{raw, m, image} }

// Under is what is read.
func (c *continued) Under() Source { return c.Raw }

// Begun is what was known of the device before: what is finished is to be taken, not to be read.
func (c *continued) Begun() *mapfile.Map { return c.m }

// Try is as Raw says: each run of one status by itself.
func (c *continued) Try(ctx context.Context, buf []byte, r passes.Read) (res passes.Result, errno unix.Errno, err error) {
	for res.Good < r.Len {
		part := c.part(r, res.Good)
		var some passes.Result
		if c.finished(part.Off) {
			n, rerr := c.image.ReadAt(buf[part.Off-r.Off:][:part.Len], part.Off)
			if int64(n) < part.Len {
				return res, 0, fmt.Errorf("the image ends, or cannot be read, at byte %d, which the map file calls finished: %w", part.Off+int64(n), rerr)
			}
			some.Good = part.Len
		} else {
			some, errno, err = c.Raw.Try(ctx, buf[part.Off-r.Off:][:part.Len], part)
		}
		res.Good += some.Good
		res.Took += some.Took
		res.Bad, res.Slow = some.Bad, some.Slow
		if err != nil || errno != 0 || some.Slow || some.Good < part.Len {
			return res, errno, err
		}
	}
	return res, 0, nil
}

func (c *continued) finished(off int64) bool {
	i := c.m.Find(off)
	return i < len(c.m.Blocks) && c.m.Blocks[i].Status == mapfile.Finished
}

// part is what follows of r where done bytes are read, up to where it is or is no longer finished.
func (c *continued) part(r passes.Read, done int64) passes.Read {
	lo, hi := r.Off+done, r.Off+r.Len
	if r.Back {
		lo, hi = r.Off, r.Off+r.Len-done
	}
	at := lo
	if r.Back {
		at = hi - 1
	}
	is := c.finished(at)
	for i := c.m.Find(at); i >= 0 && i < len(c.m.Blocks); {
		b := c.m.Blocks[i]
		if (b.Status == mapfile.Finished) != is {
			if r.Back {
				lo = max(lo, b.End())
			} else {
				hi = min(hi, b.Pos)
			}
			break
		}
		if r.Back {
			i--
		} else {
			i++
		}
		if b.Pos >= hi || b.End() <= lo {
			break
		}
	}
	r.Off, r.Len, r.Ahead = lo, hi-lo, 0
	return r
}
