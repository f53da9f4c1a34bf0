/* Reads the hex vectors of proto/PROTOCOL.md, so that the document cannot be wrong. */
#include "proto/frame.h"
#include "proto/limits.h"
#include "proto/record.h"
#include "tests/lib/suite.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static void add_hex(struct buf *b, const char *line)
{
	for (; isxdigit((unsigned char)line[0]) && isxdigit((unsigned char)line[1]);
	     line += line[2] == ' ' ? 3 : 2) {
		char pair[3] = {line[0], line[1], '\0'};

		ck_assert_int_eq(buf_add_byte(b, (uint8_t)strtoul(pair, NULL, 16)), 0);
	}
}

static void describe_record(struct buf *out, struct span payload)
{
	struct record r;
	struct record_fault fault;
	int e = record_parse(payload, &r, &fault);

	if (e < 0 && record_parse_answer(payload, &r, &(struct record_fault){0}) == 0)
		e = 0;
	if (e < 0) {
		(void)buf_printf(out, "fault=%s seq=%llu", fault.code, (unsigned long long)r.seq);
		return;
	}
	(void)buf_printf(out, "%s seq=%llu", kind_info(r.kind)->name, (unsigned long long)r.seq);
	if (r.run.at != NULL)
		(void)buf_printf(out, " run=%.*s", (int)r.run.len, (const char *)r.run.at);
	if (r.time_us != 0)
		(void)buf_printf(out, " t=%llu", (unsigned long long)r.time_us);
	if (record_blob_count(&r) != 0)
		(void)buf_printf(out, " blobs=%u", record_blob_count(&r));
}

static void describe(struct buf *out, struct span bytes)
{
	struct span payload;
	size_t size;

	switch (frame_next(bytes, RECORD_MAX, &payload, &size)) {
	case FRAME_READY: describe_record(out, payload); return;
	case FRAME_NEED_MORE: (void)buf_add_text(out, "need more"); return;
	case FRAME_TOO_BIG: (void)buf_add_text(out, "too big"); return;
	case FRAME_BAD: (void)buf_add_text(out, "not a frame"); return;
	}
}

START_TEST(vectors_of_the_protocol_document_hold)
{
	FILE *file = fopen("proto/PROTOCOL.md", "r");
	auto_free char *line = NULL;
	auto_buf struct buf bytes;
	auto_buf struct buf got;
	size_t cap = 0;
	bool inside = false;
	int checked = 0;

	ck_assert_ptr_nonnull(file);
	buf_init(&bytes, RECORD_MAX);
	buf_init(&got, 4096);
	while (getline(&line, &cap, file) > 0) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "```vector", 9) == 0) {
			inside = true;
			buf_clear(&bytes);
		} else if (strcmp(line, "```") == 0) {
			inside = false;
		} else if (inside && strncmp(line, "=> ", 3) == 0) {
			buf_clear(&got);
			describe(&got, buf_span(&bytes));
			ck_assert_str_eq(buf_text(&got), line + 3);
			checked++;
		} else if (inside) {
			add_hex(&bytes, line);
		}
	}
	(void)fclose(file); /* read only */
	ck_assert_int_ge(checked, 18);
}
END_TEST

SUITE_MAIN("vectors", vectors_of_the_protocol_document_hold)
