/* SPDX-License-Identifier: ISC */
/*
 * A set of certificates, see certificates.h: from files to something that workers
 * can be given and operators can be shown.
 */
#include "master/certificates.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/log.h"
#include "keepsock/sealed_text.h"
#include "keepsock/secret.h"
#include "keepsock/settings.h"
#include "keepsock/tls_context.h"
#include "keepsock/tls_files.h"

#define DAY_S 86400

/* ---- making a set ---- */

static bool make_contexts(struct certificates *made, const struct settings *settings,
			  const struct tls_files *files, struct buffer *error, int *line)
{
	made->contexts = xcalloc(files->count, sizeof(struct tls_context *));
	made->count = files->count;
	for (size_t i = 0; i < files->count; i++) {
		if (!settings->listeners[i].tls.enabled)
			continue;
		made->contexts[i] = tls_context_create(&settings->listeners[i].tls,
						       &files->listeners[i], error, line);
		if (!made->contexts[i])
			return false;
	}
	return true;
}

/* Keys are in it: the memory it is put together in is wiped. */
static bool seal(struct certificates *made, const struct tls_files *files, struct buffer *error)
{
	struct buffer text = {0};

	tls_files_encode(files, &text);
	made->fd = sealed_text_create("keepsock-tls", buffer_slice(&text));
	if (made->fd < 0)
		buffer_printf(error, "tls: cannot keep the certificates: %s", strerror(errno));
	secret_wipe(text.data, text.cap);
	buffer_free(&text);
	return made->fd >= 0;
}

static struct certificates *create(const struct settings *settings, uint64_t generation)
{
	struct certificates *made = xcalloc(1, sizeof(*made));

	*made = (struct certificates){
		.generation = generation,
		.stamp = tls_files_stamp(settings),
		.loaded_at = time(NULL),
		.fd = -1,
	};
	return made;
}

/* Takes files over. */
static struct certificates *complete(struct certificates *made, const struct settings *settings,
				     struct tls_files *files, struct buffer *error, int *line)
{
	bool ok;

	files->generation = made->generation;
	ok = make_contexts(made, settings, files, error, line) && seal(made, files, error);
	tls_files_free(files);
	if (ok)
		return made;
	certificates_free(made);
	return NULL;
}

struct certificates *certificates_unseal(const struct settings *settings, int fd,
					 uint64_t generation)
{
	struct certificates *made = NULL;
	struct buffer text = {0}, why = {0};
	struct tls_files files = {0};

	if (sealed_text_read(fd, &text) == 0 &&
	    tls_files_decode(buffer_slice(&text), &files) == 0 &&
	    files.count == settings->listener_count)
		made = complete(create(settings, generation), settings, &files, &why, NULL);
	tls_files_free(&files);
	if (text.data)
		secret_wipe(text.data, text.cap);
	buffer_free(&text);
	buffer_free(&why);
	return made;
}

struct certificates *certificates_load(const struct settings *settings, const char *own_secret,
				       uint64_t generation, struct buffer *error, int *line)
{
	/* Before they are read: what changes meanwhile is noticed. */
	struct certificates *made = create(settings, generation);
	struct tls_files files;

	if (tls_files_read(settings, own_secret, &files, error, line) == 0)
		return complete(made, settings, &files, error, line);
	certificates_free(made);
	return NULL;
}

void certificates_free(struct certificates *certificates)
{
	if (!certificates)
		return;
	for (size_t i = 0; i < certificates->count; i++)
		tls_context_free(certificates->contexts[i]);
	free(certificates->contexts);
	if (certificates->fd >= 0)
		close(certificates->fd);
	free(certificates);
}

int certificates_check(const struct settings *settings, const char *config_name,
		       struct buffer *error)
{
	/* Any one does: it is used for nothing. */
	static const char secret[] = "a secret that is there only to be looked at";
	struct buffer why = {0};
	int line = 0;
	struct certificates *made = certificates_load(settings, secret, 0, &why, &line);

	if (!made)
		buffer_printf(error, "%s:%d: %s", config_name, line, buffer_cstr(&why));
	buffer_free(&why);
	certificates_free(made);
	return made ? 0 : -1;
}

/* ---- going through it ---- */

struct place {
	size_t listener, index;
	const struct settings_listener *settings;
	const struct tls_certificate_info *info;
};

typedef bool place_fn(void *ctx, const struct place *place);

/* Until fn returns false; then false. */
static bool each(const struct certificates *certificates, const struct settings *settings,
		 place_fn *fn, void *ctx)
{
	for (size_t i = 0; i < certificates->count; i++) {
		const struct tls_context *context = certificates->contexts[i];
		size_t count = context ? tls_context_certificate_count(context) : 0;

		for (size_t j = 0; j < count; j++) {
			const struct place place = {
				.listener = i,
				.index = j,
				.settings = settings ? &settings->listeners[i] : NULL,
				.info = tls_context_certificate(context, j),
			};

			if (!fn(ctx, &place))
				return false;
		}
	}
	return true;
}

static const char *file_of(const struct place *place)
{
	return place->settings->tls.certificates[place->index].certificate;
}

/* Below 0: since it has expired. */
static int64_t days_left_of(const struct tls_certificate_info *info, int64_t now)
{
	int64_t left = info->not_after - now;

	return left >= 0 ? left / DAY_S : -1 - (-left - 1) / DAY_S;
}

struct count {
	int64_t now, first_end;
	size_t count;
};

static bool count_one(void *ctx, const struct place *place)
{
	struct count *count = ctx;

	if (count->count == 0 || place->info->not_after < count->first_end)
		count->first_end = place->info->not_after;
	count->count++;
	return true;
}

