package screen

import (
	"strings"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"

	"aslrescue/engine/event"
	"aslrescue/tui/ask"
	"aslrescue/tui/keys"
	"aslrescue/tui/theme"
)

// Overlay lies over a screen and takes all keys, so that none reaches what lies below. Esc closes every one of them, and does nothing else.
type Overlay interface {
	// Update takes a message; closed is true when the overlay is done.
	Update(tea.Msg) (closed bool, cmd tea.Cmd)
	Draw(theme.Area)
	Keys() []key.Binding
	Title() string
	Typing() bool
}

// Text is an overlay to read: help, a command's output, the log.
type Text struct {
	Head  string
	Lines []string
	top   int
	page  int
	End   bool // begins at its end
	More  []key.Binding
	On    func(string) tea.Cmd // takes the keys of More; the overlay closes
}

// Title is as Overlay says.
func (t *Text) Title() string { return t.Head }

// Typing is as Overlay says.
func (t *Text) Typing() bool { return false }

// Keys is as Overlay says.
func (t *Text) Keys() []key.Binding {
	return append(append([]key.Binding{}, t.More...), keys.Of("close", "esc", "b", "enter"), keys.Of("scroll", "up", "down"))
}

// Update is as Overlay says.
func (t *Text) Update(m tea.Msg) (bool, tea.Cmd) {
	k, ok := m.(tea.KeyMsg)
	if !ok {
		return false, nil
	}
	for _, b := range t.More {
		if keys.Is(k, b) {
			return true, t.On(b.Keys()[0])
		}
	}
	switch k.String() {
	case "esc", "b", "enter", "backspace", "left", "q", "?":
		return true, nil
	case "up", "k":
		t.top--
	case "down", "j":
		t.top++
	case "pgup", "ctrl+b":
		t.top -= max(t.page-1, 1)
	case "pgdown", "ctrl+f", " ":
		t.top += max(t.page-1, 1)
	case "home":
		t.top = 0
	case "end":
		t.top = 1 << 30
	}
	t.top, t.End = max(t.top, 0), false
	return false, nil
}

// Draw is as Overlay says.
func (t *Text) Draw(a theme.Area) {
	var lines []string
	for _, l := range t.Lines {
		if theme.Width(l) <= a.W-3 {
			lines = append(lines, l) // its own blanks stay
			continue
		}
		lines = append(lines, theme.Wrap(l, a.W-3)...)
	}
	t.page = a.H
	if last := max(len(lines)-a.H, 0); t.End || t.top > last {
		t.top = last
	}
	for y := 0; y < a.H && t.top+y < len(lines); y++ {
		a.Put(1, y, lineStyle(lines[t.top+y]), lines[t.top+y])
	}
	g := a.Glyphs()
	if t.top > 0 {
		a.Put(a.W-1, 0, theme.Accent, string(g.Up))
	}
	if t.top+a.H < len(lines) {
		a.Put(a.W-1, a.H-1, theme.Accent, string(g.Down))
	}
}

// lineStyle lets a few words stand out: they say themselves what they mean.
func lineStyle(s string) theme.Style {
	switch {
	case strings.HasPrefix(s, "# "):
		return theme.Accent
	case strings.Contains(s, "DAMAGED"), strings.Contains(s, "error:"), strings.Contains(s, "MISSING"):
		return theme.Bad
	case strings.Contains(s, "warning:"), strings.Contains(s, "kernel:"), strings.Contains(s, "unreadable"):
		return theme.Warn
	}
	return theme.Plain
}

// Input is an overlay that takes a line of text.
type Input struct {
	Head, Ask string
	field     line
	OK        func(string) tea.Cmd
	Left      func() tea.Cmd // after Esc; may be nil
}

// NewInput begins with a text.
func NewInput(head, question, text string, ok func(string) tea.Cmd) *Input {
	return &Input{Head: head, Ask: question, field: newLine(text), OK: ok}
}

// Title is as Overlay says.
func (in *Input) Title() string { return in.Head }

// Typing is as Overlay says.
func (in *Input) Typing() bool { return true }

// Keys is as Overlay says.
func (in *Input) Keys() []key.Binding {
	return []key.Binding{keys.Of("take it", "enter"), keys.Of("leave it as it was", "esc")}
}

// Update is as Overlay says.
func (in *Input) Update(m tea.Msg) (bool, tea.Cmd) {
	if k, ok := m.(tea.KeyMsg); ok {
		switch k.String() {
		case "esc":
			if in.Left != nil {
				return true, in.Left()
			}
			return true, nil
		case "enter":
			return true, in.OK(strings.TrimSpace(in.field.Value()))
		}
		in.field.key(k)
	}
	return false, nil
}

// Draw is as Overlay says.
func (in *Input) Draw(a theme.Area) {
	y := a.Wrapped(1, 0, theme.Plain, in.Ask)
	in.field.draw(a.Sub(1, y+1, a.W-2, 1))
}

