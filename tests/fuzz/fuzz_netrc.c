/* A netrc of a user: the key stays in its place. */
#include "daemon/forward/key.h"
#include "proto/base/mem.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_free char *text = mem_strndup((const char *)data, size);
	char key[API_KEY_MAX + 1];
	int r;

	if (text == NULL)
		return 0;
	r = key_from_netrc(key, text, "api.wandb.ai");
	assert(r == 0 || r == -ENOENT);
	if (r == 0)
		assert(strlen(key) > 0 && strstr(text, key) != NULL);
	return 0;
}
