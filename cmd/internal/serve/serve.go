// Package serve is the program asl-backend: a store behind https, see docs/protocol.md and docs/backend.md.
package serve

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"aslrescue/backends/aslhttp"
	"aslrescue/cmd/internal/report"
	"aslrescue/cmd/internal/session"
	"aslrescue/engine/artifact"
	"aslrescue/engine/store"
)

const usage = `asl-backend keeps a store for machines that save their disks over https.

  asl-backend certificate --host NAME[,NAME...] --dir DIR     makes a key and a certificate of its own, and prints the pin for asl.conf
  asl-backend token --role full|append|read --domain NAME     makes a token: the word for the operator, and the line for the server's file
  asl-backend serve --listen ADDR --store DIR --tls-cert FILE --tls-key FILE --token-file FILE

Examples
  asl-backend certificate --host store.example,192.168.1.10 --dir /etc/asl-backend
  asl-backend token --role append --domain rescue-domain >> /etc/asl-backend/tokens
  asl-backend serve --listen :8443 --store /srv/asl --tls-cert /etc/asl-backend/cert.pem --tls-key /etc/asl-backend/key.pem --token-file /etc/asl-backend/tokens
  asl-backend serve --listen :8443 --store s3://rescue/asl --tls-cert cert.pem --tls-key key.pem --token-file tokens --metrics localhost:9090

SIGHUP reads the file of tokens and the certificate again. SIGTERM and SIGINT let what is under way end, for up to 30 s. docs/backend.md says more.
`

// Main runs the program and gives its exit code.
func Main(ctx context.Context, args []string, out, stderr io.Writer) int {
	err := run(ctx, args, out, stderr)
	if err == nil {
		return 0
	}
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(out, usage)
		return 0
	}
	e := report.Explain(err)
	fmt.Fprintf(stderr, "asl-backend: %s\n", strings.TrimSpace(e.Error()))
	for _, n := range e.Next {
		fmt.Fprintf(stderr, "  %s\n", n)
	}
	return int(report.CodeOf(err))
}

func run(ctx context.Context, args []string, out, stderr io.Writer) error {
	if len(args) == 0 {
		return report.Usagef("say what to do: serve, token or certificate; --help says more")
	}
	switch args[0] {
	case "serve":
		return serve(ctx, args[1:], stderr)
	case "token":
		return token(args[1:], out, stderr)
	case "certificate":
		return certificate(args[1:], out)
	case "--version", "-version":
		fmt.Fprintln(out, session.Tool("asl-backend"))
		return nil
	case "--help", "-help", "-h", "help":
		return flag.ErrHelp
	}
	return report.Usagef("%q is none of serve, token, certificate", args[0])
}

// parse wants every flag named in must.
func parse(fs *flag.FlagSet, args []string, must ...string) error {
	fs.SetOutput(io.Discard)
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return report.Usagef("%s: %w", fs.Name(), err)
	}
	if fs.NArg() > 0 {
		return report.Usagef("%s takes no %q", fs.Name(), fs.Arg(0))
	}
	for _, name := range must {
		if fs.Lookup(name).Value.String() == "" {
			return report.Usagef("%s: --%s is missing", fs.Name(), name)
		}
	}
	return nil
}

type options struct {
	listen, store, cert, key, tokens, clientCA, metrics, log string
	memory                                                   int64
}

func serve(ctx context.Context, args []string, stderr io.Writer) error {
	var o options
	fs := flag.NewFlagSet("serve", flag.ContinueOnError)
	fs.StringVar(&o.listen, "listen", ":8443", "address")
	fs.StringVar(&o.store, "store", "", "folder or s3://BUCKET/PREFIX")
	fs.StringVar(&o.cert, "tls-cert", "", "certificate")
	fs.StringVar(&o.key, "tls-key", "", "its key")
	fs.StringVar(&o.tokens, "token-file", "", "file of tokens")
	fs.StringVar(&o.clientCA, "tls-client-ca", "", "want certificates of clients, signed by these")
	fs.StringVar(&o.metrics, "metrics", "", "address for counters, such as localhost:9090")
	fs.StringVar(&o.log, "log", "text", "text or json")
	fs.Int64Var(&o.memory, "memory", 256, "MiB of bodies held at a time")
	if err := parse(fs, args, "store", "tls-cert", "tls-key", "token-file"); err != nil {
		return err
	}
	log, err := logger(o.log, stderr)
	if err != nil {
		return err
	}
	b, err := session.OpenPlace(ctx, o.store, func(format string, a ...any) { log.Warn(fmt.Sprintf(format, a...)) })
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }() // what was answered is durable already
	s, err := newService(b, o, log)
	if err != nil {
		return err
	}
	return s.run(ctx)
}

func logger(format string, w io.Writer) (*slog.Logger, error) {
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, nil)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, nil)), nil
	}
	return nil, report.Usagef("--log %q: want text or json", format)
}

// service is a server that runs.
type service struct {
	o       options
	log     *slog.Logger
	b       store.Backend
	handler *aslhttp.Server
	cert    keeper
	counts  *counters
}

