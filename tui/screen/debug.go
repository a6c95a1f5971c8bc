package screen

import (
	"context"
	"fmt"
	"strings"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"

	"aslrescue/engine/event"
	"aslrescue/tui/ask"
	"aslrescue/tui/keys"
	"aslrescue/tui/theme"
)

// Debug is the tab for whoever wants to see what really lies there: segments and how full their blocks are, any block, the log, labels, and what
// this console is. It runs what asl-debug runs.
type Debug struct {
	s      *Shared
	list   list
	page   int
	segs   []ask.Segment
	loaded bool
	err    error
	asked  int
	tester []string // keys that were pressed
	test   bool
}

type loadedSegments struct {
	n   int
	all []ask.Segment
	err error
}

// NewDebug makes it.
func NewDebug(s *Shared) *Debug { return &Debug{s: s} }

// Typing is as Screen says: while keys are tested they are no commands.
func (p *Debug) Typing() bool { return p.test }

// Entered is as Screen says.
func (p *Debug) Entered() tea.Cmd { return p.load() }

func (p *Debug) load() tea.Cmd {
	p.asked++
	n := p.asked
	return p.s.Do(func(ctx context.Context) tea.Msg {
		all, err := p.s.Engine.Segments(ctx)
		return loadedSegments{n, all, err}
	})
}

// Keys is as Screen says.
func (p *Debug) Keys() []key.Binding {
	if p.test {
		return []key.Binding{keys.Of("end the test", "esc")}
	}
	return []key.Binding{keys.Of("the segment", "enter"), keys.Of("validate a block", "v"), keys.Of("validate all", "V"), keys.Of("store's log", "o"), keys.Of("ZFS labels", "z"), keys.Of("console and keys", "k"),
		keys.Of("read again", "r"), keys.Of("back", "b", "esc")}
}

// Hint is as Screen says.
func (p *Debug) Hint() string {
	switch {
	case p.test:
		return "Press any key: its name is shown. Esc ends it."
	case p.err != nil:
		return "The segments cannot be read: " + errorText(p.err)
	case !p.loaded:
		return "Reading segments ..."
	}
	return "These call what asl-debug calls. Nothing here writes."
}

// Update is as Screen says.
func (p *Debug) Update(m tea.Msg) tea.Cmd {
	switch m := m.(type) {
	case loadedSegments:
		if m.n == p.asked {
			p.segs, p.err, p.loaded = m.all, m.err, true
		}
	case tea.KeyMsg:
		if p.test {
			return p.testKey(m)
		}
		return p.key(m)
	}
	return nil
}

func (p *Debug) testKey(k tea.KeyMsg) tea.Cmd {
	if k.String() == "esc" {
		p.test, p.tester = false, nil
		return nil
	}
	p.tester = append(p.tester, keys.Shown(k.String()))
	if len(p.tester) > 12 {
		p.tester = p.tester[len(p.tester)-12:]
	}
	return nil
}

func (p *Debug) key(k tea.KeyMsg) tea.Cmd {
	if k.String() == "k" { // here it is no movement
		p.test = true
		return nil
	}
	if p.list.move(k, len(p.segs), p.page) {
		return nil
	}
	switch k.String() {
	case "r":
		return p.load()
	case "v":
		return msg(Show{NewInput("Validate a block", "Its id: 64 hex digits, or as many of the first as tell it from others", p.someBlock(), func(id string) tea.Cmd {
			return run(p.s, "Block "+id, "asl-debug", "block", id)
		})})
	case "V":
		return run(p.s, "Everything in the store", "asl-debug", "validate")
	case "o":
		return run(p.s, "The store's log", "asl-debug", "log")
	case "z":
		return msg(Show{NewInput("ZFS labels", "Of which device:", "/dev/", func(dev string) tea.Cmd {
			return run(p.s, "Labels of "+dev, "asl-debug", "labels", dev)
		})})
	case "enter":
		if p.list.at < len(p.segs) {
			return run(p.s, "Segment", "asl-debug", "segment", p.segs[p.list.at].ID)
		}
	}
	return nil
}

// someBlock is the beginning of the first block of the segment that is selected: something to try.
func (p *Debug) someBlock() string {
	if p.list.at < len(p.segs) && len(p.segs[p.list.at].Blocks) > 0 {
		return p.segs[p.list.at].Blocks[0].ID[:16]
	}
	return ""
}

