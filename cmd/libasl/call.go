package main

/*
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#define ASL_NO_PROTOTYPES
#include "asl.h"

// What asl_error gives belongs to a thread, and goes with it. It is no _Thread_local: a library with a Go runtime in it gets little
// room for those when it is loaded at run time, as Python does.
static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static void make_key(void) { pthread_key_create(&key, free); }

static void set_error(const char *text) {
	pthread_once(&once, make_key);
	free(pthread_getspecific(key));
	pthread_setspecific(key, strdup(text));
}
static char *get_error(void) {
	pthread_once(&once, make_key);
	char *text = pthread_getspecific(key);
	return text ? text : "";
}

// Go cannot call a pointer to a C function.
static int call_list(asl_list_fn f, void *arg, const char *ref, uint32_t tag, uint32_t len) { return f(arg, ref, tag, len); }
static int call_snapshot(asl_snapshot_fn f, void *arg, uint64_t n, const char *label, const char *result) { return f(arg, n, label, result); }
static int64_t call_read(asl_read_fn f, void *arg, void *buf, size_t len) { return f(arg, buf, len); }
static int call_write(asl_write_fn f, void *arg, const void *data, size_t len) { return f(arg, data, len); }
*/
import "C"

import (
	"errors"
	"fmt"
	"io"
	"unsafe"

	"aslrescue/cmd/internal/report"
)

// answer keeps what an error says for asl_error and gives its code.
func answer(err error) C.int {
	if err == nil {
		return 0
	}
	text := err.Error()
	if e := report.Explain(err); e.Means != "" {
		text += ". " + e.Means
	}
	c := C.CString(text)
	C.set_error(c)
	C.free(unsafe.Pointer(c))
	return C.int(report.CodeOf(err))
}

// guard turns a panic into an error: C has no way to hear of one.
func guard(code *C.int) {
	if r := recover(); r != nil {
		*code = answer(fmt.Errorf("%v: %w", r, report.ErrInternal))
	}
}

func lastError() *C.char { return C.get_error() }

// reader is a stream that C gives.
type reader struct {
	f   C.asl_read_fn
	arg unsafe.Pointer
	buf unsafe.Pointer // C's memory: C may not keep a pointer into Go's
}

const readSize = 1 << 20

var errRead = errors.New("the read callback failed")

func newReader(f C.asl_read_fn, arg unsafe.Pointer) *reader {
	return &reader{f, arg, C.malloc(readSize)}
}

func (r *reader) Close() error {
	C.free(r.buf)
	return nil
}

func (r *reader) Read(p []byte) (int, error) {
	most := min(len(p), readSize)
	n := int64(C.call_read(r.f, r.arg, r.buf, C.size_t(most)))
	switch {
	case n == 0:
		return 0, io.EOF
	case n < 0 || n > int64(most):
		return 0, errRead
	}
	return copy(p, unsafe.Slice((*byte)(r.buf), n)), nil
}

// writer gives what is read to C. The bytes are C's only while the callback runs, and plain memory without pointers.
type writer struct {
	f   C.asl_write_fn
	arg unsafe.Pointer
}

func (w writer) Write(p []byte) (int, error) {
	if len(p) > 0 && C.call_write(w.f, w.arg, unsafe.Pointer(&p[0]), C.size_t(len(p))) != 0 {
		return 0, errStopped
	}
	return len(p), nil
}

func listed(f C.asl_list_fn, arg unsafe.Pointer, ref string, tag, n uint32) bool {
	c := C.CString(ref)
	defer C.free(unsafe.Pointer(c))
	return C.call_list(f, arg, c, C.uint32_t(tag), C.uint32_t(n)) == 0
}

func listedSnapshot(f C.asl_snapshot_fn, arg unsafe.Pointer, number uint64, label, result string) bool {
	l, r := C.CString(label), C.CString(result)
	defer C.free(unsafe.Pointer(l))
	defer C.free(unsafe.Pointer(r))
	return C.call_snapshot(f, arg, C.uint64_t(number), l, r) == 0
}

// putRef writes a reference into C's array.
func putRef(to *C.char, ref string) {
	if to == nil {
		return
	}
	out := unsafe.Slice((*byte)(unsafe.Pointer(to)), C.ASL_REF_SIZE)
	clear(out)
	copy(out[:len(out)-1], ref)
}
