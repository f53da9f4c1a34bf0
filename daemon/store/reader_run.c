/* See reader_parts.h: runs, their plans, and the producers in them. */
#include "daemon/store/reader_parts.h"

#include <errno.h>
#include <string.h>

#define RUN_COLUMNS_OF(parked)                                                                     \
	"r.id, r.uid, r.state, r.exit_code, r.created_us, r.next_offset, r.done_offset, r.late, "  \
	"r.entity, r.project, r.name, "                                                            \
	"coalesce(r.display_name, ''), coalesce(r.server_id, ''), coalesce(r.server_entity, ''), " \
	"coalesce(r.server_project, ''), " parked                                                  \
	", (SELECT count(*) FROM upload u WHERE u.run = r.id AND u.state < "                       \
	"2), (SELECT "                                                                             \
	"count(*) FROM dead d WHERE d.run = r.id), "                                               \
	"coalesce((SELECT e.time_us FROM extent e WHERE e.stream = r.id * 4 ORDER BY e.first "     \
	"DESC LIMIT 1), 0), r.refused, (SELECT count(*) FROM artifact a WHERE a.run = r.id AND "   \
	"a.state BETWEEN 1 AND 7) "

#define RUN_COLUMNS RUN_COLUMNS_OF("coalesce(r.parked, '')")

enum {
	SQL_RUN,
	SQL_RUNS,
	SQL_NOTABLE_RUNS,
	SQL_OPEN_RUNS,
	SQL_PLANNER,
	SQL_WAYPOINT,
	SQL_MEMBERS,
	SQL_PRESENT,
	SQL_HELLO,
	SQL_PRODUCER_UID,
	SQL_COUNT,
};
static const char *const texts[SQL_COUNT] = {
	[SQL_RUN] = "SELECT " RUN_COLUMNS "FROM run r WHERE r.id = ?1",
	[SQL_RUNS] = "SELECT " RUN_COLUMNS
		     "FROM run r WHERE r.id > ?1 AND r.name <> '' ORDER BY r.id LIMIT ?2",
	[SQL_NOTABLE_RUNS] = "SELECT " RUN_COLUMNS_OF(
		"coalesce(r.parked, 'traces: ' || (SELECT t.parked FROM trace_run t WHERE "
		"t.run = r.id), '')") "FROM run r WHERE (?2 < 0 OR r.uid = ?2) AND (r.parked IS "
				      "NOT NULL OR EXISTS (SELECT 1 FROM trace_run t WHERE t.run = "
				      "r.id AND t.parked IS NOT NULL) OR r.late > 0 OR r.state = 3 "
				      "AND EXISTS (SELECT 1 FROM upload u WHERE "
				      "u.run = r.id AND u.state < 2)) ORDER BY r.parked IS NULL, "
				      "r.id DESC LIMIT ?1",
	/* the condition of the index run_open, word for word */
	[SQL_OPEN_RUNS] =
		"SELECT id, uid FROM run WHERE (state < 4 OR reopened = 1) AND name <> '' "
		"ORDER BY id",
	[SQL_PLANNER] = "SELECT state FROM planner WHERE run = ?1",
	[SQL_WAYPOINT] = "SELECT lsn, time_us, next_step, state, coalesce(resteps, 0), "
			 "coalesce(resteps_to, 0) FROM waypoint WHERE run = ?1 AND "
			 "(lsn, time_us) > (?2, ?3) ORDER BY lsn, time_us LIMIT 1",
	[SQL_MEMBERS] = "SELECT state, count(*) FROM member WHERE run = ?1 GROUP BY state",
	[SQL_PRESENT] =
		"SELECT p.id, p.uid, p.name, m.name, m.run FROM member m JOIN producer p ON p.id "
		"= m.producer WHERE m.state IN (0, 3)", /* present, preempting */
	[SQL_HELLO] = "SELECT hello FROM producer WHERE id = ?1",
	[SQL_PRODUCER_UID] = "SELECT uid FROM producer WHERE id = ?1",
};

/* --- its statements --- */

int reader_runs_prepare(struct reader *r)
{
	r->runs.handle = r->db.handle;
	return db_prepare(&r->runs, texts, SQL_COUNT);
}

/* --- runs --- */

static void take_run(sqlite3_stmt *s, struct run_info *ret)
{
	*ret = (struct run_info){
		.id = db_column_int(s, 0),
		.uid = (uint32_t)db_column_int(s, 1),
		.state = (enum run_state)db_column_int(s, 2),
		.has_exit_code = sqlite3_column_type(s, 3) != SQLITE_NULL,
		.exit_code = db_column_int(s, 3),
		.created_us = db_column_int(s, 4),
		.next_offset = db_column_int(s, 5),
		.done_offset = db_column_int(s, 6),
		.late = db_column_int(s, 7),
		.uploads = db_column_int(s, 16),
		.dead = db_column_int(s, 17),
		.last_us = db_column_int(s, 18),
		.refused = db_column_int(s, 19),
		.artifacts = db_column_int(s, 20),
	};
	db_column_copy(s, 8, ret->entity, sizeof(ret->entity));
	db_column_copy(s, 9, ret->project, sizeof(ret->project));
	db_column_copy(s, 10, ret->name, sizeof(ret->name));
	db_column_copy(s, 11, ret->display_name, sizeof(ret->display_name));
	db_column_copy(s, 12, ret->server_id, sizeof(ret->server_id));
	db_column_copy(s, 13, ret->server_entity, sizeof(ret->server_entity));
	db_column_copy(s, 14, ret->server_project, sizeof(ret->server_project));
	db_column_copy(s, 15, ret->parked, sizeof(ret->parked));
}

