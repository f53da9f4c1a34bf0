#include "daemon/forward/retry.h"
#include "tests/lib/suite.h"

#include <stdio.h>
#include <string.h>

enum {
	MAX_MS = 60000,
	ANY = -1 /* each endpoint */
};

/* What the wait has to be. */
enum wait {
	NO_WAIT,
	BACKOFF,
	LONGEST,    /* MAX_MS, without jitter */
	AS_ASKED,   /* Retry-After */
	UNTIL_RESET /* RateLimit-Reset */
};

struct row {
	int endpoint;
	int status;
	unsigned parts;
	int64_t retry_after_ms;
	int64_t reset_ms;
	enum retry_action action;
	enum retry_blame blame;
	enum wait wait;
};

/* DESIGN.md section 5, "Retry", and what W&B's own client does with each status. */
static const struct row rows[] = {
	{ANY, 200, 5, -1, -1, RETRY_SENT, BLAME_NOTHING, NO_WAIT},
	{ANY, 201, 5, -1, -1, RETRY_SENT, BLAME_NOTHING, NO_WAIT},
	{ANY, 202, 1, -1, -1, RETRY_SENT, BLAME_NOTHING, NO_WAIT},
	{ANY, 204, 0, -1, -1, RETRY_SENT, BLAME_NOTHING, NO_WAIT},
	{ANY, 299, 1, 5000, 5000, RETRY_SENT, BLAME_NOTHING, NO_WAIT},
	/* redirects are not followed: a wrong base_url */
	{ANY, 301, 1, -1, -1, RETRY_AGAIN, BLAME_SERVER, LONGEST},
	{ANY, 302, 2, -1, -1, RETRY_AGAIN, BLAME_SERVER, LONGEST},
	{ANY, 307, 2, -1, -1, RETRY_AGAIN, BLAME_SERVER, LONGEST},
	{ANY, 308, 1, 7000, -1, RETRY_AGAIN, BLAME_SERVER, AS_ASKED},
	/* refused: bisect, and set the last part aside */
	{ANY, 400, 2, -1, -1, RETRY_SPLIT, BLAME_REQUEST, NO_WAIT},
	{ANY, 400, 1, -1, -1, RETRY_REFUSED, BLAME_REQUEST, NO_WAIT},
	{ANY, 400, 0, -1, -1, RETRY_REFUSED, BLAME_REQUEST, NO_WAIT},
	{ANY, 422, 1000, -1, -1, RETRY_SPLIT, BLAME_REQUEST, NO_WAIT},
	{ANY, 422, 1, 9000, -1, RETRY_REFUSED, BLAME_REQUEST, NO_WAIT},
	{ANY, 413, 3, -1, -1, RETRY_SPLIT, BLAME_REQUEST, NO_WAIT},
	{ANY, 413, 1, -1, -1, RETRY_REFUSED, BLAME_REQUEST, NO_WAIT},
	/* the key: nothing becomes a dead letter because of it */
	{ANY, 401, 1, -1, -1, RETRY_KEY, BLAME_KEY, NO_WAIT},
	{ANY, 401, 9, -1, -1, RETRY_KEY, BLAME_KEY, NO_WAIT},
	{ANY, 403, 1, 1000, -1, RETRY_KEY, BLAME_KEY, NO_WAIT},
	/* the run alone waits for a person */
	{ANY, 402, 1, -1, -1, RETRY_PARK_RUN, BLAME_REQUEST, NO_WAIT},
	{ANY, 404, 1, -1, -1, RETRY_PARK_RUN, BLAME_REQUEST, NO_WAIT},
	{ANY, 404, 50, -1, -1, RETRY_PARK_RUN, BLAME_REQUEST, NO_WAIT},
	{ANY, 410, 50, -1, -1, RETRY_PARK_RUN, BLAME_REQUEST, NO_WAIT},
	{ENDPOINT_STREAM, 409, 2, -1, -1, RETRY_PARK_RUN, BLAME_REQUEST, NO_WAIT},
	{ENDPOINT_UPSERT, 409, 2, -1, -1, RETRY_AGAIN, BLAME_REQUEST, BACKOFF},
	{ENDPOINT_GRAPHQL, 409, 1, 2500, -1, RETRY_AGAIN, BLAME_REQUEST, AS_ASKED},
	/* too fast: Retry-After, else RateLimit-Reset, else backoff */
	{ANY, 429, 1, -1, -1, RETRY_AGAIN, BLAME_LIMIT, BACKOFF},
	{ANY, 429, 9, 3000, -1, RETRY_AGAIN, BLAME_LIMIT, AS_ASKED},
	{ANY, 429, 9, 3000, 20000, RETRY_AGAIN, BLAME_LIMIT, AS_ASKED},
	{ANY, 429, 9, 0, 20000, RETRY_AGAIN, BLAME_LIMIT, AS_ASKED},
	{ANY, 429, 9, -1, 20000, RETRY_AGAIN, BLAME_LIMIT, UNTIL_RESET},
	{ANY, 429, 9, -1, 0, RETRY_AGAIN, BLAME_LIMIT, UNTIL_RESET},
	{ANY, 429, 9, 86400000, -1, RETRY_AGAIN, BLAME_LIMIT, AS_ASKED}, /* a day: not capped */
	/* other 4xx are tried again */
	{ANY, 405, 1, -1, -1, RETRY_AGAIN, BLAME_SERVER, BACKOFF},
	{ANY, 408, 2, -1, -1, RETRY_AGAIN, BLAME_SERVER, BACKOFF},
	{ANY, 418, 2, -1, -1, RETRY_AGAIN, BLAME_SERVER, BACKOFF},
	{ANY, 425, 2, 1500, -1, RETRY_AGAIN, BLAME_SERVER, AS_ASKED},
	{ANY, 499, 2, -1, -1, RETRY_AGAIN, BLAME_SERVER, BACKOFF},
	/* the server is ill; RateLimit-Reset counts beside 429 only */
	{ANY, 500, 1, -1, -1, RETRY_AGAIN, BLAME_SERVER, BACKOFF},
	{ANY, 500, 4, -1, 40000, RETRY_AGAIN, BLAME_SERVER, BACKOFF},
	{ANY, 501, 1, -1, -1, RETRY_AGAIN, BLAME_SERVER, LONGEST},
	{ANY, 501, 1, 1000, -1, RETRY_AGAIN, BLAME_SERVER, AS_ASKED},
	{ANY, 502, 1, -1, -1, RETRY_AGAIN, BLAME_SERVER, BACKOFF},
	{ANY, 503, 4, -1, -1, RETRY_AGAIN, BLAME_SERVER, BACKOFF},
	{ANY, 503, 4, 120000, -1, RETRY_AGAIN, BLAME_SERVER, AS_ASKED},
	{ANY, 504, 1, -1, -1, RETRY_AGAIN, BLAME_SERVER, BACKOFF},
	{ANY, 529, 1, -1, -1, RETRY_AGAIN, BLAME_SERVER, BACKOFF},
	{ANY, 599, 1, -1, -1, RETRY_AGAIN, BLAME_SERVER, BACKOFF},
	/* a storage: another URL, or refused for good */
	{ENDPOINT_STORAGE, 200, 1, -1, -1, RETRY_SENT, BLAME_NOTHING, NO_WAIT},
	{ENDPOINT_STORAGE, 402, 1, -1, -1, RETRY_REFUSED, BLAME_REQUEST, NO_WAIT},
	{ENDPOINT_STORAGE, 405, 1, -1, -1, RETRY_REFUSED, BLAME_SERVER, NO_WAIT},
	{ENDPOINT_STORAGE, 409, 1, -1, -1, RETRY_AGAIN, BLAME_REQUEST, BACKOFF},
	{ENDPOINT_STORAGE, 413, 1, -1, -1, RETRY_REFUSED, BLAME_REQUEST, NO_WAIT},
	{ENDPOINT_STORAGE, 422, 1, -1, -1, RETRY_REFUSED, BLAME_REQUEST, NO_WAIT},
	{ENDPOINT_STORAGE, 429, 1, 3000, -1, RETRY_AGAIN, BLAME_LIMIT, AS_ASKED},
	{ENDPOINT_STORAGE, 500, 1, -1, -1, RETRY_AGAIN, BLAME_SERVER, BACKOFF},
	{ENDPOINT_STORAGE, 503, 1, 2000, -1, RETRY_AGAIN, BLAME_SERVER, AS_ASKED},
	/* no status of HTTP */
	{ANY, 100, 1, -1, -1, RETRY_AGAIN, BLAME_SERVER, BACKOFF},
	{ANY, 999, 1, -1, -1, RETRY_AGAIN, BLAME_SERVER, BACKOFF},
};

