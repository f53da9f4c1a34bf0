#include "daemon/forward/key.h"
#include "tests/lib/scratch.h"
#include "tests/lib/suite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEY_A "aaaaaaaaaabbbbbbbbbbccccccccccdddddddddd"
#define KEY_B "0123456789_ABCDEFGHIJ-KLMNOPQRSTUVWXYZ0123456789_abcdefghij-klmnopqrstuvwxyz"
#define URL   "https://api.wandb.ai"

static char dir[256];

/* Nothing of the machine's own is found: no credential, an empty home. */
static void setup(void)
{
	scratch_dir(dir, sizeof(dir), "key");
	ck_assert_int_eq(unsetenv("CREDENTIALS_DIRECTORY"), 0);
	ck_assert_int_eq(unsetenv("WANDB_API_KEY"), 0);
	ck_assert_int_eq(setenv("HOME", dir, 1), 0);
}

static void teardown(void)
{
	static const char *const names[] = {"key", ".netrc", "wandb-api-key", "fifo", "sub"};
	char path[300];

	for (size_t i = 0; i < array_len(names); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		(void)remove(path); /* most are not there */
	}
	ck_assert_int_eq(rmdir(dir), 0);
}

static const char *in_dir(const char *name)
{
	static char path[300];

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static const char *put_bytes(const char *name, const char *bytes, size_t len, mode_t mode)
{
	const char *path = in_dir(name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, bytes, len), (ssize_t)len);
	ck_assert_int_eq(fchmod(fd, mode), 0);
	ck_assert_int_eq(close(fd), 0);
	return path;
}

static const char *put_file(const char *name, const char *text, mode_t mode)
{
	return put_bytes(name, text, strlen(text), mode);
}

static void expect(const char *key_file, const char *text, const char *source)
{
	struct key k = {.text = "old"};
	char error[256] = "";

	ck_assert_int_eq(key_find(&k, key_file, URL, error), 0);
	ck_assert_str_eq(k.text, text);
	ck_assert_str_eq(k.source, source);
	ck_assert_str_eq(error, "");
}

/* The key's words, or parts of them, are nowhere in what people get to see. */
static void refuse(const char *key_file, const char *says, const char *secret)
{
	struct key k = {.text = "old"};
	char error[256] = "";

	ck_assert_int_eq(key_find(&k, key_file, URL, error), -EINVAL);
	ck_assert_str_eq(k.text, "old"); /* untouched */
	ck_assert_msg(strstr(error, says) != NULL, "%s", error);
	if (secret != NULL)
		ck_assert_ptr_null(strstr(error, secret));
}

START_TEST(without_any_source_there_is_no_key_and_no_error)
{
	expect("", "", "");
	expect(in_dir("key"), "", "");
	expect(in_dir("key/below"), "", "");
	ck_assert_int_eq(unsetenv("HOME"), 0);
	expect("", "", "");
}
END_TEST

START_TEST(a_private_file_holds_the_key_with_white_space_around_it)
{
	const char *path = put_file("key", KEY_A, 0600);

	expect(path, KEY_A, path);
	expect(put_file("key", "\n \t" KEY_B "\r\n\n", 0600), KEY_B, path);
	expect(put_file("key", KEY_A "\n", 0400), KEY_A, path);
}
END_TEST

START_TEST(a_file_that_others_may_read_is_refused)
{
	static const mode_t modes[] = {0640, 0604, 0644, 0660, 0620, 0602, 0610, 0601, 0666, 0777};

	for (size_t i = 0; i < array_len(modes); i++)
		refuse(put_file("key", KEY_A, modes[i]), "chmod 600", "aaaa");
}
END_TEST

START_TEST(what_is_no_file_is_refused)
{
	const char *path = in_dir("fifo");

	ck_assert_int_eq(mkfifo(path, 0600), 0);
	refuse(path, "cannot be read", NULL); /* and it does not wait for a writer */
	path = in_dir("sub");
	ck_assert_int_eq(mkdir(path, 0700), 0);
	refuse(path, "cannot be read", NULL);
}
END_TEST

START_TEST(what_is_no_key_is_refused_without_being_repeated)
{
	static const char *const bad[] = {
		"secretsecretsecret1",                   /* 19 characters */
		"secretsecretsecretsecret secretsecret", /* two words */
		"secretsecretsecretsecret\nsecretsecret",
		"secretsecretsecretsecretsecret$ecret",
		"secretsecretsecretsecretsecr\xc3\xa9t",
		"WANDB_API_KEY=secretsecretsecretsecretsecretsecret",
		"\"secretsecretsecretsecretsecretsecret\"",
	};
	char long_key[API_KEY_MAX + 2];

	for (size_t i = 0; i < array_len(bad); i++)
		refuse(put_file("key", bad[i], 0600), "no API key", "secret");
	refuse(put_bytes("key", "secretsecret\0secretsecretsecret", 31, 0600), "no API key",
	       "secret");
	memset(long_key, 's', sizeof(long_key));
	refuse(put_bytes("key", long_key, API_KEY_MAX + 1, 0600), "no API key", "sss");
}
END_TEST

