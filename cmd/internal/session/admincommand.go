package session

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"aslrescue/cmd/internal/config"
	"aslrescue/cmd/internal/messages"
	"aslrescue/cmd/internal/report"
	"aslrescue/detect/probe"
	"aslrescue/engine/artifact"
	"aslrescue/engine/event"
	"aslrescue/engine/store"
)

// program is one with subcommands: asl-admin, asl-debug.
type program struct {
	name     string
	about    string // one sentence
	commands []command
}

// command is a subcommand.
type command struct {
	name     string
	args     string // as the help shows them: "S [PATH]"
	min, max int    // number of arguments; max < 0 is any
	does     string // one line, for the list
	help     string // more, for its own help
	examples []string
	flags    func(*flag.FlagSet)
	writes   bool // it appends to the log, so the store is not opened read-only
	bare     bool // it wants no store
	exact    bool // it works on one snapshot, and what lies behind that does not matter to it
	works    bool // what it prints is a report of its work, not the work
	run      func(context.Context, *call) report.Result
}

// call is one run of a subcommand.
type call struct {
	program  string
	std      IO
	pr       *report.Printer
	json     bool
	args     []string
	dir      string // of the store
	domain   string
	config   *config.Config
	mistakes error // in the config
	messages *messages.Keeper
	store    *store.Store // nil for a bare command
}

// common are the flags that every subcommand has.
type common struct {
	config        string
	store, domain string
	approve       list
	remote        remoteOptions
	json, version bool
}

func (o *common) add(fs *flag.FlagSet) {
	fs.StringVar(&o.store, "store", o.store, "`DIR` of the store, zfs:POOL/DATASET, https://HOST or s3://BUCKET/PREFIX (default: local.mount of asl.conf)")
	o.remote.flags(fs)
	fs.Var(&o.approve, "approve", "`TOKEN` of a plan to import the pool that the store lies on: where one is wanted it is printed")
	fs.StringVar(&o.domain, "domain", o.domain, "`NAME` of the domain, where the store holds several")
	fs.StringVar(&o.config, "config", or(o.config, config.Folder), "`DIR` with asl.conf, federation.conf and logging.conf")
	fs.BoolVar(&o.json, "json", o.json, "print JSON lines; the last has the type result")
	fs.BoolVar(&o.version, "version", o.version, "print the version")
}

// main runs a program and gives its exit code.
func (p *program) main(ctx context.Context, args []string, std IO) int {
	if len(args) > 0 && args[0] == probe.ChildArg { // each program that looks for a pool starts itself for each disk
		return probe.Child(args[1:], std.Out)
	}
	var o common
	var help strings.Builder
	cmd, rest, err := p.parse(args, &o, &help)
	if err != nil {
		o.json = report.WantsJSON(args)
	}
	pr := report.New(report.Options{Program: p.name, Out: std.Out, Err: std.Err, JSON: o.json, Terminal: std.Terminal, Width: std.Width})
	switch {
	case errors.Is(err, flag.ErrHelp):
		return int(pr.Finish(report.Result{Text: help.String(), Fields: map[string]any{"help": help.String()}}))
	case err != nil:
		return int(pr.Finish(report.Result{Err: err}))
	case o.version:
		return int(pr.Finish(report.Result{Text: Tool(p.name), Fields: map[string]any{"version": Tool(p.name)}}))
	}
	if cmd.works {
		signal.Ignore(syscall.SIGPIPE, syscall.SIGXFSZ) // that nobody reads any more is no reason to stop; a file too large is an error as others are
		pr.Work()
	}
	c := &call{program: p.name, std: std, pr: pr, json: o.json, args: rest}
	code := c.pr.Finish(c.do(ctx, cmd, o))
	if c.messages != nil {
		c.messages.Close()
	}
	return int(code)
}