static bool wait_is(const struct row *row, unsigned attempt, uint64_t wait_ms)
{
	uint64_t base = 1000;

	for (unsigned i = 1; i < attempt && base < MAX_MS; i++)
		base *= 2;
	if (base > MAX_MS)
		base = MAX_MS;
	switch (row->wait) {
	case NO_WAIT: return wait_ms == 0;
	case BACKOFF: return wait_ms >= base * 3 / 4 && wait_ms <= base * 5 / 4;
	case LONGEST: return wait_ms == MAX_MS;
	case AS_ASKED: return wait_ms == (uint64_t)row->retry_after_ms;
	case UNTIL_RESET: return wait_ms == (uint64_t)row->reset_ms;
	}
	return false;
}

static void check_row(const struct row *row, enum endpoint endpoint, unsigned attempt)
{
	struct rng rng = {.state = (uint64_t)row->status * 31 + attempt};
	const struct retry_facts facts = {
		.endpoint = endpoint,
		.transport = TRANSPORT_ANSWERED,
		.status = row->status,
		.attempt = attempt,
		.parts = row->parts,
		.retry_after_ms = row->retry_after_ms,
		.reset_ms = row->reset_ms,
		.backoff_max_ms = MAX_MS,
	};
	struct retry_verdict v = retry_decide(&facts, &rng);

	ck_assert_msg(v.action == row->action && v.blame == row->blame &&
			      wait_is(row, attempt, v.wait_ms),
		      "endpoint %d, status %d, parts %u, attempt %u: action %d, blame %d, %llu ms",
		      (int)endpoint, row->status, row->parts, attempt, (int)v.action, (int)v.blame,
		      (unsigned long long)v.wait_ms);
}

