/* SPDX-License-Identifier: ISC */
/*
 * The supervisor's files, see epoch_file.h.
 */
#include "supervisor/epoch_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/text_file.h"

#define FILE_MAX ((size_t)256)
/* Redis counts in doubles. */
#define EPOCH_MAX (UINT64_C(1) << 53)

int epoch_file_read(const char *directory, uint64_t *epoch, struct buffer *error)
{
	char *path = xasprintf("%s/epoch", directory);
	struct buffer text = {0};
	int result = 0;
	char *end;

	*epoch = 0;
	if (access(path, F_OK) == 0 || errno != ENOENT) {
		result = text_file_read(path, FILE_MAX, &text, error);
		if (result == 0) {
			*epoch = strtoull(buffer_cstr(&text), &end, 10);
			if (text.len == 0 || text.data[0] < '0' || text.data[0] > '9' ||
			    strcmp(end, "\n") != 0 || *epoch > EPOCH_MAX) {
				buffer_printf(error,
					      "%s holds no epoch: write the highest one that any "
					      "node's status shows into it",
					      path);
				result = -1;
			}
		}
	}
	buffer_free(&text);
	free(path);
	return result;
}

/* The rename itself, not only the file behind it. */
static int sync_directory(const char *directory, struct buffer *error)
{
	int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int result = fd < 0 ? -1 : fsync(fd);

	if (result < 0)
		buffer_printf(error, "%s: %s", directory, strerror(errno));
	if (fd >= 0)
		close(fd);
	return result;
}

static int replace(const char *directory, const char *name, const char *text, struct buffer *error)
{
	char *path = xasprintf("%s/%s", directory, name);
	char *fresh = xasprintf("%s.new", path);
	int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int result = -1;

	if (fd < 0 || text_file_write_all(fd, slice_str(text)) < 0 || fsync(fd) < 0 ||
	    rename(fresh, path) < 0)
		buffer_printf(error, "cannot write %s: %s", path, strerror(errno));
	else
		result = sync_directory(directory, error);
	if (fd >= 0)
		close(fd);
	free(fresh);
	free(path);
	return result;
}

int epoch_file_write(const char *directory, uint64_t epoch, struct buffer *error)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRIu64 "\n", epoch);
	return replace(directory, "epoch", text, error);
}

char *lease_file_read(const char *directory)
{
	char *path = xasprintf("%s/lease", directory);
	struct buffer text = {0}, error = {0};
	char *result;

	if (access(path, F_OK) != 0 || text_file_read(path, FILE_MAX, &text, &error) < 0)
		buffer_reset(&text);
	(void)buffer_cstr(&text);
	result = xstrndup(text.data, strcspn(text.data, "\n"));
	buffer_free(&text);
	buffer_free(&error);
	free(path);
	return result;
}

int lease_file_write(const char *directory, const char *text, struct buffer *error)
{
	char *line = xasprintf("%s%s", text, *text ? "\n" : "");
	int result = replace(directory, "lease", line, error);

	free(line);
	return result;
}
