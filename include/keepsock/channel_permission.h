/* SPDX-License-Identifier: ISC */
/*
 * Who may do what in a channel, from its options, its name and the user. Used
 * by the workers. It checks no token and sends no error: it says which of both
 * is called for.
 */
#ifndef KEEPSOCK_CHANNEL_PERMISSION_H
#define KEEPSOCK_CHANNEL_PERMISSION_H

#include <stdbool.h>

#include "keepsock/settings.h"
#include "keepsock/slice.h"

/* What a client may do in a channel besides subscribing to it. */
enum channel_right {
	CHANNEL_RIGHT_PUBLISH,
	CHANNEL_RIGHT_PRESENCE, /* ask who is present; be told who joins and leaves */
	CHANNEL_RIGHT_HISTORY,  /* read it; ask for positioning and recovery */
};

/*
 * allow_X_for_client, or allow_X_for_subscriber when subscribed, both for the
 * user "" only with allow_X_for_anonymous; client.insecure grants everything.
 * Who is about to be subscribed counts as subscribed.
 */
bool channel_right_granted(const struct settings *s, const struct channel_options *options,
			   enum channel_right right, struct slice user, bool subscribed);

enum channel_subscribe_way {
	CHANNEL_SUBSCRIBE_REFUSED, /* error 103 */
	CHANNEL_SUBSCRIBE_TOKEN,   /* if the token is good for this user, client and channel */
	CHANNEL_SUBSCRIBE_ALLOWED,
};

/*
 * Whether the user may subscribe to a channel whose verdict is OK or PRIVATE: a
 * token decides when there is one; without, a private channel is refused, then
 * the users of a user-limited channel may and nobody else, then
 * allow_subscribe_for_client decides, and client.insecure allows.
 */
enum channel_subscribe_way channel_subscribe_way(const struct settings *s,
						 const struct channel_options *options,
						 struct slice channel, struct slice user,
						 bool has_token);

#endif
