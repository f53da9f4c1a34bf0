/* What operators ask of the sender, carried out: for sender.c alone. */
#pragma once

#include "daemon/flow/change.h"
#include "daemon/flow/order.h"
#include "daemon/forward/models/run.h"

struct asks;
struct traces;

struct order_context {
	struct reader *reader; /* NULL: the store cannot be read now */
	struct sinks *sinks;
	const char *keys_dir; /* of users */
	struct mailbox *store;
	struct mailbox *replies;
	struct models_run **runs; /* by number, rising */
	size_t run_count;
	struct traces *traces;
	struct asks *asks;
};

/* Takes the order and gives it back to its asker, now or when order_is_stored() is called with the
 * changes that it needs. */
void order_carry_out(const struct order_context *c, struct order *o);
void order_is_stored(struct changes *list);
/* W&B has said whose the key of this sink is, or cannot be asked now: those who wait hear it. */
void orders_on_asked(struct sink *sink);
/* The daemon stops. */
void order_refuse(struct order *o);
void orders_refuse_checks(struct sink *sink);
/* For ask.c: gives it back, with a text when that is not NULL. */
void order_give_back(struct order *o, int result, const char *text);
