// Package wire is how a face and the engine talk: lines of JSON over a Unix socket that only root and the engine's own user
// reach. docs/engine.md is what it promises. It knows how to ask and to answer, and nothing of what is asked.
//
// Goroutines: a Server has two for each face, which read and write, and one for each ask; a Client has one, which reads. Closing either
// ends its own. What happens is handed over without waiting for any face: what waits for one is bounded.
package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"aslrescue/cmd/internal/report"
	"aslrescue/engine/approval"
	"aslrescue/engine/artifact"
	"aslrescue/engine/source"
	"aslrescue/tui/ask"
)

// Oldest and Newest are the versions of the protocol that this program speaks.
const (
	Oldest = 1
	Newest = 1
)

// The longest lines.
const (
	MaxAsk  = 256 << 10 // of a face
	MaxTell = 4 << 20   // of the engine
)

// Type says what a line is.
type Type string

// The types. A reader leaves out what it does not know.
const (
	Hello  Type = "hello"
	Asked  Type = "ask"
	Answer Type = "answer"
	Tell   Type = "tell"
	Bye    Type = "bye"
)

// Frame is one line. Which fields stand in it, its type says.
type Frame struct {
	Type Type `json:"type"`

	Protocol []int  `json:"protocol,omitempty"` // hello: oldest, newest
	Tool     string `json:"tool,omitempty"`
	PID      int    `json:"pid,omitempty"`
	Face     int    `json:"face,omitempty"` // hello of the engine: which face this is
	Name     string `json:"name,omitempty"` // hello of a face: for people

	ID    uint64          `json:"id,omitempty"` // ask, answer
	Op    string          `json:"op,omitempty"` // ask
	Body  json.RawMessage `json:"body,omitempty"`
	Error *Failure        `json:"error,omitempty"` // answer

	Topic string `json:"topic,omitempty"` // tell
	Why   string `json:"why,omitempty"`   // bye
}

// Failure is an error as it is told: what stands in a result line too.
type Failure struct {
	Error string      `json:"error"`
	Kind  string      `json:"kind,omitempty"` // where a face tells it apart from others
	Means string      `json:"means,omitempty"`
	Next  []string    `json:"next,omitempty"`
	Exit  report.Code `json:"exit"`
}

// ErrTooLong is a line that is longer than its reader takes.
var ErrTooLong = errors.New("the line is too long")

// Encode gives f as a line with its newline.
func Encode(f Frame, max int) ([]byte, error) {
	b, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("line %s: %w", f.Type, err)
	}
	if len(b)+1 > max {
		return nil, fmt.Errorf("line %s of %d bytes: %w", f.Type, len(b)+1, ErrTooLong)
	}
	return append(b, '\n'), nil
}

// Decode reads a line without its newline. A type that is not known is no error.
func Decode(line []byte) (Frame, error) {
	var f Frame
	line = bytes.TrimSpace(line)
	if len(line) == 0 || line[0] != '{' {
		return f, errors.New("the line is no JSON object")
	}
	if err := json.Unmarshal(line, &f); err != nil {
		return f, fmt.Errorf("the line is not of this protocol: %w", err)
	}
	if f.Type == "" {
		return f, errors.New("the line has no type")
	}
	if f.Type == Hello && (len(f.Protocol) != 2 || f.Protocol[0] > f.Protocol[1]) {
		return f, errors.New("hello says no versions")
	}
	if f.Type == Asked && (f.ID == 0 || f.Op == "") {
		return f, errors.New("an ask has no number, or says nothing")
	}
	return f, nil
}

// common is the newest version that both sides speak.
func common(theirs []int) (int, error) {
	v := min(theirs[1], Newest)
	if v < max(theirs[0], Oldest) {
		return 0, fmt.Errorf("the other side speaks versions %d to %d of the protocol, this one %d to %d", theirs[0], theirs[1], Oldest, Newest)
	}
	return v, nil
}

// kinds are the errors that a face tells apart, with the names they have on the wire.
func kinds() []struct {
	name string
	is   error
} {
	return []struct {
		name string
		is   error
	}{
		{"changed", ask.ErrChanged},
		{"answered", ask.ErrAnswered},
		{"refused", ask.ErrRefused},
		{"slow", ask.ErrSlow},
		{"missing", approval.ErrMissing},
		{"void", approval.ErrVoid},
		{"locked", report.ErrLocked},
		{"stopped", report.ErrStopped},
		{"internal", report.ErrInternal},
		{"full", artifact.ErrFull},
		{"damaged", artifact.ErrDamaged},
		{"not found", artifact.ErrNotFound},
		{"gone", source.ErrGone},
	}
}

// failureOf is err as the other side needs it.
func failureOf(err error) *Failure {
	e := report.Explain(err)
	f := &Failure{Error: err.Error(), Means: e.Means, Next: e.Next, Exit: e.Code}
	for _, k := range kinds() {
		if errors.Is(err, k.is) {
			f.Kind = k.name
			break
		}
	}
	return f
}

// err is the failure as an error here.
func (f *Failure) err() error {
	var is error
	for _, k := range kinds() {
		if k.name == f.Kind {
			is = k.is
		}
	}
	return &report.Error{Err: &told{f.Error, is}, Means: f.Means, Next: f.Next, Code: f.Exit}
}

// told is an error of the other process: its text, and what kind of error it was.
type told struct {
	text string
	is   error
}

func (t *told) Error() string { return t.text }
func (t *told) Unwrap() error { return t.is }
