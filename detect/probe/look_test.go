package probe

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"aslrescue/detect"
	"aslrescue/detect/zfslabel"
)

// server is a machine with a disk that has two partitions, a stick it was booted from, an array, a map and swap.
func server(t *testing.T) *fake {
	f := newFake(t)
	f.disk("sda", "ata1/host0", "8:0", "131072", "sda1:2048:32768", "sda2:34816:32768")
	f.file("/dev/sda", "")
	unpack(t, "testdata/content/vfat32-67108864.gz", f.path("/dev/sda1"))
	unpack(t, "testdata/content/ext4-16777216.gz", f.path("/dev/sda2"))
	writeImage(t, f.path("/dev/sda"), 64<<20, nil)
	f.disk("sdb", "usb2/host6", "9:0", "32768", "sdb1:2048:8192")
	writeImage(t, f.path("/dev/sdb"), 16<<20, nil)
	unpack(t, "testdata/content/vfat16-16777216.gz", f.path("/dev/sdb1"))
	f.link("/dev/disk/by-id/ata-WDC_WD40EFRX_WD-SDA0001", "../../sda")
	f.link("/dev/disk/by-id/wwn-0x5000c5000000008", "../../sda")
	f.file("/proc/self/mountinfo", string(must(os.ReadFile(f.path("/proc/self/mountinfo"))))+
		"40 30 9:1 / /run/archiso/bootmnt ro - vfat /dev/sdb1 ro\n41 28 8:2 / /mnt/with\\040blank rw - ext4 /dev/sda2 rw\n")
	f.file("/proc/mdstat", "Personalities : [raid1]\nmd127 : active raid1 sdd1[1] sdc1[0]\n      976630464 blocks super 1.2 [2/2] [UU]\n      [==>..................]  resync = 12.6% (123/976) finish=80.1min speed=1K/sec\n")
	f.file("/sys/block/dm-0/dm/name", "vg0-root\n")
	f.file("/sys/block/dm-0/dm/uuid", "LVM-abc\n")
	f.link("/sys/block/dm-0/slaves/sda2", "../../sda2")
	f.file("/sys/block/loop0/size", "8\n")
	f.file("/sys/block/zram0/size", "8\n")
	f.file("/sys/block/sr0/size", "8\n")
	f.file("/proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n/dev/sda2 partition 1024 0 -2\n/dev/zram0 partition 2048 0 100\n")
	f.file("/etc/os-release", "NAME=\"SystemRescue\"\nVERSION_ID=\"13.02\"\nPRETTY_NAME=\"x\"\n")
	f.file("/proc/cmdline", "BOOT_IMAGE=/vmlinuz nomdlvm copytoram=n quiet\n")
	f.file("/proc/sys/kernel/osrelease", "6.18.41-1-lts\n")
	for file, text := range map[string]string{"type": "1", "flags": "0x1003", "carrier": "1", "speed": "1000", "address": "52:54:00:12:34:56", "operstate": "up", "device/vendor": "x"} {
		f.file("/sys/class/net/enp3s0/"+file, text+"\n")
	}
	f.file("/sys/class/net/lo/type", "772\n")
	f.Addrs = func(link string) []string { return []string{"192.168.7.31/24"} }
	f.file("/proc/net/route", "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\nenp3s0\t00000000\t0107A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\nenp3s0\t0007A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n")
	f.file("/proc/net/ipv6_route", strings.Repeat("0", 32)+" 00 "+strings.Repeat("0", 32)+" 00 fe800000000000000000000000000001 00000400 1 0 450003 enp3s0\n"+strings.Repeat("0", 32)+" 00 "+strings.Repeat("0", 32)+" 00 "+strings.Repeat("0", 32)+" ffffffff 1 0 200200 lo\n")
	f.file("/etc/resolv.conf", "# made\nsearch x\nnameserver 192.168.7.1\nnameserver 192.168.7.1\n")
	f.file("/etc/ssl/certs/ca-certificates.crt", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\n")
	f.file("/sys/class/power_supply/AC/type", "Mains\n")
	f.file("/sys/class/power_supply/AC/online", "0\n")
	f.file("/sys/class/power_supply/BAT0/type", "Battery\n")
	f.file("/sys/class/power_supply/BAT0/capacity", "22\n")
	f.file("/sys/class/power_supply/mouse/type", "Battery\n")
	f.file("/sys/class/power_supply/mouse/scope", "Device\n")
	f.file("/sys/class/power_supply/mouse/capacity", "90\n")
	f.file("/sys/class/rtc/rtc0/since_epoch", "1798003600\n")
	f.file("/usr/sbin/smartctl", "")
	f.tools["smartctl"] = Output{Out: string(must(os.ReadFile("testdata/smart/ata.json"))), Code: 4}
	return f
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestAWholeMachine(t *testing.T) {
	f := server(t)
	u := f.once()
	facts := u.Facts
	if facts.Memory.RootTotal <= 0 || facts.State.Free <= 0 {
		t.Errorf("no room is known: %+v, %+v", facts.Memory, facts.State)
	}
	facts.Memory.RootTotal, facts.Memory.RootFree, facts.State.Free, facts.Store.Free = 1, 1, 1, 1 // of the machine that tests
	got, err := facts.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	const file = "testdata/server.json"
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := must(os.ReadFile(file)); string(want) != string(got) {
		t.Errorf("%s is not what was seen (-update writes it anew):\n%s", file, got)
	}
}

// mixed gives children for single devices to another way.
func (f *fake) children(other func(Request) bool, way func(context.Context, Request) (io.ReadCloser, error)) {
	plain := f.Child
	f.Child = func(ctx context.Context, r Request) (io.ReadCloser, error) {
		if other(r) {
			return way(ctx, r)
		}
		return plain(ctx, r)
	}
}

func asks(path string) func(Request) bool {
	return func(r Request) bool {
		return slices.ContainsFunc(r.Devices, func(d string) bool { return strings.HasSuffix(d, path) })
	}
}

// self is a real child process.
func self(ctx context.Context, r Request) (io.ReadCloser, error) {
	return again(ctx, []string{os.Args[0]}, r)
}

// A FIFO that nobody writes to hangs whoever opens it, as a dead disk does. Everything else is known at once, the disk is late and
// then given up, and the process that hangs is ended.
func TestADiskThatHangsHoldsUpNothing(t *testing.T) {
	f := server(t)
	f.disk("sdc", "ata3/host3", "7:0", "65536")
	fifo := f.path("/dev/sdc")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	f.children(asks("/dev/sdc"), self)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	l := Start(ctx, f.Machine, f.wish)
	u := until(t, l, "all but sdc and the pools", func(u Update) bool { return slices.Equal(u.Decision.Late, []string{"disk sdc", "pools"}) })
	if u.Done || u.Facts.Disks[0].Parts[1].Content == nil {
		t.Errorf("done %v, and sda2 is %+v", u.Done, u.Facts.Disks[0].Parts[1])
	}
	late := slices.IndexFunc(u.Decision.Rows, func(r detect.Row) bool { return r.ID == "disk.state" && r.About == detect.OfDisk("sdc") && r.Late })
	if late < 0 || !strings.Contains(u.Decision.Rows[late].Found, "still looking") {
		t.Errorf("no late row:\n%s", u.Decision.Text(110))
	}
	waitForReader(t, fifo, true)
	f.clock.advance(Limit - time.Millisecond)
	f.clock.advance(time.Millisecond)
	u = until(t, l, "sdc is given up", func(u Update) bool { return u.Done })
	p, _ := u.Facts.Probe("disk sdc")
	if p.State != detect.Failed || p.Why != errLate.Error() {
		t.Errorf("%+v", p)
	}
	if !strings.Contains(u.Decision.Text(110), "did not answer within 5 s") {
		t.Error(u.Decision.Text(110))
	}
	waitForReader(t, fifo, false)

	// It was only spinning up: asked once more, it answers.
	if err := os.Remove(fifo); err != nil {
		t.Fatal(err)
	}
	unpack(t, "testdata/content/ext4-16777216.gz", fifo)
	f.clock.advance(spinUp)
	until(t, l, "sdc answers", func(u Update) bool {
		return u.Done && len(u.Facts.Disks) == 3 && u.Facts.Disks[2].Content != nil && u.Facts.Disks[2].Content.Kind == "ext4"
	})
}

// waitForReader waits until a child is there that was told to read the FIFO, or none is.
func waitForReader(t *testing.T, fifo string, want bool) {
	t.Helper()
	up := time.After(deadline)
	for reading(fifo) != want {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-up:
			t.Fatalf("reader of %s: want %v", fifo, want)
		}
	}
}

// reading looks for the child by what it was asked, for to open the FIFO would let it go on.
func reading(fifo string) bool {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range all {
		b, err := os.ReadFile(p)
		if err == nil && strings.Contains(string(b), ChildArg) && strings.Contains(string(b), fifo) {
			return true
		}
	}
	return false
}

// A machine that is itself slow gets more time, and not for ever.
func TestASlowMachineGetsMoreTime(t *testing.T) {
	for start, want := range map[time.Duration]time.Duration{0: Limit, 250 * time.Millisecond: Limit, time.Second: 20 * time.Second, time.Hour: Slowest, -1: Slowest} {
		if got := limit(start); got != want {
			t.Errorf("%v: %v, want %v", start, got, want)
		}
	}
	f := server(t)
	hold := make(chan struct{})
	f.children(func(r Request) bool { return r.Folder == "" && r.Devices == nil }, func(context.Context, Request) (io.ReadCloser, error) {
		<-hold
		return io.NopCloser(strings.NewReader("")), nil
	})
	f.children(asks("/dev/sda"), func(ctx context.Context, r Request) (io.ReadCloser, error) {
		select {
		case <-hold:
		case <-ctx.Done():
		}
		return io.NopCloser(strings.NewReader(answer(r))), ctx.Err()
	})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	l := Start(ctx, f.Machine, f.wish)
	late := func(u Update) bool { return slices.Contains(u.Decision.Late, "disk sda") && len(u.Decision.Late) == 2 }
	until(t, l, "all but sda", late)
	f.clock.advance(Limit)
	f.file("/sys/block/sdz/size", "1\n") // an update that comes after the limit
	f.clock.advance(pollEvery)
	until(t, l, "it is still looked at", func(u Update) bool { return len(u.Facts.Disks) == 3 && slices.Contains(u.Decision.Late, "disk sda") })
	close(hold)
	until(t, l, "it answers", func(u Update) bool { return u.Facts.Disks[0].Parts[1].Content != nil })
}

// What a child said before it hung counts: the disk and its first partition are known, the second is not.
func TestWhatWasSaidBeforeItHungCounts(t *testing.T) {
	f := server(t)
	if err := errors.Join(os.Remove(f.path("/dev/sda2")), unix.Mkfifo(f.path("/dev/sda2"), 0o600)); err != nil {
		t.Fatal(err)
	}
	f.children(asks("/dev/sda2"), self)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	l := Start(ctx, f.Machine, f.wish)
	until(t, l, "sda1", func(u Update) bool {
		return len(u.Decision.Late) == 2 && len(u.Facts.Disks) == 2 && u.Facts.Disks[0].Parts[0].Content != nil
	})
	f.clock.advance(Limit)
	u := until(t, l, "given up", func(u Update) bool { return u.Done })
	if d := u.Facts.Disks[0]; d.Parts[0].Content == nil || d.Parts[1].Content != nil {
		t.Errorf("%+v", d)
	}
}

// A folder on a network share that is gone hangs whoever asks for its room.
func TestAFolderThatHangsHoldsUpNothing(t *testing.T) {
	f := server(t)
	f.children(func(r Request) bool { return strings.HasSuffix(r.Folder, "/mnt/asl/local") }, func(ctx context.Context, _ Request) (io.ReadCloser, error) {
		r, w := io.Pipe()
		context.AfterFunc(ctx, func() { _ = w.Close() })
		return r, nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	l := Start(ctx, f.Machine, f.wish)
	until(t, l, "all but the store", func(u Update) bool { return slices.Equal(u.Decision.Late, []string{"store"}) })
	f.clock.advance(Limit)
	u := until(t, l, "given up", func(u Update) bool { return u.Done })
	if o := u.Decision.Options[0]; o.Taken || !strings.Contains(o.Why, "did not answer") {
		t.Errorf("%+v", o)
	}
}

func TestDisksThatArePluggedInAndOutAreNoticed(t *testing.T) {
	f := server(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var asked atomic.Int32
	f.children(asks("/dev/sda2"), func(_ context.Context, r Request) (io.ReadCloser, error) {
		asked.Add(1)
		return io.NopCloser(strings.NewReader(answer(r))), nil
	})
	l := Start(ctx, f.Machine, f.wish)
	until(t, l, "two disks", func(u Update) bool { return u.Done && len(u.Facts.Disks) == 2 })
	unpack(t, "testdata/content/ntfs-16777216.gz", f.path("/dev/sdc"))
	f.disk("sdc", "usb3/host7", "7:0", "32768")
	f.clock.advance(pollEvery)
	u := until(t, l, "the third", func(u Update) bool { return u.Done && len(u.Facts.Disks) == 3 })
	if c := u.Facts.Disks[2].Content; c == nil || c.Kind != "ntfs" || u.Facts.Disks[2].Transport != "usb" {
		t.Errorf("%+v", u.Facts.Disks[2])
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("sda was read %d times, for a disk beside it", n)
	}
	if err := os.Remove(f.path("/sys/block/sdc")); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(pollEvery)
	u = until(t, l, "it is gone", func(u Update) bool { return u.Done && len(u.Facts.Disks) == 2 })
	if _, known := u.Facts.Probe("disk sdc"); known {
		t.Error("its probe is still there")
	}
	// Somebody mounts a disk where the store is to be.
	f.file("/proc/self/mountinfo", string(must(os.ReadFile(f.path("/proc/self/mountinfo"))))+"60 28 8:1 / /mnt/asl/local rw - vfat /dev/sda1 rw\n")
	f.clock.advance(pollEvery)
	until(t, l, "it is mounted", func(u Update) bool { return u.Done && u.Facts.Store.Mounted && u.Facts.Store.Disk == "sda" })
	if n := asked.Load(); n != 1 {
		t.Errorf("sda was read %d times, for a mount", n)
	}

	// Asked to, it looks at everything again.
	l.Again(f.wish)
	until(t, l, "again", func(u Update) bool { return u.Done && asked.Load() == 2 })
}

// What is written while we look is seen in the kernel's counters.
func TestWritesWhileLookingAreSeen(t *testing.T) {
	f := server(t)
	f.children(asks("/dev/sda"), func(_ context.Context, r Request) (io.ReadCloser, error) {
		f.file("/sys/block/sda/stat", "1 0 8 0 3 0 24 0 0 0 0\n")
		return io.NopCloser(strings.NewReader(answer(r))), nil
	})
	d := f.once().Facts.Disks[0]
	if *d.Before != (detect.Writes{}) || *d.After != (detect.Writes{IOs: 3, Sectors: 24}) {
		t.Errorf("before %+v, after %+v", *d.Before, *d.After)
	}
}

func TestTheContextEndsIt(t *testing.T) {
	f := server(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	stopped := errors.New("stopped")
	f.children(asks("/dev/sda"), func(ctx context.Context, _ Request) (io.ReadCloser, error) {
		cancel(stopped)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	if _, err := Once(ctx, f.Machine, f.wish); !errors.Is(err, stopped) {
		t.Errorf("got %v", err)
	}
}

// Labels become a pool, with the disk that each part lies on.
func TestPoolsFromLabels(t *testing.T) {
	side := func(dev string, g zfslabel.GUID, state zfslabel.State) zfslabel.Seen {
		tree := &zfslabel.Vdev{Type: "mirror", GUID: 10, Children: []*zfslabel.Vdev{{Type: "disk", GUID: 11, ID: 0, Path: "/dev/x"}, {Type: "disk", GUID: 12, ID: 1, Path: "/dev/disk/by-id/y-part1"}}}
		good := [4]zfslabel.Verdict{zfslabel.Good, zfslabel.Good, zfslabel.Damaged, zfslabel.Good}
		return zfslabel.Seen{Device: dev, Labels: good, Why: "label 2: checksum", Last: &zfslabel.Uberblock{TXG: 9, Timestamp: 1_797_000_000, GUIDSum: 1 + 10 + 11 + 12},
			Config: &zfslabel.Config{Version: 5000, Name: "mirr", State: state, TXG: 9, PoolGUID: 1, HostID: 0x11111111, HasHostID: true, Hostname: "nas1", TopGUID: 10, GUID: g, TopVdevs: 1, Tree: tree}}
	}
	listed := []detect.Pool{{GUID: 1, Name: "mirr", Listed: &detect.PoolListed{State: "DEGRADED"}}, {GUID: 7, Name: "else", Listed: &detect.PoolListed{State: "ONLINE"}}}
	got := pools([]zfslabel.Seen{side("/dev/sdb1", 11, zfslabel.Active)}, listed, nil, func(string) string { return "sdb" })
	if len(got) != 2 || got[1].Name != "mirr" || got[0].Labels != nil {
		t.Fatalf("%+v", got)
	}
	p := got[1]
	l := p.Labels
	if l.Health != "DEGRADED" || l.State != "active" || l.HostID != 0x11111111 || l.Written != 1_797_000_000 || !l.Complete || p.Listed.State != "DEGRADED" {
		t.Errorf("%+v", l)
	}
	legs := l.Vdevs[0].Children
	if legs[0].Device != "/dev/sdb1" || legs[0].Disk != "sdb" || legs[0].Labels != 3 || legs[1].Device != "" || legs[1].Presence != "missing" {
		t.Errorf("%+v", legs)
	}
	if !slices.ContainsFunc(l.Problems, func(s string) bool { return strings.Contains(s, "/dev/sdb1: label 2: checksum") }) {
		t.Errorf("%q", l.Problems)
	}
	s := detect.Stand(&p, &detect.ZFS{Loaded: true, Tools: true}, 0)
	if !s.Foreign || !s.Importable || s.Here != 1 || len(s.Missing) != 1 {
		t.Errorf("%+v", s)
	}
}
