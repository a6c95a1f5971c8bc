package intake

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/klauspost/compress"
	"github.com/klauspost/compress/zstd"

	"aslrescue/engine/event"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
)

// Compression is how new artifacts are stored.
type Compression string

// The ways to compress. Auto is decided once, when the intake begins.
const (
	Auto   Compression = "auto"
	None   Compression = "none"
	Fast   Compression = "fast"
	Better Compression = "better"
)

// zstdLibrary names the encoder that blocks depend on. A golden vector fails when its output changes, and then this must.
const zstdLibrary = "klauspost/compress 1.20.3"

// Codec says what a mode means in this version.
func Codec(mode Compression) (format.Codecs, error) {
	switch mode {
	case None:
		return format.Codecs{Mode: string(None)}, nil
	case Auto, Fast, "":
		return format.Codecs{Mode: string(Fast), Library: zstdLibrary, Level: int(zstd.SpeedFastest)}, nil
	case Better:
		return format.Codecs{Mode: string(Better), Library: zstdLibrary, Level: int(zstd.SpeedBetterCompression)}, nil
	}
	return format.Codecs{}, fmt.Errorf("compression %q: want auto, none, fast or better", mode)
}

// compressor is one worker's encoder and decoder.
type compressor struct {
	enc   interface{ EncodeAll(src, dst []byte) []byte }
	dec   *format.Decoder
	check []byte
}

func newCompressor(c format.Codecs) (*compressor, error) {
	if c.Library != zstdLibrary {
		return nil, fmt.Errorf("this intake was begun with %s, this program has %s: go on with the program that began it, or begin anew with --no-resume", c.Library, zstdLibrary)
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.EncoderLevel(c.Level)), zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, err
	}
	dec, err := format.NewDecoder()
	return &compressor{enc: enc, dec: dec}, err
}

// probe is how much of a chunk decides whether to compress it at all; worthIt is a function of those bytes alone, never of load.
const probe = 4096

func worthIt(data []byte) bool {
	return len(data) >= 64 && (compress.Estimate(data[:min(len(data), probe)]) > 0.02 || compress.Estimate(data[len(data)/2:][:min(len(data)/2, probe)]) > 0.02)
}

// unit compresses a unit's new artifacts into its arena. What was compressed is decoded and compared before it is used: the
// source bytes are still at hand, and an encoder or memory at fault is found here or never.
func (c *compressor) unit(u *unit) error {
	used := 0
	for i := range u.adds {
		a := &u.adds[i]
		a.stored = a.data
		if !worthIt(a.data) {
			continue
		}
		var dst []byte
		if n := len(a.data); used+n <= len(u.arena) {
			dst = u.arena[used : used : used+n]
		}
		out := c.enc.EncodeAll(a.data, dst)
		if len(out) >= len(a.data) {
			continue
		}
		back, err := c.dec.Expand(c.check, format.Zstd, out, uint32(len(a.data)))
		if err != nil || !bytes.Equal(back, a.data) {
			return fmt.Errorf("compressing %s gave bytes that do not expand to it: memory or processor is at fault (%v)", a.ref, err)
		}
		c.check = back[:0]
		a.codec, a.stored = format.Zstd, out
		if len(dst) == 0 && cap(dst) > 0 {
			used += len(out)
		}
	}
	return nil
}

// blockJob is a full block on its way to the store.
type blockJob struct {
	bb   *format.BlockBuilder
	buf  []byte
	raw  int64
	done chan struct{}
	out  format.SealedBlock
	err  error
}

// commitItem is what the committer gets, in stream order: a block that must be durable first, and the state that holds
// once it is.
type commitItem struct {
	job    *blockJob
	state  func() []format.SourceState
	stream int64
	endSeg bool
	final  bool
}

// packer fills blocks in stream order. It is one goroutine.
type packer struct {
	ctx    context.Context
	blocks *pool
	seal   chan<- *blockJob
	commit chan<- commitItem
	free   func(*unit)
	force  time.Duration

	cur    *blockJob
	since  time.Time // of the last block's end
	forced int
	state  func() []format.SourceState // after the last unit that is packed whole
	stream int64
}

