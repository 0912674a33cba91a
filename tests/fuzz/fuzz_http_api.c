/* SPDX-License-Identifier: ISC */
/*
 * Fuzz target for bodies of the server HTTP API: the first byte chooses the
 * method, the rest is the body. What is accepted must be JSON that may go to
 * clients, and lie in the body or in the request's own memory.
 */
#include "fuzz.h"
#include "keepsock/json.h"
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

static void check_request(const struct http_api_request *request, struct slice body)
{
	struct slice text = buffer_slice(&request->text);

	require(json_validate(body) && json_kind_of(body) == JSON_KIND_OBJECT);
	check_text(request->channel, body, text);
	check_text(request->pattern, body, text);
	check_text(request->since_epoch, body, text);
	check_json(request->data, body, text);
	check_json(request->tags, body, text);
	require(request->tags.len == 0 || json_kind_of(request->tags) == JSON_KIND_OBJECT);
	require(request->n_channels <= HTTP_API_CHANNELS_MAX + 1);
	for (size_t i = 0; i < request->n_channels; i++)
		check_text(request->channels[i], body, text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice choice = take_input(&data, &size, 1), body = exact_copy(data, size);
	struct http_api_request request, again;
	enum http_api_method method = HTTP_API_UNKNOWN;

	if (choice.len > 0)
		method = (enum http_api_method)((uint8_t)choice.data[0] % HTTP_API_METHOD_COUNT);
	bool good = http_api_request_parse(method, body, &request);
	if (good)
		check_request(&request, body);
	require(http_api_request_parse(method, body, &again) == good);
	if (good)
		require(slice_equal(request.channel, again.channel) &&
			slice_equal(request.data, again.data) &&
			request.n_channels == again.n_channels);
	http_api_request_free(&request);
	http_api_request_free(&again);
	free((void *)body.data);
	return 0;
}
