/* SPDX-License-Identifier: ISC */
/*
 * The virtual IP address: its states, and who does what in each. Runs in the
 * supervisor. It must never show the address beyond the time it was told, and
 * asks the clock and the kernel's events again after everything that may have
 * taken long: this process may have been stopped anywhere.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/clock.h"
#include "keepsock/magic.h"
#include "keepsock/vip.h"
#include "supervisor/netlink.h"
#include "supervisor/vip_address.h"
#include "supervisor/vip_announce.h"
#include "supervisor/vip_filter.h"
#include "supervisor/vip_hold.h"
#include "supervisor/vip_sockets.h"
#include "supervisor/vip_tickle.h"

#define VIP_MAGIC 0x4f504956u /* "VIPO" */
#define NS_PER_MS UINT64_C(1000000)

/* What the handlers are still to be told, in the order of this struct. */
struct notices {
	bool tickled, lost, refused, taken, clean;
	uint64_t tickles_sent, tickles_failed;
	struct buffer reason; /* of lost or refused */
};

/* Clients whose connections ended here without a word to them. */
struct silenced {
	struct vip_peer *peers; /* owned */
	size_t count, room;
	uint64_t at_ns; /* the last of them (boottime) */
};

/* After such a time they have found out by themselves. */
#define SILENCE_NS UINT64_C(300000000000)

struct vip {
	uint32_t magic;
	struct vip_spec spec;
	char *interface_name; /* owned; spec.interface */
	char name[VIP_ADDRESS_TEXT];
	struct vip_handlers handlers;
	void *ctx;
	enum vip_state state;
	uint64_t until_ns;       /* what we were told (boottime) */
	struct vip_hold hold;    /* what the kernel was told */
	struct netlink requests; /* rtnetlink */
	struct netlink events;   /* rtnetlink: addresses of the family */
	bool deleted;            /* an event said that the address went */
	struct event *on_events;
	struct event *deadline; /* TAKING: no use any more; HELD: it has run out */
	struct event *deliver;
	struct notices notices;
	struct vip_filter *filter;
	struct vip_sweep *sweep;
	struct vip_announcer *announcer;
	struct vip_tickler *tickler;
	struct silenced silenced;
	bool was_there; /* when it was taken */
};

static const char *const state_names[] = {
	[VIP_STATE_ABSENT] = "absent",
	[VIP_STATE_TAKING] = "taking",
	[VIP_STATE_HELD] = "held",
	[VIP_STATE_CLEANING] = "cleaning",
};

const char *vip_state_name(enum vip_state state)
{
	return state_names[state];
}

static void change_state(struct vip *vip, enum vip_state state, const char *reason)
{
	log_info("vip_state address=%s interface=%s change=\"%s -> %s\" reason=%s", vip->name,
		 vip->spec.interface, vip_state_name(vip->state), vip_state_name(state),
		 log_value_str(reason));
	vip->state = state;
}

static void set_timer(struct event *timer, uint64_t at_ns)
{
	uint64_t now = clock_boottime_ns(), wait = at_ns > now ? at_ns - now : 0;
	struct timeval delay = {.tv_sec = (time_t)(wait / 1000000000),
				.tv_usec = (suseconds_t)(wait % 1000000000 / 1000)};

	if (event_add(timer, &delay) == 0)
		return;
	log_error("vip_timer_failed reason=%s", strerror(errno));
	abort();
}

/* ---- what the handlers are told ---- */

static void notify(struct vip *vip, bool *notice, const char *reason)
{
	*notice = true;
	if (reason) {
		buffer_reset(&vip->notices.reason);
		buffer_append_str(&vip->notices.reason, reason);
	}
	event_active(vip->deliver, EV_TIMEOUT, 0);
}

static bool take_notice(bool *notice)
{
	bool given = *notice;

	*notice = false;
	return given;
}

/* A handler may call us, and so take back what is still to be told. */
static void on_deliver(evutil_socket_t fd, short what, void *ctx)
{
	struct vip *vip = ctx;
	struct notices *notices;
	const struct vip_handlers *handlers;

	(void)fd;
	(void)what;
	MAGIC_CHECK(vip, VIP_MAGIC);
	notices = &vip->notices;
	handlers = &vip->handlers;
	if (take_notice(&notices->tickled) && handlers->on_tickled)
		handlers->on_tickled(vip->ctx, notices->tickles_sent, notices->tickles_failed);
	if (take_notice(&notices->lost) && handlers->on_lost) {
		char *reason = xstrdup(buffer_cstr(&notices->reason));

		handlers->on_lost(vip->ctx, reason);
		free(reason);
	}
	if (take_notice(&notices->refused) && handlers->on_refused) {
		char *reason = xstrdup(buffer_cstr(&notices->reason));

		handlers->on_refused(vip->ctx, reason);
		free(reason);
	}
	if (take_notice(&notices->taken) && handlers->on_taken)
		handlers->on_taken(vip->ctx);
	if (take_notice(&notices->clean) && handlers->on_clean)
		handlers->on_clean(vip->ctx);
}

