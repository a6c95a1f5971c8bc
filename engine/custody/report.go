package custody

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"aslrescue/engine/artifact"
	"aslrescue/engine/source"
	"aslrescue/engine/store"
	"aslrescue/engine/store/format"
	"aslrescue/engine/volume"
)

// Report is all that a store can say of a snapshot in front of somebody who was not there.
type Report struct {
	Snapshot  uint64          `json:"snapshot"`
	Domain    string          `json:"domain"`
	Store     string          `json:"store"`
	Intake    string          `json:"intake"`
	Manifest  string          `json:"manifest"`
	Result    string          `json:"result"`
	Label     string          `json:"label,omitempty"`
	Tool      string          `json:"tool"`
	Parent    uint64          `json:"parent,omitempty"`
	Merged    []uint64        `json:"merged,omitempty"`
	Resumed   int             `json:"resumed,omitempty"`
	Began     int64           `json:"began"` // by a clock nobody checked
	Ended     int64           `json:"ended"`
	Codec     string          `json:"codec"`
	Totals    format.Counts   `json:"totals"`
	Log       Chain           `json:"log"`
	Approvals []ApprovalRow   `json:"approvals,omitempty"`
	Verified  []VerifiedRow   `json:"verified,omitempty"`
	Sources   []*SourceReport `json:"sources"`
	Problems  []string        `json:"problems,omitempty"` // what the store could not say
}

// Chain is where the snapshot stands in the log, and how that is checked.
type Chain struct {
	Begin     uint64 `json:"begin"`       // record that began the intake
	Record    uint64 `json:"record"`      // that made the snapshot
	Hash      string `json:"hash"`        // of that record
	Part      uint64 `json:"part"`        // object that it stands in
	Head      uint64 `json:"head"`        // last record
	HeadHash  string `json:"head_hash"`   // which covers all before it
	Checked   bool   `json:"checked"`     // the whole chain was, when the report was made
	Signed    string `json:"signed_by"`   // name of the writer's key
	Key       string `json:"key"`         // its public half, from the log
	Signature string `json:"signature"`   // good, or what is wrong with it
	Note      string `json:"note_object"` // that holds it
}

// ApprovalRow is a plan that somebody approved.
type ApprovalRow struct {
	Record uint64 `json:"record"`
	format.Approval
}

// VerifiedRow is a time that what the snapshot needs was read back.
type VerifiedRow struct {
	Record uint64 `json:"record"`
	Covers string `json:"covers"`
	Blocks int    `json:"blocks"`
	Bytes  int64  `json:"bytes"`
	Clock  int64  `json:"clock"`
	Except int    `json:"except,omitempty"`
}

// GapRow is a run that the snapshot does not hold.
type GapRow struct {
	Off     int64    `json:"off"`
	Len     int64    `json:"len"`
	Kind    string   `json:"kind"`
	Why     string   `json:"why,omitempty"`
	Errno   uint16   `json:"errno,omitempty"`
	Tries   uint32   `json:"tries,omitempty"`
	Touches []string `json:"touches,omitempty"`
}

// DigestRow is what a source hashes to.
type DigestRow struct {
	Record   uint64            `json:"record"`
	Sums     map[string]string `json:"sums"`
	Size     int64             `json:"size"`
	Gaps     int64             `json:"gaps"`
	GapBytes int64             `json:"gap_bytes"`
	GapList  string            `json:"gap_list,omitempty"`
	How      string            `json:"how"`
	Clock    int64             `json:"clock"`
}

