/* SPDX-License-Identifier: ISC */
/*
 * Exports and imports of passports, see passport_export.h. Run by workers.
 * Records travel as they are, with the version of their layout; what they refer
 * to follows them.
 */
#include "keepsock/passport_export.h"

#include <string.h>

#include "keepsock/arena_layout.h"
#include "keepsock/secret.h"

#define EXPORT_MAGIC 0x58504550u /* "PEPX" */

struct export_head {
	uint32_t magic;
	uint32_t layout;
	uint32_t subscriptions;
	uint32_t identity;
	uint64_t in, messages, out;
	uint32_t tls, certificate; /* bytes; both 0 for a plain connection */
	uint64_t ciphertext;
};

struct export_subscription {
	uint32_t channel, info, epoch;
	uint32_t history;
	uint64_t sequence, offset;
};

/* --- exporting --- */

static void append_queue(struct buffer *out, const struct arena *arena,
			 const struct stream_queue *queue)
{
	for (uint64_t at = queue->done; at < queue->end;) {
		struct slice piece = queue_peek(arena, queue, at);

		buffer_append_slice(out, piece);
		at += piece.len;
	}
}

static void append_subscription(struct buffer *out, const struct hub *hub,
				const struct subscription_record *record,
				passport_export_where *where, void *context)
{
	const struct channel *channel = hub_channel_at(hub, record->channel);
	struct passport_export_position position = where(context, channel);
	struct slice name = hub_name(hub, channel), info = subscription_info(hub->arena, record);
	const struct export_subscription head = {
		.channel = (uint32_t)name.len,
		.info = (uint32_t)info.len,
		.epoch = (uint32_t)position.epoch.len,
		.history = position.history,
		.sequence = position.sequence,
		.offset = position.offset,
	};

	buffer_append(out, &head, sizeof(head));
	buffer_append(out, record, sizeof(*record));
	buffer_append_slice(out, name);
	buffer_append_slice(out, info);
	buffer_append_slice(out, position.epoch);
}

static struct slice identity_bytes(const struct arena *arena, const struct passport *passport)
{
	const struct arena_chunk *chunk;

	if (!passport->identity)
		return SLICE("");
	chunk = arena_chunk_at(arena, passport->identity);
	return slice_from(chunk->data, chunk->used);
}

void passport_export(struct buffer *out, const struct hub *hub, arena_ref ref,
		     passport_export_where *where, void *context)
{
	const struct arena *arena = hub->arena;
	const struct passport *passport = arena_at(arena, ref);
	struct slice identity = identity_bytes(arena, passport);
	const struct passport_tls *tls = passport_tls(arena, passport);
	const struct passport_peer *peer = passport_peer(arena, passport);
	const struct export_head head = {
		.magic = EXPORT_MAGIC,
		.layout = ARENA_LAYOUT_VERSION,
		.subscriptions = passport->subscription_count,
		.identity = (uint32_t)identity.len,
		.in = queue_length(&passport->in),
		.messages = queue_length(&passport->messages),
		.out = queue_length(&passport->out),
		.tls = tls ? sizeof(*tls) : 0,
		.certificate = peer ? (uint32_t)passport_peer_length(peer) : 0,
		.ciphertext = tls ? queue_length(&tls->in) : 0,
	};
	arena_ref at = passport->subscriptions;

	buffer_append(out, &head, sizeof(head));
	buffer_append(out, passport, sizeof(*passport));
	buffer_append_slice(out, identity);
	append_queue(out, arena, &passport->in);
	append_queue(out, arena, &passport->messages);
	append_queue(out, arena, &passport->out);
	if (tls) {
		buffer_append(out, tls, sizeof(*tls));
		buffer_append_slice(out, slice_from((const char *)peer, head.certificate));
		append_queue(out, arena, &tls->in);
	}
	while (at) {
		const struct subscription_record *record = arena_at(arena, at);

		append_subscription(out, hub, record, where, context);
		at = record->next;
	}
}

/* --- reading --- */

/* False: there are not so many. */
static bool take(struct slice *from, uint64_t length, struct slice *piece)
{
	if (length > from->len)
		return false;
	*piece = slice_from(from->data, (size_t)length);
	*from = slice_from(from->data + length, from->len - (size_t)length);
	return true;
}

static bool take_record(struct slice *from, const struct arena_layout *layout,
			enum arena_record record, void *out)
{
	struct slice piece;
	uint64_t aligned[32]; /* as records lie in an arena */

	_Static_assert(sizeof(aligned) >= sizeof(struct passport), "the largest one");
	if (layout->records[record].size > sizeof(aligned) ||
	    !take(from, layout->records[record].size, &piece))
		return false;
	memcpy(aligned, piece.data, piece.len);
	arena_convert_record(layout, record, aligned, out);
	secret_wipe(aligned, sizeof(aligned));
	return true;
}

