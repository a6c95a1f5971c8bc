package session

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"aslrescue/cmd/internal/config"
	"aslrescue/cmd/internal/job"
	"aslrescue/cmd/internal/messages"
	"aslrescue/cmd/internal/report"
	"aslrescue/detect/probe"
	"aslrescue/engine/approval"
	"aslrescue/engine/custody"
	"aslrescue/engine/event"
	"aslrescue/engine/intake"
	"aslrescue/engine/source"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
	"aslrescue/tui/ask"
)

// IO is a program's standard streams.
type IO struct {
	In       io.Reader
	Out, Err io.Writer
	Terminal bool // Out is one
	Width    func() int
	Wizard   func(context.Context, Wizard) report.Result // the face with screens; nil: there is none
}

// StdIO is the process's own streams.
func StdIO() IO {
	fd := int(os.Stdout.Fd())
	return IO{os.Stdin, os.Stdout, os.Stderr, term.IsTerminal(fd), func() int {
		w, _, err := term.GetSize(fd)
		if err != nil {
			return 0
		}
		return w
	}, nil}
}

// Intake is the program asl-intake. It returns the exit code.
func Intake(ctx context.Context, args []string, std IO) int {
	if len(args) > 0 && args[0] == probe.ChildArg {
		return probe.Child(args[1:], std.Out)
	}
	if len(args) > 0 && args[0] == source.ReaderArg {
		return source.ReaderMain(args[1:])
	}
	signal.Ignore(syscall.SIGPIPE, syscall.SIGXFSZ) // that nobody reads any more is no reason to stop; a file too large is an error as others are
	var help strings.Builder
	o, err := parseIntake(args, &help)
	json := report.WantsJSON(args)
	if err == nil {
		json = o.json
	}
	pr := report.New(report.Options{Program: "asl-intake", Out: std.Out, Err: std.Err, JSON: json, Terminal: std.Terminal, Width: std.Width})
	switch {
	case errors.Is(err, flag.ErrHelp):
		return int(pr.Finish(report.Result{Text: help.String(), Fields: map[string]any{"help": help.String()}}))
	case err != nil:
		return int(pr.Finish(report.Result{Err: err}))
	case o.version:
		return int(pr.Finish(report.Result{Text: Tool("asl-intake"), Fields: map[string]any{"version": Tool("asl-intake")}}))
	}
	if o.wizard() {
		return int(pr.Finish(runWizard(ctx, o, std)))
	}
	if o.preflight {
		p := preflight{o: o, pr: pr, std: std}
		return int(pr.Finish(p.run(ctx)))
	}
	switch {
	case o.listDir != "":
		return runListDir(o.listDir, std)
	case o.reading.list:
		return int(pr.Finish(listUnfinished(ctx, o, pr)))
	case o.status, o.watch:
		return int(pr.Finish(watch(ctx, o, pr, o.status)))
	case o.engine && o.detach:
		s, err := startEngine(o.place(), o)
		return int(pr.Finish(report.Result{Err: err, Text: fmt.Sprintf("the engine runs: process %d", s.PID), Fields: map[string]any{"pid": s.PID}}))
	case o.engine:
		return int(pr.Finish(report.Result{Err: (&engineProcess{o: o, std: std}).run()}))
	}
	if !o.dryRun { // of that, what is printed is all there is
		pr.Work()
	}
	stopProfile, err := profile(o.cpuprofile)
	if err != nil {
		return int(pr.Finish(report.Result{Err: err}))
	}
	defer stopProfile()
	debug.SetMemoryLimit(int64(o.memory) << 20)
	if o.byConfig() {
		return int(pr.Finish(runBatch(ctx, o, std, pr)))
	}
	j := &intakeJob{o: o, std: std, pr: pr}
	code := pr.Finish(j.run(ctx))
	if j.messages != nil {
		j.messages.Close()
	}
	return int(code)
}

