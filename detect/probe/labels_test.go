package probe

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"aslrescue/detect"
	"aslrescue/detect/zfslabel"
)

// realLabels makes devices of real pools, of which only the labels were kept, at the paths given by name.
func realLabels(t *testing.T, to map[string]string) {
	t.Helper()
	f, err := os.Open("../zfslabel/testdata/labels.tar.zst")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := zstd.NewReader(f, zstd.WithDecoderMaxWindow(64<<20))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	made := 0
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name, kind, _ := strings.Cut(h.Name, ".")
		size, err := strconv.ParseInt(kind, 10, 64)
		if to[name] == "" || err != nil {
			continue
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		writeImage(t, to[name], size, nil)
		dev, err := os.OpenFile(to[name], os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		for i, at := range zfslabel.Offsets(size) {
			if _, err := dev.WriteAt(data[i*256<<10:][:256<<10], at); err != nil {
				t.Fatal(err)
			}
		}
		if err := dev.Close(); err != nil {
			t.Fatal(err)
		}
		made++
	}
	if made != len(to) {
		t.Fatalf("%d of %d devices", made, len(to))
	}
}

// Pools are seen where there is no ZFS at all: one side of a mirror in a partition, a pool with a log on whole disks, and a disk
// whose partition table is gone.
func TestRealPoolsWithoutZFS(t *testing.T) {
	f := server(t)
	f.disk("sdc", "ata3/host2", "6:0", "262144", "sdc1:2048:260096")
	writeImage(t, f.path("/dev/sdc"), 128<<20, nil)
	f.disk("sdd", "ata4/host3", "5:0", "262144")
	f.disk("sde", "ata5/host4", "4:0", "262144")
	f.disk("sdf", "ata6/host5", "3:0", "262144")
	realLabels(t, map[string]string{"mirror-b": f.path("/dev/sdc1"), "tank-1": f.path("/dev/sdd"), "tank-2": f.path("/dev/sde"), "tank-log": f.path("/dev/sdf")})
	f.wish.Policy.Approved = []string{"mirror"}
	u := f.once()
	found := map[string]*detect.Pool{}
	for i, p := range u.Facts.Pools {
		found[p.Name] = &u.Facts.Pools[i]
	}
	m := found["mirror"]
	if m == nil || m.Labels == nil || m.Listed != nil || m.Labels.Health != "DEGRADED" || m.Labels.State != "active" || m.Labels.HostName != "vm" || m.Labels.Written == 0 {
		t.Fatalf("%+v", m)
	}
	legs := m.Labels.Vdevs[0].Children
	if len(legs) != 2 || legs[0].Device != "" || legs[1].Device != "/dev/sdc1" || legs[1].Disk != "sdc" || legs[1].Labels != 4 {
		t.Errorf("%+v", legs)
	}
	if c := u.Facts.Disks[2].Parts[0].Content; c == nil || c.Kind != "zfs" || c.Label != "mirror" {
		t.Errorf("sdc1: %+v", c)
	}
	tank := found["tank"]
	if tank == nil {
		t.Fatal("no tank")
	}
	s := detect.Stand(tank, u.Facts.ZFS, 0)
	if s.Importable || !strings.Contains(s.Why, "no ZFS tools") && !strings.Contains(s.Why, "not here") {
		t.Errorf("%+v", s)
	}
	log := false
	for _, v := range tank.Labels.Vdevs {
		log = log || v.Log && v.Disk == "sdf"
	}
	if !log {
		t.Errorf("no log among %+v", tank.Labels.Vdevs)
	}
	if c := u.Facts.Disks[3].Content; c == nil || c.Kind != "zfs" {
		t.Errorf("sdd: %+v", c)
	}
	if o := u.Decision.Options[1]; o.Taken || !strings.Contains(o.Why, "pool mirror, which the config approves") {
		t.Errorf("%+v", o)
	}
}

// badReader gives an error for one page.
type badReader struct {
	io.ReaderAt
	page int64
}

func (r badReader) ReadAt(p []byte, off int64) (int, error) {
	if off < (r.page+1)*page && off+int64(len(p)) > r.page*page {
		return 0, errors.New("input/output error")
	}
	return r.ReaderAt.ReadAt(p, off)
}

// One bad page costs what lies in its window behind it, and nothing else; it is said.
func TestABadPlaceHidesLittle(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	realLabels(t, map[string]string{"mirror-b": image})
	for bad, want := range map[int64]int{0: 4, 5: 3, 64 + 5: 3} { // before the first label's list, in it, in the second's
		d, err := openAligned(image)
		if err != nil {
			t.Fatal(err)
		}
		d.r = badReader{d.r, bad}
		p := d.peek(image)
		d.close()
		good := 0
		for _, v := range p.ZFS[0].Labels {
			if v == zfslabel.Good {
				good++
			}
		}
		if good != want && bad != 0 || good < 3 || p.ZFS[0].Config == nil || !strings.Contains(p.Err, "input/output error") {
			t.Errorf("page %d: %d good labels, %q", bad, good, p.Err)
		}
	}
}

func TestFolders(t *testing.T) {
	dir := t.TempDir()
	mk := func(names ...string) string {
		d := filepath.Join(dir, strconv.Itoa(len(must(os.ReadDir(dir)))))
		for _, n := range append(names, "") {
			if err := os.MkdirAll(filepath.Join(d, n), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		return d
	}
	for _, c := range []struct {
		dir            string
		empty, isStore bool
	}{
		{mk(), true, false}, {mk("lost+found"), true, false}, {mk("blocks", "segments", "snapshots", "logs"), false, true}, {mk("blocks"), false, false}, {mk("photos"), false, false},
	} {
		if f := folder(c.dir); f.Empty != c.empty || f.IsStore != c.isStore || !f.Exists || f.Free == 0 || f.Err != "" {
			t.Errorf("%s: %+v", c.dir, f)
		}
	}
	if f := folder(filepath.Join(dir, "nowhere")); f.Exists || f.Err != "no such file or directory" {
		t.Errorf("%+v", f)
	}
}

func TestHowDisksAreConnected(t *testing.T) {
	f := newFake(t)
	for bus, want := range map[string]string{
		"ata1/host0": "sata", "usb2/2-1/host6": "usb", "nvme/nvme0": "nvme", "virtio1": "virtio", "mmc_host/mmc0": "mmc", "host9/session1": "iscsi",
		"host1/rport-1:0-2": "fc", "host2/end_device-2:0": "sas", "host3/target3:0:0": "scsi", "other": "",
	} {
		name := "d" + strings.NewReplacer("/", "", ":", "", "-", "").Replace(bus)
		f.disk(name, bus, "8:0"+name, "1")
		if got := f.transport(name); got != want {
			t.Errorf("%s: %q, want %q", bus, got, want)
		}
	}
	for _, name := range []string{"loop0", "ram1", "zram0", "dm-3", "md127", "sr0", "fd0", "zd16", "mmcblk0boot0", "nbd1"} {
		if f.isDisk(name) {
			t.Errorf("%s is a disk", name)
		}
	}
	for _, name := range []string{"sda", "sdram", "nvme0n1", "vda", "mmcblk0", "mdx", "xvda"} {
		if !f.isDisk(name) {
			t.Errorf("%s is none", name)
		}
	}
}

// What lies below our own folders: a swap file and a store on USB, a share of the network.
func TestWhatThingsLieOn(t *testing.T) {
	f := server(t)
	info := string(must(os.ReadFile(f.path("/proc/self/mountinfo"))))
	f.file("/proc/self/mountinfo", info+"50 28 9:1 / /mnt/asl/local rw - vfat /dev/sdb1 rw\n51 28 0:99 / /var/lib/asl rw - nfs4 nas:/asl rw\n52 28 8:1 / /opt rw - ext4 /dev/sda1 rw\n")
	f.file("/proc/swaps", "Filename Type Size Used Priority\n/opt/swapfile file 1024 0 -2\n")
	u := f.once()
	if s := u.Facts.Store; !s.Mounted || s.Medium != detect.USB || s.Disk != "sdb" || s.Source != "/dev/sdb1" || s.FS != "vfat" || s.Empty {
		t.Errorf("%+v", s)
	}
	if s := u.Facts.State; s.Medium != detect.Net || s.FS != "nfs4" || s.Disk != "" {
		t.Errorf("%+v", s)
	}
	if s := u.Facts.Stack.Swaps; len(s) != 1 || s[0].Disk != "sda" {
		t.Errorf("%+v", s)
	}
}

// udev knows what /sys does not say.
func TestIdentityFromUdev(t *testing.T) {
	f := newFake(t)
	f.disk("sdx", "usb2/host6", "65:0", "100")
	for _, n := range []string{"device/vpd_pg80", "device/wwid", "device/model"} {
		if err := os.Remove(f.path("/sys/block/sdx/" + n)); err != nil {
			t.Fatal(err)
		}
	}
	f.file("/run/udev/data/b65:0", "S:disk/by-id/usb-x\nE:ID_SERIAL_SHORT=4C53 0001\nE:ID_MODEL=Ultra_Fit\nE:ID_WWN=0x5000\n")
	d := f.disks()[0]
	if d.Serial != "4C53 0001" || d.Model != "Ultra Fit" || d.WWN != "0x5000" {
		t.Errorf("%+v", d)
	}
}
