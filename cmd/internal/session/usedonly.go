package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"aslrescue/cmd/internal/report"
	"aslrescue/engine/approval"
	"aslrescue/engine/artifact"
	"aslrescue/engine/event"
	"aslrescue/engine/source"
	"aslrescue/engine/volume"
)

// usedOnly is the choice to read of one disk only what its file systems call used. Its sheet names what they said, so that consent to it is void once
// they say something else.
type usedOnly struct {
	info   source.Info
	wanted []volume.Span
	left   int64
	why    []string // a line for each volume
}

// Sheet is what is consented to.
func (u usedOnly) Sheet() approval.Sheet {
	s := approval.Sheet{Verb: "used-only", ID: choiceID(u.info), Gate: approval.Reversible,
		What:   fmt.Sprintf("read of %s only what its file systems call used, and leave out %d bytes", u.info.Path, u.left),
		Things: []approval.Thing{{Kind: "disk", ID: u.info.ID, Name: u.info.Path}},
		Undo:   "take it in again without --used-only: what is known is not stored twice",
	}
	s.Changes = append(s.Changes, "the snapshot holds no bytes for what is left out, and says so")
	s.Changes = append(s.Changes, u.why...)
	// Every range is part of the plan: a file system that changed by one block since is another.
	var ranges strings.Builder
	for _, w := range u.wanted {
		fmt.Fprintf(&ranges, "%d %d\n", w.Off, w.Len)
	}
	s.Things = append(s.Things, approval.Thing{Kind: "ranges", ID: artifact.HashBytes([]byte(ranges.String())).String(), Name: fmt.Sprintf("%d ranges that are read", len(u.wanted))})
	return s
}

// choiceID is a source as a token names it.
func choiceID(i source.Info) string { return artifact.HashBytes([]byte(i.ID)).String()[:16] }

// spoken is what the snapshot says of the choice.
func (u usedOnly) spoken() string { return "used-only: " + strings.Join(u.why, "; ") }

// readerAt reads a Linear at any offset; a gap is an error.
type readerAt struct {
	ctx context.Context
	src source.Linear
}

func (r readerAt) ReadAt(p []byte, off int64) (int, error) {
	n, gaps, err := r.src.Read(r.ctx, p, off)
	if len(gaps) > 0 {
		return int(max(0, gaps[0].Off-off)), errors.New(gaps[0].Why)
	}
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// disks are the sources of which any part can be read at any time, with their places in the plan.
func (j *intakeJob) disks() iter.Seq2[int, source.Linear] {
	return func(yield func(int, source.Linear) bool) {
		for i, src := range j.sources {
			if lin, ok := src.(source.Linear); ok && lin.Info().Kind != source.Stream && !yield(i, lin) {
				return
			}
		}
	}
}

// choose looks at the file systems of every disk and image, and puts in its place one of which only what they call used is read. What nothing can be left
// out of stays as it is, with the reason.
func (j *intakeJob) choose(ctx context.Context) error {
	found := false
	for i, lin := range j.disks() {
		found = true
		info := lin.Info()
		used, why, err := volume.Look(readerAt{ctx, lin}, info.Size, info.Sector).Used(ctx, info.Size)
		if err != nil {
			return err
		}
		u := usedOnly{info: info, wanted: used, left: info.Size, why: why}
		var wanted []source.Stretch
		for _, s := range used {
			u.left -= s.Len
			wanted = append(wanted, source.Stretch{Off: s.Off, Len: s.Len})
		}
		if u.left == 0 {
			j.whole = append(j.whole, fmt.Sprintf("%s is read whole: %s", info.Path, strings.Join(why, "; ")))
			continue
		}
		j.choices = append(j.choices, u)
		j.sources[i] = source.Only(lin, wanted, u.spoken())
	}
	if !found {
		return report.Usagef("--used-only is for disks and images, and none is among the sources")
	}
	return nil
}

// consent asks for what was chosen: a token for each disk.
func (j *intakeJob) consent() error {
	var next []string
	for _, u := range j.choices {
		a, err := approval.ByToken(u, j.o.approve...)
		if err != nil {
			next = append(next, "read what would be left out: the same command with --dry-run prints it", "to approve exactly that: --approve "+approval.TokenOf(u))
			return &report.Error{What: u.Sheet().What, Err: err, Next: next}
		}
		j.consents = append(j.consents, a.Record(time.Now()))
	}
	return nil
}

// choiceText is the choice as a dry run prints it.
func (j *intakeJob) choiceText() string {
	var b strings.Builder
	for _, u := range j.choices {
		fmt.Fprintf(&b, "%s of %s would be left out:\n", event.Bytes(u.left), event.Printable(u.info.Path))
		for _, w := range u.why {
			fmt.Fprintf(&b, "  %s\n", event.Printable(w))
		}
		fmt.Fprintf(&b, "To approve that: --approve %s\n", approval.TokenOf(u))
	}
	for _, m := range j.mounts {
		fmt.Fprintf(&b, "%s:\n", event.Printable(m.sheet.What))
		for _, c := range m.sheet.Commands {
			fmt.Fprintf(&b, "  $ %s\n", event.Printable(approval.Line(c)))
		}
		for _, c := range m.sheet.Changes {
			fmt.Fprintf(&b, "  %s\n", c)
		}
		fmt.Fprintf(&b, "To approve that: --approve %s\n", approval.TokenOf(m))
	}
	for _, w := range j.whole {
		fmt.Fprintf(&b, "%s\n", event.Printable(w))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func (j *intakeJob) choiceFields() []map[string]any {
	var all []map[string]any
	for _, u := range j.choices {
		all = append(all, map[string]any{"source": u.info.Path, "left": u.left, "why": u.why, "token": approval.TokenOf(u)})
	}
	for _, m := range j.mounts {
		all = append(all, map[string]any{"source": m.info.Path, "commands": m.sheet.Commands, "token": approval.TokenOf(m)})
	}
	return all
}
