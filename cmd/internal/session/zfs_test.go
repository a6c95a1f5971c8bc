package session

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"aslrescue/backends/zfs"
	"aslrescue/cmd/internal/report"
	"aslrescue/detect"
	"aslrescue/engine/approval"
	"aslrescue/engine/event"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
)

const tankGUID = 13411770823413532103

// tankFacts is a machine with one mirrored pool that was exported.
func tankFacts() *detect.Facts {
	leaf := func(guid detect.GUID, disk string) detect.Vdev {
		return detect.Vdev{GUID: guid, Type: "disk", Path: "/dev/" + disk + "1", Device: "/dev/" + disk + "1", Disk: disk, Labels: 4, Presence: "present", Health: "ONLINE"}
	}
	return &detect.Facts{Clock: &detect.Clock{Now: 1_900_000_000}, ZFS: &detect.ZFS{Loaded: true, Tools: true, Installed: true},
		Disks: []detect.Disk{{Name: "sdb", Path: "/dev/sdb", ID: "ata-ONE", Serial: "S1", Model: "Disk One"}, {Name: "sdc", Path: "/dev/sdc", ID: "ata-TWO", Serial: "S2"}},
		Pools: []detect.Pool{{GUID: tankGUID, Name: "tank", Labels: &detect.PoolLabels{State: "exported", HostName: "web1", HostID: 0xbab10c, Written: 1_899_999_000, Health: "ONLINE",
			Vdevs: []detect.Vdev{{GUID: 7, Type: "mirror", Health: "ONLINE", Children: []detect.Vdev{leaf(11, "sdb"), leaf(12, "sdc")}}}}}}}
}

// rig is a system whose zpool and zfs do as they are told, with a folder for what is mounted.
type rig struct {
	did  []string
	busy bool
	ds   map[string]zfs.Dataset
}

func (r *rig) Run(_ context.Context, argv []string) (string, bool) {
	line := strings.Join(argv, " ")
	r.did = append(r.did, line)
	switch {
	case strings.HasPrefix(line, "zpool get"):
		return "13411770823413532103\n", true
	case strings.HasPrefix(line, "zpool export") && r.busy:
		return "cannot export 'tank': pool is busy\n", false
	}
	return "", true
}
func (r *rig) Param(string) (string, error) { return "0", nil }
func (r *rig) SetParam(_, _ string) error   { return nil }
func (r *rig) Mounts() ([]zfs.Mount, error) { return nil, nil }
func (r *rig) MkdirAll(dir string) error    { return os.MkdirAll(dir, 0o755) }
func (r *rig) Unmount(dir string) error     { r.did = append(r.did, "umount"); return nil }
func (r *rig) Holders(string) []string      { return []string{"bash (4711)"} }
func (r *rig) Snapshot(name, s string) error {
	r.did = append(r.did, "snapshot "+name+"@"+s)
	return nil
}
func (r *rig) Create(name string, _ map[string]string) error {
	r.ds[name] = zfs.Dataset{Name: name, Type: "filesystem", Avail: 1 << 30, Compression: "lz4"}
	return nil
}
func (r *rig) Get(name string) (zfs.Dataset, error) {
	if d, ok := r.ds[name]; ok {
		return d, nil
	}
	return zfs.Dataset{}, &zfs.Error{What: "look", Err: zfs.ErrDataset}
}

// poolRun is one run of asl-intake on a rig.
type poolRun struct {
	t      *testing.T
	rig    *rig
	looks  []*detect.Facts // one after the other; the last for ever
	config []approval.Entry
	store  string
	mount  string
	state  string
	source string
}

func newPoolRun(t *testing.T) *poolRun {
	dir := t.TempDir()
	src := filepath.Join(dir, "disk.img")
	if err := os.WriteFile(src, bytes.Repeat([]byte("what was on the disk\n"), 5000), 0o644); err != nil {
		t.Fatal(err)
	}
	return &poolRun{t: t, rig: &rig{ds: map[string]zfs.Dataset{"tank": {Name: "tank", Type: "filesystem"}}}, looks: []*detect.Facts{tankFacts()}, store: "zfs:tank/asl",
		mount: filepath.Join(dir, "mnt"), state: filepath.Join(dir, "state"), source: src}
}

