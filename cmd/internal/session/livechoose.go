package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"aslrescue/cmd/internal/report"
	"aslrescue/detect"
	"aslrescue/engine/event"
	"aslrescue/engine/intake"
	"aslrescue/engine/source"
	"aslrescue/engine/store/format"
	"aslrescue/tui/ask"
)

// Choices are the disks and partitions, each with the reason where it cannot be read into a store at place.
func (l *Live) Choices(_ context.Context, place string) ([]ask.Choice, error) {
	p := ask.Place{}
	if place != "" {
		p = l.place(place)
	}
	return ask.Disks(l.facts(), p), nil
}

// Places are those where the store is, or could be: what the config names, and what is mounted and can be written to.
func (l *Live) Places(context.Context) ([]ask.Place, error) {
	var paths []string
	if l.o.Config != nil {
		paths = append(paths, l.o.Config.LocalMount)
	}
	f := l.facts()
	if f.Stack != nil {
		for _, m := range f.Stack.Mounts {
			if m.ReadOnly || m.Disk == "" || m.Disk == f.Host.RootDev || m.Disk == f.Host.Medium {
				continue
			}
			at := m.At
			if !isStore(at) && !empty(at) {
				at = filepath.Join(at, "asl")
			}
			if !slices.Contains(paths, at) {
				paths = append(paths, at)
			}
		}
	}
	var all []ask.Place
	for i, p := range paths {
		place := l.place(p)
		if i == 0 && place.Refused == "" && !place.Store && !l.mounted(p) {
			continue // nothing is mounted where the config wants the store: it would lie in RAM
		}
		all = append(all, place)
	}
	return all, nil
}

func (l *Live) mounted(path string) bool {
	f := l.facts()
	return f.Store != nil && f.Store.Path == path && f.Store.Mounted
}

// Folder says what a folder would be as a place.
func (l *Live) Folder(_ context.Context, path string) (ask.Place, error) { return l.place(path), nil }

// place looks at a folder, which need not be there.
func (l *Live) place(path string) ask.Place {
	p := ask.Place{Path: filepath.Clean(path), Free: -1}
	if !filepath.IsAbs(path) {
		p.Refused = "it is no absolute path"
		return p
	}
	near := nearest(p.Path)
	var fs unix.Statfs_t
	var st unix.Stat_t
	if err := errors.Join(unix.Statfs(near, &fs), unix.Stat(near, &st)); err != nil {
		p.Refused = err.Error()
		return p
	}
	p.Free = int64(fs.Bavail) * fs.Bsize
	p.Disks = disksBelow(l.facts(), st.Dev, near)
	in := ""
	if fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC {
		in = ", in RAM: it is lost when the machine goes off"
	}
	where, err := os.Stat(p.Path)
	switch {
	case fs.Flags&unix.ST_RDONLY != 0:
		p.Refused = "it cannot be written to: it is mounted read-only"
	case errors.Is(err, os.ErrNotExist):
		p.What = "a new folder in " + near + in
	case err != nil:
		p.Refused = err.Error()
	case !where.IsDir():
		p.Refused = "it is no folder"
	case isStore(p.Path):
		p.Store, p.What = true, l.storeText(p.Path)+in
	case empty(p.Path):
		p.What = "an empty folder" + in
	default:
		p.Refused = "there are other things in it, and ASL Rescue does not write among other people's files: choose a new folder in it"
	}
	return p
}

// nearest is the folder itself, or what would hold it.
func nearest(path string) string {
	for path != "/" {
		if _, err := os.Stat(path); err == nil {
			return path
		}
		path = filepath.Dir(path)
	}
	return path
}

func isStore(dir string) bool {
	for _, name := range []string{"blocks", "segments", "logs"} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || !st.IsDir() {
			return false
		}
	}
	return true
}

func empty(dir string) bool {
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close()
	names, _ := f.Readdirnames(2)
	return len(names) == 0 || len(names) == 1 && names[0] == "lost+found"
}

func (l *Live) storeText(dir string) string {
	s, err := ReadStore(l.ctx, dir, "", Tool("asl-intake"))
	if err != nil {
		return "a store that cannot be opened: " + firstLine(err.Error())
	}
	defer func() { _ = s.Backend().Close() }() // only read
	text := fmt.Sprintf("store of domain %s, %s", s.Domain(), event.CountOf(int64(len(s.Snapshots())), "snapshot", "snapshots"))
	if n := len(s.Unfinished()); n > 0 {
		text += fmt.Sprintf(", %d unfinished", n)
	}
	return text
}

// disksBelow are the disks that a folder lies on: by the device it is on, or by the pool that is mounted there.
func disksBelow(f *detect.Facts, dev uint64, near string) []string {
	if disk := diskOf(dev); disk != nil {
		return disk
	}
	var out []string
	for _, p := range f.Pools {
		if p.Imported == nil {
			continue
		}
		for _, at := range p.Imported.Mounts {
			if at == near || strings.HasPrefix(near, strings.TrimSuffix(at, "/")+"/") {
				out = append(out, ask.DisksOfPool(p)...)
			}
		}
	}
	return out
}

