package screen

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"
	"rsc.io/qr"

	"aslrescue/engine/event"
	"aslrescue/tui/ask"
	"aslrescue/tui/keys"
	"aslrescue/tui/theme"
)

// Report is the end: one word, what it means, what came of each source, and what to do next.
type Report struct {
	s    *Shared
	list list
	page int
	code *qr.Code
	of   string // what the code says
}

// NewReport makes it.
func NewReport(s *Shared) *Report { return &Report{s: s} }

// Typing is as Screen says.
func (p *Report) Typing() bool { return false }

// Entered is as Screen says.
func (p *Report) Entered() tea.Cmd { return nil }

func (p *Report) report() *ask.Report { return p.s.State.Job.Report }

// Keys is as Screen says.
func (p *Report) Keys() []key.Binding {
	if p.report() == nil {
		return []key.Binding{bindBack()}
	}
	out := []key.Binding{keys.Of("what next", "enter"), keys.Of("sources", "g"), keys.Of("export and leave", "e")}
	if p.report().Result == event.Complete {
		out = append(out, keys.Of("switch off", "o"))
	} else {
		out = append(out, keys.Of("switch off ...", "o"))
	}
	return append(out, keys.Of("log", "l"), bindBack())
}

// Hint is as Screen says.
func (p *Report) Hint() string {
	r := p.report()
	switch {
	case r == nil:
		return "There is a report when an intake has ended."
	case r.Result == event.Complete:
		return "Everything was read and is sealed. The machine may be switched off: o."
	case r.Result == event.CompleteWithGaps:
		return "Sealed, with gaps. Keep the hurt disk: another attempt may read more."
	case r.Result == event.Stopped:
		return "Stopped. g goes back to the sources; the same intake goes on where it was."
	}
	return "There is no snapshot of this intake. Enter says what to do."
}

// Update is as Screen says.
func (p *Report) Update(m tea.Msg) tea.Cmd {
	switch m := m.(type) {
	case gone:
		if m.err != nil {
			return failed("leave", m.err)
		}
		how := ByQuit
		if m.off {
			how = PowerOff
		}
		return msg(Leave{how})
	case tea.KeyMsg:
		return p.key(m)
	}
	return nil
}

type gone struct {
	off bool
	err error
}

func (p *Report) key(k tea.KeyMsg) tea.Cmd {
	r := p.report()
	if r == nil {
		if s := k.String(); s == "b" || s == "backspace" || s == "left" {
			return to(AtIntake)
		}
		return nil
	}
	if p.list.move(k, len(r.Sources), p.page) {
		return nil
	}
	switch k.String() {
	case "b", "backspace", "left":
		return to(AtIntake)
	case "enter":
		return msg(Show{p.next()})
	case "g":
		return to(AtSources)
	case "e":
		return msg(Show{&Menu{Head: "Export and leave", Lines: []string{"What was imported for this is exported, what was mounted is unmounted, and the wizard ends."}, Rows: []MenuRow{
			{Key: "y", Does: "do it", Do: func() tea.Cmd { return p.leave(false) }},
		}}})
	case "o":
		return msg(Show{p.off()})
	}
	return nil
}

func (p *Report) leave(off bool) tea.Cmd {
	return p.s.Do(func(ctx context.Context) tea.Msg { return gone{off, p.s.Engine.Leave(ctx, off)} })
}

// off offers to switch the machine off: freely only where everything was read.
func (p *Report) off() *Menu {
	m := &Menu{Head: "Switch the machine off", Rows: []MenuRow{{Key: "y", Does: "export what was imported, and switch off", Do: func() tea.Cmd { return p.leave(true) }}}}
	switch p.report().Result {
	case event.Complete:
		m.Lines = []string{"Everything was read and is sealed."}
	case event.CompleteWithGaps:
		m.Lines = []string{"Some of it could not be read. A disk that is switched off may not come up again: read what is missing first, if it matters."}
	default:
		m.Lines = []string{"The intake is not complete. A disk that is switched off may not come up again. It can go on now, or after the next boot."}
	}
	return m
}

func (p *Report) next() *Text {
	r := p.report()
	lines := []string{"# " + string(r.Result), meaning(r), ""}
	if r.Why != "" {
		lines = append(lines, "Why: "+event.Printable(r.Why), "")
	}
	if r.File != "" {
		lines = append(lines, "The sealed statement:", "  "+event.Printable(r.File), "Its hash, to note down:", "  "+r.Hash, "")
	}
	if len(r.Next) > 0 {
		lines = append(lines, "# What to do next")
		for _, n := range r.Next {
			lines = append(lines, "  "+event.Printable(n))
		}
	}
	for _, s := range r.Sources {
		lines = append(lines, "", "# "+event.Printable(s.Name)+"  "+joinNonEmpty("  ", event.Printable(s.Model), event.Printable(s.Serial)), "  root "+s.Root,
			fmt.Sprintf("  %s new, %s known, %s zeros, %s unreadable, %s untried", event.Bytes(s.New), event.Bytes(s.Known), event.Bytes(s.Zero), event.Bytes(s.Unreadable), event.Bytes(s.Untried)))
	}
	return &Text{Head: "What this means, and what to do next", Lines: lines}
}

func meaning(r *ask.Report) string {
	switch r.Result {
	case event.Complete:
		return "Everything was read and is sealed."
	case event.CompleteWithGaps:
		return "What could be read is sealed, and the snapshot says what is missing."
	case event.Stopped:
		return "Stopped by you or by a signal. What was read is safe, and the same intake goes on."
	}
	return "There is no snapshot. What was read is safe, and the same intake goes on."
}

