/* SPDX-License-Identifier: ISC */
/*
 * Netlink: requests with their acknowledgement, dumps, and event groups. A
 * request is carried out by the kernel inside the call that sends it, so
 * waiting for its answer does not block on anybody else.
 */
#ifndef KEEPSOCK_NETLINK_H
#define KEEPSOCK_NETLINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/netlink.h>

struct buffer;

#define NETLINK_REQUEST_MAX 512

struct netlink {
	int fd;            /* -1 = not open */
	uint32_t sequence; /* of the last request */
	bool torn;         /* its dump says that it is not consistent */
	char why[96];      /* what the kernel said about the last refusal; may be empty */
};

struct netlink_request {
	struct nlmsghdr header;
	uint8_t body[NETLINK_REQUEST_MAX - sizeof(struct nlmsghdr)];
};

typedef void (*netlink_message)(const struct nlmsghdr *message, void *ctx);

/* For requests: answers within a second or it is an error. 0 or a negative errno. */
int netlink_open(struct netlink *netlink, int protocol);

/* For events of these groups, never blocking, for one protocol. 0 or a negative errno. */
int netlink_open_events(struct netlink *netlink, int protocol, const unsigned *groups,
			size_t n_groups);

/* Also when it was never opened, as long as fd is -1. */
void netlink_close(struct netlink *netlink);

/* type and flags of the header, and the family's own fixed header. */
void netlink_request_init(struct netlink_request *request, uint16_t type, uint16_t flags,
			  const void *family_header, size_t len);

/* Adds one attribute; requests are small and ours, so too much of them is a broken invariant. */
void netlink_request_put(struct netlink_request *request, uint16_t type, const void *data,
			 size_t len);

/* Sends it and waits for the acknowledgement: 0 or a negative errno, with ->why. */
int netlink_ask(struct netlink *netlink, struct netlink_request *request);

/* The same with the messages that come before the acknowledgement. */
int netlink_ask_for(struct netlink *netlink, struct netlink_request *request,
		    netlink_message on_message, void *ctx);

/* Sends a request whose answer is a dump, for netlink_dump_next(). */
int netlink_dump(struct netlink *netlink, struct netlink_request *request);

/*
 * Gives the next batch of the dump's messages: 1 when more may follow, 0 at the
 * end, or a negative errno; -EINTR: it was not consistent, ask again.
 */
int netlink_dump_next(struct netlink *netlink, netlink_message on_message, void *ctx);

/* All of a dump, repeated while it is not consistent, so a message may come twice. */
int netlink_dump_all(struct netlink *netlink, struct netlink_request *request,
		     netlink_message on_message, void *ctx);

/* Every event that waits: 0, or -ENOBUFS when the kernel had to drop some, or another errno. */
int netlink_events(struct netlink *netlink, netlink_message on_message, void *ctx);

/* The attribute's value with its length, or NULL: among attributes that begin at offset. */
const void *netlink_attribute(const struct nlmsghdr *message, size_t offset, uint16_t type,
			      size_t *len);

/* "No such device (link down)" in error. */
void netlink_explain(const struct netlink *netlink, int code, struct buffer *error);

#endif