/* ---- what the kernel tells ---- */

static void on_message(const struct nlmsghdr *message, void *ctx)
{
	struct vip *vip = ctx;
	struct vip_address_status status;

	if (vip_address_in_message(message, &vip->spec.address, &status) &&
	    message->nlmsg_type == RTM_DELADDR && status.interface == vip->hold.interface)
		vip->deleted = true;
}

/*
 * Takes in every event that there is. Where some were dropped, the address is
 * looked for; that it was there all the time is then known by the clock alone,
 * and only while we hold it.
 */
static void read_events(struct vip *vip)
{
	struct vip_address_status status;

	if (netlink_events(&vip->events, on_message, vip) == 0)
		return;
	if (vip->state != VIP_STATE_HELD ||
	    vip_address_find(&vip->requests, &vip->spec.address, &status) < 0 || !status.present ||
	    status.interface != vip->hold.interface)
		vip->deleted = true;
}

/* Deletes it wherever it is. */
static int delete_address(struct vip *vip)
{
	struct settings_vip found = vip->spec.address;
	struct vip_address_status status;
	int code;

	vip->hold.expires_ns = 0;
	code = vip_address_find(&vip->requests, &found, &status);
	if (code < 0)
		return vip->hold.interface ? vip_hold_end(&vip->hold) : code;
	if (!status.present)
		return 0;
	found.prefix = status.prefix;
	return vip_address_delete(&vip->requests, &found, status.interface);
}

static bool remove_address(struct vip *vip)
{
	struct buffer error = {0};
	int code = delete_address(vip);

	if (code < 0) {
		netlink_explain(&vip->requests, code, &error);
		log_error("vip_not_deleted address=%s interface=%s reason=%s", vip->name,
			  vip->spec.interface, log_value_str(buffer_cstr(&error)));
	}
	buffer_free(&error);
	return code == 0;
}

/* ---- leaving it ---- */

/* Ends whatever goes on; the address goes first. */
static bool leave(struct vip *vip, const char *reason)
{
	bool removed = remove_address(vip);

	evtimer_del(vip->deadline);
	vip_announcer_stop(vip->announcer);
	vip_tickler_stop(vip->tickler);
	change_state(vip, VIP_STATE_CLEANING, reason);
	vip_sweep_start(vip->sweep);
	return removed;
}

static void lose(struct vip *vip, const char *reason)
{
	leave(vip, reason);
	notify(vip, &vip->notices.lost, reason);
}

static void refuse(struct vip *vip, const char *reason)
{
	leave(vip, reason);
	notify(vip, &vip->notices.refused, reason);
}

/* Somebody else's, and not ours to touch. */
static void refuse_untouched(struct vip *vip, const char *reason)
{
	evtimer_del(vip->deadline);
	change_state(vip, VIP_STATE_ABSENT, reason);
	notify(vip, &vip->notices.refused, reason);
}

/* ---- taking it ---- */

/* The kernel's own view after the fact: NULL, or what is wrong. */
static const char *check_address(struct vip *vip)
{
	const uint32_t unusable = IFA_F_TENTATIVE | IFA_F_DADFAILED;
	struct vip_address_status status;

	if (vip_address_find(&vip->requests, &vip->spec.address, &status) < 0)
		return "it could not be read back";
	if (!status.present || status.interface != vip->hold.interface)
		return "it was set and is not there";
	if (vip->spec.address.family == AF_INET6 && status.flags & unusable)
		return "the kernel does not use it: another host has it";
	return status.lifetime_s == VIP_FOREVER ? "somebody took its lifetime away" : NULL;
}

/*
 * Sets the address or its lifetime. The events that came meanwhile tell whether
 * it was there all the time.
 */
static bool set_address(struct vip *vip, enum vip_hold_way way, struct buffer *error)
{
	if (!vip_hold_set(&vip->hold, way, vip->until_ns, error))
		return false;
	read_events(vip);
	if (vip->deleted)
		buffer_append_str(error, "it was removed while it was set");
	return !vip->deleted;
}

