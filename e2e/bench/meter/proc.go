package meter

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// watch samples the tree below pid until the function it returns is called, which gives the peak.
func watch(pid int) (stop func() <-chan int64) {
	quit, out := make(chan struct{}), make(chan int64, 1)
	go func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		var peak int64
		for {
			peak = max(peak, treePSS(pid))
			select {
			case <-quit:
				out <- peak
				return
			case <-tick.C:
			}
		}
	}()
	return func() <-chan int64 { close(quit); return out }
}

// treePSS adds up the proportional memory of pid and all below it: shared pages, also those of a memfd between an engine and
// its readers, count once.
func treePSS(pid int) (sum int64) {
	for _, p := range tree(pid, parents()) {
		sum += pss(p)
	}
	return sum
}

func tree(root int, parent map[int]int) []int {
	var out []int
	for p := range parent {
		for a, n := p, 0; a > 1 && n < 64; a, n = parent[a], n+1 {
			if a == root {
				out = append(out, p)
				break
			}
		}
	}
	return out
}

func parents() map[int]int {
	all := map[int]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // ended meanwhile
		}
		pid, ppid, ok := parseStat(text)
		if ok {
			all[pid] = ppid
		}
	}
	return all
}

// parseStat reads "12 (name, may hold ) and blanks) S 1 …".
func parseStat(text []byte) (pid, ppid int, ok bool) {
	open, shut := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || shut < open {
		return 0, 0, false
	}
	rest := bytes.Fields(text[shut+1:])
	if len(rest) < 2 {
		return 0, 0, false
	}
	pid, err1 := strconv.Atoi(string(bytes.TrimSpace(text[:open])))
	ppid, err2 := strconv.Atoi(string(rest[1]))
	return pid, ppid, err1 == nil && err2 == nil
}

func pss(pid int) int64 {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
	if err != nil {
		return 0
	}
	defer f.Close()
	return field(bufio.NewScanner(f), "Pss:") << 10
}

func field(s *bufio.Scanner, name string) int64 {
	for s.Scan() {
		if f := strings.Fields(s.Text()); len(f) > 1 && f[0] == name {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n
		}
	}
	return 0
}

// busyCPU is what all CPUs of the machine did since it booted, without waiting, in seconds.
func busyCPU() float64 {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return 0
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Scan()
	return parseBusy(s.Text())
}

// parseBusy reads "cpu user nice system idle iowait irq softirq steal …", in hundredths.
func parseBusy(line string) (sum float64) {
	for i, f := range strings.Fields(line) {
		if i == 0 || i == 4 || i == 5 || i > 8 {
			continue
		}
		n, _ := strconv.ParseFloat(f, 64)
		sum += n / 100
	}
	return sum
}

// Settle waits until little is left to be written back, so that one run does not pay for another.
func Settle(limit time.Duration) {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if dirty() < 16<<20 {
			return
		}
	}
}

func dirty() (sum int64) {
	for _, name := range []string{"Dirty:", "Writeback:"} {
		f, err := os.Open("/proc/meminfo")
		if err != nil {
			return 0
		}
		sum += field(bufio.NewScanner(f), name) << 10
		f.Close()
	}
	return sum
}
