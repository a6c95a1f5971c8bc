package main

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// script is a file of scripts/: a head of lines that begin with "#:", which say what the machine has, and shell that runs in it. A line
// "#: boot NAME" begins what runs after the next power-on; the disks stay.
type script struct {
	name  string
	about string // its first comment
	disks []disk
	same  []string // disks that are the same at the end as they were, by their hashes on the host
	text  bool     // it has a text screen, as a machine has that was not started by QEMU itself
	boots []boot
}

// disk is one that the machine has.
type disk struct {
	serial string
	size   int64
	fill   string // how it is made on the host: empty, ext4 with a few MB of files, or ext4-big with all that fits
	extra  string // of QEMU's own: how it fails
}

// boot is one time that the machine runs.
type boot struct {
	name  string
	cut   string // the power is cut when this line stands in the record; empty: it ends by itself
	later [2]time.Duration
	delay time.Duration // how long after that line, of later
	times int           // how often in a row; 0 is once
	bare  bool          // the kernel and the script, and no services: it is there in half the time
	hide  []string
	text  string
}

// each are the boots that this one stands for, each with a name and a moment of its own. times, if not 0, is how many instead of what the
// script says; a boot that is made once stays one.
func (b boot) each(times int) []boot {
	if b.times == 0 {
		return []boot{b}
	}
	all := make([]boot, cmp.Or(times, b.times))
	for i := range all {
		all[i] = b
		all[i].name = fmt.Sprintf("%s-%02d", b.name, i+1)
		all[i].delay = b.later[0] + rand.N(b.later[1]-b.later[0]+1)
	}
	return all
}

func scripts(here string) ([]script, error) {
	files, err := filepath.Glob(filepath.Join(here, "scripts", "*.sh"))
	if err != nil {
		return nil, err
	}
	var all []script
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		s, err := parseScript(strings.TrimSuffix(filepath.Base(f), ".sh"), text)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

func parseScript(name string, text []byte) (script, error) {
	s := script{name: name, boots: []boot{{name: "first"}}}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		word, ok := strings.CutPrefix(line, "#:")
		b := &s.boots[len(s.boots)-1]
		switch {
		case ok:
			if err := s.directive(strings.Fields(word)); err != nil {
				return s, fmt.Errorf("%s.sh:%d: %w", name, n, err)
			}
		case s.about == "" && strings.HasPrefix(line, "# "):
			s.about = strings.TrimPrefix(line, "# ")
			fallthrough
		default:
			b.text += line + "\n"
		}
	}
	if s.about == "" {
		return s, fmt.Errorf("%s.sh: no comment says what it shows", name)
	}
	for _, serial := range s.same {
		if !slices.ContainsFunc(s.disks, func(d disk) bool { return d.serial == serial }) {
			return s, fmt.Errorf("%s.sh: there is no disk %s to stay the same", name, serial)
		}
	}
	return s, lines.Err()
}

func (s *script) directive(words []string) error {
	b := &s.boots[len(s.boots)-1]
	switch strings.Join(words, " ") {
	case "bare":
		b.bare = true
		return nil
	case "text screen":
		s.text = true
		return nil
	}
	if len(words) < 2 {
		return errors.New("want #: disk, same, boot, bare, cut, later, times or hide, and what")
	}
	switch words[0] {
	case "disk": // disk SERIAL SIZE [ext4] [QEMU-OPTION]
		if len(words) < 3 {
			return errors.New("want disk SERIAL SIZE")
		}
		size, err := parseSize(words[2])
		if err != nil {
			return err
		}
		if slices.ContainsFunc(s.disks, func(d disk) bool { return d.serial == words[1] }) || words[1] == "root" {
			return fmt.Errorf("there is a disk %s already", words[1])
		}
		d := disk{serial: words[1], size: size}
		if len(words) > 3 {
			d.fill = words[3]
		}
		if len(words) > 4 {
			d.extra = words[4]
		}
		if !slices.Contains([]string{"", "empty", "ext4", "ext4-big"}, d.fill) {
			return fmt.Errorf("a disk is empty, ext4 or ext4-big, not %s", d.fill)
		}
		s.disks = append(s.disks, d)
	case "boot":
		s.boots = append(s.boots, boot{name: words[1]})
	case "cut":
		b.cut = strings.Join(words[1:], " ")
	case "later": // later MIN MAX: how long after the line of cut
		if len(words) < 3 {
			return errors.New("want later MIN MAX")
		}
		for i := range b.later {
			d, err := time.ParseDuration(words[1+i])
			if err != nil || d < 0 || i > 0 && d < b.later[0] {
				return fmt.Errorf("later %s %s: want two times, the shorter one first", words[1], words[2])
			}
			b.later[i] = d
		}
		b.delay = b.later[0]
	case "times":
		n, err := strconv.Atoi(words[1])
		if err != nil || n < 1 {
			return fmt.Errorf("times %s: want a number", words[1])
		}
		b.times = n
	case "same":
		s.same = append(s.same, words[1:]...)
	case "hide": // disks that are not plugged in this time
		b.hide = append(b.hide, words[1:]...)
	default:
		return fmt.Errorf("%q: want disk, same, boot, bare, cut, later, times or hide", words[0])
	}
	return nil
}

func parseSize(s string) (int64, error) {
	for unit, mul := range map[string]int64{"M": 1 << 20, "G": 1 << 30} {
		if n, ok := strings.CutSuffix(s, unit); ok {
			v, err := strconv.ParseInt(n, 10, 32)
			if err == nil && v > 0 {
				return v * mul, nil
			}
		}
	}
	return 0, fmt.Errorf("size %q: want a number with M or G", s)
}

// command is how QEMU is called for one boot. All that is not a disk is the same every time.
func (s script) command(m machine, b boot) []string {
	params := "console=tty0 console=ttyS0 nokaslr mitigations=off quiet systemd.show_status=false net.ifnames=0 modprobe.blacklist=bochs no_timer_check"
	if b.bare {
		params += " lab.bare"
	}
	kernel := "vmlinux"
	if s.text { // only the kernel's own loader, which takes time to unpack it, tells it that there is one
		kernel = "vmlinuz"
	}
	argv := []string{"qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", cmp.Or(m.memory, "1024"),
		"-display", "none", "-vga", "std", "-no-reboot", "-nic", "none",
		"-kernel", filepath.Join(m.image, kernel), "-initrd", filepath.Join(m.image, "initrd.gz"),
		"-append", params,
		"-serial", "file:" + filepath.Join(m.out, b.name+".console"),
		"-monitor", "unix:" + filepath.Join(m.run, "monitor") + ",server=on,wait=off",
		"-virtfs", "local,path=" + m.job + ",mount_tag=job,security_model=none",
		"-drive", "if=none,id=root,format=raw,readonly=on,file=" + filepath.Join(m.image, "root.squashfs"),
		"-device", "virtio-blk-pci,drive=root,serial=root"}
	for _, d := range s.disks {
		if slices.Contains(b.hide, d.serial) {
			continue
		}
		file := filepath.Join(m.run, d.serial+".img")
		drive := "if=none,id=" + d.serial + ",format=raw,cache=writeback,file=" + file
		if d.extra != "" {
			drive = "if=none,id=" + d.serial + ",driver=raw,rerror=report,werror=report,file.driver=blkdebug,file.image.driver=file,file.image.filename=" + file + "," + d.extra
		}
		argv = append(argv, "-drive", drive, "-device", "virtio-blk-pci,drive="+d.serial+",serial="+d.serial+",id=dev-"+d.serial)
	}
	return argv
}
