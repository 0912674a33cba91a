/* SPDX-License-Identifier: ISC */
/*
 * The set of certificates in force, see certificates.h. Runs in the master's
 * loop. Once a second the files' times are looked at; what has changed and then
 * stayed the same for a second is read, tried and given to the workers, which
 * replace their contexts in place: no connection notices.
 *
 * Certificate and key are two files, so between their writing they don't fit:
 * that is logged, the old set stays, and the next change is tried again.
 */
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/ipc.h"
#include "keepsock/ipc_messages.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/master.h"
#include "keepsock/metrics.h"
#include "keepsock/node_events.h"
#include "keepsock/random.h"
#include "keepsock/secret.h"
#include "keepsock/tls_files.h"
#include "keepsock/worker_slot.h"
#include "master/certificates.h"

#define LOOK_EVERY_S 1
#define DAY_S        86400

/* Tickets of a node without a secret file: its workers agree, nobody else does. */
static void make_own_secret(struct master *master)
{
	uint8_t random[CERTIFICATE_OWN_SECRET / 2];

	random_bytes(random, sizeof(random));
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(master->ticket_secret + 2 * i, 3, "%02x", random[i]);
	secret_wipe(random, sizeof(random));
}

static void update_metrics(struct master *master)
{
	int64_t days_left;
	size_t count = certificates_count(master->certificates, time(NULL), &days_left);

	metric_set(METRIC_tls_certificates, count);
	metric_set(METRIC_tls_certificate_days_left, count ? (uint64_t)days_left : 0);
}

/* What is about to expire is said once a day. */
static void remind(struct master *master)
{
	int64_t day = (int64_t)time(NULL) / DAY_S;

	if (day == master->certificate_reminder)
		return;
	master->certificate_reminder = day;
	certificates_log(master->certificates, &master->settings, CERTIFICATE_WARNING_DAYS);
}

/* The files are no good; the clients of a dead master's workers need not suffer for it. */
static bool keep_left(struct master *master, int left_fd, struct buffer *error)
{
	master->certificates =
		certificates_unseal(&master->settings, left_fd, ++master->certificate_generation);
	if (!master->certificates)
		return false;
	master->certificate_error = xstrdup(buffer_cstr(error));
	log_error("certificates_refused cause=start reason=%s text=%s",
		  log_value_str(buffer_cstr(error)),
		  log_value_str("those that the workers have stay in force"));
	metric_add(METRIC_tls_certificate_errors_total, 1);
	buffer_reset(error);
	return true;
}

int certificates_open(struct master *master, int left_fd, struct buffer *error)
{
	if (master->only_stops)
		return 0;
	make_own_secret(master);
	/* No other master's number: workers that it left tell which ones they have. */
	master->certificate_generation = (uint64_t)time(NULL) << 20;
	master->certificates = certificates_prepare(master, &master->settings, error);
	if (!master->certificates && (left_fd < 0 || !keep_left(master, left_fd, error)))
		return -1;
	master->certificate_stamp = master->certificates->stamp;
	master->certificate_reminder = (int64_t)time(NULL) / DAY_S;
	certificates_log(master->certificates, &master->settings, -1);
	return 0;
}

struct certificates *certificates_prepare(struct master *master, const struct settings *settings,
					  struct buffer *error)
{
	struct buffer why = {0};
	int line = 0;
	struct certificates *made = certificates_load(
		settings, master->ticket_secret, ++master->certificate_generation, &why, &line);

	if (!made && line > 0)
		buffer_printf(error, "%s:%d: %s", master->config_name, line, buffer_cstr(&why));
	else if (!made)
		buffer_append_slice(error, buffer_slice(&why));
	buffer_free(&why);
	return made;
}

/* ---- workers ---- */

