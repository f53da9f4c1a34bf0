/* wbxctl dead: what W&B refused for good, and what becomes of it. Which letters are meant is found
 * out here, from the list; the daemon is told numbers. */
#include "client/ctl/call.h"
#include "client/ctl/format.h"
#include "client/ctl/grid.h"
#include "client/ctl/ids.h"
#include "client/ctl/mpjson.h"
#include "client/ctl/outside.h"
#include "client/ctl/page.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/mp.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
	IDS_AT_ONCE = 256, /* numbers in one request: what the daemon takes */
	BODY_SHOWN = 4096, /* bytes of what was refused, for people */
	LETTER_JSON_MAX = 16 << 20,
	EXPORT_MODE = 0600,
};

/* --- one letter --- */

static struct word age(struct mp item)
{
	uint64_t time_us = mp_get_uint(item, "time_us", 0);
	uint64_t now_us = clock_wall_us();

	return word_age_short(time_us != 0 && time_us < now_us ? (now_us - time_us) / 1000 : 0);
}

static void add_bytes(struct buf *out, const char *title, struct span bytes)
{
	if (bytes.len == 0)
		return;
	(void)buf_printf(out, "\n--- %s, %s\n", title, word_size(bytes.len).text);
	outside_add(out,
		    (struct span){.at = bytes.at,
				  .len = bytes.len < BODY_SHOWN ? bytes.len : BODY_SHOWN},
		    OUTSIDE_LINES);
	(void)buf_add_byte(out, '\n'); /* call_print() looks */
	if (bytes.len > BODY_SHOWN)
		(void)buf_add_text(out, "... --json and wbxctl dead export have more\n");
}

static void add_label(struct buf *out, const char *label, struct mp item, const char *key)
{
	auto_buf struct buf line = {0};

	buf_init(&line, 64 << 10);
	outside_add(&line, mp_get_str(item, key), OUTSIDE_LINE);
	page_add(out, label, buf_span(&line));
}

static int on_show(void *arg, struct span body)
{
	struct call *c = arg;
	struct mp item = mp_of(body);
	uint64_t time_us = mp_get_uint(item, "time_us", 0);
	int64_t step = mp_get_int(item, "step", -1);

	(void)buf_printf(&c->out, "%8s: %llu, %s", "id",
			 (unsigned long long)mp_get_uint(item, "id", 0),
			 word_clock(time_us, clock_wall_us()).text); /* call_print() looks */
	(void)buf_printf(&c->out, " (%s ago)\n", age(item).text);
	add_label(&c->out, "run", item, "run");
	add_label(&c->out, "project", item, "project");
	add_label(&c->out, "entity", item, "entity");
	add_label(&c->out, "sink", item, "sink");
	add_label(&c->out, "what", item, "what");
	if (step >= 0)
		(void)buf_printf(&c->out, "%8s: %lld\n", "step", (long long)step);
	if (mp_get_int(item, "status", 0) != 0)
		(void)buf_printf(&c->out, "%8s: HTTP %lld\n", "status",
				 (long long)mp_get_int(item, "status", 0));
	add_label(&c->out, "reason", item, "reason");
	add_label(&c->out, "request", item, "request");
	add_bytes(&c->out, "the answer", mp_get_bin(item, "answer"));
	add_bytes(&c->out, "what was refused", mp_get_bin(item, "body"));
	return CODE_OK;
}

/* answer and body are bytes for msgpack, and nearly always text. */
static int on_show_json(void *arg, struct span body)
{
	static const char *const texts[] = {"run",  "project", "entity", "sink",
					    "what", "reason",  "request"};
	struct call *c = arg;
	struct mp item = mp_of(body);
	struct span refused = mp_get_bin(item, "body");
	auto_buf struct buf line = {0};
	struct json j;

	buf_init(&line, LETTER_JSON_MAX);
	json_init(&j, &line);
	json_open_object(&j);
	json_pair_uint(&j, "id", mp_get_uint(item, "id", 0));
	for (size_t i = 0; i < array_len(texts); i++)
		json_pair_str(&j, texts[i], mp_get_str(item, texts[i]));
	json_pair_int(&j, "time_us", mp_get_int(item, "time_us", 0));
	json_pair_int(&j, "status", mp_get_int(item, "status", 0));
	json_pair_int(&j, "step", mp_get_int(item, "step", -1));
	json_pair_uint(&j, "bytes", mp_get_uint(item, "bytes", 0));
	json_pair_bytes(&j, "answer", "answer_hex", mp_get_bin(item, "answer"));
	json_pair_bytes(&j, "body", "body_hex", refused);
	json_pair_bool(&j, "body_is_cut", refused.len < mp_get_uint(item, "bytes", 0));
	json_close_object(&j);
	json_line(&c->out, &line);
	return CODE_OK;
}

