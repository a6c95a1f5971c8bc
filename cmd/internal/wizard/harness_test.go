package wizard

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"aslrescue/cmd/internal/rehearse"
	"aslrescue/tui"
	"aslrescue/tui/ask"
	"aslrescue/tui/screen"
	"aslrescue/tui/theme"
)

// operator sits before a wizard without a terminal: keys go in, commands are done at once and in order, and what comes after a while comes when
// the test says so.
type operator struct {
	t      *testing.T
	m      *tui.Model
	e      *rehearse.Engine
	shared *screen.Shared
	later  []tea.Msg
	left   bool
	keys   int
}

type seat struct {
	glyphs theme.Glyphs
	engine func(ask.Engine) ask.Engine // wraps it
	hold   func(context.Context, string, int64)
	shrink int64 // how much smaller the disks are
}

// noon is when every test happens.
func noon() time.Time { return time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC) }

func sit(t *testing.T, s seat) *operator {
	t.Helper()
	f := rehearse.Built()
	for i := range f.Disks {
		d := &f.Disks[i]
		d.Size /= s.shrink
		for j := range d.Parts {
			d.Parts[j].Start /= s.shrink
			d.Parts[j].Size /= s.shrink
		}
	}
	e, err := rehearse.New(rehearse.Options{Facts: &f, Name: "a test", Rate: -1, Temp: t.TempDir(), Now: noon, Hold: s.hold, Even: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	o := &operator{t: t, e: e}
	var seen ask.Engine = e
	if s.engine != nil {
		seen = s.engine(e)
	}
	if s.glyphs.Has == nil {
		s.glyphs = theme.Builtin()
	}
	o.shared = &screen.Shared{Engine: seen, Now: noon, Arm: time.Second, Later: func(_ time.Duration, m tea.Msg) tea.Cmd { return func() tea.Msg { return later{m} } },
		Crash: func(r any, stack []byte) { t.Fatalf("%v\n%s", r, stack) }}
	o.m = tui.NewModel(o.shared, tui.Look{Glyphs: s.glyphs, Colour: true})
	o.do(o.m.Init())
	return o
}

type later struct{ m tea.Msg }

// do does a command, and what follows from it.
func (o *operator) do(c tea.Cmd) {
	if c == nil {
		return
	}
	m := c()
	if v := reflect.ValueOf(m); v.Kind() == reflect.Slice && v.Type().Elem() == reflect.TypeFor[tea.Cmd]() { // a batch, or a sequence
		for i := range v.Len() {
			o.do(v.Index(i).Interface().(tea.Cmd))
		}
		return
	}
	switch m := m.(type) {
	case nil:
	case later:
		o.later = append(o.later, m.m)
	case tea.QuitMsg:
		o.left = true
	default:
		o.send(m)
	}
}

func (o *operator) send(m tea.Msg) {
	_, c := o.m.Update(m)
	o.do(c)
}

// wait lets come what was to come after a while: approvals are armed, and the state is looked at again.
func (o *operator) wait() {
	due := o.later
	o.later = nil
	for _, m := range due {
		o.send(m)
	}
}

// press presses keys: names as bubbletea has them, other words letter by letter.
func (o *operator) press(names ...string) {
	for _, n := range names {
		o.keys++
		o.send(key(n))
	}
}

func (o *operator) typeText(s string) {
	for _, r := range s {
		o.send(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune{r}})
	}
}

func key(n string) tea.KeyMsg {
	named := map[string]tea.KeyType{"enter": tea.KeyEnter, "esc": tea.KeyEsc, "up": tea.KeyUp, "down": tea.KeyDown, "left": tea.KeyLeft, "right": tea.KeyRight, "backspace": tea.KeyBackspace,
		"pgup": tea.KeyPgUp, "pgdown": tea.KeyPgDown, "home": tea.KeyHome, "end": tea.KeyEnd, "tab": tea.KeyTab, "ctrl+c": tea.KeyCtrlC, "ctrl+l": tea.KeyCtrlL, "f1": tea.KeyF1, "f4": tea.KeyF4, "delete": tea.KeyDelete}
	if t, ok := named[n]; ok {
		return tea.KeyMsg{Type: t}
	}
	if n == " " {
		return tea.KeyMsg{Type: tea.KeySpace, Runes: []rune{' '}}
	}
	if rest, ok := strings.CutPrefix(n, "alt+"); ok {
		return tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(rest), Alt: true}
	}
	return tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(n)}
}

func (o *operator) size(w, h int) { o.send(tea.WindowSizeMsg{Width: w, Height: h}) }

func (o *operator) text() string { return o.m.Text() }

// sees wants a text on the screen.
func (o *operator) sees(want ...string) {
	o.t.Helper()
	for _, w := range want {
		if text := o.text(); !strings.Contains(text, w) {
			o.t.Fatalf("the screen does not say %q:\n%s", w, text)
		}
	}
}

// until looks at the state again and again.
func (o *operator) until(what string, f func() bool) {
	o.t.Helper()
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		o.wait()
		if f() {
			return
		}
		if time.Now().After(end) {
			o.t.Fatalf("waited in vain for %s:\n%s", what, o.text())
		}
	}
}

func (o *operator) at(s screen.Step) func() bool {
	return func() bool { at, _ := o.m.At(); return at == s }
}

// pick moves the selection to a row that begins with a word, and says how many keys that took.
func (o *operator) pick(word string) {
	o.t.Helper()
	for range 60 {
		for line := range strings.Lines(o.text()) {
			if r := []rune(line); len(r) > 0 && strings.ContainsRune("►▶>", r[0]) {
				if strings.Contains(line, word) {
					return
				}
			}
		}
		o.press("down")
	}
	o.t.Fatalf("no row with %q:\n%s", word, o.text())
}

// approvePool imports tank for writing, as a person would.
func (o *operator) approvePool() {
	o.press("n")
	o.press("w")
	o.wait()
	o.typeText("tank")
	o.press("y")
}

func newModel(s *screen.Shared) *tui.Model {
	return tui.NewModel(s, tui.Look{Glyphs: theme.Builtin(), Colour: true})
}
