/* SPDX-License-Identifier: ISC */
/*
 * What this worker does when a survey acts, see survey_commands.h. Run by the
 * worker. Who asks has checked what the caller said; here only the form of the
 * message is checked, and nothing of it is trusted to be there.
 */
#include "worker/survey_commands.h"

#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "worker/client_server_side.h"

/* Empty when it is no text. */
static struct slice text_of(const json_t *args, const char *name)
{
	const json_t *value = json_object_get(args, name);

	return json_is_string(value)
		       ? slice_from(json_string_value(value), json_string_length(value))
		       : SLICE("");
}

/* A command without a user would be one on everybody. */
static bool target_of(const json_t *args, struct user_target *target)
{
	*target = (struct user_target){
		.user = text_of(args, "user"),
		.client = text_of(args, "client"),
		.session = text_of(args, "session"),
	};
	return target->user.len > 0;
}

static bool on_subscribe(struct worker *w, const json_t *args, unsigned *connections)
{
	struct server_subscription subscription;
	struct user_target target;
	struct buffer text = {0};
	bool fine = target_of(args, &target) &&
		    server_subscription_decode(text_of(args, "subscription"), &text, &subscription);

	if (fine)
		*connections = client_user_subscribe(w, &target, &subscription);
	buffer_free(&text);
	return fine;
}

static bool on_unsubscribe(struct worker *w, const json_t *args, unsigned *connections)
{
	struct user_target target;

	if (!target_of(args, &target))
		return false;
	*connections = client_user_unsubscribe(w, &target, text_of(args, "channel"));
	return true;
}

static bool on_disconnect(struct worker *w, const json_t *args, unsigned *connections)
{
	const json_t *whitelist = json_object_get(args, "whitelist");
	json_int_t code = json_integer_value(json_object_get(args, "code"));
	size_t count = json_array_size(whitelist);
	struct user_target target;
	struct slice *spared;

	if (!target_of(args, &target) || code < 3000 || code > 4999)
		return false;
	spared = xcalloc(count + 1, sizeof(*spared));
	for (size_t i = 0; i < count; i++) {
		const json_t *id = json_array_get(whitelist, i);

		spared[i] = slice_from(json_string_value(id), json_string_length(id));
	}
	*connections = client_user_disconnect(w, &target, spared, count, (uint16_t)code,
					      text_of(args, "reason"));
	free(spared);
	return true;
}

static bool on_refresh(struct worker *w, const json_t *args, unsigned *connections)
{
	json_int_t expire_at = json_integer_value(json_object_get(args, "expire_at"));
	struct user_target target;

	if (!target_of(args, &target) || expire_at < 0)
		return false;
	*connections =
		client_user_refresh(w, &target, json_is_true(json_object_get(args, "expired")),
				    (uint64_t)expire_at, text_of(args, "info"));
	return true;
}

static bool on_keep_newest(struct worker *w, const json_t *args, unsigned *connections)
{
	struct user_target target;

	if (!target_of(args, &target) || target.client.len == 0)
		return false;
	*connections = client_user_keep_newest(w, target.user, target.client);
	return true;
}

survey_command_fn *survey_command_find(const char *op)
{
	static const struct {
		const char *name;
		survey_command_fn *run;
	} commands[] = {
		{"user_subscribe", on_subscribe},     {"user_unsubscribe", on_unsubscribe},
		{"user_disconnect", on_disconnect},   {"user_refresh", on_refresh},
		{"user_keep_newest", on_keep_newest},
	};

	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(op, commands[i].name) == 0)
			return commands[i].run;
	return NULL;
}
