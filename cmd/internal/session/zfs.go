package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"aslrescue/backends/zfs"
	"aslrescue/cmd/internal/report"
	"aslrescue/detect"
)

// zfsPrefix begins the store that --store zfs:POOL/DATASET names: a dataset of a pool, which may have to be imported first.
const zfsPrefix = "zfs:"

// zfsPlace gives the dataset that a place names.
func zfsPlace(place string) (dataset string, ok bool, err error) {
	dataset, ok = strings.CutPrefix(place, zfsPrefix)
	if ok && !zfs.ValidDataset(dataset) {
		err = report.Usagef("--store %s: want zfs:POOL/DATASET, the pool by its name or GUID", place)
	}
	return dataset, ok, err
}

// PoolUse is what a pool is wanted for.
type PoolUse struct {
	Dataset  string // POOL/DATASET, the pool by its name or GUID; empty: the pool only
	Pool     string // where Dataset is empty: its name or GUID
	Mount    string
	Domain   string
	ReadOnly bool
}

// PoolPlan is how a pool comes into use.
type PoolPlan struct {
	Import    zfs.Import // where it has to be imported
	Imported  bool       // it is already, and Use is all there is to do
	Use       zfs.Use
	Pool      *detect.Pool
	Standing  detect.Standing
	Devices   []zfs.Device
	Namesakes int // how many pools have its name, itself included; one more where not all disks could be read
}

// OurHostID is what pools know this system by while we have them.
func OurHostID(domain string) detect.HostID {
	return detect.HostID(zfs.HostID(cmp.Or(domain, DefaultDomain)))
}

// PlanPool says how a pool comes into use, from facts alone. An error says why it cannot.
func PlanPool(f *detect.Facts, u PoolUse) (PoolPlan, error) {
	name, rest, _ := strings.Cut(cmp.Or(u.Dataset, u.Pool), "/")
	p, err := findPool(f, name, rest)
	if err != nil {
		return PoolPlan{}, err
	}
	plan := PoolPlan{Pool: p, Standing: detect.Stand(p, f.ZFS, OurHostID(u.Domain))}
	for _, q := range f.Pools {
		if q.Name == p.Name {
			plan.Namesakes++
		}
	}
	if unseen(f) != "" { // a pool of the same name may lie on a disk that could not be read
		plan.Namesakes++
	}
	plan.Devices = leafDevices(f, p)
	plan.Use = zfs.Use{Mount: u.Mount, ReadOnly: u.ReadOnly}
	if rest != "" {
		plan.Use.Dataset = p.Name + "/" + rest
	}
	if p.Imported != nil {
		plan.Imported = true
		return plan, nil
	}
	if !plan.Standing.Importable {
		return plan, &report.Error{What: "use the pool " + detect.Printable(p.Name), Err: fmt.Errorf("%w: %s", report.ErrRefused, plan.Standing.Why), Means: "Nothing was imported.",
			Next: []string{"asl-intake --preflight shows what was found, and why.", "Or store elsewhere: --store DIR."}}
	}
	if plan.Standing.ReadOnly && !u.ReadOnly {
		return plan, &report.Error{What: "use the pool " + detect.Printable(p.Name), Err: fmt.Errorf("%w: this version of ZFS can read it and not write it", report.ErrRefused), Means: "Nothing was imported.",
			Next: []string{"Boot an image with a newer ZFS, or store elsewhere: --store DIR."}}
	}
	if p.Labels == nil {
		return plan, &report.Error{What: "use the pool " + detect.Printable(p.Name), Err: fmt.Errorf("%w: zpool lists it, and no label of it could be read", report.ErrRefused),
			Means: strings.TrimSpace("On which disks it lies is not known, so nobody can approve its import. " + notAll(unseen(f))),
			Next:  []string{"Run the same command again.", "asl-debug labels DEVICE says what stands on a disk."}}
	}
	plan.Use.Load = f.ZFS != nil && !f.ZFS.Loaded
	if wantsHostID(p, f.ZFS, OurHostID(u.Domain), u.ReadOnly) {
		plan.Use.HostID, plan.Use.HostOf = uint32(OurHostID(u.Domain)), "the domain "+cmp.Or(u.Domain, DefaultDomain)
	}
	found := zfs.Pool{GUID: p.GUID.String(), Name: p.Name, Health: plan.Standing.Health, Foreign: plan.Standing.Foreign, Active: p.Labels != nil && p.Labels.State == "active", LastUsed: plan.Standing.UsedBy(now(f)), Devices: plan.Devices}
	use := plan.Use
	if use.Dataset == "" {
		use.Dataset = p.Name
	}
	plan.Import, err = zfs.Plan(found, use)
	plan.Import.Use = plan.Use
	return plan, err
}

// now is the time of the facts, so that a plan made of facts from a file says the same everywhere.
func now(f *detect.Facts) int64 {
	if f.Clock == nil {
		return 0
	}
	return f.Clock.Now
}

