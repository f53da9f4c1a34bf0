/* What W&B, or whoever stands there, answers. */
#include "daemon/forward/models/wire.h"

#include <assert.h>
#include <errno.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_text(const char *text, size_t size)
{
	return memchr(text, '\0', size) != NULL;
}

static void check_run(int r, const struct wire_run *run)
{
	assert(r == 0 || r == -EBADMSG || r == -EREMOTEIO || r == -E2BIG);
	if (r != 0)
		return;
	assert(is_text(run->id, sizeof(run->id)) && is_text(run->entity, sizeof(run->entity)));
	assert(is_text(run->project, sizeof(run->project)) &&
	       is_text(run->name, sizeof(run->name)));
	assert(run->lines >= 0 && run->next_step >= 0 && run->event_lines >= 0 &&
	       run->console_lines >= 0);
}

static void on_row(void *arg, struct span line)
{
	struct wire_row row;

	(void)arg;
	if (wire_row_of(line, &row))
		assert(row.step >= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = {.at = data, .len = size};
	char reason[WIRE_REASON_MAX];
	struct wire_user user;
	struct wire_run run;
	struct wire_about about;
	bool is_on;
	int r = wire_read_viewer(in, &user);

	assert(r == 0 || r == -EBADMSG || r == -EREMOTEIO);
	assert(r != 0 || is_text(user.entity, sizeof(user.entity)));
	if (wire_about_init(&about) < 0)
		return 0;
	check_run(wire_read_run_status(in, &run, &about), &run);
	wire_about_done(&about);
	check_run(wire_read_upsert(in, &run), &run);
	(void)wire_read_rows(in, on_row, NULL); /* 0 or what the others say */
	r = wire_read_feature(in, "STRUCTURED_CONSOLE_LOGS", &is_on);
	assert(r == 0 || r == -EBADMSG || r == -EREMOTEIO);
	r = wire_read_alert(in);
	assert(r == 0 || r == -EBADMSG || r == -EREMOTEIO);
	(void)wire_read_stopped(in); /* yes or no */
	wire_reason(in, reason);
	assert(is_text(reason, sizeof(reason)));
	return 0;
}
