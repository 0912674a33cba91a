/* SPDX-License-Identifier: ISC */
/*
 * Fuzz target for bodies of the server HTTP API: the first line is the method, or
 * "legacy" for the endpoint /api, the rest is the body. What is accepted must be
 * JSON that may go to clients, and lie in the body or in the request's own memory.
 */
#include "fuzz.h"
#include "keepsock/json.h"
#include "worker/http_api_batch.h"
#include "worker/http_api_request.h"

static void check_text(struct slice part, struct slice body, struct slice text)
{
	require(lies_in(part, body) || lies_in(part, text));
}

static void check_json(struct slice part, struct slice body, struct slice text)
{
	check_text(part, body, text);
	require(part.len == 0 || json_validate(part));
}

static void check_names(const struct http_api_names *names, size_t limit, struct slice body,
			struct slice text)
{
	require(names->count <= limit + 1);
	for (size_t i = 0; i < names->count; i++)
		check_text(names->items[i], body, text);
}

static void check_request(const struct http_api_request *request, struct slice body)
{
	const struct slice texts[] = {
		request->channel,           request->pattern, request->since_epoch,
		request->idempotency_key,   request->user,    request->client,
		request->version_epoch,     request->session, request->rpc_method,
		request->disconnect_reason,
	};
	struct slice text = buffer_slice(&request->text);

	require(json_validate(body) && json_kind_of(body) == JSON_KIND_OBJECT);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		check_text(texts[i], body, text);
	check_json(request->data, body, text);
	check_json(request->info, body, text);
	check_json(request->tags, body, text);
	require(request->tags.len == 0 || json_kind_of(request->tags) == JSON_KIND_OBJECT);
	check_names(&request->channels, HTTP_API_CHANNELS_MAX, body, text);
	check_names(&request->whitelist, HTTP_API_WHITELIST_MAX, body, text);
}

/* True if the body is a call of the method; the same each time. */
static bool check_call(enum http_api_method method, struct slice body)
{
	struct http_api_request request, again;
	bool good = http_api_request_parse(method, body, &request);

	require(http_api_request_parse(method, body, &again) == good);
	if (good) {
		check_request(&request, body);
		require(slice_equal(request.channel, again.channel) &&
			slice_equal(request.data, again.data) &&
			request.channels.count == again.channels.count);
	}
	http_api_request_free(&request);
	http_api_request_free(&again);
	return good;
}

static void check_commands(bool legacy, struct slice body)
{
	struct http_api_commands commands;
	bool good = legacy ? http_api_legacy_parse(body, &commands)
			   : http_api_batch_parse(body, &commands);

	require(!good || legacy || json_validate(body));
	require(commands.count <= HTTP_API_COMMANDS_MAX + 1);
	for (size_t i = 0; good && i < commands.count; i++) {
		const struct http_api_command *command = &commands.items[i];

		/* A legacy call without parameters has constant ones. */
		require(lies_in(command->params, body) || slice_is(command->params, "{}"));
		if (command->method != HTTP_API_UNKNOWN)
			require(check_call(command->method, command->params) == !command->bad);
	}
	http_api_commands_free(&commands);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *feed = size > 0 ? memchr(data, '\n', size) : NULL;
	size_t len = feed ? (size_t)(feed - (const char *)data) : size;
	struct slice name = take_input(&data, &size, len), body;

	take_input(&data, &size, 1);
	body = exact_copy(data, size);
	if (slice_is(name, "batch") || slice_is(name, "legacy"))
		check_commands(slice_is(name, "legacy"), body);
	else
		check_call(http_api_method_find(name), body);
	free((void *)body.data);
	return 0;
}
