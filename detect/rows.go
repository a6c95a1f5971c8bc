package detect

import (
	"fmt"
	"slices"
	"strings"
)

func fine(found, why string) []Row { return []Row{{Found: found, Verdict: GO, Why: why}} }
func info(found, why string) []Row { return []Row{{Found: found, Verdict: INFO, Why: why}} }
func ask(found, why string, next ...string) []Row {
	return []Row{{Found: found, Verdict: ASK, Why: why, Next: next}}
}
func stop(found, why string, next ...string) []Row {
	return []Row{{Found: found, Verdict: STOP, Why: why, Next: next}}
}

// unseen is the row of what nobody looked at: facts that somebody wrote by hand, or an older program.
func unseen() []Row { return info("not looked at", "The facts say nothing about it.") }

func (j *judge) config() []Row {
	if len(j.p.Mistakes) == 0 {
		return fine("no mistakes", "What the config says holds.")
	}
	var rows []Row
	for _, m := range j.p.Mistakes {
		rows = append(rows, stop(Printable(m), "What is wrong there is left at its default, which may not be what was meant.", "mend the file, then look again")...)
	}
	return rows
}

func (j *judge) console() []Row {
	c := j.f.Console
	if c == nil {
		return unseen()
	}
	found := string(c.Kind)
	for _, s := range []string{c.TTY, c.Term} {
		if s != "" {
			found += ", " + Printable(s)
		}
	}
	if c.Cols > 0 && c.Rows > 0 {
		found += fmt.Sprintf(", %dx%d", c.Cols, c.Rows)
	}
	room := "The wizard has the room it wants."
	if c.Keys != "" {
		found += ", keyboard " + Printable(c.Keys)
		room += " Where letters come out wrong, loadkeys in a shell (Alt+F2) loads another layout."
	}
	switch {
	case c.Kind == NoTTY:
		return info(found, "There is no screen: only --batch works here.")
	case c.Cols <= 0 || c.Rows <= 0:
		return info(found+", size not known", "80x24 is taken; serial lines rarely say how large they are.")
	case c.Cols < 40 || c.Rows < 10:
		return ask(found, "The wizard needs 40x10. The work goes on below that, but cannot be shown.", "make the window larger, or use --batch")
	case c.Cols < 80 || c.Rows < 24:
		return info(found, "The wizard leaves things out below 80x24.")
	}
	return fine(found, room)
}

// WithConsole is the decision as it is seen on another console: an engine has none, and each of its faces knows its own.
func (d Decision) WithConsole(c Console) Decision {
	i := slices.IndexFunc(d.Rows, func(r Row) bool { return r.ID == "console" })
	if i < 0 {
		return d
	}
	d.Rows = slices.Clone(d.Rows)
	row := (&judge{f: &Facts{Console: &c}}).console()[0]
	row.ID, row.What, row.About = d.Rows[i].ID, d.Rows[i].What, d.Rows[i].About
	d.Rows[i] = row
	return d
}

func (j *judge) rights() []Row {
	if j.f.Host.UID != 0 {
		return stop(fmt.Sprintf("user %d, not root", j.f.Host.UID), "Disks can only be read by root.", "become root, then start again")
	}
	return fine("root", "Disks can be read.")
}

func (j *judge) system() []Row {
	h := &j.f.Host
	found := strings.TrimSpace(Printable(h.System) + " " + Printable(h.Kernel))
	if found == "" {
		found = "not known"
	}
	if h.RootDev != "" {
		found += ", / on " + h.RootDev
		if h.RootDev != h.Medium {
			r := ask(found, "This system runs from that disk. Reading it while it is written gives no state of one moment.",
				"boot a rescue system if "+h.RootDev+" is the disk to be saved")
			r[0].About = OfDisk(h.RootDev)
			return r
		}
		return fine(found, "The system runs from the medium it was booted from.")
	}
	return fine(found+", / in memory", "Nothing of the system lies on a disk that may have to be saved.")
}

const mib = 1 << 20

func (j *judge) memory() []Row {
	m := j.f.Memory
	if m == nil {
		return unseen()
	}
	found := fmt.Sprintf("%s, %s free", size(m.Total), size(m.Available))
	switch {
	case m.Available < 96*mib:
		return stop(found, "An intake needs 96 MiB at least; with less the kernel would end it.", "boot without copytoram, or stop other programs")
	case m.RootTotal > 0 && m.RootFree < 32*mib:
		return ask(fmt.Sprintf("%s, and %s left for files below /", found, size(m.RootFree)),
			"Files that are written below / lie in memory, and there is hardly any left for them.",
			"remount the root's memory larger, or remove files below /root and /tmp")
	case m.Available < 320*mib:
		return info(found, "An intake works with this, more slowly.")
	}
	return fine(found, "An intake wants 256 MiB.")
}

