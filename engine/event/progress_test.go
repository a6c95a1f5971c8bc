package event

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"
	"time"
)

func fold(events ...Event) *Progress {
	p := new(Progress)
	for _, e := range events {
		p.Apply(e)
	}
	return p
}

func TestSourcesAddUp(t *testing.T) {
	p := fold(
		IntakeBegun{At(0), "i", "l", "/s", 2, 3000, false},
		PhaseEntered{At(0), Reading},
		SourceOpened{Stamp: At(0), Source: "a", Size: 1000},
	)
	if done, of := p.Done(); done != 0 || of != 3000 {
		t.Errorf("before all sources are open the plan's total stands: got %d of %d", done, of)
	}
	for _, e := range []Event{
		SourceOpened{Stamp: At(0), Source: "b", Size: 2000},
		SourceProgress{Stamp: At(time.Second), Source: "a", Counts: Counts{Data: 400, Zero: 100, New: 300, Known: 100}},
		SourceProgress{Stamp: At(time.Second), Source: "b", Counts: Counts{Data: 1000, Untried: 512, New: 1000, Files: 3}},
		Gap{Stamp: At(time.Second), Source: "b", Kind: Untried, Len: 512},
		Gap{Stamp: At(time.Second), Source: "b", Kind: Untried, Len: 1024, Places: 2},
		SourceProgress{Stamp: At(2 * time.Second), Source: "a", Counts: Counts{Data: 500, Zero: 100, New: 400, Known: 100}},
		BlockSealed{Stamp: At(2 * time.Second), Blocks: 2, Stored: 700},
		ResumePoint{Stamp: At(2 * time.Second), Settled: 600},
	} {
		p.Apply(e)
	}
	want := Counts{Data: 1500, Zero: 100, Untried: 512, New: 1400, Known: 100, Files: 3}
	if p.Counts != want {
		t.Errorf("got %+v, want %+v", p.Counts, want)
	}
	if p.Gaps != 3 || p.Stored != 700 || p.Safe != 600 || p.Total != 3000 {
		t.Errorf("got %d gaps, %d stored, %d safe of %d", p.Gaps, p.Stored, p.Safe, p.Total)
	}
}

func TestASnapshotOvertakenByTheEndChangesNothing(t *testing.T) {
	p := fold(
		SourceOpened{Source: "a", Size: 10},
		SourceDone{Source: "a", Counts: Counts{Data: 10}},
		SourceProgress{Source: "a", Counts: Counts{Data: 4}},
	)
	if p.Counts.Data != 10 || !p.Sources[0].Done {
		t.Errorf("got %+v", p.Sources[0])
	}
}

// steady reads bps bytes each second for n seconds, ten snapshots a second.
func steady(p *Progress, from, n, bps int64) {
	for i := int64(1); i <= n*10; i++ {
		at := time.Duration(from)*time.Second + time.Duration(i)*100*time.Millisecond
		p.Apply(SourceProgress{Stamp: At(at), Source: "a", Counts: Counts{Data: p.Counts.Data + bps/10}})
	}
}

func begin(size, resumed int64) *Progress {
	return fold(
		IntakeBegun{At(0), "i", "l", "/s", 1, size, resumed > 0},
		PhaseEntered{At(0), Reading},
		SourceOpened{Stamp: At(0), Source: "a", Size: size, Resumed: Counts{Data: resumed}},
	)
}

func TestRateIsRightFromTheFirstSecond(t *testing.T) {
	p := begin(1e12, 0)
	steady(p, 0, 1, 100e6)
	if got := p.Rate(); math.Abs(got-100e6) > 1e6 {
		t.Errorf("after 1 s at 100 MB/s: got %s", Rate(got))
	}
	if p.ETA().Known {
		t.Errorf("after 1 s an ETA is a guess: got %v", p.ETA())
	}
}

func TestRateForgetsAndFallsWhileADiskHangs(t *testing.T) {
	p := begin(1e12, 0)
	steady(p, 0, 60, 100e6)
	steady(p, 60, 30, 10e6)
	if got := p.Rate(); got < 10e6 || got > 20e6 {
		t.Errorf("30 s after the disk became slow: got %s, want about 10 MB/s", Rate(got))
	}
	if p.Stalled() != 0 {
		t.Errorf("a slow disk is not a stalled one")
	}
	p.Apply(Tick{At(120 * time.Second)})
	if got := p.Rate(); got > 2e6 {
		t.Errorf("after 30 s of nothing: got %s", Rate(got))
	}
	if got := p.Stalled(); got != 30*time.Second {
		t.Errorf("stalled: got %v, want 30 s", got)
	}
}

