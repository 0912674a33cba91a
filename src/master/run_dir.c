/* SPDX-License-Identifier: ISC */
/*
 * The run and state directories: making, checking, locking. Runs in the
 * master, run_dir_prepare() possibly still as root. It never repairs what is
 * there: a directory with the wrong owner is the operator's to judge.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/run_dir.h"

int run_dir_prepare(const char *path, uid_t uid, gid_t gid, struct buffer *error)
{
	if (mkdir(path, 0700) < 0) {
		if (errno == EEXIST)
			return 0;
		buffer_printf(error, "cannot make the directory %s: %s", path, strerror(errno));
		if (errno == ENOENT)
			buffer_append_str(error, "; make its parent directory first");
		return -1;
	}
	if (geteuid() == uid)
		return 0;
	if (lchown(path, uid, gid) < 0) {
		buffer_printf(error, "cannot give %s to uid %ld: %s", path, (long)uid,
			      strerror(errno));
		(void)rmdir(path);
		return -1;
	}
	return 0;
}

int run_dir_check(const char *path, struct buffer *error)
{
	struct stat status;

	if (stat(path, &status) < 0) {
		buffer_printf(error, "%s: %s", path, strerror(errno));
		return -1;
	}
	if (!S_ISDIR(status.st_mode)) {
		buffer_printf(error, "%s is not a directory", path);
		return -1;
	}
	if (status.st_uid != geteuid()) {
		buffer_printf(error, "%s belongs to uid %ld, keepsockd runs as uid %ld: chown it",
			      path, (long)status.st_uid, (long)geteuid());
		return -1;
	}
	if (status.st_mode & (S_IWGRP | S_IWOTH)) {
		buffer_printf(error, "%s is writable by others (mode %04o): chmod go-w it", path,
			      (unsigned)(status.st_mode & 07777));
		return -1;
	}
	return 0;
}

/* As the lock's file has it; 0 when that is none. */
static pid_t read_pid(int fd)
{
	char text[32];
	ssize_t len = pread(fd, text, sizeof(text) - 1, 0);
	long pid;

	text[len > 0 ? len : 0] = '\0';
	pid = strtol(text, NULL, 10);
	return pid > 0 && pid <= INT32_MAX ? (pid_t)pid : 0;
}

static void say_holder(int fd, const char *path, struct buffer *error)
{
	pid_t pid = read_pid(fd);

	buffer_printf(error, "%s is in use by another keepsockd", path);
	if (pid > 0)
		buffer_printf(error, " (pid %ld)", (long)pid);
	buffer_append_str(error, ": stop it first, or give this node directories of its own");
}

static int write_pid(int fd)
{
	struct buffer text = {0};
	ssize_t written;

	buffer_printf(&text, "%ld\n", (long)getpid());
	if (ftruncate(fd, 0) < 0) {
		buffer_free(&text);
		return -1;
	}
	written = pwrite(fd, text.data, text.len, 0);
	buffer_free(&text);
	return written < 0 ? -1 : 0;
}

int run_dir_lock(const char *path, struct buffer *error)
{
	char *name = xasprintf("%s/lock", path);
	int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0) {
		buffer_printf(error, "cannot open %s: %s", name, strerror(errno));
	} else if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno == EWOULDBLOCK)
			say_holder(fd, path, error);
		else
			buffer_printf(error, "cannot lock %s: %s", name, strerror(errno));
		close(fd);
		fd = -1;
	} else if (write_pid(fd) < 0) {
		buffer_printf(error, "cannot write %s: %s", name, strerror(errno));
		close(fd);
		fd = -1;
	}
	free(name);
	return fd;
}

static bool is_locked(int fd)
{
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK;
	(void)flock(fd, LOCK_UN);
	return false;
}

static int end_process(int pidfd, pid_t pid, int timeout_ms, struct buffer *error)
{
	struct pollfd poller = {.fd = pidfd, .events = POLLIN};
	int result;

	if (pidfd_send_signal(pidfd, SIGTERM, NULL, 0) < 0 && errno != ESRCH) {
		buffer_printf(error, "cannot end pid %ld: %s", (long)pid, strerror(errno));
		return -1;
	}
	do {
		result = poll(&poller, 1, timeout_ms);
	} while (result < 0 && errno == EINTR);
	if (result == 1)
		return 0;
	buffer_printf(error, "pid %ld did not end within %d s", (long)pid, timeout_ms / 1000);
	return -1;
}

/* The descriptor comes first: if the lock is still held by that pid then, it is that process. */
int run_dir_end_holder(const char *path, int timeout_ms, struct buffer *error)
{
	char *name = xasprintf("%s/lock", path);
	int fd = open(name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	int pidfd = -1, result = 0;
	pid_t pid = fd >= 0 ? read_pid(fd) : 0;

	if (pid)
		pidfd = pidfd_open(pid, 0);
	if (pidfd >= 0 && is_locked(fd) && read_pid(fd) == pid)
		result = end_process(pidfd, pid, timeout_ms, error);
	if (pidfd >= 0)
		close(pidfd);
	if (fd >= 0)
		close(fd);
	free(name);
	return result;
}
