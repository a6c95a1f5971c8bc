// Command bench measures our programs against others that store disks and trees, on one machine, in turn, with durability
// made equal. See "go run ./e2e/bench help".
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"aslrescue/e2e/bench/corpus"
)

const helpText = `bench measures us and our peers on one machine, in turn, durability made equal.

  bench corpus  --dir DIR [--scale S]    make disk.img, disk2.img and tree/ from this machine's own files
  bench run     --dir DIR [--scale S] [--runs N] [--only REGEXP] [--peers LIST] [--json FILE]
  bench profile --dir DIR [--scale S] [--compression none|fast] [--source disk|disk2|tree]
  bench peers   [--install]              which peers are here; --install fetches those that Debian has

"bench COMMAND -h" says more. Exit: 0 measured, 1 something failed or our fsyncs are missing, 2 usage.
`

var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := dispatch(ctx, os.Args[1:])
	stop()
	switch {
	case err == nil:
	case errors.Is(err, errUsage), errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func dispatch(ctx context.Context, args []string) error {
	commands := map[string]func(context.Context, []string) error{
		"corpus": cmdCorpus, "run": cmdRun, "profile": cmdProfile, "peers": cmdPeers,
		"floor": cmdFloor, // what "run" starts for the bare loops: a process of its own, measured like any other
	}
	if len(args) > 0 && commands[args[0]] != nil {
		return commands[args[0]](ctx, args[1:])
	}
	fmt.Fprint(os.Stderr, helpText)
	return errUsage
}

// common are the flags that every command with a corpus has.
type common struct {
	dir   string
	scale float64
	root  string
	tools string
}

func (c *common) register(fs *flag.FlagSet) {
	fs.StringVar(&c.dir, "dir", "", "where corpus and stores live; all peers write there and nowhere else")
	fs.Float64Var(&c.scale, "scale", 1, "1 = 4 GiB images and 50 000 files; 0.05 for a quick run")
	fs.StringVar(&c.root, "root", "/usr", "whose files the corpus is made of")
	fs.StringVar(&c.tools, "tools", "", "a folder whose peers are taken before those on PATH")
}

func (c *common) parse(fs *flag.FlagSet, args []string) error {
	if err := fs.Parse(args); err != nil {
		return errUsage
	}
	if c.dir == "" || fs.NArg() > 0 {
		fmt.Fprintf(fs.Output(), "%s needs --dir and takes no other arguments\n", fs.Name())
		return errUsage
	}
	abs, err := filepath.Abs(c.dir)
	if strings.ContainsAny(abs, " \t\n") {
		return fmt.Errorf("%q: command lines are cut at blanks, take a folder without any", abs)
	}
	c.dir = abs
	return err
}

// corpus gives every scale its own folder, so that small and full runs do not throw each other's away.
func (c *common) corpus(ctx context.Context, scale float64) (*corpus.Corpus, error) {
	return corpus.Ensure(ctx, corpus.Config{
		Dir:   filepath.Join(c.dir, "corpus-"+strconv.FormatFloat(scale, 'g', -1, 64)),
		Scale: scale, Root: c.root, Log: os.Stderr,
	})
}

// lock keeps a second bench away: two would measure each other. It also removes what one that was killed left behind.
func (c *common) lock() (free func() error, err error) {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(c.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another bench works in %s: %w", c.dir, err), f.Close())
	}
	for _, pattern := range []string{"run-*", "profile-*"} {
		old, _ := filepath.Glob(filepath.Join(c.dir, pattern)) // the pattern is well-formed
		for _, path := range old {
			os.RemoveAll(path)
		}
	}
	return f.Close, nil
}

func cmdCorpus(ctx context.Context, args []string) error {
	var c common
	fs := flag.NewFlagSet("corpus", flag.ContinueOnError)
	c.register(fs)
	if err := c.parse(fs, args); err != nil {
		return err
	}
	free, err := c.lock()
	if err != nil {
		return err
	}
	defer free()
	_, err = c.corpus(ctx, c.scale)
	return err
}