static int show(struct call *c, uint64_t id, control_on_item on_item)
{
	struct control_answer answer;
	struct request q;
	int r;

	request_init(&q, VERB_DEAD_SHOW);
	request_uint(&q, "id", id);
	r = call_ask(c, &q, on_item, c, &answer);
	request_done(&q);
	return r;
}

static int read_id(const struct call *c, const char *text, uint64_t *ret)
{
	if (number_read(text, INT64_MAX, ret) == 0)
		return CODE_OK;
	return say_usage(c->command, "an ID is a number; wbxctl dead list shows them");
}

int dead_show_run(struct call *c)
{
	uint64_t id = 0;
	int r = read_id(c, c->words[0], &id);

	return r != CODE_OK ? r : show(c, id, call_has(c, OPT_JSON) ? on_show_json : on_show);
}

/* --- the list --- */

static const struct grid_column columns[] = {
	{"ID", true, 4, 0},     {"AGE", true, 6, 0},    {"SINK", false, 6, 10},
	{"RUN", false, 8, 20},  {"WHAT", false, 4, 12}, {"STEP", true, 4, 0},
	{"STATUS", true, 6, 0}, {"SIZE", true, 7, 0},   {"REASON", false, 0, 0},
};

struct listing {
	struct call *call;
	struct grid grid;
};

static void add_number(struct grid *g, int64_t n, int64_t none)
{
	char text[32] = "-";

	if (n != none)
		(void)snprintf(text, sizeof(text), "%lld", (long long)n); /* fits */
	grid_add_text(g, text);
}

static int on_list(void *arg, struct span body)
{
	struct listing *l = arg;
	struct mp item = mp_of(body);

	add_number(&l->grid, mp_get_int(item, "id", 0), -1);
	grid_add_text(&l->grid, age(item).text);
	grid_add(&l->grid, mp_get_str(item, "sink"));
	grid_add(&l->grid, mp_get_str(item, "run"));
	grid_add(&l->grid, mp_get_str(item, "what"));
	add_number(&l->grid, mp_get_int(item, "step", -1), -1);
	add_number(&l->grid, mp_get_int(item, "status", 0), 0);
	grid_add_text(&l->grid, word_size(mp_get_uint(item, "bytes", 0)).text);
	grid_add(&l->grid, mp_get_str(item, "reason"));
	return CODE_OK;
}

static int ask_list(struct call *c, control_on_item on_item, void *arg)
{
	struct control_answer answer;
	struct request q;
	int r;

	request_init(&q, VERB_DEAD_LIST);
	request_text(&q, "run", c->values[OPT_RUN]);
	r = call_ask(c, &q, on_item, arg, &answer);
	request_done(&q);
	return r;
}

int dead_list_run(struct call *c)
{
	struct listing l = {.call = c};
	int r;

	if (call_has(c, OPT_JSON))
		return ask_list(c, call_on_json_item, c);
	grid_init(&l.grid, columns, array_len(columns));
	r = ask_list(c, on_list, &l);
	if (r == CODE_OK && l.grid.filled == 0)
		(void)buf_add_text(&c->out, "no dead letters\n"); /* call_print() looks */
	else if (r == CODE_OK)
		grid_print(&l.grid, &c->out, c->columns);
	grid_done(&l.grid);
	return r;
}

/* --- choosing --- */

struct choice {
	struct ids ids;
	uint64_t status; /* 0: any */
};

static int on_choose(void *arg, struct span body)
{
	struct choice *choice = arg;
	struct mp item = mp_of(body);
	uint64_t status = mp_get_uint(item, "status", 0);
	int r = 0;

	if (choice->status == 0 || status == choice->status)
		r = ids_add(&choice->ids, mp_get_uint(item, "id", 0));
	return r < 0 ? say_errno("dead", r) : CODE_OK;
}

static int choose_words(struct call *c, struct ids *ids)
{
	for (size_t i = 0; i < c->word_count; i++) {
		uint64_t id = 0;
		int r = read_id(c, c->words[i], &id);

		if (r != CODE_OK)
			return r;
		if (ids_add(ids, id) < 0)
			return say_errno("dead", -ENOMEM);
	}
	return CODE_OK;
}

