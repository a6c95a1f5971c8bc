package zfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"aslrescue/engine/approval"
)

const guid = "8066927676112265382"

func tank() Pool {
	return Pool{GUID: guid, Name: "tank", Health: "ONLINE", LastUsed: "host web1 (hostid 00bab10c), 2 hours ago, exported", Devices: []Device{
		{Path: "/dev/disk/by-id/virtio-D2", Vdev: "22", Disk: "/dev/vdc", Serial: "D2"},
		{Path: "/dev/disk/by-id/virtio-D1", Vdev: "11", Disk: "/dev/vdb", Serial: "D1"}}}
}

func use() Use {
	return Use{Dataset: "tank/asl", Mount: "/mnt/asl/local", HostID: 0x0a515c0e, HostOf: "the domain rescue-domain"}
}

func plan(t *testing.T, p Pool, u Use) Import {
	i, err := Plan(p, u)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// machine is a system on which commands do what a table says. It writes down all that was done.
type machine struct {
	did      []string
	answers  map[string]string // by how the command begins: what it prints when it fails
	datasets map[string]Dataset
	mounts   []Mount
	busy     int // attempts of unmounting or exporting that fail
	guid     string
	during   func(string)
}

func (m *machine) zfs() ZFS {
	return ZFS{Runner: m, System: m, Datasets: m, Sleep: func(time.Duration) { m.did = append(m.did, "wait") }}
}

func (m *machine) Run(_ context.Context, argv []string) (string, bool) {
	line := strings.Join(argv, " ")
	m.did = append(m.did, line)
	if m.during != nil {
		m.during(line)
	}
	for begin, out := range m.answers {
		if strings.HasPrefix(line, begin) {
			return out, false
		}
	}
	switch {
	case strings.HasPrefix(line, "zpool get"):
		return m.guid + "\n", true
	case strings.HasPrefix(line, "zpool export") && m.busy > 0:
		m.busy--
		return "cannot export 'tank': pool is busy\n", false
	}
	return "", true
}

func (m *machine) Param(name string) (string, error) { return "0", nil }
func (m *machine) SetParam(name, v string) error {
	m.did = append(m.did, filepath.Base(name)+" "+v)
	return nil
}
func (m *machine) Mounts() ([]Mount, error)    { return m.mounts, nil }
func (m *machine) MkdirAll(dir string) error   { m.did = append(m.did, "mkdir "+dir); return nil }
func (m *machine) Unmount(dir string) error    { m.did = append(m.did, "umount "+dir); return nil }
func (m *machine) Holders(dir string) []string { return []string{"bash (4711)"} }

func (m *machine) Get(name string) (Dataset, error) {
	if d, ok := m.datasets[name]; ok {
		return d, nil
	}
	return Dataset{}, told("look at the dataset "+name, "cannot open '"+name+"': dataset does not exist\n")
}

func (m *machine) Create(name string, p map[string]string) error {
	m.did = append(m.did, fmt.Sprint("create ", name, " ", p))
	m.datasets[name] = Dataset{Name: name, Type: "filesystem"}
	return nil
}

func (m *machine) Snapshot(name, snapshot string) error {
	m.did = append(m.did, "snapshot "+name+"@"+snapshot)
	return nil
}

func newMachine() *machine {
	return &machine{datasets: map[string]Dataset{"tank": {Name: "tank", Type: "filesystem"}}, guid: guid, answers: map[string]string{}}
}

func approved(t *testing.T, i Import) approval.Approved[Import] {
	a, err := approval.ByToken(i, approval.TokenOf(i))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func still(i Import) func(context.Context) (Import, error) {
	return func(context.Context) (Import, error) { return i, nil }
}

const imported = "zpool import -N -o cachefile=none -R /run/asl/altroot -d /dev/disk/by-id/virtio-D1 -d /dev/disk/by-id/virtio-D2 " + guid

func TestThePlanSaysExactlyWhatIsRun(t *testing.T) {
	ro := use()
	ro.ReadOnly = true
	foreign, degraded := tank(), tank()
	foreign.Foreign = true
	degraded.Health, degraded.Devices[0].Path, degraded.Devices[0].Was = "DEGRADED", "", "/dev/sdq"
	load := use()
	load.Load = true
	for _, c := range []struct {
		p    Pool
		u    Use
		gate approval.Gate
		want string // the commands
	}{
		{tank(), use(), approval.Risky, imported + "; zfs create -o canmount=noauto tank/asl; mount -t zfs -o zfsutil tank/asl /mnt/asl/local"},
		{tank(), load, approval.Risky, "modprobe zfs; " + imported + "; zfs create -o canmount=noauto tank/asl; mount -t zfs -o zfsutil tank/asl /mnt/asl/local"},
		{tank(), ro, approval.Reversible, strings.Replace(imported, "-N", "-N -o readonly=on", 1) + "; mount -t zfs -o ro,zfsutil tank/asl /mnt/asl/local"},
		{foreign, ro, approval.Risky, strings.Replace(imported, "-N", "-N -o readonly=on -f", 1) + "; mount -t zfs -o ro,zfsutil tank/asl /mnt/asl/local"},
		{foreign, Use{HostID: 5}, approval.Risky, strings.Replace(imported, "-N", "-N -f", 1)},
		{degraded, Use{}, approval.Risky, strings.Replace(imported, " -d /dev/disk/by-id/virtio-D2", "", 1)},
	} {
		u := c.u
		if u.Dataset == "" {
			u.Dataset = "tank"
		}
		i := plan(t, c.p, u)
		i.Use = c.u
		if got := approval.Lines(i.Commands()); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
		if got := i.Sheet().Gate; got != c.gate {
			t.Errorf("%s: gate %s, want %s", c.want, got, c.gate)
		}
	}
}

// The order of disks, kernel names, times and words leave the hash as it is; all that matters does not.
func TestWhatTheApprovalIsBoundTo(t *testing.T) {
	was := plan(t, tank(), use())
	same := tank()
	slices.Reverse(same.Devices)
	same.LastUsed, same.Devices[0].Disk = "host web1, 3 hours ago", "/dev/vdz"
	if got := was.Sheet().Differences(plan(t, same, use()).Sheet()); got != nil {
		t.Errorf("got %v", got)
	}
	for want, change := range map[string]func(*Pool, *Use){
		"disk /dev/vdc (D2) is gone":                    func(p *Pool, _ *Use) { p.Devices = p.Devices[1:] },
		"missing disk /dev/old (22) is new":             func(p *Pool, _ *Use) { p.Devices[0].Path, p.Devices[0].Was = "", "/dev/old" },
		"disk /dev/vdc (D9) is new":                     func(p *Pool, _ *Use) { p.Devices[0].Serial = "D9" },
		"vdev /dev/disk/by-id/virtio-D2 (23) is new":    func(p *Pool, _ *Use) { p.Devices[0].Vdev = "23" },
		"-N -f -o cachefile":                            func(p *Pool, _ *Use) { p.Foreign = true },
		"tank/other":                                    func(_ *Pool, u *Use) { u.Dataset = "tank/other" },
		"/mnt/other":                                    func(_ *Pool, u *Use) { u.Mount = "/mnt/other" },
		"the gate was risky, and is reversible now":     func(_ *Pool, u *Use) { u.ReadOnly = true },
		"hostid the domain rescue-domain (00000001) is": func(_ *Pool, u *Use) { u.HostID = 1 },
		"what it is done to was " + guid + ", and is 1": func(p *Pool, _ *Use) { p.GUID = "1" },
	} {
		p, u := tank(), use()
		change(&p, &u)
		if got := strings.Join(was.Sheet().Differences(plan(t, p, u).Sheet()), "; "); !strings.Contains(got, want) {
			t.Errorf("got %q, want …%s", got, want)
		}
	}
}

func TestAPlanIsRefusedWhereItCouldNotWork(t *testing.T) {
	gone, faulted := tank(), tank()
	gone.Devices[0].Path, gone.Devices[1].Path = "", ""
	faulted.Health = "UNAVAIL"
	for _, c := range []struct {
		p    Pool
		u    Use
		want error
	}{{gone, use(), ErrGone}, {faulted, use(), ErrDamaged}} {
		if _, err := Plan(c.p, c.u); !errors.Is(err, c.want) {
			t.Errorf("got %v, want %v", err, c.want)
		}
	}
	if _, err := Plan(tank(), Use{Dataset: "tonk/asl"}); err == nil {
		t.Error("a dataset of another pool")
	}
}

func TestAttachAndDetach(t *testing.T) {
	m := newMachine()
	i := plan(t, tank(), use())
	at, err := m.zfs().Attach(t.Context(), approved(t, i), still(i))
	if err != nil {
		t.Fatal(err)
	}
	if !at.Imported() || at.Mount != "/mnt/asl/local" || at.Dataset.Name != "tank/asl" {
		t.Errorf("got %+v", at)
	}
	if err := at.Snapshot("asl-1"); err != nil {
		t.Error(err)
	}
	if err := at.Detach(); err != nil {
		t.Error(err)
	}
	want := []string{"zvol_inhibit_dev 1", "spl_hostid 173104142", imported, "zpool get -Hp -o value guid tank", "create tank/asl map[canmount:noauto]", "mkdir /mnt/asl/local",
		"mount -t zfs -o zfsutil tank/asl /mnt/asl/local", "snapshot tank/asl@asl-1", "umount /mnt/asl/local", "zpool export tank", "spl_hostid 0", "zvol_inhibit_dev 0"}
	if !slices.Equal(m.did, want) {
		t.Errorf("got\n %s\nwant\n %s", strings.Join(m.did, "\n "), strings.Join(want, "\n "))
	}
	if err := at.Detach(); err != nil || len(m.did) != len(want) {
		t.Errorf("again: %v, %v", err, m.did)
	}
}

func TestWithoutApprovalNothingIsRun(t *testing.T) {
	i := plan(t, tank(), use())
	pulled := tank()
	pulled.Devices = pulled.Devices[1:]
	for name, c := range map[string]struct {
		a    approval.Approved[Import]
		now  func(context.Context) (Import, error)
		want error
		says string
	}{
		"never asked":   {approval.Approved[Import]{}, still(i), approval.ErrMissing, ""},
		"a disk pulled": {approved(t, i), still(plan(t, pulled, use())), approval.ErrVoid, "disk /dev/vdc (D2) is gone"},
		"the pool gone": {approved(t, i), func(context.Context) (Import, error) { return Import{}, ErrGone }, approval.ErrVoid, ErrGone.Error()},
	} {
		m := newMachine()
		_, err := m.zfs().Attach(t.Context(), c.a, c.now)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v", name, err)
		}
		if len(m.did) != 0 {
			t.Errorf("%s: did %v", name, m.did)
		}
	}
}

// Whatever step fails, what was done before it is taken back, and the error says what it means.
func TestAFailureInTheMiddleIsUndone(t *testing.T) {
	back := "umount"
	for name, c := range map[string]struct {
		set  func(*machine)
		want error
		last string // what was done last
		has  bool   // the pool was imported and exported again
	}{
		"import": {func(m *machine) {
			m.answers["zpool import"] = "cannot import 'tank': I/O error\n\tDestroy and re-create the pool from\n\ta backup source.\n"
		}, ErrDamaged, "zvol_inhibit_dev 0", false},
		"used elsewhere": {func(m *machine) {
			m.answers["zpool import"] = "cannot import 'tank': pool was previously in use from another system.\nThe pool can be imported, use 'zpool import -f' to import the pool.\n"
		}, ErrForeign, "zvol_inhibit_dev 0", false},
		"namesake": {func(m *machine) {
			m.answers["zpool import"] = "cannot import 'tank': a pool with that name already exists\nuse the form 'zpool import <pool | id> <newpool>' to give it a new name\n"
		}, ErrNamesake, "zvol_inhibit_dev 0", false},
		"unheard of": {func(m *machine) {
			m.answers["zpool import"] = "cannot import 'tank': the moon is full\nDestroy and re-create the pool\n"
		}, ErrUnknown, "zvol_inhibit_dev 0", false},
		"another's": {func(m *machine) { m.guid = "1" }, ErrNamesake, "zvol_inhibit_dev 0", false},
		"locked":    {func(m *machine) { m.datasets["tank/asl"] = Dataset{Name: "tank/asl", Type: "filesystem", Locked: true} }, ErrLocked, "zvol_inhibit_dev 0", true},
		"volume":    {func(m *machine) { m.datasets["tank/asl"] = Dataset{Name: "tank/asl", Type: "volume"} }, ErrDataset, "zvol_inhibit_dev 0", true},
		"mount": {func(m *machine) {
			m.answers["mount"] = "filesystem 'tank/asl' cannot be mounted, encryption key not loaded\n"
		}, ErrLocked, "zvol_inhibit_dev 0", true},
		"place is taken":  {func(m *machine) { m.mounts = []Mount{{"/dev/sda1", "/mnt/asl/local", "ext4"}} }, ErrDataset, "zvol_inhibit_dev 0", true},
		"not the first":   {func(m *machine) { m.busy = 2; m.datasets["tank/asl"] = Dataset{Type: "volume"} }, ErrDataset, "zvol_inhibit_dev 0", true},
		"cannot get back": {func(m *machine) { m.busy = 99; m.datasets["tank/asl"] = Dataset{Type: "volume"} }, ErrBusy, "zpool export tank", true},
	} {
		m := newMachine()
		c.set(m)
		i := plan(t, tank(), use())
		_, err := m.zfs().Attach(t.Context(), approved(t, i), still(i))
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
		if got := m.did[len(m.did)-1]; got != c.last {
			t.Errorf("%s: ended with %s of %v", name, got, m.did)
		}
		if got := slices.Contains(m.did, "zpool export tank"); got != c.has {
			t.Errorf("%s: exported: %v", name, m.did)
		}
		if slices.ContainsFunc(m.did, func(s string) bool { return strings.HasPrefix(s, back) }) {
			t.Errorf("%s: unmounts what was not mounted: %v", name, m.did)
		}
		silent(t, name, err)
	}
}

// silent fails where an error repeats what zpool advises.
func silent(t *testing.T, name string, err error) {
	t.Helper()
	var e *Error
	text := err.Error()
	if errors.As(err, &e) {
		text += e.Means + strings.Join(e.Next, " ")
	}
	if m := regexp.MustCompile(`(?i)destroy and|re-?create|import -f|'-f'|-F\b|newpool|backup source`).FindString(text); m != "" {
		t.Errorf("%s: repeats %q: %s", name, m, text)
	}
}

func TestABusyPoolSaysWhoHoldsIt(t *testing.T) {
	m := newMachine()
	i := plan(t, tank(), use())
	at, err := m.zfs().Attach(t.Context(), approved(t, i), still(i))
	if err != nil {
		t.Fatal(err)
	}
	m.busy = 99
	err = at.Detach()
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, ErrBusy) || !strings.Contains(e.Means, "bash (4711)") || !slices.Contains(e.Next, "zpool export tank") {
		t.Errorf("got %+v", err)
	}
	if n := strings.Count(strings.Join(m.did, "\n"), "zpool export"); n != tries {
		t.Errorf("tried %d times", n)
	}
	m.busy = 0
	if err := at.Detach(); err != nil || m.did[len(m.did)-1] != "zvol_inhibit_dev 0" {
		t.Errorf("when it is free: %v, %v", err, m.did)
	}
}