// SourceReport is one source.
type SourceReport struct {
	Name     string            `json:"name"`
	Kind     string            `json:"kind"`
	Path     string            `json:"path"`
	ID       string            `json:"id"`
	Model    string            `json:"model,omitempty"`
	Serial   string            `json:"serial,omitempty"`
	Sector   int               `json:"sector,omitempty"`
	Length   int64             `json:"length"`
	Root     string            `json:"root"`
	Counts   format.Counts     `json:"counts"`
	Whole    bool              `json:"whole"`
	Left     *format.Left      `json:"left,omitempty"`
	Errors   []string          `json:"errors,omitempty"`
	Changed  []string          `json:"changed,omitempty"`
	Digests  []DigestRow       `json:"digests,omitempty"`
	Gaps     []GapRow          `json:"gaps,omitempty"`
	GapsAll  int64             `json:"gaps_all"`
	GapBytes int64             `json:"gap_bytes"`
	Device   map[string]string `json:"device,omitempty"`
	Machine  map[string]string `json:"machine,omitempty"`
	Smart    []SmartRow        `json:"smart,omitempty"`
	Seen     []SeenRow         `json:"smart_while_read,omitempty"`
	Writes   *WritesRow        `json:"writes,omitempty"`
	Messages []string          `json:"messages,omitempty"`
	More     int64             `json:"messages_more,omitempty"`
	NoLines  string            `json:"messages_why,omitempty"`
	Began    *format.Moment    `json:"read_from,omitempty"`
	Ended    *format.Moment    `json:"read_to,omitempty"`
	Disk     *volume.Disk      `json:"disk,omitempty"`
	Touched  []volume.Touched  `json:"touched,omitempty"`
	Problems []string          `json:"problems,omitempty"`

	cells []cell // the map, drawn
}

// SeenRow is what changed of a disk's health while it was read.
type SeenRow struct {
	At    format.Moment `json:"at"`
	After string        `json:"after"` // reading began
	What  string        `json:"what"`
}

// SmartRow is what the disk said of itself, at the beginning and at the end.
type SmartRow struct {
	What  string `json:"what"`
	Begin string `json:"begin"`
	End   string `json:"end"`
}

// WritesRow is whether anything was written to the disk.
type WritesRow struct {
	Begin   format.Writes `json:"begin"`
	End     format.Writes `json:"end"`
	Verdict string        `json:"verdict"`
	Good    bool          `json:"good"`
}

// gapsListed bounds the list of gaps; their number and sum count all.
const gapsListed = 10_000

// Build reads a report out of a store. What the store cannot say is a problem in the report; an error is only that nothing could be read.
func Build(ctx context.Context, s *store.Store, v *store.View) (*Report, error) {
	m := v.Manifest
	r := &Report{Snapshot: v.Snapshot.Number, Domain: v.Snapshot.Domain, Store: hex.EncodeToString(m.Store[:]), Intake: hex.EncodeToString(m.Intake[:]), Manifest: v.Snapshot.Manifest.String(),
		Result: m.Result, Label: m.Label, Tool: m.Tool, Parent: m.Parent, Merged: m.Merged, Resumed: m.Resumed, Began: m.Began, Ended: m.Ended, Codec: codecText(m.Codec), Totals: m.Totals}
	if err := r.readLog(ctx, s, v); err != nil {
		return nil, err
	}
	digests := s.Digests(v.Snapshot.Number)
	for i := range m.Sources {
		sr, err := sourceReport(ctx, v, &m.Sources[i])
		if err != nil {
			return nil, err
		}
		for _, d := range digests {
			if d.Source == sr.Name {
				sr.Digests = append(sr.Digests, digestRow(d))
			}
		}
		r.Sources = append(r.Sources, sr)
	}
	return r, ctx.Err()
}

func codecText(c format.Codecs) string {
	if c.Library == "" {
		return c.Mode
	}
	return fmt.Sprintf("%s (%s, level %d)", c.Mode, c.Library, c.Level)
}

func digestRow(d format.DigestAt) DigestRow {
	row := DigestRow{Record: d.Seq, Sums: map[string]string{}, Size: d.Size, Gaps: d.Gaps, GapBytes: d.GapBytes, GapList: hex.EncodeToString(d.GapList), How: d.How, Clock: d.Clock}
	for n, s := range d.Sums {
		row.Sums[n] = hex.EncodeToString(s)
	}
	return row
}

