/* SPDX-License-Identifier: ISC */
/*
 * Comparing what Redis keeps under our name with who is here, see remains.h. Run
 * by the worker. A client with a command under way is not judged: the command
 * may be what made the entry, and runs again. So there are several rounds.
 */
#include "worker/remains.h"

#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/random.h"
#include "keepsock/redis_keys.h"
#include "keepsock/redis_registry.h"
#include "keepsock/redis_scripts.h"
#include "worker/loop_watch.h"
#include "worker/presence_upkeep.h"
#include "worker/sessions.h"
#include "worker/shards.h"

#define REMAINS_MAGIC 0x4e4d4552u /* "REMN" */
#define ROUNDS        4u
/* Beyond the time that commands may wait for Redis. */
#define ROUND_MS 4000u
/* One connection: the pages of a walk come in order. */
#define AFFINITY 0u

/* Who is here, sorted by id. */
struct present {
	struct passport_id id;
	arena_ref passport;
};

/* One key of the worker on one shard, page by page. */
struct walk {
	struct remains *remains;
	struct redis_shard *shard;
	enum redis_worker_key key;
};

struct remains {
	uint32_t magic;
	struct worker *worker; /* NULL: only waits for Redis to call back */
	unsigned round;
	unsigned walks; /* under way */
	uint64_t next_at;
	struct present *present; /* owned; as of the round's begin */
	size_t present_count;
	uint64_t removed, passed_over;
};

/* --- who is here --- */

static int compare_present(const void *a, const void *b)
{
	const struct present *x = a, *y = b;

	return memcmp(&x->id, &y->id, sizeof(x->id));
}

static void count_present(struct remains *remains)
{
	struct worker *w = remains->worker;
	size_t capacity = 0;
	arena_ref ref = 0;

	free(remains->present);
	remains->present = NULL;
	remains->present_count = 0;
	while ((ref = passport_next(w->arena, ref))) {
		const struct passport *passport = arena_at(w->arena, ref);

		if (passport->kind != PASSPORT_CLIENT)
			continue;
		if (remains->present_count == capacity) {
			capacity = capacity * 2 + 64;
			remains->present =
				xrealloc(remains->present, capacity * sizeof(*remains->present));
		}
		remains->present[remains->present_count++] = (struct present){passport->id, ref};
	}
	if (remains->present_count > 0)
		qsort(remains->present, remains->present_count, sizeof(*remains->present),
		      compare_present);
}

/* NULL: gone, or never here. */
static struct connection *find(struct remains *remains, const struct passport_id *id)
{
	struct worker *w = remains->worker;
	const struct present key = {.id = *id};
	const struct present *present =
		remains->present_count == 0
			? NULL
			: bsearch(&key, remains->present, remains->present_count,
				  sizeof(*remains->present), compare_present);

	if (present) {
		const struct passport *passport = arena_at(w->arena, present->passport);
		struct connection *c = connection_maybe_at(w, present->passport);

		if (c && passport->magic == PASSPORT_MAGIC && c->fd >= 0 &&
		    memcmp(&passport->id, id, sizeof(*id)) == 0)
			return c;
	}
	/* Who came since the round began. */
	return connection_find(w, id);
}

static bool is_busy(const struct connection *c)
{
	const struct passport *passport = connection_passport(c);

	return c->pending || queue_length(&passport->messages) > 0 ||
	       (passport->state != PASSPORT_STATE_HTTP && c->subscribing);
}

static bool is_subscribed(struct worker *w, const struct connection *c, struct slice channel_name)
{
	struct channel *channel = hub_find(&w->hub, channel_name);

	return channel && hub_subscription_find(&w->hub, connection_passport(c), channel);
}

/* --- one page --- */

static bool parse_client(struct slice text, struct passport_id *id)
{
	struct uuid uuid;

	if (!uuid_parse(text, &uuid))
		return false;
	memcpy(id->bytes, uuid.bytes, sizeof(id->bytes));
	return true;
}

static void judge_member(struct remains *remains, struct slice name)
{
	struct worker *w = remains->worker;
	struct connection *c;
	struct slice channel;
	struct passport_id id;

	if (name.len <= UUID_TEXT_LEN + 1 || name.data[UUID_TEXT_LEN] != ' ' ||
	    !parse_client(slice_from(name.data, UUID_TEXT_LEN), &id))
		return;
	channel = slice_from(name.data + UUID_TEXT_LEN + 1, name.len - UUID_TEXT_LEN - 1);
	c = find(remains, &id);
	if (c && is_busy(c)) {
		remains->passed_over++;
	} else if (!c || !is_subscribed(w, c, channel)) {
		remains->removed++;
		presence_leave(w, &id, channel);
	}
}

