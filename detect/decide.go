package detect

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Decide says what follows from facts and policy, with a reason for everything chosen and everything refused. It is a pure
// function: the same facts and policy give the same decision on any machine, at any time.
func Decide(f Facts, p Policy) Decision {
	j := newJudge(&f, &p)
	d := Decision{Rows: j.table()}
	for _, pr := range f.Probes {
		if pr.State == Looking {
			d.Late = append(d.Late, pr.Name)
		}
	}
	for i, rule := range j.rules() {
		o := Option{Rule: i + 1, Mode: rule.mode}
		o.Taken, o.Why = rule.try()
		if o.Taken && d.Mode == "" {
			d.Mode, d.Rule, d.Why = o.Mode, o.Rule, o.Why
		} else if o.Taken {
			o.Taken, o.Why = false, fmt.Sprintf("not needed: rule %d came first", d.Rule)
		}
		d.Options = append(d.Options, o)
	}
	switch d.Rule {
	case 2:
		d.Pool = j.approved().Pool.GUID
	case 4:
		for _, s := range j.offer() {
			d.Offer = append(d.Offer, s.Pool.GUID)
		}
	case 5:
		d.Missing = j.lacking(d.Options)
	}
	return d
}

// judge holds what the rows and the rules look at.
type judge struct {
	f       *Facts
	p       *Policy
	now     int64
	stands  []Standing
	sources []*Disk // those the policy names
}

func newJudge(f *Facts, p *Policy) *judge {
	j := &judge{f: f, p: p}
	if f.Clock != nil {
		j.now = f.Clock.Now
	}
	for i := range f.Pools {
		j.stands = append(j.stands, Stand(&f.Pools[i], f.ZFS, p.HostID))
	}
	for _, name := range f.Named(*p) {
		j.sources = append(j.sources, j.disk(name))
	}
	return j
}

// Named are the disks that the policy means as sources, by the names they have now. What this system was booted from is none.
func (f *Facts) Named(p Policy) []string {
	var names []string
	for i := range f.Disks {
		if d := &f.Disks[i]; d.named(p.Sources) && !d.named(p.Exclude) && d.Name != f.Host.Medium {
			names = append(names, d.Name)
		}
	}
	return names
}

// named tells whether one of the words means the disk, or something on it.
func (d *Disk) named(words []string) bool {
	return slices.ContainsFunc(words, func(w string) bool {
		kind, pattern, ok := strings.Cut(w, ":")
		if !ok || strings.HasPrefix(w, "/") {
			kind, pattern = "path", w
		}
		return slices.ContainsFunc(d.called(kind), func(name string) bool {
			if kind != "path" { // only there does * end at a slash
				name, pattern = strings.ReplaceAll(name, "/", "|"), strings.ReplaceAll(pattern, "/", "|")
			}
			if kind == "wwn" || kind == "uuid" {
				name, pattern = strings.ToLower(name), strings.ToLower(pattern)
			}
			hit, err := path.Match(pattern, name)
			return err == nil && hit && name != "" // what a disk does not have is never meant, not even by *
		})
	})
}

// called are the names of one kind that a disk goes by.
func (d *Disk) called(kind string) []string {
	var names []string
	switch kind {
	case "serial":
		return []string{d.Serial}
	case "wwn":
		return []string{d.WWN}
	case "model":
		return []string{d.Model}
	case "label":
		d.each(func(_ string, c *Content) { names = append(names, c.Label) })
	case "uuid":
		d.each(func(_ string, c *Content) { names = append(names, c.UUID) })
	case "path":
		names = []string{d.Path}
		if d.ID != "" {
			names = append(names, "/dev/disk/by-id/"+d.ID)
		}
		for _, p := range d.Parts {
			names = append(names, p.Path)
		}
	}
	return names
}

// rule is one line of the table of modes. The first that is taken decides; the others are weighed all the same, so that each
// refusal has its reason.
type rule struct {
	mode Mode
	try  func() (taken bool, why string)
}

func (j *judge) rules() []rule {
	return []rule{
		{Local, j.mounted},
		{Local, j.approvedPool},
		{Remote, j.remote},
		{Operator, j.offered},
		{Operator, j.otherwise},
	}
}

func (j *judge) wants(m string) (bool, string) {
	if mode := j.p.Mode; mode != "" && mode != "auto" && mode != m {
		return false, "the config allows only " + mode
	}
	return true, ""
}

// waiting says which of the probes are not done, and why a rule cannot be answered then.
func (j *judge) waiting(names ...string) string {
	for _, n := range names {
		switch p, _ := j.f.Probe(n); p.State {
		case Looking:
			return "not known yet: still looking"
		case Failed:
			return "could not be seen: " + Printable(p.Why)
		}
	}
	return ""
}

// Rule 1: a store is already mounted.
func (j *judge) mounted() (bool, string) {
	if ok, why := j.wants("local"); !ok {
		return false, why
	}
	if why := j.waiting("store"); why != "" {
		return false, why
	}
	s := j.f.Store
	switch {
	case s == nil || !s.Mounted:
		return false, "nothing is mounted at " + j.p.LocalMount
	case s.Medium == RAM:
		return false, "what is mounted at " + s.Path + " lies in memory and would be lost"
	case !s.IsStore && !s.Empty:
		return false, "what is mounted at " + s.Path + " holds something else than a store"
	case s.ReadOnly:
		return false, "what is mounted at " + s.Path + " is read-only"
	case j.onSource(s.Disk):
		return false, "what is mounted at " + s.Path + " lies on " + s.Disk + ", which is to be taken in"
	case s.Empty:
		return true, "an empty file system is mounted at " + s.Path + ": a store will be made in it"
	}
	return true, "a store is mounted at " + s.Path
}

