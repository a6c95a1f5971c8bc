package source

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// disk is a medium with faults. It checks that what failed as a whole is not asked for again.
type disk struct {
	data []byte
	bad  map[int64]unix.Errno // by sector of 512
	mu   sync.Mutex
	log  []string
	seen map[string]int // failed reads
}

func (d *disk) ReadAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log = append(d.log, fmt.Sprintf("%d+%d", off, len(p)))
	n, err := len(p), error(nil)
	if off >= int64(len(d.data)) {
		return 0, io.EOF
	}
	if off+int64(n) > int64(len(d.data)) {
		n, err = len(d.data)-int(off), io.EOF
	}
	for s := off / 512; s <= (off+int64(n)-1)/512; s++ {
		if no, ok := d.bad[s]; ok {
			n, err = max(0, int(s*512-off)), no
			if n == 0 {
				if d.seen == nil {
					d.seen = map[string]int{}
				}
				d.seen[d.log[len(d.log)-1]]++
			}
			break
		}
	}
	copy(p, d.data[off:off+int64(n)])
	return n, err
}

func randomBytes(n int, seed uint64) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

func imageOf(r io.ReaderAt, size int64) *linear {
	return &linear{info: Info{Kind: Image, Path: "/x", Size: size, Sector: 512}, r: r, changed: func() string { return "" }}
}

func TestOnlyTheBadSectorsAreGaps(t *testing.T) {
	data := randomBytes(6<<20+700, 1)
	for name, bad := range map[string]map[int64]unix.Errno{
		"none":             {},
		"first":            {0: unix.EIO},
		"one":              {5000: unix.ENODATA},
		"neighbours":       {100: unix.EIO, 101: unix.EIO, 102: unix.EIO},
		"two reasons":      {100: unix.EIO, 101: unix.EILSEQ},
		"across a step":    {2047: unix.EIO, 2048: unix.EIO, 8191: unix.EIO, 8192: unix.EIO},
		"the last, partly": {(6<<20 + 512) / 512: unix.EIO},
		"scattered":        {3: unix.EIO, 127: unix.EIO, 128: unix.EIO, 4095: unix.EIO, 4097: unix.EIO, 12000: unix.EIO},
	} {
		t.Run(name, func(t *testing.T) {
			want := bytes.Clone(data)
			var gaps []Gap
			for s := int64(0); s*512 < int64(len(data)); s++ {
				no, ok := bad[s]
				if !ok {
					continue
				}
				end := min(s*512+512, int64(len(data)))
				clear(want[s*512 : end])
				if k := len(gaps) - 1; k >= 0 && gaps[k].Off+gaps[k].Len == s*512 && gaps[k].Why == no.Error() {
					gaps[k].Len += end - s*512
					continue
				}
				gaps = append(gaps, Gap{Off: s * 512, Len: end - s*512, Kind: Unreadable, Why: no.Error()})
			}
			d := &disk{data: data, bad: bad}
			l := imageOf(d, int64(len(data)))
			buf := bytes.Repeat([]byte{0xee}, len(data)+4096)
			n, got, err := l.Read(t.Context(), buf, 0)
			if err != nil || n != len(data) {
				t.Fatalf("read %d bytes, %v; want %d", n, err, len(data))
			}
			if !reflect.DeepEqual(got, gaps) {
				t.Fatalf("gaps\n%v, want\n%v", got, gaps)
			}
			if !bytes.Equal(buf[:n], want) {
				t.Fatal("the bytes are not those of the disk with zeros for what is bad")
			}
			for k, c := range d.seen {
				if c > 1 {
					t.Errorf("the failing read %s was made %d times", k, c)
				}
			}
		})
	}
}