START_TEST(the_longest_and_the_shortest_key_are_taken)
{
	char text[API_KEY_MAX + 1];
	const char *path;

	memset(text, 'k', API_KEY_MAX);
	text[API_KEY_MAX] = '\0';
	path = put_file("key", text, 0600);
	expect(path, text, path);
	text[API_KEY_MIN] = '\0';
	path = put_file("key", text, 0600);
	expect(path, text, path);
}
END_TEST

START_TEST(an_empty_file_is_no_source)
{
	expect(put_file("key", "", 0600), "", "");
	expect(put_file("key", " \n\t\n", 0600), "", "");
}
END_TEST

START_TEST(the_credential_comes_first_then_file_then_variable_then_netrc)
{
	char netrc[300];

	(void)snprintf(netrc, sizeof(netrc), "%s",
		       put_file(".netrc", "machine api.wandb.ai login user password " KEY_A, 0600));
	expect("", KEY_A, netrc);
	ck_assert_int_eq(setenv("WANDB_API_KEY", KEY_B "V", 1), 0);
	key_take_environment();
	ck_assert_ptr_null(getenv("WANDB_API_KEY"));
	expect("", KEY_B "V", "$WANDB_API_KEY");
	expect("", KEY_B "V", "$WANDB_API_KEY"); /* it is kept for the next look */
	put_file("key", KEY_A "F", 0600);
	expect(in_dir("key"), KEY_A "F", in_dir("key"));
	put_file("wandb-api-key", KEY_A "C\n", 0440); /* as systemd makes it */
	ck_assert_int_eq(setenv("CREDENTIALS_DIRECTORY", dir, 1), 0);
	expect(in_dir("key"), KEY_A "C", "the credential wandb-api-key");
}
END_TEST

START_TEST(a_bad_source_is_not_stepped_over)
{
	put_file(".netrc", "machine api.wandb.ai password " KEY_A, 0600);
	refuse(put_file("key", KEY_A, 0644), "key: others may read it", "aaaa");
	ck_assert_int_eq(setenv("WANDB_API_KEY", "secret of somebody", 1), 0);
	key_take_environment();
	refuse("", "$WANDB_API_KEY", "secret");
	put_file("wandb-api-key", "secret", 0400);
	ck_assert_int_eq(setenv("CREDENTIALS_DIRECTORY", dir, 1), 0);
	refuse("", "credential wandb-api-key", "secret");
}
END_TEST

