package detect

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write the decisions of testdata, and docs/preflight.md, anew")

// machine is one file of testdata. Its comment is a title and what a person should know; facts and policy are given, decision
// and table are what follows.
type machine struct {
	file, title, story string
	facts              Facts
	policy             Policy
	archive            *txtar.Archive
}

// The two machines that others are held against in the document.
const (
	ordinary = "testdata/01-ordinary.txtar"
	withPool = "testdata/03-one-pool.txtar"
)

func machines(t *testing.T) []machine {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d machines, %v", len(files), err)
	}
	var all []machine
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m := machine{file: file, archive: a}
		title, story, _ := strings.Cut(string(a.Comment), "\n")
		m.title, m.story = title, strings.Join(strings.Fields(story), " ")
		f, err := ParseFacts(section(a, "facts.json"))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		m.facts = *f
		if err := strict(section(a, "policy.json"), &m.policy); err != nil {
			t.Fatalf("%s: policy: %v", file, err)
		}
		if err := strict(section(a, "facts.json"), new(Facts)); err != nil {
			t.Errorf("%s: facts: %v", file, err)
		}
		all = append(all, m)
	}
	return all
}

// strict refuses fields that nobody reads: in a test they are spelling mistakes.
func strict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

func section(a *txtar.Archive, name string) []byte {
	for _, f := range a.Files {
		if f.Name == name {
			return f.Data
		}
	}
	return nil
}

func setSection(a *txtar.Archive, name string, data []byte) {
	for i := range a.Files {
		if a.Files[i].Name == name {
			a.Files[i].Data = data
			return
		}
	}
	a.Files = append(a.Files, txtar.File{Name: name, Data: data})
}

// written is a decision with a row on each line, so that a difference between two of them can be read.
func written(d Decision) []byte {
	var b bytes.Buffer
	rows := d.Rows
	d.Rows = nil
	head, _ := json.MarshalIndent(d, "", "  ")
	b.Write(bytes.Replace(head, []byte(`"rows": null`), []byte(`"rows": []`), 1))
	b.WriteByte('\n')
	for _, r := range rows {
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(r) // plain strings
	}
	return b.Bytes()
}

