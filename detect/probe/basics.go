package probe

import (
	"bytes"
	"context"
	"errors"
	"path"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"

	"aslrescue/detect"
)

// finding is what a probe saw: it writes that into facts, and touches nothing it was made from. It may be called again and again.
type finding func(*detect.Facts)

func host(_ context.Context, m *Machine) (finding, error) {
	h := detect.Host{Name: m.text("/proc/sys/kernel/hostname"), Kernel: m.text("/proc/sys/kernel/osrelease"), UID: m.UID, System: systemName(m.text("/etc/os-release"))}
	for _, w := range strings.Fields(m.text("/proc/cmdline")) {
		word, value, _ := strings.Cut(w, "=")
		on := value != "n" && value != "no" && value != "0" && value != "false"
		switch word {
		case "nomdlvm":
			h.NoMDLVM = on
		case "copytoram":
			h.ToRAM = on
		}
	}
	mounts, err := m.mounts()
	if err != nil {
		return nil, err
	}
	for _, mt := range mounts {
		switch mt.Mountpoint {
		case "/":
			h.RootFS, h.RootDev = mt.FSType, m.diskOf(m.mountedDevice(mt))
		case "/run/archiso/bootmnt", "/run/live/medium", "/run/initramfs/live", "/cdrom":
			if h.Medium == "" {
				h.Medium = m.diskOf(m.mountedDevice(mt))
			}
		}
	}
	return func(f *detect.Facts) { f.Host = h }, nil
}

func systemName(osRelease string) string {
	values := map[string]string{}
	for line := range strings.Lines(osRelease) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[k] = strings.Trim(v, `"'`)
	}
	if n, v := values["NAME"], values["VERSION_ID"]; n != "" && v != "" {
		return n + " " + v
	}
	return values["PRETTY_NAME"]
}

