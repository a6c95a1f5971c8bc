// Package custody gathers what a machine can tell of a disk while it is read, and makes a report of a snapshot that holds in front of
// somebody who was not there. What the report says is what the store holds: nothing in it comes from the machine that prints it.
package custody

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"aslrescue/engine/event"
	"aslrescue/engine/source"
	"aslrescue/engine/store/format"
)

// Witness gathers evidence of devices. Begin, End and Close are for one goroutine, Hot and Pause for all between them; what takes long goes on beside the reading.
type Witness struct {
	PauseWhenHot bool // a disk above its own limit is not read until it has cooled

	sys, kmsg string
	smart     func(ctx context.Context, dev string, flags ...string) format.Smart
	clock     func() time.Time
	every     time.Duration // between two looks at a disk's health
	abandon   time.Duration // after which one that does not end is left behind
	open      map[int]*watched
}

// NewWitness looks at this machine.
func NewWitness() *Witness {
	return &Witness{sys: "/sys", kmsg: "/dev/kmsg", smart: smartctl, clock: time.Now, every: askEvery, abandon: abandonAfter, open: map[int]*watched{}}
}

// watched is a device that is being read.
type watched struct {
	ev       format.Evidence
	disk     string // folder of the whole disk in sysfs
	dev      string // of the whole disk
	wg       sync.WaitGroup
	messages *listener
	asking   atomic.Bool   // a smartctl is under way
	watch    *watching     // nil where there is no hardware
	begun    chan struct{} // closed when the disk was asked for the first time
	stop     func()        // ends watching
}

// Begin looks at a source before it is read, and from then on until End. Only devices have something to tell; what gets worse is told at once.
func (w *Witness) Begin(ctx context.Context, i int, src source.Info, say func(event.Level, string)) {
	if src.Kind != source.Device {
		return
	}
	o := &watched{ev: format.Evidence{Version: format.Version, Machine: machine(), Began: w.moment()}}
	w.open[i] = o
	o.disk, o.ev.Device = w.device(src)
	o.dev = "/dev/" + strings.ReplaceAll(filepath.Base(o.disk), "!", "/")
	o.ev.WritesBegin = writes(o.disk)
	o.messages = listen(w.kmsg, namesOf(o.disk, src.Path))
	if virtual(o.disk) {
		o.ev.SmartBegin = format.Smart{Why: "no hardware stands behind it"}
		return
	}
	o.watch = &watching{w: w, o: o, say: say}
	o.begun = make(chan struct{})
	ctx, o.stop = context.WithCancel(ctx)
	o.wg.Go(func() {
		o.ev.SmartBegin = w.ask(ctx, o, allFlags()...)
		close(o.begun)
		if o.ev.SmartBegin.Why == "" {
			o.watch.look(o.ev.SmartBegin)
			o.watch.run(ctx)
		}
	})
}

// rest ends the watching of a disk.
func (o *watched) rest() {
	if o.stop != nil {
		o.stop()
	}
	o.wg.Wait()
}

// End gives the evidence of a source that was read; nil where there is none.
func (w *Witness) End(ctx context.Context, i int) *format.Evidence {
	o := w.open[i]
	if o == nil {
		return nil
	}
	delete(w.open, i)
	if o.begun != nil {
		<-o.begun
	}
	o.rest()
	o.ev.WritesEnd = writes(o.disk)
	o.ev.SmartEnd = o.ev.SmartBegin
	if o.ev.SmartBegin.Why == "" {
		o.ev.SmartEnd = w.ask(ctx, o, allFlags()...)
		o.watch.look(o.ev.SmartEnd)
		o.ev.SmartSeen = o.watch.rows
	}
	o.ev.Messages, o.ev.MessagesAll, o.ev.MessagesWhy = o.messages.end()
	o.ev.Ended = w.moment()
	return &o.ev
}

// Close lets go of sources whose intake did not come to its end.
func (w *Witness) Close() {
	for i, o := range w.open {
		o.rest()
		o.messages.end()
		delete(w.open, i)
	}
}

func (w *Witness) moment() format.Moment {
	m := format.Moment{Clock: w.clock().Unix()}
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) == nil {
		m.Uptime = ts.Nano() / 1e6
	}
	return m
}

