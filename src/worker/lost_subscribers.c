/* SPDX-License-Identifier: ISC */
/*
 * Tells subscribers that continuity is lost, see lost_subscribers.h. Run by the
 * worker. The mark is in the arena, on each subscription; which channels have
 * marked ones is rebuilt by looking. It must never forget one that is marked.
 */
#include "worker/lost_subscribers.h"

#include "worker/loop_watch.h"
#include "worker/shards.h"

/* Telling one, in units of a short send. */
#define TELL_COST 5

static void go_on(struct worker *w)
{
	static const struct timeval now = {0, 0};

	event_add(w->lost_event, &now);
}

static void tell(struct worker *w, struct subscriber entry)
{
	const struct subscription_record *subscription = arena_at(w->arena, entry.subscription);
	struct connection *c = connection_at(w, entry.passport);

	/* A client can't ask again for what the server gave it: it has to connect again. */
	if (subscription->flags & SUBSCRIPTION_SERVER_SIDE)
		connection_disconnect(c, CLIENT_DISCONNECT_INSUFFICIENT_STATE, NULL);
	else
		client_unsubscribe_push(c, entry.subscription,
					CLIENT_UNSUBSCRIBE_INSUFFICIENT_STATE);
}

static bool is_lost(const struct worker *w, struct subscriber entry)
{
	return entry.passport &&
	       (((const struct subscription_record *)arena_at(w->arena, entry.subscription))
			->flags &
		SUBSCRIPTION_LOST);
}

/*
 * From the array's end to its beginning: whoever takes the place of one that is
 * removed comes from further behind, and was looked at. False: the slice is
 * spent.
 */
static bool tell_channel(struct worker *w, struct channel *channel)
{
	while (channel->lost_left > 0) {
		struct subscriber entry;

		channel->lost_left--;
		if (channel->lost_left >= hub_record(&w->hub, channel)->count)
			continue;
		entry = *hub_subscriber(&w->hub, channel, channel->lost_left);
		if (!is_lost(w, entry))
			continue;
		tell(w, entry);
		if (loop_slice_spent(w, TELL_COST))
			return channel->lost_left == 0;
	}
	return true;
}

static void on_lost(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;

	(void)fd;
	(void)what;
	loop_watch_begin(w, LOOP_DELIVERY);
	while (w->lost_first) {
		struct channel *channel = w->lost_first;

		loop_watch_subject(w, WORK_WORD(WORK_SERVING_BATCH, channel->ref));
		if (!tell_channel(w, channel)) {
			go_on(w);
			return;
		}
		w->lost_first = channel->next_lost;
		channel->lost = false;
		worker_channel_review(w, channel);
	}
}

static void tell_later(struct worker *w, struct channel *channel)
{
	channel->lost_left = hub_record(&w->hub, channel)->count;
	if (!channel->lost) {
		channel->lost = true;
		channel->next_lost = w->lost_first;
		w->lost_first = channel;
	}
	go_on(w);
}

void lost_subscribers_announce(struct worker *w, struct channel *channel)
{
	uint32_t count = hub_record(&w->hub, channel)->count;
	bool any = false;

	for (uint32_t i = 0; i < count; i++) {
		struct subscriber entry = *hub_subscriber(&w->hub, channel, i);
		struct subscription_record *subscription, now;

		if (!entry.passport)
			continue;
		subscription = arena_at(w->arena, entry.subscription);
		if (!(subscription->flags & SUBSCRIPTION_POSITIONED))
			continue;
		any = true;
		now = *subscription;
		now.flags |= SUBSCRIPTION_LOST;
		/* {flags, info} are one word. */
		arena_store(&subscription->flags, *(const uint64_t *)(const void *)&now.flags);
	}
	if (any)
		tell_later(w, channel);
}

void lost_subscribers_adopt(struct worker *w)
{
	struct channel *channel = NULL;

	while ((channel = hub_next(&w->hub, channel))) {
		uint32_t count = hub_record(&w->hub, channel)->count;
		uint32_t i = 0;

		while (i < count && !is_lost(w, *hub_subscriber(&w->hub, channel, i)))
			i++;
		if (i < count)
			tell_later(w, channel);
	}
}

void lost_subscribers_open(struct worker *w)
{
	w->lost_event = evtimer_new(w->base, on_lost, w);
}

void lost_subscribers_close(struct worker *w)
{
	event_free(w->lost_event);
	w->lost_event = NULL;
}
