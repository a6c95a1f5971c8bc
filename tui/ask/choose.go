package ask

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"aslrescue/detect"
	"aslrescue/engine/event"
)

// Disks says of every disk and partition whether it can be a source while the store lies at place, and if not, why. It is a pure
// function: the wizard shows it, and whoever makes a plan asks it again.
func Disks(f *detect.Facts, place Place) []Choice {
	var out []Choice
	for i := range f.Disks {
		d := &f.Disks[i]
		c := Choice{Path: d.Path, Kind: "disk", Model: d.Model, Serial: d.Serial, Size: d.Size, Label: contentText(d.Content)}
		c.Health, c.Ailing = health(d)
		c.Twin = twin(f, d)
		c.Refused = refuseDisk(f, d, place)
		out = append(out, c)
		for j := range d.Parts {
			p := &d.Parts[j]
			pc := Choice{Path: p.Path, Parent: d.Path, Kind: "partition", Model: d.Model, Serial: d.Serial, Size: p.Size, FS: kind(p.Content), Label: contentText(p.Content)}
			pc.Refused = cmp.Or(refuseWhole(f, d, place), refusePart(f, d, p))
			out = append(out, pc)
		}
	}
	return out
}

func kind(c *detect.Content) string {
	if c == nil {
		return ""
	}
	return c.Kind
}

func contentText(c *detect.Content) string {
	if c == nil {
		return ""
	}
	if c.Label == "" {
		return c.Kind
	}
	return c.Kind + " \"" + event.Printable(c.Label) + "\""
}

// health is a disk's own word on itself, in a few words.
func health(d *detect.Disk) (text string, ailing bool) {
	s := d.Smart
	switch {
	case d.State != "" && d.State != "running" && d.State != "live":
		return d.State, true
	case s == nil:
		return "", false
	case s.Passed != nil && !*s.Passed:
		return "says it is failing", true
	case s.Pending > 0:
		return event.CountOf(s.Pending, "bad sector waits", "bad sectors wait"), true
	case s.Uncorrected > 0:
		return event.CountOf(s.Uncorrected, "sector lost", "sectors lost"), true
	case s.MediaErrors > 0:
		return event.CountOf(s.MediaErrors, "media error", "media errors"), true
	case s.Critical != 0:
		return "warns", true
	case s.Reallocated > 0:
		return event.CountOf(s.Reallocated, "sector replaced", "sectors replaced"), false
	}
	return "ok", false
}

// twin is another disk that is the same to a person's eye: of one model and size.
func twin(f *detect.Facts, d *detect.Disk) string {
	for i := range f.Disks {
		o := &f.Disks[i]
		if o.Name != d.Name && d.Model != "" && o.Model == d.Model && o.Size == d.Size {
			return o.Path
		}
	}
	return ""
}

// refuseWhole is why nothing of a disk can be read in, whatever part of it.
func refuseWhole(f *detect.Facts, d *detect.Disk, place Place) string {
	switch {
	case slices.Contains(place.Disks, d.Name):
		return "the store is written to this disk"
	case f.Host.Medium == d.Name:
		return "this system was booted from it"
	case f.Host.RootDev == d.Name:
		return "this system runs from it"
	case d.Size <= 0:
		return "it has no size: nothing is in it, or it does not answer"
	}
	if o := samePhysical(f, d); o != "" {
		return "it is the disk " + o + " by a second way"
	}
	return ""
}

// samePhysical is the name under which a disk stands already, where two ways lead to it.
func samePhysical(f *detect.Facts, d *detect.Disk) string {
	for i := range f.Disks {
		o := &f.Disks[i]
		if o.Name == d.Name {
			return ""
		}
		sameWWN := d.WWN != "" && o.WWN == d.WWN
		sameSerial := d.Serial != "" && o.Serial == d.Serial && o.Model == d.Model
		if o.Size == d.Size && (sameWWN || sameSerial) {
			return o.Name
		}
	}
	return ""
}

func refuseDisk(f *detect.Facts, d *detect.Disk, place Place) string {
	if why := refuseWhole(f, d, place); why != "" {
		return why
	}
	if why := changes(f, d.Path, d.Name, d.Holders); why != "" {
		return why
	}
	for i := range d.Parts {
		if why := refusePart(f, d, &d.Parts[i]); why != "" {
			return d.Parts[i].Name + ": " + why
		}
	}
	return ""
}

func refusePart(f *detect.Facts, d *detect.Disk, p *detect.Part) string {
	if why := changes(f, p.Path, p.Name, p.Holders); why != "" {
		return why
	}
	if len(p.Mounts) > 0 && f.Stack == nil {
		return "it is mounted, and nobody could say whether it can be written to" // seen by the disk's own probe alone
	}
	return ""
}

