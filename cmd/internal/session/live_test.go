package session

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"aslrescue/backends/zfs"
	"aslrescue/cmd/internal/attach"
	"aslrescue/cmd/internal/config"
	"aslrescue/cmd/internal/report"
	"aslrescue/cmd/internal/wire"
	"aslrescue/detect"
	"aslrescue/detect/probe"
	"aslrescue/engine/approval"
	"aslrescue/engine/event"
	"aslrescue/tui/ask"
)

// given is a Looker that has found what a test says.
type given struct {
	updates chan probe.Update
	facts   *detect.Facts
}

func (g *given) Updates() <-chan probe.Update { return g.updates }
func (g *given) Again(probe.Wish) {
	select {
	case g.updates <- probe.Update{Facts: *g.facts, Done: true}:
	default: // what nobody took yet is as new
	}
}

// liveRun is an engine over a rig, with faces that reach it through its socket.
type liveRun struct {
	t     *testing.T
	dir   string
	rig   *rig
	look  *given
	live  *Live
	place wire.Place

	mu  sync.Mutex
	now *detect.Facts // what a look at the moment of doing finds
}

func newLiveRun(t *testing.T) *liveRun {
	dir, err := os.MkdirTemp("", "live")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &liveRun{t: t, dir: dir, rig: &rig{ds: map[string]zfs.Dataset{"tank": {Name: "tank", Type: "filesystem"}}}, now: tankFacts(), place: wire.At(dir)}
	r.look = &given{updates: make(chan probe.Update, 1), facts: tankFacts()}
	look := func(context.Context) (*detect.Facts, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.now, nil
	}
	c := config.Default()
	c.LocalMount = filepath.Join(dir, "mnt")
	r.live = NewLive(LiveOptions{Config: c, Look: r.look, Memory: 96 << 20, Child: listHere,
		Pools: pools{look: look, zfs: zfs.ZFS{Runner: r.rig, System: r.rig, Datasets: r.rig, Sleep: func(time.Duration) {}}, state: filepath.Join(dir, "state"), now: time.Now}})
	r.look.Again(probe.Wish{})
	l, err := r.place.Listen()
	if err != nil {
		t.Fatal(err)
	}
	srv := attach.NewServer(r.live, attach.Options{Tool: "test"})
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(l) })
	t.Cleanup(func() { srv.Close("over"); _ = r.live.Close(); _ = l.Close(); wg.Wait() })
	return r
}

// listHere does what the child would.
func listHere(_ context.Context, args ...string) ([]byte, error) {
	var out strings.Builder
	err := listDir(args[1], &out)
	return []byte(out.String()), err
}

func (r *liveRun) ctx() context.Context {
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	r.t.Cleanup(cancel)
	return ctx
}

func (r *liveRun) face(name string) *attach.Remote {
	f, err := attach.Dial(r.ctx(), r.place, "test", name)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = f.Close() })
	return f
}

// until waits until a face knows something.
func (r *liveRun) until(f *attach.Remote, what string, ok func(ask.State) bool) ask.State {
	ctx := r.ctx()
	for {
		st := f.State()
		if ok(st) {
			return st
		}
		select {
		case <-f.News():
		case <-ctx.Done():
			r.t.Fatalf("never: %s: %+v", what, st)
		}
	}
}

func (r *liveRun) offer(f *attach.Remote, way string) ask.Offer {
	r.until(f, "the pool is found", func(st ask.State) bool { return len(st.Look.Facts.Pools) == 1 && !st.Look.Looking })
	all, err := f.Offers(r.ctx())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, o := range all {
		if o.Way == way {
			return o
		}
	}
	r.t.Fatalf("nothing is offered %s: %+v", way, all)
	return ask.Offer{}
}

func said(st ask.State, what string) bool {
	for _, l := range st.Lines {
		if strings.Contains(l.Text, what) {
			return true
		}
	}
	return false
}

