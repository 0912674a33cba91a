/* SPDX-License-Identifier: ISC */
/*
 * The queue of tickle ACKs. Runs in the supervisor. It must never send faster
 * than it was told to, not even to catch up after it was stopped, and sends
 * through the IP stack, where the nft rule covers it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>
#include <netinet/in.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/clock.h"
#include "keepsock/magic.h"
#include "supervisor/vip_packet.h"
#include "supervisor/vip_tickle.h"

#define TICKLER_MAGIC 0x54504956u /* "VIPT" */
#define TICK_MS       10
/* What a late tick may make up for. */
#define CATCH_UP_NS UINT64_C(50000000)
#define NS_PER_S    UINT64_C(1000000000)

struct vip_tickler {
	uint32_t magic;
	const struct vip_spec *spec; /* the VIP's */
	bool (*may_send)(void *ctx);
	void (*on_done)(void *ctx, uint64_t sent, uint64_t failed);
	void *ctx;
	struct event *tick;
	int fd;
	struct vip_peer *peers; /* owned; from next to count they wait */
	size_t next, count, room;
	uint64_t due_ns; /* when the next one may be sent (boottime) */
	uint64_t sent, failed;
};

/* 1 = sent, 0 = not now, -1 = never. */
static int send_tickle(struct vip_tickler *tickler, const struct vip_peer *peer)
{
	struct sockaddr_in four = {.sin_family = AF_INET};
	struct sockaddr_in6 six = {.sin6_family = AF_INET6};
	bool is_four = tickler->spec->address.family == AF_INET;
	uint8_t packet[VIP_PACKET_MAX];
	size_t len = vip_packet_tickle(packet, &tickler->spec->address, peer);
	ssize_t sent;

	memcpy(&four.sin_addr, peer->address, sizeof(four.sin_addr));
	memcpy(&six.sin6_addr, peer->address, sizeof(six.sin6_addr));
	sent = sendto(tickler->fd, packet, len, 0,
		      is_four ? (struct sockaddr *)&four : (struct sockaddr *)&six,
		      is_four ? sizeof(four) : sizeof(six));
	if (sent >= 0)
		return 1;
	/* EPERM: nft drops it, because the address is not local yet (IPv6). */
	return errno == EAGAIN || errno == ENOBUFS || errno == EINTR || errno == EPERM ? 0 : -1;
}

static void wait_for_tick(struct vip_tickler *tickler)
{
	struct timeval delay = {.tv_usec = TICK_MS * 1000};

	if (event_add(tickler->tick, &delay) == 0)
		return;
	log_warning("vip_tickles_ended reason=no timer left=%zu", tickler->count - tickler->next);
	vip_tickler_stop(tickler);
}

static void finish(struct vip_tickler *tickler)
{
	uint64_t sent = tickler->sent, failed = tickler->failed;

	tickler->next = tickler->count = 0;
	tickler->sent = tickler->failed = 0;
	tickler->on_done(tickler->ctx, sent, failed);
}

static void on_tick(evutil_socket_t fd, short what, void *ctx)
{
	struct vip_tickler *tickler = ctx;
	uint64_t now = clock_boottime_ns();
	uint64_t each = NS_PER_S / tickler->spec->tickles_per_second;

	(void)fd;
	(void)what;
	MAGIC_CHECK(tickler, TICKLER_MAGIC);
	if (tickler->due_ns + CATCH_UP_NS < now)
		tickler->due_ns = now - CATCH_UP_NS;
	while (tickler->next < tickler->count && tickler->due_ns <= now) {
		int outcome;

		if (!tickler->may_send(tickler->ctx)) {
			vip_tickler_stop(tickler);
			return;
		}
		outcome = send_tickle(tickler, &tickler->peers[tickler->next]);
		if (outcome == 0)
			break;
		tickler->sent += outcome > 0;
		tickler->failed += outcome < 0;
		tickler->next++;
		tickler->due_ns += each;
	}
	if (tickler->next < tickler->count)
		wait_for_tick(tickler);
	else
		finish(tickler);
}

struct vip_tickler *vip_tickler_open(struct event_base *base, const struct vip_spec *spec,
				     bool (*may_send)(void *ctx),
				     void (*on_done)(void *ctx, uint64_t sent, uint64_t failed),
				     void *ctx, struct buffer *error)
{
	struct vip_tickler *tickler = xcalloc(1, sizeof(*tickler));
	int one = 1;

	tickler->magic = TICKLER_MAGIC;
	tickler->spec = spec;
	tickler->may_send = may_send;
	tickler->on_done = on_done;
	tickler->ctx = ctx;
	/* IPPROTO_RAW: we bring the IP header, and receive nothing. */
	tickler->fd =
		socket(spec->address.family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW);
	tickler->tick = evtimer_new(base, on_tick, tickler);
	if (tickler->fd >= 0 && tickler->tick &&
	    (spec->address.family == AF_INET6 ||
	     setsockopt(tickler->fd, IPPROTO_IP, IP_HDRINCL, &one, sizeof(one)) == 0))
		return tickler;
	buffer_printf(error, "a raw socket: %s", strerror(errno));
	vip_tickler_close(tickler);
	return NULL;
}

void vip_tickler_close(struct vip_tickler *tickler)
{
	MAGIC_CHECK(tickler, TICKLER_MAGIC);
	if (tickler->tick)
		event_free(tickler->tick);
	if (tickler->fd >= 0)
		close(tickler->fd);
	free(tickler->peers);
	tickler->magic = 0;
	free(tickler);
}

/* Makes room behind the last one, for as many of count as tickles_max allows. */
static size_t make_room(struct vip_tickler *tickler, size_t count)
{
	size_t waiting = tickler->count - tickler->next;

	if (count > tickler->spec->tickles_max - waiting)
		count = tickler->spec->tickles_max - waiting;
	if (tickler->count + count <= tickler->room)
		return count;
	if (waiting > 0)
		memmove(tickler->peers, tickler->peers + tickler->next,
			waiting * sizeof(*tickler->peers));
	tickler->next = 0;
	tickler->count = waiting;
	if (2 * (waiting + count) > tickler->room) {
		tickler->room = 2 * (waiting + count);
		tickler->peers = xrealloc(tickler->peers, tickler->room * sizeof(*tickler->peers));
	}
	return count;
}

size_t vip_tickler_add(struct vip_tickler *tickler, const struct vip_peer *peers, size_t count)
{
	bool idle;

	MAGIC_CHECK(tickler, TICKLER_MAGIC);
	idle = tickler->next == tickler->count;
	count = make_room(tickler, count);
	if (count == 0)
		return 0;
	memcpy(tickler->peers + tickler->count, peers, count * sizeof(*peers));
	tickler->count += count;
	if (idle) {
		/* The pace goes on: an empty queue is no reason to begin with a burst. */
		if (tickler->due_ns < clock_boottime_ns())
			tickler->due_ns = clock_boottime_ns();
		wait_for_tick(tickler);
	}
	return count;
}

void vip_tickler_stop(struct vip_tickler *tickler)
{
	MAGIC_CHECK(tickler, TICKLER_MAGIC);
	evtimer_del(tickler->tick);
	tickler->failed += tickler->count - tickler->next;
	tickler->next = tickler->count;
	if (tickler->sent + tickler->failed > 0)
		finish(tickler);
}
