// Package tui is the wizard: a root model that only routes, and the screens in tui/screen. It knows the engine through tui/ask alone.
package tui

import (
	"fmt"
	"strings"
	"time"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"

	"aslrescue/engine/event"
	"aslrescue/tui/ask"
	"aslrescue/tui/early"
	"aslrescue/tui/keys"
	"aslrescue/tui/screen"
	"aslrescue/tui/theme"
)

// tooSmall is where a screen is too small to be used: a line says so, and the work goes on.
const (
	leastWidth, leastHeight = 40, 10
	fallWidth, fallHeight   = 80, 24 // where the terminal does not know its size
)

// Model is the root. It routes messages, and draws the frame.
type Model struct {
	s       *screen.Shared
	screens [screen.Steps]screen.Screen
	at      screen.Step
	back    screen.Step // where a tab was entered from
	seen    [screen.Steps]bool
	over    screen.Overlay
	said    screen.Say
	w, h    int
	glyphs  theme.Glyphs
	rich    theme.Glyphs // what F4 changes to, and back
	paint   *theme.Paint
	every   time.Duration // between two looks at the state
	left    *screen.Leaving
	frames  int
	torn    torn
}

// Look is how a model looks.
type Look struct {
	Glyphs theme.Glyphs
	Colour bool
	Every  time.Duration // between two looks at the engine's state; 0 is 250 ms
}

type tickMsg struct{}

// soonMsg is a look at the state out of turn.
type soonMsg struct{}

// soon is how long after a step was gone to the state is looked at once more: what a key began shows before the next turn, which on a slow line is late.
const soon = 150 * time.Millisecond

// repaintMsg says that the terminal shows something else than what was drawn.
type repaintMsg struct{}

// NewModel makes the root over an engine.
func NewModel(s *screen.Shared, l Look) *Model {
	if !early.Answered {
		panic("the terminal would have been asked for its colour")
	}
	if s.Now == nil {
		s.Now = time.Now
	}
	m := &Model{s: s, w: fallWidth, h: fallHeight, glyphs: l.Glyphs, rich: l.Glyphs, paint: theme.NewPaint(l.Colour), every: l.Every}
	if m.every == 0 {
		m.every = 250 * time.Millisecond
	}
	s.Size = func() (int, int) { return m.w, m.h }
	m.screens = [screen.Steps]screen.Screen{screen.NewCheck(s), screen.NewApprove(s), screen.NewSources(s), screen.NewPlan(s), screen.NewIntake(s), screen.NewReport(s), screen.NewAdmin(s), screen.NewDebug(s)}
	m.seen[screen.AtCheck] = true
	s.State = m.own(s.Engine.State())
	if ph := s.State.Job.Phase; ph != ask.Idle { // it was left, or another console began: the same screen again
		m.resume(ph)
	}
	return m
}

func (m *Model) resume(ph ask.Phase) {
	m.at = screen.AtIntake
	if ph == ask.Ended {
		m.at = screen.AtReport
	}
	for i := range m.at + 1 {
		m.seen[i] = true
	}
	m.adopt()
}

// adopt takes what is done for what was chosen here.
func (m *Model) adopt() {
	m.s.Place, m.s.Picked = m.s.State.Job.Plan.Place, nil
	for _, src := range m.s.State.Job.Plan.Sources {
		m.s.Picked = append(m.s.Picked, src.Path)
	}
}

// Init is as tea.Model says.
func (m *Model) Init() tea.Cmd { return tea.Batch(m.screens[m.at].Entered(), m.tick()) }

func (m *Model) tick() tea.Cmd {
	return m.s.After(m.every, tickMsg{})
}

