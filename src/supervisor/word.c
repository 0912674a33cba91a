/* SPDX-License-Identifier: ISC */
/*
 * What this supervisor tells its peers, and what follows from what they told:
 * vouchers, heirs, and the peer lease. Runs in the supervisor.
 *
 * The peer lease stands in for the one in Redis while Redis is away. Each grant is
 * a promise: for lease_ttl + lease_guard the granter acquires nothing. All peers
 * must have granted, for a promise binds only who made it; the holder counts from
 * when it asked, lease_ttl - lease_guard. A healthy standby that sees Redis grants
 * nothing: it is in the better place.
 */
#include <string.h>

#include "keepsock/buffer.h"
#include "keepsock/clock.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "supervisor/supervisor.h"

/* ---- telling ---- */

static bool sees_redis(const struct supervisor *s)
{
	struct lease_view lease;

	lease_get_view(s->lease, &lease);
	return lease.connected && lease.settled;
}

/* It could be promoted, if the lease were free. */
static bool is_promotable(const struct supervisor *s, uint64_t now)
{
	return s->state == HA_STANDBY && !s->stopping && !s->maintenance &&
	       (now >= s->not_before_ms || s->claim);
}

/* Nothing of its own would keep it from taking the lease now. */
static bool is_free_to_act(const struct supervisor *s, uint64_t now)
{
	return now >= s->tilt_until_ms && now >= s->promise_until_ms &&
	       now - s->started_ms >= (uint64_t)s->settings.cluster.start_grace &&
	       !supervisor_node_is_starting(s, now);
}

/* While Redis renews the lease in time nobody is asked for another. */
static bool needs_peer_lease(const struct supervisor *s, uint64_t now)
{
	struct lease_view lease;

	if (s->state != HA_PRIMARY && s->state != HA_PROMOTING)
		return false;
	lease_get_view(s->lease, &lease);
	return !lease.fenced &&
	       lease.held_until_ms < now + (uint64_t)s->timing.hold -
					     (uint64_t)s->settings.cluster.lease_renew * 3 / 2;
}

struct peer_beat word_of(const struct supervisor *s, uint64_t now)
{
	bool good = is_promotable(s, now) && is_free_to_act(s, now), sees = sees_redis(s);
	struct peer_beat beat = {
		.state = s->state,
		.holds = ha_may_hold(s->state) && !s->address_given_up,
		.good = good,
		.sees = sees,
		.claim = s->claim && now < s->claim_until_ms && good && sees,
		.epoch = s->epoch,
		.known = s->known_epoch,
		.priority = (uint64_t)s->settings.cluster.priority,
	};

	if (now < s->heir_until_ms)
		memcpy(beat.heir, s->heir, sizeof(beat.heir));
	return beat;
}

void word_send(struct supervisor *s)
{
	uint64_t now = clock_boottime_ms();
	struct peer_beat beat = word_of(s, now);

	if (needs_peer_lease(s, now)) {
		beat.want = ++s->question;
		s->question_sent_ms[s->question % QUESTIONS_KEPT] = now;
	}
	for (size_t i = 0; i < peers_count(s->peers); i++)
		peers_send(s->peers, i, &beat);
}

static void on_ready(void *ctx, size_t index)
{
	struct supervisor *s = ctx;
	struct peer_beat beat;

	MAGIC_CHECK(s, SUPERVISOR_MAGIC);
	beat = word_of(s, clock_boottime_ms());
	peers_send(s->peers, index, &beat);
}

/* ---- the peer lease ---- */

static bool may_grant(const struct supervisor *s, const struct peer_beat *asking, uint64_t now)
{
	struct lease_view lease;

	lease_get_view(s->lease, &lease);
	return !ha_may_hold(s->state) && !lease.acquiring && !lease.holding && asking->holds &&
	       asking->epoch >= s->known_epoch && !(is_promotable(s, now) && sees_redis(s));
}

static void answer_question(struct supervisor *s, size_t index, const struct peer_beat *asking)
{
	uint64_t now = clock_boottime_ms();
	struct peer_beat beat = word_of(s, now);

	if (!may_grant(s, asking, now))
		return;
	/* First the promise, then the word. */
	s->promise_until_ms = now + (uint64_t)s->timing.promise;
	beat.grant = asking->want;
	supervisor_count(s, SUPERVISOR_METRIC_peer_leases_given_total);
	peers_send(s->peers, index, &beat);
}

static void take_grant(struct supervisor *s, size_t index, uint64_t question)
{
	/* Of one that was asked long ago, or never, nobody knows when it was. */
	if (question > s->question || s->question - question >= QUESTIONS_KEPT)
		return;
	s->granted_until_ms[index] =
		s->question_sent_ms[question % QUESTIONS_KEPT] + (uint64_t)s->timing.hold;
	supervisor_count(s, SUPERVISOR_METRIC_peer_leases_total);
}

/* ---- hearing ---- */

/* Nothing older than this says anything of the present. */
static bool is_fresh(const struct supervisor *s, const struct peer_view *peer, uint64_t now)
{
	return peer->heard_ms > 0 && now - peer->heard_ms < (uint64_t)s->timing.voucher;
}

