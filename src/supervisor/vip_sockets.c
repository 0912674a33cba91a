/* SPDX-License-Identifier: ISC */
/*
 * Sweeping the TCP connections off the VIP, by sock_diag. Runs in the
 * supervisor. It must never destroy a socket on another address, nor call the
 * address clean on the strength of anything but a look that found nothing.
 *
 * A socket destroyed in the middle of a look shifts the kernel's position in
 * it, so one look may miss some; only a whole look without a find counts.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <event2/event.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/clock.h"
#include "keepsock/magic.h"
#include "supervisor/netlink.h"
#include "supervisor/vip_address.h"
#include "supervisor/vip_sockets.h"

#define SWEEP_MAGIC  0x57504956u /* "VIPW" */
#define TURN_NS      UINT64_C(5000000)
#define AGAIN_MS     50 /* before the next look when something can't be destroyed */
#define SOURCE_BYTES 16
/* sock_diag's number for the timer of a TIME_WAIT or FIN_WAIT2 remainder, which has no socket. */
#define TIMER_TIMEWAIT 3

struct vip_sweep {
	uint32_t magic;
	struct settings_vip address;
	struct vip_sweep_handlers handlers;
	void *ctx;
	struct event *turn;
	struct netlink look; /* one dump at a time; open while a look goes on */
	struct netlink kill;
	int families[2]; /* an IPv4 VIP has connections of dual-stack sockets too */
	unsigned n_families, family;
	uint32_t states; /* what is looked for: 1 << state */
	uint64_t found;  /* by this look, in all families so far */
	uint64_t killed;
	int error; /* the last refusal, as a negative errno; 0 = none in this look */
	uint64_t destroyed;
};

#define ALL_STATES (UINT32_MAX & ~(1u << TCP_LISTEN | 1u << TCP_CLOSE))
/* In these the client believes that there is a connection. */
#define CLIENT_STATES \
	(1u << TCP_ESTABLISHED | 1u << TCP_SYN_RECV | 1u << TCP_CLOSE_WAIT | 1u << TCP_FIN_WAIT1)

/* A filter that the kernel runs: the local address is ours. */
static void put_filter(struct netlink_request *request, const struct settings_vip *address)
{
	struct inet_diag_hostcond condition = {.family = (uint8_t)address->family, .port = -1};
	struct inet_diag_bc_op op = {.code = INET_DIAG_BC_S_COND};
	size_t bytes = vip_address_bytes(address);
	size_t len = sizeof(op) + sizeof(condition) + bytes;
	uint8_t code[sizeof(op) + sizeof(condition) + SOURCE_BYTES];

	condition.prefix_len = (uint8_t)(8 * bytes);
	op.yes = (uint8_t)len;
	op.no = (uint16_t)(len + 4); /* beyond the end: not wanted */
	memcpy(code, &op, sizeof(op));
	memcpy(code + sizeof(op), &condition, sizeof(condition));
	memcpy(code + sizeof(op) + sizeof(condition), address->address, bytes);
	netlink_request_put(request, INET_DIAG_REQ_BYTECODE, code, len);
}

static int begin_look(struct vip_sweep *sweep)
{
	struct inet_diag_req_v2 header = {.sdiag_family = (uint8_t)sweep->families[sweep->family],
					  .sdiag_protocol = IPPROTO_TCP,
					  .idiag_states = sweep->states};
	struct netlink_request request;
	int code;

	/* A dump that was given up would be in the way of the next one. */
	netlink_close(&sweep->look);
	code = netlink_open(&sweep->look, NETLINK_SOCK_DIAG);
	if (code < 0)
		return code;
	netlink_request_init(&request, SOCK_DIAG_BY_FAMILY, 0, &header, sizeof(header));
	put_filter(&request, &sweep->address);
	return netlink_dump(&sweep->look, &request);
}

/* The kernel's filter is not all: whatever it let through, another address is not ours. */
static bool is_on_address(const struct vip_sweep *sweep, const struct inet_diag_msg *socket)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	const uint8_t *source = (const uint8_t *)socket->id.idiag_src;

	if (socket->idiag_family == sweep->address.family)
		return memcmp(source, sweep->address.address, vip_address_bytes(&sweep->address)) ==
		       0;
	return socket->idiag_family == AF_INET6 && sweep->address.family == AF_INET &&
	       memcmp(source, mapped, sizeof(mapped)) == 0 &&
	       memcmp(source + sizeof(mapped), sweep->address.address, 4) == 0;
}

