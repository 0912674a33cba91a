/* SPDX-License-Identifier: ISC */
/*
 * Static files below http.static_root. Run by the worker. It gives out regular
 * files only, never follows a symbolic link below the root, never leaves it, and
 * knows no hidden names. Files are small and read at once; clients keep them by
 * their ETag and ask again.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keepsock/log.h"
#include "worker/internal.h"

#define FILE_MAX    (8 * 1024 * 1024)
#define SEGMENT_MAX 255u
#define INDEX       "index.html"

static const struct {
	const char *extension;
	const char *content_type;
} content_types[] = {
	{"html", "text/html; charset=utf-8"},
	{"js", "text/javascript; charset=utf-8"},
	{"mjs", "text/javascript; charset=utf-8"},
	{"css", "text/css; charset=utf-8"},
	{"txt", "text/plain; charset=utf-8"},
	{"json", "application/json"},
	{"map", "application/json"},
	{"webmanifest", "application/manifest+json"},
	{"xml", "application/xml"},
	{"wasm", "application/wasm"},
	{"pdf", "application/pdf"},
	{"svg", "image/svg+xml"},
	{"png", "image/png"},
	{"jpg", "image/jpeg"},
	{"jpeg", "image/jpeg"},
	{"gif", "image/gif"},
	{"webp", "image/webp"},
	{"ico", "image/x-icon"},
	{"woff", "font/woff"},
	{"woff2", "font/woff2"},
};

static const char *content_type_of(struct slice path)
{
	const char *dot = memrchr(path.data, '.', path.len);
	struct slice extension = SLICE("");

	if (dot)
		extension = slice_from(dot + 1, (size_t)(path.data + path.len - dot - 1));
	for (size_t i = 0; i < sizeof(content_types) / sizeof(content_types[0]); i++)
		if (http_equal_nocase(extension, slice_str(content_types[i].extension)))
			return content_types[i].content_type;
	return "application/octet-stream";
}

/*
 * Opens what a decoded path names, one directory after the other, so that no
 * link is followed on the way. An empty segment, "." and ".." are hidden names
 * or none. -1: nothing to give out.
 */
static int open_below(const char *root, struct slice path)
{
	int dir = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0)
		log_warning("static_root_unusable path=%s error=%s", log_value_str(root),
			    strerror(errno));
	while (dir >= 0 && path.len > 0) {
		const char *start = path.data + 1; /* behind the '/' */
		const char *end = memchr(start, '/', path.len - 1);
		size_t length = end ? (size_t)(end - start) : path.len - 1;
		char name[SEGMENT_MAX + 1];
		int fd = -1;

		if (length > 0 && length <= SEGMENT_MAX && start[0] != '.') {
			memcpy(name, start, length);
			name[length] = '\0';
			/* O_NONBLOCK: opening a FIFO must not wait for its writer. */
			fd = openat(dir, name,
				    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC |
					    (end ? O_DIRECTORY : 0));
		}
		close(dir);
		dir = fd;
		path = slice_from(start + length, path.len - 1 - length);
	}
	return dir;
}

/* An open regular file of a size we serve, or -1. */
static int open_file(const struct worker *w, struct slice path, struct stat *info)
{
	int fd = open_below(w->settings.http.static_root, path);

	if (fd < 0)
		return -1;
	if (fstat(fd, info) == 0 && S_ISREG(info->st_mode) && info->st_size <= FILE_MAX)
		return fd;
	close(fd);
	return -1;
}

/* Changes whenever the file does, as far as its times and its size tell. */
static void make_etag(const struct stat *info, char *out, size_t size)
{
	snprintf(out, size, "\"%" PRIx64 "-%" PRIx64 "-%" PRIx64 "\"", (uint64_t)info->st_ino,
		 (uint64_t)info->st_mtim.tv_sec * 1000000000u + (uint64_t)info->st_mtim.tv_nsec,
		 (uint64_t)info->st_size);
}

/* If-None-Match, compared weakly (RFC 9110 §13.1.2). */
static bool client_has(const struct http_request *request, const char *etag)
{
	struct slice list, element;

	if (!http_header_find(request, "If-None-Match", &list))
		return false;
	while (http_list_next(&list, &element)) {
		if (element.len > 2 && memcmp(element.data, "W/", 2) == 0)
			element = slice_from(element.data + 2, element.len - 2);
		if (slice_is(element, etag) || slice_is(element, "*"))
			return true;
	}
	return false;
}

/* False when the file changed under us or can't be read. */
static bool read_whole(int fd, size_t size, struct buffer *out)
{
	char *at = buffer_reserve(out, size + 1);

	while (out->len < size) {
		ssize_t got = read(fd, at + out->len, size - out->len);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		out->len += (size_t)got;
	}
	return true;
}

static void respond_file(struct connection *c, const struct http_request *request, int fd,
			 const struct stat *info, const char *content_type)
{
	size_t size = (size_t)info->st_size;
	struct buffer content = {0};
	char etag[64], headers[256];

	make_etag(info, etag, sizeof(etag));
	snprintf(headers, sizeof(headers),
		 "ETag: %s\r\nCache-Control: no-cache\r\nX-Content-Type-Options: nosniff\r\n",
		 etag);
	if (client_has(request, etag))
		http_session_respond(c, 304, NULL, SLICE(""), headers);
	else if (read_whole(fd, size, &content))
		http_session_respond(c, 200, content_type, buffer_slice(&content), headers);
	else
		http_session_respond(c, 500, "text/plain; charset=utf-8",
				     SLICE("the file can't be read\n"), NULL);
	buffer_free(&content);
}

bool http_files_serve(struct connection *c, const struct http_request *request)
{
	struct worker *w = c->worker;
	struct buffer *path = &w->decode;
	struct stat info;
	int fd;

	buffer_reset(path);
	if (w->settings.http.static_root[0] == '\0' || !http_path_decode(request->path, path))
		return false;
	if (path->data[path->len - 1] == '/')
		buffer_append_str(path, INDEX);
	fd = open_file(w, buffer_slice(path), &info);
	if (fd < 0)
		return false;
	respond_file(c, request, fd, &info, content_type_of(buffer_slice(path)));
	close(fd);
	return true;
}
