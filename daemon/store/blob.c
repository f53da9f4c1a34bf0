/* See blob.h. An open blob is begun by a part at offset 0 and ends adopted, or forgotten with its
 * session. */
#include "daemon/store/blob.h"

#include "daemon/base/fault.h"
#include "daemon/base/fd.h"
#include "daemon/base/log.h"
#include "proto/base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	HEX_MAX = DIGEST_BYTES * 2 + 1
};

enum open_state {
	BLOB_GROWING,
	BLOB_WHOLE,   /* its digest was right */
	BLOB_ADOPTED, /* a record of the transaction under way names it */
};

struct open_blob {
	struct map_node node;
	const void *session;
	uint64_t id; /* the client's */
	enum open_state state;
	int64_t size;
	uint64_t tmp_number; /* 0: in memory */
	struct buf bytes;
	EVP_MD_CTX *sha;
	uint8_t digest[DIGEST_BYTES];
};

struct blob_key {
	const void *session;
	uint64_t id;
};

struct unlink_later {
	struct unlink_later *next;
	uint8_t digest[DIGEST_BYTES];
};

enum {
	SQL_FIND,
	SQL_REF,
	SQL_INSERT,
	SQL_UNREF,
	SQL_DELETE,
	SQL_SUM,
	SQL_COUNT
};
static const char *const texts[SQL_COUNT] = {
	[SQL_FIND] = "SELECT id, size FROM blob WHERE sha256 = ?1",
	[SQL_REF] = "UPDATE blob SET refs = refs + 1 WHERE id = ?1",
	[SQL_INSERT] =
		"INSERT INTO blob (sha256, size, refs, data) VALUES (?1, ?2, 1, ?3) RETURNING id",
	[SQL_UNREF] = "UPDATE blob SET refs = refs - 1 WHERE id = ?1 RETURNING refs, sha256, size, "
		      "data IS NULL",
	[SQL_DELETE] = "DELETE FROM blob WHERE id = ?1",
	[SQL_SUM] = "SELECT coalesce(sum(size), 0) FROM blob WHERE data IS NULL",
};

static void hex_of(char ret[HEX_MAX], struct span digest)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < DIGEST_BYTES; i++) {
		ret[i * 2] = digits[digest.at[i] >> 4];
		ret[i * 2 + 1] = digits[digest.at[i] & 15];
	}
	ret[HEX_MAX - 1] = '\0';
}

/* "ab/abcdef..." below blobs/ */
static void place_of(char ret[HEX_MAX + 3], struct span digest)
{
	char hex[HEX_MAX];

	hex_of(hex, digest);
	ret[0] = hex[0];
	ret[1] = hex[1];
	ret[2] = '/';
	memcpy(ret + 3, hex, sizeof(hex));
}

static void tmp_name(char ret[32], uint64_t number)
{
	(void)snprintf(ret, 32, "%llu", (unsigned long long)number); /* 20 digits at most */
}

static bool matches(struct map_node *node, const void *key)
{
	const struct open_blob *o = container_of(node, struct open_blob, node);
	const struct blob_key *k = key;

	return o->session == k->session && o->id == k->id;
}

static struct open_blob *find_open(const struct blobs *b, const void *session, uint64_t id)
{
	struct blob_key key = {.session = session, .id = id};
	uint64_t words[2] = {(uint64_t)(uintptr_t)session, id};
	struct map_node *node =
		map_find(&b->open, map_hash(&b->open, words, sizeof(words)), matches, &key);

	return node == NULL ? NULL : container_of(node, struct open_blob, node);
}

static struct open_blob *open_blob_free(struct blobs *b, struct open_blob *o)
{
	char name[32];

	if (o->tmp_number != 0) {
		tmp_name(name, o->tmp_number);
		(void)unlinkat(
			b->tmp_dir, name,
			0); /* gone already when it was published; else swept at the next start */
	}
	EVP_MD_CTX_free(o->sha);
	buf_done(&o->bytes);
	return mem_free(o);
}

static void drop(struct blobs *b, struct open_blob *o)
{
	map_remove(&b->open, &o->node);
	(void)open_blob_free(b, o);
}

static int begin(struct blobs *b, const struct part *part, struct open_blob **ret)
{
	struct open_blob *o = mem_zalloc(sizeof(*o));
	uint64_t words[2] = {(uint64_t)(uintptr_t)part->session, part->blob_id};
	int r = -ENOMEM;

	if (o == NULL)
		return -ENOMEM;
	o->session = part->session;
	o->id = part->blob_id;
	buf_init(&o->bytes, BLOB_INLINE_MAX);
	o->sha = EVP_MD_CTX_new();
	if (o->sha != NULL && EVP_DigestInit_ex(o->sha, EVP_sha256(), NULL) == 1)
		r = map_add(&b->open, &o->node, map_hash(&b->open, words, sizeof(words)));
	if (r < 0) {
		(void)open_blob_free(b, o);
		return r;
	}
	*ret = o;
	return 0;
}

