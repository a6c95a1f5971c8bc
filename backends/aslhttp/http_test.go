package aslhttp_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aslrescue/backends/aslhttp"
	"aslrescue/backends/backendtest"
	"aslrescue/backends/local"
	"aslrescue/engine/artifact"
	"aslrescue/engine/store"
)

const domain = "home"

// words of the tokens that every test server knows.
var words = map[aslhttp.Role]string{aslhttp.Full: "full-word", aslhttp.Append: "append-word", aslhttp.Read: "read-word"}

// place is a server over a folder.
type place struct {
	t   *testing.T
	b   store.Backend
	dir string
	web *httptest.Server
	srv *aslhttp.Server
}

func tokens(extra ...aslhttp.Token) []aslhttp.Token {
	for role, word := range words {
		extra = append(extra, aslhttp.Token{Hash: aslhttp.HashToken(word), Role: role, Domain: domain})
	}
	return extra
}

// serve starts a server. around may stand between it and the line; nil: nothing does.
func serve(t *testing.T, o aslhttp.ServerOptions, around func(http.Handler) http.Handler) *place {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	b, err := local.CreatePath(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return serveOver(t, b, dir, o, around)
}

func serveOver(t *testing.T, b store.Backend, dir string, o aslhttp.ServerOptions, around func(http.Handler) http.Handler) *place {
	t.Helper()
	if o.Tokens == nil {
		o.Tokens = tokens()
	}
	if o.Verify == nil {
		verify, err := store.BlockVerifier(b)
		if err != nil {
			t.Fatal(err)
		}
		o.Verify = func(ctx context.Context, name string) (int64, error) {
			id, err := artifact.ParseDigest(strings.TrimPrefix(name, "blocks/"))
			if err != nil {
				return 0, err
			}
			return verify(ctx, id)
		}
	}
	srv := aslhttp.NewServer(b, o)
	var h http.Handler = srv
	if around != nil {
		h = around(srv)
	}
	web := httptest.NewUnstartedServer(h)
	web.Config.ErrorLog = nil
	web.StartTLS()
	t.Cleanup(web.Close)
	return &place{t, b, dir, web, srv}
}

func (p *place) options(role aslhttp.Role) aslhttp.Options {
	roots := x509.NewCertPool()
	roots.AddCert(p.web.Certificate())
	return aslhttp.Options{Token: words[role], Roots: roots, Silence: 5 * time.Second}
}

func (p *place) client(role aslhttp.Role) store.Backend {
	p.t.Helper()
	b, _, err := aslhttp.New(p.t.Context(), p.web.URL, p.options(role))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = b.Close() })
	return b
}

func TestConformance(t *testing.T) {
	// The suite uses domains of its own, which no token of one domain may create.
	all := serve(t, aslhttp.ServerOptions{Tokens: []aslhttp.Token{{Hash: aslhttp.HashToken(words[aslhttp.Full]), Role: aslhttp.Full, Domain: aslhttp.EveryDomain}}}, nil)
	if err := backendtest.Check(t.Context(), func() (store.Backend, error) {
		b, _, err := aslhttp.New(t.Context(), all.web.URL, all.options(aslhttp.Full))
		return b, err
	}); err != nil {
		t.Fatal(err)
	}
}

func name(data []byte) string { return "blocks/" + artifact.HashBytes(data).String() }

