package screen

import (
	"context"
	"path"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"

	"aslrescue/engine/event"
	"aslrescue/tui/ask"
	"aslrescue/tui/keys"
	"aslrescue/tui/theme"
)

// Picker lets a directory be picked. Enter opens one, and a row of its own takes the one that is open. Listing has a time-out in the engine: a
// disk that does not answer holds up nothing, and another directory can be gone to meanwhile.
type Picker struct {
	s     *Shared
	head  string
	path  string
	all   []ask.DirEntry
	rows  []ask.DirEntry // those that the filter lets through
	find  string
	more  int
	busy  bool
	err   error
	list  list
	page  int
	asked int
	take  func(string) tea.Cmd
}

type listed struct {
	p   *Picker
	n   int
	all ask.Listing
	err error
}

// NewPicker begins in a directory.
func NewPicker(s *Shared, head, dir string, take func(string) tea.Cmd) (*Picker, tea.Cmd) {
	p := &Picker{s: s, head: head, take: take}
	return p, p.open(dir)
}

func (p *Picker) open(dir string) tea.Cmd {
	p.asked++
	n := p.asked
	p.path, p.all, p.rows, p.find, p.more, p.busy, p.err, p.list = dir, nil, nil, "", 0, true, nil, list{}
	return p.s.Do(func(ctx context.Context) tea.Msg {
		all, err := p.s.Engine.Dir(ctx, dir)
		return listed{p, n, all, err}
	})
}

// Title is as Overlay says.
func (p *Picker) Title() string { return p.head }

// Typing is as Overlay says.
func (p *Picker) Typing() bool { return false }

// Keys is as Overlay says.
func (p *Picker) Keys() []key.Binding {
	return []key.Binding{keys.Of("open", "enter"), keys.Of("use this directory", "u"), keys.Of("up", "b"), keys.Of("type a path", "t"), keys.Of("list again", "r"), keys.Of("find", "/"), keys.Of("close", "esc")}
}

// count is the rows: the one that takes this directory, the one that goes up, and what is in it.
func (p *Picker) count() int { return 2 + len(p.rows) }

// Update is as Overlay says.
func (p *Picker) Update(m tea.Msg) (bool, tea.Cmd) {
	switch m := m.(type) {
	case listed:
		if m.p == p && m.n == p.asked {
			p.busy, p.err, p.more = false, m.err, m.all.More
			for _, e := range m.all.Entries {
				if e.Dir {
					p.all = append(p.all, e)
				}
			}
			p.filter("")
		}
	case tea.KeyMsg:
		return p.key(m)
	}
	return false, nil
}

func (p *Picker) filter(text string) {
	p.find, p.rows, p.list = text, nil, list{}
	for _, e := range p.all {
		if has(text, e.Name) {
			p.rows = append(p.rows, e)
		}
	}
	if len(p.rows) > 0 {
		p.list.at = 2
	}
}

func (p *Picker) key(k tea.KeyMsg) (bool, tea.Cmd) {
	if p.list.move(k, p.count(), p.page) {
		return false, nil
	}
	switch k.String() {
	case "esc", "q":
		return true, nil
	case "u":
		return true, p.take(p.path)
	case "b", "backspace", "left":
		return false, p.open(path.Dir(p.path))
	case "r":
		return false, p.open(p.path)
	case "/":
		if p.busy {
			return false, nil
		}
		in := NewInput(p.head, "Show only names with these letters. Empty shows all.", p.find, func(text string) tea.Cmd {
			p.filter(text)
			return msg(Show{p})
		})
		in.Left = func() tea.Cmd { return msg(Show{p}) }
		return true, msg(Show{in})
	case "t":
		return true, msg(Show{NewInput(p.head, "The whole path of the directory:", p.path, func(text string) tea.Cmd {
			if !path.IsAbs(text) {
				return msg(Say{Text: "A path begins with /", Bad: true})
			}
			return p.take(path.Clean(text))
		})})
	case "enter", "right":
		switch p.list.at {
		case 0:
			return true, p.take(p.path)
		case 1:
			return false, p.open(path.Dir(p.path))
		}
		if i := p.list.at - 2; i < len(p.rows) {
			return false, p.open(path.Join(p.path, p.rows[i].Name))
		}
	}
	return false, nil
}

// Draw is as Overlay says.
func (p *Picker) Draw(a theme.Area) {
	a.Fit(1, 0, a.W-2, theme.Bold, event.Printable(p.path))
	body := a.Sub(0, 1, a.W, a.H-1)
	p.page = body.H
	p.list.draw(body, p.count(), func(l theme.Area, i int, sel bool) {
		s := theme.Plain
		if sel {
			l.Paint(0, theme.Selected)
			s = theme.Selected
		}
		switch i {
		case 0:
			l.Fit(2, 0, l.W-3, s, "Use this directory (u)")
		case 1:
			l.Fit(2, 0, l.W-3, s, "../")
		default:
			l.Fit(2, 0, l.W-3, s, event.Printable(p.rows[i-2].Name)+"/")
		}
	})
	y := 2 + min(len(p.rows), max(body.H-2, 0)) + 1
	switch {
	case p.busy:
		a.Put(2, y, theme.Plain, "reading it ...")
	case p.err != nil:
		a.Wrapped(2, y, theme.Bad, errorText(p.err))
	case len(p.rows) == 0 && p.find != "":
		a.Put(2, y, theme.Faint, "none has these letters; / changes them")
	case len(p.rows) == 0:
		a.Put(2, y, theme.Faint, "no directories in it")
	case p.more > 0:
		a.Put(2, y, theme.Faint, event.Count(int64(p.more))+" more are not listed; t takes a path")
	}
}
