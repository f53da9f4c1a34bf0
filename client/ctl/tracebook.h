/* Traced calls as the daemon tells of them, put together into trees: a call's start, its end and what was
 * said about it come in any order, its parent may come later, or never. One owner. */
#pragma once

#include "proto/base/buf.h"
#include "proto/mp.h"

struct trace_call {
	/* what is known; texts are "" and owned by the book, times 0, step -1 while they are not */
	char *id;
	char *trace_id;
	char *parent_id;
	char *op;
	char *display_name;
	char *run;
	char *reason;
	char *exception; /* JSON text */
	uint64_t started_us;
	uint64_t ended_us;
	int64_t step;
	uint64_t tokens; /* of this call alone */
	double score;
	bool has_score;
	bool has_ended;
	bool is_hit;      /* one of its records holds what is searched for */
	struct buf start; /* the bodies of its records, when the book keeps them */
	struct buf end;
	struct buf feedback; /* bodies, one behind the other */
	/* the tree, once book_link() was called */
	struct trace_call *parent;
	struct trace_call *first_child;
	struct trace_call *next; /* the next child of the parent, or the next root */
	uint64_t all_tokens;     /* with those of its children */
	bool is_shown;
	/* the book's own */
	struct trace_call *same_bucket;
	struct trace_call *older;
	struct trace_call *newer;
};

enum {
	BOOK_CALLS_MAX = 200000, /* the oldest go when there are more */
	BOOK_BYTES_MAX = 1 << 29 /* of kept records */
};

struct book {
	struct trace_call **buckets;
	size_t bucket_count;
	struct trace_call *oldest; /* as they came */
	struct trace_call *newest;
	size_t count;
	uint64_t forgotten; /* calls that went */
	size_t kept_bytes;
	struct trace_call *first_root; /* the earliest first */
	size_t root_count;
};

int book_init(struct book *b); /* 0, -ENOMEM */
void book_done(struct book *b);
/* A brief (daemon/ingest/call_brief.h). 0, -ENOMEM. */
int book_add_brief(struct book *b, struct span brief);
/* A whole record [kind, seq, body], of which the body is kept. 0, -ENOMEM; -E2BIG: it is more than can
 * be kept. Other kinds than call and feedback are passed over. */
int book_add_record(struct book *b, struct span record);
/* The trees: children below their parents and roots, both by their start. A call whose parent is not
 * here is a root. Nothing may be added afterwards. 0, -ENOMEM. */
int book_link(struct book *b);
/* The one behind c when a tree is read from top to bottom; NULL: it was the last of `root`'s. */
struct trace_call *trace_call_next(const struct trace_call *c, const struct trace_call *root);
unsigned trace_call_depth(const struct trace_call *c);
/* Microseconds that it took; 0: not known. */
uint64_t trace_call_took_us(const struct trace_call *c);