func profile(file string) (stop func(), err error) {
	if file == "" {
		return func() {}, nil
	}
	f, err := os.Create(file)
	if err != nil {
		return nil, report.Usagef("--cpuprofile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() { pprof.StopCPUProfile(); _ = f.Close() }, nil // a profile is a developer's own affair
}

// intakeJob is one run of asl-intake.
type intakeJob struct {
	o        *intakeOptions
	std      IO
	pr       *report.Printer
	plan     Plan
	sources  []source.Source
	store    *store.Store
	dir      string            // the folder of the store; of one on a pool it is known when that is mounted
	messages *messages.Keeper  // once the config is known
	hear     func(event.Event) // what is said by the intake, and about it; nil: it is printed

	hurt        map[string]bool        // by path: what their own record says, where --order asked
	ask         func(source.Info) bool // whether a disk is hurt; nil: smartctl says
	choices     []usedOnly             // of which disks not all is read
	mounts      []*fileMount           // of which the files are taken
	whole       []string               // why others are read whole all the same
	consents    []format.Approval      // to the choices
	pools       pools
	config      *config.Config
	mount       string             // where a dataset is mounted
	snapshots   bool               // of ZFS, after ours
	compression intake.Compression // empty: the plan's
	sealed      uint64             // number of the snapshot
	early       context.Context    // ended by a signal that came before the intake listened; may be nil

	mu       sync.Mutex
	progress event.Progress
}

func (j *intakeJob) run(ctx context.Context) report.Result {
	if err := j.prepare(); err != nil {
		return report.Result{Err: err}
	}
	defer j.closeSources()
	if j.o.dryRun {
		return j.dryRun(ctx)
	}
	if err := j.consent(); err != nil {
		return report.Result{Err: err}
	}
	if err := j.consentFiles(ctx); err != nil {
		return report.Result{Err: err}
	}
	if err := j.openFiles(); err != nil {
		return report.Result{Err: err}
	}
	if j.dir == "" {
		return j.onPool(ctx)
	}
	return j.intoStore(ctx)
}

// intoStore does the intake into the folder of the store.
func (j *intakeJob) intoStore(ctx context.Context) report.Result {
	s, err := j.way().createOrOpen(ctx, j.dir, j.plan.Domain, Tool("asl-intake"), func(b store.Backend) store.Backend { return b })
	if err != nil {
		return report.Result{Err: err}
	}
	defer func() { _ = s.Backend().Close() }() // everything acknowledged is durable already
	if err := takesMore(s, j.plan.Store); err != nil {
		return report.Result{Err: err}
	}
	j.store = s
	if err := handOver(ctx, j.pools.state, s); err != nil {
		return report.Result{Err: &report.Error{What: "write approvals into the log of " + j.plan.Store, Err: err}}
	}
	if len(j.consents) > 0 {
		if err := s.ReportApprovals(ctx, j.consents); err != nil {
			return report.Result{Err: &report.Error{What: "write approvals into the log of " + j.plan.Store, Err: err}}
		}
	}
	for _, why := range j.whole {
		j.say("%s", why)
	}
	return j.take(ctx)
}

// way is how the store is reached.
func (j *intakeJob) way() way { return way{j.o.remote, j.config, j.say} }

// takesMore refuses a store whose log is damaged.
func takesMore(s *store.Store, dir string) error {
	err := s.Broken()
	if err == nil {
		return nil
	}
	return &report.Error{What: "write to the store " + dir, Err: err, Code: report.Mismatch,
		Means: "The store can be read up to the damage. Nothing is added to it, so that nothing is hidden by what comes after.",
		Next:  []string{"asl-debug --store " + typed(dir) + " validate", "take this intake into another store: --store OTHER-DIR"}}
}

// prepare opens the sources, and holds them against the plan if there is one.
func (j *intakeJob) prepare() error {
	o := j.o
	if o.plan != "" {
		p, err := readPlan(o.plan)
		if err != nil {
			return err
		}
		o.store, o.domain, o.label, o.compression, o.noVerify, o.verify, o.digest, o.usedOnly, o.files, o.reading.pauseWhenHot = p.Store, p.Domain, p.Label, p.Compression, p.Verify == "none", p.Verify, p.Digest, p.UsedOnly, p.Files, p.Pause
		for _, s := range p.Sources {
			o.sources = append(o.sources, s.Path)
			if s.Kind == string(source.Stream) {
				o.name, o.sources[len(o.sources)-1] = s.Name, "-"
			}
		}
		j.plan = p
	}
	if err := j.settle(); err != nil {
		return err
	}
	if (o.usedOnly || o.files) && !o.batch && !o.dryRun {
		return report.Usagef("--used-only and --files go with --batch, or with --dry-run, which prints what would be left out")
	}
	if _, err := o.reading.reading(); err != nil { // before a store is made
		return err
	}
	if err := j.openSources(); err != nil {
		var e *report.Error
		if errors.As(err, &e) && e.Next == nil && errors.Is(err, fs.ErrNotExist) {
			e.Means, e.Next = "Nothing is there to take in.", []string{"Check the path, and that the device is plugged in: lsblk lists devices."}
		}
		return err
	}
	if !isZFSPlace(o.store) {
		j.dir = o.store
	}
	if o.plan == "" {
		j.arrange(context.Background())
	}
	if o.files {
		if err := j.chooseFiles(context.Background()); err != nil {
			return err
		}
	}
	if o.usedOnly {
		if err := j.choose(context.Background()); err != nil {
			return err
		}
	}
	now := j.planNow()
	if o.plan == "" {
		j.plan = now
		return nil
	}
	if why := j.plan.voids(now); why != "" {
		return &report.Error{What: "do what the plan " + o.plan + " says", Err: fmt.Errorf("%w: %s", approval.ErrVoid, why), Next: []string{"make the plan again with --dry-run"}}
	}
	return nil
}

// planNow is the plan of what is opened.
func (j *intakeJob) planNow() Plan {
	p := planOf(j.o, j.o.store, j.o.domain, j.sources)
	for i, src := range j.sources {
		p.Sources[i].Hurt = j.hurt[src.Info().Path]
	}
	return p
}

func (j *intakeJob) openSources() error {
	abs, err := filepath.Abs(j.o.store)
	if err != nil {
		return err
	}
	for _, p := range j.o.sources {
		src, err := openSource(p, j.o.name, j.std.In, j.o.reading.timeout)
		if err != nil {
			j.closeSources()
			return &report.Error{What: "open the source " + p, Err: err}
		}
		if src, err = j.o.reading.goOn(src); err != nil {
			j.closeSources()
			return err
		}
		j.sources = append(j.sources, src)
		if why := insideSource(abs, src.Info()); why != "" && isFolder(j.o.store) {
			j.closeSources()
			return report.Usagef("the store %s %s: it would take in itself. Choose a place outside the source", j.o.store, why)
		}
	}
	return nil
}

func openSource(path, name string, in io.Reader, timeout time.Duration) (source.Source, error) {
	if path == "-" {
		return source.OpenStream(interruptible(in), name), nil
	}
	src, err := source.Open(path)
	if err != nil {
		return nil, err
	}
	return readBy(src, timeout), nil
}

// readBy lets a device be read by a process of its own.
func readBy(src source.Source, timeout time.Duration) source.Source {
	raw, ok := src.(source.Raw)
	if !ok || src.Info().Kind != source.Device {
		return src
	}
	return source.InProcess(raw, func(path string) *exec.Cmd {
		cmd := exec.Command("/proc/self/exe", source.ReaderArg, path)
		cmd.Env = []string{}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what is typed at the terminal is not for it
		return cmd
	}, timeout)
}

// interruptible gives a pipe in a form whose Read ends when the intake is to stop, however long the other side is silent. Opened by
// way of /proc it is a description of its own: not to block is asked of that one, not of the one that other processes share.
func interruptible(in io.Reader) io.Reader {
	f, ok := in.(*os.File)
	if !ok {
		return in
	}
	if fi, err := f.Stat(); err != nil || fi.Mode()&os.ModeNamedPipe == 0 {
		return in
	}
	own, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return in // it can be read, only not interrupted
	}
	return own
}

// insideSource says how a store lies in a source; empty if it does not. A store must never be written to the disk that is read.
func insideSource(storeDir string, src source.Info) string {
	var st unix.Stat_t
	dir := storeDir
	for unix.Stat(dir, &st) != nil && dir != "/" {
		dir = filepath.Dir(dir)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		real = dir
	}
	switch src.Kind {
	case source.Tree:
		root, err := filepath.EvalSymlinks(src.Path)
		if err != nil {
			root = src.Path
		}
		rel, err := filepath.Rel(root, real)
		var rootStat unix.Stat_t
		same := unix.Stat(root, &rootStat) == nil && (rootStat.Dev == st.Dev || mountOf(root) != 0 && mountOf(root) == mountOf(real)) // subvolumes have numbers of their own
		if err == nil && same && filepath.IsLocal(rel) {
			return "lies inside the source " + src.Path
		}
	case source.Device, source.Image:
		var of unix.Stat_t
		if unix.Stat(src.Path, &of) != nil {
			break
		}
		g := groundOf()
		g.folder(real)
		if g.files[inode{of.Dev, of.Ino}] || src.Kind == source.Device && g.devices[of.Rdev] {
			return "lies on the source " + src.Path
		}
	}
	return ""
}

// folderOf finds a folder again under any path, also one that a bind mount gives it.
func folderOf(dir string) intake.Folder {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return intake.Folder{}
	}
	return intake.Folder{Dev: st.Dev, Ino: st.Ino}
}

