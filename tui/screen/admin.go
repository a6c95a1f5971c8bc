package screen

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"

	"aslrescue/engine/event"
	"aslrescue/tui/ask"
	"aslrescue/tui/keys"
	"aslrescue/tui/theme"
)

// Admin is the tab for what is in the store. It runs what asl-admin runs, and shows what that prints.
type Admin struct {
	s      *Shared
	list   list
	page   int
	snaps  []ask.Snapshot
	marked []uint64 // to compare, two at most
	loaded bool
	err    error
	asked  int
}

type loadedSnapshots struct {
	n   int
	all []ask.Snapshot
	err error
}

// printed is what a command printed.
type printed struct {
	head string
	p    ask.Printed
	err  error
}

// NewAdmin makes it.
func NewAdmin(s *Shared) *Admin { return &Admin{s: s} }

// Typing is as Screen says.
func (p *Admin) Typing() bool { return false }

// Entered is as Screen says.
func (p *Admin) Entered() tea.Cmd { return p.load() }

func (p *Admin) load() tea.Cmd {
	p.asked++
	n := p.asked
	return p.s.Do(func(ctx context.Context) tea.Msg {
		all, err := p.s.Engine.Snapshots(ctx)
		return loadedSnapshots{n, all, err}
	})
}

// Keys is as Screen says.
func (p *Admin) Keys() []key.Binding {
	return []key.Binding{keys.Of("show", "enter"), keys.Of("browse", "o"), keys.Of("verify", "v"), keys.Of("mark", " "), keys.Of("compare marked", "c"), keys.Of("GC check", "g"), keys.Of("peers", "p"),
		keys.Of("list again", "r"), keys.Of("back", "b", "esc")}
}

// Hint is as Screen says.
func (p *Admin) Hint() string {
	switch {
	case p.err != nil:
		return "The store cannot be listed: " + errorText(p.err)
	case !p.loaded:
		return "Opening the store ..."
	case len(p.snaps) == 0:
		return "There is no snapshot yet."
	}
	return "These call what asl-admin calls. Nothing here changes a snapshot."
}

// Update is as Screen says.
func (p *Admin) Update(m tea.Msg) tea.Cmd {
	switch m := m.(type) {
	case loadedSnapshots:
		if m.n == p.asked {
			p.snaps, p.err, p.loaded = m.all, m.err, true
		}
	case tea.KeyMsg:
		return p.key(m)
	}
	return nil
}

func (p *Admin) selected() (ask.Snapshot, bool) {
	if p.list.at < len(p.snaps) {
		return p.snaps[p.list.at], true
	}
	return ask.Snapshot{}, false
}

// run runs a command and shows what it prints.
func run(s *Shared, head, program string, args ...string) tea.Cmd {
	return tea.Sequence(say(program+" "+strings.Join(args, " ")+" ..."), s.Do(func(ctx context.Context) tea.Msg {
		out, err := s.Engine.Tool(ctx, program, args...)
		return printed{head, out, err}
	}))
}

// shownPrinted is the overlay for it.
func shownPrinted(m printed) tea.Cmd {
	if m.err != nil {
		return failed(m.head, m.err)
	}
	lines := []string{"# " + m.p.Command, ""}
	for _, l := range m.p.Lines {
		lines = append(lines, event.Printable(l))
	}
	return tea.Sequence(say(""), msg(Show{&Text{Head: m.head, Lines: append(lines, "", fmt.Sprintf("exit code %d", m.p.Exit))}}))
}

func (p *Admin) key(k tea.KeyMsg) tea.Cmd {
	if p.list.move(k, len(p.snaps), p.page) {
		return nil
	}
	s, ok := p.selected()
	n := fmt.Sprint(s.Number)
	switch k.String() {
	case "r":
		return p.load()
	case "g":
		return run(p.s, "GC check: what could go, and what keeps the rest", "asl-admin", "gc", "check")
	case "p":
		return run(p.s, "Domain and peers, as configured", "asl-admin", "config")
	}
	if !ok {
		return nil
	}
	switch k.String() {
	case "enter":
		return run(p.s, "Snapshot "+n, "asl-admin", "show", n)
	case "v":
		return run(p.s, "Verify snapshot "+n, "asl-admin", "verify", n, "--read-data")
	case "o":
		b, cmd := newBrowser(p.s, s.Number)
		return tea.Batch(msg(Show{b}), cmd)
	case " ":
		p.mark(s.Number)
	case "c":
		if len(p.marked) != 2 {
			return msg(Say{Text: "Mark two snapshots with Space to compare them.", Bad: true})
		}
		a, b := min(p.marked[0], p.marked[1]), max(p.marked[0], p.marked[1])
		return run(p.s, "What is different", "asl-admin", "diff", fmt.Sprint(a), fmt.Sprint(b))
	}
	return nil
}

