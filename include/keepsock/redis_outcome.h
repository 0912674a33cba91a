/* SPDX-License-Identifier: ISC */
/*
 * What the answers of all typed Redis calls have in common. Used by workers.
 * A result and every slice in it live until the callback returns.
 */
#ifndef KEEPSOCK_REDIS_OUTCOME_H
#define KEEPSOCK_REDIS_OUTCOME_H

#include <stdint.h>

#include "keepsock/redis_command.h"

/* Channels, members or clients in one call: from 1 to this, else REDIS_RESULT_ERROR. */
#define REDIS_BATCH_MAX 1024

/* Begins every result. */
struct redis_outcome {
	enum redis_result code;
	const char *error; /* text for the log unless code is OK; never NULL */
};

/* For calls whose answer is a number. */
struct redis_count_result {
	struct redis_outcome outcome;
	uint64_t count;
};

typedef void (*redis_count_callback)(void *ctx, const struct redis_count_result *result);

#endif
