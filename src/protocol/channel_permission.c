/* SPDX-License-Identifier: ISC */
/*
 * Who may do what in a channel. Runs in the workers; pure functions of the
 * settings, the channel's name and the user.
 */
#include "keepsock/channel_permission.h"

#include "keepsock/channel_name.h"

struct right_options {
	bool for_client;
	bool for_subscriber;
	bool for_anonymous;
};

static struct right_options options_of(const struct channel_options *o, enum channel_right right)
{
	switch (right) {
	case CHANNEL_RIGHT_PUBLISH:
		return (struct right_options){o->allow_publish_for_client,
					      o->allow_publish_for_subscriber,
					      o->allow_publish_for_anonymous};
	case CHANNEL_RIGHT_PRESENCE:
		return (struct right_options){o->allow_presence_for_client,
					      o->allow_presence_for_subscriber,
					      o->allow_presence_for_anonymous};
	case CHANNEL_RIGHT_HISTORY:
		return (struct right_options){o->allow_history_for_client,
					      o->allow_history_for_subscriber,
					      o->allow_history_for_anonymous};
	}
	return (struct right_options){false, false, false};
}

bool channel_right_granted(const struct settings *s, const struct channel_options *options,
			   enum channel_right right, struct slice user, bool subscribed)
{
	struct right_options o = options_of(options, right);

	if (s->client.insecure)
		return true;
	if (user.len == 0 && !o.for_anonymous)
		return false;
	return o.for_client || (o.for_subscriber && subscribed);
}

enum channel_subscribe_way channel_subscribe_way(const struct settings *s,
						 const struct channel_options *options,
						 struct slice channel, struct slice user,
						 bool has_token)
{
	bool allowed = options->allow_subscribe_for_client &&
		       (user.len > 0 || options->allow_subscribe_for_anonymous);

	if (has_token)
		return CHANNEL_SUBSCRIBE_TOKEN;
	if (channel_name_is_private(channel))
		return CHANNEL_SUBSCRIBE_REFUSED;
	if (options->allow_user_limited_channels && channel_name_has_users(channel))
		allowed = channel_name_users_contain(channel, user);
	return allowed || s->client.insecure ? CHANNEL_SUBSCRIBE_ALLOWED
					     : CHANNEL_SUBSCRIBE_REFUSED;
}