func TestReadsAtAnyOffsetAgree(t *testing.T) {
	data := randomBytes(300<<10, 2)
	bad := map[int64]unix.Errno{7: unix.EIO, 8: unix.EIO, 300: unix.EIO}
	want := bytes.Clone(data)
	for s := range bad {
		clear(want[s*512 : s*512+512])
	}
	l := imageOf(&disk{data: data, bad: bad}, int64(len(data)))
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		off := r.Int64N(int64(len(data)))
		buf := make([]byte, 1+r.IntN(20000))
		n, gaps, err := l.Read(t.Context(), buf, off)
		if err != nil || n != int(min(int64(len(buf)), int64(len(data))-off)) {
			t.Fatalf("%d at %d: %d, %v", len(buf), off, n, err)
		}
		var inGaps int64
		for _, g := range gaps {
			if g.Off < off || g.Off+g.Len > off+int64(n) {
				t.Fatalf("%d at %d: gap %v lies outside", len(buf), off, g)
			}
			inGaps += g.Len
		}
		var wantGaps int64
		for i := off; i < off+int64(n); i++ {
			if _, ok := bad[i/512]; ok {
				wantGaps++
			}
		}
		if inGaps != wantGaps {
			t.Fatalf("%d at %d: %d bytes in gaps, want %d", len(buf), off, inGaps, wantGaps)
		}
		if !bytes.Equal(buf[:n], want[off:off+int64(n)]) {
			t.Fatalf("%d at %d: other bytes", len(buf), off)
		}
	}
}

func TestAFailedReadIsNotMadeAgain(t *testing.T) {
	for _, size := range []int{100, 512, 4096, 64 << 10, 1 << 20, 4 << 20} {
		d := &disk{data: randomBytes(4<<20, 8), bad: map[int64]unix.Errno{0: unix.EIO}}
		_, gaps, err := imageOf(d, 4<<20).Read(t.Context(), make([]byte, size), 0)
		if want := []Gap{{Off: 0, Len: int64(min(size, 512)), Kind: Unreadable, Why: "input/output error"}}; err != nil || !reflect.DeepEqual(gaps, want) {
			t.Errorf("%d bytes: %v, %v; want %v", size, gaps, err, want)
		}
		for k, c := range d.seen {
			if c > 1 {
				t.Errorf("%d bytes: the failing read %s was made %d times", size, k, c)
			}
		}
	}
}

// readerFunc is an io.ReaderAt.
type readerFunc func(p []byte, off int64) (int, error)

func (f readerFunc) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

func TestDeviceGone(t *testing.T) {
	for _, no := range []unix.Errno{unix.ENXIO, unix.ENODEV, unix.ENOMEDIUM, unix.ESTALE} {
		l := imageOf(readerFunc(func(p []byte, off int64) (int, error) {
			if off+int64(len(p)) > 5000 {
				return int(max(0, 5000-off)), &os.PathError{Op: "read", Path: "/x", Err: no}
			}
			return len(p), nil
		}), 1<<20)
		n, gaps, err := l.Read(t.Context(), make([]byte, 8192), 0)
		if n != 5000 || len(gaps) != 0 || !errors.Is(err, ErrGone) || !errors.Is(err, no) {
			t.Errorf("%v: %d, %v, %v; want 5000 bytes and ErrGone", no, n, gaps, err)
		}
	}
}

func TestEIOOfADeviceThatIsGoneIsNotAGap(t *testing.T) {
	reads := 0
	l := imageOf(readerFunc(func(p []byte, off int64) (int, error) { reads++; return 0, unix.EIO }), 1<<30)
	l.alive = func() error { return fmt.Errorf("%w: pulled out", ErrGone) }
	n, gaps, err := l.Read(t.Context(), make([]byte, 1<<20), 0)
	if n != 0 || gaps != nil || !errors.Is(err, ErrGone) || reads != 1 {
		t.Fatalf("%d bytes, gaps %v, %v after %d reads", n, gaps, err, reads)
	}
	// A device that lost its size looks like the end of a file.
	l.r = readerFunc(func(p []byte, off int64) (int, error) { return 0, io.EOF })
	if _, _, err := l.Read(t.Context(), make([]byte, 1<<20), 0); !errors.Is(err, ErrGone) {
		t.Fatalf("end of file: %v, want ErrGone", err)
	}
}

func TestOtherErrorsEndTheReading(t *testing.T) {
	l := imageOf(readerFunc(func(p []byte, off int64) (int, error) { return 0, unix.EACCES }), 1<<20)
	if n, gaps, err := l.Read(t.Context(), make([]byte, 4096), 0); n != 0 || gaps != nil || !errors.Is(err, unix.EACCES) || errors.Is(err, ErrGone) {
		t.Fatalf("%d, %v, %v", n, gaps, err)
	}
}

func TestReadStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	reads := 0
	l := imageOf(readerFunc(func(p []byte, off int64) (int, error) {
		if reads++; reads == 100 {
			cancel()
		}
		return 0, unix.EIO
	}), 1<<30)
	n, gaps, err := l.Read(ctx, make([]byte, 4<<20), 0)
	if !errors.Is(err, context.Canceled) || reads != 100 {
		t.Fatalf("%v after %d reads", err, reads)
	}
	var sum int64
	for _, g := range gaps {
		sum += g.Len
	}
	if int64(n) != sum || n == 0 {
		t.Fatalf("%d bytes are done, the gaps hold %d", n, sum)
	}
}

func TestFineReaderSavesWhatThePageCacheHides(t *testing.T) {
	data := randomBytes(1<<20, 3)
	fine := &disk{data: data, bad: map[int64]unix.Errno{9: unix.EIO}}
	coarse := readerFunc(func(p []byte, off int64) (int, error) {
		if off < 8192 && off+int64(len(p)) > 4096 { // the whole page fails
			return int(max(0, 4096-off)), unix.EIO
		}
		return copy(p, data[off:]), nil
	})
	l := imageOf(coarse, int64(len(data)))
	l.fine = fine
	_, gaps, err := l.Read(t.Context(), make([]byte, len(data)), 0)
	if want := []Gap{{Off: 9 * 512, Len: 512, Kind: Unreadable, Why: "input/output error"}}; err != nil || !reflect.DeepEqual(gaps, want) {
		t.Fatalf("%v, %v; want %v", gaps, err, want)
	}
}

func tempFile(t *testing.T, data []byte) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(p, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestImage(t *testing.T) {
	data := randomBytes(5<<20+123, 4)
	path := tempFile(t, data)
	// Far enough back that relatime would want to set it anew.
	long := time.Unix(1e9, 0)
	if err := os.Chtimes(path, long, time.Now()); err != nil {
		t.Fatal(err)
	}
	l, err := OpenImage(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	info := l.Info()
	if info.Kind != Image || info.Size != int64(len(data)) || info.Path != path || info.Name != "disk.img" || info.Sector != 512 {
		t.Errorf("info %+v", info)
	}
	got := make([]byte, 0, len(data))
	for buf := make([]byte, 1<<20); ; {
		n, gaps, err := l.Read(t.Context(), buf, int64(len(got)))
		if err != nil || gaps != nil {
			t.Fatal(gaps, err)
		}
		got = append(got, buf[:n]...)
		if n < len(buf) {
			break
		}
	}
	if !bytes.Equal(got, data) {
		t.Fatal("other bytes")
	}
	if c := l.Changed(); c != "" {
		t.Errorf("changed: %s", c)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Atim.Sec != 1e9 {
		t.Errorf("access time is %d, %v: reading touched the source", st.Atim.Sec, err)
	}
	if _, _, err := l.Read(t.Context(), make([]byte, 1), -1); err == nil {
		t.Error("a negative offset is read")
	}
}

func TestImageThatChanges(t *testing.T) {
	data := randomBytes(1<<20, 5)
	for name, c := range map[string]struct {
		do   func(path string) error
		n    int
		want string
	}{
		"shrinks":  {func(p string) error { return os.Truncate(p, 5000) }, 5000, "it shrank from 1048576 to 5000 bytes"},
		"grows":    {func(p string) error { return os.Truncate(p, 2<<20) }, 1 << 20, "it grew from 1048576 to 2097152 bytes"},
		"modified": {func(p string) error { return os.Chtimes(p, time.Time{}, time.Unix(5, 0)) }, 1 << 20, "its content was modified"},
		"inode":    {func(p string) error { return os.Chmod(p, 0o600) }, 1 << 20, "its inode was changed"},
		"deleted":  {os.Remove, 1 << 20, "its inode was changed"},
	} {
		t.Run(name, func(t *testing.T) {
			path := tempFile(t, data)
			// An old ctime cannot be set; the hard link and its removal move it to now at the latest.
			l, err := OpenImage(path)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			before := stampAt(t, path)
			for done := false; !done; { // until the clock of the file system has moved on
				if err := c.do(path); err != nil {
					t.Fatal(err)
				}
				if name == "deleted" || name == "shrinks" || name == "grows" {
					break
				}
				done = stampAt(t, path).CTime != before.CTime
			}
			n, _, err := l.Read(t.Context(), make([]byte, 4<<20), 0)
			if n != c.n || err != nil {
				t.Errorf("read %d, %v; want %d", n, err, c.n)
			}
			if got := l.Changed(); name != "deleted" && !strings.HasPrefix(got, c.want) {
				t.Errorf("changed: %q, want %q", got, c.want)
			}
		})
	}
}

func stampAt(t *testing.T, path string) Stamp {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return stampOf(&st)
}

func TestOpenPicksByWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	os.WriteFile(file, []byte("x"), 0o644)
	os.Symlink("f", filepath.Join(dir, "link"))
	os.Symlink(".", filepath.Join(dir, "dirlink"))
	unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600)
	for path, kind := range map[string]Kind{"": Tree, "f": Image, "link": Image, "dirlink": Tree} {
		s, err := Open(filepath.Join(dir, path))
		if err != nil {
			t.Fatalf("%q: %v", path, err)
		}
		if got := s.Info(); got.Kind != kind || got.ID == "" || got.Name == "" || got.Path != filepath.Join(dir, path) {
			t.Errorf("%q: %+v, want a %s", path, got, kind)
		}
		s.Close()
	}
	for _, path := range []string{filepath.Join(dir, "fifo"), "/dev/null"} {
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "piped") {
			t.Errorf("%s: %v", path, err)
		}
		if _, err := OpenDevice(path); err == nil {
			t.Errorf("OpenDevice takes %s", path)
		}
		if _, err := OpenImage(path); err == nil {
			t.Errorf("OpenImage takes %s", path)
		}
	}
	if _, err := Open(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
}

// dribble gives its bytes a few at a time.
type dribble struct {
	data []byte
	err  error
	n    int
}

func (d *dribble) Read(p []byte) (int, error) {
	d.n++
	if len(d.data) == 0 {
		return 0, d.err
	}
	n := copy(p, d.data[:min(len(d.data), d.n%7)])
	d.data = d.data[n:]
	return n, nil
}

func TestStream(t *testing.T) {
	data := randomBytes(10000, 6)
	s := OpenStream(&dribble{data: data, err: io.EOF}, "stdin")
	if i := s.Info(); i.Size != -1 || i.Kind != Stream || i.Name != "stdin" {
		t.Errorf("%+v", i)
	}
	buf := make([]byte, 4096)
	var got []byte
	for {
		n, gaps, err := s.Read(t.Context(), buf, int64(len(got)))
		if err != nil || gaps != nil {
			t.Fatal(err)
		}
		got = append(got, buf[:n]...)
		if n < len(buf) {
			break
		}
	}
	if !bytes.Equal(got, data) {
		t.Fatal("other bytes")
	}
	if _, _, err := s.Read(t.Context(), buf, 0); err == nil {
		t.Error("a stream went back")
	}
	if n, _, err := s.Read(t.Context(), buf, 10000); n != 0 || err != nil {
		t.Errorf("after the end: %d, %v", n, err)
	}
	broken := OpenStream(&dribble{data: data[:100], err: io.ErrUnexpectedEOF}, "stdin")
	if n, _, err := broken.Read(t.Context(), buf, 0); n != 100 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("broken: %d, %v", n, err)
	}
	idle := OpenStream(&dribble{}, "stdin")
	if _, _, err := idle.Read(t.Context(), buf, 0); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("idle: %v", err)
	}
}

