package kill

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var (
	killsWanted = flag.Int("kills", 100, "how many SIGKILLs must hit a running intake, over all series")
	seedFlag    = flag.Uint64("seed", 1, "decides when signals come")
	sideBySide  = flag.Int("parallel-series", 6, "series at a time; most of their time they are stopped")
)

// job is a command line's sources.
type job struct {
	name    string
	sources []string          // paths, or "-" with stdin
	stdin   string            // file that is fed to standard input
	roots   map[string]string // by source, of an undisturbed run
	took    time.Duration     // of that run
	flags   []string
}

// stand is what all series share.
type stand struct {
	t    *testing.T
	dir  string
	bin  string
	jobs map[string]*job

	mu    sync.Mutex
	table map[string]int
	kills int // that hit
}

func (s *stand) count(what string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.table[what] += n
}

// more tells whether kills are still wanted. What is under way when enough have hit adds a few.
func (s *stand) more() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kills < *killsWanted
}

func (s *stand) hit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kills++
}

// newStand builds the programs and makes the sources of the named jobs, all if none is named.
func newStand(t *testing.T, names ...string) *stand {
	s := &stand{t: t, dir: t.TempDir(), jobs: map[string]*job{}, table: map[string]int{}}
	s.bin = filepath.Join(s.dir, "bin")
	build := exec.Command("go", "build", "-o", s.bin+"/", "./cmd/asl-intake", "./cmd/asl-admin", "./cmd/asl-debug")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	src := filepath.Join(s.dir, "source")
	must(t, os.Mkdir(src, 0o755))
	at := func(name string) string { return filepath.Join(src, name) }
	make := map[string]func(string){
		"disk.img":   func(p string) { writeImage(t, p, 1, 100<<20) },
		"little.img": func(p string) { writeImage(t, p, 2, 3<<20) },
		"tree":       func(p string) { writeTree(t, p, 3, 2500, 40<<20) },
		"twigs":      func(p string) { writeTree(t, p, 4, 60, 17<<20) },
		"crumb.img":  func(p string) { writeImage(t, p, 5, 1<<20) },
		"crumbs":     func(p string) { writeTree(t, p, 6, 30, 5000) },
	}
	for _, j := range []*job{
		{name: "image", sources: []string{at("disk.img")}},
		{name: "tree", sources: []string{at("tree")}},
		{name: "both", sources: []string{at("disk.img"), at("tree")}, flags: []string{"--compression", "none"}},
		{name: "stdin", sources: []string{"-"}, stdin: at("disk.img"), flags: []string{"--name", "piped"}},
		{name: "little", sources: []string{at("little.img"), at("twigs")}},
		{name: "crumbs", sources: []string{at("crumb.img"), at("crumbs")}},
	} {
		if len(names) > 0 && !slices.Contains(names, j.name) {
			continue
		}
		for _, p := range append(j.sources, j.stdin) {
			if f := make[filepath.Base(p)]; f != nil {
				f(p)
				delete(make, filepath.Base(p))
			}
		}
		s.jobs[j.name] = j
		s.undisturbed(j)
	}
	return s
}

// undisturbed makes the run that all others are compared with.
func (s *stand) undisturbed(j *job) {
	s.t.Helper()
	store := filepath.Join(s.dir, "undisturbed")
	p, err := s.intake(j, store)
	must(s.t, err)
	o := p.wait()
	if o.code() != 0 || len(o.roots()) != len(j.sources) {
		s.t.Fatalf("undisturbed run of %s: %s", j.name, o)
	}
	j.roots, j.took = o.roots(), o.took
	must(s.t, os.RemoveAll(store))
}

// intake starts an intake of j. before is a program to run it under.
func (s *stand) intake(j *job, store string, before ...string) (*process, error) {
	var in io.Reader
	if j.stdin != "" {
		f, err := os.Open(j.stdin)
		if err != nil {
			return nil, err
		}
		in = f
	}
	return s.intakeOf(in, j, store, before...)
}

