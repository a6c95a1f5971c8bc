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

// Intake shows the work: how far it is, how fast, what it waits for, each source, a map of the disk that is read, and what was said.
type Intake struct {
	s     *Shared
	list  list
	page  int
	rates []float64 // bytes per second, one for each rateEvery
	last  time.Time
	moved bool // the operator moved the selection: it stays
}

const (
	rateEvery = 2 * time.Second
	ratesKept = 300 // ten minutes
)

// NewIntake makes it.
func NewIntake(s *Shared) *Intake { return &Intake{s: s} }

// Typing is as Screen says.
func (p *Intake) Typing() bool { return false }

// Entered is as Screen says.
func (p *Intake) Entered() tea.Cmd { return nil }

func (p *Intake) job() *ask.Job { return &p.s.State.Job }

// Keys is as Screen says.
func (p *Intake) Keys() []key.Binding {
	j := p.job()
	switch j.Phase {
	case ask.Idle:
		return []key.Binding{bindBack()}
	case ask.Ended:
		return []key.Binding{bindNext("the report"), keys.Of("map", "m"), keys.Of("log", "l"), bindBack()}
	case ask.Paused:
		return []key.Binding{keys.Of("go on", "p"), keys.Of("stop", "s"), keys.Of("map", "m"), keys.Of("log", "l"), keys.Of("command", "c"), bindBack()}
	}
	return []key.Binding{keys.Of("pause", "p"), keys.Of("skip source", "x"), keys.Of("stop", "s"), keys.Of("map", "m"), keys.Of("log", "l"), keys.Of("command", "c"), bindBack()}
}

// Hint is as Screen says.
func (p *Intake) Hint() string {
	j := p.job()
	switch j.Phase {
	case ask.Idle:
		return p.idle()
	case ask.Ended:
		return "It has ended. n shows the report."
	case ask.Paused:
		return "Paused. What was read is safe. p goes on."
	case ask.Pausing, ask.Stopping:
		return "What was read is being sealed ..."
	}
	if j.Progress.Stalled() > 0 {
		return "Waiting for a disk, which is tried again by itself. x skips this source."
	}
	if j.Room.FullIn > 0 {
		return "The place is full in about " + event.Duration(coarse(j.Room.FullIn)) + " at this rate; then it stops."
	}
	return "Stopping is safe, a power cut too: the same intake goes on from there."
}

// idle is said while there is no intake, or none is told of yet.
func (p *Intake) idle() string {
	if p.s.Begun {
		return "It begins ..."
	}
	return "Nothing was started yet."
}

// Update is as Screen says.
func (p *Intake) Update(m tea.Msg) tea.Cmd {
	switch m := m.(type) {
	case StateMsg:
		p.sample(&m.State)
	case did:
		if m.err != nil {
			return failed(string(m.verb), m.err)
		}
	case tea.KeyMsg:
		return p.key(m)
	}
	return nil
}

// sample keeps the rate of the last ten minutes.
func (p *Intake) sample(s *ask.State) {
	now := p.s.Now()
	if s.Job.Phase != ask.Running || now.Sub(p.last) < rateEvery {
		return
	}
	p.last = now
	p.rates = append(p.rates, s.Job.Progress.Rate())
	if len(p.rates) > ratesKept {
		p.rates = slices.Clone(p.rates[len(p.rates)-ratesKept:])
	}
	if !p.moved { // the selection follows the source that is read
		if i := slices.IndexFunc(s.Job.Plan.Sources, func(x ask.PlanSource) bool { return stateOf(s.Job, x.Name) == "reading" }); i >= 0 {
			p.list.at = i
		}
	}
}

type did struct {
	verb ask.Verb
	err  error
}

func (p *Intake) do(v ask.Verb, source string) tea.Cmd {
	return p.s.Do(func(ctx context.Context) tea.Msg { return did{v, p.s.Engine.Do(ctx, v, source)} })
}

