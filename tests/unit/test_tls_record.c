/* SPDX-License-Identifier: ISC */
/*
 * The record layer by itself: the records of RFC 8448, everything a peer can do
 * wrong, limits, blocks for many. The peer is the same code with its directions
 * exchanged, where it does nothing wrong. KeyUpdates: test_tls_key_update.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/buffer.h"
#include "keepsock/tls_record.h"
#include "net/tls_format.h"
#include "net/tls_keys.h"
#include "tls_craft.h"
#include "tls_opening.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const unsigned some_suites[] = {AES_128_GCM_1_3, AES_256_GCM_1_3, CHACHA20_1_3, CCM_1_3,
				       CCM_8_1_3,       AES_128_GCM_1_2, CHACHA20_1_2, CCM_8_1_2};

static void from_hex(const char *text, struct buffer *out)
{
	for (; *text; text++) {
		char digits[3] = {text[0], text[1], 0};

		if (*text == ' ')
			continue;
		buffer_append_char(out, (char)strtoul(digits, NULL, 16));
		text++;
	}
}

/* ---- RFC 8448 §3: the simple 1-RTT handshake ---- */

#define SERVER_SECRET "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643"
#define SERVER_KEY    "9f02283b6c9c07efc26bb9f2ac92e356"
#define SERVER_IV     "cf782b88dd83549aadf1e984"
#define CLIENT_SECRET "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5"
#define CLIENT_KEY    "17422dda596ed5d9acd890e3c63f5051"
#define CLIENT_IV     "5b78923dee08579033e523d9"

/* The server's records: a ticket (sequence 0), 50 bytes of data, close_notify. */
#define SERVER_DATA                                                                              \
	"17 03 03 00 43 2e 93 7e 11 ef 4a c7 40 e5 38 ad 36 00 5f c4 a4 69 32 fc 32 25 d0 5f 82" \
	"aa 1b 36 e3 0e fa f9 7d 90 e6 df fc 60 2d cb 50 1a 59 a8 fc c4 9c 4b f2 e5 f0 a2 1c 00" \
	"47 c2 ab f3 32 54 0d d0 32 e1 67 c2 95 5d"
#define SERVER_CLOSE "17 03 03 00 13 b5 8f d6 71 66 eb f5 99 d2 47 20 cf be 7e fa 7a 88 64 a9"
/* The client's: data (sequence 0), close_notify. */
#define CLIENT_DATA                                                                              \
	"17 03 03 00 43 a2 3f 70 54 b6 2c 94 d0 af fa fe 82 28 ba 55 cb ef ac ea 42 f9 14 aa 66" \
	"bc ab 3f 2b 98 19 a8 a5 b4 6b 39 5b d5 4a 9a 20 44 1e 2b 62 97 4e 1f 5a 62 92 a2 97 70" \
	"14 bd 1e 3d ea e6 3a ee bb 21 69 49 15 e4"
#define CLIENT_CLOSE "17 03 03 00 13 c9 87 27 60 65 56 66 b7 4d 7f f1 15 3e fd 6d b6 d0 b0 e3"

static void expect_hex(const void *data, size_t length, const char *hex)
{
	struct buffer expected = {0};

	from_hex(hex, &expected);
	assert_int_equal(length, expected.len);
	assert_memory_equal(data, expected.data, length);
	buffer_free(&expected);
}

static void keys_of_trace(struct tls_direction *direction, const char *secret)
{
	struct buffer bytes = {0};

	from_hex(secret, &bytes);
	assert_true(tls_keys_from_secret(tls_suite_find(AES_128_GCM_1_3), (uint8_t *)bytes.data,
					 direction));
	buffer_free(&bytes);
}