/* The strings of an identity are as long as it says. */
static bool identity_whole(struct slice bytes)
{
	struct passport_identity identity;

	if (bytes.len == 0)
		return true;
	if (bytes.len < sizeof(identity))
		return false;
	memcpy(&identity, bytes.data, sizeof(identity));
	return identity.data_length == bytes.len - sizeof(identity) &&
	       (uint64_t)identity.user_length + identity.name_length + identity.version_length +
			       identity.info_length ==
		       identity.data_length;
}

static bool take_subscription(struct slice *from, const struct arena_layout *layout,
			      struct passport_import_subscription *subscription)
{
	struct export_subscription head;
	struct slice piece;

	if (!take(from, sizeof(head), &piece))
		return false;
	memcpy(&head, piece.data, sizeof(head));
	if (!take_record(from, layout, ARENA_RECORD_SUBSCRIPTION, &subscription->record) ||
	    head.channel == 0 || head.epoch > CHANNEL_EPOCH_MAX ||
	    !take(from, head.channel, &subscription->channel) ||
	    !take(from, head.info, &subscription->info) ||
	    !take(from, head.epoch, &subscription->position.epoch))
		return false;
	subscription->position.history = head.history != 0;
	subscription->position.sequence = head.sequence;
	subscription->position.offset = head.offset;
	return true;
}

static bool take_tls(struct slice *from, const struct export_head *head,
		     struct passport_import *import)
{
	import->passport.tls = 0;
	import->encrypted = head->tls > 0;
	if (head->tls == 0)
		return true;
	return head->tls == import->layout->records[ARENA_RECORD_TLS].size &&
	       take_record(from, import->layout, ARENA_RECORD_TLS, &import->tls) &&
	       take(from, head->certificate, &import->certificate) &&
	       take(from, head->ciphertext, &import->ciphertext);
}

/* The texts of a certificate are as long as it says. */
static bool tls_whole(const struct passport_import *import)
{
	struct passport_peer peer;
	struct slice bytes = import->certificate;

	if (!tls_state_valid(&import->tls.state))
		return false;
	if (bytes.len < sizeof(peer))
		return bytes.len == 0;
	memcpy(&peer, bytes.data, sizeof(peer));
	return passport_peer_length(&peer) == bytes.len;
}

const char *passport_import_read(struct slice bytes, struct passport_import *import)
{
	struct passport_import_subscription subscription;
	struct export_head head;
	struct slice piece;

	memset(import, 0, sizeof(*import));
	if (!take(&bytes, sizeof(head), &piece))
		return "it is cut off";
	memcpy(&head, piece.data, sizeof(head));
	if (head.magic != EXPORT_MAGIC)
		return "it is no passport";
	import->layout = arena_layout_of(head.layout);
	if (!import->layout)
		return "it is of a layout that this program does not know";
	if (!take_record(&bytes, import->layout, ARENA_RECORD_PASSPORT, &import->passport) ||
	    !take(&bytes, head.identity, &import->identity) ||
	    !take(&bytes, head.in, &import->in) ||
	    !take(&bytes, head.messages, &import->messages) ||
	    !take(&bytes, head.out, &import->out) || !take_tls(&bytes, &head, import))
		return "it is cut off";
	if (import->passport.magic != PASSPORT_MAGIC || import->passport.kind != PASSPORT_CLIENT ||
	    import->passport.state == PASSPORT_STATE_FREE ||
	    import->passport.state >= PASSPORT_STATE_COUNT || !identity_whole(import->identity) ||
	    (head.tls && !tls_whole(import)))
		return "it is damaged";
	import->subscriptions = piece = bytes;
	import->subscription_count = head.subscriptions;
	for (uint32_t i = 0; i < head.subscriptions; i++) {
		if (!take_subscription(&piece, import->layout, &subscription))
			return "its subscriptions are cut off";
	}
	return piece.len == 0 ? NULL : "there is something behind it";
}

void passport_import_wipe(struct passport_import *import)
{
	tls_state_wipe(&import->tls.state);
}

bool passport_import_next(struct passport_import *import,
			  struct passport_import_subscription *subscription)
{
	return import->subscriptions.len > 0 &&
	       take_subscription(&import->subscriptions, import->layout, subscription);
}

/* --- importing --- */

static void import_queue(struct passport_draft *draft, struct stream_queue *queue,
			 struct slice bytes)
{
	queue->end = queue->done;
	queue_append(draft, queue, bytes.data, bytes.len);
}

static arena_ref import_chunk(struct passport_draft *draft, struct slice bytes)
{
	arena_ref ref;

	if (bytes.len == 0)
		return 0;
	ref = passport_draft_chunk(draft, bytes.len);
	if (!ref)
		return 0;
	if (bytes.len > arena_chunk_capacity(draft->arena, ref)) {
		draft->failed = true;
		return 0;
	}
	memcpy(arena_chunk_at(draft->arena, ref)->data, bytes.data, bytes.len);
	arena_chunk_at(draft->arena, ref)->used = (uint32_t)bytes.len;
	return ref;
}

