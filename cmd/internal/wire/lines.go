package wire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// lines reads whole lines, and none that is longer than max.
type lines struct{ s *bufio.Scanner }

func newLines(r io.Reader, max int) *lines {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 4<<10), max)
	s.Split(wholeLine)
	return &lines{s}
}

// wholeLine takes nothing for a line that has no end: what a dying process had begun to write was not said.
func wholeLine(data []byte, eof bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if eof && len(data) > 0 {
		return 0, nil, io.ErrUnexpectedEOF
	}
	return 0, nil, nil
}

// next gives the next line. It is good until the next call.
func (l *lines) next() ([]byte, error) {
	if l.s.Scan() {
		return l.s.Bytes(), nil
	}
	err := l.s.Err()
	if errors.Is(err, bufio.ErrTooLong) {
		return nil, ErrTooLong
	}
	if err == nil {
		err = io.EOF
	}
	return nil, err
}
