package main

// logMutants hurt the log: who wins, what counts, what comes before what.
func logMutants() []mutant {
	const log, state, writer = "engine/store/log.go", "engine/store/state.go", "engine/store/writer.go"
	steps := []step{storeTests, roundTrip, writers, crashOne, faults, crashTwo, flips, crash}
	// decode a part as if what it says of the record before were so
	ownPrev := [2]string{"part, err := format.DecodePart(raw, st.seq+1, st.hash)",
		"prev := st.hash\n\tif h, _, ok := format.PeekHead(raw); ok {\n\t\tprev = h.Prev\n\t}\n\tpart, err := format.DecodePart(raw, st.seq+1, prev)"}
	return []mutant{
		{"log: a torn part is not read again past the cache", log, []string{"readAll(Uncached(ctx), b, partName(domain, n))", "readAll(ctx, b, partName(domain, n))"}, steps},
		{"log: a torn part may read differently", log, []string{"if !bytes.Equal(raw, again) {", "if !bytes.Equal(raw, again) && false {"}, steps},
		// What a part chains to is held against the log twice, and the store's id stands behind both: each alone changes nothing.
		{"log: a part may chain to anything", log, []string{ownPrev[0], ownPrev[1], "head.Part != n || head.Prev != st.hash:", "head.Part != n:"}, steps},
		{"log: parts of another store are taken", log, []string{ownPrev[0], ownPrev[1], "head.Part != n || head.Prev != st.hash:", "head.Part != n:", "case head.Store != st.store:", "case head.Store != st.store && false:"}, steps},
		{"log: what a part supersedes is not checked", log, []string{"case head.Supersedes != want:", "case head.Supersedes != want && false:"}, steps},
		{"log: the next part does not say that it supersedes", log, []string{"\tif st.torn {\n\t\thead.Supersedes = st.part", "\tif st.torn && false {\n\t\thead.Supersedes = st.part"}, steps},
		{"log: a missing part is its end", log, []string{"if st.part < newest {", "if false {"}, steps},
		{"log: a note beyond the end is not looked for", log, []string{"\treturn noteBeyond(ctx, b, st)\n", "\treturn nil\n"}, steps},
		{"log: a read error is its end", log, []string{"if errors.Is(err, artifact.ErrNotFound) {\n\t\treturn false, nil", "if err != nil {\n\t\treturn false, nil"}, steps},
		{"log: appends go on after one that failed", log, []string{"\t\t\ts.broken = fmt.Errorf(\"an append failed earlier: %w\", err)\n", ""}, steps},
		{"log: a lost race is given up", log, []string{"if errors.Is(err, artifact.ErrConflict) {", "if false {"}, steps},
		{"log: a lost race is taken for won", log, []string{"if err := s.catchUp(ctx, n); err != nil {\n\t\t\t\treturn err\n\t\t\t}\n\t\t\tcontinue", "err = nil"}, steps},
		{"log: a lost race is tried again as it was", log, []string{"\t\trecs, err := build(s.st)\n", "\t\trecs, err := build(s.st)\n\t\tif first != nil {\n\t\t\trecs, err = first, nil\n\t\t}\n\t\tfirst = recs\n", "\tfor {\n\t\trecs, err", "\tvar first []record\n\tfor {\n\t\trecs, err"}, steps},
		{"log: no checkpoints", log, []string{"if n%format.CheckpointEvery == 0 {\n\t\tall = append", "if false {\n\t\tall = append"}, steps},
		{"log: checkpoints forget unfinished intakes", state, []string{"c.Intakes = append(c.Intakes, *in)", "_ = in"}, steps},
		{"log: checkpoints forget damage", state, []string{"c.Damage = append(c.Damage, format.DamagedObject{Name: name, Why: s.damage[name]})", "_ = name"}, steps},
		{"log: checkpoints forget runs", state, []string{"c.Runs = append(c.Runs, format.RunOf{Run: r.Run, Of: r.of})", "_ = r"}, steps},
		{"log: checkpoints forget snapshots", state, []string{"c := format.Checkpoint{Snapshots: s.snapshots, ", "c := format.Checkpoint{"}, steps},
		{"log: opening at a checkpoint miscounts", log, []string{"st.part, st.seq, st.hash = head.Store, n-1, seq-1, head.Prev", "st.part, st.seq, st.hash = head.Store, n-1, seq, head.Prev"}, steps},

		{"fencing: an old writer's resume points count", state, []string{"in != nil && in.Nonce == v.Nonce {\n\t\t\tin.Blocks", "in != nil {\n\t\t\tin.Blocks"}, steps},
		{"fencing: RESUME leaves the old writer in place", state, []string{"in.Nonce, in.Key, in.Resumed = v.Nonce, v.Key, in.Resumed+1", "in.Key, in.Resumed = v.Key, in.Resumed+1"}, steps},
		{"fencing: a writer that was replaced goes on", writer, []string{"if in == nil || in.Nonce != w.nonce {\n\t\t\treturn nil, fmt.Errorf(\"intake %x: %w\", w.id, ErrFenced)\n\t\t}\n\t\treturn recs, nil", "if in == nil {\n\t\t\treturn nil, fmt.Errorf(\"intake %x: %w\", w.id, ErrFenced)\n\t\t}\n\t\treturn recs, nil"}, steps},
		{"fencing: a writer that was replaced makes a snapshot", writer, []string{"if in == nil || in.Nonce != w.nonce {\n\t\t\treturn nil, fmt.Errorf(\"intake %x: %w\", w.id, ErrFenced)\n\t\t}\n\t\treturn []record{{format.SnapshotType", "if in == nil {\n\t\t\treturn nil, fmt.Errorf(\"intake %x: %w\", w.id, ErrFenced)\n\t\t}\n\t\treturn []record{{format.SnapshotType"}, steps},
		{"log: a snapshot leaves its intake unfinished", state, []string{"\t\tdelete(s.intakes, v.Intake)\n\t\ts.snapshots", "\t\ts.snapshots"}, steps},
		{"log: sealed blocks stay in the resume point", state, []string{"\tin.Blocks = slices.DeleteFunc(in.Blocks,", "\t_ = slices.DeleteFunc(slices.Clone(in.Blocks),"}, steps},
		{"log: resume points forget their blocks", state, []string{"\t\t\tin.Blocks = append(in.Blocks, v.Blocks...)\n", ""}, steps},
		{"log: numbers of snapshots repeat", writer, []string{"Number: st.lastSnapshot() + 1,", "Number: m.Parent + 1,"}, append([]step{writers}, steps...)},
	}
}

