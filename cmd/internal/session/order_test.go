package session

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aslrescue/engine/source"
)

// TestOrder: what is hurt goes to the front or to the end, what is equal stays as it was, and the plan says so.
func TestOrder(t *testing.T) {
	dir := t.TempDir()
	var sources []source.Source
	for _, name := range []string{"a", "b", "c", "d"} {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
		src, err := source.Open(p)
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		sources = append(sources, src)
	}
	hashes := map[string]bool{}
	for order, want := range map[string]string{asGiven: "abcd", hurtFirst: "bdac", hurtLast: "acbd"} {
		o := &intakeOptions{store: filepath.Join(dir, "store"), order: order, compression: "none", verify: "new"}
		j := &intakeJob{o: o, sources: append([]source.Source{}, sources...)}
		j.ask = func(info source.Info) bool {
			return strings.HasSuffix(info.Path, "b") || strings.HasSuffix(info.Path, "d")
		}
		j.arrange(t.Context())
		got := ""
		for _, s := range j.sources {
			got += s.Info().Name
		}
		if got != want {
			t.Errorf("%s: %s, want %s", order, got, want)
		}
		p := j.planNow()
		hashes[p.Hash().String()] = true
		text := p.Text("")
		if asked := order != asGiven; strings.Contains(text, "order = '"+order+"'") != asked || strings.Count(text, "hurt = true") != map[bool]int{true: 2}[asked] {
			t.Errorf("%s: the plan is\n%s", order, text)
		}
	}
	if len(hashes) != 3 {
		t.Errorf("three orders make %d plans", len(hashes))
	}
	if orderMistake("worst") == nil {
		t.Error("an order that there is not")
	}
}
