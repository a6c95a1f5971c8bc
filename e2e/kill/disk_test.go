package kill

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const sector = 512

// hurtDisk is a block device that is slow and has sectors that cannot be read: a loop device over a file of a file system in user space that is this
// process. It keeps account of what was read of it, and when.
type hurtDisk struct {
	path string // of the device
	data []byte
	bad  []bool // by sector
	rate int    // bytes a second; 0 is as fast as it goes
	err  time.Duration

	mu     sync.Mutex
	run    int         // of the program that reads it; 0 is nobody
	by     []int       // the last run that read a sector well
	when   []time.Time // and when
	again  []time.Time // when what this run has read was read by the one before
	vain   int         // reads that failed
	failed map[int]int // how often by sector, where one was read alone
}

// newHurtDisk makes one of data. It needs root.
func newHurtDisk(t *testing.T, data []byte, bad []bool, rate int) *hurtDisk {
	t.Helper()
	d := &hurtDisk{data: data, bad: bad, rate: rate, by: make([]int, len(data)/sector), when: make([]time.Time, len(data)/sector), failed: map[int]int{}}
	dir := filepath.Join(t.TempDir(), "medium")
	must(t, os.Mkdir(dir, 0o700))
	dev, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("a disk with bad sectors is made by a file system in user space, and only root can: %v", err)
	}
	if err := unix.Mount("asl-hurt", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_RDONLY, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", dev.Fd())); err != nil {
		dev.Close()
		t.Skipf("a disk with bad sectors is made by a file system in user space, and only root can mount one: %v", err)
	}
	done := make(chan struct{})
	go func() { defer close(done); d.serve(int(dev.Fd())) }()
	t.Cleanup(func() {
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		<-done
		dev.Close()
	})
	d.path = attach(t, filepath.Join(dir, "disk"))
	return d
}

// attach makes a loop device of a file.
func attach(t *testing.T, file string) string {
	t.Helper()
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("a block device is needed, and only root can make one: %v", err)
	}
	defer ctl.Close()
	back, err := os.OpenFile(file, os.O_RDONLY, 0)
	must(t, err)
	defer back.Close()
	for range 20 { // others may take the free one first
		n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
		must(t, err)
		path := fmt.Sprintf("/dev/loop%d", n)
		dev, err := os.OpenFile(path, os.O_RDONLY, 0)
		must(t, err)
		err = unix.IoctlLoopConfigure(int(dev.Fd()), &unix.LoopConfig{Fd: uint32(back.Fd()), Size: sector, Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR}})
		if errors.Is(err, unix.EBUSY) {
			dev.Close()
			continue
		}
		must(t, err)
		t.Cleanup(func() {
			_ = unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_CLR_FD, 0) // it ends with its last user at the latest
			dev.Close()
		})
		return path
	}
	t.Fatal("no free loop device")
	return ""
}

// begins says that another run reads from here on.
func (d *hurtDisk) begins() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.run, d.again = max(d.run, -d.run)+1, nil
}

// forget says that nothing counts as read.
func (d *hurtDisk) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.by)
}

// rests says that what is read from here on does not count.
func (d *hurtDisk) rests() (again []time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	again, d.again = d.again, nil
	d.run = -max(d.run, -d.run)
	return again
}

// counts says that a run, which rested, goes on to count.
func (d *hurtDisk) counts() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.run = max(d.run, -d.run)
}

// read is what a disk does.
func (d *hurtDisk) read(off, n int) ([]byte, error) {
	n = max(0, min(n, len(d.data)-off))
	if d.rate > 0 {
		time.Sleep(time.Duration(n) * time.Second / time.Duration(d.rate))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	first, last := off/sector, (off+n+sector-1)/sector
	for i := first; i < last; i++ {
		if d.bad[i] {
			d.vain++
			if last-first == 1 {
				d.failed[i]++
			}
			time.Sleep(d.err)
			return nil, unix.EIO
		}
	}
	for i := first; i < last && d.run > 0; i++ {
		if was := d.by[i]; was != 0 && was != d.run {
			d.again = append(d.again, d.when[i])
		}
		d.by[i], d.when[i] = d.run, time.Now()
	}
	return d.data[off:][:n], nil
}

// Opcodes of FUSE that are answered.
const (
	fuseLookup  = 1
	fuseForget  = 2
	fuseGetattr = 3
	fuseOpen    = 14
	fuseRead    = 15
	fuseRelease = 18
	fuseFlush   = 25
	fuseInit    = 26
	fuseOpendir = 27
	fuseReldir  = 29
	fuseInter   = 36
	fuseDestroy = 38
	fuseForgets = 42
)

// serve answers the kernel until the file system is unmounted. Its one file has the inode 2.
func (d *hurtDisk) serve(fd int) {
	le := binary.LittleEndian
	buf := make([]byte, 1<<20)
	for {
		n, err := unix.Read(fd, buf)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EAGAIN):
			continue
		case err != nil || n < 40:
			return // unmounted
		}
		op, unique, node, in := le.Uint32(buf[4:]), le.Uint64(buf[8:]), le.Uint64(buf[16:]), buf[40:n]
		var out []byte
		var no unix.Errno
		switch op {
		case fuseForget, fuseForgets, fuseInter:
			continue
		case fuseInit:
			out = make([]byte, 64)
			le.PutUint32(out[0:], 7)
			le.PutUint32(out[4:], 31)
			le.PutUint32(out[12:], 1|1<<22) // reads side by side, and pages
			le.PutUint16(out[16:], 12)
			le.PutUint16(out[18:], 9)
			le.PutUint32(out[20:], 1<<17)
			le.PutUint32(out[24:], 1)
			le.PutUint16(out[28:], 256)
		case fuseLookup:
			out = make([]byte, 40, 128)
			le.PutUint64(out, 2)
			le.PutUint64(out[16:], 3600)
			le.PutUint64(out[24:], 3600)
			out = append(out, d.attr(2)...)
			if string(in) != "disk\x00" {
				out, no = nil, unix.ENOENT
			}
		case fuseGetattr:
			out = make([]byte, 16, 104)
			le.PutUint64(out, 3600)
			out = append(out, d.attr(node)...)
		case fuseOpen:
			out = make([]byte, 16)
			le.PutUint32(out[8:], 1) // past the page cache
		case fuseOpendir:
			out = make([]byte, 16)
		case fuseRead:
			b, err := d.read(int(le.Uint64(in[8:])), int(le.Uint32(in[16:])))
			out = b
			if err != nil {
				no = unix.EIO
			}
		case fuseRelease, fuseFlush, fuseReldir, fuseDestroy:
		default:
			no = unix.ENOSYS
		}
		if no != 0 {
			out = nil
		}
		head := make([]byte, 16, 16+len(out))
		le.PutUint32(head, uint32(16+len(out)))
		le.PutUint32(head[4:], uint32(-int32(no)))
		le.PutUint64(head[8:], unique)
		_, _ = unix.Write(fd, append(head, out...)) // who asked may be gone
	}
}

func (d *hurtDisk) attr(node uint64) []byte {
	le := binary.LittleEndian
	a := make([]byte, 88)
	le.PutUint64(a, node)
	mode := uint32(unix.S_IFDIR | 0o500)
	if node == 2 {
		mode = unix.S_IFREG | 0o400
		le.PutUint64(a[8:], uint64(len(d.data)))
		le.PutUint64(a[16:], uint64(len(d.data)/512))
	}
	le.PutUint32(a[60:], mode)
	le.PutUint32(a[64:], 1)
	le.PutUint32(a[80:], 4096)
	return a
}
