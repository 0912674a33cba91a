/* SPDX-License-Identifier: ISC */
/*
 * Admin commands about the node's role and its drain: what they take, and what
 * `show cluster` tells. Runs in the master; the changes themselves are role.h's.
 */
#include <stdlib.h>
#include <string.h>

#include "keepsock/admin.h"
#include "keepsock/clock.h"
#include "keepsock/inquiry.h"
#include "keepsock/master.h"
#include "keepsock/node_page.h"
#include "keepsock/node_role.h"
#include "master/admin_answers.h"
#include "master/role.h"

void admin_on_role(struct admin_request *request)
{
	admin_answer_object(request, role_view(admin_request_master(request)));
}

void admin_on_promote(struct admin_request *request)
{
	const char *text = admin_request_call(request)->arguments[0];
	char *end;
	unsigned long long epoch = strtoull(text, &end, 10);

	if (text[0] < '1' || text[0] > '9' || *end || epoch > NODE_ROLE_EPOCH_MAX)
		admin_answer_error(request, "the epoch must be a number from 1 to 2^53 - 1");
	else
		role_promote(admin_request_master(request), request, epoch);
}

/* False, and answered: an argument that is not this word. */
static bool take_word(struct admin_request *request, const char *word, bool *given)
{
	const char *argument = admin_request_call(request)->arguments[0];

	*given = argument != NULL;
	if (!argument || strcmp(argument, word) == 0)
		return true;
	admin_answer_error(request, "usage: %s [%s]", admin_request_call(request)->command->name,
			   word);
	return false;
}

void admin_on_demote(struct admin_request *request)
{
	bool drain;

	if (take_word(request, "drain", &drain))
		role_demote(admin_request_master(request), request, drain);
}

void admin_on_drain(struct admin_request *request)
{
	struct master *master = admin_request_master(request);
	uint64_t window = (uint64_t)master->settings.drain.window;
	bool now;

	if (!take_word(request, "now", &now))
		return;
	if (node_role_get(master->page).role == NODE_STANDBY &&
	    !master->settings.cluster.active_active) {
		admin_answer_error(request, "this node is a standby: it has no clients");
		return;
	}
	role_drain(master, clock_boottime_ms() + (now ? 0 : window));
	admin_answer_object(request, role_view(master));
}

void admin_on_resume(struct admin_request *request)
{
	struct master *master = admin_request_master(request);

	if (node_role_get(master->page).role == NODE_STANDBY &&
	    !master->settings.cluster.active_active) {
		admin_answer_error(request, "this node is a standby: promote it instead");
		return;
	}
	role_drain(master, 0);
	admin_answer_object(request, role_view(master));
}

/* ---- show cluster ---- */

static void on_cluster(struct admin_request *request, const struct inquiry_answer *answers,
		       size_t count)
{
	json_t *summary = role_view(admin_request_master(request));
	json_t *rows = count ? answers[0].rows : NULL;

	(void)json_object_set_new(summary, "node",
				  json_string(admin_request_master(request)->settings.node.name));
	admin_answer_summary(request, summary, rows ? json_incref(rows) : json_array(),
			     admin_list_silent(answers, count));
}

/* Any worker can say what the shards keep. */
void admin_on_show_cluster(struct admin_request *request)
{
	struct master *master = admin_request_master(request);
	uint32_t slot = admin_find_ready(master);

	if (slot == INQUIRY_ALL_WORKERS)
		on_cluster(request, NULL, 0);
	else
		admin_ask_workers(request, "role", json_pack("{s:i}", "epoch", 0), slot,
				  on_cluster);
}
