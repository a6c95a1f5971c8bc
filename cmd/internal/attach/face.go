package attach

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"aslrescue/cmd/internal/report"
	"aslrescue/cmd/internal/wire"
	"aslrescue/tui/ask"
)

// Remote is an engine in another process.
//
// Goroutines: one while an engine that was lost is looked for, if Keep was called; it ends with Close.
type Remote struct {
	place      wire.Place
	tool, name string
	news       chan struct{} // holds one where something is new
	gone       chan struct{} // closed when no engine is looked for any more
	ctx        context.Context
	stop       context.CancelFunc

	mu     sync.Mutex
	now    *link
	before uint64                      // engines that were lost
	begin  func(context.Context) error // makes an engine; nil: none is looked for
}

// link is one engine, as far as it was heard.
type link struct {
	r      *Remote
	client *wire.Client
	state  ask.State
	faces  []wire.Face
	told   map[string]bool // topics of which something is known
	first  chan struct{}   // closed when something is known of all
	gone   chan struct{}
}

// Dial attaches to the engine of a place, and comes back when it is known how things stand. Where none runs it is wire.ErrNoEngine.
// Name is for the people at the other faces: the terminal.
func Dial(ctx context.Context, p wire.Place, tool, name string) (*Remote, error) {
	r := &Remote{place: p, tool: tool, name: name, news: make(chan struct{}, 1), gone: make(chan struct{})}
	r.ctx, r.stop = context.WithCancel(context.Background())
	if err := r.connect(ctx); err != nil {
		r.stop()
		return nil, err
	}
	return r, nil
}

func (r *Remote) connect(ctx context.Context) error {
	l := &link{r: r, told: map[string]bool{}, first: make(chan struct{}), gone: make(chan struct{})}
	c, err := wire.Dial(ctx, r.place, r.tool, r.name, wire.Ear{Tell: l.tell, Gone: l.lost})
	if err != nil {
		return err
	}
	select {
	case <-l.first:
	case <-l.gone:
		return wire.ErrNoEngine // it was about to end
	case <-ctx.Done():
		c.Close()
		return context.Cause(ctx)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-l.gone: // meanwhile
		return wire.ErrNoEngine
	case <-r.ctx.Done(): // Close came meanwhile
		go c.Close()
		return r.ctx.Err()
	default:
	}
	if r.now != nil {
		r.before++
	}
	l.client, r.now = c, l
	r.tellNews()
	return nil
}

// Keep looks for the next engine where this one is lost. Where it died without a word, begin makes one.
func (r *Remote) Keep(begin func(context.Context) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begin = begin
}

func (r *Remote) tellNews() {
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// tell is called by the one goroutine that reads.
func (l *link) tell(topic string, body json.RawMessage) {
	var st ask.State
	var faces []wire.Face
	into := map[string]any{topicLook: &st.Look, topicJob: &st.Job, topicLines: &st.Lines, topicMachine: &st.Machine, topicFaces: &faces}[topic]
	if into == nil || json.Unmarshal(body, into) != nil {
		return // a newer engine may say more; what cannot be read leaves things as they were
	}
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	defer l.r.tellNews()
	switch topic {
	case topicLook:
		l.state.Look = st.Look
	case topicJob:
		l.state.Job = st.Job
	case topicLines:
		l.state.Lines = st.Lines
	case topicMachine:
		l.state.Machine = st.Machine
	case topicFaces:
		l.faces = faces
	}
	if l.told[topic] = true; len(l.told) == topics {
		select {
		case <-l.first:
		default:
			close(l.first)
		}
	}
}

func (l *link) lost(why error) {
	r := l.r
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.tellNews()
	var ended *wire.EndedError
	died := false
	switch {
	case errors.As(why, &ended):
		l.state.Lost = "the engine has ended: " + ended.Why
	case why != nil && r.begin != nil:
		died, l.state.Lost = true, "it was killed or crashed; another is started. What was read is safe"
	case why != nil:
		l.state.Lost = "killed or crashed: start asl-intake again, it offers to go on. What was acknowledged is safe"
	default:
		l.state.Lost = "this face has left"
	}
	close(l.gone)
	switch {
	case r.now != l: // who dialled sees to it
	case r.begin == nil || why == nil:
		close(r.gone)
	default:
		go r.seek(died)
	}
}

// seek looks for an engine until there is one.
func (r *Remote) seek(died bool) {
	for wait := 200 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		select {
		case <-r.ctx.Done():
			close(r.gone)
			return
		case <-time.After(wait):
		}
		if r.find(died) == nil {
			return
		}
	}
}

func (r *Remote) find(died bool) error {
	ctx, cancel := context.WithTimeout(r.ctx, 20*time.Second)
	defer cancel()
	err := r.connect(ctx)
	if !died || !errors.Is(err, wire.ErrNoEngine) {
		return err
	}
	if err := r.begin(ctx); err != nil {
		r.mu.Lock()
		r.now.state.Lost = "another could not be started, and is tried again: " + err.Error()
		r.mu.Unlock()
		r.tellNews()
		return err
	}
	return r.connect(ctx)
}

