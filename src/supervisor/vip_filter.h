/* SPDX-License-Identifier: ISC */
/*
 * The nft rule that silences an address which is not local: without it,
 * established IPv6 connections and transparent sockets go on sending from a VIP
 * that another host has by now. It stays when the supervisor ends or dies.
 */
#ifndef KEEPSOCK_VIP_FILTER_H
#define KEEPSOCK_VIP_FILTER_H

#include <stdbool.h>
#include <stdint.h>

#include "keepsock/vip.h"

struct buffer;
struct event_base;
struct vip_filter;

/*
 * Sets the rule in a table of its own ("keepsock_vip_" and the address), and
 * again whenever somebody deletes that table ("nft flush ruleset"). NULL with
 * error when the kernel refuses.
 */
struct vip_filter *vip_filter_open(struct event_base *base, const struct settings_vip *address,
				   struct buffer *error);

/* Leaves the rule. */
void vip_filter_close(struct vip_filter *filter);

/* Sets it, whatever somebody has done to the table meanwhile. */
bool vip_filter_ensure(struct vip_filter *filter, struct buffer *error);

#endif
