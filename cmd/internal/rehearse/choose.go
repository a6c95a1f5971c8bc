package rehearse

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"aslrescue/detect"
	"aslrescue/engine/approval"
	"aslrescue/engine/event"
	"aslrescue/tui/ask"
)

// change is an import that would be done to a pool of the rehearsal. It is a plan as the real ones are, and its approval is one too: only
// what is approved is made up.
type change struct{ sheet approval.Sheet }

func (c change) Sheet() approval.Sheet { return c.sheet }

// Offers is as ask.Approver says.
func (e *Engine) Offers(context.Context) ([]ask.Offer, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []ask.Offer
	for i := range e.facts.Pools {
		p := &e.facts.Pools[i]
		for _, ro := range []bool{true, false} {
			out = append(out, e.offer(p, ro))
		}
	}
	return out, nil
}

func (e *Engine) plan(p *detect.Pool, readOnly bool) change {
	s := approval.Sheet{Verb: "import", ID: p.GUID.String(), Word: p.Name, Gate: approval.Reversible, What: "import the pool " + p.Name + " read-only"}
	cmd := []string{"zpool", "import", "-N", "-R", "/mnt/asl/pool", "-o", "cachefile=none"}
	if readOnly {
		cmd = append(cmd, "-o", "readonly=on")
	} else {
		s.Gate, s.What = approval.Risky, "import the pool "+p.Name+" writable, and store into it"
	}
	if used(p) && !readOnly {
		cmd = append(cmd, "-f")
	}
	for _, d := range ask.DisksOfPool(*p) {
		cmd = append(cmd, "-d", "/dev/"+d+"1")
		s.Things = append(s.Things, approval.Thing{Kind: "disk", ID: e.disk(d).Serial, Name: "/dev/" + d})
	}
	s.Commands = [][]string{append(cmd, p.GUID.String())}
	if p.Imported != nil && p.Imported.ReadOnly && !readOnly { // it was looked at first, as it should be
		s.Commands = append([][]string{{"zpool", "export", p.Name}}, s.Commands...)
	}
	return change{s}
}

// used tells whether the pool's labels say that another system has it.
func used(p *detect.Pool) bool { return p.Labels != nil && p.Labels.State == "active" }

func (e *Engine) disk(name string) detect.Disk {
	for _, d := range e.facts.Disks {
		if d.Name == name {
			return d
		}
	}
	return detect.Disk{Name: name}
}

// then joins commands as a shell takes them.
func then(all [][]string) []string {
	out := slices.Clone(all[0])
	for _, c := range all[1:] {
		out = append(append(out, "&&"), c...)
	}
	return out
}

func (e *Engine) offer(p *detect.Pool, readOnly bool) ask.Offer {
	s := e.plan(p, readOnly).Sheet()
	o := ask.Offer{Hash: s.Hash().String(), Subject: p.Name, Way: "read-only", Gate: int(s.Gate), What: "Import the pool " + p.Name + " read-only.", Command: then(s.Commands),
		Changes: "Nothing on its disks changes.", Undo: "Export it again at any time: zpool export " + p.Name,
		Otherwise: "The pool stays as it is. Nothing can be read from it or stored into it.", Answered: e.answers[s.Hash().String()]}
	if !readOnly {
		o.Way, o.Word = "writable", p.Name
		o.What = "Import the pool " + p.Name + " writable, and make a store in it."
		o.Changes = "Its disks are written to: a new dataset, nothing that is there is overwritten."
		o.Undo = "Export it, and destroy the dataset " + p.Name + "/asl. The writes of the import itself stay."
		o.Otherwise = "The pool stays as it is. The store can go into a folder instead."
	}
	healthy := p.Listed != nil && p.Listed.State == "ONLINE"
	o.Recommended = healthy && !readOnly && !slices.ContainsFunc(e.facts.Pools, func(x detect.Pool) bool { return x.Imported != nil })
	if p.Labels != nil && p.Labels.HostName != "" {
		when := time.Unix(p.Labels.Written, 0).UTC().Format("2006-01-02 15:04 UTC")
		state := "exported"
		if used(p) {
			state = "not exported"
		}
		o.Notes = append(o.Notes, fmt.Sprintf("last used by host %s, %s, %s", event.Printable(p.Labels.HostName), when, state))
	}
	for _, d := range ask.DisksOfPool(*p) {
		x := e.disk(d)
		o.Disks = append(o.Disks, ask.OfferDisk{Path: x.Path, Model: x.Model, Serial: x.Serial, Size: x.Size, State: "online"})
	}
	switch {
	case p.Imported != nil && (readOnly || !p.Imported.ReadOnly):
		o.Refused = "it is imported already"
	case e.job != nil && e.job.State().Phase != ask.Ended:
		o.Refused = "an intake is running"
	case !healthy && !readOnly:
		o.Refused = "the pool is " + strings.ToLower(stateOf(p)) + ": a pool that lost disks is read, not written to"
	}
	if !healthy {
		o.Notes = append(o.Notes, "state: "+stateOf(p))
	}
	return o
}

