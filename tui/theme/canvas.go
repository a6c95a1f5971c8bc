package theme

import (
	"strings"
	"unicode/utf8"
)

// Style is what a cell looks like beside its character. It is a name: what it means on a terminal stands in Paint.
type Style uint8

// The styles.
const (
	Plain Style = iota
	Bold
	Faint    // rules and what may be overlooked
	Title    // the top line
	Selected // the row with the marker
	Good
	Warn
	Bad
	Accent // keys, headings
	styles
)

// Canvas is a screen of cells. Nothing can be drawn outside of it, and only what the font has.
type Canvas struct {
	w, h   int
	runes  []rune
	styles []Style
	glyphs *Glyphs
}

// NewCanvas is empty.
func NewCanvas(w, h int, g *Glyphs) *Canvas {
	w, h = max(w, 1), max(h, 1)
	c := &Canvas{w: w, h: h, runes: make([]rune, w*h), styles: make([]Style, w*h), glyphs: g}
	for i := range c.runes {
		c.runes[i] = ' '
	}
	return c
}

func (c *Canvas) put(x, y int, s Style, r rune) {
	if x < 0 || y < 0 || x >= c.w || y >= c.h {
		return
	}
	if !c.glyphs.Has(r) {
		r = fallback(r, c.glyphs)
	}
	c.runes[y*c.w+x], c.styles[y*c.w+x] = r, s
}

// fallback is what stands for a character that the font lacks.
func fallback(r rune, g *Glyphs) rune {
	near := map[rune]rune{'…': '.', '–': '-', '—': '-', '“': '"', '”': '"', '‘': '\'', '’': '\'', '→': '>', '←': '<', '×': 'x', '•': '*', '·': '.', '─': '-', '│': '|', '█': '#', '▓': '=', '▒': '-', '░': '.',
		'√': '+', '►': '>', '▲': '^', '▼': 'v', '\t': ' ', '\u00a0': ' '}
	if n, ok := near[r]; ok && g.Has(n) {
		return n
	}
	return '?'
}

// Area is a part of a canvas. Its lines and columns count from 0.
type Area struct {
	c          *Canvas
	x, y, W, H int
}

// All is the whole canvas.
func (c *Canvas) All() Area { return Area{c, 0, 0, c.w, c.h} }

// Sub is a part of a, cut to what there is of it.
func (a Area) Sub(x, y, w, h int) Area {
	x, y = min(max(x, 0), a.W), min(max(y, 0), a.H)
	return Area{a.c, a.x + x, a.y + y, min(max(w, 0), a.W-x), min(max(h, 0), a.H-y)}
}

// Glyphs are those that are there.
func (a Area) Glyphs() *Glyphs { return a.c.glyphs }

// Put writes text at a place, cut at the end of the line, and gives the column behind it.
func (a Area) Put(x, y int, s Style, text string) int {
	if y < 0 || y >= a.H {
		return x + Width(text)
	}
	for _, r := range text {
		if x >= 0 && x < a.W {
			a.c.put(a.x+x, a.y+y, s, r)
		}
		x++
	}
	return x
}

// Fit writes text into n columns and says with "..." that something was cut.
func (a Area) Fit(x, y, n int, s Style, text string) int {
	a.Put(x, y, s, Cut(text, min(n, a.W-x)))
	return x + n
}

// Right writes text so that it ends with the line.
func (a Area) Right(y int, s Style, text string) {
	a.Put(max(a.W-Width(text), 0), y, s, text)
}

// Rule draws a line across.
func (a Area) Rule(y int) {
	a.Put(0, y, Faint, strings.Repeat(string(a.c.glyphs.H), a.W))
}

// Down draws a line from top to bottom.
func (a Area) Down(x int) {
	for y := range a.H {
		a.Put(x, y, Faint, string(a.c.glyphs.V))
	}
}

// Clear empties the area.
func (a Area) Clear() {
	for y := range a.H {
		a.Put(0, y, Plain, strings.Repeat(" ", a.W))
	}
}

// Paint gives a line a style, whatever stands in it.
func (a Area) Paint(y int, s Style) {
	for x := range a.W {
		if y >= 0 && y < a.H {
			a.c.styles[(a.y+y)*a.c.w+a.x+x] = s
		}
	}
}

// Wrapped writes text over as many lines as it takes, from y on, at most to the end of the area, and gives the next line.
func (a Area) Wrapped(x, y int, s Style, text string) int {
	for _, line := range Wrap(text, a.W-x) {
		if y >= a.H {
			break
		}
		a.Put(x, y, s, line)
		y++
	}
	return y
}

// Width is how many cells text takes: characters that take two are never shown as such.
func Width(text string) int { return utf8.RuneCountInString(text) }

// Cut is text in n columns at most.
func Cut(text string, n int) string {
	if n <= 0 {
		return ""
	}
	if Width(text) <= n {
		return text
	}
	r := []rune(text)
	if n <= 3 {
		return string(r[:n])
	}
	return string(r[:n-3]) + "..."
}

// Pad is text in exactly n columns.
func Pad(text string, n int) string {
	text = Cut(text, n)
	return text + strings.Repeat(" ", max(n-Width(text), 0))
}

// PadLeft is text in exactly n columns, at their end.
func PadLeft(text string, n int) string {
	text = Cut(text, n)
	return strings.Repeat(" ", max(n-Width(text), 0)) + text
}

// Wrap breaks text into lines of n columns at most, at blanks where there are some.
func Wrap(text string, n int) []string {
	if n <= 0 {
		return nil
	}
	var out []string
	for para := range strings.SplitSeq(text, "\n") {
		line := ""
		for _, word := range strings.Fields(para) {
			for Width(word) > n { // a word that no line holds
				if line != "" {
					out = append(out, line)
					line = ""
				}
				r := []rune(word)
				out = append(out, string(r[:n]))
				word = string(r[n:])
			}
			switch {
			case line == "":
				line = word
			case Width(line)+1+Width(word) <= n:
				line += " " + word
			default:
				out = append(out, line)
				line = word
			}
		}
		out = append(out, line)
	}
	return out
}

// Text is the canvas without styles, a line each, without blanks at their ends.
func (c *Canvas) Text() string {
	var b strings.Builder
	for y := range c.h {
		b.WriteString(strings.TrimRight(string(c.runes[y*c.w:(y+1)*c.w]), " "))
		b.WriteByte('\n')
	}
	return b.String()
}

// Render is the canvas as a terminal takes it: lines joined by newlines, in which only the styles' sequences stand beside text.
func (c *Canvas) Render(p *Paint) string {
	var b strings.Builder
	b.Grow(c.w*c.h + 1024)
	for y := range c.h {
		if y > 0 {
			b.WriteByte('\n')
		}
		row, styles := c.runes[y*c.w:(y+1)*c.w], c.styles[y*c.w:(y+1)*c.w]
		end := c.w
		for end > 0 && row[end-1] == ' ' && !p.shows(styles[end-1]) {
			end--
		}
		for from := 0; from < end; {
			to := from + 1
			for to < end && styles[to] == styles[from] {
				to++
			}
			p.write(&b, styles[from], row[from:to])
			from = to
		}
	}
	return b.String()
}
