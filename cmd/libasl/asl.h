/* The store of ASL Rescue for C. docs/c-abi.md says what each function promises. */
#ifndef ASL_H
#define ASL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ASL_ABI 1       /* asl_abi() gives that of the library */
#define ASL_REF_SIZE 68 /* "b3:", 64 hex digits, a zero */

/* What functions return; the numbers are the exit codes of the programs. */
enum {
	ASL_OK = 0,
	ASL_FAILED = 1,
	ASL_USAGE = 2,    /* the call is wrong */
	ASL_GAPS = 3,
	ASL_FULL = 6,     /* the target has no room left */
	ASL_GONE = 7,
	ASL_MISMATCH = 8, /* stored bytes are damaged */
	ASL_NO_STORE = 10 /* no store, no snapshot, no artifact */
};

enum { ASL_READ = 0, ASL_WRITE = 1, ASL_CREATE = 2 };

typedef uint64_t asl_store; /* 0 is none */
typedef uint64_t asl_put_handle;

/* Callbacks return 0 to go on. read gives how many bytes it put into buf, 0 at the end, -1 if it failed. */
typedef int (*asl_list_fn)(void *arg, const char *ref, uint32_t tag, uint32_t len);
typedef int (*asl_snapshot_fn)(void *arg, uint64_t number, const char *label, const char *result);
typedef int64_t (*asl_read_fn)(void *arg, void *buf, size_t len);
typedef int (*asl_write_fn)(void *arg, const void *data, size_t len);

#ifndef ASL_NO_PROTOTYPES /* the library itself */

int asl_abi(void);

/* What the last call of this thread that did not return ASL_OK was about. It is valid until this thread's next call. */
const char *asl_error(void);

int asl_open(const char *dir, const char *domain, int mode, asl_store *store);
int asl_close(asl_store store);

int asl_begin(asl_store store, const char *label, asl_put_handle *put);
int asl_put(asl_put_handle put, const void *data, size_t len, uint32_t tag, char ref[ASL_REF_SIZE]);
int asl_seal(asl_put_handle put, uint64_t *snapshot);
int asl_cancel(asl_put_handle put);

int asl_take_stream(asl_store store, const char *name, const char *label, asl_read_fn read, void *arg, uint64_t *snapshot, char root[ASL_REF_SIZE]);
int asl_read_source(asl_store store, uint64_t snapshot, const char *name, asl_write_fn write, void *arg);

int asl_get(asl_store store, uint64_t snapshot, const char *ref, void **data, size_t *len, uint32_t *tag);
void asl_free(void *data);
int asl_list(asl_store store, uint64_t snapshot, asl_list_fn each, void *arg);
int asl_snapshots(asl_store store, asl_snapshot_fn each, void *arg);
int asl_verify(asl_store store, uint64_t *bad);

#endif

#ifdef __cplusplus
}
#endif
#endif