size_t certificates_count(const struct certificates *certificates, int64_t now, int64_t *days_left)
{
	struct count count = {.now = now};

	(void)each(certificates, NULL, count_one, &count);
	if (days_left)
		*days_left = count.first_end > now ? (count.first_end - now) / DAY_S : 0;
	return count.count;
}

/* ---- for people ---- */

/* Some names, for one line; there may be a hundred. */
static void append_names(struct buffer *out, const struct tls_certificate_info *info)
{
	for (size_t i = 0; i < info->name_count && i < 5; i++)
		buffer_printf(out, "%s%s", i > 0 ? "," : "", info->names[i]);
	if (info->name_count > 5)
		buffer_printf(out, ",(%zu more)", info->name_count - 5);
}

static void append_time(struct buffer *out, int64_t seconds)
{
	time_t time = (time_t)seconds;
	char text[32] = "";
	struct tm parts;

	if (gmtime_r(&time, &parts))
		(void)strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts);
	buffer_append_str(out, text);
}

static void append_listener(struct buffer *out, const struct settings_listener *listener)
{
	bool v6 = strchr(listener->address, ':') != NULL;

	buffer_printf(out, v6 ? "[%s]:%d" : "%s:%d", listener->address, (int)listener->port);
}

/* A string of what fn appends. */
#define JSON_OF(statement)                                  \
	__extension__({                                     \
		struct buffer text = {0};                   \
		json_t *json_;                              \
		statement;                                  \
		json_ = json_string(buffer_cstr(&text));    \
		buffer_free(&text);                         \
		json_ ? json_ : json_string("(not UTF-8)"); \
	})

static bool add_row(void *ctx, const struct place *place)
{
	const struct tls_certificate_info *info = place->info;
	json_t *row = json_object();
	const struct {
		const char *key;
		json_t *value;
	} columns[] = {
		{"listener", JSON_OF(append_listener(&text, place->settings))},
		{"certificate", JSON_OF(buffer_append_str(&text, file_of(place)))},
		{"names", JSON_OF(append_names(&text, info))},
		{"key", json_string(info->key)},
		{"subject", JSON_OF(buffer_append_str(&text, info->subject))},
		{"issuer", JSON_OF(buffer_append_str(&text, info->issuer))},
		{"serial", json_string(info->serial)},
		{"not_before", JSON_OF(append_time(&text, info->not_before))},
		{"not_after", JSON_OF(append_time(&text, info->not_after))},
		{"days_left", json_integer((json_int_t)days_left_of(info, time(NULL)))},
	};

	for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++)
		(void)json_object_set_new(row, columns[i].key, columns[i].value);
	(void)json_array_append_new(ctx, row);
	return true;
}

json_t *certificates_rows(const struct certificates *certificates, const struct settings *settings)
{
	json_t *rows = json_array();

	(void)each(certificates, settings, add_row, rows);
	return rows;
}

static bool log_one(void *ctx, const struct place *place)
{
	const int64_t *within_days = ctx;
	int64_t days = days_left_of(place->info, time(NULL));
	struct buffer names = {0}, end = {0};
	enum log_level level = days < 0 ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO;

	if (days >= 0 && days <= CERTIFICATE_WARNING_DAYS)
		level = LOG_LEVEL_WARNING;
	append_names(&names, place->info);
	append_time(&end, place->info->not_after);
	if (*within_days < 0 || days <= *within_days)
		log_at(level,
		       "%s listener=%s:%d certificate=%s names=%s not_after=%s days_left=%" PRId64,
		       days < 0 ? "certificate_expired" : "certificate", place->settings->address,
		       (int)place->settings->port, log_value_str(file_of(place)),
		       log_value_str(buffer_cstr(&names)), buffer_cstr(&end), days);
	buffer_free(&names);
	buffer_free(&end);
	return true;
}

void certificates_log(const struct certificates *certificates, const struct settings *settings,
		      int64_t within_days)
{
	(void)each(certificates, settings, log_one, &within_days);
}

/* ---- whether one may follow another ---- */

struct comparison {
	const struct certificates *from;
	struct buffer *error;
	int64_t now;
};

/* The same certificate is there already, good or not: refusing it would help nobody. */
static bool was_there(const struct comparison *comparison, const struct place *place)
{
	const struct certificates *from = comparison->from;
	const struct tls_context *context =
		place->listener < from->count ? from->contexts[place->listener] : NULL;
	size_t count = context ? tls_context_certificate_count(context) : 0;

	for (size_t i = 0; i < count; i++) {
		if (memcmp(tls_context_certificate(context, i)->fingerprint,
			   place->info->fingerprint, sizeof(place->info->fingerprint)) == 0)
			return true;
	}
	return false;
}

static bool check_date(void *ctx, const struct place *place)
{
	const struct comparison *comparison = ctx;
	bool expired = place->info->not_after <= comparison->now;
	bool early = place->info->not_before > comparison->now;

	if ((!expired && !early) || was_there(comparison, place))
		return true;
	buffer_printf(comparison->error, "tls.certificates[%zu]: %s %s ", place->index,
		      file_of(place), expired ? "has expired at" : "is not valid before");
	append_time(comparison->error, expired ? place->info->not_after : place->info->not_before);
	return false;
}

bool certificates_acceptable(const struct certificates *from, const struct certificates *next,
			     const struct settings *settings, struct buffer *error)
{
	struct comparison comparison = {.from = from, .error = error, .now = time(NULL)};

	return each(next, settings, check_date, &comparison);
}