func (s *stand) intakeOf(in io.Reader, j *job, store string, before ...string) (*process, error) {
	args := append(slices.Clone(before), filepath.Join(s.bin, "asl-intake"), "--batch", "--json", "--store", store, "--workers", "1", "--memory", "96")
	args = append(args, j.flags...)
	for _, src := range j.sources {
		args = append(args, "--source", src)
	}
	return start(in, args...)
}

// TestKills is the whole of it: series of interrupted runs, side by side, until enough kills hit.
func TestKills(t *testing.T) {
	s := newStand(t)
	began := time.Now()
	kinds := []string{"image", "tree", "both", "stdin", "creation", "image", "tree", "sealing", "stdin", "both", "verifying"}
	next := make(chan int)
	var wg sync.WaitGroup
	for range *sideBySide {
		wg.Go(func() {
			for i := range next {
				s.series(i, kinds[i%len(kinds)])
			}
		})
	}
	n := 0
	for ; s.more() && !t.Failed() && n < 20*(*killsWanted); n++ {
		next <- n
	}
	close(next)
	wg.Wait()
	if s.kills < *killsWanted && !t.Failed() {
		t.Errorf("%d series gave only %d kills of %d", n, s.kills, *killsWanted)
	}
	t.Logf("seed %d, %d series in %v\n%s", *seedFlag, n, time.Since(began).Round(100*time.Millisecond), s.closing())
}

func (s *stand) closing() string {
	var b strings.Builder
	var rows []string
	for k := range s.table {
		rows = append(rows, k)
	}
	slices.Sort(rows)
	for _, k := range rows {
		fmt.Fprintf(&b, "  %7d  %s\n", s.table[k], k)
	}
	return b.String()
}

// series interrupts one intake several times, lets it end, and checks all that must hold.
type series struct {
	*stand
	rng   *rand.Rand
	kind  string
	store string
	files watch
	acked int64 // the most that was ever acknowledged of the intake that is not over
	snaps uint64
	maybe bool // the last run was killed while it sealed: whether the snapshot exists shows in the next
	story []string
	j     *job
}

func (s *stand) series(i int, kind string) {
	dir := filepath.Join(s.dir, fmt.Sprintf("series-%d", i))
	if err := os.Mkdir(dir, 0o755); err != nil {
		s.t.Error(err)
		return
	}
	r := &series{stand: s, rng: rand.New(rand.NewPCG(*seedFlag, uint64(i))), kind: kind, store: filepath.Join(dir, "store"), files: watch{}, acked: -1}
	r.j = s.jobs[kind]
	if r.j == nil {
		r.j = s.jobs["little"]
	}
	err := r.run()
	if err == nil && kind == "both" { // once more, onto what is there
		r.acked = -1
		err = r.run()
	}
	if err != nil {
		s.t.Errorf("series %d (%s, seed %d): %v\n  %s", i, kind, *seedFlag, err, strings.Join(r.story, "\n  "))
		return // its store stays until the test ends
	}
	if err := os.RemoveAll(dir); err != nil {
		s.t.Error(err)
	}
}

func (r *series) tell(format string, args ...any) {
	r.story = append(r.story, fmt.Sprintf(format, args...))
}

func (r *series) run() error {
	rounds := 3 + r.rng.IntN(8)
	if r.j.name == "little" {
		rounds = 1 + r.rng.IntN(4)
	}
	for ; rounds > 0 && r.more(); rounds-- {
		ended, err := r.disturb()
		if err == nil {
			err = r.files.look(r.store, false)
		}
		if err != nil {
			return err
		}
		if ended {
			return r.check()
		}
	}
	return r.finish()
}

// disturb starts the intake and interrupts it; ended tells that it came through before that.
func (r *series) disturb() (ended bool, err error) {
	sig := syscall.SIGKILL
	if r.j.name != "little" {
		switch r.rng.IntN(10) {
		case 0, 1:
			sig = syscall.SIGINT
		case 2:
			sig = syscall.SIGTERM
		}
	}
	p, err := r.intake(r.j, r.store)
	if err != nil {
		return false, err
	}
	r.strike(p, sig)
	o := p.wait()
	if o.killed() {
		r.hit()
	}
	return r.judge(o, sig)
}