func get(b store.Backend, name string) ([]byte, error) {
	r, err := b.Open(context.Background(), name, 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestRoles(t *testing.T) {
	p := serve(t, aslhttp.ServerOptions{}, nil)
	ctx := t.Context()
	data := bytes.Repeat([]byte("some bytes "), 9000)
	full, app, read := p.client(aslhttp.Full), p.client(aslhttp.Append), p.client(aslhttp.Read)
	if err := full.Create(ctx, name(data), data); err != nil {
		t.Fatal(err)
	}
	if err := full.Create(ctx, "logs/home/1", data); err != nil {
		t.Fatal(err)
	}
	other := []byte("other")
	for what, err := range map[string]error{
		"read creates":                     read.Create(ctx, name(other), other),
		"full creates in another domain":   full.Create(ctx, "logs/away/1", data),
		"append creates in another domain": app.Create(ctx, "snapshots/away/1", data),
		"append reads a block":             second(get(app, name(data))),
		"append asks for a block's size":   second(app.Stat(ctx, name(data))),
		"read reads another domain":        second(get(read, "logs/away/1")),
	} {
		if !errors.Is(err, aslhttp.ErrForbidden) && !errors.Is(err, artifact.ErrReadOnly) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, b := range map[string]store.Backend{"full": full, "append": app, "read": read} {
		if got, err := get(b, "logs/home/1"); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s reads the log: %v", what, err)
		}
	}
	if got, err := get(read, name(data)); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read reads a block: %v", err)
	}
	for e, err := range app.List(ctx, "blocks/", "") {
		t.Errorf("append lists blocks: %v %v", e, err)
	}
	// Whether somebody stored it before cannot be told by append.
	for _, d := range [][]byte{data, []byte("new to all")} {
		if status := p.put(words[aslhttp.Append], name(d), d, nil); status != http.StatusCreated {
			t.Errorf("append creates %d bytes: %d", len(d), status)
		}
	}
	if status := p.put(words[aslhttp.Full], name(data), data, nil); status != http.StatusOK {
		t.Errorf("full creates what is there: %d", status)
	}
	if _, _, err := aslhttp.New(ctx, p.web.URL, aslhttp.Options{Roots: p.options(aslhttp.Full).Roots}); !errors.Is(err, aslhttp.ErrToken) {
		t.Errorf("without a token: %v", err)
	}
	o := p.options(aslhttp.Full)
	o.Token = "guessed"
	if _, _, err := aslhttp.New(ctx, p.web.URL, o); !errors.Is(err, aslhttp.ErrToken) {
		t.Errorf("with a wrong token: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// put sends a request as a client of somebody else's would.
func (p *place) put(word, name string, data []byte, change func(*http.Request)) int {
	p.t.Helper()
	return p.raw(http.MethodPut, word, name, data, func(r *http.Request) {
		r.Header.Set("Asl-Content", "b3:"+artifact.HashBytes(data).String())
		if change != nil {
			change(r)
		}
	})
}

func (p *place) raw(method, word, path string, data []byte, change func(*http.Request)) int {
	p.t.Helper()
	var body io.Reader
	if data != nil {
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequest(method, p.web.URL, body)
	if err != nil {
		p.t.Fatal(err)
	}
	req.URL.Opaque = "/asl/v1/" + path // as it stands
	req.Header.Set("Authorization", "Bearer "+word)
	if change != nil {
		change(req)
	}
	res, err := p.web.Client().Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	got, _ := io.ReadAll(res.Body)
	if res.StatusCode >= 400 && method != http.MethodHead && res.Header.Get("Content-Type") == "application/problem+json" {
		var v struct{ Type, Title string }
		if json.Unmarshal(got, &v) != nil || !strings.HasPrefix(v.Type, "urn:asl:") || v.Title == "" {
			p.t.Errorf("%s %s: %d with %q", method, path, res.StatusCode, got)
		}
	}
	return res.StatusCode
}

// What no client of ours sends is answered, and changes nothing.
func TestHostileClients(t *testing.T) {
	p := serve(t, aslhttp.ServerOptions{}, nil)
	full := words[aslhttp.Full]
	data := []byte("hello")
	header := func(k, v string) func(*http.Request) { return func(r *http.Request) { r.Header.Set(k, v) } }
	before := files(t, p.dir)
	for _, c := range []struct {
		what string
		got  int
		want int
	}{
		{"a path that leads out", p.put(full, "blocks/../../etc/passwd", data, nil), 400},
		{"the same, escaped", p.put(full, "logs/home/%2e%2e%2f%2e%2e%2fx", data, nil), 400},
		{"a hidden file", p.put(full, "logs/home/.tmp-1", data, nil), 400},
		{"a name in capitals", p.put(full, "blocks/"+strings.ToUpper(artifact.HashBytes(data).String()), data, nil), 400},
		{"a kind that is none", p.put(full, "secrets/home/x", data, nil), 400},
		{"another domain", p.put(full, "logs/away/1", data, nil), 403},
		{"a hash of other bytes", p.put(full, name([]byte("other")), data, nil), 422},
		{"a body that is not what it says", p.put(full, "logs/home/1", data, header("Asl-Content", "b3:"+strings.Repeat("0", 64))), 422},
		{"no word on the content", p.put(full, "logs/home/1", data, func(r *http.Request) { r.Header.Del("Asl-Content") }), 400},
		{"no length", p.put(full, "logs/home/1", data, func(r *http.Request) { r.ContentLength = -1 }), 411},
		{"a method that is none", p.raw("DELETE", full, name(data), nil, nil), 405},
		{"a list of nothing", p.raw("GET", full, "list?limit=x", nil, nil), 400},
		{"a range backwards", p.raw("GET", full, "logs/home/none", nil, header("Range", "bytes=5-1")), 404},
		{"verify a log", p.raw("POST", full, "verify", []byte("logs/home/1\n"), nil), 400},
		{"verify nothing", p.raw("POST", full, "verify", []byte{}, nil), 400},
		{"verify too much", p.raw("POST", full, "verify", bytes.Repeat([]byte(name(data)+"\n"), 65), nil), 400},
		{"no token", p.raw("GET", "", "list", nil, func(r *http.Request) { r.Header.Del("Authorization") }), 401},
		{"no bearer", p.raw("GET", "", "", nil, header("Authorization", "Basic eDp5")), 401},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d, want %d", c.what, c.got, c.want)
		}
	}
	if after := files(t, p.dir); after != before {
		t.Errorf("the store changed:\n%s\nwas\n%s", after, before)
	}
	p.web.Client().Transport.(*http.Transport).ExpectContinueTimeout = time.Minute // the body is not sent before it is asked for
	if status := p.put(full, name(data), make([]byte, 81<<20), header("Expect", "100-continue")); status != 413 {
		t.Errorf("a body of 81 MiB: %d", status)
	}
}

func files(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	if err := filepath.Walk(dir, func(path string, i os.FileInfo, err error) error {
		if err == nil && !i.IsDir() {
			fmt.Fprintln(&all, path, i.Size())
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all.String()
}

func TestQuota(t *testing.T) {
	small := aslhttp.Token{Hash: aslhttp.HashToken("small"), Role: aslhttp.Append, Domain: domain, Quota: 1000}
	p := serve(t, aslhttp.ServerOptions{Tokens: tokens(small)}, nil)
	o := p.options(aslhttp.Full)
	o.Token = "small"
	b, caps, err := aslhttp.New(t.Context(), p.web.URL, o)
	if err != nil || caps.Free == nil || *caps.Free != 1000 || caps.Role != aslhttp.Append || caps.Domain != domain {
		t.Fatalf("%+v, %v", caps, err)
	}
	a, c := bytes.Repeat([]byte("a"), 600), bytes.Repeat([]byte("c"), 600)
	if err := b.Create(t.Context(), name(a), a); err != nil {
		t.Fatal(err)
	}
	for range 3 { // sent again, it counts once
		if status := p.put("small", name(a), a, nil); status != http.StatusCreated {
			t.Fatal(status)
		}
	}
	if err := b.Create(t.Context(), name(c), c); !errors.Is(err, artifact.ErrFull) {
		t.Errorf("beyond the quota: %v", err)
	}
	if err := b.Create(t.Context(), "logs/home/1", c); err != nil {
		t.Errorf("the log does not count: %v", err)
	}
	if free, ok := b.Info().Free(); !ok || free != 400 {
		t.Errorf("free: %d, %v", free, ok)
	}
}

func TestVerifyWhereItLies(t *testing.T) {
	p := serve(t, aslhttp.ServerOptions{Verify: func(_ context.Context, name string) (int64, error) {
		if strings.HasPrefix(name, "blocks/0") {
			return 5, fmt.Errorf("hurt: %w", artifact.ErrDamaged)
		}
		return 7, nil
	}}, nil)
	data := []byte("x")
	full, app := p.client(aslhttp.Full).Info().Verify, p.client(aslhttp.Append)
	if size, err := full(t.Context(), name(data)); err != nil || size != 7 {
		t.Error(size, err)
	}
	if _, err := full(t.Context(), "blocks/"+strings.Repeat("0", 64)); !errors.Is(err, artifact.ErrDamaged) {
		t.Errorf("a hurt block: %v", err)
	}
	if _, err := app.Info().Verify(t.Context(), name(data)); err == nil || errors.Is(err, artifact.ErrDamaged) {
		t.Errorf("append verifies what it did not create: %v", err)
	}
	if err := app.Create(t.Context(), name(data), data); err != nil {
		t.Fatal(err)
	}
	if _, err := app.Info().Verify(t.Context(), name(data)); err != nil {
		t.Errorf("append verifies what it created: %v", err)
	}
}

// A pin looks at the key and nothing else; without one everything has to be right.
func TestCertificates(t *testing.T) {
	p := serve(t, aslhttp.ServerOptions{}, nil)
	pin := fmt.Sprintf("sha256:%x", sha256.Sum256(p.web.Certificate().RawSubjectPublicKeyInfo))
	for _, c := range []struct {
		what string
		o    aslhttp.Options
		ok   bool
	}{
		{"the right roots", p.options(aslhttp.Full), true},
		{"the right pin", aslhttp.Options{Token: words[aslhttp.Full], Pin: pin}, true},
		{"no roots", aslhttp.Options{Token: words[aslhttp.Full]}, false},
		{"a wrong pin", aslhttp.Options{Token: words[aslhttp.Full], Pin: "sha256:" + strings.Repeat("0", 64), Roots: p.options(aslhttp.Full).Roots}, false},
		{"a pin that is none", aslhttp.Options{Token: words[aslhttp.Full], Pin: "sha256:1"}, false},
	} {
		_, _, err := aslhttp.New(t.Context(), p.web.URL, c.o)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.what, err)
		}
		var again interface{ RetryAfter() (time.Duration, bool) }
		if errors.As(err, &again) {
			if _, yes := again.RetryAfter(); yes {
				t.Errorf("%s is tried again", c.what)
			}
		}
	}
	for _, bad := range []string{"http://x", "https://", "https://u:p@x", "https://x?y", "ftp://x", "x"} {
		if _, _, err := aslhttp.New(t.Context(), bad, aslhttp.Options{}); err == nil {
			t.Errorf("%q is taken for an endpoint", bad)
		}
	}
}

// A server that lies is found out, and costs no memory.
func TestHostileServers(t *testing.T) {
	caps := `{"protocol":[1,1],"time":1,"max_object":1,"domain":"home","role":"full"}`
	for what, h := range map[string]http.HandlerFunc{
		"a newer protocol": func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"protocol":[2,3],"role":"full"}`) },
		"no JSON":          func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>") },
		"endless JSON": func(w http.ResponseWriter, r *http.Request) {
			for range 3 << 10 {
				fmt.Fprint(w, strings.Repeat(" ", 1<<10))
			}
			fmt.Fprint(w, caps)
		},
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.example/", http.StatusFound)
		},
		"no role": func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"protocol":[1,1]}`) },
	} {
		if _, err := against(t, h); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
	data := []byte("some bytes")
	answer := func(path string, h http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/asl/v1/" {
				fmt.Fprint(w, caps)
				return
			}
			h(w, r)
		}
	}
	length := func(n int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(n))
			if r.Header.Get("Range") != "" {
				w.WriteHeader(http.StatusPartialContent)
			}
			_, _ = io.WriteString(w, body)
		}
	}
	for what, h := range map[string]http.HandlerFunc{
		"an answer that ends early":    length(1000, "short"),
		"more than was asked for":      length(4, "1234"),
		"the whole instead of a range": func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "12345") },
		"an answer without its length": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(206)
			w.(http.Flusher).Flush()
			fmt.Fprint(w, "12")
		},
		"a success that is a different": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) },
	} {
		b, err := against(t, answer("", h))
		if err != nil {
			t.Fatal(what, err)
		}
		r, err := b.Open(t.Context(), name(data), 1, 2)
		if err == nil {
			_, err = io.ReadAll(r)
			r.Close()
		}
		if what == "an answer that ends early" { // asked for whole
			if r, err = b.Open(t.Context(), name(data), 0, -1); err == nil {
				_, err = io.ReadAll(r)
				r.Close()
			}
		}
		if err == nil || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, artifact.ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, page := range map[string]string{
		"a list that turns":    `{"objects":[{"name":"logs/home/2","size":1},{"name":"logs/home/1","size":1}]}`,
		"another prefix":       `{"objects":[{"name":"snapshots/home/2","size":1}]}`,
		"a name that is none":  `{"objects":[{"name":"logs/../x","size":1}]}`,
		"an endless list":      `{"objects":[],"more":true}`,
		"the same page always": `{"objects":[{"name":"logs/home/1","size":1}],"more":true}`,
	} {
		b, err := against(t, answer("", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, page) }))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, err = range b.List(t.Context(), "logs/", "") {
			if n++; err != nil || n > 10 {
				break
			}
		}
		if err == nil {
			t.Errorf("%s is taken", what)
		}
	}
}

func against(t *testing.T, h http.Handler) (store.Backend, error) {
	t.Helper()
	web := httptest.NewTLSServer(h)
	t.Cleanup(web.Close)
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	b, _, err := aslhttp.New(t.Context(), web.URL, aslhttp.Options{Token: "x", Roots: roots, Silence: 2 * time.Second})
	return b, err
}

// A line on which nothing moves is broken, and the client says so.
func TestSilence(t *testing.T) {
	stop := make(chan struct{})
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-stop }))
	web.TLS = &tls.Config{}
	web.StartTLS()
	defer web.Close()
	defer close(stop)
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	_, _, err := aslhttp.New(t.Context(), web.URL, aslhttp.Options{Token: "x", Roots: roots, Silence: 300 * time.Millisecond})
	var again interface{ RetryAfter() (time.Duration, bool) }
	if !errors.As(err, &again) {
		t.Fatalf("%v", err)
	}
	if _, yes := again.RetryAfter(); !yes {
		t.Errorf("%v is not tried again", err)
	}
}
