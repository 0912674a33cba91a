/* SPDX-License-Identifier: ISC */
/*
 * The subscription connection, its delivery and the shared fan-out with a real
 * arena and real sockets: the test plays Redis on the other side, subscribers'
 * connections and the loop's clock are its own. What is hard to time from
 * outside is here: a connection that ends in the middle of a fan-out, and two
 * deliveries that both want to send.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <event2/event.h>
#include <malloc.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "arena_world.h"
#include "keepsock/alloc.h"
#include "keepsock/clock.h"
#include "keepsock/redis_keys.h"
#include "worker/continuity.h"
#include "worker/delivery.h"
#include "worker/deposits.h"
#include "worker/fanout.h"
#include "worker/heartbeat.h"
#include "worker/loop_watch.h"
#include "worker/lost_subscribers.h"
#include "worker/move.h"
#include "worker/redis_subscription.h"
#include "worker/shards.h"
#include "worker/subscribing.h"
#include "worker/survey.h"

#define MEMBERS 3
#define MANY    1000

/* Of AddressSanitizer, if the test is built with it. */
size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

/* The other side of one subscription connection. */
struct server {
	int listener, link; /* owned; -1 */
	uint16_t port;
};

struct stage {
	struct world *world;
	struct worker w;
	struct redis_shard shards[2];
	struct server server;
	arena_ref passports[MEMBERS];
	int peers[MEMBERS]; /* what subscribers read; owned */
	unsigned insufficient;
	arena_ref deposited; /* passport of the connection that the keeper has */
};

static struct stage *stage;

/* ---- what the connection and the fan-out call ---- */

static bool slices_of_one; /* each slice serves one subscriber */

bool loop_slice_spent(struct worker *w, unsigned cost)
{
	(void)w;
	(void)cost;
	return slices_of_one;
}

void loop_watch_subject(struct worker *w, uint64_t word)
{
	(void)w;
	(void)word;
}

void loop_watch_begin(struct worker *w, enum loop_activity activity)
{
	(void)activity;
	w->now_ms = clock_boottime_ms();
}

void connection_close(struct connection *c, const char *why)
{
	(void)c;
	fail_msg("a subscriber is closed: %s", why);
}

struct slice connection_id(const struct passport *passport, char out[37])
{
	(void)passport;
	out[0] = '\0';
	return SLICE("");
}

/* Every run is settled as soon as it is known. */
void continuity_ask(struct redis_shard *shard)
{
	redis_subscription_settled(shard->subscription);
}

void heartbeat_start(struct redis_shard *shard)
{
	(void)shard;
}

void heartbeat_on_probe(struct redis_shard *shard)
{
	(void)shard;
}

void move_out_on_probe(struct worker *worker, unsigned shard, struct slice data)
{
	(void)worker;
	(void)shard;
	(void)data;
}

void survey_on_control(struct survey *survey, struct slice name, struct slice payload)
{
	(void)survey;
	(void)name;
	(void)payload;
}

void subscribing_joined(struct worker *w, struct channel *channel, bool available)
{
	(void)w;
	(void)available;
	assert_null(channel->waiters);
}

void lost_subscribers_announce(struct worker *w, struct channel *channel)
{
	(void)w;
	(void)channel;
	stage->insufficient++;
}

void control_ready(struct worker *w)
{
	(void)w;
}

bool shards_subscribed(const struct worker *w)
{
	(void)w;
	return true;
}

void deposits_add_redis(struct worker *w, uint32_t shard, arena_ref passport, int fd)
{
	(void)w;
	assert_int_equal(shard, 0);
	assert_int_not_equal(passport, 0);
	assert_true(fd >= 0);
	assert_int_equal(stage->deposited, 0);
	stage->deposited = passport;
}

void deposits_release_redis(struct worker *w, uint32_t shard)
{
	(void)w;
	assert_int_equal(shard, 0);
	stage->deposited = 0;
}

struct redis_shard *worker_channel_shard(const struct worker *w, struct channel *channel)
{
	return &w->shards[channel->shard];
}

void worker_channel_review(struct worker *w, struct channel *channel)
{
	redis_subscription_review(worker_channel_shard(w, channel)->subscription, channel);
}

/* ---- the server ---- */

static void server_open(struct server *server)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);

	server->link = -1;
	server->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(server->listener, (struct sockaddr *)&address, length), 0);
	assert_int_equal(listen(server->listener, 8), 0);
	assert_int_equal(getsockname(server->listener, (struct sockaddr *)&address, &length), 0);
	server->port = ntohs(address.sin_port);
}

static void server_say(const char *text)
{
	assert_int_equal(write(stage->server.link, text, strlen(text)), strlen(text));
}

