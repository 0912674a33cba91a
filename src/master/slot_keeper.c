/* SPDX-License-Identifier: ISC */
/*
 * A slot's keeper: starting it, telling it what workers are started with,
 * hearing what it reports, replacing it when it dies. Runs in the master. A
 * keeper's death concerns no client: its worker goes on, and deposits everything
 * with the next one.
 */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "keepsock/buffer.h"
#include "keepsock/inquiry.h"
#include "keepsock/ipc.h"
#include "keepsock/keeper_messages.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/master.h"
#include "keepsock/node_check.h"
#include "keepsock/node_page.h"
#include "keepsock/secret.h"
#include "keepsock/worker_slot.h"
#include "master/certificates.h"
#include "master/orphans.h"
#include "master/resize.h"

/* Messages read in a row before other events get their turn. */
#define MESSAGES_PER_TURN 16

static void close_channel(struct worker_slot *slot)
{
	if (slot->keeper_event)
		event_free(slot->keeper_event);
	slot->keeper_event = NULL;
	if (slot->keeper_fd >= 0)
		close(slot->keeper_fd);
	slot->keeper_fd = -1;
}

void slot_keeper_kill(struct worker_slot *slot, const char *reason)
{
	log_error("keeper_killed slot=%u pid=%d reason=%s", slot->number, (int)slot->keeper.pid,
		  log_value_str(reason));
	child_signal(&slot->keeper, SIGKILL);
}

void slot_keeper_retire(struct worker_slot *slot)
{
	slot->keeper_retired = true;
	child_signal(&slot->keeper, SIGKILL);
}

bool slot_keeper_send(struct worker_slot *slot, uint32_t type, const void *payload, size_t len)
{
	if (slot->keeper_fd >= 0 && ipc_send(slot->keeper_fd, type, 0, payload, len, NULL, 0) == 0)
		return true;
	log_warning("keeper_send_failed slot=%u message=%s error=%s", slot->number,
		    keeper_type_name(type), strerror(slot->keeper_fd < 0 ? EPIPE : errno));
	return false;
}

/* The node's values are the sums over all slots. */
static void update_metrics(const struct master *master)
{
	uint64_t descriptors = 0, workers = 0;

	for (uint32_t i = 0; i < master->worker_count; i++) {
		descriptors += master->workers[i].descriptors;
		workers += master->workers[i].is_protected;
	}
	metric_set(METRIC_keeper_descriptors, descriptors);
	metric_set(METRIC_workers_protected, workers);
}

static void set_status(struct worker_slot *slot, bool is_protected, uint32_t descriptors)
{
	slot->is_protected = is_protected;
	slot->descriptors = descriptors;
	update_metrics(slot->master);
}

/* ---- what the keeper says ---- */

static const char *on_worker(struct worker_slot *slot, struct ipc_message *message,
			     struct slice payload)
{
	struct keeper_worker worker;
	int channel, pidfd;

	if (!keeper_payload_take(payload, &worker, sizeof(worker)) || message->nfds != 2)
		return "a worker without its channel";
	channel = message->fds[KEEPER_FD_WORKER_CHANNEL];
	pidfd = message->fds[KEEPER_FD_WORKER_PIDFD];
	message->nfds = 0;
	if (worker.flags & KEEPER_WORKER_TAKES_OVER)
		slot_takeover_on_worker(slot, &worker, channel, pidfd);
	else
		worker_slot_on_started(slot, &worker, channel, pidfd);
	return NULL;
}

static const char *on_taken_over(struct worker_slot *slot, struct slice payload)
{
	char text[KEEPER_REASON_MAX + 1];
	struct keeper_taken_over end;
	struct slice reason;

	if (!keeper_taken_over_decode(payload, &end, &reason))
		return "the end of a takeover that is none";
	(void)snprintf(text, sizeof(text), "%.*s", SLICE_ARG(reason));
	slot_takeover_on_end(slot, &end, text);
	return NULL;
}

static const char *on_death(struct worker_slot *slot, struct ipc_message *message,
			    struct slice payload)
{
	struct keeper_death death;
	int left_arena = -1;

	if (!keeper_payload_take(payload, &death, sizeof(death)) || message->nfds > 1)
		return "a death that is none";
	if (message->nfds == 1)
		left_arena = message->fds[0];
	message->nfds = 0;
	worker_slot_on_death(slot, &death, left_arena);
	return NULL;
}