func (p *Admin) mark(n uint64) {
	if i := slices.Index(p.marked, n); i >= 0 {
		p.marked = slices.Delete(p.marked, i, i+1)
		return
	}
	if p.marked = append(p.marked, n); len(p.marked) > 2 {
		p.marked = p.marked[1:]
	}
}

// Draw is as Screen says.
func (p *Admin) Draw(a theme.Area) {
	a.Put(6, 0, theme.Accent, "Nr  Ended             Result                   Size    Stored  Sources")
	p.page = a.H - 1
	p.list.draw(a.Sub(0, 1, a.W, a.H-1), len(p.snaps), func(l theme.Area, i int, sel bool) {
		s := theme.Plain
		if sel {
			l.Paint(0, theme.Selected)
			s = theme.Selected
		}
		x := p.snaps[i]
		box := "[ ]"
		if slices.Contains(p.marked, x.Number) {
			box = "[x]"
		}
		text := fmt.Sprintf("%s %2d  %-16s  %-18s %10s%10s  %s", box, x.Number, time.Unix(x.Ended, 0).UTC().Format("2006-01-02 15:04"), x.Result, event.Bytes(x.Size), event.Bytes(x.Stored), event.Printable(x.Sources))
		if x.Label != "" {
			text += "  \"" + event.Printable(x.Label) + "\""
		}
		l.Fit(2, 0, l.W-3, s, text)
	})
	switch {
	case p.err != nil:
		a.Sub(0, 0, a.W-1, a.H).Wrapped(2, 2, theme.Plain, "There is no store to list: "+errorText(p.err))
	case p.loaded && len(p.snaps) == 0:
		a.Put(2, 2, theme.Plain, "No snapshot yet.")
	case !p.loaded:
		a.Put(2, 2, theme.Plain, "opening the store ...")
	}
}

// browser walks through a snapshot.
type browser struct {
	s     *Shared
	n     uint64
	path  string
	rows  []ask.DirEntry
	busy  bool
	err   error
	list  list
	page  int
	asked int
}

type browsed struct {
	b   *browser
	n   int
	all []ask.DirEntry
	err error
}

func newBrowser(s *Shared, n uint64) (*browser, tea.Cmd) {
	b := &browser{s: s, n: n}
	return b, b.open("")
}

func (b *browser) open(path string) tea.Cmd {
	b.asked++
	n := b.asked
	b.path, b.rows, b.busy, b.err, b.list = path, nil, true, nil, list{}
	return b.s.Do(func(ctx context.Context) tea.Msg {
		all, err := b.s.Engine.Browse(ctx, b.n, path)
		return browsed{b, n, all, err}
	})
}

func (b *browser) Title() string {
	return fmt.Sprintf("Snapshot %d: /%s", b.n, event.Printable(b.path))
}
func (b *browser) Typing() bool { return false }

func (b *browser) Keys() []key.Binding {
	return []key.Binding{keys.Of("open", "enter"), keys.Of("up", "b"), keys.Of("close", "esc")}
}

func (b *browser) up() string {
	if i := strings.LastIndexByte(b.path, '/'); i >= 0 {
		return b.path[:i]
	}
	return ""
}

func (b *browser) Update(m tea.Msg) (bool, tea.Cmd) {
	switch m := m.(type) {
	case browsed:
		if m.b == b && m.n == b.asked {
			b.rows, b.err, b.busy = m.all, m.err, false
		}
	case tea.KeyMsg:
		if b.list.move(m, len(b.rows), b.page) {
			return false, nil
		}
		switch m.String() {
		case "esc", "q":
			return true, nil
		case "b", "backspace", "left":
			if b.path == "" {
				return true, nil
			}
			return false, b.open(b.up())
		case "enter", "right":
			if b.list.at < len(b.rows) && b.rows[b.list.at].Dir {
				return false, b.open(strings.TrimPrefix(b.path+"/"+b.rows[b.list.at].Name, "/"))
			}
		}
	}
	return false, nil
}

func (b *browser) Draw(a theme.Area) {
	b.page = a.H
	b.list.draw(a, len(b.rows), func(l theme.Area, i int, sel bool) {
		s := theme.Plain
		if sel {
			l.Paint(0, theme.Selected)
			s = theme.Selected
		}
		e := b.rows[i]
		name, size := event.Printable(e.Name), event.Bytes(e.Size)
		if e.Dir {
			name, size = name+"/", ""
		}
		l.Fit(2, 0, l.W-14, s, name)
		l.Put(l.W-12, 0, s, theme.PadLeft(size, 10))
	})
	switch {
	case b.busy:
		a.Put(2, 0, theme.Plain, "reading ...")
	case b.err != nil:
		a.Wrapped(2, 0, theme.Bad, errorText(b.err))
	case len(b.rows) == 0:
		a.Put(2, 0, theme.Plain, "nothing in it")
	}
}