func (j *intakeJob) closeSources() {
	for _, s := range j.sources {
		if err := s.Close(); err != nil && len(j.mounts) > 0 {
			j.say("%s is not let go of: %v", s.Info().Path, err)
		} // else they were only read
	}
}

func (j *intakeJob) dryRun(ctx context.Context) report.Result {
	found := ""
	if j.dir == "" {
		text, fields, err := j.poolDryRun(ctx)
		if err != nil {
			return report.Result{Err: err}
		}
		if j.o.json {
			return report.Result{Fields: map[string]any{"plan": j.plan, "plan_hash": j.plan.Hash().String(), "approval": fields}}
		}
		return report.Result{Text: j.plan.Text(text), File: true}
	}
	if s, err := j.way().openStore(ctx, j.dir, j.plan.Domain, Tool("asl-intake"), true); err == nil {
		if in, ok := j.unfinished(s); ok {
			found = "It would go on with the interrupted intake " + short(in.Begin.Intake) + "."
		}
		_ = s.Backend().Close() // only read
	} else if e := report.Explain(err); len(e.Next) > 0 && strings.HasPrefix(e.Next[0], "--domain ") {
		return report.Result{Err: &report.Error{Err: err, Code: report.Usage, Next: e.Next}}
	}
	if j.o.json {
		return report.Result{Fields: map[string]any{"plan": j.plan, "plan_hash": j.plan.Hash().String(), "note": found, "left_out": j.choiceFields()}}
	}
	return report.Result{Text: j.plan.Text(strings.TrimSpace(found + "\n" + j.choiceText())), File: true}
}