static void test_rfc_8448(void **unused)
{
	struct tls_state state = {.version = TLS_VERSION_1_3,
				  .suite = AES_128_GCM_1_3,
				  .max_plaintext = TLS_PLAINTEXT_MAX};
	struct buffer wire = {0}, made = {0};
	struct tls_opened opened;
	char data[50];

	(void)unused;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)i;
	keys_of_trace(&state.read, CLIENT_SECRET);
	keys_of_trace(&state.write, SERVER_SECRET);
	expect_hex(state.read.key, 16, CLIENT_KEY);
	expect_hex(state.read.iv, 12, CLIENT_IV);
	expect_hex(state.write.key, 16, SERVER_KEY);
	expect_hex(state.write.iv, 12, SERVER_IV);
	from_hex(CLIENT_DATA, &wire);
	from_hex(CLIENT_CLOSE, &wire);
	assert_int_equal(open_exact(&state, buffer_slice(&wire), 0, &opened), TLS_DATA);
	assert_true(slice_equal(opened.plaintext, slice_from(data, sizeof(data))));
	buffer_consume(&wire, opened.consumed);
	assert_int_equal(open_exact(&state, buffer_slice(&wire), 0, &opened), TLS_CLOSE_NOTIFY);
	assert_int_equal(opened.consumed, wire.len);
	assert_int_equal(state.read.sequence, 2);

	state.write.sequence = 1;
	assert_int_equal(tls_record_seal(ciphers, &state, slice_from(data, sizeof(data)), &made),
			 TLS_SEALED);
	expect_hex(made.data, made.len, SERVER_DATA);
	buffer_reset(&made);
	assert_int_equal(tls_record_seal_alert(ciphers, &state, TLS_ALERT_CLOSE_NOTIFY, &made),
			 TLS_SEALED);
	expect_hex(made.data, made.len, SERVER_CLOSE);
	buffer_free(&wire);
	buffer_free(&made);
}

/* ---- what comes in order ---- */

static void test_needs_exactly_so_much(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(some_suites); i++) {
		struct tls_state state = tls_craft_state(some_suites[i]),
				 peer = tls_craft_mirror(&state);
		struct buffer wire = {0};
		struct tls_opened opened;

		craft(&peer, TLS_APPLICATION_DATA, SLICE("hello"), 3, &wire);
		for (size_t cut = 0; cut < wire.len; cut++) {
			assert_int_equal(open_exact(&state, slice_from(wire.data, cut), 0, &opened),
					 TLS_NEED_MORE);
			assert_int_equal(opened.needed, cut < 5 ? 5 : wire.len);
		}
		assert_int_equal(tls_record_length(slice_from(wire.data, 4)), 0);
		assert_int_equal(tls_record_length(buffer_slice(&wire)), wire.len);
		buffer_append_str(&wire, "behind");
		assert_int_equal(open_exact(&state, buffer_slice(&wire), 0, &opened), TLS_DATA);
		assert_int_equal(opened.consumed, wire.len - 6);
		assert_true(slice_is(opened.plaintext, "hello"));
		assert_int_equal(state.read.sequence, 1);
		buffer_free(&wire);
	}
}

static void test_sizes_and_padding(void **unused)
{
	static char zeros[TLS_PLAINTEXT_MAX + 257];

	(void)unused;
	for (size_t i = 0; i < COUNT(some_suites); i++) {
		struct tls_state state = tls_craft_state(some_suites[i]),
				 peer = tls_craft_mirror(&state);
		bool newer = state.version == TLS_VERSION_1_3;
		struct buffer wire = {0};
		struct tls_opened opened;

		/* Zeros, which only the type behind them tells from padding. */
		craft(&peer, TLS_APPLICATION_DATA, slice_from(zeros, TLS_PLAINTEXT_MAX),
		      newer ? 255 - tls_aeads[tls_suite_find(state.suite)->aead].tag_length : 0,
		      &wire);
		assert_int_equal(open_exact(&state, buffer_slice(&wire), 0, &opened), TLS_DATA);
		assert_int_equal(opened.plaintext.len, TLS_PLAINTEXT_MAX);
		buffer_reset(&wire);
		craft(&peer, TLS_APPLICATION_DATA, SLICE(""), 0, &wire);
		assert_int_equal(open_exact(&state, buffer_slice(&wire), 0, &opened), TLS_DATA);
		assert_int_equal(opened.plaintext.len, 0);
		buffer_reset(&wire);
		/* One byte more than a record may carry. */
		craft(&peer, TLS_APPLICATION_DATA, slice_from(zeros, TLS_PLAINTEXT_MAX + 1), 0,
		      &wire);
		expect_refused(&state, buffer_slice(&wire), TLS_REFUSED_OVERSIZED);
		buffer_free(&wire);
	}
}