static void tell_silent(struct vip_sweep *sweep, const struct inet_diag_msg *socket)
{
	const uint8_t *target = (const uint8_t *)socket->id.idiag_dst;
	size_t bytes = vip_address_bytes(&sweep->address);
	struct vip_peer client = {.port = ntohs(socket->id.idiag_dport),
				  .local_port = ntohs(socket->id.idiag_sport)};

	if (!sweep->handlers.on_silent || sweep->states != ALL_STATES ||
	    !(CLIENT_STATES & 1u << socket->idiag_state))
		return;
	/* Of a mapped address the end is what counts. */
	if (socket->idiag_family != sweep->address.family)
		target += SOURCE_BYTES - bytes;
	memcpy(client.address, target, bytes);
	sweep->handlers.on_silent(sweep->ctx, &client);
}

static void on_socket(const struct nlmsghdr *message, void *ctx)
{
	struct vip_sweep *sweep = ctx;
	struct inet_diag_req_v2 header = {.sdiag_protocol = IPPROTO_TCP};
	struct netlink_request request;
	struct inet_diag_msg socket;
	int code;

	if (message->nlmsg_len < NLMSG_LENGTH(sizeof(socket)))
		return;
	memcpy(&socket, NLMSG_DATA(message), sizeof(socket));
	if (!is_on_address(sweep, &socket))
		return;
	header.sdiag_family = socket.idiag_family;
	header.idiag_states = 1u << socket.idiag_state;
	header.id = socket.id; /* with its cookie: it can't hit another one */
	netlink_request_init(&request, SOCK_DESTROY, 0, &header, sizeof(header));
	code = netlink_ask(&sweep->kill, &request);
	/* A remainder sends nothing by itself, and older kernels can't destroy it. */
	if (socket.idiag_timer == TIMER_TIMEWAIT)
		return;
	sweep->found++;
	if (code == 0) {
		sweep->killed++;
		tell_silent(sweep, &socket);
	} else if (code != -ENOENT) {
		sweep->error = code;
	}
}

static void schedule(struct vip_sweep *sweep, unsigned ms)
{
	struct timeval delay = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};

	if (event_add(sweep->turn, &delay) < 0) {
		log_error("vip_sweep_stopped reason=no timer");
		abort();
	}
}

static void first_look(struct vip_sweep *sweep)
{
	sweep->family = 0;
	sweep->found = sweep->killed = 0;
	sweep->error = 0;
	netlink_close(&sweep->look);
}

/* A family has been looked through, or could not be. Whether to go on at once. */
static bool end_look(struct vip_sweep *sweep, int code)
{
	bool useful;

	netlink_close(&sweep->look);
	if (code == 0 && ++sweep->family < sweep->n_families)
		return true;
	sweep->destroyed += sweep->killed;
	if (code == 0 && sweep->found == 0) {
		sweep->handlers.on_clean(sweep->ctx);
		return false;
	}
	useful = code == -EINTR || (code == 0 && sweep->killed > 0);
	if (useful) {
		first_look(sweep);
		return true;
	}
	if (code < 0)
		sweep->error = code;
	sweep->family = sweep->n_families; /* the next turn begins the next look */
	schedule(sweep, AGAIN_MS);
	return false;
}

static void go_on(struct vip_sweep *sweep)
{
	uint64_t end = clock_boottime_ns() + TURN_NS;

	if (sweep->family == sweep->n_families)
		first_look(sweep);
	do {
		int code = sweep->look.fd < 0 ? begin_look(sweep) : 0;

		if (code == 0)
			code = netlink_dump_next(&sweep->look, on_socket, sweep);
		if (code != 1 && !end_look(sweep, code))
			return;
	} while (clock_boottime_ns() < end);
	schedule(sweep, 0);
}

static void on_turn(evutil_socket_t fd, short what, void *ctx)
{
	struct vip_sweep *sweep = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(sweep, SWEEP_MAGIC);
	go_on(sweep);
}

struct vip_sweep *vip_sweep_open(struct event_base *base, const struct settings_vip *address,
				 const struct vip_sweep_handlers *handlers, void *ctx,
				 struct buffer *error)
{
	struct vip_sweep *sweep = xcalloc(1, sizeof(*sweep));
	int code;

