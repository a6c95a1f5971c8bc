package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// cmdProfile shows where our intake spends its time.
func cmdProfile(ctx context.Context, args []string) error {
	var o options
	fs := flag.NewFlagSet("profile", flag.ContinueOnError)
	o.register(fs)
	mode := fs.String("compression", "none", "none or fast")
	source := fs.String("source", "disk", "disk, disk2 (after disk) or tree")
	count := fs.Int("count", 40, "lines of pprof -top")
	fs.StringVar(&o.bin, "bin", "", "a folder with asl-intake and asl-admin, instead of building them")
	fs.StringVar(&o.usArgs, "us-args", "", "more arguments for asl-intake")
	if err := o.parse(fs, args); err != nil {
		return err
	}
	step := map[string]string{"disk": "first", "disk2": "disk2", "tree": "tree"}[*source]
	i := slices.IndexFunc(configs(), func(c config) bool { return c.Name == us+"-"+*mode })
	if step == "" || i < 0 {
		fs.Usage()
		return errUsage
	}
	return o.profile(ctx, configs()[i], step, *count)
}

func (o *options) profile(ctx context.Context, c config, name string, count int) error {
	free, err := o.lock()
	if err != nil {
		return err
	}
	defer free()
	co, err := o.corpus(ctx, o.scale)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp(o.dir, "profile-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	tools, err := buildOurs(ctx, work, o.bin)
	if err != nil {
		return err
	}
	r := newRunner(c, tools, co, work, o.usArgs)
	if err := r.prepare(ctx); err != nil {
		return err
	}
	if name == "disk2" {
		if err := r.step("first").plain(ctx); err != nil {
			return err
		}
	}
	file := filepath.Join(o.dir, "intake.pprof")
	s := r.step(name)
	s.argv = append(s.argv, "--cpuprofile", file)
	if err := s.plain(ctx); err != nil {
		return fmt.Errorf("(does this asl-intake know --cpuprofile?) %w", err)
	}
	fmt.Println("profile kept at", file)
	top := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", fmt.Sprintf("-nodecount=%d", count), r.vars["{bin}"], file)
	top.Stdout, top.Stderr = os.Stdout, os.Stderr
	return top.Run()
}
