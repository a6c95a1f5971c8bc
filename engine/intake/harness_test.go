package intake_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"aslrescue/backends/local"
	"aslrescue/engine/artifact"
	"aslrescue/engine/chunk"
	"aslrescue/engine/event"
	"aslrescue/engine/intake"
	"aslrescue/engine/source"
	"aslrescue/engine/source/sourcetest"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
	"aslrescue/engine/vfs"
	"aslrescue/engine/vfs/memfs"
)

// deep is for nightly runs: go test ./engine/intake -run TestCrash -timeout 0 -args -deep 20m.
var deep = flag.Duration("deep", 0, "how long the searches go on with further seeds, after the states that every run looks at")

const domain = "home"

// tiny makes many units, chunks and blocks of a few hundred KiB.
func tiny() chunk.Params {
	p := chunk.Default()
	p.SuperBlock, p.ZeroRun = 16<<10, 2
	p.Min, p.Avg, p.Max = 4<<10, 8<<10, 16<<10
	p.ByteMin, p.ByteAvg, p.ByteMax = 256, 1<<10, 4<<10
	return p
}

// hasty seals a block after every unit and acknowledges after every block, so that there is much to lose.
func hasty(c intake.Compression) intake.Options {
	return intake.Options{Compression: c, Workers: 2, Budget: intake.MinBudget, AckEvery: -1, ForceAfter: 1, Chunk: tiny(),
		Clock: func() time.Time { return time.Unix(1_800_000_000, 0) }}
}

// world is a set of sources that can be opened again and again, and what every byte of them is.
type world struct {
	label   string
	sources func() []source.Source
	truth   map[string]string // "source" or "source/path": content
}

// noise is content that does not compress, words is content that does.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	sourcetest.Pattern{Seed: seed}.Fill(b, 0)
	return b
}

func words(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	var b bytes.Buffer
	for b.Len() < n {
		fmt.Fprintf(&b, "%c%s ", 'a'+rune(r.IntN(26)), []string{"disk", "sector", "pool", "block", "log"}[r.IntN(5)])
	}
	return b.Bytes()[:n]
}

// mixed is an image of about so many bytes: noise, zeros, words, and something that was there before.
func mixed(seed uint64, n int) []byte {
	var b []byte
	for i := uint64(0); len(b) < n; i++ {
		switch i % 4 {
		case 0:
			b = append(b, noise(seed+i, 20_000)...)
		case 1:
			b = append(b, make([]byte, 24<<10)...)
		case 2:
			b = append(b, words(seed+i, 12<<10)...)
		case 3:
			b = append(b, noise(seed, 16<<10)...)
		}
	}
	return b[:n]
}

func image(name string, content []byte) source.Source {
	return sourcetest.NewLinear(sourcetest.Config{Name: name, Bytes: content})
}

// newWorld has an image, a tree with short, long, linked and odd entries, and a stream.
func newWorld(label string, seed uint64, size int) *world {
	img, str := mixed(seed, size), append(words(seed, size/3), mixed(seed, size/4)...)
	entries := []sourcetest.Entry{
		{Path: "empty"},
		{Path: "short", Content: words(seed, 300)},
		{Path: "dir/page", Content: words(seed+1, 3000)},
		{Path: "dir/sub/same", Content: words(seed+1, 3000)},
		{Path: "dir/first", Content: noise(seed+2, 2000), Ino: 7},
		{Path: "dir/second", Content: noise(seed+2, 2000), Ino: 7},
		{Path: "dir/gone", Meta: source.Meta{Type: source.Symlink, LinkTarget: []byte("nowhere")}},
		{Path: "long", Content: mixed(seed+3, size/2)},
		{Path: "z", Content: noise(seed+4, 5000)},
	}
	w := &world{label: label, truth: map[string]string{"image": string(img), "stream": string(str)}}
	w.addTree("tree", entries)
	w.sources = func() []source.Source {
		return []source.Source{image("image", img), sourcetest.NewTree("tree", entries), source.OpenStream(bytes.NewReader(str), "stream")}
	}
	return w
}

