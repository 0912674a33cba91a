/* SPDX-License-Identifier: ISC */
/*
 * Messages and descriptors over SOCK_SEQPACKET. Runs in master and workers.
 * Whatever arrives is checked for length and truncation before the caller sees
 * it; on every error path the descriptors that came along are closed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/ipc.h"

#define LENGTH_IS_BLOB 0x80000000u

/* The union gives the control data a cmsghdr's alignment. */
union control {
	struct cmsghdr header;
	char space[CMSG_SPACE(sizeof(int) * IPC_FDS_MAX)];
};

int ipc_pair(int ends[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends);
}

static int send_message(int fd, const struct ipc_header *header, const void *payload, size_t len,
			const int *fds, size_t nfds)
{
	union control control;
	struct iovec parts[2] = {
		{(void *)(uintptr_t)header, sizeof(*header)},
		{(void *)(uintptr_t)payload, len},
	};
	struct msghdr msg = {.msg_iov = parts, .msg_iovlen = len ? 2 : 1};
	ssize_t sent;

	if (len > IPC_PAYLOAD_MAX || nfds > IPC_FDS_MAX) {
		errno = EMSGSIZE;
		return -1;
	}
	if (nfds > 0) {
		struct cmsghdr *cmsg;

		memset(&control, 0, sizeof(control));
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
		memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * nfds);
	}
	do {
		sent = sendmsg(fd, &msg, MSG_NOSIGNAL);
	} while (sent < 0 && errno == EINTR);
	return sent < 0 ? -1 : 0;
}

int ipc_send(int fd, uint32_t type, uint64_t id, const void *payload, size_t len, const int *fds,
	     size_t nfds)
{
	struct ipc_header header = {type, (uint32_t)len, id};

	return send_message(fd, &header, payload, len, fds, nfds);
}

static int write_all(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t written = write(fd, data, len);

		if (written < 0) {
			if (errno == EINTR)
				continue;
			return -1;
		}
		data += written;
		len -= (size_t)written;
	}
	return 0;
}

int ipc_send_blob(int fd, uint32_t type, uint64_t id, const void *payload, size_t len)
{
	struct ipc_header header = {type, (uint32_t)len | LENGTH_IS_BLOB, id};
	int blob, result, saved;

	if (len <= IPC_INLINE_MAX)
		return ipc_send(fd, type, id, payload, len, NULL, 0);
	if (len > IPC_BLOB_MAX) {
		errno = EMSGSIZE;
		return -1;
	}
	blob = memfd_create("keepsock-ipc", MFD_CLOEXEC);
	if (blob < 0)
		return -1;
	result = write_all(blob, payload, len);
	if (result == 0)
		result = send_message(fd, &header, NULL, 0, &blob, 1);
	saved = errno;
	close(blob);
	errno = saved;
	return result;
}

static void message_clear(struct ipc_message *m)
{
	m->type = 0;
	m->id = 0;
	m->nfds = 0;
	m->len = 0;
	m->blob_fd = -1;
	m->blob = NULL;
	m->blob_len = 0;
}

/* Takes every descriptor that came, so that an error path can close them all. */
static void collect_fds(struct msghdr *msg, struct ipc_message *m)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t count;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		if (count > IPC_FDS_MAX - m->nfds)
			abort(); /* the control space has no room for that many */
		memcpy(m->fds + m->nfds, CMSG_DATA(c), count * sizeof(int));
		m->nfds += count;
	}
}

/* Checks the header against what arrived; 0, or an errno. */
static int take_header(struct ipc_message *m, const struct ipc_header *header, size_t received)
{
	if (received < sizeof(*header))
		return EBADMSG;
	m->type = header->type;
	m->id = header->id;
	m->len = received - sizeof(*header);
	if (!(header->length & LENGTH_IS_BLOB))
		return header->length == m->len ? 0 : EBADMSG;

	m->blob_len = header->length & ~LENGTH_IS_BLOB;
	if (m->len != 0 || m->nfds != 1 || m->blob_len > IPC_BLOB_MAX)
		return EBADMSG;
	m->blob_fd = m->fds[0];
	m->nfds = 0;
	return 0;
}

int ipc_receive(int fd, struct ipc_message *m)
{
	struct ipc_header header;
	union control control;
	struct iovec parts[2] = {{&header, sizeof(header)}, {m->data, sizeof(m->data)}};
	struct msghdr msg = {
		.msg_iov = parts,
		.msg_iovlen = 2,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t received;
	int error = 0;

	message_clear(m);
	do {
		received = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
		/* ECONNRESET: it died with messages of ours unread. That is told once, ahead of
		 * what it had still sent. */
	} while (received < 0 && (errno == EINTR || errno == ECONNRESET));
	if (received == 0)
		return 0;
	if (received < 0)
		return -1;

	collect_fds(&msg, m);
	if (msg.msg_flags & MSG_CTRUNC)
		error = EMFILE;
	else if (msg.msg_flags & MSG_TRUNC)
		error = EBADMSG;
	else
		error = take_header(m, &header, (size_t)received);
	if (error != 0) {
		ipc_message_close_fds(m);
		message_clear(m);
		errno = error;
		return -1;
	}
	return 1;
}

static int read_blob(struct ipc_message *m)
{
	struct stat st;
	size_t at = 0;

	if (fstat(m->blob_fd, &st) != 0)
		return -1;
	if (!S_ISREG(st.st_mode) || st.st_size != (off_t)m->blob_len) {
		errno = EBADMSG;
		return -1;
	}
	m->blob = xmalloc(m->blob_len);
	while (at < m->blob_len) {
		ssize_t got = pread(m->blob_fd, m->blob + at, m->blob_len - at, (off_t)at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			if (got == 0)
				errno = EBADMSG;
			free(m->blob);
			m->blob = NULL;
			return -1;
		}
		at += (size_t)got;
	}
	return 0;
}

int ipc_message_payload(struct ipc_message *m, struct slice *payload)
{
	if (m->blob_fd < 0) {
		*payload = slice_from(m->data, m->len);
		return 0;
	}
	if (!m->blob && read_blob(m) != 0)
		return -1;
	*payload = slice_from(m->blob, m->blob_len);
	return 0;
}

void ipc_message_close_fds(struct ipc_message *m)
{
	for (size_t i = 0; i < m->nfds; i++) {
		if (m->fds[i] >= 0)
			close(m->fds[i]);
	}
	m->nfds = 0;
	if (m->blob_fd >= 0)
		close(m->blob_fd);
	m->blob_fd = -1;
	free(m->blob);
	m->blob = NULL;
	m->blob_len = 0;
}
