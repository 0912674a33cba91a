/* SPDX-License-Identifier: ISC */
/*
 * What the two floor programs share. They show the least the kernel charges for
 * the same work: no limits, no timeouts, no checks. With a certificate and a key
 * they show what an OpenSSL object for each connection costs, TLS the usual way. Only
 * tests/bench/run starts them, on loopback; never a server for anybody.
 */
#ifndef KEEPSOCK_TESTS_BENCH_FLOOR_H
#define KEEPSOCK_TESTS_BENCH_FLOOR_H

#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

#define FLOOR_BUFFER_SIZE 65536

struct floor_connection {
	int fd;
	struct ssl_st *tls; /* owned; NULL: in the clear */
	int upgraded;
	int publisher; /* its path is /publish */
	size_t kept;   /* bytes of an incomplete head or frame, kept by the caller */
	uint8_t *rest; /* owned; NULL while kept is 0 */
};

struct floor_frame {
	uint8_t *payload; /* unmasked, in place */
	size_t length;
	size_t consumed; /* 0: not whole yet */
	unsigned opcode;
};

/*
 * argv: nothing, or the files of a certificate and its key.
 * Listens on 127.0.0.1, prints "listening PORT", accepts and upgrades; calls
 * serve with what is read from an upgraded connection, which may be modified and
 * returns how much of it was used. Never returns.
 */
_Noreturn void floor_run(char **argv,
			 size_t (*serve)(struct floor_connection *connection, uint8_t *data,
					 size_t length),
			 void (*joined)(struct floor_connection *connection),
			 void (*left)(struct floor_connection *connection));

/* The next frame of a client, if it is whole. */
struct floor_frame floor_frame(uint8_t *data, size_t length);

/* Writes an unmasked text frame's header; its length. */
size_t floor_header(uint8_t out[10], size_t length);

/* One send() or SSL_write(); a socket that does not take everything at once ends the program. */
void floor_send(struct floor_connection *connection, const void *data, size_t length);

/* Prints what failed, with errno's text, and exits. */
_Noreturn void floor_die(const char *what);

#endif
