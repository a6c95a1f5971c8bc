package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"aslrescue/cmd/internal/report"
	"aslrescue/engine/event"
)

// Limits bound what faces can use up. The zero values are those of docs/engine.md.
type Limits struct {
	Faces   int           // at once; 0 is 16
	Asks    int           // of one face without an answer; 0 is 32
	Waiting int           // bytes of answers that one face has not read; 0 is 16 MiB
	Hello   time.Duration // until a face has said hello; 0 is 10 s
	Stuck   time.Duration // until a face that reads nothing is let go; 0 is 10 min
}

func (l *Limits) fill() {
	set := func(p *int, n int) {
		if *p == 0 {
			*p = n
		}
	}
	set(&l.Faces, 16)
	set(&l.Asks, 32)
	set(&l.Waiting, 16<<20)
	if l.Hello == 0 {
		l.Hello = 10 * time.Second
	}
	if l.Stuck == 0 {
		l.Stuck = 10 * time.Minute
	}
}

// Face is one that is attached.
type Face struct {
	Number int    `json:"face"`
	Name   string `json:"name"`
	PID    int    `json:"pid,omitempty"`
}

// Handler does what a face asks. It is called in a goroutine for each ask; ctx ends when the face has gone or the server ends.
type Handler func(ctx context.Context, from Face, op string, body json.RawMessage) (any, error)

// Server is the engine's side.
type Server struct {
	handle  Handler
	limits  Limits
	tool    string
	changed func() // faces came or went; nil is nobody

	mu     sync.Mutex
	faces  map[*faceConn]bool
	next   int
	topics map[string][]byte
	order  []string
	closed bool
	wg     sync.WaitGroup // readers and writers
	doing  sync.WaitGroup // asks
}

// NewServer makes a Server. changed, if not nil, is called after faces came or went.
func NewServer(tool string, limits Limits, handle Handler, changed func()) *Server {
	limits.fill()
	return &Server{handle: handle, limits: limits, tool: tool, changed: changed, faces: map[*faceConn]bool{}, topics: map[string][]byte{}}
}

// faceConn is one connection.
type faceConn struct {
	s    *Server
	conn *net.UnixConn
	out  *outbox
	asks chan struct{} // a token for each open ask

	face     Face // under the server's lock, as the next
	welcomed bool // hello was said: from now on it is told what happens
}

// Serve attaches faces until l is closed.
func (s *Server) Serve(l *Listener) error {
	for {
		conn, err := l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			if t, ok := err.(net.Error); ok && t.Timeout() || errors.Is(err, os.ErrDeadlineExceeded) {
				continue
			}
			return err
		}
		if err := peer(conn); err != nil {
			_ = conn.Close() // who it is not for is told nothing
			continue
		}
		s.attach(conn)
	}
}

func (s *Server) attach(conn *net.UnixConn) {
	f := &faceConn{s: s, conn: conn, asks: make(chan struct{}, s.limits.Asks)}
	f.out = newOutbox(func(d time.Duration) { _ = conn.SetWriteDeadline(time.Now().Add(d)) }) // a closed connection needs none
	s.mu.Lock()
	switch {
	case s.closed:
		s.mu.Unlock()
		_ = conn.Close()
		return
	case len(s.faces) >= s.limits.Faces:
		s.mu.Unlock()
		_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = conn.Write(bye(fmt.Sprintf("%d faces are attached, and no more can be", s.limits.Faces)))
		_ = conn.Close()
		return
	}
	s.next++
	f.face.Number = s.next
	s.faces[f] = true
	s.wg.Add(2)
	s.mu.Unlock()
	go f.write()
	go f.read()
}

func bye(why string) []byte {
	line, _ := Encode(Frame{Type: Bye, Why: why}, MaxTell) // strings only
	return line
}

// write sends what waits, for as long as the face takes it.
func (f *faceConn) write() {
	defer f.s.wg.Done()
	defer f.leave()
	for {
		batch, last := f.out.take()
		for _, line := range batch {
			f.out.sending(f.s.limits.Stuck)
			if _, err := f.conn.Write(line); err != nil {
				return
			}
		}
		if last {
			return
		}
	}
}

// leave ends the connection and forgets the face.
func (f *faceConn) leave() {
	_ = f.conn.Close() // what could not be sent is of no use any more
	f.out.end(nil)
	f.s.mu.Lock()
	delete(f.s.faces, f)
	f.s.mu.Unlock()
	f.s.noteChange()
}

func (s *Server) noteChange() {
	if s.changed != nil {
		s.changed()
	}
}

// read does what the face asks until it goes or breaks the rules, which it is told.
func (f *faceConn) read() {
	defer f.s.wg.Done()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	why := f.converse(ctx)
	if errors.Is(why, io.EOF) || errors.Is(why, net.ErrClosed) {
		f.out.end(nil)
		return
	}
	f.out.end(bye(why.Error()))
}

