/* SPDX-License-Identifier: ISC */
/*
 * What the tests of the scripts share, see redis_fixture.h.
 */
#include "redis_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/log.h"

const struct redis_publish_channel news = {.channel = {"news", 4},
					   .history_size = 5,
					   .history_ttl_ms = HOUR_MS,
					   .meta_ttl_ms = 24 * HOUR_MS};
const struct redis_publish_channel plain = {.channel = {"plain", 5}};

void finish(struct fixture *f, unsigned before)
{
	WAIT_FOR(f->base, f->answer.count == before + 1);
}

void choose_letters(struct fixture *f, const char *letters)
{
	memcpy(f->fresh_letters, letters, REDIS_EPOCH_LENGTH + 1);
	snprintf(f->fresh_epoch, sizeof(f->fresh_epoch), "%s-%s", letters, f->generation);
}

void wait_for_connections(struct fixture *f)
{
	struct redis_pool_stats stats;

	WAIT_FOR(f->base, (redis_pool_stats(f->pool, &stats),
			   stats.size > 0 && stats.connected == stats.size));
}

/* -- life ---------------------------------------------------------------- */

static void on_settled(void *ctx, const struct redis_continuity_result *result)
{
	struct fixture *f = ctx;

	assert_int_equal(result->outcome.code, REDIS_RESULT_OK);
	assert_int_equal(result->state, REDIS_CONTINUITY_KEPT);
	snprintf(f->run, sizeof(f->run), "%.*s", SLICE_ARG(result->run));
	snprintf(f->generation, sizeof(f->generation), "%.*s", SLICE_ARG(result->generation));
	f->answer.count++;
}

void settle(struct fixture *f)
{
	const struct redis_continuity report = {.worker = SLICE(WORKER),
						.own_run = slice_str(f->run)};
	unsigned before = f->answer.count;

	redis_continuity(f->pool, 1, &report, on_settled, f);
	finish(f, before);
}

static struct fixture *create(unsigned connections)
{
	struct fixture *f = xcalloc(1, sizeof(*f));
	struct redis_endpoint endpoint = {.host = "127.0.0.1"};
	/* As long as a crowded machine may take for all of MANY. */
	struct redis_pool_options options = {.size = connections,
					     .waiting_limit = MANY,
					     .command_timeout_ms = 60000,
					     .connect_timeout_ms = 10000,
					     .reconnect_max_delay_ms = 20};

	f->base = event_base_new();
	f->server = redis_server_start(NULL);
	endpoint.port = redis_server_port(f->server);
	f->pool = redis_pool_create(f->base, &endpoint, &options, NULL, NULL);
	wait_for_connections(f);
	return f;
}

int setup(void **state)
{
	struct fixture *f = create(2);
	char letters[REDIS_EPOCH_LENGTH + 1];

	*state = f;
	settle(f);
	redis_epoch_generate(letters);
	choose_letters(f, letters);
	return 0;
}

int setup_alone(void **state)
{
	*state = create(1);
	return 0;
}

int teardown(void **state)
{
	struct fixture *f = *state;

	redis_pool_destroy(f->pool);
	event_base_free(f->base);
	redis_server_free(f->server);
	buffer_free(&f->answer.text);
	buffer_free(&f->body);
	free(f);
	return 0;
}

void quiet_log(void)
{
	if (log_set_target("file:/dev/null") != 0)
		abort();
}

/* -- looking ------------------------------------------------------------- */

long long integer_of(struct fixture *f, const char *command)
{
	redisReply *reply = redis_server_command(f->server, command);
	long long value = reply->integer;

	assert_int_equal(reply->type, REDIS_REPLY_INTEGER);
	freeReplyObject(reply);
	return value;
}

const char *text_of(struct fixture *f, const char *command)
{
	redisReply *reply = redis_server_command(f->server, command);

	buffer_reset(&f->answer.text);
	if (reply->type != REDIS_REPLY_NIL) {
		assert_int_equal(reply->type, REDIS_REPLY_STRING);
		buffer_append(&f->answer.text, reply->str, reply->len);
	}
	freeReplyObject(reply);
	return buffer_cstr(&f->answer.text);
}

size_t count_keys(struct fixture *f, const char *pattern)
{
	redisReply *reply = redis_server_command(f->server, "KEYS %s", pattern);
	size_t n = reply->elements;

	assert_int_equal(reply->type, REDIS_REPLY_ARRAY);
	freeReplyObject(reply);
	return n;
}

