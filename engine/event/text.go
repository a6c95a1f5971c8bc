package event

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// The functions here are the only place where a number of an intake becomes text.

// Bytes is n with a decimal unit and three figures at most: "999 B", "4.3 GB", "120 GB". It cuts, it does not round up: a
// size never looks reached before it is.
func Bytes(n int64) string {
	if n < 0 {
		return "unknown"
	}
	if n < 1000 {
		return strconv.FormatInt(n, 10) + " B"
	}
	unit, scale := "kB", int64(1000)
	for _, u := range []string{"MB", "GB", "TB", "PB", "EB"} {
		if n/scale < 1000 {
			break
		}
		unit, scale = u, scale*1000
	}
	whole, tenth := n/scale, n%scale/(scale/10)
	if whole >= 100 {
		return fmt.Sprintf("%d %s", whole, unit)
	}
	return fmt.Sprintf("%d.%d %s", whole, tenth, unit)
}

// Rate is bytes per second.
func Rate(bytesPerSecond float64) string {
	if math.IsNaN(bytesPerSecond) || bytesPerSecond < 0 {
		return "unknown"
	}
	if bytesPerSecond > math.MaxInt64/2 {
		bytesPerSecond = math.MaxInt64 / 2
	}
	return Bytes(int64(bytesPerSecond)) + "/s"
}

// Duration is d as a person says it: "0.4 s", "42 s", "3 min 20 s", "2 h 5 min", "3 d 4 h".
func Duration(d time.Duration) string {
	switch {
	case d < 0:
		return "unknown"
	case d < 10*time.Second && d%time.Second >= 100*time.Millisecond:
		return fmt.Sprintf("%d.%d s", d/time.Second, d%time.Second/(100*time.Millisecond))
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return pair(int64(d/time.Minute), "min", int64(d%time.Minute/time.Second), "s")
	case d < 24*time.Hour:
		return pair(int64(d/time.Hour), "h", int64(d%time.Hour/time.Minute), "min")
	}
	return pair(int64(d/(24*time.Hour)), "d", int64(d%(24*time.Hour)/time.Hour), "h")
}

func pair(a int64, au string, b int64, bu string) string {
	if b == 0 {
		return fmt.Sprintf("%d %s", a, au)
	}
	return fmt.Sprintf("%d %s %d %s", a, au, b, bu)
}

