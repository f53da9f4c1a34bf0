/* See notice.h. */
#include "daemon/flow/notice.h"

#include "proto/base/mem.h"
#include "proto/limits.h"

struct notice *notice_new(int64_t run)
{
	struct notice *n = mem_zalloc(sizeof(*n));

	if (n == NULL)
		return NULL;
	n->mail.type = MAIL_NOTICE;
	n->run = run;
	buf_init(&n->frame, RECORD_MAX);
	return n;
}

struct notice *notice_free(struct notice *n)
{
	if (n != NULL)
		buf_done(&n->frame);
	return mem_free(n);
}