func (j *intakeJob) unfinished(s *store.Store) (format.IntakeState, bool) {
	in, ok, err := j.o.reading.chosen(s, j.sources)
	return in, ok && err == nil
}

func short(id format.ID) string { return fmt.Sprintf("%x", id[:4]) }

// start begins the intake that both faces do. What it says goes to j.told.
func (j *intakeJob) start(ctx context.Context, more func(*job.Options)) (*job.Job, io.Closer, error) {
	witness := custody.NewWitness()
	witness.PauseWhenHot = j.plan.Pause
	o := job.Options{Store: j.store, Sources: j.sources, Tell: j.told, Intake: intake.Options{Label: j.plan.Label, Compression: cmp.Or(j.compression, intake.Compression(j.plan.Compression)),
		Workers: j.o.workers, Budget: int64(j.o.memory) << 20, NoVerify: j.plan.Verify == "none", Digest: j.digests(), Witness: witness, Avoid: folderOf(j.dir)}}
	var err error
	if o.Intake.Reading, err = j.o.reading.reading(); err != nil {
		return nil, nil, err
	}
	if j.plan.Verify == "all" {
		o.After = j.verifyAll
	}
	claim, err := j.claim(&o)
	if err != nil {
		return nil, nil, err
	}
	if more != nil {
		more(&o)
	}
	return job.Start(ctx, o), claim, nil
}

// take does the intake.
func (j *intakeJob) take(ctx context.Context) report.Result {
	began := time.Now()
	hard, soft, done := j.signals(ctx)
	defer done()
	if j.early != nil && j.early.Err() != nil { // between catching signals for the pool and for the intake
		return report.Result{Err: context.Cause(j.early)}
	}
	work, claim, err := j.start(hard, nil)
	if err != nil {
		return report.Result{Err: err}
	}
	defer func() { _ = claim.Close() }() // the process's end gives it back too
	select {
	case <-soft.Done():
		_ = work.Do(ask.Stop, "") // refused where it has ended
	case <-work.Done():
	}
	<-work.Done()
	rep, err := work.Result()
	if wait := j.o.reading.wait; isGone(err) && wait > 0 && soft.Err() == nil && j.again(soft, time.Now().Add(wait)) {
		_ = claim.Close() // the next run claims the same intake
		return j.take(ctx)
	}
	if errors.Is(err, intake.ErrStopped) || err != nil && hard.Err() != nil {
		err = context.Cause(soft)
	}
	if rep == nil {
		return report.Result{Err: err}
	}
	j.sealed = rep.Snapshot.Number
	sum := summary{rep: rep, s: j.store, dir: j.plan.Store, took: time.Since(began), verify: j.plan.Verify}
	if err != nil {
		word := rep.Result
		if soft.Err() != nil {
			word = event.Stopped
		}
		return report.Result{Word: word, Err: j.explain(err), Fields: sum.fields()}
	}
	res := report.Result{Word: rep.Result, Text: sum.text(), Fields: sum.fields()}
	if len(rep.Gone) > 0 {
		res.Err = goneError(rep, j.plan.Store)
	}
	return res
}

