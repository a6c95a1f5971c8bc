package s3_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"aslrescue/backends/backendtest"
	"aslrescue/backends/retry"
	"aslrescue/backends/s3"
	"aslrescue/engine/artifact"
	"aslrescue/engine/store"
)

// bucket starts a server with a bucket named rescue. around may stand before it.
func bucket(t *testing.T, around func(http.Handler) http.Handler) s3.Options {
	t.Helper()
	mem := s3mem.New()
	if err := mem.CreateBucket("rescue"); err != nil {
		t.Fatal(err)
	}
	h := gofakes3.New(mem).Server()
	if around != nil {
		h = around(h)
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength <= 0 && r.Method == http.MethodPut { // of nothing, which this server takes for no length
			r.Header.Set("Content-Length", "0")
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(web.Close)
	return s3.Options{Endpoint: strings.TrimPrefix(web.URL, "http://"), Plain: true, Region: "us-east-1", Creds: credentials.NewStaticV4("key", "secret", "")}
}

func TestConformance(t *testing.T) {
	for _, place := range []string{"s3://rescue/below/here", "s3://rescue"} {
		o := bucket(t, nil)
		if err := backendtest.Check(t.Context(), func() (store.Backend, error) { return s3.New(t.Context(), place, false, o) }); err != nil {
			t.Errorf("%s: %v", place, err)
		}
	}
}

// A server that does not create conditionally is found out before it is trusted, however it fails at it.
func TestServersThatOverwrite(t *testing.T) {
	for what, h := range map[string]func(http.Handler) http.Handler{
		"the condition is ignored": func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.Header.Del("If-None-Match")
				h.ServeHTTP(w, r)
			})
		},
		"the condition is inverted": func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPut && r.Header.Get("If-None-Match") != "" {
					w.WriteHeader(http.StatusPreconditionFailed)
					return
				}
				h.ServeHTTP(w, r)
			})
		},
		"refused, and written all the same": func(h http.Handler) http.Handler {
			seen := map[string]bool{}
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				again := r.Method == http.MethodPut && seen[r.URL.Path]
				seen[r.URL.Path] = true
				r.Header.Del("If-None-Match")
				if again {
					h.ServeHTTP(httptest.NewRecorder(), r)
					w.WriteHeader(http.StatusPreconditionFailed)
					return
				}
				h.ServeHTTP(w, r)
			})
		},
	} {
		o := bucket(t, h)
		if _, err := s3.New(t.Context(), "s3://rescue", false, o); !errors.Is(err, s3.ErrNoConditional) {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := s3.New(t.Context(), "s3://rescue", true, o); err != nil {
			t.Errorf("%s: only read: %v", what, err)
		}
	}
	o := bucket(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("If-None-Match")
			h.ServeHTTP(w, r)
		})
	})
	o.SingleWriter = true
	if err := backendtest.Check(t.Context(), func() (store.Backend, error) {
		b, err := s3.New(t.Context(), "s3://rescue", false, o)
		if err == nil && b.Info().Publish != "single writer" {
			err = fmt.Errorf("it says that it creates by %s", b.Info().Publish)
		}
		return b, err
	}); err != nil && !strings.Contains(err.Error(), "many at once") { // which is what a single writer does not do
		t.Error(err)
	}
}

// A server that says 200 and has not stored it is asked again.
func TestAServerThatForgets(t *testing.T) {
	lose := false
	o := bucket(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if lose && r.Method == http.MethodPut {
				w.Header().Set("ETag", `"00000000000000000000000000000000"`)
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	b, err := s3.New(t.Context(), "s3://rescue", false, o)
	if err != nil {
		t.Fatal(err)
	}
	lose = true
	data := []byte("some bytes")
	err = b.Create(t.Context(), "blocks/"+artifact.HashBytes(data).String(), data)
	if !passes(err) {
		t.Errorf("%v", err)
	}
	lose = false
	if err := b.Create(t.Context(), "blocks/"+artifact.HashBytes(data).String(), data); err != nil {
		t.Error(err)
	}
}

// passes tells whether the same call may succeed later.
func passes(err error) bool {
	var t retry.Temporary
	if !errors.As(err, &t) {
		return false
	}
	_, again := t.RetryAfter()
	return again
}

func TestErrorsMeanWhatTheyDo(t *testing.T) {
	status, code := 0, ""
	o := bucket(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if status != 0 && r.Method == http.MethodPut {
				w.Header().Set("Content-Type", "application/xml")
				w.WriteHeader(status)
				fmt.Fprintf(w, "<Error><Code>%s</Code><Message>m</Message></Error>", code)
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	b, err := s3.New(t.Context(), "s3://rescue", false, o)
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("x"), 100)
	for _, c := range []struct {
		status int
		code   string
		is     error
		again  bool
	}{{507, "QuotaExceeded", artifact.ErrFull, false}, {409, "ConditionalRequestConflict", nil, true}, {403, "AccessDenied", nil, false}} {
		status, code = c.status, c.code
		err := b.Create(t.Context(), "blocks/"+artifact.HashBytes(data).String(), data)
		if err == nil || c.is != nil && !errors.Is(err, c.is) || passes(err) != c.again {
			t.Errorf("%d %s: %v", c.status, c.code, err)
		}
	}
	for _, bad := range []string{"s3://", "s3:///x", "https://x", "s3://u:p@x/y", "s3://x?y=z"} {
		if _, _, err := s3.Parse(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
