/* SPDX-License-Identifier: ISC */
/*
 * Purges, see purge.h. Run by the worker; any number of workers may purge the
 * same one at the same time, the script sees to it that each member leaves
 * once. One that was not dead registers again.
 */
#include "worker/purge.h"

#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/log.h"
#include "keepsock/node_events.h"
#include "keepsock/redis_continuity.h"
#include "keepsock/redis_keys.h"
#include "worker/loop_watch.h"

/* Several purges that somebody waits for as one. */
struct purge_job {
	purge_callback callback;
	void *ctx;
	unsigned due; /* answers */
	uint64_t workers, members;
	const char *error; /* static */
	char node[REDIS_WORKER_NAME_MAX + 1];
};

/* Of one worker on one shard. */
struct redis_purge_run {
	struct redis_purge_run *next, **link; /* of all of its shard */
	struct redis_shard *shard;
	struct purge_job *job; /* NULL: nobody waits */
	uint64_t removed;
	bool begun;
	char name[REDIS_WORKER_NAME_MAX + 1];
};

/* --- names --- */

/* "<node>.<slot>.<incarnation>"; a node's name may hold dots. False: it is none. */
static bool split_name(struct slice name, struct slice *node, uint64_t *slot)
{
	const char *last = name.len ? memrchr(name.data, '.', name.len) : NULL;
	const char *middle = last && last > name.data
				     ? memrchr(name.data, '.', (size_t)(last - name.data))
				     : NULL;

	if (!middle || middle + 1 == last || last - middle > 10)
		return false;
	*node = slice_from(name.data, (size_t)(middle - name.data));
	*slot = 0;
	for (const char *at = middle + 1; at < last; at++) {
		if (*at < '0' || *at > '9')
			return false;
		*slot = *slot * 10 + (uint64_t)(*at - '0');
	}
	return true;
}

static bool is_own_name(const struct worker *w, struct slice name)
{
	return slice_equal(name, slice_str(w->worker_name));
}

static bool is_predecessor(const struct worker *w, struct slice name)
{
	struct slice node;
	uint64_t slot;

	return split_name(name, &node, &slot) && slice_equal(node, slice_str(w->start.node)) &&
	       (slot == w->start.slot || slot >= w->start.slots) && !is_own_name(w, name);
}

/* --- jobs --- */

static struct purge_job *job_new(purge_callback callback, void *ctx)
{
	struct purge_job *job = xcalloc(1, sizeof(*job));

	job->callback = callback;
	job->ctx = ctx;
	return job;
}

/* One answer less is due. */
static void job_advance(struct purge_job *job, const char *error)
{
	if (!job)
		return;
	if (error)
		job->error = error;
	if (--job->due > 0)
		return;
	job->callback(job->ctx, job->error, job->workers, job->members);
	free(job);
}

/* --- one worker --- */

static void purge_step(struct redis_purge_run *run, bool dead);

static void run_end(struct redis_purge_run *run, const char *error)
{
	struct purge_job *job = run->job;

	if (run->begun || run->removed > 0) {
		log_warning("worker_purged name=%s shard=%u members=%llu", log_value_str(run->name),
			    run->shard->index, (unsigned long long)run->removed);
		node_event_add(NODE_EVENT_PURGED, "%s, shard %u: %llu members", run->name,
			       run->shard->index, (unsigned long long)run->removed);
	}
	metric_add(METRIC_workers_purged_total, run->begun);
	if (job) {
		job->workers += run->begun;
		job->members += run->removed;
	}
	*run->link = run->next;
	if (run->next)
		run->next->link = run->link;
	free(run);
	job_advance(job, error);
}

static void on_purged(void *ctx, const struct redis_purge_result *result)
{
	struct redis_purge_run *run = ctx;

	loop_watch_begin(run->shard->worker, LOOP_REDIS_REPLY);
	if (result->outcome.code != REDIS_RESULT_OK) {
		/* Whoever hears of it next goes on. */
		run_end(run, "redis did not answer");
		return;
	}
	run->begun = run->begun || result->begun;
	run->removed += result->removed;
	if (result->left > 0)
		purge_step(run, false);
	else
		run_end(run, NULL);
}

