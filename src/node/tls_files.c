/* SPDX-License-Identifier: ISC */
/*
 * Certificates, keys and secrets from their files, see tls_files.h. Read in the
 * master, decoded in workers. No error text holds anything of what was read.
 */
#include "keepsock/tls_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/secret.h"
#include "keepsock/settings.h"

#define KEY_MAX         ((size_t)64 * 1024)
#define CERTIFICATE_MAX ((size_t)1024 * 1024)
#define REVOCATIONS_MAX ((size_t)16 * 1024 * 1024)
#define FORMAT_VERSION  UINT32_C(1)

/* ---- reading ---- */

struct reading {
	const struct settings *settings;
	struct buffer *error;
	int *line;
};

/* Who may use a file. */
enum protection {
	PUBLIC,      /* read by everybody, written by its owner */
	KEY,         /* read by its owner and its group: ssl-cert and the like */
	OWNERS_ONLY, /* as other secrets of ours */
};

/* NULL, or why that mode won't do. */
static const char *mode_problem(mode_t mode, enum protection protection)
{
	switch (protection) {
	case PUBLIC:
		return mode & (S_IWGRP | S_IWOTH) ? "may be written by others: chmod go-w it"
						  : NULL;
	case KEY:
		return mode & (S_IWGRP | S_IXGRP | S_IRWXO)
			       ? "may be read by everybody or written by others: chmod 600 it, or "
				 "640 for a group of its own"
			       : NULL;
	case OWNERS_ONLY:
		return mode & (S_IRWXG | S_IRWXO) ? "may be used by others: chmod 600 it" : NULL;
	}
	return NULL;
}

static bool append_all(int fd, size_t limit, struct buffer *out)
{
	while (out->len <= limit) {
		ssize_t got = read(fd, buffer_reserve(out, 4096), 4096);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got == 0;
		out->len += (size_t)got;
	}
	errno = EFBIG;
	return false;
}

static const char *check_and_read(int fd, size_t limit, enum protection protection,
				  struct buffer *text)
{
	const char *problem;
	struct stat status;

	if (fstat(fd, &status) < 0)
		return strerror(errno);
	if (!S_ISREG(status.st_mode))
		return "is no regular file";
	problem = mode_problem(status.st_mode, protection);
	if (problem)
		return problem;
	if (!append_all(fd, limit, text))
		return strerror(errno);
	return text->len > 0 && memchr(text->data, '\0', text->len) ? "is no text" : NULL;
}

/* The text of a file, owned by the caller; NULL with error and line. */
static char *read_file(struct reading *r, const char *path, size_t limit,
		       enum protection protection, int line)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	const char *problem = fd < 0 ? strerror(errno) : NULL;
	struct buffer text = {0};
	char *copy = NULL;

	if (!problem)
		problem = check_and_read(fd, limit, protection, &text);
	if (fd >= 0)
		close(fd);
	if (!problem)
		copy = xstrndup(text.data ? text.data : "", text.len);
	else if (r->line)
		*r->line = line;
	if (problem)
		buffer_printf(r->error, "tls: %s: %s", path, problem);
	if (text.data)
		secret_wipe(text.data, text.cap);
	buffer_free(&text);
	return copy;
}

static bool read_optional(struct reading *r, const char *path, size_t limit, int line, char **out)
{
	*out = *path ? read_file(r, path, limit, PUBLIC, line) : xstrdup("");
	return *out != NULL;
}

static bool read_certificate(struct reading *r, const struct settings_certificate *names,
			     struct tls_identity *identity)
{
	identity->chain = read_file(r, names->certificate, CERTIFICATE_MAX, PUBLIC, names->line);
	if (!identity->chain)
		return false;
	identity->key = read_file(r, names->key, KEY_MAX, KEY, names->line);
	return identity->key != NULL;
}

static bool read_listener(struct reading *r, const struct settings_tls *tls, const char *own_secret,
			  struct tls_material *material)
{
	if (!tls->enabled)
		return true;
	material->identities = xcalloc(tls->certificate_count, sizeof(*material->identities));
	for (size_t i = 0; i < tls->certificate_count; i++) {
		material->identity_count++;
		if (!read_certificate(r, &tls->certificates[i], &material->identities[i]))
			return false;
	}
	if (!read_optional(r, tls->client_ca, CERTIFICATE_MAX, tls->line, &material->client_ca) ||
	    !read_optional(r, tls->client_crl, REVOCATIONS_MAX, tls->line, &material->client_crl))
		return false;
	material->ticket_secrets =
		*tls->ticket_secret_file
			? read_file(r, tls->ticket_secret_file, KEY_MAX, OWNERS_ONLY, tls->line)
			: xstrdup(own_secret);
	return material->ticket_secrets != NULL;
}

int tls_files_read(const struct settings *settings, const char *own_secret, struct tls_files *files,
		   struct buffer *error, int *line)
{
	struct reading r = {.settings = settings, .error = error, .line = line};

	*files = (struct tls_files){
		.listeners = xcalloc(settings->listener_count, sizeof(*files->listeners)),
		.count = settings->listener_count,
	};
	for (size_t i = 0; i < files->count; i++) {
		if (!read_listener(&r, &settings->listeners[i].tls, own_secret,
				   &files->listeners[i])) {
			tls_files_free(files);
			return -1;
		}
	}
	return 0;
}

