/* SPDX-License-Identifier: ISC */
/*
 * Drafts, queues and the varying parts of passports. Run by the worker that
 * owns the arena. Must never write a byte that a committed word reaches.
 */
#include "keepsock/passport.h"

#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "keepsock/alloc.h"
#include "keepsock/secret.h"

#define IDENTITY_MAX 16384u

static const char *const state_names[PASSPORT_STATE_COUNT] = {
#define STATE(symbol, name) [PASSPORT_STATE_##symbol] = name,
	PASSPORT_STATES(STATE)
#undef STATE
};

const char *passport_state_name(unsigned state)
{
	return state < PASSPORT_STATE_COUNT ? state_names[state] : "invalid";
}

/* --- identity --- */

static const struct passport_identity *identity_of(const struct arena *arena,
						   const struct passport *passport)
{
	if (!passport->identity)
		return NULL;
	return (const struct passport_identity *)arena_chunk_at(arena, passport->identity)->data;
}

struct slice passport_user(const struct arena *arena, const struct passport *passport)
{
	const struct passport_identity *identity = identity_of(arena, passport);

	return identity ? slice_from(identity->data, identity->user_length) : SLICE("");
}

struct slice passport_name(const struct arena *arena, const struct passport *passport)
{
	const struct passport_identity *identity = identity_of(arena, passport);

	return identity ? slice_from(identity->data + identity->user_length, identity->name_length)
			: SLICE("");
}

struct slice passport_info(const struct arena *arena, const struct passport *passport)
{
	const struct passport_identity *identity = identity_of(arena, passport);

	if (!identity)
		return SLICE("");
	return slice_from(identity->data + identity->user_length + identity->name_length +
				  identity->version_length,
			  identity->info_length);
}

struct slice passport_version(const struct arena *arena, const struct passport *passport)
{
	const struct passport_identity *identity = identity_of(arena, passport);

	if (!identity)
		return SLICE("");
	return slice_from(identity->data + identity->user_length + identity->name_length,
			  identity->version_length);
}

arena_ref passport_identity_make(struct arena *arena, struct slice user, struct slice name,
				 struct slice version, struct slice info)
{
	size_t length = user.len + name.len + version.len + info.len;
	struct passport_identity *identity;
	arena_ref ref;
	char *at;

	if (length > IDENTITY_MAX)
		return 0;
	ref = arena_chunk_alloc(arena, sizeof(*identity) + length);
	if (!ref)
		return 0;
	identity = (struct passport_identity *)arena_chunk_at(arena, ref)->data;
	*identity = (struct passport_identity){
		.user_length = (uint16_t)user.len,
		.name_length = (uint16_t)name.len,
		.version_length = (uint16_t)version.len,
		.info_length = (uint32_t)info.len,
		.data_length = (uint32_t)length,
	};
	at = identity->data;
	for (int i = 0; i < 4; i++) {
		const struct slice parts[] = {user, name, version, info};

		if (parts[i].len)
			memcpy(at, parts[i].data, parts[i].len);
		at += parts[i].len;
	}
	arena_chunk_at(arena, ref)->used = (uint32_t)(sizeof(*identity) + length);
	return ref;
}

struct slice subscription_info(const struct arena *arena,
			       const struct subscription_record *subscription)
{
	const struct arena_chunk *chunk;

	if (!subscription || !subscription->info)
		return SLICE("");
	chunk = arena_chunk_at(arena, subscription->info);
	return slice_from(chunk->data, chunk->used);
}

/* --- birth and death --- */

/* Its record layer, with what was read and not opened. */
static void release_tls(struct passport_draft *draft)
{
	const struct passport_tls *tls = passport_tls(draft->arena, &draft->now);
	struct stream_queue in;

	if (!tls)
		return;
	in = tls->in;
	queue_consume(draft, &in, UINT64_MAX);
	passport_draft_release(draft, draft->now.tls);
	draft->cleanse = draft->now.tls;
	draft->now.tls = 0;
}

