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
 * Reads the run id: half of it is the server's run_id, which ends with its
 * process, half its master_replid, which ends when another server becomes the
 * master. Only both together tell a master that was demoted and promoted again
 * from the one it was before. NULL, or why this server is not to be used (a constant);
 * run is "" then.
 */
const char *redis_info_read(struct slice text, char run[REDIS_RUN_MAX + 1]);

#endif
