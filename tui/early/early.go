// Package early keeps bubbletea from asking the terminal a question when it is merely imported: its initialisation wants to know the
// colour of the background, writes the question to the terminal, also in batch where standard output is JSON, and waits 5 s for a terminal
// that does not answer. Here the answer is given before it asks. Packages that are ready are initialised in the order of their import
// paths, and this one sorts before bubbletea's; the test holds it.
package early

import "github.com/charmbracelet/lipgloss"

// Answered is set before bubbletea is initialised. Whoever imports bubbletea imports this package too.
var Answered = answer()

func answer() bool {
	lipgloss.SetHasDarkBackground(true)
	return true
}
