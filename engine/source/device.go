package source

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// OpenDevice opens a block device. It is read with O_DIRECT, so that one bad sector does not hide its neighbours in
// the page cache; where the driver refuses that, buffered.
func OpenDevice(path string) (Linear, error) { return openDevice(path, "/sys") }

// openDevice takes the mount point of sysfs, so that a test can show it another machine's.
func openDevice(path, sysfs string) (Linear, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open device %s: %w", path, err)
	}
	real, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return nil, fmt.Errorf("open device: %w", err)
	}
	// Asked before opening: to open a tape or a terminal for a moment can already move it.
	if st, err := os.Stat(real); err != nil {
		return nil, fmt.Errorf("open device: %w", err)
	} else if st.Mode()&(os.ModeDevice|os.ModeCharDevice) != os.ModeDevice {
		return nil, fmt.Errorf("open device %s: it is not a block device", abs)
	}
	const flags = unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK
	buffered, err := os.OpenFile(real, flags, 0)
	if err != nil {
		return nil, openDeviceErr(err)
	}
	l, err := newDevice(buffered, abs, real, sysfs)
	if err != nil {
		buffered.Close()
		return nil, err
	}
	d := &directReader{buffered: buffered, size: l.info.Size, sector: l.info.Sector}
	d.direct, err = os.OpenFile(real, flags|unix.O_DIRECT, 0)
	if err != nil {
		d.refused.Store(true)
	} else {
		l.closers = append(l.closers, d.direct)
	}
	l.r = d
	return l, nil
}

func openDeviceErr(err error) error {
	if goneErr(err) {
		return fmt.Errorf("open device: %w: %w", ErrGone, err)
	}
	return fmt.Errorf("open device: %w", err)
}

func newDevice(f *os.File, abs, real, sysfs string) (*linear, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, fmt.Errorf("open device %s: %w", abs, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return nil, fmt.Errorf("open device %s: it is not a block device", abs)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("open device %s: its size: %w", abs, err)
	}
	if size == 0 {
		return nil, fmt.Errorf("open device %s: no medium in it, or nothing behind it: %w", abs, ErrGone)
	}
	sector, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET)
	if err != nil || sector < 512 || sector&(sector-1) != 0 {
		sector = 512
	}
	dir := fmt.Sprintf("%s/dev/block/%d:%d", sysfs, unix.Major(st.Rdev), unix.Minor(st.Rdev))
	fact := readDeviceFacts(dir)
	l := &linear{
		info: Info{
			Kind: Device, Path: abs, Name: filepath.Base(real), Size: size, Sector: sector,
			Model: fact.model, Serial: fact.serial, ID: fact.id(size),
		},
		f: f, closers: []io.Closer{f},
	}
	writes, counted := writeCounter(dir)
	l.alive = func() error {
		if fact.known {
			if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("%w: the kernel no longer has the device", ErrGone)
			}
		}
		switch s := sysText(fact.disk + "/device/state"); s {
		case "offline", "transport-offline", "deleting", "dead":
			return fmt.Errorf("%w: the kernel says it is %s", ErrGone, s)
		}
		if now, err := f.Seek(0, io.SeekEnd); err == nil && now == 0 {
			return fmt.Errorf("%w: its size is now 0", ErrGone)
		}
		return nil
	}
	l.changed = func() string {
		if err := l.alive(); err != nil {
			return err.Error()
		}
		var w []string
		if now, err := f.Seek(0, io.SeekEnd); err == nil && now != size {
			w = append(w, fmt.Sprintf("its size went from %d to %d bytes", size, now))
		}
		if now, ok := writeCounter(dir); ok && counted && now != writes {
			w = append(w, fmt.Sprintf("the kernel counted %d sectors of 512 bytes written or discarded on it", now-writes))
		}
		return strings.Join(w, ", ")
	}
	return l, nil
}

// writeCounter is the kernel's count of 512-byte sectors written to and discarded on a device since it appeared.
func writeCounter(dir string) (sectors uint64, ok bool) {
	f := strings.Fields(sysText(dir + "/stat"))
	if len(f) < 7 {
		return 0, false
	}
	sectors, err := strconv.ParseUint(f[6], 10, 64)
	if err == nil && len(f) >= 14 {
		var d uint64
		d, err = strconv.ParseUint(f[13], 10, 64)
		sectors += d
	}
	return sectors, err == nil
}

// deviceFacts is what sysfs says of a block device.
type deviceFacts struct {
	known  bool
	disk   string // sysfs folder of the whole disk
	model  string
	serial string
	wwn    string
	other  string // what identifies a device that no hardware stands behind: dm, md, loop
	start  string // of a partition, in sectors of 512 bytes; empty for a whole disk
	part   string // number of a partition
}