static void turn(void)
{
	event_base_loop(stage->w.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	redis_subscription_settle(stage->shards[0].subscription);
}

/* Lets the loop run until the worker has sent this. */
static void server_expect(const char *wanted)
{
	char got[4096];
	size_t length = 0;
	uint64_t end = clock_boottime_ms() + 10000;

	got[0] = '\0';
	while (!strstr(got, wanted)) {
		ssize_t n;

		assert_true(clock_boottime_ms() < end);
		turn();
		if (stage->server.link < 0) {
			stage->server.link = accept(stage->server.listener, NULL, NULL);
			continue;
		}
		n = recv(stage->server.link, got + length, sizeof(got) - 1 - length, MSG_DONTWAIT);
		length += n > 0 ? (size_t)n : 0;
		got[length] = '\0';
	}
}

static void server_confirm(const char *name, int count)
{
	char text[256];

	snprintf(text, sizeof(text), "*3\r\n$9\r\nsubscribe\r\n$%zu\r\n%s\r\n:%d\r\n", strlen(name),
		 name, count);
	server_say(text);
}

/* A publication without history. */
static void server_publish(const char *channel, uint64_t sequence, const char *json)
{
	struct buffer body = {0}, message = {0}, text = {0};
	struct redis_envelope envelope = {
		.kind = REDIS_MESSAGE_PUBLICATION,
		.sequence = sequence,
		.body.data = slice_str(json),
	};

	redis_envelope_append(&message, &envelope);
	buffer_printf(&body, "keepsock.channel.%s", channel);
	buffer_printf(&text, "*3\r\n$7\r\nmessage\r\n$%zu\r\n%s\r\n$%zu\r\n", body.len,
		      buffer_cstr(&body), message.len);
	buffer_append_slice(&text, buffer_slice(&message));
	buffer_append_str(&text, "\r\n");
	server_say(buffer_cstr(&text));
	buffer_free(&body);
	buffer_free(&message);
	buffer_free(&text);
}

/* From a fresh connection to one that hears the channel "c". */
static void server_welcome(void)
{
	server_expect("INFO");
	server_say("$38\r\nrole:master\r\nrun_id:abcdef0123456789\r\n\r\n");
	server_expect(REDIS_CONTROL_CHANNEL);
	server_confirm(REDIS_PROBE_CHANNEL, 1);
	server_confirm(REDIS_CONTROL_CHANNEL, 2);
	server_confirm("keepsock.reply.a.0", 3);
	server_expect("keepsock.channel.c");
	server_confirm("keepsock.channel.c", 4);
}

static void server_hang_up(void)
{
	close(stage->server.link);
	stage->server.link = -1;
}

/* ---- the stage ---- */

static void subscribe(struct channel *channel, size_t member)
{
	passport_draft_begin(&stage->world->draft, stage->passports[member]);
	assert_int_not_equal(hub_subscription_add(&stage->w.hub, &stage->world->draft, channel, 0,
						  SUBSCRIPTION_POSITIONED),
			     0);
	assert_true(passport_draft_commit(&stage->world->draft));
	hub_subscription_counted(&stage->w.hub, 1);
}

static void position(struct channel *channel, uint64_t sequence)
{
	struct arena_commit commit;

	arena_commit_begin(&commit, stage->w.arena);
	hub_position_set(&stage->w.hub, &commit, channel, SLICE(""), 0, sequence);
	arena_commit_apply(&commit);
}

static void add_member(size_t member)
{
	struct passport fresh = {.kind = PASSPORT_CLIENT, .state = PASSPORT_STATE_CONNECTED};
	struct connection *c;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	stage->passports[member] = passport_create(stage->w.arena, &fresh);
	stage->peers[member] = pair[1];
	c = connection_at(&stage->w, stage->passports[member]);
	c->worker = &stage->w;
	c->passport = stage->passports[member];
	c->fd = pair[0];
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
}

static int setup(void **state)
{
	static char node[] = "a", host[] = "127.0.0.1", empty[] = "";
	struct worker *w;

	(void)state;
	stage = xcalloc(1, sizeof(*stage));
	stage->world = world_new(16 * MIB);
	w = &stage->w;
	w->arena = stage->world->arena;
	w->hub = stage->world->hub;
	w->base = event_base_new();
	w->turn = evtimer_new(w->base, on_turn, NULL);
	w->settings.redis.connect_timeout = 5000;
	w->settings.redis.command_timeout = 5000;
	w->settings.redis.reconnect_max_delay = 50;
	w->start.node = node;
	w->shards = stage->shards;
	w->shard_count = 2;
	passport_draft_init(&w->draft, w->arena);
	w->fanout = fanout_create(w);
	server_open(&stage->server);
	w->start.shards[0] = (struct ipc_redis){host, stage->server.port, empty, empty, 0};
	for (unsigned i = 0; i < 2; i++) {
		stage->shards[i].worker = w;
		stage->shards[i].index = i;
		stage->shards[i].record = &w->arena->header->shards[i];
	}
	for (size_t i = 0; i < MEMBERS; i++)
		add_member(i);
	slices_of_one = false;
	return 0;
}

static int teardown(void **state)
{
	struct worker *w = &stage->w;

	(void)state;
	redis_subscription_free(stage->shards[0].subscription);
	for (size_t i = 0; i < MEMBERS; i++) {
		close(connection_at(w, stage->passports[i])->fd);
		close(stage->peers[i]);
	}
	if (stage->server.link >= 0)
		close(stage->server.link);
	close(stage->server.listener);
	fanout_free(w->fanout);
	passport_draft_free(&w->draft);
	event_free(w->turn);
	event_base_free(w->base);
	buffer_free(&w->frame);
	buffer_free(&w->scratch);
	buffer_free(&w->packed);
	stage->world->hub = w->hub;
	world_free(stage->world);
	free(stage);
	return 0;
}

/* What a subscriber has received since the last look: the data of its publications. */
static const char *received(size_t member)
{
	static char data[256];
	char bytes[4096];
	ssize_t n = recv(stage->peers[member], bytes, sizeof(bytes) - 1, MSG_DONTWAIT);
	const char *at = bytes;
	size_t length = 0;

	bytes[n > 0 ? n : 0] = '\0';
	for (ssize_t i = 0; i < n; i++) {
		if (bytes[i] == '\0')
			bytes[i] = ' ';
	}
	data[0] = '\0';
	while ((at = strstr(at, "\"data\":"))) {
		at += 7;
		length += (size_t)snprintf(data + length, sizeof(data) - length, "%s%.*s",
					   length ? " " : "", (int)strcspn(at, "}"), at);
	}
	return data;
}

static void run_until_received(size_t member, const char *wanted)
{
	uint64_t end = clock_boottime_ms() + 10000;
	const char *got = "";

	while (got[0] == '\0') {
		assert_true(clock_boottime_ms() < end);
		turn();
		got = received(member);
	}
	assert_string_equal(got, wanted);
}

/* A live connection on which "c" is heard by all members, served up to sequence 100. */
static struct channel *hear_channel(void)
{
	struct channel *channel = hub_get(&stage->w.hub, SLICE("c"));

	stage->shards[0].subscription = redis_subscription_create(&stage->shards[0]);
	for (size_t i = 0; i < MEMBERS; i++)
		subscribe(channel, i);
	worker_channel_review(&stage->w, channel);
	server_welcome();
	while (hub_record(&stage->w.hub, channel)->state != CHANNEL_JOINED)
		turn();
	position(channel, 100);
	return channel;
}

/* ---- tests ---- */

static void test_messages_reach_everybody_once(void **state)
{
	(void)state;
	hear_channel();
	server_publish("c", 101, "1");
	server_publish("c", 102, "2");
	for (size_t i = 0; i < MEMBERS; i++)
		run_until_received(i, "1 2");
	/* What was served already is not served again. */
	assert_int_equal(stage->shards[0].record->max_seen, 102);
	world_check(stage->world);
}

/*
 * The connection ends while a fan-out has been served to one of three. The
 * fan-out goes on; over the next connection the counter begins anew, and its
 * messages are news all the same.
 */
static void test_connection_lost_in_the_middle_of_a_fan_out(void **state)
{
	struct channel *channel = hear_channel();

	(void)state;
	slices_of_one = true;
	server_publish("c", 101, "1");
	run_until_received(0, "1");
	assert_true(fanout_serving(stage->w.fanout, channel));
	redis_subscription_restart(stage->shards[0].subscription, "test");
	assert_true(fanout_serving(stage->w.fanout, channel));
	server_hang_up();
	for (size_t i = 1; i < MEMBERS; i++)
		run_until_received(i, "1");
	slices_of_one = false;
	server_welcome();
	while (hub_record(&stage->w.hub, channel)->state != CHANNEL_JOINED)
		turn();
	/* As the first subscriber's answer would: a channel without history has no other position.
	 */
	assert_int_equal(hub_record(&stage->w.hub, channel)->last_sequence, 0);
	server_publish("c", 3, "3");
	for (size_t i = 0; i < MEMBERS; i++)
		run_until_received(i, "3");
	world_check(stage->world);
}

/* On one connection a falling sequence says the same, and waits for what came before. */
static void test_counter_that_falls(void **state)
{
	(void)state;
	hear_channel();
	slices_of_one = true;
	server_publish("c", 101, "1");
	server_publish("c", 5, "2");
	for (size_t i = 0; i < MEMBERS; i++)
		run_until_received(i, "1");
	for (size_t i = 0; i < MEMBERS; i++)
		run_until_received(i, "2");
	world_check(stage->world);
}

static void deliver(struct delivery *delivery, const char *channel, uint64_t sequence,
		    const char *json)
{
	const struct redis_envelope envelope = {
		.kind = REDIS_MESSAGE_PUBLICATION,
		.sequence = sequence,
		.body.data = slice_str(json),
	};

	delivery_add(delivery, slice_str(channel), &envelope);
}

/* Two shards with work for many slices each: one fan-out at a time, and nobody is passed over. */
static void test_two_deliveries_take_turns(void **state)
{
	static const char *const names[2][2] = {{"a1", "a2"}, {"b1", "b2"}};
	struct delivery *deliveries[2];
	char order[64] = "";
	bool done[2] = {false, false};

	(void)state;
	for (unsigned shard = 0; shard < 2; shard++) {
		deliveries[shard] = delivery_create(&stage->shards[shard]);
		for (size_t i = 0; i < 2; i++) {
			struct channel *channel =
				hub_get(&stage->w.hub, slice_str(names[shard][i]));

			channel->shard = (uint16_t)shard;
			for (size_t member = 0; member < MEMBERS; member++)
				subscribe(channel, member);
			position(channel, 10);
			deliver(deliveries[shard], names[shard][i], 11 + i, names[shard][i]);
		}
	}
	slices_of_one = true;
	for (int step = 0; step < 80 && !(done[0] && done[1]); step++) {
		/* The loop need not be fair: one is asked twice as often. */
		unsigned shard = step % 3 == 2;
		const char *got;

		done[shard] = delivery_run(deliveries[shard]);
		/* The last member of a channel tells which fan-out has just ended. */
		got = received(MEMBERS - 1);
		if (got[0]) {
			strcat(order, got);
			strcat(order, " ");
		}
	}
	assert_true(done[0] && done[1]);
	assert_string_equal(order, "a1 b1 a2 b2 ");
	for (size_t member = 0; member + 1 < MEMBERS; member++)
		assert_int_equal(strlen(received(member)), strlen("a1 b1 a2 b2"));
	delivery_free(deliveries[0]);
	delivery_free(deliveries[1]);
	world_check(stage->world);
}

/* Bytes that are allocated now. */
static size_t heap_in_use(void)
{
	struct mallinfo2 info;

	if (__sanitizer_get_current_allocated_bytes)
		return __sanitizer_get_current_allocated_bytes();
	info = mallinfo2();
	return info.uordblks + info.hblkhd;
}

static void name_of(size_t number, char out[16])
{
	snprintf(out, 16, "many%zu", number);
}

/* Channels 0 to count - 1 get a message each, the last one that of `last`. */
static void deliver_to_many(struct delivery *delivery, size_t count, const char *last)
{
	static uint64_t sequence = 100;
	char name[16], bytes[4096];

	for (size_t i = 0; i < count; i++) {
		name_of(i, name);
		deliver(delivery, name, ++sequence, i + 1 == count ? last : "1");
	}
	while (!delivery_run(delivery)) {
	}
	while (recv(stage->peers[0], bytes, sizeof(bytes), MSG_DONTWAIT) > 0) {
	}
}

/* One turn brings messages for many channels, and whichever of them has the long one: what is kept
 * of that does not add up. */
static void test_what_a_delivery_keeps_is_bounded(void **state)
{
	static char text[60001];
	struct delivery *delivery = delivery_create(&stage->shards[0]);
	char name[16];
	size_t before;

	(void)state;
	for (size_t i = 0; i < MANY; i++) {
		struct channel *channel;

		name_of(i, name);
		channel = hub_get(&stage->w.hub, slice_str(name));
		subscribe(channel, 0);
		position(channel, 10);
	}
	memset(text, '1', sizeof(text) - 1);
	deliver_to_many(delivery, 1, text);
	before = heap_in_use();
	deliver_to_many(delivery, MANY, "1");
	for (size_t i = 1; i <= 50; i++)
		deliver_to_many(delivery, i, text);
	assert_in_range(heap_in_use(), 0, before + 256 * 1024);
	delivery_free(delivery);
	world_check(stage->world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_messages_reach_everybody_once, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_connection_lost_in_the_middle_of_a_fan_out,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_counter_that_falls, setup, teardown),
		cmocka_unit_test_setup_teardown(test_two_deliveries_take_turns, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_a_delivery_keeps_is_bounded, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
