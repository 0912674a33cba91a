/* SPDX-License-Identifier: ISC */
/*
 * The worker process: start, loop, stop. Everything a client does happens in
 * this process's one thread; what a successor needs is in the arena.
 */
#include "keepsock/worker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/clock.h"
#include "keepsock/crash_points.h"
#include "keepsock/deflate.h"
#include "keepsock/ipc.h"
#include "keepsock/log.h"
#include "keepsock/node_processes.h"
#include "keepsock/process_title.h"
#include "keepsock/random.h"
#include "keepsock/sealed_text.h"
#include "keepsock/secret.h"
#include "worker/adopt.h"
#include "worker/client_connect.h"
#include "worker/client_expiry.h"
#include "worker/client_server_side.h"
#include "worker/compression.h"
#include "worker/deposits.h"
#include "worker/drain.h"
#include "worker/fanout.h"
#include "worker/freeze.h"
#include "worker/heartbeat.h"
#include "worker/internal.h"
#include "worker/loop_watch.h"
#include "worker/lost_subscribers.h"
#include "worker/move.h"
#include "worker/poller.h"
#include "worker/position_check.h"
#include "worker/presence_upkeep.h"
#include "worker/purge.h"
#include "worker/remains.h"
#include "worker/role.h"
#include "worker/sessions.h"
#include "worker/shards.h"
#include "worker/spare_memory.h"
#include "worker/subscribing.h"
#include "worker/survey.h"
#include "worker/tls_accept.h"
#include "worker/tls_linger.h"
#include "worker/tls_listeners.h"
#include "worker/tls_stream.h"
#include "worker/tokens.h"

/* Accepted at most in one callback, so that a flood starves nobody. */
#define ACCEPTS_PER_TURN 64
/* ... and fewer where all workers wait for the same ones, so that each gets its share. */
#define SHARED_ACCEPTS_PER_TURN 4
#define ACCEPT_PAUSE_MS         100u
/* Half of what may come at once (node_role.h). */
#define PACE_PAUSE_MS 50u
/* Beyond the time to stop, for taking itself out of Redis. */
#define FAREWELL_MS 1000u
/* Descriptors a worker needs besides its clients. */
#define DESCRIPTORS_RESERVED 256u
/* Connections beyond the limit that wait to be told so; more are closed at once. */
#define TURNED_AWAY_MAX 64u

void worker_now(struct worker *w)
{
	w->now_ms = clock_boottime_ms();
}

static void on_farewell(void *ctx, const char *error, uint64_t workers, uint64_t members)
{
	struct worker *w = ctx;

	(void)error; /* the others will notice */
	(void)workers;
	(void)members;
	w->farewell = FAREWELL_DONE;
	worker_stop_check(w);
}

void worker_stop_check(struct worker *w)
{
	if (!w->stopping)
		return;
	if (w->farewell == FAREWELL_DONE || w->now_ms >= w->stop_deadline + FAREWELL_MS) {
		event_base_loopexit(w->base, NULL);
	} else if (w->farewell == FAREWELL_NONE &&
		   (w->connection_count == 0 || w->now_ms >= w->stop_deadline)) {
		/* Nobody has to find out that this worker is gone. */
		w->farewell = FAREWELL_SENT;
		purge_self(w, on_farewell, w);
	}
}

/* --- last words --- */

static struct arena_header *fault_header;

/* Nothing but the signal's number can be said safely: the master reads it. */
static void on_fault(int number)
{
	if (fault_header)
		atomic_store(&fault_header->fault, (uint64_t)number);
	signal(number, SIG_DFL);
	raise(number);
}

void worker_disown_arena(void)
{
	fault_header = NULL;
}

static void watch_faults(struct arena *arena)
{
	static char stack[65536];
	static const int numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
	const stack_t own = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct sigaction action = {.sa_handler = on_fault, .sa_flags = SA_ONSTACK};

	fault_header = arena->header;
#ifdef __SANITIZE_ADDRESS__
	return; /* the sanitizer's own handlers say more */
#endif
	sigaltstack(&own, NULL);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		sigaction(numbers[i], &action, NULL);
}

/* --- accepting --- */

static void watch_listeners(struct worker *w, bool watch)
{
	for (size_t i = 0; i < w->listener_count; i++) {
		if (!w->listeners[i].event)
			continue;
		if (watch && !w->listeners[i].held)
			event_add(w->listeners[i].event, NULL);
		else if (!watch)
			event_del(w->listeners[i].event);
	}
	w->accept_paused = !watch;
}