static void on_silent(void *ctx, const struct vip_peer *client)
{
	struct vip *vip = ctx;
	struct silenced *silenced = &vip->silenced;

	MAGIC_CHECK(vip, VIP_MAGIC);
	if (silenced->count == vip->spec.tickles_max)
		return;
	if (silenced->count == silenced->room) {
		silenced->room = silenced->room ? 2 * silenced->room : 64;
		silenced->peers =
			xrealloc(silenced->peers, silenced->room * sizeof(*silenced->peers));
	}
	silenced->peers[silenced->count++] = *client;
	silenced->at_ns = clock_boottime_ns();
}

/* Another host may have had it meanwhile, and woken them: one packet more does no harm. */
static void wake_silenced(struct vip *vip)
{
	struct silenced *silenced = &vip->silenced;

	if (silenced->count && clock_boottime_ns() - silenced->at_ns < SILENCE_NS)
		(void)vip_tickler_add(vip->tickler, silenced->peers, silenced->count);
	free(silenced->peers);
	*silenced = (struct silenced){0};
}

static void take_now(struct vip *vip, enum vip_hold_way way)
{
	struct buffer error = {0};
	const char *wrong;

	if (!set_address(vip, way, &error)) {
		refuse(vip, buffer_cstr(&error));
	} else if ((wrong = check_address(vip))) {
		refuse(vip, wrong);
	} else {
		change_state(vip, VIP_STATE_HELD, way == VIP_HOLD_ADOPT ? "it was there" : "set");
		set_timer(vip->deadline, vip->hold.expires_ns);
		vip_announcer_start(vip->announcer, vip->hold.interface);
		vip->was_there = way == VIP_HOLD_ADOPT;
		wake_silenced(vip);
		notify(vip, &vip->notices.taken, NULL);
	}
	buffer_free(&error);
}

static void on_swept(void *ctx)
{
	struct vip *vip = ctx;
	uint64_t destroyed;

	MAGIC_CHECK(vip, VIP_MAGIC);
	destroyed = vip_sweep_destroyed(vip->sweep);
	if (destroyed)
		log_info("vip_cleaned address=%s destroyed=%" PRIu64, vip->name, destroyed);
	if (vip->state == VIP_STATE_TAKING) {
		read_events(vip);
		vip->deleted = false;
		take_now(vip, VIP_HOLD_NEW);
		return;
	}
	change_state(vip, VIP_STATE_ABSENT, "no connection is left on it");
	notify(vip, &vip->notices.clean, NULL);
}

/* What is in the way of taking it for certain, or NULL. */
static const char *check_foreign(const struct vip *vip, const struct vip_address_status *status)
{
	if (!status->present)
		return NULL;
	if (status->interface != vip->hold.interface)
		return "it is on another interface";
	if (status->lifetime_s == VIP_FOREVER)
		return "somebody has set it without a lifetime";
	return NULL;
}

static void begin_taking(struct vip *vip)
{
	struct vip_address_status status;
	struct buffer error = {0};
	const char *wrong = NULL;

	vip->hold.interface = if_nametoindex(vip->spec.interface);
	read_events(vip);
	vip->deleted = false;
	if (!vip->hold.interface)
		wrong = "there is no such interface";
	else if (!vip_filter_ensure(vip->filter, &error))
		wrong = buffer_cstr(&error);
	else if (vip_address_find(&vip->requests, &vip->spec.address, &status) < 0)
		wrong = "the kernel does not tell its addresses";
	else
		wrong = check_foreign(vip, &status);
	if (wrong) {
		refuse_untouched(vip, wrong);
	} else if (status.present && status.prefix == vip->spec.address.prefix) {
		/* A predecessor's, which has not run out: its connections live. */
		take_now(vip, VIP_HOLD_ADOPT);
	} else {
		if (status.present)
			remove_address(vip);
		vip_sweep_start(vip->sweep);
	}
	buffer_free(&error);
}

/* The last moment at which a lifetime of a second would still do. */
static uint64_t last_moment(uint64_t until_ns)
{
	const uint64_t needed = VIP_GUARD_NS + 1000 * NS_PER_MS;

	return until_ns > needed ? until_ns - needed : 0;
}

void vip_take(struct vip *vip, uint64_t until_ms)
{
	MAGIC_CHECK(vip, VIP_MAGIC);
	if (vip->state == VIP_STATE_TAKING || vip->state == VIP_STATE_HELD) {
		vip_renew(vip, until_ms);
		return;
	}
	vip_sweep_stop(vip->sweep);
	vip->notices.clean = false;
	vip->until_ns = until_ms * NS_PER_MS;
	change_state(vip, VIP_STATE_TAKING, "asked");
	set_timer(vip->deadline, last_moment(vip->until_ns));
	begin_taking(vip);
}

