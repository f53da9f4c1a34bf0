/* wbxd.conf, and one assignment of the command line. */
#include "daemon/config.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_as_file(const uint8_t *data, size_t size)
{
	static struct config c;
	char error[CONFIG_ERROR_MAX] = "";
	char path[64];
	int fd = memfd_create("wbxd.conf", MFD_CLOEXEC);

	assert(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	config_defaults(&c, NULL);
	if (config_read_file(&c, path, error) == -EINVAL)
		assert(error[0] != '\0');
	assert(close(fd) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct config c;
	char error[CONFIG_ERROR_MAX] = "";
	char text[256] = "";

	read_as_file(data, size);
	memcpy(text, data, size < sizeof(text) ? size : sizeof(text) - 1);
	config_defaults(&c, NULL);
	if (config_set(&c, text, error) < 0)
		assert(error[0] != '\0');
	return 0;
}
