/* SPDX-License-Identifier: ISC */
/*
 * Admin commands that need the workers: what each of them answers is put
 * together here. Runs in the master. Rows get the worker's number in front;
 * what a row holds is the worker's business, except where a command counts
 * something in it.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "keepsock/admin.h"
#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/clock.h"
#include "keepsock/inquiry.h"
#include "keepsock/keeper_messages.h"
#include "keepsock/master.h"
#include "keepsock/node_page.h"
#include "keepsock/slot_move.h"
#include "keepsock/worker_slot.h"
#include "master/admin_answers.h"

#define DISCONNECT_CODE_DEFAULT 3503
#define DISCONNECT_CODE_MIN     3000
#define DISCONNECT_CODE_MAX     4999
#define DISCONNECT_REASON       "force disconnect"
/* What a close frame has room for beside the code (RFC 6455 5.5). */
#define DISCONNECT_REASON_MAX 123

/* ---- show workers ---- */

/* Keeper and worker must agree: `settled` is the worker's word, once it has answered. */
static void add_keeper(json_t *row, const struct worker_slot *slot)
{
	(void)json_object_set_new(row, "keeper", json_integer((json_int_t)slot->keeper.pid));
	(void)json_object_set_new(row, "protected", json_boolean(slot->is_protected));
	(void)json_object_set_new(row, "kept", json_integer((json_int_t)slot->descriptors));
	(void)json_object_set_new(row, "keeper_restarts",
				  json_integer((json_int_t)slot->keeper_restarts));
	(void)json_object_set_new(row, "last_death", json_string(slot->last_death));
}

static void check_protected(json_t *row, json_t *worker)
{
	if (json_is_false(json_object_get(worker, "settled")))
		(void)json_object_set_new(row, "protected", json_false());
	(void)json_object_del(row, "settled");
}

static json_t *own_row(const struct master *master, uint32_t number)
{
	const struct worker_slot *slot = &master->workers[number];
	uint64_t uptime = slot->pid ? (clock_boottime_ms() - slot->started_ms) / 1000 : 0;
	static const struct {
		const char *key;
		enum metric metric;
	} columns[] = {
		{"connections", METRIC_connections_open},
		{"subscriptions", METRIC_subscriptions},
		{"channels", METRIC_channels},
		{"arena_used", METRIC_arena_bytes_used},
		{"arena_cap", METRIC_arena_bytes_cap},
		{"loop_lag_us", METRIC_loop_lag_microseconds},
	};
	json_t *row = json_pack("{s:i, s:i, s:s, s:I, s:I}", "worker", (int)number, "pid",
				(int)slot->pid, "state", worker_state_name(slot->state), "restarts",
				(json_int_t)slot->restarts, "uptime_s", (json_int_t)uptime);

	for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++) {
		uint64_t value = metrics_slot_value(master->page, number, columns[i].metric);

		(void)json_object_set_new(row, columns[i].key, json_integer((json_int_t)value));
	}
	(void)json_object_set_new(row, "redis", json_null());
	add_keeper(row, slot);
	return row;
}

/* The counters of a worker that hangs still tell what it last did. */
static void on_workers(struct admin_request *request, const struct inquiry_answer *answers,
		       size_t count)
{
	const struct master *master = admin_request_master(request);
	json_t *silent = json_array();
	json_t *rows = json_array();

	for (size_t i = 0; i < count; i++) {
		uint32_t number = answers[i].slot;
		json_t *row = own_row(master, number);

		(void)json_object_update(row, json_array_get(answers[i].rows, 0));
		check_protected(row, json_array_get(answers[i].rows, 0));
		if (admin_is_silent(&answers[i]) && master->workers[number].state == WORKER_READY) {
			(void)json_object_set_new(row, "state", json_string("not answering"));
			(void)json_array_append_new(silent, json_integer(number));
		}
		(void)json_array_append_new(rows, row);
	}
	admin_answer_rows(request, rows, silent);
}

void admin_on_show_workers(struct admin_request *request)
{
	admin_ask_workers(request, "show worker", NULL, INQUIRY_ALL_WORKERS, on_workers);
}

/* ---- show fds ---- */

static void on_fds(struct admin_request *request, const struct inquiry_answer *answers,
		   size_t count)
{
	const struct master *master = admin_request_master(request);
	json_t *rows = admin_merge_rows(answers, count);
	json_t *row;
	size_t i;

	json_array_foreach(rows, i, row)
	{
		json_int_t slot = json_integer_value(json_object_get(row, "worker"));

		if (slot < (json_int_t)master->worker_count)
			(void)json_object_set_new(
				row, "kept",
				json_integer((json_int_t)master->workers[slot].descriptors));
	}
	admin_answer_rows(request, rows, admin_list_silent(answers, count));
}

