package detect

import (
	"fmt"
	"strings"
)

// check makes the rows about one thing. It stands in a list, so that the order of the table, what each row waits for, and what
// is said while it waits are in one place.
type check struct {
	id    string
	what  string
	about Subject
	needs []string // probes; where one is still looking, or has failed, that is the row
	rows  func(*judge) []Row
}

func checks() []check {
	return []check{
		{"config", "Config files", Machine, nil, (*judge).config},
		{"console", "Console", Machine, []string{"console"}, (*judge).console},
		{"root", "Rights", Machine, []string{"host"}, (*judge).rights},
		{"system", "System", Machine, []string{"host"}, (*judge).system},
		{"memory", "Memory", Machine, []string{"memory"}, (*judge).memory},
		{"clock", "Clock", Machine, []string{"clock"}, (*judge).clock},
		{"power", "Power", Machine, []string{"power"}, (*judge).power},
		{"state", "Own state", TheStateDir, []string{"state"}, (*judge).state},

		{"net.link", "Network link", TheRemote, []string{"network"}, (*judge).link},
		{"net.route", "Network route", TheRemote, []string{"network"}, (*judge).route},
		{"net.dns", "Names", TheRemote, []string{"network", "dns"}, (*judge).dns},
		{"tls.roots", "Certificate authorities", TheRemote, []string{"tls-roots"}, (*judge).roots},
		{"endpoint", "Remote endpoint", TheRemote, []string{"endpoint"}, (*judge).endpoint},

		{"zfs", "ZFS", AllPools, []string{"zfs"}, (*judge).zfs},
		{"pools", "Pools", AllPools, []string{"pools"}, (*judge).pools},
		{"pool", "Pools in detail", AllPools, []string{"pools"}, (*judge).eachPool},

		{"disks", "Disks", Machine, []string{"disks"}, (*judge).disks},
		{"disk", "Disks in detail", Machine, []string{"disks"}, (*judge).eachDisk},

		{"stack.md", "md arrays", Machine, []string{"stack"}, (*judge).arrays},
		{"stack.maps", "LVM, LUKS, multipath", Machine, []string{"stack"}, (*judge).maps},
		{"stack.swap", "Swap", Machine, []string{"stack"}, (*judge).swaps},
		{"stack.mounts", "Mounts", Machine, []string{"stack"}, (*judge).mounts},

		{"store", "Local store", TheStore, []string{"store"}, (*judge).store},
		{"room", "Room", TheStore, []string{"store", "disks"}, (*judge).room},
	}
}

func (j *judge) table() []Row {
	var out []Row
	for _, c := range checks() {
		if row, ok := j.held(c); ok {
			out = append(out, row)
			continue
		}
		for _, r := range c.rows(j) {
			if r.ID == "" {
				r.ID = c.id
			}
			if r.What == "" {
				r.What = c.what
			}
			if r.About == Machine {
				r.About = c.about
			}
			if r.About == "machine" {
				r.About = Machine
			}
			out = append(out, r)
		}
	}
	return out
}

// held is the row of a check whose probe gives nothing yet, or gave nothing.
func (j *judge) held(c check) (Row, bool) {
	for _, name := range c.needs {
		p, _ := j.f.Probe(name)
		row := Row{ID: c.id, About: c.about, What: c.what}
		switch p.State {
		case Looking:
			row.Found, row.Verdict, row.Late = "still looking", INFO, true
			row.Why = "It has not answered yet. The row changes when it does."
			return row, !strings.HasSuffix(c.what, "in detail")
		case Failed:
			row.Found, row.Verdict = "could not be seen: "+Printable(p.Why), ASK
			row.Why = "Nothing is assumed in its place."
			row.Next = []string{"look again"}
			return row, !strings.HasSuffix(c.what, "in detail")
		}
	}
	return Row{}, false
}

// Text is the table for people, of the width given: one line for each row, and below those that want something what it means
// and what to do.
func (d *Decision) Text(width int) string {
	width = max(width, 40)
	var b strings.Builder
	what := 0
	for _, r := range d.Rows {
		what = max(what, len(r.What))
	}
	what = min(what, width/3)
	for _, r := range d.Rows {
		indent := 6 + what + 2
		fmt.Fprintf(&b, "%-4s  %-*s  %s\n", r.Verdict, what, cut(r.What, what), hang(r.Found, width-indent, indent))
		if r.Verdict == GO || r.Verdict == INFO {
			continue
		}
		fmt.Fprintf(&b, "%*s%s\n", indent, "", hang(r.Why, width-indent, indent))
		for _, n := range r.Next {
			fmt.Fprintf(&b, "%*s-> %s\n", indent, "", hang(n, width-indent-3, indent+3))
		}
	}
	fmt.Fprintf(&b, "\nmode: %s (rule %d)\n", d.Mode, d.Rule)
	for _, o := range d.Options {
		mark := " "
		if o.Taken {
			mark = ">"
		}
		fmt.Fprintf(&b, "%s %d %-8s  %s\n", mark, o.Rule, o.Mode, hang(o.Why, width-14, 14))
	}
	if len(d.Late) > 0 {
		fmt.Fprintf(&b, "still looking: %s\n", hang(strings.Join(d.Late, ", "), width-15, 15))
	}
	return b.String()
}

func cut(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n])
	}
	return s
}

// hang breaks a text into lines of a width; all but the first are indented. A word that is too long stays whole: it is
// something to copy.
func hang(s string, width, indent int) string {
	width = max(width, 16)
	var b strings.Builder
	at := 0
	for i, w := range strings.Fields(s) {
		n := len([]rune(w))
		switch {
		case i == 0:
		case at+1+n > width:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			at = 0
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(w)
		at += n
	}
	return b.String()
}
