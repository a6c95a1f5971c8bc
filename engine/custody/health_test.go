package custody

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"aslrescue/engine/event"
	"aslrescue/engine/store/format"
)

func TestHealth(t *testing.T) {
	for _, c := range []struct {
		js   string
		want health
		ok   bool
	}{
		{`{"smart_status":{"passed":false},"temperature":{"current":41,"op_limit_max":60,"limit_max":70},"ata_smart_attributes":{"table":[{"id":5,"raw":{"value":8}},{"id":197,"raw":{"value":3}},{"id":198,"raw":{"value":2}},{"id":187,"raw":{"value":9}}]}}`,
			health{failed: true, reallocated: 8, pending: 3, uncorrected: 9, celsius: 41, limit: 60}, true},
		{`{"temperature":{"current":31,"drive_trip":68},"scsi_grown_defect_list":7,"scsi_error_counter_log":{"read":{"total_uncorrected_errors":2}}}`, health{reallocated: 7, uncorrected: 2, celsius: 31, limit: 68}, true},
		{`{"nvme_composite_temperature_threshold":{"warning":77,"critical":80},"nvme_smart_health_information_log":{"critical_warning":4,"temperature":48,"media_errors":212}}`, health{critical: 4, errors: 212, celsius: 48, limit: 77}, true},
		{`{"smart_status":{"passed":true}}`, health{}, true},
		{`{"smartctl":{"messages":[{"string":"Device is in STANDBY mode"}]}}`, health{}, false},
		{`{"temperature":{"current":"hot"}}`, health{}, false},
		{`[`, health{}, false},
	} {
		if got, ok := healthOf([]byte(c.js)); got != c.want || ok != c.ok {
			t.Errorf("%s: %+v, %v", c.js, got, ok)
		}
	}
}

// fakeDisk is a smartctl on PATH that says what a file says, and a sysfs with one disk.
type fakeDisk struct {
	t      *testing.T
	w      *Witness
	o      *watched
	answer string
	stat   string

	mu   sync.Mutex
	said []string
}

func newFakeDisk(t *testing.T) *fakeDisk {
	dir := t.TempDir()
	f := &fakeDisk{t: t, answer: filepath.Join(dir, "answer"), stat: filepath.Join(dir, "disk/stat")}
	must(t, os.WriteFile(filepath.Join(dir, "smartctl"), []byte("#!/bin/sh\ncase \"$(cat "+f.answer+")\" in\nhang) exec sleep 100 ;;\nesac\ncat "+f.answer+"\necho \"$@\" >>"+dir+"/calls\n"), 0o755))
	must(t, os.Mkdir(filepath.Join(dir, "disk"), 0o755))
	f.put(f.stat, "100 0 8000 50 0 0 0 0 0 0 0")
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	f.w = NewWitness()
	f.w.every, f.w.abandon, f.w.PauseWhenHot = 10*time.Millisecond, 300*time.Millisecond, true
	f.o = &watched{disk: filepath.Join(dir, "disk"), dev: "/dev/fake"}
	f.w.open[0] = f.o
	return f
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// put replaces a file at one stroke.
func (f *fakeDisk) put(path, text string) {
	f.t.Helper()
	must(f.t, os.WriteFile(path+".new", []byte(text), 0o644))
	must(f.t, os.Rename(path+".new", path))
}

func (f *fakeDisk) says(celsius, reallocated, pending int) {
	f.put(f.answer, fmt.Sprintf(`{"smart_status":{"passed":true},"temperature":{"current":%d,"op_limit_max":55},"ata_smart_attributes":{"table":[{"id":5,"raw":{"value":%d}},{"id":197,"raw":{"value":%d}}]}}`, celsius, reallocated, pending))
}

func (f *fakeDisk) say(l event.Level, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.said = append(f.said, string(l)+": "+text)
}

// until waits for what is said to hold words.
func (f *fakeDisk) until(words string) {
	f.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		f.mu.Lock()
		all := strings.Join(f.said, "\n")
		f.mu.Unlock()
		if strings.Contains(all, words) {
			return
		}
	}
	f.t.Fatalf("it never said %q, but %q", words, f.said)
}

