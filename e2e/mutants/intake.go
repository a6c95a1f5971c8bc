package main

// intakeMutants hurt the pipeline: what is acknowledged when, what is gone on with, what is said of what is missing.
func intakeMutants() []mutant {
	const (
		intake, feed, sequence = "engine/intake/intake.go", "engine/intake/feed.go", "engine/intake/sequence.go"
		pack, unit, tree       = "engine/intake/pack.go", "engine/intake/unit.go", "engine/intake/tree.go"
		maps, resume           = "engine/intake/maps.go", "engine/intake/resume.go"
	)
	steps := []step{besides, roundTrip, gaps, same, crashOne, faults, flips, crashTwo, crash}
	missing := []step{gaps, roundTrip, same, faults, crashOne}
	return []mutant{
		{"ack: before the unit's own block", pack, []string{"\tif u.state != nil {\n\t\tp.state, p.stream = u.state, u.stream\n\t}\n\tp.free(u)", "\tp.free(u)", "\tfor i := range u.adds {\n\t\ta := &u.adds[i]\n\t\tif p.cur", "\tif u.state != nil {\n\t\tp.state, p.stream = u.state, u.stream\n\t}\n\tfor i := range u.adds {\n\t\ta := &u.adds[i]\n\t\tif p.cur"}, steps},
		{"ack: of a block that failed", pack, []string{"\t\tif it.job.err != nil {\n\t\t\treturn it.job.err\n\t\t}\n", ""}, steps},
		{"ack: an event before it is durable", pack, []string{
			"\tif err := c.w.Commit(c.ctx, c.blocks, point, it.endSeg); err != nil {", "\tc.emit(event.ResumePoint{Stamp: c.now(), Settled: it.stream})\n\tif err := c.w.Commit(c.ctx, c.blocks, point, it.endSeg); err != nil {"}, append(steps, kills)},
		{"ack: never before the end", pack, []string{"if it.state == nil || !it.endSeg && !it.final && time.Since(c.last) < c.every {", "if it.state == nil || !it.endSeg && !it.final {"}, append(steps, kills)},
		{"ack: the blocks of the one before stand in it again", pack, []string{"\tc.blocks, c.last = nil, time.Now()\n", "\tc.last = time.Now()\n"}, steps},
		{"seal: the last segment is not ended", pack, []string{"endSeg: whole, final: true", "endSeg: false, final: true"}, steps},
		{"seal: verification is left out", intake, []string{"\tif r.check != nil {\n\t\tif err := r.verify", "\tif false {\n\t\tif err := r.verify"}, append(steps, sessionTests)},
		{"seal: what verification found is not said", intake, []string{"\tif len(bad) > 0 {\n\t\trep.Result = event.Failed", "\tif len(bad) > 1<<30 {\n\t\trep.Result = event.Failed"}, steps},
		{"seal: COMPLETE in spite of gaps", intake, []string{"if !res.Whole() {", "if false {"}, missing},
		{"seal: blocks sealed while others are written are not read back", pack, []string{"\tif c.check != nil {", "\tif c.check != nil && c.made%8 == 0 {"}, steps},
		{"seal: blocks of earlier runs are not read back", intake, []string{"\tr.check.Add(r.point.Stored, r.before...)\n", ""}, steps},
		{"compress: the result is not compared", pack, []string{"if err != nil || !bytes.Equal(back, a.data) {", "if err != nil || !bytes.Equal(back, a.data) && false {"}, []step{roundTrip, faults}},
		{"compress: what is not shorter is kept", pack, []string{"if len(out) >= len(a.data) {", "if false {"}, steps},
		{"same: segments do not end by offset", sequence, []string{"q.stream/segmentSpan > was/segmentSpan || ", ""}, steps},
		{"same: units do not end by their number of items", feed, []string{"|| len(w.u.steps) >= batchItems {", "{"}, steps},

		{"resume: a super-block too far", intake, []string{"off = st.Map.Next\n", "off = st.Map.Next + int64(r.begin.Chunk.SuperBlock)\n"}, append(steps, kills)},
		{"resume: a super-block too early", intake, []string{"off = st.Map.Next\n", "off = max(0, st.Map.Next-int64(r.begin.Chunk.SuperBlock))\n"}, append(steps, kills)},
		{"resume: from the beginning", intake, []string{"\t\tif in.Point != nil {\n", "\t\tif in.Point != nil && false {\n"}, append(steps, kills)},
		{"resume: counts begin anew", sequence, []string{"res: format.SourceResult{SourceID: q.ids[i], Counts: st.Counts}}", "res: format.SourceResult{SourceID: q.ids[i]}}"}, steps},
		{"resume: gaps of before are forgotten", sequence, []string{"\tif st.Partial != nil {", "\tif false {"}, missing},
		{"resume: an unread source is not compared", resume, []string{"\t\tif !same {", "\t\tif !same && false {"}, append(steps, sessionTests)},
		{"resume: a file is skipped without its change time", feed, []string{"\tif row != nil && w.same(stampOf(*row), it.Stamp) {", "\tif row != nil && withoutChange(stampOf(*row)) == withoutChange(it.Stamp) {", "// long sends a file", "func withoutChange(s source.Stamp) source.Stamp { s.CTime = source.Time{}; return s }\n\n// long sends a file"}, steps},
		{"resume: a file is skipped by its name", feed, []string{"\tif row != nil && w.same(stampOf(*row), it.Stamp) {", "\tif row != nil {"}, steps},
		{"resume: a long file is gone on with whatever it is now", feed, []string{"string(f.Path) == it.Path && w.same(stampOf(*f), it.Stamp) {", "string(f.Path) == it.Path {"}, steps},
		{"resume: a device with another number is another", feed, []string{"if was.Dev = now.Dev; was != now {", "if was != now {"}, steps},
		{"resume: one device may be two", feed, []string{"\t\treturn d == now.Dev\n", "\t\treturn d != 0\n"}, steps},
		{"resume: rows are passed in the order of whole paths", tree, []string{"\t\tif x != y {\n\t\t\treturn x < y\n\t\t}\n", "\t\tif x != y {\n\t\t\treturn a < b\n\t\t}\n"}, steps},
		{"resume: a file that changed is not read again", sequence, []string{"if e.Changed == \"\" && e.Unreadable == 0 {", "if true {"}, missing},
		{"resume: another source of that name", intake, []string{"|| was[i].ID != d.ID ||", "||"}, append(steps, sessionTests)},

		{"gap: not counted", sequence, []string{"\tres.GapsAll++\n", ""}, missing},
		{"gap: read as zeros", unit, []string{"r.pieces = append(r.pieces, piece{kind: g.Kind,", "r.pieces = append(r.pieces, piece{kind: source.Zero,"}, missing},
		{"gap: the rest of a source that ended early", sequence, []string{"rest > 0 {", "rest > 1<<62 {"}, missing},
		{"gap: the rest of a file that could not be read", feed, []string{"gaps = append(gaps, source.Gap{Off: s.off + int64(n),", "gaps = append(gaps[:0:0], source.Gap{Off: s.off + int64(n) + 1<<40,"}, missing},
		{"changed: a file's note is dropped", sequence, []string{"\te.Changed = s.moved\n\tif s.moved != \"\" {", "\tif s.moved != \"\" && false {"}, missing},
		{"changed: times are not looked at", feed, []string{"case now.MTime != was.MTime || now.CTime != was.CTime:", "case false:"}, missing},
		{"changed: a source's note is dropped", sequence, []string{"if changed := src.Changed(); changed != \"\" {", "if changed := src.Changed(); changed != \"\" && false {"}, append(missing, sourceTests)},
		{"tree: other names of a file are files of their own", feed, []string{"\t\t\tw.names[k] = it.Path\n", "\t\t\t_ = k\n"}, steps},
		{"tree: a full page is lost", tree, []string{"\td.pages = append(d.pages, format.DirPageRef{First: d.first, Ref: ref})\n", "\tif len(d.pages) == 0 {\n\t\td.pages = append(d.pages, format.DirPageRef{First: d.first, Ref: ref})\n\t}\n"}, append([]step{besides, roundTrip}, calls)},
		{"map: a page of a gap is one of zeros", maps, []string{"m.Ranges[0].Kind == source.Zero", "m.Ranges[0].Kind != source.Data"}, steps},
	}
}

