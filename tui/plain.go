package tui

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"aslrescue/detect"
	"aslrescue/engine/event"
	"aslrescue/tui/ask"
	"aslrescue/tui/screen"
)

// PlainOptions are where questions are asked.
type PlainOptions struct {
	Engine Engine
	In     io.Reader
	Out    io.Writer
	Every  time.Duration // between two lines of progress; 0 is 10 s
}

// errEnd means that nobody answers any more, or that the person left.
var errEnd = errors.New("left")

// Plain is the wizard as questions line by line: for speech, for braille, for terminals that cannot move a cursor. It is the same flow over
// the same engine, and has the same gates: an empty line is never a yes.
func Plain(ctx context.Context, o PlainOptions) error {
	if o.Every == 0 {
		o.Every = 10 * time.Second
	}
	p := &plain{o: o, e: o.Engine, ctx: ctx, answers: make(chan string)}
	done := make(chan struct{})
	defer close(done)
	go p.listen(done) // ends with the input, or with the next line after the wizard has ended
	err := p.flow()
	if errors.Is(err, errEnd) {
		return nil
	}
	return err
}

type plain struct {
	o       PlainOptions
	e       Engine
	ctx     context.Context
	answers chan string
	place   ask.Place
	picked  []string
}

func (p *plain) listen(done <-chan struct{}) {
	defer close(p.answers)
	sc := bufio.NewScanner(p.o.In)
	for sc.Scan() {
		select {
		case p.answers <- strings.TrimSpace(sc.Text()):
		case <-done:
			return
		}
	}
}

func (p *plain) say(format string, args ...any) { fmt.Fprintf(p.o.Out, format+"\n", args...) }

// ask asks until it is answered with something.
func (p *plain) ask(question string) (string, error) {
	for {
		fmt.Fprint(p.o.Out, question+" ")
		select {
		case a, ok := <-p.answers:
			switch {
			case !ok, a == "q", a == "quit":
				p.say("")
				return "", errEnd
			case a != "":
				return a, nil
			}
		case <-p.ctx.Done():
			return "", p.ctx.Err()
		}
	}
}

