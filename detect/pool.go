package detect

import (
	"fmt"
	"slices"
	"strings"
)

// Standing is what can be said of a pool from all sides together.
type Standing struct {
	Pool       *Pool
	Health     string // ONLINE, DEGRADED, UNAVAIL, FAULTED …: the worse of what labels and zpool say
	Leaves     int    // disks it has, as the labels say
	Here       int    // of those, how many are here
	Missing    []Vdev // leaves that are not here
	Readable   bool   // every top-level vdev can be read
	Destroyed  bool
	Foreign    bool   // last used by another system, which did not let go of it
	Ours       bool   // last used by this system or an earlier boot of it, and not let go of
	InUse      bool   // another system has it now
	ReadOnly   bool   // it has features that this ZFS can read but not write
	Unreadable string // why this ZFS cannot read it; empty: nothing is known against it
	Importable bool   // it could be imported now, with approval
	Why        string // why it could, or could not, in one sentence
}

// Stand weighs what is known of a pool. The host id is the one that our own imports use, beside the one this system has now.
func Stand(p *Pool, z *ZFS, ours HostID) Standing {
	s := Standing{Pool: p, Health: "ONLINE", Readable: true}
	if p.Labels != nil {
		s.fromLabels(p.Labels, z, ours)
	}
	if p.Listed != nil {
		s.fromListed(p.Listed)
	}
	s.Importable, s.Why = s.importable(z)
	return s
}

func (s *Standing) fromLabels(l *PoolLabels, z *ZFS, ours HostID) {
	s.Health = l.Health
	for _, v := range l.Vdevs {
		s.count(v)
		// A pool comes up without its log only if what was written last is given up.
		s.Readable = s.Readable && v.Health != "UNAVAIL"
	}
	s.Readable = s.Readable && l.Health != "UNAVAIL"
	s.Destroyed = l.State == "destroyed"
	if l.State != "active" {
		return
	}
	s.Ours = l.HostID != 0 && (l.HostID == ours || z != nil && l.HostID == z.HostID)
	s.Foreign = !s.Ours
}

func (s *Standing) count(v Vdev) {
	for _, l := range leaves(v) {
		switch {
		case l.Type == "hole" || l.Type == "indirect" || l.Type == "dspare":
		case l.Device != "":
			s.Leaves, s.Here = s.Leaves+1, s.Here+1
		default:
			l.Log = l.Log || v.Log
			s.Leaves, s.Missing = s.Leaves+1, append(s.Missing, l)
		}
	}
}

func (s *Standing) fromListed(l *PoolListed) {
	if worse(l.State, s.Health) {
		s.Health = l.State
	}
	s.Readable = s.Readable && (l.State == "ONLINE" || l.State == "DEGRADED")
	s.Destroyed = s.Destroyed || l.Destroyed
	switch l.Reason {
	case ReasonHostActive:
		s.InUse = true
	case ReasonHost, ReasonHostRequired:
		s.Foreign = !s.Ours
	case ReasonFeatureRead:
		s.Unreadable = "it has features that this version of ZFS cannot read"
	case ReasonVersion:
		s.Unreadable = "it is of a version that this ZFS does not know"
	case ReasonFeatureWrite:
		s.ReadOnly = true
	}
}

func worse(a, b string) bool { return gravity(a) > gravity(b) }

func gravity(state string) int {
	return slices.Index([]string{"ONLINE", "DEGRADED", "OFFLINE", "REMOVED", "SPLIT", "UNAVAIL", "FAULTED"}, state)
}

func (s *Standing) importable(z *ZFS) (bool, string) {
	switch {
	case s.Pool.Imported != nil:
		return false, "it is imported already"
	case s.InUse:
		return false, "another system has it imported now"
	case s.Destroyed:
		return false, "it was destroyed"
	case s.Unreadable != "":
		return false, s.Unreadable
	case !s.Readable && len(s.Missing) > 0:
		return false, fmt.Sprintf("of its %s, not here: %d", plural(int64(s.Leaves), "disk", "disks"), len(s.Missing))
	case !s.Readable:
		return false, "zpool says it is " + s.Health
	case z == nil:
		return false, "it is not known whether this system has ZFS"
	case !z.Tools:
		return false, "this system has no ZFS tools"
	case !z.Loaded && !z.Installed:
		return false, "this system has no ZFS module for its kernel"
	}
	return true, "every part of it can be read"
}

// UsedBy says who used the pool last, for people.
func (s *Standing) UsedBy(now int64) string {
	l := s.Pool.Labels
	if l == nil {
		return "not known: no label of it could be read"
	}
	host := "an unnamed host"
	if l.HostName != "" {
		host = "host " + Printable(l.HostName)
	}
	id := "no hostid"
	if l.HostID != 0 {
		id = "hostid " + l.HostID.String()
	}
	end := "not exported"
	switch l.State {
	case "exported":
		end = "exported"
	case "destroyed":
		end = "destroyed"
	}
	return fmt.Sprintf("%s (%s), last written %s, %s", host, id, ago(l.Written, now), end)
}

// missing names the leaves that are not here as the pool knew them.
func (s *Standing) missing() string {
	var names []string
	for _, v := range s.Missing {
		switch {
		case v.Path != "":
			names = append(names, strings.TrimPrefix(Printable(v.Path), "/dev/disk/by-id/"))
		case v.GUID != 0:
			names = append(names, v.GUID.String())
		default:
			names = append(names, "one that no label here describes")
		}
	}
	return join(names)
}

// title names a pool; with its GUID where the name alone does not.
func (p *Pool) title(all []Pool) string {
	same := 0
	for _, q := range all {
		if q.Name == p.Name {
			same++
		}
	}
	if same > 1 || p.Name == "" {
		return fmt.Sprintf("%s (%s)", Printable(p.Name), p.GUID)
	}
	return Printable(p.Name)
}
