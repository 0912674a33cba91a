/* SPDX-License-Identifier: ISC */
/*
 * Transport between keepsock's processes on one host: whole messages with
 * descriptors over an AF_UNIX SOCK_SEQPACKET pair. It knows no message types
 * (ipc_messages.h does) and trusts no length: a malformed message is an error,
 * and never leaks a descriptor.
 */
#ifndef KEEPSOCK_IPC_H
#define KEEPSOCK_IPC_H

#include <stddef.h>
#include <stdint.h>

#include "keepsock/slice.h"

#define IPC_PAYLOAD_MAX ((size_t)64 * 1024)
#define IPC_FDS_MAX     253 /* SCM_MAX_FD of the kernel */
/* A longer payload travels in a memfd when sent by ipc_send_blob(). */
#define IPC_INLINE_MAX ((size_t)48 * 1024)
#define IPC_BLOB_MAX   ((size_t)64 * 1024 * 1024)

struct ipc_header {
	uint32_t type;
	uint32_t length; /* of the payload behind it; the top bit: the payload is in a memfd */
	uint64_t id;     /* chosen by the requester, repeated in the reply */
};

/* Big (it holds its own storage): keep one per loop rather than many. */
struct ipc_message {
	uint32_t type;
	uint64_t id;
	size_t nfds;
	int fds[IPC_FDS_MAX]; /* owned by whoever received it; set one to -1 to keep it */
	size_t len;           /* of what came inline; read it through ipc_message_payload() */
	int blob_fd;          /* -1 without a blob */
	char *blob;           /* owned; NULL until ipc_message_payload() has read it */
	size_t blob_len;
	char data[IPC_PAYLOAD_MAX];
};

/* Both ends close-on-exec and blocking; 0, or -1 with errno. */
int ipc_pair(int ends[2]);

/*
 * Sends one message. 0, or -1 with errno: EAGAIN (non-blocking and full),
 * EPIPE (peer gone; no signal is raised), EMSGSIZE (over the limits above),
 * ETOOMANYREFS (too many descriptors in flight: wait until the peer read some).
 * The descriptors stay open on this side.
 */
int ipc_send(int fd, uint32_t type, uint64_t id, const void *payload, size_t len, const int *fds,
	     size_t nfds);

/* As ipc_send() without descriptors, for payloads up to IPC_BLOB_MAX. */
int ipc_send_blob(int fd, uint32_t type, uint64_t id, const void *payload, size_t len);

/*
 * Receives one message: 1 = *m holds it, 0 = the peer is gone, -1 with errno:
 * EAGAIN, EBADMSG (malformed), EMFILE (descriptors were lost on the way in:
 * this process has too many open). Except after 1, *m holds nothing to release.
 */
int ipc_receive(int fd, struct ipc_message *m);

/*
 * The payload, wherever it travelled; valid until ipc_message_close_fds().
 * 0, or -1 with errno when a blob can't be read.
 */
int ipc_message_payload(struct ipc_message *m, struct slice *payload);

/* Closes every descriptor still in m->fds and releases a blob. Once per received message. */
void ipc_message_close_fds(struct ipc_message *m);

#endif
