/* Cuts a JSON object's text into its pairs, values byte for byte. What W&B has of a run and we do
 * not change goes back to it exactly so: NaN, numbers of any length, any depth. It finds where
 * values end and leaves what is in them alone; whoever looks inside uses jansson. Pure. */
#pragma once

#include "proto/base/buf.h"

#include <stdbool.h>

enum {
	JSONSLICE_DEPTH_MAX = 512,
	JSONSLICE_TEXT_MAX = 64 /* of a value that is looked at as text, with its NUL */
};

/* *ret_rest: where jsonslice_next() goes on. 0, or -EBADMSG: no object begins there. */
int jsonslice_open(struct span text, struct span *ret_rest);
/* 1 and the next pair, borrowed from the text, the key with its quotes; 0 at the object's end;
 * -EBADMSG. */
int jsonslice_next(struct span *rest, struct span *ret_key, struct span *ret_value);
/* The value of that key (without escapes in it) in an object. 0, -ENOENT, -EBADMSG. */
int jsonslice_find(struct span object, const char *key, struct span *ret_value);
/* The same as a C text, for numbers. False: there is none, or it is longer. */
bool jsonslice_text(struct span object, const char *key, char ret[JSONSLICE_TEXT_MAX]);
