/* What operators want to know of W&B itself: is it reached and the key good (ORDER_PROBE), does it have
 * a run as the store says (ORDER_VERIFY)? One request each, over a connection of its own, whatever the
 * sink waits for. Sender thread. */
#pragma once

#include "daemon/forward/orders.h"

enum {
	ASKS_MAX = 4 /* under way at a time; more are refused */
};

struct ask {
	struct order *order; /* NULL: free */
	struct reader *reader;
	struct run_info *run; /* of a verify; owned */
	/* of the sink, which may go before the answer comes */
	char url[1024];
	char key_source[256];
	char key_tail[8];
	char key_error[192]; /* why there is none */
	bool has_key;
};

/* Embeddable, all 0. */
struct asks {
	struct ask items[ASKS_MAX];
};

/* Both take the order and give it back. */
void ask_probe(const struct order_context *c, struct order *o);
void ask_verify(const struct order_context *c, struct order *o);
/* Gives back what is under way, when no answer will come any more. */
void asks_end(struct asks *a);