func TestETAHoldsTheTruthAtASteadyRate(t *testing.T) {
	p := begin(100e9, 0)
	steady(p, 0, 20, 100e6) // 2 of 100 GB: 980 s remain
	eta := p.ETA()
	if truth := 980 * time.Second; !eta.Known || eta.Low > truth || eta.High < truth {
		t.Errorf("980 s remain, got %v (%v to %v)", eta, eta.Low, eta.High)
	}
}

func TestWhatAnEarlierRunReadIsNoSpeed(t *testing.T) {
	p := begin(100e9, 90e9)
	steady(p, 0, 20, 100e6)
	if got := p.Rate(); math.Abs(got-100e6) > 1e6 {
		t.Errorf("got %s, want 100 MB/s", Rate(got))
	}
	if got := p.Percent(); got != "92%" {
		t.Errorf("got %s, want 92%%", got)
	}
	if eta := p.ETA(); eta.High > 100*time.Second || eta.Low > 80*time.Second {
		t.Errorf("80 s remain, got %v to %v", eta.Low, eta.High)
	}
}

func TestPercentIsHundredOnlyWhenDone(t *testing.T) {
	p := begin(1000, 0)
	p.Apply(SourceDone{Source: "a", Counts: Counts{Data: 1000}})
	if got := p.Percent(); got != "99%" {
		t.Errorf("read but not sealed: got %s", got)
	}
	p.Apply(PhaseEntered{At(time.Second), Verifying})
	p.Apply(VerifyProgress{At(2 * time.Second), 10, 1000, 0})
	if got := p.Percent(); got != "1%" {
		t.Errorf("verifying: got %s", got)
	}
	p.Apply(VerifyProgress{At(3 * time.Second), 1000, 1000, 0})
	p.Apply(IntakeDone{At(3 * time.Second), Complete, 4, ""})
	if got := p.Percent(); got != "100%" || p.Result != Complete || p.Snapshot != 4 {
		t.Errorf("got %s, %s, snapshot %d", got, p.Result, p.Snapshot)
	}
}

func TestAnUnknownTotalStaysUnknown(t *testing.T) {
	p := begin(-1, 0)
	steady(p, 0, 20, 1e6)
	if got := p.Percent(); got != "?" || p.ETA().Known {
		t.Errorf("got %s, %v", got, p.ETA())
	}
}

func TestACloneSharesNothing(t *testing.T) {
	p := begin(1000, 0)
	c := p.Clone()
	if !reflect.DeepEqual(*p, c) {
		t.Fatal("a clone differs")
	}
	p.Apply(SourceProgress{Source: "a", Counts: Counts{Data: 5}})
	if c.Sources[0].Counts.Data != 0 {
		t.Error("the clone moved with the original")
	}
}

// Who gets a Progress through a socket in the middle folds on and has what those have who folded from the beginning.
func TestAProgressGoesThroughJSONWhole(t *testing.T) {
	p := begin(1e12, 5e9)
	p.Apply(Message{Stamp: At(0), Level: Warning, Text: "x"})
	steady(p, 0, 12, 100e6)
	for _, zero := range []*Progress{p, {}} {
		b, err := json.Marshal(zero)
		if err != nil {
			t.Fatal(err)
		}
		var q Progress
		if err := json.Unmarshal(b, &q); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(*zero, q) {
			t.Fatalf("got  %+v\nwant %+v", q, *zero)
		}
		steady(&q, 12, 5, 70e6)
		steady(zero, 12, 5, 70e6)
		if q.Rate() != zero.Rate() || q.ETA() != zero.ETA() || q.Percent() != zero.Percent() {
			t.Errorf("folding on gives %v %v, want %v %v", q.Rate(), q.ETA(), zero.Rate(), zero.ETA())
		}
	}
	if err := json.Unmarshal([]byte(`{"Sources":[{"Name":"a"}],"meters":[]}`), new(Progress)); err == nil {
		t.Error("a source without its rate was read")
	}
}