// diskOf gives the whole disks below a device number, through partitions, md and the device mapper.
func diskOf(dev uint64) []string {
	dir, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(dev), unix.Minor(dev)))
	if err != nil {
		return nil
	}
	return wholeDisks(dir)
}

func wholeDisks(dir string) []string {
	if slaves, err := os.ReadDir(filepath.Join(dir, "slaves")); err == nil && len(slaves) > 0 {
		var out []string
		for _, s := range slaves {
			if below, err := filepath.EvalSymlinks(filepath.Join(dir, "slaves", s.Name())); err == nil {
				out = append(out, wholeDisks(below)...)
			}
		}
		return out
	}
	if _, err := os.Stat(filepath.Join(dir, "partition")); err == nil {
		dir = filepath.Dir(dir)
	}
	return []string{filepath.Base(dir)}
}

// livePlan is a plan that was shown, with what it was made of.
type livePlan struct {
	want  ask.Want
	plan  Plan
	shown ask.Plan
}

// maxPlans is how many plans can still be started.
const maxPlans = 16

// MakePlan makes a plan, and keeps it for Start.
func (l *Live) MakePlan(ctx context.Context, w ask.Want) (ask.Plan, error) {
	place := l.place(w.Place)
	if place.Refused != "" {
		return ask.Plan{}, fmt.Errorf("%w: %s: %s", ask.ErrRefused, w.Place, place.Refused)
	}
	choices := ask.Disks(l.facts(), place)
	if err := ask.Check(choices, w.Sources, place); err != nil {
		return ask.Plan{}, err
	}
	o, err := l.options(w)
	if err != nil {
		return ask.Plan{}, err
	}
	j := intakeJob{o: o}
	if err := j.openSources(); err != nil {
		return ask.Plan{}, err
	}
	defer j.closeSources()
	p := planOf(o, o.store, o.domain, j.sources)
	shown := ask.Plan{Hash: p.Hash().String(), Place: place, Verify: p.Verify, Label: p.Label, Command: batchCommand(p)}
	for _, s := range p.Sources {
		shown.Sources = append(shown.Sources, ask.PlanSource{Path: s.Path, Name: s.Name, Kind: s.Kind, Model: s.Model, Serial: s.Serial, Size: s.Size, Ailing: ailing(choices, s.Path)})
	}
	shown.Forecast = ask.Guess(shown, speed(l.facts(), p))
	if in, ok := l.goesOn(ctx, &j, w.Resume, place); ok {
		shown.Resume = fmt.Sprintf("%x", in.Begin.Intake)
		shown.Notes = append(shown.Notes, fmt.Sprintf("It goes on with the interrupted intake %s: %s are safe already.", short(in.Begin.Intake), event.Bytes(acknowledged(in))))
	} else if w.Resume != "" {
		return ask.Plan{}, fmt.Errorf("%w: the intake %s cannot be gone on with: its sources are not these", ask.ErrRefused, w.Resume)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.plans = slices.DeleteFunc(l.plans, func(q livePlan) bool { return q.shown.Hash == shown.Hash })
	l.plans = append(l.plans, livePlan{w, p, shown})
	l.plans = l.plans[max(0, len(l.plans)-maxPlans):]
	return shown, nil
}

// options are those of the same intake in batch, by its command line: what is not said there is as it is here.
func (l *Live) options(w ask.Want) (*intakeOptions, error) {
	args := []string{"--batch", "--store=" + w.Place, "--label=" + w.Label, "--compression=" + or(w.Compression, "auto")}
	for _, s := range w.Sources {
		args = append(args, "--source="+s)
	}
	switch w.Verify {
	case "none":
		args = append(args, "--no-verify")
	case "":
	default:
		args = append(args, "--verify="+w.Verify)
	}
	if l.o.Memory > 0 {
		args = append(args, "--memory="+strconv.FormatInt(l.o.Memory>>20, 10))
	}
	if c := l.o.Config; c != nil && c.Origin("domain.id") != "default" {
		args = append(args, "--domain="+c.DomainID)
	}
	return parseIntake(args, io.Discard)
}

// batchCommand is what does the same without a person.
func batchCommand(p Plan) []string {
	cmd := []string{"asl-intake", "--batch"}
	for _, s := range p.Sources {
		cmd = append(cmd, "--source", s.Path)
	}
	cmd = append(cmd, "--store", p.Store)
	if p.Domain != "" {
		cmd = append(cmd, "--domain", p.Domain)
	}
	if p.Label != "" {
		cmd = append(cmd, "--label", p.Label)
	}
	if p.Compression != "auto" {
		cmd = append(cmd, "--compression", p.Compression)
	}
	switch p.Verify {
	case "none":
		cmd = append(cmd, "--no-verify")
	case "all":
		cmd = append(cmd, "--verify", "all")
	}
	return cmd
}

func ailing(choices []ask.Choice, path string) string {
	for _, c := range choices {
		if c.Path == path && c.Ailing {
			return c.Health
		}
		if c.Parent != "" && c.Path == path {
			return ailing(choices, c.Parent)
		}
	}
	return ""
}

// What disks give, in bytes each second: on their inner tracks, and without any.
const (
	rotating = 120_000_000
	solid    = 300_000_000
)

func speed(f *detect.Facts, p Plan) int64 {
	if slices.ContainsFunc(p.Sources, func(s PlanSource) bool { return rotates(f, s.Path) }) {
		return rotating
	}
	return solid
}

func rotates(f *detect.Facts, path string) bool {
	return slices.ContainsFunc(f.Disks, func(d detect.Disk) bool {
		return d.Rotating && (d.Path == path || slices.ContainsFunc(d.Parts, func(p detect.Part) bool { return p.Path == path }))
	})
}

// goesOn finds the unfinished intake of the same sources, as batch does. An id narrows it to one.
func (l *Live) goesOn(ctx context.Context, j *intakeJob, id string, place ask.Place) (format.IntakeState, bool) {
	if !place.Store {
		return format.IntakeState{}, false
	}
	s, err := ReadStore(ctx, place.Path, "", Tool("asl-intake"))
	if err != nil {
		return format.IntakeState{}, false
	}
	defer func() { _ = s.Backend().Close() }() // only read
	in, ok := j.unfinished(s)
	return in, ok && (id == "" || fmt.Sprintf("%x", in.Begin.Intake) == id)
}

func (l *Live) planned(hash string) (livePlan, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.plans, func(p livePlan) bool { return p.shown.Hash == hash })
	if i < 0 {
		return livePlan{}, fmt.Errorf("%w: no plan %.8s was shown by this engine", ask.ErrChanged, hash)
	}
	return l.plans[i], nil
}