// Count is n with its thousands apart: "1 234 567".
func Count(n int64) string {
	s := strconv.FormatInt(n, 10)
	var b strings.Builder
	if s[0] == '-' {
		b.WriteByte('-')
		s = s[1:]
	}
	for i, r := range s {
		if i > 0 && (len(s)-i)%3 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// CountOf is n of a thing: "1 file", "3 files".
func CountOf(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return Count(n) + " " + many
}

// Percent is done of total, cut to whole percent, never over 100 and 100 only when all is done; "?" where total is not
// known.
func Percent(done, total int64) string {
	if total < 0 {
		return "?"
	}
	return strconv.Itoa(percent(done, total)) + "%"
}

func percent(done, total int64) int {
	switch {
	case done >= total:
		return 100
	case done <= 0:
		return 0
	}
	return min(int(float64(done)/float64(total)*100), 99)
}

// String is what remains as a person reads it: "working it out", "45 min to 1 h 30 min".
func (e ETA) String() string {
	if !e.Known {
		return "working it out"
	}
	if e.High < 10*time.Second {
		return "a few seconds"
	}
	lo, hi := Duration(coarse(e.Low)), Duration(coarse(e.High))
	if lo == hi {
		return "about " + lo
	}
	return lo + " to " + hi
}

// coarse leaves two figures at most, so that the text does not flicker with every sample.
func coarse(d time.Duration) time.Duration {
	switch {
	case d < time.Minute:
		return max(d.Round(5*time.Second), 5*time.Second)
	case d < 10*time.Minute:
		return d.Round(30 * time.Second)
	case d < time.Hour:
		return d.Round(time.Minute)
	case d < 10*time.Hour:
		return d.Round(10 * time.Minute)
	}
	return d.Round(time.Hour)
}

// Line is e as one sentence for people, without a newline; empty for snapshots of numbers, which a screen shows through
// Progress.
func Line(e Event) string {
	switch e := e.(type) {
	case IntakeBegun:
		verb := "intake"
		if e.Resumed {
			verb = "intake goes on:"
		}
		size := ""
		if e.Total >= 0 {
			size = ", " + Bytes(e.Total)
		}
		return fmt.Sprintf("%s %s of %s%s into %s", verb, e.Intake, CountOf(int64(e.Sources), "source", "sources"), size, Printable(e.Store))
	case PhaseEntered:
		return string(e.Phase)
	case SourceOpened:
		s := fmt.Sprintf("%s: %s %s", Printable(e.Source), e.Kind, Printable(e.Path))
		for _, part := range []string{e.Model, e.Serial} {
			if part != "" {
				s += ", " + Printable(part)
			}
		}
		if e.Size >= 0 {
			s += ", " + Bytes(e.Size)
		}
		if n := e.Resumed.Settled(); n > 0 {
			s += ", goes on after " + Bytes(n)
		}
		return s
	case PassEntered:
		s := fmt.Sprintf("%s: %s", Printable(e.Source), e.Phase)
		if e.Phase == "copying" || e.Phase == "retrying" {
			s += fmt.Sprintf(", pass %d", e.Pass)
		}
		if e.Backwards {
			s += ", backwards"
		}
		return s
	case SourceDone:
		s := fmt.Sprintf("%s: read, %s data, %s zeros, %s new", Printable(e.Source), Bytes(e.Data), Bytes(e.Zero), Bytes(e.New))
		if e.Files > 0 {
			s += ", " + CountOf(e.Files, "entry", "entries")
		}
		if n := e.Unreadable + e.Untried - e.LeftOut; n > 0 {
			s += ", " + Bytes(n) + " missing"
		}
		if e.LeftOut > 0 {
			s += ", " + Bytes(e.LeftOut) + " left out by choice"
		}
		if e.FileErrors > 0 {
			s += ", " + CountOf(e.FileErrors, "file", "files") + " not read whole"
		}
		if e.Changed != "" {
			s += ", changed meanwhile: " + Printable(e.Changed)
		}
		return s
	case Gap:
		return gapLine(e)
	case Message:
		s := Printable(e.Text)
		if e.Source != "" {
			s = Printable(e.Source) + ": " + s
		}
		if e.Level == Info {
			return s
		}
		return string(e.Level) + ": " + s
	case SnapshotSealed:
		return fmt.Sprintf("snapshot %d of %s is sealed", e.Number, Printable(e.Domain))
	case IntakeDone:
		s := string(e.Result)
		if e.Snapshot > 0 {
			s += fmt.Sprintf(": snapshot %d", e.Snapshot)
		}
		if e.Why != "" {
			s += ": " + Printable(e.Why)
		}
		return s
	}
	return ""
}

func gapLine(g Gap) string {
	s := Printable(g.Source) + ": "
	if g.Path != "" {
		s += Printable(g.Path) + ": "
	}
	switch {
	case g.Kind == Changed:
		s += "changed while it was read"
	case g.Len > 0:
		s += fmt.Sprintf("%s %s at %d", Bytes(g.Len), g.Kind, g.Off)
	default:
		s += string(g.Kind)
	}
	if g.Places > 1 {
		s += fmt.Sprintf(" and after, in %s", CountOf(int64(g.Places), "place", "places"))
	}
	if g.Why != "" {
		s += ": " + Printable(g.Why)
	}
	return s
}

// Printable quotes what is not printable, so that a file's name or a disk's model can neither move the cursor or forge a line.
func Printable(s string) string {
	for _, r := range s {
		if !strconv.IsPrint(r) || r == '\uFFFD' {
			q := strconv.Quote(s)
			return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
		}
	}
	return s
}
