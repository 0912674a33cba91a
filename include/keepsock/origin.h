/* SPDX-License-Identifier: ISC */
/*
 * Which web pages may connect: the check of a browser's Origin header (RFC
 * 6454) before a WebSocket upgrade. Runs in workers. A request without Origin
 * comes from no browser and is the caller's to allow.
 */
#ifndef KEEPSOCK_ORIGIN_H
#define KEEPSOCK_ORIGIN_H

#include <stdbool.h>
#include <stddef.h>

#include "keepsock/slice.h"

/*
 * True when origin names the same host[:port] as host (the request's Host; the
 * scheme plays no part except for its default port, because TLS may end before
 * us), or matches one of the n glob patterns as a whole. '*' stands for any
 * bytes, '?' for one; letters match without case. patterns are borrowed.
 */
bool origin_allowed(struct slice origin, struct slice host, char *const *patterns, size_t n);

#endif
