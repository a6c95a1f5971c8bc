package wizard

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
)

// upTo goes to the intake of the first of the twins.
func (c *console) upTo() {
	c.sees("Who used tank last")
	for _, k := range [][2]string{{"n", "a folder ..."}, {"w", "Type the name of the pool"}, {"tank", "press y to do it"}, {"y", "(o) /mnt/asl/local"}, {"n", "E21740-0417"}, {" ", "[x]"}, {"n", "--source /dev/sdb"}} {
		c.press(k[0])
		c.sees(k[1])
	}
}

// BenchmarkKeyToScreen is how long a key takes to the screen while an intake runs as fast as this machine can.
func BenchmarkKeyToScreen(b *testing.B) {
	c := on(b, normal(), []string{"TERM=xterm-256color", "ASL_TEST_SPEED=full"}, "--rehearse", machine(b, 1))
	c.upTo()
	c.until("the start", func() bool { c.press("g"); return strings.Contains(plain(c.output()), "TOTAL") })
	var took []time.Duration
	for i := 0; i < 400; i++ {
		keys, want := "?", "Everywhere"
		if i%2 == 1 {
			keys, want = "\x1b", "TOTAL"
		}
		c.mu.Lock()
		c.out.Reset()
		c.mu.Unlock()
		from := time.Now()
		c.press(keys)
		for !strings.Contains(plain(c.output()), want) && time.Since(from) < 10*time.Second {
			time.Sleep(time.Millisecond)
		}
		took = append(took, time.Since(from))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Milliseconds()), "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Milliseconds()), "p99-ms")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkStuckConsole is what an intake takes on a terminal that nobody reads, beside one that is read: the median of pairs.
func BenchmarkStuckConsole(b *testing.B) {
	run := func(stuck bool) time.Duration {
		c := on(b, &pty.Winsize{Rows: 50, Cols: 160}, []string{"TERM=xterm-256color", "ASL_TEST_SPEED=full"}, "--rehearse", machine(b, 4))
		c.upTo()
		if stuck {
			close(c.stop)
		}
		began := func() bool {
			all, _ := filepath.Glob(filepath.Join(c.temp, "asl-rehearsal-*/store/logs/*/*"))
			return len(all) > 0
		}
		c.until("the start", func() bool { c.press("g\x0c"); return began() })
		from := time.Now()
		c.until("the snapshot", func() bool {
			if stuck {
				c.press("\x0c")
			}
			all, _ := filepath.Glob(filepath.Join(c.temp, "asl-rehearsal-*/store/snapshots/*/m-*"))
			return len(all) > 0
		})
		took := time.Since(from)
		_ = c.cmd.Process.Kill()
		return took
	}
	var ratios []float64
	for range 20 {
		free, stuck := run(false), run(true)
		ratios = append(ratios, float64(stuck)/float64(free))
	}
	slices.Sort(ratios)
	b.ReportMetric((ratios[len(ratios)/2]-1)*100, "%-slower")
	b.ReportMetric(0, "ns/op")
}
