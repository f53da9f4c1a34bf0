#include "daemon/ingest/http_get.h"
#include "tests/lib/suite.h"

#include <stdio.h>
#include <string.h>

static enum http_get_result feed_all(struct http_get *g, const char *text, size_t piece)
{
	enum http_get_result result = HTTP_GET_MORE;
	size_t len = strlen(text);

	http_get_init(g);
	for (size_t at = 0; at < len && result == HTTP_GET_MORE; at += piece) {
		size_t left = len - at;

		result = http_get_feed(g, (struct span){.at = (const uint8_t *)text + at,
							.len = left < piece ? left : piece});
	}
	return result;
}

static void is(const char *request, enum http_get_result want, const char *path)
{
	static const size_t pieces[] = {1, 7, SIZE_MAX / 2};
	struct http_get g;

	for (size_t i = 0; i < array_len(pieces); i++) {
		ck_assert_int_eq(feed_all(&g, request, pieces[i]), want);
		if (want == HTTP_GET_READY)
			ck_assert_str_eq(g.path, path);
	}
}

START_TEST(a_get_gives_its_path)
{
	is("GET /metrics HTTP/1.1\r\n\r\n", HTTP_GET_READY, "/metrics");
	is("GET /metrics?name[]=x HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n", HTTP_GET_READY,
	   "/metrics");
	is("GET http://127.0.0.1:9464/readyz HTTP/1.0\r\n\r\n", HTTP_GET_READY, "/readyz");
	is("GET / HTTP/1.1\r\n\r\nand more", HTTP_GET_READY, "/");
	is("GET /healthz HTTP/1.1\r\nContent-Length: 5\r\n\r\n", HTTP_GET_READY, "/healthz");
}
END_TEST

START_TEST(what_is_not_whole_goes_on)
{
	is("", HTTP_GET_MORE, NULL);
	is("GET /metrics HTT", HTTP_GET_MORE, NULL);
	is("GET /metrics HTTP/1.1\r\nHost: h\r\n", HTTP_GET_MORE, NULL);
}
END_TEST

START_TEST(other_methods_and_junk_are_told_apart)
{
	is("POST /metrics HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", HTTP_GET_METHOD, NULL);
	is("HEAD /metrics HTTP/1.1\r\n\r\n", HTTP_GET_METHOD, NULL);
	is("G\1T / HTTP/1.1\r\n\r\n", HTTP_GET_BAD, NULL);
	is("GET metrics HTTP/1.1\r\n\r\n", HTTP_GET_BAD, NULL);
	is("GET http://h HTTP/1.1\r\n\r\n", HTTP_GET_BAD, NULL); /* no path */
	is("\x16\x03\x01\x02", HTTP_GET_BAD, NULL);              /* TLS */
}
END_TEST

START_TEST(bounds_are_kept)
{
	char request[2 * HTTP_HEAD_MAX];
	char path[HTTP_TARGET_MAX + 1];
	int n;

	n = snprintf(request, sizeof(request), "GET /%0*d HTTP/1.1\r\n\r\n", HTTP_TARGET_MAX - 1,
		     0);
	ck_assert_int_lt(n, (int)sizeof(request));
	(void)snprintf(path, sizeof(path), "/%0*d", HTTP_TARGET_MAX - 1, 0); /* fits */
	is(request, HTTP_GET_READY, path);
	n = snprintf(request, sizeof(request), "GET /%0*d HTTP/1.1\r\n\r\n", HTTP_TARGET_MAX, 0);
	ck_assert_int_lt(n, (int)sizeof(request));
	is(request, HTTP_GET_TOO_LARGE, NULL);
	n = snprintf(request, sizeof(request), "GET / HTTP/1.1\r\nx: %0*d\r\n\r\n", HTTP_HEAD_MAX,
		     0);
	ck_assert_int_lt(n, (int)sizeof(request));
	is(request, HTTP_GET_TOO_LARGE, NULL);
}
END_TEST

SUITE_MAIN("http_get", a_get_gives_its_path, what_is_not_whole_goes_on,
	   other_methods_and_junk_are_told_apart, bounds_are_kept)
