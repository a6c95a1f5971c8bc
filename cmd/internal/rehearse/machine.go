package rehearse

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"aslrescue/detect"
)

const (
	kib = int64(1) << 10
	mib = int64(1) << 20
	gib = int64(1) << 30
)

// Built is the machine that is rehearsed where no other is given: a small server that went down. It was booted from a stick, two of its
// disks are twins of which one is failing, a third holds its system, and there is a healthy pool to save to, and a hurt one.
func Built() detect.Facts {
	yes := true
	disk := func(name, model, serial, transport string, size int64) detect.Disk {
		return detect.Disk{Name: name, Path: "/dev/" + name, Model: model, Serial: serial, Size: size, Logical: 512, Physical: 512, Transport: transport, State: "running",
			Smart: &detect.Smart{Passed: &yes, Hours: 21_400, Celsius: 31}}
	}
	stick := disk("sda", "SanDisk Ultra", "4C530001120524117", "usb", 8*gib)
	stick.Removable, stick.Smart, stick.Table = true, nil, "dos"
	stick.Parts = []detect.Part{{Name: "sda1", Path: "/dev/sda1", Start: mib, Size: 8*gib - mib, Content: &detect.Content{Kind: "vfat", Label: "RESCUE"}, Mounts: []string{"/run/archiso/bootmnt"}}}

	good := disk("sdb", "Transcend TS2GSSD500", "E21740-0417", "sata", 2*gib)
	good.Table = "gpt"
	good.Parts = []detect.Part{{Name: "sdb1", Path: "/dev/sdb1", Start: mib, Size: 2*gib - mib, Content: &detect.Content{Kind: "xfs", Label: "projects"}}}
	hurt := disk("sdc", "Transcend TS2GSSD500", "E21740-0471", "sata", 2*gib)
	hurt.Table, hurt.Smart = "gpt", &detect.Smart{Passed: &yes, Hours: 38_112, Celsius: 44, Reallocated: 24, Pending: 12}
	hurt.Parts = []detect.Part{
		{Name: "sdc1", Path: "/dev/sdc1", Start: mib, Size: 512 * mib, Content: &detect.Content{Kind: "ext4", Label: "root", Dirty: true}},
		{Name: "sdc2", Path: "/dev/sdc2", Start: 513 * mib, Size: 2*gib - 513*mib, Content: &detect.Content{Kind: "ext4", Label: "home", Dirty: true}},
	}
	system := disk("nvme0n1", "Samsung PM991a", "S660NX0R551234", "nvme", 4*gib)
	system.Smart = &detect.Smart{Passed: &yes, Hours: 9_120, Celsius: 39, UsedPercent: 11}
	system.Table = "gpt"
	system.Parts = []detect.Part{
		{Name: "nvme0n1p1", Path: "/dev/nvme0n1p1", Start: mib, Size: 512 * mib, Content: &detect.Content{Kind: "vfat", Label: "EFI"}},
		{Name: "nvme0n1p2", Path: "/dev/nvme0n1p2", Start: 513 * mib, Size: 3 * gib, Content: &detect.Content{Kind: "luks"}},
	}
	leg := func(name, serial string) detect.Disk {
		d := disk(name, "KINGSTON SA400S37", serial, "sata", 32*gib)
		d.Table = "gpt"
		d.Parts = []detect.Part{{Name: name + "1", Path: "/dev/" + name + "1", Start: mib, Size: 32*gib - 10*mib, Content: &detect.Content{Kind: "zfs", Label: "tank"}}}
		return d
	}
	old := disk("sdf", "TOSHIBA MK4032GAX", "Y6LATK3QT", "sata", 4*gib)
	old.Rotating = true
	old.Parts = []detect.Part{{Name: "sdf1", Path: "/dev/sdf1", Start: mib, Size: 4*gib - 10*mib, Content: &detect.Content{Kind: "zfs", Label: "old"}}}

	vdev := func(disk string, guid detect.GUID) detect.Vdev {
		return detect.Vdev{GUID: guid, Type: "disk", Device: "/dev/" + disk + "1", Disk: disk, Labels: 4}
	}
	const seen = 1_795_900_000
	f := detect.Facts{
		Version: detect.FactsVersion, Tool: "rehearsal",
		Host:    detect.Host{Name: "sysrescue", System: "SystemRescue 12.02", Kernel: "6.12.45-1-lts", NoMDLVM: true, ToRAM: false, Medium: "sda", RootFS: "overlay"},
		Console: &detect.Console{Kind: detect.VT, TTY: "tty1", Term: "linux", Cols: 80, Rows: 25, UTF8: true},
		Memory:  &detect.Memory{Total: 16 * gib, Available: 14 * gib, RootTotal: 8 * gib, RootFree: 7 * gib},
		Clock:   &detect.Clock{Now: seen + 172_800, RTC: seen + 172_800, Program: seen - 4_000_000, Zone: "UTC"},
		Power:   &detect.Power{Mains: &yes},
		State:   &detect.Place{Path: "/var/lib/asl", Exists: true, FS: "tmpfs", Medium: detect.RAM, Free: 7 * gib},
		Network: &detect.Network{Links: []detect.Link{{Name: "eth0", Up: true, Carrier: true, Mbit: 1000, MAC: "52:54:00:12:34:56", Addrs: []string{"192.0.2.20/24"}}},
			Routes: []detect.Route{{Via: "192.0.2.1", Link: "eth0"}}, Servers: []string{"192.0.2.1"}},
		Roots: &detect.Roots{Path: "/etc/ssl/certs/ca-certificates.crt", Count: 142},
		ZFS:   &detect.ZFS{Loaded: true, Module: "2.3.4", Installed: true, Tools: true, Version: "2.3.4", HostID: 0x007f0101},
		Pools: []detect.Pool{
			{GUID: 4155087734532234877, Name: "tank",
				Labels: &detect.PoolLabels{State: "active", Health: "ONLINE", Complete: true, HostID: 0x8425a0b1, HostName: "nas1", Txg: 184_223, Written: seen, Version: 5000,
					Vdevs: []detect.Vdev{{GUID: 9_123, Type: "mirror", Labels: 4, Children: []detect.Vdev{vdev("sdd", 71), vdev("sde", 72)}}}},
				Listed: &detect.PoolListed{State: "ONLINE", Config: []detect.ListedVdev{{Depth: 0, Name: "tank", State: "ONLINE"}, {Depth: 1, Name: "mirror-0", State: "ONLINE"}, {Depth: 2, Name: "sdd", State: "ONLINE"}, {Depth: 2, Name: "sde", State: "ONLINE"}}}},
			{GUID: 1200457781902334112, Name: "old",
				Labels: &detect.PoolLabels{State: "exported", Health: "DEGRADED", Complete: true, HostID: 0x8425a0b1, HostName: "nas1", Txg: 90_411, Written: seen - 40_000_000, Version: 5000,
					Vdevs: []detect.Vdev{{GUID: 9_200, Type: "mirror", Children: []detect.Vdev{vdev("sdf", 81), {GUID: 82, Type: "missing", Path: "/dev/sdg1"}}}}},
				Listed: &detect.PoolListed{State: "DEGRADED", Config: []detect.ListedVdev{{Depth: 0, Name: "old", State: "DEGRADED"}, {Depth: 1, Name: "mirror-0", State: "DEGRADED"}, {Depth: 2, Name: "sdf", State: "ONLINE"}, {Depth: 2, Name: "82", State: "UNAVAIL"}}}},
		},
		Disks: []detect.Disk{stick, good, hurt, leg("sdd", "50026B77-83A1"), leg("sde", "50026B77-9C02"), old, system},
		Stack: &detect.Stack{Mounts: []detect.Mount{{Device: "/dev/sda1", At: "/run/archiso/bootmnt", FS: "vfat", ReadOnly: true, Disk: "sda"}}},
		Store: &detect.Store{Place: detect.Place{Path: "/mnt/asl/local", Exists: true, FS: "overlay", Medium: detect.RAM}, Mounted: false},
	}
	for _, p := range []string{"console", "memory", "clock", "power", "state", "network", "roots", "zfs", "labels", "pools", "stack", "store"} {
		f.Probes = append(f.Probes, detect.Probe{Name: p, State: detect.Done})
	}
	for _, d := range f.Disks {
		f.Probes = append(f.Probes, detect.Probe{Name: "disk " + d.Name, State: detect.Done})
	}
	return f
}

