package mapfile

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Span is a run of bytes from Off to End.
type Span struct{ Off, End int64 }

// maxList bounds a list of ranges in bytes.
const maxList = 256 << 20

// ReadSpans reads what part of a disk is meant: a map file, of which the finished blocks count, or lines `from-to` and `from+length` in bytes,
// where to is the first byte not meant. The result is sorted, and what touches is joined.
func ReadSpans(r io.Reader) ([]Span, error) {
	all, err := io.ReadAll(io.LimitReader(r, maxList))
	if err != nil {
		return nil, err
	}
	if len(all) == maxList {
		return nil, fmt.Errorf("it is longer than %d MiB", maxList>>20)
	}
	spans, err := lines(all)
	if err != nil {
		m, merr := Read(bytes.NewReader(all))
		if merr != nil && strings.Contains(err.Error(), "-") && looksLikeMap(all) {
			return nil, merr
		}
		if merr != nil {
			return nil, err
		}
		spans = nil
		for _, b := range m.Blocks {
			if b.Status == Finished {
				spans = append(spans, Span{b.Pos, b.End()})
			}
		}
	}
	return Join(spans), nil
}

// looksLikeMap tells whether the first line that says something has several words.
func looksLikeMap(b []byte) bool {
	for line := range bytes.Lines(b) {
		if f := strings.Fields(uncommented(string(line))); len(f) > 0 {
			return len(f) > 1
		}
	}
	return false
}

func lines(b []byte) (spans []Span, err error) {
	sc := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; sc.Scan(); n++ {
		text := strings.TrimSpace(uncommented(sc.Text()))
		if text == "" {
			continue
		}
		i := strings.IndexAny(text, "-+")
		if i < 0 {
			return nil, fmt.Errorf("line %d: %q: want from-to or from+length", n, text)
		}
		a, err := number(strings.TrimSpace(text[:i]))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		z, err := number(strings.TrimSpace(text[i+1:]))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if text[i] == '+' {
			z += a
		}
		if z <= a {
			return nil, fmt.Errorf("line %d: %q is empty or goes backwards", n, text)
		}
		spans = append(spans, Span{a, z})
	}
	return spans, sc.Err()
}

// Join sorts spans and joins those that touch.
func Join(spans []Span) []Span {
	spans = slices.Clone(spans)
	slices.SortFunc(spans, func(a, b Span) int { return int(max(-1, min(1, a.Off-b.Off))) })
	var out []Span
	for _, s := range spans {
		if k := len(out); k > 0 && out[k-1].End >= s.Off {
			out[k-1].End = max(out[k-1].End, s.End)
		} else if s.Off < s.End {
			out = append(out, s)
		}
	}
	return out
}
