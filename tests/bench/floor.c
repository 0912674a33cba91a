/* SPDX-License-Identifier: ISC */
/*
 * The floors' event loop: raw epoll, one read per event, the handshake done as
 * barely as a client accepts it.
 */
#include "floor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/websocket.h"

#define BATCH 256

static uint8_t buffer[FLOOR_BUFFER_SIZE];
static int epoll_fd;
static SSL_CTX *context; /* NULL: in the clear */
static size_t (*serve_bytes)(struct floor_connection *connection, uint8_t *data, size_t length);
static void (*on_joined)(struct floor_connection *connection);
static void (*on_left)(struct floor_connection *connection);

void floor_die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

/* As recv(). */
static ssize_t receive(struct floor_connection *connection, uint8_t *data, size_t size)
{
	int got;

	if (!connection->tls)
		return recv(connection->fd, data, size, 0);
	ERR_clear_error();
	got = SSL_read(connection->tls, data, (int)size);
	if (got > 0)
		return got;
	errno = EAGAIN;
	return SSL_get_error(connection->tls, got) == SSL_ERROR_WANT_READ ? -1 : 0;
}

void floor_send(struct floor_connection *connection, const void *data, size_t length)
{
	ssize_t sent = connection->tls ? SSL_write(connection->tls, data, (int)length)
				       : send(connection->fd, data, length, MSG_NOSIGNAL);

	if (sent >= 0 && (size_t)sent != length)
		errno = EMSGSIZE;
	/* A client that has just gone away is noticed by the next read. */
	if ((size_t)sent != length && errno != EPIPE && errno != ECONNRESET)
		floor_die("send");
}

struct floor_frame floor_frame(uint8_t *data, size_t length)
{
	struct floor_frame frame = {0};
	size_t header = 6, size;
	uint64_t mask;

	if (length < header)
		return frame;
	size = data[1] & 127;
	if (size == 126) {
		header = 8;
		size = (size_t)data[2] << 8 | data[3];
	} else if (size == 127) {
		errno = EMSGSIZE;
		floor_die("frame");
	}
	if (length < header + size)
		return frame;
	frame = (struct floor_frame){data + header, size, header + size, data[0] & 15};
	memcpy(&mask, data + header - 4, 4);
	mask = (mask & 0xffffffff) | mask << 32;
	for (size_t i = 0; i + 8 <= size; i += 8) {
		uint64_t word;

		memcpy(&word, frame.payload + i, 8);
		word ^= mask;
		memcpy(frame.payload + i, &word, 8);
	}
	for (size_t i = size & ~(size_t)7; i < size; i++)
		frame.payload[i] ^= data[header - 4 + i % 4];
	return frame;
}

size_t floor_header(uint8_t out[10], size_t length)
{
	return websocket_write_header(out, WEBSOCKET_TEXT, length);
}

static void finish(struct floor_connection *connection)
{
	if (connection->upgraded)
		on_left(connection);
	SSL_free(connection->tls);
	close(connection->fd);
	free(connection->rest);
	free(connection);
}

