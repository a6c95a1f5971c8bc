package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"aslrescue/backends/zfs"
	"aslrescue/detect"
	"aslrescue/engine/approval"
	"aslrescue/engine/event"
	"aslrescue/tui/ask"
)

// change is an import that is offered.
type change struct {
	use  PoolUse
	plan PoolPlan
}

// changes are the imports that could be, each with its offer: from facts alone, so that the same machine gives the same offers.
func (l *Live) changes() (all []change, offers []ask.Offer) {
	f := l.facts()
	for i := range f.Pools {
		p := &f.Pools[i]
		if p.Labels != nil && p.Labels.State == "destroyed" {
			continue
		}
		for _, u := range l.uses(p) {
			plan, err := PlanPool(f, u)
			all = append(all, change{u, plan})
			offers = append(offers, offerOf(f, p, u, plan, err))
		}
	}
	return all, offers
}

// uses are what a pool can be wanted for: to be read, and to hold the store.
func (l *Live) uses(p *detect.Pool) []PoolUse {
	read := PoolUse{Pool: p.GUID.String(), ReadOnly: true}
	store := PoolUse{Dataset: p.GUID.String() + "/asl", Mount: "/mnt/asl/local"}
	if c := l.o.Config; c != nil {
		read.Domain, store.Domain, store.Mount = c.DomainID, c.DomainID, c.LocalMount
		if pool, rest, ok := strings.Cut(c.LocalDataset, "/"); ok && (pool == p.Name || pool == p.GUID.String()) {
			store.Dataset = p.GUID.String() + "/" + rest
		}
	}
	return []PoolUse{read, store}
}

func offerOf(f *detect.Facts, p *detect.Pool, u PoolUse, plan PoolPlan, err error) ask.Offer {
	o := ask.Offer{Subject: detect.Printable(p.Name), Way: "writable", Otherwise: "The pool stays as it is. The store can go into a folder instead."}
	if plan.Namesakes > 1 {
		o.Subject += " (" + p.GUID.String() + ")"
	}
	if u.ReadOnly {
		o.Way, o.Otherwise = "read-only", "The pool stays as it is, and nothing can be read from it."
	}
	o.Disks, o.Notes = offerDisks(f, p), []string{"state: " + plan.Standing.Health}
	if by := plan.Standing.UsedBy(now(f)); by != "" {
		o.Notes = append(o.Notes, "last used by "+by)
	}
	switch {
	case err != nil:
		o.Refused = err.Error()
		return o
	case plan.Imported:
		o.Refused = "it is imported already"
		return o
	}
	s := plan.Import.Sheet()
	o.Hash, o.Gate, o.Word, o.Undo = s.Hash().String(), int(s.Gate), s.Word, s.Undo
	if s.Gate == approval.Reversible {
		o.Word = ""
	}
	o.What, o.Changes = sentence(s.What), strings.Join(s.Changes, " ")
	for i, c := range s.Commands {
		if i > 0 {
			o.Command = append(o.Command, ";")
		}
		o.Command = append(o.Command, c...)
	}
	o.Recommended = !u.ReadOnly && plan.Standing.Health == "ONLINE"
	return o
}

