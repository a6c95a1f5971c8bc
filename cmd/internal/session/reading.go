package session

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"aslrescue/cmd/internal/config"
	"aslrescue/cmd/internal/report"
	"aslrescue/engine/event"
	"aslrescue/engine/intake"
	"aslrescue/engine/source"
	"aslrescue/engine/source/mapfile"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
)

// readingOptions are the flags of asl-intake that say how hurt disks are read; docs/reading.md describes them.
type readingOptions struct {
	maxPasses, retry int
	reverse          bool
	rate             int // MiB a second
	ranges           string
	timeout          time.Duration
	gone             string // resume, seal
	wait             time.Duration
	resume           string
	list             bool
	mapfile, image   string
	pauseWhenHot     bool
}

func (r *readingOptions) flags(fs *flag.FlagSet) {
	fs.IntVar(&r.maxPasses, "max-passes", 0, "of a disk or image: stop after `N` passes; 1 takes what is easy (default: all)")
	fs.IntVar(&r.retry, "retry", 0, "of a disk or image: try bad sectors `N` times more")
	fs.BoolVar(&r.reverse, "reverse", false, "of a disk or image: begin at its end")
	fs.IntVar(&r.rate, "rate-limit", 0, "of a disk or image: read at most `MIB` a second")
	fs.StringVar(&r.ranges, "range", "", "of a disk or image: read only what `FILE` lists, as lines from-to or from+length in bytes, or as a map file of ddrescue")
	fs.DurationVar(&r.timeout, "read-timeout", source.DefaultReadTimeout, "how `LONG` one read of a device may take before the place counts as bad")
	fs.StringVar(&r.gone, "gone", "resume", "what to do when a device vanishes: `resume` leaves an intake that can go on, seal makes a snapshot of what was read")
	fs.DurationVar(&r.wait, "wait", 0, "how `LONG` to wait for a device that vanished to be plugged in again")
	fs.StringVar(&r.resume, "resume", "auto", "`WHICH` interrupted intake to go on with: auto, none, or its id as --list-unfinished shows it")
	fs.StringVar(&r.mapfile, "mapfile", "", "go on with a rescue of ddrescue: its map `FILE`")
	fs.StringVar(&r.image, "image", "", "the image `FILE` that belongs to --mapfile: what is finished is taken from it")
	fs.BoolVar(&r.pauseWhenHot, "pause-when-hot", false, "do not read a disk that is above its own temperature limit until it has cooled by 5 °C; wants smartctl")
	fs.BoolVar(&r.list, "list-unfinished", false, "print which interrupted intakes a store has, and do nothing")
}

func (r *readingOptions) check(o *intakeOptions) error {
	switch {
	case r.maxPasses < 0:
		return report.Usagef("--max-passes %d: want 1 or more", r.maxPasses)
	case r.retry < 0 || r.retry > 1000:
		return report.Usagef("--retry %d: want 0 to 1000", r.retry)
	case r.rate < 0:
		return report.Usagef("--rate-limit %d: want MiB a second", r.rate)
	case r.timeout < time.Second:
		return report.Usagef("--read-timeout %s: the least is 1s", r.timeout)
	case r.wait < 0:
		return report.Usagef("--wait %s: want a time such as 10m", r.wait)
	case r.gone != "resume" && r.gone != "seal":
		return report.Usagef("--gone %q: want resume or seal", r.gone)
	case r.wait > 0 && r.gone == "seal":
		return report.Usagef("--wait and --gone seal contradict each other")
	case o.noResume && r.resume != "auto" && r.resume != "none":
		return report.Usagef("--no-resume and --resume %s contradict each other", r.resume)
	case (r.mapfile == "") != (r.image == ""):
		return report.Usagef("--mapfile and --image go together")
	case r.mapfile != "" && len(o.sources) != 1:
		return report.Usagef("--mapfile is about one disk: give one --source")
	case r.list && o.store == "":
		return report.Usagef("--list-unfinished wants --store")
	}
	return nil
}

