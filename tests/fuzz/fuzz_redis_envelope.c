/* SPDX-License-Identifier: ISC */
/*
 * Fuzz target for the text around messages on Redis's pub/sub and in streams:
 * what is accepted is exactly what the builder would have written, so that
 * parsing and building again gives the same bytes, and every cut is refused.
 */
#include "fuzz.h"
#include "keepsock/redis_envelope.h"

static void check_body(struct slice text)
{
	struct redis_body body;
	struct buffer again = {0};

	if (!redis_envelope_parse_body(text, &body))
		return;
	require(lies_in(body.data, text) && lies_in(body.info, text) && lies_in(body.tags, text));
	redis_envelope_append_body(&again, &body);
	require(slice_equal(buffer_slice(&again), text));
	buffer_free(&again);
}

static void check_message(struct slice text)
{
	struct redis_envelope envelope, cut;
	struct buffer again = {0};

	if (!redis_envelope_parse(text, &envelope))
		return;
	require(envelope.sequence > 0);
	require(lies_in(envelope.epoch, text) && envelope.epoch.len <= REDIS_EPOCH_MAX);
	require((envelope.offset == 0) == (envelope.epoch.len == 0));
	redis_envelope_append(&again, &envelope);
	require(slice_equal(buffer_slice(&again), text));
	buffer_free(&again);
	for (size_t len = 0; len < text.len; len++)
		require(!redis_envelope_parse(slice_from(text.data, len), &cut));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice text = exact_copy(data, size);

	check_body(text);
	check_message(text);
	free((void *)text.data);
	return 0;
}
