package screen

import (
	"context"
	"errors"
	"slices"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"

	"aslrescue/engine/event"
	"aslrescue/tui/ask"
	"aslrescue/tui/keys"
	"aslrescue/tui/theme"
)

// Approve shows where the store can go, and what would be done to pools: each with its disks, its exact command, how to undo it. The place is
// a pool, a store that is there, or a folder.
type Approve struct {
	s       *Shared
	list    list
	page    int
	offers  []ask.Offer
	places  []ask.Place
	loaded  bool
	err     error
	version uint64
	asked   int // of which loading the answer counts
}

type loadedApprove struct {
	n      int
	offers []ask.Offer
	places []ask.Place
	err    error
}

// folderChosen is what the engine thinks of a folder.
type folderChosen struct {
	place ask.Place
	err   error
}

// NewApprove makes it.
func NewApprove(s *Shared) *Approve { return &Approve{s: s} }

// Typing is as Screen says.
func (p *Approve) Typing() bool { return false }

// Entered is as Screen says.
func (p *Approve) Entered() tea.Cmd { return p.load() }

func (p *Approve) load() tea.Cmd {
	p.asked++
	n := p.asked
	return p.s.Do(func(ctx context.Context) tea.Msg {
		offers, err := p.s.Engine.Offers(ctx)
		places, err2 := p.s.Engine.Places(ctx)
		return loadedApprove{n, offers, places, errors.Join(err, err2)}
	})
}

// A row is a place, an offer, or the way to a folder.
type approveRow struct {
	place *ask.Place
	offer *ask.Offer
}

func (p *Approve) rows() []approveRow {
	var out []approveRow
	for i := range p.places {
		out = append(out, approveRow{place: &p.places[i]})
	}
	for i := range p.offers {
		out = append(out, approveRow{offer: &p.offers[i]})
	}
	return append(out, approveRow{}) // a folder
}

func (p *Approve) row() approveRow {
	rows := p.rows()
	return rows[max(min(p.list.at, len(rows)-1), 0)]
}

// Keys is as Screen says.
func (p *Approve) Keys() []key.Binding {
	r := p.row()
	var out []key.Binding
	switch {
	case r.place != nil:
		out = append(out, keys.Of("store here", " ", "enter"))
	case r.offer != nil && r.offer.Refused == "" && r.offer.Answered == "":
		out = append(out, keys.Of("read and answer", "enter"))
	case r.offer != nil:
		out = append(out, keys.Of("read", "enter"))
	default:
		out = append(out, keys.Of("pick a folder", "enter"))
	}
	return append(out, bindNext("go on"), keys.Of("writable", "w"), keys.Of("folder", "f"), bindBack(), keys.Of("look again", "r"))
}

// Hint is as Screen says.
func (p *Approve) Hint() string {
	switch {
	case p.err != nil:
		return "Not everything could be listed: " + errorText(p.err)
	case !p.loaded:
		return "Asking for pools and places ..."
	case p.s.Place.Path != "":
		return "The store goes to " + event.Printable(p.s.Place.Path) + ". n goes on."
	case len(p.offers) == 0:
		return "No pool was found. Choose a folder on another disk or a server: f."
	}
	return "Choose where the store goes: w opens a pool for it, f picks a folder."
}

// Update is as Screen says.
func (p *Approve) Update(m tea.Msg) tea.Cmd {
	switch m := m.(type) {
	case StateMsg:
		if v := m.State.Look.Version; v != p.version {
			p.version = v
			return p.load()
		}
	case loadedApprove:
		if m.n == p.asked {
			p.take(m)
		}
	case answered:
		return p.answered(m)
	case folderChosen:
		return p.folder(m)
	case tea.KeyMsg:
		return p.key(m)
	}
	return nil
}

