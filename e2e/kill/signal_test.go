package kill

import (
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// silence gives nothing until it is over, and says when it begins.
type silence struct {
	begins, over chan struct{}
	once         sync.Once
}

func (c *silence) Read([]byte) (int, error) {
	c.once.Do(func() { close(c.begins) })
	<-c.over
	return 0, io.EOF
}

// silent begins to take in a pipe that gives n bytes and then nothing, but stays open until the test ends. All n bytes
// are in the pipe when it returns.
func (s *stand) silent(t *testing.T, store string, n int64) *process {
	f, err := os.Open(s.jobs["stdin"].stdin)
	must(t, err)
	c := &silence{begins: make(chan struct{}), over: make(chan struct{})}
	t.Cleanup(func() { close(c.over); f.Close() })
	p, err := s.intakeOf(io.MultiReader(io.LimitReader(f, n), c), s.jobs["stdin"], store)
	must(t, err)
	select {
	case <-c.begins:
	case <-p.done:
		t.Fatalf("it ended before it was told to: %s", p.wait())
	}
	return p
}

// TestSignals gives signals while a pipe that is read is silent, so that a read which cannot be interrupted shows.
func TestSignals(t *testing.T) {
	s := newStand(t, "stdin", "little")
	for _, c := range []struct {
		name    string
		signals []syscall.Signal
		code    int
	}{
		{"one SIGINT", []syscall.Signal{syscall.SIGINT}, 130},
		{"one SIGTERM", []syscall.Signal{syscall.SIGTERM}, 143},
		{"two SIGINT", []syscall.Signal{syscall.SIGINT, syscall.SIGINT}, 130},
		{"SIGINT, then SIGTERM", []syscall.Signal{syscall.SIGINT, syscall.SIGTERM}, 130},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &series{stand: s, store: filepath.Join(t.TempDir(), "store"), files: watch{}, acked: -1, j: s.jobs["stdin"]}
			p := s.silent(t, r.store, 40<<20)
			for i, sig := range c.signals {
				if i > 0 && !p.says("once more to stop at once") {
					break // it was done already
				}
				p.signal(sig)
			}
			o := p.wait()
			if o.code() != c.code {
				t.Fatalf("want exit %d: %s", c.code, o)
			}
			res := o.find("result")
			if res == nil || res.Result != "STOPPED" || res.Exit != c.code {
				t.Fatalf("the result is not STOPPED with %d: %s", c.code, o)
			}
			r.acked = o.acknowledged()
			must(t, r.files.look(r.store, false))
			must(t, r.finish())
		})
	}
}