// Update is as tea.Model says.
func (m *Model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.resize(msg)
		return m, tea.ClearScreen
	case repaintMsg:
		return m, tea.ClearScreen
	case tickMsg:
		return m, tea.Batch(m.state(m.s.Engine.State()), m.tick())
	case soonMsg:
		return m, m.state(m.s.Engine.State())
	case screen.Go:
		return m, tea.Batch(m.goTo(msg.Step), m.s.After(soon, soonMsg{}))
	case screen.Show:
		m.over, m.said = msg.Over, screen.Say{}
		return m, nil
	case screen.Say:
		m.said = msg
		return m, nil
	case screen.Leave:
		m.left = &msg.How
		return m, tea.Quit
	case tea.KeyMsg:
		return m, m.key(msg)
	case restMsg:
		return m, m.rest(msg)
	}
	return m, m.all(msg)
}

// all gives a message to the overlay and to every screen: what was asked for comes also to a screen that is not seen.
func (m *Model) all(msg tea.Msg) tea.Cmd {
	var cmds []tea.Cmd
	if cmd := screen.Printed(msg); cmd != nil {
		cmds = append(cmds, cmd)
	}
	if m.over != nil {
		closed, cmd := m.over.Update(msg)
		if closed {
			m.over = nil
		}
		cmds = append(cmds, cmd)
	}
	for _, s := range m.screens {
		cmds = append(cmds, s.Update(msg))
	}
	return tea.Batch(cmds...)
}

// state takes in how things are now.
func (m *Model) state(st ask.State) tea.Cmd {
	was, lost := m.s.State.Job.Phase, m.s.State.Lost
	m.s.State = m.own(st)
	cmd := m.all(screen.StateMsg{State: m.s.State})
	switch now := st.Job.Phase; {
	case lost != "" && st.Lost == "":
		cmd = tea.Batch(cmd, m.found(was, now))
	case was == now:
	case now == ask.Ended && m.at == screen.AtIntake:
		cmd = tea.Batch(cmd, m.goTo(screen.AtReport))
	case was == ask.Idle && now != ask.Idle && m.at < screen.AtIntake: // started here, or at another console
		m.seen[screen.AtPlan] = true
		m.adopt()
		cmd = tea.Batch(cmd, m.goTo(screen.AtIntake))
	}
	return cmd
}

// own puts in what only a face knows: the console that it is on.
func (m *Model) own(st ask.State) ask.State {
	if c := m.s.Console; c != nil {
		st.Look.Decision = st.Look.Decision.WithConsole(*c)
	}
	return st
}

// found says that there is an engine again after one was lost, and goes to where its work can go on.
func (m *Model) found(was, now ask.Phase) tea.Cmd {
	say := func(text string) tea.Cmd { return func() tea.Msg { return screen.Say{Text: text} } }
	switch {
	case now != ask.Idle:
		return say("The engine answers again.")
	case was == ask.Idle || was == ask.Ended:
		return say("Another engine was started; it looks at this machine anew.")
	}
	m.s.Begun = false
	text := say("Another engine was started. What was read is safe: Enter on the intake goes on with it.")
	if m.at != screen.AtIntake {
		return text
	}
	return tea.Sequence(m.goTo(screen.AtSources), text)
}

func (m *Model) resize(msg tea.WindowSizeMsg) {
	if m.s.Console != nil {
		m.s.Console.Cols, m.s.Console.Rows = msg.Width, msg.Height
	}
	m.w, m.h = msg.Width, msg.Height
	if m.w <= 0 || m.h <= 0 {
		m.w, m.h = fallWidth, fallHeight
	}
	m.w, m.h = min(m.w, 1000), min(m.h, 500)
}

func (m *Model) goTo(s screen.Step) tea.Cmd {
	if s == m.at || s < 0 || s >= screen.Steps {
		return nil
	}
	if s >= screen.AtAdmin && m.at < screen.AtAdmin {
		m.back = m.at
	}
	m.at, m.seen[s], m.said, m.over = s, true, screen.Say{}, nil
	return m.screens[s].Entered()
}