func TestMachines(t *testing.T) {
	for _, m := range machines(t) {
		t.Run(strings.TrimSuffix(filepath.Base(m.file), ".txtar"), func(t *testing.T) {
			d := Decide(m.facts, m.policy)
			sound(t, m, d)
			got := map[string][]byte{"decision.json": written(d), "table.txt": []byte(d.Text(110))}
			for name, want := range got {
				if *update {
					setSection(m.archive, name, want)
				} else if have := section(m.archive, name); !bytes.Equal(have, want) {
					t.Errorf("%s: %s is not what the file says (-update writes it anew):\n%s", m.file, name, firstDifference(have, want))
				}
			}
			if *update {
				slices.SortStableFunc(m.archive.Files, func(a, b txtar.File) int { return place(a.Name) - place(b.Name) })
				if err := os.WriteFile(m.file, txtar.Format(m.archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func place(name string) int {
	return slices.Index([]string{"policy.json", "table.txt", "decision.json", "facts.json"}, name)
}

func firstDifference(have, want []byte) string {
	a, b := strings.Split(string(have), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(a), len(b)) {
		x, y := "(end)", "(end)"
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			return fmt.Sprintf("line %d\n- %s\n+ %s", i+1, x, y)
		}
	}
	return "none"
}

// sound holds what must be true of every decision, whatever the machine.
func sound(t *testing.T, m machine, d Decision) {
	t.Helper()
	again, err := m.facts.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	f, err := ParseFacts(again)
	if err != nil {
		t.Fatal(err)
	}
	if e := Decide(*f, m.policy); !bytes.Equal(written(e), written(d)) {
		t.Errorf("after a way through JSON the facts give another decision:\n%s", firstDifference(written(d), written(e)))
	}
	if len(d.Options) != 5 {
		t.Fatalf("%d options", len(d.Options))
	}
	taken := 0
	for i, o := range d.Options {
		if o.Why == "" || o.Rule != i+1 {
			t.Errorf("option without a reason or number: %+v", o)
		}
		if o.Taken {
			taken++
			if o.Rule != d.Rule || o.Mode != d.Mode || o.Why != d.Why {
				t.Errorf("took %+v, and decided %s by rule %d: %s", o, d.Mode, d.Rule, d.Why)
			}
		}
	}
	if taken != 1 {
		t.Errorf("%d options are taken", taken)
	}
	seen := map[string]bool{}
	for _, r := range d.Rows {
		if r.ID == "" || r.What == "" || r.Found == "" || r.Why == "" || rank(r.Verdict) == 0 && r.Verdict != INFO {
			t.Errorf("row with a hole: %+v", r)
		}
		if (r.Verdict == ASK || r.Verdict == STOP) && len(r.Next) == 0 {
			t.Errorf("row that does not say what to do: %+v", r)
		}
		if strings.Contains(r.What, "%") {
			t.Errorf("row without its name: %+v", r)
		}
		for _, text := range slices.Concat([]string{r.What, r.Found, r.Why}, r.Next) {
			for _, raw := range []string{"re-create", "'-f'", "zpool import -f", "\n", "\x1b"} {
				if strings.Contains(text, raw) {
					t.Errorf("%q must reach nobody: %+v", raw, r)
				}
			}
		}
		if key := r.ID + " " + string(r.About) + " " + r.Found; seen[key] {
			t.Errorf("twice: %+v", r)
		} else {
			seen[key] = true
		}
	}
}

// docs/preflight.md shows every machine: what is written by hand ends at a mark, the rest comes from here.
func TestTheDocumentShowsEveryMachine(t *testing.T) {
	const file, mark = "../docs/preflight.md", "<!-- From here on: written by go test ./detect -update -->\n"
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, _, ok := strings.Cut(string(have), mark)
	if !ok {
		t.Fatalf("%s has no %q", file, mark)
	}
	want := head + mark + document(machines(t))
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(have) {
		t.Errorf("%s is not what the machines say (-update writes it anew):\n%s", file, firstDifference(have, []byte(want)))
	}
}

func document(all []machine) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n## %d machines\n\n| machine | mode | rule | stop | ask |\n|---|---|---|---|---|\n", len(all))
	var plain []Row
	for _, m := range all {
		d := Decide(m.facts, m.policy)
		if m.file == ordinary || m.file == withPool {
			plain = append(plain, d.Rows...)
		}
		stops, asks := 0, 0
		for _, r := range d.Rows {
			switch r.Verdict {
			case STOP:
				stops++
			case ASK:
				asks++
			}
		}
		fmt.Fprintf(&b, "| [%s](#%s) | %s | %d | %s | %s |\n", m.title, anchor(m.title), d.Mode, d.Rule, some(stops), some(asks))
	}
	for _, m := range all {
		d := Decide(m.facts, m.policy)
		fmt.Fprintf(&b, "\n### %s\n\n%s\n\n", m.title, m.story)
		shown := d
		if m.file != ordinary && m.file != withPool {
			shown.Rows = unlike(d.Rows, plain)
			b.WriteString("Rows that the first machine and the one with a pool do not have, and the mode:\n\n")
		}
		fmt.Fprintf(&b, "```\n%s```\n", shown.Text(110))
	}
	return b.String()
}

func some(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

func anchor(title string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(title) {
		switch {
		case r == ' ':
			b.WriteByte('-')
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_':
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unlike(rows, plain []Row) []Row {
	return slices.DeleteFunc(slices.Clone(rows), func(r Row) bool {
		return slices.ContainsFunc(plain, func(p Row) bool { return p.ID == r.ID && p.Found == r.Found && p.Verdict == r.Verdict })
	})
}
