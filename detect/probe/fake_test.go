package probe

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"aslrescue/detect"
)

// The test program is its own child, as the real one is.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == ChildArg {
		os.Exit(Child(os.Args[2:], os.Stdout))
	}
	os.Exit(m.Run())
}

// deadline is for what must come at last; under load that can take long.
const deadline = time.Minute

// fake is a machine made of files in a folder, of tools that say what they are told to, and of a clock that stands.
type fake struct {
	*Machine
	t     *testing.T
	clock *fakeClock
	tools map[string]Output

	mu   sync.Mutex
	argv []string
	wish Wish
}

func newFake(t *testing.T) *fake {
	f := &fake{t: t, clock: &fakeClock{now: time.Unix(1_798_000_000, 0)}, tools: map[string]Output{}, wish: Wish{Policy: detect.Policy{LocalMount: "/mnt/asl/local"}, StateDir: "/var/lib/asl"}}
	f.Machine = &Machine{
		Root: t.TempDir(), Tool: "test", Clock: f.clock,
		Console: func() detect.Console { return detect.Console{Kind: detect.NoTTY} },
		Run:     f.run,
		Child: func(_ context.Context, r Request) (io.ReadCloser, error) { // in this process: nothing hangs
			return io.NopCloser(strings.NewReader(answer(r))), nil
		},
		Resolve: func(context.Context, string) ([]string, error) { return nil, errors.New("no network") },
	}
	f.file("/proc/self/mountinfo", "23 28 0:22 / /proc rw - proc proc rw\n28 1 0:25 / / rw - overlay airootfs rw,lowerdir=/run/archiso/sfs,upperdir=/run/archiso/cowspace/up\n"+
		"30 28 0:26 / /run rw - tmpfs run rw\n31 30 0:27 / /run/archiso/cowspace rw - tmpfs cowspace rw\n")
	f.file("/proc/meminfo", "MemTotal:       16000000 kB\nMemFree: 1 kB\nMemAvailable:   14000000 kB\n")
	f.file("/proc/mdstat", "Personalities :\nunused devices: <none>\n")
	f.file("/var/lib/asl/locks/x", "")
	f.file("/mnt/asl/local/x", "")
	return f
}

func (f *fake) run(_ context.Context, name string, args ...string) (Output, error) {
	argv := strings.Join(append([]string{filepath.Base(name)}, args...), " ")
	f.mu.Lock()
	defer f.mu.Unlock()
	f.argv = append(f.argv, argv)
	for words, out := range f.tools {
		if strings.HasPrefix(argv+" ", words+" ") {
			return out, nil
		}
	}
	return Output{}, errors.New("no such tool: " + argv)
}

func (f *fake) ran() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.argv)
}

// file makes a file of the machine.
func (f *fake) file(p, text string) {
	f.t.Helper()
	p = f.path(p)
	if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(text), 0o755)); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fake) link(p, to string) {
	f.t.Helper()
	p = f.path(p)
	if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.Symlink(to, p)); err != nil {
		f.t.Fatal(err)
	}
}

// disk makes what the kernel shows of a disk. Its bytes are made by the caller, at /dev/NAME.
func (f *fake) disk(name, bus, number, sectors string, parts ...string) {
	real := "/sys/devices/pci0000:00/" + bus + "/block/" + name
	f.link("/sys/block/"+name, "../devices/pci0000:00/"+bus+"/block/"+name)
	f.link("/sys/class/block/"+name, "../../devices/pci0000:00/"+bus+"/block/"+name)
	f.link("/sys/dev/block/"+number, "../../devices/pci0000:00/"+bus+"/block/"+name)
	for file, text := range map[string]string{"size": sectors, "dev": number, "stat": "1 0 8 0 0 0 0 0 0 0 0", "queue/rotational": "1", "queue/logical_block_size": "512",
		"queue/physical_block_size": "4096", "removable": "0", "ro": "0", "device/model": "WDC WD40EFRX  ", "device/vendor": "ATA", "device/state": "running"} {
		f.file(real+"/"+file, text+"\n")
	}
	f.file(real+"/device/vpd_pg80", "\x00\x80\x00\x0c WD-"+strings.ToUpper(name)+"0001 ")
	f.file(real+"/device/wwid", "naa.5000c500000000"+number[:1]+"\n")
	major, minor, _ := strings.Cut(number, ":")
	_ = minor
	for i, p := range parts { // name:start:sectors
		w := strings.Split(p, ":")
		dir := real + "/" + w[0]
		for file, text := range map[string]string{"partition": "1", "start": w[1], "size": w[2]} {
			f.file(dir+"/"+file, text+"\n")
		}
		f.link("/sys/class/block/"+w[0], "../../devices/pci0000:00/"+bus+"/block/"+name+"/"+w[0])
		f.link("/sys/dev/block/"+major+":"+string(rune('1'+i)), "../../devices/pci0000:00/"+bus+"/block/"+name+"/"+w[0])
	}
}

// once looks until nothing is late; the clock stands, so nothing can be too late.
func (f *fake) once() Update {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	u, err := Once(ctx, f.Machine, f.wish)
	if err != nil {
		f.t.Fatal(err)
	}
	return u
}

// until waits for an update that fits.
func until(t *testing.T, l *Looker, what string, fits func(Update) bool) Update {
	t.Helper()
	up := time.After(deadline)
	var last Update
	for {
		select {
		case u, ok := <-l.Updates():
			if !ok {
				t.Fatalf("%s: the looker ended", what)
			}
			if last = u; fits(u) {
				return u
			}
		case <-up:
			t.Fatalf("%s: did not come; the last had %v late:\n%s", what, last.Decision.Late, last.Decision.Text(110))
		}
	}
}

func answer(r Request) string {
	var b bytes.Buffer
	args, err := marshal(r)
	if err != nil {
		return err.Error()
	}
	_ = Child([]string{args}, &b)
	return b.String()
}

// fakeClock stands until it is moved.
type fakeClock struct {
	mu      sync.Mutex
	now     time.Time
	waiting []alarm
}

type alarm struct {
	at time.Time
	ch chan time.Time
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) After(d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := alarm{c.now.Add(d), make(chan time.Time, 1)}
	c.waiting = append(c.waiting, a)
	return a.ch
}

func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	c.waiting = slices.DeleteFunc(c.waiting, func(a alarm) bool {
		if a.at.After(c.now) {
			return false
		}
		a.ch <- c.now
		return true
	})
}

func timeoutContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), deadline)
}

func shortContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 50*time.Millisecond)
}
