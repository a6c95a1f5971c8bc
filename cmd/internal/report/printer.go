package report

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"aslrescue/engine/event"
)

// Options say where and how a Printer prints. The zero values are: plain lines, no terminal.
type Options struct {
	Program  string // as errors name it
	Out, Err io.Writer
	JSON     bool          // JSON lines on Out and nothing else; the last is "result"
	Work     bool          // the work is done elsewhere: what cannot be printed changes no exit code
	Terminal bool          // Out is a terminal: one line of progress is kept fresh on it
	Width    func() int    // columns of the terminal, asked for every line; nil and numbers below 1 are 80
	Every    time.Duration // between two lines of progress; 0 is 250 ms on a terminal and 1 s in JSON
}

// Printer prints what a program has to say. Its methods may be called from several goroutines.
type Printer struct {
	o Options

	mu       sync.Mutex
	progress event.Progress
	last     time.Duration // when progress was last printed
	printed  bool
	shown    int // columns that the line of progress takes now
	err      error
	keep     func(event.Level, string)
}

// New makes a Printer.
func New(o Options) *Printer {
	if o.Every == 0 {
		o.Every = time.Second
		if o.Terminal && !o.JSON {
			o.Every = 250 * time.Millisecond
		}
	}
	return &Printer{o: o}
}

// Work says from now on that the work is done elsewhere, and output is only a report of it.
func (p *Printer) Work() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.o.Work = true
}

// Keep has turning points and the end kept as messages, too, from now on.
func (p *Printer) Keep(keep func(event.Level, string)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keep = keep
}

// message keeps what stands on the screen in another way.
func (p *Printer) message(level event.Level, text string) {
	if p.keep != nil && text != "" {
		p.keep(level, text)
	}
}

// levelOf is how much an event matters.
func levelOf(e event.Event) event.Level {
	if m, ok := e.(event.Message); ok {
		return m.Level
	}
	return event.Info
}

// WantsJSON tells from arguments as they are, good or bad, whether who reads wants JSON lines.
func WantsJSON(args []string) bool {
	wants := false
	for _, a := range args {
		name, value, given := strings.Cut(strings.TrimPrefix(a, "-"), "=")
		if !strings.HasPrefix(a, "-") || strings.TrimPrefix(name, "-") != "json" {
			continue
		}
		v, err := strconv.ParseBool(value)
		wants = !given || err != nil || v
	}
	return wants
}

// Event prints an event: turning points as they come, numbers as progress now and then.
func (p *Printer) Event(e event.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.progress.Apply(e)
	if p.keep != nil && !event.IsCount(e) {
		p.message(levelOf(e), event.Line(e))
	}
	if p.o.JSON {
		// An acknowledgement is printed when it comes: whoever reads may let go of what it covers.
		if _, ack := e.(event.ResumePoint); ack || !event.IsCount(e) {
			line, err := event.MarshalLine(e)
			p.write(string(line), err)
			return
		}
		if p.due(e) {
			p.line("progress", progressLine(&p.progress))
		}
		return
	}
	if text := event.Line(e); text != "" {
		p.clear()
		p.write(printable(text)+"\n", nil)
	}
	if p.o.Terminal && p.progress.Stage != "" && p.progress.Stage != event.Done && p.due(e) {
		p.show(Progress(&p.progress, p.width()-1)) // a full last column would wrap
	}
}

func (p *Printer) due(e event.Event) bool {
	if p.printed && e.When()-p.last < p.o.Every {
		return p.shown == 0 && p.o.Terminal && !p.o.JSON // a turning point took its line
	}
	p.printed, p.last = true, e.When()
	return true
}

// Row prints one thing of a list: its text, or with JSON its fields under the type kind.
func (p *Printer) Row(kind, text string, fields any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.o.JSON {
		p.line(kind, fields)
		return
	}
	p.clear()
	p.write(printable(text)+"\n", nil)
}

// Result is the end of a program.
type Result struct {
	Word   event.Result // of an intake, otherwise empty
	Text   string       // for people; may have several lines
	File   bool         // Text is a file: nothing in it is changed for a terminal's sake
	Fields any          // for JSON: a struct or map, flattened into the result line; nil is none
	Err    error
}

// Finish prints the end and gives the exit code. Errors go to Err as text, and with JSON into the result line too.
func (p *Printer) Finish(r Result) Code {
	p.mu.Lock()
	defer p.mu.Unlock()
	code := CodeOf(r.Err)
	if r.Err == nil && r.Word != "" {
		code = ResultCode(r.Word)
	}
	p.clear()
	switch {
	case r.Err != nil:
		p.message(event.Error, r.Err.Error())
	case r.Word != "":
		p.message(event.Info, string(r.Word))
	}
	switch {
	case p.o.JSON:
		p.result(r, code)
	case r.Text != "":
		text := strings.TrimSuffix(r.Text, "\n")
		if !r.File {
			text = printable(text)
		}
		p.write(text+"\n", nil)
	}
	if r.Err != nil {
		fmt.Fprint(p.o.Err, Text(p.o.Program, r.Err))
	}
	if p.err != nil {
		means := "Not all of it could be printed."
		if p.o.Work {
			means = "Not all lines could be printed; the work itself is done, and the exit code is that of the work."
		}
		fmt.Fprint(p.o.Err, Text(p.o.Program, &Error{What: "print to standard output", Err: p.err, Means: means}))
		if code == OK && !p.o.Work {
			return Failed // who reads has not read all of it
		}
	}
	return code
}

