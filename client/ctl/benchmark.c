/* wbxctl benchmark: what a benchmark came to, added to a run from outside of it, as run.log_benchmark() in
 * Python does: a value benchmark/NAME and a table bench/NAME, which W&B joins across runs on the
 * question. */
#include "client/ctl/target.h"
#include "client/lib/wbx.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	FLUSH_MS = 10000,
	COLUMNS = 4,
	NAME_MAX_CHARS = 900, /* with "benchmark/" before it a key */
};

static const char *const columns[COLUMNS] = {"question", "thought", "answer", "score"};

/* --- rows --- */

static const json_t *either(const json_t *row, const char *name, const char *other)
{
	const json_t *value = json_object_get(row, name);

	return value != NULL || other == NULL ? value : json_object_get(row, other);
}

/* Lists and objects stand as their JSON. */
static void put_cell(struct wbx_map *rows, const json_t *value)
{
	char *text;

	if (value == NULL || json_is_null(value)) {
		(void)wbx_put_null(rows, NULL); /* errors stay in the list */
	} else if (json_is_string(value)) {
		(void)wbx_put_bytes_as_text(rows, NULL, json_string_value(value),
					    json_string_length(value));
	} else if (json_is_integer(value)) {
		(void)wbx_put_int(rows, NULL, json_integer_value(value));
	} else if (json_is_real(value)) {
		(void)wbx_put_double(rows, NULL, json_real_value(value));
	} else if (json_is_boolean(value)) {
		(void)wbx_put_bool(rows, NULL, json_is_true(value));
	} else {
		text = json_dumps(value, JSON_COMPACT);
		(void)wbx_put_text(rows, NULL, text);
		free(text);
	}
}

static void put_trimmed(struct wbx_map *rows, const char *from, const char *to)
{
	static const char space[] = " \t\r\n";

	while (from < to && strchr(space, *from) != NULL)
		from++;
	while (from < to && strchr(space, to[-1]) != NULL)
		to--;
	(void)wbx_put_bytes_as_text(rows, NULL, from, (size_t)(to - from));
}

/* Thought and answer of a text that begins with its thought; the opening tag may be missing. */
static void put_split(struct wbx_map *rows, const char *text)
{
	const char *begin = strstr(text, "<think>");
	const char *end = strstr(text, "</think>");
	const char *over = text + strlen(text);

	if (end != NULL && (begin == NULL || begin < end)) {
		put_trimmed(rows, begin == NULL ? text : begin + strlen("<think>"), end);
		put_trimmed(rows, end + strlen("</think>"), over);
	} else if (begin == text) {
		put_trimmed(rows, begin + strlen("<think>"), over);
		(void)wbx_put_text(rows, NULL, "");
	} else {
		(void)wbx_put_text(rows, NULL, "");
		(void)wbx_put_text(rows, NULL, text);
	}
}

static void put_row(struct wbx_map *rows, const json_t *row)
{
	const json_t *answer = either(row, "answer", "completion");
	const json_t *thought = json_object_get(row, "thought");

	(void)wbx_begin_list(rows, NULL); /* errors stay in the list */
	put_cell(rows, either(row, "question", "prompt"));
	if (thought == NULL && json_is_string(answer) &&
	    strlen(json_string_value(answer)) == json_string_length(answer)) {
		put_split(rows, json_string_value(answer));
	} else {
		if (thought == NULL)
			(void)wbx_put_text(rows, NULL, "");
		else
			put_cell(rows, thought);
		put_cell(rows, answer);
	}
	put_cell(rows, json_object_get(row, "score"));
	(void)wbx_end(rows);
}

static int read_stream(FILE *f, const char *path, struct wbx_map *rows)
{
	unsigned long long number = 0;
	int r = CODE_OK;

	while (r == CODE_OK && !feof(f)) {
		json_error_t error;
		json_t *row;
		int c = fgetc(f);

		if (c == EOF || strchr(" \t\r\n", c) != NULL)
			continue;
		(void)ungetc(c, f); /* one is always taken back */
		number++;
		row = json_loadf(f, JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL, &error);
		if (json_is_object(row)) {
			put_row(rows, row);
		} else {
			say("%s: row %llu is no JSON object with question, answer and score: %s",
			    path, number, row == NULL ? error.text : "it is something else");
			r = CODE_DATA;
		}
		json_decref(row);
	}
	return ferror(f) && r == CODE_OK ? say_errno(path, -EIO) : r;
}