void worker_pause_accepting(struct worker *w, bool pause)
{
	event_del(w->accept_again);
	watch_listeners(w, !pause);
}

static void on_accept_again(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	watch_listeners(arg, true);
}

static void accept_later(struct worker *w, unsigned ms)
{
	const struct timeval soon = {0, (suseconds_t)ms * 1000};

	watch_listeners(w, false);
	event_add(w->accept_again, &soon);
}

static void on_accept(evutil_socket_t fd, short what, void *arg)
{
	struct listener *listener = arg;
	struct worker *w = listener->worker;
	uint64_t rate = role_accept_rate(w);

	(void)what;
	loop_watch_begin(w, LOOP_ACCEPT);
	for (int i = 0; i < (listener->shared ? SHARED_ACCEPTS_PER_TURN : ACCEPTS_PER_TURN); i++) {
		struct sockaddr_storage peer;
		socklen_t length = sizeof(peer);
		int on = 1;
		int client;

		if (listener->tls && !tls_accept_may(listener))
			return;
		if (rate && !node_role_may_accept(w->page, rate, clock_boottime_ns())) {
			metric_add(METRIC_accepts_paced_total, 1);
			accept_later(w, PACE_PAUSE_MS);
			return;
		}
		client = accept4((int)fd, (struct sockaddr *)&peer, &length,
				 SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (client < 0) {
			if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
				log_warning("accept_paused error=%s",
					    log_value_str(strerror(errno)));
				accept_later(w, ACCEPT_PAUSE_MS);
			}
			/* Shut down by the master: the node has been demoted. */
			if (errno == EINVAL && listener->shared)
				worker_listener_close(listener);
			return;
		}
		if (rate)
			node_role_count_accept(w->page, rate, clock_boottime_ns());
		crash_point(CRASH_ACCEPTED);
		/* Never before the connection was made, however long this loop takes. */
		worker_now(w);
		(void)setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		/* Urgent data stays in the stream, so that the kernel's counts are ours. */
		(void)setsockopt(client, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on));
		if (listener->tls)
			tls_accept_begin(listener, client, &peer);
		else
			connection_accept(w, client, &peer, listener->port);
	}
}

void worker_listener_open(struct worker *w, int fd, bool shared)
{
	struct listener *listener = &w->listeners[w->listener_count++];
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);

	*listener = (struct listener){.worker = w, .fd = fd, .shared = shared};
	if (getsockname(fd, (struct sockaddr *)&address, &length) == 0)
		listener->port = ntohs(address.ss_family == AF_INET6
					       ? ((struct sockaddr_in6 *)&address)->sin6_port
					       : ((struct sockaddr_in *)&address)->sin_port);
	if (!tls_listeners_attach(listener)) {
		worker_listener_close(listener);
		return;
	}
	listener->event = event_new(w->base, fd, EV_READ | EV_PERSIST, on_accept, listener);
	/* While a takeover is under way it waits with the others. */
	if (!w->freeze)
		event_add(listener->event, NULL);
}

void worker_listener_close(struct listener *listener)
{
	if (listener->event)
		event_free(listener->event);
	listener->event = NULL;
	tls_accept_end(listener);
	if (listener->fd >= 0)
		close(listener->fd);
	listener->fd = -1;
}

static void open_listeners(struct worker *w, const int *fds, size_t count)
{
	if (count > IPC_START_LISTENERS_MAX)
		log_fatal("too_many_listeners count=%zu", count);
	w->listeners = xcalloc(IPC_START_LISTENERS_MAX, sizeof(*w->listeners));
	w->accept_again = evtimer_new(w->base, on_accept_again, w);
	for (size_t i = 0; i < count; i++)
		worker_listener_open(w, fds[i], i + w->start.shared_listeners >= count);
}

/* --- time --- */

static void on_connection_due(struct connection *c)
{
	struct worker *w = c->worker;
	const struct passport *passport = connection_passport(c);

	if (passport->pong_deadline && passport->pong_deadline <= w->now_ms) {
		/* Whose input we do not read can't answer. */
		if (!c->paused) {
			connection_disconnect(c, CLIENT_DISCONNECT_NO_PONG, NULL);
			return;
		}
		connection_draft(c)->now.pong_deadline =
			w->now_ms + (uint64_t)w->settings.client.pong_timeout;
		if (!connection_commit(c))
			return;
	}
	if (passport->deadline && passport->deadline <= w->now_ms) {
		if (passport->state == PASSPORT_STATE_UNAUTHENTICATED)
			connection_disconnect(c, CLIENT_DISCONNECT_STALE, NULL);
		else
			connection_close(c, "time is up");
		return;
	}
	if (!client_expiry_check(c))
		return;
	if (passport->ping_at && passport->ping_at <= w->now_ms)
		client_session_ping(c);
	else
		connection_arm(c);
}

