package probe

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"aslrescue/detect"
	"aslrescue/detect/zfslabel"
)

// Wish is what to look for.
type Wish struct {
	Policy   detect.Policy
	StateDir string
	CA       string // file with further certificates of authorities; empty: none
	Proxy    string // http://HOST:PORT that leads to the endpoint; empty: none

	PoolsOnly bool // pools, disks and what lies on them, and nothing else

	// Patience is how long a probe may take where nobody waits for a table, and what is late is worse than what is slow; 0: Limit.
	Patience time.Duration
}

// Update is how things stand: facts, and what follows from them.
type Update struct {
	Facts    detect.Facts
	Policy   detect.Policy
	Decision detect.Decision
	Done     bool // nothing is late any more
}

// Looker looks at a machine for as long as its context lives. Its results stream in: what is late is marked so and replaced
// when it comes. It notices disks and network cables that are plugged in or out, and mounts, and looks at those again.
type Looker struct {
	updates chan Update
	wishes  chan Wish
	done    chan struct{}
}

// Start begins to look.
func Start(ctx context.Context, m *Machine, w Wish) *Looker { return start(ctx, m, w, true) }

func start(ctx context.Context, m *Machine, w Wish, watch bool) *Looker {
	l := &Looker{updates: make(chan Update, 1), wishes: make(chan Wish), done: make(chan struct{})}
	lp := &loop{m: m, wish: w, out: l.updates, results: make(chan result, 64), entries: map[string]*entry{}}
	go func() {
		defer close(l.done)
		defer close(l.updates)
		lp.run(ctx, l.wishes, watch)
	}()
	return l
}

// Updates gives the newest state of things; older ones that nobody took are left out. It is closed when the context ends.
func (l *Looker) Updates() <-chan Update { return l.updates }

// Again looks at everything anew, by a wish that may be another.
func (l *Looker) Again(w Wish) {
	select {
	case l.wishes <- w:
	case <-l.done:
	}
}

// Once looks, and gives how things stand when nothing is late any more: after Limit at most, or Slowest on a machine that is that slow.
func Once(ctx context.Context, m *Machine, w Wish) (Update, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for u := range start(ctx, m, w, false).Updates() {
		if u.Done {
			return u, nil
		}
	}
	return Update{}, context.Cause(ctx)
}

// NetworkWait is how long an unattended run waits for a network that is not there yet.
const NetworkWait = 60 * time.Second

// networkAgain is how long to wait before asking an endpoint again that did not answer.
const networkAgain = 3 * time.Second

// WaitForNetwork looks until there is a mode that needs no person, or until the time is up. At boot the network is often not there
// yet: as long as an endpoint is wanted and does not answer, it is asked again. Where the network could change nothing, it does not wait.
func WaitForNetwork(ctx context.Context, m *Machine, w Wish, limit time.Duration) (Update, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	up := m.Clock.After(limit)
	l := start(ctx, m, w, true)
	var last Update
	var again <-chan time.Time
	for {
		select {
		case u, ok := <-l.Updates():
			if !ok {
				return last, context.Cause(ctx)
			}
			last = u
			if u.Done && (u.Decision.Mode != detect.Operator || !networkMissing(u)) {
				return u, nil
			}
			again = nil
			if u.Done {
				again = m.Clock.After(networkAgain)
			}
		case <-again:
			again = nil
			l.Again(w)
		case <-up:
			return last, nil
		}
	}
}

// networkMissing tells whether an endpoint is wanted that could not be reached, so that waiting may help.
func networkMissing(u Update) bool {
	if host, _ := endpointHost(u.Policy.Endpoint); host == "" || u.Policy.Mode == "local" {
		return false
	}
	e := u.Facts.Endpoint
	return e == nil || e.Stage == detect.AtName || e.Stage == detect.AtConnect
}

// entry is a probe and what it gave.
type entry struct {
	detect.Probe
	apply  finding // nil: nothing
	of     string  // which disk, as it was then
	serial int     // of the start whose result counts
	tries  int
}

// result is what a probe gives: something that it saw, or that it ended.
type result struct {
	name   string
	serial int
	ended  bool
	err    error
	apply  finding
	take   func(*loop) // into what only the loop owns
}