func (p *Intake) key(k tea.KeyMsg) tea.Cmd {
	j := p.job()
	if p.list.move(k, len(j.Plan.Sources), p.page) {
		p.moved = true
		return nil
	}
	switch k.String() {
	case "n", "right":
		if j.Phase == ask.Ended {
			return to(AtReport)
		}
		return say("The report comes when the intake has ended.")
	case "b", "backspace", "left":
		return to(AtPlan)
	case "p":
		switch j.Phase {
		case ask.Running:
			return p.do(ask.Pause, "")
		case ask.Paused:
			return p.do(ask.GoOn, "")
		}
	case "s":
		if j.Phase != ask.Idle && j.Phase != ask.Ended {
			return msg(Show{p.stopMenu()})
		}
	case "x":
		return p.skip()
	case "m":
		return msg(Show{&MapView{s: p.s, source: p.selected().Name}})
	case "c":
		return msg(Show{commandText(j.Plan)})
	}
	return nil
}

func (p *Intake) selected() ask.PlanSource {
	all := p.job().Plan.Sources
	if p.list.at < len(all) {
		return all[p.list.at]
	}
	return ask.PlanSource{}
}

func (p *Intake) stopMenu() *Menu {
	return &Menu{Head: "Stop the intake", Lines: []string{"What was read is sealed first. Started again with the same sources, it goes on from there."}, Rows: []MenuRow{
		{Key: "y", Does: "stop", Do: func() tea.Cmd { return p.do(ask.Stop, "") }},
	}}
}

func (p *Intake) skip() tea.Cmd {
	src := p.selected()
	if ph := p.job().Phase; src.Name == "" || ph != ask.Running && ph != ask.Paused {
		return nil
	}
	return msg(Show{&Menu{Head: "Skip " + event.Printable(src.Name),
		Lines: []string{joinNonEmpty("  ", event.Printable(src.Model), event.Printable(src.Serial)), "What was read of it is kept, the rest will be a gap in the snapshot. It can be taken in again later; then only what is missing is new."},
		Rows:  []MenuRow{{Key: "y", Does: "skip the rest of this source", Do: func() tea.Cmd { return p.do(ask.Skip, src.Name) }}}}})
}

// stateOf is what a source is at.
func stateOf(j ask.Job, name string) string {
	if slices.Contains(j.Skipped, name) {
		return "skipped"
	}
	i := slices.IndexFunc(j.Progress.Sources, func(s event.Source) bool { return s.Name == name })
	switch {
	case i < 0:
		return "waiting"
	case j.Progress.Sources[i].Done:
		return "stored"
	case j.Phase == ask.Paused:
		return "paused"
	case j.Phase == ask.Ended:
		return "stopped"
	}
	return "reading"
}

// Draw is as Screen says.
func (p *Intake) Draw(a theme.Area) {
	j := p.job()
	if j.Phase == ask.Idle {
		a.Put(1, 0, theme.Plain, p.idle())
		return
	}
	if a.H < 11 || a.W < 60 {
		p.small(a)
		return
	}
	y := p.totals(a)
	a.Rule(y)
	rows := min(max(len(j.Plan.Sources), 1), max(a.H-y-8, 1))
	if a.H > 30 {
		rows = min(max(len(j.Plan.Sources), 1), a.H/3)
	}
	p.sources(a.Sub(0, y+1, a.W, rows+1), rows)
	y += rows + 2
	if m := p.mapOf(p.selected().Name); m != nil && a.H-y >= 5 {
		h := 2
		if a.H > 30 {
			h = min((a.H-y)/3, 8)
		}
		a.Rule(y)
		drawMap(a.Sub(0, y+1, a.W, h+1), m)
		y += h + 2
	}
	if y < a.H-1 {
		a.Rule(y)
		p.lines(a.Sub(0, y+1, a.W, a.H-y-1))
	}
}