/* Opened for each part: however many blobs are open, they hold no descriptors. */
static int open_file(struct blobs *b, struct open_blob *o)
{
	char name[32];
	int flags = O_RDWR | O_CLOEXEC;
	int fd;

	if (o->tmp_number == 0) {
		o->tmp_number = ++b->next_tmp;
		flags |= O_CREAT | O_TRUNC;
	}
	tmp_name(name, o->tmp_number);
	fd = openat(b->tmp_dir, name, flags, 0600);
	return fd < 0 ? -errno : fd;
}

static int append(struct blobs *b, struct open_blob *o, const struct part *part)
{
	auto_fd int fd = -1;
	int r;

	if (part->offset == 0 && part->is_last && part->data.len <= BLOB_INLINE_MAX)
		return buf_add(&o->bytes, part->data.data, part->data.len);
	fd = open_file(b, o);
	if (fd < 0)
		return fd;
	r = fd_pwrite_all(fd, part->data.data, part->data.len, (off_t)o->size);
	if (r == 0 && fdatasync(fd) < 0)
		r = -errno;
	fault_point("blob.part");
	return r == -EDQUOT ? -ENOSPC : r;
}

static int finish(struct open_blob *o, const uint8_t want[DIGEST_BYTES])
{
	unsigned len = 0;

	if (EVP_DigestFinal_ex(o->sha, o->digest, &len) != 1)
		return -ENOMEM;
	if (memcmp(o->digest, want, DIGEST_BYTES) != 0)
		return -EBADMSG;
	o->state = BLOB_WHOLE;
	return 0;
}

void blobs_take_part(struct blobs *b, struct part *part)
{
	struct open_blob *o = find_open(b, part->session, part->blob_id);
	int r = 0;

	if (o != NULL && (part->offset == 0 ||
			  o->state != BLOB_GROWING)) { /* the client uses the number again */
		drop(b, o);
		o = NULL;
	}
	if (o == NULL)
		r = part->offset == 0 ? begin(b, part, &o) : -ENODATA;
	else if (part->offset != (uint64_t)o->size)
		r = -ENODATA;
	if (r == 0)
		r = append(b, o, part);
	if (r == 0 && EVP_DigestUpdate(o->sha, part->data.data, part->data.len) != 1)
		r = -ENOMEM;
	if (r == 0) {
		o->size += (int64_t)part->data.len;
		if (part->is_last)
			r = finish(o, part->digest);
	}
	if (r < 0 && o != NULL)
		drop(b, o);
	part->result = r;
}

void blobs_forget(struct blobs *b, const void *session)
{
	/* Few blobs are open at any time (BLOB_OPEN_MAX per connection), so a walk over all is
	 * cheap. */
	for (size_t i = 0; i < b->open.bucket_count; i++) {
		struct map_node *node = b->open.buckets[i];

		while (node != NULL) {
			struct open_blob *o = container_of(node, struct open_blob, node);

			node = node->next;
			if (o->session == session)
				drop(b, o);
		}
	}
}

static struct open_blob *find_whole(const struct blobs *b, const void *session, struct span digest)
{
	for (size_t i = 0; i < b->open.bucket_count; i++) {
		for (struct map_node *node = b->open.buckets[i]; node != NULL; node = node->next) {
			struct open_blob *o = container_of(node, struct open_blob, node);

			if (o->session == session && o->state != BLOB_GROWING &&
			    memcmp(o->digest, digest.at, DIGEST_BYTES) == 0)
				return o;
		}
	}
	return NULL;
}

bool blobs_has(const struct blobs *b, const void *session, struct span digest)
{
	return find_whole(b, session, digest) != NULL;
}

/* Moves the file under its digest and makes that last: a row must never name a file that a crash
 * could take away. */
static int publish(struct blobs *b, const struct open_blob *o)
{
	char name[32];
	char place[HEX_MAX + 3];
	char folder[3];
	auto_fd int folder_fd = -1;

	tmp_name(name, o->tmp_number);
	place_of(place, (struct span){.at = o->digest, .len = DIGEST_BYTES});
	memcpy(folder, place, 2);
	folder[2] = '\0';
	if (mkdirat(b->blob_dir, folder, 0700) < 0 && errno != EEXIST)
		return -errno;
	folder_fd = openat(b->blob_dir, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder_fd < 0)
		return -errno;
	if (renameat(b->tmp_dir, name, b->blob_dir, place) < 0)
		return -errno;
	if (fsync(folder_fd) < 0 || fsync(b->blob_dir) < 0)
		return -errno;
	fault_point("blob.published");
	return 0;
}