// loop owns all that was seen. Only its goroutine touches it.
type loop struct {
	m       *Machine
	wish    Wish
	out     chan Update
	results chan result
	ctx     context.Context

	entries  map[string]*entry
	order    []string
	serial   int
	list     []detect.Disk
	peeked   map[string]diskSeen
	listed   []detect.Pool
	imported []detect.Pool
	plugged  string
	linked   string
	mounted  string

	began atomic.Int64 // how long a process took to start, in nanoseconds; below 0: it has not yet
}

// spinUp is how long after a disk did not answer it is asked once more: it may have been spinning up.
const spinUp = 15 * time.Second

const pollEvery = time.Second

func (l *loop) run(ctx context.Context, wishes <-chan Wish, watch bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.ctx = ctx
	l.measure()
	l.everything()
	l.publish()
	var tick <-chan time.Time
	if watch {
		tick = l.m.Clock.After(pollEvery)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case w := <-wishes:
			l.wish = w
			l.everything()
		case r := <-l.results:
			l.take(r)
			for more := true; more; {
				select {
				case r := <-l.results:
					l.take(r)
				default:
					more = false
				}
			}
		case <-tick:
			tick = l.m.Clock.After(pollEvery)
			if !l.poll() {
				continue
			}
		}
		l.publish()
	}
}

// measure finds out how fast this machine is, beside all else that goes on: it starts a child that has nothing to do.
func (l *loop) measure() {
	m, ctx, began := l.m, l.ctx, l.m.Clock.Now()
	l.began.Store(-1)
	go func() {
		if children(ctx, m, Request{}, func(Peeked) {}) == nil {
			l.began.Store(int64(m.Clock.Now().Sub(began)))
		}
	}()
}

// everything starts all probes anew.
func (l *loop) everything() {
	l.peeked, l.list = map[string]diskSeen{}, nil
	for name := range l.entries {
		if strings.HasPrefix(name, "disk ") || strings.HasPrefix(name, "smart ") {
			l.drop(name)
		}
	}
	m, w := l.m, l.wish
	l.plugged, l.linked, l.mounted = m.pluggedIn(), m.linkedUp(), m.text("/proc/self/mountinfo")
	l.disks()
	l.start("zfs", func(ctx context.Context) (finding, error) { return zfs(ctx, m) })
	l.start("stack", func(ctx context.Context) (finding, error) { return stack(ctx, m) })
	l.start("host", func(ctx context.Context) (finding, error) { return host(ctx, m) })
	if w.PoolsOnly {
		return
	}
	l.start("console", func(ctx context.Context) (finding, error) { return screen(ctx, m) })
	l.start("memory", func(ctx context.Context) (finding, error) { return memory(ctx, m) })
	l.start("power", func(ctx context.Context) (finding, error) { return power(ctx, m) })
	l.start("state", func(ctx context.Context) (finding, error) { return state(ctx, m, w) })
	l.network()
	l.start("store", func(ctx context.Context) (finding, error) { return store(ctx, m, w) })
}

// network starts what has to do with it.
func (l *loop) network() {
	m, w := l.m, l.wish
	l.start("network", func(ctx context.Context) (finding, error) { return network(ctx, m) })
	l.start("clock", func(ctx context.Context) (finding, error) { return clock(ctx, m) })
	l.start("dns", func(ctx context.Context) (finding, error) { return dns(ctx, m, w) })
	l.start("tls-roots", func(ctx context.Context) (finding, error) { return tlsRoots(ctx, m, w) })
	if w.Policy.Endpoint == "" {
		l.drop("endpoint")
		return
	}
	l.start("endpoint", func(ctx context.Context) (finding, error) { return endpoint(ctx, m, w) })
}

// disks lists disks, and starts looking at those that are new or changed. Pools are looked at again with them.
func (l *loop) disks() {
	m := l.m
	l.launch("disks", func(ctx context.Context, give func(result)) error {
		list := m.disks()
		give(result{take: func(l *loop) { l.found(list) }})
		return nil
	})
	if m.zfsLoaded() && m.tool("zpool") != "" {
		l.launch("zpool list", func(ctx context.Context, give func(result)) error {
			p, err := zpoolList(ctx, m)
			give(result{take: func(l *loop) { l.imported = p }})
			return err
		})
		l.launch("zpool import", func(ctx context.Context, give func(result)) error {
			p, err := zpoolImport(ctx, m)
			give(result{take: func(l *loop) { l.listed = p }})
			return err
		})
		return
	}
	l.listed, l.imported = nil, nil
	l.drop("zpool list")
	l.drop("zpool import")
}