static void update_metrics(struct worker *w)
{
	shards_update_metrics(w);
	metric_set(METRIC_arena_bytes_used, arena_bytes_used(w->arena));
	metric_set(METRIC_arena_bytes_cap, arena_bytes_cap(w->arena));
	worker_update_readiness(w);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;
	struct timer_entry *entry;

	(void)fd;
	(void)what;
	loop_watch_begin(w, LOOP_TICK);
	loop_watch_tick(w, TIMER_WHEEL_TICK_MS);
	while ((entry = timer_wheel_due(&w->wheel, w->now_ms)))
		on_connection_due(
			(struct connection *)(void *)((char *)entry -
						      offsetof(struct connection, timer)));
	subscribing_tick(w);
	heartbeat_tick(w);
	client_connect_tick(w);
	client_server_side_tick(w);
	presence_upkeep_tick(w);
	position_check_tick(w);
	sessions_tick(w);
	remains_tick(w);
	role_tick(w);
	tls_accept_tick(w);
	deposits_tick(w);
	spare_memory_tick(w);
	connection_relieve_arena(w);
	update_metrics(w);
	worker_stop_check(w);
}

void worker_end_turn(struct worker *w)
{
	loop_watch_begin(w, LOOP_TURN);
	while (w->turn_first) {
		struct connection *c = w->turn_first;

		w->turn_first = c->next_turn;
		c->in_turn = false;
		connection_resume(c);
	}
	shards_settle(w);
	connection_reap(w);
	move_out_turn(w);
	if (w->deposits_due)
		deposits_flush(w);
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	worker_end_turn(arg);
}

/* --- start --- */

static void take_settings(struct worker *w, int fd)
{
	struct buffer text = {0}, error = {0};
	enum log_level level;
	enum log_format format;

	if (sealed_text_read(fd, &text) < 0)
		log_fatal("settings_unreadable error=%s", log_value_str(strerror(errno)));
	if (settings_parse(buffer_cstr(&text), w->start.config_name, &w->settings, &error) < 0)
		log_fatal("settings_invalid error=%s", log_value(buffer_slice(&error)));
	buffer_free(&text);
	buffer_free(&error);
	if (log_format_parse(w->settings.log.format, &format))
		log_set_format(format);
	if (log_set_target(w->settings.log.target) < 0)
		log_warning("log_target_failed error=%s", log_value_str(strerror(errno)));
	if (log_level_parse(w->settings.log.level, &level))
		log_set_level(level);
}

/*
 * Waits for the keeper's first message: who we are, and what we work with. The
 * descriptor of the arena that a predecessor left, -1 when there is none.
 */
static int receive_start(struct worker *w, int keeper_fd)
{
	struct ipc_message *message = xmalloc(sizeof(*message));
	struct buffer error = {0};
	struct keeper_start start;
	struct slice payload;
	int *fds = message->fds;
	int slot, arena_fd = -1;

	if (ipc_receive(keeper_fd, message) != 1 || message->type != KEEPER_START ||
	    ipc_message_payload(message, &payload) < 0 ||
	    !keeper_payload_take_head(payload, &start, sizeof(start), &payload) ||
	    start.version != KEEPER_PROTOCOL_VERSION)
		log_fatal("start_message_missing");
	if (ipc_start_decode(payload.data, payload.len, &w->start, &error) < 0)
		log_fatal("start_message_unreadable error=%s", log_value(buffer_slice(&error)));
	if (start.flags & (KEEPER_START_ADOPT | KEEPER_START_TAKEOVER))
		arena_fd = *fds++;
	if (start.flags & KEEPER_START_TAKEOVER)
		w->takeover = start.takeover;
#ifdef KEEPSOCK_CRASH_POINTS
	if (keeper_crash_point_valid(&start.crash_point) && start.crash_point.name[0])
		(void)crash_point_arm_signal(start.crash_point.name, start.crash_point.hits,
					     (int)start.crash_point.signal);
#endif
	if (message->nfds !=
	    (size_t)(fds - message->fds) + IPC_START_FD_LISTENERS + w->start.listeners)
		log_fatal("start_message_without_descriptors");
	w->restarts = start.restarts;
	slot = (int)w->start.slot;
	log_init("worker", slot);
	process_title_set_name("keepsockd");
	process_title_set("keepsockd: worker %d of %s (%s)", slot, w->start.node,
			  w->start.config_name);
	if (node_processes_join(w->start.run_dir, NODE_PROCESS_WORKER) < 0)
		log_warning("processes_not_joined error=%s", log_value_str(strerror(errno)));
	take_settings(w, fds[IPC_START_FD_SETTINGS]);
	w->page = node_page_map(fds[IPC_START_FD_NODE_PAGE]);
	if (!w->page)
		log_fatal("node_page_failed error=%s", log_value_str(strerror(errno)));
	w->page_fd = fds[IPC_START_FD_NODE_PAGE];
	w->settings_fd = fds[IPC_START_FD_SETTINGS];
	tls_listeners_open(w, fds[IPC_START_FD_TLS]);
	open_listeners(w, fds + IPC_START_FD_LISTENERS, w->start.listeners);
	secret_wipe(message->data, message->len);
	free(message); /* its descriptors are ours now */
	return arena_fd;
}

