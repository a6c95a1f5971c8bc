package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// machine is where one script runs.
type machine struct {
	image  string // what build made
	run    string // disks and sockets, gone afterwards
	job    string // the folder that the machine sees as /job
	out    string // results
	memory string // MiB
}

func runScripts(ctx context.Context, here string, o options) (int, error) {
	all, err := scripts(here)
	if err != nil {
		return 2, err
	}
	var chosen []script
	for _, name := range o.args[1:] {
		i := slices.IndexFunc(all, func(s script) bool { return s.name == name })
		if i < 0 {
			return 2, fmt.Errorf("no script %s in e2e/vm/scripts", name)
		}
		chosen = append(chosen, all[i])
	}
	if len(chosen) == 0 {
		chosen = all
	}
	image, err := build(ctx, here, o)
	if err != nil {
		return 1, err
	}
	bin, err := os.MkdirTemp("", "asl-vm-bin")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(bin)
	programs := exec.CommandContext(ctx, "go", "build", "-ldflags", "-s -w", "-o", bin+"/", "aslrescue/cmd/asl-intake", "aslrescue/cmd/asl-admin", "aslrescue/cmd/asl-debug")
	programs.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := programs.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	if peer, err := exec.LookPath("ddrescue"); err == nil { // Debian on both sides; a script that wants it says so where it is not there
		data, err := os.ReadFile(peer)
		if err == nil {
			err = os.WriteFile(filepath.Join(bin, "ddrescue"), data, 0o755)
		}
		if err != nil {
			return 1, fmt.Errorf("take ddrescue along: %w", err)
		}
	}
	worst := 0
	for _, s := range chosen {
		began := time.Now()
		bad, err := runScript(ctx, here, image, bin, s, o)
		switch {
		case err != nil:
			return 1, fmt.Errorf("%s: %w", s.name, err)
		case len(bad) > 0:
			worst = 1
			fmt.Printf("FAIL %s, %s: %s\n", s.name, time.Since(began).Round(time.Second), filepath.Join(o.out, filepath.Base(image), s.name))
			for _, b := range bad {
				fmt.Println("  " + b)
			}
		default:
			fmt.Printf("ok   %s, %s\n", s.name, time.Since(began).Round(time.Second))
		}
	}
	return worst, nil
}

// runScript runs all boots of one script and gives what was wrong.
func runScript(ctx context.Context, here, image, bin string, s script, o options) (bad []string, err error) {
	m := machine{image: image, out: filepath.Join(o.out, filepath.Base(image), s.name)}
	if m.run, err = os.MkdirTemp("", "asl-vm"); err != nil {
		return nil, err
	}
	if !o.keep {
		defer os.RemoveAll(m.run)
	}
	m.job = filepath.Join(m.run, "job")
	if err := errors.Join(os.RemoveAll(m.out), os.MkdirAll(m.out, 0o755), os.MkdirAll(m.job, 0o755)); err != nil {
		return nil, err
	}
	if err := os.CopyFS(filepath.Join(m.job, "bin"), os.DirFS(bin)); err != nil {
		return nil, err
	}
	lib, err := os.ReadFile(filepath.Join(here, "lab", "lib.sh"))
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(m.job, "lib.sh"), lib, 0o644); err != nil {
		return nil, err
	}
	if err := os.CopyFS(filepath.Join(m.job, "rootfs"), os.DirFS(filepath.Join(here, "../../overlay/rootfs"))); err != nil {
		return nil, fmt.Errorf("take the overlay along: %w", err)
	}
	for _, d := range s.disks {
		if err := d.make(ctx, filepath.Join(m.run, d.serial+".img")); err != nil {
			return nil, err
		}
	}
	before, err := m.hashes(s, true)
	if err != nil {
		return nil, err
	}
	for _, b := range s.boots {
		for _, b := range b.each(o.times) {
			if err := m.boot(ctx, s, b, o.timeout); err != nil {
				return nil, fmt.Errorf("boot %s: %w", b.name, err)
			}
		}
	}
	after, err := m.hashes(s, true)
	if err != nil {
		return nil, err
	}
	if before != "" {
		fmt.Printf("%s, hashes of disks that are only to be read, before and after:\n%s%s", s.name, before, after)
	}
	if before != after {
		if err := appendLine(filepath.Join(m.job, "bad"), "a disk that was only to be read has changed"); err != nil {
			return nil, err
		}
	}
	text, err := os.ReadFile(filepath.Join(m.job, "bad"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' }), keepResults(m)
}

// keepResults copies what the script left in /job/keep.
func keepResults(m machine) error {
	dir := filepath.Join(m.job, "keep")
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return os.CopyFS(filepath.Join(m.out, "keep"), os.DirFS(dir))
}

func (d disk) make(ctx context.Context, file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	err = errors.Join(f.Truncate(d.size), f.Close())
	if err != nil || !strings.HasPrefix(d.fill, "ext4") {
		return err
	}
	// The Go tree is a folder of real files that is on every machine which builds this.
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return err
	}
	dir := filepath.Join(strings.TrimSpace(string(root)), "src")
	if d.fill == "ext4" {
		dir = filepath.Join(dir, "net")
	}
	argv := []string{"-q", "-F", "-d", dir, file}
	if out, err := exec.CommandContext(ctx, "mkfs.ext4", argv...).CombinedOutput(); err != nil {
		return fmt.Errorf("mkfs.ext4: %w: %s", err, out)
	}
	return nil
}

