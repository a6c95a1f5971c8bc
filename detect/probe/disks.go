package probe

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"aslrescue/detect"
	"aslrescue/detect/zfslabel"
)

// disks lists whole disks from /sys, which never asks the disk. What is on them is a probe of its own for each.
func (m *Machine) disks() []detect.Disk {
	ids := m.links("/dev/disk/by-id")
	var out []detect.Disk
	for _, name := range m.names("/sys/block") {
		if !m.isDisk(name) {
			continue
		}
		dir := "/sys/block/" + name
		d := detect.Disk{
			Name: name, Path: "/dev/" + name, Size: m.number(dir+"/size") * 512, ID: stableName(ids[name]),
			Logical: int(m.number(dir + "/queue/logical_block_size")), Physical: int(m.number(dir + "/queue/physical_block_size")),
			Rotating: m.text(dir+"/queue/rotational") == "1", Removable: m.text(dir+"/removable") == "1", ReadOnly: m.text(dir+"/ro") == "1",
			State: m.text(dir + "/device/state"), Transport: m.transport(name), Holders: m.names(dir + "/holders"),
		}
		m.identify(&d)
		d.Before = m.writes(name)
		for _, p := range m.names(dir) {
			if !m.exists(dir + "/" + p + "/partition") {
				continue
			}
			d.Parts = append(d.Parts, detect.Part{Name: p, Path: "/dev/" + p, Start: m.number(dir+"/"+p+"/start") * 512, Size: m.number(dir+"/"+p+"/size") * 512, Holders: m.names(dir + "/" + p + "/holders")})
		}
		slices.SortFunc(d.Parts, func(a, b detect.Part) int { return int(min(max(a.Start-b.Start, -1), 1)) })
		out = append(out, d)
	}
	return out
}

// isDisk leaves out what is built upon disks, and what is none: memory, loops, floppies, drives for discs.
func (m *Machine) isDisk(name string) bool {
	for _, p := range []string{"loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd", "zd", "drbd", "bcache"} {
		if rest, ok := strings.CutPrefix(name, p); ok && (rest == "" || rest[0] >= '0' && rest[0] <= '9') {
			return false
		}
	}
	if strings.HasPrefix(name, "mmcblk") && (strings.Contains(name, "boot") || strings.Contains(name, "rpmb")) {
		return false
	}
	return m.text("/sys/block/"+name+"/hidden") != "1"
}

// links maps what links of a folder point to, to their names.
func (m *Machine) links(dir string) map[string][]string {
	out := map[string][]string{}
	for _, n := range m.names(dir) {
		if to := m.target(dir + "/" + n); to != "" {
			out[to] = append(out[to], n)
		}
	}
	return out
}

// stableName takes the name that says most: with model and serial before a bare number.
func stableName(names []string) string {
	rank := func(n string) int {
		return slices.IndexFunc([]string{"wwn-", "nvme-eui.", "scsi-3", "scsi-S", "scsi-", ""}, func(p string) bool { return strings.HasPrefix(n, p) })
	}
	best := ""
	for _, n := range names {
		if best == "" || rank(n) > rank(best) {
			best = n
		}
	}
	return best
}

func (m *Machine) transport(name string) string {
	real, err := filepath.EvalSymlinks(m.path("/sys/block/" + name))
	if err != nil {
		return ""
	}
	has := func(part string) bool { return strings.Contains(real, part) }
	switch {
	case has("/usb"):
		return "usb"
	case has("/ata"):
		return "sata"
	case has("/nvme"):
		return "nvme"
	case has("/virtio"):
		return "virtio"
	case has("/mmc_host"):
		return "mmc"
	case has("/session"):
		return "iscsi"
	case has("/rport-"):
		return "fc"
	case has("/end_device-"):
		return "sas"
	case has("/host"):
		return "scsi"
	}
	return ""
}

// identify takes what is printed on a disk from /sys, and what is missing there from what udev keeps.
func (m *Machine) identify(d *detect.Disk) {
	dir := "/sys/block/" + d.Name
	d.Model = tidy(m.text(dir + "/device/model"))
	if v := tidy(m.text(dir + "/device/vendor")); v != "" && v != "ATA" && !strings.HasPrefix(v, "0x") {
		d.Model = tidy(v + " " + d.Model)
	}
	d.Serial = tidy(m.text(dir + "/serial"))
	if d.Serial == "" {
		d.Serial = tidy(m.text(dir + "/device/serial"))
	}
	if b, err := readFile(m, dir+"/device/vpd_pg80"); d.Serial == "" && err == nil && len(b) > 4 {
		d.Serial = tidy(string(b[4:]))
	}
	for _, f := range []string{"/wwid", "/device/wwid"} {
		if w := m.text(dir + f); d.WWN == "" && !strings.HasPrefix(w, "t10.") {
			d.WWN = strings.Replace(w, "naa.", "0x", 1)
		}
	}
	for line := range strings.Lines(m.text("/run/udev/data/b" + m.text(dir+"/dev"))) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch {
		case k == "E:ID_SERIAL_SHORT" && d.Serial == "":
			d.Serial = tidy(v)
		case k == "E:ID_MODEL" && d.Model == "":
			d.Model = tidy(strings.ReplaceAll(v, "_", " "))
		case k == "E:ID_WWN" && d.WWN == "":
			d.WWN = v
		}
	}
}