// Gate is the question before a change to a pool. It is shown for a while before it can be answered, what was typed before that is thrown
// away, and only a letter, after the name where that is wanted, is a yes.
type Gate struct {
	s     *Shared
	offer ask.Offer
	field line
	armed bool
	typed bool // the name stands there
	top   int
	wrong string
}

type armMsg struct{ hash string }

// answered is what came of an answer.
type answered struct {
	offer ask.Offer
	text  string
	err   error
}

// NewGate asks about an offer. The command arms it.
func NewGate(s *Shared, o ask.Offer) (*Gate, tea.Cmd) {
	g := &Gate{s: s, offer: o, field: newLine("")}
	if s.Flush != nil {
		s.Flush()
	}
	return g, s.After(s.Arm, armMsg{o.Hash})
}

// Title is as Overlay says.
func (g *Gate) Title() string {
	return "Approve: " + g.offer.Way + ", pool " + event.Printable(g.offer.Subject)
}

// Typing is as Overlay says.
func (g *Gate) Typing() bool { return g.offer.Word != "" && !g.typed }

// Offer is what is asked about.
func (g *Gate) Offer() ask.Offer { return g.offer }

// Armed tells whether an answer would be taken.
func (g *Gate) Armed() bool { return g.armed }

// Keys is as Overlay says.
func (g *Gate) Keys() []key.Binding {
	no := keys.Of("no, leave it as it is", "esc")
	switch {
	case !g.armed:
		return []key.Binding{no}
	case g.Typing():
		return []key.Binding{no}
	}
	return []key.Binding{keys.Of("yes, do it", "y"), keys.Of("no, leave it as it is", "n", "esc", "enter")}
}

// Update is as Overlay says.
func (g *Gate) Update(m tea.Msg) (bool, tea.Cmd) {
	switch m := m.(type) {
	case armMsg:
		if m.hash == g.offer.Hash && !g.armed {
			g.armed = true
			if g.s.Flush != nil {
				g.s.Flush()
			}
		}
	case tea.KeyMsg:
		return g.key(m)
	}
	return false, nil
}

func (g *Gate) key(k tea.KeyMsg) (bool, tea.Cmd) {
	name := k.String()
	switch {
	case name == "esc":
		return true, say("Not approved. Nothing was changed.")
	case name == "pgdown" || name == "down":
		g.top++
	case name == "pgup" || name == "up":
		g.top = max(g.top-1, 0)
	case !g.armed: // typed ahead, for another screen
	case g.Typing():
		if name == "enter" {
			g.wrong = "this is not the name " + g.offer.Word + "; nothing was done"
			return false, nil
		}
		g.wrong = ""
		g.field.key(k)
		g.typed = g.field.Value() == g.offer.Word
	case name == "backspace" && g.typed:
		g.typed = false
		g.field.key(k)
	case name == "y" && len(k.Runes) == 1 && !k.Paste:
		return true, g.yes()
	case name == "n" || name == "enter":
		return true, say("Not approved. Nothing was changed.")
	}
	return false, nil
}

func (g *Gate) yes() tea.Cmd {
	o, word := g.offer, ""
	if o.Word != "" {
		word = g.field.Value()
	}
	return tea.Sequence(say("Approved. Looking once more, then doing it ..."), g.s.Do(func(ctx ctxt) tea.Msg {
		text, err := g.s.Engine.Answer(ctx, ask.Answer{Hash: o.Hash, Yes: true, Word: word})
		return answered{o, text, err}
	}))
}

// Draw is as Overlay says.
func (g *Gate) Draw(a theme.Area) {
	foot := 3
	if a.H < 9 {
		foot = 2
	}
	g.sheet(a.Sub(0, 0, a.W, a.H-foot))
	b := a.Sub(1, a.H-foot+max(foot-2, 0), a.W-2, 2)
	if foot > 2 {
		a.Rule(a.H - foot)
	}
	switch {
	case !g.armed:
		b.Put(0, 0, theme.Plain, "Read it first. The answer is taken in a moment.")
	case g.offer.Word == "":
		b.Put(0, 0, theme.Bold, string(a.Glyphs().Pick)+" No")
		b.Put(6, 0, theme.Plain, "  Press y to approve exactly this.")
	case g.typed:
		b.Put(0, 0, theme.Bold, g.offer.Word+": press y to do it, n to leave it.")
	default:
		before, behind := "Type the name of the pool ", " to go on:"
		if theme.Width(before+g.offer.Word+behind) > b.W {
			before, behind = "Type the name ", ":"
		}
		x := b.Put(0, 0, theme.Plain, before)
		x = b.Put(x, 0, theme.Bold, g.offer.Word)
		b.Put(x, 0, theme.Plain, behind)
		g.field.draw(b.Sub(0, 1, b.W, 1))
		if g.wrong != "" {
			b.Put(0, 0, theme.Bad, g.wrong)
			b.Put(theme.Width(g.wrong), 0, theme.Plain, "                    ")
		}
	}
}

