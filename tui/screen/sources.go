package screen

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"

	"aslrescue/engine/event"
	"aslrescue/tui/ask"
	"aslrescue/tui/keys"
	"aslrescue/tui/theme"
)

// Sources is where a person picks what to read: disks, partitions, directories. What cannot be read in says why.
type Sources struct {
	s          *Shared
	list       list
	page       int
	choices    []ask.Choice
	dirs       []string // directories and images that were added by path
	unfinished []ask.Unfinished
	loaded     bool
	err        error
	version    uint64
	asked      int
	filter     string // what rows that are shown have in them
}

type loadedSources struct {
	n          int
	choices    []ask.Choice
	unfinished []ask.Unfinished
	err        error
}

// NewSources makes it.
func NewSources(s *Shared) *Sources { return &Sources{s: s} }

// Typing is as Screen says.
func (p *Sources) Typing() bool { return false }

// Entered is as Screen says.
func (p *Sources) Entered() tea.Cmd { return p.load() }

func (p *Sources) load() tea.Cmd {
	p.asked++
	n, place := p.asked, p.s.Place.Path
	return p.s.Do(func(ctx context.Context) tea.Msg {
		c, err := p.s.Engine.Choices(ctx, place)
		u, err2 := p.s.Engine.Unfinished(ctx, place)
		return loadedSources{n, c, u, errors.Join(err, err2)}
	})
}

// sourceRow is an unfinished intake, a choice, or a directory.
type sourceRow struct {
	unfinished *ask.Unfinished
	choice     *ask.Choice
	dir        string
}

func (r sourceRow) path() string {
	switch {
	case r.choice != nil:
		return r.choice.Path
	case r.unfinished != nil:
		return "unfinished " + r.unfinished.ID
	}
	return r.dir
}

func (p *Sources) rows() []sourceRow {
	var out []sourceRow
	for i := range p.unfinished {
		out = append(out, sourceRow{unfinished: &p.unfinished[i]})
	}
	for i := range p.choices {
		if c := &p.choices[i]; has(p.filter, c.Path, c.Model, c.Serial, c.Label, c.FS, c.Health) {
			out = append(out, sourceRow{choice: c})
		}
	}
	for _, d := range p.dirs {
		if has(p.filter, d) {
			out = append(out, sourceRow{dir: d})
		}
	}
	return out
}

// has tells whether a filter lets something through: it stands in one of its texts, as small or as large letters.
func has(filter string, texts ...string) bool {
	return filter == "" || slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(strings.ToLower(s), strings.ToLower(filter)) })
}

func (p *Sources) row() (sourceRow, bool) {
	rows := p.rows()
	if len(rows) == 0 {
		return sourceRow{}, false
	}
	return rows[max(min(p.list.at, len(rows)-1), 0)], true
}

// Keys is as Screen says.
func (p *Sources) Keys() []key.Binding {
	first := keys.Of("mark", " ")
	if r, ok := p.row(); ok && r.unfinished != nil {
		first = keys.Of("go on with it", "enter")
	}
	return []key.Binding{first, bindNext("plan it"), keys.Of("details", "enter", "i"), keys.Of("directory", "f"), keys.Of("type a path", "t"), bindBack(), keys.Of("look again", "r"), keys.Of("find", "/")}
}

// Hint is as Screen says.
func (p *Sources) Hint() string {
	r, ok := p.row()
	switch {
	case p.err != nil:
		return "Not everything could be listed: " + errorText(p.err)
	case !p.loaded:
		return "Asking for disks ..."
	case p.filter != "":
		return fmt.Sprintf("Only rows with %q are shown. / and an empty line show all.", p.filter)
	case ok && r.choice != nil && r.choice.Refused != "":
		return "Not to be chosen: " + event.Printable(r.choice.Refused) + "."
	case ok && r.unfinished != nil:
		return "This intake was interrupted. Enter: it goes on where it was."
	case len(p.s.Picked) == 0:
		return "Mark with Space what is to be saved. Sources are only read."
	}
	return event.CountOf(int64(len(p.s.Picked)), "source is", "sources are") + " marked. n makes a plan of it; nothing is read yet."
}

// Update is as Screen says.
func (p *Sources) Update(m tea.Msg) tea.Cmd {
	switch m := m.(type) {
	case StateMsg:
		if v := m.State.Look.Version; v != p.version {
			p.version = v
			return p.load()
		}
	case loadedSources:
		if m.n == p.asked {
			p.take(m)
		}
	case addDir:
		return p.add(string(m))
	case tea.KeyMsg:
		return p.key(m)
	}
	return nil
}