// reading makes of the flags what an intake is told.
func (r *readingOptions) reading() (intake.Reading, error) {
	rd := intake.Reading{MaxPasses: r.maxPasses, Retry: r.retry, Reverse: r.reverse, Rate: int64(r.rate) << 20, SealGone: r.gone == "seal"}
	if r.ranges == "" {
		return rd, nil
	}
	f, err := os.Open(r.ranges)
	if err != nil {
		return rd, report.Usagef("--range: %w", err)
	}
	defer f.Close()
	if rd.Domain, err = mapfile.ReadSpans(f); err != nil {
		return rd, report.Usagef("--range %s: %w", r.ranges, err)
	}
	if len(rd.Domain) == 0 {
		return rd, report.Usagef("--range %s lists nothing to read", r.ranges)
	}
	rd.Why = "outside of the ranges that were asked for"
	return rd, nil
}

// goOn lets a disk be taken from what ddrescue has read of it, as far as that goes.
func (r *readingOptions) goOn(src source.Source) (source.Source, error) {
	if r.mapfile == "" {
		return src, nil
	}
	raw, ok := src.(source.Raw)
	if !ok {
		return nil, report.Usagef("--mapfile: %s is no disk or image", src.Info().Path)
	}
	f, err := os.Open(r.mapfile)
	if err != nil {
		return nil, report.Usagef("--mapfile: %w", err)
	}
	defer f.Close()
	m, err := mapfile.Read(f)
	if err != nil {
		return nil, report.Usagef("--mapfile %s: %w", r.mapfile, err)
	}
	if n := len(m.Blocks); n == 0 || m.Blocks[0].Pos != 0 || m.End() > raw.Info().Size {
		return nil, report.Usagef("--mapfile %s is not of this disk: it ends at %d, the disk at %d", r.mapfile, m.End(), raw.Info().Size)
	}
	image, err := os.Open(r.image) // open as long as the process is
	if err != nil {
		return nil, report.Usagef("--image: %w", err)
	}
	return source.Continued(raw, m, image), nil
}

// chosen is the intake to go on with.
func (r *readingOptions) chosen(s *store.Store, sources []source.Source) (format.IntakeState, bool, error) {
	switch r.resume {
	case "none":
		return format.IntakeState{}, false, nil
	case "auto", "":
		in, ok := intake.Find(s.Unfinished(), sources)
		return in, ok, nil
	}
	var found []format.IntakeState
	for _, in := range s.Unfinished() {
		if strings.HasPrefix(fmt.Sprintf("%x", in.Begin.Intake), strings.ToLower(r.resume)) {
			found = append(found, in)
		}
	}
	switch len(found) {
	case 0:
		return format.IntakeState{}, false, report.Usagef("--resume %s: the store has no unfinished intake of that id; --list-unfinished lists them", r.resume)
	case 1:
		if _, ok := intake.Find(found, sources); !ok {
			return format.IntakeState{}, false, report.Usagef("--resume %s: that intake is of other sources: %s", r.resume, intakeWords(found[0]))
		}
		return found[0], true, nil
	}
	return format.IntakeState{}, false, report.Usagef("--resume %s stands for several intakes", r.resume)
}

// intakeWords says what an unfinished intake is of: "WDC WD40EFRX, serial WCC4E1234521, 61% read".
func intakeWords(in format.IntakeState) string {
	var all []string
	for i, src := range in.Begin.Sources {
		name := event.Printable(src.Model)
		if name == "" {
			name = event.Printable(src.Name)
		}
		if src.Serial != "" {
			name += ", serial " + event.Printable(src.Serial)
		}
		if src.Size >= 0 {
			name += ", " + event.Bytes(src.Size)
		}
		all = append(all, name+", "+sourceDone(in, i))
	}
	return strings.Join(all, "; ")
}

