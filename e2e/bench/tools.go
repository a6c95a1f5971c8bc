package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// toolbox maps a tool's name to its path.
type toolbox map[string]string

// peers are the tools, with what prints their version and the Debian package that has them.
var peers = []struct{ name, version, pkg string }{
	{"restic", "version", "restic"}, {"borg", "--version", "borgbackup"}, {"casync", "--version", "casync"},
	{"ddrescue", "--version", "gddrescue"}, {"cp", "--version", "coreutils"}, {"strace", "--version", "strace"},
	{"mke2fs", "-V", "e2fsprogs"}, {"kopia", "--version", ""}, {"desync", "--help", ""},
}

// findPeers prefers the tools in dir to those on PATH.
func findPeers(dir string) toolbox {
	found := toolbox{}
	for _, p := range peers {
		for _, name := range []string{filepath.Join(dir, p.name), p.name, "/usr/sbin/" + p.name} {
			if dir == "" && name != p.name && !filepath.IsAbs(name) {
				continue
			}
			if path, err := exec.LookPath(name); err == nil {
				found[p.name], _ = filepath.Abs(path)
				break
			}
		}
	}
	return found
}

func version(ctx context.Context, path, arg string) string {
	out, _ := exec.CommandContext(ctx, path, arg).CombinedOutput() // a version that cannot be told is no reason to stop
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}

// mentions asks a tool's help for a feature that only newer versions have.
func mentions(ctx context.Context, path, word string) bool {
	out, _ := exec.CommandContext(ctx, path, "backup", "--help").CombinedOutput()
	return strings.Contains(string(out), word)
}

func cmdPeers(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("peers", flag.ContinueOnError)
	install := fs.Bool("install", false, "apt-get update and install what Debian has")
	dir := fs.String("tools", "", "a folder whose peers are taken before those on PATH")
	if err := fs.Parse(args); err != nil {
		return errUsage
	}
	if *install {
		if err := installPeers(ctx); err != nil {
			return err
		}
	}
	found := findPeers(*dir)
	for _, p := range peers {
		if path := found[p.name]; path != "" {
			fmt.Printf("%-9s %-28s %s\n", p.name, path, version(ctx, path, p.version))
		} else {
			fmt.Printf("%-9s not here%s\n", p.name, from(p.pkg))
		}
	}
	return nil
}

func from(pkg string) string {
	if pkg == "" {
		return "; Debian does not have it, put it on PATH or into --tools"
	}
	return "; Debian package " + pkg
}

func installPeers(ctx context.Context) error {
	line := []string{"apt-get", "install", "-y", "--no-install-recommends"}
	for _, p := range peers {
		if p.pkg != "" {
			line = append(line, p.pkg)
		}
	}
	for _, argv := range [][]string{{"apt-get", "update"}, line} {
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
		}
	}
	return nil
}

// ourPrograms are what is measured, built from the tree the bench stands in.
var ourPrograms = []string{"asl-intake", "asl-admin"}

// buildOurs builds into dir, or takes programs that are built already from bin.
func buildOurs(ctx context.Context, dir, bin string) (toolbox, error) {
	t := toolbox{}
	for _, p := range ourPrograms {
		if bin != "" {
			path, err := filepath.Abs(filepath.Join(bin, p))
			if err != nil {
				return nil, err
			}
			t[p] = path
			continue
		}
		root, err := moduleRoot()
		if err != nil {
			return nil, err
		}
		if _, err := os.Stat(filepath.Join(root, "cmd", p)); err != nil {
			return nil, fmt.Errorf("cmd/%s is not in this tree (--peers-only measures the others): %w", p, err)
		}
		t[p] = filepath.Join(dir, p)
		cmd := exec.CommandContext(ctx, "go", "build", "-o", t[p], "./cmd/"+p)
		cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("building %s: %w: %s", p, err, out)
		}
	}
	return t, nil
}

func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, gone := os.Stat(filepath.Join(dir, "go.mod")); gone == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("run it inside the module, or give --bin")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}
