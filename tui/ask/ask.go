// Package ask is what a face asks of an engine, and what it gets: plain values that pass through a socket as JSON as well
// as through memory. The wizard is written against it, so that it cannot tell a rehearsal from a rescue, and neither the
// engine in another process from one beside it.
//
// Nothing here decides. What a person answers goes to the engine as the hash of the plan that was on the screen and the
// word that was typed; the engine probes again, compares, and it alone makes an approval of it.
package ask

import (
	"context"
	"errors"
	"time"

	"aslrescue/detect"
	"aslrescue/engine/event"
)

// Engine is all of it. Each screen takes the part it needs.
//
// Every method may be called from several goroutines. State never waits; the others may, and end with their context.
type Engine interface {
	Watcher
	Looker
	Approver
	Chooser
	Worker
	Keeper
	Close() error // leaves; the engine and its work go on
}

// Errors that a face tells apart.
var (
	// ErrChanged means that what was approved is no longer what is there: the plan must be shown again.
	ErrChanged = errors.New("what you approved is not what is there any more")
	// ErrAnswered means that another console was first.
	ErrAnswered = errors.New("another console has answered already")
	// ErrRefused means that the engine does not do it, whoever asks.
	ErrRefused = errors.New("refused")
	// ErrSlow means that a medium did not answer in time. It may later.
	ErrSlow = errors.New("the disk does not answer in time")
)

// Watcher tells what is so now.
type Watcher interface {
	// State is a copy that nobody changes any more. It never waits: a face asks several times a second.
	State() State
}

// State is everything that changes by itself.
type State struct {
	Look    Look   `json:"look"`
	Job     Job    `json:"job"`
	Lines   []Line `json:"lines"`             // the newest last; a few hundred at most
	Faces   []Face `json:"faces,omitempty"`   // consoles that look on, this one among them
	Lost    string `json:"lost,omitempty"`    // why nothing newer is known: the engine does not answer
	Machine string `json:"machine,omitempty"` // in a rehearsal the captured machine; empty on a real one
}

// Look is what was found on the machine, and what follows from it.
type Look struct {
	Facts    detect.Facts    `json:"facts"`
	Decision detect.Decision `json:"decision"`
	Looking  bool            `json:"looking"` // some probe has not answered yet
	Version  uint64          `json:"version"` // grows with each change
}

// Line is something that was said: a turning point of the work, a message of the kernel about one of our disks, an answer.
type Line struct {
	Seq   uint64      `json:"seq"`
	At    time.Time   `json:"at"`
	Level event.Level `json:"level"`
	From  string      `json:"from,omitempty"` // "kernel", the name of a source, or empty
	Text  string      `json:"text"`
}

// Face is a console that is attached.
type Face struct {
	Where string `json:"where"` // tty1, ssh from 10.0.0.7
	Self  bool   `json:"self,omitempty"`
}

// Looker looks again.
type Looker interface {
	LookAgain(ctx context.Context) error
}

// Phase is how far a job is.
type Phase string

// The phases.
const (
	Idle     Phase = ""         // nothing was begun
	Running  Phase = "running"  // it reads, seals or verifies
	Pausing  Phase = "pausing"  // what was read is being sealed
	Paused   Phase = "paused"   // nothing is read; all is acknowledged
	Stopping Phase = "stopping" // as pausing, and then it ends
	Ended    Phase = "ended"    // there is a report
)

// Job is the intake, as it stands.
type Job struct {
	Phase    Phase          `json:"phase"`
	Plan     Plan           `json:"plan"`
	Progress event.Progress `json:"progress"`
	Maps     []Map          `json:"maps,omitempty"` // of linear sources, in the plan's order
	Slowest  Slowest        `json:"slowest"`
	LastGood time.Duration  `json:"last_good"` // since the last byte came from a source
	Skipped  []string       `json:"skipped,omitempty"`
	Room     Room           `json:"room"`
	Report   *Report        `json:"report,omitempty"`
}

// Part is what a job can wait for.
type Part string

// The parts.
const (
	Unsure      Part = ""
	Source      Part = "source"
	Destination Part = "destination"
	CPU         Part = "CPU"
	Memory      Part = "memory"
)

// Slowest is what the job waits for most.
type Slowest struct {
	Part Part   `json:"part"`
	Name string `json:"name,omitempty"` // of the source
	Why  string `json:"why,omitempty"`  // for people: "busy 97% of the time"
}

// Room is what is left where the store lies.
type Room struct {
	Known  bool          `json:"known"`
	Free   int64         `json:"free"`
	FullIn time.Duration `json:"full_in"` // at this rate; 0 where it will hold
}

