/* SPDX-License-Identifier: ISC */
/*
 * Where to connect: a ws://, wss:// or http:// URL, resolved once, and the sockets made
 * to it. Refuses everything that is not loopback unless that was allowed.
 */
#ifndef KEEPSOCK_BENCH_TARGET_H
#define KEEPSOCK_BENCH_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "keepsock/buffer.h"

struct target {
	bool http;              /* http://, else ws:// or wss:// */
	struct ssl_ctx_st *tls; /* owned; wss://, else NULL */
	char *authority;        /* owned; host[:port] as given, for the Host field */
	char *host;             /* owned */
	char *path;             /* owned; with the query, at least "/" */
	struct sockaddr_storage address;
	socklen_t address_len;
	bool spread; /* 127.0.0.0/8: connections use several source addresses */
};

struct bench_options;

/* 0, or -1 with the reason in *error. */
int target_parse(struct target *target, const char *url, const struct bench_options *options,
		 struct buffer *error);
void target_free(struct target *target);

/*
 * Starts a non-blocking connection; index counts the connections to this target
 * and picks the source address. The descriptor, or -1 with errno.
 */
int target_dial(const struct target *target, size_t index);

/* Raises the soft limit of descriptors. False: count of them are not to be had; *limit is the most.
 */
bool target_reserve_descriptors(size_t count, size_t *limit);

#endif