func TestStreamThatWaitsIsCancelled(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.WriteString("abc"); err != nil {
		t.Fatal(err)
	}
	s := OpenStream(r, "stdin")
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	type result struct {
		n   int
		err error
	}
	done := make(chan result)
	go func() {
		n, _, err := s.Read(ctx, make([]byte, 10), 0)
		done <- result{n, err}
	}()
	cancel()
	if got := <-done; got.n > 3 || !errors.Is(got.err, context.Canceled) {
		t.Fatalf("%+v", got)
	}
}

// loop attaches a file to a free loop device and gives its path.
func loop(t *testing.T, file string, sector uint32) string {
	t.Helper()
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("a block device is needed, and only root can make one: %v", err)
	}
	defer ctl.Close()
	back, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	for range 20 { // others may take the free one first
		n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			t.Fatal(err)
		}
		path := fmt.Sprintf("/dev/loop%d", n)
		dev, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		err = unix.IoctlLoopConfigure(int(dev.Fd()), &unix.LoopConfig{Fd: uint32(back.Fd()), Size: sector})
		if err == unix.EBUSY {
			dev.Close()
			continue
		}
		if err != nil {
			dev.Close()
			t.Fatal(err)
		}
		t.Cleanup(func() {
			unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_CLR_FD, 0)
			dev.Close()
		})
		return path
	}
	t.Fatal("no free loop device")
	return ""
}