// Offer is a change to a pool or a mount that can be approved: what, to which disks, by which command, how to undo it.
type Offer struct {
	Hash        string      `json:"hash"` // of the plan; an answer names it
	Subject     string      `json:"subject"`
	Way         string      `json:"way"` // "read-only", "writable", "do not import"
	Gate        int         `json:"gate"`
	Word        string      `json:"word,omitempty"` // what must be typed; empty at gate 1
	What        string      `json:"what"`           // a sentence each
	Changes     string      `json:"changes"`
	Undo        string      `json:"undo"`
	Otherwise   string      `json:"otherwise"` // what a no means
	Command     []string    `json:"command"`
	Disks       []OfferDisk `json:"disks"`
	Notes       []string    `json:"notes,omitempty"` // who used it last, what a dry run found
	Recommended bool        `json:"recommended,omitempty"`
	Refused     string      `json:"refused,omitempty"`  // why it can be seen and not approved
	Answered    string      `json:"answered,omitempty"` // what was answered, by whom, and what came of it
}

// OfferDisk is a disk of an offer, as it is printed on its label.
type OfferDisk struct {
	Path, Model, Serial, State string
	Size                       int64
}

// Answer is what a person said to an offer.
type Answer struct {
	Hash string `json:"hash"`
	Yes  bool   `json:"yes"`
	Word string `json:"word,omitempty"`
}

// Approver shows what wants an approval and takes the answers.
type Approver interface {
	Offers(ctx context.Context) ([]Offer, error)
	// Answer gives consent to one offer, or withholds it. The engine probes again first: ErrChanged if the plan is another by now,
	// ErrAnswered if another console was first, ErrRefused where no answer could make it right. What came of it is a sentence.
	Answer(ctx context.Context, a Answer) (string, error)
}

// Chooser lists what can be read and where it can go.
type Chooser interface {
	Choices(ctx context.Context, place string) ([]Choice, error)
	// Dir lists a directory for picking. ErrSlow after a few seconds.
	Dir(ctx context.Context, path string) (Listing, error)
	Places(ctx context.Context) ([]Place, error)
	// Folder says what a directory would be as a place for the store.
	Folder(ctx context.Context, path string) (Place, error)
	MakePlan(ctx context.Context, w Want) (Plan, error)
	// SavePlan writes the plan file that --batch --plan takes.
	SavePlan(ctx context.Context, hash, file string) error
}

// Choice is a thing that can be read, or cannot with the reason: a disk, a partition, a directory.
type Choice struct {
	Path    string `json:"path"`
	Parent  string `json:"parent,omitempty"` // path of the disk it is part of
	Kind    string `json:"kind"`             // disk, partition, directory, image
	Model   string `json:"model,omitempty"`
	Serial  string `json:"serial,omitempty"`
	Size    int64  `json:"size"`
	FS      string `json:"fs,omitempty"` // ext4 "root"
	Label   string `json:"label,omitempty"`
	Health  string `json:"health,omitempty"`  // a word or two: "ok", "12 pending sectors"
	Ailing  bool   `json:"ailing,omitempty"`  // health is no good
	Twin    string `json:"twin,omitempty"`    // path of another that looks the same but for the serial
	Refused string `json:"refused,omitempty"` // why it cannot be chosen
}

// Listing is a directory.
type Listing struct {
	Path    string     `json:"path"`
	Entries []DirEntry `json:"entries"`
	More    int        `json:"more,omitempty"` // entries left out
}

// DirEntry is one name of it.
type DirEntry struct {
	Name string `json:"name"`
	Dir  bool   `json:"dir"`
	Size int64  `json:"size"`
}

// Place is where a store is or could be.
type Place struct {
	Path    string   `json:"path"`
	What    string   `json:"what"` // "store of domain rescue, 3 snapshots", "empty folder on ext4"
	Free    int64    `json:"free"` // -1 where not known
	Store   bool     `json:"store"`
	Disks   []string `json:"disks,omitempty"` // what it lies on; they cannot be sources
	Refused string   `json:"refused,omitempty"`
}

// Want is what a person chose.
type Want struct {
	Sources     []string `json:"sources"` // paths, in order
	Place       string   `json:"place"`
	Label       string   `json:"label,omitempty"`
	Verify      string   `json:"verify,omitempty"`      // new, all, none; empty is new
	Compression string   `json:"compression,omitempty"` // empty is auto
	Resume      string   `json:"resume,omitempty"`      // the unfinished intake to go on with
}

// Plan is what an intake would do.
type Plan struct {
	Hash     string       `json:"hash"`
	Place    Place        `json:"place"`
	Sources  []PlanSource `json:"sources"`
	Verify   string       `json:"verify"`
	Label    string       `json:"label,omitempty"`
	Command  []string     `json:"command"` // the same by --batch
	Forecast Forecast     `json:"forecast"`
	Resume   string       `json:"resume,omitempty"`
	Notes    []string     `json:"notes,omitempty"`
}