// tidy takes blanks and what is not text from both ends, and blanks in a row from the middle.
func tidy(s string) string {
	return strings.Join(strings.Fields(strings.Trim(strings.ToValidUTF8(s, ""), "\x00 \t\r\n")), " ")
}

// writes are the kernel's counters of what was written to a device.
func (m *Machine) writes(name string) *detect.Writes {
	f := strings.Fields(m.text("/sys/block/" + name + "/stat"))
	if len(f) < 7 {
		return nil
	}
	ios, err1 := strconv.ParseUint(f[4], 10, 64)
	sectors, err2 := strconv.ParseUint(f[6], 10, 64)
	if err1 != nil || err2 != nil {
		return nil
	}
	return &detect.Writes{IOs: ios, Sectors: sectors}
}

// peekDisk has a child read a disk and its partitions, and gives what it said until then after each of them: what was said before
// it hung counts.
func peekDisk(ctx context.Context, m *Machine, d detect.Disk, give func(map[string]Peeked)) error {
	if d.Size == 0 || d.State != "" && d.State != "running" && d.State != "live" {
		return nil
	}
	r := Request{Devices: []string{m.path(d.Path)}}
	paths := map[string]string{m.path(d.Path): d.Path}
	for _, p := range d.Parts {
		r.Devices = append(r.Devices, m.path(p.Path))
		paths[m.path(p.Path)] = p.Path
	}
	got := map[string]Peeked{}
	err := children(ctx, m, r, func(p Peeked) {
		for i := range p.ZFS {
			p.ZFS[i].Device = strings.Replace(p.ZFS[i].Device, p.Path, paths[p.Path], 1)
		}
		p.Path = paths[p.Path]
		got[p.Path] = p
		give(maps.Clone(got))
	})
	switch {
	case err != nil:
		return err
	case len(got) < len(r.Devices):
		return errors.New("the process that looked ended early")
	case got[d.Path].Err != "":
		return errors.New(got[d.Path].Err)
	}
	return nil
}

// diskSeen is what a child said of one disk and its partitions.
type diskSeen struct {
	name string
	got  map[string]Peeked
}

// apply writes it into facts.
func (d diskSeen) apply(f *detect.Facts) {
	for i := range f.Disks {
		to := &f.Disks[i]
		if to.Name != d.name {
			continue
		}
		p := d.got[to.Path]
		to.Table, to.Content = p.Table, p.known()
		for k := range to.Parts {
			to.Parts[k].Content = d.got[to.Parts[k].Path].known()
		}
		if len(to.Parts) > 0 && to.Content != nil && to.Content.Kind != "iso9660" {
			to.Content = nil // bytes from before it was partitioned, or the end of its last partition
		}
	}
}

// known is the content, of which ZFS is one.
func (p Peeked) known() *detect.Content {
	for _, s := range p.ZFS {
		if s.Config != nil {
			return &detect.Content{Kind: "zfs", Label: s.Config.Name}
		}
	}
	return p.Content
}

// zfs are the labels that were seen on a disk. Where it has partitions, a label at its very end is that of the last of them.
func (d diskSeen) zfs(disk detect.Disk) []zfslabel.Seen {
	var parts []zfslabel.Seen
	for _, p := range disk.Parts {
		parts = append(parts, d.got[p.Path].ZFS...)
	}
	if len(parts) > 0 {
		return parts
	}
	return slices.DeleteFunc(slices.Clone(d.got[disk.Path].ZFS), func(s zfslabel.Seen) bool {
		return len(disk.Parts) > 0 && s.Device != disk.Path // what the kernel shows as a partition was read there
	})
}

// mountsOf writes into facts what of each disk is mounted.
func mountsOf(f *detect.Facts, mounts []detect.Mount) {
	for i := range f.Disks {
		d := &f.Disks[i]
		for _, mt := range mounts {
			if mt.Device == d.Path {
				d.Mounts = append(d.Mounts, mt.At)
			}
			for k := range d.Parts {
				if d.Parts[k].Path == mt.Device {
					d.Parts[k].Mounts = append(d.Parts[k].Mounts, mt.At)
				}
			}
		}
	}
}

// pluggedIn is what tells one set of disks from another: which are there, how large, and the kernel's count of disks that came and went.
func (m *Machine) pluggedIn() string {
	var b strings.Builder
	for _, n := range m.names("/sys/block") {
		if m.isDisk(n) {
			dir := "/sys/block/" + n
			b.WriteString(n + " " + m.text(dir+"/size") + " " + m.text(dir+"/diskseq") + " " + m.text(dir+"/device/state") + " " + strings.Join(m.names(dir), ",") + "\n")
		}
	}
	return b.String()
}

// linkedUp is the same for network cards.
func (m *Machine) linkedUp() string {
	var b strings.Builder
	for _, n := range m.names("/sys/class/net") {
		b.WriteString(n + " " + m.text("/sys/class/net/"+n+"/operstate") + " " + m.text("/sys/class/net/"+n+"/carrier"))
		if m.Addrs != nil {
			b.WriteString(" " + strings.Join(m.Addrs(n), ","))
		}
		b.WriteByte('\n')
	}
	if r, err := os.ReadFile(m.path("/proc/net/route")); err == nil {
		b.WriteString(strings.Join(routeLinks(string(r)), ","))
	}
	return b.String()
}

func routeLinks(text string) []string {
	var out []string
	for _, r := range routes4(text) {
		out = append(out, r.Link+" "+r.Via)
	}
	return out
}
