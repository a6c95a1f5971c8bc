package session

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"aslrescue/cmd/internal/report"
	"aslrescue/engine/artifact"
	"aslrescue/engine/event"
	"aslrescue/engine/restore"
	"aslrescue/engine/source"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
)

func restoreCommand() command {
	var o restoreOptions
	return command{
		name: "restore", args: "S[:SOURCE[/PATH]]", min: 1, max: 1, does: "write a snapshot, a source or a part of a tree back", works: true, exact: true,
		help: "A tree becomes a directory, an image or device a file. DEST must not exist or be an empty directory, unless told otherwise;\n" +
			"a file goes into DEST if that is a directory. With several sources each becomes DEST/NAME. The name of the source may be\n" +
			"left out where there is only one. What is missing is listed, reads as zeros, and makes the exit code 3.",
		examples: []string{
			"asl-admin --store /mnt/asl/local restore latest:etc --to /mnt/new/etc",
			"asl-admin --store /mnt/asl/local restore 3:sda --to /mnt/new/sda.img",
			"asl-admin --store /mnt/asl/local restore 3:sda --to /dev/sdc --overwrite",
			"asl-admin --store /mnt/asl/local restore 3:sda --to sda.img --fill zero",
			"asl-admin --store /mnt/asl/local restore 3:home/ada/thesis.tex --to /tmp",
			"asl-admin --store /mnt/asl/local restore 3:home --to /home --merge",
		},
		flags: func(fs *flag.FlagSet) {
			fs.StringVar(&o.to, "to", "", "`DEST` to write to")
			fs.BoolVar(&o.overwrite, "overwrite", false, "replace the file, or overwrite the block device, at DEST")
			fs.BoolVar(&o.merge, "merge", false, "add to the directory DEST; what exists there is kept")
			fs.StringVar(&o.fill, "fill", "", "`WHAT` is to stand where a disk or image has gaps: zero, pattern (the text ASL-GAP), or keep (what is on the block device that is overwritten). Without it a disk with gaps is refused")
			fs.IntVar(&o.workers, "workers", runtime.GOMAXPROCS(0), "`N` goroutines that read and check")
		},
		run: func(ctx context.Context, c *call) report.Result { return runRestore(ctx, c, o) },
	}
}

type restoreOptions struct {
	to               string
	overwrite, merge bool
	fill             string
	workers          int
}

// filled says what stands in gaps.
func (o restoreOptions) filled() string {
	switch o.fill {
	case "pattern":
		return "hold the text ASL-GAP"
	case "keep":
		return "were left as they were"
	}
	return "read as zeros"
}

// restorer writes places of a snapshot back. Its counters are for all goroutines.
type restorer struct {
	c     *call
	o     restoreOptions
	m     *meter
	total int64
	done  atomic.Int64

	mu       sync.Mutex
	missing  []missing // the first ones
	lost     int64     // bytes missing
	places   int       // ranges missing
	warnings []restore.Warning
	warned   map[string]int
	files    int64
	failed   error // what ended the making of an item, and with it the work
}

// listed bounds what is listed of each kind; all is counted.
const listed = 1000

func runRestore(ctx context.Context, c *call, o restoreOptions) report.Result {
	if o.to == "" {
		return report.Result{Err: report.Usagef("restore: --to DEST is missing")}
	}
	if o.fill != "" && o.fill != "zero" && o.fill != "pattern" && o.fill != "keep" {
		return report.Result{Err: report.Usagef("restore: --fill %q: want zero, pattern or keep", o.fill)}
	}
	o.workers = max(1, o.workers)
	snapshot, path := splitTarget(c.args[0])
	v, err := c.view(ctx, snapshot)
	if err != nil {
		return report.Result{Err: err}
	}
	p, err := c.find(ctx, v, path)
	if err != nil {
		return report.Result{Err: err}
	}
	if inStore(c.dir, o.to) {
		return report.Result{Err: report.Usagef("restore: --to %s lies inside the store %s, which nothing else may write to. Choose a place outside of it", o.to, c.dir)}
	}
	r := &restorer{c: c, o: o, warned: map[string]int{}, m: c.meter("restoring", event.Bytes)}
	began := time.Now()
	dest, err := r.place(ctx, p)
	if errors.Is(err, context.Canceled) {
		err = context.Cause(ctx)
	}
	r.m.end()
	return r.result(p, dest, time.Since(began), err)
}

