/* SPDX-License-Identifier: ISC */
/*
 * Opens many connections without asking more of the server at once than told.
 */
#include "crowd.h"

#include <assert.h>
#include <stdlib.h>

#include "keepsock/alloc.h"
#include "keepsock/clock.h"

/* Descriptors besides the connections': standard streams, epoll, the publisher, libraries. */
#define OTHER_DESCRIPTORS 32

static struct crowd *crowd_of(const struct session *session)
{
	struct crowd *crowd = session->owner;

	assert(crowd->magic == CROWD_MAGIC);
	return crowd;
}

void *crowd_owner(const struct session *session)
{
	return crowd_of(session)->owner;
}

static void on_ready(struct session *session)
{
	struct crowd *crowd = crowd_of(session);

	crowd->ready++;
	histogram_add(crowd->latency, clock_boottime_ns() - session->started_ns);
}

/* How many may be started by now. */
static size_t due(const struct crowd *crowd)
{
	size_t limit = crowd->ready + crowd->in_flight;
	uint64_t paced = UINT64_MAX;

	if (crowd->rate > 0)
		paced = (clock_boottime_ns() - crowd->begun_ns) / 1000 * crowd->rate / 1000000 + 1;
	if (limit > paced)
		limit = (size_t)paced;
	return limit < crowd->count ? limit : crowd->count;
}

static int crowd_step(void *ctx)
{
	struct crowd *crowd = ctx;
	size_t limit = due(crowd);

	while (crowd->started < limit) {
		size_t index = crowd->started++;

		if (session_open(&crowd->sessions[index], crowd->loop, crowd->target,
				 &crowd->handler, crowd, index) != 0)
			return LOOP_NO_WAKE;
	}
	if (crowd->ready == crowd->count)
		return LOOP_DONE;
	return crowd->rate > 0 && crowd->started < crowd->count ? 1 : LOOP_NO_WAKE;
}

int crowd_open(struct crowd *crowd, struct loop *loop, const struct target *target,
	       const struct session_handler *handler, void *owner, size_t count, size_t in_flight,
	       uint64_t rate)
{
	size_t limit;

	*crowd = (struct crowd){
		.magic = CROWD_MAGIC,
		.loop = loop,
		.target = target,
		.handler = *handler,
		.owner = owner,
		.sessions = xcalloc(count, sizeof(*crowd->sessions)),
		.latency = xcalloc(1, sizeof(*crowd->latency)),
		.count = count,
		.in_flight = in_flight,
		.rate = rate,
		.begun_ns = clock_boottime_ns(),
	};
	crowd->handler.on_ready = on_ready;
	if (!target_reserve_descriptors(count + OTHER_DESCRIPTORS, &limit)) {
		loop_fail(loop,
			  "%zu connections need %zu descriptors and the limit is %zu: raise it "
			  "(ulimit -Hn) or run several load generators",
			  count, count + OTHER_DESCRIPTORS, limit);
		return -1;
	}
	return loop_run(loop, crowd_step, crowd, "the connections to open");
}

void crowd_close(struct crowd *crowd)
{
	for (size_t i = 0; i < crowd->started; i++)
		session_close(&crowd->sessions[i]);
	free(crowd->sessions);
	free(crowd->latency);
	crowd->started = 0;
}