// found takes a new list of disks.
func (l *loop) found(list []detect.Disk) {
	keep := map[string]bool{}
	for _, d := range list {
		id := fmt.Sprintf("%s %d %s %s %s %d", d.Serial, d.Size, d.WWN, d.State, l.m.text("/sys/block/"+d.Name+"/diskseq"), len(d.Parts))
		for _, name := range []string{"disk " + d.Name, "smart " + d.Name} {
			keep[name] = true
			if e := l.entries[name]; e == nil || e.of != id {
				l.look(name, id, d, 1)
			}
		}
	}
	for name := range l.entries {
		if (strings.HasPrefix(name, "disk ") || strings.HasPrefix(name, "smart ")) && !keep[name] {
			_, disk, _ := strings.Cut(name, " ")
			delete(l.peeked, disk)
			l.drop(name)
		}
	}
	l.list = list
}

// look starts one of the two probes of a disk.
func (l *loop) look(name, id string, d detect.Disk, try int) {
	m := l.m
	if strings.HasPrefix(name, "disk ") {
		delete(l.peeked, d.Name)
		l.launch(name, func(ctx context.Context, give func(result)) error {
			return peekDisk(ctx, m, d, func(got map[string]Peeked) {
				give(result{take: func(l *loop) { l.peeked[d.Name] = diskSeen{d.Name, got} }})
			})
		})
	} else {
		l.launch(name, func(ctx context.Context, give func(result)) error {
			s, err := smart(ctx, m, d)
			give(result{apply: func(f *detect.Facts) {
				for i := range f.Disks {
					if f.Disks[i].Name == d.Name {
						f.Disks[i].Smart = s
					}
				}
			}})
			return err
		})
	}
	l.entries[name].of, l.entries[name].tries = id, try
}

func (l *loop) start(name string, run func(context.Context) (finding, error)) {
	l.launch(name, func(ctx context.Context, give func(result)) error {
		f, err := run(ctx)
		give(result{apply: f})
		return err
	})
}

// launch starts a probe. What it gives after its time, or after it was started again, does not count; nobody waits for it.
func (l *loop) launch(name string, run func(ctx context.Context, give func(result)) error) {
	l.serial++
	e := l.entries[name]
	if e == nil {
		e = &entry{}
		l.entries[name] = e
		l.order = append(l.order, name)
	}
	e.Probe, e.serial = detect.Probe{Name: name, State: detect.Looking}, l.serial
	serial, outer, results := l.serial, l.ctx, l.results
	send := func(r result) {
		r.name, r.serial = name, serial
		select {
		case results <- r:
		case <-outer.Done():
		}
	}
	ctx, cancel := context.WithCancelCause(outer)
	patience := cmp.Or(l.wish.Patience, Limit)
	up := l.m.Clock.After(patience)
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, send) }()
	go func() {
		defer cancel(nil)
		select {
		case err := <-ended:
			send(result{ended: true, err: err})
		case <-up:
			after := max(patience, limit(time.Duration(l.began.Load())))
			if more := after - patience; more > 0 {
				select {
				case err := <-ended:
					send(result{ended: true, err: err})
					return
				case <-l.m.Clock.After(more):
				case <-outer.Done():
				}
			}
			cancel(late(after))
			send(result{ended: true, err: late(after)})
		case <-outer.Done():
		}
	}()
}

func (l *loop) drop(name string) {
	delete(l.entries, name)
	l.order = slices.DeleteFunc(l.order, func(n string) bool { return n == name })
}

func (l *loop) take(r result) {
	if r.name == "" {
		r.take(l)
		return
	}
	e := l.entries[r.name]
	if e == nil || e.serial != r.serial || e.State == detect.Failed {
		return
	}
	if r.apply != nil {
		e.apply = r.apply
	}
	if r.take != nil {
		r.take(l)
	}
	if r.ended {
		e.State = detect.Done
		if r.err != nil {
			e.State, e.Why = detect.Failed, r.err.Error()
			l.retry(e, r.err)
		}
	}
}

