/* SPDX-License-Identifier: ISC */
/* KeyUpdates (RFC 8446 §4.6.3): read, answered, in pieces, wrong, and too many. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "keepsock/buffer.h"
#include "keepsock/tls_record.h"
#include "net/tls_format.h"
#include "net/tls_keys.h"
#include "tls_craft.h"
#include "tls_opening.h"

#define KEY_UPDATE         SLICE("\x18\0\0\1\0")
#define KEY_UPDATE_REQUEST SLICE("\x18\0\0\1\1")

static void test_key_update_read(void **unused)
{
	struct tls_state state = tls_craft_state(AES_256_GCM_1_3), peer = tls_craft_mirror(&state);
	const struct tls_suite *suite = tls_suite_find(AES_256_GCM_1_3);
	struct tls_opened opened;

	(void)unused;
	assert_int_equal(give_at(&state, &peer, 0, TLS_HANDSHAKE, KEY_UPDATE, &opened),
			 TLS_KEY_UPDATE);
	assert_false(state.flags & TLS_KEY_UPDATE_DUE);
	assert_int_equal(state.read.sequence, 0);
	assert_true(tls_keys_update(suite, &peer.write));
	assert_memory_equal(&state.read, &peer.write, sizeof(peer.write));
	assert_int_equal(
		give_at(&state, &peer, 0, TLS_APPLICATION_DATA, SLICE("new keys"), &opened),
		TLS_DATA);
	assert_int_equal(give_at(&state, &peer, 0, TLS_HANDSHAKE, KEY_UPDATE_REQUEST, &opened),
			 TLS_KEY_UPDATE);
	assert_true(state.flags & TLS_KEY_UPDATE_DUE);
}

/* Several requests, one answer, ahead of the next data (RFC 8446 §4.6.3). */
static void test_key_update_answered_once(void **unused)
{
	struct tls_state state = tls_craft_state(CHACHA20_1_3), peer = tls_craft_mirror(&state);
	const struct tls_suite *suite = tls_suite_find(CHACHA20_1_3);
	struct tls_block_entry entry = {.state = &state};
	struct tls_opened opened;
	struct buffer out = {0};
	uint8_t scratch[256];

	(void)unused;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(
			give_at(&state, &peer, 0, TLS_HANDSHAKE, KEY_UPDATE_REQUEST, &opened),
			TLS_KEY_UPDATE);
		assert_true(tls_keys_update(suite, &peer.write));
	}
	/* Nothing to send is nothing to send. */
	assert_int_equal(tls_record_seal(ciphers, &state, SLICE(""), &out), TLS_SEALED);
	assert_int_equal(out.len, 0);
	/* A block leaves it to the queue. */
	assert_int_equal(
		tls_record_seal_block(ciphers, SLICE("data"), &entry, 1, scratch, sizeof(scratch)),
		1);
	assert_int_equal(entry.records.len, 0);
	assert_int_equal(tls_record_seal(ciphers, &state, SLICE("data"), &out), TLS_SEALED);
	assert_int_equal(state.write.sequence, 1);
	assert_int_equal(open_exact(&peer, buffer_slice(&out), 0, &opened), TLS_KEY_UPDATE);
	assert_false(peer.flags & TLS_KEY_UPDATE_DUE);
	buffer_consume(&out, opened.consumed);
	assert_int_equal(open_exact(&peer, buffer_slice(&out), 0, &opened), TLS_DATA);
	assert_true(slice_is(opened.plaintext, "data"));
	assert_int_equal(opened.consumed, out.len);
	assert_true(tls_record_seal_ready(&state, 4));
	buffer_free(&out);
}

static void test_key_update_in_pieces(void **unused)
{
	(void)unused;
	/* Every way to cut it in two, and all in single bytes. */
	for (size_t cut = 1; cut < 5; cut++) {
		struct tls_state state = tls_craft_state(AES_128_GCM_1_3),
				 peer = tls_craft_mirror(&state);
		struct slice message = KEY_UPDATE_REQUEST;
		struct tls_opened opened;

		assert_int_equal(give_at(&state, &peer, 0, TLS_HANDSHAKE,
					 slice_from(message.data, cut), &opened),
				 TLS_IGNORED);
		assert_int_equal(state.fragment_length, cut);
		/* Nothing may come between (RFC 8446 §5.1). */
		expect_given_refused(&state, TLS_APPLICATION_DATA, SLICE("x"),
				     TLS_REFUSED_INTERLEAVED);
		expect_given_refused(&state, TLS_APPLICATION_DATA, SLICE(""),
				     TLS_REFUSED_INTERLEAVED);
		expect_given_refused(&state, TLS_ALERT, SLICE("\1\0"), TLS_REFUSED_INTERLEAVED);
		assert_int_equal(give_at(&state, &peer, 0, TLS_HANDSHAKE,
					 slice_from(message.data + cut, 5 - cut), &opened),
				 TLS_KEY_UPDATE);
		assert_int_equal(state.fragment_length, 0);
		assert_true(state.flags & TLS_KEY_UPDATE_DUE);
	}
	struct tls_state state = tls_craft_state(AES_128_GCM_1_3), peer = tls_craft_mirror(&state);
	struct tls_opened opened;

	for (size_t i = 0; i < 5; i++)
		assert_int_equal(give_at(&state, &peer, 0, TLS_HANDSHAKE,
					 slice_from(KEY_UPDATE.data + i, 1), &opened),
				 i < 4 ? TLS_IGNORED : TLS_KEY_UPDATE);
}