// Load reads a captured machine: facts as they are written to a file, or the preflight.json that holds them.
func Load(file string) (detect.Facts, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return detect.Facts{}, err
	}
	var whole struct {
		Facts json.RawMessage `json:"facts"`
	}
	if json.Unmarshal(b, &whole) == nil && len(whole.Facts) > 0 {
		b = whole.Facts
	}
	f, err := detect.ParseFacts(b)
	if err != nil {
		return detect.Facts{}, fmt.Errorf("%s: %w", file, err)
	}
	return *f, nil
}

// most is how much all disks of a rehearsal hold together: what a laptop reads in some minutes.
const most = 64 * gib

// shrink makes the disks of a captured machine small enough to be played through. Everything shrinks alike, so that what was larger stays so.
// It gives by how much.
func shrink(f *detect.Facts) int64 {
	total := int64(0)
	for _, d := range f.Disks {
		total += d.Size
	}
	by := int64(1)
	for total/by > 2*most {
		by *= 2
	}
	if by == 1 {
		return 1
	}
	cut := func(n int64) int64 { return n / by / (64 * kib) * (64 * kib) }
	f.Disks = slices.Clone(f.Disks)
	for i := range f.Disks {
		d := &f.Disks[i]
		if d.Size > 0 {
			d.Size = max(cut(d.Size), mib)
		}
		d.Parts = slices.Clone(d.Parts)
		for j := range d.Parts {
			d.Parts[j].Start, d.Parts[j].Size = cut(d.Parts[j].Start), max(cut(d.Parts[j].Size), mib)
		}
	}
	return by
}
