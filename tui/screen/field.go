package screen

import (
	tea "github.com/charmbracelet/bubbletea"

	"aslrescue/tui/theme"
)

// line is a line of text that is typed into. What bubbles has for it would look for a clipboard's programs when it is imported.
type line struct {
	text  []rune
	at    int // where the next letter goes
	limit int
}

func newLine(text string) line {
	l := line{text: []rune(text), limit: 400}
	l.at = len(l.text)
	return l
}

// Value is what stands there.
func (l *line) Value() string { return string(l.text) }

// key takes a key. Control characters, also pasted ones, are no text.
func (l *line) key(k tea.KeyMsg) {
	switch k.String() {
	case "left":
		l.at = max(l.at-1, 0)
	case "right":
		l.at = min(l.at+1, len(l.text))
	case "home", "ctrl+a":
		l.at = 0
	case "end", "ctrl+e":
		l.at = len(l.text)
	case "ctrl+u":
		l.text, l.at = append([]rune{}, l.text[l.at:]...), 0
	case "backspace", "ctrl+h":
		if l.at > 0 {
			l.text = append(append([]rune{}, l.text[:l.at-1]...), l.text[l.at:]...)
			l.at--
		}
	case "delete":
		if l.at < len(l.text) {
			l.text = append(append([]rune{}, l.text[:l.at]...), l.text[l.at+1:]...)
		}
	default:
		if (k.Type == tea.KeyRunes || k.Type == tea.KeySpace) && !k.Alt {
			l.insert(k.Runes)
		}
	}
}

func (l *line) insert(runes []rune) {
	for _, r := range runes {
		if r < ' ' || r == 0x7f || len(l.text) >= l.limit {
			continue
		}
		l.text = append(l.text[:l.at:l.at], append([]rune{r}, l.text[l.at:]...)...)
		l.at++
	}
}

// draw draws the end of the text if it is long.
func (l *line) draw(a theme.Area) {
	from := max(l.at-(a.W-4), 0)
	x := a.Put(0, 0, theme.Accent, "> ")
	x = a.Put(x, 0, theme.Bold, string(l.text[from:l.at]))
	under, rest := " ", ""
	if l.at < len(l.text) {
		under, rest = string(l.text[l.at]), string(l.text[l.at+1:])
	}
	x = a.Put(x, 0, theme.Title, under)
	x = a.Put(x, 0, theme.Bold, rest)
	for ; x < min(a.W, 40); x++ {
		a.Put(x, 0, theme.Faint, "_")
	}
}
