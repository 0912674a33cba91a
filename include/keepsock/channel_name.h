/* SPDX-License-Identifier: ISC */
/*
 * What a channel's name may look like and whom it names: its namespace, the
 * users of a user-limited channel, a user's personal channel. Used by the
 * workers for every channel a client or the HTTP API names. It only reads
 * names; who may do what is in channel_permission.h.
 *
 *	[$][NAMESPACE:]anything[#USER,USER...]
 */
#ifndef KEEPSOCK_CHANNEL_NAME_H
#define KEEPSOCK_CHANNEL_NAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keepsock/settings.h"
#include "keepsock/slice.h"

/* The last one in a name begins the list of its users; between two of them. */
#define CHANNEL_USER_BOUNDARY  '#'
#define CHANNEL_USER_SEPARATOR ','

/* What client.channel_max_length can be at most, in bytes. */
#define CHANNEL_LENGTH_MAX 255

enum channel_verdict {
	CHANNEL_OK,
	CHANNEL_EMPTY,    /* disconnect 3501 for a client, error 107 in the HTTP API */
	CHANNEL_TOO_LONG, /* error 107 */
	CHANNEL_BAD,      /* error 107: not printable ASCII, or not as channel_regex says */
	CHANNEL_UNKNOWN_NAMESPACE, /* error 102 */
	CHANNEL_PRIVATE,           /* error 103 for a subscribe without token; else like OK */
};

/*
 * Checks in the order in which a client has to see the errors: empty, too long,
 * unknown namespace, bad, private. *options are those of the channel, NULL
 * unless the verdict is OK or PRIVATE.
 */
enum channel_verdict channel_check(const struct settings *s, struct slice name,
				   const struct channel_options **options);

/* The error code of PROTOCOL's table for a verdict; 0 for OK. CHANNEL_EMPTY gives 107. */
uint32_t channel_verdict_error(enum channel_verdict verdict);

/* Whether it needs a subscription token. */
bool channel_name_is_private(struct slice channel);

/* Whether it ends in a list of users. It counts only with allow_user_limited_channels. */
bool channel_name_has_users(struct slice channel);

/* Whether the user is in that list; never for the user "". */
bool channel_name_users_contain(struct slice channel, struct slice user);

/*
 * Appends the name of the user's personal channel. False, and nothing appended,
 * for a user who has none: "", one whose id has a character of lists of users,
 * which would let others in, or one whose channel would not pass
 * channel_check().
 */
bool channel_personal_name(struct buffer *out, const struct settings *s, struct slice user);

#endif
