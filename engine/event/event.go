// Package event is what an intake tells the outside while it runs: a closed set of values, given to one func(Event).
// The wizard draws them, batch prints them as lines or JSON, a second console reads them from a socket; all of them fold
// the same events with the same Progress and write numbers with the same functions.
//
// Whoever emits stamps the event with the time since the intake began; nothing here reads a clock, starts a goroutine
// or writes anywhere. Adding an event breaks no receiver: what a receiver does not know, it leaves out.
package event

import (
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// Event is one of the types below. The set is closed: only this package can add to it.
type Event interface {
	// When is the time since the intake began in this process.
	When() time.Duration
	kind() string
}

// Stamp stands in every event.
type Stamp struct {
	At Seconds `json:"at_s"`
}

// At makes a Stamp of the time since the intake began in this process. It comes from a monotonic clock: a rescue
// machine's wall clock is often wrong, and jumps when it is set.
func At(sinceBegin time.Duration) Stamp { return Stamp{Seconds(sinceBegin)} }

// When is the time since the intake began in this process.
func (s Stamp) When() time.Duration { return time.Duration(s.At) }

// Seconds is a duration that JSON has in seconds with three decimals.
type Seconds time.Duration

// MarshalJSON gives seconds with three decimals.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "%.3f", time.Duration(s).Seconds()), nil
}

// UnmarshalJSON reads seconds.
func (s *Seconds) UnmarshalJSON(b []byte) error {
	var f float64
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	*s = Seconds(math.Round(f*1000) * float64(time.Millisecond))
	return nil
}

// Result is the one word at the end of an intake.
type Result string

// The four words.
const (
	Complete         Result = "COMPLETE"           // everything was read and is sealed
	CompleteWithGaps Result = "COMPLETE WITH GAPS" // sealed, and it says what could not be read
	Failed           Result = "FAILED"             // no snapshot
	Stopped          Result = "STOPPED"            // by the operator or a signal; the same command goes on
)

// Stage is what an intake is doing.
type Stage string

// The stages in their order. Verifying is left out where verification was not wanted.
const (
	Planning  Stage = "planning"
	Reading   Stage = "reading"
	Sealing   Stage = "sealing"
	Verifying Stage = "verifying"
	Done      Stage = "done"
)

// Level says how much a message matters.
type Level string

// The levels.
const (
	Info    Level = "info"
	Warning Level = "warning" // something is worse than hoped; the work goes on
	Error   Level = "error"   // something asked for will not be done
)

// GapKind says why bytes are missing.
type GapKind string

// The kinds of gap.
const (
	Unreadable GapKind = "unreadable" // tried, and the medium or the file system gave an error
	Untried    GapKind = "untried"    // not tried, or not yet
	Changed    GapKind = "changed"    // changed while it was read: what was read is stored, but is not of one moment
)

// Counts is how far a source, or all of them, has come. Everything is bytes of the source unless its name says
// otherwise. Data + Zero + Unreadable + Untried is the size of a linear source at its end.
type Counts struct {
	Data       int64 `json:"data"`
	Zero       int64 `json:"zero"`
	Unreadable int64 `json:"unreadable"`
	Untried    int64 `json:"untried"`     // passed over; later passes may turn it into something better
	New        int64 `json:"new"`         // of Data: not in the store before
	Known      int64 `json:"known"`       // of Data: was in the store, or came earlier in this intake
	Files      int64 `json:"files"`       // files and folders walked
	FileErrors int64 `json:"file_errors"` // files that could not be read whole
}

// Settled is the bytes about which nothing better will be learnt in this pass: data, zeros and the unreadable.
func (c Counts) Settled() int64 { return c.Data + c.Zero + c.Unreadable }

func (c Counts) plus(d Counts) Counts {
	return Counts{
		Data: c.Data + d.Data, Zero: c.Zero + d.Zero, Unreadable: c.Unreadable + d.Unreadable, Untried: c.Untried + d.Untried,
		New: c.New + d.New, Known: c.Known + d.Known, Files: c.Files + d.Files, FileErrors: c.FileErrors + d.FileErrors,
	}
}

// IntakeBegun is the first event: what was planned is now done.
type IntakeBegun struct {
	Stamp
	Intake  string `json:"intake"`
	Label   string `json:"label,omitempty"`
	Store   string `json:"store"` // where, for people; no secrets
	Sources int    `json:"sources"`
	Total   int64  `json:"total"` // bytes of all sources; -1 where that is not known before the end
	Resumed bool   `json:"resumed"`
}

// PhaseEntered says what the intake does from now on.
type PhaseEntered struct {
	Stamp
	Phase Stage `json:"phase"`
}

// SourceOpened says that reading of a source begins.
type SourceOpened struct {
	Stamp
	Source  string `json:"source"` // its name, unique within the intake
	Kind    string `json:"kind"`   // tree, image, device, stream
	Path    string `json:"path"`
	Model   string `json:"model,omitempty"`
	Serial  string `json:"serial,omitempty"`
	Size    int64  `json:"size"`    // bytes; -1 where not known before the end
	Resumed Counts `json:"resumed"` // what an earlier run already settled; SourceProgress counts on from here
}