void tls_files_free(struct tls_files *files)
{
	for (size_t i = 0; i < files->count; i++)
		tls_material_free(&files->listeners[i]);
	free(files->listeners);
	*files = (struct tls_files){0};
}

/* ---- on the way to the workers: numbers, and texts behind their lengths ---- */

static void put_u32(struct buffer *out, size_t value)
{
	uint32_t number = (uint32_t)value;

	buffer_append(out, &number, sizeof(number));
}

static void put_text(struct buffer *out, const char *text)
{
	size_t length = text ? strlen(text) : 0;

	put_u32(out, length);
	buffer_append(out, text ? text : "", length);
}

void tls_files_encode(const struct tls_files *files, struct buffer *out)
{
	put_u32(out, FORMAT_VERSION);
	buffer_append(out, &files->generation, sizeof(files->generation));
	put_u32(out, files->count);
	for (size_t i = 0; i < files->count; i++) {
		const struct tls_material *material = &files->listeners[i];

		put_u32(out, material->identity_count);
		for (size_t j = 0; j < material->identity_count; j++) {
			put_text(out, material->identities[j].chain);
			put_text(out, material->identities[j].key);
		}
		put_text(out, material->client_ca);
		put_text(out, material->client_crl);
		put_text(out, material->ticket_secrets);
	}
}

static bool take(struct slice *in, void *out, size_t size)
{
	if (in->len < size)
		return false;
	memcpy(out, in->data, size);
	*in = slice_from(in->data + size, in->len - size);
	return true;
}

static bool take_count(struct slice *in, size_t max, size_t *out)
{
	uint32_t number;

	if (!take(in, &number, sizeof(number)) || number > max)
		return false;
	*out = number;
	return true;
}

static bool take_text(struct slice *in, char **out)
{
	size_t length;

	if (!take_count(in, in->len, &length) || length > in->len)
		return false;
	*out = xstrndup(in->data, length);
	*in = slice_from(in->data + length, in->len - length);
	return true;
}

static bool take_material(struct slice *in, struct tls_material *material)
{
	size_t count;

	if (!take_count(in, SETTINGS_CERTIFICATES_MAX, &count))
		return false;
	material->identities = xcalloc(count + 1, sizeof(*material->identities));
	while (material->identity_count < count) {
		struct tls_identity *identity = &material->identities[material->identity_count++];

		if (!take_text(in, &identity->chain) || !take_text(in, &identity->key))
			return false;
	}
	return take_text(in, &material->client_ca) && take_text(in, &material->client_crl) &&
	       take_text(in, &material->ticket_secrets);
}

int tls_files_decode(struct slice text, struct tls_files *files)
{
	uint32_t version = 0;
	bool ok;

	*files = (struct tls_files){0};
	ok = take(&text, &version, sizeof(version)) && version == FORMAT_VERSION &&
	     take(&text, &files->generation, sizeof(files->generation)) &&
	     take_count(&text, SETTINGS_LISTENERS_MAX, &files->count);
	if (ok)
		files->listeners = xcalloc(files->count + 1, sizeof(*files->listeners));
	else
		files->count = 0;
	for (size_t i = 0; ok && i < files->count; i++)
		ok = take_material(&text, &files->listeners[i]);
	if (ok && text.len == 0)
		return 0;
	tls_files_free(files);
	return -1;
}

/* ---- whether they changed ---- */

#define FNV_OFFSET UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME  UINT64_C(0x100000001b3)

static void mix(uint64_t *stamp, uint64_t value)
{
	for (unsigned i = 0; i < 64; i += 8) {
		*stamp ^= (value >> i) & 0xff;
		*stamp *= FNV_PRIME;
	}
}

static void mix_file(uint64_t *stamp, const char *path)
{
	struct stat status;

	if (*path == '\0')
		return;
	if (stat(path, &status) < 0) {
		mix(stamp, (uint64_t)errno);
		return;
	}
	mix(stamp, (uint64_t)status.st_dev);
	mix(stamp, (uint64_t)status.st_ino);
	mix(stamp, (uint64_t)status.st_size);
	mix(stamp, (uint64_t)status.st_mtim.tv_sec);
	mix(stamp, (uint64_t)status.st_mtim.tv_nsec);
	/* Its mode and owner too, which may be what was wrong with it. */
	mix(stamp, (uint64_t)status.st_ctim.tv_sec);
	mix(stamp, (uint64_t)status.st_ctim.tv_nsec);
}

uint64_t tls_files_stamp(const struct settings *settings)
{
	uint64_t stamp = FNV_OFFSET;

	for (size_t i = 0; i < settings->listener_count; i++) {
		const struct settings_tls *tls = &settings->listeners[i].tls;

		for (size_t j = 0; j < tls->certificate_count; j++) {
			mix_file(&stamp, tls->certificates[j].certificate);
			mix_file(&stamp, tls->certificates[j].key);
		}
		mix_file(&stamp, tls->client_ca);
		mix_file(&stamp, tls->client_crl);
		mix_file(&stamp, tls->ticket_secret_file);
	}
	return stamp;
}
