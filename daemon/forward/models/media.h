/* The kinds of files that values may be (PROTOCOL.md section 9): where W&B has them, and how it calls
 * them. Any thread. */
#pragma once

#include "proto/base/buf.h"

#include <stdbool.h>

enum media_kind {
	MEDIA_IMAGE,
	MEDIA_BOXES,
	MEDIA_MASK,
	MEDIA_HTML,
	MEDIA_AUDIO,
	MEDIA_VIDEO,
	MEDIA_PLOTLY,
	MEDIA_OTHER,
	MEDIA_KINDS
};

enum {
	MEDIA_EXT_MAX = 32,   /* bytes of `ext` */
	MEDIA_SHA_CHARS = 20, /* of the digest in a file's name */
};

/* What `_type` says; MEDIA_OTHER when it is none of W&B's. */
enum media_kind media_kind_of(struct span type);
const char *media_type(enum media_kind kind);   /* "image-file"; of MEDIA_OTHER "file" */
const char *media_folder(enum media_kind kind); /* "media/images", without a slash at its end */
const char *media_class(enum media_kind kind); /* "Image": what stands in the run file of a table */
/* May a file's path end so? */
bool media_ext_is_good(struct span ext);