// key routes: what lies over the screen, then what is typed into, then keys that mean the same everywhere, then the screen.
func (m *Model) key(k tea.KeyMsg) tea.Cmd {
	k, ok := m.torn.mend(k)
	if !ok {
		return nil
	}
	m.said = screen.Say{}
	if k.String() == "ctrl+l" {
		return tea.ClearScreen
	}
	if k.Alt { // Esc and the next key in one breath: on a slow line they cannot be told from Alt
		k = tea.KeyMsg{Type: tea.KeyEsc}
	}
	if m.small() {
		return nil // what cannot be seen cannot be answered
	}
	if m.over != nil {
		closed, cmd := m.over.Update(k)
		if closed {
			m.over = nil
		}
		return cmd
	}
	if m.screens[m.at].Typing() {
		return m.screens[m.at].Update(k)
	}
	if k.Type == tea.KeyRunes && len(k.Runes) > 1 && !k.Paste {
		return m.burst(k.Runes)
	}
	return m.command(k)
}

// command is a key that is no text, where nothing lies over the screen.
func (m *Model) command(k tea.KeyMsg) tea.Cmd {
	if cmd, ok := m.global(k); ok {
		return cmd
	}
	return m.screens[m.at].Update(k)
}

// global are the keys of all screens. None of them hurts.
func (m *Model) global(k tea.KeyMsg) (tea.Cmd, bool) {
	if k.Paste {
		return nil, true // text that was pasted is no command
	}
	name := k.String()
	switch name {
	case "ctrl+c", "q":
		return show(m.stopMenu()), true
	case "?", "f1":
		return show(m.help()), true
	case "l":
		return show(m.log()), true
	case "f4":
		m.glyphs = m.other()
		return tea.ClearScreen, true
	case "A":
		return m.goTo(screen.AtAdmin), true
	case "D":
		return m.goTo(screen.AtDebug), true
	case "esc":
		return nil, true // it closes what lies over a screen, and does nothing else
	case "1", "2", "3", "4", "5", "6":
		if s := screen.Step(name[0] - '1'); m.seen[s] {
			return m.goTo(s), true
		}
		return nil, true
	}
	if m.at >= screen.AtAdmin && (name == "b" || name == "backspace" || name == "left") {
		return m.goTo(m.back), true
	}
	return nil, false
}

func show(o screen.Overlay) tea.Cmd { return func() tea.Msg { return screen.Show{Over: o} } }

// other is the other set of signs: ASCII, for a terminal that shows boxes where lines should be.
func (m *Model) other() theme.Glyphs {
	if m.glyphs.H == '-' {
		return m.rich
	}
	return theme.ASCII()
}

func (m *Model) stopMenu() *screen.Menu {
	ph := m.s.State.Job.Phase
	works := ph != ask.Idle && ph != ask.Ended
	leave := func(how screen.Leaving) func() tea.Cmd {
		return func() tea.Cmd { return func() tea.Msg { return screen.Leave{How: how} } }
	}
	menu := &screen.Menu{Head: "Leave"}
	switch {
	case works && m.s.Detach:
		menu.Lines = []string{"An intake is running. Stopping is safe: what was read is kept, and the same intake goes on from there."}
		menu.Rows = []screen.MenuRow{
			{Key: "d", Does: "leave; the work goes on, and asl-intake comes back to it", Do: leave(screen.Detach)},
			{Key: "s", Does: "stop the intake, and stay", Do: m.stop},
		}
	case works:
		menu.Lines = []string{"An intake is running. It ends with the wizard here."}
		menu.Rows = []screen.MenuRow{{Key: "s", Does: "stop the intake, and stay", Do: m.stop}, {Key: "d", Does: "leave, and give it up", Do: leave(screen.ByQuit)}}
	default:
		menu.Rows = []screen.MenuRow{{Key: "d", Does: "leave the wizard; asl-intake starts it again", Do: leave(screen.ByQuit)}}
	}
	menu.Rows = append(menu.Rows, screen.MenuRow{Key: "h", Does: "a shell is at Alt+F2; this stays", Do: func() tea.Cmd { return nil }})
	return menu
}