const char *word_voucher(const struct supervisor *s, uint64_t now)
{
	struct peer_view peer;

	for (size_t i = 0; i < peers_count(s->peers); i++) {
		peers_get_view(s->peers, i, &peer);
		if (is_fresh(s, &peer, now) && peer.beat.holds)
			return peer.name;
	}
	return NULL;
}

const char *word_outvoted(const struct supervisor *s, uint64_t now)
{
	struct peer_view peer;

	for (size_t i = 0; i < peers_count(s->peers); i++) {
		peers_get_view(s->peers, i, &peer);
		if (is_fresh(s, &peer, now) && peer.beat.holds && peer.beat.epoch > s->epoch)
			return peer.name;
	}
	return NULL;
}

const char *word_other_heir(const struct supervisor *s, uint64_t now)
{
	struct peer_view peer;

	for (size_t i = 0; i < peers_count(s->peers); i++) {
		peers_get_view(s->peers, i, &peer);
		if (!is_fresh(s, &peer, now))
			continue;
		if (peer.beat.heir[0] && strcmp(peer.beat.heir, s->settings.node.name) != 0)
			return peer.name;
		if (peer.beat.claim && !s->claim)
			return peer.name;
	}
	return NULL;
}

static bool could_be_primary(const struct supervisor *s, const struct peer_view *peer, uint64_t now)
{
	return peer->connected && is_fresh(s, peer, now) && peer->beat.good && peer->beat.sees;
}

unsigned word_rank(const struct supervisor *s, uint64_t now)
{
	uint64_t own = (uint64_t)s->settings.cluster.priority;
	struct peer_view peer;
	unsigned rank = 0;

	for (size_t i = 0; i < peers_count(s->peers); i++) {
		peers_get_view(s->peers, i, &peer);
		if (could_be_primary(s, &peer, now) &&
		    (peer.beat.priority > own ||
		     (peer.beat.priority == own && strcmp(peer.name, s->settings.node.name) < 0)))
			rank++;
	}
	return rank;
}

const char *word_successor(const struct supervisor *s, uint64_t now)
{
	const char *best = NULL;
	uint64_t priority = 0;
	struct peer_view peer;

	for (size_t i = 0; i < peers_count(s->peers); i++) {
		peers_get_view(s->peers, i, &peer);
		if (!could_be_primary(s, &peer, now))
			continue;
		if (!best || peer.beat.priority > priority ||
		    (peer.beat.priority == priority && strcmp(peer.name, best) < 0)) {
			best = peer.name;
			priority = peer.beat.priority;
		}
	}
	return best;
}

/* Why it could not be the primary now. */
static const char *why_not(const struct supervisor *s, const struct peer_view *peer, uint64_t now)
{
	if (!peer->connected || !is_fresh(s, peer, now))
		return "not connected";
	if (peer->beat.state != HA_STANDBY)
		return ha_state_name(peer->beat.state);
	if (!peer->beat.good)
		return "a standby that may not act yet, see its status";
	return "a standby that does not see Redis";
}

void word_explain_successor(const struct supervisor *s, uint64_t now, struct buffer *out)
{
	struct peer_view peer;

	for (size_t i = 0; i < peers_count(s->peers); i++) {
		peers_get_view(s->peers, i, &peer);
		buffer_printf(out, "%s%s is %s", i > 0 ? ", " : "", peer.name,
			      why_not(s, &peer, now));
	}
}

bool word_may_have_successor(const struct supervisor *s)
{
	struct peer_view peer;

	for (size_t i = 0; i < peers_count(s->peers); i++) {
		peers_get_view(s->peers, i, &peer);
		if (!peer.connected || peer.beat.state != HA_MAINTENANCE)
			return true;
	}
	return false;
}

static void heed(struct supervisor *s, const struct peer_view *peer, uint64_t now)
{
	(void)supervisor_learn_epoch(s, peer->beat.known > peer->beat.epoch ? peer->beat.known
									    : peer->beat.epoch);
	/* Until it has given all of it up it may still be lost. */
	if (strcmp(peer->beat.heir, s->settings.node.name) == 0 && !peer->beat.holds)
		s->handed_over_ms = now;
	if (peer->beat.claim && s->state == HA_PRIMARY && !s->demote_asked) {
		log_info("claimed by=%s", peer->name);
		memcpy(s->heir, peer->name, strlen(peer->name) + 1);
		s->heir_until_ms = UINT64_MAX; /* until the demotion says when */
		s->demote_asked = true;
	}
}

static void on_beat(void *ctx, size_t index)
{
	struct supervisor *s = ctx;
	struct peer_view peer;

	MAGIC_CHECK(s, SUPERVISOR_MAGIC);
	peers_get_view(s->peers, index, &peer);
	heed(s, &peer, clock_boottime_ms());
	if (peer.beat.grant)
		take_grant(s, index, peer.beat.grant);
	if (peer.beat.want)
		answer_question(s, index, &peer.beat);
	/* The word that the role is given up: look whether it is there to be had. */
	if (s->state == HA_STANDBY && !peer.beat.holds && peer.beat.state == HA_DEMOTING)
		lease_look(s->lease);
	supervisor_decide(s);
}

static void on_lost(void *ctx, size_t index)
{
	struct supervisor *s = ctx;

	(void)index;
	MAGIC_CHECK(s, SUPERVISOR_MAGIC);
	supervisor_decide(s);
}

const struct peers_callbacks word_callbacks = {on_ready, on_beat, on_lost};
