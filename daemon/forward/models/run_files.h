/* The files of one run on their way to W&B, beside its rows: asks for places of a few of them at a time,
 * sends each, marks it in the store. The run's stream then says that they are there (run_send.c).
 * A file here, of those that wait in the store:
 *
 *   WANTED ──an URL came──▶ READY ──upload_start()──▶ SENDING ──▶ SENT ──marked──▶ (none)
 *     ▲                       ▲  │                       │
 *     │                       └──┼──broken: again later──┤
 *     └──the URL has expired─────┴───────────────────────┤
 *                                         refused for good──▶ REFUSED ──marked──▶ (none)
 *
 * Nothing of this is stored: whoever is killed begins at WANTED with what is not marked. Sender
 * thread only. */
#pragma once

#include "daemon/flow/change.h"
#include "daemon/flow/reader.h"

struct models_run;
struct run_files;

struct run_files *run_files_free(struct run_files *f);
/* Does what is due. Returns when it wants its next turn (UINT64_MAX: when something happens). */
uint64_t run_files_turn(struct models_run *r, uint64_t now_ms);
/* There may be more of them. */
void run_files_look(struct models_run *r);
/* Nothing of it is with the store or W&B. */
bool run_files_are_idle(const struct models_run *r);
/* True when the list was its. */
bool run_files_on_changes(struct models_run *r, struct changes *list);