static int read_rows(const char *path, struct wbx_map *rows)
{
	FILE *f;
	int r;

	if (strcmp(path, "-") == 0)
		return read_stream(stdin, path, rows);
	f = fopen(path, "re");
	if (f == NULL)
		return say_errno(path, -errno);
	r = read_stream(f, path, rows);
	(void)fclose(f); /* it was read only */
	return r;
}

/* --- the record --- */

static void on_message(void *arg, int level, const char *text)
{
	(void)arg;
	if (level < 2)
		say("%s", text);
}

struct benchmark {
	const char *name;
	bool has_score;
	double score;
	struct wbx_map *rows; /* NULL: none */
};

static int put_values(struct wbx_run *run, struct wbx_map *m, const struct benchmark *b)
{
	char key[KEY_MAX + 1];
	int r = 0;

	if (b->has_score) {
		(void)snprintf(key, sizeof(key), "benchmark/%s", b->name); /* fits */
		r = wbx_put_double(m, key, b->score);
	}
	if (r == 0 && b->rows != NULL) {
		(void)snprintf(key, sizeof(key), "bench/%s", b->name); /* the same */
		r = wbx_put_table(run, m, key, columns, COLUMNS, b->rows);
	}
	return r;
}

/* 0, -errno; -ETIMEDOUT: it is in the journal, the daemon has not said that it has it. */
static int hand_over(struct wbx *w, const struct target *t, const struct benchmark *b)
{
	const struct wbx_run_options options = {
		.project = t->project,
		.entity = t->entity[0] == '\0' ? NULL : t->entity,
		.id = t->id,
	};
	struct wbx_map *m = wbx_map_new();
	struct wbx_run *run;
	int r = m == NULL ? -ENOMEM : wbx_attach(w, &options, &run);

	if (r == 0)
		r = put_values(run, m, b);
	if (r == 0)
		r = wbx_log(run, m, WBX_NO_STEP, WBX_COMMIT_AUTO);
	wbx_map_free(m);
	if (r == 0)
		r = wbx_finish(run, 0);
	return r == 0 ? wbx_flush(w, FLUSH_MS) : r;
}

static int queue(struct call *c, const struct benchmark *b)
{
	const struct wbx_options options = {
		.socket = c->place.socket, .daemon = "", .on_message = on_message};
	struct wbx_stats stats = {.records = 0};
	struct target t;
	struct wbx *w;
	int r = target_find(c, &t);

	if (r != CODE_OK)
		return r;
	r = wbx_open(&w, &options);
	if (r < 0)
		return say_errno("benchmark", r);
	r = hand_over(w, &t, b);
	wbx_get_stats(w, &stats);
	(void)wbx_close(w, 0); /* what is not acknowledged stays in the journal */
	if (stats.rejected > 0)
		return CODE_DATA;
	if (r == -ETIMEDOUT && stats.durable) {
		say("no daemon answers at %s: the benchmark waits in its journal for the next one",
		    c->place.socket);
		return CODE_LATER;
	}
	return r < 0 ? say_errno("benchmark", r) : CODE_OK;
}

int benchmark_run(struct call *c)
{
	struct benchmark b = {.name = c->words[1], .has_score = call_has(c, OPT_SCORE)};
	char *end;
	int r = CODE_OK;

	if (!b.has_score && !call_has(c, OPT_ROWS))
		return say_usage(c->command, "say --score, --rows, or both");
	if (b.name[0] == '\0' || strlen(b.name) > NAME_MAX_CHARS)
		return say_usage(c->command, "a benchmark's name has 1 to 900 bytes");
	if (b.has_score) {
		b.score = strtod(c->values[OPT_SCORE], &end);
		if (end == c->values[OPT_SCORE] || *end != '\0')
			return say_usage(c->command, "--score is a number");
	}
	if (call_has(c, OPT_ROWS)) {
		b.rows = wbx_list_new();
		r = b.rows == NULL ? say_errno("benchmark", -ENOMEM)
				   : read_rows(c->values[OPT_ROWS], b.rows);
	}
	if (r == CODE_OK)
		r = queue(c, &b);
	wbx_map_free(b.rows);
	return r;
}