func newService(b store.Backend, o options, log *slog.Logger) (*service, error) {
	s := &service{o: o, log: log, b: b, counts: &counters{}}
	if err := s.cert.load(o.cert, o.key); err != nil {
		return nil, err
	}
	tokens, err := readTokens(o.tokens)
	if err != nil {
		return nil, err
	}
	verify, err := store.BlockVerifier(b)
	if err != nil {
		return nil, err
	}
	s.handler = aslhttp.NewServer(b, aslhttp.ServerOptions{Tokens: tokens, Memory: o.memory << 20, Done: s.done, Verify: func(ctx context.Context, name string) (int64, error) {
		id, err := artifact.ParseDigest(strings.TrimPrefix(name, "blocks/"))
		if err != nil {
			return 0, err
		}
		return verify(ctx, id)
	}})
	return s, nil
}

func readTokens(file string) ([]aslhttp.Token, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, &report.Error{What: "read the file of tokens", Err: err, Code: report.Usage, Next: []string{"asl-backend token --role full --domain NAME >> " + file}}
	}
	defer func() { _ = f.Close() }() // only read
	t, err := aslhttp.ParseTokens(f)
	if err != nil {
		return nil, &report.Error{What: "read the file of tokens " + file, Err: err, Code: report.Usage}
	}
	if len(t) == 0 {
		return nil, &report.Error{Err: fmt.Errorf("%s holds no token, so nobody could use the server", file), Code: report.Usage, Next: []string{"asl-backend token --role full --domain NAME >> " + file}}
	}
	return t, nil
}

func (s *service) run(ctx context.Context) error {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.cert.get}
	if s.o.clientCA != "" {
		pem, err := os.ReadFile(s.o.clientCA)
		if err != nil {
			return report.Usagef("--tls-client-ca: %w", err)
		}
		conf.ClientCAs, conf.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !conf.ClientCAs.AppendCertsFromPEM(pem) {
			return report.Usagef("--tls-client-ca %s holds no certificate", s.o.clientCA)
		}
	}
	ln, err := net.Listen("tcp", s.o.listen)
	if err != nil {
		return &report.Error{What: "listen at " + s.o.listen, Err: err}
	}
	web := &http.Server{Handler: s.handler, TLSConfig: conf, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	failed := make(chan error, 2)
	go func() { failed <- web.ServeTLS(ln, "", "") }()
	if s.o.metrics != "" {
		m, err := net.Listen("tcp", s.o.metrics)
		if err != nil {
			return &report.Error{What: "listen at " + s.o.metrics, Err: err}
		}
		counts := &http.Server{Handler: s.counts, ReadHeaderTimeout: 10 * time.Second}
		go func() { failed <- counts.Serve(m) }()
		defer func() { _ = counts.Close() }() // nobody waits for it
	}
	s.log.Info("serving", "address", ln.Addr().String(), "store", s.b.Info().Where, "pin", s.cert.pin())
	return s.until(ctx, web, failed)
}

// until serves until it is told to end.
func (s *service) until(ctx context.Context, web *http.Server, failed <-chan error) error {
	again, end := make(chan os.Signal, 1), make(chan os.Signal, 2)
	signal.Notify(again, syscall.SIGHUP)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(again)
	defer signal.Stop(end)
	for {
		select {
		case err := <-failed:
			return &report.Error{What: "serve", Err: err}
		case <-again:
			s.reload()
			continue
		case <-end:
		case <-ctx.Done():
		}
		s.log.Info("ending: what is under way has 30 s")
		late, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		go func() {
			select {
			case <-end: // told twice
				cancel()
			case <-late.Done():
			}
		}()
		if err := web.Shutdown(late); err != nil {
			_ = web.Close() // they ask again, and lose nothing that was acknowledged
		}
		return nil
	}
}

// reload takes in tokens and certificate as they are now. What cannot be read changes nothing.
func (s *service) reload() {
	tokens, err := readTokens(s.o.tokens)
	if err == nil {
		err = s.cert.load(s.o.cert, s.o.key)
	}
	if err != nil {
		s.log.Error("not read again, going on with what was", "error", err.Error())
		return
	}
	s.handler.SetTokens(tokens)
	s.log.Info("read again", "tokens", len(tokens), "pin", s.cert.pin())
}

func (s *service) done(r aslhttp.Request) {
	s.counts.add(r)
	level := slog.LevelInfo
	switch {
	case r.Status >= 500:
		level = slog.LevelError
	case r.Status == http.StatusNotFound: // an answer
	case r.Status >= 400:
		level = slog.LevelWarn
	}
	a := []any{"method", r.Method, "path", r.Path, "status", r.Status, "remote", r.Remote, "domain", r.Domain, "role", string(r.Role), "in", r.In, "out", r.Out, "took_ms", r.Took.Milliseconds()}
	if r.Kind != "" {
		a = append(a, "kind", r.Kind, "detail", r.Detail)
	}
	s.log.Log(context.Background(), level, "request", a...)
}
