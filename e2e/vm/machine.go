package main

import (
	"bytes"
	"context"
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
	for _, d := range s.disks {
		if err := d.make(ctx, filepath.Join(m.run, d.serial+".img")); err != nil {
			return nil, err
		}
	}
	for _, b := range s.boots {
		if err := m.boot(ctx, s, b, o.timeout); err != nil {
			return nil, fmt.Errorf("boot %s: %w", b.name, err)
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
	for _, name := range []string{"out", "rc", "started"} {
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
	why, cut := m.watch(ctx, b, done)
	if why != nil || cut {
		_ = cmd.Process.Kill() // it may have ended this very moment
		<-done
	}
	fmt.Fprintf(os.Stderr, "vm: %s, boot %s: %s%s\n", s.name, b.name, time.Since(began).Round(time.Second), map[bool]string{true: ", power cut"}[cut])
	text, rerr := os.ReadFile(filepath.Join(m.job, "out"))
	if err := os.WriteFile(filepath.Join(m.out, b.name+".out"), text, 0o644); err != nil {
		return err
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

// watch waits until QEMU ends, the line comes at which the power is cut, or ctx ends. A picture of the console is taken now and then.
func (m machine) watch(ctx context.Context, b boot, done <-chan error) (why error, cut bool) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
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
		if b.cut != "" {
			if text, err := os.ReadFile(filepath.Join(m.job, "out")); err == nil && bytes.Contains(text, []byte(b.cut)) {
				return nil, true
			}
		}
		if n%50 == 49 {
			m.picture(b.name)
			m.orders()
		}
	}
}

// picture writes what stands on the screen, as the last of this boot.
func (m machine) picture(name string) {
	ppm := filepath.Join(m.run, "screen.ppm")
	m.monitor("screendump " + ppm)
	if out, err := exec.Command("pnmtopng", ppm).Output(); err == nil { // without that tool there are no pictures
		_ = os.WriteFile(filepath.Join(m.out, name+".png"), out, 0o644) // nothing hangs on them
	}
}

// orders does what the script asks of the host: lines for QEMU's monitor in /job/monitor, such as "device_del dev-D2".
func (m machine) orders() {
	file := filepath.Join(m.job, "monitor")
	text, err := os.ReadFile(file)
	if err != nil {
		return
	}
	if os.Remove(file) == nil {
		m.monitor(strings.TrimSpace(string(text)))
	}
}

func (m machine) monitor(line string) {
	c, err := net.DialTimeout("unix", filepath.Join(m.run, "monitor"), time.Second)
	if err != nil {
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	fmt.Fprintln(c, line)
	_, _ = io.Copy(io.Discard, c) // its prompt; it says nothing else that is needed
}
