/* SPDX-License-Identifier: ISC */
/*
 * Text that can't change any more, in a memfd. Written by the master, read by
 * workers.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keepsock/buffer.h"
#include "keepsock/sealed_text.h"
#include "keepsock/text_file.h"

#define SEALS (F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)

int sealed_text_create(const char *name, struct slice text)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int saved;

	if (fd < 0)
		return -1;
	if (text_file_write_all(fd, text) == 0 && fcntl(fd, F_ADD_SEALS, SEALS) == 0)
		return fd;
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

int sealed_text_read(int fd, struct buffer *out)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat status;
	size_t done = 0;

	if (seals < 0 || fstat(fd, &status) < 0)
		return -1;
	if ((seals & SEALS) != SEALS) {
		errno = EPERM;
		return -1;
	}
	while (done < (size_t)status.st_size) {
		size_t left = (size_t)status.st_size - done;
		ssize_t got = pread(fd, buffer_reserve(out, left), left, (off_t)done);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			errno = got < 0 ? errno : EIO;
			return -1;
		}
		out->len += (size_t)got;
		done += (size_t)got;
	}
	return 0;
}
