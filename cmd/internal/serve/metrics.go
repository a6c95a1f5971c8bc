package serve

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"

	"aslrescue/backends/aslhttp"
)

// counters are what happened since the server began, in Prometheus' text form.
type counters struct {
	mu       sync.Mutex
	requests map[requestKind]int64
	in, out  int64
	created  int64
	same     int64
	seconds  float64
}

type requestKind struct {
	method string
	status int
}

func (c *counters) add(r aslhttp.Request) {
	k := requestKind{r.Method, r.Status}
	if !slices.Contains([]string{"GET", "HEAD", "PUT", "POST"}, k.method) {
		k.method = "other" // what a stranger sends makes no new row each time
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.requests == nil {
		c.requests = map[requestKind]int64{}
	}
	c.requests[k]++
	c.in, c.out, c.seconds = c.in+r.In, c.out+r.Out, c.seconds+r.Took.Seconds()
	if r.Created {
		c.created++
	}
	if r.Same {
		c.same++
	}
}

func (c *counters) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/metrics" {
		http.NotFound(w, r)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	fmt.Fprintln(w, "# TYPE asl_backend_requests_total counter")
	keys := slices.SortedFunc(maps.Keys(c.requests), func(a, b requestKind) int {
		return slices.Compare([]string{a.method, fmt.Sprint(a.status)}, []string{b.method, fmt.Sprint(b.status)})
	})
	for _, k := range keys {
		fmt.Fprintf(w, "asl_backend_requests_total{method=%q,status=\"%d\"} %d\n", k.method, k.status, c.requests[k])
	}
	for _, m := range []struct {
		name  string
		value any
	}{{"received_bytes", c.in}, {"sent_bytes", c.out}, {"objects_created", c.created}, {"objects_known", c.same}, {"request_seconds", c.seconds}} {
		fmt.Fprintf(w, "# TYPE asl_backend_%s_total counter\nasl_backend_%[1]s_total %v\n", m.name, m.value)
	}
}