func (p *packer) unit(u *unit) error {
	for i := range u.adds {
		a := &u.adds[i]
		if p.cur != nil && !p.cur.bb.Fits(len(a.data)) {
			if err := p.end(); err != nil {
				return err
			}
		}
		if p.cur == nil {
			if err := p.begin(); err != nil {
				return err
			}
		}
		p.cur.bb.Add(a.ref, a.tag, a.codec, a.stored, len(a.data))
	}
	if u.state != nil {
		p.state, p.stream = u.state, u.stream
	}
	p.free(u)
	if p.cur != nil && !u.endSeg && p.force > 0 && time.Since(p.since) > p.force {
		p.forced++
		if err := p.end(); err != nil {
			return err
		}
	}
	if u.endSeg && p.cur != nil {
		if err := p.end(); err != nil {
			return err
		}
	}
	if p.cur == nil || u.endSeg {
		return p.send(commitItem{state: p.state, stream: p.stream, endSeg: u.endSeg})
	}
	return nil
}

// overdue ends a block that has waited for too long.
func (p *packer) overdue() error {
	if p.cur == nil || p.state == nil || p.force <= 0 || time.Since(p.since) <= p.force {
		return nil
	}
	p.forced++
	return p.end()
}

func (p *packer) begin() error {
	buf, err := p.blocks.get(p.ctx)
	if err != nil {
		return err
	}
	p.cur = &blockJob{bb: &format.BlockBuilder{}, buf: buf, done: make(chan struct{})}
	p.cur.bb.Reset(buf)
	return nil
}

func (p *packer) end() error {
	job := p.cur
	p.cur, p.since = nil, time.Now()
	job.raw = int64(job.bb.RawBytes())
	select {
	case p.seal <- job:
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	}
	return p.send(commitItem{job: job, state: p.state, stream: p.stream})
}

func (p *packer) send(c commitItem) error {
	select {
	case p.commit <- c:
		return nil
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	}
}

// finish ends the last block. whole tells that all units came, and not that the operator stopped.
func (p *packer) finish(whole bool) error {
	if p.cur != nil {
		if err := p.end(); err != nil {
			return err
		}
	}
	return p.send(commitItem{state: p.state, stream: p.stream, endSeg: whole, final: true})
}

// committer waits for blocks in order and acknowledges. It is one goroutine.
type committer struct {
	ctx   context.Context
	w     *store.Writer
	emit  func(event.Event)
	now   func() event.Stamp
	every time.Duration

	blocks  []format.SealedBlock
	last    time.Time
	check   *store.Verification // told of every block; nil without verification
	made    int                 // blocks of this run
	written int64
	newRaw  int64
	base    format.ResumePoint // counters of earlier runs
	forced  func() int
}

func (c *committer) item(it commitItem) error {
	if it.job != nil {
		select {
		case <-it.job.done:
		case <-c.ctx.Done():
			return context.Cause(c.ctx)
		}
		if it.job.err != nil {
			return it.job.err
		}
		c.sealed(it.job)
	}
	if it.state == nil || !it.endSeg && !it.final && time.Since(c.last) < c.every {
		return nil
	}
	point := format.ResumePoint{Stream: it.stream, State: it.state(), Forced: c.base.Forced + c.forced(), New: c.base.New + c.newRaw, Stored: c.base.Stored + c.written}
	if err := c.w.Commit(c.ctx, c.blocks, point, it.endSeg); err != nil {
		return err
	}
	c.blocks, c.last = nil, time.Now()
	c.emit(event.ResumePoint{Stamp: c.now(), LogSeq: c.w.Seq(), Settled: it.stream})
	return nil
}

func (c *committer) sealed(job *blockJob) {
	b := job.out
	c.blocks = append(c.blocks, b)
	c.made++
	c.written += int64(b.Size)
	c.newRaw += job.raw
	c.emit(event.BlockSealed{Stamp: c.now(), Block: b.ID.String(), Size: int64(b.Size), Blocks: int64(c.made), Stored: c.written})
	if c.check != nil {
		c.check.Add(int64(b.Size), b.ID)
	}
}
