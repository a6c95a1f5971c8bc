package main

import "slices"

// Which tests to ask, the cheapest likely ones first. Go's -run takes a slash for subtests.
var (
	formatTests   = step{pkg: "engine/store/format"}
	artifactTests = step{pkg: "engine/artifact"}
	chunkTests    = step{pkg: "engine/chunk"}
	sourceTests   = step{pkg: "engine/source"}
	vfsTests      = step{pkg: "engine/vfs"}
	restoreTests  = step{pkg: "engine/restore"}
	storeTests    = step{pkg: "engine/store"}
	sessionTests  = step{pkg: "cmd/internal/session"}

	localTests  = step{pkg: "backends/local", run: "Conformance|FilesOnDisk|WhereA|OpenWithout|Foreign|NeitherRename|ReadOnly|SameBytes|Cached|Uncached|Renam|Cleanup|Full|SeenAtOpening|ShortWrite"}
	localFaults = step{pkg: "backends/local", run: "Trace|EveryOperationFails"}
	localPower  = step{pkg: "backends/local", run: "Power"}

	roundTrip = step{pkg: "engine/intake", run: "TestRoundTrip|TestEncoder"}
	same      = step{pkg: "engine/intake", run: "TestSameBlocks|TestInterrupted"}
	writers   = step{pkg: "engine/intake", run: "TestWriters|TestFenced"}
	besides   = step{pkg: "engine/intake", run: "TestReadBack|TestLost|TestDamageWhile|TestShrunk|TestResumedAfterBoot|TestPagesOf|TestLongFile"}
	gaps      = step{pkg: "engine/intake", run: "TestBad|TestSourcesThatGo|TestStreamThatBreaks|TestTreeThatGoes|TestGapsAfter"}
	faults    = step{pkg: "engine/intake", run: "TestKilled|TestFaults", long: true}
	flips     = step{pkg: "engine/intake", run: "TestFlips", long: true}
	crashOne  = step{pkg: "engine/intake", run: "TestCrash/one_block"}
	crashTwo  = step{pkg: "engine/intake", run: "TestCrash/(killed|two_at_once)", long: true}
	crash     = step{pkg: "engine/intake", run: "TestCrash", long: true}

	calls = step{pkg: "e2e/kill", run: "TestCalls"}
	kills = step{pkg: "e2e/kill", run: "TestKills", args: "-kills 40", long: true}
)

func table() []mutant {
	return slices.Concat(backendMutants(), formatMutants(), logMutants(), storeMutants(), intakeMutants(), sourceMutants())
}
