/* SPDX-License-Identifier: ISC */
/*
 * For whose sake workers die (DESIGN §3 rule 8). The work slot of the dead one
 * says what it was serving. A worker that died by its own fault while serving
 * the same thing as the one before it, or the third in a row that died in any
 * way, does not get it again: the connection is closed (1011; a request is
 * answered 500), the fan-out is given up. Run by the worker, once at its start.
 */
#include <signal.h>
#include <sys/wait.h>

#include "keepsock/log.h"
#include "keepsock/node_events.h"
#include "keepsock/websocket.h"
#include "worker/adopt_private.h"
#include "worker/fanout.h"
#include "worker/lost_subscribers.h"

/* Deaths with the same thing under way, the last one included. */
#define DEATHS_BY_FAULT 2u
#define DEATHS_ANYHOW   3u

/* SIGKILL is somebody else's doing: an operator's, or that of a kernel out of memory. */
static bool died_by_its_own_fault(const struct adoption *adoption)
{
	const struct keeper_hand_over_end *end = &adoption->end;

	if (end->fault)
		return true;
	if (end->status == KEEPER_NO_STATUS)
		return false;
	return (WIFEXITED(end->status) && WEXITSTATUS(end->status) != 0) ||
	       (WIFSIGNALED(end->status) && WTERMSIG(end->status) != SIGKILL);
}

void adopt_judge(struct adoption *adoption)
{
	struct arena *arena = adoption->worker->arena;
	struct arena_header *header = arena->header;
	struct blame_record *blame = &header->last_blamed;
	uint64_t serving = atomic_load(&header->work.serving);
	uint64_t item = serving ? atomic_load(&header->work.serving_item) : 0;
	bool again = serving && blame->serving == serving && blame->item == item;
	uint64_t deaths = !serving ? 0 : again ? blame->deaths + 1 : 1;
	bool guilty = deaths >= (died_by_its_own_fault(adoption) ? DEATHS_BY_FAULT : DEATHS_ANYHOW);
	struct arena_commit commit;

	if (guilty && WORK_KIND(serving) == WORK_SERVING_BATCH)
		adoption->guilty_batch = true;
	else if (guilty)
		adoption->guilty_connection = WORK_REF(serving);
	arena_commit_begin(&commit, arena);
	arena_commit_add(&commit, &blame->serving, serving);
	arena_commit_add(&commit, &blame->item, item);
	arena_commit_add(&commit, &blame->deaths, deaths);
	/* What is said from now on is this worker's. */
	arena_commit_add(&commit, (void *)&header->work.serving, 0);
	arena_commit_add(&commit, (void *)&header->fault, 0);
	arena_commit_apply(&commit);
	if (deaths > 0)
		log_warning("worker_died_serving kind=%u ref=%u item=%llu deaths=%llu fault=%u "
			    "status=%d guilty=%d",
			    WORK_KIND(serving), WORK_REF(serving), (unsigned long long)item,
			    (unsigned long long)deaths, adoption->end.fault,
			    (int)adoption->end.status, (int)guilty);
}

static void punish_connection(struct adoption *adoption)
{
	struct worker *w = adoption->worker;
	struct connection *c = connection_at(w, adoption->guilty_connection);
	char id[37];

	if (c->fd < 0)
		return;
	metric_add(METRIC_takeover_blamed_connections_total, 1);
	connection_id(connection_passport(c), id);
	log_error("connection_blamed client=%s action=close", id);
	node_event_add(NODE_EVENT_BLAMED, "connection %s: workers died serving it", id);
	switch (connection_passport(c)->state) {
	case PASSPORT_STATE_HTTP: http_session_fail(c); break;
	case PASSPORT_STATE_CLOSING:
	case PASSPORT_STATE_DRAINING: connection_close(c, "blamed"); break;
	default: connection_fail(c, WEBSOCKET_CLOSE_INTERNAL_ERROR, "internal error"); break;
	}
}

static void punish_batch(struct adoption *adoption)
{
	struct worker *w = adoption->worker;
	const struct fanout_record *record = &w->arena->header->fanout;
	struct channel *channel;

	if (!record->batch)
		return;
	channel = hub_channel_at(&w->hub, (arena_ref)record->channel);
	metric_add(METRIC_takeover_skipped_batches_total, 1);
	log_error("batch_blamed channel=%s messages=%llu offset=%llu action=skip",
		  log_value(hub_name(&w->hub, channel)), (unsigned long long)record->messages,
		  (unsigned long long)record->last_offset);
	node_event_add(NODE_EVENT_BLAMED, "%llu messages up to offset %llu: workers died of them",
		       (unsigned long long)record->messages,
		       (unsigned long long)record->last_offset);
	fanout_skip(w->fanout);
	/* Never in silence: who counts offsets would miss them. */
	if (record->last_offset)
		lost_subscribers_announce(w, channel);
}

void adopt_punish(struct adoption *adoption)
{
	if (adoption->guilty_connection)
		punish_connection(adoption);
	if (adoption->guilty_batch)
		punish_batch(adoption);
}
