package detect

import (
	"fmt"
	"slices"
	"strings"
)

func (j *judge) zfs() []Row {
	z := j.f.ZFS
	if z == nil {
		return unseen()
	}
	var rows []Row
	const seen = "Pools are seen on their disks all the same, by their labels."
	const build = "build-zfs-srm makes a module for SystemRescue; put it beside this one and boot again"
	switch {
	case z.Loaded && z.Tools && z.Version != "" && z.Module != "" && series(z.Version) != series(z.Module):
		rows = ask(fmt.Sprintf("module %s, tools %s", z.Module, z.Version), "Tools and module of different versions misunderstand each other.", "install tools of the module's version")
	case z.Loaded && z.Tools:
		rows = fine(fmt.Sprintf("module %s, tools %s", orUnknown(z.Module), orUnknown(z.Version)), "Pools can be listed, and imported with approval.")
	case z.Loaded:
		rows = ask("module "+orUnknown(z.Module)+", no tools", seen+" To import one, zpool and zfs are wanted.", "install the ZFS tools of version "+orUnknown(z.Module))
	case z.Installed && z.Tools:
		rows = info("installed, not loaded", seen+" The module is loaded by the first import that somebody approves, not before.")
	case z.Tools:
		rows = ask("tools, no module for kernel "+orUnknown(j.f.Host.Kernel), seen+" None can be imported.", build)
	case len(j.f.Pools) > 0:
		rows = ask("none", seen+" None can be imported.", build)
	default:
		rows = info("none", seen)
	}
	if z.Cache || len(z.AutoUnits) > 0 {
		var what []string
		if z.Cache {
			what = append(what, "/etc/zfs/zpool.cache")
		}
		for _, u := range z.AutoUnits {
			what = append(what, Printable(u))
		}
		rows = append(rows, Row{ID: "zfs.auto", What: "Imports by themselves", Found: join(what), Verdict: ASK,
			Why: "These import pools at boot without asking anybody.", Next: []string{"systemctl mask zfs-import-cache zfs-import-scan zfs-zed"}})
	}
	return rows
}

func orUnknown(s string) string {
	if s == "" {
		return "of unknown version"
	}
	return Printable(s)
}