// strike gives the signal at a random moment of the phase that the series is about.
func (r *series) strike(p *process, sig syscall.Signal) {
	random := func(most time.Duration) time.Duration { return time.Duration(r.rng.Int64N(int64(most))) }
	phase := func(want string) bool {
		return p.until(func(l line) bool { return l.Type == "phase" && l.Phase == want })
	}
	give := func() { p.signal(sig) }
	switch r.kind {
	case "creation":
		p.after(random(30*time.Millisecond), give)
	case "sealing":
		if p.until(func(l line) bool { return l.Type == "source_done" && l.Source == "twigs" }) {
			p.after(random(40*time.Millisecond), give)
		}
	case "verifying":
		if phase("sealing") {
			p.after(random(30*time.Millisecond), give)
		}
	default:
		const run, rest = 12 * time.Millisecond, 60 * time.Millisecond
		p.brake(r.rng, run, rest)
		p.after(random(time.Duration(float64(r.j.took)*float64(run+rest)/float64(run))), give)
		if sig == syscall.SIGINT && r.rng.IntN(2) == 0 {
			p.after(random(20*time.Millisecond), func() { p.signal(sig) })
		}
	}
}

var ackWords = regexp.MustCompile(`going on with the interrupted intake [0-9a-f]+: ([0-9.]+) (B|kB|MB|GB) were acknowledged`)