static void share_descriptors(struct worker *w)
{
	uint64_t redis = settings_redis_descriptors(&w->settings);
	struct rlimit limit;
	uint64_t total = 1024, reserve;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		total = limit.rlim_cur;
	reserve = total / 4 < DESCRIPTORS_RESERVED ? total / 4 : DESCRIPTORS_RESERVED;
	/* Who is told that there is no room must not take what is needed to reach the keeper. */
	w->turned_away_max = reserve / 2 < TURNED_AWAY_MAX ? reserve / 2 : TURNED_AWAY_MAX;
	/* The reserve is for a few connections to Redis; many shards have more. */
	if (redis > reserve / 2)
		reserve += redis - reserve / 2;
	w->connection_max = reserve < total ? total - reserve : 1;
}

_Static_assert(ARENA_NAME_MAX > REDIS_WORKER_NAME_MAX, "an arena holds its worker's name");

/* Unlike every worker's before it: Redis keeps what is this process's own under its name. */
static void choose_name(struct worker *w)
{
	char *name = w->arena->header->worker_name;
	int n = snprintf(name, REDIS_WORKER_NAME_MAX + 1, "%s.%" PRIu32 ".%08" PRIx32,
			 w->start.node, w->start.slot, random_u32());

	if (n < 0 || n > (int)REDIS_WORKER_NAME_MAX)
		log_fatal("node_name_too_long node=%s", log_value_str(w->start.node));
}

static void make_arena(struct worker *w)
{
	const char *error = NULL;

	w->arena = arena_create((uint64_t)w->settings.memory.arena_size, &error);
	if (!w->arena)
		log_fatal("arena_failed error=%s", log_value_str(error));
	passport_draft_init(&w->draft, w->arena);
	tls_stream_attach(w);
	hub_init(&w->hub, w->arena);
	users_init(&w->users, w->arena, w->page, w->start.slot);
}

/* The slot is this process's: what is counted in it, and who is connected. */
void worker_claim_slot(struct worker *w)
{
	node_page_reset_gauges(w->page, w->start.slot);
	node_page_claim_slot(w->page, w->start.slot);
}

/* A predecessor's, if there is one and it is of any use; NULL: the worker starts with nothing. */
static struct adoption *take_arena(struct worker *w, int arena_fd)
{
	struct adoption *adoption = NULL;

	if (w->takeover) {
		adoption = adopt_take_over(w, arena_fd);
	} else {
		worker_claim_slot(w);
		adoption = arena_fd >= 0 ? adopt_begin(w, arena_fd) : NULL;
	}
	if (!adoption)
		make_arena(w);
	/* Who goes on with an arena is the same worker to Redis. */
	w->worker_name = w->arena->header->worker_name;
	if (w->worker_name[0] == '\0')
		choose_name(w);
	watch_faults(w->arena);
	return adoption;
}

static void connect_redis(struct worker *w)
{
	w->fanout = fanout_create(w);
	shards_open(w);
	w->survey = survey_create(w);
	w->sessions = sessions_create(w);
}

