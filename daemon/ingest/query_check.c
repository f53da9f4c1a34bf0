/* See query_parts.h: what doctor asks of the daemon's side of the disk and of the store. */
#include "daemon/base/fd.h"
#include "daemon/ingest/query_parts.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
	PROBE_BYTES = 4096,
	CHECK_FOR_MS = 20000, /* unless it is told otherwise */
	FS_NAME_MAX = 32,
};

/* --- the disk --- */

static void name_filesystem(long type, char ret[FS_NAME_MAX])
{
	static const struct {
		long type;
		const char *name;
	} known[] = {
		{0xef53, "ext4"},           {0x58465342, "xfs"},     {(long)0x9123683e, "btrfs"},
		{0x01021994, "tmpfs"},      {0x794c7630, "overlay"}, {0x2fc12fc1, "zfs"},
		{(long)0xf2f52010, "f2fs"},
	};

	(void)snprintf(ret, FS_NAME_MAX, "type 0x%lx", (unsigned long)type); /* fits */
	for (size_t i = 0; i < array_len(known); i++) {
		if (known[i].type == type)
			(void)snprintf(ret, FS_NAME_MAX, "%s", known[i].name);
	}
}

/* How long a small file takes to be on the disk. 0 and *ret_us; -errno. */
static int time_sync(const char *dir, int64_t *ret_us)
{
	static const uint8_t bytes[PROBE_BYTES];
	auto_fd int fd = open(dir, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	uint64_t begun_ns = clock_mono_ns();
	int r;

	if (fd < 0)
		return -errno;
	r = fd_pwrite_all(fd, bytes, sizeof(bytes), 0);
	if (r == 0 && fdatasync(fd) < 0)
		r = -errno;
	*ret_us = (int64_t)((clock_mono_ns() - begun_ns) / 1000);
	return r;
}

int query_disk(struct query *q, struct reader *reader)
{
	struct store_totals totals;
	struct statfs fs = {0};
	char name[FS_NAME_MAX];
	int64_t sync_us = 0;
	struct pack p;
	size_t at;
	int sync_result;
	int r = reader_totals(reader, &totals);

	if (r == 0 && statfs(q->facts.store_dir, &fs) < 0)
		r = -errno;
	if (r < 0)
		return r;
	sync_result = time_sync(q->facts.store_dir, &sync_us);
	name_filesystem((long)fs.f_type, name);
	at = frame_open(&q->out, &p, "item", q->id, 11);
	pack_pair_text(&p, "dir", q->facts.store_dir);
	pack_pair_text(&p, "filesystem", name);
	pack_pair_uint(&p, "free_bytes", (uint64_t)fs.f_bavail * (uint64_t)fs.f_frsize);
	pack_pair_uint(&p, "total_bytes", (uint64_t)fs.f_blocks * (uint64_t)fs.f_frsize);
	pack_pair_int(&p, "reserve_bytes", q->facts.reserve_bytes);
	pack_pair_int(&p, "limit_bytes", q->facts.limit_bytes);
	pack_pair_int(&p, "used_bytes",
		      totals.database_bytes + totals.wal_bytes + totals.blob_bytes);
	pack_pair_double(&p, "bytes_per_s",
			 q->facts.stats == NULL
				 ? 0
				 : rate_per_s(&q->facts.stats->record_bytes, clock_mono_ms()));
	pack_pair_int(&p, "sync_us", sync_us);
	pack_pair_text(&p, "sync_error", sync_result < 0 ? strerror(-sync_result) : "");
	pack_pair_bool(&p, "is_read_only", (fs.f_flags & ST_RDONLY) != 0);
	frame_close(&q->out, at);
	answer_done(&q->out, q->id, 1);
	return 0;
}

/* --- the store --- */

struct query_check {
	struct store_check check;
	uint64_t until_ms;
};

struct query_check *query_check_free(struct query_check *c)
{
	return mem_free(c);
}

static int end(struct query *q, struct reader *reader, bool is_whole)
{
	const struct store_check *c = &q->check->check;
	struct store_totals totals = {0};
	struct store_pages pages = {0};
	int64_t prunable_records = 0;
	int64_t prunable_bytes = 0;
	struct pack p;
	size_t at;
	int r = 0;

	if (c->damage[0] == '\0') { /* else they may fail too, and the damage is what counts */
		r = reader_totals(reader, &totals);
		if (r == 0)
			r = reader_pages(reader, &pages);
		if (r == 0)
			r = reader_prunable(reader, INT64_MAX, &prunable_records, &prunable_bytes);
	}
	if (r < 0)
		return r;
	at = frame_open(&q->out, &p, "item", q->id, 14);
	pack_pair_text(&p, "damage", c->damage);
	pack_pair_bool(&p, "is_whole", is_whole);
	pack_pair_uint(&p, "tables", c->tables);
	pack_pair_uint(&p, "tables_cut", c->tables_cut);
	pack_pair_int(&p, "records", c->records);
	pack_pair_int(&p, "bytes", c->bytes);
	pack_pair_int(&p, "wrong_sums", c->wrong_sums);
	pack_pair_int(&p, "wrong_cursors", c->wrong_cursors);
	pack_pair_int(&p, "database_bytes", totals.database_bytes);
	pack_pair_int(&p, "wal_bytes", totals.wal_bytes);
	pack_pair_int(&p, "free_bytes", pages.free_pages * pages.page_bytes);
	pack_pair_int(&p, "all_records", pages.records);
	pack_pair_int(&p, "prunable_records", prunable_records);
	pack_pair_int(&p, "prunable_bytes", prunable_bytes);
	frame_close(&q->out, at);
	answer_done(&q->out, q->id, 1);
	return 0;
}

int query_check(struct query *q, struct reader *reader)
{
	int r;

	if (q->check == NULL) {
		q->check = mem_zalloc(sizeof(*q->check));
		if (q->check == NULL)
			return -ENOMEM;
		q->check->until_ms = clock_mono_ms() +
				     mp_get_uint(mp_of(buf_span(&q->args)), "for_ms", CHECK_FOR_MS);
	}
	r = reader_check(reader, &q->check->check);
	if (r < 0)
		return r;
	q->more = r == 1 && clock_mono_ms() < q->check->until_ms;
	return q->more ? 0 : end(q, reader, r == 0);
}

/* --- what could be pruned --- */

int query_prunable(struct query *q, struct reader *reader)
{
	int64_t before_us = mp_get_int(mp_of(buf_span(&q->args)), "before_us", INT64_MAX);
	int64_t records = 0;
	int64_t bytes = 0;
	struct pack p;
	size_t at;
	int r = reader_prunable(reader, before_us, &records, &bytes);

	if (r < 0)
		return r;
	at = frame_open(&q->out, &p, "item", q->id, 2);
	pack_pair_int(&p, "records", records);
	pack_pair_int(&p, "bytes", bytes);
	frame_close(&q->out, at);
	answer_done(&q->out, q->id, records);
	return 0;
}
