package local_test

import (
	"testing"

	"aslrescue/backends/backendtest"
	"aslrescue/backends/local"
	"aslrescue/engine/store"
)

func TestConformanceOnDisk(t *testing.T) {
	dir := t.TempDir()
	made := false
	open := func() (store.Backend, error) {
		if !made {
			made = true
			return local.CreatePath(dir)
		}
		return local.OpenPath(dir)
	}
	if err := backendtest.Check(t.Context(), open); err != nil {
		t.Fatal(err)
	}
}
