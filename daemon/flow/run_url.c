/* See run_url.h. */
#include "daemon/flow/run_url.h"

#include "proto/base/mem.h"

/* API and app of W&B's own hosts; the first that the address begins with. Elsewhere api. becomes
 * app., and a server of one's own has both at one address. */
static const struct {
	const char *api;
	const char *app;
} hosts[] = {
	{"https://api.forge.coreweave.com", "https://forge.coreweave.com/wandb"},
	{"https://api.wandb.", "https://wandb."},
	{"https://api.", "https://app."},
	{"http://api.", "http://app."},
};

static void add_app(struct buf *out, const char *base_url)
{
	size_t len = strlen(base_url);

	while (len > 0 && base_url[len - 1] == '/')
		len--;
	for (size_t i = 0; i < array_len(hosts); i++) {
		size_t api = strlen(hosts[i].api);

		if (len < api || memcmp(base_url, hosts[i].api, api) != 0)
			continue;
		(void)buf_add_text(out, hosts[i].app);
		base_url += api;
		len -= api;
		break;
	}
	(void)buf_add(out, base_url, len);
}

/* RFC 3986: what is not unreserved is escaped. */
static void add_part(struct buf *out, const char *before, const char *name)
{
	static const char plain[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";

	(void)buf_add_text(out, before);
	for (; *name != '\0'; name++) {
		if (strchr(plain, *name) != NULL)
			(void)buf_add_byte(out, (uint8_t)*name);
		else
			(void)buf_printf(out, "%%%02X", (unsigned)(uint8_t)*name);
	}
}

void run_url_add(struct buf *out, const struct run_info *run, const char *base_url)
{
	if (run->server_entity[0] == '\0' || base_url[0] == '\0')
		return;
	add_app(out, base_url);
	add_part(out, "/", run->server_entity);
	add_part(out, "/", run_project(run));
	add_part(out, "/runs/", run->name);
}
