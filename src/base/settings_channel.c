/* SPDX-License-Identifier: ISC */
/*
 * From a channel's name to its options. Runs in the workers for every channel
 * that a client or the HTTP API names, so it allocates nothing and compares few
 * names; the compiled form of channel_regex is made when settings are parsed.
 */
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "settings_private.h"

struct slice settings_channel_namespace(struct slice channel)
{
	size_t skip = channel.len > 0 && channel.data[0] == CHANNEL_PRIVATE_PREFIX;
	const char *boundary;

	if (channel.len == 0)
		return slice_from(NULL, 0);
	boundary = memchr(channel.data, CHANNEL_NAMESPACE_BOUNDARY, channel.len);
	if (boundary == NULL)
		return slice_from(NULL, 0);
	return slice_from(channel.data + skip, (size_t)(boundary - channel.data) - skip);
}

/* Below, at or above zero as name sorts before, at or behind the text; name may hold zero bytes. */
static int compare_name(struct slice name, const char *text)
{
	size_t len = strlen(text);
	int order = memcmp(name.data, text, name.len < len ? name.len : len);

	return order != 0 ? order : (name.len > len) - (name.len < len);
}

const struct settings_namespace *settings_find_namespace(const struct settings *s,
							 struct slice name)
{
	size_t low = 0, high = s->namespace_count;

	if (name.len == 0)
		return NULL;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = compare_name(name, s->namespaces[middle].name);

		if (order == 0)
			return &s->namespaces[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

const struct channel_options *settings_channel_options(const struct settings *s,
						       struct slice channel)
{
	struct slice name = settings_channel_namespace(channel);
	const struct settings_namespace *found;

	if (name.data == NULL)
		return &s->channel;
	found = settings_find_namespace(s, name);
	return found ? &found->options : NULL;
}

void channel_options_compile(struct channel_options *options)
{
	if (*options->channel_regex == '\0')
		return;
	options->regex = xcalloc(1, sizeof(*options->regex));
	if (regcomp(options->regex, options->channel_regex, REG_EXTENDED | REG_NOSUB) != 0)
		abort(); /* check_regex compiled it a moment ago: memory is gone */
}

void channel_options_free(struct channel_options *options)
{
	if (options->regex)
		regfree(options->regex);
	free(options->regex);
	options->regex = NULL;
}
