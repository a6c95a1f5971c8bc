package detect

import (
	"fmt"
	"slices"
	"strings"
)

func (j *judge) disks() []Row {
	if len(j.f.Disks) == 0 {
		return ask("none", "Nothing here could be taken in but files. A controller may want a driver, or a RAID card hides its disks.", "lspci -k shows controllers without a driver", "plug in the disk: it is noticed")
	}
	var found []string
	var all int64
	for i := range j.f.Disks {
		d := &j.f.Disks[i]
		found = append(found, d.title())
		all += d.Size
	}
	rows := fine(fmt.Sprintf("%s, %s: %s", count(j.f.Disks, "disk", "disks"), size(all), strings.Join(found, ", ")), "Each that wants attention has rows of its own below.")
	for _, w := range j.p.Sources {
		if !slices.ContainsFunc(j.f.Disks, func(d Disk) bool { return d.named([]string{w}) }) && !strings.HasPrefix(w, "/") {
			rows = append(rows, Row{ID: "disks.source", What: "Disk of the config", Found: "none is " + Printable(w), Verdict: STOP,
				Why: "The config names it as a source.", Next: []string{"plug it in, then look again", "mend the config, if it was replaced"}})
		}
	}
	if r, ok := j.unasked(); ok {
		rows = append(rows, r)
	}
	return rows
}

// unasked says once that no disk was asked after its health, if none was.
func (j *judge) unasked() (Row, bool) {
	for i := range j.f.Disks {
		p, known := j.f.Probe("smart " + j.f.Disks[i].Name)
		if j.f.Disks[i].Smart != nil || known && p.State == Looking {
			return Row{}, false
		}
	}
	return Row{ID: "disks.smart", What: "Health of disks", Found: "no disk says", Verdict: INFO,
		Why: "There is no smartctl, or the disks have nothing to say. A disk can fail all the same."}, true
}

func (j *judge) eachDisk() []Row {
	var all []Row
	for i := range j.f.Disks {
		d := &j.f.Disks[i]
		rows := j.diskState(d)
		if len(rows) == 0 || rows[0].Verdict != STOP {
			rows = slices.Concat(rows, j.diskHealth(d), j.diskUse(d), j.diskContent(d), j.diskWrites(d), j.diskTwin(i))
		}
		for _, r := range rows {
			r.About, r.What = OfDisk(d.Name), fmt.Sprintf(r.What, d.Name)
			r.Found = d.label() + ": " + r.Found
			all = append(all, r)
		}
	}
	return all
}

func (j *judge) diskState(d *Disk) []Row {
	const id, what = "disk.state", "Disk %s"
	p, known := j.f.Probe("disk " + d.Name)
	switch {
	case d.State != "" && d.State != "running" && d.State != "live":
		return named(id, what, stop("the kernel says "+Printable(d.State), "It does not answer any more.", "check cable and power, plug it in again"))
	case d.Size == 0:
		return named(id, what, info("no medium, or nothing behind it", "There is nothing to read."))
	case known && p.State == Looking:
		return []Row{{ID: id, What: what, Found: "still looking", Verdict: INFO, Late: true, Why: "It has not answered yet. The row changes when it does."}}
	case known && p.State == Failed && j.f.Host.UID != 0:
		return named(id, what, ask(Printable(p.Why), "What lies on it is not known: only root may read it.", "become root, then start again"))
	case known && p.State == Failed:
		return named(id, what, ask(Printable(p.Why), "What lies on it is not known. The disk may be failing: it is read as gently as can be, and last.", "dmesg | tail shows what the kernel says of it"))
	}
	return nil
}