static void tell(struct worker_slot *slot)
{
	const struct certificates *certificates = slot->master->certificates;

	if (slot->ipc_fd < 0 || slot->certificates == certificates->generation)
		return;
	/* Full is not lost: it is tried again every second. */
	if (ipc_send(slot->ipc_fd, IPC_TLS, 0, NULL, 0, &certificates->fd, 1) == 0)
		slot->certificates = certificates->generation;
	else if (errno != EAGAIN)
		log_warning("worker_send_failed slot=%u message=TLS error=%s", slot->number,
			    strerror(errno));
}

void certificates_on_worker(struct worker_slot *slot, bool has_newest)
{
	const struct certificates *certificates = slot->master->certificates;

	/* Who only ends what is there has none. */
	if (!certificates)
		return;
	slot->certificates = has_newest ? certificates->generation : 0;
	tell(slot);
}

static void put_in_force(struct master *master, struct certificates *next)
{
	certificates_free(master->certificates);
	master->certificates = next;
	for (uint32_t i = 0; i < master->worker_count; i++) {
		worker_slot_update(&master->workers[i]);
		tell(&master->workers[i]);
	}
	certificates_log(next, &master->settings, -1);
	update_metrics(master);
}

int certificates_reload(struct master *master, const char *reason, struct buffer *error)
{
	struct certificates *next = certificates_prepare(master, &master->settings, error);

	if (next &&
	    !certificates_acceptable(master->certificates, next, &master->settings, error)) {
		certificates_free(next);
		next = NULL;
	}
	free(master->certificate_error);
	master->certificate_error = next ? NULL : xstrdup(buffer_cstr(error));
	if (!next) {
		log_error("certificates_refused cause=%s reason=%s text=%s", log_value_str(reason),
			  log_value_str(buffer_cstr(error)),
			  log_value_str("those that were in force stay in force"));
		node_event_add(NODE_EVENT_CERTIFICATES_REFUSED, "%s", buffer_cstr(error));
		metric_add(METRIC_tls_certificate_errors_total, 1);
		return -1;
	}
	master->certificate_stamp = next->stamp;
	put_in_force(master, next);
	log_info("certificates_reloaded cause=%s", log_value_str(reason));
	node_event_add(NODE_EVENT_CERTIFICATES_RELOADED, "%s", reason);
	metric_add(METRIC_tls_certificate_reloads_total, 1);
	return 0;
}

/* ---- the files ---- */

/* Those that stayed as they are since they were last looked at, and were not tried so yet. */
static void look(struct master *master)
{
	uint64_t stamp = tls_files_stamp(&master->settings);
	bool settled = stamp == master->certificate_seen;
	struct buffer error = {0};

	master->certificate_seen = stamp;
	if (!settled || stamp == master->certificate_stamp || stamp == master->certificates->stamp)
		return;
	master->certificate_stamp = stamp;
	(void)certificates_reload(master, "the files have changed", &error);
	buffer_free(&error);
}

static void on_time(evutil_socket_t fd, short what, void *ctx)
{
	struct master *master = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(master, MASTER_MAGIC);
	update_metrics(master);
	remind(master);
	/* Workers that are about to be replaced get theirs with the settings. */
	if (master->phase == MASTER_STOPPING || master->is_changing)
		return;
	look(master);
	for (uint32_t i = 0; i < master->worker_count; i++)
		tell(&master->workers[i]);
}

void certificates_watch(struct master *master)
{
	static const struct timeval period = {.tv_sec = LOOK_EVERY_S};

	update_metrics(master);
	master->certificate_timer = event_new(master->base, -1, EV_PERSIST, on_time, master);
	if (!master->certificate_timer || event_add(master->certificate_timer, &period) < 0)
		log_fatal("certificate_timer_failed");
}

void certificates_close(struct master *master)
{
	if (master->certificate_timer)
		event_free(master->certificate_timer);
	certificates_free(master->certificates);
	secret_wipe(master->ticket_secret, sizeof(master->ticket_secret));
	free(master->certificate_error);
}