START_TEST(every_status_has_its_verdict_at_every_endpoint)
{
	static const unsigned attempts[] = {1, 2, 3, 7, 100, UINT32_MAX};

	for (size_t i = 0; i < array_len(rows); i++) {
		for (size_t n = 0; n < array_len(attempts); n++) {
			for (int e = ENDPOINT_GRAPHQL; e <= ENDPOINT_STREAM; e++) {
				if (rows[i].endpoint == ANY || rows[i].endpoint == e)
					check_row(&rows[i], (enum endpoint)e, attempts[n]);
			}
		}
	}
}
END_TEST

START_TEST(an_url_that_is_refused_is_asked_for_anew_as_often_as_that_may_help)
{
	static const struct {
		int status;
		unsigned most;
	} cases[] = {
		{401, RETRY_URLS_MAX},     {403, RETRY_URLS_MAX},     {400, RETRY_BAD_URLS_MAX},
		{404, RETRY_BAD_URLS_MAX}, {410, RETRY_BAD_URLS_MAX},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		for (unsigned attempt = 1; attempt <= cases[i].most; attempt++) {
			struct rng rng = {.state = i};
			const struct retry_facts facts = {
				.endpoint = ENDPOINT_STORAGE,
				.status = cases[i].status,
				.attempt = attempt,
				.parts = 1,
				.retry_after_ms = -1,
				.reset_ms = -1,
				.backoff_max_ms = MAX_MS,
			};
			struct retry_verdict v = retry_decide(&facts, &rng);

			ck_assert_int_eq(
				(int)v.action,
				(int)(attempt < cases[i].most ? RETRY_URL : RETRY_REFUSED));
			ck_assert_int_eq(v.wait_ms == 0, attempt == 1 || attempt == cases[i].most);
		}
	}
}
END_TEST

START_TEST(errors_in_a_graphql_answer_refuse_what_was_asked)
{
	struct rng rng = {.state = 1};
	struct retry_facts facts = {
		.endpoint = ENDPOINT_UPSERT,
		.status = 200,
		.has_errors = true,
		.attempt = 1,
		.parts = 2,
		.retry_after_ms = -1,
		.reset_ms = -1,
		.backoff_max_ms = MAX_MS,
	};
	struct retry_verdict v = retry_decide(&facts, &rng);

	ck_assert_int_eq((int)v.action, (int)RETRY_SPLIT);
	ck_assert_int_eq((int)v.blame, (int)BLAME_REQUEST);
	facts.parts = 1;
	v = retry_decide(&facts, &rng);
	ck_assert_int_eq((int)v.action, (int)RETRY_REFUSED);
	facts.status = 500; /* the status counts before the body */
	v = retry_decide(&facts, &rng);
	ck_assert_int_eq((int)v.action, (int)RETRY_AGAIN);
	ck_assert_int_eq((int)v.blame, (int)BLAME_SERVER);
}
END_TEST