func sentence(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

func offerDisks(f *detect.Facts, p *detect.Pool) (all []ask.OfferDisk) {
	for _, name := range ask.DisksOfPool(*p) {
		i := slices.IndexFunc(f.Disks, func(d detect.Disk) bool { return d.Name == name })
		if i < 0 {
			all = append(all, ask.OfferDisk{Path: "/dev/" + name})
			continue
		}
		d := f.Disks[i]
		all = append(all, ask.OfferDisk{Path: d.Path, Model: d.Model, Serial: d.Serial, Size: d.Size, State: or(d.State, "here")})
	}
	return all
}

// Offers are the changes to pools that can be approved, and those that were.
func (l *Live) Offers(context.Context) ([]ask.Offer, error) {
	changes, offers := l.changes()
	busy := l.Busy()
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range offers {
		o := &offers[i]
		o.Answered = l.approved[changes[i].plan.Pool.GUID.String()+o.Way]
		if o.Hash != "" && o.Refused == "" && busy {
			o.Refused = "an intake is under way"
		}
	}
	return offers, nil
}

// Answer gives consent to what was shown, or withholds it. The first yes wins. What is done goes on when the face that answered dies.
func (l *Live) Answer(ctx context.Context, a ask.Answer) (string, error) {
	l.answering.Lock()
	defer l.answering.Unlock()
	l.mu.Lock()
	was := l.answers[a.Hash]
	l.mu.Unlock()
	if was != "" {
		return was, ask.ErrAnswered
	}
	changes, offers := l.changes()
	i := slices.IndexFunc(offers, func(o ask.Offer) bool { return o.Hash == a.Hash && a.Hash != "" })
	switch {
	case i < 0:
		return "", fmt.Errorf("%w: nothing like that is offered now", ask.ErrChanged)
	case !a.Yes:
		l.say(event.Info, "", "no: "+offers[i].What+by(ctx))
		return "Nothing was done.", nil // a no can be made a yes later
	case offers[i].Refused != "":
		return "", fmt.Errorf("%w: %s", ask.ErrRefused, offers[i].Refused)
	case l.Busy():
		return "", fmt.Errorf("%w: an intake is under way", ask.ErrRefused)
	}
	return l.approve(ctx, changes[i], offers[i], a)
}

// approve makes the approval, writes it down, and does what was approved.
func (l *Live) approve(ctx context.Context, c change, o ask.Offer, a ask.Answer) (string, error) {
	shown, err := approval.ParseHash(a.Hash)
	if err != nil {
		return "", err
	}
	word := a.Word
	if c.plan.Import.Sheet().Gate == approval.Reversible {
		word = "y" // the yes of the answer is the key
	}
	given, err := approval.Ask(c.plan.Import, shown, word)
	if err != nil {
		return "", asChanged(err)
	}
	if err := l.o.Pools.keep(given.Record(l.o.Now())); err != nil {
		return "", fmt.Errorf("consent is written down before anything is done, and could not be: nothing was done: %w", err)
	}
	at, err := l.o.Pools.zfs.Attach(l.ctx, given, PlanAgain(l.o.Pools.look, c.use))
	if err != nil {
		l.say(event.Warning, "", o.What+" It was approved"+by(ctx)+" and not done: "+firstLine(err.Error()))
		_ = l.LookAgain(ctx) // it never fails
		return "", asChanged(poolError(err))
	}
	text := "Imported " + o.Way + ", approved" + by(ctx) + "."
	l.mu.Lock()
	l.answers[a.Hash] = text
	l.approved[c.plan.Pool.GUID.String()+o.Way] = text
	l.attached = append(l.attached, at)
	l.mu.Unlock()
	l.say(event.Info, "", "pool "+o.Subject+": "+text)
	return text, l.LookAgain(ctx)
}

// asChanged tells a face that it must show the plan again.
func asChanged(err error) error {
	if errors.Is(err, approval.ErrVoid) {
		return fmt.Errorf("%w: %w", ask.ErrChanged, err)
	}
	return err
}

// letGo exports what this engine imported, the last first. What cannot be let go of is kept, and said.
func (l *Live) letGo() error {
	l.mu.Lock()
	all := l.attached
	l.attached = nil
	l.mu.Unlock()
	var kept []*zfs.Attached
	var failed error
	for _, at := range slices.Backward(all) {
		if err := at.Detach(); err != nil {
			failed = errors.Join(failed, poolError(err))
			kept = append(kept, at)
			continue
		}
		l.say(event.Info, "", "the pool "+at.Pool+" is exported")
	}
	l.mu.Lock()
	slices.Reverse(kept)
	l.attached = append(kept, l.attached...)
	if failed == nil {
		clear(l.approved) // the answers stay: what was consented to once is not done twice
	}
	l.mu.Unlock()
	return failed
}

// datasetAt is the dataset that a folder lies in, if this engine mounted it.
func (l *Live) datasetAt(dir string) *zfs.Attached {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, at := range l.attached {
		if at.Mount != "" && (dir == at.Mount || strings.HasPrefix(dir, at.Mount+"/")) {
			return at
		}
	}
	return nil
}