func TestTheFirstOfTwoFacesToAnswerWinsAndBothSeeIt(t *testing.T) {
	r := newLiveRun(t)
	a, b := r.face("tty1"), r.face("ssh")
	o := r.offer(a, "writable")
	if same := r.offer(b, "writable"); same.Hash != o.Hash {
		t.Fatalf("two faces are offered %s and %s", o.Hash, same.Hash)
	}
	if o.Gate != int(approval.Risky) || o.Word != "tank" || len(o.Disks) != 2 || !strings.Contains(strings.Join(o.Command, " "), "zpool import -N") {
		t.Errorf("the offer is %+v", o)
	}
	var wg sync.WaitGroup
	errs := make([]error, 2)
	texts := make([]string, 2)
	for i, f := range []*attach.Remote{a, b} {
		wg.Go(func() { texts[i], errs[i] = f.Answer(r.ctx(), ask.Answer{Hash: o.Hash, Yes: true, Word: "tank"}) })
	}
	wg.Wait()
	won := 0
	if errs[0] != nil {
		won = 1
	}
	if errs[won] != nil || !errors.Is(errs[1-won], ask.ErrAnswered) {
		t.Fatalf("answers: %v, %v", errs[0], errs[1])
	}
	winner := []string{"tty1", "ssh"}[won]
	if !strings.Contains(texts[won], winner) {
		t.Errorf("the answer %q does not name %s", texts[won], winner)
	}
	for _, f := range []*attach.Remote{a, b} {
		r.until(f, "what was answered, and by whom", func(st ask.State) bool { return said(st, "approved ("+winner+")") })
	}
	if n := strings.Count(strings.Join(r.rig.did, "\n"), "zpool import"); n != 1 {
		t.Errorf("%d imports: %v", n, r.rig.did)
	}
	if _, err := os.Stat(filepath.Join(r.dir, "state", approval.Waiting)); err != nil {
		t.Errorf("the approval was not written down: %v", err)
	}
	if err := a.Leave(r.ctx(), false); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(r.rig.did, "\n"), "zpool export tank") {
		t.Errorf("the pool was not let go of: %v", r.rig.did)
	}
}