// Told to stop while zpool import runs, the pool is let go of again; before it runs, it does not run.
func TestASignalInTheMiddle(t *testing.T) {
	i := plan(t, tank(), use())
	stopped := errors.New("stopped by SIGTERM")
	ctx, cancel := context.WithCancelCause(t.Context())
	m := newMachine()
	m.during = func(line string) {
		if line == imported {
			cancel(stopped)
		}
	}
	at, err := m.zfs().Attach(ctx, approved(t, i), still(i))
	if err != nil {
		t.Fatal(err)
	}
	if err := at.Detach(); err != nil || !slices.Contains(m.did, "zpool export tank") {
		t.Errorf("got %v: %v", err, m.did)
	}
	m = newMachine()
	if _, err := m.zfs().Attach(ctx, approved(t, i), still(i)); !errors.Is(err, stopped) || slices.Contains(m.did, imported) || m.did[len(m.did)-1] != "zvol_inhibit_dev 0" {
		t.Errorf("got %v: %v", err, m.did)
	}
}

func TestAPoolOfOthersIsUsedAsItIs(t *testing.T) {
	m := newMachine()
	at, err := m.zfs().Use(t.Context(), use())
	if err != nil || at.Imported() {
		t.Fatalf("%+v, %v", at, err)
	}
	if err := at.Detach(); err != nil {
		t.Error(err)
	}
	if got := strings.Join(m.did, "\n"); strings.Contains(got, "zpool") || strings.Contains(got, "spl_") || !strings.HasSuffix(got, "umount /mnt/asl/local") {
		t.Errorf("did %v", m.did)
	}
	m = newMachine()
	m.datasets["tank/asl"] = Dataset{Name: "tank/asl", Type: "filesystem"}
	m.mounts = []Mount{{"tank/asl", "/srv/asl", "zfs"}, {"tank", "/mnt/asl/local", "zfs"}}
	at, err = m.zfs().Use(t.Context(), use())
	if err != nil || at.Mount != "/srv/asl" || at.Detach() != nil || len(m.did) != 0 {
		t.Errorf("one that is mounted: %+v, %v, %v", at, err, m.did)
	}
	ro := use()
	ro.ReadOnly = true
	if _, err := newMachine().zfs().Use(t.Context(), ro); !errors.Is(err, ErrDataset) {
		t.Errorf("made where nothing may be written: %v", err)
	}
}

