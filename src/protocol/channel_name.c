/* SPDX-License-Identifier: ISC */
/*
 * Channel names: length, alphabet, private prefix, namespace and users. Runs in
 * the workers. It only reads names; who may do what is in channel_permission.c.
 */
#include "keepsock/channel_name.h"

#include "keepsock/client_protocol.h"

static bool is_printable_ascii(struct slice text)
{
	for (size_t i = 0; i < text.len; i++) {
		if (text.data[i] < 0x20 || text.data[i] > 0x7e)
			return false;
	}
	return true;
}

/* Control characters would break lines of logs and of the admin socket, whatever the regex says. */
static bool has_control_character(struct slice text)
{
	for (size_t i = 0; i < text.len; i++) {
		if ((unsigned char)text.data[i] < 0x20 || text.data[i] == 0x7f)
			return true;
	}
	return false;
}

/*
 * The expression sees what is behind the namespace, or the whole name when it
 * has none; a copy, since regexec() wants a string. The name holds no zero byte.
 */
static bool regex_matches(const regex_t *regex, struct slice name)
{
	const char *boundary = memchr(name.data, CHANNEL_NAMESPACE_BOUNDARY, name.len);
	size_t skip = boundary ? (size_t)(boundary + 1 - name.data) : 0;
	char text[CHANNEL_LENGTH_MAX + 1];

	if (name.len > CHANNEL_LENGTH_MAX)
		return false;
	memcpy(text, name.data + skip, name.len - skip);
	text[name.len - skip] = '\0';
	return regexec(regex, text, 0, NULL, 0) == 0;
}

static bool is_well_formed(const struct channel_options *options, struct slice name)
{
	if (options->regex == NULL)
		return is_printable_ascii(name);
	return !has_control_character(name) && regex_matches(options->regex, name);
}

enum channel_verdict channel_check(const struct settings *s, struct slice name,
				   const struct channel_options **options)
{
	const struct channel_options *found;

	*options = NULL;
	if (name.len == 0)
		return CHANNEL_EMPTY;
	if (name.len > (size_t)s->client.channel_max_length)
		return CHANNEL_TOO_LONG;
	found = settings_channel_options(s, name);
	if (!found)
		return CHANNEL_UNKNOWN_NAMESPACE;
	if (!is_well_formed(found, name))
		return CHANNEL_BAD;
	*options = found;
	return channel_name_is_private(name) ? CHANNEL_PRIVATE : CHANNEL_OK;
}

uint32_t channel_verdict_error(enum channel_verdict verdict)
{
	switch (verdict) {
	case CHANNEL_OK: return 0;
	case CHANNEL_EMPTY:
	case CHANNEL_TOO_LONG:
	case CHANNEL_BAD: return CLIENT_ERROR_BAD_REQUEST;
	case CHANNEL_UNKNOWN_NAMESPACE: return CLIENT_ERROR_UNKNOWN_CHANNEL;
	case CHANNEL_PRIVATE: return CLIENT_ERROR_PERMISSION_DENIED;
	}
	return CLIENT_ERROR_INTERNAL;
}

bool channel_name_is_private(struct slice channel)
{
	return channel.len > 0 && channel.data[0] == CHANNEL_PRIVATE_PREFIX;
}

/* What is behind the last boundary; data NULL without one. */
static struct slice users_of(struct slice channel)
{
	const char *boundary =
		channel.len > 0 ? memrchr(channel.data, CHANNEL_USER_BOUNDARY, channel.len) : NULL;

	if (!boundary)
		return slice_from(NULL, 0);
	return slice_from(boundary + 1, channel.len - (size_t)(boundary + 1 - channel.data));
}

bool channel_name_has_users(struct slice channel)
{
	return users_of(channel).data != NULL;
}

bool channel_name_users_contain(struct slice channel, struct slice user)
{
	struct slice rest = users_of(channel);

	if (user.len == 0)
		return false;
	while (rest.len > 0) {
		const char *separator = memchr(rest.data, CHANNEL_USER_SEPARATOR, rest.len);
		size_t len = separator ? (size_t)(separator - rest.data) : rest.len;

		if (slice_equal(slice_from(rest.data, len), user))
			return true;
		if (!separator)
			return false;
		rest = slice_from(separator + 1, rest.len - len - 1);
	}
	return false;
}

bool channel_personal_name(struct buffer *out, const struct settings *s, struct slice user)
{
	const struct channel_options *options;
	size_t start = out->len;

	if (user.len == 0 || memchr(user.data, CHANNEL_USER_BOUNDARY, user.len) ||
	    memchr(user.data, CHANNEL_USER_SEPARATOR, user.len))
		return false;
	if (*s->personal_channel.namespace != '\0') {
		buffer_append_str(out, s->personal_channel.namespace);
		buffer_append_char(out, CHANNEL_NAMESPACE_BOUNDARY);
	}
	buffer_append_char(out, CHANNEL_USER_BOUNDARY);
	buffer_append(out, user.data, user.len);
	if (channel_check(s, slice_from(out->data + start, out->len - start), &options) ==
	    CHANNEL_OK)
		return true;
	out->len = start;
	return false;
}