static void test_negotiated_fragment_length(void **unused)
{
	static char data[513];

	(void)unused;
	for (size_t i = 0; i < COUNT(some_suites); i++) {
		struct tls_state state = tls_craft_state(some_suites[i]);
		struct tls_opened opened;

		state.max_plaintext = 512;
		assert_int_equal(give(&state, TLS_APPLICATION_DATA, slice_from(data, 512), &opened),
				 TLS_DATA);
		expect_given_refused(&state, TLS_APPLICATION_DATA, slice_from(data, 513),
				     TLS_REFUSED_OVERSIZED);
	}
}

/* ---- what is forged, or out of order ---- */

static void test_any_flipped_bit(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(some_suites); i++) {
		struct tls_state state = tls_craft_state(some_suites[i]),
				 peer = tls_craft_mirror(&state);
		struct buffer wire = {0};
		struct tls_opened opened;

		craft(&peer, TLS_APPLICATION_DATA, SLICE("a message"), 4, &wire);
		for (size_t bit = 0; bit < 8 * wire.len; bit++) {
			enum tls_event event;

			wire.data[bit / 8] = (char)(wire.data[bit / 8] ^ 1 << bit % 8);
			event = open_exact(&state, buffer_slice(&wire), 0, &opened);
			/* A longer record is waited for, up to the longest there is. */
			if (event == TLS_NEED_MORE)
				assert_true((bit / 8 == 3 || bit / 8 == 4) &&
					    opened.needed <= TLS_RECORD_MAX);
			else
				assert_int_equal(event, TLS_REFUSED);
			wire.data[bit / 8] = (char)(wire.data[bit / 8] ^ 1 << bit % 8);
		}
		/* None of this did any harm. */
		assert_int_equal(open_exact(&state, buffer_slice(&wire), 0, &opened), TLS_DATA);
		/* The same again is out of order. */
		expect_refused(&state, buffer_slice(&wire), TLS_REFUSED_FORGED);
		buffer_free(&wire);
	}
}

static void test_dropped_record(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(some_suites); i++) {
		struct tls_state state = tls_craft_state(some_suites[i]),
				 peer = tls_craft_mirror(&state);
		struct buffer wire = {0};

		craft(&peer, TLS_APPLICATION_DATA, SLICE("dropped"), 0, &wire);
		buffer_reset(&wire);
		craft(&peer, TLS_APPLICATION_DATA, SLICE("next"), 0, &wire);
		expect_refused(&state, buffer_slice(&wire), TLS_REFUSED_FORGED);
		buffer_free(&wire);
	}
}

/* Judged by the header alone, before anything of the record is there. */
static void test_hopeless_headers(void **unused)
{
	static const struct {
		unsigned suite;
		struct slice header;
		enum tls_refusal refusal;
	} table[] = {
		{AES_128_GCM_1_3, SLICE("\x14\x03\x03\x00\x01"), TLS_REFUSED_UNEXPECTED},
		{AES_128_GCM_1_3, SLICE("\x15\x03\x03\x00\x02"), TLS_REFUSED_UNEXPECTED},
		{AES_128_GCM_1_3, SLICE("\x16\x03\x03\x00\x40"), TLS_REFUSED_UNEXPECTED},
		{AES_128_GCM_1_3, SLICE("\x18\x03\x03\x00\x40"), TLS_REFUSED_UNEXPECTED},
		{AES_128_GCM_1_3, SLICE("GET /"), TLS_REFUSED_UNEXPECTED},
		{AES_128_GCM_1_3, SLICE("\x17\x03\x01\x00\x40"), TLS_REFUSED_MALFORMED},
		{AES_128_GCM_1_3, SLICE("\x17\x03\x03\x41\x01"), TLS_REFUSED_OVERSIZED},
		{AES_128_GCM_1_3, SLICE("\x17\x03\x03\xff\xff"), TLS_REFUSED_OVERSIZED},
		{AES_128_GCM_1_3, SLICE("\x17\x03\x03\x00\x10"), TLS_REFUSED_FORGED},
		{AES_128_GCM_1_3, SLICE("\x17\x03\x03\x00\x00"), TLS_REFUSED_FORGED},
		{CCM_8_1_3, SLICE("\x17\x03\x03\x00\x08"), TLS_REFUSED_FORGED},
		{AES_128_GCM_1_2, SLICE("\x13\x03\x03\x00\x40"), TLS_REFUSED_UNEXPECTED},
		{AES_128_GCM_1_2, SLICE("\x18\x03\x03\x00\x40"), TLS_REFUSED_UNEXPECTED},
		{AES_128_GCM_1_2, SLICE("\x17\x03\x02\x00\x40"), TLS_REFUSED_VERSION},
		{AES_128_GCM_1_2, SLICE("\x17\x03\x03\x40\x19"), TLS_REFUSED_OVERSIZED},
		{AES_128_GCM_1_2, SLICE("\x17\x03\x03\x44\x01"), TLS_REFUSED_OVERSIZED},
		{AES_128_GCM_1_2, SLICE("\x17\x03\x03\x00\x17"), TLS_REFUSED_FORGED},
		{CHACHA20_1_2, SLICE("\x17\x03\x03\x00\x0f"), TLS_REFUSED_FORGED},
		{CHACHA20_1_2, SLICE("\x17\x03\x03\x40\x11"), TLS_REFUSED_OVERSIZED},
	};

	(void)unused;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct tls_state state = tls_craft_state(table[i].suite);

		expect_refused(&state, table[i].header, table[i].refusal);
	}
}

