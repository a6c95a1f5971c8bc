package probe

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"aslrescue/detect"
)

// fixture is what a real zpool printed, and how it ended.
func fixture(t testing.TB, name string) Output {
	read := func(ext string) string {
		b, err := os.ReadFile(filepath.Join("testdata/zpool", name+ext))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	code, err := strconv.Atoi(strings.TrimSpace(read(".rc")))
	if err != nil {
		t.Fatal(err)
	}
	return Output{Out: read(".stdout"), Err: read(".stderr"), Code: code}
}

// brief is a pool on one line.
func brief(p detect.Pool) string {
	s := fmt.Sprintf("%s %s %s", p.Name, p.Listed.State, p.Listed.Reason)
	if p.Listed.MsgID != "" {
		s += " " + p.Listed.MsgID
	}
	for _, v := range p.Listed.Config {
		s += fmt.Sprintf(" | %d %s %s", v.Depth, v.Name, v.State)
		if v.Aux != "" {
			s += " (" + v.Aux + ")"
		}
	}
	return s
}

func TestZpoolImportOfBothVersions(t *testing.T) {
	const (
		tank    = "tank ONLINE hostid-mismatch ZFS-8000-EY | 0 tank ONLINE | 1 vdc ONLINE"
		mirrBad = "mirr DEGRADED corrupt ZFS-8000-4J | 0 mirr DEGRADED | 1 mirror-0 DEGRADED | 2 virtio-LAB-d3 ONLINE | 2 virtio-LAB-d4 UNAVAIL"
		strpBad = "strp UNAVAIL corrupt ZFS-8000-5E | 0 strp UNAVAIL (insufficient replicas) | 1 virtio-LAB-d5 ONLINE | 1 virtio-LAB-d6 UNAVAIL"
	)
	want := map[string][]string{
		"03-import-none":     nil,
		"11-import-clean":    {"tank ONLINE  | 0 tank ONLINE | 1 virtio-LAB-d1 ONLINE"},
		"20-import-hostid":   {tank},
		"31-import-degraded": {tank, mirrBad},
		"41-import-missing":  {tank, mirrBad, strpBad},
		"60-all-import": {
			tank, "strp FAULTED corrupt ZFS-8000-5E | 0 strp FAULTED (corrupted data) | 1 virtio-LAB-d5 ONLINE | 1 virtio-LAB-d6 FAULTED (corrupted data)",
			"encp ONLINE  | 0 encp ONLINE | 1 virtio-LAB-d6 ONLINE", "encp ONLINE  | 0 encp ONLINE | 1 virtio-LAB-d1 ONLINE",
			"mirr ONLINE  | 0 mirr ONLINE | 1 mirror-0 ONLINE | 2 virtio-LAB-d3 ONLINE | 2 virtio-LAB-d4 ONLINE",
		},
	}
	for _, version := range []string{"2.1.11", "2.3.2"} {
		for name, lines := range want {
			out := fixture(t, version+"/"+name)
			pools, err := ParseImport(out.Out)
			if err != nil || out.Code != 0 {
				t.Errorf("%s/%s: %v, code %d", version, name, err, out.Code)
			}
			var got []string
			for _, p := range pools {
				got = append(got, brief(p))
				if p.GUID == 0 || strings.Contains(p.Listed.Action, "\t") {
					t.Errorf("%s/%s: %+v", version, name, p)
				}
			}
			slices.Sort(got) // the order is zpool's own, and no two runs have the same
			slices.Sort(lines)
			if !slices.Equal(got, lines) {
				t.Errorf("%s/%s:\n got %s\nwant %s", version, name, strings.Join(got, "\n     "), strings.Join(lines, "\n     "))
			}
		}
	}
}

func TestWhatZpoolSaysInWordsThatHaveNoFixture(t *testing.T) {
	for status, want := range map[string]detect.Reason{
		"The pool is currently imported by another system.":                                                                                              detect.ReasonHostActive,
		"The pool has the multihost property on.  It cannot be safely imported when the system hostid is not set.":                                       detect.ReasonHostRequired,
		"One or more devices are missing from the system.":                                                                                               detect.ReasonMissing,
		"The pool can only be accessed in read-only mode on this system. It cannot be accessed in read-write mode because it uses the following feature": detect.ReasonFeatureWrite,
		"The pool is formatted using an incompatible version.":                                                                                           detect.ReasonVersion,
		"The pool is formatted using a legacy on-disk version.":                                                                                          detect.ReasonUpgrade,
		"Some supported features are not enabled on the pool.":                                                                                           detect.ReasonUpgrade,
		"An intent log record cannot be read.":                                                                                                           detect.ReasonLog,
		"Something that no version said until now.":                                                                                                      detect.ReasonOther,
		"": "",
	} {
		if got := reason(status, "ONLINE"); got != want {
			t.Errorf("%q: got %q, want %q", status, got, want)
		}
	}
	if got := reason("The pool uses the following feature(s) not supported on this system:", "UNAVAIL"); got != detect.ReasonFeatureRead {
		t.Errorf("got %q", got)
	}
}

func TestImportThatIsNoList(t *testing.T) {
	for _, text := range []string{"pool: x\n id: abc\n state: ONLINE\n", "pool: x\n state: ONLINE\n", "pool: x\n id: 12\n"} {
		if p, err := ParseImport(text); err == nil {
			t.Errorf("%q gives %+v", text, p)
		}
	}
	// A comment puts a blank before every key; a destroyed pool says so behind its state.
	p, err := ParseImport("    pool: a b\n      id: 18446744073709551615\n   state: ONLINE (DESTROYED)\n comment: of the\n\told house\n  action: no\n  config:\n\n\ta b  ONLINE\n")
	if err != nil || len(p) != 1 || p[0].Name != "a b" || p[0].GUID != 18446744073709551615 || !p[0].Listed.Destroyed || p[0].Listed.Comment != "of the old house" {
		t.Errorf("%+v, %v", p, err)
	}
}

// Where the module is not in the kernel nothing of ZFS is run: zpool would load it.
func TestNothingOfZFSRunsWithoutItsModule(t *testing.T) {
	m := newFake(t)
	m.file("/usr/sbin/zpool", "")
	m.file("/usr/sbin/zfs", "")
	m.file("/lib/modules/6.18/modules.dep", "updates/dkms/zfs.ko.xz: updates/dkms/spl.ko.xz\n")
	m.file("/proc/sys/kernel/osrelease", "6.18\n")
	m.file("/etc/hostid", "\x0c\xb1\xba\x00")
	u := m.once()
	if len(m.ran()) != 0 {
		t.Errorf("ran %q", m.ran())
	}
	z := u.Facts.ZFS
	if z == nil || z.Loaded || !z.Installed || !z.Tools || z.HostID != 0x00bab10c {
		t.Errorf("%+v", z)
	}
	if _, known := u.Facts.Probe("zpool import"); known {
		t.Error("zpool import is a probe all the same")
	}
}

func TestZFSIsAskedWhereItIsLoaded(t *testing.T) {
	m := newFake(t)
	m.file("/usr/sbin/zpool", "")
	m.file("/usr/sbin/zfs", "")
	m.file("/sys/module/zfs/version", "2.3.2-2\n")
	m.file("/sys/module/spl/parameters/spl_hostid", "572662306\n")
	m.file("/etc/systemd/system/zfs-import.target.wants/zfs-import-scan.service", "")
	m.file("/etc/systemd/system/zfs.target.wants/zfs-zed.service", "")
	m.link("/etc/systemd/system/zfs-zed.service", "/dev/null")
	m.tools["zpool version"] = Output{Out: "zfs-2.3.2-2~bpo12+2\nzfs-kmod-2.3.2-2~bpo12+2\n"}
	m.tools["zpool import"] = fixture(t, "2.3.2/60-all-import")
	m.tools["zpool list"] = Output{Out: "vault\t42\tDEGRADED\t1000\t600\ton\t/x\nodd\t43\tFAULTED\t-\t-\toff\t-\n"}
	m.tools["zpool status"] = Output{Out: "  pool: vault\n state: DEGRADED\n  scan: resilver in progress since Sun Nov 22 21:44:58 2026\n\t12M scanned\n  pool: odd\n  scan: scrub repaired 0B\n"}
	m.tools["zfs list"] = Output{Out: "vault\tno\t/x/vault\t-\nvault/home\tyes\t/x/home\tavailable\nvault/secret\tno\t/x/s\tunavailable\n"}
	u := m.once()
	z := u.Facts.ZFS
	if z == nil || !z.Loaded || z.Version != "2.3.2-2~bpo12+2" || z.HostID != 0x22222222 || !slices.Equal(z.AutoUnits, []string{"zfs-import-scan.service"}) {
		t.Errorf("%+v", z)
	}
	var names []string
	for _, p := range u.Facts.Pools {
		names = append(names, p.Name)
	}
	if !slices.Equal(names, []string{"encp", "encp", "mirr", "odd", "strp", "tank", "vault"}) {
		t.Errorf("pools %v", names)
	}
	v := u.Facts.Pools[6].Imported
	if v == nil || !v.ReadOnly || v.AltRoot != "/x" || v.Size != 1000 || v.Free != 600 || v.Scan != "resilver in progress" || !slices.Equal(v.Mounts, []string{"/x/home"}) || !slices.Equal(v.Locked, []string{"vault/secret"}) {
		t.Errorf("%+v", v)
	}
	for _, argv := range m.ran() {
		for _, never := range []string{"-f", "-F", "-a", "-D", "-N", "-X", "load-key", "mount", "export"} {
			if slices.Contains(strings.Fields(argv), never) {
				t.Errorf("ran %q", argv)
			}
		}
	}
}

func TestZpoolThatFailsIsSaid(t *testing.T) {
	m := newFake(t)
	m.file("/usr/sbin/zpool", "")
	m.file("/usr/sbin/zfs", "")
	m.file("/sys/module/zfs/version", "2.3.2-2\n")
	m.tools["zpool import"] = fixture(t, "2.1.11/01-notloaded-import")
	m.tools["zpool list"] = Output{Err: "cannot open: something\nDestroy and re-create the pool\n", Code: 1}
	u := m.once()
	p, _ := u.Facts.Probe("pools")
	if p.State != detect.Failed || p.Why != "zpool list: zpool list ended with 1: cannot open: something" {
		t.Errorf("%+v", p)
	}
	if p, _ := u.Facts.Probe("zpool import"); p.State != detect.Failed || p.Why != errNotLoaded.Error() {
		t.Errorf("%+v", p)
	}
}

func FuzzImport(f *testing.F) {
	for _, name := range []string{"2.1.11/60-all-import", "2.3.2/41-import-missing"} {
		f.Add(fixture(f, name).Out)
	}
	f.Fuzz(func(t *testing.T, text string) {
		pools, err := ParseImport(text)
		for _, p := range pools {
			if err == nil && (p.GUID == 0 || p.Listed == nil) {
				t.Errorf("%+v", p)
			}
		}
		if _, err := ParseList(text); err == nil && text != "" && !strings.Contains(text, "\t") {
			t.Error("a list without fields")
		}
	})
}