// storeMutants hurt what is known, found, read and verified.
func storeMutants() []mutant {
	const (
		writer, view, verify = "engine/store/writer.go", "engine/store/view.go", "engine/store/verify.go"
		index, merge, rescue = "engine/store/index.go", "engine/store/merge.go", "engine/store/rescue.go"
		validate             = "engine/store/validate.go"
	)
	steps := []step{storeTests, besides, roundTrip, same, writers, crashOne, faults, flips, crashTwo, crash}
	read := []step{storeTests, besides, roundTrip, restoreTests, sessionTests, flips, crashOne}
	return []mutant{
		{"order: a block is durable later than it is said", writer, []string{"err = w.s.b.Create(ctx, \"blocks/\"+id.String(), data)", "late := slices.Clone(data)\n\t\t\terr = nil\n\t\t\tgo func() { time.Sleep(20 * time.Millisecond); _ = w.s.b.Create(ctx, \"blocks/\"+id.String(), late) }()", "\t\"sync\"\n", "\t\"sync\"\n\t\"time\"\n"}, []step{crashOne, faults, crashTwo, crash}},
		{"order: a segment is created after it stands in the log", writer, []string{
			"if err := w.s.b.Create(ctx, \"segments/\"+seal.Segment.String(), data); err != nil {", "lateSegment = data\n\tif err := error(nil); err != nil {",
			"\tif err := w.append(ctx, recs...); err != nil {\n\t\treturn err\n\t}\n", "\tif err := w.append(ctx, recs...); err != nil {\n\t\treturn err\n\t}\n\tif seal != nil {\n\t\tif err := w.s.b.Create(ctx, \"segments/\"+seal.Segment.String(), lateSegment); err != nil {\n\t\t\treturn err\n\t\t}\n\t}\n",
			"// ID is the intake's.", "var lateSegment []byte\n\n// ID is the intake's."}, []step{crashOne, faults, crashTwo, crash}},
		{"order: the manifest is created after its record", writer, []string{
			"\tif err := w.s.b.Create(ctx, fmt.Sprintf(\"snapshots/%s/m-%s\", st.domain, id), data); err != nil {\n\t\treturn format.SnapshotAt{}, fmt.Errorf(\"manifest: %w\", err)\n\t}\n", "",
			"\tsnap := w.s.st.snapshots[len(w.s.st.snapshots)-1]\n", "\tsnap := w.s.st.snapshots[len(w.s.st.snapshots)-1]\n\tif err := w.s.b.Create(ctx, fmt.Sprintf(\"snapshots/%s/m-%s\", st.domain, id), data); err != nil {\n\t\treturn format.SnapshotAt{}, fmt.Errorf(\"manifest: %w\", err)\n\t}\n"}, []step{crashOne, faults, crashTwo, crash}},
		{"known: what others sealed later counts", writer, []string{"w.may[i] = seg.Seq <= in.Seq ||", "w.may[i] = true ||"}, steps},
		{"known: what this intake sealed before it was resumed does not count", writer, []string{" || slices.Contains(in.Made, seg.Segment)", ""}, steps},
		{"known: what lies only in damaged blocks counts", writer, []string{"known := slices.ContainsFunc(found, func(l location) bool { return !w.s.isDamaged(l.block) && w.there(ctx, l) })", "known := slices.ContainsFunc(found, func(l location) bool { return w.there(ctx, l) })"}, steps},
		{"known: what lies in lost blocks counts", writer, []string{"known := slices.ContainsFunc(found, func(l location) bool { return !w.s.isDamaged(l.block) && w.there(ctx, l) })", "known := slices.ContainsFunc(found, func(l location) bool { return !w.s.isDamaged(l.block) })"}, steps},
		{"known: a resumed writer forgets its unsealed blocks", writer, []string{"\t\t\tw.own[0][e.Ref.Digest] = struct{}{}\n", "\t\t\t_ = e\n"}, steps},
		{"known: the unsealed segment is forgotten when the next begins", writer, []string{"w.own = append(w.own, map[artifact.Digest]struct{}{})", "w.own = []map[artifact.Digest]struct{}{{}}"}, steps},
		{"known: what is added is forgotten", writer, []string{"\tw.own[len(w.own)-1][d] = struct{}{}\n", ""}, steps},
		{"known: more than is there", writer, []string{"\tview, own := w.look(d)", "\tif d[0] == 7 {\n\t\treturn true, nil\n\t}\n\tview, own := w.look(d)"}, steps},
		{"writer: a resumed writer's segment leaves out the blocks before", writer, []string{"w.segBlocks, w.resumed = slices.Clone(in.Blocks), map[artifact.Ref]location{}", "w.resumed = map[artifact.Ref]location{}"}, steps},
		{"writer: a damaged name ends the intake", writer, []string{"if errors.Is(err, artifact.ErrDamaged) && gen < 1000 {", "if false {"}, steps},
		{"writer: a block known to be damaged is made again as it is", writer, []string{"if !w.s.isDamaged(id) {", "if true {"}, steps},
		{"writer: nothing is signed", writer, []string{"\treturn snap, w.sign(ctx, snap, w.s.st.hash)", "\treturn snap, nil"}, append(read, step{pkg: "e2e"})},
		{"writer: the note signs another record", writer, []string{"\treturn snap, w.sign(ctx, snap, w.s.st.hash)", "\treturn snap, w.sign(ctx, snap, st.hash2())", "// ID is the intake's.", "func (s *state) hash2() format.Hash { h := s.hash; h[0] ^= 1; return h }\n\n// ID is the intake's."}, append(read, step{pkg: "e2e"})},

		{"index: only the newest run is asked", index, []string{"for i := len(ix.runs) - 1; i >= 0; i-- {", "for i := len(ix.runs) - 1; i >= 0 && i == len(ix.runs)-1; i-- {"}, steps},
		{"index: only the first page is looked at", index, []string{"for i := first; i <= last; i++ {", "for i := first; i <= first && i <= last; i++ {"}, steps},
		{"index: the filter is asked the wrong way", index, []string{"!p.meta.MayContain(d) {", "p.meta.MayContain(d) {"}, steps},
		{"index: part before a boundary is left out", index, []string{"for from > 0 && r.parts[from].meta.First() == k {", "for false {"}, steps},
		{"index: another row of the block table", index, []string{"return rows[i%rowGroup], nil", "return rows[0], nil"}, steps},
		{"index: a damaged segment hides its blocks", index, []string{"\t\t\terr = found.directories(ctx, b, blocks)\n", "\t\t\t_ = blocks\n"}, read},
		{"index: a segment that goes bad hides its blocks", rescue, []string{"\tp.rescued.Store(&found)\n", "\tp.rescued.Store(&rescuedDirs{})\n"}, read},
		{"merge: the last entries are lost", merge, []string{"\treturn m.out, m.flush()\n", "\treturn m.out, nil\n"}, steps},
		{"merge: a run is left out", merge, []string{"\t\tif ok {\n\t\t\tin = append(in, rd)", "\t\tif ok && len(in) < 7 {\n\t\t\tin = append(in, rd)"}, steps},

		{"view: what was sealed later can be seen", view, []string{"return v.visible[l.block] <= v.bound })", "return true })"}, read},
		{"view: damaged copies come first", view, []string{"\tif v.s.isDamaged(l.block) {\n\t\tn += 2", "\tif v.s.isDamaged(l.block) {\n\t\tn -= 2"}, read},
		{"view: one bad copy is the end", view, []string{"\t\terrs = append(errs, err)\n", "\t\treturn nil, 0, err\n"}, read},
		{"view: artifacts are not checked", view, []string{"return data, artifact.Verify(e.Ref, e.Tag, data)", "return data, nil"}, read},
		{"view: an artifact of another kind is taken", view, []string{"if err == nil && got != tag {", "if false {"}, read},
		{"view: a chunk of another length is taken", view, []string{"if each == nil && int64(len(data)) != st.Len {", "if false {"}, read},
		{"verify: artifacts are not checked", verify, []string{"\tfor i, e := range entries {", "\tfor i, e := range entries[:0] {"}, read},
		{"verify: blocks are not read", verify, []string{"\tbuf, err := s.readBlock(ctx, id, buf)\n", "\tif true {\n\t\treturn 0, buf, raw, nil\n\t}\n\tbuf, err := s.readBlock(ctx, id, buf)\n"}, read},
		{"verify: what is bad is not said", verify, []string{"\t\tv.bad = append(v.bad, format.DamagedObject{Name: \"blocks/\" + id.String(), Why: err.Error(), Unread: !verdict})\n", "\t\t_ = verdict\n"}, read},
		{"verify: what is left at the end is not read", verify, []string{"\t\t\t\tid, ok := v.take(true)\n", "\t\t\t\tid, ok := v.take(false)\n"}, read},
		{"verify: the cache is asked", verify, []string{"ctx: Uncached(ctx), progress", "ctx: ctx, progress"}, read},
		{"verify: a missing block is good", verify, []string{"\tcase err == nil || v.ctx.Err() != nil:\n", "\tcase err == nil || v.ctx.Err() != nil || errors.Is(err, artifact.ErrNotFound):\n"}, read},
		{"validate: a segment need not agree with its blocks", validate, []string{"\tif !slices.Equal(said, dir) {", "\tif false {"}, read},
		{"validate: a segment need not agree with the log", validate, []string{"\t\tif b.ID != seal.Blocks[i] {", "\t\tif false {"}, read},
	}
}