static const char *on_status(struct worker_slot *slot, struct slice payload)
{
	struct keeper_status status;

	if (!keeper_payload_take(payload, &status, sizeof(status)))
		return "a status that is none";
	set_status(slot, status.is_protected && status.worker == slot->pid, status.descriptors);
	return NULL;
}

static void dispatch(struct worker_slot *slot, struct ipc_message *message)
{
	struct slice payload = {0};
	const char *problem = NULL;

	if (!keeper_type_allowed(message->type, KEEPER_TO_MASTER))
		problem = "a message that keepers may not send";
	else if (ipc_message_payload(message, &payload) < 0)
		problem = strerror(errno);
	else if (message->type == KEEPER_WORKER)
		problem = on_worker(slot, message, payload);
	else if (message->type == KEEPER_TAKEN_OVER)
		problem = on_taken_over(slot, payload);
	else if (message->type == KEEPER_DEATH)
		problem = on_death(slot, message, payload);
	else if (message->type == KEEPER_STATE)
		problem = "a state that nobody asked for";
	else
		problem = on_status(slot, payload);
	if (problem)
		slot_keeper_kill(slot, problem);
}

/* One message; false when there is no other one now, or never again. */
static bool read_message(struct worker_slot *slot)
{
	/* Its own: what a message causes may have others read meanwhile. */
	struct ipc_message *message = slot->master->keeper_message;
	int result = ipc_receive(slot->keeper_fd, message);

	if (result > 0) {
		dispatch(slot, message);
		ipc_message_close_fds(message);
		return true;
	}
	if (result < 0 && errno == EAGAIN)
		return false;
	if (result < 0)
		slot_keeper_kill(slot, strerror(errno));
	else
		child_signal(&slot->keeper, SIGKILL);
	close_channel(slot);
	return false;
}

static void on_channel_readable(evutil_socket_t fd, short what, void *ctx)
{
	struct worker_slot *slot = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(slot, WORKER_SLOT_MAGIC);
	for (int i = 0; i < MESSAGES_PER_TURN && slot->keeper_fd >= 0 && read_message(slot); i++)
		;
}

/* ---- what the keeper is told ---- */

/* Keys that were changed reach the workers as they are replaced; unreadable ones never do. */
static void refresh_token_keys(struct master *master)
{
	struct ipc_keys token, subscription;
	struct buffer error = {0};

	if (node_read_token_keys(&master->settings, &token, &subscription, &error) < 0) {
		log_error("token_keys_unreadable error=%s text=%s",
			  log_value_str(buffer_cstr(&error)),
			  log_value_str("the worker gets those that were read before"));
	} else {
		if (!ipc_keys_equal(&token, &master->token_keys) ||
		    !ipc_keys_equal(&subscription, &master->subscription_token_keys))
			log_warning("token_keys_changed text=%s",
				    log_value_str("workers that run already keep the old ones"));
		ipc_keys_free(&master->token_keys);
		ipc_keys_free(&master->subscription_token_keys);
		master->token_keys = token;
		master->subscription_token_keys = subscription;
	}
	buffer_free(&error);
}

/* Appends the JSON of it; 0, or -1 with errno. */
static int append_start(struct worker_slot *slot, uint32_t listeners, struct buffer *out)
{
	struct master *master = slot->master;
	struct ipc_start start = {
		.slot = slot->number,
		/* Those of a slot that is about to come are nobody's to purge. */
		.slots = resize_target(master) > master->worker_count ? resize_target(master)
								      : master->worker_count,
		.node = master->settings.node.name,
		.config_name = (char *)master->config_name,
		.run_dir = master->settings.node.run_dir,
		.listeners = listeners,
		.shared_listeners = (uint32_t)master->listeners.primary_count,
		.shard_count = master->shard_count,
		.api_key = master->api_key,
	};

	start.token_keys = master->token_keys;
	start.subscription_token_keys = master->subscription_token_keys;
	memcpy(start.shards, master->shards, sizeof(start.shards));
	if (ipc_start_encode(out, &start) == 0)
		return 0;
	errno = EILSEQ;
	return -1;
}

