/* See shared.h. */
#include "daemon/forward/models/shared.h"

#include <string.h>

static void take_text(char *ret, size_t size, struct span text)
{
	size_t len = text.at == NULL ? 0 : strnlen((const char *)text.at, text.len);

	if (len >= size)
		len = 0; /* it was checked when it came: a daemon that takes more wrote it */
	if (len > 0)
		memcpy(ret, text.at, len);
	ret[len] = '\0';
}

/* What its processes say adds up: one that may say how the run ended is enough. */
void shared_run(struct shared *s, struct mp body, bool can_begin)
{
	if (!mp_get_bool(body, "shared", false))
		return; /* of a run that is shared it becomes a process like the others */
	if (!s->is_on && !can_begin) {
		s->is_asked_late = !s->is_settled;
		return;
	}
	if (!s->is_on)
		s->derives_summary = mp_get_bool(body, "derived_summary", false);
	if (s->label[0] == '\0')
		take_text(s->label, sizeof(s->label), mp_get_str(body, "label"));
	s->is_on = true;
	s->is_primary |= mp_get_bool(body, "primary", true);
	s->updates_end |= mp_get_bool(body, "update_finish_state", true);
}

void shared_join(struct shared *s)
{
	s->is_on = true;
}

bool shared_wants_writer(const struct shared *s)
{
	return s->is_on && s->writer[0] == '\0';
}

int shared_make_writer(struct shared *s, uint64_t wall_ms)
{
	return rng_uuid7(s->writer, wall_ms);
}

void shared_to_msgpack(const struct shared *s, struct pack *p)
{
	pack_map(p, 8);
	pack_pair_bool(p, "is_on", s->is_on);
	pack_pair_bool(p, "is_primary", s->is_primary);
	pack_pair_bool(p, "updates_end", s->updates_end);
	pack_pair_bool(p, "derives_summary", s->derives_summary);
	pack_pair_bool(p, "is_asked_late", s->is_asked_late);
	pack_pair_bool(p, "is_settled", s->is_settled);
	pack_pair_text(p, "writer", s->writer);
	pack_pair_text(p, "label", s->label);
}

void shared_from_msgpack(struct shared *ret, struct mp map)
{
	ret->is_on = mp_get_bool(map, "is_on", false);
	ret->is_primary = mp_get_bool(map, "is_primary", false);
	ret->updates_end = mp_get_bool(map, "updates_end", false);
	ret->derives_summary = mp_get_bool(map, "derives_summary", false);
	ret->is_asked_late = mp_get_bool(map, "is_asked_late", false);
	ret->is_settled = mp_get_bool(map, "is_settled", false);
	take_text(ret->writer, sizeof(ret->writer), mp_get_str(map, "writer"));
	take_text(ret->label, sizeof(ret->label), mp_get_str(map, "label"));
}