// readLog follows the whole chain, and picks out what is about the snapshot.
func (r *Report) readLog(ctx context.Context, s *store.Store, v *store.View) error {
	var key []byte
	var nonce format.ID
	before := uint64(0) // record of the snapshot before
	r.Log.Checked = true
	for rec, err := range store.Log(ctx, s.Backend(), v.Snapshot.Domain) {
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.Log.Checked = false
			r.Problems = append(r.Problems, "the log could not be followed to its end: "+err.Error())
			break
		}
		r.Log.Head, r.Log.HeadHash = rec.Seq, hex.EncodeToString(rec.Hash[:])
		bad := func(err error) {
			if err != nil {
				r.Problems = append(r.Problems, fmt.Sprintf("record %d of the log: %v", rec.Seq, err))
			}
		}
		switch rec.Type {
		case format.IntakeBeginType:
			var x format.IntakeBegin
			bad(format.Unmarshal(rec.Payload, &x))
			if x.Intake == v.Snapshot.Intake {
				r.Log.Begin, key, nonce = rec.Seq, x.Key, x.Nonce
			}
		case format.ResumeType:
			var x format.Resume
			bad(format.Unmarshal(rec.Payload, &x))
			if x.Intake == v.Snapshot.Intake {
				key, nonce = x.Key, x.Nonce
			}
		case format.SnapshotType:
			if rec.Seq == v.Snapshot.Seq {
				r.Log.Record, r.Log.Hash, r.Log.Part = rec.Seq, hex.EncodeToString(rec.Hash[:]), rec.Part
				r.checkNote(ctx, s, v, rec.Hash, key, nonce)
			} else if rec.Seq < v.Snapshot.Seq {
				before = rec.Seq
				r.Approvals = nil
			}
		case format.ApprovalType:
			var x format.Approval
			bad(format.Unmarshal(rec.Payload, &x))
			if rec.Seq > before && rec.Seq < v.Snapshot.Seq {
				r.Approvals = append(r.Approvals, ApprovalRow{rec.Seq, x})
			}
		case format.VerifiedType:
			var x format.Verified
			bad(format.Unmarshal(rec.Payload, &x))
			r.verified(rec.Seq, x, v)
		}
	}
	if r.Log.Record == 0 {
		r.Problems = append(r.Problems, "the snapshot's record was not found in the log")
	}
	return ctx.Err()
}

func (r *Report) verified(seq uint64, x format.Verified, v *store.View) {
	row := VerifiedRow{Record: seq, Blocks: x.Blocks, Bytes: x.Bytes, Clock: x.Clock, Except: len(x.Except)}
	switch {
	case seq <= v.Snapshot.Seq:
		return
	case x.All:
		row.Covers = "every block of the store"
	case x.Snapshot == v.Snapshot.Number:
		row.Covers = "every block that the snapshot needs"
	case x.Intake == v.Snapshot.Intake:
		row.Covers = "every block that the intake stored"
	default:
		return
	}
	r.Verified = append(r.Verified, row)
}

// checkNote holds the signed note against the log.
func (r *Report) checkNote(ctx context.Context, s *store.Store, v *store.View, record format.Hash, key []byte, nonce format.ID) {
	c := &r.Log
	c.Note = store.NoteName(v.Snapshot.Domain, v.Snapshot.Number)
	c.Signed, c.Key = fmt.Sprintf("writer-%x", nonce), hex.EncodeToString(key)
	b, err := readObject(ctx, s.Backend(), c.Note)
	if err != nil {
		c.Signature = "there is none: " + err.Error()
		if errors.Is(err, artifact.ErrNotFound) {
			c.Signature = "there is none: the writer died before it could sign"
		}
		return
	}
	n, err := note.Open(b, note.VerifierList(writerKey{c.Signed, key}))
	switch want := store.NoteText(v.Snapshot.Domain, v.Snapshot.Number, record); {
	case err != nil:
		c.Signature = "NOT GOOD: " + err.Error()
	case n.Text != want:
		c.Signature = "NOT GOOD: it signs something else"
	default:
		c.Signature = "good"
	}
}

// writerKey verifies with a key of the log.
type writerKey struct {
	name string
	key  []byte
}

func (k writerKey) Name() string    { return k.name }
func (k writerKey) KeyHash() uint32 { return store.KeyHash(k.name, k.key) }
func (k writerKey) Verify(msg, sig []byte) bool {
	return len(k.key) == ed25519.PublicKeySize && ed25519.Verify(k.key, msg, sig)
}

func readObject(ctx context.Context, b store.Backend, name string) ([]byte, error) {
	rd, err := b.Open(ctx, name, 0, -1)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rd.Close() }() // it was only read
	return io.ReadAll(io.LimitReader(rd, 1<<20))
}