// take keeps the selection on the row it was on.
func (p *Approve) take(m loadedApprove) {
	was := ""
	if p.loaded {
		was = rowID(p.row())
	}
	p.offers, p.places, p.err = m.offers, m.places, m.err
	rows := p.rows()
	at := slices.IndexFunc(rows, func(r approveRow) bool { return rowID(r) == was })
	if !p.loaded {
		at = slices.IndexFunc(rows, func(r approveRow) bool { return r.offer != nil && r.offer.Recommended })
	}
	if at >= 0 {
		p.list.at = at
	}
	p.loaded = true
	if p.s.Place.Path == "" && len(p.places) == 1 && p.places[0].Refused == "" {
		p.s.Place = p.places[0] // the only one there is; it is shown as chosen
	}
	switch i := slices.IndexFunc(p.places, func(x ask.Place) bool { return x.Path == p.s.Place.Path }); {
	case i >= 0:
		p.s.Place = p.places[i]
	case p.s.Place.Path != "": // a folder that was picked is seen where it was chosen
		p.places = append(p.places, p.s.Place)
	}
}

func rowID(r approveRow) string {
	switch {
	case r.place != nil:
		return "place " + r.place.Path
	case r.offer != nil:
		return "offer " + r.offer.Subject + " " + r.offer.Way
	}
	return "folder"
}

func (p *Approve) answered(m answered) tea.Cmd {
	switch {
	case errors.Is(m.err, ask.ErrChanged):
		return tea.Sequence(p.load(), msg(Say{Text: "Not done: what you approved is not what is there any more. Look at it again.", Bad: true}))
	case errors.Is(m.err, ask.ErrAnswered):
		return tea.Sequence(p.load(), msg(Say{Text: "Another console was first: " + m.text}))
	case m.err != nil:
		return tea.Sequence(p.load(), msg(Say{Text: errorText(m.err), Bad: true}))
	}
	return tea.Sequence(p.load(), say("Pool "+event.Printable(m.offer.Subject)+": "+m.text+"."))
}

func (p *Approve) folder(m folderChosen) tea.Cmd {
	switch {
	case m.err != nil:
		return failed("look at the folder", m.err)
	case m.place.Refused != "":
		return msg(Say{Text: m.place.Path + " cannot take the store: " + m.place.Refused, Bad: true})
	}
	p.s.Place = m.place
	return tea.Sequence(p.load(), say("The store goes to "+event.Printable(m.place.Path)+"."))
}

func (p *Approve) key(k tea.KeyMsg) tea.Cmd {
	if p.list.move(k, len(p.rows()), p.page) {
		return nil
	}
	r := p.row()
	switch k.String() {
	case "n", "right":
		if p.s.Place.Path == "" {
			return msg(Say{Text: "Choose first where the store goes: a pool (w) or a folder (f).", Bad: true})
		}
		return to(AtSources)
	case "b", "backspace", "left":
		return to(AtCheck)
	case "r":
		return tea.Batch(p.s.Do(func(ctx context.Context) tea.Msg { _ = p.s.Engine.LookAgain(ctx); return nil }), p.load())
	case "f":
		return pickFolder(p.s)
	case "w":
		return p.writable(r)
	case " ", "enter":
		return p.open(r)
	}
	return nil
}

// writable opens the writable way into the pool that is selected, or into the first there is.
func (p *Approve) writable(r approveRow) tea.Cmd {
	can := func(o ask.Offer) bool { return o.Way == "writable" && o.Refused == "" && o.Answered == "" }
	i := slices.IndexFunc(p.offers, func(o ask.Offer) bool { return can(o) && r.offer != nil && o.Subject == r.offer.Subject })
	if i < 0 {
		i = slices.IndexFunc(p.offers, can)
	}
	if i < 0 {
		return say("There is no pool that could be imported writable.")
	}
	return p.gate(p.offers[i])
}

func (p *Approve) gate(o ask.Offer) tea.Cmd {
	g, arm := NewGate(p.s, o)
	return tea.Batch(msg(Show{g}), arm)
}

func (p *Approve) open(r approveRow) tea.Cmd {
	switch {
	case r.place != nil && r.place.Refused != "":
		return msg(Say{Text: r.place.Path + ": " + r.place.Refused, Bad: true})
	case r.place != nil:
		p.s.Place = *r.place
		return say("The store goes to " + event.Printable(r.place.Path) + ".")
	case r.offer == nil:
		return pickFolder(p.s)
	case r.offer.Refused != "" || r.offer.Answered != "":
		var lines []string
		for _, l := range sheetLines(*r.offer, 74) {
			lines = append(lines, l.text)
		}
		return msg(Show{&Text{Head: r.offer.Way + ", pool " + event.Printable(r.offer.Subject), Lines: lines}})
	}
	return p.gate(*r.offer)
}