// SavePlan writes the plan as the file that --plan takes. A file that is there is left as it is.
func (l *Live) SavePlan(_ context.Context, hash, file string) error {
	p, err := l.planned(hash)
	if err != nil {
		return err
	}
	if !filepath.IsAbs(file) {
		return fmt.Errorf("%w: %q is no absolute path", ask.ErrRefused, file)
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return &report.Error{What: "save the plan", Err: err, Next: []string{"Give a name that is not there yet, in a folder that is."}}
	}
	_, err = f.WriteString(p.plan.Text(""))
	return errors.Join(err, f.Sync(), f.Close())
}

// Unfinished are the intakes in a store that can be gone on with, and where their sources are now.
func (l *Live) Unfinished(ctx context.Context, place string) ([]ask.Unfinished, error) {
	if !isStore(place) {
		return nil, nil
	}
	s, err := ReadStore(ctx, place, "", Tool("asl-intake"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Backend().Close() }() // only read
	var all []ask.Unfinished
	for _, in := range s.Unfinished() {
		if intake.IsMerge(in.Begin) { // the next merge ends it
			continue
		}
		u := ask.Unfinished{ID: fmt.Sprintf("%x", in.Begin.Intake), Began: time.Unix(in.Begin.Clock, 0), Label: in.Begin.Label, Done: acknowledged(in)}
		var missing []string
		for _, src := range in.Begin.Sources {
			u.Sources = append(u.Sources, strings.TrimSpace(string(src.Name)+" "+string(src.Serial)))
			at := l.find(src)
			u.Paths = append(u.Paths, at)
			if at == "" {
				missing = append(missing, string(src.Name))
			}
			if src.Size < 0 || u.Total < 0 {
				u.Total = -1
			} else {
				u.Total += src.Size
			}
		}
		if missing != nil {
			u.Missing = strings.Join(missing, ", ") + " is not here: plug it in, then it can go on"
		}
		all = append(all, u)
	}
	slices.Reverse(all) // the newest first
	return all, nil
}

// find tells where a source is now: where it was, or for a disk wherever its serial is. Who a source is says source.Info's ID, not its path.
func (l *Live) find(id format.SourceID) string {
	paths := []string{string(id.Path)}
	if id.Kind == string(source.Device) {
		for _, d := range l.facts().Disks {
			if d.Serial != "" && !strings.Contains(string(id.ID), d.Serial) {
				continue
			}
			paths = append(paths, d.Path)
			for _, p := range d.Parts {
				paths = append(paths, p.Path)
			}
		}
	}
	for _, p := range paths {
		if id.Kind == string(source.Stream) || p == "" {
			continue
		}
		src, err := source.Open(p)
		if err != nil {
			continue
		}
		d := intake.Describe(src)
		_ = src.Close() // it was only looked at
		if d.Kind == id.Kind && d.ID == id.ID && (d.Size == id.Size || d.Kind == string(source.Tree)) {
			return p
		}
	}
	return ""
}