func (m *Model) stop() tea.Cmd { return screen.Stop(m.s) }

func (m *Model) log() *screen.Text {
	t := &screen.Text{Head: "What was said", End: true}
	for _, l := range m.s.State.Lines {
		t.Lines = append(t.Lines, screen.LogLine(l))
	}
	if len(t.Lines) == 0 {
		t.Lines = []string{"Nothing yet."}
	}
	return t
}

func (m *Model) help() *screen.Text {
	lines := []string{"# " + m.at.Name(), m.screens[m.at].Hint(), ""}
	for _, b := range m.screens[m.at].Keys() {
		lines = append(lines, "  "+theme.Pad(strings.Join(shown(b), ", "), 18)+" "+b.Help().Desc)
	}
	lines = append(lines, "", "# Everywhere")
	for _, r := range [][2]string{{"1 to 6", "to a step that was seen already"}, {"A, D", "admin and debug"}, {"l", "what was said"}, {"arrows, j, k", "move; PgUp, PgDn, Home, End too"}, {"Esc", "closes what lies over a screen, no more"},
		{"F4", "other signs, if lines look like letters"}, {"Ctrl-L", "draw again"}, {"q", "leave, with a question"}, {"?", "this"}} {
		lines = append(lines, "  "+theme.Pad(r[0], 18)+" "+r[1])
	}
	lines = append(lines, "", "No key but y, after you read what it is for, changes a pool. Enter and Esc never do.")
	return &screen.Text{Head: "Help", Lines: lines}
}

func shown(b key.Binding) []string {
	var out []string
	for _, k := range b.Keys() {
		out = append(out, keys.Shown(k))
	}
	return out
}

// View is as tea.Model says.
func (m *Model) View() string {
	m.frames++
	return m.canvas().Render(m.paint)
}

// canvas draws everything.
func (m *Model) canvas() *theme.Canvas {
	c := theme.NewCanvas(m.w, m.h, &m.glyphs)
	a := c.All()
	if m.small() {
		a.Wrapped(0, 0, theme.Plain, m.tiny())
		return c
	}
	m.title(a.Sub(0, 0, a.W, 1))
	m.steps(a.Sub(0, 1, a.W, 1))
	top, foot := 3, 2
	if a.H < 16 {
		top, foot = 2, 1
	} else {
		a.Rule(2)
	}
	body := a.Sub(0, top, a.W, a.H-top-foot)
	if m.over != nil {
		m.overlay(body)
	} else {
		m.screens[m.at].Draw(body)
	}
	m.footer(a.Sub(0, a.H-foot, a.W, foot))
	return c
}

func (m *Model) small() bool { return m.w < leastWidth || m.h < leastHeight }

// Text is what is seen, without styles: a line each.
func (m *Model) Text() string { return m.canvas().Text() }

// At is the step that is seen, and what lies over it.
func (m *Model) At() (screen.Step, screen.Overlay) { return m.at, m.over }

func (m *Model) tiny() string {
	j := &m.s.State.Job
	if j.Phase == ask.Idle {
		return "Terminal too small (needs 40x10)"
	}
	return j.Progress.Percent() + " Terminal too small (needs 40x10) - work continues"
}

func (m *Model) title(a theme.Area) {
	a.Paint(0, theme.Title)
	a.Put(0, 0, theme.Title, strings.Repeat(" ", a.W))
	clock := m.s.Now().Format("15:04:05") + " "
	right := clock
	if mc := m.s.State.Machine; mc != "" {
		right = "REHEARSAL  " + clock
	}
	if n := len(m.s.State.Faces); n > 1 && a.W > 90 {
		right = event.CountOf(int64(n), "console", "consoles") + " attached  " + right
	}
	x := a.Put(1, 0, theme.Title, "ASL Rescue")
	if room := a.W - theme.Width(right) - x - 4; room > 10 {
		a.Fit(x+3, 0, room, theme.Title, m.subject())
	}
	a.Right(0, theme.Title, right)
}

