/* SPDX-License-Identifier: ISC */
/*
 * What the worker deposits and releases, and handing it over to the next one.
 * Run by the keeper. Each message is checked for who may say it when; counts
 * and generations are checked, contents of connections are never looked at.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "keeper/keeper.h"
#include "keepsock/clock.h"
#include "keepsock/log.h"

/* How often a worker whose count differs is asked to begin again. */
#define DEPOSIT_AGAIN_MS 2000

void keeper_set_protected(struct keeper *keeper, bool is_protected)
{
	if (keeper->is_protected == is_protected)
		return;
	keeper->is_protected = is_protected;
	log_info("protected worker=%d protected=%s kept=%zu", (int)keeper->worker,
		 is_protected ? "yes" : "no", keeper->kept.count);
	keeper_send_due(keeper, DUE_STATUS);
	keeper_takeover_proceed(keeper);
}

void keeper_give_up_kept(struct keeper *keeper, const char *reason)
{
	log_warning("kept_given_up kept=%zu reason=%s", keeper->kept.count, log_value_str(reason));
	kept_table_clear(&keeper->kept, true);
	keeper_close_fd(&keeper->arena_fd);
	keeper_status_changed(keeper);
}

/* ---- deposits ---- */

const char *keeper_on_arena(struct keeper *keeper, struct ipc_message *message)
{
	if (message->nfds != 1)
		return "an arena without its descriptor";
	keeper_takeover_cancel(keeper, "the worker has another arena");
	keeper_close_fd(&keeper->arena_fd);
	keeper->arena_fd = message->fds[0];
	message->fds[0] = -1;
	return NULL;
}

static const char *on_deposit(struct keeper *keeper, struct ipc_message *message,
			      struct slice payload)
{
	size_t count = keeper_items_count(payload);

	if (count == 0 || count != message->nfds)
		return "a deposit whose descriptors are not as many as it says";
	for (size_t i = 0; i < count; i++) {
		struct keeper_item item = keeper_items_at(payload, i);
		int fd = message->fds[i];

		message->fds[i] = -1;
		if (kept_table_put(&keeper->kept, &item, fd) == KEPT_REFUSED)
			return "a deposit that is not newer than what is kept";
		keeper_changes_note(keeper, &item);
	}
	keeper_status_changed(keeper);
	return NULL;
}

static const char *on_release(struct keeper *keeper, struct slice payload)
{
	size_t count = keeper_items_count(payload);

	if (count == SIZE_MAX)
		return "a release that is cut off";
	for (size_t i = 0; i < count; i++) {
		struct keeper_item item = keeper_items_at(payload, i);

		if (kept_table_remove(&keeper->kept, item.ref, item.generation))
			keeper_changes_note(keeper, &item);
		else
			log_debug("release_unknown ref=%u", item.ref);
	}
	keeper_status_changed(keeper);
	return NULL;
}

static const char *on_count(struct keeper *keeper, struct slice payload)
{
	uint64_t now = clock_boottime_ms();
	struct keeper_count count;
	bool equal;

	if (!keeper_payload_take(payload, &count, sizeof(count)))
		return "a count that is none";
	equal = count.descriptors == keeper->kept.count;
	keeper_set_protected(keeper, equal && keeper->arena_fd >= 0);
	if (!equal && now - keeper->asked_again_ms >= DEPOSIT_AGAIN_MS) {
		log_warning("deposits_differ worker=%u kept=%zu action=again", count.descriptors,
			    keeper->kept.count);
		keeper->asked_again_ms = now;
		keeper_send_due(keeper, DUE_AGAIN);
	}
	return NULL;
}

/* Everything is deposited anew, on this channel or on a new one. */
static const char *on_hello(struct keeper *keeper, struct slice payload)
{
	struct keeper_hello hello;

	if (!keeper_payload_take(payload, &hello, sizeof(hello)) ||
	    hello.version != KEEPER_PROTOCOL_VERSION || hello.slot != keeper->slot)
		return "a greeting of another version or slot";
	keeper_takeover_cancel(keeper, KEEPER_REASON_ANEW);
	kept_table_clear(&keeper->kept, false);
	keeper_set_protected(keeper, false);
	keeper_status_changed(keeper);
	keeper_worker_connect_master(keeper);
	return NULL;
}

/* ---- handing over ---- */

