/* SPDX-License-Identifier: ISC */
/*
 * Binding the node's listening sockets, and taking over those that are bound.
 * Runs in the master. It never accepts a connection.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/listeners.h"
#include "keepsock/log.h"
#include "keepsock/settings.h"

#define LISTEN_BACKLOG 4096 /* the kernel lowers it to net.core.somaxconn */

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* The length of the address, 0 when the text is none (settings_parse() lets no such text in). */
static socklen_t parse_address(const struct settings_listener *listener, union address *out)
{
	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET, listener->address, &out->v4.sin_addr) == 1) {
		out->v4.sin_family = AF_INET;
		out->v4.sin_port = htons((uint16_t)listener->port);
		return sizeof(out->v4);
	}
	if (inet_pton(AF_INET6, listener->address, &out->v6.sin6_addr) == 1) {
		out->v6.sin6_family = AF_INET6;
		out->v6.sin6_port = htons((uint16_t)listener->port);
		return sizeof(out->v6);
	}
	return 0;
}

static int set_option(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value));
}

/* A bound socket, or -1 with errno. TCP_NODELAY passes on to what is accepted. */
static int bind_socket(const union address *address, socklen_t length, bool shared)
{
	int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int saved;

	if (fd < 0)
		return -1;
	if (set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1) == 0 &&
	    (!shared || set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1) == 0) &&
	    (address->any.sa_family != AF_INET6 ||
	     set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0) == 0) &&
	    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1) == 0 &&
	    bind(fd, &address->any, length) == 0)
		return fd;
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

static int fail(const struct settings_listener *listener, struct buffer *error)
{
	buffer_printf(error, "cannot listen on %s port %d: %s", listener->address,
		      (int)listener->port, strerror(errno));
	if (errno == EACCES)
		buffer_append_str(error, "; ports below 1024 need root or CAP_NET_BIND_SERVICE");
	else if (errno == EADDRINUSE)
		buffer_append_str(error, "; another process has it");
	else if (errno == EADDRNOTAVAIL)
		buffer_append_str(error, "; this host does not have that address");
	return -1;
}

/* Without SO_REUSEPORT the kernel tells whether somebody listens there already. */
static int check_free(const struct settings_listener *listener, struct buffer *error)
{
	union address address;
	socklen_t length = parse_address(listener, &address);
	int fd = bind_socket(&address, length, false);

	if (fd < 0)
		return fail(listener, error);
	close(fd);
	return 0;
}

static int open_member(const struct settings_listener *listener, int *fd, struct buffer *error)
{
	union address address;
	socklen_t length = parse_address(listener, &address);

	*fd = bind_socket(&address, length, true);
	if (*fd < 0 || listen(*fd, LISTEN_BACKLOG) < 0)
		return fail(listener, error);
	return 0;
}

/* Whether that socket is bound to this address. */
static bool is_bound_to(int fd, const union address *wanted)
{
	union address bound;
	socklen_t length = sizeof(bound);

	if (getsockname(fd, &bound.any, &length) < 0 ||
	    bound.any.sa_family != wanted->any.sa_family)
		return false;
	if (wanted->any.sa_family == AF_INET)
		return bound.v4.sin_port == wanted->v4.sin_port &&
		       bound.v4.sin_addr.s_addr == wanted->v4.sin_addr.s_addr;
	return bound.v6.sin6_port == wanted->v6.sin6_port &&
	       memcmp(&bound.v6.sin6_addr, &wanted->v6.sin6_addr, sizeof(struct in6_addr)) == 0;
}

/* What is there already. */
struct members {
	const struct listener_member *have;
	size_t count;
};

static const struct listener_member *find_member(const struct members *members,
						 const struct settings_listener *listener,
						 const uint32_t *slot)
{
	union address address;

	(void)parse_address(listener, &address);
	for (size_t i = 0; i < members->count; i++) {
		const struct listener_member *member = &members->have[i];

		if ((!slot || member->slot == *slot) && is_bound_to(member->fd, &address))
			return member;
	}
	return NULL;
}

static int take_member(const struct listener_member *member, int *fd, struct buffer *error)
{
	*fd = fcntl(member->fd, F_DUPFD_CLOEXEC, 0);
	if (*fd >= 0)
		return 0;
	buffer_printf(error, "cannot keep a listening socket: %s", strerror(errno));
	return -1;
}

static int open_slot(struct listeners *listeners, const struct settings *settings, uint32_t slot,
		     const struct members *members, struct buffer *error)
{
	int *fd = &listeners->fds[slot * listeners->count];

	for (size_t i = 0; i < settings->listener_count; i++) {
		const struct settings_listener *listener = &settings->listeners[i];
		const struct listener_member *member = find_member(members, listener, &slot);

		if (settings_listener_is_primary(listener))
			continue;
		if ((member ? take_member(member, fd, error) : open_member(listener, fd, error)) <
		    0)
			return -1;
		fd++;
	}
	return 0;
}