static int choose(struct call *c, struct choice *choice)
{
	bool by_option = call_has(c, OPT_STATUS) || call_has(c, OPT_RUN) || call_has(c, OPT_ALL);

	if (by_option == (c->word_count > 0))
		return say_usage(c->command, "say which: IDs, or --status, --run or --all");
	if (c->word_count > 0)
		return choose_words(c, &choice->ids);
	if (call_has(c, OPT_STATUS) &&
	    (number_read(c->values[OPT_STATUS], 999, &choice->status) < 0 || choice->status == 0))
		return say_usage(c->command, "--status wants an HTTP status, such as 400");
	return ask_list(c, on_choose, choice);
}

static int order(struct call *c, enum verb verb, const struct ids *ids, uint64_t *ret_count)
{
	uint64_t sum = 0;

	for (size_t at = 0; at < ids->count; at += IDS_AT_ONCE) {
		size_t left = ids->count - at;
		uint64_t count = 0;
		struct request q;
		int r;

		request_init(&q, verb);
		request_ids(&q, "ids", ids->at + at, left < IDS_AT_ONCE ? left : IDS_AT_ONCE);
		r = call_order(c, &q, &count);
		request_done(&q);
		if (r != CODE_OK)
			return r;
		sum += count;
	}
	*ret_count = sum;
	return CODE_OK;
}

static void print_orders(struct call *c, const char *what, uint64_t done, uint64_t wanted)
{
	auto_buf struct buf line = {0};
	struct json j;

	if (!call_has(c, OPT_JSON)) {
		(void)buf_printf(&c->out, "%s of %s dead letter%s %s\n", word_count(done).text,
				 word_count(wanted).text, wanted == 1 ? "" : "s",
				 what); /* call_print() looks */
		return;
	}
	buf_init(&line, 256);
	json_init(&j, &line);
	json_open_object(&j);
	json_pair_uint(&j, "count", done);
	json_pair_uint(&j, "wanted", wanted);
	json_close_object(&j);
	json_line(&c->out, &line);
}

static int order_chosen(struct call *c, enum verb verb, const char *what, const struct ids *ids)
{
	uint64_t done = 0;
	int r = order(c, verb, ids, &done);

	if (r != CODE_OK)
		return r;
	print_orders(c, what, done, ids->count);
	return done < ids->count ? CODE_DATA : CODE_OK;
}

int dead_retry_run(struct call *c)
{
	struct choice choice = {0};
	int r = choose(c, &choice);

	if (r == CODE_OK)
		r = order_chosen(c, VERB_DEAD_RETRY, "will be sent again", &choice.ids);
	ids_done(&choice.ids);
	return r;
}

int dead_drop_run(struct call *c)
{
	struct ids ids = {0};
	int r = choose_words(c, &ids);

	if (r == CODE_OK)
		r = order_chosen(c, VERB_DEAD_DROP, "given up", &ids);
	ids_done(&ids);
	return r;
}

/* --- export --- */

/* One question per letter: only that answer has the bytes. */
static int export_letters(struct call *c, const struct ids *ids, int fd)
{
	for (size_t i = 0; i < ids->count; i++) {
		int r = show(c, ids->at[i], on_show_json);

		if (r != CODE_OK)
			return r;
		r = buf_write(&c->out, fd);
		buf_clear(&c->out);
		if (r < 0)
			return say_errno(c->words[0], r);
	}
	return fsync(fd) < 0 && errno != EINVAL ? say_errno(c->words[0], -errno) : CODE_OK;
}

static int export_to_file(struct call *c, const struct ids *ids)
{
	const char *path = c->words[0];
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, EXPORT_MODE);
	int r;

	if (fd < 0 && errno == EEXIST) {
		say("%s is there already; name a file that is not", path);
		return CODE_USAGE;
	}
	if (fd < 0)
		return say_errno(path, -errno);
	r = export_letters(c, ids, fd);
	if (close(fd) < 0 && r == CODE_OK)
		r = say_errno(path, -errno);
	if (r != CODE_OK)
		(void)unlink(path); /* half an export is none */
	return r;
}

int dead_export_run(struct call *c)
{
	struct choice choice = {0};
	int r = ask_list(c, on_choose, &choice);

	if (r == CODE_OK)
		r = export_to_file(c, &choice.ids);
	if (r == CODE_OK)
		print_orders(c, "written", choice.ids.count, choice.ids.count);
	ids_done(&choice.ids);
	return r;
}