func (w *world) addTree(name string, entries []sourcetest.Entry) {
	first := map[uint64]string{}
	w.truth[name+"/"] = "dir"
	for _, e := range slices.SortedFunc(slices.Values(entries), func(a, b sourcetest.Entry) int { return strings.Compare(a.Path, b.Path) }) {
		what := "file " + string(e.Content)
		if e.Meta.Type == source.Symlink {
			what = "link " + string(e.Meta.LinkTarget)
		}
		if e.Ino != 0 && first[e.Ino] != "" {
			what = "same as " + first[e.Ino]
		}
		first[e.Ino] = e.Path
		w.truth[name+"/"+e.Path] = what
		for p := e.Path; strings.Contains(p, "/"); {
			p = p[:strings.LastIndexByte(p, '/')]
			w.truth[name+"/"+p] = "dir"
		}
	}
}

// onlyImages is a world of images.
func onlyImages(label string, contents ...[]byte) *world {
	w := &world{label: label, truth: map[string]string{}}
	for i, c := range contents {
		w.truth[fmt.Sprint("image", i)] = string(c)
	}
	w.sources = func() []source.Source {
		var list []source.Source
		for i, c := range contents {
			list = append(list, image(fmt.Sprint("image", i), c))
		}
		return list
	}
	return w
}

// newMedium is a durable empty store.
func newMedium(o memfs.Options) (*memfs.FS, error) {
	fsys := memfs.With(o)
	b, err := local.Create(fsys, "memory")
	if err == nil {
		_, err = store.Create(context.Background(), b, store.Options{Domain: domain})
	}
	return settled(fsys), err
}

// settled is a medium as it is now, with everything durable and its operations counted from zero.
func settled(fsys *memfs.FS) *memfs.FS {
	return fsys.CrashAt(fsys.Ops(), memfs.Pattern{Keep: memfs.All})
}

func openStore(fsys vfs.FS, opts ...local.Option) (*store.Store, error) {
	b, err := local.Open(fsys, "memory", opts...)
	if err != nil {
		return nil, err
	}
	return store.Open(context.Background(), b, store.Options{})
}

// run takes a world in, going on with an unfinished intake of it if there is one.
func run(ctx context.Context, s *store.Store, w *world, o intake.Options) (*intake.Report, error) {
	sources := w.sources()
	o.Label = w.label
	if in, ok := intake.Find(s.Unfinished(), sources); ok {
		o.Resume = &in.Begin.Intake
	}
	return intake.Run(ctx, s, sources, o)
}

// oneIntake opens the store and takes a world in.
func oneIntake(ctx context.Context, fsys vfs.FS, w *world, o intake.Options) (*intake.Report, error) {
	s, err := openStore(fsys)
	if err != nil {
		return nil, err
	}
	return run(ctx, s, w, o)
}

// mustComplete is oneIntake that ends well.
func mustComplete(t *testing.T, fsys vfs.FS, w *world, o intake.Options) *intake.Report {
	t.Helper()
	rep, err := oneIntake(t.Context(), fsys, w, o)
	if err != nil || rep.Result != event.Complete {
		t.Fatalf("intake of %s: %+v, %v", w.label, rep, err)
	}
	return rep
}

