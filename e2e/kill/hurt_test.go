package kill

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var hurtKills = flag.Int("hurt-kills", 4, "how many SIGKILLs must hit the intake of a disk with bad sectors")

// oldest is how old work may be that a kill costs, where it is more than a block: ten seconds are promised. Beside other tests the clock runs on while the program waits for a
// processor, so only the task is strict.
var oldest = flag.Duration("oldest", 25*time.Second, "how old work may be that is done again")

const oneBlock = 8 << 20

// hurtSeries is a disk with bad sectors that is taken in again and again, each time with kills in between.
type hurtSeries struct {
	*stand
	rng   *rand.Rand
	d     *hurtDisk
	name  string
	store string
	root  string // of an undisturbed run
	gaps  string
	worst time.Duration
	story []string
}

// TestKillsOverAHurtDisk: a disk that is slow and has bad sectors, read by passes; the program is killed over and over and goes on. What it had read long
// before is not read again, and the end is what it would have been.
func TestKillsOverAHurtDisk(t *testing.T) {
	s := newStand(t, "none")
	if testing.Short() && *hurtKills > 2 {
		*hurtKills = 2
	}
	side := min(8, (*hurtKills+1)/2)
	var wg sync.WaitGroup
	all := make([]*hurtSeries, side)
	for i := range all {
		all[i] = s.newHurtSeries(t, i)
	}
	began := time.Now()
	for i, h := range all {
		wg.Go(func() {
			for n := 0; ; n++ {
				h.store = filepath.Join(s.dir, fmt.Sprintf("hurt-%d-%d", i, n))
				if err := h.run(); err != nil {
					t.Errorf("disk %d (seed %d): %v\n  %s", i, *seedFlag, err, strings.Join(h.story, "\n  "))
					return
				}
				if !s.hurtMore() {
					return
				}
			}
		})
	}
	wg.Wait()
	worst := time.Duration(0)
	for _, h := range all {
		worst = max(worst, h.worst)
	}
	t.Logf("seed %d, %v: %d kills hit, the oldest work that was done again was %v old\n%s", *seedFlag, time.Since(began).Round(time.Second), s.kills, worst.Round(time.Millisecond), s.closing())
	if s.kills < *hurtKills && !t.Failed() {
		t.Errorf("only %d kills of %d hit", s.kills, *hurtKills)
	}
}

func (s *stand) hurtMore() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kills < *hurtKills
}

func (s *stand) newHurtSeries(t *testing.T, i int) *hurtSeries {
	rng := rand.New(rand.NewPCG(*seedFlag, uint64(1000+i)))
	size := (12 + rng.IntN(12)) << 20
	data := make([]byte, 0, size)
	for len(data) < size {
		n := min(size-len(data), (1+rng.IntN(100))<<12)
		kind := 0
		if rng.IntN(4) == 0 {
			kind = 2
		}
		data = append(data, content(rng, kind, n)...)
	}
	bad := make([]bool, size/sector)
	for range 3 + rng.IntN(8) {
		at, n := rng.IntN(len(bad)), 1+rng.IntN(1<<rng.IntN(9))
		for k := at; k < min(len(bad), at+n); k++ {
			bad[k] = true
		}
	}
	h := &hurtSeries{stand: s, rng: rng, d: newHurtDisk(t, data, bad, 0)}
	h.name = filepath.Base(h.d.path)
	h.store = filepath.Join(s.dir, fmt.Sprintf("undisturbed-%d", i))
	p, err := h.start()
	must(t, err)
	o := p.wait()
	h.root, h.gaps = o.roots()[h.name], gapsOf(o)
	if o.code() != 3 || h.root == "" || h.gaps == "" {
		t.Fatalf("undisturbed run of disk %d: %s", i, o)
	}
	must(t, os.RemoveAll(h.store))
	// A kilobyte a millisecond and less: a run takes longer than what a kill may cost.
	h.d.rate, h.d.err = (1+rng.IntN(2))<<20, 2*time.Millisecond
	return h
}

func (h *hurtSeries) start() (*process, error) {
	return start(nil, filepath.Join(h.bin, "asl-intake"), "--batch", "--json", "--store", h.store, "--workers", "1", "--memory", "96", "--compression", "none", "--source", h.d.path)
}

// gapsOf says what a run's result tells of gaps.
func gapsOf(o *outcome) string {
	r := o.find("result")
	if r == nil || r.Totals == nil {
		return ""
	}
	return fmt.Sprintf("%d bytes unreadable, %d untried", r.Totals.Unreadable, r.Totals.Untried)
}

