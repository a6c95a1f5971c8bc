package kill

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// fault is one system call that strace makes fail, or dies at.
type fault struct {
	calls string // as strace names a set of calls
	how   string // error=EIO, signal=SIGKILL
	codes []int  // that may come of it where the call touched the store
	says  string // in what is printed
	when  []int
}

// TestFailingCalls lets one system call of an intake fail, or kills the process there; the error is clear, and the next run
// is COMPLETE. Calls are counted by thread, so not every number is met.
func TestFailingCalls(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Log("strace is not here: nothing was injected") // the kills of TestKills do without
		return
	}
	s := newStand(t, "crumbs")
	todo := make(chan func())
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for f := range todo {
				f()
			}
		})
	}
	for _, f := range []fault{
		{"fsync", "error=EIO", []int{1}, "input/output error", []int{1, 2, 3, 4, 5, 7}},
		{"write", "error=ENOSPC", []int{6}, "no room", []int{1, 2, 3, 4, 5, 6, 8}},
		{"renameat2", "error=ENOSPC", []int{6}, "no room", []int{1, 2, 3, 4}},
		{"renameat2", "error=EIO", []int{1}, "input/output error", []int{1, 3}},
		{"mkdirat", "error=EROFS", []int{1}, "read-only", []int{1, 100}},
		{"fchmod", "error=EIO", []int{1}, "input/output error", []int{1, 2}},
		{"mkdirat", "signal=SIGKILL", []int{137}, "", []int{1, 3, 5, 120, 261}},
		{"fsync", "signal=SIGKILL", []int{137}, "", []int{1, 2, 3, 4, 5, 6}},
		{"renameat2", "signal=SIGKILL", []int{137}, "", []int{1, 2, 3, 4, 5}},
		{"openat", "signal=SIGKILL", []int{137}, "", []int{20, 40, 80}},
		{"unlinkat", "signal=SIGKILL", []int{137}, "", []int{1, 2}},
	} {
		for _, n := range f.when {
			todo <- func() {
				if err := s.inject(strace, f, n); err != nil {
					t.Errorf("%s %s at %d: %v", f.calls, f.how, n, err)
				}
			}
		}
	}
	close(todo)
	wg.Wait()
	t.Logf("\n%s", s.closing())
}

func (s *stand) inject(strace string, f fault, n int) error {
	dir := filepath.Join(s.dir, fmt.Sprintf("inject-%s-%s-%d", f.calls, f.how, n))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	r := &series{stand: s, store: filepath.Join(dir, "store"), files: watch{}, acked: -1, j: s.jobs["crumbs"]}
	trace := filepath.Join(dir, "trace")
	before := []string{strace, "-f", "-qq", "-y", "-o", trace, "-e", "trace=" + f.calls, "-e", fmt.Sprintf("inject=%s:%s:when=%d", f.calls, f.how, n)}
	if !strings.HasPrefix(f.how, "signal=") { // faster, but signals are lost by it
		before = append(before, "--seccomp-bpf")
	}
	p, err := s.intake(r.j, r.store, before...)
	if err != nil {
		return err
	}
	o := p.wait()
	if err := r.injected(o, f, trace); err != nil {
		return err
	}
	if err := r.files.look(r.store, false); err != nil {
		return err
	}
	if err := r.finish(); err != nil {
		return fmt.Errorf("afterwards: %w", err)
	}
	return os.RemoveAll(dir)
}

// injected holds what the program made of the fault against what it should have.
func (r *series) injected(o *outcome, f fault, trace string) error {
	store, elsewhere, err := hits(trace, f, r.store)
	if err != nil {
		return err
	}
	what := strings.ReplaceAll(f.calls+" "+f.how, "signal=", "dies of ")
	switch code := o.code(); {
	case store+elsewhere == 0 && !o.killed():
		r.count(what+": not met", 1)
		if code != 0 {
			return fmt.Errorf("nothing was injected, and yet: %s", o)
		}
		r.over()
		return nil
	case o.killed():
		r.count(what, 1)
		if f.how != "signal=SIGKILL" {
			return fmt.Errorf("killed: %s", o)
		}
		r.acked = o.acknowledged()
		r.maybe = strings.Contains(fmt.Sprint(o.lines), "sealing")
		if o.find("snapshot_sealed") != nil {
			r.over()
		}
		return nil
	case elsewhere > 0: // standard output, or an eventfd of the runtime: anything but a wrong store may come of it
		r.count(what+": not in the store alone", 1)
		r.acked = o.acknowledged()
		sealed, err := r.sealed()
		switch {
		case err != nil:
			return err
		case sealed:
			r.over()
		case o.find("snapshot_sealed") != nil:
			return fmt.Errorf("it says that the snapshot is sealed, and the store has none: %s", o)
		}
		return nil
	case code == 0 && strings.Contains(fmt.Sprint(o.lines), "its signature is missing"):
		r.count(what+": the snapshot stands without its note", 1)
		r.over()
		return nil
	}
	r.count(what, 1)
	if !slices.Contains(f.codes, o.code()) {
		return fmt.Errorf("want exit code %v: %s", f.codes, o)
	}
	if res := o.find("result"); res == nil || !strings.Contains(o.stderr, f.says) || !strings.Contains(res.Error, f.says) {
		return fmt.Errorf("the error does not say %q: %s", f.says, o)
	}
	r.acked = o.acknowledged()
	r.maybe = strings.Contains(fmt.Sprint(o.lines), "sealing")
	return nil
}

// sealed asks the store whether it holds a snapshot: what could not be printed is not known from what was.
func (r *series) sealed() (bool, error) {
	p, err := start(nil, filepath.Join(r.bin, "asl-admin"), "--store", r.store, "snapshots", "--json")
	if err != nil {
		return false, err
	}
	return p.wait().find("snapshot") != nil, nil // where there is no store yet, there is none
}

// hits counts the injected calls that touched the store, and the others.
func hits(trace string, f fault, store string) (inStore, elsewhere int, err error) {
	file, err := os.Open(trace)
	if err != nil {
		return 0, 0, err
	}
	defer file.Close()
	in := bufio.NewScanner(file)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		l := in.Text()
		if !strings.Contains(l, "(INJECTED)") {
			continue
		}
		if strings.Contains(l, filepath.Dir(store)) {
			inStore++
		} else {
			elsewhere++
		}
	}
	return inStore, elsewhere, in.Err()
}
