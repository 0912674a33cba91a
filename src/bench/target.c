/* SPDX-License-Identifier: ISC */
/*
 * URLs, addresses and connecting sockets of keepsock-bench. A source address has
 * some 28,000 ports by default, and connect() searches ever longer for a free one
 * as they fill up (600 us with 19,000 taken), so on loopback every 4,000th
 * connection moves on to the next of 127.0.0.1, 127.0.0.2, ...
 */
#include "target.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "options.h"
#include "wire.h"

#define CONNECTIONS_PER_SOURCE 4000
#define SOURCES_MAX            250

/* ---- URL ---- */

static bool is_loopback(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET) {
		const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;

		return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
	}
	if (address->sa_family == AF_INET6) {
		const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;

		return IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
	}
	return false;
}

/* Cuts "host:port", "[v6]:port" or "host" in place. False: not of that form. */
static bool split_authority(char *text, char **host, const char **port, const char *usual)
{
	char *colon;

	*host = text;
	*port = usual;
	if (*text == '[') {
		char *bracket = strchr(text, ']');

		if (!bracket || (bracket[1] != '\0' && bracket[1] != ':'))
			return false;
		*host = text + 1;
		colon = bracket[1] == ':' ? bracket + 1 : NULL;
		*bracket = '\0';
	} else {
		colon = strchr(text, ':');
	}
	if (colon) {
		*colon = '\0';
		*port = colon + 1;
	}
	return **host != '\0' && **port != '\0' && !strchr(*port, ':');
}

static int resolve(struct target *target, const char *host, const char *port, bool allow_remote,
		   struct buffer *error)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
	struct addrinfo *found = NULL;
	const struct addrinfo *use = NULL;
	int result = getaddrinfo(host, port, &hints, &found);

	if (result != 0) {
		buffer_printf(error, "%s port %s: %s", host, port, gai_strerror(result));
		return -1;
	}
	for (const struct addrinfo *ai = found; ai && !use; ai = ai->ai_next)
		if (is_loopback(ai->ai_addr))
			use = ai;
	if (!use && allow_remote)
		use = found;
	if (use) {
		memcpy(&target->address, use->ai_addr, use->ai_addrlen);
		target->address_len = use->ai_addrlen;
		target->spread = use->ai_family == AF_INET && is_loopback(use->ai_addr);
	} else {
		buffer_printf(error,
			      "%s is not a loopback address; if the server is yours, "
			      "say --allow-remote",
			      host);
	}
	freeaddrinfo(found);
	return use ? 0 : -1;
}

int target_parse(struct target *target, const char *url, const struct bench_options *options,
		 struct buffer *error)
{
	const char *rest = url + strcspn(url, ":");
	char *copy, *host;
	const char *port;
	bool tls = strncmp(url, "wss://", 6) == 0;
	size_t length;
	int result = -1;

	*target = (struct target){.http = strncmp(url, "http://", 7) == 0};
	if ((!target->http && !tls && strncmp(url, "ws://", 5) != 0) || strpbrk(url, " \t\r\n#")) {
		buffer_printf(error, "%s: give a URL like ws://127.0.0.1:8000/path", url);
		return -1;
	}
	rest += 3;
	length = strcspn(rest, "/?");
	target->authority = xstrndup(rest, length);
	target->path = xasprintf("%s%s", rest[length] == '/' ? "" : "/", rest + length);
	copy = xstrdup(target->authority);
	if (split_authority(copy, &host, &port, tls ? "443" : "80")) {
		target->host = xstrdup(host);
		result = resolve(target, host, port, options->allow_remote, error);
	} else {
		buffer_printf(error, "%s: no host and port in it", url);
	}
	free(copy);
	if (result == 0 && tls) {
		target->tls = wire_context(options->ciphersuites, error);
		result = target->tls ? 0 : -1;
	}
	if (result != 0)
		target_free(target);
	return result;
}

void target_free(struct target *target)
{
	wire_context_free(target->tls);
	free(target->authority);
	free(target->host);
	free(target->path);
	target->tls = NULL;
	target->host = NULL;
	target->authority = NULL;
	target->path = NULL;
}

/* ---- sockets ---- */

static int bind_source(int fd, size_t index)
{
	struct sockaddr_in source = {.sin_family = AF_INET};
	size_t number = 1 + index / CONNECTIONS_PER_SOURCE % SOURCES_MAX;
	int on = 1;

	if (number == 1)
		return 0; /* the kernel's own choice is 127.0.0.1 or the target itself */
	source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)number - 1);
	/* The port is picked by connect(), which may reuse one towards another target. */
	if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on)) != 0)
		return -1;
	return bind(fd, (const struct sockaddr *)&source, sizeof(source));
}

int target_dial(const struct target *target, size_t index)
{
	int on = 1, saved;
	int fd = socket(target->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	if (target->spread && bind_source(fd, index) != 0)
		goto failed;
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0)
		goto failed;
	if (connect(fd, (const struct sockaddr *)&target->address, target->address_len) != 0 &&
	    errno != EINPROGRESS)
		goto failed;
	return fd;
failed:
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

bool target_reserve_descriptors(size_t count, size_t *limit)
{
	struct rlimit now;

	*limit = 0;
	if (getrlimit(RLIMIT_NOFILE, &now) != 0)
		return false;
	*limit = now.rlim_max == RLIM_INFINITY ? SIZE_MAX : now.rlim_max;
	if (now.rlim_cur == RLIM_INFINITY || now.rlim_cur >= count)
		return true;
	if (*limit < count)
		return false;
	now.rlim_cur = count;
	return setrlimit(RLIMIT_NOFILE, &now) == 0;
}
