#include "daemon/base/log.h"
#include "daemon/base/log_entry.h"
#include "tests/lib/scratch.h"
#include "tests/lib/suite.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static void entry_is(const char *text, const char *want_fields)
{
	char entry[LOG_ENTRY_MAX];
	char want[LOG_ENTRY_MAX];
	size_t len = log_entry(entry, 4, "models", text);

	(void)snprintf(
		want, sizeof(want),
		"PRIORITY=4\nSYSLOG_IDENTIFIER=wbxd\nWBX_AREA=models\nMESSAGE=models: %s\n%s", text,
		want_fields);
	ck_assert_uint_eq(len, strlen(want));
	ck_assert_mem_eq(entry, want, len);
}

START_TEST(pairs_before_the_sentence_become_fields)
{
	entry_is("settings read again", "");
	entry_is("run=r1 http=503 wait_ms=20 no room=here",
		 "WBX_RUN=r1\nWBX_HTTP=503\nWBX_WAIT_MS=20\n");
	entry_is("sink=models state=\"no key\"", "WBX_SINK=models\nWBX_STATE=no key\n");
	entry_is("state=\"ok\" again", "WBX_STATE=ok\n");
	entry_is("file= errno=2 gone", "WBX_FILE=\nWBX_ERRNO=2\n");
	entry_is("run=a=b c", "WBX_RUN=a=b\n");
	entry_is("run=\"half of it", "WBX_RUN=\"half\n");
}
END_TEST

START_TEST(what_is_no_pair_ends_them)
{
	entry_is("", "");
	entry_is("=x", "");
	entry_is("_pid=1", "");
	entry_is("Run=1", "");
	entry_is("run =1", "");
	entry_is("a=1  b=2", "WBX_A=1\n");
}
END_TEST

START_TEST(a_long_line_is_cut_and_stays_an_entry)
{
	char entry[LOG_ENTRY_MAX];
	char text[8000] = "run=r long=";
	size_t len;

	memset(text + strlen(text), 'x', 7000);
	len = log_entry(entry, 3, "area", text);
	ck_assert_uint_lt(len, LOG_ENTRY_MAX);
	ck_assert_int_eq(entry[len - 1], '\n');
	entry[len - 1] = '\0';
	ck_assert_ptr_nonnull(strstr(entry, "\nWBX_RUN=r"));
	ck_assert_ptr_null(strstr(entry, "WBX_LONG")); /* whole, or not at all */
}
END_TEST

static void scratch_remove(const char *dir)
{
	static const char *const names[] = {"stderr", "journal"};
	char path[512];

	for (size_t i = 0; i < array_len(names); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		(void)unlink(path); /* not every test has both */
	}
	ck_assert_int_eq(rmdir(dir), 0);
}

/* Standard error goes to a file of the scratch directory from now on; its name as $JOURNAL_STREAM
 * has it. */
static void redirect_stderr(const char *dir, char ret_stream[64])
{
	char path[512];
	struct stat st;
	int fd;

	(void)snprintf(path, sizeof(path), "%s/stderr", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(dup2(fd, STDERR_FILENO), STDERR_FILENO);
	ck_assert_int_eq(fstat(fd, &st), 0);
	(void)snprintf(ret_stream, 64, "%llu:%llu", (unsigned long long)st.st_dev,
		       (unsigned long long)st.st_ino);
}

static const char *read_stderr(char ret[1024])
{
	ssize_t n = pread(STDERR_FILENO, ret, 1023, 0);

	ck_assert_int_ge(n, 0);
	ret[n] = '\0';
	return ret;
}

static int bind_journal(const char *dir, char ret_path[108])
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/journal", dir);
	memcpy(ret_path, address.sun_path, sizeof(address.sun_path));
	ck_assert_int_eq(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

START_TEST(the_journal_gets_lines_with_their_fields)
{
	char dir[256];
	char stream[64];
	char path[108];
	char got[LOG_ENTRY_MAX + 1] = "";
	int fd;

	scratch_dir(dir, sizeof(dir), "log");
	redirect_stderr(dir, stream);
	fd = bind_journal(dir, path);
	ck_assert_int_eq(setenv("JOURNAL_STREAM", stream, 1), 0);
	log_open(path);
	log_warn("models", "run=%s http=%d it is\ntried again", "r1", 503);
	ck_assert_int_gt(recv(fd, got, LOG_ENTRY_MAX, 0), 0);
	ck_assert_str_eq(got, "PRIORITY=4\nSYSLOG_IDENTIFIER=wbxd\nWBX_AREA=models\n"
			      "MESSAGE=models: run=r1 http=503 it is?tried again\n"
			      "WBX_RUN=r1\nWBX_HTTP=503\n");
	ck_assert_str_eq(read_stderr(got), "");
	(void)close(fd); /* the journal is away: the stream takes it */
	log_error("main", "errno=%d bad", 5);
	ck_assert_str_eq(read_stderr(got), "<3>main: errno=5 bad\n");
	scratch_remove(dir);
}
END_TEST

START_TEST(without_a_journal_socket_the_stream_gets_priorities)
{
	char dir[256];
	char stream[64];
	char got[1024];

	scratch_dir(dir, sizeof(dir), "log");
	redirect_stderr(dir, stream);
	ck_assert_int_eq(setenv("JOURNAL_STREAM", stream, 1), 0);
	log_open("/nonexistent/socket");
	log_info("main", "pid=%d started", 7);
	ck_assert_str_eq(read_stderr(got), "<6>main: pid=7 started\n");
	scratch_remove(dir);
}
END_TEST

START_TEST(a_stream_that_is_not_ours_changes_nothing)
{
	char dir[256];
	char stream[64];
	char path[108];
	char got[1024];
	int fd;

	scratch_dir(dir, sizeof(dir), "log");
	redirect_stderr(dir, stream);
	fd = bind_journal(dir, path);
	ck_assert_int_eq(setenv("JOURNAL_STREAM", "8:1", 1), 0); /* inherited */
	log_open(path);
	log_info("main", "pid=%d started", 7);
	ck_assert_int_eq(recv(fd, got, sizeof(got), 0), -1);
	ck_assert_ptr_nonnull(strstr(read_stderr(got), "Z info  main: pid=7 started\n"));
	(void)close(fd);
	scratch_remove(dir);
}
END_TEST

START_TEST(what_repeats_is_counted)
{
	char dir[256];
	char stream[64];
	char got[4096];
	ssize_t n;
	unsigned lines = 0;

	scratch_dir(dir, sizeof(dir), "log");
	redirect_stderr(dir, stream);
	for (int i = 0; i < 3 * LOG_BURST; i++)
		log_info("main", "again");
	n = pread(STDERR_FILENO, got, sizeof(got), 0);
	for (ssize_t i = 0; i < n; i++)
		lines += got[i] == '\n';
	ck_assert_uint_ge(lines, LOG_BURST);
	ck_assert_uint_lt(lines, 3 * LOG_BURST); /* a window may have ended in between */
	scratch_remove(dir);
}
END_TEST

SUITE_MAIN("log", pairs_before_the_sentence_become_fields, what_is_no_pair_ends_them,
	   a_long_line_is_cut_and_stays_an_entry, the_journal_gets_lines_with_their_fields,
	   without_a_journal_socket_the_stream_gets_priorities,
	   a_stream_that_is_not_ours_changes_nothing, what_repeats_is_counted)
