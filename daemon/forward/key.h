/* Where the API key comes from, and nowhere it goes: it is in this memory and in curl's, in no log,
 * status, database or environment of ours. The site's, sources in order: the systemd credential
 * `wandb-api-key`, a file of mode 0600, $WANDB_API_KEY, ~/.netrc. A user's own: what he handed over
 * by the control socket (key_user.c). Any one thread at a time. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	API_KEY_MIN =
		20, /* W&B's keys have 40 characters or more; no shorter one is worth a request */
	API_KEY_MAX = 1024,
};

struct key {
	char text[API_KEY_MAX + 1]; /* "": none */
	char source[256];           /* for people: which file or variable */
};

/* Takes $WANDB_API_KEY out of the environment, also of what /proc shows. Once, before threads
 * start. */
void key_take_environment(void);

/* Looks through the sources. 0 and *ret (also with text "": there is no key anywhere); -EINVAL: a
 * source is there and is not fit for use, ret_error says which and what to do; -ENOMEM. */
int key_find(struct key *ret, const char *key_file, const char *base_url, char ret_error[256]);

/* A key out of text, without the white space around it. 0; -ENOENT: empty; -EINVAL: not a key. */
int key_take(struct key *ret, const char *text, size_t len);

/* What users handed over, a file of mode 0600 each, named by uid, in the directory dir (mode 0700,
 * made when the first one comes). A file that a person put there counts as well.
 * 0; -ENOENT: that user gave none; -EINVAL with a sentence in ret_error; -ENOMEM. */
int key_of_user(struct key *ret, const char *dir, uint32_t uid, char ret_error[256]);
/* Replaces it, synced to disk. 0, or -errno. */
int key_keep(const struct key *k, const char *dir, uint32_t uid);
/* 0; -ENOENT: there was none; -errno. */
int key_remove(const char *dir, uint32_t uid);

/* Overwrites. */
void key_forget(struct key *k);
bool key_equal(const struct key *a, const struct key *b);

/* The password of the machine in the text of a netrc file. 0; -ENOENT. Only `machine` entries with
 * their tokens on one or several lines; macros end the search. */
int key_from_netrc(char ret_key[API_KEY_MAX + 1], const char *text, const char *machine);
