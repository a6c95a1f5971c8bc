package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"aslrescue/e2e/bench/corpus"
	"aslrescue/e2e/bench/meter"
)

// runner is one configuration with its own store, home and place for restores.
type runner struct {
	c      config
	corpus *corpus.Corpus
	vars   map[string]string
	root   string
}

func newRunner(c config, tool toolbox, co *corpus.Corpus, root, usArgs string) *runner {
	root = filepath.Join(root, c.Name)
	return &runner{c: c, corpus: co, root: root, vars: map[string]string{
		"{bin}": tool[c.Tool], "{admin}": tool["asl-admin"], "{us-args}": usArgs, "{corpus}": co.Dir,
		"{repo}": filepath.Join(root, "repo"), "{out}": filepath.Join(root, "out"),
		"{home}": filepath.Join(root, "home"), "{links}": filepath.Join(root, "links"),
	}}
}

// step is a command line that is ready to start.
type step struct {
	argv []string
	env  []string
	dir  string
}

func (r *runner) step(name string) step { return r.command(r.c.Steps[name], dirOf(name, r.vars)) }

func (r *runner) command(line, dir string) step {
	home := r.vars["{home}"]
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8",
		"HOME=" + home, "XDG_CACHE_HOME=" + home + "/cache", "XDG_CONFIG_HOME=" + home + "/config", "TMPDIR=" + home + "/tmp"}
	for _, e := range r.c.Env {
		env = append(env, expand(e, r.vars))
	}
	return step{argv: argv(line, r.vars), env: env, dir: dir}
}

// plain runs a step that is not measured.
func (s step) plain(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, s.argv[0], s.argv[1:]...)
	cmd.Env, cmd.Dir = s.env, s.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		out = out[max(0, len(out)-2000):]
		return fmt.Errorf("%s: %w: %s", strings.Join(s.argv, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// prepare gives the configuration an empty store.
func (r *runner) prepare(ctx context.Context) error {
	r.cleanup()
	for _, d := range []string{"{repo}", "{out}", "{home}", "{home}/tmp"} {
		if err := os.MkdirAll(expand(d, r.vars), 0o755); err != nil {
			return err
		}
	}
	if err := r.link(); err != nil || r.c.Init == "" {
		return err
	}
	for line := range strings.SplitSeq(r.c.Init, " && ") {
		if err := r.command(line, r.corpus.Dir).plain(ctx); err != nil {
			return err
		}
	}
	return nil
}

// link makes folders with one image each, only for those who want them: a link changes the ctime of the image, which
// others take for a change of its content.
func (r *runner) link() error {
	if !strings.Contains(r.c.Steps["first"], "{links}") {
		return nil
	}
	for folder, image := range map[string]string{"one": r.corpus.DiskPath(), "two": r.corpus.Disk2Path()} {
		dir := filepath.Join(r.vars["{links}"], folder)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := os.Link(image, filepath.Join(dir, "disk.img")); err != nil {
			return err
		}
	}
	return nil
}

// cleanup removes everything; stores may hold folders without write permission.
func (r *runner) cleanup() {
	filepath.WalkDir(r.root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			os.Chmod(path, 0o755)
		}
		return nil
	})
	os.RemoveAll(r.root)
}

// measure runs a step and says what its store holds afterwards.
func (r *runner) measure(ctx context.Context, name string, sync bool) (sample, error) {
	s := r.step(name)
	cmd := meter.Cmd{Argv: s.argv, Env: s.env, Dir: s.dir}
	if sync {
		cmd.Sync = r.vars["{repo}"]
	}
	u, err := meter.Run(ctx, cmd)
	if err != nil {
		return sample{}, err
	}
	stored, err := usage(r.vars["{repo}"])
	return sample{Usage: u, Stored: stored}, err
}

// sample is one measured run.
type sample struct {
	meter.Usage
	Round  int
	Stored diskUsage // after the step
	Added  diskUsage // by the step
}

// diskUsage is what a folder takes.
type diskUsage struct{ Apparent, Allocated int64 }

func (a diskUsage) minus(b diskUsage) diskUsage {
	return diskUsage{a.Apparent - b.Apparent, a.Allocated - b.Allocated}
}

func usage(dir string) (u diskUsage, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		u.Apparent += st.Size()
		if s, ok := st.Sys().(*syscall.Stat_t); ok {
			u.Allocated += s.Blocks * 512
		}
		return nil
	})
	return u, err
}

// restored compares a restored image with what was taken in.
func (r *runner) restored() error {
	got, err := corpus.Digest(filepath.Join(r.vars["{out}"], r.c.Restored))
	if err == nil && got != r.corpus.Disk.BLAKE3 {
		err = fmt.Errorf("%s restored other bytes: %s, want %s", r.c.Name, got, r.corpus.Disk.BLAKE3)
	}
	return err
}

// clearOut makes room for the next restore.
func (r *runner) clearOut() error {
	if err := os.RemoveAll(r.vars["{out}"]); err != nil {
		return err
	}
	return os.MkdirAll(r.vars["{out}"], 0o755)
}