static void test_contents_nobody_expects(void **unused)
{
	struct tls_state newer = tls_craft_state(CHACHA20_1_3),
			 older = tls_craft_state(AES_128_GCM_1_2);
	struct tls_state peer = tls_craft_mirror(&newer);
	struct buffer wire = {0};

	(void)unused;
	/* Only padding. */
	craft(&peer, 0, SLICE(""), 40, &wire);
	expect_refused(&newer, buffer_slice(&wire), TLS_REFUSED_UNEXPECTED);
	expect_given_refused(&newer, TLS_CHANGE_CIPHER_SPEC, SLICE("\1"), TLS_REFUSED_UNEXPECTED);
	expect_given_refused(&newer, 99, SLICE("x"), TLS_REFUSED_UNEXPECTED);
	expect_given_refused(&newer, TLS_HANDSHAKE, SLICE(""), TLS_REFUSED_UNEXPECTED);
	expect_given_refused(&newer, TLS_ALERT, SLICE(""), TLS_REFUSED_MALFORMED);
	/* A certificate that was not asked for; a Finished; a new ClientHello. */
	expect_given_refused(&newer, TLS_HANDSHAKE, SLICE("\x0b\0\0\4\0\0\0\0"),
			     TLS_REFUSED_UNEXPECTED);
	expect_given_refused(&newer, TLS_HANDSHAKE, SLICE("\x14"), TLS_REFUSED_UNEXPECTED);
	expect_given_refused(&newer, TLS_HANDSHAKE, SLICE("\1\0\0\1\0"), TLS_REFUSED_UNEXPECTED);
	expect_given_refused(&older, TLS_CHANGE_CIPHER_SPEC, SLICE("\1"), TLS_REFUSED_UNEXPECTED);
	expect_given_refused(&older, TLS_HANDSHAKE, SLICE("\1\0\0\1\0"), TLS_REFUSED_RENEGOTIATION);
	expect_given_refused(&older, TLS_HANDSHAKE, SLICE("\x14\0\0\1\0"), TLS_REFUSED_UNEXPECTED);
	expect_given_refused(&older, TLS_HANDSHAKE, SLICE(""), TLS_REFUSED_UNEXPECTED);
	expect_given_refused(&older, TLS_HANDSHAKE, SLICE("\x18\0\0\1\0"), TLS_REFUSED_UNEXPECTED);
	buffer_free(&wire);
}

/* ---- alerts ---- */