/* Before it has its queues it is in no message. */
static struct passport without_contents(const struct passport_import *import, uint64_t move)
{
	struct passport fresh = import->passport;
	struct stream_queue *const queues[] = {&fresh.in, &fresh.messages, &fresh.out};

	for (size_t i = 0; i < sizeof(queues) / sizeof(queues[0]); i++)
		*queues[i] = (struct stream_queue){.done = queues[i]->done, .end = queues[i]->done};
	fresh.state = PASSPORT_STATE_DRAINING;
	fresh.identity = fresh.subscriptions = 0;
	fresh.subscription_count = 0;
	fresh.command_index = 0;
	fresh.move = move;
	return fresh;
}

/* As nobody reaches it yet. 0: it has none, or *full. */
static arena_ref make_tls(struct arena *arena, const struct passport_import *import, bool *full)
{
	struct passport_tls tls = import->tls;
	arena_ref ref;

	*full = false;
	if (!import->encrypted)
		return 0;
	tls.in = (struct stream_queue){.done = import->tls.in.done, .end = import->tls.in.done};
	ref = passport_tls_make(arena, &tls, import->certificate);
	tls_state_wipe(&tls.state);
	*full = ref == 0;
	return ref;
}

arena_ref passport_import_make(struct passport_draft *draft, const struct passport_import *import,
			       uint64_t move)
{
	struct passport fresh = without_contents(import, move);
	arena_ref ref;
	bool full;

	fresh.tls = make_tls(draft->arena, import, &full);
	ref = full ? 0 : passport_create(draft->arena, &fresh);
	if (!ref) {
		if (fresh.tls)
			passport_tls_free(draft->arena, fresh.tls);
		return 0;
	}
	passport_draft_begin(draft, ref);
	if (fresh.tls)
		import_queue(draft, &passport_draft_tls(draft)->in, import->ciphertext);
	import_queue(draft, &draft->now.in, import->in);
	import_queue(draft, &draft->now.messages, import->messages);
	import_queue(draft, &draft->now.out, import->out);
	draft->now.identity = import_chunk(draft, import->identity);
	draft->now.state = import->passport.state;
	draft->now.command_index = import->passport.command_index;
	if (passport_draft_commit(draft))
		return ref;
	passport_destroy(draft, ref, NULL);
	return 0;
}

static void append_held(struct passport_draft *draft, const struct channel *channel,
			const struct passport_import_subscription *subscription)
{
	const struct held_message *held = NULL;

	while ((held = hub_held_next(channel, held, subscription->position.sequence))) {
		if (channel_message_wanted(held->kind, subscription->record.flags))
			passport_draft_output(draft, held->frame, held->length);
	}
}

/* In the open draft. */
static void add(struct hub *hub, struct passport_draft *draft, struct channel *channel,
		const struct passport_import_subscription *subscription, uint64_t sequence,
		uint64_t offset)
{
	arena_ref info = import_chunk(draft, subscription->info);
	struct subscription_record *record;
	arena_ref ref =
		hub_subscription_add(hub, draft, channel, sequence, subscription->record.flags);

	if (!ref || draft->failed)
		return;
	/* Nobody reaches it before the commit. */
	record = arena_at(hub->arena, ref);
	record->info = info;
	record->expires_at = subscription->record.expires_at;
	append_held(draft, channel, subscription);
	if (!hub_record(hub, channel)->positioned)
		hub_position_set(hub, &draft->commit, channel, subscription->position.epoch, offset,
				 sequence);
}

enum passport_import_verdict passport_import_subscribe(
	struct hub *hub, struct passport_draft *draft, arena_ref passport, struct channel *channel,
	const struct passport_import_subscription *subscription)
{
	const struct channel_record *record = hub_record(hub, channel);
	uint64_t sequence = subscription->position.sequence;
	uint64_t offset = subscription->position.offset;
	struct slice epoch = subscription->position.epoch;

	if (!hub_held_position(channel, epoch, &sequence, &offset) ||
	    (record->positioned && record->history && subscription->position.history &&
	     !slice_equal(hub_epoch(record), epoch)))
		return PASSPORT_IMPORT_GAP;
	if (channel->held_overflow ||
	    (record->positioned && hub_is_served(sequence, record->last_sequence)))
		return PASSPORT_IMPORT_OVERTAKEN;
	passport_draft_begin(draft, passport);
	add(hub, draft, channel, subscription, sequence, offset);
	if (!passport_draft_commit(draft))
		return PASSPORT_IMPORT_FULL;
	hub_subscription_counted(hub, 1);
	return PASSPORT_IMPORT_DONE;
}
