/* SPDX-License-Identifier: ISC */
/*
 * The addresses together, see addresses.h. Once one of them is refused or lost the
 * role is not whole any more: the supervisor gives all of it up.
 */
#include "supervisor/addresses.h"

#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/settings.h"
#include "keepsock/vip.h"

#define ADDRESSES_MAGIC UINT32_C(0x52444441) /* "ADDR" */
#define ADDRESSES_MAX   8
#define PROBLEM_MAX     160
/* vip.h keeps this second by itself. */
#define VIP_GUARD_MS 1000
/* How often a new holder's addresses are announced. */
#define ANNOUNCE_EVERY_MS 250
#define TICKLES_MAX       1000000

struct addresses {
	uint32_t magic;
	struct addresses_options options;
	struct vip *vips[ADDRESSES_MAX];
	size_t count;
	uint64_t tickled;
	char problem[PROBLEM_MAX];
};

static void on_taken(void *ctx)
{
	struct addresses *addresses = ctx;

	MAGIC_CHECK(addresses, ADDRESSES_MAGIC);
	addresses->options.on_change(addresses->options.ctx);
}

static void on_problem(void *ctx, const char *reason)
{
	struct addresses *addresses = ctx;

	MAGIC_CHECK(addresses, ADDRESSES_MAGIC);
	if (!addresses->problem[0])
		snprintf(addresses->problem, sizeof(addresses->problem), "%s", reason);
	addresses->options.on_change(addresses->options.ctx);
}

static void on_tickled(void *ctx, uint64_t sent, uint64_t failed)
{
	struct addresses *addresses = ctx;

	MAGIC_CHECK(addresses, ADDRESSES_MAGIC);
	addresses->tickled += sent;
	log_info("clients_woken sent=%" PRIu64 " failed=%" PRIu64, sent, failed);
}

/* The lease's own guard may be longer than the second that vip.h takes off again. */
static uint64_t vip_until(uint64_t held_until_ms)
{
	return held_until_ms + VIP_GUARD_MS;
}

void addresses_take(struct addresses *addresses, uint64_t held_until_ms)
{
	addresses->problem[0] = '\0';
	for (size_t i = 0; i < addresses->count; i++) {
		enum vip_state state = vip_state(addresses->vips[i]);

		if (state == VIP_STATE_HELD || state == VIP_STATE_TAKING)
			(void)vip_renew(addresses->vips[i], vip_until(held_until_ms));
		else
			vip_take(addresses->vips[i], vip_until(held_until_ms));
	}
}

void addresses_renew(struct addresses *addresses, uint64_t held_until_ms)
{
	for (size_t i = 0; i < addresses->count; i++) {
		enum vip_state state = vip_state(addresses->vips[i]);

		/* One that is too late is told by on_lost. */
		if (state == VIP_STATE_HELD || state == VIP_STATE_TAKING)
			(void)vip_renew(addresses->vips[i], vip_until(held_until_ms));
	}
}

void addresses_disconnect(struct addresses *addresses, uint64_t end_ms)
{
	for (size_t i = 0; i < addresses->count; i++)
		vip_disconnect(addresses->vips[i], end_ms);
}

void addresses_drop(struct addresses *addresses)
{
	addresses->problem[0] = '\0';
	for (size_t i = 0; i < addresses->count; i++)
		(void)vip_drop(addresses->vips[i]); /* what went wrong is logged there */
}

bool addresses_ready(const struct addresses *addresses)
{
	for (size_t i = 0; i < addresses->count; i++) {
		if (vip_state(addresses->vips[i]) != VIP_STATE_HELD)
			return false;
	}
	return true;
}

bool addresses_were_there(const struct addresses *addresses)
{
	for (size_t i = 0; i < addresses->count; i++) {
		if (!vip_was_there(addresses->vips[i]))
			return false;
	}
	return true;
}

const char *addresses_problem(const struct addresses *addresses)
{
	return addresses->problem;
}

void addresses_tickle(struct addresses *addresses, int family, const struct vip_peer *peers,
		      size_t count)
{
	for (size_t i = 0; i < addresses->count; i++) {
		struct vip *vip = addresses->vips[i];

		if (vip_address(vip)->family == family && vip_state(vip) == VIP_STATE_HELD)
			(void)vip_tickle(vip, peers, count);
	}
}

uint64_t addresses_tickled(const struct addresses *addresses)
{
	return addresses->tickled;
}

json_t *addresses_rows(const struct addresses *addresses, uint64_t now)
{
	json_t *rows = json_array();

	for (size_t i = 0; i < addresses->count; i++) {
		const struct vip *vip = addresses->vips[i];
		uint64_t expires = vip_expires_ms(vip);
		char text[VIP_ADDRESS_TEXT];

		(void)json_array_append_new(
			rows, json_pack("{s:s, s:s, s:I}", "address",
					vip_address_text(vip_address(vip), text), "state",
					vip_state_name(vip_state(vip)), "left_ms",
					expires > now ? (json_int_t)(expires - now) : 0));
	}
	return rows;
}

static bool open_address(struct addresses *addresses, const char *text, struct buffer *error)
{
	static const struct vip_handlers handlers = {.on_taken = on_taken,
						     .on_refused = on_problem,
						     .on_lost = on_problem,
						     .on_tickled = on_tickled};
	const struct settings *settings = addresses->options.settings;
	struct vip_spec spec = {
		.interface = settings->cluster.vip_interface,
		.announce_ms = (uint32_t)(2 * settings->cluster.lease_ttl),
		.announce_every_ms = ANNOUNCE_EVERY_MS,
		/* 0: there are none. */
		.tickles_per_second =
			settings->cluster.tickle_rate ? (uint32_t)settings->cluster.tickle_rate : 1,
		.tickles_max = settings->cluster.tickle_rate ? TICKLES_MAX : 0,
	};
	const char *problem = settings_vip_parse(text, &spec.address);
	struct vip *vip;

	if (problem) {
		buffer_printf(error, "cluster.vip %s", problem);
		return false;
	}
	vip = vip_open(addresses->options.base, &spec, &handlers, addresses, error);
	if (!vip)
		return false;
	addresses->vips[addresses->count++] = vip;
	return true;
}

struct addresses *addresses_create(const struct addresses_options *options, struct buffer *error)
{
	struct addresses *addresses = xcalloc(1, sizeof(*addresses));
	const struct settings_list *list = &options->settings->cluster.vip;

	addresses->magic = ADDRESSES_MAGIC;
	addresses->options = *options;
	for (size_t i = 0; i < list->count && i < ADDRESSES_MAX; i++) {
		if (!open_address(addresses, list->items[i], error)) {
			addresses_free(addresses);
			return NULL;
		}
	}
	return addresses;
}

void addresses_free(struct addresses *addresses)
{
	if (!addresses)
		return;
	MAGIC_CHECK(addresses, ADDRESSES_MAGIC);
	for (size_t i = 0; i < addresses->count; i++)
		vip_close(addresses->vips[i]);
	addresses->magic = 0;
	free(addresses);
}
