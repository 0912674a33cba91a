/* SPDX-License-Identifier: ISC */
/*
 * What a fresh connection needs to know of the server behind it, out of its
 * answer to INFO: which run it is, and whether keepsock can live on it. For the
 * Redis room and the worker's subscription connections.
 */
#ifndef KEEPSOCK_REDIS_INFO_H
#define KEEPSOCK_REDIS_INFO_H

#include "keepsock/redis_command.h"
#include "keepsock/slice.h"

/*
 * Reads the run id. NULL, or why this server is not to be used (a constant);
 * run is "" then.
 */
const char *redis_info_read(struct slice text, char run[REDIS_RUN_MAX + 1]);

#endif