	sweep->magic = SWEEP_MAGIC;
	sweep->address = *address;
	sweep->handlers = *handlers;
	sweep->ctx = ctx;
	sweep->look.fd = -1;
	sweep->families[sweep->n_families++] = address->family;
	if (address->family == AF_INET)
		sweep->families[sweep->n_families++] = AF_INET6;
	sweep->turn = evtimer_new(base, on_turn, sweep);
	code = netlink_open(&sweep->kill, NETLINK_SOCK_DIAG);
	if (sweep->turn && code == 0)
		return sweep;
	buffer_append_str(error, "sock_diag: ");
	netlink_explain(&sweep->kill, code < 0 ? code : -ENOMEM, error);
	vip_sweep_close(sweep);
	return NULL;
}

void vip_sweep_close(struct vip_sweep *sweep)
{
	MAGIC_CHECK(sweep, SWEEP_MAGIC);
	if (sweep->turn)
		event_free(sweep->turn);
	netlink_close(&sweep->look);
	netlink_close(&sweep->kill);
	sweep->magic = 0;
	free(sweep);
}

void vip_sweep_start(struct vip_sweep *sweep)
{
	MAGIC_CHECK(sweep, SWEEP_MAGIC);
	sweep->states = ALL_STATES;
	sweep->destroyed = 0;
	first_look(sweep);
	schedule(sweep, 0);
}

void vip_sweep_stop(struct vip_sweep *sweep)
{
	MAGIC_CHECK(sweep, SWEEP_MAGIC);
	evtimer_del(sweep->turn);
	netlink_close(&sweep->look);
}

/* In one family; false when there is nothing more to be had. */
static bool look_now(struct vip_sweep *sweep, uint64_t end_ns)
{
	int code = begin_look(sweep);

	while (code == 0 && clock_boottime_ns() < end_ns) {
		code = netlink_dump_next(&sweep->look, on_socket, sweep);
		if (code != 1)
			break;
		code = 0;
	}
	netlink_close(&sweep->look);
	return code == 0 || code == -EINTR;
}

uint64_t vip_sweep_now(struct vip_sweep *sweep, uint64_t end_ns)
{
	bool more = true;

	MAGIC_CHECK(sweep, SWEEP_MAGIC);
	sweep->states = CLIENT_STATES;
	sweep->destroyed = 0;
	while (more && clock_boottime_ns() < end_ns) {
		first_look(sweep);
		for (; more && sweep->family < sweep->n_families; sweep->family++)
			more = look_now(sweep, end_ns);
		sweep->destroyed += sweep->killed;
		more = more && sweep->killed > 0;
	}
	return sweep->destroyed;
}

static void on_found(const struct nlmsghdr *message, void *ctx)
{
	struct inet_diag_msg socket;
	bool *found = ctx;

	if (message->nlmsg_len < NLMSG_LENGTH(sizeof(socket)))
		return;
	memcpy(&socket, NLMSG_DATA(message), sizeof(socket));
	/* For want of a connection the kernel names the listening socket. */
	*found = CLIENT_STATES & 1u << socket.idiag_state;
}

bool vip_sweep_finds(struct vip_sweep *sweep, const struct vip_peer *client)
{
	struct inet_diag_req_v2 header = {
		.sdiag_family = (uint8_t)sweep->address.family,
		.sdiag_protocol = IPPROTO_TCP,
		.idiag_states = UINT32_MAX,
		.id = {.idiag_sport = htons(client->local_port),
		       .idiag_dport = htons(client->port),
		       .idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE}}};
	size_t bytes = vip_address_bytes(&sweep->address);
	struct netlink_request request;
	bool found = false;

	MAGIC_CHECK(sweep, SWEEP_MAGIC);
	memcpy(header.id.idiag_src, sweep->address.address, bytes);
	memcpy(header.id.idiag_dst, client->address, bytes);
	netlink_request_init(&request, SOCK_DIAG_BY_FAMILY, 0, &header, sizeof(header));
	return netlink_ask_for(&sweep->kill, &request, on_found, &found) == 0 && found;
}

uint64_t vip_sweep_destroyed(const struct vip_sweep *sweep)
{
	MAGIC_CHECK(sweep, SWEEP_MAGIC);
	return sweep->destroyed;
}

void vip_sweep_explain(const struct vip_sweep *sweep, struct buffer *out)
{
	MAGIC_CHECK(sweep, SWEEP_MAGIC);
	buffer_printf(out, "%" PRIu64 " connections were left", sweep->found);
	if (sweep->error < 0)
		buffer_printf(out, ": %s", strerror(-sweep->error));
}
