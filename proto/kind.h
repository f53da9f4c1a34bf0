/* The kinds of frames on the record socket, and what each field of their bodies must be. One table:
 * the daemon checks by it, PROTOCOL.md section 4 describes it, a test compares the two. Adding a
 * kind or a field is compatible: unknown fields are ignored, unknown kinds rejected one by one. */
#pragma once

#include "proto/base/buf.h"

enum kind {
	/* client -> daemon */
	KIND_HELLO,
	KIND_RUN,
	KIND_ATTACH,
	KIND_LOG,
	KIND_CALL,
	KIND_FEEDBACK,
	KIND_OBJECT,
	KIND_COST,
	KIND_BLOB,
	KIND_SUMMARY,
	KIND_CONFIG,
	KIND_TAGS,
	KIND_DEFINE,
	KIND_OUTPUT,
	KIND_STATS,
	KIND_ALERT,
	KIND_FILE,
	KIND_ARTIFACT,
	KIND_PREEMPTING,
	KIND_FINISH,
	KIND_FLUSH,
	/* daemon -> client */
	KIND_WELCOME,
	KIND_ACK,
	KIND_REJECT,
	KIND_NOTICE,
	/* made by the daemon itself, never on the wire: a producer is gone (docs/ARCHITECTURE.md,
	 * presence) */
	KIND_GONE,
	KIND_COUNT,
	KIND_UNKNOWN = KIND_COUNT,
};

/* Which stream of its run a stored record belongs to; also the order of precedence when it is sent.
 */
enum record_class {
	CLASS_METRICS,
	CLASS_BULK,
	CLASS_TRACES,
	CLASS_REST,
	CLASS_COUNT
};

/* Types that a field may have, as bits. */
enum field_type {
	FIELD_STR = 1 << 0,
	FIELD_BIN = 1 << 1,
	FIELD_UINT = 1 << 2,
	FIELD_INT = 1 << 3, /* below zero */
	FIELD_FLOAT = 1 << 4,
	FIELD_BOOL = 1 << 5,
	FIELD_MAP = 1 << 6,
	FIELD_ARRAY = 1 << 7,
	FIELD_NIL = 1 << 8,
	FIELD_NUMBER = FIELD_UINT | FIELD_INT | FIELD_FLOAT,
	FIELD_ANY = (1 << 9) - 1,
};

struct field_info {
	const char *name;
	unsigned types; /* bits of enum field_type */
	bool required;
};

enum {
	KIND_FIELDS_MAX = 26
};

struct kind_info {
	const char *name;
	bool to_daemon;                            /* a client may send it */
	bool numbered;                             /* has a seq and is acknowledged */
	bool stored;                               /* becomes a row of `record` */
	enum record_class class;                   /* of a stored one */
	struct field_info fields[KIND_FIELDS_MAX]; /* ends with a name of NULL */
};

/* kind < KIND_COUNT. */
const struct kind_info *kind_info(enum kind kind);
/* KIND_UNKNOWN when no kind has this name. */
enum kind kind_by_name(struct span name);
const char *class_name(enum record_class class);
