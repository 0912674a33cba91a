/* SPDX-License-Identifier: ISC */
/*
 * Requests that are answered by the listener they came by, see http_edge.h. Run by
 * the worker. Which listener that was, the socket knows: after a takeover too.
 *
 * Health checks are never redirected: a balancer wants to know how this node is.
 */
#include "worker/http_edge.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keepsock/log.h"
#include "worker/tls_listeners.h"

#define CHALLENGES     "/.well-known/acme-challenge/"
#define CHALLENGES_DIR ".well-known/acme-challenge"
#define TOKEN_MAX      128u  /* RFC 8555 §8.1 wants 22 or more */
#define CHALLENGE_MAX  4096u /* bytes of a file: a token and a digest */
#define HTTPS_PORT     443
#define TEXT           "text/plain; charset=utf-8"

/* ---- Strict-Transport-Security (RFC 6797) ---- */

static bool uses_hsts(const struct settings *settings)
{
	for (size_t i = 0; i < settings->listener_count; i++)
		if (settings->listeners[i].tls.hsts_max_age > 0)
			return true;
	return false;
}

void http_edge_append_headers(const struct connection *c, struct buffer *headers)
{
	const struct settings_listener *listener;

	if (!uses_hsts(&c->worker->settings))
		return;
	listener = tls_listeners_settings(c->worker, c->fd);
	if (!listener || listener->tls.hsts_max_age == 0)
		return;
	buffer_printf(headers, "Strict-Transport-Security: max-age=%" PRId64 "%s\r\n",
		      listener->tls.hsts_max_age / 1000,
		      listener->tls.hsts_subdomains ? "; includeSubDomains" : "");
}

/* ---- ACME ---- */

static bool take_token(struct slice path, char token[TOKEN_MAX + 1])
{
	const size_t prefix = sizeof(CHALLENGES) - 1;

	if (path.len <= prefix || path.len > prefix + TOKEN_MAX)
		return false;
	for (size_t i = prefix; i < path.len; i++) {
		char ch = path.data[i];

		if (!((ch >= 'A' && ch <= 'Z') || (ch >= 'a' && ch <= 'z') ||
		      (ch >= '0' && ch <= '9') || ch == '-' || ch == '_'))
			return false;
	}
	memcpy(token, path.data + prefix, path.len - prefix);
	token[path.len - prefix] = '\0';
	return true;
}

/* The webroot's own names may be links, the challenge's not. -1: there is none. */
static int open_challenge(const char *webroot, const char *token)
{
	int root = open(webroot, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int directory = -1, file = -1;
	struct stat status;

	if (root < 0)
		log_warning("acme_webroot_unusable path=%s error=%s", log_value_str(webroot),
			    strerror(errno));
	else
		directory = openat(root, CHALLENGES_DIR, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (directory >= 0)
		file = openat(directory, token, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (file >= 0 && (fstat(file, &status) < 0 || !S_ISREG(status.st_mode))) {
		close(file);
		file = -1;
	}
	if (directory >= 0)
		close(directory);
	if (root >= 0)
		close(root);
	return file;
}

static void serve_challenge(struct connection *c, const struct http_request *request)
{
	char token[TOKEN_MAX + 1], content[CHALLENGE_MAX + 1];
	int file = -1;
	ssize_t got;

	if (request->method != HTTP_METHOD_GET && request->method != HTTP_METHOD_HEAD) {
		http_session_respond(c, 405, TEXT, SLICE("method not allowed\n"),
				     "Allow: GET, HEAD\r\n");
		return;
	}
	if (take_token(request->path, token))
		file = open_challenge(c->worker->settings.http.acme_webroot, token);
	if (file < 0) {
		http_session_respond(c, 404, TEXT, SLICE("not found\n"), NULL);
		return;
	}
	got = read(file, content, sizeof(content));
	close(file);
	if (got < 0 || got > (ssize_t)CHALLENGE_MAX)
		http_session_respond(c, 500, TEXT, SLICE("the challenge can't be read\n"), NULL);
	else
		http_session_respond(c, 200, "application/octet-stream",
				     slice_from(content, (size_t)got),
				     "Cache-Control: no-store\r\n");
}

static bool is_challenge(const struct connection *c, struct slice path)
{
	return c->worker->settings.http.acme_webroot[0] != '\0' &&
	       path.len >= sizeof(CHALLENGES) - 1 &&
	       memcmp(path.data, CHALLENGES, sizeof(CHALLENGES) - 1) == 0;
}

/* ---- the redirect ---- */

/* The host of "host", "host:port", "[v6]:port" without its port; empty: none that may be echoed. */
static struct slice host_only(struct slice host)
{
	const char *end = host.len > 0 && host.data[0] == '[' ? memchr(host.data, ']', host.len)
							      : memchr(host.data, ':', host.len);
	size_t length = host.len;

	if (host.len > 0 && host.data[0] == '[')
		length = end ? (size_t)(end + 1 - host.data) : 0;
	else if (end)
		length = (size_t)(end - host.data);
	for (size_t i = 0; i < length; i++) {
		char ch = host.data[i];

		if (!((ch >= 'A' && ch <= 'Z') || (ch >= 'a' && ch <= 'z') ||
		      (ch >= '0' && ch <= '9') || strchr("-._[]:", ch)))
			return SLICE("");
	}
	return slice_from(host.data, length);
}

static void redirect(struct connection *c, const struct http_request *request, int64_t port)
{
	struct slice host = SLICE("");
	struct buffer headers = {0};

	if (http_header_find(request, "Host", &host))
		host = host_only(host);
	if (host.len == 0) {
		http_session_respond(c, 400, TEXT, SLICE("a Host header is needed\n"), NULL);
		return;
	}
	buffer_append_str(&headers, "Location: https://");
	buffer_append_slice(&headers, host);
	if (port != HTTPS_PORT)
		buffer_printf(&headers, ":%" PRId64, port);
	buffer_append_slice(&headers, request->path);
	if (request->query.len > 0) {
		buffer_append_char(&headers, '?');
		buffer_append_slice(&headers, request->query);
	}
	buffer_append_str(&headers, "\r\n");
	http_session_respond(c, 308, TEXT, SLICE("use https\n"), buffer_cstr(&headers));
	buffer_free(&headers);
}

static bool redirects(const struct settings *settings)
{
	for (size_t i = 0; i < settings->listener_count; i++)
		if (settings->listeners[i].https_redirect_port > 0)
			return true;
	return false;
}

bool http_edge_serve(struct connection *c, const struct http_request *request)
{
	const struct settings_listener *listener;

	if (is_challenge(c, request->path)) {
		serve_challenge(c, request);
		return true;
	}
	if (!redirects(&c->worker->settings) || slice_is(request->path, "/health") ||
	    slice_is(request->path, "/ready"))
		return false;
	listener = tls_listeners_settings(c->worker, c->fd);
	if (!listener || listener->https_redirect_port == 0)
		return false;
	redirect(c, request, listener->https_redirect_port);
	return true;
}
