package main

import (
	"os"
	"path/filepath"
	"testing"

	"lukechampine.com/blake3"
)

func TestFloorHashIsBLAKE3(t *testing.T) {
	buf := make([]byte, 1<<20)
	for i := range buf {
		buf[i] = byte(i * 7 >> 3)
	}
	for _, n := range []int{0, 1, 64, 1023, 1024, 1025, lanes - 1, lanes, lanes + 1, 3 * lanes, 100_000, 1 << 19, 1<<20 - 1, 1 << 20} {
		if hash(buf[:n]) != blake3.Sum256(buf[:n]) {
			t.Errorf("%d bytes hash to something else", n)
		}
	}
}

func TestFloorStoresEachPieceOnceAndNoZeros(t *testing.T) {
	in, out := t.TempDir(), t.TempDir()
	piece := make([]byte, floorPiece)
	piece[5] = 1
	for i, data := range [][]byte{piece, piece, make([]byte, 3*floorPiece), []byte("small")} {
		if err := os.WriteFile(filepath.Join(in, string(rune('a'+i))), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, kind := range []string{"store", "twice"} {
		to := filepath.Join(out, kind)
		if err := cmdFloor(t.Context(), []string{kind, in, to}); err != nil {
			t.Fatal(err)
		}
		u, err := usage(to)
		if err != nil || u.Apparent != floorPiece+5 {
			t.Errorf("%s: stored %+v, %v", kind, u, err)
		}
	}
	if err := cmdFloor(t.Context(), []string{"medium", in}); err != nil {
		t.Error(err)
	}
	if err := cmdFloor(t.Context(), []string{"read", filepath.Join(in, "none")}); err == nil {
		t.Error("a source that is not there is no error")
	}
}