static void test_key_updates_that_are_wrong(void **unused)
{
	struct tls_state state = tls_craft_state(AES_128_GCM_1_3);
	struct tls_opened opened;

	(void)unused;
	expect_given_refused(&state, TLS_HANDSHAKE, SLICE("\x18\0\0\1\2"),
			     TLS_REFUSED_ILLEGAL_VALUE);
	expect_given_refused(&state, TLS_HANDSHAKE, SLICE("\x18\0\0\2\0\0"), TLS_REFUSED_MALFORMED);
	expect_given_refused(&state, TLS_HANDSHAKE, SLICE("\x18\0\0\0"), TLS_REFUSED_MALFORMED);
	expect_given_refused(&state, TLS_HANDSHAKE, SLICE("\x18\1\0\1\0"), TLS_REFUSED_MALFORMED);
	/* What follows would be under other keys. */
	expect_given_refused(&state, TLS_HANDSHAKE, SLICE("\x18\0\0\1\0\x18\0\0\1\0"),
			     TLS_REFUSED_UNEXPECTED);
	expect_given_refused(&state, TLS_HANDSHAKE, SLICE("\x18\0\0\1\0\x18"),
			     TLS_REFUSED_UNEXPECTED);
	/* The same in pieces. */
	assert_int_equal(give(&state, TLS_HANDSHAKE, SLICE("\x18\0\0"), &opened), TLS_IGNORED);
	expect_given_refused(&state, TLS_HANDSHAKE, SLICE("\2\0"), TLS_REFUSED_MALFORMED);
	expect_given_refused(&state, TLS_HANDSHAKE, SLICE("\1\3"), TLS_REFUSED_ILLEGAL_VALUE);
	expect_given_refused(&state, TLS_HANDSHAKE, SLICE("\1\0\0"), TLS_REFUSED_UNEXPECTED);
}

static void test_key_update_flood(void **unused)
{
	struct tls_state state = tls_craft_state(AES_128_GCM_1_3), peer = tls_craft_mirror(&state);
	const struct tls_suite *suite = tls_suite_find(AES_128_GCM_1_3);
	struct tls_opened opened;
	uint64_t now = 1000000;

	(void)unused;
	for (int i = 0; i < 32; i++) {
		assert_int_equal(give_at(&state, &peer, now, TLS_HANDSHAKE, KEY_UPDATE, &opened),
				 TLS_KEY_UPDATE);
		assert_true(tls_keys_update(suite, &peer.write));
	}
	struct tls_state kept = peer;
	assert_int_equal(give_at(&state, &peer, now, TLS_HANDSHAKE, KEY_UPDATE, &opened),
			 TLS_REFUSED);
	assert_int_equal(opened.refusal, TLS_REFUSED_KEY_UPDATES);
	/* One a second is fine for ever. */
	peer = kept;
	for (int i = 0; i < 40; i++) {
		now += 1000;
		assert_int_equal(give_at(&state, &peer, now, TLS_HANDSHAKE, KEY_UPDATE, &opened),
				 TLS_KEY_UPDATE);
		assert_true(tls_keys_update(suite, &peer.write));
	}
	/* After a move to a machine that started later. */
	assert_int_equal(give_at(&state, &peer, 5, TLS_HANDSHAKE, KEY_UPDATE, &opened),
			 TLS_KEY_UPDATE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_key_update_read),
		cmocka_unit_test(test_key_update_answered_once),
		cmocka_unit_test(test_key_update_in_pieces),
		cmocka_unit_test(test_key_updates_that_are_wrong),
		cmocka_unit_test(test_key_update_flood),
	};

	return cmocka_run_group_tests(tests, setup_group, teardown_group);
}