// totals draws the first lines and gives the next.
func (p *Intake) totals(a theme.Area) int {
	j := p.job()
	g := a.Glyphs()
	pr := &j.Progress
	done, of := pr.Done()
	head := map[event.Stage]string{event.Verifying: "VERIFY", event.Sealing: "SEAL"}[pr.Stage]
	if head == "" {
		head = "TOTAL"
	}
	right := fmt.Sprintf("%5s  %s", pr.Percent(), amount(done, of))
	a.Put(1, 0, theme.Accent, head)
	bar(a.Sub(8, 0, a.W-8-theme.Width(right)-2, 1), done, of, pr)
	a.Right(0, theme.Bold, right+" ")

	x := a.Put(1, 1, theme.Plain, "Rate "+theme.Pad(event.Rate(pr.Rate()), 10))
	x = a.Put(x, 1, theme.Plain, "  Left "+theme.Pad(left(j), 24))
	p.slowest(a, x+2)

	c := pr.Counts
	gaps := "Unreadable 0 B"
	style := theme.Plain
	if c.Unreadable > 0 || pr.Gaps > 0 {
		gaps = fmt.Sprintf("Unreadable %s in %s", event.Bytes(c.Unreadable), event.CountOf(int64(pr.Gaps), "place", "places"))
		style = theme.Warn
	}
	x = a.Put(1, 2, theme.Plain, fmt.Sprintf("New %-9s Known %-9s Zeros %-9s ", event.Bytes(c.New), event.Bytes(c.Known), event.Bytes(c.Zero)))
	a.Put(x, 2, style, gaps)

	x = a.Put(1, 3, theme.Plain, "10 min ")
	w := max(min(a.W-x-47, 60), 8)
	peak := spark(a.Sub(x, 3, w, 1), p.rates, g)
	x = a.Put(x+w+1, 3, theme.Plain, "peak "+event.Rate(peak))
	if j.LastGood > 0 && j.Phase == ask.Running && pr.Stage == event.Reading {
		a.Put(x+2, 3, theme.Plain, "last good read "+event.Duration(j.LastGood))
	}
	return 4
}

func amount(done, of int64) string {
	if of < 0 {
		return event.Bytes(done)
	}
	return event.Bytes(done) + " of " + event.Bytes(of)
}

// left is the time that remains, or why there is none to tell.
func left(j *ask.Job) string {
	switch {
	case j.Phase == ask.Paused:
		return "paused"
	case j.Phase == ask.Pausing || j.Phase == ask.Stopping:
		return string(j.Phase)
	case j.Phase == ask.Ended:
		return "ended"
	case j.Progress.Stalled() > 0:
		return "waiting for a disk"
	}
	return j.Progress.ETA().String()
}

// slowest names what the work waits for.
func (p *Intake) slowest(a theme.Area, x int) {
	s := p.job().Slowest
	if s.Part == ask.Unsure || p.job().Phase != ask.Running {
		return
	}
	text := string(s.Part)
	if s.Part == ask.Source && s.Name != "" {
		text = "source " + event.Printable(s.Name)
	}
	if room := a.W - x - 15; room > len(text)+len(s.Why)+3 && s.Why != "" {
		text += ", " + s.Why
	}
	a.Put(x, 1, theme.Plain, "Slowest part: "+text)
}

// bar shows what is new, known, zeros and missing of the whole, in this order.
func bar(a theme.Area, done, of int64, p *event.Progress) {
	g := a.Glyphs()
	if of <= 0 || p.Stage == event.Verifying {
		n := 0
		if of > 0 {
			n = int(float64(a.W) * float64(done) / float64(of))
		}
		a.Put(0, 0, theme.Good, strings.Repeat(string(g.Full), n))
		a.Put(n, 0, theme.Faint, strings.Repeat(string(g.Light), max(a.W-n, 0)))
		return
	}
	c := p.Counts
	x, sum := 0, int64(0)
	for _, part := range []struct {
		n int64
		r rune
		s theme.Style
	}{{c.New, g.NewCell, theme.Good}, {c.Data - c.New, g.KnownCell, theme.Accent}, {c.Zero, g.ZeroCell, theme.Plain}, {c.Unreadable, 'X', theme.Bad}, {c.Untried, '?', theme.Warn}} {
		sum += max(part.n, 0)
		to := int(float64(a.W) * float64(sum) / float64(of))
		if part.n > 0 && to == x && (part.r == 'X' || part.r == '?') && x < a.W {
			to = x + 1 // however little is missing, it shows
		}
		a.Put(x, 0, part.s, strings.Repeat(string(part.r), max(to-x, 0)))
		x = max(x, to)
	}
	a.Put(x, 0, theme.Faint, strings.Repeat(string(g.WaitCell), max(a.W-x, 0)))
}