redisContext *subscribe_all(struct fixture *f)
{
	redisContext *context = redis_server_connect(f->server);

	freeReplyObject(redisCommand(context, "PSUBSCRIBE keepsock.*"));
	return context;
}

redisReply *next_message(redisContext *context, struct slice *name, struct redis_envelope *envelope)
{
	redisReply *reply = NULL;

	assert_int_equal(redisGetReply(context, (void **)&reply), REDIS_OK);
	assert_int_equal(reply->elements, 4);
	*name = slice_from(reply->element[2]->str, reply->element[2]->len);
	assert_true(redis_envelope_parse(slice_from(reply->element[3]->str, reply->element[3]->len),
					 envelope));
	return reply;
}

/* -- publishing ---------------------------------------------------------- */

struct redis_publish message_for(struct fixture *f, const char *data,
				 const struct redis_publish_channel *channels, size_t n)
{
	struct redis_body body = {.data = slice_str(data)};

	buffer_reset(&f->body);
	redis_envelope_append_body(&f->body, &body);
	return (struct redis_publish){.kind = REDIS_MESSAGE_PUBLICATION,
				      .body = buffer_slice(&f->body),
				      .epoch = f->fresh_letters,
				      .channels = channels,
				      .n_channels = n};
}

void send_publish(struct fixture *f, const struct redis_publish *message)
{
	unsigned before = f->answer.count;

	redis_publish(f->pool, 1, message, on_publish, &f->answer);
	finish(f, before);
}

void publish(struct fixture *f, const char *data, const struct redis_publish_channel *channel)
{
	struct redis_publish message = message_for(f, data, channel, 1);

	send_publish(f, &message);
	assert_int_equal(f->answer.code, REDIS_RESULT_OK);
}

/* -- callbacks ----------------------------------------------------------- */

static void copy_epoch(char out[REDIS_EPOCH_MAX + 1], struct slice epoch)
{
	assert_true(epoch.len <= REDIS_EPOCH_MAX);
	if (epoch.len > 0)
		memcpy(out, epoch.data, epoch.len);
	out[epoch.len] = '\0';
}

void start_answer(struct answer *a, const struct redis_outcome *outcome)
{
	a->count++;
	a->code = outcome->code;
	a->n = 0;
	buffer_reset(&a->text);
}

static void copy_publications(struct answer *a, const struct redis_publication *publications,
			      size_t n)
{
	assert_true(n <= sizeof(a->offsets) / sizeof(a->offsets[0]));
	a->n = n;
	for (size_t i = 0; i < n; i++) {
		a->offsets[i] = publications[i].offset;
		buffer_append_slice(&a->text, publications[i].body.data);
	}
}

void on_publish(void *ctx, const struct redis_publish_result *result)
{
	struct answer *a = ctx;

	start_answer(a, &result->outcome);
	a->duplicate = result->duplicate;
	a->n = result->n_channels;
	for (size_t i = 0; i < a->n && i < 8; i++) {
		a->positions[i] = result->channels[i];
		copy_epoch(a->epochs[i], result->channels[i].epoch);
	}
}

void on_subscribe(void *ctx, const struct redis_subscribe_result *result)
{
	struct answer *a = ctx;

	start_answer(a, &result->outcome);
	a->sequence = result->sequence;
	a->top = result->top;
	a->truncated = result->truncated;
	a->joined = result->joined;
	copy_epoch(a->epoch, result->epoch);
	copy_publications(a, result->publications, result->n_publications);
}

void on_history(void *ctx, const struct redis_history_result *result)
{
	struct answer *a = ctx;

	start_answer(a, &result->outcome);
	a->top = result->top;
	a->truncated = result->truncated;
	copy_epoch(a->epoch, result->epoch);
	copy_publications(a, result->publications, result->n_publications);
}

void on_count(void *ctx, const struct redis_count_result *result)
{
	struct answer *a = ctx;

	start_answer(a, &result->outcome);
	a->number = result->count;
}

void on_presence(void *ctx, const struct redis_presence_result *result)
{
	struct answer *a = ctx;

	start_answer(a, &result->outcome);
	a->n = result->n_members;
	for (size_t i = 0; i < result->n_members; i++) {
		const struct redis_presence_member *m = &result->members[i];

		buffer_printf(&a->text, "<%.*s %.*s %.*s>", SLICE_ARG(m->client),
			      SLICE_ARG(m->user), SLICE_ARG(m->info));
	}
}

void on_presence_stats(void *ctx, const struct redis_presence_stats_result *result)
{
	struct answer *a = ctx;

	start_answer(a, &result->outcome);
	a->number = result->n_clients;
	a->users = result->n_users;
}
