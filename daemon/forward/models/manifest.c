/* See manifest.h. */
#include "daemon/forward/models/manifest.h"

#include "proto/base/mem.h"

#include <openssl/evp.h>
#include <stdio.h>

/* --- MD5 --- */

static int restart(struct md5 *m)
{
	return EVP_DigestInit_ex(m->hash, EVP_md5(), NULL) == 1 ? 0 : -ENOMEM;
}

int md5_begin(struct md5 *m)
{
	if (m->hash == NULL)
		m->hash = EVP_MD_CTX_new();
	return m->hash == NULL ? -ENOMEM : restart(m);
}

int md5_add(struct md5 *m, const void *bytes, size_t len)
{
	return EVP_DigestUpdate(m->hash, bytes, len) == 1 ? 0 : -ENOMEM;
}

int md5_end(struct md5 *m, uint8_t ret[MD5_BYTES])
{
	uint8_t sum[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	if (EVP_DigestFinal_ex(m->hash, sum, &len) != 1 || len != MD5_BYTES)
		return -ENOMEM;
	memcpy(ret, sum, MD5_BYTES);
	return restart(m);
}

void md5_done(struct md5 *m)
{
	EVP_MD_CTX_free(m->hash);
	m->hash = NULL;
}

void md5_base64(const uint8_t digest[MD5_BYTES], char ret[MD5_BASE64_MAX])
{
	(void)EVP_EncodeBlock((unsigned char *)ret, digest, MD5_BYTES); /* 24 characters, a NUL */
}

void md5_hex(const uint8_t digest[MD5_BYTES], char ret[ARTIFACT_DIGEST_MAX])
{
	for (unsigned i = 0; i < MD5_BYTES; i++)
		(void)snprintf(ret + (size_t)2 * i, 3, "%02x", digest[i]); /* two digits, a NUL */
}

int md5_from_base64(struct span text, uint8_t ret[MD5_BYTES])
{
	uint8_t bytes[MD5_BYTES + 2];

	if (text.len != MD5_BASE64_MAX - 1 || text.at[text.len - 1] != '=' ||
	    text.at[text.len - 2] != '=' ||
	    EVP_DecodeBlock(bytes, text.at, (int)text.len) != (int)sizeof(bytes))
		return -EINVAL;
	memcpy(ret, bytes, MD5_BYTES);
	return 0;
}

/* --- the digest --- */

int manifest_digest_begin(struct md5 *m)
{
	static const char head[] = "wandb-artifact-manifest-v1\n";
	int r = md5_begin(m);

	return r < 0 ? r : md5_add(m, head, sizeof(head) - 1);
}

int manifest_digest_add(struct md5 *m, const struct manifest_entry *e)
{
	int r = md5_add(m, e->path.at, e->path.len);

	if (r == 0)
		r = md5_add(m, ":", 1);
	if (r == 0)
		r = md5_add(m, e->digest.at, e->digest.len);
	return r < 0 ? r : md5_add(m, "\n", 1);
}

int manifest_digest_end(struct md5 *m, char ret[ARTIFACT_DIGEST_MAX])
{
	uint8_t sum[MD5_BYTES];
	int r = md5_end(m, sum);

	if (r == 0)
		md5_hex(sum, ret);
	return r;
}

/* --- the manifest --- */

void manifest_begin(struct json *j, struct buf *ret)
{
	json_init(j, ret);
	json_open_object(j);
	json_put_key_text(j, "version");
	json_put_int(j, 1);
	json_put_key_text(j, "storagePolicy");
	json_put_text(j, "wandb-storage-policy-v1");
	json_put_key_text(j, "storagePolicyConfig");
	json_open_object(j);
	json_put_key_text(j, "storageLayout");
	json_put_text(j, "V2");
	json_close_object(j);
	json_put_key_text(j, "contents");
	json_open_object(j);
}

static void put_pair(struct json *j, const char *key, struct span value)
{
	if (value.at == NULL)
		return;
	json_put_key_text(j, key);
	json_put_string(j, value);
}

void manifest_add(struct json *j, const struct manifest_entry *e)
{
	json_put_key(j, e->path);
	json_open_object(j);
	put_pair(j, "digest", e->digest);
	put_pair(j, "ref", e->ref);
	json_put_key_text(j, "size");
	json_put_int(j, e->size < 0 ? 0 : e->size);
	if (e->extra.at != NULL) {
		json_put_key_text(j, "extra");
		json_put_raw(j, e->extra);
	}
	if (e->ref.at == NULL)
		put_pair(j, "birthArtifactID", e->birth);
	json_put_key_text(j, "skip_cache");
	json_put_bool(j, false);
	json_close_object(j);
}

void manifest_end(struct json *j)
{
	json_close_object(j);
	json_close_object(j);
}

/* --- names --- */

static bool is_name_char(uint8_t c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       c == '-' || c == '_' || c == '.';
}

bool artifact_name_is_good(struct span name)
{
	if (name.len == 0 || name.len > ARTIFACT_NAME_MAX)
		return false;
	for (size_t i = 0; i < name.len; i++) {
		if (!is_name_char(name.at[i]))
			return false;
	}
	return true;
}

/* The check sum of zip and gzip; only in names, where no library of ours has it. */
static uint32_t crc32_of(struct span s)
{
	uint32_t sum = UINT32_MAX;

	for (size_t i = 0; i < s.len; i++) {
		sum ^= s.at[i];
		for (unsigned bit = 0; bit < 8; bit++)
			sum = sum >> 1 ^ (sum & 1 ? 0xedb88320u : 0);
	}
	return ~sum;
}

/* "-" and the check sum in six characters of base64 for URLs. */
static void add_check_sum(struct buf *ret, struct span name)
{
	uint32_t sum = crc32_of(name);
	const uint8_t bytes[4] = {(uint8_t)(sum >> 24), (uint8_t)(sum >> 16), (uint8_t)(sum >> 8),
				  (uint8_t)sum};
	char text[9];

	(void)EVP_EncodeBlock((unsigned char *)text, bytes,
			      sizeof(bytes)); /* 8 characters, a NUL */
	text[6] = '\0';                       /* no "==" */
	for (char *c = text; *c != '\0'; c++)
		*c = (char)(*c == '+' ? '-' : *c == '/' ? '_' : *c);
	(void)buf_printf(ret, "-%s", text); /* the buf remembers */
}

/* As W&B's client does: what is not allowed goes, and then what the name was is in a check sum. */
void artifact_name_of_table(struct buf *ret, const char *run, struct span key)
{
	size_t begin = ret->len;
	auto_buf struct buf whole;

	buf_init(&whole, 1 << 16);
	(void)buf_printf(&whole, "run-%s-", run);
	if (buf_add(&whole, key.at, key.len) < 0) {
		ret->error = whole.error;
		return;
	}
	if (artifact_name_is_good(buf_span(&whole))) {
		(void)buf_add(ret, whole.data, whole.len);
		return;
	}
	for (size_t i = 0; i < whole.len; i++) {
		if (is_name_char(whole.data[i]) && ret->len - begin < ARTIFACT_NAME_MAX - 7)
			(void)buf_add_byte(ret, whole.data[i]);
	}
	add_check_sum(ret, buf_span(&whole));
}