// parse finds the subcommand, with common flags before or behind it.
func (p *program) parse(args []string, o *common, help io.Writer) (*command, []string, error) {
	fs := flag.NewFlagSet(p.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	o.add(fs)
	err := fs.Parse(args)
	if errors.Is(err, flag.ErrHelp) || err == nil && fs.NArg() > 0 && fs.Arg(0) == "help" && fs.NArg() == 1 {
		p.help(help)
		return nil, nil, flag.ErrHelp
	}
	if err != nil {
		return nil, nil, report.Usagef("%w", err)
	}
	if o.version {
		return nil, nil, nil
	}
	args = fs.Args()
	if len(args) > 1 && args[0] == "help" {
		args = []string{args[1], "-help"}
	}
	if len(args) == 0 {
		return nil, nil, report.Usagef("say what to do: %s", p.names())
	}
	i := slices.IndexFunc(p.commands, func(c command) bool { return c.name == args[0] })
	if i < 0 {
		return nil, nil, report.Usagef("%q is none of %s", args[0], p.names())
	}
	rest, err := p.parseCommand(&p.commands[i], args[1:], o, help)
	return &p.commands[i], rest, err
}

func (p *program) parseCommand(c *command, args []string, o *common, help io.Writer) ([]string, error) {
	fs := flag.NewFlagSet(p.name+" "+c.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	o.add(fs)
	if c.flags != nil {
		c.flags(fs)
	}
	var rest []string
	err := parseAnywhere(fs, args, &rest)
	switch {
	case errors.Is(err, flag.ErrHelp):
		p.helpCommand(c, fs, help)
		return nil, flag.ErrHelp
	case err != nil:
		return nil, report.Usagef("%s: %w", c.name, err)
	case o.version:
		return nil, nil
	case len(rest) < c.min || c.max >= 0 && len(rest) > c.max:
		return nil, report.Usagef("%s takes %s, and was given %s", c.name, or(c.args, "no arguments"), or(strings.Join(rest, " "), "none"))
	}
	return rest, nil
}

func or(s, instead string) string {
	if s == "" {
		return instead
	}
	return s
}

func (p *program) names() string {
	var names []string
	for _, c := range p.commands {
		names = append(names, c.name)
	}
	return strings.Join(names, ", ")
}

func (p *program) help(w io.Writer) {
	fmt.Fprintf(w, "%s\n\n  %s --store DIR COMMAND [ARGUMENTS] [OPTIONS]\n\nCommands\n", p.about, p.name)
	for _, c := range p.commands {
		fmt.Fprintf(w, "  %-34s %s\n", c.name+" "+c.args, c.does)
	}
	fmt.Fprintf(w, "\nS is the number of a snapshot, or latest. %s COMMAND --help says more of each.\n\nExamples\n", p.name)
	for _, c := range p.commands {
		fmt.Fprintf(w, "  %s\n", c.examples[0])
	}
	fmt.Fprint(w, "\nOptions\n")
	var o common
	fs := flag.NewFlagSet(p.name, flag.ContinueOnError)
	o.add(fs)
	fs.SetOutput(w)
	fs.PrintDefaults()
	fmt.Fprint(w, "\nExit codes\n")
	for _, c := range report.Codes() {
		fmt.Fprintf(w, "  %3d  %s\n", c.Code, c.Means)
	}
}

func (p *program) helpCommand(c *command, fs *flag.FlagSet, w io.Writer) {
	fmt.Fprintf(w, "%s %s: %s\n\n  %s --store DIR %s\n\n", p.name, c.name, c.does, p.name, strings.TrimSpace(c.name+" "+c.args))
	if c.help != "" {
		fmt.Fprintf(w, "%s\n\n", c.help)
	}
	fmt.Fprint(w, "Examples\n")
	for _, e := range c.examples {
		fmt.Fprintf(w, "  %s\n", e)
	}
	fmt.Fprint(w, "\nOptions\n")
	fs.SetOutput(w)
	fs.PrintDefaults()
}

// do opens the store and runs the command.
func (c *call) do(ctx context.Context, cmd *command, o common) (res report.Result) {
	ctx, stop := untilSignal(ctx)
	defer stop()
	c.settle(o, cmd)
	if cmd.bare {
		return cmd.run(ctx, c)
	}
	if c.domain != "" && !store.ValidDomain(c.domain) {
		return report.Result{Err: badDomain(c.domain)}
	}
	if isZFSPlace(c.dir) {
		at, err := c.attach(ctx, cmd, o.approve)
		if err != nil {
			return report.Result{Err: err}
		}
		defer func() {
			if err := at.Detach(); err != nil {
				res.Err = both(res.Err, poolError(err))
			}
		}()
	}
	s, err := way{o.remote, c.config, c.say}.openStore(ctx, c.dir, c.domain, Tool(c.program), !cmd.writes)
	if err != nil {
		return report.Result{Err: err}
	}
	defer func() { _ = s.Backend().Close() }() // what was appended is durable already
	c.store = s
	if err := s.Broken(); err != nil {
		c.say("the log of this store is damaged; it is read as far as it is good: %v", err)
	}
	res = cmd.run(ctx, c)
	if err := s.Broken(); errors.Is(err, store.ErrBroken) && res.Err == nil && !(cmd.exact && !strings.HasPrefix(c.args[0], "latest")) {
		res.Err = &report.Error{What: "read all of " + c.dir, Err: err} // what could be shown was shown
	}
	return res
}

// untilSignal gives a context that SIGINT, SIGTERM and SIGHUP end, with the signal as its cause.
func untilSignal(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, endings()...)
	go func() {
		select {
		case sig := <-ch:
			cancel(report.BySignal(sig.(syscall.Signal)))
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(ch)
		cancel(nil)
	}
}

// settle takes from the config what the command line left open. A mistake there is said, and stops nobody.
func (c *call) settle(o common, cmd *command) {
	conf, err := config.Load(config.In(o.config))
	c.config, c.mistakes = conf, err
	c.messages = keeper(conf, c.program, c.std, cmd.works || cmd.writes)
	c.pr.Keep(keepIn(c.messages))
	for _, m := range config.Mistakes(err) {
		c.messages.Say().Warn("the config has a mistake, going on without it: " + m.Error())
	}
	c.dir, c.domain = o.store, o.domain
	if c.dir == "" {
		c.dir = localPlace(conf.LocalMount, conf.LocalDataset)
	}
}

// say is a message for people, on standard error and where logging.conf keeps it.
func (c *call) say(format string, args ...any) {
	c.messages.Say().Info(fmt.Sprintf(format, args...))
}

// number reads S: a snapshot's number, or latest, which is 0.
func number(s string) (uint64, error) {
	if s == "latest" {
		return 0, nil
	}
	var n uint64
	if _, err := fmt.Sscanf(s, "%d", &n); err != nil || n == 0 || fmt.Sprint(n) != s {
		return 0, report.Usagef("%q: want the number of a snapshot, or latest", s)
	}
	return n, nil
}

// view opens the snapshot that an argument names.
func (c *call) view(ctx context.Context, s string) (*store.View, error) {
	n, err := number(s)
	if err != nil {
		return nil, err
	}
	v, err := c.store.At(ctx, n)
	if broken := c.store.Broken(); broken != nil && errors.Is(err, artifact.ErrNotFound) {
		err = fmt.Errorf("%w; it may lie behind the damage of the log: %w", err, broken)
	}
	if err != nil {
		return nil, &report.Error{What: "open snapshot " + s + " of " + c.dir, Err: err}
	}
	return v, nil
}

// meter shows how far long work is: on a terminal one line on standard error, with --json lines of the type progress.
// Its methods may be called from several goroutines.
type meter struct {
	c     *call
	what  string
	unit  func(int64) string
	began time.Time

	mu    sync.Mutex
	last  time.Time
	shown int
}

// meter begins to measure; unit prints an amount.
func (c *call) meter(what string, unit func(int64) string) *meter {
	return &meter{c: c, what: what, unit: unit, began: time.Now()}
}

func (m *meter) at(done, total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	every := 250 * time.Millisecond
	if m.c.json {
		every = time.Second
	}
	if now := time.Now(); now.Sub(m.last) < every || now.Sub(m.began) < every {
		return
	}
	m.last = time.Now()
	if m.c.json {
		m.c.pr.Row("progress", "", map[string]any{"phase": m.what, "done": done, "total": total})
		return
	}
	if !m.c.std.Terminal {
		return
	}
	rate := float64(done) / time.Since(m.began).Seconds()
	line := fmt.Sprintf("%s %s  %s of %s  %s/s", m.what, event.Percent(done, total), m.unit(done), m.unit(total), m.unit(int64(rate)))
	m.show(line)
}

// show overwrites the line: every terminal knows a carriage return.
func (m *meter) show(line string) {
	n := utf8.RuneCountInString(line)
	fmt.Fprint(m.c.std.Err, "\r"+line+strings.Repeat(" ", max(m.shown-n, 0)))
	m.shown = n
}

func (m *meter) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shown > 0 {
		fmt.Fprint(m.c.std.Err, "\r"+strings.Repeat(" ", m.shown)+"\r")
		m.shown = 0
	}
}