// mounts are those of this process.
func (m *Machine) mounts() ([]*mountinfo.Info, error) {
	b, err := readFile(m, "/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return mountinfo.GetMountsFromReader(bytes.NewReader(b), nil)
}

// mountedDevice is the kernel's name of the block device that is mounted; empty where there is none.
func (m *Machine) mountedDevice(mt *mountinfo.Info) string {
	if name := m.deviceName(strconv.Itoa(mt.Major) + ":" + strconv.Itoa(mt.Minor)); name != "" {
		return name
	}
	if dev, ok := strings.CutPrefix(mt.Source, "/dev/"); ok { // btrfs has a number of its own
		if to := m.target(mt.Source); to != "" {
			return to
		}
		if m.exists("/sys/class/block/" + path.Base(dev)) {
			return path.Base(dev)
		}
	}
	return ""
}

func screen(_ context.Context, m *Machine) (finding, error) {
	if m.Console == nil {
		return nil, errors.New("nobody asked for it")
	}
	c := m.Console()
	return func(f *detect.Facts) { f.Console = &c }, nil
}

func memory(ctx context.Context, m *Machine) (finding, error) {
	var mem detect.Memory
	for line := range strings.Lines(m.text("/proc/meminfo")) {
		k, v, _ := strings.Cut(line, ":")
		n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
		if err != nil {
			continue
		}
		switch k {
		case "MemTotal":
			mem.Total = n << 10
		case "MemAvailable":
			mem.Available = n << 10
		}
	}
	if mem.Total == 0 {
		return nil, errors.New("/proc/meminfo says nothing")
	}
	if mounts, err := m.mounts(); err == nil {
		for _, mt := range mounts {
			if mt.Mountpoint == "/" && (mt.FSType == "overlay" || mt.FSType == "tmpfs" || mt.FSType == "rootfs") {
				if fo, err := m.folder(ctx, "/"); err == nil && fo.Err == "" {
					mem.RootTotal, mem.RootFree = fo.Total, fo.Free
				}
			}
		}
	}
	return func(f *detect.Facts) { f.Memory = &mem }, nil
}

func clock(_ context.Context, m *Machine) (finding, error) {
	c := detect.Clock{Now: m.Clock.Now().Unix(), RTC: m.number("/sys/class/rtc/rtc0/since_epoch"), Program: m.Made}
	c.Zone, _ = m.Clock.Now().Zone()
	if m.Synced != nil {
		c.Synced = m.Synced()
	}
	return func(f *detect.Facts) {
		server, local := int64(0), int64(0)
		if f.Clock != nil { // what the endpoint said stays
			server, local = f.Clock.Server, f.Clock.Local
		}
		d := c
		d.Server, d.Local = server, local
		f.Clock = &d
	}, nil
}

func power(_ context.Context, m *Machine) (finding, error) {
	var p detect.Power
	for _, n := range m.names("/sys/class/power_supply") {
		dir := "/sys/class/power_supply/" + n
		switch m.text(dir + "/type") {
		case "Mains", "USB":
			if on := m.text(dir + "/online"); on != "" {
				yes := on == "1" || p.Mains != nil && *p.Mains
				p.Mains = &yes
			}
		case "Battery":
			if m.text(dir+"/scope") == "Device" { // of a mouse
				continue
			}
			if full := m.text(dir + "/capacity"); full != "" {
				n := int(m.number(dir + "/capacity"))
				p.Battery = &n
			}
		}
	}
	return func(f *detect.Facts) { f.Power = &p }, nil
}

// folder asks a child about a folder.
func (m *Machine) folder(ctx context.Context, p string) (Folder, error) {
	var got *Folder
	err := children(ctx, m, Request{Folder: m.path(p)}, func(f Folder) { got = &f })
	if err == nil && got == nil {
		err = errors.New("the process that looked said nothing")
	}
	if err != nil {
		return Folder{}, err
	}
	return *got, nil
}

// place says what a folder lies on. Which mount that is stands in mountinfo, which never hangs; its room is asked of a child.
func (m *Machine) place(ctx context.Context, p string) (pl detect.Place, f Folder, on *mountinfo.Info, err error) {
	pl = detect.Place{Path: p, Medium: detect.Unknown}
	mounts, err := m.mounts()
	if err != nil {
		return pl, f, nil, err
	}
	for _, mt := range mounts { // later mounts hide earlier ones
		if within(p, mt.Mountpoint) && (on == nil || len(mt.Mountpoint) >= len(on.Mountpoint)) {
			on = mt
		}
	}
	if on != nil {
		pl.FS, pl.Disk = on.FSType, m.diskOf(m.mountedDevice(on))
		pl.Medium = m.medium(on, pl.Disk)
	}
	f, err = m.folder(ctx, p)
	if err != nil {
		return pl, f, on, err
	}
	pl.Exists, pl.Free, pl.ReadOnly = f.Exists, f.Free, f.ReadOnly
	return pl, f, on, nil
}

func within(p, dir string) bool { return dir == "/" || p == dir || strings.HasPrefix(p, dir+"/") }

func (m *Machine) medium(mt *mountinfo.Info, disk string) detect.Medium {
	switch mt.FSType {
	case "tmpfs", "ramfs", "rootfs", "devtmpfs":
		return detect.RAM
	case "overlay":
		return m.overlayMedium(mt)
	case "nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "ceph", "fuse.sshfs", "afs":
		return detect.Net
	case "zfs":
		return detect.Fixed
	}
	switch {
	case disk == "":
		return detect.Unknown
	case m.transport(disk) == "usb":
		return detect.USB
	}
	return detect.Fixed
}

// overlayMedium looks where an overlay puts what is written.
func (m *Machine) overlayMedium(mt *mountinfo.Info) detect.Medium {
	for _, o := range strings.Split(mt.VFSOptions, ",") {
		upper, ok := strings.CutPrefix(o, "upperdir=")
		if !ok {
			continue
		}
		mounts, err := m.mounts()
		if err != nil {
			break
		}
		var on *mountinfo.Info
		for _, u := range mounts {
			if u != mt && u.Mountpoint != "/" && within(upper, u.Mountpoint) && (on == nil || len(u.Mountpoint) >= len(on.Mountpoint)) {
				on = u
			}
		}
		if on != nil && on.FSType != "overlay" {
			return m.medium(on, m.diskOf(m.mountedDevice(on)))
		}
	}
	return detect.Unknown
}

func state(ctx context.Context, m *Machine, w Wish) (finding, error) {
	pl, f, _, err := m.place(ctx, w.StateDir)
	if err != nil {
		return nil, err
	}
	if f.Err != "" && f.Err != "no such file or directory" {
		return nil, errors.New(w.StateDir + ": " + f.Err)
	}
	return func(facts *detect.Facts) { facts.State = &pl }, nil
}

func store(ctx context.Context, m *Machine, w Wish) (finding, error) {
	pl, f, on, err := m.place(ctx, w.Policy.LocalMount)
	if err != nil {
		return nil, err
	}
	s := detect.Store{Place: pl, Mounted: on != nil && on.Mountpoint == w.Policy.LocalMount}
	if s.Mounted {
		s.IsStore, s.Empty, s.Source = f.IsStore, f.Empty, on.Source
		if f.Err != "" {
			return nil, errors.New(w.Policy.LocalMount + ": " + f.Err)
		}
	}
	return func(facts *detect.Facts) { facts.Store = &s }, nil
}
