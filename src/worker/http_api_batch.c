/* SPDX-License-Identifier: ISC */
/*
 * Cutting bodies with several calls, see http_api_batch.h. Run by the worker.
 * Every call is read once for its form, so that a broken one is told before any
 * other has had an effect.
 */
#include "worker/http_api_batch.h"

#include <stdlib.h>

#include "keepsock/alloc.h"
#include "keepsock/json.h"

static void add(struct http_api_commands *commands, const struct http_api_command *command)
{
	size_t count = commands->count;

	if (count > HTTP_API_COMMANDS_MAX)
		return;
	/* Room for 16, 32, 64, … */
	if (count == 0 || (count >= 16 && (count & (count - 1)) == 0))
		commands->items = xrealloc(commands->items,
					   (count ? count * 2 : 16) * sizeof(*commands->items));
	commands->items[commands->count++] = *command;
}

static bool readable(const struct http_api_command *command)
{
	struct http_api_request request;
	bool fine = http_api_request_parse(command->method, command->params, &request);

	http_api_request_free(&request);
	return fine;
}

/* --- batch --- */

static bool take_command(struct http_api_commands *commands, struct slice raw)
{
	struct http_api_command command = {.method = HTTP_API_UNKNOWN};
	struct json_walk it;
	struct slice key, value;

	json_object_begin(&it, raw);
	while (json_object_next(&it, &key, &value)) {
		if (json_kind_of(value) == JSON_KIND_NULL)
			continue;
		for (int i = HTTP_API_UNKNOWN + 1; i < HTTP_API_METHOD_COUNT; i++) {
			enum http_api_method method = (enum http_api_method)i;

			if (command.method != HTTP_API_UNKNOWN && command.method < method)
				break;
			if (json_string_is(key, http_api_method_name(method))) {
				command.method = method;
				command.params = value;
			}
		}
	}
	if (!json_walk_ok(&it) || (command.method != HTTP_API_UNKNOWN && !readable(&command)))
		return false;
	add(commands, &command);
	return true;
}

static bool take_commands(struct http_api_commands *commands, struct slice raw)
{
	struct json_walk it;
	struct slice value;

	http_api_commands_free(commands);
	json_array_begin(&it, raw);
	while (json_array_next(&it, &value))
		if (!take_command(commands, value))
			return false;
	return json_walk_ok(&it);
}

bool http_api_batch_parse(struct slice body, struct http_api_commands *commands)
{
	struct json_walk it;
	struct slice key, value;
	bool parallel = false;

	*commands = (struct http_api_commands){0};
	json_object_begin(&it, body);
	while (json_object_next(&it, &key, &value)) {
		if (json_kind_of(value) == JSON_KIND_NULL)
			continue;
		if (json_string_is(key, "commands") && !take_commands(commands, value))
			return false;
		if (json_string_is(key, "parallel") && !json_get_bool(value, &parallel))
			return false;
	}
	commands->parallel = parallel;
	return json_walk_ok(&it);
}

/* --- legacy --- */

/* Methods come as "publish" and as "PUBLISH". */
static bool take_method(struct slice raw, enum http_api_method *method)
{
	struct buffer name = {0};

	if (!json_string_decode(raw, &name))
		return false;
	for (size_t i = 0; i < name.len; i++)
		if (name.data[i] >= 'A' && name.data[i] <= 'Z')
			name.data[i] = (char)(name.data[i] - 'A' + 'a');
	*method = http_api_method_find(buffer_slice(&name));
	buffer_free(&name);
	return true;
}

static bool take_legacy(struct http_api_commands *commands, struct slice raw)
{
	struct http_api_command command = {.params = SLICE("{}")};
	struct json_walk it;
	struct slice key, value;

	json_object_begin(&it, raw);
	while (json_object_next(&it, &key, &value)) {
		if (json_kind_of(value) == JSON_KIND_NULL)
			continue;
		if (json_string_is(key, "method") && !take_method(value, &command.method))
			return false;
		if (json_string_is(key, "id") && !json_get_u32(value, &command.id))
			return false;
		if (json_string_is(key, "params"))
			command.params = value;
	}
	if (!json_walk_ok(&it))
		return false;
	command.bad = command.method != HTTP_API_UNKNOWN && !readable(&command);
	add(commands, &command);
	return true;
}

bool http_api_legacy_parse(struct slice body, struct http_api_commands *commands)
{
	struct slice value;

	*commands = (struct http_api_commands){0};
	while (json_values_next(&body, &value))
		if (!take_legacy(commands, value))
			return false;
	return body.len == 0 && commands->count > 0;
}

void http_api_commands_free(struct http_api_commands *commands)
{
	free(commands->items);
	*commands = (struct http_api_commands){0};
}
