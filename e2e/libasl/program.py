"""Reads with ctypes what program.c wrote, and finds damage: program.py LIBRARY STORE REF [damaged]"""
import ctypes
import sys

lib = ctypes.CDLL(sys.argv[1])
lib.asl_error.restype = ctypes.c_char_p
lib.asl_get.argtypes = [ctypes.c_uint64, ctypes.c_uint64, ctypes.c_char_p, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_size_t), ctypes.POINTER(ctypes.c_uint32)]
lib.asl_free.argtypes = [ctypes.c_void_p]
lib.asl_verify.argtypes = [ctypes.c_uint64, ctypes.POINTER(ctypes.c_uint64)]
LIST = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32, ctypes.c_uint32)
lib.asl_list.argtypes = [ctypes.c_uint64, ctypes.c_uint64, LIST, ctypes.c_void_p]

store, bad = ctypes.c_uint64(), ctypes.c_uint64()
assert lib.asl_open(sys.argv[2].encode(), None, 0, ctypes.byref(store)) == 0, lib.asl_error()
if sys.argv[4:] == ["damaged"]:
    assert lib.asl_verify(store, ctypes.byref(bad)) == 8 and bad.value == 1, (bad.value, lib.asl_error())
    assert b"damaged" in lib.asl_error(), lib.asl_error()
    sys.exit()
data, n, tag = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_uint32()
assert lib.asl_get(store, 1, sys.argv[3].encode(), ctypes.byref(data), ctypes.byref(n), ctypes.byref(tag)) == 0, lib.asl_error()
assert ctypes.string_at(data, n.value) == b"hello" and tag.value == 0
lib.asl_free(data)
seen = []
assert lib.asl_list(store, 1, LIST(lambda arg, ref, tag, length: seen.append((ref, tag, length)) or 0), None) == 0, lib.asl_error()
assert (sys.argv[3].encode(), 0, 5) in seen and len(seen) == 6, seen
assert lib.asl_verify(store, ctypes.byref(bad)) == 0 and bad.value == 0, lib.asl_error()
assert lib.asl_close(store) == 0