// sourceMutants hurt what is read and where it is cut.
func sourceMutants() []mutant {
	const linear, tree, chunk, page = "engine/source/linear.go", "engine/source/tree.go", "engine/chunk/chunk.go", "engine/chunk/page.go"
	return []mutant{
		{"source: unreadable bytes hold what was there before", linear, []string{"\tclear(p)\n\tg := Gap", "\tg := Gap"}, []step{sourceTests, gaps}},
		{"source: a bad sector ends the reading", linear, []string{"case unix.EIO, // buffered reads of a bad sector\n", "case\n"}, []step{sourceTests, gaps}},
		{"source: a device that is gone is all bad sectors", linear, []string{"\t\tif gone := rd.alive(); gone != nil {\n\t\t\treturn n, gone\n\t\t}\n", ""}, []step{sourceTests, gaps}},
		{"source: what grew is read", linear, []string{"buf = buf[:min(int64(len(buf)), l.info.Size-off)]", "buf = buf[:min(int64(len(buf)), l.info.Size-off+1)]"}, []step{sourceTests, gaps}},
		{"source: a link leads out of the tree", tree, []string{"unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS", "0"}, []step{sourceTests}},
		{"source: access times are moved", tree, []string{"how.Flags |= unix.O_NOATIME", "how.Flags |= 0"}, []step{sourceTests}},
		{"source: names are not sorted", tree, []string{"\t\t\tslices.Sort(names)\n", ""}, []step{sourceTests}},
		{"source: mounts are entered", tree, []string{"return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0", "return false"}, []step{sourceTests}},
		{"chunk: nearly zero is zero", page, []string{"return bytes.Equal(b, zeroPage[:len(b)])", "return bytes.Equal(b[:min(64, len(b))], zeroPage[:min(64, len(b))])"}, []step{chunkTests, roundTrip}},
		{"chunk: shorter runs of zeros", chunk, []string{"if run < int(p.ZeroRun) {", "if run <= int(p.ZeroRun) {"}, []step{chunkTests}},
		{"chunk: cuts run over super-blocks", chunk, []string{"end := min(start+int(p.SuperBlock), len(buf))", "end := len(buf)"}, []step{chunkTests, same}},
		{"chunk: cuts fall elsewhere", page, []string{"k4  = 0x510e527fade682d1", "k4  = 0x510e527fade682d3"}, []step{chunkTests}},
		{"chunk: chunks longer than the most", chunk, []string{"last := min(start+int(p.Max), end)", "last := end"}, []step{chunkTests}},
	}
}
