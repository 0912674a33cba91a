/* SPDX-License-Identifier: ISC */
/*
 * Judging the file of a new program, see program_file.h. Runs in the master.
 * What is judged is what is executed: the descriptor is opened first.
 */
#include "master/program_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keepsock/buffer.h"

static bool is_trusted_owner(uid_t uid)
{
	return uid == 0 || uid == geteuid();
}

static int refuse(const char *path, const char *why, struct buffer *error)
{
	buffer_printf(error, "%s %s: it is not executed", path, why);
	return -1;
}

static int check_file(const char *path, int fd, struct buffer *error)
{
	struct stat status;

	if (fstat(fd, &status) < 0)
		return refuse(path, strerror(errno), error);
	if (!S_ISREG(status.st_mode))
		return refuse(path, "is no regular file", error);
	if (!is_trusted_owner(status.st_uid))
		return refuse(path, "belongs to another user", error);
	if (status.st_mode & (S_IWGRP | S_IWOTH))
		return refuse(path, "is writable by others", error);
	if (!(status.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH)))
		return refuse(path, "is not executable", error);
	return 0;
}

static int check_directory(const char *path, struct buffer *error)
{
	struct stat status;

	if (stat(path, &status) < 0)
		return refuse(path, strerror(errno), error);
	if (!is_trusted_owner(status.st_uid))
		return refuse(path, "belongs to another user", error);
	if ((status.st_mode & (S_IWGRP | S_IWOTH)) && !(status.st_mode & S_ISVTX))
		return refuse(path, "is writable by others", error);
	return 0;
}

/* All above it; cuts the path. */
static int check_directories(char *path, struct buffer *error)
{
	char *slash;

	while ((slash = strrchr(path, '/'))) {
		slash[slash == path] = '\0';
		if (check_directory(path, error) < 0)
			return -1;
		if (slash == path)
			break;
	}
	return 0;
}

int program_file_open(const char *path, struct buffer *error)
{
	char *real = realpath(path, NULL);
	int fd = real ? open(real, O_PATH | O_CLOEXEC | O_NOFOLLOW) : -1;

	if (fd < 0) {
		buffer_printf(error, "cannot open %s: %s", path, strerror(errno));
	} else if (check_file(real, fd, error) < 0 || check_directories(real, error) < 0) {
		close(fd);
		fd = -1;
	}
	free(real);
	return fd;
}
