package main

import (
	"fmt"
	"io"
	"math"
	"strings"

	"aslrescue/e2e/bench/stats"
)

// goal is one promise of the design (section 13) about time: a peer takes at least factor times as long as we do. The fastest
// of the peers that are named decides.
type goal struct {
	scenario, ours, peers string
	factor                float64
}

var goals = []goal{
	{"first", us + "-none", "kopia-fixed borg-none-fixed", 2},
	{"first", us + "-none", "kopia-cdc1m kopia-default borg-none-cdc restic-off", 2.8},
	{"first", us + "-fast", "kopia-zstd borg-lz4", 1.3},
	{"first", us + "-fast", "restic-auto restic-fastest", 2.2},
	{"again", us + "-none", "kopia-fixed borg-none-fixed", 1.5},
	{"again", us + "-none", "kopia-cdc1m kopia-default borg-none-cdc restic-off", 2},
	{"again", us + "-none", "floor", 1 / 1.5},
	{"restore", us + "-none", "kopia borg restic casync desync", 1},
	{"restore", us + "-fast", "kopia borg restic casync desync", 1},
	{"verify", us + "-none", "kopia borg restic desync", 1},
	{"verify", us + "-fast", "kopia borg restic desync", 1},
	{"verify", us + "-none", "floor-medium", 1 / 1.5},
}

// printGoals says which promises held in this run. Nothing is printed without us.
func printGoals(out io.Writer, records []record) {
	var rows [][]string
	for _, g := range goals {
		if name, ratio := g.fastest(records); name != "" {
			rows = append(rows, []string{g.scenario, g.ours, name, fmt.Sprintf("%.2fx", g.factor), fmt.Sprintf("%.2fx", ratio), verdict(ratio >= g.factor)})
		}
	}
	rows = append(rows, sizes(records)...)
	if len(rows) > 0 {
		fmt.Fprintf(out, "\nGoals\n%s", stats.Table([]string{"scenario", "ours", "against", ">goal", ">measured", ""}, rows))
	}
}

func verdict(ok bool) string {
	if ok {
		return "holds"
	}
	return "MISSED"
}

// fastest is the peer with the smallest ratio to ours.
func (g goal) fastest(records []record) (name string, ratio float64) {
	ours := find(records, g.scenario, g.ours)
	if ours == nil {
		return "", 0
	}
	for _, r := range records {
		if r.Scenario != g.scenario || !g.against(r.Config) {
			continue
		}
		if x := stats.Ratio(byRound(r.Samples), byRound(ours.Samples)); x > 0 && (name == "" || x < ratio) {
			name, ratio = r.Config, x
		}
	}
	return name, ratio
}

// against takes whole names, or families: "kopia" means every kopia.
func (g goal) against(config string) bool {
	for _, p := range strings.Fields(g.peers) {
		if config == p || (!strings.Contains(p, "-") && strings.HasPrefix(config, p+"-") && p != "floor") {
			return true
		}
	}
	return false
}

func find(records []record, scenario, config string) *record {
	for i, r := range records {
		if r.Scenario == scenario && r.Config == config {
			return &records[i]
		}
	}
	return nil
}

// limit is a promise about a number of our own.
func limit(scenario, ours, what string, got, most float64) []string {
	return []string{scenario, ours, what, fmt.Sprintf("<= %.2f", most), fmt.Sprintf("%.3f", got), verdict(got <= most)}
}

// sizes are the goals about bytes and memory: what disk2 adds without compression in parts of what disk took, what both
// take beside the best peer, and memory.
func sizes(records []record) (rows [][]string) {
	first, second := find(records, "first", us+"-none"), find(records, "disk2", us+"-none")
	if first != nil && second != nil {
		part := float64(second.last().Added.Apparent) / float64(first.last().Added.Apparent)
		rows = append(rows, limit("disk2", us+"-none", "bytes added / first", part, 0.39))
	}
	best := math.Inf(1)
	for _, r := range records {
		if r.Scenario == "disk2" && r.Group == groupFast && !isOurs(r) {
			best = min(best, float64(r.last().Stored.Apparent))
		}
	}
	if ours := find(records, "disk2", us+"-fast"); ours != nil && !math.IsInf(best, 1) {
		rows = append(rows, limit("disk2", us+"-fast", "stored / best peer", float64(ours.last().Stored.Apparent)/best, 1.1))
	}
	return append(rows, memory(records)...)
}

// memory takes each of our configurations where it needed most.
func memory(records []record) (rows [][]string) {
	worst, at := map[string]int64{}, map[string]string{}
	var order []string
	for _, r := range records {
		if pss := r.peak(func(s sample) int64 { return s.PSS }); isOurs(r) && pss > worst[r.Config] {
			if at[r.Config] == "" {
				order = append(order, r.Config)
			}
			worst[r.Config], at[r.Config] = pss, r.Scenario
		}
	}
	for _, name := range order {
		rows = append(rows, limit(at[name], name, "PSS MiB", float64(worst[name])/(1<<20), 256))
	}
	return rows
}

func isOurs(r record) bool { return strings.HasPrefix(r.Config, us+"-") }