// sourceDone says how far a source of an unfinished intake is.
func sourceDone(in format.IntakeState, i int) string {
	if in.Point == nil || i >= len(in.Point.State) {
		return "0% done"
	}
	st, size := in.Point.State[i], in.Begin.Sources[i].Size
	switch {
	case st.Done:
		return "done"
	case size <= 0:
		return event.Bytes(st.Counts.Data+st.Counts.Zero) + " read"
	}
	s := event.Percent(st.Counts.Data+st.Counts.Zero+st.Counts.Unreadable, size) + " done"
	if p := st.Passes; p != nil {
		s += ", " + p.Phase
	}
	return s
}

// listUnfinished prints what could be gone on with.
func listUnfinished(ctx context.Context, o *intakeOptions, pr *report.Printer) report.Result {
	c, _ := config.Load(o.where()) // a mistake in it does not matter to who only looks
	s, err := way{remoteOptions: o.remote, config: c}.openStore(ctx, o.store, o.domain, Tool("asl-intake"), true)
	if err != nil {
		return report.Result{Err: &report.Error{What: "list the unfinished intakes of " + o.store, Err: err}}
	}
	defer func() { _ = s.Backend().Close() }() // only read
	var text strings.Builder
	rows := []map[string]any{}
	for _, in := range s.Unfinished() {
		if intake.IsMerge(in.Begin) {
			fmt.Fprintf(&text, "a merge of %s was interrupted; the next asl-admin merge ends it\n", intakeWords(in))
			continue
		}
		fmt.Fprintf(&text, "continue the intake %s of %s\n", short(in.Begin.Intake), intakeWords(in))
		var sources []map[string]any
		for i, src := range in.Begin.Sources {
			row := map[string]any{"kind": src.Kind, "name": src.Name, "path": format.Text(string(src.Path)), "id": src.ID, "size": src.Size, "model": src.Model, "serial": src.Serial, "state": sourceDone(in, i)}
			if in.Point != nil && i < len(in.Point.State) {
				row["settled"] = in.Point.State[i].Counts.Data + in.Point.State[i].Counts.Zero + in.Point.State[i].Counts.Unreadable
			}
			sources = append(sources, row)
		}
		rows = append(rows, map[string]any{"intake": fmt.Sprintf("%x", in.Begin.Intake), "label": in.Begin.Label, "began": in.Begin.Clock, "sources": sources})
	}
	if len(rows) == 0 {
		text.WriteString("nothing is unfinished\n")
	}
	return report.Result{Text: text.String(), Fields: map[string]any{"unfinished": rows}}
}

// again waits for the devices that vanished, and opens them anew where they are now. It gives false where they did not come back in time.
func (j *intakeJob) again(ctx context.Context, until time.Time) bool {
	j.say("waiting for the device to be plugged in again, until %s", until.Format("15:04:05"))
	for ctx.Err() == nil && time.Now().Before(until) {
		ok := true
		for i, src := range j.sources {
			info := src.Info()
			if info.Kind != source.Device || stillThere(info) {
				continue
			}
			path, err := source.FindDevice("/sys", info.ID)
			if err != nil {
				ok = false
				continue
			}
			now, err := openSource(path, "", nil, j.o.reading.timeout)
			if err != nil || now.Info().ID != info.ID {
				ok = false
				continue
			}
			_ = src.Close() // it is gone
			j.sources[i] = now
			j.say("%s is back as %s", info.Name, path)
		}
		if ok {
			return true
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
	return false
}

// stillThere tells whether what stands at a device's path is that device.
func stillThere(info source.Info) bool {
	src, err := source.Open(info.Path)
	if err != nil {
		return false
	}
	defer src.Close()
	return src.Info().ID == info.ID
}

// isGone tells whether an intake ended because a device vanished, and may go on.
func isGone(err error) bool {
	return errors.Is(err, source.ErrGone) && !errors.Is(err, source.ErrSkipped)
}