// readBack gives every byte that a snapshot holds, in the form of world.truth.
func readBack(ctx context.Context, v *store.View) (map[string]string, error) {
	all := map[string]string{}
	for _, src := range v.Manifest.Sources {
		if src.Root != nil {
			content, err := readPages(ctx, v, v.MapPages(ctx, *src.Root))
			if err != nil {
				return nil, fmt.Errorf("source %s: %w", src.Name, err)
			}
			all[src.Name] = content
			continue
		}
		all[src.Name+"/"] = "dir"
		if err := readDir(ctx, v, src.Top, src.Name+"/", all); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func readDir(ctx context.Context, v *store.View, dir *format.Entry, prefix string, all map[string]string) error {
	last := ""
	for e, err := range v.Dir(ctx, dir) {
		if err != nil {
			return fmt.Errorf("%s: %w", prefix, err)
		}
		name := string(e.Name)
		if last != "" && name <= last {
			return fmt.Errorf("%s: %q comes after %q", prefix, name, last)
		}
		last = name
		if child, err := v.Child(ctx, dir, e.Name); err != nil || child.Type != e.Type {
			return fmt.Errorf("%s%s is not found by its name: %w", prefix, name, err)
		}
		switch {
		case e.Type == source.Dir:
			all[prefix+name] = "dir"
			if err := readDir(ctx, v, e, prefix+name+"/", all); err != nil {
				return err
			}
		case e.Type == source.Symlink:
			all[prefix+name] = "link " + string(e.Target)
		case e.Link != nil:
			all[prefix+name] = "same as " + string(e.Link)
		case e.Inline != nil:
			all[prefix+name] = "file " + string(e.Inline)
		default:
			content, err := readPages(ctx, v, v.FilePages(ctx, e))
			if err == nil && int64(len(content)) != e.Size && (content != "" || e.Err == "") {
				err = fmt.Errorf("%d bytes, the entry says %d", len(content), e.Size)
			}
			if err != nil {
				return fmt.Errorf("%s%s: %w", prefix, name, err)
			}
			all[prefix+name] = "file " + content
		}
	}
	return nil
}

// readPages gives the bytes of a map. What could not be read of the source is question marks.
func readPages(ctx context.Context, v *store.View, pages func(func([]store.Stretch, error) bool)) (string, error) {
	var out []byte
	for page, err := range pages {
		if err != nil {
			return "", err
		}
		base := int64(len(out))
		for _, st := range page {
			fill := byte(0)
			if st.Kind != source.Data && st.Kind != source.Zero {
				fill = '?'
			}
			if st.Off != int64(len(out)) {
				return "", fmt.Errorf("a range at %d follows %d bytes", st.Off, len(out))
			}
			out = append(out, bytes.Repeat([]byte{fill}, int(st.Len))...)
		}
		seen := 0
		err := v.Fetch(ctx, page, func(st store.Stretch, data []byte) error {
			seen++
			if st.Off < base || int64(len(data)) != st.Len {
				return fmt.Errorf("%d bytes at %d for a range of %d", len(data), st.Off, st.Len)
			}
			copy(out[st.Off:], data)
			return nil
		}, func(st store.Stretch, err error) error { return fmt.Errorf("chunk at %d: %w", st.Off, err) })
		if err != nil {
			return "", err
		}
		for _, st := range page {
			if st.Kind == source.Data {
				seen--
			}
		}
		if seen != 0 {
			return "", fmt.Errorf("the chunks of the page at %d were not all given", base)
		}
	}
	return string(out), nil
}

// differs tells the first difference between what is and what should be.
func differs(got, want map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		g, ok := got[name]
		if !ok {
			return fmt.Errorf("%q is missing", name)
		}
		if g != want[name] {
			at := 0
			for at < len(g) && at < len(want[name]) && g[at] == want[name][at] {
				at++
			}
			return fmt.Errorf("%q: %d bytes, want %d, differs at %d", name, len(g), len(want[name]), at)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			return fmt.Errorf("%q is too much", name)
		}
	}
	return nil
}

// readsBack checks the snapshot with that number against its world.
func readsBack(ctx context.Context, s *store.Store, number uint64, w *world) error {
	v, err := s.At(ctx, number)
	if err != nil {
		return err
	}
	got, err := readBack(ctx, v)
	if err != nil {
		return err
	}
	return differs(got, w.truth)
}

// ack is something an intake said is durable, and after how many operations it said so.
type ack struct {
	op       int
	intake   string
	stream   int64  // of a resume point
	snapshot uint64 // of a snapshot
}

// witness writes down what is acknowledged, outside the store.
type witness struct {
	fsys *memfs.FS
	mu   sync.Mutex
	acks []ack
	cur  string
	seen int
	at   func(n int) // called with the number of each event
}

func (k *witness) event(e event.Event) {
	k.mu.Lock()
	op := 0
	if k.fsys != nil {
		op = k.fsys.Ops()
	}
	switch e := e.(type) {
	case event.IntakeBegun:
		k.cur = e.Intake
		k.acks = append(k.acks, ack{op: op, intake: k.cur})
	case event.ResumePoint:
		k.acks = append(k.acks, ack{op: op, intake: k.cur, stream: e.Settled})
	case event.SnapshotSealed:
		k.acks = append(k.acks, ack{op: op, intake: k.cur, snapshot: e.Number})
	}
	k.seen++
	n, at := k.seen, k.at
	k.mu.Unlock()
	if at != nil {
		at(n)
	}
}

// until is what was acknowledged by then.
func (k *witness) until(op int) []ack {
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []ack
	for _, a := range k.acks {
		if a.op <= op {
			list = append(list, a)
		}
	}
	return list
}

// expect is what must hold of a store.
type expect struct {
	acks     []ack
	part     uint64 // the log reaches at least this part
	worlds   map[string]*world
	oneCopy  bool // no artifact stands in two visible blocks
	readOnly bool
}

// inspect opens the store on a medium, looks at everything that is visible in it, and says what is wrong.
func inspect(ctx context.Context, fsys vfs.FS, x expect) (*store.Store, error) {
	var opts []local.Option
	if x.readOnly {
		opts = append(opts, local.ReadOnly())
	}
	s, err := openStore(fsys, opts...)
	if err != nil {
		return nil, err
	}
	if err := s.Broken(); err != nil {
		return s, fmt.Errorf("the log counts as damaged: %w", err)
	}
	if _, part := s.Position(); part < x.part {
		return s, fmt.Errorf("the log ends at part %d, part %d was durable", part, x.part)
	}
	copies, err := wholeObjects(ctx, s)
	if err != nil {
		return s, err
	}
	if err := resumable(s, copies); err != nil {
		return s, err
	}
	if err := acknowledged(s, x.acks); err != nil {
		return s, err
	}
	for i, snap := range s.Snapshots() {
		if snap.Number != uint64(i+1) {
			return s, fmt.Errorf("snapshot %d is number %d", i+1, snap.Number)
		}
		w := x.worlds[snap.Label]
		if w == nil {
			return s, fmt.Errorf("snapshot %d has the label %q", snap.Number, snap.Label)
		}
		if err := readsBack(ctx, s, snap.Number, w); err != nil {
			return s, fmt.Errorf("snapshot %d: %w", snap.Number, err)
		}
	}
	if x.oneCopy {
		for d, n := range copies {
			if n > 1 {
				return s, fmt.Errorf("artifact %s is stored %d times", d, n)
			}
		}
	}
	return s, nil
}

// wholeObjects checks every segment and block that the log makes visible, and counts the artifacts.
func wholeObjects(ctx context.Context, s *store.Store) (copies map[artifact.Digest]int, err error) {
	copies = map[artifact.Digest]int{}
	blocks := map[artifact.Digest][]format.BlockEntry{}
	need := func(id artifact.Digest) error {
		if _, ok := blocks[id]; ok {
			return nil
		}
		data, err := object(ctx, s.Backend(), "blocks/"+id.String())
		if err != nil {
			return err
		}
		_, entries, err := format.DecodeBlock(id, data)
		if err != nil {
			return fmt.Errorf("visible block %s: %w", id, err)
		}
		blocks[id] = entries
		for _, e := range entries {
			copies[e.Ref.Digest]++
		}
		return nil
	}
	for _, seal := range s.Segments() {
		data, err := object(ctx, s.Backend(), "segments/"+seal.Segment.String())
		if err != nil {
			return nil, err
		}
		seg, err := format.DecodeSegment(seal.Segment, data)
		if err != nil {
			return nil, fmt.Errorf("visible segment %s: %w", seal.Segment, err)
		}
		count := 0
		for i, row := range seg.Blocks {
			if err := need(row.ID); err != nil {
				return nil, err
			}
			if row.ID != seal.Blocks[i] {
				return nil, fmt.Errorf("segment %s and its record name other blocks", seal.Segment)
			}
			count += len(blocks[row.ID])
		}
		for _, e := range seg.Entries {
			if !slices.Contains(blocks[seg.Blocks[e.Block].ID], format.BlockEntry{Ref: e.Ref, Tag: e.Tag, Codec: e.Codec, Off: e.Off, Stored: e.Stored, Raw: e.Raw}) {
				return nil, fmt.Errorf("segment %s: the block does not hold %s there", seal.Segment, e.Ref)
			}
		}
		if count != len(seg.Entries) {
			return nil, fmt.Errorf("segment %s has %d entries, its blocks %d", seal.Segment, len(seg.Entries), count)
		}
	}
	for _, in := range s.Unfinished() {
		for _, b := range in.Blocks {
			if err := need(b.ID); err != nil {
				return nil, err
			}
			entries, err := format.DecodeEntries(b.Entries)
			if err != nil || !slices.Equal(entries, blocks[b.ID]) {
				return nil, fmt.Errorf("block %s is not as its resume point says: %w", b.ID, err)
			}
		}
	}
	return copies, nil
}

func object(ctx context.Context, b store.Backend, name string) ([]byte, error) {
	r, err := b.Open(ctx, name, 0, -1)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	return data, errors.Join(err, r.Close())
}

// resumable checks that every artifact which the state of an unfinished intake names is stored.
func resumable(s *store.Store, copies map[artifact.Digest]int) error {
	var missing error
	ref := func(r *artifact.Ref, what string) {
		if r != nil && copies[r.Digest] == 0 {
			missing = errors.Join(missing, fmt.Errorf("%s %s is in no sealed block", what, r))
		}
	}
	ranges := func(list []format.Range, what string) {
		for _, r := range list {
			if r.Kind == source.Data {
				a, _ := r.Artifact()
				ref(&a, what)
			}
		}
	}
	aMap := func(m *format.MapState, what string) {
		if m == nil {
			return
		}
		for _, r := range slices.Concat(m.Nodes, m.Pages) {
			ref(r, what)
		}
		ranges(m.Ranges, what)
	}
	for _, in := range s.Unfinished() {
		if in.Point == nil {
			continue
		}
		for _, st := range in.Point.State {
			aMap(st.Map, "map")
			aMap(st.FileMap, "map of a long file")
			for _, l := range st.Logs {
				ref(&l, "tree log")
			}
			for _, row := range st.Tail {
				ranges(row.Content.Ranges, "file")
				ref(row.Content.Map, "map of a file")
			}
			if f := st.Finished; f != nil {
				ref(f.Root, "root")
				if f.Top != nil {
					ref(f.Top.Dir, "top directory")
				}
			}
		}
		if missing != nil {
			return fmt.Errorf("resume point of intake %x: %w", in.Begin.Intake, missing)
		}
	}
	return nil
}

// acknowledged checks that nothing an intake said is durable was lost.
func acknowledged(s *store.Store, acks []ack) error {
	at := map[string]*format.ResumePoint{}
	there := map[string]bool{}
	for _, in := range s.Unfinished() {
		id := fmt.Sprintf("%x", in.Begin.Intake)
		at[id], there[id] = in.Point, true
	}
	sealed := map[string]uint64{}
	for _, snap := range s.Snapshots() {
		sealed[fmt.Sprintf("%x", snap.Intake)] = snap.Number
	}
	for _, a := range acks {
		number, done := sealed[a.intake]
		switch p := at[a.intake]; {
		case a.snapshot != 0 && number != a.snapshot:
			return fmt.Errorf("snapshot %d was acknowledged after operation %d and is lost", a.snapshot, a.op)
		case done:
		case !there[a.intake]:
			return fmt.Errorf("intake %s was begun after operation %d and is lost", a.intake, a.op)
		case a.stream > 0 && (p == nil || p.Stream < a.stream):
			return fmt.Errorf("resume point %d was acknowledged after operation %d and is lost: %+v", a.stream, a.op, p)
		}
	}
	return nil
}

func worlds(list ...*world) map[string]*world {
	m := map[string]*world{}
	for _, w := range list {
		m[w.label] = w
	}
	return m
}

// roots are the references that stand for the sources of a snapshot.
func roots(m *format.Manifest) string {
	var b strings.Builder
	for _, src := range m.Sources {
		raw, err := format.Marshal([]any{src.Root, src.Top})
		fmt.Fprintf(&b, "%s %x %v\n", src.Name, raw, err)
	}
	return b.String()
}
