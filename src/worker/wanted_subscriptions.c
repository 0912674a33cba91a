/* SPDX-License-Identifier: ISC */
/*
 * The list of server-side subscriptions of a connecting client, see
 * wanted_subscriptions.h. Run by the worker. It starts nothing.
 */
#include "worker/wanted_subscriptions.h"

#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/channel_name.h"
#include "keepsock/channel_permission.h"
#include "keepsock/log.h"
#include "keepsock/redis_registry.h"
#include "worker/client_expiry.h"

void wanted_subscriptions_cut(struct wanted_subscriptions *list, size_t count)
{
	while (list->count > count)
		free(list->items[--list->count].text);
}

void wanted_subscriptions_free(struct wanted_subscriptions *list)
{
	wanted_subscriptions_cut(list, 0);
	free(list->items);
	memset(list, 0, sizeof(*list));
}

static struct wanted_subscription *find(const struct wanted_subscriptions *list,
					struct slice channel)
{
	for (size_t i = 0; i < list->count; i++) {
		if (slice_equal(list->items[i].subscription.channel, channel))
			return &list->items[i];
	}
	return NULL;
}

static struct slice copy(char **at, struct slice from)
{
	struct slice copied = slice_from(*at, from.len);

	if (from.len)
		memcpy(*at, from.data, from.len);
	*at += from.len;
	return copied;
}

/* Where it recovers from; the slice's text is put behind that of the others. */
static void set_since(struct wanted_subscription *wanted, struct slice epoch, uint64_t offset)
{
	struct server_subscription *s = &wanted->subscription;
	const struct server_subscription from = *s;
	char *old = wanted->text, *at;

	at = wanted->text =
		xmalloc(from.channel.len + from.info.len + from.data.len + epoch.len + 1);
	s->channel = copy(&at, from.channel);
	s->info = copy(&at, from.info);
	s->data = copy(&at, from.data);
	s->since_epoch = copy(&at, epoch);
	s->since_offset = offset;
	s->has_since = true;
	free(old);
}

/* True: it is in the list now, or was before. False: there are too many. */
static bool add(const struct worker *w, struct wanted_subscriptions *list,
		const struct server_subscription *subscription,
		const struct channel_options *options)
{
	struct wanted_subscription *wanted;
	char *at;

	if (find(list, subscription->channel))
		return true;
	if (list->count >= (uint64_t)w->settings.client.channel_limit ||
	    list->count >= WANTED_SUBSCRIPTIONS_MAX)
		return false;
	if (list->count == list->capacity) {
		list->capacity = list->capacity ? list->capacity * 2 : 8;
		list->items = xrealloc(list->items, list->capacity * sizeof(*list->items));
	}
	wanted = &list->items[list->count++];
	*wanted = (struct wanted_subscription){.subscription = *subscription, .options = options};
	at = wanted->text = xmalloc(subscription->channel.len + subscription->info.len +
				    subscription->data.len + 1);
	wanted->subscription.channel = copy(&at, subscription->channel);
	wanted->subscription.info = copy(&at, subscription->info);
	wanted->subscription.data = copy(&at, subscription->data);
	wanted->subscription.has_since = false;
	wanted->subscription.since_epoch = SLICE("");
	return true;
}

static bool is_channel(enum channel_verdict verdict)
{
	return verdict == CHANNEL_OK || verdict == CHANNEL_PRIVATE;
}

uint16_t wanted_subscriptions_of_token(const struct worker *w, struct wanted_subscriptions *list,
				       const struct connection_token *token)
{
	for (size_t i = 0; i < token->n_subs; i++) {
		const struct server_subscription subscription = {
			.channel = token->subs[i].channel,
			.info = token->subs[i].info,
			.data = token->subs[i].data,
			.override = token->subs[i].override,
		};
		const struct channel_options *options;

		if (!is_channel(channel_check(&w->settings, subscription.channel, &options)))
			return CLIENT_DISCONNECT_INVALID_TOKEN;
		if (!add(w, list, &subscription, options))
			return CLIENT_DISCONNECT_CHANNEL_LIMIT;
	}
	return 0;
}

uint16_t wanted_subscriptions_personal(const struct worker *w, struct wanted_subscriptions *list,
				       struct slice user)
{
	struct server_subscription subscription = {.override = TOKEN_OVERRIDE_NONE};
	const struct channel_options *options;
	struct buffer name = {0};
	bool added = true;

	if (!w->settings.personal_channel.enabled)
		return 0;
	if (channel_personal_name(&name, &w->settings, user)) {
		subscription.channel = buffer_slice(&name);
		if (is_channel(channel_check(&w->settings, subscription.channel, &options)))
			added = add(w, list, &subscription, options);
	}
	buffer_free(&name);
	return added ? 0 : CLIENT_DISCONNECT_CHANNEL_LIMIT;
}

uint16_t wanted_subscriptions_kept(const struct worker *w, struct wanted_subscriptions *list,
				   const struct redis_user_subscriptions_result *kept)
{
	struct buffer text = {0};
	uint64_t now_s = wall_seconds();
	bool added = true;

	for (size_t i = 0; i < kept->n_subscriptions && added; i++) {
		struct server_subscription subscription;
		const struct channel_options *options;

		if (!server_subscription_decode(kept->subscriptions[i].json, &text,
						&subscription) ||
		    !is_channel(channel_check(&w->settings, subscription.channel, &options))) {
			/* Made by other settings than ours: of no use, and no reason to refuse. */
			log_warning("user_subscription_ignored channel=%s",
				    log_value(kept->subscriptions[i].channel));
			continue;
		}
		if (subscription.expires_at && subscription.expires_at <= now_s)
			continue;
		added = add(w, list, &subscription, options);
	}
	buffer_free(&text);
	return added ? 0 : CLIENT_DISCONNECT_CHANNEL_LIMIT;
}

/* A channel that the list does not have: granted if the client could subscribe to it by itself. */
static uint16_t add_wish(const struct worker *w, struct wanted_subscriptions *list,
			 struct slice channel, struct slice user)
{
	const struct server_subscription subscription = {
		.channel = channel,
		.override = TOKEN_OVERRIDE_NONE,
	};
	const struct channel_options *options;
	enum channel_verdict verdict = channel_check(&w->settings, channel, &options);

	if (verdict == CHANNEL_UNKNOWN_NAMESPACE)
		return CLIENT_DISCONNECT_BAD_REQUEST;
	if (!is_channel(verdict) || channel_subscribe_way(&w->settings, options, channel, user,
							  false) != CHANNEL_SUBSCRIBE_ALLOWED)
		return 0;
	return add(w, list, &subscription, options) ? 0 : CLIENT_DISCONNECT_CHANNEL_LIMIT;
}

uint16_t wanted_subscriptions_wishes(const struct worker *w, struct wanted_subscriptions *list,
				     struct slice subs, struct slice user)
{
	struct json_walk it;
	struct buffer text = {0};
	struct client_sub sub;
	uint16_t code = 0;

	json_object_begin(&it, subs);
	while (!code && client_sub_next(&it, &text, &sub)) {
		struct wanted_subscription *wanted;

		code = add_wish(w, list, sub.channel, user);
		wanted = code ? NULL : find(list, sub.channel);
		if (wanted && sub.recover)
			set_since(wanted, sub.epoch, sub.offset);
	}
	buffer_free(&text);
	return code;
}
