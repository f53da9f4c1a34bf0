/* The two rooms of a test of msgpack and JSON. */
#pragma once

#include "proto/base/json.h"
#include "tests/lib/mptext.h"

static struct buf room; /* of mp_text() */
static struct buf json_room;

static inline void rooms_done(void)
{
	buf_done(&room);
	buf_done(&json_room);
}

/* What is written next stands in json_room, alone. */
static inline void json_begin(struct json *j)
{
	buf_done(&json_room);
	buf_init(&json_room, 1 << 24);
	json_init(j, &json_room);
}
