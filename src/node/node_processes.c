/* SPDX-License-Identifier: ISC */
/*
 * The list of a node's processes, see node_processes.h. Used by all of them, and
 * by those who end a node against its will: keepsockd --kill and the supervisor,
 * which may be root and therefore trusts the directory's owner no further than
 * to its own processes.
 */
#include "keepsock/node_processes.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/clock.h"

#define KINDS      3
#define KIND_SHIFT 32

struct search {
	int fd;
	uid_t owner;
	int found;
	struct buffer *error; /* of the first that failed */
	bool failed;
};

static int open_list(const char *run_dir, int flags)
{
	char *path = xasprintf("%s/processes", run_dir);
	int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);

	free(path);
	return fd;
}

int node_processes_join(const char *run_dir, enum node_process kind)
{
	struct flock lock = {
		.l_type = F_WRLCK,
		.l_whence = SEEK_SET,
		.l_start = ((off_t)kind << KIND_SHIFT) + getpid(),
		.l_len = 1,
	};
	int fd = open_list(run_dir, O_RDWR | O_CREAT);

	if (fd < 0)
		return -1;
	/* Kept open: the lock lasts as long as the process. */
	if (fcntl(fd, F_SETLK, &lock) == 0)
		return 0;
	close(fd);
	return -1;
}

/* ---- finding and killing ---- */

static void fail(struct search *search, pid_t pid, const char *reason)
{
	if (!search->failed)
		buffer_printf(search->error, "process %ld of the node: %s", (long)pid, reason);
	search->failed = true;
}

/* One that holds a byte of the range, in *lock; false: none does. */
static bool find(struct search *search, off_t from, off_t to, struct flock *lock)
{
	*lock = (struct flock){
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = from, .l_len = to - from};
	if (fcntl(search->fd, F_GETLK, lock) < 0) {
		fail(search, 0, strerror(errno));
		return false;
	}
	return lock->l_type != F_UNLCK;
}

/* The real user of a process; false: it is gone. */
static bool find_user(pid_t pid, uid_t *uid)
{
	char path[40], line[256];
	unsigned real = 0;
	bool found = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%ld/status", (long)pid);
	file = fopen(path, "re");
	if (!file)
		return false;
	while (!found && fgets(line, sizeof(line), file))
		found = sscanf(line, "Uid: %u", &real) == 1;
	fclose(file);
	*uid = (uid_t)real;
	return found;
}

/* The descriptor comes first: if the byte is still that pid's then, it is that process. */
static void kill_holder(struct search *search, const struct flock *lock)
{
	struct flock again;
	int pidfd = lock->l_pid > 0 ? pidfd_open(lock->l_pid, 0) : -1;
	uid_t uid;

	search->found++;
	if (lock->l_pid <= 0)
		fail(search, lock->l_pid, "it lives in another pid namespace");
	if (pidfd < 0)
		return; /* gone: the next look tells */
	if (find(search, lock->l_start, lock->l_start + 1, &again) && again.l_pid == lock->l_pid &&
	    find_user(lock->l_pid, &uid)) {
		if (uid != search->owner)
			fail(search, lock->l_pid, "it is not the user's whose node this is");
		else if (pidfd_send_signal(pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
			fail(search, lock->l_pid, strerror(errno));
	}
	close(pidfd);
}

/* The kernel names one holder of a range, any: what is left and right of it is asked for too. */
static void kill_range(struct search *search, off_t from, off_t to)
{
	struct flock lock;
	off_t end;

	while (from < to && find(search, from, to, &lock)) {
		kill_holder(search, &lock);
		end = lock.l_len > 0 ? lock.l_start + lock.l_len : to;
		if (lock.l_start > from)
			kill_range(search, from, lock.l_start);
		from = end;
	}
}

int node_processes_kill(const char *run_dir, struct buffer *error)
{
	struct search search = {.error = error};
	struct stat status;

	search.fd = open_list(run_dir, O_RDONLY | O_NONBLOCK);
	if (search.fd < 0 && errno == ENOENT)
		return 0;
	if (search.fd < 0 || fstat(search.fd, &status) < 0 || !S_ISREG(status.st_mode)) {
		buffer_printf(error, "%s/processes can't be used: %s", run_dir,
			      search.fd < 0 ? strerror(errno) : "not a file");
		if (search.fd >= 0)
			close(search.fd);
		return -1;
	}
	search.owner = status.st_uid;
	for (off_t kind = 0; kind < KINDS; kind++)
		kill_range(&search, kind << KIND_SHIFT, (kind + 1) << KIND_SHIFT);
	close(search.fd);
	return search.failed ? -1 : search.found;
}

int node_processes_end(const char *run_dir, int timeout_ms, struct buffer *error)
{
	uint64_t end = clock_boottime_ms() + (uint64_t)timeout_ms;
	int found = 0, times = 0;

	while (times < NODE_PROCESSES_TIMES) {
		found = node_processes_kill(run_dir, error);
		if (found < 0)
			return -1;
		times = found == 0 ? times + 1 : 0;
		if (found > 0 && clock_boottime_ms() >= end) {
			buffer_printf(error, "%d processes of the node do not end", found);
			return -1;
		}
		if (poll(NULL, 0, NODE_PROCESSES_AGAIN_MS) < 0 && errno != EINTR)
			return -1;
	}
	return 0;
}
