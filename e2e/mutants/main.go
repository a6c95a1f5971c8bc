// Command mutants shows that the tests have teeth: it removes one guarantee after the other from the engine (an fsync, an
// exclusive creation, a checksum, an order), and wants a test to fail each time. The tree is not touched: a mutant is an
// overlay of one file.
//
//	go run ./e2e/mutants                    all
//	go run ./e2e/mutants -run 'fsync'       those whose name matches
//	go run ./e2e/mutants -record            and remember which test caught each, so that the next run is shorter
//	go run ./e2e/mutants -sample 5 -seed 7  some, for every change
//
// Exit: 0 all were caught, 1 one was not, or cannot be made any more, 2 usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	switch {
	case err == nil:
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("mutants", flag.ContinueOnError)
	match := fs.String("run", "", "only mutants whose name matches `REGEXP`")
	sample := fs.Int("sample", 0, "only `N` of them, drawn by the seed; 0 is all")
	seed := fs.Uint64("seed", uint64(time.Now().Unix()/86_400), "decides the sample; by default another one every day")
	jobs := fs.Int("j", 1, "mutants at a time")
	short := fs.Bool("short", false, "leave out the tests that take minutes: what survives then is only suspected")
	record := fs.Bool("record", false, "write into "+knownFile+" which test caught each, to be asked first from then on")
	list := fs.Bool("list", false, "print their names and do nothing")
	if err := fs.Parse(args); err != nil {
		return flag.ErrHelp
	}
	re, err := regexp.Compile(*match)
	if err != nil {
		return err
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	all := table()
	if err := check(root, all); err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(m mutant) bool { return !re.MatchString(m.name) })
	if *sample > 0 && *sample < len(all) {
		rng := rand.New(rand.NewPCG(*seed, 0))
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:*sample]
		fmt.Printf("a sample of %d, seed %d\n", *sample, *seed)
	}
	if *list {
		for _, m := range all {
			fmt.Println(m.name)
		}
		return nil
	}
	k, err := readKnown(filepath.Join(root, knownFile), *record)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	return tryAll(ctx, &runner{root: root, dir: dir, short: *short, known: k, sound: map[string]bool{}}, all, *jobs)
}

func tryAll(ctx context.Context, r *runner, all []mutant, jobs int) error {
	began := time.Now()
	results := make([]result, len(all))
	next := make(chan int)
	var wg sync.WaitGroup
	for range max(1, jobs) {
		wg.Go(func() {
			for i := range next {
				results[i] = r.try(ctx, i, all[i])
				fmt.Println(results[i])
			}
		})
	}
	for i := range all {
		next <- i
	}
	close(next)
	wg.Wait()
	counts := map[verdict]int{}
	for _, res := range results {
		counts[res.verdict]++
	}
	fmt.Printf("%d mutants in %v: %d caught, %d survived, %d broken\n", len(all), time.Since(began).Round(time.Second), counts[caught], counts[survived], counts[broken])
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if counts[caught] < len(all) {
		return errors.New("not every mutant was caught")
	}
	return nil
}

// moduleRoot is the folder with go.mod, at or above the working folder.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod here or above")
		}
		dir = up
	}
}

// check finds the mutants that cannot be made any more.
func check(root string, all []mutant) error {
	var errs []error
	names := map[string]bool{}
	for _, m := range all {
		if names[m.name] {
			errs = append(errs, fmt.Errorf("%s: the name is there twice", m.name))
		}
		names[m.name] = true
		src, err := os.ReadFile(filepath.Join(root, m.file))
		if err == nil {
			_, err = m.apply(string(src))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", m.name, err))
		}
	}
	return errors.Join(errs...)
}

// apply makes the mutant's text of a file's.
func (m *mutant) apply(src string) (string, error) {
	for i := 0; i < len(m.edits); i += 2 {
		was, is := m.edits[i], m.edits[i+1]
		if n := strings.Count(src, was); n != 1 {
			return "", fmt.Errorf("%s holds %d times, want once:\n%s", m.file, n, was)
		}
		if was == is {
			return "", fmt.Errorf("changes nothing:\n%s", was)
		}
		src = strings.Replace(src, was, is, 1)
	}
	return src, nil
}
