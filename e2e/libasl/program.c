/* Uses every function of asl.h. It ends with 0 if each did what docs/c-abi.md promises. */
#include <asl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WANT(cond) do { if (!(cond)) { fprintf(stderr, "line %d: %s: %s\n", __LINE__, #cond, asl_error()); return 1; } } while (0)

static int listed, snapshots;
static int on_artifact(void *arg, const char *ref, uint32_t tag, uint32_t len) {
	if (strcmp(ref, arg) == 0 && tag == 7 && len == 5) listed++;
	return 0;
}
static int on_snapshot(void *arg, uint64_t number, const char *label, const char *result) {
	(void)arg;
	if (number == 1 && strcmp(label, "from C") == 0 && strcmp(result, "COMPLETE") == 0) snapshots++;
	return 0;
}

/* A stream of 3 MB of which the last third is zeros. */
static int64_t stream(void *arg, void *buf, size_t len) {
	size_t *at = arg, n = 3000000 - *at;
	if (n > len) n = len;
	if (n > 70001) n = 70001;
	for (size_t i = 0; i < n; i++) ((unsigned char *)buf)[i] = *at + i < 2000000 ? (unsigned char)((*at + i) * 2654435761u >> 13) : 0;
	*at += n;
	return (int64_t)n;
}
static int same(void *arg, const void *data, size_t len) {
	size_t *at = arg;
	unsigned char *want = malloc(len);
	int bad = 0;
	size_t from = *at;
	for (size_t got = 0; got < len;) got += (size_t)stream(&from, want + got, len - got);
	bad = memcmp(want, data, len);
	free(want);
	*at += len;
	return bad;
}
static int64_t broken(void *arg, void *buf, size_t len) { (void)arg; (void)buf; (void)len; return -1; }
static int enough(void *arg, const void *data, size_t len) { (void)arg; (void)data; (void)len; return 1; }

int main(int argc, char **argv) {
	asl_store s = 0, r = 0;
	asl_put_handle p = 0;
	char plain[ASL_REF_SIZE], tagged[ASL_REF_SIZE], root[ASL_REF_SIZE], second[ASL_REF_SIZE];
	uint64_t one = 0, two = 0, bad = 9;
	void *data = NULL;
	size_t len = 0, at = 0;
	uint32_t tag = 9;
	if (argc != 2) return 2;
	WANT(asl_abi() == ASL_ABI);
	WANT(asl_open(argv[1], NULL, ASL_READ, &s) == ASL_NO_STORE && strlen(asl_error()) > 10);
	WANT(asl_open(NULL, NULL, ASL_READ, &s) == ASL_USAGE);
	WANT(asl_open(argv[1], "from-c", ASL_CREATE, &s) == ASL_OK);

	/* Nothing is seen before it is sealed; what was cancelled never is. */
	WANT(asl_begin(s, "cancelled", &p) == ASL_OK);
	WANT(asl_put(p, "never", 5, 0, plain) == ASL_OK);
	WANT(asl_cancel(p) == ASL_OK && asl_cancel(p) == ASL_USAGE);
	WANT(asl_get(s, 0, plain, &data, &len, NULL) == ASL_NO_STORE);

	WANT(asl_begin(s, "from C", &p) == ASL_OK);
	WANT(asl_put(p, "hello", 5, 0, plain) == ASL_OK);
	WANT(asl_put(p, "hello", 5, 7, tagged) == ASL_OK && strcmp(plain, tagged) != 0);
	WANT(asl_put(p, "hello", 5, 0, root) == ASL_OK && strcmp(plain, root) == 0);
	WANT(asl_put(p, "", 0, 0, root) == ASL_OK);
	WANT(asl_put(p, "x", 1, 0x41530001, NULL) == ASL_USAGE);
	WANT(asl_put(p, NULL, 1, 0, NULL) == ASL_USAGE);
	{ /* more than one block, and more than an artifact may have */
		size_t big = 8 << 20;
		char *b = calloc(1, big + 1);
		for (int i = 0; i < 3; i++) { b[0] = (char)i; WANT(asl_put(p, b, big, 0, NULL) == ASL_OK); }
		WANT(asl_put(p, b, big + 1, 0, NULL) == ASL_USAGE);
		free(b);
	}
	WANT(asl_get(s, 0, plain, &data, &len, NULL) == ASL_NO_STORE);
	WANT(asl_seal(p, &one) == ASL_OK && one == 1);
	WANT(asl_put(p, "late", 4, 0, NULL) == ASL_USAGE);

	WANT(asl_take_stream(s, "stream", "second", stream, &at, &two, root) == ASL_OK && two == 2 && strncmp(root, "b3:", 3) == 0);
	strcpy(second, root);
	WANT(asl_take_stream(s, "broken", "", broken, NULL, &two, root) == ASL_GAPS && two == 3 && strstr(asl_error(), "callback"));

	/* Another handle, which only reads: each snapshot sees what was sealed before it. */
	WANT(asl_open(argv[1], NULL, ASL_READ, &r) == ASL_OK);
	WANT(asl_get(r, 1, plain, &data, &len, &tag) == ASL_OK && len == 5 && tag == 0 && strcmp(data, "hello") == 0);
	asl_free(data);
	WANT(asl_get(r, 0, tagged, &data, &len, &tag) == ASL_OK && len == 5 && tag == 7);
	asl_free(data);
	WANT(asl_get(r, 1, second, &data, &len, NULL) == ASL_NO_STORE && asl_get(r, 2, second, &data, &len, NULL) == ASL_OK);
	asl_free(data);
	WANT(asl_get(r, 99, plain, &data, &len, NULL) == ASL_NO_STORE);
	WANT(asl_get(r, 1, "nonsense", &data, &len, NULL) == ASL_USAGE);
	WANT(asl_list(r, 1, on_artifact, tagged) == ASL_OK && listed == 1);
	WANT(asl_snapshots(r, on_snapshot, NULL) == ASL_OK && snapshots == 1);
	at = 0;
	WANT(asl_read_source(r, 2, "stream", same, &at) == ASL_OK && at == 3000000);
	WANT(asl_read_source(r, 2, "stream", enough, NULL) != ASL_OK && strstr(asl_error(), "stop"));
	WANT(asl_read_source(r, 2, "other", same, &at) == ASL_NO_STORE);
	WANT(asl_verify(r, &bad) == ASL_OK && bad == 0);
	WANT(asl_begin(r, "", &p) != ASL_OK);
	WANT(asl_close(r) == ASL_OK && asl_close(r) == ASL_USAGE);
	WANT(asl_close(s) == ASL_OK);
	printf("%s\n", plain);
	return 0;
}
