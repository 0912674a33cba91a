/* SPDX-License-Identifier: ISC */
/*
 * Negotiates permessage-deflate (RFC 7692 §5, §7.1). Runs in workers once per
 * upgrade. An offer it does not wholly understand is passed over, never
 * answered with something else.
 */
#include "http_chars.h"
#include "keepsock/buffer.h"
#include "keepsock/deflate.h"
#include "keepsock/http.h"

enum parameter {
	SERVER_NO_CONTEXT_TAKEOVER,
	CLIENT_NO_CONTEXT_TAKEOVER,
	SERVER_MAX_WINDOW_BITS,
	CLIENT_MAX_WINDOW_BITS,
	PARAMETER_COUNT
};

static const char *const parameter_names[PARAMETER_COUNT] = {
	[SERVER_NO_CONTEXT_TAKEOVER] = "server_no_context_takeover",
	[CLIENT_NO_CONTEXT_TAKEOVER] = "client_no_context_takeover",
	[SERVER_MAX_WINDOW_BITS] = "server_max_window_bits",
	[CLIENT_MAX_WINDOW_BITS] = "client_max_window_bits",
};

static struct slice trim(struct slice s)
{
	while (s.len > 0 && http_char_is_blank(s.data[0]))
		s = slice_from(s.data + 1, s.len - 1);
	while (s.len > 0 && http_char_is_blank(s.data[s.len - 1]))
		s.len--;
	return s;
}

/* Cuts the text before `separator` off the front; *found tells whether there was one. */
static struct slice cut(struct slice *rest, char separator, bool *found)
{
	const char *at = rest->len > 0 ? memchr(rest->data, separator, rest->len) : NULL;
	struct slice first = *rest;

	*found = at != NULL;
	if (at) {
		first.len = (size_t)(at - rest->data);
		*rest = slice_from(at + 1, rest->len - first.len - 1);
	} else {
		*rest = slice_from(rest->data + rest->len, 0);
	}
	return trim(first);
}

/* 8 to 15, without leading zeros (§7.1.2), maybe quoted; 0: none of that. */
static unsigned window_bits(struct slice value)
{
	if (value.len >= 2 && value.data[0] == '"' && value.data[value.len - 1] == '"')
		value = slice_from(value.data + 1, value.len - 2);
	if (value.len == 1 && (value.data[0] == '8' || value.data[0] == '9'))
		return (unsigned)(value.data[0] - '0');
	if (value.len == 2 && value.data[0] == '1' && value.data[1] >= '0' && value.data[1] <= '5')
		return 10 + (unsigned)(value.data[1] - '0');
	return 0;
}

static bool take_parameter(struct slice text, unsigned *seen, struct deflate_agreement *agreement)
{
	bool has_value;
	struct slice name = cut(&text, '=', &has_value), value = trim(text);
	unsigned which = 0, bits = has_value ? window_bits(value) : 0;

	while (which < PARAMETER_COUNT && !slice_is(name, parameter_names[which]))
		which++;
	if (which == PARAMETER_COUNT || (*seen & 1u << which))
		return false;
	*seen |= 1u << which;
	switch (which) {
	case SERVER_MAX_WINDOW_BITS:
		agreement->server_window_bits = (uint8_t)bits;
		agreement->server_window_named = true;
		return bits > 0;
	/* A hint only: what we read with is the largest window there is. */
	case CLIENT_MAX_WINDOW_BITS: return !has_value || bits > 0;
	default: return !has_value;
	}
}

static bool take_offer(struct slice offer, struct deflate_agreement *agreement)
{
	unsigned seen = 0;
	bool more;

	*agreement = (struct deflate_agreement){.server_window_bits = DEFLATE_WINDOW_BITS_MAX};
	if (!slice_is(cut(&offer, ';', &more), "permessage-deflate"))
		return false;
	while (more) {
		if (!take_parameter(cut(&offer, ';', &more), &seen, agreement))
			return false;
	}
	return true;
}

bool deflate_negotiate(const struct http_request *request, struct deflate_agreement *agreement)
{
	for (size_t i = 0; i < request->header_count; i++) {
		struct slice list = request->headers[i].value, offer;

		if (!http_equal_nocase(request->headers[i].name, SLICE("Sec-WebSocket-Extensions")))
			continue;
		while (http_list_next(&list, &offer)) {
			if (take_offer(offer, agreement))
				return true;
		}
	}
	return false;
}

void deflate_append_agreement(struct buffer *out, const struct deflate_agreement *agreement)
{
	buffer_append_str(
		out, "permessage-deflate; server_no_context_takeover; client_no_context_takeover");
	if (agreement->server_window_named)
		buffer_printf(out, "; server_max_window_bits=%u",
			      (unsigned)agreement->server_window_bits);
}
