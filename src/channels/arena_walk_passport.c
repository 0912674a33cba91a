/* SPDX-License-Identifier: ISC */
/*
 * The walk over one passport: its queues, messages, identity and subscriptions,
 * see arena_walk.h.
 */
#include <string.h>

#include "channels/arena_walk.h"
#include "keepsock/websocket.h"

/* --- queues --- */

static void walk_queue(struct arena_walk *walk, const struct stream_queue *queue, const char *name)
{
	uint64_t base = 0, limit = 0;
	arena_ref ref = queue->head, owner = walk->subject;

	if (queue->done >= queue->end) {
		if (queue->head || queue->tail)
			walk_violation(walk, "%s %u: an empty queue holds chunks", name, owner);
		return;
	}
	if (!queue->head || !queue->tail) {
		walk_violation(walk, "%s %u: a queue of %llu bytes has no chunks", name, owner,
			       (unsigned long long)(queue->end - queue->done));
		return;
	}
	for (bool first = true;; first = false) {
		enum walk_claim claim = walk_claim(walk, ref, MARK_PIECE, name);
		const struct arena_chunk *chunk;

		if (claim == CLAIM_NO_CHUNK)
			return;
		chunk = arena_chunk_at(walk->arena, ref);
		base = chunk->base;
		if (first && (queue->done < base ||
			      queue->done - base >= arena_chunk_capacity(walk->arena, ref)))
			walk_violation(walk, "%s %u: the first chunk does not hold the front", name,
				       owner);
		if (!first && base != limit)
			walk_violation(walk, "%s %u: chunk %u does not follow", name, owner, ref);
		if (claim != CLAIM_OWN)
			return;
		limit = base + arena_chunk_capacity(walk->arena, ref);
		if (ref == queue->tail)
			break;
		ref = chunk->next;
	}
	if (queue->end <= base || queue->end > limit)
		walk_violation(walk, "%s %u: the last chunk does not hold the end", name, owner);
}

/*
 * Messages: complete ones, then at most one incomplete one, which the passport
 * names. False: there is no incomplete one.
 */
static bool walk_messages(struct arena_walk *walk, const struct passport *passport)
{
	const struct stream_queue *queue = &passport->messages;
	arena_ref owner = walk->subject;
	uint64_t at = queue->done;

	if (at < queue->end && arena_chunk_at(walk->arena, queue->head)->base % 8 != 0)
		walk_violation(walk, "messages %u: words do not lie in one piece", owner);
	while (at < queue->end) {
		uint64_t word, length;

		if (at % 8 != 0 || queue->end - at < sizeof(word)) {
			walk_violation(walk, "messages %u: an entry is cut at %llu", owner,
				       (unsigned long long)at);
			return false;
		}
		queue_copy(walk->arena, queue, at, sizeof(word), &word);
		if (word == 0) {
			if (passport->partial_message != at)
				walk_violation(walk,
					       "messages %u: an incomplete message nobody knows",
					       owner);
			return true;
		}
		if (!(word & MESSAGE_COMPLETE)) {
			walk_violation(walk, "messages %u: an entry neither begun nor complete",
				       owner);
			return false;
		}
		length = sizeof(word) + MESSAGE_PADDED(MESSAGE_LENGTH(word));
		if (length > queue->end - at) {
			walk_violation(walk, "messages %u: the last entry exceeds the queue",
				       owner);
			return false;
		}
		at += length;
	}
	if (passport->command_index > 0 && queue->done >= queue->end)
		walk_violation(walk, "messages %u: %u commands consumed of no message", owner,
			       passport->command_index);
	return false;
}

static bool takes_messages(const struct passport *passport)
{
	return passport->state == PASSPORT_STATE_ECHO ||
	       passport->state == PASSPORT_STATE_UNAUTHENTICATED ||
	       passport->state == PASSPORT_STATE_CONNECTED ||
	       passport->state == PASSPORT_STATE_UNUSABLE;
}

static void walk_reader(struct arena_walk *walk, const struct passport *passport, bool incomplete)
{
	struct websocket_reader reader;

	_Static_assert(sizeof(reader) == sizeof(passport->reader), "a passport keeps its reader");
	memcpy(&reader, &passport->reader, sizeof(reader));
	if (!websocket_reader_valid(&reader))
		walk_violation(walk, "passport %u: its reader can't have come there",
			       walk->subject);
	else if (reader.message_opcode && takes_messages(passport) && !incomplete)
		walk_violation(walk, "passport %u: its reader is in a message that nobody has",
			       walk->subject);
}

/* --- identity --- */