// device finds a device in sysfs and says what stands there of it.
func (w *Witness) device(src source.Info) (disk string, facts map[string]string) {
	var st unix.Stat_t
	facts = map[string]string{"path": format.Text(src.Path), "size": strconv.FormatInt(src.Size, 10)}
	put := func(key, value string) {
		if value != "" {
			facts[key] = format.Text(value)
		}
	}
	put("model", src.Model)
	put("serial", src.Serial)
	if err := unix.Stat(src.Path, &st); err != nil {
		put("why", err.Error())
		return "", facts
	}
	dir, err := filepath.EvalSymlinks(fmt.Sprintf("%s/dev/block/%d:%d", w.sys, unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))))
	if err != nil {
		put("why", "sysfs does not know it: "+err.Error())
		return "", facts
	}
	disk = dir
	if part := line(dir + "/partition"); part != "" {
		disk = filepath.Dir(dir)
		put("partition", part)
		put("partition_start", line(dir+"/start"))
	}
	put("name", filepath.Base(dir))
	put("vendor", line(disk+"/device/vendor"))
	put("firmware", first(line(disk+"/device/firmware_rev"), line(disk+"/device/rev")))
	put("wwn", first(line(disk+"/wwid"), line(disk+"/device/wwid")))
	put("logical", line(disk+"/queue/logical_block_size"))
	put("physical", line(disk+"/queue/physical_block_size"))
	put("rotational", line(disk+"/queue/rotational"))
	put("removable", line(disk+"/removable"))
	put("read_only", line(dir+"/ro"))
	put("transport", transport(disk))
	put("behind", line(disk+"/loop/backing_file"))
	return disk, facts
}

func transport(disk string) string {
	for _, t := range []struct{ in, is string }{{"/usb", "USB"}, {"/nvme", "NVMe"}, {"/ata", "ATA"}, {"/virtio", "virtio"}, {"/mmc", "MMC"}, {"/virtual/", "virtual"}, {"/host", "SCSI"}} {
		if strings.Contains(disk, t.in) {
			return t.is
		}
	}
	return ""
}

func virtual(disk string) bool { return disk == "" || strings.Contains(disk, "/virtual/") }

func first(s ...string) string {
	for _, v := range s {
		if v != "" {
			return v
		}
	}
	return ""
}

// line is a one-line file, empty if there is none.
func line(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(bytes.Trim(b, "\x00")))
}

// writes reads the kernel's counters of a disk.
func writes(disk string) format.Writes {
	if disk == "" {
		return format.Writes{Why: "sysfs does not know it"}
	}
	b, err := os.ReadFile(disk + "/stat")
	if err != nil {
		return format.Writes{Why: err.Error()}
	}
	var n [15]uint64
	f := strings.Fields(string(b))
	if len(f) < 11 {
		return format.Writes{Why: "the kernel's counters cannot be understood"}
	}
	for i := range min(len(f), len(n)) {
		if n[i], err = strconv.ParseUint(f[i], 10, 64); err != nil {
			return format.Writes{Why: "the kernel's counters cannot be understood"}
		}
	}
	return format.Writes{Known: true, Writes: n[4], Sectors: n[6], Discards: n[11], Discarded: n[13]}
}

// smartTime bounds smartctl: a disk that dies may not answer.
const smartTime = 30 * time.Second

// smartctl asks the disk for its own record, in a process of its own.
func smartctl(ctx context.Context, dev string, flags ...string) format.Smart {
	tool, err := exec.LookPath("smartctl")
	if err != nil {
		if tool = "/usr/sbin/smartctl"; unix.Access(tool, unix.X_OK) != nil {
			return format.Smart{Why: "smartctl is not there"}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, smartTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool, append(append([]string{"--json=c"}, flags...), dev)...)
	cmd.WaitDelay = time.Second
	cmd.Env = []string{"LC_ALL=C"}
	out, err := cmd.Output()
	switch {
	case ctx.Err() != nil:
		return format.Smart{Why: "the disk did not answer smartctl within " + smartTime.String()}
	case len(out) > 0 && out[0] == '{': // what it thinks of the disk makes its exit code
		return format.Smart{JSON: bytes.TrimSpace(out)}
	case err != nil:
		return format.Smart{Why: "smartctl: " + err.Error()}
	}
	return format.Smart{Why: "smartctl said nothing"}
}

func machine() map[string]string {
	m := map[string]string{}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m["kernel"] = unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:]) + " " + unix.ByteSliceToString(u.Machine[:])
		m["hostname"] = format.Text(unix.ByteSliceToString(u.Nodename[:]))
	}
	if b := line("/proc/sys/kernel/random/boot_id"); b != "" {
		m["boot"] = b
	}
	var t unix.Timex
	m["clock"] = "not set by any time server"
	if _, err := unix.Adjtimex(&t); err != nil {
		delete(m, "clock")
	} else if t.Status&unix.STA_UNSYNC == 0 {
		m["clock"] = "kept by a time server, as the kernel says"
	}
	return m
}