// goneError says why a snapshot that is sealed, with all that was read, does not hold more.
func goneError(rep *intake.Report, dir string) error {
	err := errors.Join(rep.Gone...)
	if report.CodeOf(err) != report.Failed {
		return err
	}
	return &report.Error{What: "read to the end", Err: err, Code: report.Gaps, Means: "What was read before is sealed.",
		Next: []string{fmt.Sprintf("asl-admin --store %s show %d", typed(dir), rep.Snapshot.Number)}}
}

func (j *intakeJob) explain(err error) error {
	if _, ok := err.(report.BySignal); ok {
		return err
	}
	return &report.Error{What: "take " + event.CountOf(int64(len(j.sources)), "source", "sources") + " into " + j.plan.Store, Err: err}
}

// claim finds an intake to go on with, and marks it, or the new one, as being worked on by this process. The mark is a socket without a file: the
// kernel takes it away when the process dies, whatever kills it. It keeps two processes of one machine apart; writers on several machines are kept apart by the
// log.
func (j *intakeJob) claim(o *job.Options) (io.Closer, error) {
	in, ok, err := j.o.reading.chosen(j.store, j.sources)
	if err != nil {
		return nil, err
	}
	if ok {
		l, err := net.Listen("unix", claimName(j.store.ID(), in.Begin.Intake))
		if err == nil {
			o.Resume = &in.Begin.Intake
			j.say("going on with the interrupted intake %s: %s were acknowledged", short(in.Begin.Intake), event.Bytes(acknowledged(in)))
			return l, nil
		}
		j.say("another process is taking in the same sources (intake %s); this one begins its own", short(in.Begin.Intake))
	}
	o.Intake.ID = intake.NewID()
	return net.Listen("unix", claimName(j.store.ID(), o.Intake.ID))
}

func claimName(s, in format.ID) string { return fmt.Sprintf("@asl-intake/%x/%x", s, in) }

func acknowledged(in format.IntakeState) int64 {
	if in.Point == nil {
		return 0
	}
	return in.Point.Stream
}

func (j *intakeJob) say(msg string, args ...any) {
	j.told(event.Message{Level: event.Info, Text: fmt.Sprintf(msg, args...)})
}

func (j *intakeJob) told(e event.Event) {
	if j.hear != nil {
		j.hear(e)
		return
	}
	j.mu.Lock()
	j.progress.Apply(e)
	j.mu.Unlock()
	j.pr.Event(e)
}

// signals gives a context that the second signal ends, one that the first ends, and prints a line of status at SIGUSR1.
func (j *intakeJob) signals(parent context.Context) (hard, soft context.Context, done func()) {
	hard, cancelHard := context.WithCancelCause(parent)
	soft, cancelSoft := context.WithCancelCause(hard)
	ch := make(chan os.Signal, 4)
	signal.Notify(ch, append(endings(), syscall.SIGUSR1)...)
	stopTimer := func() bool { return false }
	if !j.o.until.IsZero() {
		stopTimer = time.AfterFunc(time.Until(j.o.until), func() {
			j.messages.Say().Info("batch.stop-after is over: sealing what was read")
			cancelSoft(report.ErrStopped)
		}).Stop
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for sig := range ch {
			switch {
			case sig == syscall.SIGUSR1:
				j.mu.Lock()
				line := report.Progress(&j.progress, 200)
				j.mu.Unlock()
				fmt.Fprintln(j.std.Err, line)
			case soft.Err() == nil:
				j.messages.Say().Warn(sig.String() + ": sealing what was read; once more to stop at once")
				cancelSoft(report.BySignal(sig.(syscall.Signal)))
			default:
				cancelHard(report.BySignal(sig.(syscall.Signal)))
			}
		}
	})
	return hard, soft, func() {
		stopTimer()
		signal.Stop(ch)
		close(ch)
		wg.Wait()
		cancelSoft(nil)
		cancelHard(nil)
	}
}

// endings are the signals that end a program. Under nohup a hangup is none.
func endings() []os.Signal {
	all := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		all = append(all, syscall.SIGHUP)
	}
	return all
}

func (j *intakeJob) verifyAll(ctx context.Context, _ *intake.Report, tell func(event.Event)) error {
	ids := j.store.Blocks()
	bad, err := j.store.VerifyBlocks(ctx, ids, 0, func(done, total, bad int64) { tell(event.VerifyProgress{Done: done, Total: total, Bad: bad}) })
	if err != nil {
		return err
	}
	if err := j.store.ReportDamage(ctx, bad); err != nil {
		return err
	}
	if len(bad) > 0 {
		return damageError(bad)
	}
	return j.store.ReportVerified(ctx, format.Verified{All: true, Blocks: len(ids), Clock: time.Now().Unix()})
}
