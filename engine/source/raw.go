package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"aslrescue/engine/source/passes"
)

// ErrShort means that a source ended before its size said.
var ErrShort = errors.New("the source ended early")

// Raw is a Linear that is also read piece by piece: each piece once, and nothing is taken apart. Devices and images are.
type Raw interface {
	Linear
	// Try reads what r says into buf, which stands for r.Off and what follows. Result says what is good of it; errno is the error of a piece that
	// failed, bytes of which in buf mean nothing. An error means that nothing further can be read; what Result calls good stands.
	Try(ctx context.Context, buf []byte, r passes.Read) (res passes.Result, errno unix.Errno, err error)
}

// Try is as Raw says.
func (l *linear) Try(ctx context.Context, buf []byte, r passes.Read) (passes.Result, unix.Errno, error) {
	res, errno, err := tryPieces(ctx, l.r, buf, r, nil)
	if errno != 0 {
		l.calm()
	}
	if gone := l.whyGone(errno, err); gone != nil {
		res.Bad, errno, err = 0, 0, gone
	}
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("read %s at byte %d: %w", l.info.Path, r.Off, err)
	}
	return res, errno, err
}

// whyGone asks, after a read that failed, whether the device is still there. The kernel sets its size to 0 when it loses it: reads then
// end as at the end of a file.
func (l *linear) whyGone(errno unix.Errno, err error) error {
	if l.alive == nil || errno == 0 && !errors.Is(err, ErrShort) {
		return nil
	}
	return l.alive()
}

// tryPieces reads piece by piece up to the first that fails or is slow. done, if set, is called after every good piece.
func tryPieces(ctx context.Context, f io.ReaderAt, buf []byte, r passes.Read, done func(off, n int64) error) (res passes.Result, errno unix.Errno, err error) {
	for res.Good < r.Len {
		if err := ctx.Err(); err != nil {
			return res, 0, err
		}
		off, n := r.Piece(res.Good)
		began := time.Now()
		got, err := f.ReadAt(buf[off-r.Off:][:n], off)
		took := time.Since(began)
		switch {
		case int64(got) == n:
		case err == nil || errors.Is(err, io.EOF):
			return res, 0, ErrShort
		case goneErr(err):
			return res, 0, fmt.Errorf("%w: %w", ErrGone, err)
		case mediumErr(err):
			errors.As(err, &errno)
			res.Bad = n
			return res, errno, nil
		default:
			return res, 0, err
		}
		res.Good += n
		res.Took += took
		if done != nil {
			if err := done(off, n); err != nil {
				return res, 0, err
			}
		}
		if r.Patience > 0 && took > r.Patience {
			res.Slow = true
			return res, 0, nil
		}
	}
	return res, 0, nil
}
