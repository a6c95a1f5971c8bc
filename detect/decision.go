package detect

// Policy is what the config wants.
type Policy struct {
	Mode       string   `json:"mode"` // auto, local, remote; empty is auto
	LocalMount string   `json:"local_mount,omitempty"`
	Endpoint   string   `json:"endpoint,omitempty"`
	Pin        string   `json:"pin,omitempty"`      // of the endpoint's key, "sha256:<64 hex>"
	Approved   []string `json:"approved,omitempty"` // pools that may be imported without asking: GUIDs, or names
	Sources    []string `json:"sources,omitempty"`  // what is to be taken in: serial:…, wwn:…, model:…, label:…, uuid:…, or a path, each a pattern; empty: not known yet
	Exclude    []string `json:"exclude,omitempty"`  // what of it is left alone all the same
	HostID     HostID   `json:"hostid,omitempty"`   // the one our own imports use; 0: none
	Need       int64    `json:"need,omitempty"`     // bytes the sources have together, if it is known better than from Sources
	Mistakes   []string `json:"mistakes,omitempty"` // in config files; defaults stand in their place
}

// Mode is how the rescue goes on: the one word in /run/asl/mode.
type Mode string

// The modes.
const (
	Local    Mode = "local"
	Remote   Mode = "remote"
	Operator Mode = "operator" // a person has to say
)

// Verdict is what a row of the table comes to.
type Verdict string

// The verdicts.
const (
	GO   Verdict = "GO"
	ASK  Verdict = "ASK"  // a person must look at it before what it is about is used
	STOP Verdict = "STOP" // what it is about is not used as things are
	INFO Verdict = "INFO"
)

// Row is one line of the preflight table.
type Row struct {
	ID      string   `json:"id"`              // stable: "disk.health"
	About   Subject  `json:"about,omitempty"` // what it concerns, and nothing else
	What    string   `json:"what"`            // what was checked
	Found   string   `json:"found"`
	Verdict Verdict  `json:"verdict"`
	Why     string   `json:"why"`            // what that means here
	Next    []string `json:"next,omitempty"` // what to do: a line each, commands as they are typed
	Late    bool     `json:"late,omitempty"` // still looking: the row will be replaced
}

// Subject is what a row concerns: empty is the whole machine. A STOP about one pool stops nothing that leaves this pool alone.
type Subject string

// The subjects that are not one pool or one disk.
const (
	Machine     Subject = ""
	TheRemote   Subject = "remote"
	TheStore    Subject = "store"
	AllPools    Subject = "pools"
	TheStateDir Subject = "state"
)

// OfPool is the subject of one pool.
func OfPool(g GUID) Subject { return Subject("pool " + g.String()) }

// OfDisk is the subject of one disk by the name it has now.
func OfDisk(name string) Subject { return Subject("disk " + name) }

// Option is one way on that was weighed: one line of the table of modes.
type Option struct {
	Rule  int    `json:"rule"` // its number there
	Mode  Mode   `json:"mode"`
	Taken bool   `json:"taken"`
	Why   string `json:"why"` // why it was taken, or why not
}

// Decision is what follows from facts and policy.
type Decision struct {
	Mode    Mode     `json:"mode"`
	Rule    int      `json:"rule"`
	Why     string   `json:"why"`
	Pool    GUID     `json:"pool,omitempty"`    // rule 2: the pool that the config approves
	Offer   []GUID   `json:"offer,omitempty"`   // rule 4: pools that could be imported
	Missing []string `json:"missing,omitempty"` // rule 5: what would have to be there
	Options []Option `json:"options"`           // all rules, in their order
	Rows    []Row    `json:"rows"`
	Late    []string `json:"late,omitempty"` // probes that are still looking
}

// Worst is the gravest verdict of the rows about any of the subjects; about everything where none is given.
func (d *Decision) Worst(about ...Subject) Verdict {
	worst := INFO
	for _, r := range d.About(about...) {
		if rank(r.Verdict) > rank(worst) {
			worst = r.Verdict
		}
	}
	return worst
}

// About gives the rows about any of the subjects; all rows where none is given.
func (d *Decision) About(about ...Subject) []Row {
	if len(about) == 0 {
		return d.Rows
	}
	var out []Row
	for _, r := range d.Rows {
		for _, a := range about {
			if r.About == a {
				out = append(out, r)
				break
			}
		}
	}
	return out
}

func rank(v Verdict) int {
	switch v {
	case STOP:
		return 3
	case ASK:
		return 2
	case GO:
		return 1
	}
	return 0
}
