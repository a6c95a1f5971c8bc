// Package attach serves an ask.Engine to faces in other processes, and is one in theirs. docs/engine.md is what passes between them.
//
// Goroutines: Serve starts one that tells faces how things stand, and ends it; a face has those of its wire.Client.
package attach

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"aslrescue/cmd/internal/report"
	"aslrescue/cmd/internal/wire"
	"aslrescue/tui/ask"
)

// every is how often faces are told what moves; news comes sooner, and never more often than soonest.
const (
	every   = 250 * time.Millisecond
	soonest = 50 * time.Millisecond
)

// The topics.
const (
	topicLook    = "look"
	topicJob     = "job"
	topicLines   = "lines"
	topicFaces   = "faces"
	topicMachine = "machine"

	topics = 5
)

type faceKey struct{}

// FaceOf names the face that asks, for what is told to the others; empty where none does.
func FaceOf(ctx context.Context) string {
	f, _ := ctx.Value(faceKey{}).(wire.Face)
	return f.Name
}

// Options say how to serve.
type Options struct {
	Tool   string
	Limits wire.Limits
	// Attached is called with the number of faces, after faces came or went. It may be nil.
	Attached func(int)
}

// Server tells faces how an engine stands, and does what they ask.
type Server struct {
	eng  ask.Engine
	wire *wire.Server
	o    Options
	poke chan struct{}

	mu   sync.Mutex
	seen map[string][]byte // what was told last, by topic
	look uint64            // version of what was told
}

// NewServer makes a Server of an engine.
func NewServer(eng ask.Engine, o Options) *Server {
	s := &Server{eng: eng, o: o, poke: make(chan struct{}, 1), seen: map[string][]byte{}}
	s.wire = wire.NewServer(o.Tool, o.Limits, s.handle, s.changed)
	return s
}

// Serve serves until l is closed.
func (s *Server) Serve(l *wire.Listener) error {
	s.tell(s.eng.State())
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.tellAlways(ctx) })
	err := s.wire.Serve(l)
	cancel()
	wg.Wait()
	return err
}

// Close says bye to every face, with the last word on how things stand.
func (s *Server) Close(why string) {
	s.tell(s.eng.State())
	s.wire.Close(why)
}

func (s *Server) changed() {
	if s.o.Attached != nil {
		s.o.Attached(len(s.wire.Faces()))
	}
	s.Poke()
}

// Poke says that something is new and need not wait its turn.
func (s *Server) Poke() {
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

func (s *Server) tellAlways(ctx context.Context) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-s.poke:
		}
		s.tell(s.eng.State())
		select {
		case <-ctx.Done():
			return
		case <-time.After(soonest):
		}
	}
}

// tell says what is not as it was said last. What was found is long and seldom new; its version says when.
func (s *Server) tell(st ask.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen[topicLook] == nil || st.Look.Version != s.look {
		s.look = st.Look.Version
		s.say(topicLook, st.Look)
	}
	s.say(topicLines, st.Lines) // before the job: who sees it ended has been told why
	s.say(topicJob, st.Job)
	s.say(topicMachine, st.Machine)
	s.say(topicFaces, s.wire.Faces())
}

func (s *Server) say(topic string, v any) {
	b, err := json.Marshal(v)
	if err != nil || bytes.Equal(b, s.seen[topic]) {
		return
	}
	if s.wire.Tell(topic, json.RawMessage(b)) == nil { // what is too long to be told is left as it was
		s.seen[topic] = b
	}
}

// The bodies of asks that have more than one value, or none of their own.
type (
	placeBody struct {
		Place string `json:"place"`
	}
	pathBody struct {
		Path string `json:"path"`
	}
	saveBody struct {
		Hash string `json:"hash"`
		File string `json:"file"`
	}
	doBody struct {
		Verb   ask.Verb `json:"verb"`
		Source string   `json:"source,omitempty"`
	}
	leaveBody struct {
		PowerOff bool `json:"power_off"`
	}
	browseBody struct {
		Snapshot uint64 `json:"snapshot"`
		Path     string `json:"path"`
	}
	toolBody struct {
		Program string   `json:"program"`
		Args    []string `json:"args"`
	}
)

// with reads the body of an ask and does it.
func with[B, R any](body json.RawMessage, do func(B) (R, error)) (any, error) {
	var b B
	if len(body) > 0 {
		d := json.NewDecoder(bytes.NewReader(body))
		if err := d.Decode(&b); err != nil {
			return nil, &report.Error{What: "read what a face asks", Err: err, Code: report.Usage}
		}
	}
	r, err := do(b)
	if err != nil {
		return nil, err
	}
	return r, nil
}

// done is the answer to what has none.
type done struct{}

func (s *Server) handle(ctx context.Context, from wire.Face, op string, body json.RawMessage) (any, error) {
	ctx = context.WithValue(ctx, faceKey{}, from)
	defer s.Poke()
	e := s.eng
	switch op {
	case "look again":
		return done{}, e.LookAgain(ctx)
	case "offers":
		return with(body, func(struct{}) ([]ask.Offer, error) { return e.Offers(ctx) })
	case "answer":
		return with(body, func(a ask.Answer) (string, error) { return e.Answer(ctx, a) })
	case "choices":
		return with(body, func(b placeBody) ([]ask.Choice, error) { return e.Choices(ctx, b.Place) })
	case "dir":
		return with(body, func(b pathBody) (ask.Listing, error) { return e.Dir(ctx, b.Path) })
	case "places":
		return with(body, func(struct{}) ([]ask.Place, error) { return e.Places(ctx) })
	case "folder":
		return with(body, func(b pathBody) (ask.Place, error) { return e.Folder(ctx, b.Path) })
	case "plan":
		return with(body, func(w ask.Want) (ask.Plan, error) { return e.MakePlan(ctx, w) })
	case "save plan":
		return with(body, func(b saveBody) (done, error) { return done{}, e.SavePlan(ctx, b.Hash, b.File) })
	case "unfinished":
		return with(body, func(b placeBody) ([]ask.Unfinished, error) { return e.Unfinished(ctx, b.Place) })
	case "start":
		return with(body, func(b saveBody) (done, error) { return done{}, e.Start(ctx, b.Hash) })
	case "do":
		return with(body, func(b doBody) (done, error) { return done{}, e.Do(ctx, b.Verb, b.Source) })
	case "leave":
		return with(body, func(b leaveBody) (done, error) { return done{}, e.Leave(ctx, b.PowerOff) })
	case "snapshots":
		return with(body, func(struct{}) ([]ask.Snapshot, error) { return e.Snapshots(ctx) })
	case "browse":
		return with(body, func(b browseBody) ([]ask.DirEntry, error) { return e.Browse(ctx, b.Snapshot, b.Path) })
	case "segments":
		return with(body, func(struct{}) ([]ask.Segment, error) { return e.Segments(ctx) })
	case "tool":
		return with(body, func(b toolBody) (ask.Printed, error) { return e.Tool(ctx, b.Program, b.Args...) })
	}
	return nil, &report.Error{Err: fmt.Errorf("%q is nothing that this engine does", op), Code: report.Usage,
		Means: "The face is of another version than the engine.", Next: []string{"Leave this face, and start asl-intake again after the engine has ended."}}
}
