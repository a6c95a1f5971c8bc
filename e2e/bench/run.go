package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"time"

	"aslrescue/e2e/bench/corpus"
	"aslrescue/e2e/bench/meter"
)

type options struct {
	common
	only      string
	peers     string
	json      string
	bin       string
	usArgs    string
	runs      int
	peersOnly bool
}

// bench is one invocation of "run".
type bench struct {
	options
	only    *regexp.Regexp
	corpus  *corpus.Corpus
	work    string
	tools   toolbox
	configs []config
	results map[key][]sample
	audited map[string]map[string]audit
	faults  []string // what makes the bench fail in the end
}

type key struct{ config, step string }

func cmdRun(ctx context.Context, args []string) error {
	var o options
	fs := flag.NewFlagSet("run", flag.ContinueOnError)
	o.register(fs)
	fs.StringVar(&o.only, "only", "", "regular expression of scenarios: first again restore disk2 verify tree tree-again")
	fs.StringVar(&o.peers, "peers", "", "configurations by name or beginning of it, with commas: kopia,restic-off; empty = all")
	fs.StringVar(&o.json, "json", "", "write every sample to this file")
	fs.StringVar(&o.bin, "bin", "", "a folder with asl-intake and asl-admin, instead of building them")
	fs.StringVar(&o.usArgs, "us-args", "", "more arguments for asl-intake")
	fs.IntVar(&o.runs, "runs", 1, "rounds")
	fs.BoolVar(&o.peersOnly, "peers-only", false, "without us")
	if err := o.parse(fs, args); err != nil {
		return err
	}
	free, err := o.lock()
	if err != nil {
		return err
	}
	defer free()
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer os.RemoveAll(b.work)
	if err := b.run(ctx); err != nil {
		return err
	}
	return b.report(ctx, os.Stdout)
}

func newBench(ctx context.Context, o options) (*bench, error) {
	only, err := regexp.Compile("^(?:" + cmp.Or(o.only, ".*") + ")$")
	if err != nil {
		return nil, err
	}
	b := &bench{options: o, only: only, results: map[key][]sample{}, audited: map[string]map[string]audit{}}
	if b.corpus, err = o.corpus(ctx, o.scale); err != nil {
		return nil, err
	}
	if b.work, err = os.MkdirTemp(o.dir, "run-"); err != nil {
		return nil, err
	}
	if err := b.find(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(b.work))
	}
	return b, nil
}