static int send_end(struct keeper *keeper)
{
	const struct keeper_hand_over_end end = {
		.descriptors = keeper->handed_over,
		.pid = keeper->last_death.pid,
		.status = keeper->last_death.status,
		.fault = keeper->last_death.fault,
	};

	return ipc_send(keeper->worker_fd, KEEPER_HAND_OVER_END, 0, &end, sizeof(end), NULL, 0);
}

int keeper_hand_over(struct keeper *keeper)
{
	struct keeper_item items[IPC_FDS_MAX];
	size_t cursor = keeper->hand_over_cursor;
	int fds[IPC_FDS_MAX];
	size_t count = 0;
	struct kept kept;

	while (count < IPC_FDS_MAX && kept_table_next(&keeper->kept, &cursor, &kept)) {
		items[count] = kept.item;
		fds[count++] = kept.fd;
	}
	if (count == 0)
		return send_end(keeper);
	if (ipc_send(keeper->worker_fd, KEEPER_HAND_OVER, 0, items, count * sizeof(items[0]), fds,
		     count) < 0)
		return -1;
	keeper->hand_over_cursor = cursor;
	keeper->handed_over += (uint32_t)count;
	return 0;
}

static const char *on_next(struct keeper *keeper)
{
	keeper_send_due(keeper, DUE_BATCH);
	return NULL;
}

static void settle(struct keeper *keeper, const char *reason)
{
	keeper->alive_since_ms = clock_boottime_ms();
	keeper->failed_adoptions = 0;
	keeper_change_phase(keeper, PHASE_ATTACHED, reason);
	keeper_worker_connect_master(keeper);
}

static const char *on_adopted(struct keeper *keeper, struct slice payload)
{
	struct keeper_adopted adopted;

	if (!keeper_payload_take(payload, &adopted, sizeof(adopted)))
		return "an adoption that is cut off";
	log_info("adopted worker=%d connections=%u lost=%u", (int)keeper->worker,
		 adopted.connections, adopted.lost);
	settle(keeper, "adopted");
	return NULL;
}

static const char *on_refused(struct keeper *keeper, struct slice reason)
{
	char text[160];

	(void)snprintf(text, sizeof(text), "refused: %.*s", SLICE_ARG(reason));
	keeper_give_up_kept(keeper, text);
	settle(keeper, "starts fresh");
	return NULL;
}

/* ---- dispatch ---- */

/* Whether the phase allows it: until it has adopted, a successor only takes; then it deposits. */
static bool allowed_now(const struct keeper *keeper, uint32_t type)
{
	bool takes = type == KEEPER_NEXT || type == KEEPER_ADOPTED || type == KEEPER_ADOPT_REFUSED;

	/* A successor may have converted it: the next one goes on with that. */
	if (type == KEEPER_ARENA)
		return true;
	/* Those are for one that takes over. */
	if (type == KEEPER_READY || type == KEEPER_COMMITTED)
		return false;
	return takes == (keeper->phase == PHASE_OFFERED);
}

static const char *take(struct keeper *keeper, struct ipc_message *message, struct slice payload)
{
	switch (message->type) {
	case KEEPER_HELLO: return on_hello(keeper, payload);
	case KEEPER_ORIGIN: return NULL; /* our master ordered them: it has them */
	case KEEPER_ARENA: return keeper_on_arena(keeper, message);
	case KEEPER_DEPOSIT: return on_deposit(keeper, message, payload);
	case KEEPER_RELEASE: return on_release(keeper, payload);
	case KEEPER_COUNT: return on_count(keeper, payload);
	case KEEPER_NEXT: return on_next(keeper);
	case KEEPER_ADOPTED: return on_adopted(keeper, payload);
	case KEEPER_FROZEN:
	case KEEPER_THAWED: return keeper_takeover_on_old(keeper, message, payload);
	default: return on_refused(keeper, payload);
	}
}

void keeper_on_worker_message(struct keeper *keeper, struct ipc_message *message)
{
	struct slice payload = {0};
	const char *problem;

	if (!keeper_type_allowed(message->type, WORKER_TO_KEEPER))
		problem = "a message that workers may not send";
	else if (!allowed_now(keeper, message->type))
		problem = "a message out of turn";
	else if (ipc_message_payload(message, &payload) < 0)
		problem = strerror(errno);
	else
		problem = take(keeper, message, payload);
	if (!problem)
		return;
	log_error("worker_bad_message message=%s", keeper_type_name(message->type));
	keeper_worker_kill(keeper, problem);
}
