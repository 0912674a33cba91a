/* SPDX-License-Identifier: ISC */
/*
 * Netlink, as far as the VIP needs it: rtnetlink, sock_diag and the events of
 * nf_tables. Runs in the supervisor. It must never take a message for the
 * kernel's that somebody else sent, nor block for longer than a second.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "keepsock/buffer.h"
#include "keepsock/log.h"
#include "supervisor/netlink.h"

/* Also what the kernel makes of a dump at once. */
#define RECEIVE_BYTES (16 * 1024)
#define EVENT_BYTES   (4 * 1024 * 1024)
#define DUMP_TRIES    5

static int set_option(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value)) == 0 ? 0 : -errno;
}

static int open_socket(struct netlink *netlink, int protocol, int flags)
{
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};

	*netlink = (struct netlink){
		.fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | flags, protocol)};
	if (netlink->fd < 0)
		return -errno;
	if (bind(netlink->fd, (struct sockaddr *)&kernel, sizeof(kernel)) == 0)
		return 0;
	return -errno;
}

static int give_up(struct netlink *netlink, int code)
{
	netlink_close(netlink);
	return code;
}

int netlink_open(struct netlink *netlink, int protocol)
{
	struct timeval second = {.tv_sec = 1};
	int code = open_socket(netlink, protocol, 0);

	if (code < 0)
		return give_up(netlink, code);
	/* Refusals in words; kernels that have none still give numbers. */
	(void)set_option(netlink->fd, SOL_NETLINK, NETLINK_EXT_ACK, 1);
	(void)set_option(netlink->fd, SOL_NETLINK, NETLINK_CAP_ACK, 1);
	if (setsockopt(netlink->fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof(second)) < 0)
		return give_up(netlink, -errno);
	return 0;
}

int netlink_open_events(struct netlink *netlink, int protocol, const unsigned *groups,
			size_t n_groups)
{
	int code = open_socket(netlink, protocol, SOCK_NONBLOCK);

	/* Room for a storm of events while we were not running; without it they are read back. */
	if (code == 0 && set_option(netlink->fd, SOL_SOCKET, SO_RCVBUFFORCE, EVENT_BYTES) < 0)
		code = set_option(netlink->fd, SOL_SOCKET, SO_RCVBUF, EVENT_BYTES);
	for (size_t i = 0; code == 0 && i < n_groups; i++)
		code = set_option(netlink->fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, (int)groups[i]);
	return code == 0 ? 0 : give_up(netlink, code);
}

void netlink_close(struct netlink *netlink)
{
	if (netlink->fd >= 0)
		close(netlink->fd);
	netlink->fd = -1;
}

void netlink_request_init(struct netlink_request *request, uint16_t type, uint16_t flags,
			  const void *family_header, size_t len)
{
	memset(request, 0, sizeof(*request));
	request->header.nlmsg_type = type;
	request->header.nlmsg_flags = flags;
	request->header.nlmsg_len = NLMSG_LENGTH(len);
	memcpy(request->body, family_header, len);
}

void netlink_request_put(struct netlink_request *request, uint16_t type, const void *data,
			 size_t len)
{
	size_t start = NLMSG_ALIGN(request->header.nlmsg_len);
	struct nlattr attribute = {.nla_type = type, .nla_len = (uint16_t)(NLA_HDRLEN + len)};

	if (start + NLA_HDRLEN + NLA_ALIGN(len) > sizeof(*request)) {
		log_error("broken_request reason=too long type=%u", (unsigned)type);
		abort();
	}
	memcpy((uint8_t *)request + start, &attribute, sizeof(attribute));
	if (len)
		memcpy((uint8_t *)request + start + NLA_HDRLEN, data, len);
	request->header.nlmsg_len = (uint32_t)(start + NLA_HDRLEN + len);
}

static int send_request(struct netlink *netlink, struct netlink_request *request, uint16_t flags)
{
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	ssize_t sent;

	netlink->why[0] = '\0';
	netlink->torn = false;
	request->header.nlmsg_flags |= flags;
	request->header.nlmsg_seq = ++netlink->sequence;
	do
		sent = sendto(netlink->fd, request, request->header.nlmsg_len, 0,
			      (struct sockaddr *)&kernel, sizeof(kernel));
	while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return -errno;
	return (size_t)sent == request->header.nlmsg_len ? 0 : -EIO;
}

/* One datagram of the kernel's: its length, or a negative errno. */
static ssize_t receive(const struct netlink *netlink, void *data, size_t cap)
{
	for (;;) {
		struct sockaddr_nl sender = {0};
		struct iovec vector = {.iov_base = data, .iov_len = cap};
		struct msghdr header = {.msg_name = &sender,
					.msg_namelen = sizeof(sender),
					.msg_iov = &vector,
					.msg_iovlen = 1};
		ssize_t len = recvmsg(netlink->fd, &header, 0);

		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0)
			return -errno;
		if (header.msg_namelen != sizeof(sender) || sender.nl_pid != 0)
			continue;
		return header.msg_flags & MSG_TRUNC ? -EMSGSIZE : len;
	}
}