func (p *poolRun) run(dry bool, tokens ...string) (report.Code, string, string) {
	p.t.Helper()
	var out, errs bytes.Buffer
	o := &intakeOptions{batch: true, dryRun: dry, sources: list{p.source}, store: p.store, domain: "default", compression: "auto", verify: "new", memory: 96, approve: tokens}
	n := 0
	look := func(context.Context) (*detect.Facts, error) {
		f := p.looks[min(n, len(p.looks)-1)]
		n++
		return f, nil
	}
	z := zfs.ZFS{Runner: p.rig, System: p.rig, Datasets: p.rig, Sleep: func(time.Duration) {}}
	pr := report.New(report.Options{Program: "asl-intake", Out: &out, Err: &errs})
	j := intakeJob{o: o, std: IO{Out: &out, Err: &errs}, pr: pr,
		pools: pools{look: look, zfs: z, state: p.state, tokens: tokens, config: p.config, now: func() time.Time { return time.Unix(1_900_000_000, 0) }}}
	j.mount, j.snapshots = p.mount, true
	res := j.run(p.t.Context())
	return pr.Finish(res), out.String(), errs.String()
}

func (p *poolRun) token() string {
	p.t.Helper()
	code, out, errs := p.run(true)
	m := regexp.MustCompile(`--approve (import=\d+:[0-9a-f]{16})`).FindStringSubmatch(out)
	if code != report.OK || m == nil {
		p.t.Fatalf("dry run: exit %d, no token in:\n%s%s", code, out, errs)
	}
	if len(p.rig.did) > 0 {
		p.t.Fatalf("the dry run did %v", p.rig.did)
	}
	return m[1]
}

// records gives the types of the log's records and the approvals among them.
func (p *poolRun) records() (types []string, all []format.Approval) {
	s, err := ReadStore(p.t.Context(), p.mount, "", "test")
	if err != nil {
		p.t.Fatal(err)
	}
	defer s.Backend().Close()
	for r, err := range store.Log(p.t.Context(), s.Backend(), s.Domain()) {
		if err != nil {
			p.t.Fatal(err)
		}
		types = append(types, store.TypeName(r.Type))
		if r.Type == format.ApprovalType {
			var a format.Approval
			if err := format.Unmarshal(r.Payload, &a); err != nil {
				p.t.Fatal(err)
			}
			all = append(all, a)
		}
	}
	return types, all
}

