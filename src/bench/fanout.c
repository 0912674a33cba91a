/* SPDX-License-Identifier: ISC */
/*
 * keepsock-bench fanout: one publisher, many subscribers. Publications are
 * numbered; a subscriber that misses one, gets one twice or out of order fails
 * the run at once.
 */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "crowd.h"
#include "keepsock/alloc.h"
#include "keepsock/clock.h"
#include "keepsock/json.h"
#include "measure.h"
#include "publisher.h"

#define NUMBER_DIGITS 12

struct publication {
	uint64_t sent_ns;
	uint64_t delivered; /* to so many subscribers */
};

struct fanout {
	struct bench *bench;
	struct crowd crowd;
	struct publisher *publishers;     /* owned; publication n is made by number n modulo all */
	uint64_t *expected;               /* owned; next number, by subscriber and publisher */
	struct publication *publications; /* owned; of this run */
	struct buffer data;               /* what is published: digits first, then filler */
	struct histogram delivery;        /* publish to each subscriber */
	struct histogram completion;      /* publish to the last one */
	uint64_t first;                   /* number of this run's first publication */
	uint64_t total;                   /* of this run */
	uint64_t published;
	uint64_t completed;
	uint64_t begun_ns;
};

/* ---- publications ---- */

/* Where the digits are: behind the quote of a JSON string, or at the start. */
static size_t digits_at(const struct fanout *fanout)
{
	return fanout->bench->options->raw ? 0 : 1;
}

static void build_data(struct fanout *fanout)
{
	const struct bench_options *options = fanout->bench->options;
	struct buffer envelope = {0};
	size_t filler;

	if (options->socket_io) {
		buffer_append_str(&envelope, "42[\"m\",\"\"]");
	} else if (!options->raw) {
		buffer_append_str(&envelope, "{\"push\":{\"channel\":");
		json_append_string(&envelope, slice_str(options->channel));
		buffer_append_str(&envelope, ",\"pub\":{\"data\":\"\"}}}");
	}
	filler = envelope.len + NUMBER_DIGITS;
	filler = options->size > filler ? (size_t)options->size - filler : 0;
	buffer_append_str(&fanout->data, options->raw ? "" : "\"");
	buffer_printf(&fanout->data, "%0*d", NUMBER_DIGITS, 0);
	for (size_t i = 0; i < filler; i++)
		buffer_append_char(&fanout->data, (char)('a' + i % 26));
	buffer_append_str(&fanout->data, options->raw ? "" : "\"");
	buffer_free(&envelope);
}

static struct publisher *next_publisher(const struct fanout *fanout)
{
	return &fanout->publishers[(fanout->first + fanout->published) %
				   fanout->bench->options->publishers];
}

static bool all_answered(const struct fanout *fanout)
{
	for (uint64_t i = 0; i < fanout->bench->options->publishers; i++)
		if (fanout->publishers[i].unanswered > 0)
			return false;
	return true;
}

static void publish_next(struct fanout *fanout)
{
	uint64_t number = fanout->first + fanout->published;
	struct publisher *publisher = next_publisher(fanout);
	char *digit = fanout->data.data + digits_at(fanout) + NUMBER_DIGITS;

	for (int i = 0; i < NUMBER_DIGITS; i++, number /= 10)
		*--digit = (char)('0' + number % 10);
	fanout->publications[fanout->published++] = (struct publication){clock_boottime_ns(), 0};
	publisher_send(publisher, buffer_slice(&fanout->data));
}

/* How many publications may have been made by now. */
static uint64_t due(const struct fanout *fanout)
{
	const struct bench_options *options = fanout->bench->options;
	uint64_t limit = fanout->completed + options->in_flight;

	if (options->rate > 0)
		limit = (clock_boottime_ns() - fanout->begun_ns) / 1000 * options->rate / 1000000 +
			1;
	return limit < fanout->total ? limit : fanout->total;
}

static int fanout_step(void *ctx)
{
	struct fanout *fanout = ctx;
	uint64_t limit = due(fanout);

	while (fanout->published < limit && publisher_ready(next_publisher(fanout)))
		publish_next(fanout);
	for (uint64_t i = 0; i < fanout->bench->options->publishers; i++)
		publisher_flush(&fanout->publishers[i]);
	if (fanout->completed == fanout->total && all_answered(fanout))
		return LOOP_DONE;
	return fanout->bench->options->rate > 0 && fanout->published < fanout->total ? 1
										     : LOOP_NO_WAKE;
}

