/* One HTTP/1.x GET, as much of it as the monitor answers: which path is asked for. libhttp-parser
 * reads it; the bounds are ours. Any thread. */
#pragma once

#include "proto/base/buf.h"

#include <http_parser.h>

enum {
	HTTP_HEAD_MAX = 4096, /* request line and headers */
	HTTP_TARGET_MAX = 256,
};

enum http_get_result {
	HTTP_GET_MORE,      /* the head goes on */
	HTTP_GET_READY,     /* path is what is asked for */
	HTTP_GET_METHOD,    /* whole, and no GET */
	HTTP_GET_TOO_LARGE, /* more than HTTP_HEAD_MAX, or a target longer than HTTP_TARGET_MAX */
	HTTP_GET_BAD,       /* no HTTP */
};

struct http_get {
	http_parser parser;
	size_t head_bytes;
	bool is_whole;
	bool is_too_large;
	size_t target_len;
	char target[HTTP_TARGET_MAX];
	char path[HTTP_TARGET_MAX + 1]; /* without query; set by HTTP_GET_READY */
};

void http_get_init(struct http_get *ret);
/* Bytes as they come, until it answers anything but HTTP_GET_MORE; what follows the head is not
 * looked at. */
enum http_get_result http_get_feed(struct http_get *g, struct span bytes);
