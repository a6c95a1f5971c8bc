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

// Plan shows what an intake would do before it does it: from where, in which order, to where, how long and how much, and the command that does
// the same without a person.
type Plan struct {
	s     *Shared
	list  list
	page  int
	plan  ask.Plan
	err   error
	busy  bool
	armed bool // it was shown long enough to be read
	asked int
}

type planned struct {
	n    int
	plan ask.Plan
	err  error
}

type started struct{ err error }

type planArm struct{ hash string }

// NewPlan makes it.
func NewPlan(s *Shared) *Plan { return &Plan{s: s} }

// Typing is as Screen says.
func (p *Plan) Typing() bool { return false }

// Entered is as Screen says.
func (p *Plan) Entered() tea.Cmd {
	if p.running() {
		p.plan = p.s.State.Job.Plan
		return nil
	}
	return p.make()
}

func (p *Plan) running() bool {
	ph := p.s.State.Job.Phase
	return ph != ask.Idle && ph != ask.Ended
}

func (p *Plan) make() tea.Cmd {
	p.asked++
	p.busy, p.armed = true, false
	n := p.asked
	w := ask.Want{Sources: slices.Clone(p.s.Picked), Place: p.s.Place.Path, Label: p.s.Label, Verify: p.s.Verify}
	return p.s.Do(func(ctx context.Context) tea.Msg {
		plan, err := p.s.Engine.MakePlan(ctx, w)
		return planned{n, plan, err}
	})
}

// Keys is as Screen says.
func (p *Plan) Keys() []key.Binding {
	if p.running() {
		return []key.Binding{bindNext("to the intake"), bindBack()}
	}
	return []key.Binding{keys.Of("go: start reading", "g"), bindBack(), keys.Of("other place", "d"), keys.Of("verify", "v"), keys.Of("label", "t"), keys.Of("earlier", "-"), keys.Of("later", "+"),
		keys.Of("save the plan", "s"), keys.Of("command", "c")}
}

// Hint is as Screen says.
func (p *Plan) Hint() string {
	switch {
	case p.running():
		return "This is being done."
	case p.busy:
		return "Making the plan ..."
	case p.err != nil:
		return "There is no plan yet: see above. b goes back, d changes the place."
	case !p.plan.Forecast.Fits:
		return "It may not all fit. When the place is full the intake stops; it can go on."
	}
	return "g starts. Sources are only read. It can be stopped and goes on from there."
}

// Update is as Screen says.
func (p *Plan) Update(m tea.Msg) tea.Cmd {
	switch m := m.(type) {
	case planned:
		if m.n != p.asked {
			return nil
		}
		p.busy, p.plan, p.err = false, m.plan, m.err
		if p.s.Flush != nil {
			p.s.Flush()
		}
		return p.s.After(p.s.Arm/3, planArm{m.plan.Hash})
	case planArm:
		p.armed = p.armed || m.hash == p.plan.Hash && p.err == nil && !p.busy
	case started:
		return p.started(m.err)
	case saved:
		if m.err != nil {
			return failed("save the plan", m.err)
		}
		return say("Saved as " + event.Printable(m.file) + ".")
	case folderChosen:
		if m.err == nil && m.place.Refused == "" && !p.running() {
			p.s.Place = m.place
			return p.make()
		}
	case tea.KeyMsg:
		return p.key(m)
	}
	return nil
}

type saved struct {
	file string
	err  error
}

func (p *Plan) started(err error) tea.Cmd {
	switch {
	case err == nil:
		p.s.Begun = true
		return to(AtIntake)
	case errors.Is(err, ask.ErrChanged):
		return tea.Sequence(p.make(), msg(Say{Text: "Not started: the machine is not what the plan was made of. Look at the new plan.", Bad: true}))
	}
	return failed("start", err)
}

