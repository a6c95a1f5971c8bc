package source

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"aslrescue/engine/source/passes"
)

// TestMain lets this test binary be what asl-intake starts to read a device.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case ReaderArg:
			os.Exit(ReaderMain(os.Args[2:]))
		case "try-to-escape":
			os.Exit(escape())
		}
	}
	os.Exit(m.Run())
}

func child(path string) *exec.Cmd { return exec.Command("/proc/self/exe", ReaderArg, path) }

func inChild(t *testing.T, path string, timeout time.Duration) *reader {
	t.Helper()
	src, err := OpenDevice(path)
	if err != nil {
		t.Fatal(err)
	}
	r := InProcess(src.(Raw), child, timeout).(*reader)
	t.Cleanup(func() { r.Close() })
	return r
}

func TestReaderProcess(t *testing.T) {
	data := randomBytes(20<<20+512*3, 21)
	file := tempFile(t, data)
	path := loop(t, file, 512)
	r := inChild(t, path, 0)
	for _, rd := range []passes.Read{
		{Off: 0, Len: 16 << 20, Step: 1 << 20},
		{Off: 0, Len: int64(len(data)), Step: 4 << 20},
		{Off: 3 << 20, Len: 12 << 20, Step: 64 << 10, Back: true},
		{Off: 512, Len: 100 * 512, Step: 512},
		{Off: int64(len(data)) - 512, Len: 512, Step: 512, Back: true},
	} {
		buf := make([]byte, rd.Len)
		res, errno, err := r.Try(t.Context(), buf, rd)
		if err != nil || errno != 0 || res.Good != rd.Len || res.Bad != 0 || !bytes.Equal(buf, data[rd.Off:rd.Off+rd.Len]) {
			t.Errorf("%+v: %+v, %v, %v", rd, res, errno, err)
		}
	}
	// What the file behind the device no longer has, the device cannot read: EIO from a real kernel.
	cut := int64(10 << 20)
	if err := os.Truncate(file, cut); err != nil {
		t.Fatal(err)
	}
	for _, back := range []bool{false, true} {
		rd := passes.Read{Off: cut - 1<<20, Len: 2 << 20, Step: 64 << 10, Back: back}
		buf := make([]byte, rd.Len)
		res, errno, err := r.Try(t.Context(), buf, rd)
		good := int64(1 << 20)
		if back {
			good = 0
		}
		if err != nil || errno != unix.EIO || res.Good != good || res.Bad != 64<<10 || !bytes.Equal(buf[:good], data[rd.Off:rd.Off+good]) {
			t.Errorf("back %v: %+v, %v, %v", back, res, errno, err)
		}
	}
	buf := make([]byte, 2<<20)
	n, gaps, err := r.Read(t.Context(), buf, cut-1<<20)
	if err != nil || n != len(buf) || len(gaps) != 1 || gaps[0].Off != cut || gaps[0].Len != 1<<20 || !bytes.Equal(buf[:1<<20], data[cut-1<<20:cut]) {
		t.Errorf("%d, %+v, %v", n, gaps, err)
	}
}

// TestAReaderThatHangs: its read counts as bad after the time that it may take, its ring is left to it, and the next process goes on.
func TestAReaderThatHangs(t *testing.T) {
	data := randomBytes(4<<20, 22)
	r := inChild(t, loop(t, tempFile(t, data), 512), time.Minute)
	rd := passes.Read{Off: 1 << 20, Len: 1 << 20, Step: 64 << 10}
	buf := make([]byte, rd.Len)
	if res, _, err := r.Try(t.Context(), buf, rd); err != nil || res.Good != rd.Len {
		t.Fatalf("%+v, %v", res, err)
	}
	stuck := r.now.cmd.Process
	halt(t, stuck)
	r.timeout = 300 * time.Millisecond
	res, errno, err := r.Try(t.Context(), buf, rd)
	if err != nil || errno != unix.ETIMEDOUT || res.Good != 0 || res.Bad != 64<<10 {
		t.Fatalf("%+v, %v, %v", res, errno, err)
	}
	if r.now != nil {
		t.Error("the stuck reader is still asked")
	}
	r.timeout = time.Minute
	if res, errno, err = r.Try(t.Context(), buf, rd); err != nil || errno != 0 || res.Good != rd.Len || !bytes.Equal(buf, data[1<<20:2<<20]) {
		t.Fatalf("after that: %+v, %v, %v", res, errno, err)
	}
	if r.now.cmd.Process.Pid == stuck.Pid {
		t.Error("it is the same process")
	}
	// An operator who stops does not wait for a disk.
	halt(t, r.now.cmd.Process)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	if _, _, err := r.Try(ctx, buf, rd); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
	// One that never answers is gone in the end.
	r.timeout = 200 * time.Millisecond
	r.command = func(string) *exec.Cmd { return exec.Command("/bin/sleep", "60") }
	if _, _, err := r.Try(t.Context(), buf, rd); !errors.Is(err, ErrGone) {
		t.Errorf("one that does not open: %v", err)
	}
}

// halt stops a process, which may be reading ahead, and waits until it stands still.
func halt(t *testing.T, p *os.Process) {
	t.Helper()
	if err := p.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid))
		if err != nil || time.Now().After(end) {
			t.Fatalf("it does not stop: %v\n%s", err, status)
		}
		if strings.Contains(string(status), "State:\tT") {
			return
		}
	}
}

