/* Names and digests by which W&B's trace server knows ops, as it computes them itself. Pure. */
#pragma once

#include "proto/base/buf.h"
#include "proto/limits.h"

enum {
	REF_DIGEST_MAX = 44, /* characters and a NUL */
	REF_NAME_MAX = 128,
};

/* Of bytes: SHA-256 as base64 with X and Y for what is no letter or digit. 0, or -ENOMEM. */
int ref_digest(struct span bytes, char ret[REF_DIGEST_MAX]);
/* Of an op whose source has this SHA-256 (DIGEST_BYTES; empty: the source is not known). */
int ref_op_digest(struct span source_sha256, char ret[REF_DIGEST_MAX]);
/* The file that stands for a source that is not known. */
struct span ref_no_source(void);
/* The value of the op's object, as JSON; file: the digest of its source. */
void ref_op_value(struct buf *out, const char *file);
/* The name of the op's object: what is not allowed in it becomes '-', what is too long is cut. */
void ref_op_name(struct span name, char ret[REF_NAME_MAX + 1]);
/* weave:///ENTITY/PROJECT/op/NAME:DIGEST */
void ref_op(struct buf *out, const char *entity, const char *project, const char *name,
	    const char *digest);