func (j *judge) diskHealth(d *Disk) []Row {
	s := d.Smart
	if s == nil {
		return nil
	}
	var bad []string
	add := func(n int64, one, many string) {
		if n > 0 {
			bad = append(bad, plural(n, one, many))
		}
	}
	if s.Passed != nil && !*s.Passed {
		bad = append(bad, "says that it is failing")
	}
	add(s.Pending, "sector waits to be replaced", "sectors wait to be replaced")
	add(s.Uncorrected, "sector could not be read", "sectors could not be read")
	add(s.MediaErrors, "error of the medium", "errors of the medium")
	if s.Critical != 0 {
		bad = append(bad, fmt.Sprintf("warns (0x%02x)", s.Critical))
	}
	if s.Celsius >= 60 {
		bad = append(bad, fmt.Sprintf("%d °C", s.Celsius))
	}
	grave := len(bad) > 0
	add(s.Reallocated, "sector was replaced", "sectors were replaced")
	add(s.CRC, "error of the cable", "errors of the cable")
	if s.UsedPercent >= 100 {
		bad = append(bad, fmt.Sprintf("%d %% of its life used", s.UsedPercent))
	}
	found := strings.Join(bad, ", ")
	if s.Hours > 0 {
		if found != "" {
			found += ", "
		}
		found += fmt.Sprintf("ran for %s", span(s.Hours*3600))
	}
	const id, what = "disk.health", "Health of %s"
	switch {
	case grave && !d.Rotating:
		return named(id, what, ask(found, "A flash disk that begins to fail can end at any moment. What reads well is read first.", "take it in before all others, and write nothing to it"))
	case grave:
		return named(id, what, ask(found, "It will get worse. What reads well is read first, hurt places last.", "take it in before all others, and keep it cool"))
	case len(bad) > 0:
		return named(id, what, info(found, "It has been worse off than new, and reads for now. Errors of a cable go with the cable."))
	}
	return named(id, what, fine(strings.TrimPrefix(found, ", "), "It has no complaints of its own."))
}

func (j *judge) diskUse(d *Disk) []Row {
	const id, what = "disk.use", "Use of %s"
	if d.Name == j.f.Host.Medium {
		return named(id, what, info("this system was booted from it", "It is not offered as a source."))
	}
	return nil
}

// each calls f for the disk itself and each of its parts.
func (d *Disk) each(f func(name string, c *Content)) {
	if d.Content != nil {
		f(d.Name, d.Content)
	}
	for i := range d.Parts {
		if d.Parts[i].Content != nil {
			f(d.Parts[i].Name, d.Parts[i].Content)
		}
	}
}

func (j *judge) diskContent(d *Disk) []Row {
	if d.Name == j.f.Host.Medium {
		return nil
	}
	var found, dirty, locked, asleep []string
	d.each(func(name string, c *Content) {
		text := name + " " + c.Kind
		if c.Label != "" {
			text += " \"" + Printable(c.Label) + "\""
		}
		found = append(found, text)
		switch {
		case c.Kind == "hibernation":
			asleep = append(asleep, name)
		case c.Kind == "luks" || c.Kind == "bitlocker":
			locked = append(locked, name)
		case c.Dirty:
			dirty = append(dirty, name)
		}
	})
	const id, what = "disk.content", "Content of %s"
	p, known := j.f.Probe("disk " + d.Name)
	text := strings.Join(found, ", ")
	switch {
	case len(asleep) > 0:
		return named(id, what, ask(text, "A system sleeps in "+join(asleep)+". What it had in memory is newer than its file systems; it must not wake up after they were changed.", "take it in as it is, and mount nothing of it"))
	case len(dirty) > 0:
		return named(id, what, info(text, "Not unmounted: "+join(dirty)+". Even mounting it read-only would write to it, unless the right options are given. Taking in the disk does not."))
	case len(locked) > 0:
		return named(id, what, info(text, "Encrypted: "+join(locked)+". It is taken in as it is, and will want its key after a restore too."))
	case len(found) == 0 && d.Size > 0 && (!known || p.State == Done):
		t := "nothing that is known"
		if d.Table != "" {
			t = "a " + d.Table + " table without anything known in it"
		}
		return named(id, what, info(t, "It is read all the same, every byte of it."))
	case len(found) == 0:
		return nil
	}
	return named(id, what, info(text, "Known by its first bytes; nothing was mounted."))
}

func (j *judge) diskWrites(d *Disk) []Row {
	if d.Before == nil || d.After == nil || *d.Before == *d.After {
		return nil
	}
	n := int64(d.After.Sectors-d.Before.Sectors) * 512
	found := fmt.Sprintf("%s written while we looked", size(n))
	const id, what = "disk.writes", "Writes to %s"
	if d.Name == j.f.Host.RootDev || d.Name == j.f.Host.Medium {
		return named(id, what, info(found, "The running system lies on it."))
	}
	return named(id, what, ask(found, "Something else than this program writes to it: a mount, an array, a pool.", "see the rows on mounts, md and LVM below; stop what writes"))
}

