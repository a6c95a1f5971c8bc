package detect

import (
	"fmt"
	"strconv"
	"strings"
)

// size is n bytes as a label on a disk has them: decimal, three figures at most, cut and not rounded up.
func size(n int64) string {
	if n < 0 {
		return "unknown"
	}
	units := []string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}
	scale, u := int64(1), 0
	for n/scale >= 1000 && u < len(units)-1 {
		scale, u = scale*1000, u+1
	}
	if u == 0 || n/scale >= 100 {
		return fmt.Sprintf("%d %s", n/scale, units[u])
	}
	return fmt.Sprintf("%d.%d %s", n/scale, n%scale/(scale/10), units[u])
}

// span is a number of seconds as a person says it, in one unit.
func span(s int64) string {
	s = max(s, -s)
	switch {
	case s < 120:
		return plural(s, "second", "seconds")
	case s < 2*3600:
		return plural(s/60, "minute", "minutes")
	case s < 2*86400:
		return plural(s/3600, "hour", "hours")
	case s < 60*86400:
		return plural(s/86400, "day", "days")
	case s < 730*86400:
		return plural(s/(30*86400), "month", "months")
	}
	return plural(s/(365*86400), "year", "years")
}

// ago says how long before now a moment was, and does not hide one that lies ahead: then a clock is wrong.
func ago(then, now int64) string {
	switch {
	case then == 0:
		return "at an unknown time"
	case then > now+120:
		return span(then-now) + " ahead of this clock"
	case then > now-60:
		return "just now"
	}
	return span(now-then) + " ago"
}

func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.FormatInt(n, 10) + " " + many
}

func count[T any](list []T, one, many string) string { return plural(int64(len(list)), one, many) }

// join lists words as a sentence does.
func join(words []string) string {
	switch len(words) {
	case 0:
		return ""
	case 1:
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

// Printable quotes what is not printable: names on a hurt disk can hold anything, and must not move a cursor.
func Printable(s string) string {
	for _, r := range s {
		if !strconv.IsPrint(r) || r == '\uFFFD' {
			q := strconv.Quote(s)
			return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
		}
	}
	return s
}

// title is a disk as a person finds it: by what is printed on it, its name of today behind.
func (d *Disk) title() string {
	var parts []string
	for _, s := range []string{d.Model, last(d.Serial, 8), size(d.Size)} {
		if s != "" {
			parts = append(parts, Printable(s))
		}
	}
	return d.Name + " (" + strings.Join(parts, ", ") + ")"
}

// label is the shortest that tells a disk from its like: the end of its serial, which is printed on it.
func (d *Disk) label() string {
	for _, s := range []string{last(d.Serial, 8), d.Model} {
		if s != "" {
			return Printable(s)
		}
	}
	return "no serial"
}

func last(s string, n int) string {
	if len(s) > n {
		return "..." + s[len(s)-n:]
	}
	return s
}

// quote gives a word as a shell wants it.
func quote(s string) string {
	if s != "" && strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:@%+=,", r))
	}) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
