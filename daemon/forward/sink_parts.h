/* The inside of a sink, for sink.c (the gate, the key, whose it is) and sink_send.c (requests, and
 * what answers say about the way) alone. */
#pragma once

#include "daemon/forward/sink.h"

/* --- sink.c --- */
void sink_publish(struct sink *s);
void sink_show(struct sink *s, enum sink_mood mood, uint64_t now_ms);
void sink_move(struct sink *s, enum gate to, uint64_t now_ms);
/* What failed last, for people. */
void sink_note_error(struct sink *s, const struct http_answer *a);
/* Who am I: not before wait_ms are over. */
void sink_ask_later(struct sink *s, uint64_t wait_ms, uint64_t now_ms);

/* --- sink_send.c --- */
bool sink_is_link_down(enum transport t);
/* A place is free, or bytes are: whoever waited for that is told. */
void sink_has_room(struct sink *s);
