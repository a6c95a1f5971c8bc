package probe

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"aslrescue/detect"
)

var update = flag.Bool("update", false, "write golden files anew")

func TestMdstat(t *testing.T) {
	const text = `Personalities : [raid1] [raid6] [raid5] [raid4]
md127 : active (auto-read-only) raid1 sdb1[1] sda1[0]
      976630464 blocks super 1.2 [2/2] [UU]
      	resync=PENDING

md0 : active raid5 sde1[3](S) sdd1[2] sdc1[1](F) sdb2[0]
      1953260544 blocks super 1.2 level 5, 512k chunk, algorithm 2 [3/2] [U_U]
      [===>.................]  recovery = 17.3% (169/976) finish=66.1min speed=203522K/sec
      bitmap: 3/8 pages [12KB], 65536KB chunk

md1 : inactive sdf1[0](S)
      976630464 blocks super 1.2

unused devices: <none>
`
	want := []detect.Array{
		{Name: "md0", Level: "raid5", State: "active", Members: []string{"sdb2", "sdc1", "sdd1", "sde1"}, Want: 3, Have: 2, Sync: "recovery", Percent: "17.3%"},
		{Name: "md1", State: "inactive", Members: []string{"sdf1"}},
		{Name: "md127", Level: "raid1", State: "active (auto-read-only)", Members: []string{"sda1", "sdb1"}, Want: 2, Have: 2, Sync: "resync=PENDING"},
	}
	if got := ParseMdstat(text); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := ParseMdstat("Personalities : \nunused devices: <none>\n"); got != nil {
		t.Errorf("got %+v", got)
	}
}

func TestSmart(t *testing.T) {
	yes, no := true, false
	for file, want := range map[string]*detect.Smart{
		"ata.json":     {Passed: &no, Hours: 71000, Celsius: 41, Reallocated: 1704, Pending: 118, Uncorrected: 42, CRC: 3},
		"nvme.json":    {Passed: &no, Hours: 9100, Celsius: 48, MediaErrors: 212, UsedPercent: 104, Critical: 4},
		"scsi.json":    {Passed: &yes, Hours: 40100, Celsius: 31, Reallocated: 7, Uncorrected: 2},
		"standby.json": nil,
		"usb.json":     nil,
	} {
		b, err := os.ReadFile(filepath.Join("testdata/smart", file))
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseSmart(b)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v, want %+v", file, got, err, want)
		}
	}
	if _, err := ParseSmart([]byte("no JSON")); err == nil {
		t.Error("no JSON is taken")
	}
}

func TestConsoles(t *testing.T) {
	for _, c := range []struct {
		tty  string
		ssh  bool
		want detect.ConsoleKind
	}{
		{"/dev/tty1", false, detect.VT}, {"/dev/console", false, detect.VT}, {"/dev/ttyS0", false, detect.Serial}, {"/dev/ttyAMA0", false, detect.Serial},
		{"/dev/hvc0", false, detect.Serial}, {"/dev/pts/3", true, detect.SSH}, {"/dev/pts/3", false, detect.PTY}, {"/dev/something", false, detect.OddTerm},
	} {
		if got := consoleKind(c.tty, c.ssh); got != c.want {
			t.Errorf("%s: %s, want %s", c.tty, got, c.want)
		}
	}
}

func TestTheKeyboardIsNamedByWhoAskedForIt(t *testing.T) {
	for _, c := range [][3]string{
		{"quiet setkmap=de copytoram", "KEYMAP=fr\n", "de"}, {"rd.vconsole.keymap=ch-de", "", "ch-de"}, {"quiet", "XKBLAYOUT=us\nKEYMAP=\"fr-latin9\"\n", "fr-latin9"},
		{"quiet", "# KEYMAP\n", ""}, {"keymap=", "", ""},
	} {
		if got := layout(c[0], c[1]); got != c[2] {
			t.Errorf("%q, %q: %q, want %q", c[0], c[1], got, c[2])
		}
	}
}

func TestOverlaysLieWhereTheyAreWritten(t *testing.T) {
	f := server(t)
	if s := f.once().Facts.State; s.Medium != detect.RAM || s.FS != "overlay" || s.Disk != "" {
		t.Errorf("on a tmpfs: %+v", s)
	}
	info := string(must(os.ReadFile(f.path("/proc/self/mountinfo"))))
	f.file("/proc/self/mountinfo", strings.Replace(info, "31 30 0:27 / /run/archiso/cowspace rw - tmpfs cowspace rw", "31 30 9:1 / /run/archiso/cowspace rw - ext4 /dev/sdb1 rw", 1))
	if s := f.once().Facts.State; s.Medium != detect.USB {
		t.Errorf("on a stick: %+v", s)
	}
}

func TestRunEndsWhatDoesNotEnd(t *testing.T) {
	ctx, cancel := timeoutContext()
	defer cancel()
	out, err := run(ctx, "/bin/sh", "-c", "echo $LC_ALL $ZFS_MODULE_LOADING $HOME; echo two >&2; exit 3")
	if err != nil || out.Out != "C no\n" || out.Err != "two\n" || out.Code != 3 {
		t.Errorf("%+v, %v", out, err)
	}
	short, stop := shortContext()
	defer stop()
	began := time.Now()
	if _, err := run(short, "/bin/sh", "-c", "sleep 1000 & sleep 1000"); err == nil || time.Since(began) > deadline {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	if _, err := run(ctx, "/no/such/tool"); err == nil {
		t.Error("a tool that is not there ran")
	}
}
