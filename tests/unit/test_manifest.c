/* Manifests and digests, beside what the released wandb SDK sent on the same content (research:
 * wire/captures, artifact and media). */
#include "daemon/forward/models/manifest.h"
#include "proto/base/mem.h"
#include "tests/lib/suite.h"

/* for static ones */
#define TEXT(text)                                                                                 \
	{                                                                                          \
		.at = (const uint8_t *)(text), .len = sizeof(text) - 1                             \
	}

static const struct manifest_entry entries[] = {
	{.path = TEXT("cfg.yaml"),
	 .digest = TEXT("U8c6VX/+mg42visPLxNcVA=="),
	 .size = 18,
	 .birth = TEXT("QXJ0aWZhY3Q6Mw==")},
	{.path = TEXT("dup.txt"),
	 .digest = TEXT("XUFAKrxLKna5cZ2REBfFkg=="),
	 .size = 5,
	 .birth = TEXT("QXJ0aWZhY3Q6Mw==")},
	{.path = TEXT("empty.bin"),
	 .digest = TEXT("1B2M2Y8AsgTpgAmY7PhCfg=="),
	 .size = 0,
	 .birth = TEXT("QXJ0aWZhY3Q6Mw==")},
	{.path = TEXT("ref/dup.txt"),
	 .digest = TEXT("XUFAKrxLKna5cZ2REBfFkg=="),
	 .size = 5,
	 .ref = TEXT("file:///DIR/dup.txt")},
	{.path = TEXT("sub/other.txt"),
	 .digest = TEXT("XUFAKrxLKna5cZ2REBfFkg=="),
	 .size = 5,
	 .birth = TEXT("QXJ0aWZhY3Q6Mw==")},
};

static const char expected[] =
	"{\"version\":1,\"storagePolicy\":\"wandb-storage-policy-v1\",\"storagePolicyConfig\":"
	"{\"storageLayout\":\"V2\"},\"contents\":{\"cfg.yaml\":{\"digest\":"
	"\"U8c6VX/+mg42visPLxNcVA==\",\"size\":18,\"birthArtifactID\":\"QXJ0aWZhY3Q6Mw==\","
	"\"skip_cache\":false},\"dup.txt\":{\"digest\":\"XUFAKrxLKna5cZ2REBfFkg==\",\"size\":5,"
	"\"birthArtifactID\":\"QXJ0aWZhY3Q6Mw==\",\"skip_cache\":false},\"empty.bin\":{\"digest\":"
	"\"1B2M2Y8AsgTpgAmY7PhCfg==\",\"size\":0,\"birthArtifactID\":\"QXJ0aWZhY3Q6Mw==\","
	"\"skip_cache\":false},\"ref/dup.txt\":{\"digest\":\"XUFAKrxLKna5cZ2REBfFkg==\",\"ref\":"
	"\"file:///DIR/dup.txt\",\"size\":5,\"skip_cache\":false},\"sub/other.txt\":{\"digest\":"
	"\"XUFAKrxLKna5cZ2REBfFkg==\",\"size\":5,\"birthArtifactID\":\"QXJ0aWZhY3Q6Mw==\","
	"\"skip_cache\":false}}}";

static void digest_of(const struct manifest_entry *list, size_t count,
		      char ret[ARTIFACT_DIGEST_MAX])
{
	struct md5 m = {0};

	ck_assert_int_eq(manifest_digest_begin(&m), 0);
	for (size_t i = 0; i < count; i++)
		ck_assert_int_eq(manifest_digest_add(&m, &list[i]), 0);
	ck_assert_int_eq(manifest_digest_end(&m, ret), 0);
	md5_done(&m);
}

START_TEST(an_artifact_s_digest_is_the_sdk_s)
{
	struct manifest_entry other[array_len(entries)];
	char digest[ARTIFACT_DIGEST_MAX];

	digest_of(entries, array_len(entries), digest);
	ck_assert_str_eq(digest, "edd20889614b142018632929332e26a8");
	memcpy(other, entries, sizeof(entries));
	other[0].digest = SPAN_LITERAL("quvZebq1u3IFn+EOaq9oWQ==");
	digest_of(other, array_len(other), digest);
	ck_assert_str_eq(digest, "75f83834c261c2c47111bed618ccd216");
}
END_TEST

START_TEST(a_manifest_is_the_sdk_s_without_the_paths_of_the_machine)
{
	auto_buf struct buf out;
	struct json j;

	buf_init(&out, 1 << 16);
	manifest_begin(&j, &out);
	for (size_t i = 0; i < array_len(entries); i++)
		manifest_add(&j, &entries[i]);
	manifest_end(&j);
	ck_assert_int_eq(out.error, 0);
	ck_assert_str_eq(buf_text(&out), expected);
}
END_TEST