func readDeviceFacts(dir string) deviceFacts {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return deviceFacts{disk: dir}
	}
	d := deviceFacts{known: true, disk: real}
	if d.part = sysText(real + "/partition"); d.part != "" {
		d.start = sysText(real + "/start")
		d.disk = filepath.Dir(real)
	}
	d.model = firstOf(sysText(d.disk+"/device/model"), sysText(d.disk+"/device/name"))
	d.serial = firstOf(
		sysText(d.disk+"/device/serial"), // NVMe, MMC
		vpdSerial(d.disk+"/device/vpd_pg80"),
		sysText(d.disk+"/serial")) // virtio
	d.wwn = firstOf(sysText(d.disk+"/wwid"), sysText(d.disk+"/device/wwid"), sysText(d.disk+"/device/cid"))
	switch {
	case sysText(d.disk+"/dm/uuid") != "":
		d.other = "dm=" + quote(sysText(d.disk+"/dm/uuid"))
	case sysText(d.disk+"/dm/name") != "":
		d.other = "dm-name=" + quote(sysText(d.disk+"/dm/name"))
	case sysText(d.disk+"/md/uuid") != "":
		d.other = "md=" + quote(sysText(d.disk+"/md/uuid"))
	case sysText(d.disk+"/loop/backing_file") != "":
		d.other = "loop=" + quote(sysText(d.disk+"/loop/backing_file")) +
			" offset=" + quote(sysText(d.disk+"/loop/offset"))
	}
	return d
}

// id names the device for a later boot. The kernel's name for it is never part of it: it moves.
func (d deviceFacts) id(size int64) string {
	w := []string{"device"}
	for _, kv := range [][2]string{{"wwn", d.wwn}, {"serial", d.serial}, {"model", d.model}} {
		if kv[1] != "" {
			w = append(w, kv[0]+"="+quote(kv[1]))
		}
	}
	if d.other != "" {
		w = append(w, d.other)
	}
	if d.start != "" {
		w = append(w, "start="+d.start)
	}
	return strings.Join(append(w, fmt.Sprintf("size=%d", size)), " ")
}

func quote(s string) string { return url.QueryEscape(s) }

func firstOf(s ...string) string {
	for _, v := range s {
		if v != "" {
			return v
		}
	}
	return ""
}

// sysText is a one-line file of sysfs, empty if there is none.
func sysText(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.ToValidUTF8(string(bytes.TrimSpace(bytes.Trim(b, "\x00"))), "?")
}

// vpdSerial is the unit serial number page of SCSI: four bytes of header, the last two of them the length.
func vpdSerial(path string) string {
	b, err := os.ReadFile(path)
	if err != nil || len(b) < 4 {
		return ""
	}
	n := int(b[2])<<8 | int(b[3])
	b = b[4:]
	return strings.ToValidUTF8(string(bytes.TrimSpace(bytes.Trim(b[:min(n, len(b))], "\x00"))), "?")
}

// bounceSize is the largest read that goes through a buffer of our own.
const bounceSize = 1 << 20

// pageAlign suits every driver's wish for the address of a buffer.
const pageAlign = 4096

// directReader reads a device past the page cache, whatever the caller's buffer and offset are.
type directReader struct {
	direct   *os.File
	buffered *os.File
	size     int64
	sector   int
	refused  atomic.Bool // the driver does not do O_DIRECT
	bounce   sync.Pool   // of *[]byte, aligned
}

func (d *directReader) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		got, err := d.once(p[n:], off+int64(n))
		n += got
		if err != nil {
			return n, err
		}
		if got == 0 {
			return n, io.EOF
		}
	}
	return n, nil
}

// once reads a first part of p, as long as one way of reading serves.
func (d *directReader) once(p []byte, off int64) (int, error) {
	s := int64(d.sector)
	whole := d.size / s * s // a device's last bytes need not fill a sector
	if d.refused.Load() || off >= whole {
		return d.buffered.ReadAt(p, off)
	}
	if end := off + int64(len(p)); end > whole {
		p = p[:whole-off]
	}
	if off%s == 0 && len(p) >= d.sector && uintptr(unsafe.Pointer(unsafe.SliceData(p)))%pageAlign == 0 {
		n, err := d.direct.ReadAt(p[:int64(len(p))/s*s], off)
		if !errors.Is(err, unix.EINVAL) {
			return n, err
		}
		d.refused.Store(true)
		return d.buffered.ReadAt(p, off)
	}
	bp, _ := d.bounce.Get().(*[]byte)
	if bp == nil {
		b := alignedBuffer(bounceSize)
		bp = &b
	}
	defer d.bounce.Put(bp)
	from := off / s * s
	to := min((off+int64(len(p))+s-1)/s*s, from+bounceSize)
	n, err := d.direct.ReadAt((*bp)[:to-from], from)
	if errors.Is(err, unix.EINVAL) {
		d.refused.Store(true)
		return d.buffered.ReadAt(p, off)
	}
	if n -= int(off - from); n <= 0 {
		return 0, err
	}
	n = copy(p, (*bp)[off-from:][:n])
	if n == len(p) {
		err = nil // what failed was only there for the alignment
	}
	return n, err
}

func alignedBuffer(n int) []byte {
	b := make([]byte, n+pageAlign)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (pageAlign - 1))
	return b[skip:][:n:n]
}
