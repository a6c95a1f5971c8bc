package meter

import (
	"context"
	"strings"
	"testing"
	"time"
)

func TestRunCountsTheWholeTree(t *testing.T) {
	u, err := Run(t.Context(), Cmd{Argv: []string{"/bin/sh", "-c", `sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; true`}})
	if err != nil {
		t.Fatal(err)
	}
	if u.CPU() <= 0 || u.Wall <= 0 || u.PSS <= 0 || u.MaxRSS <= 0 {
		t.Errorf("got %+v", u)
	}
}

func TestRunEndsWhatACommandLeavesBehind(t *testing.T) {
	start := time.Now()
	if _, err := Run(t.Context(), Cmd{Argv: []string{"/bin/sh", "-c", "sleep 60 >/dev/null 2>&1 &"}}); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("waited %v", d)
	}
}

func TestRunReportsWhatACommandSaid(t *testing.T) {
	_, err := Run(t.Context(), Cmd{Argv: []string{"/bin/sh", "-c", "echo no room >&2; exit 6"}})
	if err == nil || !strings.Contains(err.Error(), "no room") || !strings.Contains(err.Error(), "6") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Run(ctx, Cmd{Argv: []string{"/bin/sh", "-c", "sleep 60"}}); err == nil {
		t.Error("a cancelled command is no error")
	}
}

func TestParsers(t *testing.T) {
	pid, ppid, ok := parseStat([]byte("42 (a ) b) S 7 42 42 0"))
	if !ok || pid != 42 || ppid != 7 {
		t.Errorf("got %d, %d, %v", pid, ppid, ok)
	}
	if _, _, ok := parseStat([]byte("nonsense")); ok {
		t.Error("nonsense was parsed")
	}
	if got := parseBusy("cpu  100 200 300 9000 800 10 20 30 5 5"); got != 6.6 {
		t.Errorf("busy is %v", got)
	}
	if got := tree(5, map[int]int{5: 1, 6: 5, 7: 6, 8: 1}); len(got) != 3 {
		t.Errorf("tree is %v", got)
	}
}