func sourceReport(ctx context.Context, v *store.View, src *format.SourceResult) (*SourceReport, error) {
	sr := &SourceReport{Name: src.Name, Kind: src.Kind, Path: string(src.Path), ID: src.ID, Model: src.Model, Serial: src.Serial, Sector: src.Sector, Length: src.Length, Counts: src.Counts,
		Whole: src.Whole(), Left: src.Left, Errors: src.Errors, Changed: src.Changed}
	if src.Evidence != nil {
		ev, err := v.Evidence(ctx, *src.Evidence)
		if err != nil {
			sr.Problems = append(sr.Problems, "what the machine could tell cannot be read: "+err.Error())
		} else {
			sr.evidence(ev)
		}
	}
	if src.Root == nil {
		if src.Top != nil && src.Top.Dir != nil {
			sr.Root = src.Top.Dir.String()
		}
		sr.treeGaps(src)
		return sr, ctx.Err()
	}
	sr.Root = src.Root.String()
	return sr, sr.linear(ctx, v, src)
}

func (sr *SourceReport) treeGaps(src *format.SourceResult) {
	sr.GapsAll, sr.GapBytes = src.GapsAll, src.Counts.Unreadable+src.Counts.Untried
	for _, g := range src.Gaps {
		sr.Gaps = append(sr.Gaps, GapRow{Off: g.Off, Len: g.Len, Kind: g.Kind, Why: g.Why, Touches: []string{string(g.Path)}})
	}
}

// linear walks the map: for the picture, for the gaps, and for what they touch.
func (sr *SourceReport) linear(ctx context.Context, v *store.View, src *format.SourceResult) error {
	sr.cells = newCells(src.Length)
	spans := gapSpans(ctx, v, src, func(st store.Stretch) { sr.paint(st, st.Kind == source.Untried && src.ByChoice(st.Off, st.Len)) }, func(err error) {
		sr.Problems = append(sr.Problems, "a part of the map cannot be read: "+err.Error())
	})
	sr.gaps(ctx, v, src, spans)
	return errors.Join(sr.touched(ctx, v, src, spans), ctx.Err())
}

// gapSpans are what is missing of a source against its plan, joined. each is given all of its map.
func gapSpans(ctx context.Context, v *store.View, src *format.SourceResult, each func(store.Stretch), bad func(error)) (spans []volume.Span) {
	for page, err := range v.MapPages(ctx, *src.Root) {
		if err != nil {
			bad(err)
			continue
		}
		for _, st := range page {
			each(st)
			if st.Kind == source.Data || st.Kind == source.Zero || st.Kind == source.Untried && src.ByChoice(st.Off, st.Len) {
				continue // what was left out by choice is not missing
			}
			if n := len(spans); n > 0 && spans[n-1].End() == st.Off {
				spans[n-1].Len += st.Len
			} else {
				spans = append(spans, volume.Span{Off: st.Off, Len: st.Len})
			}
		}
	}
	return spans
}

// Touched says what is on a disk of a snapshot, and what of it its gaps touch.
func Touched(ctx context.Context, v *store.View, src *format.SourceResult) (*volume.Disk, []volume.Touched, error) {
	var hurt error
	spans := gapSpans(ctx, v, src, func(store.Stretch) {}, func(err error) { hurt = errors.Join(hurt, err) })
	rd, err := v.Reader(ctx, *src.Root)
	if err = errors.Join(err, hurt); err != nil {
		return nil, nil, err
	}
	d := volume.Look(rd, src.Length, src.Sector)
	all, err := d.TouchedBy(ctx, spans)
	return d, all, err
}

// gaps lists the gaps, with what is known of each.
func (sr *SourceReport) gaps(ctx context.Context, v *store.View, src *format.SourceResult, spans []volume.Span) {
	add := func(g GapRow) {
		sr.GapsAll++
		sr.GapBytes += g.Len
		if len(sr.Gaps) < gapsListed {
			sr.Gaps = append(sr.Gaps, g)
		}
	}
	if len(src.Faults) > 0 {
		for f, err := range v.Faults(ctx, src) {
			if err != nil {
				sr.Problems = append(sr.Problems, "why some of it is missing cannot be read: "+err.Error())
				continue
			}
			if f.Kind == source.Untried && src.ByChoice(f.Off, f.Len) {
				continue
			}
			g := GapRow{Off: f.Off, Len: f.Len, Kind: f.Kind.String(), Errno: f.Errno, Tries: f.Tries}
			g.Why = whyOf(src, f.Off, f.Errno)
			add(g)
		}
		return
	}
	for _, s := range spans {
		g := GapRow{Off: s.Off, Len: s.Len, Kind: source.Unreadable.String()}
		for _, x := range src.Gaps {
			if x.Off <= s.Off && s.Off < x.Off+x.Len {
				g.Kind, g.Why = x.Kind, x.Why
			}
		}
		add(g)
	}
}

