/* SPDX-License-Identifier: ISC */
/*
 * Tells the neighbours where the VIP is now, again and again for some time: one
 * lost packet, or a predecessor's last word, must not leave it black-holed.
 */
#ifndef KEEPSOCK_VIP_ANNOUNCE_H
#define KEEPSOCK_VIP_ANNOUNCE_H

#include <stdbool.h>

#include "keepsock/vip.h"

struct buffer;
struct event_base;
struct vip_announcer;

/* may_send is asked right before each packet: whether the address is certainly ours. */
struct vip_announcer *vip_announcer_open(struct event_base *base, const struct vip_spec *spec,
					 bool (*may_send)(void *ctx), void *ctx,
					 struct buffer *error);
void vip_announcer_close(struct vip_announcer *announcer);

/* Now, and every announce_every_ms for announce_ms, on the interface of this index. */
void vip_announcer_start(struct vip_announcer *announcer, unsigned interface);
void vip_announcer_stop(struct vip_announcer *announcer);

#endif