bool vip_renew(struct vip *vip, uint64_t until_ms)
{
	struct buffer error = {0};
	bool renewed;

	MAGIC_CHECK(vip, VIP_MAGIC);
	if (vip->state == VIP_STATE_TAKING) {
		vip->until_ns = until_ms * NS_PER_MS;
		set_timer(vip->deadline, last_moment(vip->until_ns));
		return true;
	}
	if (vip->state != VIP_STATE_HELD)
		return false;
	read_events(vip);
	if (vip->deleted) {
		lose(vip, "it was removed from the interface");
		return false;
	}
	vip->until_ns = until_ms * NS_PER_MS;
	renewed = set_address(vip, VIP_HOLD_RENEW, &error);
	if (renewed)
		set_timer(vip->deadline, vip->hold.expires_ns);
	else
		lose(vip, buffer_cstr(&error));
	buffer_free(&error);
	return renewed;
}

static bool is_ours(const struct vip *vip)
{
	return vip->state == VIP_STATE_HELD && !vip->deleted &&
	       clock_boottime_ns() < vip->hold.expires_ns;
}

void vip_disconnect(struct vip *vip, uint64_t end_ms)
{
	uint64_t begun = clock_boottime_ns(), end = end_ms * NS_PER_MS, count;

	MAGIC_CHECK(vip, VIP_MAGIC);
	read_events(vip);
	if (!is_ours(vip))
		return;
	/* Later ones would be dropped by the rule. */
	count = vip_sweep_now(vip->sweep, end < vip->hold.expires_ns ? end : vip->hold.expires_ns);
	if (count)
		log_info("vip_disconnected address=%s count=%" PRIu64 " ms=%" PRIu64, vip->name,
			 count, (clock_boottime_ns() - begun) / NS_PER_MS);
}

bool vip_drop(struct vip *vip)
{
	bool removed;

	MAGIC_CHECK(vip, VIP_MAGIC);
	removed = leave(vip, "given up");
	vip->notices.lost = vip->notices.refused = vip->notices.taken = false;
	return removed;
}

/* ---- events ---- */

static void on_address_events(evutil_socket_t fd, short what, void *ctx)
{
	struct vip *vip = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(vip, VIP_MAGIC);
	read_events(vip);
	if (vip->state != VIP_STATE_HELD || is_ours(vip))
		return;
	lose(vip, clock_boottime_ns() < vip->hold.expires_ns ? "it was removed from the interface"
							     : "it was not renewed in time");
}

static void on_deadline(evutil_socket_t fd, short what, void *ctx)
{
	struct vip *vip = ctx;
	struct buffer reason = {0};

	(void)fd;
	(void)what;
	MAGIC_CHECK(vip, VIP_MAGIC);
	if (vip->state == VIP_STATE_HELD && is_ours(vip)) {
		set_timer(vip->deadline, vip->hold.expires_ns);
	} else if (vip->state == VIP_STATE_HELD) {
		lose(vip, "it was not renewed in time");
	} else if (vip->state == VIP_STATE_TAKING) {
		vip_sweep_explain(vip->sweep, &reason);
		refuse(vip, buffer_cstr(&reason));
	}
	buffer_free(&reason);
}

/* Asked before each packet in its name; a loss found here is dealt with from the loop. */
static bool may_send(void *ctx)
{
	struct vip *vip = ctx;

	MAGIC_CHECK(vip, VIP_MAGIC);
	read_events(vip);
	if (is_ours(vip))
		return true;
	event_active(vip->on_events, EV_READ, 0);
	return false;
}

static void on_tickles_done(void *ctx, uint64_t sent, uint64_t failed)
{
	struct vip *vip = ctx;

	MAGIC_CHECK(vip, VIP_MAGIC);
	if (!vip->notices.tickled)
		vip->notices.tickles_sent = vip->notices.tickles_failed = 0;
	vip->notices.tickles_sent += sent;
	vip->notices.tickles_failed += failed;
	log_info("vip_tickled address=%s sent=%" PRIu64 " failed=%" PRIu64, vip->name, sent,
		 failed);
	notify(vip, &vip->notices.tickled, NULL);
}

void vip_announce(struct vip *vip)
{
	MAGIC_CHECK(vip, VIP_MAGIC);
	if (vip->state == VIP_STATE_HELD)
		vip_announcer_start(vip->announcer, vip->hold.interface);
}