static void test_alerts(void **unused)
{
	static const struct {
		unsigned suite;
		struct slice content;
		enum tls_event event;
		unsigned alert; /* or why it is refused */
	} table[] = {
		{AES_128_GCM_1_3, SLICE("\1\0"), TLS_CLOSE_NOTIFY, 0},
		{AES_128_GCM_1_3, SLICE("\2\0"), TLS_CLOSE_NOTIFY, 0},
		{AES_128_GCM_1_3, SLICE("\1\x5a"), TLS_IGNORED, 0},
		{AES_128_GCM_1_3, SLICE("\2\x14"), TLS_PEER_ALERT, 20},
		{AES_128_GCM_1_3, SLICE("\1\x14"), TLS_PEER_ALERT, 20},
		{AES_128_GCM_1_3, SLICE("\3\x14"), TLS_REFUSED, TLS_REFUSED_ILLEGAL_VALUE},
		{AES_128_GCM_1_3, SLICE("\2"), TLS_REFUSED, TLS_REFUSED_MALFORMED},
		{AES_128_GCM_1_3, SLICE("\2\0\0"), TLS_REFUSED, TLS_REFUSED_MALFORMED},
		{AES_128_GCM_1_3, SLICE("\2\0\2\0"), TLS_REFUSED, TLS_REFUSED_MALFORMED},
		{AES_128_GCM_1_2, SLICE("\1\0"), TLS_CLOSE_NOTIFY, 0},
		{AES_128_GCM_1_2, SLICE("\1\x64"), TLS_IGNORED, 0},
		{AES_128_GCM_1_2, SLICE("\2\x64"), TLS_PEER_ALERT, 100},
		{AES_128_GCM_1_2, SLICE("\0\x64"), TLS_REFUSED, TLS_REFUSED_ILLEGAL_VALUE},
		{AES_128_GCM_1_2, SLICE(""), TLS_REFUSED, TLS_REFUSED_MALFORMED},
	};

	(void)unused;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct tls_state state = tls_craft_state(table[i].suite);
		struct tls_opened opened;

		assert_int_equal(give(&state, TLS_ALERT, table[i].content, &opened),
				 table[i].event);
		if (table[i].event == TLS_PEER_ALERT)
			assert_int_equal(opened.alert, table[i].alert);
		if (table[i].event == TLS_REFUSED)
			assert_int_equal(opened.refusal, table[i].alert);
		assert_int_equal(state.flags & TLS_CLOSE_NOTIFY_READ,
				 table[i].event == TLS_CLOSE_NOTIFY ? TLS_CLOSE_NOTIFY_READ : 0);
	}
}

/* What follows close_notify is dropped, whatever it is; what we have to say still goes out. */
static void test_after_close_notify(void **unused)
{
	struct tls_state state = tls_craft_state(AES_256_GCM_1_3);
	struct tls_opened opened;
	struct buffer out = {0};

	(void)unused;
	assert_int_equal(give(&state, TLS_ALERT, SLICE("\1\0"), &opened), TLS_CLOSE_NOTIFY);
	assert_int_equal(open_exact(&state, SLICE("garbage"), 0, &opened), TLS_CLOSE_NOTIFY);
	assert_int_equal(opened.consumed, 7);
	assert_int_equal(tls_record_seal(ciphers, &state, SLICE("bye"), &out), TLS_SEALED);
	buffer_free(&out);
}

static void test_our_last_word(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(some_suites); i++) {
		struct tls_state state = tls_craft_state(some_suites[i]),
				 peer = tls_craft_mirror(&state);
		struct buffer out = {0};
		struct tls_opened opened;

		assert_int_equal(
			tls_record_seal_alert(ciphers, &state, TLS_ALERT_USER_CANCELED, &out),
			TLS_SEALED);
		assert_true(tls_record_seal_ready(&state, 1));
		assert_int_equal(
			tls_record_seal_alert(ciphers, &state, TLS_ALERT_BAD_RECORD_MAC, &out),
			TLS_SEALED);
		assert_int_equal(open_exact(&peer, buffer_slice(&out), 0, &opened), TLS_IGNORED);
		buffer_consume(&out, opened.consumed);
		assert_int_equal(open_exact(&peer, buffer_slice(&out), 0, &opened), TLS_PEER_ALERT);
		assert_int_equal(opened.alert, TLS_ALERT_BAD_RECORD_MAC);
		buffer_reset(&out);
		assert_false(tls_record_seal_ready(&state, 1));
		assert_int_equal(tls_record_seal(ciphers, &state, SLICE("x"), &out),
				 TLS_SEAL_CLOSED);
		assert_int_equal(
			tls_record_seal_alert(ciphers, &state, TLS_ALERT_CLOSE_NOTIFY, &out),
			TLS_SEAL_CLOSED);
		assert_int_equal(tls_record_seal_key_update(ciphers, &state, false, &out),
				 TLS_SEAL_CLOSED);
		assert_int_equal(out.len, 0);
		buffer_free(&out);
	}
}

