// Command vm is the lab: a virtual machine with a real kernel, real systemd and real OpenZFS, in which scripts run that need more
// than a process can have: disks that are pulled, pools, a power cut. It is not part of continuous integration: without hardware help, which
// is not everywhere, a script takes minutes. See docs/vm.md.
//
//	go run ./e2e/vm build            makes the machine once, in the user's cache folder
//	go run ./e2e/vm run cases        runs e2e/vm/scripts/cases.sh in it
//	go run ./e2e/vm list             lists the scripts
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	code, err := run(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
	}
	os.Exit(code)
}

const usage = `usage: go run ./e2e/vm [flags] build | list | run SCRIPT…

`

// options are the command line.
type options struct {
	zfs     string
	cache   string
	out     string
	keep    bool
	times   int
	timeout time.Duration
	args    []string
}

func parse(args []string) (options, error) {
	var o options
	fs := flag.NewFlagSet("vm", flag.ContinueOnError)
	fs.StringVar(&o.zfs, "zfs", "2.3", "`SERIES` of OpenZFS: 2.3 or 2.1")
	fs.StringVar(&o.cache, "cache", "", "`DIR` for what is built (default: aslrescue/vm in the user's cache folder)")
	fs.StringVar(&o.out, "out", "", "`DIR` for results (default: results in the cache)")
	fs.BoolVar(&o.keep, "keep", false, "keep the disks of the run")
	fs.IntVar(&o.times, "times", 0, "make `N` boots of those that a script repeats (default: as many as it says)")
	fs.DurationVar(&o.timeout, "timeout", 40*time.Minute, "how long one boot may take with its script")
	fs.Usage = func() { fmt.Fprint(fs.Output(), usage); fs.PrintDefaults() }
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if o.zfs != "2.3" && o.zfs != "2.1" {
		return o, fmt.Errorf("--zfs %s: want 2.3 or 2.1", o.zfs)
	}
	if o.times < 0 {
		return o, fmt.Errorf("--times %d: want a number", o.times)
	}
	if o.args = fs.Args(); len(o.args) == 0 {
		return o, errors.New("say what to do: build, list, or run SCRIPT")
	}
	if o.cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return o, err
		}
		o.cache = filepath.Join(dir, "aslrescue", "vm")
	}
	if o.out == "" {
		o.out = filepath.Join(o.cache, "results")
	}
	return o, nil
}

func run(ctx context.Context, args []string) (int, error) {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return 0, nil
	}
	if err != nil {
		return 2, err
	}
	here, err := source()
	if err != nil {
		return 2, err
	}
	switch o.args[0] {
	case "list":
		all, err := scripts(here)
		for _, s := range all {
			fmt.Printf("%-12s %s\n", s.name, s.about)
		}
		return code(err), err
	case "build":
		dir, err := build(ctx, here, o)
		fmt.Println(dir)
		return code(err), err
	case "run":
		return runScripts(ctx, here, o)
	}
	return 2, fmt.Errorf("%q: want build, list or run", o.args[0])
}

func code(err error) int {
	if err != nil {
		return 1
	}
	return 0
}

// source is this folder, as the go command knows it.
func source() (string, error) {
	out, err := exec.Command("go", "list", "-f", "{{.Dir}}", "aslrescue/e2e/vm").Output()
	if err != nil {
		return "", fmt.Errorf("find the project: run this inside it: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// build makes kernel, root and module, or finds them in the cache. The folder it gives is named after kernel and ZFS.
func build(ctx context.Context, here string, o options) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(here, "lab", "build.sh"), o.cache, o.zfs)
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it has mounts to undo
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("build the machine: %w", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1], nil
}
