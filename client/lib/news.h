/* What the daemon said about runs: `notice` frames, kept with the run they are about. */
#pragma once

#include "client/lib/state.h"
#include "proto/record.h"

/* Under the library's lock. Texts are NULL or "" while nothing was said. */
struct news {
	uint64_t count; /* of what the daemon's sender said: more than that the run was taken */
	bool known;     /* somebody here had opened it before this process */
	bool resumed;
	bool conflict;
	bool stopped;
	bool url_shown;
	bool conflict_shown;
	int64_t step; /* the next one; -1: not said */
	uint64_t waiting;
	char state[16];
	char *entity;
	char *project;
	char *name;
	char *url;
	char *reason;
	char *config;
	char *summary;
};

struct news *news_free(struct news *n); /* NULL */
/* A notice came. The library's thread, no lock held. */
void news_take(struct wbx *w, const struct record *r);