static bool send_order(struct worker_slot *slot)
{
	struct master *master = slot->master;
	struct keeper_order order = {.number = ++slot->order};
	int fds[KEEPER_ORDER_FD_START + IPC_START_FD_LISTENERS + IPC_START_LISTENERS_MAX];
	int *start_fds = fds + KEEPER_ORDER_FD_START;
	struct buffer text = {0};
	uint32_t listeners;
	int result = -1;

	refresh_token_keys(master);
	fds[KEEPER_ORDER_FD_PROGRAM] = master->program_fd;
	start_fds[IPC_START_FD_NODE_PAGE] = master->page_fd;
	start_fds[IPC_START_FD_SETTINGS] = master->settings_fd;
	start_fds[IPC_START_FD_TLS] = master->certificates->fd;
	listeners = resize_listeners(master, slot->number, start_fds + IPC_START_FD_LISTENERS);
	memcpy(start_fds + IPC_START_FD_LISTENERS + listeners, master->listeners.primary,
	       master->listeners.primary_count * sizeof(int));
	listeners += (uint32_t)master->listeners.primary_count;
	buffer_append(&text, &order, sizeof(order));
	if (append_start(slot, listeners, &text) == 0)
		result = ipc_send(slot->keeper_fd, KEEPER_ORDER, 0, text.data, text.len, fds,
				  KEEPER_ORDER_FD_START + IPC_START_FD_LISTENERS + listeners);
	if (result < 0)
		log_error("keeper_send_failed slot=%u message=ORDER error=%s", slot->number,
			  strerror(errno));
	secret_wipe(text.data, text.cap);
	buffer_free(&text);
	return result == 0;
}

/* Nothing is ordered before it is known where Redis is: then all are told. */
static bool can_order(const struct worker_slot *slot)
{
	return slot->keeper_fd >= 0 && slot->master->shard_count > 0 && slot->master->certificates;
}

void worker_slot_update(struct worker_slot *slot)
{
	if (can_order(slot))
		(void)send_order(slot);
}

static bool send_setup(struct worker_slot *slot)
{
	const struct settings *settings = &slot->master->settings;
	enum log_format format = LOG_FORMAT_LOGFMT;
	struct keeper_setup setup = {
		.version = KEEPER_PROTOCOL_VERSION,
		.slot = slot->number,
		.log_level = log_get_level(),
		.restarts = slot->restarts,
		.worker = (int32_t)slot->pid,
		.flags = slot->ipc_fd < 0 ? KEEPER_SETUP_CHANNEL : 0,
	};
	const struct keeper_setup_text text = {
		.node = settings->node.name,
		.config_name = slot->master->config_name,
		.run_dir = settings->node.run_dir,
		.log_target = settings->log.target,
	};
	struct buffer payload = {0};
	int result;

	(void)log_format_parse(settings->log.format, &format);
	setup.log_format = format;
	keeper_setup_encode(&payload, &setup, &text);
	result = ipc_send(slot->keeper_fd, KEEPER_SETUP, 0, payload.data, payload.len, &slot->pidfd,
			  slot->pid ? 1 : 0);
	if (result < 0)
		log_error("keeper_send_failed slot=%u message=SETUP error=%s", slot->number,
			  strerror(errno));
	buffer_free(&payload);
	return result == 0;
}

/* ---- its life ---- */

static void start_later(struct worker_slot *slot, uint32_t delay)
{
	struct timeval time = {.tv_sec = delay / 1000, .tv_usec = (delay % 1000) * 1000};

	if (evtimer_add(slot->keeper_timer, &time) < 0)
		log_fatal("keeper_timer_failed");
}

static void note_death(struct worker_slot *slot, int status, uint32_t delay)
{
	struct buffer reason = {0};

	child_describe_exit(&reason, status);
	log_error("keeper_died slot=%u pid=%d reason=%s restart_in_ms=%u worker=%d", slot->number,
		  (int)slot->keeper.last_pid, log_value_str(buffer_cstr(&reason)), delay,
		  (int)slot->pid);
	node_event_add(NODE_EVENT_KEEPER_DIED, "keeper %u: %s", slot->number, buffer_cstr(&reason));
	metric_add(METRIC_keeper_restarts_total, 1);
	slot->keeper_restarts++;
	buffer_free(&reason);
}

