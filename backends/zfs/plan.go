// Package zfs takes a pool into use and lets go of it again: import, dataset, mount, export. It is no store.Backend: what is mounted
// is a folder, and package local keeps the store in it.
//
// Nothing here decides whether a pool may be touched. Import is made of what was found on the machine, shows itself as an
// approval.Sheet, and Attach takes an approval of it and nothing else. zpool's own words never reach a person: some of its advice
// destroys pools. Errors say what it means here, and what to do.
package zfs

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"aslrescue/engine/approval"
	"aslrescue/engine/artifact"
)

// Pool is what is known of a pool that is not imported.
type Pool struct {
	GUID     string // decimal
	Name     string
	Health   string // ONLINE, DEGRADED
	Foreign  bool   // another system used it last and did not let go of it: zpool wants -f
	Active   bool   // it was not exported: the newest writes may wait to be put in their place
	LastUsed string // by whom and when, for people
	Devices  []Device
}

// Device is a disk or partition that a pool lies on.
type Device struct {
	Path   string // where it is now, by a name that stays where there is one: /dev/disk/by-id/…; empty: not here
	Vdev   string // GUID of the leaf
	Was    string // where the pool had it
	Disk   string // /dev/vdb
	Serial string
	Model  string
}

// Use is what the pool is wanted for.
type Use struct {
	Dataset  string // tank/asl
	Mount    string // where it is to be mounted
	ReadOnly bool
	Load     bool   // the module is not in the kernel yet
	HostID   uint32 // the system's while the pool is imported; 0: left as it is
	HostOf   string // what the hostid is derived from, for people
}

// AltRoot keeps every other dataset of the pool from being mounted over the running system.
const AltRoot = "/run/asl/altroot"

// HostID is what ZFS shall know this machine by while it has a pool: the same in every boot of a rescue for one domain, so that
// after a power cut the pool was not "used by another system". It is never 0, which means none.
func HostID(domain string) uint32 {
	d := artifact.HashBytes([]byte("asl-rescue hostid 1\x00" + domain))
	return cmp.Or(uint32(d[0])|uint32(d[1])<<8|uint32(d[2])<<16|uint32(d[3])<<24, 1)
}

// Import is the plan to import a pool, and to mount a dataset of it.
type Import struct {
	Pool Pool
	Use  Use
}

// Plan makes the plan. It refuses what could not work.
func Plan(p Pool, u Use) (Import, error) {
	pool, _, _ := strings.Cut(u.Dataset, "/")
	here := slices.ContainsFunc(p.Devices, func(d Device) bool { return d.Path != "" })
	switch {
	case pool != p.Name:
		return Import{}, fmt.Errorf("the dataset %s is not of the pool %s", u.Dataset, p.Name)
	case !here:
		return Import{}, &Error{What: "plan the import of " + p.Name, Err: ErrGone, Means: "None of its disks is here.",
			Next: []string{"Plug its disks in; lsblk lists what the kernel sees."}}
	case p.Health != "ONLINE" && p.Health != "DEGRADED":
		return Import{}, &Error{What: "plan the import of " + p.Name, Err: ErrDamaged, Means: "Its state is " + p.Health + ": more is missing than it can do without.",
			Next: []string{"Plug the missing disks in, or use another pool."}}
	}
	return Import{p, u}, nil
}

// Commands are what Attach runs, in their order. What creates the dataset is left out where that is there already.
func (i Import) Commands() [][]string {
	imp := []string{"zpool", "import", "-N"}
	if i.Use.ReadOnly {
		imp = append(imp, "-o", "readonly=on")
	}
	if i.Pool.Foreign {
		imp = append(imp, "-f")
	}
	imp = append(imp, "-o", "cachefile=none", "-R", AltRoot)
	for _, d := range i.devices() {
		imp = append(imp, "-d", d)
	}
	var all [][]string
	if i.Use.Load {
		all = append(all, []string{"modprobe", "zfs"})
	}
	all = append(all, append(imp, i.Pool.GUID))
	if i.Use.Dataset == "" {
		return all
	}
	opts := "zfsutil"
	if i.Use.ReadOnly {
		opts = "ro,zfsutil"
	} else {
		for _, ds := range steps(i.Use.Dataset) {
			all = append(all, []string{"zfs", "create", "-o", noAuto + "=noauto", ds})
		}
	}
	return append(all, mountCommand(i.Use, opts))
}

const noAuto = "canmount" // the real host must not mount a store over its own folders at its next boot

