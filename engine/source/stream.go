package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// stream is a Linear that can only go forward. It is for one goroutine.
type stream struct {
	info Info
	r    io.Reader
	pos  int64
	err  error // sticky
}

// OpenStream takes what r gives as a source; its size is known at its end only. Read must be called with ascending
// offsets that join. A Read that waits for r notices a cancelled context only if r has SetReadDeadline, as pipes
// and connections opened by this program have. Close closes r if it can be closed.
func OpenStream(r io.Reader, name string) Linear {
	return &stream{info: Info{Kind: Stream, Path: name, Name: name, ID: "stream " + name, Size: -1, Sector: 512}, r: r}
}

func (s *stream) Info() Info { return s.info }

func (s *stream) Read(ctx context.Context, buf []byte, off int64) (n int, gaps []Gap, err error) {
	if off != s.pos {
		return 0, nil, fmt.Errorf("read %s: a stream cannot go from byte %d to %d", s.info.Name, s.pos, off)
	}
	if s.err != nil && !errors.Is(s.err, io.EOF) {
		return 0, nil, s.err
	}
	if d, ok := s.r.(interface{ SetReadDeadline(time.Time) error }); ok {
		stop := context.AfterFunc(ctx, func() { d.SetReadDeadline(time.Unix(1, 0)) })
		defer stop()
	}
	idle := 0
	for n < len(buf) && s.err == nil {
		if err := ctx.Err(); err != nil {
			return n, nil, err
		}
		var got int
		got, s.err = s.r.Read(buf[n:])
		n += got
		s.pos += int64(got)
		if idle++; got > 0 {
			idle = 0
		}
		if idle == 100 && s.err == nil {
			s.err = io.ErrNoProgress
		}
	}
	if s.err == nil || errors.Is(s.err, io.EOF) {
		return n, nil, nil
	}
	if ctx.Err() != nil {
		return n, nil, ctx.Err()
	}
	s.err = fmt.Errorf("read %s at byte %d: %w", s.info.Name, s.pos, s.err)
	return n, nil, s.err
}

// Changed is always empty: a stream is read as it comes.
func (s *stream) Changed() string { return "" }

func (s *stream) Close() error {
	if c, ok := s.r.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