static void on_keeper_exit(struct child *child, int status, void *ctx)
{
	struct worker_slot *slot = ctx;
	bool retired = slot->keeper_retired;
	uint32_t delay = 0;

	MAGIC_CHECK(slot, WORKER_SLOT_MAGIC);
	slot->keeper_retired = false;
	while (slot->keeper_fd >= 0 && read_message(slot))
		;
	close_channel(slot);
	set_status(slot, false, 0);
	if (slot->state != WORKER_STOPPING) {
		if (!retired) {
			delay = child_restart_delay(&slot->keeper_delay_ms, child_age_ms(child));
			note_death(slot, status, delay);
		}
		if (!slot_takeover_on_keeper_gone(slot))
			start_later(slot, delay);
	}
	worker_slot_on_keeper_gone(slot);
}

static int start_process(struct worker_slot *slot, int keeper_end, struct buffer *error)
{
	char name[] = "keepsockd", role[] = "--role=keeper";
	char *argv[] = {name, role, NULL};
	struct child_spec spec = {
		.program_fd = slot->master->program_fd,
		.argv = argv,
		.channels = {keeper_end, -1},
		.output_fd = -1,
		.outlives_us = true,
	};

	return child_start(&slot->keeper, slot->master->base, &spec, on_keeper_exit, slot, error);
}

/* Takes over our end. */
static void open_channel(struct worker_slot *slot, int fd)
{
	slot->keeper_fd = fd;
	slot->keeper_event =
		event_new(slot->master->base, fd, EV_READ | EV_PERSIST, on_channel_readable, slot);
	if (!slot->keeper_event || event_add(slot->keeper_event, NULL) < 0)
		log_fatal("keeper_event_failed");
}

void slot_keeper_adopt(struct worker_slot *slot, struct orphan *orphan)
{
	if (child_adopt(&slot->keeper, slot->master->base, orphan->keeper, orphan->keeper_pidfd,
			on_keeper_exit, slot) < 0)
		log_fatal("keeper_event_failed");
	orphan->keeper_pidfd = -1;
	slot->order = orphan->order;
	slot->restarts = orphan->restarts;
	log_info("keeper_adopted slot=%u pid=%d", slot->number, (int)slot->keeper.pid);
	open_channel(slot, orphan->channel);
	orphan->channel = -1;
}

static void retry_later(struct worker_slot *slot, const char *error)
{
	uint32_t delay = child_restart_delay(&slot->keeper_delay_ms, 0);

	log_error("keeper_start_failed slot=%u error=%s retry_in_ms=%u", slot->number,
		  log_value_str(error), delay);
	start_later(slot, delay);
}

void slot_keeper_start(struct worker_slot *slot)
{
	struct buffer error = {0};
	int ends[2];

	/* The start that was due is this one: of two keepers each would replace the worker. */
	evtimer_del(slot->keeper_timer);
	if (ipc_pair(ends) < 0) {
		retry_later(slot, strerror(errno));
		return;
	}
	if (fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0 || start_process(slot, ends[1], &error) < 0) {
		retry_later(slot, error.len ? buffer_cstr(&error) : strerror(errno));
		close(ends[0]);
	} else {
		log_info("keeper_process slot=%u pid=%d worker=%d", slot->number,
			 (int)slot->keeper.pid, (int)slot->pid);
		open_channel(slot, ends[0]);
		if (!send_setup(slot) || (can_order(slot) && !send_order(slot)))
			slot_keeper_kill(slot, "it could not be told what to do");
	}
	close(ends[1]);
	buffer_free(&error);
}

static void on_start_time(evutil_socket_t fd, short what, void *ctx)
{
	struct worker_slot *slot = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(slot, WORKER_SLOT_MAGIC);
	slot_keeper_start(slot);
}

void slot_keeper_stop(struct worker_slot *slot)
{
	evtimer_del(slot->keeper_timer);
	if (!child_running(&slot->keeper))
		return;
	if (slot->forced || slot->keeper_fd < 0 || !slot_keeper_send(slot, KEEPER_STOP, NULL, 0))
		child_signal(&slot->keeper, SIGKILL);
}

void slot_keeper_init(struct worker_slot *slot)
{
	slot->keeper_timer = evtimer_new(slot->master->base, on_start_time, slot);
	if (!slot->keeper_timer)
		log_fatal("keeper_timer_failed");
}

void slot_keeper_free(struct worker_slot *slot)
{
	child_leave(&slot->keeper);
	close_channel(slot);
	event_free(slot->keeper_timer);
}
