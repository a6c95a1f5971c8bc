package theme

import (
	"io"
	"strings"

	"github.com/charmbracelet/lipgloss"
	"github.com/muesli/termenv"
)

// Paint is what the styles are on a terminal. Colours are the terminal's own, by their number: it is the operator's choice what red looks
// like. No colour stands alone: what it says, a word or a sign says too.
type Paint struct {
	before, after [styles]string
	blank         [styles]bool // a blank of this style can be seen
}

// NewPaint is for a terminal with 16 colours, or with none: then bold and reverse say what colours would.
func NewPaint(colour bool) *Paint {
	r := lipgloss.NewRenderer(io.Discard)
	r.SetColorProfile(termenv.ANSI) // with no profile at all bold and reverse would go too
	r.SetHasDarkBackground(true)
	base := r.NewStyle()
	all := [styles]lipgloss.Style{Plain: base, Bold: base.Bold(true), Faint: base, Title: base.Reverse(true), Selected: base.Bold(true).Reverse(true),
		Good: base, Warn: base.Bold(true), Bad: base.Bold(true), Accent: base.Bold(true)}
	if colour {
		of := func(n string) lipgloss.Style { return base.Foreground(lipgloss.Color(n)) }
		all[Faint], all[Good], all[Warn], all[Bad], all[Accent] = of("8"), of("2"), of("3"), of("1").Bold(true), of("6")
		all[Title] = of("0").Background(lipgloss.Color("6"))
		all[Selected] = of("15").Bold(true).Background(lipgloss.Color("4"))
	}
	p := &Paint{}
	for s, style := range all {
		p.before[s], p.after[s], _ = strings.Cut(style.Render("x"), "x")
		p.blank[s] = Style(s) == Title || Style(s) == Selected
	}
	return p
}

func (p *Paint) shows(s Style) bool { return p.blank[s] }

func (p *Paint) write(b *strings.Builder, s Style, text []rune) {
	b.WriteString(p.before[s])
	for _, r := range text {
		b.WriteRune(r)
	}
	b.WriteString(p.after[s])
}