// pickFolder lets a folder be picked for the store.
func pickFolder(s *Shared) tea.Cmd {
	pk, cmd := NewPicker(s, "A folder for the store", "/mnt", func(path string) tea.Cmd {
		return s.Do(func(ctx context.Context) tea.Msg {
			pl, err := s.Engine.Folder(ctx, path)
			return folderChosen{pl, err}
		})
	})
	return tea.Batch(msg(Show{pk}), cmd)
}

// Draw is as Screen says.
func (p *Approve) Draw(a theme.Area) {
	rows := p.rows()
	left := a
	wide := a.W >= 72
	if wide {
		left = a.Sub(0, 0, min(36, a.W*2/5), a.H)
	}
	p.page = left.H
	p.list.draw(left, len(rows), func(l theme.Area, i int, sel bool) {
		s := theme.Plain
		if sel {
			l.Paint(0, theme.Selected)
			s = theme.Selected
		}
		r := rows[i]
		g := l.Glyphs()
		switch {
		case r.place != nil:
			mark := "( )"
			if r.place.Path == p.s.Place.Path {
				mark = "(o)"
			}
			l.Fit(2, 0, l.W-3, s, mark+" "+event.Printable(r.place.Path))
		case r.offer != nil:
			p.offerRow(l, r.offer, s, sel, g)
		default:
			l.Fit(2, 0, l.W-3, s, "    a folder ...")
		}
	})
	if !wide {
		return
	}
	a.Sub(left.W, 0, 1, a.H).Down(0)
	p.details(a.Sub(left.W+2, 0, a.W-left.W-3, a.H), p.row())
}

func (p *Approve) offerRow(l theme.Area, o *ask.Offer, s theme.Style, sel bool, g *theme.Glyphs) {
	text := theme.Pad(event.Printable(o.Subject), 10) + " " + o.Way
	l.Fit(6, 0, l.W-7, s, text)
	mark, style := " ? ", theme.Warn
	switch {
	case o.Answered != "":
		mark, style = " "+string(g.Good)+" ", theme.Good
	case o.Refused != "":
		mark, style = " - ", theme.Faint
	}
	if sel {
		style = s
	}
	l.Put(2, 0, style, mark)
	if o.Recommended && l.W > 34 {
		l.Put(l.W-7, 0, style, "usual")
	}
}

func (p *Approve) details(a theme.Area, r approveRow) {
	switch {
	case !p.loaded:
		a.Put(0, 0, theme.Plain, "asking ...")
	case r.place != nil:
		a.Put(0, 0, theme.Bold, "The store in "+event.Printable(r.place.Path))
		y := a.Wrapped(0, 2, theme.Plain, event.Printable(r.place.What))
		if r.place.Free >= 0 {
			y = a.Wrapped(0, y, theme.Plain, event.Bytes(r.place.Free)+" free")
		}
		if len(r.place.Disks) > 0 {
			y = a.Wrapped(0, y, theme.Plain, "It lies on "+joined(r.place.Disks)+". They are written to, so they cannot be sources.")
		}
		if r.place.Refused != "" {
			a.Wrapped(0, y+1, theme.Bad, "Not possible: "+event.Printable(r.place.Refused))
		}
	case r.offer != nil:
		for y, l := range sheetLines(*r.offer, a.W) {
			a.Put(0, y, l.style, l.text)
		}
	default:
		a.Put(0, 0, theme.Bold, "A folder on another disk or a server")
		a.Wrapped(0, 2, theme.Plain, "What is mounted on this system can take the store: a USB disk, NFS, SSHFS. Mount it from a shell (Alt+F2), then pick it here. It wants an empty folder, or one that is a store already.")
	}
}

func joined(all []string) string {
	out := ""
	for i, s := range all {
		if i > 0 {
			out += ", "
		}
		out += event.Printable(s)
	}
	return out
}