void admin_on_show_fds(struct admin_request *request)
{
	admin_ask_workers(request, "show fds", NULL, INQUIRY_ALL_WORKERS, on_fds);
}

/* ---- lists ---- */

static void on_connections(struct admin_request *request, const struct inquiry_answer *answers,
			   size_t count)
{
	admin_answer_rows_by(request, "id", answers, count);
}

void admin_on_show_connections(struct admin_request *request)
{
	admin_ask_workers(request, "show connections", NULL, INQUIRY_ALL_WORKERS, on_connections);
}

static void on_channels(struct admin_request *request, const struct inquiry_answer *answers,
			size_t count)
{
	admin_answer_rows_by(request, "name", answers, count);
}

void admin_on_show_channels(struct admin_request *request)
{
	admin_ask_workers(request, "show channels", NULL, INQUIRY_ALL_WORKERS, on_channels);
}

static void on_redis(struct admin_request *request, const struct inquiry_answer *answers,
		     size_t count)
{
	admin_answer_rows_by(request, "worker", answers, count);
}

void admin_on_show_redis(struct admin_request *request)
{
	admin_ask_workers(request, "show redis", NULL, INQUIRY_ALL_WORKERS, on_redis);
}

/* ---- one thing ---- */

static void on_connection(struct admin_request *request, const struct inquiry_answer *answers,
			  size_t count)
{
	json_t *rows = admin_merge_rows(answers, count);

	if (json_array_size(rows) == 0)
		admin_answer_not_found(request, "no connection has that id", answers, count);
	else
		admin_answer_object(request, json_incref(json_array_get(rows, 0)));
	json_decref(rows);
}

void admin_on_show_connection(struct admin_request *request)
{
	const char *id = admin_request_call(request)->arguments[0];

	admin_ask_workers(request, "show connection", json_pack("{s:s}", "id", id),
			  INQUIRY_ALL_WORKERS, on_connection);
}

static void on_channel(struct admin_request *request, const struct inquiry_answer *answers,
		       size_t count)
{
	json_t *rows = admin_merge_rows(answers, count);
	json_t *summary;

	if (json_array_size(rows) == 0) {
		json_decref(rows);
		admin_answer_not_found(request, "no client is subscribed to that channel", answers,
				       count);
		return;
	}
	summary = json_pack("{s:I}", "subscribers", admin_sum_of(rows, "subscribers"));
	admin_answer_summary(request, summary, admin_sort_rows(rows, "worker"),
			     admin_list_silent(answers, count));
}

void admin_on_show_channel(struct admin_request *request)
{
	const char *name = admin_request_call(request)->arguments[0];

	admin_ask_workers(request, "show channel", json_pack("{s:s}", "name", name),
			  INQUIRY_ALL_WORKERS, on_channel);
}

/* ---- disconnect ---- */

static void on_disconnected(struct admin_request *request, const struct inquiry_answer *answers,
			    size_t count)
{
	json_int_t closed = 0;

	for (size_t i = 0; i < count; i++)
		closed += json_integer_value(
			json_object_get(json_array_get(answers[i].rows, 0), "closed"));
	if (closed == 0)
		admin_answer_not_found(request, "no client has that id", answers, count);
	else
		admin_answer_object(request, json_pack("{s:I}", "closed", closed));
}

/* Clients read a reason that is JSON as instructions; the official ones take them seriously. */
static bool is_json(const char *text)
{
	json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);
	bool valid = value != NULL;

	json_decref(value);
	return valid;
}

static const char *check_disconnect(const char *code_text, long *code, const char *reason)
{
	char *end;

	*code = strtol(code_text, &end, 10);
	if (*end || *code < DISCONNECT_CODE_MIN || *code > DISCONNECT_CODE_MAX)
		return "the code must be a number from 3000 to 4999";
	if (strlen(reason) > DISCONNECT_REASON_MAX)
		return "the reason is longer than 123 bytes";
	if (is_json(reason))
		return "the reason must be plain words, not JSON";
	return NULL;
}

void admin_on_disconnect(struct admin_request *request)
{
	const struct admin_call *call = admin_request_call(request);
	const char *reason = call->arguments[2] ? call->arguments[2] : DISCONNECT_REASON;
	const char *problem = NULL;
	long code = DISCONNECT_CODE_DEFAULT;

	if (call->arguments[1])
		problem = check_disconnect(call->arguments[1], &code, reason);
	if (problem)
		admin_answer_error(request, "%s", problem);
	else
		admin_ask_workers(request, "disconnect",
				  json_pack("{s:s, s:i, s:s}", "client", call->arguments[0], "code",
					    (int)code, "reason", reason),
				  INQUIRY_ALL_WORKERS, on_disconnected);
}

