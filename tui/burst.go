package tui

import (
	"time"

	tea "github.com/charmbracelet/bubbletea"
)

// Letters come in one piece where a line is slow, or a machine: what a person pressed one by one is then one message of several runes. Where a
// letter is a command, such a piece is taken apart, and each letter has its turn after what the one before it does.

// restMsg is what is left of a piece.
type restMsg struct {
	runes []rune
	read  time.Time
}

// fresh is how long the rest of a piece is good for. It is less than a plan or an approval takes to arm: what was typed before a thing was
// shown is no answer to it.
const fresh = 400 * time.Millisecond

// burst takes the first letter, and lets the others come after what it does.
func (m *Model) burst(runes []rune) tea.Cmd {
	rest := restMsg{runes[1:], m.s.Now()}
	return tea.Sequence(m.command(tea.KeyMsg{Type: tea.KeyRunes, Runes: runes[:1]}), func() tea.Msg { return rest })
}

// rest gives the other letters to the screen that is seen by then. What lies over a screen asks something, and was not seen when they were pressed.
func (m *Model) rest(r restMsg) tea.Cmd {
	if m.over != nil || m.s.Now().Sub(r.read) > fresh {
		return nil
	}
	return m.key(tea.KeyMsg{Type: tea.KeyRunes, Runes: r.runes})
}

// torn follows a key that a slow line tore apart: an arrow comes as Esc, and then what is left of it as letters, which are no commands.
type torn int

const (
	whole  torn = iota
	begun       // Esc came: it is a key of its own, or what follows is the rest of one
	inside      // the rest has not ended yet
)

// mend takes the rest of a torn key away. What is left is a key; ok is false where nothing is.
func (t *torn) mend(k tea.KeyMsg) (left tea.KeyMsg, ok bool) {
	was := *t
	*t = whole
	if k.Type == tea.KeyEsc && !k.Alt {
		*t = begun
		return k, true
	}
	if k.Type != tea.KeyRunes || len(k.Runes) == 0 || k.Paste || k.Alt || was == whole {
		return k, true
	}
	r := k.Runes
	if was == begun {
		if r[0] != '[' && r[0] != 'O' {
			return k, true
		}
		r = r[1:]
	}
	for len(r) > 0 && r[0] >= ' ' && r[0] < '@' { // parameters
		r = r[1:]
	}
	if len(r) == 0 {
		*t = inside
		return k, false
	}
	k.Runes = r[1:] // the letter that ends it
	return k, len(k.Runes) > 0
}