static void walk_identity(struct arena_walk *walk, const struct passport *passport)
{
	const struct passport_identity *identity;
	const struct arena_chunk *chunk;

	if (!passport->identity ||
	    walk_claim(walk, passport->identity, MARK_PIECE, "identity") == CLAIM_NO_CHUNK)
		return;
	chunk = arena_chunk_at(walk->arena, passport->identity);
	identity = (const void *)chunk->data;
	if (sizeof(*identity) + identity->data_length >
		    arena_chunk_capacity(walk->arena, passport->identity) ||
	    sizeof(*identity) + identity->data_length != chunk->used ||
	    (uint64_t)identity->user_length + identity->name_length + identity->version_length +
			    identity->info_length !=
		    identity->data_length)
		walk_violation(walk, "identity %u: lengths do not fit", walk->subject);
}

/* --- TLS --- */

static void walk_tls(struct arena_walk *walk, const struct passport *passport)
{
	const struct passport_tls *tls;

	if (!passport->tls || walk_claim(walk, passport->tls, MARK_PIECE, "tls") == CLAIM_NO_CHUNK)
		return;
	if (!passport_tls_fits(walk->arena, passport->tls)) {
		walk_violation(walk, "tls %u: it does not fit into its chunk", walk->subject);
		return;
	}
	tls = passport_tls(walk->arena, passport);
	walk_queue(walk, &tls->in, "ciphertext");
	if (!tls_state_valid(&tls->state))
		walk_violation(walk, "tls %u: a record layer that can't be", walk->subject);
}

/* --- subscriptions --- */

static void walk_subscription(struct arena_walk *walk, arena_ref ref, arena_ref previous)
{
	const struct subscription_record *subscription = arena_at(walk->arena, ref);

	walk->census.subscriptions++;
	if (subscription->info &&
	    walk_claim(walk, subscription->info, MARK_PIECE, "subscription info") !=
		    CLAIM_NO_CHUNK &&
	    arena_chunk_at(walk->arena, subscription->info)->used >
		    arena_chunk_capacity(walk->arena, subscription->info))
		walk_violation(walk, "subscription %u: an info longer than its chunk", ref);
	if (subscription->passport != walk->subject)
		walk_violation(walk, "subscription %u: belongs to %u, listed by %u", ref,
			       subscription->passport, walk->subject);
	if (subscription->previous != previous)
		walk_violation(walk, "subscription %u: its list is not linked both ways", ref);
	if (!walk_record_in_use(walk, subscription->channel, ARENA_CHANNEL, CHANNEL_MAGIC) ||
	    arena_walk_verdict(walk, subscription->channel) == VERDICT_LOST)
		walk_violation(walk, "subscription %u: no channel", ref);
	else if (subscription->position == SUBSCRIPTION_UNPLACED)
		walk->owners[subscription->channel]++;
}

static void walk_subscriptions(struct arena_walk *walk, const struct passport *passport)
{
	arena_ref ref = passport->subscriptions, previous = 0;
	uint32_t count = 0;

	while (ref) {
		enum walk_claim claim = walk_claim(walk, ref, MARK_SUBSCRIPTION, "subscriptions");

		if (claim == CLAIM_NO_CHUNK)
			return;
		walk_subscription(walk, ref, previous);
		if (claim != CLAIM_OWN)
			return;
		count++;
		previous = ref;
		ref = ((const struct subscription_record *)arena_at(walk->arena, ref))->next;
	}
	if (count != passport->subscription_count)
		walk_violation(walk, "passport %u: counts %u subscriptions, has %u", walk->subject,
			       passport->subscription_count, count);
}

void walk_passport(struct arena_walk *walk, arena_ref ref)
{
	const struct passport *passport = arena_at(walk->arena, ref);
	bool incomplete = false;

	walk_begin(walk, ref);
	walk->census.passports++;
	if (passport->version != PASSPORT_VERSION || passport->state == PASSPORT_STATE_FREE ||
	    passport->state >= PASSPORT_STATE_COUNT ||
	    (passport->kind != PASSPORT_CLIENT && passport->kind != PASSPORT_REDIS) ||
	    passport->codec >= PASSPORT_CODECS)
		walk_violation(walk, "passport %u: version, kind, state or codec is none of ours",
			       ref);
	if (passport->generation == 0 || passport->generation > walk->arena->header->generation)
		walk_violation(walk, "passport %u: a generation that was never given", ref);
	walk_queue(walk, &passport->in, "in");
	walk_queue(walk, &passport->messages, "messages");
	walk_queue(walk, &passport->out, "out");
	walk_tls(walk, passport);
	/* What is no whole queue can't be read. */
	if (walk->faults == 0 && walk->conflict_count == 0) {
		incomplete = walk_messages(walk, passport);
		walk_reader(walk, passport, incomplete);
	}
	walk_identity(walk, passport);
	walk_subscriptions(walk, passport);
	(void)walk_end(walk, VERDICT_LOST);
}