// spark draws rates, the newest at the right, and gives the highest.
func spark(a theme.Area, rates []float64, g *theme.Glyphs) float64 {
	peak := 0.0
	for _, r := range rates {
		peak = max(peak, r)
	}
	each := max((len(rates)+a.W-1)/max(a.W, 1), 1)
	cells := (len(rates) + each - 1) / each
	for i := range cells {
		sum, n := 0.0, 0
		for k := i * each; k < min((i+1)*each, len(rates)); k++ {
			sum += rates[k]
			n++
		}
		level := 0
		if peak > 0 {
			level = min(int(sum/float64(n)/peak*float64(len(g.Sparks))), len(g.Sparks)-1)
		}
		if sum > 0 {
			level = max(level, 1)
		}
		a.Put(a.W-cells+i, 0, theme.Accent, string(g.Sparks[level]))
	}
	return peak
}

// sources draws a row for each.
func (p *Intake) sources(a theme.Area, rows int) {
	j := p.job()
	p.page = rows
	wide := a.W >= 100
	a.Put(3, 0, theme.Accent, "# Source")
	if wide {
		a.Put(a.W-60, 0, theme.Accent, "Serial")
	}
	a.Put(a.W-42, 0, theme.Accent, "     Size  State    Done       Rate   Gaps")
	p.list.draw(a.Sub(0, 1, a.W, rows), len(j.Plan.Sources), func(l theme.Area, i int, sel bool) {
		src := j.Plan.Sources[i]
		s := theme.Plain
		if sel {
			l.Paint(0, theme.Selected)
			s = theme.Selected
		}
		name := fmt.Sprintf("%d %s", i+1, joinNonEmpty("  ", event.Printable(src.Name), event.Printable(src.Model)))
		end := l.W - 43
		if wide {
			end = l.W - 61
			l.Fit(l.W-60, 0, 17, s, tail(event.Printable(src.Serial), 17))
		} else if src.Serial != "" {
			t := tail(event.Printable(src.Serial), 9)
			l.Put(end-theme.Width(t), 0, s, t)
			end -= theme.Width(t) + 1
		}
		l.Fit(3, 0, end-3, s, name)
		p.numbers(l, src, s, sel)
	})
}

func (p *Intake) numbers(l theme.Area, src ask.PlanSource, s theme.Style, sel bool) {
	j := p.job()
	state := stateOf(*j, src.Name)
	size, done, rate, gaps := src.Size, "0%", "-", 0
	if i := slices.IndexFunc(j.Progress.Sources, func(x event.Source) bool { return x.Name == src.Name }); i >= 0 {
		x := &j.Progress.Sources[i]
		if x.Size >= 0 {
			size = x.Size
		}
		done, gaps = event.Percent(x.Settled()+x.Counts.Untried, size), x.Gaps+int(x.Counts.FileErrors)
		if state == "reading" && j.Progress.Stage == event.Reading {
			rate = event.Rate(x.Rate())
		}
	}
	text := "  unknown"
	if size >= 0 {
		text = theme.PadLeft(event.Bytes(size), 9)
	}
	gapText := "-"
	style := s
	if gaps > 0 {
		gapText = event.Count(int64(gaps))
		if !sel {
			style = theme.Warn
		}
	}
	x := l.Put(l.W-42, 0, s, text+"  "+theme.Pad(state, 8)+theme.PadLeft(done, 5)+theme.PadLeft(rate, 11))
	l.Put(x, 0, style, theme.PadLeft(gapText, 7))
}

func (p *Intake) mapOf(name string) *ask.Map {
	for i := range p.job().Maps {
		if m := &p.job().Maps[i]; m.Source == name {
			return m
		}
	}
	return nil
}

// lines draws what was said, the newest first.
func (p *Intake) lines(a theme.Area) {
	all := p.s.State.Lines
	for y := 0; y < a.H && y < len(all); y++ {
		l := all[len(all)-1-y]
		drawLine(a.Sub(1, y, a.W-1, 1), l)
	}
}

func drawLine(a theme.Area, l ask.Line) {
	a.Put(0, 0, theme.Faint, l.At.Format("15:04:05"))
	s := theme.Plain
	switch {
	case l.Level == event.Error:
		s = theme.Bad
	case l.Level == event.Warning:
		s = theme.Warn
	}
	a.Fit(9, 0, a.W-9, s, lineText(l))
}

func lineText(l ask.Line) string {
	text := event.Printable(l.Text)
	if l.From != "" {
		text = l.From + ": " + text
	}
	return text
}