// PassEntered says that a device or image is read by another pass from here on.
type PassEntered struct {
	Stamp
	Source    string `json:"source"`
	Phase     string `json:"phase"` // copying, trimming, scraping, retrying, settling
	Pass      int    `json:"pass"`  // within the phase, from 1
	Backwards bool   `json:"backwards,omitempty"`
}

// SourceProgress is a snapshot of the counts of one source: the last one says all that the ones before said.
type SourceProgress struct {
	Stamp
	Source string `json:"source"`
	Size   int64  `json:"size,omitempty"` // if it is known better now than in SourceOpened, otherwise 0
	Off    int64  `json:"off"`            // where in a linear source reading is
	Path   string `json:"path,omitempty"` // where in a tree reading is
	Counts
}

// SourceDone closes a source.
type SourceDone struct {
	Stamp
	Source string `json:"source"`
	Root   string `json:"root"` // reference of its root
	Counts
	Changed string `json:"changed,omitempty"`  // how it changed while it was read
	LeftOut int64  `json:"left_out,omitempty"` // of Untried: bytes that the plan says are not to be read
}

// Gap is a range, or a file, that is missing from the snapshot as things stand. Where a reader of events cannot keep
// up, neighbouring gaps of one kind are told as one with their number in Places.
type Gap struct {
	Stamp
	Source string  `json:"source"`
	Kind   GapKind `json:"kind"`
	Path   string  `json:"path,omitempty"` // in a tree
	Off    int64   `json:"off"`
	Len    int64   `json:"len"`              // bytes; 0 where a whole file or folder could not be opened
	Places int     `json:"places,omitempty"` // how many gaps this stands for; 0 and 1 are one
	Why    string  `json:"why,omitempty"`
}

// Message is a sentence for people.
type Message struct {
	Stamp
	Level  Level  `json:"level"`
	Source string `json:"source,omitempty"` // where it is about one
	Text   string `json:"text"`
}

// BlockSealed says that a block is durable in the store. Blocks and Stored are totals of this run.
type BlockSealed struct {
	Stamp
	Block  string `json:"block"`
	Size   int64  `json:"size"`
	Blocks int64  `json:"blocks"`
	Stored int64  `json:"stored"` // bytes written to the store: blocks and segments
}

// SegmentSealed says that a segment is durable in the store. Segments and Stored are totals of this run.
type SegmentSealed struct {
	Stamp
	Segment  string `json:"segment"`
	Size     int64  `json:"size"`
	Segments int64  `json:"segments"`
	Stored   int64  `json:"stored"`
}

// ResumePoint says that everything up to here is acknowledged: it survives a power cut, and a later run goes on from it.
type ResumePoint struct {
	Stamp
	LogSeq  uint64 `json:"log_seq"`
	Settled int64  `json:"settled"` // bytes of all sources
}

// VerifyProgress is a snapshot of how much of the new snapshot was read back.
type VerifyProgress struct {
	Stamp
	Done  int64 `json:"done"`
	Total int64 `json:"total"`
	Bad   int64 `json:"bad"` // bytes that are not what was stored
}

// SnapshotSealed says that the snapshot exists: from now on it can be listed, restored and verified.
type SnapshotSealed struct {
	Stamp
	Domain   string `json:"domain"`
	Number   uint64 `json:"number"`
	Manifest string `json:"manifest"` // reference
}

// IntakeDone is the last event.
type IntakeDone struct {
	Stamp
	Result   Result `json:"result"`
	Snapshot uint64 `json:"snapshot,omitempty"` // 0 where there is none
	Why      string `json:"why,omitempty"`      // for people, where it is not COMPLETE
}

// Tick says only that time went on, so that a rate can fall to nothing while a disk hangs. Receivers make it, not the
// engine.
type Tick struct {
	Stamp
}

func (IntakeBegun) kind() string    { return "intake_begun" }
func (PhaseEntered) kind() string   { return "phase" }
func (SourceOpened) kind() string   { return "source_opened" }
func (PassEntered) kind() string    { return "pass" }
func (SourceProgress) kind() string { return "source_progress" }
func (SourceDone) kind() string     { return "source_done" }
func (Gap) kind() string            { return "gap" }
func (Message) kind() string        { return "message" }
func (BlockSealed) kind() string    { return "block_sealed" }
func (SegmentSealed) kind() string  { return "segment_sealed" }
func (ResumePoint) kind() string    { return "resume_point" }
func (VerifyProgress) kind() string { return "verify_progress" }
func (SnapshotSealed) kind() string { return "snapshot_sealed" }
func (IntakeDone) kind() string     { return "intake_done" }
func (Tick) kind() string           { return "tick" }

// IsCount tells whether e is a snapshot of numbers that a later one of its kind replaces. Everything else is a turning
// point.
func IsCount(e Event) bool {
	switch e.(type) {
	case SourceProgress, BlockSealed, SegmentSealed, ResumePoint, VerifyProgress, Tick:
		return true
	}
	return false
}