func (j *judge) onSource(disk string) bool {
	return disk != "" && slices.ContainsFunc(j.sources, func(d *Disk) bool { return d.Name == disk })
}

// Rule 2: the config approves a pool that could be imported and is sound.
func (j *judge) approvedPool() (bool, string) {
	if ok, why := j.wants("local"); !ok {
		return false, why
	}
	if len(j.p.Approved) == 0 {
		return false, "the config approves no pool"
	}
	if why := j.waiting("zfs", "pools"); why != "" {
		return false, why
	}
	if s := j.approved(); s != nil {
		return true, fmt.Sprintf("the config approves pool %s, which is %s and in use by nobody", s.Pool.title(j.f.Pools), s.Health)
	}
	var refused []string
	for _, word := range j.p.Approved {
		refused = append(refused, j.refusal(word))
	}
	return false, strings.Join(refused, "; ")
}

// approved is the first pool that the config approves and that could be imported as it is.
func (j *judge) approved() *Standing {
	for _, word := range j.p.Approved {
		if found := j.meant(word); len(found) == 1 && j.refusal(word) == "" {
			return found[0]
		}
	}
	return nil
}

// meant are the pools that a word of the config means: one by GUID, or all of a name.
func (j *judge) meant(word string) []*Standing {
	var found []*Standing
	for i := range j.stands {
		s := &j.stands[i]
		if s.Pool.GUID.String() == word {
			return []*Standing{s}
		}
		if s.Pool.Name == word {
			found = append(found, s)
		}
	}
	return found
}

// refusal says why what the config approves by a word is not imported; empty where nothing is against it.
func (j *judge) refusal(word string) string {
	found := j.meant(word)
	switch len(found) {
	case 0:
		return fmt.Sprintf("pool %s, which the config approves, is not here", Printable(word))
	case 1:
	default:
		return fmt.Sprintf("the config approves pool %s by name, and %d pools here have that name: approve one by its GUID", Printable(word), len(found))
	}
	why := j.unsound(found[0])
	if why == "" && found[0].Pool.GUID.String() != word {
		why = j.unread()
	}
	if why == "" {
		return ""
	}
	return fmt.Sprintf("pool %s, which the config approves: %s", found[0].Pool.title(j.f.Pools), why)
}

// unread says that a name may be worth less than it seems: on a disk that could not be read there may be a pool of the same.
func (j *judge) unread() string {
	for _, p := range j.f.Probes {
		if name, ok := strings.CutPrefix(p.Name, "disk "); ok && p.State == Failed {
			return "disk " + name + " could not be read, and a pool of the same name may lie there: approve it by its GUID"
		}
	}
	return ""
}

// unsound says why a pool is not imported without a person, although the config approves it; empty where nothing is against it.
func (j *judge) unsound(s *Standing) string {
	switch {
	case !s.Importable:
		return s.Why
	case s.Health != "ONLINE" && s.Health != "DEGRADED":
		return "it is " + s.Health
	case s.Foreign:
		return "another system used it last and did not let go of it, and nobody can tell from here whether that system still runs"
	case s.ReadOnly:
		return "it can only be read with this version of ZFS, and a store must be written"
	case s.Pool.Labels == nil:
		return "no label of it could be read, so it is not known who used it last"
	}
	for _, v := range s.Pool.Labels.Vdevs {
		for _, d := range leaves(v) {
			if j.onSource(d.Disk) {
				return "it lies on " + d.Disk + ", which is to be taken in"
			}
		}
	}
	return ""
}

func leaves(v Vdev) []Vdev {
	if len(v.Children) == 0 {
		return []Vdev{v}
	}
	var out []Vdev
	for _, c := range v.Children {
		out = append(out, leaves(c)...)
	}
	return out
}

// Rule 3: the endpoint answers as it should.
func (j *judge) remote() (bool, string) {
	if ok, why := j.wants("remote"); !ok {
		return false, why
	}
	if j.p.Endpoint == "" {
		return false, "the config names no endpoint"
	}
	if why := j.waiting("endpoint"); why != "" {
		return false, why
	}
	if e := j.f.Endpoint; e != nil {
		if bad := j.endpointFault(e); bad != "" {
			return false, bad
		}
		return true, j.p.Endpoint + " answers, its certificate and protocol are right"
	}
	return false, "the endpoint was not asked"
}

// Rule 4: there is something that a person could approve.
func (j *judge) offered() (bool, string) {
	if ok, why := j.wants("local"); !ok {
		return false, why
	}
	if why := j.waiting("pools"); why != "" {
		return false, why
	}
	offer := j.offer()
	if len(offer) == 0 {
		return false, "no pool here could be imported"
	}
	var names []string
	for _, s := range offer {
		names = append(names, s.Pool.title(j.f.Pools))
	}
	return true, fmt.Sprintf("%s could be imported: approve one", join(names))
}

func (j *judge) offer() []*Standing {
	var out []*Standing
	for i := range j.stands {
		if j.stands[i].Importable {
			out = append(out, &j.stands[i])
		}
	}
	return out
}

// Rule 5: otherwise.
func (j *judge) otherwise() (bool, string) {
	return true, "a person has to say where the store is"
}

// lacking lists what would have to be there for one of the other modes.
func (j *judge) lacking(all []Option) []string {
	var out []string
	for _, o := range all[:len(all)-1] {
		if !slices.Contains(out, o.Why) {
			out = append(out, o.Why)
		}
	}
	return out
}
