/* Everything that a client can make the daemon keep has its number here; PROTOCOL.md quotes them
 * and `welcome` announces those that a client must know. Raising one is compatible, lowering one is
 * not. */
#pragma once

enum {
	PROTO_VERSION = 1, /* `v` of hello and welcome: the newest this build speaks */

	/* one record */
	RECORD_MAX = 1 << 20,          /* bytes of a frame's payload: [kind, seq, body] */
	RECORD_DEPTH_MAX = 32,         /* maps and arrays inside one another, the frame's too */
	RECORD_ITEMS_MAX = RECORD_MAX, /* values in a record, keys included */
	RECORD_KEYS_MAX = 1 << 16,     /* map entries in a record, all maps together */
	KEY_MAX = 1024,                /* bytes of a map key */
	NAME_MAX_BYTES = 512,          /* run id, project, entity, host ... */
	TOKEN_MIN = 16,                /* bytes of a run's token; at most NAME_MAX_BYTES */
	RECORD_BLOBS_MAX = 128,        /* blobs that one record names */

	/* blobs: what does not fit into a record */
	BLOB_PART_MAX = RECORD_MAX - 1024, /* bytes of data in one `blob` frame */
	BLOB_OPEN_MAX = 128,         /* of a connection: begun and not yet named by a record */
	BLOB_WINDOW_PARTS = 2,       /* of a connection: parts that wait for the disk */
	BLOB_WINDOW_BYTES = 8 << 20, /* the same, of all connections together */

	/* connections */
	CONNECTIONS_MAX = 8192, /* in all */
	CONNECTIONS_PER_UID_MAX = 2048,
	HELLO_TIMEOUT_MS = 10000,        /* a connection says hello within this time */
	PARTIAL_TIMEOUT_MS = 30000,      /* a frame that began is complete after this time */
	PARTIAL_BUDGET_BYTES = 16 << 20, /* unfinished frames of all connections together */
	OUTPUT_MAX_BYTES = 1 << 16,      /* answers that a client has not read */
	RUNS_PER_PRODUCER_MAX = 256,

	/* producers */
	PRODUCER_BYTES = 16, /* of the random name in hello */
	DIGEST_BYTES = 32,   /* SHA-256 */

	/* control socket */
	CONTROL_REQUEST_MAX = 1 << 16,
	CONTROL_REPLY_MAX = 1 << 20, /* one frame; long answers are many */
	CONTROL_CONNECTIONS_MAX = 256,
};

/* Bytes of one blob. */
#define BLOB_MAX ((unsigned long long)8 << 30)