func (f *faceConn) converse(ctx context.Context) error {
	_ = f.conn.SetReadDeadline(time.Now().Add(f.s.limits.Hello))
	f.out.answer(f.hello())
	in := newLines(f.conn, MaxAsk)
	fr, err := hear(in)
	if err != nil {
		return err
	}
	if fr.Type != Hello {
		return fmt.Errorf("said %q before hello", fr.Type)
	}
	if _, err := common(fr.Protocol); err != nil {
		return err
	}
	_ = f.conn.SetReadDeadline(time.Time{})
	f.welcome(fr)
	f.s.noteChange()
	for {
		fr, err := hear(in)
		if err != nil {
			return err
		}
		if fr.Type != Asked {
			continue // a newer face may say more
		}
		select {
		case f.asks <- struct{}{}:
		default:
			return fmt.Errorf("asked for more than %d things at once", cap(f.asks))
		}
		f.s.doing.Go(func() { f.do(ctx, fr) })
	}
}

// hear waits for the next thing that the face says.
func hear(in *lines) (Frame, error) {
	line, err := in.next()
	if err != nil {
		return Frame{}, readError(err)
	}
	return Decode(line)
}

// readError says what was wrong with what came; that the face went away is nothing wrong.
func readError(err error) error {
	switch {
	case errors.Is(err, ErrTooLong):
		return fmt.Errorf("sent a line of more than %d bytes", MaxAsk)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("did not say hello in time")
	}
	return io.EOF
}

func (f *faceConn) hello() []byte {
	line, _ := Encode(Frame{Type: Hello, Protocol: []int{Oldest, Newest}, Tool: f.s.tool, PID: os.Getpid(), Face: f.face.Number}, MaxTell) // strings and numbers only
	return line
}

// welcome makes the newcomer see what all see: the newest word on every topic, and from then on what happens.
func (f *faceConn) welcome(hello Frame) {
	s := f.s
	s.mu.Lock()
	defer s.mu.Unlock()
	f.face.Name, f.face.PID = text(hello.Name, 64), hello.PID
	for _, t := range s.order {
		f.out.tell(t, s.topics[t])
	}
	f.welcomed = true
}

// do answers one ask.
func (f *faceConn) do(ctx context.Context, ask Frame) {
	body, err := f.call(ctx, ask)
	a := Frame{Type: Answer, ID: ask.ID}
	if err == nil && body != nil {
		a.Body, err = json.Marshal(body)
	}
	var line []byte
	if err == nil {
		line, err = Encode(a, MaxTell)
	}
	if err != nil {
		line, err = Encode(Frame{Type: Answer, ID: ask.ID, Error: failureOf(err)}, MaxTell)
	}
	if err != nil { // not even the error fits
		line, _ = Encode(Frame{Type: Answer, ID: ask.ID, Error: &Failure{Error: "the answer is too long to be told", Exit: report.Failed}}, MaxTell)
	}
	<-f.asks
	if n := f.out.answer(line); n > f.s.limits.Waiting {
		f.out.end(bye(fmt.Sprintf("has not read %d bytes of answers", n)))
	}
}

// call keeps a mistake in one answer from ending the engine, and with it the intake.
func (f *faceConn) call(ctx context.Context, ask Frame) (body any, err error) {
	defer func() {
		if p := recover(); p != nil {
			body, err = nil, fmt.Errorf("%s: %w: %v", ask.Op, report.ErrInternal, p)
		}
	}()
	return f.s.handle(ctx, f.face, ask.Op, ask.Body)
}

// text is a name as it may be shown: short and printable.
func text(s string, most int) string {
	s = event.Printable(s)
	if r := []rune(s); len(r) > most {
		return string(r[:most])
	}
	return s
}

// Tell tells every face, and those that come later, the newest word on a topic.
func (s *Server) Tell(topic string, body any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	line, err := Encode(Frame{Type: Tell, Topic: topic, Body: b}, MaxTell)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.topics[topic]; !known {
		s.order = append(s.order, topic)
	}
	s.topics[topic] = line
	for f := range s.faces {
		if f.welcomed {
			f.out.tell(topic, line)
		}
	}
	return nil
}

// Faces are those attached.
func (s *Server) Faces() []Face {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Face
	for f := range s.faces {
		if f.welcomed {
			all = append(all, f.face)
		}
	}
	return all
}

// Close says bye to every face and waits until they are let go, and a moment for what was asked: of reading a dead disk nobody knows
// when it ends. The listener is closed by who made it.
func (s *Server) Close(why string) {
	s.mu.Lock()
	s.closed = true
	for f := range s.faces {
		f.out.end(bye(why))
	}
	s.mu.Unlock()
	s.wg.Wait()
	done := make(chan struct{})
	go func() { s.doing.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(farewell):
	}
}