// find settles who takes part.
func (b *bench) find(ctx context.Context) error {
	b.tools = findPeers(b.options.tools)
	if b.tools["strace"] == "" {
		return errors.New("strace is not here, and without it nobody's fsyncs can be counted (bench peers --install)")
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	b.tools["bench"] = self
	if !b.peersOnly {
		ours, err := buildOurs(ctx, b.work, b.bin)
		if err != nil {
			return err
		}
		for name, path := range ours {
			b.tools[name] = path
		}
	}
	for _, c := range chosen(configs(), b.peers) {
		if reason := b.absent(ctx, c); reason != "" {
			fmt.Fprintf(os.Stderr, "bench: without %s: %s\n", c.Name, reason)
			continue
		}
		b.configs = append(b.configs, c)
	}
	return nil
}

func (b *bench) absent(ctx context.Context, c config) string {
	switch path := b.tools[c.Tool]; {
	case path == "":
		return c.Tool + " is not here"
	case c.Needs != "" && !mentions(ctx, path, c.Needs):
		return "this version does not know " + c.Needs
	}
	return ""
}

func (b *bench) selects(names ...string) bool {
	return slices.ContainsFunc(names, b.only.MatchString)
}

// steps are those of a chain that were chosen, and those they stand on.
func (b *bench) steps(chain int) (out []string) {
	wanted := map[string]bool{}
	for _, s := range scenarios {
		if s.chain == chain && b.selects(s.name) {
			wanted[s.name] = true
			wanted[[]string{"first", "tree"}[chain]] = true
			wanted["disk2"] = wanted["disk2"] || s.name == "verify"
		}
	}
	for _, s := range scenarios {
		if s.chain == chain && wanted[s.name] {
			out = append(out, s.name)
		}
	}
	return out
}

// auditScale is the size of the corpus for strace: large enough for several blocks, small enough to trace everybody.
const auditScale = 0.02

func (b *bench) run(ctx context.Context) error {
	if err := b.audit(ctx); err != nil {
		return err
	}
	for round := range b.runs {
		for chain := range 2 {
			if steps := b.steps(chain); len(steps) > 0 {
				if err := b.round(ctx, round, steps); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// audit counts everybody's fsyncs before anything is timed. A configuration that fails here takes no further part.
func (b *bench) audit(ctx context.Context) error {
	small, err := b.options.corpus(ctx, min(auditScale, b.scale))
	if err != nil {
		return err
	}
	var good []config
	for _, c := range b.configs {
		seen, err := b.auditAll(ctx, newRunner(c, b.tools, small, b.work, b.usArgs))
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			b.fault("%s: %v", c.Name, err)
			continue
		}
		b.audited[c.Name] = seen
		good = append(good, c)
		if c.Tool == "asl-intake" {
			b.checkOurs(c, seen)
		}
	}
	b.configs = good
	return nil
}

func (b *bench) checkOurs(c config, seen map[string]audit) {
	for _, name := range []string{"first", "restore", "tree"} {
		a, ok := seen[name]
		if !ok {
			continue
		}
		if name == "restore" {
			a.Missing = nil // the folder that a person named is theirs
		}
		if text := a.missing(name); text != "" {
			b.fault("%s: %s", c.Name, text)
		}
	}
}

func (b *bench) fault(form string, args ...any) {
	text := fmt.Sprintf(form, args...)
	b.faults = append(b.faults, text)
	fmt.Fprintln(os.Stderr, "bench:", text)
}

// round runs a chain of steps with everybody in turn: A B C for each step where all stores have room at once, so that compared
// figures lie close together in time; else one configuration after the other.
func (b *bench) round(ctx context.Context, round int, steps []string) error {
	var runners []*runner
	for _, c := range b.configs {
		runners = append(runners, newRunner(c, b.tools, b.corpus, b.work, b.usArgs))
	}
	groups := [][]*runner{runners}
	if !b.room(len(runners), steps) {
		groups = nil
		for _, r := range runners {
			groups = append(groups, []*runner{r})
		}
	}
	for _, g := range groups {
		if err := b.turn(ctx, round, steps, g); err != nil {
			return err
		}
	}
	return nil
}

// room guesses what n stores take that compress nothing and find nothing of the second disk in the first.
func (b *bench) room(n int, steps []string) bool {
	var st syscall.Statfs_t
	if syscall.Statfs(b.work, &st) != nil {
		return false
	}
	each := 2 * b.corpus.Disk.Bytes
	if steps[0] == "tree" {
		each = b.corpus.TreeBytes
	}
	return int64(st.Bavail)*st.Bsize > int64(n)*each+2*b.corpus.Disk.Size
}

func (b *bench) turn(ctx context.Context, round int, steps []string, runners []*runner) error {
	for _, r := range runners {
		defer r.cleanup()
	}
	runners = slices.DeleteFunc(slices.Clone(runners), func(r *runner) bool { return b.failed(r, "prepare", r.prepare(ctx)) })
	for _, name := range steps {
		runners = slices.DeleteFunc(runners, func(r *runner) bool {
			return ctx.Err() != nil || r.c.Steps[name] != "" && b.failed(r, name, b.one(ctx, round, name, r))
		})
	}
	return ctx.Err()
}

func (b *bench) failed(r *runner, name string, err error) bool {
	if err != nil {
		b.fault("%s: %s: %v", r.c.Name, name, err)
	}
	return err != nil
}

// one measures one step of one configuration, from a warm cache and with nothing of the runs before left to write.
func (b *bench) one(ctx context.Context, round int, name string, r *runner) error {
	before, err := usage(r.vars["{repo}"])
	if err != nil {
		return err
	}
	if err := b.warm(ctx, name, r); err != nil {
		return err
	}
	s, err := r.measure(ctx, name, b.syncs(r.c.Name, name))
	if err != nil {
		return err
	}
	s.Round, s.Added = round, s.Stored.minus(before)
	k := key{r.c.Name, name}
	b.results[k] = append(b.results[k], s)
	fmt.Fprintf(os.Stderr, "bench: round %d %s %s: %.2f s\n", round+1, name, r.c.Name, s.Wall)
	if name != "restore" {
		return nil
	}
	if round == 0 {
		err = r.restored()
	}
	return errors.Join(err, r.clearOut())
}

// syncs says whether a step needs a sync in its timed span to be as durable as ours.
func (b *bench) syncs(config, name string) bool {
	a, ok := b.audited[config][auditOf(name)]
	return ok && !a.durable()
}

func (b *bench) warm(ctx context.Context, name string, r *runner) error {
	if err := exec.CommandContext(ctx, "sync").Run(); err != nil {
		return err
	}
	meter.Settle(30 * time.Second)
	source := map[string]string{
		"disk2": r.corpus.Disk2Path(), "tree": r.corpus.TreePath(), "tree-again": r.corpus.TreePath(),
		"restore": r.vars["{repo}"], "verify": r.vars["{repo}"],
	}[name]
	return readAll(cmp.Or(source, r.corpus.DiskPath()))
}

// readAll uses one small buffer: what the bench itself ever held counts into the ru_maxrss of what it starts.
func readAll(root string) error {
	buf := make([]byte, 256<<10)
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, buf)
		return err
	})
}
