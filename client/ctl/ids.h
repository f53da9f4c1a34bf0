/* A growing list of numbers: dead letters that were chosen. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Zeroed means empty. */
struct ids {
	uint64_t *at;
	size_t count;
	size_t cap;
};

/* 0, or -ENOMEM. */
int ids_add(struct ids *list, uint64_t id);
void ids_done(struct ids *list);