func (h *hurtSeries) tell(format string, args ...any) {
	h.story = append(h.story, fmt.Sprintf(format, args...))
}

// run takes the disk in once.
func (h *hurtSeries) run() error {
	h.d.forget()
	h.d.begins()
	h.story = nil
	files := watch{}
	var killed time.Time // when the run before was
	sealing := false     // it was, while it sealed: whether the snapshot exists shows in the next
	for n := 0; ; n++ {
		h.d.rests()
		p, err := h.start()
		if err != nil {
			return err
		}
		if p.until(func(l line) bool { return l.Type == "intake_begun" }) { // samples of what is sealed are read before
			h.d.counts()
		}
		last := !h.hurtMore() || n >= 12
		if !last {
			p.after(time.Duration(h.rng.Int64N(int64(len(h.d.data))*int64(time.Second)/int64(h.d.rate))), p.kill)
		}
		o := p.wait()
		at := time.Now()
		again := h.d.rests()
		if begun := o.find("intake_begun") != nil; sealing && begun && wentOn(o) < 0 {
			h.count("of them after the snapshot was sealed", 1)
		} else if err := h.lost(killed, again); err != nil {
			return fmt.Errorf("%w: %s", err, o)
		}
		h.d.begins()
		h.tell("run %d: exit %d after %v, acknowledged %d", n, o.code(), o.took.Round(time.Millisecond), o.acknowledged())
		if err := files.look(h.store, false); err != nil {
			return err
		}
		if o.killed() {
			h.hit()
			h.count("hit by SIGKILL, a disk with bad sectors", 1)
			killed = at
			if o.find("intake_begun") != nil {
				sealing = slices.ContainsFunc(o.lines, func(l line) bool { return l.Type == "phase" && l.Phase == "sealing" })
			}
			continue
		}
		if o.code() != 3 {
			return fmt.Errorf("it did not end with gaps: %s", o)
		}
		if n == 0 {
			h.count("intakes that came through at once", 1)
		}
		return h.check(o)
	}
}

// lost looks at what a run did again of what runs before it had done; killed is when the last of them was.
func (h *hurtSeries) lost(killed time.Time, again []time.Time) error {
	if killed.IsZero() || len(again) == 0 {
		return nil
	}
	slices.SortFunc(again, time.Time.Compare)
	old := killed.Sub(again[0])
	bytes := len(again) * sector
	h.tell("did %d bytes again, the oldest %v old", bytes, old.Round(time.Millisecond))
	h.mu.Lock()
	h.worst = max(h.worst, old)
	h.mu.Unlock()
	if old > *oldest && bytes > oneBlock {
		return fmt.Errorf("%d bytes were read again, the oldest of them %v before the kill", bytes, old.Round(time.Millisecond))
	}
	return nil
}

// check holds the end against the undisturbed run, and what is restored against the disk.
func (h *hurtSeries) check(o *outcome) error {
	if root := h.rootOf(o); root != h.root {
		return fmt.Errorf("the root is %s, undisturbed it is %s: %s", root, h.root, o)
	}
	if gaps := gapsOf(o); gaps != h.gaps {
		return fmt.Errorf("%s, undisturbed %s", gaps, h.gaps)
	}
	to := h.store + ".img"
	for _, args := range [][]string{
		{"asl-admin", "--store", h.store, "verify", "--read-data"},
		{"asl-admin", "--store", h.store, "restore", "latest:" + h.name, "--fill", "zero", "--to", to},
	} {
		args[0] = filepath.Join(h.bin, args[0])
		p, err := start(nil, args...)
		if err != nil {
			return err
		}
		if o := p.wait(); o.code() != 0 && o.code() != 3 {
			return fmt.Errorf("%s: %s", strings.Join(args, " "), o)
		}
	}
	got, err := os.ReadFile(to)
	if err != nil {
		return err
	}
	want := bytes.Clone(h.d.data)
	for i, bad := range h.d.bad {
		if bad {
			clear(want[i*sector:][:sector])
		}
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("what is restored is not the disk with zeros for its bad sectors")
	}
	h.count("disks restored and compared byte by byte", 1)
	if err := syscall.Unlink(to); err != nil {
		return err
	}
	return os.RemoveAll(h.store)
}

func (h *hurtSeries) rootOf(o *outcome) string { return o.roots()[h.name] }
