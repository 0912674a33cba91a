/* SPDX-License-Identifier: ISC */
/*
 * A virtual IP address (VIP) with a lifetime that the kernel enforces. It knows
 * nothing of leases or roles: somebody tells it until when the address may be
 * ours, and it sees to it that no other moment shows it.
 *
 *	          vip_take()                      sockets gone, address set
 *	ABSENT ───────────────▶ TAKING ───────────────────────────▶ HELD  on_taken
 *	  ▲                       │ vip_drop(), on_refused            │ vip_renew()
 *	  │ no socket is left     ▼                                   │ vip_drop(),
 *	  └──────────────────── CLEANING ◀────────────────────────────┘ on_lost
 *
 * - The address dies one second before `until` by the kernel's own timer, even
 *   when this process is stopped, dead or starved.
 * - A renewal that comes too late never brings the address back.
 * - While the address is not local, nothing that names it as its source leaves
 *   the host (an nft rule, which outlives the process on purpose).
 * - Before it is taken again, every TCP connection on it has been destroyed.
 *   One that is still there from a predecessor of this process is kept, with
 *   its connections.
 * - While it is new, it is announced to the neighbours, and clients whose
 *   connections were destroyed without a word get one, as by vip_tickle().
 *
 * Needs CAP_NET_ADMIN and CAP_NET_RAW. Used by the supervisor, from one event
 * loop; every handler is called from that loop, never from inside a call, and
 * may call everything here but vip_close().
 */
#ifndef KEEPSOCK_VIP_H
#define KEEPSOCK_VIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keepsock/settings.h" /* struct settings_vip: an address and its prefix */

struct buffer;
struct event_base;
struct vip;

#define VIP_ADDRESS_TEXT 64 /* room for vip_address_text() */

/* "10.0.0.5/32", in out, which it returns. */
const char *vip_address_text(const struct settings_vip *address, char out[VIP_ADDRESS_TEXT]);

/* A client that had a connection to the address; of the address's family. */
struct vip_peer {
	uint8_t address[16]; /* network order; IPv4 uses four */
	uint16_t port;       /* host order */
	uint16_t local_port; /* the listener's, host order */
};

enum vip_state { VIP_STATE_ABSENT, VIP_STATE_TAKING, VIP_STATE_HELD, VIP_STATE_CLEANING };

const char *vip_state_name(enum vip_state state);

struct vip_spec {
	struct settings_vip address;
	const char *interface;       /* copied; need not exist yet */
	uint32_t announce_ms;        /* how long it is announced: twice the lease's time */
	uint32_t announce_every_ms;  /* at least 1 */
	uint32_t tickles_per_second; /* at least 1 */
	size_t tickles_max;          /* more peers than this are not taken in */
};

/* Any of them may be NULL. The texts live until the handler returns. */
struct vip_handlers {
	void (*on_taken)(void *ctx);
	/* vip_take() did not succeed; the address is not there. */
	void (*on_refused)(void *ctx, const char *reason);
	/* It was held and is not any more, other than by vip_drop(). */
	void (*on_lost)(void *ctx, const char *reason);
	/* CLEANING is over: no connection is left on it. Comes after the loss or refusal. */
	void (*on_clean)(void *ctx);
	/* Every peer of vip_tickle() had its packet, or none gets one any more. */
	void (*on_tickled)(void *ctx, uint64_t sent, uint64_t failed);
};

/*
 * Sets up the nft rule and watches for changes of the address; changes no
 * address. NULL with error when the kernel or our capabilities do not allow it.
 */
struct vip *vip_open(struct event_base *base, const struct vip_spec *spec,
		     const struct vip_handlers *handlers, void *ctx, struct buffer *error);

/*
 * Leaves address and rule as they are: an address that is held runs out by
 * itself, or a successor takes it over. To give it up, vip_drop() comes first.
 */
void vip_close(struct vip *vip);

/*
 * until_ms (boottime) = when the request that got us the address was sent, plus
 * the whole time that was granted: the guard is subtracted here. Ends in one call of on_taken or
 * on_refused, unless vip_drop() comes before; where connections are in the way, it goes on
 * destroying them for as long as until_ms allows. Only when neither TAKING nor
 * HELD; else it is vip_renew().
 */
void vip_take(struct vip *vip, uint64_t until_ms);

/*
 * False when the address is not ours any more, or ends with this call because
 * until_ms is too near; it has been deleted then, and on_lost follows. In
 * TAKING it moves the time until which to try, and is true.
 */
bool vip_renew(struct vip *vip, uint64_t until_ms);

/*
 * Resets the connections on it, so that their clients know at once; without the address
 * nothing tells them. Before vip_drop(), by whoever has the right to the address for
 * certain; does nothing unless HELD. Goes on while it finds any, at most until end_ms
 * (boottime), and returns when it is done.
 */
void vip_disconnect(struct vip *vip, uint64_t end_ms);

/*
 * Deletes the address, whoever set it, before it returns, and then destroys the
 * connections on it, until on_clean. No on_taken, on_refused or on_lost of before
 * comes after this. False with the reason logged when the kernel refused: the address then
 * ends with its lifetime.
 */
bool vip_drop(struct vip *vip);

/* Announces it again, for spec.announce_ms from now, if it is held. */
void vip_announce(struct vip *vip);

/*
 * Sends each peer one ACK from the address, at spec.tickles_per_second: it answers
 * with what it believes to be its connection, is told by our kernel that there is
 * none, and comes back. Only while HELD. Those that have a connection to the address
 * here are left alone. Returns how many of the peers were taken in. A loss of the
 * address forgets those that wait.
 */
size_t vip_tickle(struct vip *vip, const struct vip_peer *peers, size_t count);

enum vip_state vip_state(const struct vip *vip);

/* It was on the interface already when it was taken, and the connections with it. */
bool vip_was_there(const struct vip *vip);

/* When the kernel will remove the address if nobody renews it (boottime); 0 unless HELD. */
uint64_t vip_expires_ms(const struct vip *vip);

const struct settings_vip *vip_address(const struct vip *vip);

#endif
