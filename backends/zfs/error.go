package zfs

import (
	"errors"
	"fmt"
	"strings"
)

// What can be wrong with a pool.
var (
	ErrGone        = errors.New("the pool, or a disk it needs, is not here")
	ErrBusy        = errors.New("the pool is in use")
	ErrLocked      = errors.New("the dataset is encrypted and its key is not loaded")
	ErrNamesake    = errors.New("another pool with that name is imported")
	ErrForeign     = errors.New("another system used the pool last and did not let go of it")
	ErrActive      = errors.New("another system has the pool imported now")
	ErrUnsupported = errors.New("this version of ZFS cannot use the pool")
	ErrDamaged     = errors.New("the pool is damaged")
	ErrNoZFS       = errors.New("ZFS does not work on this system")
	ErrNotRoot     = errors.New("this needs root")
	ErrDataset     = errors.New("the dataset cannot be used")
	ErrReadOnly    = errors.New("the pool is imported read-only")
	ErrUnknown     = errors.New("zpool failed")
)

// Error says what was done to which pool, what came of it, what that means and what to do next.
type Error struct {
	What  string
	Err   error
	Means string
	Next  []string
}

func (e *Error) Error() string { return e.What + ": " + e.Err.Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// sign is a piece of what zpool or zfs prints, and what it stands for.
type sign struct {
	text  string // in lower case
	is    error
	means string
	next  []string
}

// signs are looked for from the top. OpenZFS 2.1 to 2.3 print them so, with LC_ALL=C.
func signs() []sign {
	plug := []string{"Check that all of its disks are plugged in: lsblk lists what the kernel sees.", "Run the same command with --dry-run to see what is found now."}
	return []sign{
		{"modules are not loaded", ErrNoZFS, "The ZFS module is not loaded.", []string{"modprobe zfs; where that fails, boot an image that has ZFS for this kernel."}},
		{"modules cannot be auto-loaded", ErrNoZFS, "There is no ZFS module for this kernel, or it cannot be loaded.", []string{"Boot an image that has ZFS for this kernel; asl-intake can store elsewhere meanwhile."}},
		{"executable file not found", ErrNoZFS, "The tools of ZFS are not installed.", []string{"Boot an image that has ZFS, or store elsewhere: --store DIR."}},
		{"must be run as root", ErrNotRoot, "Only root may import a pool.", []string{"Run the same command as root."}},
		{"permission denied", ErrNotRoot, "Only root may do this.", []string{"Run the same command as root."}},
		{"encryption key not loaded", ErrLocked, "What lies in it cannot be read or written without its key.", nil},
		{"key must be loaded", ErrLocked, "What lies in it cannot be read or written without its key.", nil},
		{"a pool with that name", ErrNamesake, "ZFS holds only one pool of a name at a time.", []string{"zpool list shows the other one; export it first, if nothing uses it: zpool export NAME"}},
		{"previously in use from another system", ErrForeign, "The plan did not say so, so that nobody consented to it.", []string{"Run the same command with --dry-run: the plan is another now."}},
		{"last accessed by another system", ErrForeign, "The plan did not say so, so that nobody consented to it.", []string{"Run the same command with --dry-run: the plan is another now."}},
		{"currently imported", ErrActive, "It answers on its disks: using it here too would destroy it.", []string{"Export it there, or turn that system off."}},
		{"active on another system", ErrActive, "It answers on its disks: using it here too would destroy it.", []string{"Export it there, or turn that system off."}},
		{"multihost", ErrActive, "The pool keeps two systems from using it at once, and cannot tell that this is the only one.", []string{"Turn the other system off, wait a minute, and try again."}},
		{"unsupported version or feature", ErrUnsupported, "It was made or upgraded by a newer ZFS.", []string{"Boot an image with a newer ZFS."}},
		{"feature(s) not supported", ErrUnsupported, "It was made or upgraded by a newer ZFS.", []string{"Boot an image with a newer ZFS."}},
		{"formatted using an unsupported", ErrUnsupported, "It was made or upgraded by a newer ZFS.", []string{"Boot an image with a newer ZFS."}},
		{"pool is busy", ErrBusy, "Something still works in it.", nil},
		{"dataset is busy", ErrBusy, "Something still works in it.", nil},
		{"target is busy", ErrBusy, "Something still works in it.", nil},
		{"pool or dataset is busy", ErrBusy, "Something still works in it.", nil},
		{"insufficient replicas", ErrGone, "More disks are missing than the pool can do without.", plug},
		{"devices is currently unavailable", ErrGone, "More disks are missing than the pool can do without.", plug},
		{"missing log", ErrDamaged, "Its log device is missing; the newest writes were there.", []string{"Plug that disk in as well."}},
		{"no such pool or dataset", ErrDamaged, "Its disks are here, but what they hold does not fit together: a disk is missing, or its newest state is damaged.",
			append([]string{"Its disks can still be taken in one by one, as images: --source /dev/…"}, plug...)},
		{"no such pool available", ErrGone, "Its disks were found when the plan was made, and are not there any more.", plug},
		{"no such device", ErrGone, "A disk went away.", plug},
		{"i/o error", ErrDamaged, "One of its disks does not answer, or its newest state cannot be read.",
			[]string{"dmesg shows which disk.", "Take its disks in one by one, as images, before anything else is tried: --source /dev/…"}},
		{"read-only", ErrReadOnly, "Nothing can be made or changed in it.", []string{"Export it, and run this again: zpool export NAME"}},
		{"readonly", ErrReadOnly, "Nothing can be made or changed in it.", []string{"Export it, and run this again: zpool export NAME"}},
		{"dataset does not exist", ErrDataset, "It was not there.", []string{"zfs list shows what is."}},
		{"out of space", ErrDataset, "The pool is full.", []string{"Use another pool, or make room on this one."}},
	}
}

// told turns what a command printed into an Error. Its words are not repeated: only the first line's reason is, where nothing better is
// known, and that never holds advice.
func told(what, output string) *Error {
	low := strings.ToLower(output)
	for _, s := range signs() {
		if strings.Contains(low, s.text) {
			return &Error{What: what, Err: s.is, Means: s.means, Next: s.next}
		}
	}
	return &Error{What: what, Err: fmt.Errorf("%w: %s", ErrUnknown, reason(output)), Means: "This is a reason that ASL Rescue does not know; nothing more was tried.",
		Next: []string{"Take the disks of the pool in one by one, as images, before anything else is tried: --source /dev/…"}}
}

// reason is the first line without who says it and about what.
func reason(output string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(output), "\n")
	if _, after, ok := strings.Cut(line, "': "); ok {
		line = after
	}
	if line == "" {
		line = "it did not say why"
	}
	return line
}
