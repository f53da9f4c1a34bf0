/* wbxctl runs: the runs that the store has, and how far W&B has them. */
#include "client/ctl/call.h"
#include "client/ctl/format.h"
#include "client/ctl/grid.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/mp.h"

#include <stdio.h>

struct listing {
	struct call *call;
	struct grid grid;
	uint64_t now_us;
	uint64_t count;
};

static const struct grid_column columns[] = {
	{"RUN", false, 8, 24},   {"PROJECT", false, 7, 20}, {"NAME", false, 4, 20},
	{"STATE", false, 9, 9},  {"ROWS", true, 5, 0},      {"SENT", true, 5, 0},
	{"WAITING", true, 7, 0}, {"FILES", true, 5, 0},     {"LATE", true, 4, 0},
	{"LAST", true, 6, 0},    {"EXIT", true, 4, 0},      {"PARKED", false, 0, 0},
};

static void add_count(struct grid *g, struct mp item, const char *key)
{
	grid_add_text(g, word_count(mp_get_uint(item, key, 0)).text);
}

static void add_exit_code(struct grid *g, struct mp item)
{
	struct mp_value v;
	int64_t code;
	char text[32] = "-";

	if (mp_find(item, "exit_code", &v) == 0 && mp_to_int64(&v, &code))
		(void)snprintf(text, sizeof(text), "%lld", (long long)code); /* fits */
	grid_add_text(g, text);
}

static int on_item(void *arg, struct span body)
{
	struct listing *l = arg;
	struct mp item = mp_of(body);
	struct span parked = mp_get_str(item, "parked");
	uint64_t last_us = mp_get_uint(item, "last_us", 0);

	l->count++;
	if (call_has(l->call, OPT_JSON))
		return call_on_json_item(l->call, body);
	grid_add(&l->grid, mp_get_str(item, "run"));
	grid_add(&l->grid, mp_get_str(item, "project"));
	grid_add(&l->grid, mp_get_str(item, "name"));
	grid_add(&l->grid, parked.len > 0 ? SPAN_LITERAL("parked") : mp_get_str(item, "state"));
	add_count(&l->grid, item, "rows");
	add_count(&l->grid, item, "rows_done");
	add_count(&l->grid, item, "waiting");
	add_count(&l->grid, item, "uploads");
	add_count(&l->grid, item, "late");
	grid_add_text(&l->grid, last_us == 0 || last_us > l->now_us
					? "-"
					: word_age_short((l->now_us - last_us) / 1000).text);
	add_exit_code(&l->grid, item);
	grid_add(&l->grid, parked);
	return CODE_OK;
}

int runs_run(struct call *c)
{
	struct listing l = {.call = c, .now_us = clock_wall_us()};
	struct control_answer answer;
	struct request q;
	int r;

	grid_init(&l.grid, columns, array_len(columns));
	request_init(&q, VERB_RUNS);
	request_text(&q, "run", call_word(c));
	r = call_ask(c, &q, on_item, &l, &answer);
	if (r == CODE_OK && l.count == 0 && call_word(c) != NULL) {
		say("there is no run %s that is yours; wbxctl runs lists them", call_word(c));
		r = CODE_DATA;
	} else if (r == CODE_OK && !call_has(c, OPT_JSON)) {
		grid_print(&l.grid, &c->out, c->columns);
	}
	request_done(&q);
	grid_done(&l.grid);
	return r;
}