// take keeps the selection on the row it was on, and drops marks of what is no longer to be chosen.
func (p *Sources) take(m loadedSources) {
	was := ""
	if r, ok := p.row(); ok {
		was = r.path()
	}
	first, more := !p.loaded, len(p.unfinished) == 0 && len(m.unfinished) > 0
	p.choices, p.unfinished, p.err, p.loaded = m.choices, m.unfinished, m.err, true
	rows := p.rows()
	if i := slices.IndexFunc(rows, func(r sourceRow) bool { return r.path() == was }); i >= 0 && !more {
		p.list.at = i
	} else if first || more { // the first that can be chosen
		p.list.at = max(slices.IndexFunc(rows, func(r sourceRow) bool { return r.unfinished != nil || r.choice != nil && r.choice.Refused == "" }), 0)
	}
	p.s.Picked = slices.DeleteFunc(p.s.Picked, func(path string) bool {
		i := slices.IndexFunc(p.choices, func(c ask.Choice) bool { return c.Path == path })
		return i >= 0 && p.choices[i].Refused != "" || i < 0 && strings.HasPrefix(path, "/dev/")
	})
}

type addDir string

func (p *Sources) add(path string) tea.Cmd {
	for _, c := range p.choices {
		if c.Path == path {
			return p.mark(sourceRow{choice: &c})
		}
	}
	if !slices.Contains(p.dirs, path) {
		p.dirs = append(p.dirs, path)
	}
	return p.mark(sourceRow{dir: path})
}

// mark chooses a row, or lets it go. What cannot be read in is refused here, and again by whoever makes the plan.
func (p *Sources) mark(r sourceRow) tea.Cmd {
	path := r.path()
	if i := slices.Index(p.s.Picked, path); i >= 0 {
		p.s.Picked = slices.Delete(slices.Clone(p.s.Picked), i, i+1)
		return nil
	}
	want := append(slices.Clone(p.s.Picked), path)
	if err := ask.Check(p.choices, want, p.s.Place); err != nil {
		if r.dir != "" {
			p.dirs = slices.DeleteFunc(p.dirs, func(d string) bool { return d == r.dir })
		}
		return msg(Say{Text: strings.TrimPrefix(errorText(err), ask.ErrRefused.Error()+": "), Bad: true})
	}
	p.s.Picked = want
	return nil
}

func (p *Sources) key(k tea.KeyMsg) tea.Cmd {
	if p.list.move(k, len(p.rows()), p.page) {
		return nil
	}
	r, ok := p.row()
	switch k.String() {
	case " ", "x":
		if ok && r.unfinished == nil {
			return p.mark(r)
		}
	case "n", "right":
		if len(p.s.Picked) == 0 {
			return msg(Say{Text: "Nothing is marked. Space marks a row.", Bad: true})
		}
		return to(AtPlan)
	case "b", "backspace", "left":
		return to(AtApprove)
	case "r":
		return tea.Batch(say("Looking again ..."), p.s.Do(func(ctx context.Context) tea.Msg { _ = p.s.Engine.LookAgain(ctx); return nil }), p.load())
	case "enter", "i":
		if ok && r.unfinished != nil {
			return p.goOn(*r.unfinished)
		}
		if ok {
			return msg(Show{p.explain(r)})
		}
	case "f":
		pk, cmd := NewPicker(p.s, "A directory to save", "/mnt", func(path string) tea.Cmd { return msg(addDir(path)) })
		return tea.Batch(msg(Show{pk}), cmd)
	case "/":
		return msg(Show{NewInput("Find", "Show only rows with these letters: of a name, a model, a serial. Empty shows all.", p.filter, func(text string) tea.Cmd {
			p.filter, p.list.at = text, 0
			return nil
		})})
	case "t":
		return msg(Show{NewInput("A directory or an image to save", "Its whole path:", "/", func(text string) tea.Cmd { return msg(addDir(text)) })})
	}
	return nil
}

// goOn chooses the sources of an interrupted intake.
func (p *Sources) goOn(u ask.Unfinished) tea.Cmd {
	if u.Missing != "" || slices.Contains(u.Paths, "") {
		return msg(Say{Text: "A source of it is not here: " + event.Printable(u.Missing) + ". Plug it in, then r looks again.", Bad: true})
	}
	if err := ask.Check(p.choices, u.Paths, p.s.Place); err != nil {
		return failed("go on with intake "+u.ID, err)
	}
	p.s.Picked = slices.Clone(u.Paths)
	for _, path := range u.Paths {
		if !strings.HasPrefix(path, "/dev/") && !slices.Contains(p.dirs, path) {
			p.dirs = append(p.dirs, path)
		}
	}
	return to(AtPlan)
}

