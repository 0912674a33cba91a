/* SPDX-License-Identifier: ISC */
/* Records that are given to the record layer, see tls_opening.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "tls_craft.h"
#include "tls_opening.h"

struct tls_ciphers *ciphers;

int setup_group(void **state)
{
	const char *error;

	(void)state;
	ciphers = tls_ciphers_create(&error);
	return ciphers ? 0 : -1;
}

int teardown_group(void **state)
{
	(void)state;
	tls_ciphers_free(ciphers);
	return 0;
}

void craft(struct tls_state *peer, unsigned type, struct slice content, size_t padding,
	   struct buffer *out)
{
	tls_craft_record(ciphers, peer, type, content, padding, out);
}

enum tls_event open_exact(struct tls_state *state, struct slice input, uint64_t now_ms,
			  struct tls_opened *opened)
{
	static uint8_t out[TLS_RECORD_MAX];
	struct tls_state before = *state;
	char *copy = malloc(input.len > 0 ? input.len : 1), *kept = malloc(input.len + 1);
	enum tls_event event;

	assert_non_null(copy);
	assert_non_null(kept);
	if (input.len > 0)
		memcpy(copy, input.data, input.len);
	memcpy(kept, copy, input.len);
	event = tls_record_open(ciphers, state, slice_from(copy, input.len), now_ms, out, opened);
	assert_int_equal(event, opened->event);
	assert_memory_equal(copy, kept, input.len);
	assert_true(tls_state_valid(state));
	if (event == TLS_NEED_MORE || event == TLS_REFUSED) {
		assert_memory_equal(&before, state, sizeof(before));
		assert_int_equal(opened->consumed, 0);
	} else {
		assert_true(opened->consumed > 0 && opened->consumed <= input.len);
	}
	if (event == TLS_REFUSED)
		assert_int_equal(opened->alert, tls_refusal_alert(opened->refusal));
	free(copy);
	free(kept);
	return event;
}

void expect_refused(struct tls_state *state, struct slice input, enum tls_refusal refusal)
{
	struct tls_opened opened;

	assert_int_equal(open_exact(state, input, 0, &opened), TLS_REFUSED);
	assert_string_equal(tls_refusal_name(opened.refusal), tls_refusal_name(refusal));
}

enum tls_event give_at(struct tls_state *state, struct tls_state *peer, uint64_t now_ms,
		       unsigned type, struct slice content, struct tls_opened *opened)
{
	struct buffer record = {0};
	enum tls_event event;

	craft(peer, type, content, 0, &record);
	event = open_exact(state, buffer_slice(&record), now_ms, opened);
	buffer_free(&record);
	return event;
}

enum tls_event give(struct tls_state *state, unsigned type, struct slice content,
		    struct tls_opened *opened)
{
	struct tls_state peer = tls_craft_mirror(state);

	return give_at(state, &peer, 0, type, content, opened);
}

void expect_given_refused(struct tls_state *state, unsigned type, struct slice content,
			  enum tls_refusal refusal)
{
	struct tls_opened opened;

	assert_int_equal(give(state, type, content, &opened), TLS_REFUSED);
	assert_string_equal(tls_refusal_name(opened.refusal), tls_refusal_name(refusal));
}