static void worker_start(struct worker *w, int keeper_fd)
{
	static const struct timeval tick = {0, TIMER_WHEEL_TICK_MS * 1000};

	int arena_fd = receive_start(w, keeper_fd);
	struct adoption *adoption;

	w->deposits = deposits_create(w, keeper_fd);
	worker_now(w);
	w->started_ms = w->now_ms;
	share_descriptors(w);
	timer_wheel_init(&w->wheel, w->now_ms);
	w->poller = poller_create(w->base, connection_ready, connection_round_end, w);
	if (!w->poller)
		log_fatal("poller_failed error=%s", log_value_str(strerror(errno)));
	tokens_open(w);
	w->turn = evtimer_new(w->base, on_turn, w);
	tls_accept_open(w);
	lost_subscribers_open(w);
	w->unmasked = xmalloc(WORKER_INPUT_MAX);
	tls_stream_open(w);
	compression_open(w);
	drain_open(w);
	adoption = take_arena(w, arena_fd);
	connect_redis(w);
	if (adoption)
		adopt_finish(adoption);
	deposits_open(w);
	control_open(w);
	w->tick = event_new(w->base, -1, EV_PERSIST, on_tick, w);
	event_add(w->tick, &tick);
	loop_watch_start(w, TIMER_WHEEL_TICK_MS);
	update_metrics(w);
	if (adoption && shards_subscribed(w))
		control_ready(w);
	node_event_add(NODE_EVENT_WORKER_STARTED, "pid %d, replaced %llu times before",
		       (int)getpid(), (unsigned long long)w->restarts);
	log_info("worker_started pid=%d arena_cap=%llu", (int)getpid(),
		 (unsigned long long)arena_bytes_cap(w->arena));
}

/* --- stop --- */

static void close_everything(struct worker *w)
{
	arena_ref ref = 0;

	while ((ref = arena_record_next(w->arena, ARENA_PASSPORT, ref))) {
		const struct passport *passport = arena_at(w->arena, ref);

		if (passport->magic == PASSPORT_MAGIC && passport->kind == PASSPORT_CLIENT)
			connection_close(connection_at(w, ref), "stopping");
	}
	while (w->closed) {
		struct connection *c = w->closed;

		w->closed = c->next_closed;
		c->next_closed = NULL;
	}
}

static void worker_free(struct worker *w)
{
	move_out_free(w);
	move_in_free(w);
	tls_linger_close(w);
	tls_accept_close(w);
	close_everything(w);
	remains_free(w);
	sessions_free(w->sessions);
	w->sessions = NULL;
	survey_free(w->survey);
	shards_close(w);
	lost_subscribers_close(w);
	drain_close(w);
	fanout_free(w->fanout);
	client_server_side_free(w);
	tokens_close(w);
	users_free(&w->users);
	hub_free(&w->hub);
	passport_draft_free(&w->draft);
	arena_destroy(w->arena);
	for (size_t i = 0; i < w->listener_count; i++)
		worker_listener_close(&w->listeners[i]);
	tls_listeners_close(w);
	free(w->listeners);
	event_free(w->accept_again);
	event_free(w->turn);
	event_free(w->tick);
	control_close(w);
	poller_free(w->poller);
	deposits_free(w->deposits);
	event_base_free(w->base);
	node_page_claim_slot(NULL, 0);
	node_page_unmap(w->page);
	close(w->page_fd);
	close(w->settings_fd);
	settings_free(&w->settings);
	ipc_start_free(&w->start);
	struct buffer *buffers[] = {&w->frame, &w->payload, &w->message, &w->decode,
				    &w->body,  &w->scratch, &w->packed,  &w->unpacked};

	for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++)
		buffer_free(buffers[i]);
	deflate_free(w->deflate);
	free(w->unmasked);
	tls_stream_close(w);
	/* The pair with the master stays open until the process is gone, as that with the keeper.
	 */
}

/* Turn by turn, so that each one's end is known. */
static void run_loop(struct worker *w)
{
	do {
		if (event_base_loop(w->base, EVLOOP_ONCE) != 0)
			log_fatal("event_loop_failed");
		freeze_if_asked(w);
		loop_watch_idle(w);
	} while (!event_base_got_exit(w->base) && !event_base_got_break(w->base));
}

int worker_main(int keeper_fd, int argc, char **argv)
{
	struct worker *w = xcalloc(1, sizeof(*w));
	struct event_config *config = event_config_new();
	int status;

	(void)argc;
	(void)argv;
	signal(SIGPIPE, SIG_IGN);
	/* The master decides when we stop: a terminal's Ctrl-C reaches the whole group. */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	w->handshakes_to = -1;
	w->ipc_fd = keeper_fd - WORKER_FD_KEEPER + WORKER_FD_MASTER;
	event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
	w->base = event_base_new_with_config(config);
	event_config_free(config);
	if (!w->base)
		log_fatal("event_base_failed");
	worker_start(w, keeper_fd);
	run_loop(w);
	status = w->exit_status;
	log_info("worker_stopped connections_left=%llu", (unsigned long long)w->connection_count);
	worker_free(w);
	free(w);
	libevent_global_shutdown();
	return status;
}
