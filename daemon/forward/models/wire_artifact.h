/* The requests by which an artifact gets to W&B, and their answers; the rest of what is sent stands in
 * wire.h. Pure. Facts: research, wire/wandb-models.md section 7 and .graphql. */
#pragma once

#include "daemon/forward/models/wire.h"
#include "proto/mp.h"

enum {
	WIRE_ID_MAX = 513,           /* W&B's ids, with a NUL */
	WIRE_URL_MAX = 16 << 10,     /* a signed URL, with a NUL */
	WIRE_HEADERS_MAX = 16,       /* of one file */
	WIRE_HEADER_BYTES = 4 << 10, /* all of them */
	WIRE_PARTS_MAX = 128,        /* of one file */
};

/* --- createArtifact --- */
struct wire_artifact {
	struct wire_name name;
	struct span type;
	struct span collection;
	const char *digest;
	struct span client_id;
	struct span sequence_client_id;
	struct span description; /* "": none */
	struct span metadata;    /* JSON text; "": none */
	struct span aliases;     /* msgpack array; .at NULL: none */
	struct span tags;        /* the same; the server announces that it knows them */
	bool is_latest;
	int64_t step; /* 0 and below: not said */
};
void wire_create_artifact(struct buf *ret, const struct wire_artifact *a);
struct wire_created {
	char id[WIRE_ID_MAX];
	char latest[WIRE_ID_MAX]; /* the newest of its collection; "": none */
	bool is_committed;        /* W&B has this content already: nothing is left to do */
};
/* As the answers in wire.h: 0, -EBADMSG, -EREMOTEIO. */
int wire_read_created(struct span body, struct wire_created *ret);

/* --- createArtifactManifest: without a digest for its id, with one for a place to put it --- */
struct wire_manifest {
	struct wire_name name;
	const char *artifact;
	const char *base;   /* "": none */
	const char *digest; /* base64; "": not made yet */
};
void wire_artifact_manifest(struct buf *ret, const struct wire_manifest *m);

/* Where bytes go: a signed URL and what has to go with them. */
struct wire_place {
	char url[WIRE_URL_MAX]; /* "": the server has them */
	char headers[WIRE_HEADER_BYTES];
	struct span header[WIRE_HEADERS_MAX]; /* into headers */
	size_t header_count;
};
/* ret_id: WIRE_ID_MAX bytes; ret_place may be NULL. */
int wire_read_manifest(struct span body, char *ret_id, struct wire_place *ret_place);

/* --- createArtifactFiles --- */
struct wire_files {
	struct json json;
	const char *artifact;
	const char *manifest;
};
void wire_files_begin(struct wire_files *f, struct buf *ret, const char *artifact,
		      const char *manifest);
/* part_digests: hex MD5s one after another when it goes in parts, else "". */
void wire_files_add(struct wire_files *f, struct span path, struct span md5,
		    struct span part_digests);
void wire_files_end(struct wire_files *f);
struct wire_file {
	struct wire_place place;
	char birth[WIRE_ID_MAX]; /* of the artifact that brought the bytes */
	char storage_path[1024];
	char upload_id[1024]; /* "": it goes in one piece */
	const char *part_urls
		[WIRE_PARTS_MAX]; /* borrowed until the callback returns; by number, from 1 */
	size_t part_count;
};
/* Files in the order of the request. 0 goes on. */
typedef int (*wire_on_file)(void *arg, size_t index, const struct wire_file *file);
/* -EBADMSG also when there are not `count`. */
int wire_read_files(struct span body, size_t count, wire_on_file on_file, void *arg);

/* --- completeMultipartUploadArtifact --- */
struct wire_multipart {
	const char *artifact;
	const char *storage_path;
	const char *upload_id;
	size_t count;
	const char *const *etags; /* by number, from 1 */
};
void wire_complete_multipart(struct buf *ret, const struct wire_multipart *m);
int wire_read_multipart(struct span body);

/* --- commitArtifact --- */
void wire_commit_artifact(struct buf *ret, const char *artifact);
int wire_read_committed(struct span body);