// small is for screens on which little has room.
func (p *Intake) small(a theme.Area) {
	j := p.job()
	done, of := j.Progress.Done()
	y := 0
	put := func(s theme.Style, text string) {
		a.Fit(1, y, a.W-1, s, text)
		y++
	}
	put(theme.Bold, j.Progress.Percent()+"  "+amount(done, of))
	if a.H > 5 {
		bar(a.Sub(1, y, a.W-2, 1), done, of, &j.Progress)
		y++
	}
	put(theme.Plain, event.Rate(j.Progress.Rate())+"  left "+left(j))
	if n := j.Progress.Counts.Unreadable; n > 0 {
		put(theme.Warn, "unreadable "+event.Bytes(n))
	} else {
		put(theme.Plain, "unreadable 0 B")
	}
	src := p.selected()
	put(theme.Plain, joinNonEmpty("  ", event.Printable(src.Name), tail(event.Printable(src.Serial), 9), stateOf(*j, src.Name)))
	if n := len(p.s.State.Lines); n > 0 && y < a.H {
		put(theme.Plain, lineText(p.s.State.Lines[n-1]))
	}
}

// cellLook is how a kind of cell is drawn.
func cellLook(g *theme.Glyphs, c ask.Cell) (rune, theme.Style) {
	switch c {
	case ask.Zeros:
		return g.ZeroCell, theme.Plain
	case ask.Known:
		return g.KnownCell, theme.Accent
	case ask.New:
		return g.NewCell, theme.Good
	case ask.Later:
		return '?', theme.Warn
	case ask.Unreadable:
		return 'X', theme.Bad
	}
	return g.WaitCell, theme.Faint
}

// drawMap draws a heading and as many rows of cells as there is room for.
func drawMap(a theme.Area, m *ask.Map) {
	w, h := a.W-2, a.H-1
	if w <= 0 || h <= 0 {
		return
	}
	g := a.Glyphs()
	x := a.Put(1, 0, theme.Accent, "Map of "+event.Printable(m.Source))
	x = a.Put(x, 0, theme.Plain, "  1 cell is "+event.Bytes(m.Size/int64(w*h))+"   ")
	for _, k := range []struct {
		c    ask.Cell
		text string
	}{{ask.New, "new"}, {ask.Known, "known"}, {ask.Zeros, "zeros"}, {ask.Unreadable, "unreadable"}, {ask.Later, "later"}, {ask.Waiting, "waiting"}} {
		r, s := cellLook(g, k.c)
		if x+theme.Width(k.text)+3 > a.W {
			break
		}
		x = a.Put(x, 0, s, string(r))
		x = a.Put(x, 0, theme.Plain, " "+k.text+"  ")
	}
	cells := m.Row(w * h)
	for i, c := range cells {
		r, s := cellLook(g, c)
		a.Put(1+i%w, 1+i/w, s, string(r))
	}
}

// MapView is the map of a source over the whole screen.
type MapView struct {
	s      *Shared
	source string
}

// Title is as Overlay says.
func (v *MapView) Title() string { return "Map of " + event.Printable(v.source) }

// Typing is as Overlay says.
func (v *MapView) Typing() bool { return false }

// Keys is as Overlay says.
func (v *MapView) Keys() []key.Binding {
	return []key.Binding{keys.Of("next source", "n"), keys.Of("close", "esc", "b")}
}

// Update is as Overlay says.
func (v *MapView) Update(m tea.Msg) (bool, tea.Cmd) {
	k, ok := m.(tea.KeyMsg)
	if !ok {
		return false, nil
	}
	switch k.String() {
	case "esc", "b", "enter", "m", "q", "backspace", "left":
		return true, nil
	case "n", "down", "j", " ":
		maps := v.s.State.Job.Maps
		i := slices.IndexFunc(maps, func(m ask.Map) bool { return m.Source == v.source })
		if len(maps) > 0 {
			v.source = maps[(i+1)%len(maps)].Source
		}
	}
	return false, nil
}

// Draw is as Overlay says.
func (v *MapView) Draw(a theme.Area) {
	for i := range v.s.State.Job.Maps {
		m := &v.s.State.Job.Maps[i]
		if m.Source != v.source {
			continue
		}
		h := min(a.H-1, max(ask.MapCells/max(a.W-2, 1), 1))
		drawMap(a.Sub(0, 0, a.W, h+1), m)
		return
	}
	a.Put(1, 0, theme.Plain, "There is a map only of disks and images, once their reading has begun.")
}
