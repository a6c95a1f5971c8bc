package main

// formatMutants hurt what tells good bytes from bad ones.
func formatMutants() []mutant {
	const (
		block, segment, log, tree = "engine/store/format/block.go", "engine/store/format/segment.go", "engine/store/format/log.go", "engine/store/format/tree.go"
		manifest, cbor            = "engine/store/format/manifest.go", "engine/store/format/format.go"
		artifact, hash            = "engine/artifact/artifact.go", "engine/artifact/hash.go"
	)
	steps := []step{formatTests, flips, crashOne}
	return []mutant{
		{"artifact: nothing is compared", artifact, []string{"got != ref {", "got != ref && false {"}, []step{artifactTests, restoreTests, flips}},
		{"artifact: the tag is not part of the name", artifact, []string{"\tif tag == NoTag {", "\tif tag != NoTag || true {"}, []step{artifactTests, formatTests}},
		{"artifact: the last bytes are hashed at the wrong place", hash, []string{"return guts.CompressChunk(data, &guts.IV, number, 0)", "return guts.CompressChunk(data, &guts.IV, 0, 0)"}, []step{artifactTests}},

		{"block: header checksum", block, []string{"if le.Uint32(b[60:]) != crc(b[:60]) {", "if false {"}, steps},
		{"block: directory checksum", block, []string{"!= artifact.Digest(sum) {\n\t\treturn nil, damaged(\"block: directory", "!= artifact.Digest(sum) && false {\n\t\treturn nil, damaged(\"block: directory"}, steps},
		{"block: the name is not held against the bytes", block, []string{"if got := artifact.HashBytes(b); got != id {", "if got := artifact.HashBytes(b); got != id && false {"}, steps},
		{"block: flags of a newer version", block, []string{"if le.Uint64(b[16:]) != 0 {", "if false {"}, steps},
		{"block: encryption is not noticed", block, []string{"s := le.Uint16(b[28:]); s != 0 {", "s := le.Uint16(b[28:]); s != 0 && false {"}, steps},
		{"block: a version that is not known", block, []string{"v != Version {", "v < Version {"}, steps},
		{"block: offsets need not join", block, []string{"case e.Off != off ||", "case"}, steps},
		{"block: it may end before its directory", block, []string{"if int64(next) != h.Dir {", "if int64(next) > h.Dir {"}, steps},
		{"block: more raw bytes than fit", block, []string{"raw > BlockRawMax {", "raw > BlockRawMax*64 {"}, steps},
		{"block: ends after the artifact that overflows it", block, []string{"return b.raw+raw <= BlockRawMax", "return b.raw <= BlockRawMax"}, append(steps, same)},
		{"block: another generation has the same bytes", block, []string{"\tle.PutUint32(h[24:], generation)\n\tle.PutUint32(h[60:], crc(h[:60]))\n\tend", "\tle.PutUint32(h[60:], crc(h[:60]))\n\tend"}, steps},
		{"block: the length of what is expanded", block, []string{"if len(out) != int(raw) {", "if len(out) > int(raw) {"}, steps},

		{"segment: page checksum", segment, []string{"if le.Uint32(page[PageSize-4:]) != crc(page[:PageSize-4]) {", "if false {"}, steps},
		{"segment: checksum of fences and filter", segment, []string{"!= artifact.Digest(sum) {", "!= artifact.Digest(sum) && false {"}, steps},
		{"segment: header checksum", segment, []string{"if le.Uint32(b[92:]) != crc(b[:92]) {", "if false {"}, steps},
		{"segment: checksum of block rows", segment, []string{"if le.Uint32(b[40:]) != crc(b[:40]) {", "if false {"}, steps},
		{"segment: the name is not held against the bytes", segment, []string{"got := artifact.HashBytes(b); got != id {", "got := artifact.HashBytes(b); got != id && false {"}, steps},
		{"segment: the filter forgets", segment, []string{"return m.filter.Contains(Key(d))", "return m.filter.Contains(Key(d)) && d[31] != 7"}, []step{formatTests, storeTests, same}},
		{"segment: the filter says yes to all", segment, []string{"return m.filter.Contains(Key(d))", "return true || m.filter.Contains(Key(d))"}, []step{formatTests, storeTests}},
		{"segment: equal fences hide a page", segment, []string{"m.fences[i] >= k })-1)", "m.fences[i] > k })-1)"}, []step{formatTests, storeTests}},
		{"segment: entries may lie outside their block", segment, []string{"> uint64(size) {", "> uint64(size) && false {"}, steps},
		{"segment: entries need not be sorted", segment, []string{"if i > 0 && compareEntries(entries[i-1], e) >= 0 {", "if i < 0 && compareEntries(entries[i-1], e) >= 0 {"}, steps},

		{"part: the chain is not checked", log, []string{"want != Hash(b[n-32:n]) {", "want != Hash(b[n-32:n]) && false {"}, steps},
		{"part: the chain leaves the record before out", log, []string{"\th.Write(prev[:])\n", ""}, steps},
		{"part: sequence numbers may jump", log, []string{"if n > len(b) || le.Uint64(b) != seq {", "if n > len(b) {"}, steps},
		{"part: header checksum", log, []string{"if le.Uint32(b[36:]) != crc(b[:36]) {", "if false {"}, steps},
		{"part: longer than its header says", log, []string{"if uint64(len(b)) > size {", "if false {"}, steps},
		{"part: any damage counts as torn", log, []string{"if !looksCut(rest, n, short) {", "if false && !looksCut(rest, n, short) {"}, steps},
		{"part: one zero is a torn end", log, []string{"tornZeros = 8", "tornZeros = 1"}, steps},
		{"part: nothing is ever torn", log, []string{"return short && (len(rest) < recordHead || n > len(rest))", "return false"}, steps},

		{"map: ranges need not add up", tree, []string{"if sum != want {", "if sum > want {"}, steps},
		{"tree: entries need not be sorted", tree, []string{"if i > 0 && bytes.Compare(entries[i-1].Name, entries[i].Name) >= 0 {", "if i < 0 && bytes.Compare(entries[i-1].Name, entries[i].Name) >= 0 {"}, steps},
		{"tree: names with a slash", tree, []string{`bytes.ContainsAny(e.Name, "/\x00")`, `bytes.ContainsAny(e.Name, "\x00")`}, append(steps, restoreTests)},
		{"manifest: the name is not held against the bytes", manifest, []string{"got := artifact.HashBytes(b); got != id {", "got := artifact.HashBytes(b); got != id && false {"}, steps},
		{"cbor: other encodings of the same are taken", cbor, []string{"if !bytes.Equal(again, b) &&", "if false && !bytes.Equal(again, b) &&"}, steps},
		{"cbor: hostile counts are allocated", cbor, []string{"if n > uint64(len(b)/least) || n > uint64(most) {", "if false {"}, steps},
	}
}
