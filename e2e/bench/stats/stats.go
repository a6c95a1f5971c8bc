// Package stats has the arithmetic and the text tables of the benchmark.
package stats

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Spread is what is printed of several runs.
type Spread struct{ Median, Min, Max float64 }

// Of summarises runs; none give zeros.
func Of(runs []float64) Spread {
	if len(runs) == 0 {
		return Spread{}
	}
	s := slices.Sorted(slices.Values(runs))
	return Spread{Median: median(s), Min: s[0], Max: s[len(s)-1]}
}

func median(sorted []float64) float64 {
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// Ratio is the median of theirs/ours over the rounds that have both: the two of a round met the same noise, which a ratio of
// two medians would not cancel. It is 0 without a pair.
func Ratio(theirs, ours map[int]float64) float64 {
	var pairs []float64
	for round, t := range theirs {
		if o := ours[round]; o > 0 {
			pairs = append(pairs, t/o)
		}
	}
	return Of(pairs).Median
}

// Table lays rows out in columns; a column of numbers is aligned to the right by a header that begins with ">".
func Table(header []string, rows [][]string) string {
	widths := make([]int, len(header))
	for _, r := range append([][]string{header}, rows...) {
		for i, cell := range r {
			widths[i] = max(widths[i], utf8.RuneCountInString(strings.TrimPrefix(cell, ">")))
		}
	}
	var b strings.Builder
	for _, r := range append([][]string{header}, rows...) {
		var line []string
		for i, cell := range r {
			line = append(line, pad(strings.TrimPrefix(cell, ">"), widths[i], strings.HasPrefix(header[i], ">")))
		}
		b.WriteString(strings.TrimRight(strings.Join(line, "  "), " ") + "\n")
	}
	return b.String()
}

func pad(s string, width int, right bool) string {
	fill := strings.Repeat(" ", width-utf8.RuneCountInString(s))
	if right {
		return fill + s
	}
	return s + fill
}

// Text prints a spread: one run as it is, more with their range.
func (s Spread) Text() string {
	if s.Min == s.Max {
		return Num(s.Median)
	}
	return fmt.Sprintf("%s (%s-%s)", Num(s.Median), Num(s.Min), Num(s.Max))
}

// Num prints about three digits, enough for a machine that is never quiet.
func Num(x float64) string {
	switch {
	case x >= 99.95:
		return fmt.Sprintf("%.0f", x)
	case x >= 9.995:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.2f", x)
}
