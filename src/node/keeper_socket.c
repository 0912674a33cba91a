/* SPDX-License-Identifier: ISC */
/*
 * A keeper's socket in the runtime directory: made by the keeper, connected to
 * by a worker whose keeper was replaced. Who may connect is decided by the
 * kernel's word about the peer, not by what the peer says.
 */
#include "keepsock/keeper_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 8

static void close_keeping_errno(int fd)
{
	int saved = errno;

	close(fd);
	errno = saved;
}

static void name_of(char *name, size_t size, uint32_t slot)
{
	(void)snprintf(name, size, "keeper-%u.sock", (unsigned)slot);
}

/* Its path through a descriptor of the directory, which is always short enough. */
static void address_of(struct sockaddr_un *address, int directory, uint32_t slot)
{
	char name[32];

	name_of(name, sizeof(name), slot);
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	(void)snprintf(address->sun_path, sizeof(address->sun_path), "/proc/self/fd/%d/%s",
		       directory, name);
}

static int open_directory(const char *path)
{
	return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* The mode is right from the first moment: nobody connects before it is restricted. */
static int bind_and_listen(int fd, int directory, uint32_t slot)
{
	struct sockaddr_un address;
	char name[32];
	mode_t before;
	int result;

	name_of(name, sizeof(name), slot);
	if (unlinkat(directory, name, 0) < 0 && errno != ENOENT)
		return -1;
	address_of(&address, directory, slot);
	before = umask(0177);
	result = bind(fd, (const struct sockaddr *)&address, sizeof(address));
	(void)umask(before);
	return result < 0 ? -1 : listen(fd, BACKLOG);
}

static int make_socket(void)
{
	return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

int keeper_socket_listen(const char *run_dir, uint32_t slot)
{
	int directory = open_directory(run_dir);
	int fd;

	if (directory < 0)
		return -1;
	fd = make_socket();
	if (fd >= 0 && bind_and_listen(fd, directory, slot) < 0) {
		close_keeping_errno(fd);
		fd = -1;
	}
	close_keeping_errno(directory);
	return fd;
}

int keeper_socket_connect(const char *run_dir, uint32_t slot)
{
	int directory = open_directory(run_dir);
	struct sockaddr_un address;
	int fd;

	if (directory < 0)
		return -1;
	address_of(&address, directory, slot);
	fd = make_socket();
	if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		close_keeping_errno(fd);
		fd = -1;
	}
	close_keeping_errno(directory);
	return fd;
}

pid_t keeper_socket_peer(int fd)
{
	struct ucred who;
	socklen_t length = sizeof(who);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) < 0 ? 0 : who.pid;
}

void keeper_socket_remove(const char *run_dir, uint32_t slot)
{
	int directory = open_directory(run_dir);
	char name[32];

	if (directory < 0)
		return;
	name_of(name, sizeof(name), slot);
	(void)unlinkat(directory, name, 0); /* what is left is found out to be nobody's */
	close(directory);
}

size_t keeper_socket_list(const char *run_dir, uint32_t *slots, size_t max)
{
	int directory = open_directory(run_dir);
	struct stat status;
	size_t count = 0;
	char name[32];

	if (directory < 0)
		return 0;
	for (uint32_t slot = 0; slot < max; slot++) {
		name_of(name, sizeof(name), slot);
		if (fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISSOCK(status.st_mode))
			slots[count++] = slot;
	}
	close(directory);
	return count;
}

int keeper_socket_accept(int fd, pid_t *peer)
{
	struct ucred who;
	socklen_t length = sizeof(who);
	int client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (client < 0)
		return -1;
	if (getsockopt(client, SOL_SOCKET, SO_PEERCRED, &who, &length) < 0) {
		close_keeping_errno(client);
		return -1;
	}
	if (who.uid != geteuid() && who.uid != 0) {
		close(client);
		errno = EPERM;
		return -1;
	}
	*peer = who.pid;
	return client;
}