/* ---- publish ---- */

static void on_published(struct admin_request *request, const struct inquiry_answer *answers,
			 size_t count)
{
	json_t *row = count ? json_array_get(answers[0].rows, 0) : NULL;

	if (row)
		admin_answer_object(request, json_incref(row));
	else if (count && answers[0].error)
		admin_answer_error(request, "%s", answers[0].error);
	else
		admin_answer_error(request,
				   "worker %u did not answer in time: whether it was published is "
				   "unknown",
				   count ? answers[0].slot : 0);
}

/* The data travels as text, so that it is published byte for byte. */
void admin_on_publish(struct admin_request *request)
{
	const struct admin_call *call = admin_request_call(request);
	uint32_t slot = admin_find_ready(admin_request_master(request));

	if (!is_json(call->arguments[1]))
		admin_answer_error(request, "what is to be published must be JSON");
	else if (slot == INQUIRY_ALL_WORKERS)
		admin_answer_error(request, "no worker is ready");
	else
		admin_ask_workers(request, "publish",
				  json_pack("{s:s, s:s}", "channel", call->arguments[0], "data",
					    call->arguments[1]),
				  slot, on_published);
}

/* ---- purge ---- */

static void on_purged(struct admin_request *request, const struct inquiry_answer *answers,
		      size_t count)
{
	json_t *row = count ? json_array_get(answers[0].rows, 0) : NULL;

	if (row)
		admin_answer_object(request, json_incref(row));
	else if (count && answers[0].error)
		admin_answer_error(request, "%s", answers[0].error);
	else
		admin_answer_error(request,
				   "worker %u did not answer in time: the purge may still go on",
				   count ? answers[0].slot : 0);
}

void admin_on_purge(struct admin_request *request)
{
	const struct admin_call *call = admin_request_call(request);
	uint32_t slot = admin_find_ready(admin_request_master(request));

	if (slot == INQUIRY_ALL_WORKERS)
		admin_answer_error(request, "no worker is ready");
	else
		admin_ask_workers(request, "purge", json_pack("{s:s}", "node", call->arguments[0]),
				  slot, on_purged);
}

/* ---- test builds ---- */

#ifdef KEEPSOCK_CRASH_POINTS
/* The slot that an argument names, NULL (and answered) when it names none. */
static struct worker_slot *find_slot(struct admin_request *request, const char *argument)
{
	struct master *master = admin_request_master(request);
	char *end;
	unsigned long number = strtoul(argument, &end, 10);

	if (end != argument && *end == '\0' && number < master->worker_count)
		return &master->workers[number];
	admin_answer_error(request, "no such slot: %s", argument);
	return NULL;
}

void admin_on_debug_arena(struct admin_request *request)
{
	struct worker_slot *slot = find_slot(request, admin_request_call(request)->arguments[0]);

	if (!slot)
		return;
	if (slot->left_arena_fd < 0)
		admin_answer_error(request, "no worker of slot %u left an arena", slot->number);
	else
		admin_answer_object_with_fd(request,
					    json_pack("{s:i, s:i, s:I}", "slot", (int)slot->number,
						      "pid", (int)slot->left_pid, "restarts",
						      (json_int_t)slot->restarts),
					    slot->left_arena_fd);
}

void admin_on_debug_adoption(struct admin_request *request)
{
	struct master *master = admin_request_master(request);
	const char *argument = admin_request_call(request)->arguments[0];
	const char adopt = strcmp(argument, "on") == 0;

	if (!adopt && strcmp(argument, "off") != 0) {
		admin_answer_error(request, "on or off?");
		return;
	}
	for (uint32_t i = 0; i < master->worker_count; i++)
		(void)slot_keeper_send(&master->workers[i], KEEPER_ADOPTION, &adopt, 1);
	admin_answer_object(request, json_pack("{s:b}", "adoption", (int)adopt));
}

/* Of the keeper itself, or of the next worker that it starts. */
static void arm_by_keeper(struct admin_request *request, uint32_t target)
{
	const struct admin_call *call = admin_request_call(request);
	struct worker_slot *slot = find_slot(request, call->arguments[0]);
	struct keeper_crash_point point = {.hits = 1, .signal = SIGKILL, .target = target};

	if (!slot)
		return;
	if (call->arguments[2])
		point.signal = (uint32_t)strtoul(call->arguments[2], NULL, 10);
	(void)snprintf(point.name, sizeof(point.name), "%s", call->arguments[1]);
	if (slot_keeper_send(slot, KEEPER_CRASH_POINT, &point, sizeof(point)))
		admin_answer_object(request, json_pack("{s:i}", "slot", (int)slot->number));
	else
		admin_answer_error(request, "the keeper can't be told");
}

