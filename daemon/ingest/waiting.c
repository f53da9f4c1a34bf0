/* See waiting.h. */
#include "daemon/ingest/waiting.h"

static void add(struct sink_waiting *sum, int64_t records, int64_t bytes, int64_t oldest_us)
{
	if (records <= 0)
		return;
	sum->records += records;
	sum->bytes += bytes;
	if (sum->oldest_us == 0 || (oldest_us != 0 && oldest_us < sum->oldest_us))
		sum->oldest_us = oldest_us;
}

static int on_stream(void *arg, const struct stream_info *s)
{
	static const enum sink_id sinks[CLASS_COUNT] = {
		[CLASS_METRICS] = SINK_MODELS,
		[CLASS_BULK] = SINK_ARTIFACTS,
		[CLASS_TRACES] = SINK_WEAVE,
		[CLASS_REST] = SINK_MODELS,
	};
	struct waiting *w = arg;
	enum record_class class = stream_class(s->stream);

	add(&w->sinks[sinks[class]], s->waiting, s->waiting_bytes, s->oldest_us);
	if (class == CLASS_METRICS)
		add(&w->sinks[SINK_ARTIFACTS], s->waiting_blobs, s->waiting_blob_bytes,
		    s->oldest_us);
	return 0;
}

int waiting_read(struct waiting *ret, struct reader *reader)
{
	*ret = (struct waiting){0};
	return reader_waiting_streams(reader, 0, on_stream, ret);
}
