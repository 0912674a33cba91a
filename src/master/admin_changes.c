/* SPDX-License-Identifier: ISC */
/*
 * Admin commands that change the node, and what shows how that went. Runs in the
 * master. `reload` and `upgrade` answer when the outcome is known; a peer that does not
 * wait for it changes nothing about that.
 */
#include <stdlib.h>

#include "keepsock/admin.h"
#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/magic.h"
#include "keepsock/master.h"
#include "master/admin_answers.h"
#include "master/certificates.h"
#include "master/change.h"
#include "master/reload.h"
#include "master/takeovers.h"
#include "master/upgrade.h"

#define ASKER_MAGIC UINT32_C(0x41534b52) /* "ASKR" */

/* Who waits for an outcome. */
struct asker {
	uint32_t magic;
	struct admin_request *request; /* NULL: it has left */
};

static void on_asker_gone(void *ctx)
{
	struct asker *asker = ctx;

	MAGIC_CHECK(asker, ASKER_MAGIC);
	asker->request = NULL;
}

static struct asker *wait_for(struct admin_request *request)
{
	struct asker *asker = xcalloc(1, sizeof(*asker));

	*asker = (struct asker){ASKER_MAGIC, request};
	admin_request_wait(request, on_asker_gone, asker);
	return asker;
}

/* The request, NULL when nobody waits any more; the asker is freed. */
static struct admin_request *stop_waiting(struct asker *asker)
{
	struct admin_request *request = asker->request;

	if (request)
		admin_request_wait(request, NULL, NULL);
	asker->magic = 0;
	free(asker);
	return request;
}

static void on_reloaded(void *ctx, const char *error)
{
	struct asker *asker = ctx;
	struct admin_request *request;

	MAGIC_CHECK(asker, ASKER_MAGIC);
	request = stop_waiting(asker);
	if (request && error)
		admin_answer_error(request, "%s", error);
	else if (request)
		admin_answer_object(request,
				    json_pack("{s:s, s:i}", "reloaded",
					      admin_request_master(request)->config_name, "workers",
					      (int)admin_request_master(request)->worker_count));
}

void admin_on_reload(struct admin_request *request)
{
	reload_start(admin_request_master(request), on_reloaded, wait_for(request));
}

static void on_upgrade_refused(void *ctx, const char *error)
{
	struct asker *asker = ctx;
	struct admin_request *request;

	MAGIC_CHECK(asker, ASKER_MAGIC);
	request = stop_waiting(asker);
	if (request)
		admin_answer_error(request, "%s", error);
}

/* The answer is given by the program that follows. */
static int detach(void *ctx, bool *json)
{
	struct asker *asker = ctx;
	struct admin_request *request;

	MAGIC_CHECK(asker, ASKER_MAGIC);
	request = asker->request;
	asker->request = NULL;
	*json = request && admin_request_call(request)->json;
	return request ? admin_request_detach(request) : -1;
}

void admin_on_upgrade(struct admin_request *request)
{
	const struct upgrade_asker asker = {on_upgrade_refused, detach, wait_for(request)};

	upgrade_start(admin_request_master(request), admin_request_call(request)->arguments[0],
		      &asker);
}

/* ---- certificates ---- */

/* Each worker says which set it has: they are in force when all have this one. */
static void on_certificates(struct admin_request *request, const struct inquiry_answer *answers,
			    size_t count)
{
	const struct master *master = admin_request_master(request);
	json_int_t wanted = (json_int_t)master->certificates->generation;
	json_t *summary, *silent = admin_list_silent(answers, count);

	for (size_t i = 0; i < count; i++) {
		const json_t *row = json_array_get(answers[i].rows, 0);
		const char *error = json_string_value(json_object_get(row, "error"));

		if (!row || json_integer_value(json_object_get(row, "generation")) == wanted)
			continue;
		json_decref(silent);
		admin_answer_error(request, "worker %u still has the old ones: %s", answers[i].slot,
				   error && *error ? error : "it has not got the new ones");
		return;
	}
	summary =
		json_pack("{s:I, s:I, s:o}", "certificates",
			  (json_int_t)certificates_count(master->certificates, 0, NULL), "workers",
			  (json_int_t)(count - json_array_size(silent)), "not_answering", silent);
	admin_answer_object(request, summary);
}

void admin_on_reload_certificates(struct admin_request *request)
{
	struct master *master = admin_request_master(request);
	const char *obstacle = change_obstacle(master);
	struct buffer error = {0};

	if (obstacle)
		admin_answer_error(request, "%s", obstacle);
	else if (certificates_reload(master, "an operator asked for it", &error) < 0)
		admin_answer_error(request, "the old ones stay in force: %s", buffer_cstr(&error));
	else
		admin_ask_workers(request, "show certificates", NULL, INQUIRY_ALL_WORKERS,
				  on_certificates);
	buffer_free(&error);
}

void admin_on_show_certificates(struct admin_request *request)
{
	const struct master *master = admin_request_master(request);
	const char *error = master->certificate_error;

	admin_answer_summary(request,
			     json_pack("{s:I, s:s}", "loaded_at",
				       (json_int_t)master->certificates->loaded_at, "error",
				       error ? error : ""),
			     certificates_rows(master->certificates, &master->settings), NULL);
}

void admin_on_show_takeovers(struct admin_request *request)
{
	admin_answer_rows(request, takeovers_rows(admin_request_master(request)), NULL);
}