// PlanSource is a source in a plan.
type PlanSource struct {
	Path, Name, Kind, Model, Serial string
	Size                            int64 // -1 where not known
	Ailing                          string
}

// Forecast is what to expect. Both ends of a range are honest guesses; 0 means that none can be made.
type Forecast struct {
	Bytes             int64 `json:"bytes"` // of all sources; -1 where not known
	RoomLow, RoomHigh int64
	TimeLow, TimeHigh time.Duration
	Fits              bool
	Why               string // what the guess rests on
}

// Verb is what can be asked of a running job.
type Verb string

// The verbs.
const (
	Pause Verb = "pause"
	GoOn  Verb = "go on"
	Stop  Verb = "stop"
	Skip  Verb = "skip" // one source
)

// Worker does an intake.
type Worker interface {
	Unfinished(ctx context.Context, place string) ([]Unfinished, error)
	// Start does the plan that was shown. ErrChanged if it would be another by now.
	Start(ctx context.Context, hash string) error
	Do(ctx context.Context, v Verb, source string) error
	// Leave ends the session after a report: what was imported is exported, and the machine is switched off if that is wanted.
	Leave(ctx context.Context, powerOff bool) error
}

// Unfinished is an intake that can go on.
type Unfinished struct {
	ID      string    `json:"id"`
	Began   time.Time `json:"began"`
	Label   string    `json:"label,omitempty"`
	Done    int64     `json:"done"` // bytes acknowledged
	Total   int64     `json:"total"`
	Sources []string  `json:"sources"` // names with serials
	Paths   []string  `json:"paths"`   // where they are now; empty where one is not there
	Missing string    `json:"missing,omitempty"`
}

// Report is what stands at the end.
type Report struct {
	Result   event.Result   `json:"result"`
	Why      string         `json:"why,omitempty"`
	Next     []string       `json:"next"` // a line each; commands as they are typed
	Snapshot uint64         `json:"snapshot,omitempty"`
	Manifest string         `json:"manifest,omitempty"`
	Hash     string         `json:"hash,omitempty"` // of the report's file
	File     string         `json:"file,omitempty"` // where it lies
	Took     time.Duration  `json:"took"`
	Verified bool           `json:"verified"`
	Stored   int64          `json:"stored"`
	Sources  []ReportSource `json:"sources"`
	Written  string         `json:"written,omitempty"` // "0 bytes", by the kernel's own counters of the source disks
}

// ReportSource is one row of it.
type ReportSource struct {
	Name, Model, Serial  string
	Size, New, Known     int64
	Zero                 int64
	Unreadable, Untried  int64
	Places, Files, Wrong int64 // gaps; files walked; files not read whole
	Root                 string
	Skipped              bool
}

// Keeper looks into the store, by the same functions as asl-admin and asl-debug.
type Keeper interface {
	Snapshots(ctx context.Context) ([]Snapshot, error)
	Browse(ctx context.Context, snapshot uint64, path string) ([]DirEntry, error)
	Segments(ctx context.Context) ([]Segment, error)
	// Tool runs a command of asl-admin or asl-debug that changes nothing on a disk that is read, and gives what it prints. The engine
	// has the list of those it runs.
	Tool(ctx context.Context, program string, args ...string) (Printed, error)
}

// Snapshot is one row of the list.
type Snapshot struct {
	Number  uint64 `json:"number"`
	Ended   int64  `json:"ended"` // seconds, by a clock nobody checked
	Result  string `json:"result"`
	Size    int64  `json:"size"`
	Stored  int64  `json:"stored"`
	Sources string `json:"sources"`
	Label   string `json:"label,omitempty"`
}

// Segment is a segment and how full its blocks are.
type Segment struct {
	ID      string      `json:"id"`
	Level   int         `json:"level"`
	Size    int64       `json:"size"`
	Entries int64       `json:"entries"`
	Blocks  []BlockFill `json:"blocks"`
	Bad     string      `json:"bad,omitempty"`
}

// BlockFill is how full a block is: the bytes of its artifacts, before and after compression, of the most a block takes.
type BlockFill struct {
	ID      string `json:"id"`
	Raw     int64  `json:"raw"`
	Stored  int64  `json:"stored"`
	Most    int64  `json:"most"`
	Entries int    `json:"entries"`
	Damaged bool   `json:"damaged,omitempty"`
}

// Printed is what a command printed.
type Printed struct {
	Command string   `json:"command"` // as it is typed
	Lines   []string `json:"lines"`
	Exit    int      `json:"exit"`
}
