// Package messages keeps what programs say to people: in a file that is begun anew when it is large, in a ring that the
// wizard looks back on, and on standard error, with priorities where systemd reads it. logging.conf says which of them.
//
// Nothing here stops a rescue. What cannot be kept is said once, and the work goes on.
package messages

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"aslrescue/cmd/internal/config"
	"aslrescue/engine/event"
)

// Options say who speaks, and where people read.
type Options struct {
	Program string
	Screen  io.Writer // standard error
	Systemd bool      // it reads Screen
	NoFile  bool      // for programs that promise to write nothing
}

// Keeper takes messages and passes them on.
type Keeper struct {
	o     Options
	level slog.Level
	mark  bool // a priority stands before each line on the screen

	mu   sync.Mutex
	file *file
	ring ring
}

// Message is one that was said.
type Message struct {
	Time  time.Time  `json:"time"`
	Level slog.Level `json:"level"`
	Text  string     `json:"text"` // with its attributes
}

// New makes a Keeper as logging.conf wants it.
func New(c config.Messages, o Options) *Keeper {
	k := &Keeper{o: o, level: level(c.Level), mark: c.Journal == "yes" || c.Journal == "auto" && o.Systemd, ring: ring{most: number(c.Ring)}}
	if c.File != "" && !o.NoFile {
		k.file = &file{path: c.File, most: int64(number(c.FileSize)) << 10, keep: number(c.FileKeep), json: c.Format == "json", program: o.Program}
	}
	return k
}

// level and number read what config has checked.
func level(s string) slog.Level {
	var l slog.Level
	if l.UnmarshalText([]byte(s)) != nil {
		return slog.LevelInfo
	}
	return l
}

func number(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// Close closes the file.
func (k *Keeper) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.file != nil {
		k.file.close()
	}
}

// Say is for what people should read now: it goes to the screen, and is kept.
func (k *Keeper) Say() *slog.Logger { return slog.New(handler{k: k, screen: true}) }

// Keep is for what stands on the screen in another way already.
func (k *Keeper) Keep() *slog.Logger { return slog.New(handler{k: k}) }

// Recent are the last messages, the oldest first.
func (k *Keeper) Recent() []Message {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ring.all()
}

// take is the only way in.
func (k *Keeper) take(m Message, screen bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if screen && (m.Level >= k.level || m.Level >= slog.LevelInfo) {
		k.show(m)
	}
	if m.Level < k.level {
		return
	}
	k.ring.add(m)
	if k.file == nil {
		return
	}
	if err := k.file.write(m); err != nil {
		lost := Message{m.Time, slog.LevelWarn, fmt.Sprintf("messages are not kept in %s any more: %v", k.file.path, err)}
		k.file.close()
		k.file = nil
		k.ring.add(lost)
		k.show(lost)
	}
}

// show writes a message as people read it: one line, whatever stands in it.
func (k *Keeper) show(m Message) {
	if k.mark {
		fmt.Fprintf(k.o.Screen, "<%d>%s\n", priority(m.Level), event.Printable(m.Text))
		return
	}
	fmt.Fprintf(k.o.Screen, "%s: %s\n", k.o.Program, event.Printable(m.Text))
}

// priority is syslog's number.
func priority(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3
	case l >= slog.LevelWarn:
		return 4
	case l >= slog.LevelInfo:
		return 6
	}
	return 7
}

// handler is slog's way in.
type handler struct {
	k      *Keeper
	screen bool
	prefix string // of groups
	attrs  string
}

func (h handler) Enabled(_ context.Context, l slog.Level) bool {
	return l >= h.k.level || h.screen && l >= slog.LevelInfo
}

func (h handler) Handle(_ context.Context, r slog.Record) error {
	text := r.Message + h.attrs
	r.Attrs(func(a slog.Attr) bool {
		text += attr(h.prefix, a)
		return true
	})
	h.k.take(Message{r.Time, r.Level, text}, h.screen)
	return nil
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		h.attrs += attr(h.prefix, a)
	}
	return h
}

func (h handler) WithGroup(name string) slog.Handler {
	if name != "" {
		h.prefix += name + "."
	}
	return h
}

func attr(prefix string, a slog.Attr) string {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		text := ""
		for _, in := range v.Group() {
			text += attr(prefix+a.Key+".", in)
		}
		return text
	}
	if a.Key == "" {
		return ""
	}
	value := v.String()
	if strings.ContainsAny(value, " \t\n\"=") || value == "" {
		value = strconv.Quote(value)
	}
	return " " + prefix + a.Key + "=" + value
}

// ring holds the last messages.
type ring struct {
	most int
	list []Message
	next int // where the oldest stands, once it is full
}

func (r *ring) add(m Message) {
	switch {
	case r.most <= 0:
	case len(r.list) < r.most:
		r.list = append(r.list, m)
	default:
		r.list[r.next] = m
		r.next = (r.next + 1) % r.most
	}
}

func (r *ring) all() []Message {
	out := make([]Message, 0, len(r.list))
	return append(append(out, r.list[r.next:]...), r.list[:r.next]...)
}