// inStore tells whether a destination lies in a store, by whatever way it is reached.
func inStore(dir, to string) bool {
	ours := map[inode]bool{}
	var st unix.Stat_t
	for _, name := range []string{".", "blocks", "segments", "logs", "snapshots"} { // one of these may be mounted elsewhere
		if unix.Stat(filepath.Join(dir, name), &st) == nil {
			ours[inode{uint64(st.Dev), st.Ino}] = true
		}
	}
	at, err := filepath.Abs(to)
	if err != nil {
		return false
	}
	for real, err := filepath.EvalSymlinks(at); ; real, err = filepath.EvalSymlinks(at) {
		if err == nil {
			at = real
			break
		}
		if at == "/" {
			return false
		}
		at = filepath.Dir(at)
	}
	for ; ; at = filepath.Dir(at) {
		if unix.Stat(at, &st) == nil && ours[inode{uint64(st.Dev), st.Ino}] {
			return true
		}
		if at == "/" {
			return false
		}
	}
}

// place restores one place and tells where it is now.
func (r *restorer) place(ctx context.Context, p place) (string, error) {
	switch {
	case p.src == nil:
		return r.o.to, r.all(ctx, p.view)
	case p.entry == nil:
		return r.linear(ctx, p, r.o.to)
	case p.isDir():
		r.total = p.src.Length
		if r.o.overwrite {
			return r.o.to, report.Usagef("--overwrite is for files and devices; --merge adds to a directory")
		}
		return r.o.to, r.tree(ctx, p, r.o.to)
	}
	return r.single(ctx, p)
}

