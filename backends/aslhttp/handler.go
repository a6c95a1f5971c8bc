package aslhttp

import (
	"bufio"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"aslrescue/engine/artifact"
	"aslrescue/engine/store"
)

// ServerOptions say whom the server serves.
type ServerOptions struct {
	Tokens []Token
	// Memory bounds the bodies that are held at a time, bytes; 0 is 256 MiB. Who comes when it is full waits a while, and is then told to come again.
	Memory int64
	// Silence is how long a client may send and take nothing; 0 is a minute.
	Silence time.Duration
	// Verify checks a block with all its artifacts where it lies.
	Verify func(ctx context.Context, name string) (size int64, err error)
	// Done is told of every request, after it; may be nil.
	Done func(Request)
	Now  func() time.Time
}

// Request is what a log and counters want to know of one.
type Request struct {
	Method, Path  string
	Remote        string
	Domain        string // of the token; empty: none
	Role          Role
	Status        int
	In, Out       int64 // bytes of bodies
	Took          time.Duration
	Kind, Detail  string // of an error
	Created, Same bool   // what a PUT came to
}

// NewServer serves a store.
func NewServer(b store.Backend, o ServerOptions) *Server {
	if o.Memory <= 0 {
		o.Memory = 256 << 20
	}
	if o.Silence == 0 {
		o.Silence = time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{b: b, o: o, room: semaphore.NewWeighted(max(o.Memory, maxObject))}
	s.SetTokens(o.Tokens)
	return s
}

// Server is an http.Handler.
type Server struct {
	b    store.Backend
	o    ServerOptions
	room *semaphore.Weighted

	mu      sync.Mutex
	holders []*holder
}

// SetTokens says who is served from now on. What is known of a token that stays is kept.
func (s *Server) SetTokens(tokens []Token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*holder
	for _, t := range tokens {
		h := &holder{created: map[artifact.Digest]struct{}{}}
		if i := slices.IndexFunc(s.holders, func(h *holder) bool { return h.Hash == t.Hash }); i >= 0 {
			h.used, h.created = s.holders[i].used, s.holders[i].created
		}
		h.Token = t
		all = append(all, h)
	}
	s.holders = all
}

// call is one request.
type call struct {
	s     *Server
	w     http.ResponseWriter
	r     *http.Request
	ctl   *http.ResponseController
	who   *holder
	what  Request
	begun bool // the answer
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := s.o.Now()
	c := &call{s: s, w: w, r: r, ctl: http.NewResponseController(w), what: Request{Method: r.Method, Path: r.URL.Path, Remote: r.RemoteAddr}}
	if err := c.serve(); err != nil {
		c.fail(err)
	}
	c.what.Took = s.o.Now().Sub(began)
	if s.o.Done != nil {
		s.o.Done(c.what)
	}
}

// refused is an error with its row of the table.
type refused struct {
	kind
	detail string
	wait   time.Duration
}

func (e *refused) Error() string { return e.title + ": " + e.detail }

func refuse(k kind, format string, a ...any) error {
	return &refused{kind: k, detail: fmt.Sprintf(format, a...)}
}

func (c *call) serve() error {
	switch c.r.URL.Path {
	case "/healthz":
		return c.text(http.StatusOK, "alive\n")
	case "/readyz":
		return c.ready()
	}
	path, ours := strings.CutPrefix(c.r.URL.Path, root)
	if !ours {
		return refuse(badRequest, "%s is no path of this server", c.r.URL.Path)
	}
	if err := c.authorize(path); err != nil {
		return err
	}
	switch {
	case path == "" && c.r.Method == http.MethodGet:
		return c.capabilities()
	case path == "list" && c.r.Method == http.MethodGet:
		return c.list()
	case path == "verify" && c.r.Method == http.MethodPost:
		return c.verify()
	}
	if err := store.CheckName(path); err != nil {
		return refuse(badName, "%v", err)
	}
	switch c.r.Method {
	case http.MethodPut:
		return c.put(path)
	case http.MethodGet, http.MethodHead:
		return c.get(path)
	}
	k := badRequest
	k.status = http.StatusMethodNotAllowed
	c.w.Header().Set("Allow", "GET, HEAD, PUT")
	return refuse(k, "%s", c.r.Method)
}

// authorize finds whose request it is. Only the question what the server is needs no token.
func (c *call) authorize(path string) error {
	word, given := strings.CutPrefix(c.r.Header.Get("Authorization"), "Bearer ")
	if !given {
		if path == "" && c.r.Header.Get("Authorization") == "" {
			return nil
		}
		return refuse(noToken, "want Authorization: Bearer TOKEN")
	}
	hash := HashToken(strings.TrimSpace(word))
	c.s.mu.Lock()
	holders := c.s.holders
	c.s.mu.Unlock()
	for _, h := range holders { // all of them, so that the time does not tell
		if subtle.ConstantTimeCompare(hash[:], h.Hash[:]) == 1 {
			c.who = h
		}
	}
	if c.who == nil {
		return refuse(noToken, "it is not in this server's file of tokens")
	}
	c.what.Domain, c.what.Role = c.who.Domain, c.who.Role
	return nil
}

func (c *call) ready() error {
	ctx, cancel := context.WithTimeout(c.r.Context(), 10*time.Second)
	defer cancel()
	for _, err := range c.s.b.List(ctx, "logs/", "") {
		if err != nil {
			k := internal
			k.status = http.StatusServiceUnavailable
			return refuse(k, "the store cannot be read: %v", err)
		}
		break
	}
	return c.text(http.StatusOK, "ready\n")
}

func (c *call) text(status int, text string) error {
	c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	c.begin(status)
	_, _ = io.WriteString(c.w, text) // a client that is gone is told nothing
	return nil
}

func (c *call) json(v any) error {
	c.w.Header().Set("Content-Type", "application/json")
	c.begin(http.StatusOK)
	_ = json.NewEncoder(c.w).Encode(v) // a client that is gone is told nothing
	return nil
}

func (c *call) begin(status int) {
	c.begun, c.what.Status = true, status
	c.w.WriteHeader(status)
}

func (c *call) capabilities() error {
	v := Capabilities{Protocol: [2]int{1, Version}, Time: c.s.o.Now().Unix(), MaxObject: maxObject}
	if c.who != nil {
		v.Domain, v.Role = c.who.Domain, c.who.Role
		if c.s.b.Info().ReadOnly {
			v.Role = Read
		}
		free := c.s.free(c.who)
		v.Free = &free
	}
	return c.json(v)
}

// free is what a token may still store, as far as that is known.
func (s *Server) free(h *holder) int64 {
	free := int64(-1)
	if f := s.b.Info().Free; f != nil {
		if n, ok := f(); ok {
			free = n
		}
	}
	if h.Quota > 0 {
		s.mu.Lock()
		left := max(h.Quota-h.used, 0)
		s.mu.Unlock()
		if free < 0 || left < free {
			free = left
		}
	}
	return free
}

// put creates an object. What can be said without the body is said before it.
func (c *call) put(name string) error {
	size := c.r.ContentLength
	switch {
	case !c.who.mayCreate(name):
		return refuse(forbidden, "a token of role %s and domain %s creates no %s", c.who.Role, c.who.Domain, name)
	case c.s.b.Info().ReadOnly:
		return refuse(readOnly, "%s", c.s.b.Info().Where)
	case size < 0:
		k := badRequest
		k.status = http.StatusLengthRequired
		return refuse(k, "want Content-Length")
	case size > maxObject:
		return refuse(large, "%d bytes, the most is %d", size, int64(maxObject))
	}
	ref, err := artifact.ParseRef(c.r.Header.Get(contentHeader))
	if err != nil {
		return refuse(badRequest, "want %s: b3: and the BLAKE3 of the body", contentHeader)
	}
	_, hash, _ := strings.Cut(name, "/")
	hashed := !strings.Contains(hash, "/")
	if known, err := c.known(name, ref); known || err != nil {
		return err
	}
	data, free, err := c.body(size)
	if err != nil {
		return err
	}
	defer free()
	if artifact.HashBytes(data) != ref.Digest {
		return refuse(badDigest, "%d bytes that do not hash to %s", size, ref)
	}
	if hashed && hash != ref.Digest.String() {
		return c.misnamed(name, data)
	}
	back := func() {}
	if hashed {
		if back, err = c.s.spend(c.who, ref.Digest, size); err != nil {
			return err
		}
	}
	_, err = c.s.b.Stat(c.r.Context(), name)
	was := err == nil
	if err := c.s.b.Create(context.WithoutCancel(c.r.Context()), name, data); err != nil { // a client that is gone asks again, and finds it
		back()
		return meaning(err, damagedName)
	}
	c.what.Created, c.what.Same = !was, was
	if was && c.who.Role != Append {
		return c.text(http.StatusOK, "")
	}
	return c.text(http.StatusCreated, "")
}

// misnamed answers for bytes that do not hash to the name they are sent for. If something stands there, Create tells what it is, and creates nothing.
func (c *call) misnamed(name string, data []byte) error {
	if _, err := c.s.b.Stat(c.r.Context(), name); err == nil && c.who.mayRead(name) {
		if err := c.s.b.Create(c.r.Context(), name, data); err != nil {
			return meaning(err, damagedName)
		}
	}
	return refuse(badDigest, "the body does not hash to the name")
}

// known answers for a block that is there before its body is sent, to a client that waits for that and may know it.
func (c *call) known(name string, ref artifact.Ref) (bool, error) {
	if c.r.Header.Get("Expect") == "" || !strings.HasPrefix(name, "blocks/") || !c.who.mayRead(name) || name != "blocks/"+ref.Digest.String() {
		return false, nil
	}
	ctx := store.Uncached(c.r.Context())
	size, err := c.s.b.Stat(ctx, name)
	if err != nil || size > maxObject {
		return false, nil // the way with the body finds out more
	}
	r, err := c.s.b.Open(ctx, name, 0, size)
	if err != nil {
		return false, nil
	}
	defer func() { _ = r.Close() }() // only read
	data, err := io.ReadAll(r)
	switch {
	case err != nil:
		return false, nil
	case artifact.HashBytes(data) != ref.Digest:
		return true, refuse(damagedName, "its %d bytes do not hash to it", size)
	}
	c.what.Same = true
	return true, c.text(http.StatusOK, "")
}

// spend counts what a token stores, once for each object, and refuses what is too much. back takes it back.
func (s *Server) spend(h *holder, d artifact.Digest, n int64) (back func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, again := h.created[d]; again {
		return func() {}, nil
	}
	if h.Quota > 0 && h.used+n > h.Quota {
		return nil, refuse(full, "the token has stored %d of the %d bytes it may", h.used, h.Quota)
	}
	h.used += n
	if len(h.created) < createdMost {
		h.created[d] = struct{}{}
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		h.used -= n
		delete(h.created, d)
	}, nil
}

// body reads the whole body within the server's memory. free gives it back.
func (c *call) body(size int64) (data []byte, free func(), err error) {
	wait, cancel := context.WithTimeout(c.r.Context(), 10*time.Second)
	defer cancel()
	if err := c.s.room.Acquire(wait, size); err != nil {
		return nil, nil, &refused{kind: busy, detail: "too many are sending", wait: 5 * time.Second}
	}
	free = func() { c.s.room.Release(size) }
	data = make([]byte, size)
	for done := int64(0); done < size; {
		if err := c.ctl.SetReadDeadline(time.Now().Add(c.s.o.Silence)); err != nil {
			free()
			return nil, nil, err
		}
		n, err := c.r.Body.Read(data[done:min(done+256<<10, size)])
		done += int64(n)
		c.what.In = done
		if err != nil && done < size {
			free()
			k := badRequest
			k.status = http.StatusRequestTimeout
			return nil, nil, refuse(k, "the body ended after %d of %d bytes", done, size)
		}
	}
	return data, free, c.ctl.SetReadDeadline(time.Time{})
}

// get gives an object, a range of it, or its size.
func (c *call) get(name string) error {
	if !c.who.mayRead(name) {
		return refuse(forbidden, "a token of role %s and domain %s does not read %s", c.who.Role, c.who.Domain, name)
	}
	ctx := c.r.Context()
	if c.r.Header.Get(mediumHeader) != "" {
		ctx = store.Uncached(ctx)
	}
	size, err := c.s.b.Stat(ctx, name)
	if err != nil {
		return meaning(err, damagedRead)
	}
	h := c.w.Header()
	h.Set("Accept-Ranges", "bytes")
	h.Set("Content-Type", "application/octet-stream")
	if c.r.Method == http.MethodHead {
		h.Set("Content-Length", fmt.Sprint(size))
		c.begin(http.StatusOK)
		return nil
	}
	off, n, part, err := byteRange(c.r.Header.Get("Range"), size)
	if err != nil {
		h.Set("Content-Range", fmt.Sprintf("bytes */%d", size))
		return err
	}
	r, err := c.s.b.Open(ctx, name, off, n)
	if err != nil {
		return meaning(err, damagedRead)
	}
	defer func() { _ = r.Close() }() // it was only read
	first := make([]byte, min(n, 256<<10))
	if _, err := io.ReadFull(r, first); err != nil { // while the status can still say so
		return meaning(fmt.Errorf("%w: %w", artifact.ErrDamaged, err), damagedRead)
	}
	h.Set("Content-Length", fmt.Sprint(n))
	if part {
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", off, off+n-1, size))
		c.begin(http.StatusPartialContent)
	} else {
		c.begin(http.StatusOK)
	}
	if err := c.send(first, r, n); err != nil {
		c.what.Kind, c.what.Detail = internal.name, err.Error()
		panic(http.ErrAbortHandler) // the status is out: only a broken connection can still say that it is not whole
	}
	return nil
}

// send gives what was read already and the rest. A client that takes nothing for a while is let go.
func (c *call) send(first []byte, r io.Reader, n int64) error {
	buf := first
	for c.what.Out < n {
		if err := c.ctl.SetWriteDeadline(time.Now().Add(c.s.o.Silence)); err != nil {
			return err
		}
		k, err := c.w.Write(buf)
		c.what.Out += int64(k)
		if err != nil {
			return err
		}
		if c.what.Out < n {
			buf = first[:min(int64(len(first)), n-c.what.Out)]
			if _, err := io.ReadFull(r, buf); err != nil {
				return err
			}
		}
	}
	return nil
}

// byteRange reads a Range header of one range.
func byteRange(h string, size int64) (off, n int64, part bool, err error) {
	if h == "" {
		return 0, size, false, nil
	}
	spec, ok := strings.CutPrefix(h, "bytes=")
	from, to, dash := strings.Cut(spec, "-")
	off, ferr := strconv.ParseInt(from, 10, 64)
	last := size - 1
	if to != "" {
		var terr error
		last, terr = strconv.ParseInt(to, 10, 64)
		ok = ok && terr == nil
	}
	if !ok || !dash || ferr != nil || off < 0 || last < off && to != "" {
		return 0, 0, false, refuse(badRequest, "Range %q: want bytes=A-B or bytes=A-", h)
	}
	if off >= size {
		return 0, 0, false, refuse(pastEnd, "from %d of %d", off, size)
	}
	return off, min(last, size-1) - off + 1, true, nil
}

func (c *call) list() error {
	q := c.r.URL.Query()
	limit := listMost
	if l := q.Get("limit"); l != "" {
		n, err := strconv.Atoi(l)
		if err != nil || n < 1 {
			return refuse(badRequest, "limit %q", l)
		}
		limit = min(n, listMost)
	}
	page := list{Objects: []listed{}}
	seen := 0
	for e, err := range c.s.b.List(c.r.Context(), q.Get("prefix"), q.Get("after")) {
		if err != nil {
			return meaning(err, damagedRead)
		}
		if seen++; !c.who.mayList(e.Name) {
			continue
		}
		if len(page.Objects) == limit {
			page.More = true
			break
		}
		page.Objects = append(page.Objects, listed{e.Name, e.Size})
	}
	return c.json(page)
}

func (c *call) verify() error {
	if c.s.o.Verify == nil {
		return refuse(badRequest, "this server verifies nothing")
	}
	names, err := c.names()
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/x-ndjson")
	c.begin(http.StatusOK)
	enc := json.NewEncoder(c.w)
	for _, name := range names {
		if err := enc.Encode(c.verdict(name)); err != nil {
			return nil // the client is gone
		}
		_ = c.ctl.Flush() // what cannot be sent now comes later
	}
	return nil
}

func (c *call) names() ([]string, error) {
	var names []string
	lines := bufio.NewScanner(io.LimitReader(c.r.Body, verifyMost*128))
	for lines.Scan() {
		name := lines.Text()
		if err := store.CheckName(name); err != nil || !strings.HasPrefix(name, "blocks/") {
			return nil, refuse(badName, "%q is no block", name)
		}
		names = append(names, name)
	}
	if len(names) == 0 || len(names) > verifyMost || lines.Err() != nil {
		return nil, refuse(badRequest, "want 1 to %d names of blocks, one a line", verifyMost)
	}
	return names, nil
}

func (c *call) verdict(name string) verified {
	if !c.mayVerify(name) {
		return verified{Name: name, State: unread, Why: "the token may not read it, and did not create it while this server ran"}
	}
	size, err := c.s.o.Verify(store.Uncached(c.r.Context()), name)
	switch {
	case err == nil:
		return verified{name, size, good, ""}
	case errors.Is(err, artifact.ErrNotFound):
		return verified{name, 0, missing, ""}
	case errors.Is(err, artifact.ErrDamaged):
		return verified{name, size, hurt, err.Error()}
	}
	return verified{name, size, unread, err.Error()}
}

func (c *call) mayVerify(name string) bool {
	if c.who.mayRead(name) {
		return true
	}
	d, err := artifact.ParseDigest(strings.TrimPrefix(name, "blocks/"))
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	_, ours := c.who.created[d]
	return err == nil && ours
}

// meaning finds the row for an error of the store's; damaged is what damage means here.
func meaning(err error, damaged kind) error {
	var done *refused
	if errors.As(err, &done) {
		return err
	}
	for _, k := range []kind{absent, conflict, full, readOnly, badName, pastEnd} {
		if errors.Is(err, k.is) {
			return refuse(k, "%v", err)
		}
	}
	if errors.Is(err, artifact.ErrDamaged) {
		return refuse(damaged, "%v", err)
	}
	return refuse(internal, "%v", err)
}

// fail answers with an error, if there is no answer yet.
func (c *call) fail(err error) {
	var e *refused
	if !errors.As(err, &e) {
		e = &refused{kind: internal, detail: err.Error()}
	}
	c.what.Kind, c.what.Detail = e.name, e.detail
	if c.begun {
		return
	}
	h := c.w.Header()
	h.Del("Content-Length")
	h.Set("Content-Type", problemType)
	if e.wait > 0 {
		h.Set("Retry-After", fmt.Sprint(int(e.wait.Seconds())))
	}
	if e.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="asl"`)
	}
	c.begin(e.status)
	_ = json.NewEncoder(c.w).Encode(problem{Type: urn + e.name, Title: e.title, Status: e.status, Detail: e.detail}) // a client that is gone is told nothing
}
