/* SPDX-License-Identifier: ISC */
/*
 * Destroys every TCP connection on the VIP, whoever owns it (SOCK_DESTROY), and
 * makes certain that none is left. Listening sockets stay: they hold no
 * connection, and their owners could not bind again.
 */
#ifndef KEEPSOCK_VIP_SOCKETS_H
#define KEEPSOCK_VIP_SOCKETS_H

#include <stdbool.h>
#include <stdint.h>

#include "keepsock/vip.h"

struct buffer;
struct event_base;
struct vip_sweep;

/* Both are called from the loop. */
struct vip_sweep_handlers {
	void (*on_clean)(void *ctx); /* once for each start */
	/* One was destroyed whose client does not know, and is not told: may be NULL. */
	void (*on_silent)(void *ctx, const struct vip_peer *client);
};

struct vip_sweep *vip_sweep_open(struct event_base *base, const struct settings_vip *address,
				 const struct vip_sweep_handlers *handlers, void *ctx,
				 struct buffer *error);
void vip_sweep_close(struct vip_sweep *sweep);

/*
 * Begins anew: looks through all connections, destroys those on the address, and
 * looks again until it finds none. In pieces, so that the loop is not held up
 * for longer than a few milliseconds.
 */
void vip_sweep_start(struct vip_sweep *sweep);
void vip_sweep_stop(struct vip_sweep *sweep);

/*
 * Destroys those whose clients don't know yet, at once: until none is found, or end_ns
 * (boottime) has come. How many. Not while a sweep goes on; on_clean does not follow.
 */
uint64_t vip_sweep_now(struct vip_sweep *sweep, uint64_t end_ns);

/* Whether the client has a connection to the address here. */
bool vip_sweep_finds(struct vip_sweep *sweep, const struct vip_peer *client);

/* Destroyed since the start. */
uint64_t vip_sweep_destroyed(const struct vip_sweep *sweep);

/* Why it is not done yet, as far as that is known: "3 connections left: Operation not permitted".
 */
void vip_sweep_explain(const struct vip_sweep *sweep, struct buffer *out);

#endif