func (p *Plan) key(k tea.KeyMsg) tea.Cmd {
	if p.running() {
		switch k.String() {
		case "n", "right":
			return to(AtIntake)
		case "b", "backspace", "left":
			return to(AtSources)
		}
		return nil
	}
	if p.list.move(k, len(p.s.Picked), p.page) {
		return nil
	}
	switch k.String() {
	case "b", "backspace", "left":
		return to(AtSources)
	case "g":
		return p.start()
	case "v":
		p.s.Verify = map[string]string{"": "all", "new": "all", "all": "none", "none": "new"}[p.s.Verify]
		return p.make()
	case "-", "+", "K", "J":
		return p.shift(map[string]int{"-": -1, "K": -1, "+": 1, "J": 1}[k.String()])
	case "t":
		return msg(Show{NewInput("Label", "What stands with the snapshot, for people:", p.s.Label, func(text string) tea.Cmd {
			p.s.Label = text
			return p.make()
		})})
	case "d":
		return msg(Show{p.places()})
	case "s":
		hash := p.plan.Hash
		return msg(Show{NewInput("Save the plan", "A file for asl-intake --batch --plan:", "/var/lib/asl/runtime/plan.toml", func(file string) tea.Cmd {
			return p.s.Do(func(ctx context.Context) tea.Msg { return saved{file, p.s.Engine.SavePlan(ctx, hash, file)} })
		})})
	case "c":
		return msg(Show{commandText(p.plan)})
	}
	return nil
}

func (p *Plan) start() tea.Cmd {
	switch {
	case p.err != nil:
		return msg(Say{Text: "There is no plan to start.", Bad: true})
	case !p.armed:
		return say("Read the plan first; g is taken in a moment.")
	}
	hash := p.plan.Hash
	p.armed = false // one press, one start
	return p.s.Do(func(ctx context.Context) tea.Msg { return started{p.s.Engine.Start(ctx, hash)} })
}

// shift moves a source in the order.
func (p *Plan) shift(by int) tea.Cmd {
	i, j := p.list.at, p.list.at+by
	if i < 0 || i >= len(p.s.Picked) || j < 0 || j >= len(p.s.Picked) {
		return nil
	}
	p.s.Picked = slices.Clone(p.s.Picked)
	p.s.Picked[i], p.s.Picked[j] = p.s.Picked[j], p.s.Picked[i]
	p.list.at = j
	return p.make()
}

// places is the choice of another place: a folder here, all others on the approve screen.
func (p *Plan) places() *Menu {
	return &Menu{Head: "Where the store goes", Lines: []string{"Now: " + placeText(p.s.Place)}, Rows: []MenuRow{
		{Key: "f", Does: "pick a folder on another disk or a server", Do: func() tea.Cmd { return pickFolder(p.s) }},
		{Key: "p", Does: "back to the pools and places", Do: func() tea.Cmd { return to(AtApprove) }},
	}}
}

func placeText(p ask.Place) string {
	if p.Path == "" {
		return "nowhere yet"
	}
	text := event.Printable(p.Path) + ", " + event.Printable(p.What)
	if p.Free >= 0 {
		text += ", " + event.Bytes(p.Free) + " free"
	}
	return text
}

func commandText(p ask.Plan) *Text {
	return &Text{Head: "The same without the wizard", Lines: []string{quoted(p.Command), "", "It asks nothing, prints lines, and ends with an exit code; --json prints JSON."}}
}