static void purge_step(struct redis_purge_run *run, bool dead)
{
	const struct redis_purge purge = {
		.worker = slice_str(run->name),
		.dead = dead,
		.node_timeout_ms = (uint64_t)run->shard->worker->settings.cluster.node_timeout,
	};

	redis_purge(run->shard->pool, run->shard->index, &purge, on_purged, run);
}

/* Nothing if this worker is at it already and nobody waits for it. */
static void purge_worker(struct redis_shard *shard, struct slice name, bool dead,
			 struct purge_job *job)
{
	struct redis_purge_run *run = shard->purges;

	while (run && !slice_equal(slice_str(run->name), name))
		run = run->next;
	if ((run && !job) || name.len > REDIS_WORKER_NAME_MAX)
		return;
	run = xcalloc(1, sizeof(*run));
	memcpy(run->name, name.data, name.len);
	run->shard = shard;
	run->job = job;
	if (job)
		job->due++;
	run->link = &shard->purges;
	run->next = shard->purges;
	if (run->next)
		run->next->link = &run->next;
	shard->purges = run;
	purge_step(run, dead);
}

bool purge_silent(struct redis_shard *shard, struct slice name)
{
	if (is_own_name(shard->worker, name) || name.len > REDIS_WORKER_NAME_MAX)
		return false;
	purge_worker(shard, name, false, NULL);
	return true;
}

/* --- predecessors --- */

static void on_predecessors(void *ctx, const struct redis_workers_result *result)
{
	struct redis_shard *shard = ctx;

	loop_watch_begin(shard->worker, LOOP_REDIS_REPLY);
	/* Otherwise the next heartbeat asks again. */
	shard->predecessors_asked = result->outcome.code == REDIS_RESULT_OK;
	for (size_t i = 0; i < result->n_workers; i++) {
		if (is_predecessor(shard->worker, result->workers[i].name))
			purge_worker(shard, result->workers[i].name, true, NULL);
	}
}

void purge_predecessors(struct redis_shard *shard)
{
	if (shard->predecessors_asked)
		return;
	shard->predecessors_asked = true;
	redis_workers_read(shard->pool, shard->index, on_predecessors, shard);
}

/* --- a node, on somebody's word --- */

struct node_question {
	struct redis_shard *shard;
	struct purge_job *job;
};

static void on_workers_of_node(void *ctx, const struct redis_workers_result *result)
{
	struct node_question *question = ctx;
	struct purge_job *job = question->job;
	struct redis_shard *shard = question->shard;

	loop_watch_begin(shard->worker, LOOP_REDIS_REPLY);
	free(question);
	for (size_t i = 0; i < result->n_workers; i++) {
		struct slice node;
		uint64_t slot;

		if (split_name(result->workers[i].name, &node, &slot) &&
		    slice_equal(node, slice_str(job->node)))
			purge_worker(shard, result->workers[i].name, true, job);
	}
	job_advance(job, result->outcome.code == REDIS_RESULT_OK ? NULL : "redis did not answer");
}

void purge_node(struct worker *w, struct slice node, purge_callback callback, void *ctx)
{
	struct purge_job *job = job_new(callback, ctx);

	if (node.len < sizeof(job->node))
		memcpy(job->node, node.data, node.len);
	job->due = w->shard_count;
	for (unsigned i = 0; i < w->shard_count; i++) {
		struct node_question *question = xcalloc(1, sizeof(*question));

		question->shard = &w->shards[i];
		question->job = job;
		redis_workers_read(w->shards[i].pool, i, on_workers_of_node, question);
	}
}

void purge_self(struct worker *w, purge_callback callback, void *ctx)
{
	struct purge_job *job = job_new(callback, ctx);

	/* One of its own, so that the last answer comes last. */
	job->due = 1;
	for (unsigned i = 0; i < w->shard_count; i++)
		purge_worker(&w->shards[i], slice_str(w->worker_name), true, job);
	job_advance(job, NULL);
}
