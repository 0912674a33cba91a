/* SPDX-License-Identifier: ISC */
/*
 * keepsock-bench echo: bursts of messages to an echo URL. Every message carries
 * its connection's number and is compared when it comes back, so a server that
 * mixes connections up or changes a byte fails the run.
 */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "crowd.h"
#include "keepsock/alloc.h"
#include "keepsock/clock.h"
#include "measure.h"

/* What a connection waits for. */
struct burst {
	uint64_t pending; /* messages not back yet */
	uint64_t sent_ns;
};

struct echo {
	struct bench *bench;
	struct crowd crowd;
	struct burst *bursts;   /* owned; by connection */
	struct buffer expected; /* the payloads of all connections, size bytes each */
	struct buffer frames;   /* scratch: the burst being built */
	struct histogram latency;
	uint64_t to_send;
	uint64_t to_receive;
};

static struct slice payload_of(const struct echo *echo, size_t index)
{
	size_t size = (size_t)echo->bench->options->size;

	return slice_from(echo->expected.data + index * size, size);
}

/* "17.17.17.17.…", cut to size. */
static void build_payloads(struct echo *echo)
{
	size_t size = (size_t)echo->bench->options->size;

	for (size_t index = 0; index < echo->crowd.count; index++) {
		size_t end = (index + 1) * size;

		while (echo->expected.len < end)
			buffer_printf(&echo->expected, "%zu.", index);
		echo->expected.len = end;
	}
}

static void send_burst(struct echo *echo, struct session *session)
{
	struct burst *burst = &echo->bursts[session->index];
	struct slice payload = payload_of(echo, session->index);
	uint64_t count = echo->bench->options->in_flight;

	if (count > echo->to_send)
		count = echo->to_send;
	if (count == 0)
		return;
	echo->to_send -= count;
	burst->pending = count;
	buffer_reset(&echo->frames);
	for (uint64_t i = 0; i < count; i++)
		ws_client_frame(&echo->frames, payload);
	burst->sent_ns = clock_boottime_ns();
	ws_client_send(&session->client, buffer_slice(&echo->frames));
}

static void on_message(struct session *session, struct slice data)
{
	struct echo *echo = crowd_owner(session);
	struct burst *burst = &echo->bursts[session->index];

	if (burst->pending == 0 || !slice_equal(data, payload_of(echo, session->index))) {
		loop_fail(&echo->bench->loop, "connection %zu: %s", session->index,
			  burst->pending == 0 ? "more messages than were sent"
					      : "a message came back changed");
		return;
	}
	histogram_add(&echo->latency, clock_boottime_ns() - burst->sent_ns);
	echo->to_receive--;
	if (--burst->pending == 0)
		send_burst(echo, session);
}

static int echo_step(void *ctx)
{
	struct echo *echo = ctx;

	return echo->to_receive == 0 ? LOOP_DONE : LOOP_NO_WAKE;
}

static int run(void *ctx, uint64_t messages)
{
	struct echo *echo = ctx;

	echo->to_send = messages;
	echo->to_receive = messages;
	for (size_t i = 0; i < echo->crowd.count; i++)
		send_burst(echo, &echo->crowd.sessions[i]);
	return loop_run(&echo->bench->loop, echo_step, echo, "echoes");
}

int bench_echo(struct bench *bench)
{
	static const struct session_handler handler = {
		.role = "connection", .raw = true, .on_message = on_message};
	const struct bench_options *options = bench->options;
	size_t count = (size_t)options->connections;
	struct echo *echo = xcalloc(1, sizeof(*echo));
	int result;

	echo->bench = bench;
	echo->bursts = xcalloc(count, sizeof(*echo->bursts));
	result = crowd_open(&echo->crowd, &bench->loop, &bench->target, &handler, echo, count,
			    BENCH_OPENING_LIMIT, 0);
	if (result == 0) {
		build_payloads(echo);
		result = rounds_measure(&(struct rounds){.bench = bench,
							 .unit = "messages",
							 .run = run,
							 .ctx = echo,
							 .units_per_message = 1,
							 .latency = &echo->latency});
	}
	if (result == 0)
		report_latency(&bench->report, "echo", &echo->latency);
	crowd_close(&echo->crowd);
	buffer_free(&echo->expected);
	buffer_free(&echo->frames);
	free(echo->bursts);
	free(echo);
	return result;
}