// all restores every source to a folder of its own.
func (r *restorer) all(ctx context.Context, v *store.View) error {
	if r.o.overwrite {
		return report.Usagef("--overwrite goes with one source: say which, as S:SOURCE")
	}
	if err := emptyDir(r.o.to, r.o.merge); err != nil {
		return err
	}
	r.total = lengthOf(v.Manifest)
	for i := range v.Manifest.Sources {
		src := &v.Manifest.Sources[i]
		if src.Name == "" || src.Name == "." || src.Name == ".." || strings.ContainsAny(src.Name, "/\x00") {
			return fmt.Errorf("restore source %q: no file can have this name; restore it alone, as S:SOURCE", src.Name)
		}
		p := place{view: v, src: src, entry: src.Top}
		to := filepath.Join(r.o.to, src.Name)
		var err error
		if src.Top == nil {
			_, err = r.linear(ctx, p, to)
		} else {
			err = r.tree(ctx, p, to)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// emptyDir makes a directory, or accepts one that is empty, or not if filled.
func emptyDir(dir string, filled bool) error {
	err := os.Mkdir(dir, 0o755)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	list, err := os.ReadDir(dir)
	if err == nil && len(list) > 0 && !filled {
		err = fmt.Errorf("restore to %s: the directory is not empty: %w", dir, fs.ErrExist)
	}
	return err
}

// linear restores an image or a device. Several workers read, check and write at once.
func (r *restorer) linear(ctx context.Context, p place, to string) (dest string, err error) {
	if p.src.Root == nil {
		return to, fmt.Errorf("source %s has no map", p.src.Name)
	}
	r.total = max(r.total, p.src.Length)
	mode := restore.Refuse
	switch st, err := os.Stat(to); {
	case err == nil && st.IsDir():
		to = filepath.Join(to, filepath.Base(p.src.Name))
		if _, err := os.Lstat(to); err == nil && r.o.overwrite {
			mode = restore.ReplaceFile
		}
	case err == nil && r.o.overwrite && st.Mode()&os.ModeDevice != 0:
		mode = restore.WriteDevice
	case err == nil && r.o.overwrite:
		mode = restore.ReplaceFile
	}
	if err := r.mayFill(p, mode); err != nil {
		return to, err
	}
	w, err := restore.Linear(to, p.src.Length, mode)
	if err != nil {
		return to, err
	}
	defer func() { _ = w.Abort() }() // after Finish it does nothing
	if err := r.copyLinear(ctx, p, w); err != nil {
		return to, err
	}
	return to, w.Finish()
}

// mayFill refuses to make something up: what was not read is neither data nor zeros, unless somebody says so.
func (r *restorer) mayFill(p place, mode restore.Existing) error {
	lost := p.src.Counts.Unreadable + p.src.Counts.Untried
	switch {
	case r.o.fill == "keep" && mode != restore.WriteDevice:
		return report.Usagef("restore: --fill keep is for a block device that is overwritten: a new file has nothing to keep")
	case r.o.fill == "" && lost > 0:
		return report.Usagef("restore: %s of %s were not read. Say with --fill what is to stand there: zero, pattern, or keep on a block device; "+
			"`asl-admin show %d` lists the gaps", event.Bytes(lost), p.src.Name, p.view.Snapshot.Number)
	}
	return nil
}

// gapText fills a gap so that it can be seen, and found: it begins anew at every 8 bytes of the disk.
const gapText = "ASL-GAP\n"

func (r *restorer) fillGap(w *restore.LinearWriter, off, n int64) error {
	switch r.o.fill {
	case "keep":
		w.Keep(off, n)
	case "pattern":
		buf := []byte(strings.Repeat(gapText, 8192))
		for n > 0 {
			part := buf[off%8:]
			part = part[:min(n, int64(len(part)))]
			if _, err := w.WriteAt(part, off); err != nil {
				return err
			}
			off, n = off+int64(len(part)), n-int64(len(part))
		}
	}
	return nil
}

func (r *restorer) copyLinear(ctx context.Context, p place, w *restore.LinearWriter) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan []store.Stretch)
	var wg sync.WaitGroup
	for range r.o.workers {
		wg.Go(func() {
			for some := range work {
				if err := r.copyStretches(ctx, p, some, w); err != nil {
					cancel(err)
				}
			}
		})
	}
	gone := func(m missing) {
		r.note(m)
		w.Gap(source.Gap{Off: m.Off, Len: m.Len, Kind: source.Unreadable, Why: m.Why})
		if err := r.fillGap(w, m.Off, m.Len); err != nil {
			cancel(err)
		}
	}
	win := &window{}
	flush := func() bool {
		select {
		case work <- win.content:
			win = &window{}
			return true
		case <-ctx.Done():
			return false
		}
	}
	for page, err := range p.view.MapPages(ctx, *p.src.Root) {
		if err != nil && !isLost(err) || page == nil {
			cancel(err)
			break
		}
		data := func(st store.Stretch) bool {
			win.add(st)
			return !win.full() || flush()
		}
		if !sift(p.name(), page, err, data, gone) {
			break
		}
		r.passed(page)
	}
	flush()
	close(work)
	wg.Wait()
	return context.Cause(ctx)
}

// passed counts what needs no writing.
func (r *restorer) passed(page []store.Stretch) {
	n := int64(0)
	for _, st := range page {
		if st.Kind != source.Data {
			n += st.Len
		}
	}
	r.m.at(r.done.Add(n), r.total)
}

func (r *restorer) copyStretches(ctx context.Context, p place, some []store.Stretch, w *restore.LinearWriter) error {
	return p.view.Fetch(ctx, some,
		func(st store.Stretch, data []byte) error {
			_, err := w.WriteAt(data, st.Off)
			r.m.at(r.done.Add(st.Len), r.total)
			return err
		},
		func(st store.Stretch, err error) error {
			if !isLost(err) {
				return err
			}
			r.note(missing{p.name(), st.Off, st.Len, "damaged", err.Error()})
			w.Gap(source.Gap{Off: st.Off, Len: st.Len, Kind: source.Unreadable, Why: err.Error()})
			return r.fillGap(w, st.Off, st.Len)
		})
}

func (r *restorer) note(m missing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost += m.Len
	if n := len(r.missing); n > 0 { // neighbours are one place
		last := &r.missing[n-1]
		if last.Path == m.Path && last.Kind == m.Kind && last.Off+last.Len == m.Off && m.Kind != "damaged" {
			last.Len += m.Len
			return
		}
	}
	r.places++
	if len(r.missing) < listed {
		r.missing = append(r.missing, m)
	}
}

func (r *restorer) warn(w restore.Warning) {
	r.warned[w.What]++
	if len(r.warnings) < listed {
		r.warnings = append(r.warnings, w)
	}
}

// single restores one entry that is no directory: into a folder beside its place, and from there under its name.
func (r *restorer) single(ctx context.Context, p place) (string, error) {
	to := r.o.to
	if st, err := os.Stat(to); err == nil && st.IsDir() {
		to = filepath.Join(to, string(p.entry.Name))
	}
	if _, err := os.Lstat(to); err == nil && !r.o.overwrite {
		return to, fmt.Errorf("restore to %s: %w", to, fs.ErrExist)
	}
	r.total = p.entry.Size
	dir := restore.PartName(to)
	if err := os.Mkdir(dir, 0o700); err != nil {
		if errors.Is(err, fs.ErrExist) {
			err = fmt.Errorf("an earlier restore was interrupted and left %s; remove it or take another name: %w", dir, err)
		}
		return to, err
	}
	lone := *p.entry
	lone.Link = nil
	content, err := p.content(ctx)
	if err != nil {
		return to, err
	}
	lone.Inline, lone.Ranges, lone.Map = content.Inline, content.Ranges, content.Map
	top := format.Entry{Type: source.Dir, Mode: 0o700, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), MSec: time.Now().Unix()}
	if err := r.walk(ctx, p, dir, &top, func(t *treeFiller) { t.entry(&lone, string(lone.Name)) }); err != nil {
		return to, err
	}
	r.files-- // the folder it was made in
	made := filepath.Join(dir, string(lone.Name))
	if _, err := os.Lstat(made); errors.Is(err, fs.ErrNotExist) { // a warning says why
		r.files--
		return to, errors.Join(r.refusal(), os.Remove(dir))
	}
	return to, moveOut(made, dir, to, r.o.overwrite)
}