// subject is what the title says: what is done to what.
func (m *Model) subject() string {
	s := &m.s.State
	switch {
	case s.Lost != "":
		return "THE ENGINE DOES NOT ANSWER"
	case m.s.Place.Path != "":
		return "to " + event.Printable(m.s.Place.Path) + "   sources READ ONLY"
	}
	return "nothing is changed without approval"
}

// steps draws where one is. On a narrow screen the names of other steps are left out.
func (m *Model) steps(a theme.Area) {
	g := a.Glyphs()
	name := func(s screen.Step) string { return s.Name() }
	if a.W < 76 {
		name = func(s screen.Step) string {
			if s == m.at {
				return s.Name()
			}
			return ""
		}
	}
	x := 0
	for s := range screen.AtAdmin {
		text := strings.TrimSpace(fmt.Sprintf("%d %s", s+1, name(s)))
		style := theme.Faint
		switch {
		case s == m.at:
			text, style = "["+text+"]", theme.Bold
		case m.seen[s] && s < m.at:
			text, style = " "+text+string(g.Good), theme.Good
		case m.seen[s]:
			text, style = " "+text+" ", theme.Plain
		default:
			text = " " + text + " "
		}
		x = a.Put(x, 0, style, text)
		if a.W >= 90 {
			x++
		}
	}
	x = a.Put(x, 0, theme.Faint, string(g.Between))
	for i, s := range []screen.Step{screen.AtAdmin, screen.AtDebug} {
		text := strings.TrimSpace("AD"[i:i+1] + " " + name(s))
		style := theme.Plain
		if s == m.at {
			text, style = "["+text+"]", theme.Bold
		} else {
			text = " " + text + " "
		}
		x = a.Put(x, 0, style, text)
	}
}

func (m *Model) overlay(a theme.Area) {
	a.Fit(1, 0, a.W-2, theme.Bold, m.over.Title())
	m.over.Draw(a.Sub(0, 2, a.W, a.H-2))
}

func (m *Model) footer(a theme.Area) {
	all := m.screens[m.at].Keys()
	if m.over != nil {
		all = m.over.Keys()
	} else if !m.screens[m.at].Typing() {
		all = append(all, keys.Of("help", "?"), keys.Of("leave", "q"))
	}
	hint, style := m.screens[m.at].Hint(), theme.Plain
	switch {
	case m.s.State.Lost != "":
		hint, style = "The engine does not answer: "+event.Printable(m.s.State.Lost)+".", theme.Warn
	case m.over != nil:
		hint = ""
	}
	if m.said.Text != "" {
		hint, style = m.said.Text, theme.Bold
		if m.said.Bad {
			style = theme.Bad
		}
	}
	if a.H == 1 { // one line: what was said goes before the keys
		if m.said.Text != "" {
			a.Fit(0, 0, a.W, style, m.said.Text)
			return
		}
		keyLine(a, all)
		return
	}
	keyLine(a, all)
	a.Fit(1, 1, a.W-2, style, hint)
}

// keyLine draws the keys that have room. Help and leave are kept, whatever else goes.
func keyLine(a theme.Area, all []key.Binding) {
	fits := func(n int) bool {
		w := 1
		for i, b := range all {
			if i < n || i >= len(all)-2 {
				w += theme.Width(b.Help().Key) + theme.Width(b.Help().Desc) + 3
			}
		}
		return w-2 <= a.W
	}
	n := len(all)
	for n > 0 && !fits(n) {
		n--
	}
	x := 1
	for i, b := range all {
		if i >= n && i < len(all)-2 {
			continue
		}
		x = a.Put(x, 0, theme.Accent, b.Help().Key)
		x = a.Put(x+1, 0, theme.Plain, b.Help().Desc) + 2
	}
}