// diskTwin finds one disk that is here under two names.
func (j *judge) diskTwin(i int) []Row {
	d := &j.f.Disks[i]
	for k := range j.f.Disks[:i] {
		e := &j.f.Disks[k]
		if d.Size == e.Size && d.Size > 0 && (d.WWN != "" && d.WWN == e.WWN || d.WWN == "" && e.WWN == "" && d.Serial != "" && d.Serial == e.Serial && d.Model == e.Model) {
			return named("disk.twin", "Twin of %s", ask("is also "+e.Name, "One disk by two paths, or two disks of a maker who gives all the same serial. Taken in twice it costs time, nothing else.",
				"take in one of them"))
		}
	}
	return nil
}

func (j *judge) disk(name string) *Disk {
	for i := range j.f.Disks {
		if j.f.Disks[i].Name == name {
			return &j.f.Disks[i]
		}
	}
	return nil
}

const reboot = "boot again with nomdlvm on the kernel command line, then nothing is assembled"

func (j *judge) arrays() []Row {
	s := j.f.Stack
	switch {
	case s == nil:
		return unseen()
	case len(s.Arrays) == 0:
		return fine("none", "No array was assembled.")
	}
	var rows []Row
	for _, a := range s.Arrays {
		found := fmt.Sprintf("%s %s %s of %s", a.Name, a.State, a.Level, join(a.Members))
		if a.Want > 0 {
			found += fmt.Sprintf(", %d of %d", a.Have, a.Want)
		}
		action, waits, _ := strings.Cut(a.Sync, "=")
		switch {
		case action != "" && waits == "":
			found += ", " + action + " " + a.Percent
			rows = append(rows, ask(found, "The kernel writes to these disks now. A disk that is failing may not survive it.",
				"echo frozen > /sys/block/"+a.Name+"/md/sync_action holds it", reboot)...)
		case action != "":
			rows = append(rows, ask(found+", "+action+" waits", "With the first write to it, the kernel will begin to copy between its disks.", "write nothing to "+a.Name, reboot)...)
		case strings.Contains(a.State, "read-only") || a.State == "inactive":
			rows = append(rows, info(found, "Assembled by the boot, and nothing is written to it as it is.")...)
		default:
			rows = append(rows, ask(found, "The boot assembled it, which writes to each of its disks. Take in the array rather than its disks, or none of them.", reboot)...)
		}
	}
	return rows
}

func (j *judge) maps() []Row {
	s := j.f.Stack
	switch {
	case s == nil:
		return unseen()
	case len(s.Maps) == 0:
		return fine("none active", "No volume was activated, no LUKS opened.")
	}
	var rows []Row
	byKind := map[string][]string{}
	for _, m := range s.Maps {
		text := Printable(m.Name)
		if len(m.Over) > 0 {
			text += " on " + join(m.Over)
		}
		byKind[m.Kind] = append(byKind[m.Kind], text)
	}
	for _, k := range []struct{ kind, why string }{
		{"lvm", "The boot activated these volumes. Nothing is written to them until something mounts them."},
		{"crypt", "Somebody opened these. Their content can be taken in as it is read, without its encryption."},
		{"multipath", "One disk by several paths: take in the map, not the paths."},
		{"other", "Something built these."},
	} {
		if list := byKind[k.kind]; len(list) > 0 {
			r := info(k.kind+": "+strings.Join(list, ", "), k.why)
			r[0].ID = "stack." + k.kind
			rows = append(rows, r...)
		}
	}
	return rows
}

func (j *judge) swaps() []Row {
	s := j.f.Stack
	if s == nil {
		return unseen()
	}
	var rows []Row
	for _, w := range s.Swaps {
		if w.Disk == "" {
			continue
		}
		r := ask(fmt.Sprintf("%s, %s", Printable(w.Path), size(w.Size)), "The kernel writes to that disk whenever it is short of memory.", "swapoff "+quote(w.Path))
		r[0].About = OfDisk(w.Disk)
		rows = append(rows, r...)
	}
	if len(rows) == 0 {
		return fine("none on a disk", "The kernel writes no memory to a disk.")
	}
	return rows
}

