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
)

// ErrGone means that the engine went away without a word: it was killed, or it crashed.
var ErrGone = errors.New("the engine is gone")

// EndedError is the reason that the engine gave when it let this face go.
type EndedError struct{ Why string }

func (e *EndedError) Error() string { return "the engine says bye: " + e.Why }

// Ear is told what the engine says unasked, in one goroutine. What it does not return from, holds up this face and nobody else. Nil
// functions leave out what they are for.
type Ear struct {
	Tell func(topic string, body json.RawMessage)
	Gone func(why error) // the last call: ErrGone, *EndedError, or nil after Close
}

// Client is a face's side.
type Client struct {
	conn   *net.UnixConn
	ear    Ear
	engine Frame // its hello

	sending sync.Mutex // whole lines only

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan Frame
	over    error // why nothing comes any more
	closing bool
	done    chan struct{}
}

// Dial attaches to the engine of a place. Where none runs it is ErrNoEngine.
func Dial(ctx context.Context, p Place, tool, name string, ear Ear) (*Client, error) {
	conn, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	c := &Client{conn: conn, ear: ear, waiting: map[uint64]chan Frame{}, done: make(chan struct{})}
	in := newLines(conn, MaxTell)
	if err := c.greet(ctx, in, tool, name); err != nil {
		_ = conn.Close() // the first error is the one to tell
		return nil, err
	}
	go c.read(in)
	return c, nil
}

func (c *Client) greet(ctx context.Context, in *lines, tool, name string) error {
	limit, ok := ctx.Deadline()
	if !ok {
		limit = time.Now().Add(10 * time.Second)
	}
	_ = c.conn.SetDeadline(limit)
	line, err := in.next()
	if errors.Is(err, io.EOF) {
		return ErrNoEngine // it was about to end
	}
	if err != nil {
		return fmt.Errorf("the engine says nothing: %w", err)
	}
	f, err := Decode(line)
	switch {
	case err != nil:
		return err
	case f.Type == Bye:
		return &EndedError{f.Why}
	case f.Type != Hello:
		return fmt.Errorf("the engine began with %q", f.Type)
	}
	if _, err := common(f.Protocol); err != nil {
		return fmt.Errorf("%w: the engine is %s", err, f.Tool)
	}
	c.engine = f
	if err := c.send(Frame{Type: Hello, Protocol: []int{Oldest, Newest}, Tool: tool, Name: name, PID: os.Getpid()}); err != nil {
		return err
	}
	return c.conn.SetDeadline(time.Time{})
}

// Engine is the hello of the engine: its tool, its process, and the number of this face.
func (c *Client) Engine() Frame { return c.engine }

func (c *Client) send(f Frame) error {
	line, err := Encode(f, MaxAsk)
	if err != nil {
		return err
	}
	c.sending.Lock()
	defer c.sending.Unlock()
	_, err = c.conn.Write(line)
	return err
}

func (c *Client) read(in *lines) {
	why := c.listen(in)
	c.mu.Lock()
	if c.closing {
		why = nil
	}
	c.over = why
	if why == nil {
		c.over = net.ErrClosed
	}
	c.mu.Unlock()
	_ = c.conn.Close() // nothing more comes
	close(c.done)
	if c.ear.Gone != nil {
		c.ear.Gone(why)
	}
}

func (c *Client) listen(in *lines) error {
	for {
		line, err := in.next()
		if err != nil {
			return ErrGone
		}
		f, err := Decode(line)
		if err != nil {
			return fmt.Errorf("the engine said what nobody understands: %w", err)
		}
		switch f.Type {
		case Bye:
			return &EndedError{f.Why}
		case Answer:
			c.mu.Lock()
			ch := c.waiting[f.ID]
			delete(c.waiting, f.ID)
			c.mu.Unlock()
			if ch != nil {
				ch <- f // it has room for one
			}
		case Tell:
			if c.ear.Tell != nil {
				c.ear.Tell(f.Topic, f.Body)
			}
		}
	}
}

// Ask asks one thing and waits for the answer. in and out may be nil.
func (c *Client) Ask(ctx context.Context, op string, in, out any) error {
	var body json.RawMessage
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = b
	}
	ch := make(chan Frame, 1)
	c.mu.Lock()
	if c.over != nil {
		c.mu.Unlock()
		return c.over
	}
	c.next++
	id := c.next
	c.waiting[id] = ch
	c.mu.Unlock()
	if err := c.send(Frame{Type: Asked, ID: id, Op: op, Body: body}); err != nil {
		c.forget(id)
		if errors.Is(err, ErrTooLong) {
			return err
		}
		return c.ended(err)
	}
	select {
	case f := <-ch:
		return open(f, op, out)
	case <-ctx.Done():
		c.forget(id)
		return context.Cause(ctx)
	case <-c.done:
		select {
		case f := <-ch: // the answer was the last thing it said
			return open(f, op, out)
		default:
			return c.ended(ErrGone)
		}
	}
}

func open(f Frame, op string, out any) error {
	if f.Error != nil {
		return f.Error.err()
	}
	if out == nil || f.Body == nil {
		return nil
	}
	if err := json.Unmarshal(f.Body, out); err != nil {
		return fmt.Errorf("the engine's answer to %s: %w", op, err)
	}
	return nil
}

func (c *Client) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, id)
}

// ended is why the connection is over, once that is known, and err before.
func (c *Client) ended(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over != nil {
		return c.over
	}
	return err
}

// Close leaves. The engine goes on.
func (c *Client) Close() {
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
	_ = c.conn.Close() // nothing is lost: an ask is answered or not
	<-c.done
}