/* Records that bring nothing are not free. */
static void test_fruitless_records(void **unused)
{
	static const struct {
		unsigned suite, type;
		struct slice content;
	} table[] = {
		{AES_128_GCM_1_3, TLS_APPLICATION_DATA, SLICE("")},
		{AES_128_GCM_1_3, TLS_ALERT, SLICE("\1\x5a")},
		{AES_128_GCM_1_2, TLS_APPLICATION_DATA, SLICE("")},
		{AES_128_GCM_1_2, TLS_ALERT, SLICE("\1\x64")},
	};

	(void)unused;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct tls_state state = tls_craft_state(table[i].suite);
		struct tls_opened opened;

		for (int round = 0; round < 2; round++) {
			for (int n = 0; n < 32; n++)
				assert_int_not_equal(
					give(&state, table[i].type, table[i].content, &opened),
					TLS_REFUSED);
			expect_given_refused(&state, table[i].type, table[i].content,
					     TLS_REFUSED_FRUITLESS);
			assert_int_equal(give(&state, TLS_APPLICATION_DATA, SLICE("x"), &opened),
					 TLS_DATA);
		}
	}
}

/* ---- limits ---- */

/* The key has protected all it may: 1.3 takes another, 1.2 ends. */
static void test_limit_of_a_key(void **unused)
{
	static const struct {
		unsigned suite;
		uint64_t limit;
	} table[] = {{AES_128_GCM_1_3, 1u << 24},
		     {AES_256_GCM_1_3, 1u << 24},
		     {CCM_1_3, 1u << 23},
		     {CHACHA20_1_3, (uint64_t)1 << 60}};
	static char data[3 * TLS_PLAINTEXT_MAX];

	(void)unused;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct tls_state state = tls_craft_state(table[i].suite), peer;
		struct buffer out = {0};
		struct tls_opened opened;
		unsigned updates = 0, records = 0;

		state.write.sequence = table[i].limit - 1;
		peer = tls_craft_mirror(&state);
		assert_true(tls_record_seal_ready(&state, TLS_PLAINTEXT_MAX));
		assert_false(tls_record_seal_ready(&state, TLS_PLAINTEXT_MAX + 1));
		/* In the middle of it. */
		assert_int_equal(
			tls_record_seal(ciphers, &state, slice_from(data, sizeof(data)), &out),
			TLS_SEALED);
		assert_int_equal(state.write.sequence, 2);
		while (out.len > 0) {
			enum tls_event event = open_exact(&peer, buffer_slice(&out), 0, &opened);

			updates += event == TLS_KEY_UPDATE;
			records += event == TLS_DATA;
			buffer_consume(&out, opened.consumed);
		}
		assert_int_equal(updates, 1);
		assert_int_equal(records, 3);
		buffer_free(&out);
	}
}

static void test_limit_of_a_key_1_2(void **unused)
{
	struct tls_state state = tls_craft_state(AES_128_GCM_1_2), before;
	static char data[2 * TLS_PLAINTEXT_MAX];
	struct tls_block_entry entry = {.state = &state};
	struct buffer out = {0};
	uint8_t scratch[256];

	(void)unused;
	state.write.sequence = ((uint64_t)1 << 24) - 1;
	before = state;
	assert_int_equal(tls_record_seal(ciphers, &state, slice_from(data, sizeof(data)), &out),
			 TLS_SEAL_EXHAUSTED);
	/* Not half of it. */
	assert_memory_equal(&before, &state, sizeof(state));
	assert_int_equal(out.len, 0);
	assert_int_equal(tls_record_seal(ciphers, &state, SLICE("one more"), &out), TLS_SEALED);
	assert_int_equal(tls_record_seal(ciphers, &state, SLICE("x"), &out), TLS_SEAL_EXHAUSTED);
	assert_false(tls_record_seal_ready(&state, 1));
	assert_int_equal(
		tls_record_seal_block(ciphers, SLICE("x"), &entry, 1, scratch, sizeof(scratch)), 1);
	assert_int_equal(entry.records.len, 0);
	/* A farewell is always possible. */
	assert_int_equal(tls_record_seal_alert(ciphers, &state, TLS_ALERT_CLOSE_NOTIFY, &out),
			 TLS_SEALED);
	buffer_free(&out);
}