func (p *plain) flow() error {
	p.say("ASL Rescue, line by line. q leaves at any question. An empty line asks again, and never means yes.")
	if m := p.e.State().Machine; m != "" {
		p.say("This is a rehearsal: %s. Nothing real is read or written.", m)
	}
	if ph := p.e.State().Job.Phase; ph != ask.Idle {
		return p.intake()
	}
	for _, step := range []func() error{p.check, p.approve, p.sources, p.plan, p.intake} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (p *plain) check() error {
	for {
		d := p.e.State().Look.Decision
		n := 0
		p.say("\nStep 1 of 5: what was found. %s.", d.Why)
		for _, r := range d.Rows {
			if r.Verdict == detect.ASK || r.Verdict == detect.STOP || r.Late {
				n++
				p.say("%s: %s: %s. %s", r.Verdict, event.Printable(r.What), event.Printable(r.Found), event.Printable(r.Why))
			}
		}
		p.say("%s in all, of which these %d want attention.", event.CountOf(int64(len(d.Rows)), "row", "rows"), n)
		stopped := slices.ContainsFunc(d.About(detect.Machine), func(r detect.Row) bool { return r.Verdict == detect.STOP })
		a, err := p.ask("go on (n), look again (r), all rows (a)?")
		switch {
		case err != nil:
			return err
		case a == "r":
			if err := p.e.LookAgain(p.ctx); err != nil {
				p.say("look again: %v", err)
			}
		case a == "a":
			for _, r := range d.Rows {
				p.say("%s: %s: %s", r.Verdict, event.Printable(r.What), event.Printable(r.Found))
			}
		case a == "n" && stopped:
			p.say("A STOP row stands in the way; it cannot be passed here.")
		case a == "n":
			return nil
		}
	}
}

func (p *plain) approve() error {
	for {
		offers, err := p.e.Offers(p.ctx)
		if err != nil {
			p.say("pools: %v", err)
		}
		places, err := p.e.Places(p.ctx)
		if err != nil {
			p.say("places: %v", err)
		}
		p.say("\nStep 2 of 5: where the store goes.")
		for i, pl := range places {
			p.say("%d: store in %s: %s", i+1, event.Printable(pl.Path), event.Printable(pl.What))
		}
		for i, o := range offers {
			state := ""
			if o.Refused != "" {
				state = ": not possible, " + event.Printable(o.Refused)
			}
			if o.Answered != "" {
				state = ": done, " + event.Printable(o.Answered)
			}
			p.say("%d: pool %s, %s%s", len(places)+i+1, event.Printable(o.Subject), o.Way, state)
		}
		a, err := p.ask("a number, the whole path of a folder, or r to list again?")
		if err != nil {
			return err
		}
		n, _ := strconv.Atoi(a)
		switch {
		case strings.HasPrefix(a, "/"):
			p.folder(a)
		case n >= 1 && n <= len(places):
			p.place = places[n-1]
		case n > len(places) && n <= len(places)+len(offers):
			if err := p.offer(offers[n-len(places)-1]); err != nil {
				return err
			}
			continue
		}
		if p.place.Path != "" && p.place.Refused == "" {
			p.say("The store goes to %s.", event.Printable(p.place.Path))
			return nil
		}
	}
}

func (p *plain) folder(path string) {
	pl, err := p.e.Folder(p.ctx, path)
	switch {
	case err != nil:
		p.say("%s: %v", path, err)
	case pl.Refused != "":
		p.say("%s cannot take the store: %s", event.Printable(pl.Path), event.Printable(pl.Refused))
	default:
		p.place = pl
	}
}

// offer reads an offer out and asks. What has to be typed is what the gate wants, and then the word yes.
func (p *plain) offer(o ask.Offer) error {
	for _, l := range screen.Sheet(o) {
		p.say("  %s", l)
	}
	if o.Refused != "" || o.Answered != "" {
		return nil
	}
	word := ""
	if o.Word != "" {
		a, err := p.ask("type the name of the pool to go on, or no:")
		if err != nil {
			return err
		}
		if a != o.Word {
			p.say("Not approved. Nothing was changed.")
			return nil
		}
		word = a
	}
	a, err := p.ask("approve exactly this: y or n?")
	if err != nil {
		return err
	}
	if a != "y" {
		p.say("Not approved. Nothing was changed.")
		return nil
	}
	text, err := p.e.Answer(p.ctx, ask.Answer{Hash: o.Hash, Yes: true, Word: word})
	if err != nil {
		p.say("Not done: %v", err)
		return nil
	}
	p.say("Pool %s: %s.", event.Printable(o.Subject), text)
	return nil
}

func (p *plain) sources() error {
	for {
		choices, err := p.e.Choices(p.ctx, p.place.Path)
		if err != nil {
			p.say("disks: %v", err)
		}
		p.say("\nStep 3 of 5: what is saved. Sources are only read.")
		for i, c := range choices {
			text := fmt.Sprintf("%d: %s, %s, serial %s, %s", i+1, c.Path, event.Printable(c.Model), event.Printable(c.Serial), event.Bytes(c.Size))
			if c.Parent != "" {
				text = fmt.Sprintf("%d: %s, part of %s, %s", i+1, c.Path, c.Parent, event.Bytes(c.Size))
			}
			for _, more := range []string{c.Label, c.Health} {
				if more != "" {
					text += ", " + event.Printable(more)
				}
			}
			if c.Twin != "" {
				text += ", looks the same as " + c.Twin + " but for the serial"
			}
			if c.Refused != "" {
				text += ". Not to be chosen: " + event.Printable(c.Refused)
			}
			p.say("%s", text)
		}
		a, err := p.ask("numbers, or whole paths of directories, with blanks between; r lists again:")
		if err != nil {
			return err
		}
		if a == "r" {
			_ = p.e.LookAgain(p.ctx)
			continue
		}
		var want []string
		for _, w := range strings.Fields(a) {
			if n, err := strconv.Atoi(w); err == nil && n >= 1 && n <= len(choices) {
				w = choices[n-1].Path
			}
			want = append(want, w)
		}
		if err := ask.Check(choices, want, p.place); err != nil {
			p.say("%v", err)
			continue
		}
		p.picked = want
		return nil
	}
}

func (p *plain) plan() error {
	for {
		plan, err := p.e.MakePlan(p.ctx, ask.Want{Sources: p.picked, Place: p.place.Path})
		if err != nil {
			p.say("No plan: %v", err)
			return errEnd
		}
		p.say("\nStep 4 of 5: the plan, %.16s.", plan.Hash)
		for i, s := range plan.Sources {
			p.say("From %d: %s, %s, serial %s", i+1, event.Printable(s.Path), event.Printable(s.Model), event.Printable(s.Serial))
		}
		p.say("To: %s, %s. It is written to.", event.Printable(plan.Place.Path), event.Printable(plan.Place.What))
		p.say("The same without questions: %s", strings.Join(plan.Command, " "))
		a, err := p.ask("start (go), or leave (q)?")
		if err != nil {
			return err
		}
		if a != "go" {
			continue
		}
		if err := p.e.Start(p.ctx, plan.Hash); err != nil {
			p.say("Not started: %v", err)
			continue
		}
		return nil
	}
}

// intake prints a line now and then, and every turning point, and takes orders meanwhile.
func (p *plain) intake() error {
	p.say("\nStep 5 of 5: the intake. Orders: pause, go, stop, status. Stopping is safe.")
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	seen, last, lost := uint64(0), time.Now(), time.Time{}
	answers := p.answers
	for {
		select {
		case <-p.ctx.Done():
			return p.ctx.Err()
		case a, ok := <-answers:
			if !ok {
				answers = nil // nobody answers any more; the work goes on to its end
				continue
			}
			p.order(a)
		case <-tick.C:
		}
		st := p.e.State()
		for _, l := range st.Lines {
			if l.Seq > seen {
				seen = l.Seq
				p.say("%s", screen.LogLine(l))
			}
		}
		switch {
		case st.Lost != "" && lost.IsZero():
			lost = time.Now()
			p.say("The engine does not answer: %s.", event.Printable(st.Lost))
			continue
		case st.Lost != "" && time.Since(lost) > 30*time.Second:
			return fmt.Errorf("the engine does not answer: %s", st.Lost)
		case st.Lost != "":
			continue
		case !lost.IsZero() && st.Job.Phase == ask.Idle:
			return errors.New("another engine was started, and what was read is safe: start asl-intake --plain again and choose the same sources, it goes on where it was")
		case !lost.IsZero():
			lost = time.Time{}
			p.say("The engine answers again.")
		}
		if st.Job.Phase == ask.Ended {
			p.report(st.Job.Report)
			return nil
		}
		if time.Since(last) >= p.o.Every {
			last = time.Now()
			p.status(&st.Job)
		}
	}
}

func (p *plain) order(a string) {
	verbs := map[string]ask.Verb{"pause": ask.Pause, "p": ask.Pause, "go": ask.GoOn, "stop": ask.Stop}
	st := p.e.State()
	switch v, ok := verbs[a]; {
	case a == "status" || a == "":
		p.status(&st.Job)
	case !ok:
		p.say("Orders are: pause, go, stop, status.")
	default:
		if err := p.e.Do(p.ctx, v, ""); err != nil {
			p.say("%v", err)
		}
	}
}

func (p *plain) status(j *ask.Job) {
	done, of := j.Progress.Done()
	p.say("%s: %s, %s of %s, %s, left: %s. Unreadable: %s.", j.Phase, j.Progress.Percent(), event.Bytes(done), event.Bytes(of), event.Rate(j.Progress.Rate()), j.Progress.ETA(), event.Bytes(j.Progress.Counts.Unreadable))
}

func (p *plain) report(r *ask.Report) {
	if r == nil {
		return
	}
	p.say("\nThe result: %s.", r.Result)
	if r.Why != "" {
		p.say("%s", event.Printable(r.Why))
	}
}
