// Package approval is consent that carries what was consented to. A plan shows itself as a Sheet; its hash covers all that
// makes it this plan and no other. Only this package can make an Approved, out of a plan and an answer, and who does the thing
// takes an Approved as its only argument: so there is no way to forget to ask.
//
// Just before the thing is done its plan is made again from the machine as it is then. Where the two differ the approval is void,
// and the error names the difference.
package approval

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"aslrescue/engine/artifact"
)

// Gate says how much consent a plan wants.
type Gate uint8

// The gates.
const (
	Reading    Gate = iota // changes nothing: no consent
	Reversible             // a read-only import or mount: y, where No is what Enter means
	Risky                  // a writable import, force, deleting: the name is typed
	Rewind                 // what cannot be taken back: a rehearsal is shown first, then the name is typed
)

func (g Gate) String() string {
	switch g {
	case Reading:
		return "reading"
	case Reversible:
		return "reversible"
	case Risky:
		return "risky"
	case Rewind:
		return "rewind"
	}
	return fmt.Sprintf("gate %d", uint8(g))
}

// Plan is something that would be done to a pool, a snapshot, a device.
type Plan interface {
	Sheet() Sheet
}

// Thing is one of those that a plan touches.
type Thing struct {
	Kind string // pool, vdev, disk, dataset, snapshot
	ID   string // what it is known by for ever: a GUID, a serial. Never a name that the kernel gives
	Name string // for people: tank, /dev/vdb
}

// Sheet is what is shown of a plan. All of it is shown; the hash is over Verb, ID, Word, Gate, the kinds and ids of Things, and
// Commands. Transaction groups and times stand in none of them: they move by themselves.
type Sheet struct {
	Verb      string     // one word, as tokens have it: import
	ID        string     // of what it is done to, as tokens have it: a pool's GUID
	Word      string     // what is typed at gates 2 and 3: the pool's name
	Gate      Gate       //
	What      string     // in one line for people: import the pool tank, writable
	Things    []Thing    //
	Commands  [][]string // exactly, in their order
	Changes   []string   // what is different afterwards, on the medium and in the system
	Undo      string     // how to take it back; where that is not possible, that it is not
	Rehearsal string     // gate 3: what the command said when it was asked to do nothing
}

// Hash is what an approval is bound to.
type Hash artifact.Digest

func (h Hash) String() string { return artifact.Digest(h).String() }

// Short is as much of the hash as a token has.
func (h Hash) Short() string { return h.String()[:shortHash] }

const shortHash = 16 // hex digits; nobody finds a second plan with the same 64 bits while a pool waits

// ParseHash reads what String gives.
func ParseHash(s string) (Hash, error) {
	d, err := artifact.ParseDigest(s)
	return Hash(d), err
}

// HashOf is the hash of what p shows.
func HashOf(p Plan) Hash { return p.Sheet().Hash() }

// Hash is what an approval of the sheet is bound to.
func (s Sheet) Hash() Hash {
	var b []byte
	add := func(texts ...string) { // with lengths, so that no two lists run into the same bytes
		b = binary.LittleEndian.AppendUint32(b, uint32(len(texts)))
		for _, t := range texts {
			b = binary.LittleEndian.AppendUint32(b, uint32(len(t)))
			b = append(b, t...)
		}
	}
	add("asl-rescue approval 1", s.Verb, s.ID, s.Word, s.Gate.String())
	things := make([]string, 0, len(s.Things))
	for _, t := range s.Things {
		things = append(things, t.Kind+"\x00"+t.ID)
	}
	slices.Sort(things) // in which order disks were found says nothing
	add(things...)
	add(fmt.Sprint(len(s.Commands)))
	for _, c := range s.Commands {
		add(c...)
	}
	return Hash(artifact.HashBytes(b))
}

// Differences says how the sheet now differs from what s was; empty where an approval of s still holds.
func (s Sheet) Differences(now Sheet) []string {
	var d []string
	field := func(what, was, is string) {
		if was != is {
			d = append(d, fmt.Sprintf("%s was %s, and is %s now", what, was, is))
		}
	}
	field("what is done", s.Verb, now.Verb)
	field("what it is done to", s.ID, now.ID)
	field("the name", s.Word, now.Word)
	field("the gate", s.Gate.String(), now.Gate.String())
	same := func(a Thing) func(Thing) bool { return func(b Thing) bool { return a.Kind == b.Kind && a.ID == b.ID } }
	for _, t := range s.Things {
		if !slices.ContainsFunc(now.Things, same(t)) {
			d = append(d, t.String()+" is gone")
		}
	}
	for _, t := range now.Things {
		if !slices.ContainsFunc(s.Things, same(t)) {
			d = append(d, t.String()+" is new")
		}
	}
	if !slices.EqualFunc(s.Commands, now.Commands, slices.Equal) {
		d = append(d, fmt.Sprintf("the command was %s, and would be %s now", Lines(s.Commands), Lines(now.Commands)))
	}
	if d == nil && s.Hash() != now.Hash() { // the same thing once more or less
		d = append(d, fmt.Sprintf("it was about %d things, and is about %d now", len(s.Things), len(now.Things)))
	}
	return d
}

func (t Thing) String() string {
	if t.Name == "" || t.Name == t.ID {
		return t.Kind + " " + t.ID
	}
	return fmt.Sprintf("%s %s (%s)", t.Kind, t.Name, t.ID)
}

// Lines are commands as one could type them, joined by semicolons.
func Lines(commands [][]string) string {
	var all []string
	for _, c := range commands {
		all = append(all, Line(c))
	}
	return strings.Join(all, "; ")
}

// Line is a command as one could type it.
func Line(argv []string) string {
	words := slices.Clone(argv)
	for i, w := range words {
		if w == "" || strings.ContainsAny(w, " \t\n'\"\\$&|;<>()*?[]#~`!{}") {
			words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

// What an approval can lack.
var (
	// ErrMissing means that nobody approved this.
	ErrMissing = errors.New("not approved")
	// ErrVoid means that what was approved is not what would be done.
	ErrVoid = errors.New("the approval is void")
)
