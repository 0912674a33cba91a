/* SPDX-License-Identifier: ISC */
/*
 * Whole small files: configuration and keys in, generated private files out.
 * Runs in the master. Contents of secret files never appear in an error.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/secret.h"
#include "keepsock/text_file.h"

#define SECRET_FILE_LIMIT 4096

static int read_all(int fd, size_t limit, struct buffer *out)
{
	size_t start = out->len;

	for (;;) {
		char *room = buffer_reserve(out, 4096);
		ssize_t got = read(fd, room, 4096);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return (int)got;
		out->len += (size_t)got;
		if (out->len - start > limit) {
			errno = EFBIG;
			return -1;
		}
	}
}

int text_file_read(const char *path, size_t limit, struct buffer *out, struct buffer *error)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	int result = -1;

	if (fd >= 0)
		result = read_all(fd, limit, out);
	if (result < 0)
		buffer_printf(error, "cannot read %s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return result;
}

void text_file_read_tail(const char *path, off_t from, size_t most, struct buffer *out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	off_t end;
	ssize_t got;

	if (fd < 0)
		return;
	end = lseek(fd, 0, SEEK_END);
	if (end - from > (off_t)most)
		from = end - (off_t)most;
	if (end > from) {
		got = pread(fd, buffer_reserve(out, most), most, from);
		out->len += got > 0 ? (size_t)got : 0;
	}
	close(fd);
}

/* NULL when the first line is no single printable word. */
static char *first_word(const struct buffer *text)
{
	const char *newline = text->len ? memchr(text->data, '\n', text->len) : NULL;
	size_t start = 0, end = newline ? (size_t)(newline - text->data) : text->len;

	while (start < end && strchr(" \t", text->data[start]))
		start++;
	while (end > start && strchr(" \t\r", text->data[end - 1]))
		end--;
	if (start == end)
		return NULL;
	for (size_t i = start; i < end; i++) {
		if (text->data[i] <= ' ' || text->data[i] > '~')
			return NULL;
	}
	return xstrndup(text->data + start, end - start);
}

/* False with error when the file is not there, or its mode has one of these bits. */
static bool mode_is_without(const char *path, mode_t bits, const char *advice, struct buffer *error)
{
	struct stat status;

	if (stat(path, &status) < 0) {
		buffer_printf(error, "cannot read %s: %s", path, strerror(errno));
		return false;
	}
	if (status.st_mode & bits) {
		buffer_printf(error, "%s %s", path, advice);
		return false;
	}
	return true;
}

char *text_file_read_secret(const char *path, struct buffer *error)
{
	struct buffer text = {0};
	char *word = NULL;

	if (!mode_is_without(path, S_IRWXG | S_IRWXO, "may be used by others: chmod 600 it", error))
		return NULL;
	if (text_file_read(path, SECRET_FILE_LIMIT, &text, error) == 0) {
		word = first_word(&text);
		if (!word)
			buffer_printf(error,
				      "the first line of %s must be one word of printable ASCII",
				      path);
	}
	if (text.data)
		secret_wipe(text.data, text.cap);
	buffer_free(&text);
	return word;
}

static bool is_plain_text(const struct buffer *text)
{
	for (size_t i = 0; i < text->len; i++) {
		char c = text->data[i];

		if ((c < ' ' || c > '~') && c != '\n' && c != '\r' && c != '\t')
			return false;
	}
	return text->len > 0;
}

char *text_file_read_public(const char *path, struct buffer *error)
{
	struct buffer text = {0};
	char *copy = NULL;

	if (!mode_is_without(path, S_IWGRP | S_IWOTH, "may be written by others: chmod go-w it",
			     error))
		return NULL;
	if (text_file_read(path, TEXT_FILE_PUBLIC_LIMIT, &text, error) == 0) {
		if (is_plain_text(&text))
			copy = xstrndup(text.data, text.len);
		else
			buffer_printf(error, "%s must be text, and not empty", path);
	}
	buffer_free(&text);
	return copy;
}

int text_file_write_all(int fd, struct slice text)
{
	while (text.len > 0) {
		ssize_t written = write(fd, text.data, text.len);

		if (written < 0) {
			if (errno == EINTR)
				continue;
			return -1;
		}
		text.data += written;
		text.len -= (size_t)written;
	}
	return 0;
}

/* By way of a new file, so that nobody ever sees half of it or its old mode. */
int text_file_write_private(const char *path, struct slice text, struct buffer *error)
{
	char *fresh = xasprintf("%s.new", path);
	int result = -1;
	int fd;

	(void)unlink(fresh); /* of a master that died here */
	fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd >= 0) {
		result = text_file_write_all(fd, text);
		if (close(fd) < 0)
			result = -1;
	}
	if (result == 0)
		result = rename(fresh, path);
	if (result < 0)
		buffer_printf(error, "cannot write %s: %s", path, strerror(errno));
	free(fresh);
	return result;
}