func (j *judge) power() []Row {
	p := j.f.Power
	switch {
	case p == nil || p.Mains == nil && p.Battery == nil:
		return info("not known", "The machine does not say how it is supplied.")
	case p.Battery == nil, p.Mains != nil && *p.Mains:
		return fine("mains", "A power cut would lose nothing that was acknowledged all the same.")
	case *p.Battery < 30:
		return ask(fmt.Sprintf("battery, %d %%", *p.Battery), "An intake can take hours.", "plug in the charger")
	}
	return info(fmt.Sprintf("battery, %d %%", *p.Battery), "An intake can take hours: plug in the charger.")
}

// clockSlack is how far off a clock may be before anybody has to care.
const clockSlack = 300

func (j *judge) clock() []Row {
	c := j.f.Clock
	if c == nil {
		return unseen()
	}
	const harmless = "Nothing that is stored depends on it. Certificates do, and the times in reports."
	found := stamp(c.Now)
	off := c.Server - c.Local
	newest, pool := j.newestWrite()
	switch {
	case c.Server != 0 && max(off, -off) > clockSlack:
		return ask(fmt.Sprintf("%s, %s %s the endpoint's clock", found, span(off), beside(off, "behind", "ahead of")), harmless,
			"date -u -s @"+fmt.Sprint(c.Now+off)+" sets it, if the endpoint is right")
	case c.Program != 0 && c.Now < c.Program:
		return ask(fmt.Sprintf("%s, which is before this program was made", found), harmless+" It is "+span(c.Program-c.Now)+" off at least.",
			"date -u -s 'YYYY-MM-DD HH:MM' sets it")
	case c.Server == 0 && newest > c.Now+86400:
		return ask(fmt.Sprintf("%s, and pool %s was written %s later", found, Printable(pool), span(newest-c.Now)), harmless+" Either this clock is slow, or that machine's was fast.",
			"date -u -s 'YYYY-MM-DD HH:MM' sets it")
	case c.RTC != 0 && !c.Synced && c.Server == 0 && zoned(c.RTC-c.Now):
		return info(fmt.Sprintf("%s, the hardware clock differs by %s", found, span(c.RTC-c.Now)), "The hardware clock may run in local time, as Windows leaves it. "+harmless)
	case c.Server != 0:
		return fine(found+", as the endpoint says too", harmless)
	case c.Synced:
		return fine(found+", kept right over the network", harmless)
	}
	return info(found+", confirmed by nothing", harmless)
}

// zoned tells a difference of whole half hours, which is one of time zones and not of a bad clock.
func zoned(diff int64) bool {
	diff = max(diff, -diff)
	rest := diff % 1800
	return diff > 1200 && diff < 15*3600 && min(rest, 1800-rest) < 30
}

func (j *judge) newestWrite() (at int64, pool string) {
	for _, p := range j.f.Pools {
		if p.Labels != nil && p.Labels.Written > at {
			at, pool = p.Labels.Written, p.Name
		}
	}
	return at, pool
}

func beside(n int64, positive, negative string) string {
	if n > 0 {
		return positive
	}
	return negative
}

func (j *judge) state() []Row {
	s := j.f.State
	if s == nil {
		return unseen()
	}
	where := map[Medium]string{RAM: "in memory", USB: "on USB", Net: "on the network", Fixed: "on disk", Unknown: "on something unknown"}[s.Medium]
	if s.Disk != "" {
		where += " " + s.Disk
	}
	found := s.Path + " " + where
	switch {
	case !s.Exists:
		return ask(s.Path+" is not there", "Locks and unfinished approvals have no place.", "mkdir -p "+quote(s.Path))
	case j.onSource(s.Disk):
		return stop(found+", which is to be taken in", "Nothing is ever written to a disk that is to be saved.", "mount a tmpfs or a USB stick at "+s.Path)
	case s.ReadOnly:
		return stop(found+", read-only", "Locks cannot be taken.", "mount a tmpfs or a USB stick at "+s.Path)
	case s.Medium == Fixed && s.Disk != j.f.Host.Medium:
		return ask(found, "Our own state must not lie on the disk that is to be saved, and this one may be it.", "mount a tmpfs or a USB stick at "+s.Path)
	case s.Free > 0 && s.Free < 8*mib:
		return ask(found+", "+size(s.Free)+" left", "Locks and approvals are small, but want some room.", "make room in "+s.Path)
	case s.Medium == RAM:
		return fine(found, "It is gone after the next boot; what has to outlive that is in the store.")
	}
	return fine(found, "It outlives a boot.")
}
