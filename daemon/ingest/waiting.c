/* See waiting.h. */
#include "daemon/ingest/waiting.h"

struct reading {
	waiting_on_part on_part;
	void *arg;
};

void waiting_add(struct sink_waiting *sum, const struct sink_waiting *part)
{
	sum->records += part->records;
	sum->bytes += part->bytes;
	if (sum->oldest_us == 0 || (part->oldest_us != 0 && part->oldest_us < sum->oldest_us))
		sum->oldest_us = part->oldest_us;
}

static int on_stream(void *arg, const struct stream_info *s)
{
	static const enum sink_id sinks[CLASS_COUNT] = {
		[CLASS_METRICS] = SINK_MODELS,
		[CLASS_BULK] = SINK_ARTIFACTS,
		[CLASS_TRACES] = SINK_WEAVE,
		[CLASS_REST] = SINK_MODELS,
	};
	const struct reading *r = arg;
	const struct sink_waiting records = {
		.records = s->waiting, .bytes = s->waiting_bytes, .oldest_us = s->oldest_us};
	struct sink_waiting blobs = {.records = s->waiting_blobs,
				     .bytes = s->waiting_blob_bytes,
				     .oldest_us = s->oldest_us};
	enum record_class class = stream_class(s->stream);

	if (class == CLASS_BULK &&
	    blobs.records > 0) { /* files: planned, or with their records yet */
		blobs.records = s->waiting > s->waiting_blobs ? s->waiting : s->waiting_blobs;
		blobs.bytes += s->waiting_bytes;
		r->on_part(r->arg, SINK_ARTIFACTS, s->uid, &blobs);
		return 0;
	}
	if (records.records > 0)
		r->on_part(r->arg, sinks[class], s->uid, &records);
	if (blobs.records > 0 && class == CLASS_METRICS)
		r->on_part(r->arg, SINK_ARTIFACTS, s->uid, &blobs);
	return 0;
}

int waiting_read(struct reader *reader, waiting_on_part on_part, void *arg)
{
	struct reading r = {.on_part = on_part, .arg = arg};

	return reader_waiting_streams(reader, 0, on_stream, &r);
}