func stateOf(p *detect.Pool) string {
	if p.Listed == nil {
		return "not listed"
	}
	return p.Listed.State
}

// Answer is as ask.Approver says.
func (e *Engine) Answer(_ context.Context, a ask.Answer) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if was := e.answers[a.Hash]; was != "" {
		return was, ask.ErrAnswered
	}
	for i := range e.facts.Pools {
		p := &e.facts.Pools[i]
		for _, ro := range []bool{true, false} {
			c := e.plan(p, ro)
			if c.Sheet().Hash().String() != a.Hash {
				continue
			}
			if why := e.offer(p, ro).Refused; why != "" && a.Yes {
				return "", fmt.Errorf("%w: %s", ask.ErrRefused, why)
			}
			return e.answer(p, ro, c, a)
		}
	}
	return "", ask.ErrChanged
}

func (e *Engine) answer(p *detect.Pool, readOnly bool, c change, a ask.Answer) (string, error) {
	if !a.Yes {
		return "", nil // a no can be made a yes later
	}
	said := a.Word
	if c.sheet.Gate == approval.Reversible {
		said = "y"
	}
	shown, err := approval.ParseHash(a.Hash)
	if err != nil {
		return "", err
	}
	if _, err := approval.Ask(c, shown, said); err != nil {
		return "", fmt.Errorf("%w: %w", ask.ErrRefused, err)
	}
	text := "imported " + map[bool]string{true: "read-only", false: "writable"}[readOnly] + ", approved at " + e.where()
	e.answers[a.Hash] = text
	p.Imported = &detect.PoolImported{Health: stateOf(p), ReadOnly: readOnly, AltRoot: "/mnt/asl/pool", Size: 31 * gib, Free: 24 * gib}
	if !readOnly {
		e.facts.Store = &detect.Store{Place: detect.Place{Path: mount, Exists: true, FS: "zfs", Medium: detect.Fixed, Disk: strings.Join(ask.DisksOfPool(*p), ", "), Free: 24 * gib}, Mounted: true, Empty: true, Source: p.Name + "/asl"}
	}
	e.version++
	e.sayLocked(event.Info, "", "pool "+p.Name+": "+text)
	return text, nil
}

// Places is as ask.Chooser says.
func (e *Engine) Places(context.Context) ([]ask.Place, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []ask.Place
	for _, p := range e.facts.Pools {
		if p.Imported != nil && !p.Imported.ReadOnly {
			out = append(out, ask.Place{Path: mount, What: "new store in the pool " + p.Name, Free: p.Imported.Free, Disks: ask.DisksOfPool(p)})
		}
	}
	if s := e.facts.Store; len(out) == 0 && s != nil && s.Mounted {
		out = append(out, ask.Place{Path: s.Path, What: "mounted already, on " + s.FS, Free: s.Free, Store: s.IsStore, Disks: strings.Fields(s.Disk)})
	}
	if e.folder != "" {
		out = append(out, e.folderPlace(e.folder))
	}
	return out, nil
}

// Folder is as ask.Chooser says.
func (e *Engine) Folder(_ context.Context, p string) (ask.Place, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p == slow {
		return ask.Place{}, ask.ErrSlow
	}
	pl := e.folderPlace(path.Clean(p))
	if pl.Refused == "" {
		e.folder = pl.Path
	}
	return pl, nil
}

func (e *Engine) folderPlace(p string) ask.Place {
	pl := ask.Place{Path: p, What: "a folder", Free: 24 * gib}
	l, err := listing(p)
	switch {
	case err != nil && path.Dir(p) != "/" && !strings.HasPrefix(p, "/mnt/"):
		pl.Refused = "there is no such folder"
	case p == "/mnt/nfs":
		pl.What = "an empty folder on a server (NFS)"
	case strings.HasPrefix(p, "/mnt/usb"):
		pl.What = "a folder on a USB disk"
	case strings.HasPrefix(p, "/mnt/home"):
		pl.Refused = "it is mounted read-only, and it is what is to be saved"
	case p == mount || p == "/mnt" || p == "/":
		pl.Refused = "it lies in memory, and would be lost when the machine is switched off"
	}
	if err == nil && len(l.Entries) > 0 && pl.Refused == "" {
		pl.Refused = "it holds other things: a store wants an empty folder of its own"
	}
	return pl
}

// Choices is as ask.Chooser says.
func (e *Engine) Choices(_ context.Context, place string) ([]ask.Choice, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return ask.Disks(&e.facts, e.place(place)), nil
}