func TestNoAnswerButTheRightOneTouchesAPool(t *testing.T) {
	r := newLiveRun(t)
	f := r.face("tty1")
	o := r.offer(f, "writable")
	ro := r.offer(f, "read-only")
	wrong := strings.Repeat("0", len(o.Hash))
	for name, c := range map[string]struct {
		a    ask.Answer
		want error
	}{
		"the wrong word":          {ask.Answer{Hash: o.Hash, Yes: true, Word: "tnak"}, approval.ErrMissing},
		"no word":                 {ask.Answer{Hash: o.Hash, Yes: true}, approval.ErrMissing},
		"the hash as the word":    {ask.Answer{Hash: o.Hash, Yes: true, Word: o.Hash}, approval.ErrMissing},
		"the wrong hash":          {ask.Answer{Hash: wrong, Yes: true, Word: "tank"}, ask.ErrChanged},
		"no hash":                 {ask.Answer{Yes: true, Word: "tank"}, ask.ErrChanged},
		"half a hash":             {ask.Answer{Hash: o.Hash[:16], Yes: true, Word: "tank"}, ask.ErrChanged},
		"a hash in capitals":      {ask.Answer{Hash: strings.ToUpper(o.Hash), Yes: true, Word: "tank"}, ask.ErrChanged},
		"no":                      {ask.Answer{Hash: o.Hash, Word: "tank"}, nil},
		"no to reading":           {ask.Answer{Hash: ro.Hash}, nil},
		"yes as the word of a no": {ask.Answer{Hash: o.Hash, Word: "y"}, nil},
	} {
		if _, err := f.Answer(r.ctx(), c.a); !errors.Is(err, c.want) || c.want != nil && report.CodeOf(err) == report.OK {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	// The machine changes between the plan on the screen and the yes.
	r.mu.Lock()
	r.now.Disks[1].Serial = "S3"
	r.mu.Unlock()
	if _, err := f.Answer(r.ctx(), ask.Answer{Hash: o.Hash, Yes: true, Word: "tank"}); !errors.Is(err, ask.ErrChanged) || !strings.Contains(err.Error(), "S2") {
		t.Errorf("another disk by now: %v", err)
	}
	if len(r.rig.did) > 0 {
		t.Fatalf("without consent it did %v", r.rig.did)
	}
}

// An approval that was used is worth nothing, also after the pool was let go of and is offered by another plan.
func TestAnOldApprovalCannotBeSentAgain(t *testing.T) {
	r := newLiveRun(t)
	f := r.face("tty1")
	o := r.offer(f, "read-only")
	yes := ask.Answer{Hash: o.Hash, Yes: true}
	if _, err := f.Answer(r.ctx(), yes); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Answer(r.ctx(), yes); !errors.Is(err, ask.ErrAnswered) {
		t.Errorf("again at once: %v", err)
	}
	if err := r.live.letGo(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Answer(r.ctx(), yes); !errors.Is(err, ask.ErrAnswered) {
		t.Errorf("again after it was let go of: %v", err)
	}
	r.mu.Lock()
	r.now = tankFacts()
	r.now.Disks[0].Serial = "S9" // it comes back on another disk
	r.look.facts = r.now
	r.mu.Unlock()
	if err := f.LookAgain(r.ctx()); err != nil {
		t.Fatal(err)
	}
	r.until(f, "the other disk is found", func(st ask.State) bool { return st.Look.Facts.Disks[0].Serial == "S9" })
	did := len(r.rig.did)
	if _, err := f.Answer(r.ctx(), yes); !errors.Is(err, ask.ErrAnswered) {
		t.Errorf("again for another plan: %v", err)
	}
	if len(r.rig.did) != did {
		t.Errorf("it did %v", r.rig.did[did:])
	}
}

func TestAnIntakeFromPlanToReportThroughTheSocket(t *testing.T) {
	r := newLiveRun(t)
	a := r.face("tty1")
	src, store := filepath.Join(r.dir, "disk.img"), filepath.Join(r.dir, "store")
	if err := os.WriteFile(src, []byte(strings.Repeat("what was on the disk\n", 50_000)), 0o644); err != nil {
		t.Fatal(err)
	}
	place, err := a.Folder(r.ctx(), store)
	if err != nil || place.Refused != "" || place.Store {
		t.Fatalf("the place is %+v, %v", place, err)
	}
	list, err := a.Dir(r.ctx(), r.dir)
	if err != nil || len(list.Entries) == 0 {
		t.Fatalf("the folder is %+v, %v", list, err)
	}
	for name, w := range map[string]ask.Want{
		"nothing":            {Place: store},
		"twice":              {Place: store, Sources: []string{src, src}},
		"what is not there":  {Place: store, Sources: []string{src + "x"}},
		"the store itself":   {Place: store, Sources: []string{r.dir}},
		"a relative path":    {Place: store, Sources: []string{"disk.img"}},
		"among other things": {Place: r.dir, Sources: []string{src}},
		"no such mode":       {Place: store, Sources: []string{src}, Verify: "perhaps"},
		"no such intake":     {Place: store, Sources: []string{src}, Resume: "0011"},
	} {
		if p, err := a.MakePlan(r.ctx(), w); err == nil {
			t.Errorf("%s became a plan: %+v", name, p)
		}
	}
	p, err := a.MakePlan(r.ctx(), ask.Want{Place: store, Sources: []string{src}, Label: "before", Verify: "all"})
	if err != nil {
		t.Fatal(err)
	}
	want := "asl-intake --batch --source " + src + " --store " + store + " --label before --verify all"
	if got := strings.Join(p.Command, " "); p.Forecast.Bytes != 1_050_000 || got != want {
		t.Errorf("the plan is %q, %+v", got, p.Forecast)
	}
	file := filepath.Join(r.dir, "plan.toml")
	if err := a.SavePlan(r.ctx(), p.Hash, file); err != nil {
		t.Fatal(err)
	}
	if saved, err := readPlan(file); err != nil || saved.Hash().String() != p.Hash {
		t.Errorf("the saved plan has the hash %s (%v), want %s", saved.Hash(), err, p.Hash)
	}
	if err := a.SavePlan(r.ctx(), p.Hash, file); err == nil {
		t.Error("a file that was there was written over")
	}
	if err := a.Start(r.ctx(), strings.Repeat("0", 64)); !errors.Is(err, ask.ErrChanged) {
		t.Errorf("start of what was not shown: %v", err)
	}
	b := r.face("ssh")
	if err := b.Start(r.ctx(), p.Hash); err != nil {
		t.Fatal(err)
	}
	for _, f := range []*attach.Remote{a, b, r.face("late")} {
		st := r.until(f, "the report", func(st ask.State) bool { return st.Job.Report != nil })
		rep := st.Job.Report
		if rep.Result != event.Complete || rep.Snapshot != 1 || !rep.Verified || len(rep.Sources) != 1 || st.Job.Progress.Snapshot != 1 || len(st.Job.Maps) != 1 {
			t.Errorf("the report is %+v", rep)
		}
		r.until(f, "who began it", func(st ask.State) bool {
			return said(st, "the intake begins (ssh)") && said(st, "COMPLETE: snapshot 1")
		})
	}
	snaps, err := a.Snapshots(r.ctx())
	if err != nil || len(snaps) != 1 || snaps[0].Label != "before" {
		t.Errorf("the store has %+v, %v", snaps, err)
	}
	printed, err := a.Tool(r.ctx(), "asl-admin", "verify")
	if err != nil || printed.Exit != 0 {
		t.Errorf("asl-admin verify: %+v, %v", printed, err)
	}
	if _, err := a.Tool(r.ctx(), "asl-admin", "restore", "1", "--to", "/tmp"); !errors.Is(err, ask.ErrRefused) {
		t.Errorf("a tool that is not on the list: %v", err)
	}
	// A source that is another by now voids the plan.
	p, err = a.MakePlan(r.ctx(), ask.Want{Place: store, Sources: []string{src}})
	if err != nil || p.Place.What == "" || !p.Place.Store {
		t.Fatalf("the second plan: %+v, %v", p, err)
	}
	if err := os.WriteFile(src, []byte("shorter"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := a.Start(r.ctx(), p.Hash); !errors.Is(err, ask.ErrChanged) {
		t.Errorf("start after the source changed: %v", err)
	}
}

// Where the config wants it, the dataset gets a snapshot of ZFS after a sealed one of ours, from the wizard as from batch.
func TestTheConfigsSnapshotsOfZFSAreMadeHereToo(t *testing.T) {
	for _, want := range []string{"yes", "no"} {
		r := newLiveRun(t)
		r.live.o.Config.ZFSSnapshots = want
		f := r.face("tty1")
		o := r.offer(f, "writable")
		if _, err := f.Answer(r.ctx(), ask.Answer{Hash: o.Hash, Yes: true, Word: "tank"}); err != nil {
			t.Fatal(err)
		}
		src := filepath.Join(r.dir, "disk.img")
		if err := os.WriteFile(src, []byte("what was on the disk\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		p, err := f.MakePlan(r.ctx(), ask.Want{Place: filepath.Join(r.dir, "mnt"), Sources: []string{src}, Verify: "all"})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Start(r.ctx(), p.Hash); err != nil {
			t.Fatal(err)
		}
		st := r.until(f, "the report", func(st ask.State) bool { return st.Job.Report != nil })
		if st.Job.Report.Result != event.Complete {
			t.Errorf("the report is %+v", st.Job.Report)
		}
		made := strings.Contains(strings.Join(r.rig.did, "\n"), "snapshot tank/asl@asl-rescue-domain-0000000001")
		if made != (want == "yes") || made != said(st, "ZFS snapshot tank/asl@asl-rescue-domain-0000000001") {
			t.Errorf("zfs-snapshots %s: it did %v", want, r.rig.did)
		}
	}
}

// A folder on a disk that does not answer is given up.
func TestAFolderThatDoesNotAnswerIsSlow(t *testing.T) {
	began := time.Now()
	hangs := func(ctx context.Context, _ ...string) ([]byte, error) { return runChild(ctx, "sleep", "300") }
	if _, err := listByChild(t.Context(), hangs, 50*time.Millisecond, "/x"); !errors.Is(err, ask.ErrSlow) {
		t.Errorf("got %v", err)
	}
	if time.Since(began) > time.Minute {
		t.Error("it was waited for")
	}
	fails := func(ctx context.Context, _ ...string) ([]byte, error) {
		return runChild(ctx, "ls", "/no such folder")
	}
	if _, err := listByChild(t.Context(), fails, time.Minute, "/x"); err == nil || !strings.Contains(err.Error(), "no such folder") {
		t.Errorf("got %v", err)
	}
}