func mountCommand(u Use, opts string) []string {
	return []string{"mount", "-t", "zfs", "-o", opts, u.Dataset, u.Mount}
}

// steps are the datasets below the pool on the way to ds, ds last.
func steps(ds string) (all []string) {
	parts := strings.Split(ds, "/")
	for n := 2; n <= len(parts); n++ {
		all = append(all, strings.Join(parts[:n], "/"))
	}
	return all
}

func (i Import) devices() (paths []string) {
	for _, d := range i.Pool.Devices {
		if d.Path != "" && !slices.Contains(paths, d.Path) {
			paths = append(paths, d.Path)
		}
	}
	slices.Sort(paths) // the order in which they were found says nothing
	return paths
}

// Sheet is the plan as it is shown.
func (i Import) Sheet() approval.Sheet {
	p, u := i.Pool, i.Use
	s := approval.Sheet{Verb: "import", ID: p.GUID, Word: p.Name, Gate: approval.Risky, Commands: i.Commands()}
	way := "writable"
	if u.ReadOnly {
		way = "read-only"
		if !p.Foreign {
			s.Gate = approval.Reversible
		}
	}
	s.What = fmt.Sprintf("import the pool %s (%s), %s", p.Name, p.GUID, way)
	if p.Foreign {
		s.What += ", although another system used it last"
	}
	s.Things = append(s.Things, approval.Thing{Kind: "pool", ID: p.GUID, Name: p.Name})
	for _, d := range p.Devices {
		switch {
		case d.Path == "":
			s.Things = append(s.Things, approval.Thing{Kind: "missing disk", ID: d.Vdev, Name: d.Was})
			continue
		case d.Vdev != "":
			s.Things = append(s.Things, approval.Thing{Kind: "vdev", ID: d.Vdev, Name: d.Path})
		}
		if d.Serial != "" {
			disk := approval.Thing{Kind: "disk", ID: d.Serial, Name: strings.TrimSpace(d.Disk + " " + d.Model)}
			if !slices.Contains(s.Things, disk) {
				s.Things = append(s.Things, disk)
			}
		}
	}
	if u.HostID != 0 {
		s.Things = append(s.Things, approval.Thing{Kind: "hostid", ID: fmt.Sprintf("%08x", u.HostID), Name: u.HostOf})
	}
	s.Changes, s.Undo = i.changes()
	return s
}

func (i Import) changes() (all []string, undo string) {
	p, u := i.Pool, i.Use
	if p.LastUsed != "" {
		all = append(all, "Last used by "+p.LastUsed+".")
	}
	if p.Foreign {
		all = append(all, "If that system still has the pool, two systems writing to it destroy it. Make sure that it is off, or that its disks are here.")
	}
	if p.Health != "ONLINE" {
		all = append(all, "The pool is "+p.Health+": it works without the disks named as missing, and one more that fails may be too much.")
	}
	if u.Load {
		all = append(all, "The ZFS module is loaded into the kernel.")
	}
	if u.HostID != 0 {
		all = append(all, fmt.Sprintf("While it is imported this system has the hostid %08x, from %s, so that after a power cut it is known again.", u.HostID, u.HostOf))
	}
	all = append(all, "Volumes of the pool do not appear as disks while it is imported by this program.")
	if u.ReadOnly {
		all = append(all, "Nothing on its disks changes.")
		if u.Dataset != "" {
			all = append(all, fmt.Sprintf("%s is mounted read-only at %s.", u.Dataset, u.Mount))
		}
		return all, "zpool export " + p.Name + ", which is done at the end"
	}
	if p.Active {
		all = append(all, "Its labels on every disk are written, and what its last system wrote at the end is put in its place.")
	} else {
		all = append(all, "Its labels on every disk are written.")
	}
	if u.Dataset != "" {
		all = append(all, fmt.Sprintf("%s is made if it is not there, and mounted at %s. No other dataset is mounted or touched.", u.Dataset, u.Mount))
	}
	return all, "zpool export " + p.Name + ", which is done at the end. What was written stays written"
}

// ValidDataset tells whether s can name a dataset: POOL/NAME, the pool being a name or a GUID.
func ValidDataset(s string) bool {
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(s) > 255 {
		return false
	}
	for _, p := range parts {
		if p == "" || p == "." || p == ".." || p[0] == '-' || strings.Trim(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:") != "" {
			return false
		}
	}
	return true
}

// IsGUID tells whether s is a GUID rather than a name.
func IsGUID(s string) bool {
	_, err := strconv.ParseUint(s, 10, 64)
	return err == nil && len(s) > 10
}