// wantsHostID tells whether the pool is to know this system by ours, the hostid of our imports. Not where it was last used under the one that the
// system has by itself: another would make it look foreign. Reading needs it only where the pool was left under it: zpool compares also then.
func wantsHostID(p *detect.Pool, z *detect.ZFS, ours detect.HostID, readOnly bool) bool {
	left := p.Labels.State == "active"
	if left && z != nil && z.HostID != 0 && p.Labels.HostID == z.HostID {
		return false
	}
	return !readOnly || left && p.Labels.HostID == ours
}

// findPool finds a pool by name or GUID.
func findPool(f *detect.Facts, name, rest string) (*detect.Pool, error) {
	var found []*detect.Pool
	var all []string
	for i := range f.Pools {
		p := &f.Pools[i]
		if p.Labels != nil && p.Labels.State == "destroyed" && p.GUID.String() != name {
			continue
		}
		all = append(all, fmt.Sprintf("%s (%s)", detect.Printable(p.Name), p.GUID))
		if p.Name == name || p.GUID.String() == name {
			found = append(found, p)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		e := &report.Error{What: "use the pool " + name, Code: report.Usage, Err: fmt.Errorf("%d pools have that name", len(found)), Means: "Which one is meant must be said: nothing was imported."}
		for _, p := range found {
			s := detect.Stand(p, f.ZFS, 0)
			e.Next = append(e.Next, fmt.Sprintf("--store %s   %s, last used by %s", zfsPrefix+p.GUID.String()+"/"+cmp.Or(rest, "asl"), s.Health, s.UsedBy(now(f))))
		}
		return nil, e
	}
	e := &report.Error{What: "use the pool " + name, Err: fmt.Errorf("%w: no disk here belongs to it", report.ErrRefused), Means: "Nothing was imported.",
		Next: []string{"Plug its disks in; asl-intake --preflight shows what was found.", "Or store elsewhere: --store DIR."}}
	e.Means = strings.TrimSpace(e.Means + " " + notAll(unseen(f)))
	if len(all) > 0 {
		e.Next = append([]string{"Pools that are here: " + strings.Join(all, ", ") + "."}, e.Next...)
	}
	return nil, e
}

func notAll(unseen string) string {
	if unseen == "" {
		return ""
	}
	return "Not everything could be looked at: " + unseen + "."
}

// unseen says which disks could not be looked at.
func unseen(f *detect.Facts) string {
	var all []string
	for _, p := range f.Probes {
		if p.State == detect.Failed && (strings.HasPrefix(p.Name, "disk") || strings.HasPrefix(p.Name, "z")) {
			all = append(all, p.Name+" ("+detect.Printable(p.Why)+")")
		}
	}
	return strings.Join(all, ", ")
}

// leafDevices are the disks of a pool by names that stay.
func leafDevices(f *detect.Facts, p *detect.Pool) (all []zfs.Device) {
	if p.Labels == nil {
		return nil
	}
	var walk func(detect.Vdev)
	walk = func(v detect.Vdev) {
		for _, c := range v.Children {
			walk(c)
		}
		if len(v.Children) > 0 || slices.Contains([]string{"hole", "indirect", "missing", "dspare"}, v.Type) {
			return
		}
		d := zfs.Device{Vdev: v.GUID.String(), Was: v.Path, Path: v.Device}
		if i := slices.IndexFunc(f.Disks, func(d detect.Disk) bool { return d.Name == v.Disk }); i >= 0 && v.Device != "" {
			disk := f.Disks[i]
			d.Path, d.Disk, d.Serial, d.Model = stable(v.Device, disk), disk.Path, cmp.Or(disk.Serial, disk.WWN), disk.Model
		}
		all = append(all, d)
	}
	for _, v := range p.Labels.Vdevs {
		walk(v)
	}
	return all
}

// stable is a device's name below /dev/disk/by-id, where its disk has one.
func stable(device string, d detect.Disk) string {
	if d.ID == "" {
		return device
	}
	id := d.ID
	if !filepath.IsAbs(id) {
		id = "/dev/disk/by-id/" + id
	}
	if device == d.Path {
		return id
	}
	part := strings.TrimPrefix(strings.TrimPrefix(device, d.Path), "p")
	if part == "" || strings.Trim(part, "0123456789") != "" {
		return device
	}
	return id + "-part" + part
}

// PlanAgain gives the plan of the machine as it is at the moment it is called.
func PlanAgain(look func(context.Context) (*detect.Facts, error), u PoolUse) func(context.Context) (zfs.Import, error) {
	return func(ctx context.Context) (zfs.Import, error) {
		f, err := look(ctx)
		if err != nil {
			return zfs.Import{}, err
		}
		p, err := PlanPool(f, u)
		if err == nil && p.Imported {
			err = errors.New("the pool is imported by now")
		}
		return p.Import, err
	}
}

// poolError gives an error of a pool its exit code.
func poolError(err error) error {
	var e *zfs.Error
	if !errors.As(err, &e) {
		return err
	}
	code := report.Refused
	switch {
	case errors.Is(err, zfs.ErrForeign):
		code = report.Approval
	case errors.Is(err, zfs.ErrUnknown), errors.Is(err, zfs.ErrBusy), errors.Is(err, zfs.ErrNotRoot):
		code = report.Failed
	}
	if c := report.CodeOf(err); c == report.Approval {
		code = c
	}
	return &report.Error{Err: err, Means: e.Means, Next: e.Next, Code: code}
}
