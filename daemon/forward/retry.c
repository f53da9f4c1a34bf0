/* See retry.h. One table of statuses; what is in no row is decided by its hundred. */
#include "daemon/forward/retry.h"

#include <assert.h>

enum rule {
	RULE_AGAIN,  /* wait: what the answer says, else backoff */
	RULE_SLOWLY, /* wait the longest backoff: a person has to act, but perhaps not here */
	RULE_SPLIT,  /* one of the parts, or if there is one only: that one */
	RULE_PARK,   /* the run */
	RULE_KEY,
	RULE_URL,    /* of the storage: a new one, as often as that may help; then it is refused */
	RULE_REFUSE, /* at once */
};

static const struct {
	int status;
	enum rule graphql; /* queries and upserts */
	enum rule stream;
	enum rule storage;
	enum retry_blame blame;
} rules[] = {
	{400, RULE_SPLIT, RULE_SPLIT, RULE_URL, BLAME_REQUEST},
	{401, RULE_KEY, RULE_KEY, RULE_URL, BLAME_KEY},
	{402, RULE_PARK, RULE_PARK, RULE_REFUSE, BLAME_REQUEST}, /* the account's plan */
	{403, RULE_KEY, RULE_KEY, RULE_URL, BLAME_KEY},
	{404, RULE_PARK, RULE_PARK, RULE_URL, BLAME_REQUEST}, /* deleted, or a name that is none */
	{409, RULE_AGAIN, RULE_PARK, RULE_AGAIN,
	 BLAME_REQUEST}, /* two upserts raced; a stream: another's run */
	{410, RULE_PARK, RULE_PARK, RULE_URL, BLAME_REQUEST},
	{413, RULE_SPLIT, RULE_SPLIT, RULE_REFUSE, BLAME_REQUEST},
	{422, RULE_SPLIT, RULE_SPLIT, RULE_REFUSE, BLAME_REQUEST},
	{405, RULE_AGAIN, RULE_AGAIN, RULE_REFUSE, BLAME_SERVER},
	{411, RULE_AGAIN, RULE_AGAIN, RULE_REFUSE, BLAME_SERVER},
	{412, RULE_AGAIN, RULE_AGAIN, RULE_REFUSE, BLAME_SERVER},
	{429, RULE_AGAIN, RULE_AGAIN, RULE_AGAIN, BLAME_LIMIT},
	{501, RULE_SLOWLY, RULE_SLOWLY, RULE_SLOWLY, BLAME_SERVER},
};

uint64_t retry_backoff_ms(unsigned attempt, uint64_t max_ms, struct rng *jitter)
{
	uint64_t wait_ms = 1000;

	while (attempt-- > 1 && wait_ms < max_ms)
		wait_ms *= 2;
	if (wait_ms > max_ms)
		wait_ms = max_ms;
	return wait_ms * 3 / 4 + rng_below(jitter, wait_ms / 2 + 1);
}

const char *transport_text(enum transport t)
{
	switch (t) {
	case TRANSPORT_ANSWERED: return "answered";
	case TRANSPORT_NO_NAME: return "the host's name cannot be resolved";
	case TRANSPORT_NO_CONNECTION: return "no connection";
	case TRANSPORT_BAD_TLS: return "the certificate is not trusted";
	case TRANSPORT_STALLED: return "nothing moved for too long";
	case TRANSPORT_BROKEN: return "the connection broke";
	case TRANSPORT_LOCAL: return "the request could not be made";
	}
	return "";
}

static struct retry_verdict of_transport(const struct retry_facts *f, struct rng *jitter)
{
	struct retry_verdict v = {.action = RETRY_AGAIN, .blame = BLAME_LINK};

	v.wait_ms = retry_backoff_ms(f->attempt, f->backoff_max_ms, jitter);
	return v;
}

/* What the server asks for is never cut short; without a word of it, backoff. */
static uint64_t asked_wait(const struct retry_facts *f, struct rng *jitter)
{
	if (f->retry_after_ms >= 0)
		return (uint64_t)f->retry_after_ms;
	if (f->status == 429 && f->reset_ms >= 0)
		return (uint64_t)f->reset_ms;
	return retry_backoff_ms(f->attempt, f->backoff_max_ms, jitter);
}

static enum rule rule_of(const struct retry_facts *f, enum retry_blame *ret_blame)
{
	for (unsigned i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		if (rules[i].status != f->status)
			continue;
		*ret_blame = rules[i].blame;
		switch (f->endpoint) {
		case ENDPOINT_GRAPHQL:
		case ENDPOINT_UPSERT:
		case ENDPOINT_WEAVE: return rules[i].graphql;
		case ENDPOINT_STREAM: return rules[i].stream;
		case ENDPOINT_STORAGE: return rules[i].storage;
		}
	}
	*ret_blame = BLAME_SERVER;
	/* a redirect is a wrong base_url; it may be put right without us knowing */
	return f->status >= 300 && f->status < 400 ? RULE_SLOWLY : RULE_AGAIN;
}

static struct retry_verdict split(const struct retry_facts *f)
{
	return (struct retry_verdict){
		.action = f->parts > 1 ? RETRY_SPLIT : RETRY_REFUSED,
		.blame = BLAME_REQUEST,
	};
}

/* The first new URL at once, the others as far apart as tries are. */
static struct retry_verdict new_url(const struct retry_facts *f, struct rng *jitter)
{
	unsigned most = f->status == 401 || f->status == 403 ? RETRY_URLS_MAX : RETRY_BAD_URLS_MAX;
	struct retry_verdict v = {.action = RETRY_URL, .blame = BLAME_REQUEST};

	if (f->attempt >= most)
		v.action = RETRY_REFUSED;
	else if (f->attempt > 1)
		v.wait_ms = asked_wait(f, jitter);
	return v;
}

struct retry_verdict retry_decide(const struct retry_facts *f, struct rng *jitter)
{
	struct retry_verdict v = {.blame = BLAME_NOTHING};
	enum rule rule;

	assert(f->attempt >= 1);
	if (f->transport != TRANSPORT_ANSWERED)
		return of_transport(f, jitter);
	if (f->status >= 200 && f->status < 300) {
		if (f->has_errors)
			return split(f);
		v.action = RETRY_SENT;
		return v;
	}
	rule = rule_of(f, &v.blame);
	switch (rule) {
	case RULE_SPLIT: return split(f);
	case RULE_AGAIN:
		v.action = RETRY_AGAIN;
		v.wait_ms = asked_wait(f, jitter);
		return v;
	case RULE_SLOWLY:
		v.action = RETRY_AGAIN;
		v.wait_ms =
			f->retry_after_ms >= 0 ? (uint64_t)f->retry_after_ms : f->backoff_max_ms;
		return v;
	case RULE_PARK: v.action = RETRY_PARK_RUN; return v;
	case RULE_KEY: v.action = RETRY_KEY; return v;
	case RULE_URL: return new_url(f, jitter);
	case RULE_REFUSE: v.action = RETRY_REFUSED; return v;
	}
	return v;
}