func (p *Printer) result(r Result, code Code) {
	head := struct {
		Program string       `json:"program,omitempty"`
		Word    event.Result `json:"result,omitempty"`
		Exit    Code         `json:"exit"`
		*jsonError
	}{Program: p.o.Program, Word: r.Word, Exit: code}
	if r.Err != nil {
		e := Explain(r.Err)
		head.jsonError = &jsonError{r.Err.Error(), e.Means, e.Next}
	}
	if r.Fields == nil {
		p.line("result", head)
		return
	}
	p.line("result", head, r.Fields)
}

// line prints the fields of several values as one object. Later ones stand behind earlier ones.
func (p *Printer) line(kind string, values ...any) {
	var b strings.Builder
	fmt.Fprintf(&b, `{"type":%q`, kind)
	for _, v := range values {
		body, err := json.Marshal(v)
		if err != nil {
			p.write("", fmt.Errorf("line %s: %w", kind, err))
			return
		}
		if len(body) < 2 || body[0] != '{' {
			p.write("", fmt.Errorf("line %s: %T is not an object", kind, v))
			return
		}
		if string(body) != "{}" {
			b.WriteByte(',')
			b.Write(body[1 : len(body)-1])
		}
	}
	b.WriteString("}\n")
	p.write(b.String(), nil)
}

// write keeps the first error for Finish: one failed line is no reason to stop an intake.
func (p *Printer) write(s string, err error) {
	if err == nil && s != "" {
		_, err = io.WriteString(p.o.Out, s)
	}
	if err != nil && p.err == nil {
		p.err = err
	}
}

func (p *Printer) width() int {
	if p.o.Width != nil {
		if w := p.o.Width(); w > 0 {
			return w
		}
	}
	return 80
}

// show and clear use nothing but a carriage return and spaces: every terminal has those.
func (p *Printer) show(s string) {
	n := utf8.RuneCountInString(s)
	pad := max(p.shown-n, 0)
	p.write("\r"+s+strings.Repeat(" ", pad)+strings.Repeat("\b", pad), nil)
	p.shown = n
}

func (p *Printer) clear() {
	if p.shown > 0 {
		p.write("\r"+strings.Repeat(" ", p.shown)+"\r", nil)
		p.shown = 0
	}
}

// Progress is one line of at most width columns. What matters least goes first where there is no room.
func Progress(p *event.Progress, width int) string {
	done, of := p.Done()
	parts := []string{string(p.Stage), event.Bytes(done)}
	if of >= 0 {
		parts = []string{string(p.Stage) + " " + p.Percent(), event.Bytes(done) + " of " + event.Bytes(of)}
	}
	if d := p.Stalled(); d > 0 {
		parts = append(parts, "waiting for the disk for "+event.Duration(d))
	} else {
		parts = append(parts, event.Rate(p.Rate()))
		if of >= 0 {
			parts = append(parts, "left: "+p.ETA().String())
		}
	}
	if n := p.Counts.Unreadable + p.Counts.Untried; n > 0 {
		parts = append(parts, event.Bytes(n)+" missing")
	}
	if n := p.Counts.FileErrors; n > 0 {
		parts = append(parts, event.CountOf(n, "file", "files")+" not whole")
	}
	if p.Stage != event.Verifying {
		parts = append(parts, event.Bytes(p.Counts.New)+" new", event.Bytes(p.Counts.Known)+" known")
	}
	if p.Counts.Files > 0 {
		parts = append(parts, event.CountOf(p.Counts.Files, "entry", "entries"))
	}
	for ; len(parts) > 1; parts = parts[:len(parts)-1] {
		if s := strings.Join(parts, "  "); utf8.RuneCountInString(s) <= width {
			return s
		}
	}
	return parts[0][:min(len(parts[0]), max(width, 0))] // ASCII
}

// progressJSON is what a script needs to draw a bar.
type progressJSON struct {
	At      event.Seconds `json:"at_s"`
	Phase   event.Stage   `json:"phase"`
	Done    int64         `json:"done"`
	Total   int64         `json:"total"` // -1 where not known
	Rate    int64         `json:"rate"`
	ETA     *[2]int64     `json:"eta_s,omitempty"` // from, to
	Stalled int64         `json:"stalled_s,omitempty"`
	Stored  int64         `json:"stored"`
	Safe    int64         `json:"safe"`
	event.Counts
}

func progressLine(p *event.Progress) progressJSON {
	done, of := p.Done()
	out := progressJSON{
		At: event.Seconds(p.Now), Phase: p.Stage, Done: done, Total: of, Rate: int64(p.Rate()),
		Stalled: int64(p.Stalled().Seconds()), Stored: p.Stored, Safe: p.Safe, Counts: p.Counts,
	}
	if eta := p.ETA(); eta.Known {
		out.ETA = &[2]int64{int64(eta.Low.Seconds()), int64(eta.High.Seconds())}
	}
	return out
}