// TestADiskIsWatched: what gets worse while a disk is read is told once and kept; a disk above its limit is left alone until it has cooled.
func TestADiskIsWatched(t *testing.T) {
	f := newFakeDisk(t)
	f.says(40, 8, 0)
	f.o.ev.SmartBegin = f.w.ask(t.Context(), f.o, allFlags()...)
	f.o.watch = &watching{w: f.w, o: f.o, say: f.say}
	f.o.watch.look(f.o.ev.SmartBegin)
	ctx, stop := context.WithCancel(t.Context())
	f.o.stop, f.o.begun = stop, make(chan struct{})
	close(f.o.begun)
	f.o.messages = listen("/nowhere", []string{"fake"})
	f.o.wg.Go(func() { f.o.watch.run(ctx) })
	f.says(41, 8, 24)
	f.until("warning: the disk gets worse: 24 sectors wait to be replaced, 0 before")
	f.says(56, 9, 24)
	f.until("9 sectors were replaced, 8 before")
	f.until("warning: the disk is at 56 °C, its limit is 55 °C; it is not read until it has 50 °C")
	if !f.w.Hot(0) {
		t.Error("it is read all the same")
	}
	f.says(52, 9, 24)
	time.Sleep(100 * time.Millisecond)
	if !f.w.Hot(0) {
		t.Error("it is read before it has cooled")
	}
	f.says(50, 9, 24)
	paused := make(chan struct{})
	go func() { defer close(paused); f.w.Pause(t.Context(), 0) }()
	select {
	case <-paused:
	case <-time.After(time.Minute):
		t.Fatal("the pause does not end")
	}
	f.until("info: the disk has cooled to 50 °C")
	ev := f.w.End(t.Context(), 0)
	if len(f.said) != 4 {
		t.Errorf("it said %q", f.said)
	}
	rows := seenRows(ev.Began, ev.SmartSeen)
	got := fmt.Sprint(rows)
	for _, want := range []string{"24 sectors wait to be replaced, 0 before", "56 °C", "9 sectors were replaced, 8 before"} {
		if !strings.Contains(got, want) {
			t.Errorf("the report lacks %q: %s", want, got)
		}
	}
	calls, err := os.ReadFile(filepath.Join(filepath.Dir(f.answer), "calls"))
	must(t, err)
	first, rest, _ := strings.Cut(string(calls), "\n")
	if first != "--json=c -x /dev/fake" || !strings.HasPrefix(rest, "--json=c -n standby,0 -H -A -l scttempsts /dev/fake\n") {
		t.Errorf("smartctl was asked %q", calls)
	}
}

// TestADiskThatIsStuckIsNotAsked: nor is one asked again that did not answer, and nothing waits for it.
func TestADiskThatIsStuckIsNotAsked(t *testing.T) {
	f := newFakeDisk(t)
	f.put(f.stat, "100 0 8000 50 0 0 0 0 3 0 0")
	if !stuck(t.Context(), f.o.disk) {
		t.Error("a disk whose reads do not come back is not stuck")
	}
	time.AfterFunc(stuckAfter/2, func() { f.put(f.stat, "101 0 8000 50 0 0 0 0 3 0 0") })
	if stuck(t.Context(), f.o.disk) {
		t.Error("a disk that reads is stuck")
	}
	f.put(f.answer, "hang")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	began := time.Now()
	if s := f.w.ask(ctx, f.o); !strings.Contains(s.Why, "did not answer") {
		t.Errorf("%+v", s)
	}
	if s := f.w.ask(ctx, f.o); !strings.Contains(s.Why, "did not answer the last time") {
		t.Errorf("%+v", s)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("that took %v", took)
	}
	k := &watching{w: f.w, o: f.o, say: f.say}
	k.hot.Store(true)
	if k.look(format.Smart{Why: "no answer"}); k.hot.Load() {
		t.Error("a disk that says nothing any more is left alone for ever")
	}
}
