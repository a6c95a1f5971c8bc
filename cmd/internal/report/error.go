package report

import (
	"errors"
	"fmt"
	"strings"

	"aslrescue/engine/event"
)

// Error is a failure as a person needs it: what was done to what, what that means, what to do next.
type Error struct {
	What  string   // what was done to what: "open the store /mnt/asl/local"
	Err   error    // why it did not work
	Means string   // one sentence; empty takes the table's
	Next  []string // a line each, commands as they are typed; nil takes the table's
	Code  Code     // OK takes the table's
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.What
	}
	if e.What == "" {
		return e.Err.Error()
	}
	return e.What + ": " + e.Err.Error()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Usagef is an error of the command line or a config file.
func Usagef(format string, args ...any) error {
	return &Error{Err: fmt.Errorf(format, args...), Code: Usage, Next: []string{"--help shows what can be given, with examples."}}
}

// Explain fills in what err does not say itself from the table.
func Explain(err error) Error {
	out := Error{Err: err, Code: CodeOf(err)}
	var e *Error
	if errors.As(err, &e) {
		out.Means, out.Next = e.Means, e.Next
	}
	if r, ok := find(err); ok {
		if out.Means == "" {
			out.Means = r.means
		}
		if out.Next == nil {
			out.Next = r.next
		}
	}
	return out
}

// Text is err for people: the failure on the first line, then what it means, then what to do.
func Text(program string, err error) string {
	e := Explain(err)
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", program, printableLines(err.Error()))
	if e.Means != "" {
		fmt.Fprintf(&b, "  %s\n", e.Means)
	}
	for _, n := range e.Next {
		fmt.Fprintf(&b, "  -> %s\n", event.Printable(n))
	}
	return printable(b.String())
}

// printable leaves of a text line breaks and tabs, and nothing else that a terminal would act on, whatever a path in it holds.
func printable(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if plain := strings.ReplaceAll(l, "\t", " "); event.Printable(plain) != plain {
			lines[i] = event.Printable(l)
		}
	}
	return strings.Join(lines, "\n")
}

// printableLines keeps the line breaks of joined errors and indents what follows the first.
func printableLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = event.Printable(l)
	}
	return strings.Join(lines, "\n  ")
}

// jsonError is an error in a result line.
type jsonError struct {
	Error string   `json:"error"`
	Means string   `json:"means,omitempty"`
	Next  []string `json:"next,omitempty"`
}
