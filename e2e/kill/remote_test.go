package kill

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

var remoteKills = flag.Int("remote-kills", 4, "how many SIGKILLs must hit a client, and as many a server, of an intake over https")

// far is a server that is killed and started again, at one address.
type far struct {
	s             *stand
	dir, port     string
	store, tokens string
	server        *process
}

func newFar(t *testing.T, s *stand) *far {
	build := exec.Command("go", "build", "-o", s.bin+"/", "./cmd/asl-backend")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	f := &far{s: s, dir: filepath.Join(s.dir, "far"), port: fmt.Sprint(ln.Addr().(*net.TCPAddr).Port)}
	must(t, ln.Close())
	f.store, f.tokens = filepath.Join(f.dir, "store"), filepath.Join(f.dir, "tokens")
	must(t, exec.Command(s.bin+"/asl-backend", "certificate", "--host", "127.0.0.1", "--dir", f.dir).Run())
	line, err := exec.Command("sh", "-c", s.bin+"/asl-backend token --role full --domain rescue-domain 2>"+f.dir+"/said").Output()
	must(t, err)
	must(t, os.WriteFile(f.tokens, line, 0o600))
	must(t, exec.Command("sh", "-c", "sed -n 's/^token: //p' "+f.dir+"/said >"+f.dir+"/token").Run())
	return f
}

func (f *far) serve(t *testing.T) {
	t.Helper()
	p, err := start(nil, f.s.bin+"/asl-backend", "serve", "--listen", "127.0.0.1:"+f.port, "--store", f.store, "--tls-cert", f.dir+"/cert.pem", "--tls-key", f.dir+"/key.pem", "--token-file", f.tokens)
	must(t, err)
	if !p.says("serving") {
		t.Fatalf("the server: %s", p.wait())
	}
	go func() { // nobody else hears it
		for range p.errs {
		}
	}()
	f.server = p
}

// TestRemoteKills kills clients and servers in the middle of an intake over https. The client goes on by itself when the server is back, and the same command goes on when the
// client was killed; it ends with the roots of an undisturbed local run, nothing sealed is stored twice, and the store verifies.
func TestRemoteKills(t *testing.T) {
	s := newStand(t, "little")
	f := newFar(t, s)
	rng := rand.New(rand.NewPCG(*seedFlag, 5))
	j := s.jobs["little"]
	flags := j.flags
	clients, servers, series := 0, 0, 0
	for ; (clients < *remoteKills || servers < *remoteKills) && series < 20**remoteKills; series++ {
		must(t, os.RemoveAll(f.store))
		f.serve(t)
		run := *j
		run.flags = append(flags[:len(flags):len(flags)], "--tls-ca", f.dir+"/cert.pem", "--token-file", f.dir+"/token", "--give-up-after", "2m")
		for {
			p, err := s.intake(&run, "https://127.0.0.1:"+f.port)
			must(t, err)
			go func() {
				for range p.errs {
				}
			}()
			// Each disturbance comes at a moment of its own; not all of them come in time.
			wait := func() time.Duration { return time.Duration(rng.Int64N(int64(j.took) * 3 / 2)) }
			if clients <= servers {
				p.after(wait(), p.kill)
			} else {
				p.after(wait(), func() {
					f.server.kill()
					if f.server.wait().killed() {
						servers++
					}
					f.serve(t)
				})
			}
			o := p.wait()
			if o.killed() {
				clients++
				continue
			}
			if o.code() != 0 {
				t.Fatalf("series %d, seed %d: %s", series, *seedFlag, o)
			}
			for name, root := range o.roots() {
				if j.roots[name] != root {
					t.Fatalf("series %d, seed %d: root of %s is %s, want %s", series, *seedFlag, name, root, j.roots[name])
				}
			}
			break
		}
		f.server.kill()
		f.server.wait()
		out, err := exec.Command(s.bin+"/asl-debug", "--store", f.store, "validate").CombinedOutput()
		if err != nil {
			t.Fatalf("series %d, seed %d: %v\n%s", series, *seedFlag, err, out)
		}
	}
	t.Logf("%d series, %d kills of clients, %d of servers", series, clients, servers)
	if clients < *remoteKills || servers < *remoteKills {
		t.Errorf("only %d kills of clients and %d of servers hit", clients, servers)
	}
}
