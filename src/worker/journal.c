/* SPDX-License-Identifier: ISC */
/*
 * Reading the kernel's counters, see journal.h. Run by a worker that takes over.
 * It changes nothing.
 *
 *	read    = bytes_received - SIOCINQ - F_in
 *	written = bytes_acked + SIOCOUTQ - A - F_out
 *
 * bytes_received and bytes_acked are how far the kernel's sequence numbers moved
 * on, and a FIN takes one: F_in once the peer's has arrived (SIOCINQ does not
 * count it), F_out once we have sent ours (bytes_acked or SIOCOUTQ counts it).
 * A = 1 for whoever connected: the acknowledgement of its SYN is counted too.
 */
#include "worker/journal.h"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* The peer's segments arrive while we look; more often than that in a row is no coincidence. */
#define SNAPSHOTS_MAX 1000

/* enum of netinet/tcp.h, which can't be included beside linux/tcp.h. */
enum {
	STATE_ESTABLISHED = 1,
	STATE_FIN_WAIT1 = 4,
	STATE_FIN_WAIT2 = 5,
	STATE_CLOSE_WAIT = 8,
	STATE_LAST_ACK = 9,
	STATE_CLOSING = 11,
};

static bool read_info(int fd, struct tcp_info *info)
{
	socklen_t length = sizeof(*info);

	memset(info, 0, sizeof(*info));
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &length) < 0)
		return false;
	/* Kernels before 4.1 tell less. */
	if (length < offsetof(struct tcp_info, tcpi_segs_out)) {
		errno = ENOTSUP;
		return false;
	}
	return true;
}

static bool same(const struct tcp_info *a, const struct tcp_info *b)
{
	return a->tcpi_state == b->tcpi_state && a->tcpi_bytes_received == b->tcpi_bytes_received &&
	       a->tcpi_bytes_acked == b->tcpi_bytes_acked;
}

/* Counters and queues as of one moment. */
static bool snapshot(int fd, struct tcp_info *info, uint64_t *unread, uint64_t *unacked)
{
	struct tcp_info before;
	int in, out;

	for (int i = 0; i < SNAPSHOTS_MAX; i++) {
		if (!read_info(fd, &before) || ioctl(fd, SIOCINQ, &in) < 0 ||
		    ioctl(fd, SIOCOUTQ, &out) < 0 || !read_info(fd, info))
			return false;
		*unread = (uint64_t)in;
		*unacked = (uint64_t)out;
		if (same(&before, info))
			return true;
	}
	errno = EBUSY;
	return false;
}

enum journal_state journal_look(int fd, enum journal_side side, struct journal *journal)
{
	struct tcp_info info;
	uint64_t unread, unacked;

	if (!snapshot(fd, &info, &unread, &unacked))
		return JOURNAL_UNREADABLE;
	switch (info.tcpi_state) {
	case STATE_ESTABLISHED: *journal = (struct journal){0}; break;
	case STATE_FIN_WAIT1:
	case STATE_FIN_WAIT2: *journal = (struct journal){.shut = true}; break;
	case STATE_CLOSE_WAIT: *journal = (struct journal){.peer_fin = true}; break;
	case STATE_LAST_ACK:
	case STATE_CLOSING: *journal = (struct journal){.shut = true, .peer_fin = true}; break;
	default: return JOURNAL_ENDED;
	}
	journal->read = info.tcpi_bytes_received - unread - journal->peer_fin;
	journal->written =
		info.tcpi_bytes_acked + unacked - journal->shut - (side == JOURNAL_CONNECTED);
	return JOURNAL_EXACT;
}