const void *netlink_attribute(const struct nlmsghdr *message, size_t offset, uint16_t type,
			      size_t *len)
{
	const uint8_t *data = (const uint8_t *)message;
	size_t at = NLMSG_ALIGN(offset);

	while (at + NLA_HDRLEN <= message->nlmsg_len) {
		struct nlattr attribute;

		memcpy(&attribute, data + at, sizeof(attribute));
		if (attribute.nla_len < NLA_HDRLEN || attribute.nla_len > message->nlmsg_len - at)
			return NULL;
		if ((attribute.nla_type & NLA_TYPE_MASK) == type) {
			*len = (size_t)(attribute.nla_len - NLA_HDRLEN);
			return data + at + NLA_HDRLEN;
		}
		at += NLA_ALIGN(attribute.nla_len);
	}
	return NULL;
}

/* The code of an NLMSG_ERROR (0 = acknowledged), with the kernel's words in ->why. */
static int read_error(struct netlink *netlink, const struct nlmsghdr *message)
{
	struct nlmsgerr error;
	const char *text;
	size_t len;

	if (message->nlmsg_len < NLMSG_LENGTH(sizeof(error)))
		return -EPROTO;
	memcpy(&error, NLMSG_DATA(message), sizeof(error));
	if (error.error < 0 && message->nlmsg_flags & NLM_F_ACK_TLVS) {
		/* With NETLINK_CAP_ACK the request is not repeated beyond its header. */
		text = netlink_attribute(message, NLMSG_LENGTH(sizeof(error)), NLMSGERR_ATTR_MSG,
					 &len);
		if (text)
			snprintf(netlink->why, sizeof(netlink->why), "%.*s",
				 (int)strnlen(text, len), text);
	}
	return error.error;
}

/* The end of a dump brings its error. */
static int read_end(const struct netlink *netlink, const struct nlmsghdr *message)
{
	int code = 0;

	if (message->nlmsg_len >= NLMSG_LENGTH(sizeof(code)))
		memcpy(&code, NLMSG_DATA(message), sizeof(code));
	if (code < 0)
		return code;
	return netlink->torn ? -EINTR : 0;
}

static bool message_whole(const struct nlmsghdr *message, size_t left)
{
	return left >= sizeof(*message) && message->nlmsg_len >= sizeof(*message) &&
	       message->nlmsg_len <= left;
}

int netlink_dump_next(struct netlink *netlink, netlink_message on_message, void *ctx)
{
	_Alignas(struct nlmsghdr) uint8_t data[RECEIVE_BYTES];
	ssize_t received = receive(netlink, data, sizeof(data));
	size_t at = 0, len = (size_t)received;

	if (received < 0)
		return (int)received;
	while (at < len) {
		const struct nlmsghdr *message = (const struct nlmsghdr *)(data + at);

		if (!message_whole(message, len - at))
			return -EPROTO;
		at += NLMSG_ALIGN(message->nlmsg_len);
		if (message->nlmsg_seq != netlink->sequence)
			continue;
		netlink->torn |= (message->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
		if (message->nlmsg_type == NLMSG_ERROR)
			return read_error(netlink, message);
		if (message->nlmsg_type == NLMSG_DONE)
			return read_end(netlink, message);
		if (on_message)
			on_message(message, ctx);
	}
	return 1;
}

int netlink_ask_for(struct netlink *netlink, struct netlink_request *request,
		    netlink_message on_message, void *ctx)
{
	int code = send_request(netlink, request, NLM_F_REQUEST | NLM_F_ACK);

	if (code < 0)
		return code;
	do
		code = netlink_dump_next(netlink, on_message, ctx);
	while (code == 1);
	return code;
}

int netlink_ask(struct netlink *netlink, struct netlink_request *request)
{
	return netlink_ask_for(netlink, request, NULL, NULL);
}

int netlink_dump(struct netlink *netlink, struct netlink_request *request)
{
	return send_request(netlink, request, NLM_F_REQUEST | NLM_F_DUMP);
}

int netlink_dump_all(struct netlink *netlink, struct netlink_request *request,
		     netlink_message on_message, void *ctx)
{
	int code = -EINTR;

	for (int tries = 0; tries < DUMP_TRIES && code == -EINTR; tries++) {
		code = netlink_dump(netlink, request);
		if (code < 0)
			return code;
		do
			code = netlink_dump_next(netlink, on_message, ctx);
		while (code == 1);
	}
	return code;
}

int netlink_events(struct netlink *netlink, netlink_message on_message, void *ctx)
{
	_Alignas(struct nlmsghdr) uint8_t data[RECEIVE_BYTES];
	int outcome = 0;

	for (;;) {
		ssize_t received = receive(netlink, data, sizeof(data));
		size_t at = 0, len = (size_t)received;

		if (received == -EAGAIN)
			return outcome;
		if (received == -ENOBUFS || received == -EMSGSIZE) {
			/* What was dropped is forgotten by asking; what still waits is read. */
			outcome = -ENOBUFS;
			continue;
		}
		if (received < 0)
			return (int)received;
		while (at < len) {
			const struct nlmsghdr *message = (const struct nlmsghdr *)(data + at);

			if (!message_whole(message, len - at))
				break;
			at += NLMSG_ALIGN(message->nlmsg_len);
			on_message(message, ctx);
		}
	}
}

void netlink_explain(const struct netlink *netlink, int code, struct buffer *error)
{
	buffer_append_str(error, strerror(-code));
	if (netlink->why[0])
		buffer_printf(error, " (%s)", netlink->why);
}
