package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"strings"
	"time"

	"aslrescue/e2e/bench/stats"
)

// record is one line of the JSON file: everything that was measured of one configuration in one scenario.
type record struct {
	Scenario, Config, Group, Mode string
	Command                       string
	Fsync                         string // synced files + folders / files left, in a small run under strace
	SyncAdded                     bool   // a sync was put into the timed span
	Read                          string
	Wall                          stats.Spread
	CPU                           stats.Spread
	TheirsToOurs                  float64 // median over rounds; 0 = nobody to compare with
	Samples                       []sample
}

func (b *bench) report(ctx context.Context, out io.Writer) error {
	records := b.records()
	fmt.Fprintf(out, "%s\n%d cores, %s/%s, %d rounds, warm cache; '+sync' = a sync of the file system was put into the timed span\n",
		b.corpus, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, b.runs)
	for _, s := range scenarios {
		if b.selects(s.name) {
			b.printScenario(out, s, records)
		}
	}
	printGoals(out, records)
	b.printTools(ctx, out)
	var err error
	if b.json != "" {
		err = writeJSON(b.json, b, records)
	}
	if len(b.faults) > 0 {
		err = errors.Join(err, fmt.Errorf("failed:\n  %s", strings.Join(b.faults, "\n  ")))
	}
	return err
}

func (b *bench) records() (out []record) {
	for _, s := range scenarios {
		for _, c := range b.configs {
			runs := b.results[key{c.Name, s.name}]
			if len(runs) == 0 || !b.selects(s.name) {
				continue
			}
			a := b.audited[c.Name][auditOf(s.name)]
			r := record{Scenario: s.name, Config: c.Name, Group: c.Group, Mode: c.Mode, Command: c.Steps[s.name],
				SyncAdded: b.syncs(c.Name, s.name), Read: a.Read, Samples: runs,
				Wall: stats.Of(column(runs, wall)), CPU: stats.Of(column(runs, sample.cpu))}
			if _, ok := b.audited[c.Name][auditOf(s.name)]; ok {
				r.Fsync = a.String()
			}
			r.TheirsToOurs = stats.Ratio(byRound(runs), byRound(b.results[key{ourOf(c.Group), s.name}]))
			out = append(out, r)
		}
	}
	return out
}

func wall(s sample) float64   { return s.Wall }
func (s sample) cpu() float64 { return s.CPU() }
func ourOf(group string) string {
	return us + map[bool]string{true: "-fast", false: "-none"}[group == groupFast]
}

func column(runs []sample, of func(sample) float64) (out []float64) {
	for _, r := range runs {
		out = append(out, of(r))
	}
	return out
}

func byRound(runs []sample) map[int]float64 {
	out := map[int]float64{}
	for _, r := range runs {
		out[r.Round] = r.Wall
	}
	return out
}

func (b *bench) printScenario(out io.Writer, s scenario, records []record) {
	header := []string{s.name, ">wall s", ">CPU s", ">PSS MiB", ">RSS MiB", ">stored MB", ">on disk", ">added MB", ">to us", ">noise", "read", "fsync files+folders/left", "mode"}
	var rows [][]string
	for _, group := range []string{groupNone, groupFast, groupCopy, groupFloor} {
		for _, r := range records {
			if r.Scenario == s.name && r.Group == group {
				rows = append(rows, r.row(s))
			}
		}
	}
	if len(rows) > 0 {
		fmt.Fprintf(out, "\n%s\n%s", strings.ToUpper(s.title[:1])+s.title[1:], stats.Table(header, rows))
	}
}

func (r record) row(s scenario) []string {
	last := r.last()
	stored, disk, added := "-", "-", "-"
	if s.bytes && last.Stored.Apparent > 0 {
		stored, disk, added = mega(last.Stored.Apparent), mega(last.Stored.Allocated), mega(last.Added.Apparent)
	}
	ratio, fsync := "-", r.Fsync
	if r.TheirsToOurs > 0 {
		ratio = fmt.Sprintf("%.2fx", r.TheirsToOurs)
	}
	if r.SyncAdded {
		fsync += " +sync"
	}
	return []string{r.Config, r.Wall.Text(), stats.Num(r.CPU.Median), mebi(r.peak(func(s sample) int64 { return s.PSS })),
		mebi(r.peak(func(s sample) int64 { return s.MaxRSS })), stored, disk, added, ratio, r.noise(), orDash(r.Read), orDash(fsync), r.Mode}
}

func (r record) last() sample { return r.Samples[len(r.Samples)-1] }

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (r record) peak(of func(sample) int64) (peak int64) {
	for _, s := range r.Samples {
		peak = max(peak, of(s))
	}
	return peak
}

// noise is what others, the kernel's own threads among them, took of the machine in the worst run.
func (r record) noise() string {
	worst := 0.0
	for _, s := range r.Samples {
		worst = max(worst, s.Others/(s.Wall*float64(runtime.NumCPU())))
	}
	return fmt.Sprintf("%.0f %%", 100*min(worst, 1))
}

func mega(n int64) string { return fmt.Sprint(int64(math.Round(float64(n) / 1e6))) }
func mebi(n int64) string { return fmt.Sprint(n >> 20) }

func (b *bench) printTools(ctx context.Context, out io.Writer) {
	fmt.Fprintln(out)
	for _, p := range peers {
		if path := b.tools[p.name]; path != "" && p.name != "desync" {
			fmt.Fprintf(out, "%s: %s\n", p.name, version(ctx, path, p.version))
		}
	}
}

func writeJSON(path string, b *bench, records []record) error {
	text, err := json.MarshalIndent(map[string]any{
		"Time": time.Now().UTC(), "Cores": runtime.NumCPU(), "Runs": b.runs, "Corpus": b.corpus, "Faults": b.faults, "Records": records,
	}, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