static void judge_session(struct remains *remains, struct slice name)
{
	struct connection *c;
	struct passport_id id;

	if (!parse_client(name, &id))
		return;
	c = find(remains, &id);
	if (c && (is_busy(c) || connection_passport(c)->state == PASSPORT_STATE_CONNECTED))
		return;
	remains->removed++;
	sessions_forget(remains->worker, &id);
}

/* Commands are remembered for clients of the API too: who is here at all may need them. */
static void judge_commands(struct walk *walk, const struct redis_names_result *result)
{
	struct remains *remains = walk->remains;
	struct slice *gone = xcalloc(result->n_names + 1, sizeof(*gone));
	struct buffer key = {0};
	size_t count = 0;

	redis_key_done(&key, slice_str(remains->worker->worker_name));
	for (size_t i = 0; i < result->n_names; i++) {
		struct passport_id id;

		if (parse_client(result->names[i], &id) && !find(remains, &id))
			gone[count++] = result->names[i];
	}
	remains->removed += count;
	for (size_t at = 0; at < count; at += REDIS_BATCH_MAX) {
		size_t n = count - at < REDIS_BATCH_MAX ? count - at : REDIS_BATCH_MAX;

		redis_done_remove(walk->shard->pool, AFFINITY, buffer_slice(&key), gone + at, n,
				  NULL, NULL);
	}
	buffer_free(&key);
	free(gone);
}

/* --- the walks --- */

static void on_names(void *ctx, const struct redis_names_result *result);

static void read_page(struct walk *walk, uint64_t cursor)
{
	redis_names_read(walk->shard->pool, AFFINITY, slice_str(walk->remains->worker->worker_name),
			 walk->key, cursor, on_names, walk);
}

static void round_end(struct remains *remains)
{
	struct worker *w = remains->worker;

	if (remains->removed > 0)
		log_info("remains_removed round=%u entries=%llu", remains->round,
			 (unsigned long long)remains->removed);
	/* The second round is for what the predecessor had sent and Redis had not run. */
	if (remains->round >= ROUNDS || (remains->round >= 2 && remains->passed_over == 0))
		remains_free(w);
	else
		remains->next_at = w->now_ms + ROUND_MS;
}

static void walk_end(struct walk *walk)
{
	struct remains *remains = walk->remains;

	free(walk);
	if (--remains->walks > 0)
		return;
	if (remains->worker) {
		round_end(remains);
	} else {
		remains->magic = 0;
		free(remains);
	}
}

static void on_names(void *ctx, const struct redis_names_result *result)
{
	struct walk *walk = ctx;
	struct remains *remains = walk->remains;

	MAGIC_CHECK(remains, REMAINS_MAGIC);
	/* Redis away: the next round asks again. */
	if (!remains->worker || result->outcome.code != REDIS_RESULT_OK) {
		remains->passed_over++;
		walk_end(walk);
		return;
	}
	loop_watch_begin(remains->worker, LOOP_REDIS_REPLY);
	if (walk->key == REDIS_WORKER_DONE)
		judge_commands(walk, result);
	for (size_t i = 0; i < result->n_names; i++) {
		if (walk->key == REDIS_WORKER_MEMBERS)
			judge_member(remains, result->names[i]);
		else if (walk->key == REDIS_WORKER_SESSIONS)
			judge_session(remains, result->names[i]);
	}
	if (result->cursor)
		read_page(walk, result->cursor);
	else
		walk_end(walk);
}

static void walk_begin(struct remains *remains, struct redis_shard *shard,
		       enum redis_worker_key key)
{
	struct walk *walk = xcalloc(1, sizeof(*walk));

	*walk = (struct walk){remains, shard, key};
	remains->walks++;
	read_page(walk, 0);
}

static void round_begin(struct remains *remains)
{
	struct worker *w = remains->worker;

	remains->round++;
	remains->next_at = UINT64_MAX;
	remains->removed = remains->passed_over = 0;
	count_present(remains);
	for (unsigned i = 0; i < w->shard_count; i++) {
		walk_begin(remains, &w->shards[i], REDIS_WORKER_MEMBERS);
		walk_begin(remains, &w->shards[i], REDIS_WORKER_DONE);
	}
	/* The registry is on the first one. */
	walk_begin(remains, &w->shards[0], REDIS_WORKER_SESSIONS);
}

void remains_look(struct worker *w)
{
	struct remains *remains = xcalloc(1, sizeof(*remains));

	remains->magic = REMAINS_MAGIC;
	remains->worker = w;
	w->remains = remains;
}

void remains_tick(struct worker *w)
{
	if (w->remains && w->now_ms >= w->remains->next_at && w->farewell == FAREWELL_NONE)
		round_begin(w->remains);
}

void remains_free(struct worker *w)
{
	struct remains *remains = w->remains;

	if (!remains)
		return;
	w->remains = NULL;
	remains->worker = NULL;
	free(remains->present);
	remains->present = NULL;
	if (remains->walks == 0) {
		remains->magic = 0;
		free(remains);
	}
}
