/* SPDX-License-Identifier: ISC */
/*
 * One request to the node as a client makes it, plain or over TLS: GET /ready, or
 * a WebSocket echo.
 * Runs in the supervisor; each on a connection of its own, so that over time
 * every worker is asked.
 */
#ifndef KEEPSOCK_SUPERVISOR_CHECK_HTTP_H
#define KEEPSOCK_SUPERVISOR_CHECK_HTTP_H

#include <stdbool.h>
#include <stdint.h>

struct check_http;
struct check_place;
struct event_base;

/*
 * error: NULL = good; lives until it returns. standby: it is good, and not ready
 * because it is a standby. From the event loop, once.
 */
typedef void check_done_fn(void *ctx, const char *error, bool standby);

struct check_http *check_ready_start(struct event_base *base, const struct check_place *place,
				     int64_t timeout_ms, check_done_fn *done, void *ctx);
struct check_http *check_echo_start(struct event_base *base, const struct check_place *place,
				    int64_t timeout_ms, check_done_fn *done, void *ctx);

/* done will not be called. NULL is fine. */
void check_http_cancel(struct check_http *check);

#endif
