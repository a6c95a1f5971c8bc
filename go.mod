module aslrescue

go 1.26

require lukechampine.com/blake3 v1.4.1

require (
	github.com/PlakarKorp/go-cdc-chunkers v1.1.0
	github.com/klauspost/cpuid/v2 v2.0.12 // indirect
	github.com/zeebo/blake3 v0.2.4 // indirect
)
