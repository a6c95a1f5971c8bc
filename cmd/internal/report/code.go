// Package report is how every program of ASL Rescue speaks: events and results as lines for people or as JSON lines,
// errors that say what to do next, and exit codes. There is no second place for any of them.
package report

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"aslrescue/backends/local"
	"aslrescue/engine/approval"
	"aslrescue/engine/artifact"
	"aslrescue/engine/event"
	"aslrescue/engine/intake"
	"aslrescue/engine/source"
	"aslrescue/engine/store"
)

// Code is a program's exit code. Scripts branch on it, so the numbers stay.
type Code int

// The codes.
const (
	OK       Code = 0
	Failed   Code = 1
	Usage    Code = 2
	Gaps     Code = 3
	Refused  Code = 4
	Approval Code = 5
	Full     Code = 6
	Gone     Code = 7
	Mismatch Code = 8
	NoStore  Code = 10
	Locked   Code = 11
	Internal Code = 70
	Stopped  Code = 75
	ByHup    Code = 129
	ByInt    Code = 130
	ByTerm   Code = 143
)

// Codes is every code with its meaning, in order, for help texts and docs.
func Codes() []struct {
	Code  Code
	Means string
} {
	return []struct {
		Code  Code
		Means string
	}{
		{OK, "complete"},
		{Failed, "failed"},
		{Usage, "the command line or a config file is wrong"},
		{Gaps, "complete with gaps: the snapshot says what could not be read"},
		{Refused, "refused by a STOP row of the preflight table"},
		{Approval, "an approval is missing or void"},
		{Full, "the target is full"},
		{Gone, "a source or the store disappeared"},
		{Mismatch, "verification found bytes that are not what was stored"},
		{NoStore, "there is no store, or no such snapshot in it"},
		{Locked, "another process holds the lock or has taken the intake over"},
		{Internal, "a mistake in the program; the store is intact"},
		{Stopped, "stopped by the operator; the same command goes on"},
		{ByHup, "stopped by SIGHUP; the same command goes on"},
		{ByInt, "stopped by SIGINT; the same command goes on"},
		{ByTerm, "stopped by SIGTERM; the same command goes on"},
	}
}

func (c Code) String() string {
	for _, row := range Codes() {
		if row.Code == c {
			return row.Means
		}
	}
	return fmt.Sprintf("code %d", int(c))
}

// BySignal is the cause of a context that a signal ended.
type BySignal syscall.Signal

func (s BySignal) Error() string { return "stopped by " + syscall.Signal(s).String() }

// Sentinels for what has no error of the engine's own.
var (
	ErrInternal = errors.New("internal error")
	ErrStopped  = errors.New("stopped by the operator")
	ErrRefused  = errors.New("refused by preflight")
	ErrLocked   = errors.New("another ASL Rescue is at work here")
)

// row says of one sentinel which code it is, what it means for the person who reads, and what to do next.
type row struct {
	is    error
	code  Code
	means string
	next  []string
}

var goOn = []string{"Run the same command again: it goes on where this one stopped."}