START_TEST(a_reference_may_have_no_size_and_more_to_say)
{
	const struct manifest_entry e = {.path = SPAN_LITERAL("a\"b"),
					 .digest = SPAN_LITERAL("s3://b/k"),
					 .size = -1,
					 .ref = SPAN_LITERAL("s3://b/k"),
					 .extra = SPAN_LITERAL("{\"etag\":\"x\"}")};
	auto_buf struct buf out;
	struct json j;

	buf_init(&out, 1 << 16);
	json_init(&j, &out);
	json_open_object(&j);
	manifest_add(&j, &e);
	json_close_object(&j);
	ck_assert_str_eq(
		buf_text(&out),
		"{\"a\\\"b\":{\"digest\":\"s3://b/k\",\"ref\":\"s3://b/k\",\"size\":0,\"extra\":"
		"{\"etag\":\"x\"},\"skip_cache\":false}}");
}
END_TEST

START_TEST(bytes_have_the_md5_that_storage_wants)
{
	struct md5 m = {0};
	uint8_t sum[MD5_BYTES];
	uint8_t back[MD5_BYTES];
	char text[MD5_BASE64_MAX];

	ck_assert_int_eq(md5_begin(&m), 0);
	ck_assert_int_eq(md5_add(&m, "hel", 3), 0);
	ck_assert_int_eq(md5_add(&m, "lo", 2), 0);
	ck_assert_int_eq(md5_end(&m, sum), 0);
	md5_base64(sum, text);
	ck_assert_str_eq(text, "XUFAKrxLKna5cZ2REBfFkg==");
	ck_assert_int_eq(md5_from_base64(span_of_text(text), back), 0);
	ck_assert_mem_eq(back, sum, MD5_BYTES);
	ck_assert_int_eq(md5_end(&m, sum), 0); /* it began anew */
	md5_base64(sum, text);
	ck_assert_str_eq(text, "1B2M2Y8AsgTpgAmY7PhCfg==");
	md5_done(&m);
}
END_TEST

START_TEST(what_is_no_md5_is_told)
{
	static const char *const bad[] = {"", "XUFAKrxLKna5cZ2REBfFkg=", "XUFAKrxLKna5cZ2REBfFkgAA",
					  "XUFAKrxLKna5cZ2REBf?kg=="};
	uint8_t sum[MD5_BYTES];

	for (size_t i = 0; i < array_len(bad); i++)
		ck_assert_int_eq(md5_from_base64(span_of_text(bad[i]), sum), -EINVAL);
}
END_TEST

static const struct {
	const char *key;
	const char *name;
} table_names[] = {
	{"rollouts", "run-media1-rollouts"},
	{"tab/le", "run-media1-table-8wD_cA"},
	{"plot_table", "run-media1-plot_table"},
};

START_TEST(a_run_s_tables_are_in_artifacts_that_are_called_as_the_sdk_calls_them)
{
	auto_buf struct buf name;

	buf_init(&name, 4096);
	for (size_t i = 0; i < array_len(table_names); i++) {
		buf_clear(&name);
		artifact_name_of_table(&name, "media1", span_of_text(table_names[i].key));
		ck_assert_str_eq(buf_text(&name), table_names[i].name);
	}
}
END_TEST

START_TEST(a_name_is_never_longer_than_w_and_b_takes)
{
	auto_buf struct buf name;
	char key[300];

	memset(key, 'k', sizeof(key));
	buf_init(&name, 4096);
	artifact_name_of_table(&name, "r",
			       (struct span){.at = (const uint8_t *)key, .len = sizeof(key)});
	ck_assert_uint_eq(name.len, ARTIFACT_NAME_MAX);
	ck_assert(artifact_name_is_good(buf_span(&name)));
	ck_assert(!artifact_name_is_good(span_of_text("a/b")));
	ck_assert(!artifact_name_is_good(span_of_text("")));
}
END_TEST

SUITE_MAIN("manifest", an_artifact_s_digest_is_the_sdk_s,
	   a_manifest_is_the_sdk_s_without_the_paths_of_the_machine,
	   a_reference_may_have_no_size_and_more_to_say, bytes_have_the_md5_that_storage_wants,
	   what_is_no_md5_is_told,
	   a_run_s_tables_are_in_artifacts_that_are_called_as_the_sdk_calls_them,
	   a_name_is_never_longer_than_w_and_b_takes)