func (j *judge) mounts() []Row {
	s := j.f.Stack
	if s == nil {
		return unseen()
	}
	var rows []Row
	for _, m := range s.Mounts {
		if m.Disk == "" || m.Disk == j.f.Host.Medium || m.Disk == j.f.Host.RootDev || j.f.Store != nil && m.At == j.f.Store.Path {
			continue
		}
		found := fmt.Sprintf("%s at %s, %s", Printable(m.Device), Printable(m.At), m.FS)
		var r []Row
		if m.ReadOnly {
			r = info(found+", read-only", "If it was not unmounted before, mounting it read-only has written to it already.")
		} else {
			r = ask(found+", writable", "Something else writes to that disk, or may at any time.", "umount "+quote(m.At))
		}
		r[0].About = OfDisk(m.Disk)
		rows = append(rows, r...)
	}
	if len(rows) == 0 {
		return fine("none of a disk to be saved", "Nothing of theirs is mounted.")
	}
	return rows
}

func (j *judge) store() []Row {
	s := j.f.Store
	switch {
	case s == nil:
		return unseen()
	case !s.Mounted:
		return info("nothing is mounted at "+s.Path, "A pool can be imported there with approval, or a disk mounted there by hand.")
	}
	found := fmt.Sprintf("%s, %s, %s free", s.Path, s.FS, size(s.Free))
	if s.Source != "" {
		found = fmt.Sprintf("%s at %s, %s, %s free", Printable(s.Source), s.Path, s.FS, size(s.Free))
	}
	switch {
	case j.onSource(s.Disk):
		return stop(found+", on "+s.Disk, "It lies on a disk that is to be taken in. Nothing is ever written there.", "mount another disk at "+s.Path)
	case s.Medium == RAM:
		return ask(found+", in memory", "A store there is gone when the machine is switched off.", "mount a disk at "+s.Path)
	case !s.IsStore && !s.Empty:
		return ask(found, "It holds something else. A store is not put among other people's files.", "mount an empty file system there, or make a folder in it and give that with --store")
	case s.ReadOnly:
		return stop(found+", read-only", "Nothing can be stored there. Reading and restoring from it works.", "mount it writable")
	case s.Empty:
		return fine(found+", empty", "A store will be made in it.")
	}
	return fine(found+", a store", "It is added to.")
}

func (j *judge) room() []Row {
	need, of := j.need()
	s := j.f.Store
	switch {
	case s == nil || !s.Mounted:
		return info(of, "There is no store yet to hold it against.")
	case need == 0:
		return info(fmt.Sprintf("%s free, nothing to take in", size(s.Free)), "It is looked at again when sources are chosen.")
	case need > s.Free:
		return ask(fmt.Sprintf("%s, %s free", of, size(s.Free)), "If nothing of it is known or compresses, the store becomes full. An intake stops then, and goes on when there is room.",
			"choose fewer sources, or a larger store")
	}
	return fine(fmt.Sprintf("%s, %s free", of, size(s.Free)), "It fits even if nothing of it is known or compresses.")
}

// need is how many bytes could be taken in, and of what.
func (j *judge) need() (n int64, of string) {
	if j.p.Need > 0 {
		return j.p.Need, "sources have " + size(j.p.Need)
	}
	for _, d := range j.sources {
		n += d.Size
	}
	if n > 0 {
		return n, "the sources of the config have " + size(n)
	}
	for i := range j.f.Disks {
		if d := &j.f.Disks[i]; !j.carries(d) {
			n += d.Size
		}
	}
	return n, "all disks that could be taken in have " + size(n)
}

// carries tells whether a disk is the running system's or the store's own.
func (j *judge) carries(d *Disk) bool {
	if d.Name == j.f.Host.Medium || j.f.Store != nil && j.f.Store.Mounted && d.Name == j.f.Store.Disk && d.Name != "" {
		return true
	}
	for i := range j.f.Pools {
		p := &j.f.Pools[i]
		if p.Labels == nil || !j.holdsStore(p) {
			continue
		}
		for _, v := range p.Labels.Vdevs {
			if slices.ContainsFunc(leaves(v), func(l Vdev) bool { return l.Disk == d.Name }) {
				return true
			}
		}
	}
	return false
}
