/* Values of calls as JSON for W&B's trace server: NaN and infinities as null, bytes as data URLs,
 * what secrets are called redacted, long texts cut with a word about it. Any thread; iterative. */
#pragma once

#include "proto/base/json.h"
#include "proto/mp.h"

/* Gives the first bytes of a blob, at most max of them, and how many there are. 0, -ENOENT, -errno. */
typedef int (*render_read)(void *arg, struct span digest, size_t max, struct buf *ret,
			   int64_t *ret_size);

struct render {
	size_t text_max; /* bytes of one text, or of bytes as text; what is more is cut */
	render_read read;
	void *arg;
	/* out */
	unsigned cut;      /* texts that were */
	unsigned redacted; /* values */
	int error;         /* of reading a blob: -ENOMEM and such; what is not there is no error */
};

/* Writes the value at the cursor and moves behind it. 0, -EBADMSG: not a value; or r->error. */
int render_value(struct json *j, struct mp *m, struct render *r);
/* True when W&B's trace server, and we, hide the value of a key of this name. */
bool render_is_secret(struct span key);
/* A text, cut if need be; size: of the whole, of which this may be the beginning. */
void render_text(struct json *j, struct span text, int64_t size, struct render *r);
