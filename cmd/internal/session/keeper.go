package session

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"aslrescue/cmd/internal/report"
	"aslrescue/engine/artifact"
	"aslrescue/engine/event"
	"aslrescue/engine/store/format"
	"aslrescue/tui/ask"
)

// Keeper looks into a store for a face. It has no logic of its own: it runs the commands of asl-admin and asl-debug, and a face shows what
// they print.
type Keeper struct {
	Dir    string // of the store
	Domain string // empty: the only one
}

var _ ask.Keeper = Keeper{}

// tools are the commands that a face may run: none writes anything but to the store's own log.
func tools() map[string][]string {
	return map[string][]string{
		"asl-admin": {"snapshots", "show", "ls", "diff", "verify", "gc", "config", "peers", "report"},
		"asl-debug": {"validate", "log", "snapshot", "block", "segment", "artifact", "labels"},
	}
}

// storeless are commands that want no store.
func storeless() []string { return []string{"config", "labels"} }

// Tool runs a command and gives its lines.
func (k Keeper) Tool(ctx context.Context, program string, args ...string) (ask.Printed, error) {
	out, errs, p, err := k.run(ctx, program, args)
	if err != nil {
		return p, err
	}
	for _, text := range []string{out, errs} {
		for line := range strings.Lines(text) {
			p.Lines = append(p.Lines, strings.TrimRight(line, "\n"))
		}
	}
	return p, nil
}

func (k Keeper) run(ctx context.Context, program string, args []string) (out, errs string, p ask.Printed, err error) {
	run := map[string]func(context.Context, []string, IO) int{"asl-admin": Admin, "asl-debug": Debug}[program]
	if run == nil || len(args) == 0 || !slices.Contains(tools()[program], args[0]) {
		return "", "", p, fmt.Errorf("%w: %s %s is none of the commands that a face runs", ask.ErrRefused, program, strings.Join(args, " "))
	}
	full := args
	if !slices.Contains(storeless(), args[0]) {
		full = append([]string{"--store", k.Dir}, args...)
		if k.Domain != "" {
			full = append([]string{"--domain", k.Domain}, full...)
		}
	}
	var a, b bytes.Buffer
	p.Exit = run(ctx, full, IO{Out: &a, Err: &b})
	p.Command = program + " " + strings.Join(full, " ")
	return a.String(), b.String(), p, ctx.Err()
}

// rows runs a command with --json and gives its lines of one type.
func (k Keeper) rows(ctx context.Context, kind string, each func([]byte) error, args ...string) error {
	out, errs, p, err := k.run(ctx, "asl-admin", append(args, "--json"))
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		var head struct{ Type, Error string }
		if err := json.Unmarshal([]byte(line), &head); err != nil {
			return fmt.Errorf("%s: %w", p.Command, err)
		}
		if head.Type == "result" && p.Exit != 0 && head.Error != "" {
			return fmt.Errorf("%s: %s", args[0], head.Error)
		}
		if head.Type == kind {
			if err := each([]byte(line)); err != nil {
				return err
			}
		}
	}
	if p.Exit != 0 && errs != "" {
		return fmt.Errorf("%s", strings.TrimSpace(errs))
	}
	return nil
}

// Snapshots lists them, the newest first.
func (k Keeper) Snapshots(ctx context.Context) ([]ask.Snapshot, error) {
	var all []ask.Snapshot
	err := k.rows(ctx, "snapshot", func(line []byte) error {
		var r struct {
			Number  uint64
			Ended   int64
			Result  string
			Length  int64
			Label   string
			Sources []string
			Totals  format.Counts
			Error   string
		}
		if err := json.Unmarshal(line, &r); err != nil {
			return err
		}
		s := ask.Snapshot{Number: r.Number, Ended: r.Ended, Result: r.Result, Size: r.Length, Stored: r.Totals.Stored, Label: r.Label, Sources: strings.Join(r.Sources, ", ")}
		if r.Error != "" {
			s.Sources = "its manifest cannot be read: " + r.Error
		}
		all = append(all, s)
		return nil
	}, "snapshots")
	slices.Reverse(all)
	return all, err
}

// Browse lists a directory of a snapshot; an empty path is its sources.
func (k Keeper) Browse(ctx context.Context, snapshot uint64, path string) ([]ask.DirEntry, error) {
	args := []string{"ls", fmt.Sprint(snapshot)}
	if path != "" {
		args = append(args, path)
	}
	var all []ask.DirEntry
	err := k.rows(ctx, "entry", func(line []byte) error {
		var r struct {
			Path, Kind string
			Size       int64
		}
		if err := json.Unmarshal(line, &r); err != nil {
			return err
		}
		all = append(all, ask.DirEntry{Name: r.Path, Dir: r.Kind == "dir", Size: r.Size})
		return nil
	}, args...)
	return all, err
}

// Segments reads every segment that the log names and says how full its blocks are.
func (k Keeper) Segments(ctx context.Context) ([]ask.Segment, error) {
	s, err := ReadStore(ctx, k.Dir, k.Domain, Tool("asl-debug"))
	if err != nil {
		return nil, err
	}
	defer s.Backend().Close() // only read
	damaged := s.Damaged()
	var all []ask.Segment
	for _, seal := range s.Segments() {
		if ctx.Err() != nil {
			return all, ctx.Err()
		}
		row := ask.Segment{ID: seal.Segment.String()}
		seg, err := s.ReadSegment(ctx, seal.Segment)
		if err != nil {
			row.Bad = err.Error()
			all = append(all, row)
			continue
		}
		row.Level, row.Size, row.Entries = int(seg.Meta.Level), seg.Meta.Size, int64(seg.Meta.Entries)
		row.Blocks = fills(seg, func(id artifact.Digest) bool { return damaged["blocks/"+id.String()] != "" })
		all = append(all, row)
	}
	return all, nil
}

// fills says how full each block of a segment is.
func fills(seg *format.Segment, damaged func(artifact.Digest) bool) []ask.BlockFill {
	out := make([]ask.BlockFill, len(seg.Blocks))
	for i, b := range seg.Blocks {
		out[i] = ask.BlockFill{ID: b.ID.String(), Most: format.BlockRawMax, Damaged: damaged(b.ID)}
	}
	for _, e := range seg.Entries {
		f := &out[e.Block]
		f.Raw += int64(e.Raw)
		f.Stored += int64(e.Stored)
		f.Entries++
	}
	return out
}

// ErrorText is an error for a face: what happened, what it means, what to do.
func ErrorText(err error) []string {
	e := report.Explain(err)
	lines := []string{event.Printable(err.Error())}
	if e.Means != "" {
		lines = append(lines, e.Means)
	}
	return append(lines, e.Next...)
}