func wordStyle(r event.Result) theme.Style {
	switch r {
	case event.Complete:
		return theme.Good
	case event.CompleteWithGaps, event.Stopped:
		return theme.Warn
	}
	return theme.Bad
}

// Draw is as Screen says.
func (p *Report) Draw(a theme.Area) {
	r := p.report()
	if r == nil {
		a.Put(1, 0, theme.Plain, "There is no report yet.")
		return
	}
	width := a.W
	if n := p.qr(a, r); n > 0 {
		width = a.W - n - 2
	}
	b := a.Sub(0, 0, width, a.H)
	y := p.word(b, r)
	y = b.Wrapped(1, y, theme.Plain, meaning(r))
	if r.Why != "" && y < b.H {
		y = b.Wrapped(1, y, theme.Plain, theme.Cut(event.Printable(r.Why), 2*b.W))
	}
	y++
	for _, f := range p.facts(r) {
		if y < b.H {
			b.Put(1, y, theme.Accent, f.head)
			y = b.Wrapped(12, y, f.style, f.text)
		}
	}
	if y+3 <= a.H {
		p.table(a.Sub(0, y+1, width, a.H-y-1), r)
	}
}

// word draws the one word so that it is read from a step away.
func (p *Report) word(b theme.Area, r *ask.Report) int {
	text := string(r.Result)
	if b.W >= 2*theme.Width(text)+4 && b.H >= 12 {
		text = strings.TrimSpace(strings.Join(strings.Split(text, ""), " "))
	}
	s := wordStyle(r.Result)
	if b.H < 8 {
		b.Put(1, 0, s, text)
		return 1
	}
	line := strings.Repeat(string(b.Glyphs().H), min(theme.Width(text)+2, b.W-1))
	b.Put(1, 0, s, line)
	b.Put(2, 1, s, text)
	b.Put(1, 2, s, line)
	return 4
}

func (p *Report) facts(r *ask.Report) []fact {
	var out []fact
	if r.Snapshot > 0 {
		v := "not read back"
		if r.Verified {
			v = "read back and good"
		}
		out = append(out, fact{"Snapshot", fmt.Sprintf("number %d, %s stored, %s", r.Snapshot, event.Bytes(r.Stored), v), theme.Plain})
	}
	out = append(out, fact{"Took", event.Duration(r.Took), theme.Plain})
	if r.Hash != "" {
		out = append(out, fact{"Report", shortFile(r.File), theme.Plain}, fact{"Its hash", r.Hash, theme.Bold})
	}
	if r.Written != "" {
		out = append(out, fact{"Written", "to source disks, by the kernel's counters: " + r.Written, theme.Plain})
	}
	return out
}

// shortFile leaves the beginning of a name that is a hash: the whole of it stands in the next line.
func shortFile(file string) string {
	dir, name := path.Split(file)
	if len(name) > 24 {
		name = name[:14] + "..."
	}
	return event.Printable(dir + name)
}

func (p *Report) table(a theme.Area, r *ask.Report) {
	p.page = a.H - 1
	a.Put(3, 0, theme.Accent, "Source")
	head := "     Size       New     Known  Unreadable "
	if a.W < 64 {
		head = "     Size  Unreadable "
	}
	a.Right(0, theme.Accent, head)
	p.list.draw(a.Sub(0, 1, a.W, a.H-1), len(r.Sources), func(l theme.Area, i int, sel bool) {
		s := theme.Plain
		if sel {
			l.Paint(0, theme.Selected)
			s = theme.Selected
		}
		src := r.Sources[i]
		style, miss := s, "none"
		if n := src.Unreadable + src.Untried; n > 0 {
			miss = event.Bytes(n)
			if !sel {
				style = theme.Warn
			}
		}
		if src.Wrong > 0 {
			miss = event.CountOf(src.Wrong, "file", "files")
		}
		numbers := theme.PadLeft(event.Bytes(src.Size), 9)
		if l.W >= 64 {
			numbers += theme.PadLeft(event.Bytes(src.New), 10) + theme.PadLeft(event.Bytes(src.Known), 10)
		}
		x := l.W - theme.Width(numbers) - 13
		l.Fit(3, 0, x-4, s, joinNonEmpty("  ", event.Printable(src.Name), tail(event.Printable(src.Serial), 9)))
		x = l.Put(x, 0, s, numbers)
		l.Put(x, 0, style, theme.PadLeft(miss, 12))
	})
}

// qr draws a code of the report's hash, for whoever has only a telephone to note it down, and gives its width.
func (p *Report) qr(a theme.Area, r *ask.Report) int {
	if r.Hash == "" || !a.Glyphs().Blocks || a.W < 78 {
		return 0
	}
	text := strings.ToUpper(fmt.Sprintf("ASL %d %s", r.Snapshot, r.Hash))
	if p.of != text {
		code, err := qr.Encode(text, qr.L)
		if err != nil {
			return 0
		}
		p.code, p.of = code, text
	}
	const quiet = 2
	n := p.code.Size + 2*quiet
	if (n+1)/2 > a.H {
		return 0
	}
	black := func(x, y int) bool { return p.code.Black(x-quiet, y-quiet) }
	g := a.Glyphs()
	for y := 0; y < n; y += 2 {
		var line strings.Builder
		for x := range n {
			switch up, low := black(x, y), black(x, y+1) && y+1 < n; { // light cells are drawn: the screen is dark
			case !up && !low:
				line.WriteRune(g.Full)
			case !up:
				line.WriteRune(g.UpHalf)
			case !low:
				line.WriteRune(g.LowHalf)
			default:
				line.WriteByte(' ')
			}
		}
		a.Put(a.W-n-1, y/2, theme.Plain, line.String())
	}
	return n
}