size_t vip_tickle(struct vip *vip, const struct vip_peer *peers, size_t count)
{
	struct vip_peer *gone;
	size_t n = 0;

	MAGIC_CHECK(vip, VIP_MAGIC);
	if (vip->state != VIP_STATE_HELD)
		return 0;
	gone = xcalloc(count + 1, sizeof(*gone));
	for (size_t i = 0; i < count; i++)
		if (!vip_sweep_finds(vip->sweep, &peers[i]))
			gone[n++] = peers[i];
	n = vip_tickler_add(vip->tickler, gone, n);
	free(gone);
	return n;
}

/* ---- open and close ---- */

static bool open_netlink(struct vip *vip, struct event_base *base, struct buffer *error)
{
	const unsigned group =
		vip->spec.address.family == AF_INET ? RTNLGRP_IPV4_IFADDR : RTNLGRP_IPV6_IFADDR;
	int code = netlink_open(&vip->requests, NETLINK_ROUTE);

	if (code == 0)
		code = netlink_open_events(&vip->events, NETLINK_ROUTE, &group, 1);
	if (code < 0) {
		buffer_printf(error, "rtnetlink: %s", strerror(-code));
		return false;
	}
	vip->on_events =
		event_new(base, vip->events.fd, EV_READ | EV_PERSIST, on_address_events, vip);
	vip->deadline = evtimer_new(base, on_deadline, vip);
	vip->deliver = evtimer_new(base, on_deliver, vip);
	if (vip->on_events && vip->deadline && vip->deliver && event_add(vip->on_events, NULL) == 0)
		return true;
	buffer_append_str(error, "no events");
	return false;
}

static bool open_parts(struct vip *vip, struct event_base *base, struct buffer *error)
{
	static const struct vip_sweep_handlers sweeping = {on_swept, on_silent};
	const struct settings_vip *address = &vip->spec.address;

	return (vip->sweep = vip_sweep_open(base, address, &sweeping, vip, error)) &&
	       (vip->announcer = vip_announcer_open(base, &vip->spec, may_send, vip, error)) &&
	       (vip->tickler = vip_tickler_open(base, &vip->spec, may_send, on_tickles_done, vip,
						error)) &&
	       (vip->filter = vip_filter_open(base, address, error));
}

struct vip *vip_open(struct event_base *base, const struct vip_spec *spec,
		     const struct vip_handlers *handlers, void *ctx, struct buffer *error)
{
	struct vip *vip = xcalloc(1, sizeof(*vip));

	vip->magic = VIP_MAGIC;
	vip->spec = *spec;
	vip->interface_name = xstrdup(spec->interface);
	vip->spec.interface = vip->interface_name;
	vip->handlers = *handlers;
	vip->ctx = ctx;
	vip->requests.fd = vip->events.fd = -1;
	vip->hold.netlink = &vip->requests;
	vip->hold.address = &vip->spec.address;
	vip_address_text(&vip->spec.address, vip->name);
	if (open_netlink(vip, base, error) && open_parts(vip, base, error))
		return vip;
	vip_close(vip);
	return NULL;
}

void vip_close(struct vip *vip)
{
	MAGIC_CHECK(vip, VIP_MAGIC);
	if (vip->tickler)
		vip_tickler_close(vip->tickler);
	if (vip->announcer)
		vip_announcer_close(vip->announcer);
	if (vip->sweep)
		vip_sweep_close(vip->sweep);
	if (vip->filter)
		vip_filter_close(vip->filter);
	if (vip->on_events)
		event_free(vip->on_events);
	if (vip->deadline)
		event_free(vip->deadline);
	if (vip->deliver)
		event_free(vip->deliver);
	netlink_close(&vip->requests);
	netlink_close(&vip->events);
	buffer_free(&vip->notices.reason);
	free(vip->interface_name);
	free(vip->silenced.peers);
	vip->magic = 0;
	free(vip);
}

enum vip_state vip_state(const struct vip *vip)
{
	MAGIC_CHECK(vip, VIP_MAGIC);
	return vip->state;
}

bool vip_was_there(const struct vip *vip)
{
	MAGIC_CHECK(vip, VIP_MAGIC);
	return vip->was_there;
}

uint64_t vip_expires_ms(const struct vip *vip)
{
	MAGIC_CHECK(vip, VIP_MAGIC);
	return vip->state == VIP_STATE_HELD ? vip->hold.expires_ns / NS_PER_MS : 0;
}

const struct settings_vip *vip_address(const struct vip *vip)
{
	MAGIC_CHECK(vip, VIP_MAGIC);
	return &vip->spec.address;
}