arena_ref passport_create(struct arena *arena, struct passport *fresh)
{
	arena_ref ref = arena_record_alloc(arena, ARENA_PASSPORT);
	struct passport *passport;

	if (!ref)
		return 0;
	fresh->magic = PASSPORT_MAGIC;
	fresh->version = PASSPORT_VERSION;
	fresh->generation = arena->header->generation + 1;
	arena_store(&arena->header->generation, fresh->generation);
	passport = arena_at(arena, ref);
	/* The first word is the commit: without its magic the record is nobody's. */
	memcpy((uint8_t *)passport + 8, (const uint8_t *)fresh + 8, sizeof(*fresh) - 8);
	arena_store(passport, *(const uint64_t *)(const void *)fresh);
	return ref;
}

void passport_destroy(struct passport_draft *draft, arena_ref ref, void *forget)
{
	passport_draft_begin(draft, ref);
	queue_consume(draft, &draft->now.in, UINT64_MAX);
	queue_consume(draft, &draft->now.messages, UINT64_MAX);
	queue_consume(draft, &draft->now.out, UINT64_MAX);
	if (draft->now.identity)
		passport_draft_release(draft, draft->now.identity);
	draft->now.identity = 0;
	release_tls(draft);
	draft->now.magic = 0;
	draft->now.state = PASSPORT_STATE_FREE;
	if (forget)
		arena_commit_add(&draft->commit, forget, 0);
	passport_draft_commit(draft);
	arena_record_free(draft->arena, ref);
}

arena_ref passport_next(const struct arena *arena, arena_ref previous)
{
	arena_ref ref = previous;

	while ((ref = arena_record_next(arena, ARENA_PASSPORT, ref))) {
		if (((const struct passport *)arena_at(arena, ref))->magic == PASSPORT_MAGIC)
			return ref;
	}
	return 0;
}

/* --- drafts --- */

static void refs_push(arena_ref **refs, size_t *count, size_t *capacity, arena_ref ref)
{
	if (*count == *capacity) {
		*capacity = *capacity ? *capacity * 2 : 32;
		*refs = xrealloc(*refs, *capacity * sizeof(**refs));
	}
	(*refs)[(*count)++] = ref;
}

void passport_draft_init(struct passport_draft *draft, struct arena *arena)
{
	memset(draft, 0, sizeof(*draft));
	draft->arena = arena;
}

void passport_draft_free(struct passport_draft *draft)
{
	free(draft->allocated);
	free(draft->released);
	buffer_free(&draft->output);
	secret_wipe(draft, sizeof(*draft));
}

/* The copy has keys in it, which are to be in the arena only. */
static void forget_tls(struct passport_draft *draft)
{
	if (draft->tls_live)
		secret_wipe(&draft->tls, sizeof(draft->tls));
	draft->tls_live = NULL;
}

void passport_draft_begin(struct passport_draft *draft, arena_ref passport)
{
	if (draft->live)
		abort(); /* drafts do not nest */
	draft->live = arena_at(draft->arena, passport);
	draft->now = *draft->live;
	draft->failed = false;
	draft->tls_live = NULL;
	draft->cleanse = 0;
	arena_commit_begin(&draft->commit, draft->arena);
}

void passport_draft_own(struct passport_draft *draft, arena_ref chunk)
{
	refs_push(&draft->allocated, &draft->allocated_count, &draft->allocated_capacity, chunk);
}

arena_ref passport_draft_chunk(struct passport_draft *draft, size_t payload)
{
	arena_ref ref = arena_chunk_alloc(draft->arena, payload);

	if (ref)
		passport_draft_own(draft, ref);
	else
		draft->failed = true;
	return ref;
}

void passport_draft_release(struct passport_draft *draft, arena_ref chunk)
{
	refs_push(&draft->released, &draft->released_count, &draft->released_capacity, chunk);
}