static size_t upgrade(struct floor_connection *connection, uint8_t *data, size_t length)
{
	static const char name[] = "Sec-WebSocket-Key: ";
	const char *end = memmem(data, length, "\r\n\r\n", 4);
	const char *key = memmem(data, length, name, sizeof(name) - 1);
	char accept[29], text[256];

	if (!end)
		return 0;
	errno = EPROTO;
	if (!key || (size_t)(end - key) < sizeof(name) - 1 + 24 ||
	    !websocket_accept_key(slice_from(key + sizeof(name) - 1, 24), accept))
		floor_die("upgrade");
	snprintf(text, sizeof(text),
		 "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
		 "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		 accept);
	connection->upgraded = 1;
	connection->publisher = length > 12 && memcmp(data, "GET /publish", 12) == 0;
	floor_send(connection, text, strlen(text));
	on_joined(connection);
	return (size_t)(end - (const char *)data) + 4;
}

/* Puts what was kept in front of the free part of the buffer; the bytes there. */
static size_t restore(struct floor_connection *connection)
{
	if (connection->kept > 0)
		memcpy(buffer, connection->rest, connection->kept);
	return connection->kept;
}

static void keep(struct floor_connection *connection, const uint8_t *data, size_t length)
{
	connection->kept = length;
	if (length == 0)
		return;
	connection->rest = xrealloc(connection->rest, length);
	memcpy(connection->rest, data, length);
}

/* False: it is gone, or there is nothing to read any more. */
static bool read_once(struct floor_connection *connection)
{
	size_t have = restore(connection);
	size_t used = 0;
	ssize_t got = receive(connection, buffer + have, sizeof(buffer) - have);

	if (got < 0 && errno == EAGAIN)
		return false;
	if (got <= 0) {
		finish(connection);
		return false;
	}
	have += (size_t)got;
	if (!connection->upgraded)
		used = upgrade(connection, buffer, have);
	if (connection->upgraded && used < have)
		used += serve_bytes(connection, buffer + used, have - used);
	keep(connection, buffer + used, have - used);
	return connection->tls && SSL_has_pending(connection->tls) == 1;
}

static void on_readable(struct floor_connection *connection)
{
	while (read_once(connection))
		;
}

static void on_connection(int listener)
{
	int on = 1;
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct floor_connection *connection;
	struct epoll_event event = {.events = EPOLLIN};

	if (fd < 0 && (errno == EAGAIN || errno == ECONNABORTED))
		return;
	if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0)
		floor_die("accept");
	connection = xcalloc(1, sizeof(*connection));
	connection->fd = fd;
	if (context) {
		connection->tls = SSL_new(context);
		if (!connection->tls || SSL_set_fd(connection->tls, fd) != 1)
			floor_die("SSL_new");
		SSL_set_accept_state(connection->tls);
	}
	event.data.ptr = connection;
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
		floor_die("epoll_ctl");
}

static int listen_anywhere(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
	    listen(fd, 4096) != 0 || getsockname(fd, (struct sockaddr *)&address, &length) != 0)
		floor_die("listen");
	printf("listening %u\n", (unsigned)ntohs(address.sin_port));
	if (fflush(stdout) != 0)
		floor_die("stdout");
	return fd;
}

static void raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		floor_die("getrlimit");
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		floor_die("setrlimit");
}

/* As lean as OpenSSL can be asked to be. */
static void speak_tls(const char *certificate, const char *key)
{
	context = SSL_CTX_new(TLS_server_method());
	errno = EINVAL;
	if (!context || SSL_CTX_use_certificate_chain_file(context, certificate) != 1 ||
	    SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
		floor_die("certificate");
	SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_read_ahead(context, 1);
	signal(SIGPIPE, SIG_IGN);
}

void floor_run(char **argv,
	       size_t (*serve)(struct floor_connection *connection, uint8_t *data, size_t length),
	       void (*joined)(struct floor_connection *connection),
	       void (*left)(struct floor_connection *connection))
{
	struct epoll_event events[BATCH];
	struct epoll_event event = {.events = EPOLLIN};
	int listener;

	serve_bytes = serve;
	on_joined = joined;
	on_left = left;
	if (argv[1] && argv[2])
		speak_tls(argv[1], argv[2]);
	raise_descriptors();
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		floor_die("epoll_create1");
	listener = listen_anywhere();
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event) != 0)
		floor_die("epoll_ctl");
	while (true) {
		int count = epoll_wait(epoll_fd, events, BATCH, -1);

		if (count < 0 && errno != EINTR)
			floor_die("epoll_wait");
		for (int i = 0; i < count; i++) {
			if (events[i].data.ptr)
				on_readable(events[i].data.ptr);
			else
				on_connection(listener);
		}
	}
}