func (p *Sources) explain(r sourceRow) *Text {
	if r.choice == nil {
		return &Text{Head: "Directory", Lines: []string{event.Printable(r.dir), "", "It is read as a tree of files, with names, owners, times and attributes."}}
	}
	c := r.choice
	lines := []string{"# " + nameOf(*c), "", "Path     " + c.Path, "Serial   " + event.Printable(c.Serial), "Size     " + event.Bytes(c.Size) + "  (" + event.Count(c.Size) + " bytes)"}
	if c.Label != "" {
		lines = append(lines, "Holds    "+event.Printable(c.Label))
	}
	if c.Health != "" {
		lines = append(lines, "Health   "+event.Printable(c.Health))
	}
	if c.Refused != "" {
		lines = append(lines, "", "It cannot be chosen: "+event.Printable(c.Refused)+".")
	}
	if t := p.twinLines(*c); t != nil {
		lines = append(append(lines, "", "# There is another of the same model and size. Look at the label on the disk:"), t...)
	}
	for _, row := range p.s.State.Look.Decision.Rows {
		if string(row.About) == "disk "+strings.TrimPrefix(c.Path, "/dev/") {
			lines = append(lines, "", "# "+event.Printable(row.What), event.Printable(row.Found), event.Printable(row.Why))
		}
	}
	return &Text{Head: "About " + c.Path, Lines: lines}
}

// twinLines puts the serials of twins under each other, and marks where they differ.
func (p *Sources) twinLines(c ask.Choice) []string {
	i := slices.IndexFunc(p.choices, func(o ask.Choice) bool { return c.Twin != "" && o.Path == c.Twin })
	if i < 0 {
		return nil
	}
	a, b := []rune(event.Printable(c.Serial)), []rune(event.Printable(p.choices[i].Serial))
	var mark strings.Builder
	for k := range max(len(a), len(b)) {
		if k < len(a) && k < len(b) && a[k] == b[k] {
			mark.WriteByte(' ')
		} else {
			mark.WriteByte('^')
		}
	}
	w := max(len(c.Path), len(p.choices[i].Path)) + 2
	return []string{theme.Pad(c.Path, w) + string(a), theme.Pad(p.choices[i].Path, w) + string(b), strings.Repeat(" ", w) + mark.String()}
}

func nameOf(c ask.Choice) string {
	if c.Model == "" {
		return c.Path
	}
	return event.Printable(c.Model)
}

// short is a path without /dev/.
func short(path string) string { return strings.TrimPrefix(path, "/dev/") }

// Draw is as Screen says.
func (p *Sources) Draw(a theme.Area) {
	rows := p.rows()
	head, foot := 1, 4
	if a.H < 12 {
		foot = 0
	}
	if a.H < 6 {
		head = 0
	}
	p.page = a.H - head - foot
	col := sourceColumns(a.W)
	if head > 0 {
		for _, h := range []struct {
			x    int
			text string
		}{{2, "    Source"}, {col.model, "Model"}, {col.serial, "Serial"}, {col.size, "     Size"}, {col.holds, "Holds"}, {col.health, "Health"}} {
			if h.x > 0 {
				a.Put(h.x, 0, theme.Accent, h.text)
			}
		}
	}
	p.list.draw(a.Sub(0, head, a.W, p.page), len(rows), func(l theme.Area, i int, sel bool) { p.draw(l, rows[i], sel, col) })
	if len(rows) == 0 {
		text := "asking for disks ..."
		switch {
		case p.loaded && p.filter != "":
			text = "none has these letters; / changes them"
		case p.loaded:
			text = "no disk was found; f picks a directory"
		}
		a.Put(2, head, theme.Plain, text)
	}
	if foot > 0 {
		a.Rule(a.H - foot)
		p.footer(a.Sub(1, a.H-foot+1, a.W-2, foot-1))
	}
}

type columns struct{ model, serial, size, holds, health int }

// sourceColumns drops columns that a narrow screen has no room for: what a person tells disks by goes last.
func sourceColumns(w int) columns {
	switch {
	case w >= 120:
		return columns{22, 50, 74, 86, min(108, w-28)}
	case w >= 72:
		return columns{17, 0, 50, 61, 0}
	case w >= 48:
		return columns{0, 18, w - 12, 0, 0}
	}
	return columns{0, 18, 0, 0, 0}
}