void passport_draft_drop(struct passport_draft *draft)
{
	for (size_t i = 0; i < draft->allocated_count; i++)
		arena_record_free(draft->arena, draft->allocated[i]);
	draft->allocated_count = draft->released_count = 0;
	forget_tls(draft);
	draft->live = NULL;
	buffer_reset(&draft->output);
}

static void add_changes(struct passport_draft *draft, void *record, const void *changed,
			size_t size)
{
	const uint64_t *now = changed;
	uint64_t *live = record;

	for (size_t i = 0; i < size / sizeof(*now); i++) {
		if (live[i] != now[i])
			arena_commit_add(&draft->commit, &live[i], now[i]);
	}
}

bool passport_draft_commit(struct passport_draft *draft)
{
	if (draft->output.len > 0)
		draft->seal(draft->seal_context, draft);
	if (draft->failed) {
		passport_draft_drop(draft);
		return false;
	}
	add_changes(draft, draft->live, &draft->now, sizeof(draft->now));
	if (draft->tls_live)
		add_changes(draft, draft->tls_live, &draft->tls, sizeof(draft->tls));
	arena_commit_apply(&draft->commit);
	/* Keys go at once, not when somebody needs their place. */
	if (draft->cleanse)
		secret_wipe(arena_at(draft->arena, draft->cleanse), sizeof(struct passport_tls));
	for (size_t i = 0; i < draft->released_count; i++)
		arena_record_free(draft->arena, draft->released[i]);
	draft->allocated_count = draft->released_count = 0;
	forget_tls(draft);
	draft->live = NULL;
	return true;
}

/* --- queues --- */

struct passport_tls *passport_draft_tls(struct passport_draft *draft)
{
	if (!draft->tls_live) {
		draft->tls_live = passport_tls(draft->arena, &draft->now);
		draft->tls = *draft->tls_live;
	}
	return &draft->tls;
}

void passport_draft_output(struct passport_draft *draft, const void *data, size_t length)
{
	if (draft->now.tls)
		buffer_append(&draft->output, data, length);
	else
		queue_append(draft, &draft->now.out, data, length);
}

void queue_append(struct passport_draft *draft, struct stream_queue *queue, const void *data,
		  size_t length)
{
	const uint8_t *from = data;
	uint64_t end = queue_end(queue);

	while (length > 0 && !draft->failed) {
		struct arena_chunk *tail =
			queue->tail ? arena_chunk_at(draft->arena, queue->tail) : NULL;
		size_t room = tail ? arena_chunk_capacity(draft->arena, queue->tail) -
					      (size_t)(end - tail->base)
				   : 0;

		if (room == 0) {
			arena_ref ref = passport_draft_chunk(draft, length);

			if (!ref)
				return;
			arena_chunk_at(draft->arena, ref)->base = end;
			if (tail)
				tail->next = ref;
			else
				queue->head = ref;
			queue->tail = ref;
			continue;
		}
		if (room > length)
			room = length;
		memcpy(tail->data + (end - tail->base), from, room);
		from += room;
		length -= room;
		end += room;
		queue->end = end;
	}
}

void queue_consume(struct passport_draft *draft, struct stream_queue *queue, uint64_t length)
{
	if (length > queue_length(queue))
		length = queue_length(queue);
	queue->done += length;
	while (queue->head) {
		struct arena_chunk *head = arena_chunk_at(draft->arena, queue->head);
		arena_ref next = queue->head == queue->tail ? 0 : head->next;

		if (queue->done < queue->end &&
		    queue->done < head->base + arena_chunk_capacity(draft->arena, queue->head))
			break;
		passport_draft_release(draft, queue->head);
		queue->head = next;
		if (!next)
			queue->tail = 0;
	}
}

_Static_assert(offsetof(struct stream_queue, head) % 8 == 0 && sizeof(struct stream_queue) == 24,
	       "head and tail are one word");

