/* The inside of a query, for query.c (requests, the job), query_status.c and query_list.c alone.
 * Worker thread, or the only one of `wbxd --answer`. */
#pragma once

#include "daemon/flow/run_search.h"
#include "daemon/ingest/query.h"
#include "proto/pack.h"

/* --- query.c --- */
/* Who asks may see what belongs to uid. */
bool query_may_see(const struct query *q, uint32_t uid);
/* Begins the search for the run that the question names, among those the asker may see; what is found
 * goes to *run (borrowed). */
void query_search(const struct query *q, struct run_search *ret, struct run_info *run);
/* Three pairs: run, project, entity. */
void query_pack_run_name(struct pack *p, const struct run_info *run);

/* Each of the following adds a slice of its answer to q->out, and says in q->more and q->idle how
 * it goes on. 0, or -errno: then what is in q->out does not count. */

/* --- query_status.c --- */
int query_status(struct query *q, struct reader *reader);

/* --- query_export.c --- */
int query_export(struct query *q, struct reader *reader);
struct query_export *query_export_free(struct query_export *e); /* NULL */

/* --- query_blob.c --- */
int query_blob(struct query *q, struct reader *reader);

/* --- query_check.c --- */
int query_disk(struct query *q, struct reader *reader);
int query_check(struct query *q, struct reader *reader);
int query_prunable(struct query *q, struct reader *reader);
struct query_check *query_check_free(struct query_check *c); /* NULL */

/* --- query_list.c --- */
int query_backlog(struct query *q, struct reader *reader);
int query_runs(struct query *q, struct reader *reader);
int query_tail(struct query *q, struct reader *reader);
int query_dead_list(struct query *q, struct reader *reader);
int query_dead_show(struct query *q, struct reader *reader);
int query_late_list(struct query *q, struct reader *reader);

/* --- query_trace.c, query_trace_one.c --- */
int query_traces(struct query *q, struct reader *reader);
int query_trace_one(struct query *q, struct reader *reader);
struct query_trace *query_trace_free(struct query_trace *t); /* NULL */