func whyOf(src *format.SourceResult, off int64, errno uint16) string {
	for _, x := range src.Gaps {
		if x.Off <= off && off < x.Off+x.Len {
			return x.Why
		}
	}
	return errnoText(errno)
}

// touched says what is on the disk, and what of it the gaps touch.
func (sr *SourceReport) touched(ctx context.Context, v *store.View, src *format.SourceResult, spans []volume.Span) error {
	if source.Kind(src.Kind) == source.Stream {
		return nil
	}
	rd, err := v.Reader(ctx, *src.Root)
	if err != nil {
		sr.Problems = append(sr.Problems, err.Error())
		return nil
	}
	sr.Disk = volume.Look(rd, src.Length, src.Sector)
	if len(spans) == 0 {
		return ctx.Err()
	}
	all, err := sr.Disk.TouchedBy(ctx, spans)
	if err != nil {
		return err
	}
	sr.Touched = all
	for i := range sr.Gaps {
		sr.Gaps[i].Touches = touches(all, sr.Gaps[i])
	}
	return nil
}

// touchesListed bounds what is named beside one gap; the list of files has them all.
const touchesListed = 8

func touches(all []volume.Touched, g GapRow) (names []string) {
	more := 0
	for _, t := range all {
		for _, x := range t.Touches {
			for _, w := range x.Where {
				if w.Off >= g.Off+g.Len || w.End() <= g.Off {
					continue
				}
				name := TouchText(x)
				if len(names) < touchesListed {
					names = append(names, name)
				} else {
					more++
				}
				break
			}
		}
	}
	if more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return names
}

// TouchText names what is touched.
func TouchText(t volume.Touch) string {
	switch {
	case t.Path != "" && t.What == "content":
		return t.Path
	case t.Path != "":
		return t.Path + " (" + t.What + ")"
	case t.What == "journal" || t.What == "reserved file":
		return fmt.Sprintf("%s (inode %d)", t.What, t.Inode)
	case t.Inode != 0:
		return fmt.Sprintf("%s of inode %d, whose name is not known", t.What, t.Inode)
	}
	return t.What
}

// evidence takes over what the machine told.
func (sr *SourceReport) evidence(ev *format.Evidence) {
	sr.Device, sr.Machine, sr.Messages, sr.NoLines = ev.Device, ev.Machine, ev.Messages, ev.MessagesWhy
	sr.More = ev.MessagesAll - int64(len(ev.Messages))
	sr.Began, sr.Ended = &ev.Began, &ev.Ended
	sr.Writes = Written(ev.WritesBegin, ev.WritesEnd)
	sr.Smart = smartRows(ev.SmartBegin, ev.SmartEnd)
	sr.Seen = seenRows(ev.Began, ev.SmartSeen)
}

// seenRows are what changed of a disk's health while it was read, each against the row before. Where nothing did there are none.
func seenRows(began format.Moment, seen []format.SmartSeen) []SeenRow {
	var rows []SeenRow
	put := func(at format.Moment, what string) {
		after := time.Duration(at.Uptime-began.Uptime) * time.Millisecond
		rows = append(rows, SeenRow{at, after.Round(time.Second).String(), what})
	}
	var last health
	for i, s := range seen {
		h := health{failed: s.Failed, critical: s.Critical, reallocated: s.Reallocated, pending: s.Pending, uncorrected: s.Uncorrected, errors: s.Errors, celsius: s.Celsius}
		var what []string
		switch {
		case s.Why != "":
			put(s.At, s.Why)
			continue
		case i > 0:
			if worse := h.worse(last); worse != "" {
				what = append(what, worse)
			}
			if h.celsius > last.celsius {
				what = append(what, fmt.Sprintf("%d °C", h.celsius))
			}
		}
		last = h
		if len(what) > 0 {
			put(s.At, strings.Join(what, "; "))
		}
	}
	return rows
}

