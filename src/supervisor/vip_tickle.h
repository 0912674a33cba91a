/* SPDX-License-Identifier: ISC */
/*
 * Sends tickle ACKs from the VIP to the clients of a lost host, at a rate: each
 * of them comes back at once, and the rate is what paces them.
 */
#ifndef KEEPSOCK_VIP_TICKLE_H
#define KEEPSOCK_VIP_TICKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keepsock/vip.h"

struct buffer;
struct event_base;
struct vip_tickler;

/* may_send as for the announcer; on_done when the queue has become empty, or was made so. */
struct vip_tickler *vip_tickler_open(struct event_base *base, const struct vip_spec *spec,
				     bool (*may_send)(void *ctx),
				     void (*on_done)(void *ctx, uint64_t sent, uint64_t failed),
				     void *ctx, struct buffer *error);
void vip_tickler_close(struct vip_tickler *tickler);

/* Appends copies, as many as there is room for, and returns how many. */
size_t vip_tickler_add(struct vip_tickler *tickler, const struct vip_peer *peers, size_t count);

/* Forgets those that wait; they count as failed. */
void vip_tickler_stop(struct vip_tickler *tickler);

#endif
