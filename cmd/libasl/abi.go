package main

/*
#include <stdlib.h>
#define ASL_NO_PROTOTYPES
#include "asl.h"
*/
import "C"

import (
	"unsafe"

	"aslrescue/cmd/internal/report"
	"aslrescue/engine/artifact"
)

// lib is what is open. C knows no value to hang it on, so it is the one of the process.
var lib = newLibrary()

var errNull = report.Usagef("a pointer that has to be there is NULL")

//export asl_abi
func asl_abi() C.int { return C.ASL_ABI }

//export asl_error
func asl_error() *C.char { return lastError() }

//export asl_free
func asl_free(data unsafe.Pointer) { C.free(data) }

//export asl_open
func asl_open(dir, domain *C.char, mode C.int, out *C.uint64_t) (code C.int) {
	defer guard(&code)
	if dir == nil || out == nil {
		return answer(errNull)
	}
	h, err := lib.open(C.GoString(dir), C.GoString(domain), int(mode))
	*out = C.uint64_t(h)
	return answer(err)
}

//export asl_close
func asl_close(store C.uint64_t) (code C.int) {
	defer guard(&code)
	return answer(lib.close(uint64(store)))
}

//export asl_begin
func asl_begin(store C.uint64_t, label *C.char, out *C.uint64_t) (code C.int) {
	defer guard(&code)
	if out == nil {
		return answer(errNull)
	}
	h, err := lib.begin(uint64(store), C.GoString(label))
	*out = C.uint64_t(h)
	return answer(err)
}

//export asl_put
func asl_put(put C.uint64_t, data unsafe.Pointer, n C.size_t, tag C.uint32_t, ref *C.char) (code C.int) {
	defer guard(&code)
	if data == nil && n > 0 {
		return answer(errNull)
	}
	if n > artifact.MaxSize {
		n = artifact.MaxSize + 1 // refused below, without looking at all of it
	}
	r, err := lib.put(uint64(put), unsafe.Slice((*byte)(data), int(n)), artifact.Tag(tag))
	if err == nil {
		putRef(ref, r.String())
	}
	return answer(err)
}

//export asl_seal
func asl_seal(put C.uint64_t, snapshot *C.uint64_t) (code C.int) {
	defer guard(&code)
	n, err := lib.seal(uint64(put))
	if snapshot != nil {
		*snapshot = C.uint64_t(n)
	}
	return answer(err)
}

//export asl_cancel
func asl_cancel(put C.uint64_t) (code C.int) {
	defer guard(&code)
	return answer(lib.cancel(uint64(put)))
}

//export asl_take_stream
func asl_take_stream(store C.uint64_t, name, label *C.char, read C.asl_read_fn, arg unsafe.Pointer, snapshot *C.uint64_t, root *C.char) (code C.int) {
	defer guard(&code)
	if name == nil || read == nil {
		return answer(errNull)
	}
	r := newReader(read, arg)
	defer func() { _ = r.Close() }() // frees memory
	n, ref, err := lib.take(uint64(store), C.GoString(name), C.GoString(label), struct{ reading }{r})
	if snapshot != nil {
		*snapshot = C.uint64_t(n)
	}
	text := ""
	if !ref.IsZero() {
		text = ref.String()
	}
	putRef(root, text)
	return answer(err)
}

// reading is a reader without its Close: the intake must not free what this call still holds.
type reading interface{ Read([]byte) (int, error) }

//export asl_read_source
func asl_read_source(store, snapshot C.uint64_t, name *C.char, write C.asl_write_fn, arg unsafe.Pointer) (code C.int) {
	defer guard(&code)
	if name == nil || write == nil {
		return answer(errNull)
	}
	return answer(lib.read(uint64(store), uint64(snapshot), C.GoString(name), writer{write, arg}))
}

//export asl_get
func asl_get(store, snapshot C.uint64_t, ref *C.char, data *unsafe.Pointer, n *C.size_t, tag *C.uint32_t) (code C.int) {
	defer guard(&code)
	if ref == nil || data == nil || n == nil {
		return answer(errNull)
	}
	*data, *n = nil, 0
	b, t, err := lib.get(uint64(store), uint64(snapshot), C.GoString(ref))
	if err != nil {
		return answer(err)
	}
	*data, *n = C.CBytes(append(b, 0)), C.size_t(len(b)) // a zero behind it, for texts
	if tag != nil {
		*tag = C.uint32_t(t)
	}
	return 0
}

//export asl_list
func asl_list(store, snapshot C.uint64_t, each C.asl_list_fn, arg unsafe.Pointer) (code C.int) {
	defer guard(&code)
	if each == nil {
		return answer(errNull)
	}
	return answer(lib.list(uint64(store), uint64(snapshot), func(r artifact.Ref, t artifact.Tag, n uint32) bool {
		return listed(each, arg, r.String(), uint32(t), n)
	}))
}

//export asl_snapshots
func asl_snapshots(store C.uint64_t, each C.asl_snapshot_fn, arg unsafe.Pointer) (code C.int) {
	defer guard(&code)
	if each == nil {
		return answer(errNull)
	}
	return answer(lib.snapshots(uint64(store), func(n uint64, label, result string) bool {
		return listedSnapshot(each, arg, n, label, result)
	}))
}

//export asl_verify
func asl_verify(store C.uint64_t, bad *C.uint64_t) (code C.int) {
	defer guard(&code)
	n, err := lib.verify(uint64(store))
	if bad != nil {
		*bad = C.uint64_t(n)
	}
	return answer(err)
}
