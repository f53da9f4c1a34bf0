/* A question to the control socket while it is put together: a verb and its arguments. */
#pragma once

#include "proto/control.h"
#include "proto/pack.h"

enum {
	REQUEST_TIMEOUT_MS = 30000
};

/* Embeddable. Errors stay in `pairs`. */
struct request {
	enum verb verb;
	unsigned timeout_ms; /* for each part of the answer; 0: for ever */
	struct buf pairs;    /* keys and values */
	struct pack pack;
	size_t count;
};

/* With REQUEST_TIMEOUT_MS; who wants another sets it. */
void request_init(struct request *q, enum verb verb);
void request_done(struct request *q);
/* text NULL: left out. */
void request_text(struct request *q, const char *key, const char *text);
void request_uint(struct request *q, const char *key, uint64_t n);
void request_bool(struct request *q, const char *key, bool value);
/* texts[0 .. count-1]. */
void request_texts(struct request *q, const char *key, const char *const *texts, size_t count);
void request_ids(struct request *q, const char *key, const uint64_t *ids, size_t count);
/* Appends the frame. 0, or what failed on the way. */
int request_frame(const struct request *q, uint64_t id, struct buf *out);