// boot runs the machine once, to its end or to the moment at which its power is cut. QEMU is ended whatever happens.
func (m machine) boot(ctx context.Context, s script, b boot, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for _, name := range []string{"out", "rc", "started", "order"} {
		if err := os.Remove(filepath.Join(m.job, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(m.job, "script"), []byte(b.text), 0o644); err != nil {
		return err
	}
	argv := s.command(m, b)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start qemu-system-x86_64 (Debian: qemu-system-x86): %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	why, cut := m.watch(ctx, s, b, done)
	if why != nil || cut {
		_ = cmd.Process.Kill() // it may have ended this very moment
		<-done
	}
	fmt.Fprintf(os.Stderr, "vm: %s, boot %s: %s%s\n", s.name, b.name, time.Since(began).Round(time.Second), map[bool]string{true: fmt.Sprintf(", power cut %s after %s", b.delay.Round(time.Millisecond), b.cut)}[cut])
	text, rerr := os.ReadFile(filepath.Join(m.job, "out"))
	for _, dir := range []string{m.out, filepath.Join(m.job, "before")} { // what a boot said, for people and for later boots
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, b.name+".out"), text, 0o644)); err != nil {
			return err
		}
	}
	switch {
	case why != nil:
		return why
	case cut:
		return nil
	case rerr != nil:
		return fmt.Errorf("the script did not begin: see %s.console in %s: %s", b.name, m.out, strings.TrimSpace(errs.String()))
	}
	rc, err := os.ReadFile(filepath.Join(m.job, "rc"))
	if err != nil || strings.TrimSpace(string(rc)) != "0" || b.cut != "" {
		note := "ended with " + strings.TrimSpace(string(rc))
		if b.cut != "" {
			note = "was to be cut at " + b.cut + " and ended by itself"
		}
		return appendLine(filepath.Join(m.job, "bad"), "boot "+b.name+" "+note)
	}
	return nil
}

func appendLine(file, line string) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, line)
	return errors.Join(err, f.Close())
}

// watch waits until QEMU ends, the moment comes at which the power is cut, or ctx ends. A picture of the console is taken now and then.
func (m machine) watch(ctx context.Context, s script, b boot, done <-chan error) (why error, cut bool) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var at time.Time // when the power is cut, once that is known
	for n := 1; ; n++ {
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("qemu: %w", err), false
			}
			return nil, false
		case <-ctx.Done():
			m.picture(b.name)
			return context.Cause(ctx), false
		case <-tick.C:
		}
		if b.cut != "" && at.IsZero() {
			if text, err := os.ReadFile(filepath.Join(m.job, "out")); err == nil && bytes.Contains(text, []byte(b.cut)) {
				at = time.Now().Add(b.delay)
			}
		}
		if !at.IsZero() && !time.Now().Before(at) {
			return nil, true
		}
		m.orders(s)
		if n%100 == 0 {
			m.picture(b.name)
		}
	}
}

// picture writes what stands on the screen, under that name.
func (m machine) picture(name string) {
	ppm := filepath.Join(m.run, "screen.ppm")
	m.monitor("screendump " + ppm)
	if out, err := exec.Command("pnmtopng", ppm).Output(); err == nil { // without that tool there are no pictures
		_ = os.WriteFile(filepath.Join(m.out, name+".png"), out, 0o644) // nothing hangs on them
	}
}

// orders does what the script asks of the host in /job/order, a line for each: "picture NAME", "hashes", or a line for QEMU's monitor. The file
// is gone when all is done.
func (m machine) orders(s script) {
	file := filepath.Join(m.job, "order")
	text, err := os.ReadFile(file)
	if err != nil {
		return
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "picture":
			m.picture(filepath.Base(rest))
		case "hashes":
			all, err := m.hashes(s, false)
			if err != nil {
				all = err.Error()
			}
			_ = os.WriteFile(filepath.Join(m.job, "hashes"), []byte(all), 0o644) // the script sees that it is missing
		default:
			m.monitor(line)
		}
	}
	_ = os.Remove(file)
}

// hashes are those of the disks, as their files are on the host; of all, or of those that only are to be read.
func (m machine) hashes(s script, same bool) (string, error) {
	var b strings.Builder
	for _, d := range s.disks {
		if same && !slices.Contains(s.same, d.serial) {
			continue
		}
		f, err := os.Open(filepath.Join(m.run, d.serial+".img"))
		if err != nil {
			return "", err
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%s sha256 %x\n", d.serial, h.Sum(nil))
	}
	return b.String(), nil
}

// monitor says a line to QEMU's monitor, and returns when it was done.
func (m machine) monitor(line string) {
	c, err := net.DialTimeout("unix", filepath.Join(m.run, "monitor"), time.Second)
	if err != nil {
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	r := bufio.NewReader(c)
	prompt := func() {
		const end = "(qemu) "
		for seen := ""; !strings.HasSuffix(seen, end); {
			got, err := r.ReadByte()
			if err != nil {
				return
			}
			seen = seen[max(0, len(seen)-len(end)):] + string(got)
		}
	}
	prompt()
	fmt.Fprintln(c, line)
	prompt()
}
