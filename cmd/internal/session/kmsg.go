package session

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"aslrescue/detect"
	"aslrescue/engine/event"
)

// kernelLog is where the kernel says what it meets.
const kernelLog = "/dev/kmsg"

// listenToKernel gives what the kernel says from now on, until ctx ends.
func listenToKernel(ctx context.Context, say func(prio int, text string)) {
	f, err := os.OpenFile(kernelLog, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return // in a container nobody may; the disks say the rest
	}
	defer f.Close()
	if _, err := f.Seek(0, io.SeekEnd); err != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = f.Close() }) // ends the read
	defer stop()
	buf := make([]byte, 8192) // a record is given whole, and none is longer
	for {
		n, err := f.Read(buf)
		if errors.Is(err, syscall.EPIPE) {
			continue // some were overwritten before they were read; what comes next is there
		}
		if err != nil {
			return
		}
		if prio, text, ok := kernelRecord(string(buf[:n])); ok {
			say(prio, text)
		}
	}
}

// kernelRecord takes a record of /dev/kmsg apart: "6,1234,5678,-;text\n KEY=value". Prio is 0 to 7.
func kernelRecord(rec string) (prio int, text string, ok bool) {
	head, rest, ok := strings.Cut(rec, ";")
	if !ok {
		return 0, "", false
	}
	first, _, _ := strings.Cut(head, ",")
	n, err := strconv.Atoi(first)
	if err != nil || n < 0 || n>>3 != 0 { // other facilities are programs that write there
		return 0, "", false
	}
	text, _, _ = strings.Cut(rest, "\n")
	return n & 7, text, text != ""
}

// kernelSays keeps what concerns one of our disks.
func (l *Live) kernelSays(prio int, text string) {
	disk := aboutDisk(text, l.facts().Disks, sysPorts)
	if disk == "" {
		return
	}
	level := event.Info
	if prio <= 4 {
		level = event.Warning
	}
	if !strings.Contains(text, disk) {
		text += " (this is " + disk + ")"
	}
	l.say(level, "kernel", text)
}

// kernelWord is what a message names a device by: sdb, nvme0n1, ata3.00, 2:0:0:0.
var kernelWord = regexp.MustCompile(`[a-z]+[0-9a-z]*(?:\.[0-9]+)?|[0-9]+:[0-9]+:[0-9]+:[0-9]+`)

// aboutDisk tells which disk a message of the kernel is about; empty if none of them. It speaks of disks by their name, of partitions, of the ATA
// port or of the SCSI address they are at; ports says those of a disk.
func aboutDisk(text string, disks []detect.Disk, ports func(disk string) []string) string {
	words := kernelWord.FindAllString(text, 40)
	for _, d := range disks {
		names := append([]string{d.Name}, ports(d.Name)...)
		for _, p := range d.Parts {
			names = append(names, p.Name)
		}
		for _, w := range words {
			for _, n := range names {
				if w == n || strings.HasPrefix(n, "ata") && strings.HasPrefix(w, n+".") {
					return d.Name
				}
			}
		}
	}
	return ""
}

// sysPorts are the ATA port, the SCSI address and the NVMe controller of a disk, as sysfs has them in the path of its device.
func sysPorts(disk string) []string {
	dir, err := filepath.EvalSymlinks(filepath.Join("/sys/block", disk))
	if err != nil {
		return nil
	}
	return portsIn(dir)
}

var (
	ataPort  = regexp.MustCompile(`^ata[0-9]+$`)
	scsiAddr = regexp.MustCompile(`^[0-9]+:[0-9]+:[0-9]+:[0-9]+$`)
	nvmeCtrl = regexp.MustCompile(`^nvme[0-9]+$`)
)

func portsIn(dir string) (out []string) {
	for part := range strings.SplitSeq(dir, "/") {
		if ataPort.MatchString(part) || scsiAddr.MatchString(part) || nvmeCtrl.MatchString(part) {
			out = append(out, part)
		}
	}
	return out
}