// errNotMade says that an entry restored alone could not be made.
var errNotMade = errors.New("nothing was made")

// refusal is why.
func (r *restorer) refusal() error {
	if n := len(r.warnings); n > 0 {
		return fmt.Errorf("%w: %s: %w", errNotMade, r.warnings[n-1].What, r.warnings[n-1].Err)
	}
	return errNotMade
}

// moveOut gives a restored file its place and removes the folder it was made in.
func moveOut(from, dir, to string, overwrite bool) error {
	if err := restore.Move(from, to, overwrite); err != nil {
		return fmt.Errorf("the file is whole in %s, but could not be moved to %s: %w", from, to, err)
	}
	return os.Remove(dir)
}

// result says what came of it.
func (r *restorer) result(p place, dest string, took time.Duration, err error) report.Result {
	slices.SortStableFunc(r.missing, func(a, b missing) int { return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Off, b.Off)) })
	for _, m := range r.missing {
		r.c.row("missing", m, "MISSING %s", m)
	}
	if more := r.places - len(r.missing); more > 0 {
		r.c.text("and %s more", event.CountOf(int64(more), "place", "places"))
	}
	warned, kept := 0, r.warned["exists already, kept"]
	for _, w := range r.warnings {
		r.c.row("warning", map[string]any{"path": w.Path, "what": w.What, "why": w.Err.Error()}, "%s: %s: %s", event.Printable(w.Path), w.What, event.Printable(w.Err.Error()))
	}
	for _, n := range r.warned {
		warned += n
	}
	if more := warned - len(r.warnings); more > 0 {
		r.c.text("and %s more", event.CountOf(int64(more), "warning", "warnings"))
	}
	warned -= kept
	word := event.Complete
	if r.lost > 0 || r.places > 0 || warned > 0 {
		word = event.CompleteWithGaps
	}
	fields := map[string]any{"from": p.name(), "to": dest, "bytes": r.done.Load(), "missing_bytes": r.lost, "missing_places": r.places, "warnings": warned, "kept": kept, "entries": r.files, "took_s": event.Seconds(took)}
	if err != nil {
		means, next := "", []string(nil)
		if errors.Is(err, errNotMade) {
			means, next = "The destination cannot hold it, only root may make it, or nothing of it was saved.", []string{"Try it as root, or on a file system like the one it came from."}
		} else if dir := filepath.Dir(filepath.Clean(dest)); errors.Is(err, fs.ErrNotExist) && nearest(dir) != dir {
			next = []string{"Make the directory that it is to lie in: mkdir -p " + typed(dir)}
		} else if errors.Is(err, fs.ErrExist) {
			next = []string{"asl-admin restore --help says what --to, --merge and --overwrite do"}
		} else if report.CodeOf(err) != report.Usage {
			means, next = "The store is as it was; what was restored is not whole. A restore does not go on, it begins anew.", r.leftovers(p, dest, err)
		}
		if report.CodeOf(err) == report.Usage {
			return report.Result{Err: err}
		}
		return report.Result{Err: &report.Error{What: fmt.Sprintf("restore %s to %s", p.full(), dest), Err: err, Means: means, Next: next}, Fields: fields}
	}
	text := fmt.Sprintf("%s: %s restored to %s: %s%s in %s", word, event.Printable(p.full()), dest, event.Bytes(r.done.Load()), entriesText(r.files), event.Duration(took))
	if r.lost > 0 {
		text += fmt.Sprintf("; %s missing in %s %s", event.Bytes(r.lost), event.CountOf(int64(r.places), "place", "places"), r.o.filled())
	}
	if warned > 0 {
		text += "; " + event.CountOf(int64(warned), "warning", "warnings")
	}
	if kept > 0 {
		text += fmt.Sprintf("; %s existed and were kept", event.CountOf(int64(kept), "entry", "entries"))
	}
	return report.Result{Word: word, Text: text, Fields: fields}
}

// leftovers says what to do before a restore that ended early is tried again.
func (r *restorer) leftovers(p place, dest string, err error) []string {
	var next []string
	if errors.Is(err, artifact.ErrFull) {
		next = append(next, "Make room there, or restore to another place with --to.")
	}
	for _, left := range []string{restore.PartName(dest), dest} {
		st, serr := os.Stat(left)
		switch {
		case serr != nil:
		case st.Mode()&os.ModeDevice != 0:
			next = append(next, dest+" is overwritten in part: restore to it once more, with --overwrite.")
		case left != dest:
			next = append(next, "Remove "+left+", which is not whole.")
		case st.IsDir() && r.o.merge:
			next = append(next, "Remove the last files made in "+dest+", which may not be whole: with --merge what exists is kept.")
		case st.IsDir() && p.isDir():
			next = append(next, "Remove the directory "+dest+", which is filled in part.")
		}
	}
	return append(next, "Then run the same command again.")
}

func entriesText(n int64) string {
	if n == 0 {
		return ""
	}
	return ", " + event.CountOf(n, "entry", "entries")
}
