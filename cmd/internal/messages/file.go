package messages

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"aslrescue/engine/event"
)

// file is where messages are kept. Several programs may write to it at once: each line is one write to its end, and who
// begins a new file holds the old one's lock meanwhile.
type file struct {
	path    string
	most    int64 // bytes after which a new file is begun
	keep    int   // old files
	json    bool
	program string
	f       *os.File
}

// write adds a message.
func (w *file) write(m Message) error {
	line, err := w.line(m)
	if err != nil {
		return err
	}
	if err := w.ready(); err != nil {
		return err
	}
	_, err = w.f.Write(line)
	return err
}

func (w *file) line(m Message) ([]byte, error) {
	if w.json {
		b, err := json.Marshal(struct {
			Message
			Program string `json:"program"`
		}{m, w.program})
		return append(b, '\n'), err
	}
	return fmt.Appendf(nil, "%s %-5s %s: %s\n", m.Time.UTC().Format(time.RFC3339), m.Level, w.program, event.Printable(m.Text)), nil
}

// ready sees to it that w.f is the file at path, and not too large.
func (w *file) ready() error {
	for range 3 { // others may begin new files at the same time
		if err := w.open(); err != nil {
			return err
		}
		fi, err := w.f.Stat()
		if err != nil || fi.Size() < w.most {
			return err
		}
		if err := w.rotate(fi); err != nil {
			return err
		}
	}
	return nil
}

// open opens the file, again if another program has put a new one in its place.
func (w *file) open() error {
	if w.f != nil {
		mine, err := w.f.Stat()
		there, terr := os.Stat(w.path)
		if err == nil && terr == nil && os.SameFile(mine, there) {
			return nil
		}
		w.close()
	}
	if err := os.MkdirAll(filepath.Dir(w.path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(w.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW, 0o640)
	if err != nil {
		return err
	}
	w.f = f
	return nil
}

// rotate moves every file one number on, the oldest away. fi is what the open file is.
func (w *file) rotate(fi fs.FileInfo) error {
	if err := unix.Flock(int(w.f.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	defer w.close() // which unlocks it
	if there, err := os.Stat(w.path); err != nil || !os.SameFile(fi, there) {
		return nil // somebody else did it
	}
	for n := w.keep; n > 0; n-- {
		from := w.path
		if n > 1 {
			from = fmt.Sprintf("%s.%d", w.path, n-1)
		}
		if err := os.Rename(from, fmt.Sprintf("%s.%d", w.path, n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (w *file) close() {
	if w.f != nil {
		_ = w.f.Close() // each line was written by itself; there is nothing left to lose
		w.f = nil
	}
}