// series is the part of a version that module and tools must share.
func series(v string) string {
	v = strings.TrimPrefix(strings.TrimPrefix(v, "zfs-"), "kmod-")
	parts := strings.SplitN(v, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

func (j *judge) pools() []Row {
	if len(j.stands) == 0 {
		return info("none", "No disk here carries a label of ZFS.")
	}
	var found []string
	var rows []Row
	if p, _ := j.f.Probe("zpool import"); p.State == Failed {
		rows = append(rows, Row{ID: "pools.listed", What: "zpool import", Found: Printable(p.Why), Verdict: ASK,
			Why: "Only the labels say which pools are here. zpool reads deeper, and waits for every disk that fails.", Next: []string{"look again"}})
	}
	names := map[string]int{}
	for i := range j.stands {
		s := &j.stands[i]
		names[s.Pool.Name]++
		text := s.Pool.title(j.f.Pools)
		if s.Leaves > 0 {
			text += fmt.Sprintf(" (%d of %s)", s.Here, plural(int64(s.Leaves), "disk", "disks"))
		}
		found = append(found, text)
	}
	rows = append(fine(strings.Join(found, ", "), "Each has rows of its own below."), rows...)
	for _, n := range sortedKeys(names) {
		if names[n] > 1 {
			rows = append(rows, Row{ID: "pool.name", What: "Pools of one name", Found: fmt.Sprintf("%d pools are called %s", names[n], Printable(n)), Verdict: ASK,
				Why: "A name does not say which. Each is taken by its GUID only.", Next: []string{"in asl.conf, approve the GUID, not the name"}})
		}
	}
	return rows
}

func sortedKeys(m map[string]int) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (j *judge) eachPool() []Row {
	var rows []Row
	for i := range j.stands {
		s := &j.stands[i]
		name := s.Pool.title(j.f.Pools)
		for _, r := range slices.Concat(j.poolState(s), j.poolHost(s), j.poolFeatures(s), j.poolLabels(s), j.poolAgree(s), j.poolImported(s)) {
			r.About, r.What = OfPool(s.Pool.GUID), fmt.Sprintf(r.What, name)
			rows = append(rows, r)
		}
	}
	return rows
}

func named(id, what string, rows []Row) []Row {
	for i := range rows {
		rows[i].ID, rows[i].What = id, what
	}
	return rows
}

func (j *judge) poolState(s *Standing) []Row {
	const id, what = "pool.state", "Pool %s"
	found := s.Health
	if s.Leaves > 0 {
		found += fmt.Sprintf(", %d of %s here", s.Here, plural(int64(s.Leaves), "disk", "disks"))
	}
	if m := s.missing(); m != "" {
		found += "; not here: " + m
	}
	switch {
	case s.Destroyed:
		return named(id, what, stop(found+", destroyed", "Somebody destroyed this pool. Bringing it back is not done here.", "take in its disks as they are; zpool(8) describes import -D, which is for a copy"))
	case s.Unreadable != "":
		return named(id, what, stop(found, "It cannot be imported: "+s.Unreadable+".", "boot a system with a newer ZFS, or take in its disks as they are"))
	case !s.Readable && len(s.Missing) > 0 && lostLog(s):
		return named(id, what, stop(found, "Its separate log is not here. What was written last lies there, and would be lost.", "look for the disk that is missing, plug it in, then look again"))
	case !s.Readable && len(s.Missing) > 0:
		return named(id, what, stop(found, "Parts of it cannot be read without the disks that are missing. Nothing on those that are here is lost.",
			"plug in what is missing, then look again", "take in the disks that are here as they are"))
	case !s.Readable:
		return named(id, what, stop(found, "zpool finds what it needs unreadable. Nothing is destroyed or made anew: what zpool may advise there is not for a rescue.", "take in its disks as they are before anything else is tried"))
	case s.Health != "ONLINE":
		return named(id, what, ask(found, "Everything can be read, with less or nothing to spare. Import it read-only, or take in its disks first.",
			"plug in what is missing, if it is at hand, then look again"))
	}
	return named(id, what, fine(found, "Every part of it can be read."))
}

func lostLog(s *Standing) bool {
	return !slices.ContainsFunc(s.Missing, func(v Vdev) bool { return !v.Log })
}

func (j *judge) poolHost(s *Standing) []Row {
	const id, what = "pool.host", "Who used %s last"
	if s.Pool.Imported != nil {
		return nil
	}
	found := s.UsedBy(j.now)
	l := s.Pool.Labels
	switch {
	case s.InUse:
		return named(id, what, stop(found+"; a sign of life was seen", "Another system has this pool imported now. Two systems that write to one pool destroy it.",
			"shut that system down, or export the pool there, then look again"))
	case l == nil:
		return named(id, what, ask(found, "It may be in use elsewhere.", "look at its disks: asl-debug labels DEVICE"))
	case s.Ours:
		return named(id, what, fine(found, "This rescue system used it itself; an earlier run was cut off."))
	case s.Foreign && l.HostID == 0:
		return named(id, what, ask(found, "It carries no hostid, so ZFS itself would not stop two systems from using it at once.",
			"make sure that no running system can reach these disks"))
	case s.Foreign:
		why := "That system did not let go of it. If it is the one that crashed, all is well; if it still runs and can reach these disks, importing destroys the pool."
		next := []string{"make sure that " + hostName(l) + " is off or cannot reach these disks"}
		if l.MMP {
			why += " Its multihost is on: an import would notice a system that lives."
		}
		return named(id, what, ask(found, why, next...))
	}
	return named(id, what, fine(found, "Whoever had it let go of it."))
}

func hostName(l *PoolLabels) string {
	if l.HostName == "" {
		return "that system"
	}
	return Printable(l.HostName)
}

func (j *judge) poolFeatures(s *Standing) []Row {
	if !s.ReadOnly {
		return nil
	}
	return named("pool.features", "Features of %s", ask("some are known to a newer ZFS only", "It can be imported read-only, not written: it can be a source, not the place of a store.", "boot a system with a newer ZFS to write to it"))
}

func (j *judge) poolLabels(s *Standing) []Row {
	if s.Pool.Labels == nil || len(s.Pool.Labels.Problems) == 0 {
		return nil
	}
	var found []string
	for _, p := range s.Pool.Labels.Problems {
		found = append(found, Printable(p))
	}
	return named("pool.labels", "Labels of %s", ask(strings.Join(found, "; "), "What its labels tell beside that. Of the four on each disk one good one is enough; damage to the others says that the disk was written over, or is failing.",
		"asl-debug labels DEVICE shows all four"))
}

// poolAgree holds what we read on the disks against what zpool says. Where they differ, neither is believed alone.
func (j *judge) poolAgree(s *Standing) []Row {
	const id, what = "pool.agree", "Labels and zpool on %s"
	z, l, p := j.f.ZFS, s.Pool.Listed, s.Pool.Labels
	if z == nil || !z.Loaded || !z.Tools || s.Pool.Imported != nil || j.waiting("zpool import") != "" {
		return nil
	}
	switch {
	case p == nil && l != nil:
		return named(id, what, ask("zpool import lists it, and we read no label of it", "It lies on devices that were not looked at, or that did not answer us.", "asl-debug labels DEVICE"))
	case l == nil && p != nil && p.State == "destroyed":
		return nil // zpool lists those only when asked
	case l == nil && p != nil:
		return named(id, what, ask("we read its labels, and zpool import does not list it", "zpool leaves out what it cannot put together, and disks that something else holds.", "zpool import -d DEVICE of its disks says more"))
	case l == nil:
		return nil
	}
	ours := Standing{Pool: s.Pool, Health: "ONLINE", Readable: true}
	ours.fromLabels(p, z, j.p.HostID)
	if ours.Health == l.State || l.State == "FAULTED" && ours.Health == "UNAVAIL" {
		return nil
	}
	return named(id, what, ask(fmt.Sprintf("by its labels it is %s, by zpool %s", ours.Health, l.State), "The labels say which disks are here, zpool also reads what lies deeper. The worse of the two counts.",
		"asl-debug labels DEVICE shows what is on a disk"))
}

func (j *judge) poolImported(s *Standing) []Row {
	i := s.Pool.Imported
	if i == nil {
		return nil
	}
	const id, what = "pool.imported", "Pool %s is imported"
	how := "writable"
	if i.ReadOnly {
		how = "read-only"
	}
	found := fmt.Sprintf("%s, %s", i.Health, how)
	if len(i.Mounts) > 0 {
		found += ", mounted at " + join(i.Mounts)
	}
	var rows []Row
	switch {
	case j.holdsStore(s.Pool):
		rows = fine(found, "The store lies on it.")
	case i.ReadOnly:
		rows = info(found, "Nothing is written to it.")
	default:
		rows = ask(found, "Something imported it before us, and its disks are being written to.", "zpool export "+quote(s.Pool.Name)+", if it is to be saved and nothing else needs it")
	}
	rows = named(id, what, rows)
	if i.Scan != "" {
		rows = append(rows, named("pool.scan", "Work on %s", ask(Printable(i.Scan), "It reads and writes every disk of the pool, and slows an intake of them.", "let it end, or zpool export "+quote(s.Pool.Name)))...)
	}
	if len(i.Locked) > 0 {
		rows = append(rows, named("pool.keys", "Keys of %s", ask(join(printables(i.Locked))+" without a key", "Files in there cannot be read. The disks themselves can, encrypted as they are.", "zfs load-key DATASET"))...)
	}
	return rows
}

func printables(in []string) []string {
	var out []string
	for _, s := range in {
		out = append(out, Printable(s))
	}
	return out
}

// holdsStore tells whether what is mounted at local.mount is a dataset of the pool.
func (j *judge) holdsStore(p *Pool) bool {
	s := j.f.Store
	return s != nil && s.Mounted && (s.Source == p.Name || strings.HasPrefix(s.Source, p.Name+"/"))
}
