/* See wbx.h: what belongs to traced calls and is none: what somebody thinks of one, objects that are
 * published, prices of models. */
#include "client/lib/emit.h"
#include "client/lib/map.h"

#include <errno.h>
#include <string.h>

enum {
	DATA_INLINE_MAX = 160 << 10
};

/* A record's map, which stands apart when it is large. */
struct data {
	const char *key;
	const struct wbx_map *map;
	struct wbx_map *apart;
	struct emit_blobs blobs;
};

/* 0: data_end() is to be called. */
static int data_begin(struct data *d, struct wbx *w)
{
	uint8_t head[MAP_HEAD_BYTES];
	const struct wbx_map *maps[2] = {d->map, NULL};
	struct buf bytes;
	int r = d->map->levels[0].is_list ? -EINVAL : map_check(d->map);

	if (r == 0 && d->map->bytes.len > DATA_INLINE_MAX) {
		d->apart = wbx_list_new();
		if (d->apart == NULL)
			return -ENOMEM;
		buf_init(&bytes, (size_t)BLOB_MAX);
		map_head(d->map, head);
		r = buf_add(&bytes, head, sizeof(head));
		if (r == 0)
			r = buf_add(&bytes, d->map->bytes.data, d->map->bytes.len);
		if (r == 0)
			r = map_put_apart(d->apart, d->apart, "msgpack", &bytes, (struct span){0});
		buf_done(&bytes);
	}
	maps[1] = d->apart;
	if (r == 0)
		r = emit_blobs_begin_all(&d->blobs, w, maps, 2);
	if (r < 0)
		wbx_map_free(d->apart);
	return r;
}

static size_t data_pairs(const struct data *d)
{
	return d->blobs.count > 0 ? 2 : 1;
}

static void data_pack(const struct data *d, struct pack *p)
{
	uint8_t head[MAP_HEAD_BYTES];

	if (d->blobs.count > 0)
		emit_blobs_pack(&d->blobs, p);
	pack_text(p, d->key);
	if (d->apart != NULL) {
		pack_raw(p, buf_span(&d->apart->bytes));
		return;
	}
	map_head(d->map, head);
	pack_raw(p, (struct span){.at = head, .len = sizeof(head)});
	pack_raw(p, buf_span(&d->map->bytes));
}

static void data_end(struct data *d, bool kept)
{
	emit_blobs_end(&d->blobs, kept);
	wbx_map_free(d->apart);
}

static bool fits(const char *text)
{
	return text == NULL || strlen(text) <= NAME_MAX_BYTES;
}

int wbx_feedback(struct wbx_run *run, const struct wbx_feedback *feedback, char ret_id[WBX_ID_MAX])
{
	static const struct wbx_map nothing = {.depth = 0};
	struct data d = {.key = "payload"};
	struct emit e;
	int r;

	if (run == NULL || feedback == NULL || feedback->call_id == NULL || feedback->type == NULL)
		return -EINVAL;
	if (!fits(feedback->call_id) || !fits(feedback->type) || !fits(feedback->op) ||
	    !fits(feedback->scorer_call_id))
		return -EMSGSIZE;
	r = wbx_new_call_id(ret_id);
	d.map = feedback->payload != NULL ? feedback->payload : &nothing;
	if (r == 0)
		r = data_begin(&d, run->w);
	if (r < 0)
		return r;
	r = emit_begin(&e, run->w, run, "feedback",
		       3 + data_pairs(&d) + (size_t)(feedback->op != NULL) +
			       (size_t)(feedback->scorer_call_id != NULL));
	if (r < 0) {
		data_end(&d, false);
		return r;
	}
	e.blobs = &d.blobs;
	pack_pair_text(&e.p, "id", ret_id);
	pack_pair_text(&e.p, "call_id", feedback->call_id);
	pack_pair_text(&e.p, "type", feedback->type);
	if (feedback->op != NULL)
		pack_pair_text(&e.p, "op", feedback->op);
	if (feedback->scorer_call_id != NULL)
		pack_pair_text(&e.p, "scorer_call_id", feedback->scorer_call_id);
	data_pack(&d, &e.p);
	r = emit_end(&e, (struct span){0}, NULL);
	data_end(&d, true); /* emit_end() has seen to the blobs */
	return r;
}

int wbx_publish(struct wbx_run *run, const char *name, const char *type, const struct wbx_map *data)
{
	struct data d = {.key = "data", .map = data};
	struct emit e;
	int r;

	if (run == NULL || name == NULL || name[0] == '\0' || type == NULL || data == NULL)
		return -EINVAL;
	if (!fits(name) || !fits(type))
		return -EMSGSIZE;
	r = data_begin(&d, run->w);
	if (r < 0)
		return r;
	r = emit_begin(&e, run->w, run, "object", 2 + data_pairs(&d));
	if (r < 0) {
		data_end(&d, false);
		return r;
	}
	e.blobs = &d.blobs;
	pack_pair_text(&e.p, "name", name);
	pack_pair_text(&e.p, "type", type);
	data_pack(&d, &e.p);
	r = emit_end(&e, (struct span){0}, NULL);
	data_end(&d, true); /* emit_end() has seen to the blobs */
	return r;
}

int wbx_cost(struct wbx_run *run, const char *model, const char *provider, double prompt_token,
	     double completion_token)
{
	struct emit e;
	int r;

	if (run == NULL || model == NULL || model[0] == '\0')
		return -EINVAL;
	if (!fits(model) || !fits(provider))
		return -EMSGSIZE;
	r = emit_begin(&e, run->w, run, "cost", 3 + (size_t)(provider != NULL));
	if (r < 0)
		return r;
	pack_pair_text(&e.p, "model", model);
	if (provider != NULL)
		pack_pair_text(&e.p, "provider", provider);
	pack_pair_double(&e.p, "prompt_token_cost", prompt_token);
	pack_pair_double(&e.p, "completion_token_cost", completion_token);
	return emit_end(&e, (struct span){0}, NULL);
}