// wentOn is where a run says, in words that round down, that it went on; -1 if it began anew.
func wentOn(o *outcome) int64 {
	for _, l := range o.lines {
		if m := ackWords.FindStringSubmatch(l.Text); l.Type == "message" && m != nil {
			f, err := strconv.ParseFloat(m[1], 64)
			if err != nil {
				return -1
			}
			return int64(f * map[string]float64{"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[m[2]])
		}
	}
	return -1
}

// roundedDown is what is left at least of n where it was told in three figures or two.
func roundedDown(n int64) int64 { return n - n/10 }

// judge holds one interrupted run against what was heard of it and of those before.
func (r *series) judge(o *outcome, sig syscall.Signal) (ended bool, err error) {
	went, acked := wentOn(o), o.acknowledged()
	r.tell("%v after %v: exit %d, went on from about %d, acknowledged %d", sig, o.took.Round(time.Millisecond), o.code(), went, acked)
	if o.find("intake_begun") != nil {
		if err := r.begun(went); err != nil {
			return false, fmt.Errorf("%w: %s", err, o)
		}
	}
	if acked >= 0 && acked < r.acked {
		return false, fmt.Errorf("%d bytes were acknowledged, later only %d: %s", r.acked, acked, o)
	}
	if o.find("garbage") != nil {
		return false, fmt.Errorf("a line is not JSON: %s", o)
	}
	sealed := o.find("snapshot_sealed") != nil
	if o.code() == 0 {
		return true, r.complete(o)
	}
	sealing := slices.ContainsFunc(o.lines, func(l line) bool { return l.Type == "phase" && l.Phase == "sealing" })
	how := "hit by SIGKILL, " + r.kind
	if !o.killed() {
		how = fmt.Sprintf("stopped by %v", sig)
		if sig == syscall.SIGKILL || o.code() != 128+int(sig) {
			return false, fmt.Errorf("%v ended it strangely: %s", sig, o)
		}
	}
	r.count(how, 1)
	r.acked = max(r.acked, acked)
	switch {
	case sealed:
		r.over()
		r.count("of them after the snapshot was sealed", 1)
	case sealing:
		r.maybe = true
		r.count("of them while the snapshot was sealed", 1)
	case acked >= 0:
		r.count("of them after an acknowledgement", 1)
	}
	return false, nil
}

// begun takes in where a run went on; -1 if it began a new intake.
func (r *series) begun(went int64) error {
	if r.maybe && went < 0 {
		r.over()
	}
	r.maybe = false
	if r.acked > 0 && went < roundedDown(r.acked) {
		return fmt.Errorf("%d bytes were acknowledged, and the next run went on from %d", r.acked, went)
	}
	return nil
}

// over says that the intake has its snapshot: what comes is another one.
func (r *series) over() { r.acked, r.maybe, r.snaps = -1, false, r.snaps+1 }

// finish lets the intake end and looks at what came of it.
func (r *series) finish() error {
	p, err := r.intake(r.j, r.store)
	if err != nil {
		return err
	}
	o := p.wait()
	r.tell("last run: exit %d after %v", o.code(), o.took.Round(time.Millisecond))
	if err := r.begun(wentOn(o)); err != nil {
		return fmt.Errorf("%w: %s", err, o)
	}
	if err := r.complete(o); err != nil {
		return err
	}
	return r.check()
}

// complete holds a run that should have ended well against the undisturbed one.
func (r *series) complete(o *outcome) error {
	res := o.find("result")
	switch {
	case o.code() != 0:
		return fmt.Errorf("it did not end well: %s", o)
	case res == nil || o.lines[len(o.lines)-1].Type != "result" || res.Result != "COMPLETE":
		return fmt.Errorf("the last line is not a result that says COMPLETE: %s", o)
	case res.WentOn < r.acked:
		return fmt.Errorf("%d bytes were acknowledged, and the last run went on from %d: %s", r.acked, res.WentOn, o)
	}
	if r.over(); res.Snapshot != r.snaps {
		return fmt.Errorf("snapshot %d, want %d: %s", res.Snapshot, r.snaps, o)
	}
	if res.WentOn > 0 {
		r.count("intakes that went on and came to their end", 1)
	}
	for name, root := range o.roots() { // sources that an earlier run finished are not among them
		if root != r.j.roots[name] {
			return fmt.Errorf("source %s: root %s, undisturbed it is %s: %s", name, root, r.j.roots[name], o)
		}
	}
	return nil
}

// check reads every file of the store again, asks the other programs, and restores.
func (r *series) check() error {
	if err := r.files.look(r.store, true); err != nil {
		return err
	}
	r.count("files in stores held against their first sight", len(r.files))
	r.count("leftovers of dead writers, untouched", r.files.leftovers())
	for _, args := range [][]string{
		{"asl-admin", "--store", r.store, "verify", "--read-data"},
		{"asl-debug", "--store", r.store, "validate"},
	} {
		if err := r.tool(args...); err != nil {
			return err
		}
	}
	to := r.store + "-restored"
	if err := r.tool("asl-admin", "--store", r.store, "restore", "latest", "--to", to); err != nil {
		return err
	}
	if err := r.same(to); err != nil {
		return fmt.Errorf("restored is not what was taken in: %w", err)
	}
	r.count("snapshots restored and compared byte by byte", 1)
	return os.RemoveAll(to)
}

// same compares what was restored with the sources.
func (r *series) same(to string) error {
	var errs []error
	for _, src := range r.j.sources {
		got := filepath.Join(to, filepath.Base(src))
		if src == "-" {
			src, got = r.j.stdin, filepath.Join(to, "piped")
		}
		if len(r.j.sources) == 1 {
			if fi, err := os.Stat(got); err != nil || fi.IsDir() {
				got = to
			}
		}
		fi, err := os.Stat(src)
		if err != nil {
			return err
		}
		if fi.IsDir() {
			errs = append(errs, compare(src, got))
			continue
		}
		want, err := sum(src)
		if err != nil {
			return err
		}
		have, err := sum(got)
		if err == nil && have != want {
			err = fmt.Errorf("%s: SHA-256 %x, want %x", got, have, want)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// tool runs a program that must end with 0.
func (r *series) tool(args ...string) error {
	args[0] = filepath.Join(r.bin, args[0])
	p, err := start(nil, args...)
	if err != nil {
		return err
	}
	if o := p.wait(); o.code() != 0 {
		return fmt.Errorf("%s: %s", strings.Join(args, " "), o)
	}
	return nil
}
