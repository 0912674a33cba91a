/* SPDX-License-Identifier: ISC */
/*
 * The Origin check. Runs in workers once per WebSocket upgrade. It compares
 * bytes only: it must never resolve a name or trust a field the page could set.
 */
#include "keepsock/origin.h"

#include "keepsock/glob.h"
#include "keepsock/http.h"

static bool slice_strip_prefix(struct slice *s, struct slice prefix)
{
	if (s->len < prefix.len || !http_equal_nocase(slice_from(s->data, prefix.len), prefix))
		return false;
	*s = slice_from(s->data + prefix.len, s->len - prefix.len);
	return true;
}

static struct slice slice_strip_suffix(struct slice s, struct slice suffix)
{
	if (s.len >= suffix.len &&
	    slice_equal(slice_from(s.data + s.len - suffix.len, suffix.len), suffix))
		s.len -= suffix.len;
	return s;
}

static bool origin_is_same(struct slice origin, struct slice host)
{
	struct slice port;

	if (slice_strip_prefix(&origin, SLICE("https://")))
		port = SLICE(":443");
	else if (slice_strip_prefix(&origin, SLICE("http://")))
		port = SLICE(":80");
	else
		return false;
	origin = slice_strip_suffix(origin, port);
	host = slice_strip_suffix(host, port);
	return host.len > 0 && http_equal_nocase(origin, host);
}

bool origin_allowed(struct slice origin, struct slice host, char *const *patterns, size_t n)
{
	if (origin_is_same(origin, host))
		return true;
	for (size_t i = 0; i < n; i++) {
		if (glob_match_origin(slice_str(patterns[i]), origin))
			return true;
	}
	return false;
}
