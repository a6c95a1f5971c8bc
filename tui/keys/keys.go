// Package keys is which key means what, on every screen alike. Every action has a letter or a digit; the keys with names are aliases, as
// some consoles lose them.
package keys

import (
	"strings"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"
)

// Of makes a binding: its keys, the first as it is shown, and what it does.
func Of(does string, names ...string) key.Binding {
	return key.NewBinding(key.WithKeys(names...), key.WithHelp(Shown(names[0]), does))
}

// Shown is how a key stands on the screen.
func Shown(name string) string {
	switch name {
	case " ":
		return "Space"
	case "enter":
		return "Enter"
	case "esc":
		return "Esc"
	case "up":
		return "Up"
	case "ctrl+l":
		return "Ctrl-L"
	}
	return name
}

// Move reads a key that moves a selection among n rows of which page are to be seen; ok is false for all other keys.
func Move(k tea.KeyMsg, at, n, page int) (to int, ok bool) {
	switch k.String() {
	case "up", "k":
		to = at - 1
	case "down", "j":
		to = at + 1
	case "pgup", "ctrl+b":
		to = at - max(page-1, 1)
	case "pgdown", "ctrl+f":
		to = at + max(page-1, 1)
	case "home":
		to = 0
	case "end":
		to = n - 1
	default:
		return at, false
	}
	return max(min(to, n-1), 0), true
}

// Is tells whether a key is one of a binding's.
func Is(k tea.KeyMsg, b key.Binding) bool { return key.Matches(k, b) }

// Line is the bindings in one line of n columns: those that do not fit are left out, the last first.
func Line(all []key.Binding, n int) string {
	var out []string
	used := 0
	for _, b := range all {
		s := b.Help().Key + " " + b.Help().Desc
		if used += len([]rune(s)) + 2; used-2 > n {
			break
		}
		out = append(out, s)
	}
	return strings.Join(out, "  ")
}