// quoted is a command as a shell takes it.
func quoted(words []string) string {
	var out []string
	for _, w := range words {
		if w == "" || strings.ContainsFunc(w, func(r rune) bool {
			return !strings.ContainsRune("/-_.:=,+@%", r) && (r < '0' || r > '9' && r < 'A' || r > 'Z' && r < 'a' || r > 'z')
		}) {
			w = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		out = append(out, event.Printable(w))
	}
	return strings.Join(out, " ")
}

// Draw is as Screen says.
func (p *Plan) Draw(a theme.Area) {
	if p.err != nil && !p.running() {
		y := a.Wrapped(1, 0, theme.Bad, "No plan: "+strings.TrimPrefix(errorText(p.err), ask.ErrRefused.Error()+": "))
		a.Wrapped(1, y+1, theme.Plain, "To: "+placeText(p.s.Place))
		return
	}
	if p.plan.Hash == "" {
		a.Put(1, 0, theme.Plain, "making the plan ...")
		return
	}
	facts := p.facts()
	rows := max(min(len(p.plan.Sources), a.H-len(facts)-3), 1)
	x := a.Put(1, 0, theme.Accent, "FROM")
	a.Put(x, 0, theme.Plain, "  only read, in this order")
	p.page = rows
	p.list.draw(a.Sub(0, 1, a.W, rows), len(p.plan.Sources), func(l theme.Area, i int, sel bool) { p.row(l, i, sel) })
	y := rows + 2
	if a.H < len(facts)+5 {
		y = rows + 1
	}
	for _, f := range facts {
		y = p.fact(a, y, f)
	}
}

func (p *Plan) row(l theme.Area, i int, sel bool) {
	src := p.plan.Sources[i]
	s := theme.Plain
	if sel {
		l.Paint(0, theme.Selected)
		s = theme.Selected
	}
	text := fmt.Sprintf("%d  %s", i+1, joinNonEmpty("  ", event.Printable(src.Model), event.Printable(src.Serial), event.Printable(src.Path)))
	l.Fit(2, 0, l.W-13, s, text)
	size := "size unknown"
	if src.Size >= 0 {
		size = event.Bytes(src.Size)
	}
	l.Right(0, s, size+" ")
}

type fact struct {
	head, text string
	style      theme.Style
}

func (p *Plan) facts() []fact {
	f := p.plan.Forecast
	where := placeText(p.plan.Place)
	if len(p.plan.Place.Disks) > 0 {
		where += ", on " + joined(p.plan.Place.Disks)
	}
	out := []fact{{"TO", where + ". This is written to.", theme.Plain}}
	switch {
	case f.Bytes < 0:
		out = append(out, fact{"Expect", f.Why, theme.Plain})
	default:
		room := fmt.Sprintf("%s to read, %s to %s of room, %s to %s", event.Bytes(f.Bytes), event.Bytes(f.RoomLow), event.Bytes(f.RoomHigh), event.Duration(coarse(f.TimeLow)), event.Duration(coarse(f.TimeHigh)))
		style := theme.Plain
		if !f.Fits {
			room, style = room+": it may not all fit", theme.Warn
		}
		out = append(out, fact{"Expect", room, style}, fact{"", "a guess from " + f.Why, theme.Faint})
	}
	verify := map[string]string{"new": "what this intake stores is read back and compared", "all": "every block of the store is read back and compared", "none": "nothing is read back"}[p.plan.Verify]
	out = append(out, fact{"Verify", verify + " (v changes it)", theme.Plain})
	if p.plan.Label != "" {
		out = append(out, fact{"Label", event.Printable(p.plan.Label), theme.Plain})
	}
	for _, src := range p.plan.Sources {
		if src.Ailing != "" {
			out = append(out, fact{"Hurt", event.Printable(src.Name+": "+src.Ailing) + "; what reads well is read first", theme.Warn})
		}
	}
	for _, n := range p.plan.Notes {
		out = append(out, fact{"Note", event.Printable(n), theme.Warn})
	}
	out = append(out, fact{"Same as", quoted(p.plan.Command), theme.Plain})
	if len(p.plan.Hash) >= 16 {
		out = append(out, fact{"Plan", p.plan.Hash[:16], theme.Faint})
	}
	return out
}

func (p *Plan) fact(a theme.Area, y int, f fact) int {
	a.Put(1, y, theme.Accent, f.head)
	return a.Sub(0, 0, a.W-1, a.H).Wrapped(10, y, f.style, f.text)
}