// Gone is closed when the engine does not answer any more, and none is looked for.
func (r *Remote) Gone() <-chan struct{} { return r.gone }

// News gives something after State has changed.
func (r *Remote) News() <-chan struct{} { return r.news }

// State is how things stood when the engine last said so.
func (r *Remote) State() ask.State {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := r.now.state                 // every word that came is a value of its own, and nobody changes it
	st.Look.Version += r.before << 32 // another engine counts from the beginning
	for _, f := range slices.SortedFunc(slices.Values(r.now.faces), func(a, b wire.Face) int { return a.Number - b.Number }) {
		st.Faces = append(st.Faces, ask.Face{Where: f.Name, Self: f.Number == r.now.client.Engine().Face})
	}
	return st
}

// Close leaves; the engine goes on.
func (r *Remote) Close() error {
	r.stop()
	r.client().Close()
	return nil
}

func (r *Remote) client() *wire.Client {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now.client
}

// ask asks one thing. That the engine is gone is said as a person needs it.
func (r *Remote) ask(ctx context.Context, op string, in, out any) error {
	err := r.client().Ask(ctx, op, in, out)
	if errors.Is(err, wire.ErrGone) {
		return &report.Error{What: "ask the engine", Err: err, Means: "It was killed, or it crashed. What was acknowledged is safe.", Next: []string{"Start asl-intake again: it offers to go on."}}
	}
	return err
}

// reply is ask with a value for an answer.
func reply[R any](ctx context.Context, r *Remote, op string, in any) (R, error) {
	var out R
	err := r.ask(ctx, op, in, &out)
	return out, err
}

// The rest of ask.Engine: each asks what its name says.

// LookAgain looks again.
func (r *Remote) LookAgain(ctx context.Context) error { return r.ask(ctx, "look again", nil, nil) }

// Offers are the changes that can be approved.
func (r *Remote) Offers(ctx context.Context) ([]ask.Offer, error) {
	return reply[[]ask.Offer](ctx, r, "offers", nil)
}

// Answer gives or withholds consent.
func (r *Remote) Answer(ctx context.Context, a ask.Answer) (string, error) {
	return reply[string](ctx, r, "answer", a)
}

// Choices are what can be read.
func (r *Remote) Choices(ctx context.Context, place string) ([]ask.Choice, error) {
	return reply[[]ask.Choice](ctx, r, "choices", placeBody{place})
}

// Dir lists a directory.
func (r *Remote) Dir(ctx context.Context, path string) (ask.Listing, error) {
	return reply[ask.Listing](ctx, r, "dir", pathBody{path})
}

// Places are where the store is or could be.
func (r *Remote) Places(ctx context.Context) ([]ask.Place, error) {
	return reply[[]ask.Place](ctx, r, "places", nil)
}

// Folder says what a directory would be as a place.
func (r *Remote) Folder(ctx context.Context, path string) (ask.Place, error) {
	return reply[ask.Place](ctx, r, "folder", pathBody{path})
}

// MakePlan makes a plan.
func (r *Remote) MakePlan(ctx context.Context, w ask.Want) (ask.Plan, error) {
	return reply[ask.Plan](ctx, r, "plan", w)
}

// SavePlan writes the plan file.
func (r *Remote) SavePlan(ctx context.Context, hash, file string) error {
	return r.ask(ctx, "save plan", saveBody{hash, file}, nil)
}

// Unfinished are intakes that can go on.
func (r *Remote) Unfinished(ctx context.Context, place string) ([]ask.Unfinished, error) {
	return reply[[]ask.Unfinished](ctx, r, "unfinished", placeBody{place})
}

// Start does the plan.
func (r *Remote) Start(ctx context.Context, hash string) error {
	return r.ask(ctx, "start", saveBody{Hash: hash}, nil)
}

// Do steers the job.
func (r *Remote) Do(ctx context.Context, v ask.Verb, source string) error {
	return r.ask(ctx, "do", doBody{v, source}, nil)
}

// Leave ends the session.
func (r *Remote) Leave(ctx context.Context, powerOff bool) error {
	return r.ask(ctx, "leave", leaveBody{powerOff}, nil)
}

// Snapshots lists the store's.
func (r *Remote) Snapshots(ctx context.Context) ([]ask.Snapshot, error) {
	return reply[[]ask.Snapshot](ctx, r, "snapshots", nil)
}

// Browse lists a directory of a snapshot.
func (r *Remote) Browse(ctx context.Context, snapshot uint64, path string) ([]ask.DirEntry, error) {
	return reply[[]ask.DirEntry](ctx, r, "browse", browseBody{snapshot, path})
}

// Segments lists the store's.
func (r *Remote) Segments(ctx context.Context) ([]ask.Segment, error) {
	return reply[[]ask.Segment](ctx, r, "segments", nil)
}

// Tool runs a command of asl-admin or asl-debug.
func (r *Remote) Tool(ctx context.Context, program string, args ...string) (ask.Printed, error) {
	return reply[ask.Printed](ctx, r, "tool", toolBody{program, args})
}