// changes is why a device may change while it is read: a copy of it would be of no moment.
func changes(f *detect.Facts, path, name string, holders []string) string {
	if p := writablePool(f, path); p != "" {
		return "it is a disk of the pool " + p + ", which is in use and can be written to"
	}
	if f.Stack == nil {
		if len(holders) > 0 {
			return "it is in use by " + strings.Join(holders, ", ")
		}
		return ""
	}
	for _, m := range f.Stack.Mounts {
		if m.Device == path && !m.ReadOnly {
			return "it is mounted and can be written to, at " + event.Printable(m.At)
		}
	}
	for _, s := range f.Stack.Swaps {
		if s.Path == path {
			return "this system swaps to it"
		}
	}
	for _, a := range f.Stack.Arrays {
		running := strings.HasPrefix(a.State, "active") && !strings.Contains(a.State, "read-only")
		if running && slices.Contains(a.Members, name) {
			return "it is part of the array " + a.Name + ", which runs and may write to it"
		}
	}
	for _, m := range f.Stack.Maps {
		if slices.Contains(m.Over, name) && mountedWritable(f, m) {
			return "it holds " + m.Name + ", which is mounted and can be written to"
		}
	}
	return ""
}

func mountedWritable(f *detect.Facts, m detect.Map) bool {
	return slices.ContainsFunc(f.Stack.Mounts, func(x detect.Mount) bool {
		return !x.ReadOnly && (x.Device == "/dev/mapper/"+m.Name || x.Device == "/dev/"+m.Dev)
	})
}

// writablePool is the pool that has a device as a leg and is imported so that it can be written to.
func writablePool(f *detect.Facts, path string) string {
	for _, p := range f.Pools {
		if p.Imported == nil || p.Imported.ReadOnly || p.Labels == nil {
			continue
		}
		if slices.ContainsFunc(p.Labels.Vdevs, func(v detect.Vdev) bool { return hasLeg(v, path) }) {
			return p.Name
		}
	}
	return ""
}

func hasLeg(v detect.Vdev, path string) bool {
	return v.Device == path || slices.ContainsFunc(v.Children, func(c detect.Vdev) bool { return hasLeg(c, path) })
}

// DisksOfPool are the disks that a pool lies on, by name.
func DisksOfPool(p detect.Pool) []string {
	var out []string
	var walk func([]detect.Vdev)
	walk = func(all []detect.Vdev) {
		for _, v := range all {
			if v.Disk != "" && !slices.Contains(out, v.Disk) {
				out = append(out, v.Disk)
			}
			walk(v.Children)
		}
	}
	if p.Labels != nil {
		walk(p.Labels.Vdevs)
	}
	return out
}

// Check refuses what cannot be taken in together: what is refused by itself, what was chosen twice, what holds another or the store.
// Paths that are no device of the list are directories or images.
func Check(choices []Choice, picked []string, place Place) error {
	if len(picked) == 0 {
		return fmt.Errorf("%w: nothing is chosen", ErrRefused)
	}
	for i, p := range picked {
		clean := filepath.Clean(p)
		if slices.ContainsFunc(picked[:i], func(o string) bool { return filepath.Clean(o) == clean }) {
			return fmt.Errorf("%w: %s is chosen twice", ErrRefused, p)
		}
		k := slices.IndexFunc(choices, func(c Choice) bool { return c.Path == clean })
		if k < 0 {
			if err := checkPath(clean, picked[:i], place); err != nil {
				return err
			}
			continue
		}
		c := choices[k]
		if c.Refused != "" {
			return fmt.Errorf("%w: %s: %s", ErrRefused, p, c.Refused)
		}
		for _, o := range picked {
			if c.Parent != "" && filepath.Clean(o) == c.Parent {
				return fmt.Errorf("%w: %s is a part of %s, which is chosen too", ErrRefused, p, o)
			}
		}
	}
	return nil
}

func checkPath(p string, before []string, place Place) error {
	switch {
	case !filepath.IsAbs(p):
		return fmt.Errorf("%w: %s is no absolute path", ErrRefused, p)
	case strings.HasPrefix(p, "/dev/"):
		return fmt.Errorf("%w: %s is none of the disks that were found", ErrRefused, p)
	case within(place.Path, p):
		return fmt.Errorf("%w: %s holds the store: it would take in itself", ErrRefused, p)
	case within(p, place.Path):
		return fmt.Errorf("%w: %s lies in the store", ErrRefused, p)
	}
	for _, o := range before {
		if o = filepath.Clean(o); within(p, o) || within(o, p) {
			return fmt.Errorf("%w: of %s and %s one lies in the other", ErrRefused, o, p)
		}
	}
	return nil
}

// within tells whether path is dir or lies below it.
func within(path, dir string) bool {
	if path == "" || dir == "" {
		return false
	}
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}
