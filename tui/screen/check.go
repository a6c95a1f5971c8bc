package screen

import (
	"context"
	"fmt"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"

	"aslrescue/detect"
	"aslrescue/engine/event"
	"aslrescue/tui/keys"
	"aslrescue/tui/theme"
)

// Check shows the decision table: what was found and what it means. Nothing is written or imported here.
type Check struct {
	s     *Shared
	list  list
	page  int
	short bool // only rows that want attention
}

// NewCheck makes it.
func NewCheck(s *Shared) *Check { return &Check{s: s} }

// Typing is as Screen says.
func (c *Check) Typing() bool { return false }

// Entered is as Screen says.
func (c *Check) Entered() tea.Cmd { return nil }

// rows are those that want attention, the gravest first, and then the others in the order of the table.
func (c *Check) rows() []detect.Row {
	var out []detect.Row
	all := c.s.State.Look.Decision.Rows
	for _, wanted := range []func(detect.Row) bool{
		func(r detect.Row) bool { return r.Verdict == detect.STOP },
		func(r detect.Row) bool { return r.Verdict == detect.ASK },
		func(r detect.Row) bool {
			return r.Verdict != detect.STOP && r.Verdict != detect.ASK && (!c.short || r.Late)
		},
	} {
		for _, r := range all {
			if wanted(r) {
				out = append(out, r)
			}
		}
	}
	return out
}

// Keys is as Screen says.
func (c *Check) Keys() []key.Binding {
	which := "only what wants attention"
	if c.short {
		which = "all rows"
	}
	return []key.Binding{bindNext("go on"), keys.Of("explain", "enter"), keys.Of("look again", "r"), keys.Of(which, "f")}
}

// Hint is as Screen says.
func (c *Check) Hint() string {
	d := &c.s.State.Look.Decision
	stop, ask := 0, 0
	for _, r := range d.Rows {
		switch r.Verdict {
		case detect.STOP:
			stop++
		case detect.ASK:
			ask++
		}
	}
	switch {
	case len(d.Rows) == 0:
		return "Looking at this machine. Nothing is changed by that."
	case c.stopped() != "":
		return "It cannot go on like this. Enter on the STOP row says what to do."
	case c.s.State.Look.Looking:
		return "Still looking at some disks; their rows will change. n goes on."
	case ask+stop > 0:
		return fmt.Sprintf("Read the %s attention. Enter explains a row, n goes on.", event.CountOf(int64(ask+stop), "row that wants", "rows that want"))
	}
	return "Nothing stands in the way. n goes on."
}

// stopped is what stands in the way of everything.
func (c *Check) stopped() string {
	for _, r := range c.s.State.Look.Decision.About(detect.Machine) {
		if r.Verdict == detect.STOP {
			return event.Printable(r.What + ": " + r.Found)
		}
	}
	return ""
}

// Update is as Screen says.
func (c *Check) Update(m tea.Msg) tea.Cmd {
	k, ok := m.(tea.KeyMsg)
	if !ok {
		return nil
	}
	rows := c.rows()
	if c.list.move(k, len(rows), c.page) {
		return nil
	}
	switch k.String() {
	case "n", "right":
		if why := c.stopped(); why != "" {
			return msg(Say{Text: "A STOP row stands in the way: " + why, Bad: true})
		}
		return to(AtApprove)
	case "enter":
		if c.list.at < len(rows) {
			return msg(Show{explain(rows[c.list.at])})
		}
	case "r":
		return tea.Sequence(say("Looking again ..."), c.s.Do(func(ctx context.Context) tea.Msg {
			if err := c.s.Engine.LookAgain(ctx); err != nil {
				return Say{Text: "look again: " + errorText(err), Bad: true}
			}
			return nil
		}))
	case "f":
		c.short, c.list.at = !c.short, 0
	}
	return nil
}

func explain(r detect.Row) *Text {
	lines := []string{"# " + event.Printable(r.What), verdictWord(r), "", "Found:  " + event.Printable(r.Found), "", event.Printable(r.Why)}
	if len(r.Next) > 0 {
		lines = append(lines, "", "What to do:")
		for _, n := range r.Next {
			lines = append(lines, "  - "+event.Printable(n))
		}
	}
	return &Text{Head: "What this row means", Lines: append(lines, "", "("+r.ID+")")}
}

func verdictWord(r detect.Row) string {
	if r.Late {
		return "still looking"
	}
	switch r.Verdict {
	case detect.GO:
		return "GO: nothing stands in the way"
	case detect.ASK:
		return "ASK: look at this before you use it"
	case detect.STOP:
		return "STOP: this is not used as things are"
	}
	return "INFO: good to know"
}

// mark is the verdict of a row as it stands in the table, a sign and a word.
func mark(g *theme.Glyphs, r detect.Row) (string, theme.Style) {
	if r.Late {
		return ". looking", theme.Accent
	}
	switch r.Verdict {
	case detect.GO:
		return string(g.Good) + " go", theme.Good
	case detect.ASK:
		return "? ask", theme.Warn
	case detect.STOP:
		return string(g.Bad) + " STOP", theme.Bad
	}
	return string(g.Dot) + " info", theme.Faint
}

// Draw is as Screen says.
func (c *Check) Draw(a theme.Area) {
	rows := c.rows()
	head, foot := 1, 2
	if a.H < 8 {
		head, foot = 0, 0
	}
	c.page = a.H - head - foot
	what := min(max(a.W/4, 12), 26)
	verdict := 10
	found := a.W - what - verdict - 3
	if head > 0 {
		a.Put(2, 0, theme.Accent, "What was checked")
		a.Fit(2+what, 0, found, theme.Accent, "Found")
		a.Put(a.W-verdict, 0, theme.Accent, "Meaning")
	}
	c.list.draw(a.Sub(0, head, a.W, c.page), len(rows), func(l theme.Area, i int, sel bool) {
		s := theme.Plain
		if sel {
			l.Paint(0, theme.Selected)
			s = theme.Selected
		}
		r := rows[i]
		l.Fit(2, 0, what-1, s, event.Printable(r.What))
		l.Fit(2+what, 0, found-1, s, event.Printable(r.Found))
		text, style := mark(l.Glyphs(), r)
		if sel {
			style = s
		}
		l.Put(l.W-verdict, 0, style, text)
	})
	if len(rows) == 0 {
		a.Put(2, head, theme.Plain, "nothing to show yet")
	}
	if foot > 0 {
		a.Rule(a.H - 2)
		a.Fit(1, a.H-1, a.W-2, theme.Bold, c.result())
	}
}

// result is the decision in one line.
func (c *Check) result() string {
	d := &c.s.State.Look.Decision
	if d.Mode == "" {
		return "Result: still looking."
	}
	mode := string(d.Mode)
	if d.Mode == detect.Operator {
		mode = "you decide"
	}
	text := "Result: " + mode + ". " + event.Printable(d.Why)
	if n := len(d.Rows); n > c.page && c.page > 0 {
		text = fmt.Sprintf("%s  (row %d of %d)", text, c.list.at+1, n)
	}
	return text
}