// Written tells from the counters at the beginning and at the end whether a disk was written to.
func Written(a, b format.Writes) *WritesRow {
	w := &WritesRow{Begin: a, End: b}
	switch {
	case !a.Known || !b.Known:
		w.Verdict = "Not known: " + first(a.Why, b.Why, "the kernel gave no counters")
	case a == b:
		w.Good, w.Verdict = true, "Nothing was written to the disk or discarded on it, by the kernel's own count."
	default:
		w.Verdict = fmt.Sprintf("THE DISK WAS WRITTEN TO while it was read: %d writes of %d sectors, %d discards", b.Writes-a.Writes, b.Sectors-a.Sectors, b.Discards-a.Discards)
	}
	return w
}

// smartRows are the values that matter for a dying disk, side by side.
func smartRows(a, b format.Smart) []SmartRow {
	if a.Why != "" || b.Why != "" && len(a.JSON) == 0 {
		return []SmartRow{{What: "none", Begin: first(a.Why, "-"), End: first(b.Why, "-")}}
	}
	begin, end := smartValues(a.JSON), smartValues(b.JSON)
	var rows []SmartRow
	for _, k := range smartKeys() {
		if begin[k] != "" || end[k] != "" {
			rows = append(rows, SmartRow{k, first(begin[k], "-"), first(end[k], b.Why, "-")})
		}
	}
	if len(rows) == 0 {
		rows = append(rows, SmartRow{"smartctl", first(begin["says"], "nothing that is understood"), first(end["says"], "nothing that is understood")})
	}
	return rows
}

func smartKeys() []string {
	return []string{"health", "temperature", "hours on", "power cycles", "reallocated sectors", "pending sectors", "uncorrectable", "reported uncorrectable", "interface errors", "media errors", "spare left", "life used", "errors logged"}
}

func smartValues(js []byte) map[string]string {
	var s struct {
		Smartctl struct {
			Messages []struct {
				String string `json:"string"`
			} `json:"messages"`
		} `json:"smartctl"`
		Status      *struct{ Passed bool }      `json:"smart_status"`
		Temperature *struct{ Current int }      `json:"temperature"`
		Hours       *struct{ Hours int }        `json:"power_on_time"`
		Cycles      *int                        `json:"power_cycle_count"`
		Attributes  struct{ Table []smartAttr } `json:"ata_smart_attributes"`
		NVMe        *struct {
			MediaErrors int `json:"media_errors"`
			Spare       int `json:"available_spare"`
			Used        int `json:"percentage_used"`
			Logged      int `json:"num_err_log_entries"`
		} `json:"nvme_smart_health_information_log"`
		Log struct {
			Extended struct {
				Count *int `json:"count"`
			} `json:"extended"`
		} `json:"ata_smart_error_log"`
	}
	v := map[string]string{}
	if json.Unmarshal(js, &s) != nil {
		v["says"] = "what cannot be understood"
		return v
	}
	if s.Status != nil {
		v["health"] = map[bool]string{true: "passed", false: "FAILED"}[s.Status.Passed]
	}
	num := func(k string, n int) { v[k] = fmt.Sprint(n) }
	if s.Temperature != nil {
		v["temperature"] = fmt.Sprintf("%d °C", s.Temperature.Current)
	}
	if s.Hours != nil {
		num("hours on", s.Hours.Hours)
	}
	if s.Cycles != nil {
		num("power cycles", *s.Cycles)
	}
	for _, a := range s.Attributes.Table {
		if k := map[int]string{5: "reallocated sectors", 197: "pending sectors", 198: "uncorrectable", 187: "reported uncorrectable", 199: "interface errors"}[a.ID]; k != "" {
			v[k] = first(a.Raw.String, fmt.Sprint(a.Raw.Value))
		}
	}
	if n := s.NVMe; n != nil {
		num("media errors", n.MediaErrors)
		v["spare left"], v["life used"] = fmt.Sprintf("%d %%", n.Spare), fmt.Sprintf("%d %%", n.Used)
		num("errors logged", n.Logged)
	}
	if s.Log.Extended.Count != nil {
		num("errors logged", *s.Log.Extended.Count)
	}
	var says []string
	for _, m := range s.Smartctl.Messages {
		says = append(says, m.String)
	}
	v["says"] = strings.Join(says, "; ")
	return v
}

type smartAttr struct {
	ID  int
	Raw struct {
		Value  int64
		String string
	}
}
