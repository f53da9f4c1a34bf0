/* See order.h. */
#include "daemon/flow/order.h"

#include "proto/base/mem.h"

#include <string.h>

enum {
	PAIRS_MAX = 512 << 10
};

struct order *order_new(enum order_kind kind, struct mailbox *reply_to)
{
	struct order *o = mem_zalloc(sizeof(*o));

	if (o == NULL)
		return NULL;
	o->mail.type = MAIL_ORDER;
	o->kind = kind;
	o->reply_to = reply_to;
	o->sink = -1;
	buf_init(&o->pairs, PAIRS_MAX);
	buf_init(&o->traces, PAIRS_MAX);
	return o;
}

struct order *order_free(struct order *o)
{
	if (o == NULL)
		return NULL;
	buf_done(&o->pairs);
	buf_done(&o->traces);
	explicit_bzero(o->key, sizeof(o->key));
	return mem_free(o);
}