func (p *Sources) draw(l theme.Area, r sourceRow, sel bool, col columns) {
	s := theme.Plain
	if sel {
		l.Paint(0, theme.Selected)
		s = theme.Selected
	}
	if u := r.unfinished; u != nil {
		style := theme.Accent
		if sel {
			style = s
		}
		l.Fit(2, 0, l.W-3, style, fmt.Sprintf("go on: intake %s, %s of %s safe, %s", u.ID, event.Bytes(u.Done), event.Bytes(u.Total), event.Printable(strings.Join(u.Sources, ", "))))
		return
	}
	box := "[ ]"
	if slices.Contains(p.s.Picked, r.path()) {
		box = "[x]"
	}
	c := r.choice
	if c == nil {
		l.Put(2, 0, s, box)
		l.Fit(6, 0, l.W-7, s, event.Printable(r.dir))
		return
	}
	name := short(c.Path)
	if c.Parent != "" {
		name = "  " + name
	}
	if c.Refused != "" {
		box = " - "
		if !sel {
			s = theme.Faint
		}
	}
	l.Put(2, 0, s, box)
	l.Fit(6, 0, max(col.model, col.serial, 18)-7, s, name)
	p.cells(l, c, s, sel, col)
}

// cells are the columns behind the name.
func (p *Sources) cells(l theme.Area, c *ask.Choice, s theme.Style, sel bool, col columns) {
	end := func(all ...int) int { // where a column ends: before the next that there is
		for _, x := range all {
			if x > 0 {
				return x - 1
			}
		}
		return l.W - 1
	}
	whole := c.Parent == ""
	if col.model > 0 && whole {
		text := event.Printable(c.Model)
		if col.serial == 0 && c.Serial != "" { // the last letters tell twins apart: they are never cut
			text = theme.Cut(text, end(col.size)-col.model-10) + " " + tail(event.Printable(c.Serial), 9)
		}
		l.Fit(col.model, 0, end(col.serial, col.size)-col.model, s, text)
	}
	if col.serial > 0 && whole {
		text := event.Printable(c.Serial)
		l.Fit(col.serial, 0, end(col.size, col.holds)-col.serial, s, tail(text, end(col.size, col.holds)-col.serial))
	}
	if col.size > 0 {
		l.Put(col.size, 0, s, theme.PadLeft(event.Bytes(c.Size), 9))
	}
	if col.holds > 0 {
		text := event.Printable(c.Label)
		if col.health == 0 && c.Refused != "" && whole {
			text = event.Printable(c.Refused)
		} else if col.health == 0 && c.Ailing {
			text = event.Printable(c.Health)
			if !sel {
				s = theme.Warn
			}
		}
		l.Fit(col.holds, 0, end(col.health)-col.holds, s, text)
	}
	if col.health > 0 {
		text, style := event.Printable(c.Health), s
		if c.Refused != "" {
			text = event.Printable(c.Refused)
		} else if c.Ailing && !sel {
			style = theme.Warn
		}
		l.Fit(col.health, 0, l.W-1-col.health, style, text)
	}
}

// tail is the end of a serial: the end is what differs.
func tail(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[len(r)-max(n, 0):])
}

// footer tells twins apart, or says what is marked.
func (p *Sources) footer(a theme.Area) {
	r, ok := p.row()
	if ok && r.choice != nil {
		if t := p.twinLines(*r.choice); t != nil {
			for y, l := range t {
				style := theme.Plain
				if y == 2 {
					style = theme.Warn
				}
				a.Put(0, y, style, l)
			}
			if a.W >= 70 {
				a.Put(a.W-30, 0, theme.Warn, "Two of one model and size:")
				a.Put(a.W-30, 1, theme.Plain, "look at the label on the disk.")
			}
			return
		}
		c := r.choice
		line := strings.TrimSpace(nameOf(*c) + "  " + event.Printable(c.Serial))
		a.Fit(0, 0, a.W, theme.Bold, line)
		a.Fit(0, 1, a.W, theme.Plain, joinNonEmpty("   ", c.Path, event.Bytes(c.Size), event.Printable(c.Label), event.Printable(c.Health)))
	}
	if n := len(p.s.Picked); n > 0 {
		a.Fit(0, 2, a.W, theme.Plain, "Marked, in this order: "+shortAll(p.s.Picked))
	}
}

func joinNonEmpty(sep string, all ...string) string {
	return strings.Join(slices.DeleteFunc(all, func(s string) bool { return s == "" }), sep)
}

func shortAll(paths []string) string {
	var out []string
	for _, p := range paths {
		out = append(out, event.Printable(short(p)))
	}
	return strings.Join(out, ", ")
}