func TestAnIntakeIntoAPoolThatATokenApproves(t *testing.T) {
	p := newPoolRun(t)
	token := p.token()
	code, out, errs := p.run(false, token)
	if code != report.OK || !strings.Contains(out, "COMPLETE") {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
	want := []string{"zpool import -N -o cachefile=none -R /run/asl/altroot -d /dev/disk/by-id/ata-ONE-part1 -d /dev/disk/by-id/ata-TWO-part1 13411770823413532103",
		"zpool get -Hp -o value guid tank", "mount -t zfs -o zfsutil tank/asl " + p.mount, "snapshot tank/asl@asl-default-0000000001", "umount", "zpool export tank"}
	if !slices.Equal(p.rig.did, want) {
		t.Errorf("did\n %s\nwant\n %s", strings.Join(p.rig.did, "\n "), strings.Join(want, "\n "))
	}
	types, all := p.records()
	if len(all) != 1 || all[0].How != approval.Token || all[0].Origin != token || all[0].Subject != "13411770823413532103" || all[0].Gate != 2 || strings.Join(all[0].Commands[0], " ") != want[0] {
		t.Errorf("approvals: %+v", all)
	}
	if a, b := slices.Index(types, "APPROVAL"), slices.Index(types, "INTAKE_BEGIN"); a < 0 || b < a {
		t.Errorf("the approval does not stand first: %v", types)
	}
	if left, err := os.ReadDir(filepath.Join(p.state, approval.Waiting)); err != nil || len(left) > 0 {
		t.Errorf("still waits: %v, %v", left, err)
	}
	if !strings.Contains(out, "compresses by itself (lz4)") {
		t.Errorf("compressed twice:\n%s", out)
	}
}

func TestAnImportWithoutConsentDoesNothing(t *testing.T) {
	second := tankFacts()
	second.Pools[0].Labels.Vdevs[0].Health, second.Pools[0].Labels.Health = "DEGRADED", "DEGRADED"
	v := &second.Pools[0].Labels.Vdevs[0].Children[1]
	v.Device, v.Disk, v.Presence, v.Health = "", "", "missing", "UNAVAIL"
	second.Disks = second.Disks[:1]
	two := tankFacts()
	two.Pools = append(two.Pools, detect.Pool{GUID: 5_000_000_000_000, Name: "tank", Labels: two.Pools[0].Labels})
	foreign := tankFacts()
	foreign.Pools[0].Labels.State = "active"
	blind := tankFacts()
	blind.Probes = []detect.Probe{{Name: "disk sdz", State: detect.Failed, Why: "it did not answer"}}
	entry := func(s string) []approval.Entry { return []approval.Entry{{Value: s, Origin: "asl.conf:5"}} }
	var token string
	for name, c := range map[string]struct {
		looks  []*detect.Facts
		store  string
		config []approval.Entry
		tokens func() []string
		code   report.Code
		says   string
	}{
		"nobody":                 {code: report.Approval, says: "To approve exactly that: --approve import=13411770823413532103:"},
		"a token of another":     {tokens: func() []string { return []string{"import=99:0123456789abcdef"} }, code: report.Approval, says: "no token for import=13411770823413532103"},
		"a void token":           {tokens: func() []string { return []string{"import=13411770823413532103:0123456789abcdef"} }, code: report.Approval, says: "the approval is void"},
		"void, though in config": {tokens: func() []string { return []string{"import=13411770823413532103:0123456789abcdef"} }, config: entry("tank"), code: report.Approval, says: "the approval is void"},
		"a config for another":   {config: entry("rpool"), code: report.Approval, says: "the config names neither"},
		"a disk pulled":          {looks: []*detect.Facts{tankFacts(), second}, tokens: func() []string { return []string{token} }, code: report.Approval, says: "disk /dev/sdc (S2) is gone"},
		"pulled before":          {looks: []*detect.Facts{second}, tokens: func() []string { return []string{token} }, code: report.Approval, says: "not here: /dev/sdc1 (12)"},
		"a disk pulled, config":  {looks: []*detect.Facts{tankFacts(), second}, config: entry("tank"), code: report.Approval, says: "missing disk /dev/sdc1 (12) is new"},
		"foreign, config":        {looks: []*detect.Facts{foreign}, config: entry("tank"), code: report.Approval, says: "another system used it last"},
		"unseen disk, config":    {looks: []*detect.Facts{blind}, config: entry("tank"), code: report.Approval, says: "asl.conf:5 must say which: 13411770823413532103"},
		"two of a name":          {looks: []*detect.Facts{two}, config: entry("tank"), code: report.Usage, says: "zfs:5000000000000/asl"},
		"no such pool":           {store: "zfs:other/asl", code: report.Refused, says: "Pools that are here: tank (13411770823413532103)."},
	} {
		p := newPoolRun(t)
		token = p.token()
		p.config = c.config
		if c.looks != nil {
			p.looks = c.looks
		}
		if c.store != "" {
			p.store = c.store
		}
		var tokens []string
		if c.tokens != nil {
			tokens = c.tokens()
		}
		code, out, errs := p.run(false, tokens...)
		if code != c.code || !strings.Contains(errs, c.says) {
			t.Errorf("%s: exit %d, want %d and %q\n%s%s", name, code, c.code, c.says, out, errs)
		}
		if len(p.rig.did) > 0 {
			t.Errorf("%s: did %v", name, p.rig.did)
		}
		if _, err := os.Stat(p.mount); err == nil {
			t.Errorf("%s: made %s", name, p.mount)
		}
	}
}

func TestTheConfigApprovesInBatch(t *testing.T) {
	p := newPoolRun(t)
	p.config = []approval.Entry{{Value: "tank", Origin: "/etc/asl/asl.conf:5"}}
	if code, out, errs := p.run(false); code != report.OK {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
	if _, all := p.records(); len(all) != 1 || all[0].How != approval.Config || all[0].Origin != "/etc/asl/asl.conf:5" {
		t.Errorf("approvals: %+v", all)
	}
}

// What was sealed is sealed: the word stays, and the exit code says that something is left to do.
func TestAPoolThatCannotBeLetGoOf(t *testing.T) {
	p := newPoolRun(t)
	p.rig.busy = true
	code, out, errs := p.run(false, p.token())
	if code != report.Failed || !strings.Contains(out, string(event.Complete)) || !strings.Contains(errs, "bash (4711)") || !strings.Contains(errs, "zpool export tank") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
}

// A signal that comes while the store is opened, after the pool and before the intake, stops it all the same.
func TestASignalBeforeTheIntakeListens(t *testing.T) {
	dir := t.TempDir()
	var out, errs bytes.Buffer
	early, cancel := context.WithCancelCause(t.Context())
	cancel(report.BySignal(syscall.SIGTERM))
	pr := report.New(report.Options{Program: "asl-intake", Out: &out, Err: &errs})
	src := filepath.Join(dir, "f")
	if err := os.WriteFile(src, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	j := intakeJob{o: &intakeOptions{batch: true, sources: list{src}, store: filepath.Join(dir, "store"), compression: "none", verify: "new", memory: 96},
		std: IO{Out: &out, Err: &errs}, pr: pr, pools: pools{look: func(context.Context) (*detect.Facts, error) { return nil, nil }, state: dir}, early: early}
	if code := pr.Finish(j.run(t.Context())); code != report.ByTerm || strings.Contains(out.String(), "COMPLETE") {
		t.Errorf("exit %d\n%s%s", code, out.String(), errs.String())
	}
}

func TestAPoolThatIsImportedIsUsedAsItIs(t *testing.T) {
	p := newPoolRun(t)
	p.looks[0].Pools[0].Imported = &detect.PoolImported{Health: "ONLINE"}
	code, out, errs := p.run(false)
	if code != report.OK || strings.Contains(strings.Join(p.rig.did, " "), "zpool") {
		t.Errorf("exit %d, did %v\n%s%s", code, p.rig.did, out, errs)
	}
}

func TestPlansOfPools(t *testing.T) {
	whole := tankFacts()
	whole.Pools[0].Labels.Vdevs[0].Children[0].Device = "/dev/sdb"
	whole.Disks[1].ID = ""
	plan, err := PlanPool(whole, PoolUse{Dataset: "13411770823413532103/a/b", Mount: "/mnt", Domain: "x"})
	if err != nil || plan.Use.Dataset != "tank/a/b" || plan.Devices[0].Path != "/dev/disk/by-id/ata-ONE" || plan.Devices[1].Path != "/dev/sdc1" {
		t.Errorf("%+v, %v", plan, err)
	}
	ours := tankFacts()
	ours.Pools[0].Labels.State, ours.Pools[0].Labels.HostID = "active", OurHostID("x")
	if plan, err = PlanPool(ours, PoolUse{Dataset: "tank/a", Domain: "x"}); err != nil || plan.Import.Pool.Foreign {
		t.Errorf("what we left in a power cut looks foreign: %+v, %v", plan.Import, err)
	}
	if plan, err = PlanPool(ours, PoolUse{Dataset: "tank/a", Domain: "x", ReadOnly: true}); err != nil || plan.Use.HostID != uint32(OurHostID("x")) {
		t.Errorf("zpool would take it for another's, read-only too: %+v, %v", plan.Use, err)
	}
	if plan, err = PlanPool(tankFacts(), PoolUse{Dataset: "tank/a", Domain: "x", ReadOnly: true}); err != nil || plan.Use.HostID != 0 {
		t.Errorf("reading what was exported needs no hostid: %+v, %v", plan.Use, err)
	}
	if plan, err = PlanPool(ours, PoolUse{Dataset: "tank/a", Domain: "y"}); err != nil || !plan.Import.Pool.Foreign || !strings.Contains(strings.Join(plan.Import.Commands()[0], " "), " -f ") {
		t.Errorf("another's looks like ours: %+v, %v", plan.Import, err)
	}
	ours.ZFS.HostID = OurHostID("x") // this system's own, and it stays
	if plan, err = PlanPool(ours, PoolUse{Dataset: "tank/a", Domain: "y"}); err != nil || plan.Use.HostID != 0 || plan.Import.Pool.Foreign {
		t.Errorf("%+v, %v", plan.Use, err)
	}
	none := tankFacts()
	none.ZFS.Tools = false
	if _, err := PlanPool(none, PoolUse{Dataset: "tank/a"}); report.CodeOf(err) != report.Refused {
		t.Errorf("no tools: %v", err)
	}
	cold := tankFacts()
	cold.ZFS.Loaded = false
	if plan, err := PlanPool(cold, PoolUse{Dataset: "tank/a"}); err != nil || plan.Import.Commands()[0][0] != "modprobe" {
		t.Errorf("module: %+v, %v", plan.Import.Commands(), err)
	}
	bare := tankFacts()
	bare.Pools[0].Labels, bare.Pools[0].Listed = nil, &detect.PoolListed{State: "ONLINE"}
	if _, err := PlanPool(bare, PoolUse{Dataset: "tank/a"}); report.CodeOf(err) != report.Refused || !strings.Contains(err.Error(), "no label of it could be read") {
		t.Errorf("no labels: %v", err)
	}
	if plan, err := PlanPool(tankFacts(), PoolUse{Pool: "tank", ReadOnly: true}); err != nil || len(plan.Import.Commands()) != 1 || plan.Import.Sheet().Gate != approval.Reversible {
		t.Errorf("the pool only: %+v, %v", plan.Import, err)
	}
}
