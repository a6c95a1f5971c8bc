package session

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"aslrescue/cmd/internal/config"
	"aslrescue/cmd/internal/report"
	"aslrescue/detect"
	"aslrescue/detect/probe"
)

// Where preflight writes what it decided, and where our own state lies.
const (
	RunDir   = "/run/asl"
	StateDir = "/var/lib/asl"
)

// tableAfter is how long people wait for the table. What is late then is marked so, and printed again when it is known.
const tableAfter = 2 * time.Second

// LookWish is what to look for on this machine, as the config wants it. Mistakes in the config become rows of the table.
func LookWish(where config.Where, flags ...config.Flag) probe.Wish {
	c, err := config.Load(where, flags...)
	p := c.Policy(err)
	p.HostID = OurHostID(c.DomainID)
	return probe.Wish{Policy: p, StateDir: StateDir, CA: c.RemoteCA, Proxy: c.RemoteProxy}
}

// ThisMachine is what probes look at.
func ThisMachine(program string) *probe.Machine {
	t := config.Screen()
	return probe.System(Tool(program), probe.Terminal{Term: t.Term, SSH: t.SSH, UTF8: t.UTF8})
}

// where says where this run has its config.
func (o *intakeOptions) where() config.Where { return config.In(o.config) }

// preflightFile is what stands in preflight.json.
type preflightFile struct {
	Version  int             `json:"version"`
	Decision detect.Decision `json:"decision"`
	Policy   detect.Policy   `json:"policy"`
	Facts    detect.Facts    `json:"facts"`
}

// preflight looks, prints the table, and writes what was decided.
type preflight struct {
	o     *intakeOptions
	pr    *report.Printer
	std   IO
	shown *detect.Decision // that was printed before everything was known
}

func (p *preflight) run(ctx context.Context) report.Result {
	wish := LookWish(p.o.where())
	u, err := p.look(ctx, wish)
	if err != nil {
		return report.Result{Err: err}
	}
	if p.o.capture != "" {
		if err := p.capture(u.Facts); err != nil {
			return report.Result{Err: err}
		}
	}
	if err := p.write(u); err != nil {
		return report.Result{Err: err}
	}
	d := &u.Decision
	if p.o.json {
		for _, r := range p.news(d) {
			p.pr.Row("row", "", r)
		}
	}
	stops, asks := 0, 0
	for _, r := range d.Rows {
		switch r.Verdict {
		case detect.STOP:
			stops++
		case detect.ASK:
			asks++
		}
	}
	return report.Result{Text: p.text(d), Fields: map[string]any{
		"mode": d.Mode, "rule": d.Rule, "why": d.Why, "worst": d.Worst(), "stop": stops, "ask": asks, "options": d.Options, "missing": d.Missing,
		"pool": d.Pool, "offer": d.Offer, "policy": u.Policy, "facts": u.Facts,
	}}
}

// look gives the facts of this machine, or those of a file.
func (p *preflight) look(ctx context.Context, wish probe.Wish) (probe.Update, error) {
	if p.o.facts != "" {
		f, policy, err := readFacts(p.o.facts)
		if err != nil {
			return probe.Update{}, err
		}
		if policy == nil {
			policy = &wish.Policy
		}
		return probe.Update{Facts: *f, Policy: *policy, Decision: detect.Decide(*f, *policy), Done: true}, nil
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	l := probe.Start(ctx, ThisMachine("asl-intake"), wish)
	early := time.After(tableAfter)
	var last probe.Update
	for {
		select {
		case u, ok := <-l.Updates():
			if !ok {
				return last, context.Cause(ctx)
			}
			if last = u; u.Done {
				return u, nil
			}
		case <-early:
			if shown := last.Decision; len(shown.Rows) > 0 { // what comes later is held against what was printed
				p.print(&shown)
			}
		}
	}
}

// print shows the table before everything is known.
func (p *preflight) print(d *detect.Decision) {
	if p.o.json {
		for _, r := range d.Rows {
			p.pr.Row("row", "", r)
		}
	} else {
		p.pr.Row("row", strings.TrimSuffix(d.Text(p.width()), "\n"), nil)
	}
	p.shown = d
}

// news are the rows that were not printed yet as they are now.
func (p *preflight) news(d *detect.Decision) []detect.Row {
	if p.shown == nil {
		return d.Rows
	}
	return slices.DeleteFunc(slices.Clone(d.Rows), func(r detect.Row) bool {
		return slices.ContainsFunc(p.shown.Rows, func(o detect.Row) bool {
			return o.ID == r.ID && o.About == r.About && o.Found == r.Found && o.Verdict == r.Verdict && o.Late == r.Late
		})
	})
}

func (p *preflight) text(d *detect.Decision) string {
	if p.shown == nil {
		return d.Text(p.width())
	}
	n := *d
	n.Rows = p.news(d)
	return "\nNow known:\n" + n.Text(p.width())
}

func (p *preflight) width() int {
	if p.std.Terminal && p.std.Width != nil {
		if w := p.std.Width(); w > 0 {
			return min(w, 120)
		}
	}
	return 110
}

// readFacts reads a file of --capture, or a preflight.json, whose policy counts then.
func readFacts(file string) (*detect.Facts, *detect.Policy, error) {
	fail := func(err error) error {
		return &report.Error{What: "read facts from " + file, Err: err, Code: report.Usage, Means: "Nothing was decided.",
			Next: []string{"give a file that --capture wrote, or a preflight.json"}}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, fail(errors.Unwrap(err))
	}
	var whole struct {
		Facts  json.RawMessage `json:"facts"`
		Policy *detect.Policy  `json:"policy"`
	}
	if json.Unmarshal(text, &whole) == nil && whole.Facts != nil {
		text = whole.Facts
	}
	f, err := detect.ParseFacts(text)
	if err != nil {
		return nil, nil, fail(err)
	}
	return f, whole.Policy, nil
}

// capture keeps the facts where the operator said, on the medium before this returns: it may be a stick that is pulled.
func (p *preflight) capture(f detect.Facts) error {
	text, err := f.Marshal()
	if err == nil {
		err = replaceFile(p.o.capture, text, true)
	}
	if err != nil {
		return &report.Error{What: "write the facts to " + p.o.capture, Err: err, Means: "The machine was looked at; nothing was written.", Next: []string{"give a path in a folder that is there and writable"}}
	}
	return nil
}

// write puts the mode and the reasons where the services look for them. Facts of a file are of some other machine: they do not decide for
// this one, unless a folder is named.
func (p *preflight) write(u probe.Update) error {
	dir := p.o.runDir
	if dir == "" {
		if p.o.facts != "" {
			return nil
		}
		dir = RunDir
	}
	text, err := json.MarshalIndent(preflightFile{detect.FactsVersion, u.Decision, u.Policy, u.Facts}, "", "  ")
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err == nil {
		err = replaceFile(filepath.Join(dir, "preflight.json"), append(text, '\n'), false)
	}
	if err == nil { // last: who sees the mode finds its reasons
		err = replaceFile(filepath.Join(dir, "mode"), []byte(u.Decision.Mode+"\n"), false)
	}
	if err != nil {
		return &report.Error{What: "write the mode to " + dir, Err: err, Means: "The machine was looked at; whoever waits for the mode will not find it.", Next: []string{"give another folder: --run-dir DIR"}}
	}
	return nil
}

// replaceFile puts a file in place whole: who reads sees the old one or the new one.
func replaceFile(file string, text []byte, durable bool) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(text)
	if err == nil {
		err = tmp.Chmod(0o644)
	}
	if err == nil && durable {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}