func TestDevice(t *testing.T) {
	for _, sector := range []uint32{512, 4096} {
		t.Run(fmt.Sprint(sector), func(t *testing.T) {
			data := randomBytes(3<<20+3*int(sector), uint64(sector))
			path := loop(t, tempFile(t, data), sector)
			src, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			l := src.(Linear)
			defer l.Close()
			info := l.Info()
			if info.Kind != Device || info.Size != int64(len(data)) || info.Sector != int(sector) || !strings.Contains(info.ID, "loop=") {
				t.Errorf("%+v", info)
			}
			if strings.Contains(info.ID, filepath.Base(path)) {
				t.Errorf("the ID %q holds the kernel's name", info.ID)
			}
			if l.(*linear).r.(*directReader).refused.Load() {
				t.Error("not read directly")
			}
			r := rand.New(rand.NewPCG(3, 4))
			for i := range 200 {
				off, n := r.Int64N(info.Size), 1+r.IntN(100000)
				switch i {
				case 0:
					off, n = 0, len(data)+10
				case 1:
					off, n = 1, len(data)
				case 2:
					off, n = int64(len(data))-10, 10
				}
				buf := alignedBuffer(n + 8)
				if i%2 == 1 {
					buf = buf[1:]
				}
				buf = buf[:n]
				got, gaps, err := l.Read(t.Context(), buf, off)
				if want := data[off:min(len(data), int(off)+n)]; err != nil || gaps != nil || !bytes.Equal(buf[:got], want) {
					t.Fatalf("%d at %d: %d, %v, %v", n, off, got, gaps, err)
				}
			}
			if l.(*linear).r.(*directReader).refused.Load() {
				t.Error("direct reading was given up")
			}
			if c := l.Changed(); c != "" {
				t.Errorf("changed: %s", c)
			}
			w, err := os.OpenFile(path, os.O_WRONLY|os.O_SYNC, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.WriteAt(make([]byte, 8192), 8192); err != nil {
				t.Fatal(err)
			}
			w.Close()
			if c := l.Changed(); c != "the kernel counted 16 sectors of 512 bytes written or discarded on it" {
				t.Errorf("after a write of 8192 bytes: %q", c)
			}
		})
	}
}

func TestDeviceWithRealReadErrors(t *testing.T) {
	data := randomBytes(1<<20, 9)
	file := tempFile(t, data)
	path := loop(t, file, 512)
	// What the file behind the device no longer has, the device cannot read: EIO from a real kernel.
	if err := os.Truncate(file, 700_000/4096*4096); err != nil {
		t.Fatal(err)
	}
	cut := int64(700_000 / 4096 * 4096)
	l, err := OpenDevice(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	buf := make([]byte, len(data))
	n, gaps, err := l.Read(t.Context(), buf, 0)
	want := []Gap{{Off: cut, Len: int64(len(data)) - cut, Kind: Unreadable, Why: unix.EIO.Error()}}
	if err != nil || n != len(data) || !reflect.DeepEqual(gaps, want) {
		t.Fatalf("%d, %v, %v; want %v", n, gaps, err, want)
	}
	clear(data[cut:])
	if sha256.Sum256(buf) != sha256.Sum256(data) {
		t.Fatal("other bytes")
	}
}

func TestDirectReaderFallsBackWhenRefused(t *testing.T) {
	data := randomBytes(1<<20+100, 10)
	f, err := os.Open(tempFile(t, data))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// A descriptor opened O_DIRECT answers EINVAL to what is not aligned.
	direct, err := os.OpenFile(f.Name(), os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	for _, skip := range []int{0, 1} {
		d := &directReader{direct: direct, buffered: f, size: int64(len(data)), sector: 3} // makes every read unaligned
		buf := alignedBuffer(len(data) + 1)[skip:]
		n, err := d.ReadAt(buf[:len(data)], 0)
		if n != len(data) || err != nil || !bytes.Equal(buf[:n], data) {
			t.Fatalf("%d, %v", n, err)
		}
		if !d.refused.Load() {
			t.Error("nothing was refused, so nothing was tested")
		}
	}
}

func TestDirectReaderAtAnEndThatIsNoWholeSector(t *testing.T) {
	data := randomBytes(1<<20+100, 11)
	f, err := os.Open(tempFile(t, data))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	direct, err := os.OpenFile(f.Name(), os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	d := &directReader{direct: direct, buffered: f, size: int64(len(data)), sector: 4096}
	for _, off := range []int{0, 1, 4096, 1<<20 - 1, 1 << 20, 1<<20 + 99} {
		buf := make([]byte, len(data)-off)
		if n, err := d.ReadAt(buf, int64(off)); n != len(buf) || err != nil || !bytes.Equal(buf, data[off:]) {
			t.Errorf("from %d: %d, %v", off, n, err)
		}
	}
	if n, err := d.ReadAt(make([]byte, 200), int64(len(data))-50); n != 50 || err != io.EOF {
		t.Errorf("across the end: %d, %v", n, err)
	}
	if d.refused.Load() {
		t.Error("direct reading was given up")
	}
}

func TestAlignedBuffer(t *testing.T) {
	for range 50 {
		if b := alignedBuffer(1000); len(b) != 1000 || uintptr(unsafe.Pointer(&b[0]))%pageAlign != 0 {
			t.Fatal(len(b), &b[0])
		}
	}
}

func TestDeviceFacts(t *testing.T) {
	write := func(root string, files map[string]string) string {
		for name, s := range files {
			p := filepath.Join(root, name)
			os.MkdirAll(filepath.Dir(p), 0o755)
			if err := os.WriteFile(p, []byte(s), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return root
	}
	for name, c := range map[string]struct {
		files         map[string]string
		at            string
		model, serial string
		id            string
	}{
		"SATA": {map[string]string{"sda/device/model": "WDC WD40EFRX-68N\n", "sda/device/vpd_pg80": "\x00\x80\x00\x14     WD-WCC7K1234567", "sda/device/wwid": "naa.50014ee2b1234567\n"},
			"sda", "WDC WD40EFRX-68N", "WD-WCC7K1234567", "device wwn=naa.50014ee2b1234567 serial=WD-WCC7K1234567 model=WDC+WD40EFRX-68N size=1000"},
		"partition": {map[string]string{"sda/device/vpd_pg80": "\x00\x80\x00\x03ABC", "sda/sda2/partition": "2\n", "sda/sda2/start": "2048\n"},
			"sda/sda2", "", "ABC", "device serial=ABC start=2048 size=1000"},
		"NVMe": {map[string]string{"n/device/model": "Samsung SSD 980 PRO 1TB                 \n", "n/device/serial": "S5GXNX0R\n", "n/wwid": "eui.002538b111\n"},
			"n", "Samsung SSD 980 PRO 1TB", "S5GXNX0R", "device wwn=eui.002538b111 serial=S5GXNX0R model=Samsung+SSD+980+PRO+1TB size=1000"},
		"virtio":  {map[string]string{"vda/serial": "disk-1"}, "vda", "", "disk-1", "device serial=disk-1 size=1000"},
		"dm":      {map[string]string{"dm-0/dm/uuid": "LVM-abc\n", "dm-0/dm/name": "vg-lv\n"}, "dm-0", "", "", "device dm=LVM-abc size=1000"},
		"nothing": {map[string]string{"sda/size": "1"}, "sda", "", "", "device size=1000"},
		"a liar":  {map[string]string{"sda/device/vpd_pg80": "\x00\x80\xff\xff\xff\x00x"}, "sda", "", "?\x00x", "device serial=%3F%00x size=1000"},
	} {
		t.Run(name, func(t *testing.T) {
			root := write(t.TempDir(), c.files)
			d := readDeviceFacts(filepath.Join(root, c.at))
			if d.model != c.model || d.serial != c.serial || d.id(1000) != c.id {
				t.Errorf("model %q, serial %q, id %q; want %q, %q, %q", d.model, d.serial, d.id(1000), c.model, c.serial, c.id)
			}
		})
	}
	if d := readDeviceFacts(filepath.Join(t.TempDir(), "none")); d.known || d.id(5) != "device size=5" {
		t.Errorf("%+v", d)
	}
	dir := write(t.TempDir(), map[string]string{"stat": "  1 2 3 4 5 6 700 8 9 10 11 12 13 50 15 16 17\n"})
	if n, ok := writeCounter(dir); n != 750 || !ok {
		t.Errorf("write counter %d, %v", n, ok)
	}
	if _, ok := writeCounter(filepath.Join(dir, "none")); ok {
		t.Error("there is a counter where there is none")
	}
}
