/* See ref.h. */
#include "daemon/forward/weave/ref.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>

static void digest_text(const uint8_t sha256[DIGEST_BYTES], char ret[REF_DIGEST_MAX])
{
	unsigned char text[48];

	(void)EVP_EncodeBlock(text, sha256, DIGEST_BYTES); /* 44 characters, the last is '=' */
	for (size_t i = 0; i < REF_DIGEST_MAX - 1; i++)
		ret[i] = (char)text[i];
	for (char *c = ret; c < ret + REF_DIGEST_MAX - 1; c++) {
		if (*c == '+')
			*c = 'X';
		else if (*c == '/')
			*c = 'Y';
	}
	ret[REF_DIGEST_MAX - 1] = '\0';
}

int ref_digest(struct span bytes, char ret[REF_DIGEST_MAX])
{
	uint8_t sha256[DIGEST_BYTES];

	if (EVP_Digest(bytes.at, bytes.len, sha256, NULL, EVP_sha256(), NULL) != 1)
		return -ENOMEM;
	digest_text(sha256, ret);
	return 0;
}

struct span ref_no_source(void)
{
	return SPAN_LITERAL("def func(*args, **kwargs):\n    ... # Code-capture unavailable for "
			    "this op\n");
}

void ref_op_value(struct buf *out, const char *file)
{
	/* in the order and with the spaces by which the server computes the digest */
	(void)buf_printf(out,
			 "{\"_type\": \"CustomWeaveType\", \"files\": {\"obj.py\": \"%s\"}, "
			 "\"weave_type\": {\"type\": \"Op\"}}",
			 file);
}

int ref_op_digest(struct span source_sha256, char ret[REF_DIGEST_MAX])
{
	char file[REF_DIGEST_MAX];
	struct buf value;
	int r = 0;

	if (source_sha256.len == DIGEST_BYTES)
		digest_text(source_sha256.at, file);
	else
		r = ref_digest(ref_no_source(), file);
	if (r < 0)
		return r;
	buf_init(&value, 512);
	ref_op_value(&value, file);
	r = value.error != 0 ? value.error : ref_digest(buf_span(&value), ret);
	buf_done(&value);
	return r;
}

void ref_op_name(struct span name, char ret[REF_NAME_MAX + 1])
{
	size_t len = name.len < REF_NAME_MAX ? name.len : REF_NAME_MAX;

	for (size_t i = 0; i < len; i++) {
		bool is_fine = name.at[i] < 0x80 &&
			       (isalnum(name.at[i]) || strchr("_.-", name.at[i]) != NULL);

		ret[i] = '-';
		if (is_fine && name.at[i] != '\0')
			ret[i] = (char)name.at[i];
	}
	ret[len] = '\0';
	if (len == 0)
		(void)snprintf(ret, REF_NAME_MAX + 1, "op");
}

void ref_op(struct buf *out, const char *entity, const char *project, const char *name,
	    const char *digest)
{
	(void)buf_printf(out, "weave:///%s/%s/op/%s:%s", entity, project, name, digest);
}