int reader_run(struct reader *r, int64_t run, struct run_info *ret)
{
	sqlite3_stmt *s = db_stmt(&r->runs, SQL_RUN);
	int e;

	db_bind_int(s, 1, run);
	e = reader_step_once(s);
	if (e < 0)
		return e;
	take_run(s, ret);
	return db_run(s);
}

static int each_run(sqlite3_stmt *s, reader_on_run on_run, void *arg)
{
	int e;

	while ((e = db_step(s)) == 1) {
		struct run_info run;

		take_run(s, &run);
		e = on_run(arg, &run);
		if (e != 0)
			break;
	}
	(void)sqlite3_reset(s); /* ends the transaction; repeats the step's error */
	return e;
}

int reader_runs(struct reader *r, int64_t after, reader_on_run on_run, void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->runs, SQL_RUNS);

	db_bind_int(s, 1, after);
	db_bind_int(s, 2, READER_PAGE);
	return each_run(s, on_run, arg);
}

int reader_notable_runs(struct reader *r, int64_t uid, reader_on_run on_run, void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->runs, SQL_NOTABLE_RUNS);

	db_bind_int(s, 1, READER_PAGE);
	db_bind_int(s, 2, uid);
	return each_run(s, on_run, arg);
}

int reader_open_runs(struct reader *r, reader_on_open_run on_run, void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->runs, SQL_OPEN_RUNS);
	int e;

	while ((e = db_step(s)) == 1) {
		e = on_run(arg, db_column_int(s, 0), (uint32_t)db_column_int(s, 1));
		if (e != 0)
			break;
	}
	(void)sqlite3_reset(s); /* as above */
	return e;
}

static int take_bytes(sqlite3_stmt *s, int column, struct buf *ret)
{
	struct span bytes;
	int e = reader_step_once(s);

	if (e < 0)
		return e;
	bytes = db_column(s, column);
	e = buf_add(ret, bytes.at, bytes.len);
	(void)sqlite3_reset(s); /* one row was wanted */
	return e;
}

int reader_planner(struct reader *r, int64_t run, struct buf *ret)
{
	sqlite3_stmt *s = db_stmt(&r->runs, SQL_PLANNER);

	db_bind_int(s, 1, run);
	return take_bytes(s, 0, ret);
}

int reader_waypoint(struct reader *r, int64_t run, int64_t lsn, int64_t time_us,
		    struct waypoint_info *ret, struct buf *ret_state)
{
	sqlite3_stmt *s = db_stmt(&r->runs, SQL_WAYPOINT);
	struct span state;
	int e;

	db_bind_int(s, 1, run);
	db_bind_int(s, 2, lsn);
	db_bind_int(s, 3, time_us);
	e = reader_step_once(s);
	if (e < 0)
		return e;
	*ret = (struct waypoint_info){
		.lsn = db_column_int(s, 0),
		.time_us = db_column_int(s, 1),
		.next_step = db_column_int(s, 2),
		.resteps = db_column_int(s, 4),
		.resteps_to = db_column_int(s, 5),
	};
	state = db_column(s, 3);
	if (ret_state != NULL)
		e = buf_add(ret_state, state.at, state.len);
	(void)sqlite3_reset(s); /* one row was wanted */
	return e;
}

int reader_hello(struct reader *r, int64_t producer, struct buf *ret)
{
	sqlite3_stmt *s = db_stmt(&r->runs, SQL_HELLO);

	db_bind_int(s, 1, producer);
	return take_bytes(s, 0, ret);
}

int reader_producer_uid(struct reader *r, int64_t producer, uint32_t *ret)
{
	sqlite3_stmt *s = db_stmt(&r->runs, SQL_PRODUCER_UID);
	int64_t uid = 0;
	int e;

	db_bind_int(s, 1, producer);
	e = reader_one_number(s, &uid);
	if (e == 0)
		*ret = (uint32_t)uid;
	return e;
}

int reader_members(struct reader *r, int64_t run, int64_t ret_counts[MEMBER_STATES])
{
	sqlite3_stmt *s = db_stmt(&r->runs, SQL_MEMBERS);
	int e;

	memset(ret_counts, 0, MEMBER_STATES * sizeof(*ret_counts));
	db_bind_int(s, 1, run);
	while ((e = db_step(s)) == 1) {
		int64_t state = db_column_int(s, 0);

		if (state >= 0 && state < MEMBER_STATES)
			ret_counts[state] = db_column_int(s, 1);
	}
	return e;
}

int reader_present(struct reader *r, reader_on_present on_present, void *arg)
{
	sqlite3_stmt *s = db_stmt(&r->runs, SQL_PRESENT);
	int e;

	while ((e = db_step(s)) == 1) {
		struct present_info present = {
			.producer_id = db_column_int(s, 0),
			.uid = (uint32_t)db_column_int(s, 1),
			.producer = db_column(s, 2),
			.run = db_column(s, 3),
			.run_id = db_column_int(s, 4),
		};

		e = on_present(arg, &present);
		if (e != 0)
			break;
	}
	(void)sqlite3_reset(s); /* ends the transaction; repeats the step's error */
	return e;
}