void passport_commit_written(struct passport_draft *draft, arena_ref passport, uint64_t length,
			     void *announced)
{
	struct stream_queue *out = &((struct passport *)arena_at(draft->arena, passport))->out;
	arena_ref chunk = out->head;

	if (draft->live || length < queue_length(out) || chunk != out->tail) {
		passport_draft_begin(draft, passport);
		queue_consume(draft, &draft->now.out, length);
		arena_commit_add(&draft->commit, announced, 0);
		passport_draft_commit(draft);
		return;
	}
	/* Most often it was all there was, and in one chunk: three words, no copy to compare. */
	arena_commit_begin(&draft->commit, draft->arena);
	arena_commit_add(&draft->commit, &out->done, out->end);
	arena_commit_add(&draft->commit, &out->head, 0);
	arena_commit_add(&draft->commit, announced, 0);
	arena_commit_apply(&draft->commit);
	arena_record_free(draft->arena, chunk);
}

/* The chunk that holds `offset`, 0 if the queue does not. */
static arena_ref queue_find(const struct arena *arena, const struct stream_queue *queue,
			    uint64_t offset)
{
	arena_ref ref = queue->head;

	if (offset < queue->done || offset >= queue->end)
		return 0;
	while (ref) {
		const struct arena_chunk *chunk = arena_chunk_at(arena, ref);

		if (offset < chunk->base + arena_chunk_capacity(arena, ref))
			return ref;
		ref = ref == queue->tail ? 0 : chunk->next;
	}
	return 0;
}

static struct slice chunk_piece(const struct arena *arena, const struct stream_queue *queue,
				arena_ref ref, uint64_t offset)
{
	const struct arena_chunk *chunk = arena_chunk_at(arena, ref);
	uint64_t limit = chunk->base + arena_chunk_capacity(arena, ref);

	if (limit > queue->end)
		limit = queue->end;
	return slice_from(chunk->data + (offset - chunk->base), (size_t)(limit - offset));
}

struct slice queue_peek(const struct arena *arena, const struct stream_queue *queue,
			uint64_t offset)
{
	arena_ref ref = queue_find(arena, queue, offset);

	return ref ? chunk_piece(arena, queue, ref, offset) : SLICE("");
}

void queue_copy(const struct arena *arena, const struct stream_queue *queue, uint64_t offset,
		size_t length, void *out)
{
	arena_ref ref = queue_find(arena, queue, offset);
	uint8_t *to = out;

	while (length > 0 && ref) {
		struct slice piece = chunk_piece(arena, queue, ref, offset);
		size_t take = piece.len < length ? piece.len : length;

		memcpy(to, piece.data, take);
		to += take;
		offset += take;
		length -= take;
		ref = ref == queue->tail ? 0 : arena_chunk_at(arena, ref)->next;
	}
	if (length > 0)
		abort(); /* asked for bytes that the queue does not hold */
}

uint64_t *queue_word(const struct arena *arena, const struct stream_queue *queue, uint64_t offset)
{
	arena_ref ref = queue_find(arena, queue, offset);
	struct arena_chunk *chunk;

	if (!ref)
		abort();
	chunk = arena_chunk_at(arena, ref);
	return (uint64_t *)(void *)(chunk->data + (offset - chunk->base));
}

int queue_pieces(const struct arena *arena, const struct stream_queue *queue, struct iovec *pieces,
		 int max)
{
	uint64_t offset = queue->done;
	arena_ref ref = queue_find(arena, queue, offset);
	int count = 0;

	while (ref && count < max) {
		struct slice piece = chunk_piece(arena, queue, ref, offset);

		pieces[count++] = (struct iovec){(void *)piece.data, piece.len};
		offset += piece.len;
		ref = ref == queue->tail ? 0 : arena_chunk_at(arena, ref)->next;
	}
	return count;
}
