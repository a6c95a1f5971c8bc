// Package theme is how things look: which characters a console has, which colours, and a canvas of cells on which screens are drawn.
package theme

// Glyphs are the characters that a screen draws with. Each is in the font of the console it was chosen for.
type Glyphs struct {
	Has func(rune) bool // what else may be shown

	H, V                                     rune // a line across, and down
	Left, Right, Up, Down                    rune // where a line meets the frame, and arrows
	Pick                                     rune // before the row that is selected
	Good, Bad                                rune
	Full, Dark, Half, Light, UpHalf, LowHalf rune // blocks
	Dot, Between                             rune
	More                                     string // something was cut off here
	NewCell, KnownCell, ZeroCell, WaitCell   rune
	Sparks                                   []rune // levels of a small chart, the lowest first
	Blocks                                   bool   // there are half blocks: a QR code can be drawn
}

// printable are the characters that every terminal has.
func printable(r rune) bool { return r >= ' ' && r <= '~' }

// pick gives the first that there is.
func pick(has func(rune) bool, wish ...rune) rune {
	for _, r := range wish {
		if has(r) {
			return r
		}
	}
	return wish[len(wish)-1]
}

// For chooses from what a font has. The last of each wish is ASCII.
func For(has func(rune) bool) Glyphs {
	all := func(r rune) bool { return printable(r) || has(r) }
	g := Glyphs{Has: all,
		H: pick(all, '─', '-'), V: pick(all, '│', '|'),
		Up: pick(all, '▲', '↑', '^'), Down: pick(all, '▼', '↓', 'v'), Left: pick(all, '◄', '◀', '←', '<'), Right: pick(all, '►', '▶', '→', '>'),
		Pick: pick(all, '►', '▶', '>'), Good: pick(all, '√', '✔', '✓', '+'), Bad: pick(all, '✗', 'x'),
		Full: pick(all, '█', '#'), Dark: pick(all, '▓', '▒', '='), Half: pick(all, '▒', '-'), Light: pick(all, '░', '.'), UpHalf: pick(all, '▀', '\''), LowHalf: pick(all, '▄', '_'),
		Dot: pick(all, '·', '.'), Between: pick(all, '│', '|'), More: "..."}
	g.NewCell, g.KnownCell, g.ZeroCell, g.WaitCell = g.Full, g.Dark, g.Half, g.Light
	if g.KnownCell == g.ZeroCell || g.Full == '#' {
		g.NewCell, g.KnownCell, g.ZeroCell, g.WaitCell = g.Full, pick(all, '▒', '='), '-', g.Light
	}
	g.Sparks = []rune{' ', '_', g.LowHalf, g.Full}
	if g.LowHalf == '_' {
		g.Sparks = []rune{' ', '_', g.Half, g.Full}
	}
	g.Blocks = all('█') && all('▀') && all('▄')
	return g
}

// ASCII is what every terminal has.
func ASCII() Glyphs { return For(func(rune) bool { return false }) }

// Of is what a font of these characters has.
func Of(font []rune) Glyphs {
	set := make(map[rune]bool, len(font))
	for _, r := range font {
		set[r] = true
	}
	return For(func(r rune) bool { return set[r] })
}

// Builtin is the kernel's own font, code page 437: what a console shows where no other was loaded.
func Builtin() Glyphs { return Of([]rune(cp437)) }

const cp437 = "─│┌┐└┘├┤┬┴┼═║╔╗╚╝╠╣╦╩╬╒╓╕╖╘╙╛╜╞╟╡╢╤╥╧╨╪╫█▓▒░▀▄▌▐○•·∙■◆×√←↑→↓↔↕▲▼◀▶►◄»«äöüßÄÖÜéèêñçåøæð±÷≈≤≥∞°µ²½¼£¥¢§¶©®áíóúàìòùâîôûëïÿÑÇÅÉÆ¿¡ªº"

// Wide is a terminal emulator that has about everything. What takes two cells, or none, is left out all the same.
func Wide() Glyphs {
	return For(func(r rune) bool {
		switch {
		case r >= 0xa1 && r <= 0x17f && r != 0xad, r >= 0x391 && r <= 0x3c9, r >= 0x410 && r <= 0x44f:
			return true // letters
		case r >= 0x2500 && r <= 0x259f, r >= 0x2190 && r <= 0x2195:
			return true
		}
		return r == '√' || r == '►' || r == '◄' || r == '▲' || r == '▼' || r == '■' || r == '•' || r == '≈' || r == '≤' || r == '≥'
	})
}