// retry asks a disk that did not answer once more, later.
func (l *loop) retry(e *entry, err error) {
	name, isDisk := strings.CutPrefix(e.Name, "disk ")
	if !isDisk || e.tries > 1 || !isLate(err) {
		return
	}
	serial, outer, results := e.serial, l.ctx, l.results
	wait := l.m.Clock.After(spinUp)
	go func() {
		select {
		case <-wait:
		case <-outer.Done():
			return
		}
		r := result{take: func(l *loop) {
			e := l.entries["disk "+name]
			i := slices.IndexFunc(l.list, func(d detect.Disk) bool { return d.Name == name })
			if e != nil && e.serial == serial && i >= 0 {
				l.look(e.Name, e.of, l.list[i], e.tries+1)
			}
		}}
		select {
		case results <- r:
		case <-outer.Done():
		}
	}()
}

// poll looks whether something was plugged in or out, or mounted, and starts what has to do with it. What is mounted is looked at
// without reading a disk.
func (l *loop) poll() bool {
	m, w := l.m, l.wish
	plugged, linked, mounted := m.pluggedIn(), m.linkedUp(), m.text("/proc/self/mountinfo")
	disks, links, mounts := plugged != l.plugged, linked != l.linked, mounted != l.mounted
	l.plugged, l.linked, l.mounted = plugged, linked, mounted
	if disks {
		l.disks()
	}
	if disks || mounts {
		l.start("stack", func(ctx context.Context) (finding, error) { return stack(ctx, m) })
	}
	if mounts && !w.PoolsOnly {
		l.start("store", func(ctx context.Context) (finding, error) { return store(ctx, m, w) })
	}
	if links && !w.PoolsOnly {
		l.network()
	}
	return disks || links || mounts
}

// publish puts together what was seen until now.
func (l *loop) publish() {
	u := Update{Facts: l.facts(), Policy: l.wish.Policy}
	u.Decision = detect.Decide(u.Facts, u.Policy)
	u.Done = len(u.Decision.Late) == 0
	select {
	case <-l.out: // nobody took the last one
	default:
	}
	l.out <- u
}

// facts are made anew each time, so that what was given away is never changed.
func (l *loop) facts() detect.Facts {
	f := detect.Facts{Version: detect.FactsVersion, Tool: l.m.Tool}
	f.Host.UID = l.m.UID
	f.Disks = slices.Clone(l.list)
	for i := range f.Disks {
		f.Disks[i].Parts = slices.Clone(f.Disks[i].Parts)
		f.Disks[i].After = l.m.writes(f.Disks[i].Name)
	}
	for _, name := range l.order {
		if e := l.entries[name]; e.apply != nil && e.State != detect.Failed {
			e.apply(&f)
		}
	}
	var seen []zfslabel.Seen
	for _, d := range f.Disks {
		p := l.peeked[d.Name]
		p.apply(&f)
		seen = append(seen, p.zfs(d)...)
	}
	disk := func(device string) string {
		for _, d := range f.Disks {
			name, _, _ := strings.Cut(device, " ")
			if name == d.Path || slices.ContainsFunc(d.Parts, func(p detect.Part) bool { return p.Path == name }) {
				return d.Name
			}
		}
		return ""
	}
	f.Pools = pools(seen, l.listed, l.imported, disk)
	for _, name := range l.order {
		f.Probes = append(f.Probes, l.entries[name].Probe)
	}
	f.Probes = append(f.Probes, l.pools())
	return f
}

// pools is the probe that waits for all that pools are seen by.
func (l *loop) pools() detect.Probe {
	p := detect.Probe{Name: "pools", State: detect.Done}
	for _, name := range l.order {
		e := l.entries[name]
		if (name == "disks" || name == "zpool list" || name == "zpool import" || strings.HasPrefix(name, "disk ")) && e.State == detect.Looking {
			p.State = detect.Looking
			return p
		}
	}
	if e := l.entries["zpool list"]; e != nil && e.State == detect.Failed {
		p.State, p.Why = detect.Failed, "zpool list: "+e.Why
	}
	return p
}