// ways draws what an offer is, whole; sheet lets it be scrolled.
func (g *Gate) sheet(a theme.Area) {
	lines := sheetLines(g.offer, a.W-2)
	g.top = min(g.top, max(len(lines)-a.H, 0))
	for y := 0; y < a.H && y+g.top < len(lines); y++ {
		l := lines[y+g.top]
		a.Put(1, y, l.style, l.text)
	}
	if g.top+a.H < len(lines) {
		a.Put(a.W-1, a.H-1, theme.Accent, string(a.Glyphs().Down))
	}
	if g.top > 0 {
		a.Put(a.W-1, 0, theme.Accent, string(a.Glyphs().Up))
	}
}

type styled struct {
	text  string
	style theme.Style
}

// sheetLines says all that an offer says, in n columns.
func sheetLines(o ask.Offer, n int) []styled {
	var out []styled
	add := func(s theme.Style, text string) {
		for _, l := range theme.Wrap(text, n) {
			out = append(out, styled{l, s})
		}
	}
	row := func(head, text string) {
		if text == "" {
			return
		}
		for i, l := range theme.Wrap(event.Printable(text), n-12) {
			if i > 0 {
				head = ""
			}
			out = append(out, styled{theme.Pad(head, 12) + l, theme.Plain})
		}
	}
	add(theme.Bold, event.Printable(o.What))
	if o.Refused != "" && o.Answered == "" {
		add(theme.Bad, "Not possible: "+event.Printable(o.Refused))
	}
	if o.Answered != "" {
		add(theme.Good, "Done: "+event.Printable(o.Answered))
	}
	row("Changes", o.Changes)
	row("Undo", o.Undo)
	row("If not", o.Otherwise)
	for i, d := range o.Disks {
		head := "Disks"
		if i > 0 {
			head = ""
		}
		tail := "  " + event.Printable(d.Serial)
		if n >= 70 {
			tail += "  " + event.Bytes(d.Size) + "  " + d.Path
		}
		if d.State != "" && d.State != "online" {
			tail += "  " + d.State
		}
		model := theme.Cut(event.Printable(d.Model), n-12-theme.Width(tail)) // the serial is never cut: it tells twins apart
		out = append(out, styled{theme.Pad(head, 12) + model + tail, theme.Plain})
	}
	for i, note := range o.Notes {
		head := "Seen"
		if i > 0 {
			head = ""
		}
		if head == "" {
			row(" ", note)
		} else {
			row(head, note)
		}
	}
	row("Command", strings.Join(o.Command, " "))
	if len(o.Hash) >= 16 {
		row("Plan", o.Hash[:16])
	}
	return out
}

// Menu is an overlay of a few letters.
type Menu struct {
	Head  string
	Lines []string
	Rows  []MenuRow
}

// MenuRow is one of its letters.
type MenuRow struct {
	Key, Does string
	Do        func() tea.Cmd
	Why       string // it cannot be done now, and why
}

// Title is as Overlay says.
func (m *Menu) Title() string { return m.Head }

// Typing is as Overlay says.
func (m *Menu) Typing() bool { return false }

// Keys is as Overlay says. What each does stands in its row.
func (m *Menu) Keys() []key.Binding {
	var letters []string
	for _, r := range m.Rows {
		if r.Why == "" {
			letters = append(letters, r.Key)
		}
	}
	return []key.Binding{key.NewBinding(key.WithKeys(letters...), key.WithHelp(strings.Join(letters, " "), "choose")), keys.Of("close", "esc")}
}

// Update is as Overlay says.
func (m *Menu) Update(msg tea.Msg) (bool, tea.Cmd) {
	k, ok := msg.(tea.KeyMsg)
	if !ok {
		return false, nil
	}
	switch k.String() {
	case "esc", "b", "enter", "backspace", "left", "q":
		return true, nil
	}
	for _, r := range m.Rows {
		if k.String() == r.Key && r.Why == "" {
			return true, r.Do()
		}
	}
	return false, nil
}

// Draw is as Overlay says.
func (m *Menu) Draw(a theme.Area) {
	need := 0
	for _, r := range m.Rows {
		need += len(theme.Wrap(r.text(), a.W-4))
	}
	y, room := 0, a.Sub(0, 0, a.W, max(a.H-need, 0)) // what can be chosen is seen whole, and what is said of it as far as there is room
	for _, l := range m.Lines {
		y = room.Wrapped(1, y, theme.Plain, l)
	}
	if y > 0 && a.H > need+y {
		y++
	}
	for _, r := range m.Rows {
		a.Put(1, y, theme.Accent, r.Key)
		s := theme.Plain
		if r.Why != "" {
			s = theme.Faint
		}
		y = a.Wrapped(4, y, s, r.text())
	}
}

func (r MenuRow) text() string {
	if r.Why != "" {
		return r.Does + ": " + r.Why
	}
	return r.Does
}