/* ---- deliveries ---- */

static bool parse_number(struct slice data, size_t at, uint64_t *number)
{
	*number = 0;
	if (data.len < at + NUMBER_DIGITS)
		return false;
	for (size_t i = at; i < at + NUMBER_DIGITS; i++) {
		if (data.data[i] < '0' || data.data[i] > '9')
			return false;
		*number = *number * 10 + (uint64_t)(data.data[i] - '0');
	}
	return true;
}

static void on_delivery(struct session *session, struct slice data)
{
	struct fanout *fanout = crowd_owner(session);
	uint64_t publishers = fanout->bench->options->publishers;
	struct publication *publication;
	uint64_t number, latency, *expected;

	if (!parse_number(data, digits_at(fanout), &number) || data.len != fanout->data.len) {
		loop_fail(&fanout->bench->loop, "subscriber %zu: got something never published",
			  session->index);
		return;
	}
	expected = &fanout->expected[session->index * publishers + number % publishers];
	if (number != *expected || number >= fanout->first + fanout->published) {
		loop_fail(&fanout->bench->loop,
			  "subscriber %zu: expected publication %llu and got %llu", session->index,
			  (unsigned long long)*expected, (unsigned long long)number);
		return;
	}
	*expected += publishers;
	publication = &fanout->publications[number - fanout->first];
	latency = clock_boottime_ns() - publication->sent_ns;
	histogram_add(&fanout->delivery, latency);
	if (++publication->delivered == fanout->crowd.count) {
		fanout->completed++;
		histogram_add(&fanout->completion, latency);
	}
}

/* ---- the command ---- */

static int run(void *ctx, uint64_t messages)
{
	struct fanout *fanout = ctx;
	int result;

	fanout->first += fanout->total;
	fanout->total = messages;
	fanout->published = 0;
	fanout->completed = 0;
	fanout->publications = xcalloc((size_t)messages, sizeof(*fanout->publications));
	fanout->begun_ns = clock_boottime_ns();
	result = loop_run(&fanout->bench->loop, fanout_step, fanout, "deliveries");
	free(fanout->publications);
	fanout->publications = NULL;
	/* The warm-up is the first run and does not count. */
	if (fanout->first == 0 && fanout->bench->options->warm_up > 0)
		histogram_reset(&fanout->completion);
	return result;
}

static int measure(struct fanout *fanout)
{
	struct report *report = &fanout->bench->report;
	int result = rounds_measure(&(struct rounds){.bench = fanout->bench,
						     .unit = "deliveries",
						     .run = run,
						     .ctx = fanout,
						     .units_per_message = fanout->crowd.count,
						     .latency = &fanout->delivery});

	if (result == 0) {
		report_latency(report, "delivery", &fanout->delivery);
		report_latency(report, "last_delivery", &fanout->completion);
	}
	return result;
}

int bench_fanout(struct bench *bench)
{
	const struct bench_options *options = bench->options;
	const struct session_handler handler = {.role = "subscriber",
						.raw = options->raw,
						.socket_io = options->socket_io,
						.channel = options->channel,
						.on_message = on_delivery};
	size_t count = (size_t)options->connections, publishers = (size_t)options->publishers;
	struct fanout *fanout = xcalloc(1, sizeof(*fanout));
	size_t opened = 0;
	int result;

	fanout->bench = bench;
	fanout->publishers = xcalloc(publishers, sizeof(*fanout->publishers));
	fanout->expected = xcalloc(count * publishers, sizeof(*fanout->expected));
	for (size_t i = 0; i < count * publishers; i++)
		fanout->expected[i] = i % publishers;
	build_data(fanout);
	result = crowd_open(&fanout->crowd, &bench->loop, &bench->target, &handler, fanout, count,
			    BENCH_OPENING_LIMIT, 0);
	for (size_t i = 0; result == 0 && i < publishers; i++, opened++)
		result = publisher_open(&fanout->publishers[i], &bench->loop, options);
	if (result == 0)
		result = measure(fanout);
	for (size_t i = 0; i < opened; i++)
		publisher_close(&fanout->publishers[i]);
	crowd_close(&fanout->crowd);
	buffer_free(&fanout->data);
	free(fanout->publishers);
	free(fanout->expected);
	free(fanout);
	return result;
}