// namesOf gives what the kernel calls a disk in its messages.
func namesOf(disk, path string) []string {
	names := []string{filepath.Base(path)}
	if disk == "" {
		return names
	}
	names = append(names, filepath.Base(disk))
	if real, err := filepath.EvalSymlinks(disk + "/device"); err == nil {
		names = append(names, filepath.Base(real))
	}
	for _, step := range strings.Split(disk, "/") {
		if regexp.MustCompile(`^(ata|nvme|usb)\d+$`).MatchString(step) {
			names = append(names, step)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// listener collects what the kernel says of a device from now on.
type listener struct {
	fd    int // of the kernel's messages, -1 where they cannot be read
	match *regexp.Regexp
	stop  chan struct{}
	wg    sync.WaitGroup // what follows is the polling goroutine's until it ended
	lines []string
	all   int64
	why   string
}

// partitionOf matches what stands behind a disk's name in the names of its partitions: sdb1, nvme0n1p1. Nothing but disks has any.
func partitionOf(name string) string {
	switch {
	case strings.HasPrefix(name, "ata") || strings.HasPrefix(name, "usb") || strings.Contains(name, ":"):
		return ""
	case name[len(name)-1] >= '0' && name[len(name)-1] <= '9':
		return `(p\d+)?`
	}
	return `\d*`
}

func listen(kmsg string, names []string) *listener {
	l := &listener{fd: -1}
	var alt []string
	for _, n := range names {
		if n != "" && n != "." && n != "/" {
			alt = append(alt, regexp.QuoteMeta(n)+partitionOf(n))
		}
	}
	l.match = regexp.MustCompile(`(^|[^A-Za-z0-9])(` + strings.Join(alt, "|") + `)([^A-Za-z0-9]|$)`)
	fd, err := unix.Open(kmsg, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		if _, err = unix.Seek(fd, 0, io.SeekEnd); err != nil {
			_ = unix.Close(fd) // it was only opened
		}
	}
	if err != nil {
		l.why = "the kernel's messages cannot be read: " + err.Error()
		return l
	}
	l.fd, l.stop = fd, make(chan struct{})
	l.wg.Go(func() {
		tick := time.NewTicker(pollEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				l.poll()
			case <-l.stop:
				l.poll()
				return
			}
		}
	})
	return l
}

// pollEvery is how often the kernel's buffer, which a dying disk can fill, is emptied.
const pollEvery = 500 * time.Millisecond

// poll takes in what was said since the last time.
func (l *listener) poll() {
	buf := make([]byte, 16<<10)
	for {
		n, err := unix.Read(l.fd, buf)
		switch {
		case errors.Is(err, unix.EPIPE):
			l.why = "some are missing: the kernel's buffer overflowed"
			continue
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || n <= 0:
			return
		}
		l.take(string(buf[:n]))
	}
}

// take looks at a record of /dev/kmsg: "level,number,microseconds,flags;text", and lines of properties behind it.
func (l *listener) take(record string) {
	head, text, ok := strings.Cut(record, ";")
	text, props, _ := strings.Cut(text, "\n")
	if !ok || !l.match.MatchString(text) && !l.match.MatchString(props) {
		return
	}
	l.all++
	if len(l.lines) == format.MessagesKept {
		return
	}
	stamp := ""
	if f := strings.Split(head, ","); len(f) >= 3 {
		if us, err := strconv.ParseInt(f[2], 10, 64); err == nil {
			stamp = fmt.Sprintf("[%d.%06d] ", us/1e6, us%1e6)
		}
	}
	l.lines = append(l.lines, format.Text(stamp+text))
}

func (l *listener) end() (lines []string, all int64, why string) {
	if l.fd >= 0 {
		close(l.stop)
		l.wg.Wait()
		_ = unix.Close(l.fd) // it was only read
		l.fd = -1
	}
	return l.lines, l.all, l.why
}