func TestParentsAreMadeToo(t *testing.T) {
	m := newMachine()
	u := use()
	u.Dataset = "tank/a/b"
	if _, err := m.zfs().Use(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	if got := m.did[:2]; !slices.Equal(got, []string{"create tank/a map[canmount:noauto]", "create tank/a/b map[canmount:noauto]"}) {
		t.Errorf("got %v", got)
	}
}

// What zpool and zfs of OpenZFS 2.1.11 and 2.3.2 really printed.
func TestTheirWordsAreTranslated(t *testing.T) {
	for _, c := range []struct {
		file string
		want error
	}{
		{"import-hostid", ErrForeign}, {"import-missing", ErrDamaged}, {"import-nonexist", ErrGone}, {"import-already", ErrNamesake},
		{"mount-locked", ErrLocked}, {"create-ro", nil}, {"no-module-2.1", ErrNoZFS}, {"no-module-2.3", ErrNoZFS},
	} {
		b, err := os.ReadFile(filepath.Join("testdata", c.file+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		e := told("import the pool tank", string(b))
		if c.want != nil && !errors.Is(e, c.want) {
			t.Errorf("%s: got %v, want %v", c.file, e, c.want)
		}
		silent(t, c.file, e)
	}
}

func TestTheHostIDStaysTheSame(t *testing.T) {
	if got, want := HostID("rescue-domain"), HostID("rescue-domain"); got != want || got == 0 || got == HostID("other") {
		t.Errorf("got %08x", got)
	}
	// Labels of pools have it: another here would make every pool that we left in a power cut look like somebody else's.
	if got := fmt.Sprintf("%08x", HostID("rescue-domain")); got != "97603893" {
		t.Errorf("got %s", got)
	}
}

func TestNames(t *testing.T) {
	for s, want := range map[string]bool{
		"tank/asl": true, "8066927676112265382/asl": true, "tank/a/b.c-d_e:f": true, "tank": false, "tank/": false, "/asl": false, "tank//a": false,
		"tank/../x": false, "tank/a b": false, "-o/x": false, "tank/a@b": false, "": false, "tank/" + strings.Repeat("a", 255): false,
	} {
		if got := ValidDataset(s); got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
	if IsGUID("tank") || IsGUID("2024") || !IsGUID(guid) || IsGUID("99999999999999999999999") {
		t.Error("IsGUID")
	}
}

func TestCommandsRunInAnEnvironmentOfTheirOwn(t *testing.T) {
	t.Setenv("ZPOOL_IMPORT_PATH", "/somewhere")
	t.Setenv("LC_ALL", "de_DE.UTF-8")
	out, ok := Exec{}.Run(t.Context(), []string{"env"})
	if !ok || strings.Contains(out, "ZPOOL") || !strings.Contains(out, "LC_ALL=C\n") {
		t.Errorf("%v: %s", ok, out)
	}
	if out, ok := (Exec{}).Run(t.Context(), []string{"false"}); ok {
		t.Errorf("false is true: %s", out)
	}
	if out, ok := (Exec{}).Run(t.Context(), []string{"no-such-tool"}); ok || !errors.Is(told("x", out), ErrNoZFS) {
		t.Errorf("got %q", out)
	}
}

func TestWhoWorksInAFolder(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "file"))
	if err != nil {
		t.Fatal(err)
	}
	me := fmt.Sprintf("(%d)", os.Getpid())
	has := func() bool {
		return slices.ContainsFunc(Linux{}.Holders(dir), func(s string) bool { return strings.HasSuffix(s, me) })
	}
	if !has() {
		t.Error("an open file is not seen")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if has() {
		t.Error("a closed one is")
	}
}