void admin_on_debug_crash_keeper(struct admin_request *request)
{
	arm_by_keeper(request, KEEPER_CRASH_KEEPER);
}

void admin_on_debug_crash_next(struct admin_request *request)
{
	arm_by_keeper(request, KEEPER_CRASH_NEXT_WORKER);
}

static void on_taken_over(struct worker_slot *slot, const struct keeper_taken_over *end,
			  const char *reason, void *ctx)
{
	struct admin_request *request = ctx;

	/* What becomes of it now is no concern of the slot's next takeover. */
	admin_request_wait(request, NULL, NULL);
	if (end->outcome != TAKEOVER_DONE)
		admin_answer_error(request, "%s: %s", takeover_outcome_name(end->outcome), reason);
	else
		admin_answer_object(request, json_pack("{s:i, s:i, s:i, s:I, s:I, s:I, s:I}",
						       "slot", (int)slot->number, "old",
						       (int)end->old_pid, "new", (int)end->new_pid,
						       "connections", (json_int_t)end->connections,
						       "lost", (json_int_t)end->lost, "prepare_us",
						       (json_int_t)end->prepare_us, "freeze_us",
						       (json_int_t)end->freeze_us));
}

/* Whoever asked is gone. */
static void on_asker_gone(void *ctx)
{
	struct worker_slot *slot = ctx;

	slot->takeover_done = NULL;
}

void admin_on_debug_takeover(struct admin_request *request)
{
	const struct admin_call *call = admin_request_call(request);
	struct worker_slot *slot = find_slot(request, call->arguments[0]);
	const char *limit = call->arguments[1] ? call->arguments[1] : "20000";

	if (!slot)
		return;
	if (slot_takeover_start(slot, TAKEOVER_TEST, (uint32_t)strtoul(limit, NULL, 10),
				on_taken_over, request))
		admin_request_wait(request, on_asker_gone, slot);
	else
		admin_answer_error(request, "there is no worker to take over from");
}

void admin_on_debug_move(struct admin_request *request)
{
	const struct admin_call *call = admin_request_call(request);
	struct worker_slot *from = find_slot(request, call->arguments[0]);
	struct worker_slot *to = from ? find_slot(request, call->arguments[1]) : NULL;
	const char *text = call->arguments[2] ? call->arguments[2] : "0";
	struct ipc_move_out order = {.limit_ms = 60000};
	const char *problem = "the count must be a number";
	char *end;

	if (!to)
		return;
	order.count = (uint32_t)strtoul(text, &end, 10);
	if (!*end)
		problem = slot_move_begin(from, to, &order, NULL, NULL);
	if (problem)
		admin_answer_error(request, "%s", problem);
	else
		admin_answer_object(request, json_pack("{s:i, s:i}", "from", (int)from->number,
						       "to", (int)to->number));
}

/* Something that one worker was told to do. */
static void answer_done(struct admin_request *request, const struct inquiry_answer *answers,
			size_t count, const char *problem)
{
	if (count && answers[0].rows)
		admin_answer_object(request, json_pack("{s:i}", "slot", (int)answers[0].slot));
	else
		admin_answer_not_found(request, problem, answers, count);
}

static void on_deposit_anew(struct admin_request *request, const struct inquiry_answer *answers,
			    size_t count)
{
	answer_done(request, answers, count, "the worker did not do it");
}

void admin_on_debug_deposit_anew(struct admin_request *request)
{
	struct worker_slot *slot = find_slot(request, admin_request_call(request)->arguments[0]);

	if (slot)
		admin_ask_workers(request, "debug deposit-anew", NULL, slot->number,
				  on_deposit_anew);
}

static void on_armed(struct admin_request *request, const struct inquiry_answer *answers,
		     size_t count)
{
	answer_done(request, answers, count, "the crash point was not armed");
}

void admin_on_debug_crash_after(struct admin_request *request)
{
	const struct admin_call *call = admin_request_call(request);
	struct worker_slot *slot = find_slot(request, call->arguments[0]);
	const char *times = call->arguments[2] ? call->arguments[2] : "1";
	char *end;
	unsigned long count = strtoul(times, &end, 10);

	if (!slot)
		return;
	if (*end || count < 1 || count > INT32_MAX)
		admin_answer_error(request, "the count must be a number from 1");
	else
		admin_ask_workers(
			request, "debug crash-after",
			json_pack("{s:s, s:i}", "point", call->arguments[1], "count", (int)count),
			slot->number, on_armed);
}
#endif
