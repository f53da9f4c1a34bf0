/* What W&B knows an artifact by: the digests of its files, its own digest made of those, and the
 * manifest, a JSON file that lists them (research: wire/wandb-models 6 and 7). Pure. One owner at a
 * time. */
#pragma once

#include "proto/base/json.h"

enum {
	MD5_BYTES = 16,
	MD5_BASE64_MAX = 25,      /* base64 of an MD5 and a NUL */
	ARTIFACT_DIGEST_MAX = 33, /* hex of an MD5 and a NUL */
	ARTIFACT_NAME_MAX = 128,  /* bytes of an artifact's name, as W&B takes it */
};

/* --- MD5, piece by piece --- */
struct md5 {
	void *hash;
};
int md5_begin(struct md5 *m); /* 0, -ENOMEM; md5_done() is fine after both, and on zeroes */
int md5_add(struct md5 *m, const void *bytes, size_t len); /* 0, -ENOMEM */
/* The digest of all that was added; m begins anew. 0, -ENOMEM. */
int md5_end(struct md5 *m, uint8_t ret[MD5_BYTES]);
void md5_done(struct md5 *m);

/* Both with a NUL. */
void md5_base64(const uint8_t digest[MD5_BYTES], char ret[MD5_BASE64_MAX]);
void md5_hex(const uint8_t digest[MD5_BYTES], char ret[ARTIFACT_DIGEST_MAX]);
/* 0; -EINVAL: it is no base64 of 16 bytes. */
int md5_from_base64(struct span text, uint8_t ret[MD5_BYTES]);

/* --- an artifact's entries, in the order of their paths as bytes --- */
struct manifest_entry {
	struct span path;
	struct span digest; /* base64 of a file's MD5; of a reference what its maker says */
	int64_t size;       /* -1: not known, which W&B's client writes as 0 */
	struct span ref;    /* .at NULL: a file */
	struct span birth;  /* of a file: W&B's id of the artifact that brought the bytes */
	struct span extra;  /* of a reference: a JSON object; .at NULL: none */
};

/* The digest of an artifact: begin, its entries, end. */
int manifest_digest_begin(struct md5 *m);
int manifest_digest_add(struct md5 *m, const struct manifest_entry *e);
int manifest_digest_end(struct md5 *m, char ret[ARTIFACT_DIGEST_MAX]);

/* The manifest itself. Errors stay in the buf. */
void manifest_begin(struct json *j, struct buf *ret);
void manifest_add(struct json *j, const struct manifest_entry *e);
void manifest_end(struct json *j);

/* --- names --- */
/* May an artifact be called so? */
bool artifact_name_is_good(struct span name);
/* The name of the artifact that a run's table is in: run-<run>-<key>, as W&B takes names; a key that
 * cannot be in one leaves a check sum in its place. */
void artifact_name_of_table(struct buf *ret, const char *run, struct span key);