static int insert(struct blobs *b, const struct open_blob *o, int64_t *ret_id)
{
	sqlite3_stmt *s = db_stmt(&b->own, SQL_INSERT);
	int r;

	db_bind_blob(s, 1, (struct span){.at = o->digest, .len = DIGEST_BYTES});
	db_bind_int(s, 2, o->size);
	if (o->tmp_number == 0)
		db_bind_blob(s, 3, buf_span(&o->bytes));
	r = db_step(s);
	if (r != 1)
		return r < 0 ? r : -EIO;
	*ret_id = db_column_int(s, 0);
	return db_run(s);
}

static int find_row(struct blobs *b, struct span digest, int64_t *ret_id, int64_t *ret_size)
{
	sqlite3_stmt *s = db_stmt(&b->own, SQL_FIND);
	int r;

	db_bind_blob(s, 1, digest);
	r = db_step(s);
	if (r == 1) {
		*ret_id = db_column_int(s, 0);
		*ret_size = db_column_int(s, 1);
		return db_run(s);
	}
	return r < 0 ? r : -ENOENT;
}

static int add_ref(struct blobs *b, int64_t id)
{
	sqlite3_stmt *s = db_stmt(&b->own, SQL_REF);

	db_bind_int(s, 1, id);
	return db_run(s);
}

int blobs_adopt(struct blobs *b, const void *session, struct span digest, int64_t *ret_id,
		int64_t *ret_size)
{
	struct open_blob *o = find_whole(b, session, digest);
	int r;

	if (o == NULL)
		return -ENOENT;
	o->state = BLOB_ADOPTED;
	r = find_row(b, digest, ret_id, ret_size);
	if (r == 0)
		return add_ref(b, *ret_id); /* the same bytes are here: the new copy goes with
					       blobs_settle() */
	if (r != -ENOENT)
		return r;
	if (o->tmp_number != 0) {
		r = publish(b, o);
		if (r < 0)
			return r;
		b->file_bytes += o->size;
	}
	*ret_size = o->size;
	return insert(b, o, ret_id);
}

static void unlink_doomed(struct blobs *b, bool committed)
{
	while (b->doomed != NULL) {
		struct unlink_later *gone = b->doomed;
		char place[HEX_MAX + 3];

		b->doomed = gone->next;
		place_of(place, (struct span){.at = gone->digest, .len = DIGEST_BYTES});
		if (committed && unlinkat(b->blob_dir, place, 0) < 0 && errno != ENOENT)
			log_warn("blob",
				 "file=%s errno=%d a blob nobody needs could not be removed; the "
				 "next start tries again",
				 place, errno);
		(void)mem_free(gone);
	}
}

static int sum_files(struct blobs *b)
{
	sqlite3_stmt *s = db_stmt(&b->own, SQL_SUM);
	int r = db_step(s);

	if (r != 1)
		return r;
	b->file_bytes = db_column_int(s, 0);
	return db_run(s);
}

void blobs_settle(struct blobs *b, bool committed)
{
	unlink_doomed(b, committed);
	if (!committed)
		(void)sum_files(b); /* the old sum is near enough when the database cannot say */
	for (size_t i = 0; i < b->open.bucket_count; i++) {
		struct map_node *node = b->open.buckets[i];

		while (node != NULL) {
			struct open_blob *o = container_of(node, struct open_blob, node);

			node = node->next;
			if (o->state == BLOB_ADOPTED)
				drop(b, o); /* not committed: the connection is closed, and the
					       client sends it again */
		}
	}
}

int blobs_ref(struct blobs *b, struct span digest, int64_t *ret_id)
{
	int64_t size;
	int r = find_row(b, digest, ret_id, &size);

	return r < 0 ? r : add_ref(b, *ret_id);
}

static int doom(struct blobs *b, struct span digest)
{
	struct unlink_later *later = mem_alloc(sizeof(*later));

	if (later == NULL)
		return -ENOMEM;
	memcpy(later->digest, digest.at, DIGEST_BYTES);
	later->next = b->doomed;
	b->doomed = later;
	return 0;
}