START_TEST(a_variable_that_is_too_long_is_refused_too)
{
	char text[API_KEY_MAX + 2];

	memset(text, 's', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	ck_assert_int_eq(setenv("WANDB_API_KEY", text, 1), 0);
	key_take_environment();
	ck_assert_ptr_null(getenv("WANDB_API_KEY"));
	refuse("", "$WANDB_API_KEY", "sss");
}
END_TEST

START_TEST(a_netrc_that_does_not_fit_is_passed_over)
{
	expect("", "", "");
	put_file(".netrc", "machine api.wandb.ai password " KEY_A, 0644); /* open to all */
	expect("", "", "");
	put_file(".netrc", "machine api.wandb.ai password short", 0600);
	expect("", "", "");
	put_file(".netrc", "machine example.com password " KEY_A, 0600);
	expect("", "", "");
}
END_TEST

START_TEST(the_netrc_machine_is_the_host_of_the_base_url)
{
	static const struct {
		const char *url;
		bool found;
	} cases[] = {
		{"https://api.wandb.ai", true},
		{"https://api.wandb.ai/", true},
		{"http://api.wandb.ai:8080/x", true},
		{"https://api.wandb.ai?q", true},
		{"api.wandb.ai", true},
		{"https://api.wandb.ai.example.com", false},
		{"https://wandb.ai", false},
		{"https://example.com/api.wandb.ai", false},
		{"", false},
	};

	put_file(".netrc", "machine api.wandb.ai login user password " KEY_A "\n", 0600);
	for (size_t i = 0; i < array_len(cases); i++) {
		struct key k;
		char error[256] = "";

		ck_assert_int_eq(key_find(&k, "", cases[i].url, error), 0);
		ck_assert_msg((k.text[0] != '\0') == cases[i].found, "%s", cases[i].url);
	}
}
END_TEST

START_TEST(netrc_entries_may_stand_on_one_or_several_lines)
{
	static const struct {
		const char *text;
		const char *key; /* NULL: none */
	} cases[] = {
		{"machine m login user password p", "p"},
		{"machine m\n  login user\n  password p\n", "p"},
		{"machine m\r\n\tlogin user\r\n\tpassword p\r\n", "p"},
		{"machine m password p login user", "p"},
		{"machine m login password password p", "p"}, /* a user named "password" */
		{"machine other password q machine m password p", "p"},
		{"machine m login u machine other password q", NULL},
		{"machine m password p machine m password q", "p"}, /* the first counts */
		{"default login u password q", NULL},
		{"default login u password q machine m password p", "p"},
		{"machine m login u default password q", NULL},
		{"machine m account a login u password p", "p"},
		{"macdef init\ncd /tmp\n\nmachine m password p", NULL},
		{"machine m macdef init\nls\n\npassword p", NULL},
		{"machine mm password p", NULL},
		{"machine M password p", NULL},
		{"password p machine m", NULL},
		{"machine m password", NULL},
		{"machine m login", NULL},
		{"machine", NULL},
		{"", NULL},
		{" \n\t ", NULL},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		char got[API_KEY_MAX + 1] = "none";
		int r = key_from_netrc(got, cases[i].text, "m");

		ck_assert_msg(r == (cases[i].key == NULL ? -ENOENT : 0), "case %zu", i);
		ck_assert_str_eq(got, cases[i].key == NULL ? "none" : cases[i].key);
	}
}
END_TEST

START_TEST(a_netrc_password_of_any_length_stays_in_its_place)
{
	for (size_t len = API_KEY_MAX - 1; len <= API_KEY_MAX + 2; len++) {
		auto_free char *text = mem_zalloc(len + 64);
		char got[API_KEY_MAX + 1];
		int n = snprintf(text, 64, "machine m password ");

		memset(text + n, 'k', len);
		ck_assert_int_eq(key_from_netrc(got, text, "m"), len <= API_KEY_MAX ? 0 : -ENOENT);
		if (len <= API_KEY_MAX)
			ck_assert_uint_eq(strlen(got), len);
	}
}
END_TEST

START_TEST(a_forgotten_key_is_nowhere_in_its_memory)
{
	static const struct key none;
	struct key a = {.text = KEY_A, .source = "here"};
	struct key b = {.text = KEY_A, .source = "there"};

	ck_assert(key_equal(&a, &b));
	key_forget(&b);
	ck_assert_int_eq(memcmp(&b, &none, sizeof(b)), 0);
	ck_assert(!key_equal(&a, &b));
	key_forget(&a);
	ck_assert(key_equal(&a, &b));
}
END_TEST

/* What /proc shows is what the process was started with: so it starts again, with a key. */
START_TEST(proc_shows_no_key_once_it_was_taken)
{
	int status = 0;
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		char *const args[] = {(char[]){"test_key"}, (char[]){"--environment"}, NULL};
		char *const env[] = {(char[]){"BEFORE=1"}, (char[]){"WANDB_API_KEY=" KEY_B},
				     (char[]){"AFTER=1"}, NULL};

		(void)execve("/proc/self/exe", args, env);
		_exit(99);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}
END_TEST

static bool environ_holds(const char *text)
{
	char bytes[8192];
	int fd = open("/proc/self/environ", O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, bytes, sizeof(bytes));

	(void)close(fd);
	return n > 0 && memmem(bytes, (size_t)n, text, strlen(text)) != NULL;
}

/* The started-again process: 0 when all is well, else which check failed. */
static int look_at_environment(void)
{
	struct key k;
	char error[256];

	if (!environ_holds(KEY_B))
		return 1;
	key_take_environment();
	if (environ_holds(KEY_B) || environ_holds("ABCDEFGHIJ") || !environ_holds("AFTER=1"))
		return 2;
	if (getenv("WANDB_API_KEY") != NULL)
		return 3;
	key_take_environment(); /* again: it keeps what it has */
	if (key_find(&k, "", URL, error) != 0 || strcmp(k.text, KEY_B) != 0)
		return 4;
	return 0;
}

static int find_with_failures(struct key *k)
{
	char error[256];

	return key_find(k, in_dir("key"), URL, error);
}

START_TEST(finding_a_key_survives_every_allocation_failure)
{
	struct key k = {.text = "old"};

	put_file("key", KEY_A, 0600);
	ck_assert_int_eq(WITH_EACH_ALLOCATION_FAILING(find_with_failures(&k),
						      ck_assert_str_eq(k.text, "old")),
			 0);
	ck_assert_str_eq(k.text, KEY_A);
}
END_TEST

/* --- keys of users --- */

static char user_dir[300];

static const char *keys_dir(void)
{
	(void)snprintf(user_dir, sizeof(user_dir), "%s/keys", dir);
	return user_dir;
}

static void drop_keys(void)
{
	(void)key_remove(keys_dir(), 1001);
	(void)key_remove(keys_dir(), 1002);
	ck_assert_int_eq(rmdir(keys_dir()), 0);
}

START_TEST(a_user_s_key_is_kept_apart_for_him_alone)
{
	struct key a = {.text = KEY_A};
	struct key b = {.text = KEY_B};
	struct key got = {.text = ""};
	char error[256];
	char path[400];
	struct stat st;

	ck_assert_int_eq(key_of_user(&got, keys_dir(), 1001, error), -ENOENT);
	ck_assert_int_eq(key_keep(&a, keys_dir(), 1001), 0);
	ck_assert_int_eq(key_keep(&b, keys_dir(), 1002), 0);
	ck_assert_int_eq(key_of_user(&got, keys_dir(), 1001, error), 0);
	ck_assert_str_eq(got.text, KEY_A);
	ck_assert_int_eq(key_keep(&b, keys_dir(), 1001), 0);
	ck_assert_int_eq(key_of_user(&got, keys_dir(), 1001, error), 0);
	ck_assert_str_eq(got.text, KEY_B);
	(void)snprintf(path, sizeof(path), "%s/1001", keys_dir());
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	ck_assert_int_eq(stat(keys_dir(), &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0700);
	ck_assert_int_eq(key_remove(keys_dir(), 1001), 0);
	ck_assert_int_eq(key_remove(keys_dir(), 1001), -ENOENT);
	ck_assert_int_eq(key_of_user(&got, keys_dir(), 1001, error), -ENOENT);
	drop_keys();
}
END_TEST

START_TEST(a_user_s_key_that_is_not_fit_is_told_and_not_passed_over)
{
	struct key a = {.text = KEY_A};
	struct key got = {.text = ""};
	char error[256] = "";
	char path[400];

	ck_assert_int_eq(key_keep(&a, keys_dir(), 1001), 0);
	(void)snprintf(path, sizeof(path), "%s/1001", keys_dir());
	ck_assert_int_eq(chmod(path, 0640), 0);
	ck_assert_int_eq(key_of_user(&got, keys_dir(), 1001, error), -EINVAL);
	ck_assert_ptr_nonnull(strstr(error, "others may read it"));
	ck_assert_int_eq(chmod(path, 0600), 0);
	ck_assert_int_eq(truncate(path, 5), 0);
	ck_assert_int_eq(key_of_user(&got, keys_dir(), 1001, error), -EINVAL);
	ck_assert_ptr_nonnull(strstr(error, "no API key"));
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(symlink("/etc/hostname", path), 0);
	ck_assert_int_eq(key_of_user(&got, keys_dir(), 1001, error), -EINVAL);
	ck_assert_str_eq(got.text, "");
	drop_keys();
}
END_TEST

int main(int argc, char **argv)
{
	const TTest *const tests[] = {
		without_any_source_there_is_no_key_and_no_error,
		a_private_file_holds_the_key_with_white_space_around_it,
		a_file_that_others_may_read_is_refused,
		what_is_no_file_is_refused,
		what_is_no_key_is_refused_without_being_repeated,
		the_longest_and_the_shortest_key_are_taken,
		an_empty_file_is_no_source,
		the_credential_comes_first_then_file_then_variable_then_netrc,
		a_bad_source_is_not_stepped_over,
		a_variable_that_is_too_long_is_refused_too,
		a_netrc_that_does_not_fit_is_passed_over,
		the_netrc_machine_is_the_host_of_the_base_url,
		netrc_entries_may_stand_on_one_or_several_lines,
		a_netrc_password_of_any_length_stays_in_its_place,
		a_forgotten_key_is_nowhere_in_its_memory,
		proc_shows_no_key_once_it_was_taken,
		finding_a_key_survives_every_allocation_failure,
		a_user_s_key_is_kept_apart_for_him_alone,
		a_user_s_key_that_is_not_fit_is_told_and_not_passed_over,
	};
	Suite *s;
	TCase *tc;

	if (argc > 1 && strcmp(argv[1], "--environment") == 0)
		return look_at_environment();
	s = suite_create("key");
	tc = tcase_create("key");
	tcase_add_checked_fixture(tc, setup, teardown);
	for (size_t i = 0; i < array_len(tests); i++)
		tcase_add_test(tc, tests[i]);
	suite_add_tcase(s, tc);
	return suite_run(s);
}