START_TEST(a_transfer_that_failed_is_tried_again_and_the_link_is_blamed)
{
	static const enum transport failures[] = {
		TRANSPORT_NO_NAME, TRANSPORT_NO_CONNECTION, TRANSPORT_BAD_TLS,
		TRANSPORT_STALLED, TRANSPORT_BROKEN,        TRANSPORT_LOCAL,
	};
	/* half an answer has a status, and perhaps headers: they do not count */
	static const int statuses[] = {0, 200, 400, 401, 404, 429};

	for (size_t i = 0; i < array_len(failures); i++) {
		for (size_t n = 0; n < array_len(statuses); n++) {
			struct rng rng = {.state = i};
			const struct retry_facts facts = {
				.endpoint = ENDPOINT_STREAM,
				.transport = failures[i],
				.status = statuses[n],
				.attempt = 3,
				.parts = 4,
				.retry_after_ms = 1,
				.reset_ms = 1,
				.backoff_max_ms = MAX_MS,
			};
			struct retry_verdict v = retry_decide(&facts, &rng);

			ck_assert_int_eq((int)v.action, (int)RETRY_AGAIN);
			ck_assert_int_eq((int)v.blame, (int)BLAME_LINK);
			ck_assert_uint_ge(v.wait_ms, 3000);
			ck_assert_uint_le(v.wait_ms, 5000);
		}
	}
}
END_TEST

START_TEST(backoff_doubles_up_to_its_cap_with_a_quarter_of_jitter)
{
	static const struct {
		unsigned attempt;
		uint64_t max_ms;
		uint64_t base_ms;
	} cases[] = {
		{0, 60000, 1000},   {1, 60000, 1000},   {2, 60000, 2000},
		{3, 60000, 4000},   {4, 60000, 8000},   {5, 60000, 16000},
		{6, 60000, 32000},  {7, 60000, 60000},  {8, 60000, 60000},
		{64, 60000, 60000}, {65, 60000, 60000}, {UINT32_MAX, 60000, 60000},
		{1, 500, 500},      {9, 500, 500},      {1, 0, 0},
		{3, 5000, 4000},    {4, 5000, 5000},    {11, 3600000, 1024000},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		struct rng rng = {.state = 99};
		uint64_t least = UINT64_MAX;
		uint64_t most = 0;
		uint64_t base = cases[i].base_ms;

		for (int n = 0; n < 2000; n++) {
			uint64_t wait_ms =
				retry_backoff_ms(cases[i].attempt, cases[i].max_ms, &rng);

			least = wait_ms < least ? wait_ms : least;
			most = wait_ms > most ? wait_ms : most;
		}
		ck_assert_msg(least >= base * 3 / 4 && most <= base * 5 / 4, "case %zu", i);
		/* and the whole range is used */
		ck_assert_msg(least <= base * 80 / 100 && most >= base * 120 / 100, "case %zu", i);
	}
}
END_TEST

START_TEST(backoff_without_a_server_s_word_never_passes_the_cap_by_more_than_its_jitter)
{
	struct rng rng = {.state = 5};
	struct retry_facts facts = {
		.endpoint = ENDPOINT_STREAM,
		.status = 503,
		.parts = 1,
		.retry_after_ms = -1,
		.reset_ms = -1,
		.backoff_max_ms = 10000,
	};
	uint64_t total = 0;

	for (facts.attempt = 1; facts.attempt <= 1000; facts.attempt++) {
		struct retry_verdict v = retry_decide(&facts, &rng);

		ck_assert_uint_le(v.wait_ms, 12500);
		total += v.wait_ms;
	}
	ck_assert_uint_gt(total, 9000000); /* on average near the cap */
	ck_assert_uint_lt(total, 11000000);
}
END_TEST

START_TEST(every_failed_transfer_has_its_own_sentence)
{
	for (int a = TRANSPORT_ANSWERED; a <= TRANSPORT_LOCAL; a++) {
		ck_assert_uint_gt(strlen(transport_text((enum transport)a)), 0);
		for (int b = TRANSPORT_ANSWERED; b < a; b++)
			ck_assert_str_ne(transport_text((enum transport)a),
					 transport_text((enum transport)b));
	}
}
END_TEST

SUITE_MAIN("retry", every_status_has_its_verdict_at_every_endpoint,
	   an_url_that_is_refused_is_asked_for_anew_as_often_as_that_may_help,
	   errors_in_a_graphql_answer_refuse_what_was_asked,
	   a_transfer_that_failed_is_tried_again_and_the_link_is_blamed,
	   backoff_doubles_up_to_its_cap_with_a_quarter_of_jitter,
	   backoff_without_a_server_s_word_never_passes_the_cap_by_more_than_its_jitter,
	   every_failed_transfer_has_its_own_sentence)