// TestAReaderCanDoNothingElse: from inside, nothing can be opened, mounted or made, and there are no capabilities.
func TestAReaderCanDoNothingElse(t *testing.T) {
	out, err := exec.Command("/proc/self/exe", "try-to-escape").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if strings.TrimSpace(string(out)) != "" {
		t.Errorf("a reader can still: %s", out)
	}
	data := randomBytes(1<<20, 23)
	r := inChild(t, loop(t, tempFile(t, data), 512), 0)
	if _, _, err := r.Try(t.Context(), make([]byte, 512), passes.Read{Len: 512, Step: 512}); err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.now.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("the reader's status lacks %q", want)
		}
	}
}

func escape() int {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	abi, _, _ := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	locked := int(abi) > 0
	if err := confine(); err != nil {
		fmt.Println("confine:", err)
		return 1
	}
	if f, err := os.Open("/etc/passwd"); err == nil && locked {
		fmt.Println("open a file for reading")
		f.Close()
	}
	if f, err := os.Create(dir + "/x"); err == nil && locked {
		fmt.Println("make a file")
		f.Close()
	}
	if err := unix.Mount("none", dir, "tmpfs", 0, ""); err == nil {
		fmt.Println("mount")
	}
	if err := unix.Mknod("/tmp/asl-reader-node", unix.S_IFBLK|0o600, 0x700); err == nil {
		fmt.Println("make a device node")
	}
	if os.Geteuid() == 0 {
		if err := unix.Chroot("/"); err == nil {
			fmt.Println("chroot")
		}
	}
	return 0
}

// TestAReaderThatLies: what comes from a reader is checked, and a slot that it may not use again is not taken back.
func TestAReaderThatLies(t *testing.T) {
	for name, m := range map[string]message{
		"offset": {msgPiece, -5, 512, 0, 0}, "length": {msgPiece, 0, 2 << 20, 0, 0}, "slot": {msgPiece, 0, 512, RingMax, 0}, "beyond": {msgPiece, 1024, 512, 0, 0},
	} {
		a, b := net.Pipe()
		go func() {
			receive(b)
			send(b, m)
			io.Copy(io.Discard, b)
		}()
		r := &reader{timeout: time.Minute}
		p := &readerProcess{conn: a, ring: make([]byte, RingMax*slotSize)}
		if _, _, err := r.ask(t.Context(), p, make([]byte, 1024), passes.Read{Len: 1024, Step: 512}); !errors.Is(err, errDied) {
			t.Errorf("%s: %v", name, err)
		}
		a.Close()
		b.Close()
	}
}

// A disk that was pulled: the kernel sets its size to 0, so that reads end as at the end of a file, or fail as on bad ground. It is gone, and
// nothing of it is bad or short.
func TestADiskThatWasPulledIsGone(t *testing.T) {
	for name, no := range map[string]unix.Errno{"the end": 0, "EIO": unix.EIO} {
		for _, pulled := range []bool{true, false} {
			a, b := net.Pipe()
			go func() {
				receive(b)
				send(b, message{msgFailed, 512, 512, int64(no)})
				io.Copy(io.Discard, b)
			}()
			l := &linear{info: Info{Path: "/dev/sdx"}, alive: func() error {
				if pulled {
					return fmt.Errorf("%w: the kernel no longer has the device", ErrGone)
				}
				return nil
			}}
			r := &reader{Raw: l, timeout: time.Minute, now: &readerProcess{conn: a, ring: make([]byte, RingMax*slotSize)}}
			res, errno, err := r.Try(t.Context(), make([]byte, 1024), passes.Read{Len: 1024, Step: 512})
			switch {
			case pulled && (!errors.Is(err, ErrGone) || errno != 0 || res.Bad != 0):
				t.Errorf("%s, pulled: %+v, %v, %v", name, res, errno, err)
			case !pulled && errors.Is(err, ErrGone):
				t.Errorf("%s, and it is there: %v", name, err)
			case !pulled && no == 0 && !errors.Is(err, ErrShort):
				t.Errorf("%s, and it is there: %v", name, err)
			case !pulled && no != 0 && (errno != no || res.Bad != 512):
				t.Errorf("%s, and it is there: %+v, %v, %v", name, res, errno, err)
			}
			a.Close()
			b.Close()
		}
	}
}

var benchDevice = flag.String("device", "", "block device that BenchmarkReaderProcess reads")

// BenchmarkReaderProcess is what a device gives by way of the ring; the other is what it gives to a reader in this process.
func BenchmarkReaderProcess(b *testing.B) {
	for _, own := range []bool{true, false} {
		b.Run(fmt.Sprintf("own=%v", own), func(b *testing.B) {
			path := *benchDevice
			if path == "" {
				b.Skip("-device names no device")
			}
			src, err := OpenDevice(path)
			if err != nil {
				b.Fatal(err)
			}
			raw := src.(Raw)
			if own {
				raw = InProcess(raw, child, 0)
			}
			defer raw.Close()
			buf := alignedBuffer(16 << 20)
			size := raw.Info().Size / int64(len(buf)) * int64(len(buf))
			off := int64(0)
			b.SetBytes(int64(len(buf)))
			for b.Loop() {
				if _, _, err := raw.Try(b.Context(), buf, passes.Read{Off: off, Len: int64(len(buf)), Step: passes.MaxCluster}); err != nil {
					b.Fatal(err)
				}
				off = (off + int64(len(buf))) % size
			}
		})
	}
}