static void test_end_of_the_sequence(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(some_suites); i++) {
		struct tls_state state = tls_craft_state(some_suites[i]);
		struct buffer out = {0};
		struct tls_opened opened;

		state.read.sequence = TLS_SEQUENCE_END - 1;
		assert_int_equal(give(&state, TLS_APPLICATION_DATA, SLICE("x"), &opened), TLS_DATA);
		expect_given_refused(&state, TLS_APPLICATION_DATA, SLICE("x"),
				     TLS_REFUSED_EXHAUSTED);
		state.write.sequence = TLS_SEQUENCE_END;
		assert_int_equal(
			tls_record_seal_alert(ciphers, &state, TLS_ALERT_CLOSE_NOTIFY, &out),
			TLS_SEAL_EXHAUSTED);
		assert_int_equal(out.len, 0);
		buffer_free(&out);
	}
}

/* 1.2's explicit nonces count from anywhere, past 2^64 as well. */
static void test_explicit_nonce(void **unused)
{
	struct tls_state state = tls_craft_state(AES_128_GCM_1_2), peer;
	struct buffer out = {0};
	struct tls_opened opened;

	(void)unused;
	memset(state.write.iv + 4, 0xff, 8);
	peer = tls_craft_mirror(&state);
	for (int i = 0; i < 3; i++) {
		static const char *const nonces[] = {"ffffffffffffffff", "0000000000000000",
						     "0000000000000001"};

		buffer_reset(&out);
		assert_int_equal(tls_record_seal(ciphers, &state, SLICE("x"), &out), TLS_SEALED);
		expect_hex(out.data + TLS_HEADER_SIZE, 8, nonces[i]);
		assert_int_equal(open_exact(&peer, buffer_slice(&out), 0, &opened), TLS_DATA);
	}
	buffer_free(&out);
}

/* ---- one plaintext for many ---- */

static void check_entry(const struct tls_block_entry *entry, struct slice plaintext)
{
	struct tls_state copy = *entry->state;
	struct buffer alone = {0};

	assert_int_equal(tls_record_seal(ciphers, &copy, plaintext, &alone), TLS_SEALED);
	assert_true(slice_equal(buffer_slice(&alone), entry->records));
	assert_int_equal(copy.write.sequence, entry->sequence);
	buffer_free(&alone);
}

static void test_block(void **unused)
{
	static char data[20000];
	static const size_t lengths[] = {1, 130, sizeof(data)};
	struct tls_state states[COUNT(some_suites) + 2];
	struct tls_block_entry entries[COUNT(some_suites) + 3];
	const size_t count = COUNT(entries);

	(void)unused;
	memset(data, 'd', sizeof(data));
	for (size_t i = 0; i < COUNT(states); i++) {
		states[i] = tls_craft_state(some_suites[i % COUNT(some_suites)]);
		states[i].write.sequence = i;
	}
	states[1].max_plaintext = 512;
	states[2].flags = TLS_KEY_UPDATE_DUE;
	states[3].flags = TLS_CLOSE_SEALED;
	for (size_t n = 0; n < COUNT(lengths); n++) {
		struct slice plaintext = slice_from(data, lengths[n]);
		struct tls_state before[COUNT(states)];
		uint8_t *scratch;
		size_t total = 0;

		memcpy(before, states, sizeof(states));
		for (size_t i = 0; i < count; i++)
			entries[i].state = i < COUNT(states) ? &states[i] : NULL;
		for (size_t i = 0; i < COUNT(states); i++)
			if (tls_record_seal_ready(&states[i], lengths[n]))
				total += tls_record_sealed_length(&states[i], lengths[n]);
		scratch = malloc(total);
		assert_non_null(scratch);
		assert_int_equal(
			tls_record_seal_block(ciphers, plaintext, entries, count, scratch, total),
			count);
		for (size_t i = 0; i < count; i++) {
			if (i == 2 || i == 3 || i == count - 1)
				assert_int_equal(entries[i].records.len, 0);
			else
				check_entry(&entries[i], plaintext);
		}
		assert_memory_equal(before, states, sizeof(states));
		/* The last one with a state does not fit any more. */
		assert_int_equal(tls_record_seal_block(ciphers, plaintext, entries, count, scratch,
						       total - 1),
				 count - 2);
		assert_int_equal(
			tls_record_seal_block(ciphers, plaintext, entries, count, scratch, 10), 0);
		free(scratch);
	}
}

