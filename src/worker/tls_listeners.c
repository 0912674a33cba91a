/* SPDX-License-Identifier: ISC */
/*
 * The listeners' TLS contexts, see tls_listeners.h. Run by the worker. It logs
 * nothing of a key.
 */
#include "worker/tls_listeners.h"

#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/log.h"
#include "keepsock/sealed_text.h"
#include "keepsock/secret.h"
#include "keepsock/tls_context.h"
#include "keepsock/tls_files.h"

/* What the master sealed; false with error. */
static bool read_files(const struct worker *w, int fd, struct tls_files *files,
		       struct buffer *error)
{
	struct buffer text = {0};
	bool ok = sealed_text_read(fd, &text) == 0;

	if (!ok)
		buffer_append_str(error, strerror(errno));
	else if (tls_files_decode(buffer_slice(&text), files) < 0 ||
		 files->count != w->settings.listener_count)
		buffer_append_str(error, "they are not for these listeners");
	else
		error = NULL;
	if (text.data)
		secret_wipe(text.data, text.cap);
	buffer_free(&text);
	if (error && ok)
		tls_files_free(files);
	return !error;
}

static bool make_context(struct tls_context **context, const struct settings_tls *settings,
			 const struct tls_material *material, struct buffer *error)
{
	if (!settings->enabled)
		return true;
	if (*context)
		return tls_context_replace(*context, settings, material, error);
	*context = tls_context_create(settings, material, error, NULL);
	return *context != NULL;
}

/* The master has tried them with the same settings: a failure here is one of memory or version. */
static bool take(struct worker *w, int fd, struct buffer *error)
{
	struct tls_files files;
	bool ok = true;

	if (!read_files(w, fd, &files, error))
		return false;
	for (size_t i = 0; i < files.count && ok; i++)
		ok = make_context(&w->tls_contexts[i], &w->settings.listeners[i].tls,
				  &files.listeners[i], error);
	if (ok)
		w->tls_generation = files.generation;
	tls_files_free(&files);
	return ok;
}

void tls_listeners_open(struct worker *w, int fd)
{
	struct buffer error = {0};

	w->tls_fd = fd;
	w->tls_contexts = xcalloc(w->settings.listener_count, sizeof(struct tls_context *));
	if (!take(w, fd, &error))
		log_fatal("certificates_unusable error=%s", log_value(buffer_slice(&error)));
	buffer_free(&error);
}

/* ---- whose is whose ---- */

static bool address_is(const char *text, const struct sockaddr_storage *bound, bool *wildcard)
{
	const struct sockaddr_in *v4 = (const void *)bound;
	const struct sockaddr_in6 *v6 = (const void *)bound;
	bool mapped = bound->ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr);
	struct in6_addr other6;
	struct in_addr other4, own4 = {0};

	if (mapped)
		memcpy(&own4, v6->sin6_addr.s6_addr + 12, sizeof(own4));
	else if (bound->ss_family == AF_INET)
		own4 = v4->sin_addr;
	if (inet_pton(AF_INET, text, &other4) == 1) {
		*wildcard = other4.s_addr == INADDR_ANY;
		return (mapped || bound->ss_family == AF_INET) &&
		       (*wildcard || own4.s_addr == other4.s_addr);
	}
	if (inet_pton(AF_INET6, text, &other6) != 1)
		return false;
	*wildcard = IN6_IS_ADDR_UNSPECIFIED(&other6);
	return *wildcard ||
	       (bound->ss_family == AF_INET6 && IN6_ARE_ADDR_EQUAL(&v6->sin6_addr, &other6));
}

const struct settings_listener *tls_listeners_settings(const struct worker *w, int fd)
{
	const struct settings *settings = &w->settings;
	const struct settings_listener *found = NULL;
	struct sockaddr_storage bound;
	socklen_t length = sizeof(bound);
	uint16_t port;

	if (getsockname(fd, (struct sockaddr *)&bound, &length) < 0)
		return NULL;
	port = ntohs(bound.ss_family == AF_INET6
			     ? ((const struct sockaddr_in6 *)(const void *)&bound)->sin6_port
			     : ((const struct sockaddr_in *)(const void *)&bound)->sin_port);
	for (size_t i = 0; i < settings->listener_count; i++) {
		const struct settings_listener *listener = &settings->listeners[i];
		bool wildcard = false;

		if (listener->port != port || !address_is(listener->address, &bound, &wildcard))
			continue;
		/* The one that names the address is meant before one for all addresses. */
		if (!found || !wildcard)
			found = listener;
		if (!wildcard)
			break;
	}
	return found;
}

bool tls_listeners_attach(struct listener *listener)
{
	const struct worker *w = listener->worker;
	const struct settings_listener *settings = tls_listeners_settings(w, listener->fd);

	if (!settings) {
		log_error("listener_unknown port=%u", listener->port);
		return false;
	}
	if (settings->tls.enabled) {
		listener->tls = w->tls_contexts[settings - w->settings.listeners];
		listener->tls_settings = &settings->tls;
	}
	return true;
}

/* ---- other certificates ---- */

void tls_listeners_replace(struct worker *w, int fd)
{
	struct buffer error = {0};
	bool ok = take(w, fd, &error);

	free(w->tls_error);
	w->tls_error = ok ? NULL : xstrdup(buffer_cstr(&error));
	if (ok) {
		close(w->tls_fd);
		w->tls_fd = fd;
		log_info("certificates_replaced generation=%llu",
			 (unsigned long long)w->tls_generation);
	} else {
		close(fd);
		log_error("certificates_not_replaced error=%s", log_value(buffer_slice(&error)));
	}
	buffer_free(&error);
}

void tls_listeners_close(struct worker *w)
{
	for (size_t i = 0; i < w->settings.listener_count; i++)
		tls_context_free(w->tls_contexts[i]);
	free(w->tls_contexts);
	close(w->tls_fd);
	free(w->tls_error);
}

json_t *control_show_certificates(struct worker *w, uint64_t id, json_t *args)
{
	(void)id;
	(void)args;
	return control_row(json_pack("{s:I, s:s}", "generation", (json_int_t)w->tls_generation,
				     "error", w->tls_error ? w->tls_error : ""));
}