// table is read from the top: the first sentinel that the error wraps decides.
func table() []row {
	return []row{
		{ErrInternal, Internal, "This is a mistake in the program. What was sealed is safe.",
			[]string{"Run the same command again; if it happens again, report it with the lines above."}},
		{store.ErrFenced, Locked, "Another process goes on with this intake; this one has stopped so that both do not write.",
			[]string{"Look at the other console, or wait until the other process is done."}},
		{ErrLocked, Locked, "Two must not write at once.",
			[]string{"Wait until the other one is done, or stop it there."}},
		{artifact.ErrFull, Full, "The target has no room left. Everything acknowledged so far is safe.",
			append([]string{"Make room on the target, or give another one with --store."}, goOn...)},
		{source.ErrGone, Gone, "The device no longer answers. Everything acknowledged so far is safe.",
			append([]string{"Check cable and power, and plug it in again."}, goOn...)},
		{store.ErrBroken, Mismatch, "The log of this store is damaged. It is opened read-only, so that nothing gets worse.",
			[]string{"asl-debug --store DIR log shows where it is damaged.", "Snapshots before that place can still be read and restored."}},
		{artifact.ErrDamaged, Mismatch, "The stored bytes are not what was written: the medium or the memory has changed them.",
			[]string{"asl-admin --store DIR verify --read-data finds everything else that is damaged.", "If the source is still there, take it in again: damaged parts are stored anew."}},
		{store.ErrNoStore, NoStore, "Nothing that ASL Rescue wrote is there.",
			[]string{"Check that the path is right and that the medium is mounted.", "asl-intake makes a new store in an empty folder."}},
		{local.ErrNoStore, NoStore, "Nothing that ASL Rescue wrote is there.",
			[]string{"Check that the path is right and that the medium is mounted.", "asl-intake makes a new store in an empty folder."}},
		{local.ErrForeign, NoStore, "The folder holds something else, and ASL Rescue does not write among other people's files.",
			[]string{"Give an empty folder, or one that is a store already."}},
		{local.ErrNoPublish, Failed, "On this file system a crash could leave a half-written file under a final name.",
			[]string{"Use a folder on ext4, XFS, btrfs or ZFS."}},
		{ErrRefused, Refused, "Going on could do harm.", []string{"Read the STOP rows above; each says what would change it."}},
		{approval.ErrMissing, Approval, "Nothing is done to a pool or a snapshot without consent to exactly that.",
			[]string{"Run with --dry-run: it prints the plan and the approval to give."}},
		{approval.ErrVoid, Approval, "Consent was given to something else, and nothing was done.",
			[]string{"Run with --dry-run: it prints the plan as it is now, and the approval to give."}},
		{artifact.ErrUnsupported, Failed, "It was written by a newer version than this one.", []string{"Use the newer version."}},
		{intake.ErrInside, Usage, "What an intake stores would be read by the same intake.", []string{"Give a place outside of the source with --store, or sources beside it."}},
		{artifact.ErrReadOnly, Failed, "The target cannot be written to.", []string{"Mount it writable, or give another one with --store."}},
		{artifact.ErrNotFound, NoStore, "What was asked for is not in this store.",
			[]string{"asl-admin --store DIR snapshots lists what is there."}},
		{syscall.ENOSPC, Full, "There is no room left where this is written.", []string{"Make room there, or give another place."}},
		{syscall.EDQUOT, Full, "There is no room left where this is written.", []string{"Make room there, or give another place."}},
		{fs.ErrPermission, Failed, "The user that this runs as may not do that.", []string{"Run it as root, or as the user it belongs to."}},
		{BySignal(syscall.SIGHUP), ByHup, "Everything acknowledged so far is safe.", goOn},
		{BySignal(syscall.SIGINT), ByInt, "Everything acknowledged so far is safe.", goOn},
		{BySignal(syscall.SIGTERM), ByTerm, "Everything acknowledged so far is safe.", goOn},
		{ErrStopped, Stopped, "Everything acknowledged so far is safe.", goOn},
		{context.Canceled, Stopped, "Everything acknowledged so far is safe.", goOn},
	}
}

// CodeOf is the exit code of an error: the one an *Error in it names, otherwise by the table; Failed for what no row
// knows, OK for nil.
func CodeOf(err error) Code {
	if err == nil {
		return OK
	}
	var e *Error
	if errors.As(err, &e) && e.Code != OK {
		return e.Code
	}
	if r, ok := find(err); ok {
		return r.code
	}
	return Failed
}

// ResultCode is the exit code of an intake's word.
func ResultCode(r event.Result) Code {
	switch r {
	case event.Complete:
		return OK
	case event.CompleteWithGaps:
		return Gaps
	case event.Stopped:
		return Stopped
	}
	return Failed
}

func find(err error) (row, bool) {
	for _, r := range table() {
		if errors.Is(err, r.is) {
			return r, true
		}
	}
	var sig BySignal
	if errors.As(err, &sig) {
		return row{sig, Code(128 + int(sig)), "Everything acknowledged so far is safe.", goOn}, true
	}
	return row{}, false
}