/* ---- the state ---- */

static void test_states_that_can_not_be(void **unused)
{
	struct tls_state good = tls_craft_state(AES_128_GCM_1_3), bad;

	(void)unused;
#define EXPECT_INVALID(change)                       \
	do {                                         \
		bad = good;                          \
		change;                              \
		assert_false(tls_state_valid(&bad)); \
	} while (0)
	EXPECT_INVALID(memset(&bad, 0, sizeof(bad)));
	EXPECT_INVALID(memset(&bad, 0xff, sizeof(bad)));
	EXPECT_INVALID(bad.version = TLS_VERSION_1_2);
	EXPECT_INVALID(bad.suite = 0x1306);
	EXPECT_INVALID(bad.max_plaintext = 0);
	EXPECT_INVALID(bad.max_plaintext = TLS_PLAINTEXT_MAX + 1);
	EXPECT_INVALID(bad.reserved = 1);
	EXPECT_INVALID(bad.flags = 1u << 3);
	EXPECT_INVALID(bad.fruitless = 33);
	EXPECT_INVALID(bad.fragment_length = 5);
	EXPECT_INVALID(bad.fragment[0] = 24);
	EXPECT_INVALID(bad.read.sequence = TLS_SEQUENCE_END + 1);
	EXPECT_INVALID(bad.write.key[16] = 1);
	EXPECT_INVALID(bad.read.secret[32] = 1);
	EXPECT_INVALID(bad.read.reserved[3] = 1);
	good = tls_craft_state(AES_128_GCM_1_2);
	EXPECT_INVALID(bad.flags = TLS_KEY_UPDATE_DUE);
	EXPECT_INVALID(bad.write.secret[0] = 1);
	EXPECT_INVALID(bad.fragment_length = 1);
	EXPECT_INVALID(bad.key_updates_until = 1);
#undef EXPECT_INVALID
}

static void test_names(void **unused)
{
	struct tls_state state = tls_craft_state(AES_128_GCM_1_3);

	(void)unused;
	assert_string_equal(tls_version_name(state.version), "TLSv1.3");
	assert_string_equal(tls_version_name(0), "unknown");
	assert_string_equal(tls_suite_name(state.suite), "TLS_AES_128_GCM_SHA256");
	assert_string_equal(tls_suite_name(0xccaa), "DHE-RSA-CHACHA20-POLY1305");
	assert_string_equal(tls_suite_name(0x009c), "AES128-GCM-SHA256");
	/* CBC, and no certificate. */
	assert_false(tls_suite_supported(0xc027));
	assert_false(tls_suite_supported(0x00a6));
	for (unsigned i = 0; i < TLS_REFUSAL_COUNT; i++)
		assert_string_not_equal(tls_refusal_name(i), "unknown");
	assert_int_equal(tls_refusal_alert(TLS_REFUSED_FORGED), TLS_ALERT_BAD_RECORD_MAC);
	tls_state_wipe(&state);
	assert_int_equal(state.version, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rfc_8448),
		cmocka_unit_test(test_needs_exactly_so_much),
		cmocka_unit_test(test_sizes_and_padding),
		cmocka_unit_test(test_negotiated_fragment_length),
		cmocka_unit_test(test_any_flipped_bit),
		cmocka_unit_test(test_dropped_record),
		cmocka_unit_test(test_hopeless_headers),
		cmocka_unit_test(test_contents_nobody_expects),
		cmocka_unit_test(test_alerts),
		cmocka_unit_test(test_after_close_notify),
		cmocka_unit_test(test_our_last_word),
		cmocka_unit_test(test_fruitless_records),
		cmocka_unit_test(test_limit_of_a_key),
		cmocka_unit_test(test_limit_of_a_key_1_2),
		cmocka_unit_test(test_end_of_the_sequence),
		cmocka_unit_test(test_explicit_nonce),
		cmocka_unit_test(test_block),
		cmocka_unit_test(test_states_that_can_not_be),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, setup_group, teardown_group);
}