// Draw is as Screen says.
func (p *Debug) Draw(a theme.Area) {
	if p.test {
		p.console(a)
		return
	}
	foot := min(5, max(a.H-4, 0))
	p.page = a.H - 1 - foot
	a.Put(2, 0, theme.Accent, "Segment            Lv      Size  Blocks   Entries  How full its blocks are")
	p.list.draw(a.Sub(0, 1, a.W, p.page), len(p.segs), func(l theme.Area, i int, sel bool) {
		s := theme.Plain
		if sel {
			l.Paint(0, theme.Selected)
			s = theme.Selected
		}
		g := &p.segs[i]
		if g.Bad != "" {
			l.Fit(2, 0, l.W-3, theme.Bad, g.ID[:16]+"  DAMAGED: "+event.Printable(g.Bad))
			return
		}
		x := l.Put(2, 0, s, fmt.Sprintf("%s  %3d %9s %7s %9s  ", g.ID[:16], g.Level, event.Bytes(g.Size), event.Count(int64(len(g.Blocks))), event.Count(g.Entries)))
		fillRow(l.Sub(x, 0, l.W-x-2, 1), g.Blocks, sel)
	})
	switch {
	case !p.loaded:
		a.Put(2, 2, theme.Plain, "reading segments ...")
	case p.err != nil:
		a.Sub(0, 0, a.W-1, a.H).Wrapped(2, 2, theme.Plain, "There is no store to look into: "+errorText(p.err))
	case len(p.segs) == 0:
		a.Put(2, 2, theme.Plain, "no segment yet")
	}
	if foot >= 3 && p.list.at < len(p.segs) {
		a.Rule(a.H - foot)
		p.fillMap(a.Sub(1, a.H-foot+1, a.W-2, foot-1), &p.segs[p.list.at])
	}
}

// fillLook is how a block is drawn: a digit for each tenth that is used would not be read; four levels are.
func fillLook(g *theme.Glyphs, b ask.BlockFill) (rune, theme.Style) {
	switch share := float64(b.Raw) / float64(max(b.Most, 1)); {
	case b.Damaged:
		return 'X', theme.Bad
	case share >= 0.95:
		return g.NewCell, theme.Good
	case share >= 0.5:
		return g.KnownCell, theme.Good
	case share >= 0.1:
		return g.ZeroCell, theme.Accent
	}
	return g.WaitCell, theme.Plain
}

// fillRow draws a block a cell, or where there are more blocks than cells the emptiest of those that share one.
func fillRow(a theme.Area, blocks []ask.BlockFill, sel bool) {
	n := min(len(blocks), a.W)
	for x := range n {
		from, to := x*len(blocks)/n, (x+1)*len(blocks)/n
		worst := blocks[from]
		for _, b := range blocks[from:to] {
			if b.Damaged || !worst.Damaged && b.Raw < worst.Raw {
				worst = b
			}
		}
		r, s := fillLook(a.Glyphs(), worst)
		if sel {
			s = theme.Selected
		}
		a.Put(x, 0, s, string(r))
	}
}

// fillMap draws all blocks of a segment, each as a cell.
func (p *Debug) fillMap(a theme.Area, seg *ask.Segment) {
	raw, stored, most := int64(0), int64(0), int64(0)
	for _, b := range seg.Blocks {
		raw, stored, most = raw+b.Raw, stored+b.Stored, most+b.Most
	}
	g := a.Glyphs()
	x := a.Put(0, 0, theme.Plain, fmt.Sprintf("%s full: %s of artifacts, stored as %s   ", event.Percent(raw, most), event.Bytes(raw), event.Bytes(stored)))
	for _, k := range []struct {
		b    ask.BlockFill
		text string
	}{{ask.BlockFill{Raw: 100, Most: 100}, "full"}, {ask.BlockFill{Raw: 60, Most: 100}, "half"}, {ask.BlockFill{Raw: 20, Most: 100}, "little"}, {ask.BlockFill{Most: 100}, "near empty"}} {
		r, s := fillLook(g, k.b)
		x = a.Put(x, 0, s, string(r))
		x = a.Put(x, 0, theme.Plain, " "+k.text+"  ")
	}
	per := max((len(seg.Blocks)+max(a.H-1, 1)-1)/max(a.H-1, 1), a.W)
	for y := 1; y < a.H; y++ {
		from := (y - 1) * per
		if from >= len(seg.Blocks) {
			return
		}
		fillRow(a.Sub(0, y, a.W, 1), seg.Blocks[from:min(from+per, len(seg.Blocks))], false)
	}
}

// console says what this terminal is, shows what it can, and names the keys that are pressed.
func (p *Debug) console(a theme.Area) {
	y := 0
	if p.s.Facts != nil {
		for _, l := range p.s.Facts() {
			a.Fit(1, y, a.W-2, theme.Plain, l)
			y++
		}
	}
	g := a.Glyphs()
	a.Put(1, y, theme.Plain, "Signs:  "+strings.Join([]string{string(g.Pick), string(g.Good), string(g.Bad), string(g.H), string(g.V), string(g.Full), string(g.Dark), string(g.Half), string(g.Light), string(g.UpHalf), string(g.LowHalf), string(g.Up), string(g.Down)}, " "))
	x := a.Put(1, y+1, theme.Plain, "Colours: ")
	for _, c := range []struct {
		s    theme.Style
		text string
	}{{theme.Good, "good"}, {theme.Warn, "warning"}, {theme.Bad, "bad"}, {theme.Accent, "heading"}, {theme.Faint, "faint"}, {theme.Bold, "bold"}, {theme.Selected, "selected"}, {theme.Title, "title"}} {
		x = a.Put(x, y+1, c.s, c.text) + 1
	}
	a.Put(1, y+3, theme.Accent, "Keys:")
	a.Fit(7, y+3, a.W-8, theme.Bold, strings.Join(p.tester, "  "))
}
