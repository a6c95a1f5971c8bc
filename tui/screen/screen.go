// Package screen has the wizard's screens. Each knows the part of the engine that it needs, keeps what it shows, and draws itself on an area
// of any size. No screen waits: what takes time runs in a command, and comes back as a message.
package screen

import (
	"context"
	"errors"
	"runtime/debug"
	"time"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"

	"aslrescue/detect"
	"aslrescue/engine/event"
	"aslrescue/tui/ask"
	"aslrescue/tui/keys"
	"aslrescue/tui/theme"
)

// Screen is one of the wizard's.
type Screen interface {
	// Update takes a message. Keys come only to the screen that is seen; all else comes to all.
	Update(tea.Msg) tea.Cmd
	Draw(theme.Area)
	// Keys are those that do something here now, the most wanted first.
	Keys() []key.Binding
	// Hint is one line for a person who does not know what to do.
	Hint() string
	// Typing tells whether letters are text here and no commands.
	Typing() bool
	// Entered is called when the screen comes to be seen.
	Entered() tea.Cmd
}

// Shared is what all screens see. One goroutine, that of Update and View, reads and writes it.
type Shared struct {
	Engine  ask.Engine
	State   ask.State
	Place   ask.Place // where the store goes; Path is empty where that is open
	Picked  []string  // what is taken in, in order
	Label   string
	Verify  string
	Now     func() time.Time
	Flush   func()                               // throws away what was typed ahead
	Crash   func(any, []byte)                    // puts the terminal right, and ends the program
	Later   func(time.Duration, tea.Msg) tea.Cmd // gives a message after a while; nil is by the clock
	Arm     time.Duration                        // how long an approval is shown before it can be given
	Facts   func() []string                      // of the console, for the debug tab
	Console *detect.Console                      // that this face is on; nil where it does not know
	Size    func() (w, h int)                    // of the whole screen
	Begun   bool                                 // this face began an intake
	Detach  bool                                 // the work goes on without the wizard
}

// ctx is the life of what a command asks.
func (s *Shared) ctx() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 60*time.Second)
}

// Do makes a command of f. A panic in it ends the program with the terminal put right, not with it broken.
func (s *Shared) Do(f func(context.Context) tea.Msg) tea.Cmd {
	return func() tea.Msg {
		if s.Crash != nil {
			defer func() {
				if r := recover(); r != nil {
					s.Crash(r, debug.Stack())
				}
			}()
		}
		ctx, cancel := s.ctx()
		defer cancel()
		return f(ctx)
	}
}

// After gives a message after a while.
func (s *Shared) After(d time.Duration, msg tea.Msg) tea.Cmd {
	if s.Later != nil {
		return s.Later(d, msg)
	}
	return tea.Tick(d, func(time.Time) tea.Msg { return msg })
}

// Messages that screens send to the root.
type (
	// Go asks for a step.
	Go struct{ Step Step }
	// Show puts something over the screen.
	Show struct{ Over Overlay }
	// Say puts a line where the hint is, until the next key.
	Say struct {
		Text string
		Bad  bool
	}
	// StateMsg is how things are now.
	StateMsg struct{ State ask.State }
	// Leave ends the wizard.
	Leave struct{ How Leaving }
)

// Leaving is how the wizard is left.
type Leaving int

// The ways to leave.
const (
	ByQuit   Leaving = iota // nothing runs
	Detach                  // the work goes on
	PowerOff                // after a report
)

// Step is a screen's place in the flow.
type Step int

// The steps, and the tabs behind them.
const (
	AtCheck Step = iota
	AtApprove
	AtSources
	AtPlan
	AtIntake
	AtReport
	AtAdmin
	AtDebug
	Steps
)

// Name is what stands at the top.
func (s Step) Name() string {
	return [Steps]string{"Check", "Approve", "Sources", "Plan", "Intake", "Report", "Admin", "Debug"}[s]
}

func msg(m tea.Msg) tea.Cmd { return func() tea.Msg { return m } }

func to(s Step) tea.Cmd { return msg(Go{s}) }

func say(text string) tea.Cmd { return msg(Say{Text: text}) }

// failed says what went wrong in one line.
func failed(what string, err error) tea.Cmd {
	return msg(Say{Text: what + ": " + errorText(err), Bad: true})
}

func errorText(err error) string {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "it took too long; it may be tried again"
	}
	return event.Printable(err.Error())
}

// Bindings that many screens have.
func bindNext(what string) key.Binding { return keys.Of(what, "n", "right") }
func bindBack() key.Binding            { return keys.Of("back", "b", "backspace", "left") }

// list is a selection among rows of which not all may be seen.
type list struct {
	at, top int
}

// move takes a key; page is how many rows are seen.
func (l *list) move(k tea.KeyMsg, n, page int) bool {
	to, ok := keys.Move(k, l.at, n, page)
	if ok {
		l.at = to
	}
	return ok
}

// clamp keeps the selection among n rows, and within the page that is seen.
func (l *list) clamp(n, page int) {
	l.at = max(min(l.at, n-1), 0)
	page = max(page, 1)
	l.top = max(min(l.top, l.at), l.at-page+1, 0)
	l.top = min(l.top, max(n-page, 0))
}

// draw draws rows, and says by arrows at the right that there are more above and below.
func (l *list) draw(a theme.Area, n int, row func(a theme.Area, i int, selected bool)) {
	l.clamp(n, a.H)
	g := a.Glyphs()
	for y := 0; y < a.H && l.top+y < n; y++ {
		i := l.top + y
		line := a.Sub(0, y, a.W, 1)
		row(line, i, i == l.at)
		if i == l.at {
			line.Put(0, 0, theme.Selected, string(g.Pick))
		}
	}
	if l.top > 0 {
		a.Put(a.W-1, 0, theme.Accent, string(g.Up))
	}
	if l.top+a.H < n {
		a.Put(a.W-1, a.H-1, theme.Accent, string(g.Down))
	}
}

type ctxt = context.Context

// Printed shows what a command printed; nil where the message is no such thing.
func Printed(m tea.Msg) tea.Cmd {
	if p, ok := m.(printed); ok {
		return shownPrinted(p)
	}
	return nil
}

// Stop asks the running intake to stop.
func Stop(s *Shared) tea.Cmd {
	return s.Do(func(ctx context.Context) tea.Msg { return did{ask.Stop, s.Engine.Do(ctx, ask.Stop, "")} })
}

// LogLine is a line of what was said, as the log shows it.
func LogLine(l ask.Line) string {
	text := l.At.Format("15:04:05") + "  " + lineText(l)
	return text
}

// Sheet is all that an offer says, a line each.
func Sheet(o ask.Offer) []string {
	var out []string
	for _, l := range sheetLines(o, 76) {
		out = append(out, l.text)
	}
	return out
}
