/* See http_get.h. */
#include "daemon/ingest/http_get.h"

static int on_url(http_parser *parser, const char *at, size_t len)
{
	struct http_get *g = parser->data;

	if (len > sizeof(g->target) - g->target_len) {
		g->is_too_large = true;
		return 1;
	}
	memcpy(g->target + g->target_len, at, len);
	g->target_len += len;
	return 0;
}

static int on_headers_complete(http_parser *parser)
{
	struct http_get *g = parser->data;

	g->is_whole = true;
	http_parser_pause(parser, 1);
	return 0;
}

void http_get_init(struct http_get *ret)
{
	*ret = (struct http_get){0};
	http_parser_init(&ret->parser, HTTP_REQUEST);
	ret->parser.data = ret;
}

static enum http_get_result take_path(struct http_get *g)
{
	struct http_parser_url url;

	http_parser_url_init(&url);
	if (http_parser_parse_url(g->target, g->target_len, 0, &url) != 0 ||
	    (url.field_set & 1u << UF_PATH) == 0)
		return HTTP_GET_BAD;
	memcpy(g->path, g->target + url.field_data[UF_PATH].off, url.field_data[UF_PATH].len);
	g->path[url.field_data[UF_PATH].len] = '\0';
	return HTTP_GET_READY;
}

enum http_get_result http_get_feed(struct http_get *g, struct span bytes)
{
	static const http_parser_settings settings = {.on_url = on_url,
						      .on_headers_complete = on_headers_complete};
	size_t room = HTTP_HEAD_MAX - g->head_bytes;
	size_t len = bytes.len < room ? bytes.len : room;

	if (len > 0) /* 0 would tell the parser that the client has ended */
		g->head_bytes +=
			http_parser_execute(&g->parser, &settings, (const char *)bytes.at, len);
	if (g->is_too_large)
		return HTTP_GET_TOO_LARGE;
	if (g->is_whole)
		return g->parser.method == HTTP_GET ? take_path(g) : HTTP_GET_METHOD;
	if (HTTP_PARSER_ERRNO(&g->parser) != HPE_OK || g->parser.upgrade)
		return HTTP_GET_BAD;
	return g->head_bytes == HTTP_HEAD_MAX ? HTTP_GET_TOO_LARGE : HTTP_GET_MORE;
}