func (e *Engine) place(p string) ask.Place {
	for _, pool := range e.facts.Pools {
		if p == mount && pool.Imported != nil && !pool.Imported.ReadOnly {
			return ask.Place{Path: p, What: "new store in the pool " + pool.Name, Free: pool.Imported.Free, Disks: ask.DisksOfPool(pool)}
		}
	}
	if s := e.facts.Store; s != nil && s.Mounted && s.Path == p {
		return ask.Place{Path: p, What: "mounted already", Free: s.Free, Store: s.IsStore, Disks: strings.Fields(s.Disk)}
	}
	if p == "" {
		return ask.Place{}
	}
	return e.folderPlace(p)
}

// Dir is as ask.Chooser says.
func (e *Engine) Dir(ctx context.Context, p string) (ask.Listing, error) {
	if path.Clean(p) == slow {
		if e.o.Rate > 0 {
			pause(ctx, 3*time.Second)
		}
		return ask.Listing{}, fmt.Errorf("list %s: %w", p, ask.ErrSlow)
	}
	return listing(p)
}

// MakePlan is as ask.Chooser says.
func (e *Engine) MakePlan(_ context.Context, w ask.Want) (ask.Plan, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p, err := e.makePlan(w)
	if err != nil {
		return p, err
	}
	e.plans[p.Hash], e.wants[p.Hash] = p, w
	return p, nil
}

func (e *Engine) makePlan(w ask.Want) (ask.Plan, error) {
	pl := e.place(w.Place)
	switch {
	case w.Place == "":
		return ask.Plan{}, fmt.Errorf("%w: there is no place for the store yet", ask.ErrRefused)
	case pl.Refused != "":
		return ask.Plan{}, fmt.Errorf("%w: %s: %s", ask.ErrRefused, w.Place, pl.Refused)
	}
	choices := ask.Disks(&e.facts, pl)
	if err := ask.Check(choices, w.Sources, pl); err != nil {
		return ask.Plan{}, err
	}
	p := ask.Plan{Place: pl, Verify: w.Verify, Label: w.Label, Resume: w.Resume}
	if p.Verify == "" {
		p.Verify = "new"
	}
	p.Command = []string{"asl-intake", "--batch"}
	for _, path := range w.Sources {
		i := e.source(path).Info()
		ps := ask.PlanSource{Path: path, Name: i.Name, Kind: string(i.Kind), Model: i.Model, Serial: i.Serial, Size: i.Size}
		k := slices.IndexFunc(choices, func(c ask.Choice) bool { return c.Path == path })
		if k >= 0 && choices[k].Ailing {
			ps.Ailing = choices[k].Health
		}
		if k < 0 {
			if _, err := listing(path); err != nil {
				return ask.Plan{}, fmt.Errorf("%w: %w", ask.ErrRefused, err)
			}
		}
		p.Sources = append(p.Sources, ps)
		p.Command = append(p.Command, "--source", path)
	}
	p.Command = append(p.Command, "--store", pl.Path)
	if p.Verify == "none" {
		p.Command = append(p.Command, "--no-verify")
	} else if p.Verify == "all" {
		p.Command = append(p.Command, "--verify", "all")
	}
	p.Forecast = ask.Guess(p, max(e.o.Rate, diskRate))
	p.Hash = hash(p)
	return p, nil
}

// hash is over all that makes it this plan; what is only guessed moves by itself.
func hash(p ask.Plan) string {
	p.Forecast, p.Notes, p.Place.Free, p.Hash = ask.Forecast{}, nil, 0, ""
	b, err := json.Marshal(p)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return fmt.Sprintf("%x", sha256.Sum256(b))
}

// SavePlan is as ask.Chooser says. A rehearsal writes it into its own folder.
func (e *Engine) SavePlan(_ context.Context, hash, file string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	p, ok := e.plans[hash]
	if !ok {
		return ask.ErrChanged
	}
	text := "# " + strings.Join(p.Command, " ") + "\n"
	return os.WriteFile(path.Join(e.dir, path.Base(file)), []byte(text), 0o600)
}

// Tool is as ask.Keeper says, but for labels: those of this machine's own disks are none of a rehearsal's business.
func (e *Engine) Tool(ctx context.Context, program string, args ...string) (ask.Printed, error) {
	if program == "asl-debug" && len(args) > 0 && args[0] == "labels" {
		return e.labels(args), nil
	}
	return e.Keeper.Tool(ctx, program, args...)
}

// labels is what the captured machine's facts say of the labels on a device.
func (e *Engine) labels(args []string) ask.Printed {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := ask.Printed{Command: "asl-debug " + strings.Join(args, " ")}
	for _, pool := range e.facts.Pools {
		for _, d := range ask.DisksOfPool(pool) {
			if l := pool.Labels; len(args) > 1 && strings.HasPrefix(args[1], "/dev/"+d) {
				p.Lines = append(p.Lines, fmt.Sprintf("pool %s, guid %s, %s, txg %d, last written by %s", pool.Name, pool.GUID, l.State, l.Txg, event.Printable(l.HostName)))
			}
		}
	}
	if p.Lines == nil {
		p.Exit, p.Lines = 1, []string{"no label: the disks that have some are legs of pools"}
	}
	return p
}