static int open_all(struct listeners *listeners, const struct settings *settings,
		    const struct members *members, struct buffer *error)
{
	for (size_t i = 0; i < settings->listener_count; i++) {
		const struct settings_listener *listener = &settings->listeners[i];

		if (settings_listener_is_primary(listener) || find_member(members, listener, NULL))
			continue;
		if (check_free(listener, error) < 0)
			return -1;
		log_info("listening address=%s port=%d", listener->address, (int)listener->port);
	}
	for (uint32_t slot = 0; slot < listeners->slots; slot++) {
		if (open_slot(listeners, settings, slot, members, error) < 0)
			return -1;
	}
	return 0;
}

int listeners_open(struct listeners *listeners, const struct settings *settings, uint32_t slots,
		   const struct listener_member *have, size_t have_count, struct buffer *error)
{
	const struct members members = {have, have_count};

	listeners->count = 0;
	for (size_t i = 0; i < settings->listener_count; i++)
		listeners->count += !settings_listener_is_primary(&settings->listeners[i]);
	listeners->slots = slots;
	listeners->primary_count = 0;
	listeners->fds = xcalloc(slots * listeners->count, sizeof(int));
	for (size_t i = 0; i < slots * listeners->count; i++)
		listeners->fds[i] = -1;
	if (open_all(listeners, settings, &members, error) == 0)
		return 0;
	listeners_close(listeners);
	return -1;
}

/* ---- of the primary ---- */

static int open_shared(const struct settings_listener *listener, int *fd, struct buffer *error)
{
	union address address;
	socklen_t length = parse_address(listener, &address);

	*fd = bind_socket(&address, length, false);
	if (*fd < 0)
		return fail(listener, error);
	if (listen(*fd, LISTEN_BACKLOG) == 0) {
		log_info("listening address=%s port=%d", listener->address, (int)listener->port);
		return 0;
	}
	(void)fail(listener, error);
	close(*fd);
	return -1;
}

int listeners_open_primary(struct listeners *listeners, const struct settings *settings,
			   const struct listener_member *have, size_t have_count,
			   struct buffer *error)
{
	const struct members members = {have, have_count};

	if (listeners->primary_count > 0)
		return 0;
	for (size_t i = 0; i < settings->listener_count; i++) {
		const struct settings_listener *listener = &settings->listeners[i];
		const struct listener_member *member = find_member(&members, listener, NULL);
		int *fd = &listeners->primary[listeners->primary_count];

		if (!settings_listener_is_primary(listener))
			continue;
		if ((member ? take_member(member, fd, error) : open_shared(listener, fd, error)) <
		    0) {
			listeners_close_primary(listeners);
			return -1;
		}
		listeners->primary_count++;
	}
	return 0;
}

int listeners_take_primary(struct listeners *listeners, const struct settings *settings,
			   const struct listeners *from, struct buffer *error)
{
	struct listener_member have[SETTINGS_LISTENERS_MAX];

	for (size_t i = 0; i < from->primary_count; i++)
		have[i] = (struct listener_member){0, from->primary[i]};
	return listeners_open_primary(listeners, settings, have, from->primary_count, error);
}

/* A close alone would do nothing beside the workers' duplicates. */
void listeners_close_primary(struct listeners *listeners)
{
	for (size_t i = 0; i < listeners->primary_count; i++) {
		(void)shutdown(listeners->primary[i], SHUT_RDWR);
		close(listeners->primary[i]);
	}
	listeners->primary_count = 0;
}

/* Duplicates share an inode. */
static bool has_socket(const int *fds, size_t count, const struct stat *socket)
{
	struct stat own;

	for (size_t i = 0; i < count; i++) {
		if (fds[i] >= 0 && fstat(fds[i], &own) == 0 && own.st_ino == socket->st_ino)
			return true;
	}
	return false;
}

static void shut_unless_kept(int fd, const int *kept, size_t count)
{
	struct stat socket;

	if (fd >= 0 && fstat(fd, &socket) == 0 && !has_socket(kept, count, &socket))
		(void)shutdown(fd, SHUT_RDWR);
}

void listeners_shut_removed(const struct listeners *before, const struct listeners *now)
{
	for (uint32_t slot = 0; slot < before->slots; slot++) {
		size_t kept = slot < now->slots ? now->count : 0;

		for (size_t i = 0; i < before->count; i++)
			shut_unless_kept(before->fds[slot * before->count + i],
					 &now->fds[slot * now->count], kept);
	}
	for (size_t i = 0; i < before->primary_count; i++)
		shut_unless_kept(before->primary[i], now->primary, now->primary_count);
}

const int *listeners_of_slot(const struct listeners *listeners, uint32_t slot)
{
	return &listeners->fds[slot * listeners->count];
}

void listeners_close(struct listeners *listeners)
{
	for (size_t i = 0; i < listeners->slots * listeners->count; i++) {
		if (listeners->fds[i] >= 0)
			close(listeners->fds[i]);
	}
	for (size_t i = 0; i < listeners->primary_count; i++)
		close(listeners->primary[i]);
	free(listeners->fds);
	memset(listeners, 0, sizeof(*listeners));
}