int blobs_unref(struct blobs *b, int64_t id)
{
	sqlite3_stmt *s = db_stmt(&b->own, SQL_UNREF);
	bool last = false;
	int r;

	db_bind_int(s, 1, id);
	r = db_step(s);
	if (r != 1)
		return r < 0 ? r : -ENOENT;
	last = db_column_int(s, 0) <= 0;
	if (last && db_column_int(s, 3) == 1) {
		r = doom(b, db_column(s, 1));
		if (r < 0)
			return r;
		b->file_bytes -= db_column_int(s, 2);
	}
	r = db_run(s);
	if (r < 0 || !last)
		return r;
	s = db_stmt(&b->own, SQL_DELETE);
	db_bind_int(s, 1, id);
	return db_run(s);
}

int blob_file_open(int store_dir, struct span digest)
{
	char place[HEX_MAX + 3];
	char path[HEX_MAX + 16];
	int fd;

	place_of(place, digest);
	(void)snprintf(path, sizeof(path), "blobs/%s", place); /* fits: see HEX_MAX */
	fd = openat(store_dir, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

/* --- start --- */

static int digest_of_hex(const char *hex, uint8_t ret[DIGEST_BYTES])
{
	if (strlen(hex) != HEX_MAX - 1 || strspn(hex, "0123456789abcdef") != HEX_MAX - 1)
		return -EINVAL;
	for (size_t i = 0; i < DIGEST_BYTES; i++) {
		for (size_t k = 0; k < 2; k++) {
			char c = hex[i * 2 + k];

			ret[i] = (uint8_t)(ret[i] << 4 | (c <= '9' ? c - '0' : c - 'a' + 10));
		}
	}
	return 0;
}

static int sweep_file(struct blobs *b, int dir, const char *name, bool has_rows)
{
	uint8_t digest[DIGEST_BYTES] = {0};
	int64_t id;
	int64_t size;
	int r = -ENOENT;

	if (has_rows && digest_of_hex(name, digest) == 0)
		r = find_row(b, (struct span){.at = digest, .len = DIGEST_BYTES}, &id, &size);
	if (r != -ENOENT)
		return r;
	return unlinkat(dir, name, 0) < 0 && errno != EISDIR && errno != ENOENT ? -errno : 0;
}

/* Removes the files in dir that no row names; descends into the folders of blobs/. */
static int sweep(struct blobs *b, int dir, bool has_rows, bool descend)
{
	int copy = fcntl(dir, F_DUPFD_CLOEXEC, 0);
	DIR *list = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *entry;
	int r = 0;

	if (list == NULL) {
		r = -errno;
		(void)fd_close(copy);
		return r;
	}
	rewinddir(list);
	while (r == 0 && (entry = readdir(list)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		if (descend) {
			auto_fd int folder =
				openat(dir, entry->d_name,
				       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

			r = folder < 0 ? 0 : sweep(b, folder, has_rows, false);
		} else {
			r = sweep_file(b, dir, entry->d_name, has_rows);
		}
	}
	(void)closedir(list); /* read only */
	return r;
}

static int open_folder(int store_dir, const char *name)
{
	int fd;

	if (mkdirat(store_dir, name, 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(store_dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int blobs_open(struct blobs *ret, struct db *db, int store_dir)
{
	int r;

	*ret = (struct blobs){.tmp_dir = -1, .blob_dir = -1};
	r = map_init(&ret->open);
	if (r == 0) {
		ret->own.handle = db->handle;
		r = db_prepare(&ret->own, texts, SQL_COUNT);
	}
	if (r == 0) {
		ret->tmp_dir = open_folder(store_dir, "tmp");
		r = ret->tmp_dir < 0 ? ret->tmp_dir : 0;
	}
	if (r == 0) {
		ret->blob_dir = open_folder(store_dir, "blobs");
		r = ret->blob_dir < 0 ? ret->blob_dir : 0;
	}
	if (r == 0 && fsync(store_dir) < 0)
		r = -errno;
	if (r == 0)
		r = sweep(ret, ret->tmp_dir, false, false);
	if (r == 0)
		r = sweep(ret, ret->blob_dir, true, true);
	if (r == 0)
		r = sum_files(ret);
	if (r < 0)
		blobs_close(ret);
	return r;
}

void blobs_close(struct blobs *b)
{
	struct map_node *node;

	while ((node = map_pop(&b->open)) != NULL)
		(void)open_blob_free(b, container_of(node, struct open_blob, node));
	map_done(&b->open);
	unlink_doomed(b, false);
	b->tmp_dir = fd_close(b->tmp_dir);
	b->blob_dir = fd_close(b->blob_dir);
	b->own.handle = NULL; /* db's to close */
	db_close(&b->own);
}
