/* SPDX-License-Identifier: ISC */
/*
 * The frame reader, rule by rule of RFC 6455 §5–§8. Each case is a client's
 * byte stream and the log of what the reader must find in it; the log has to
 * be the same however the stream is cut into reads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "keepsock/buffer.h"
#include "keepsock/websocket.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define LIMIT        1000

/* Masked headers with the mask 0, so that payloads in tests can be read. */
#define Z                             "\0\0\0\0"
#define FRAME(first, second, payload) first second Z payload

/* ---- running a stream through the reader ---- */

struct run {
	struct websocket_reader reader;
	struct buffer pending; /* received, not consumed */
	struct buffer message; /* payload of the current message so far */
	struct buffer log;
	bool failed;
};

static void log_bytes(struct buffer *log, const char *label, struct slice bytes)
{
	buffer_printf(log, "%s[%zu]", label, bytes.len);
	for (size_t i = 0; i < bytes.len && i < 24; i++) {
		unsigned char c = (unsigned char)bytes.data[i];

		buffer_printf(log, c >= 0x20 && c < 0x7f ? "%c" : "<%02x>", c);
	}
	buffer_append_str(log, "; ");
}

static void on_piece(struct run *run, const struct websocket_piece *piece)
{
	static const char *const names[16] = {
		[WEBSOCKET_TEXT] = "text",   [WEBSOCKET_BINARY] = "binary",
		[WEBSOCKET_CLOSE] = "close", [WEBSOCKET_PING] = "ping",
		[WEBSOCKET_PONG] = "pong",
	};

	if (piece->event == WEBSOCKET_ERROR) {
		buffer_printf(&run->log, "error %u %s", (unsigned)piece->close_code, piece->reason);
		run->failed = true;
		return;
	}
	assert_null(piece->reason);
	if (piece->event == WEBSOCKET_CONTROL) {
		if (piece->opcode == WEBSOCKET_CLOSE)
			buffer_printf(&run->log, "%u ", (unsigned)piece->close_code);
		log_bytes(&run->log, names[piece->opcode], piece->payload);
		return;
	}
	if (piece->message_start)
		assert_int_equal(run->message.len, 0);
	buffer_append_slice(&run->message, piece->payload);
	if (piece->message_complete) {
		buffer_append_str(&run->log, piece->compressed ? "deflated " : "");
		log_bytes(&run->log, names[piece->opcode], buffer_slice(&run->message));
		buffer_reset(&run->message);
	}
}

/* Whether the extension is negotiated. */
static bool deflate;

/* One call of the reader on blocks of exactly the sizes it was promised. */
static enum websocket_event read_once(struct run *run)
{
	const struct websocket_limits limits = {.message_size = LIMIT, .deflate = deflate};
	struct websocket_reader before = run->reader;
	struct websocket_piece piece;
	size_t len = run->pending.len;
	uint8_t *in = malloc(len > 0 ? len : 1), *out = malloc(len > 0 ? len : 1);

	assert_non_null(in);
	assert_non_null(out);
	if (len > 0)
		memcpy(in, run->pending.data, len);
	websocket_read(&run->reader, &limits, in, len, out, &piece);
	assert_true(slice_equal(slice_from(in, len), buffer_slice(&run->pending)));
	assert_true(websocket_reader_valid(&run->reader));
	if (piece.event == WEBSOCKET_NEED_MORE || piece.event == WEBSOCKET_ERROR) {
		assert_memory_equal(&before, &run->reader, sizeof(before));
		assert_int_equal(piece.consumed, 0);
	} else {
		assert_in_range(piece.consumed, 1, len);
		buffer_consume(&run->pending, piece.consumed);
	}
	if (piece.event != WEBSOCKET_NEED_MORE)
		on_piece(run, &piece);
	free(in);
	free(out);
	return piece.event;
}

static void run_feed(struct run *run, const char *bytes, size_t len)
{
	enum websocket_event event;

	if (run->failed)
		return;
	buffer_append(&run->pending, bytes, len);
	do
		event = read_once(run);
	while (event == WEBSOCKET_DATA || event == WEBSOCKET_CONTROL);
}

/* The log of the stream given in reads of step bytes, the first of them of first bytes. */
static char *run_stream(struct slice stream, size_t first, size_t step)
{
	struct run run = {0};
	size_t at = 0, next = first;
	char *log;

	while (at < stream.len || at == 0) {
		size_t len = stream.len - at < next ? stream.len - at : next;

		run_feed(&run, stream.data + at, len);
		at += len;
		next = step;
		if (stream.len == 0)
			break;
	}
	if (!run.failed && run.pending.len > 0)
		buffer_printf(&run.log, "waiting");
	log = strdup(buffer_cstr(&run.log));
	assert_non_null(log);
	buffer_free(&run.pending);
	buffer_free(&run.message);
	buffer_free(&run.log);
	return log;
}

static void assert_log(struct slice stream, size_t first, size_t step, const char *expected)
{
	char *log = run_stream(stream, first, step);

	if (strcmp(log, expected) != 0)
		fail_msg("reads of %zu, %zu…: \"%s\", not \"%s\"", first, step, log, expected);
	free(log);
}

static void assert_stream(struct slice stream, const char *expected)
{
	assert_log(stream, stream.len + 1, 1, expected);
	for (size_t cut = 1; cut < stream.len; cut++)
		assert_log(stream, cut, stream.len, expected);
	for (size_t step = 1; step <= 17; step++)
		assert_log(stream, step, step, expected);
}

/* ---- the rules ---- */

struct stream_case {
	struct slice stream;
	const char *log;
};

static void check_cases(const struct stream_case *cases, size_t n)
{
	for (size_t i = 0; i < n; i++)
		assert_stream(cases[i].stream, cases[i].log);
}

static void test_masking(void **unused)
{
	static const struct stream_case cases[] = {
		/* §5.7, the masked "Hello". */
		{SLICE("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), "text[5]Hello; "},
		/* §5.1: a client must mask, data and control frames, even empty ones. */
		{SLICE("\x81\x05Hello"), "error 1002 frame is not masked"},
		{SLICE("\x82\x7e\x01\x00"), "error 1002 frame is not masked"},
		{SLICE("\x89\x00"), "error 1002 frame is not masked"},
		/* Each frame has a mask of its own, also within a message. */
		{SLICE("\x01\x82\1\1\1\1`c\x80\x83\2\2\2\2acf"), "text[5]abcad; "},
	};

	(void)unused;
	check_cases(cases, COUNT(cases));
}

static void test_reserved_bits(void **unused)
{
	static const char *reason = "error 1002 reserved bits without a negotiated extension";
	static const struct slice streams[] = {
		SLICE("\xc1\x80"), SLICE("\xa1\x80"), SLICE("\x91\x80"), SLICE("\xf2\x80"),
		SLICE("\x41\x80"), SLICE("\xc9\x80"), SLICE("\xf8\x80"), SLICE("\xff\xff"),
	};

	(void)unused;
	for (size_t i = 0; i < COUNT(streams); i++)
		assert_stream(streams[i], reason);
}

/* RFC 7692 §6: RSV1 is set on a message's first frame, or on none. */
static void test_compressed_messages(void **unused)
{
	static const char *reserved = "error 1002 reserved bits without a negotiated extension";
	static const char *misplaced =
		"error 1002 compressed bit on a frame that does not begin a message";
	static const struct stream_case cases[] = {
		{SLICE(FRAME("\xc1", "\x83", "abc")), "deflated text[3]abc; "},
		{SLICE(FRAME("\xc2", "\x80", "")), "deflated binary[0]; "},
		{SLICE(FRAME("\x41", "\x81", "a") FRAME("\x89", "\x80", "")
			       FRAME("\x00", "\x81", "b") FRAME("\x80", "\x81", "c")),
		 "ping[0]; deflated text[3]abc; "},
		/* Nothing is remembered for the next message. */
		{SLICE(FRAME("\xc1", "\x81", "a") FRAME("\x81", "\x81", "b")),
		 "deflated text[1]a; text[1]b; "},
		{SLICE(FRAME("\x41", "\x80", "") FRAME("\x80", "\x80", "") FRAME("\x01", "\x80", "")
			       FRAME("\x80", "\x81", "b")),
		 "deflated text[0]; text[1]b; "},
		/* Compressed bytes are no text yet. */
		{SLICE(FRAME("\xc1", "\x82", "\xff\xc3")), "deflated text[2]<ff><c3>; "},
		{SLICE(FRAME("\x81", "\x81", "\xff")), "error 1007 text is not UTF-8"},
	};
	static const struct slice on_others[] = {
		SLICE("\xc9\x80"), SLICE("\xc8\x80"), SLICE("\xca\x80"),
		SLICE("\xc0\x80"), SLICE("\xc3\x80"), SLICE("\xcf\x80"),
	};

	(void)unused;
	deflate = true;
	check_cases(cases, COUNT(cases));
	for (size_t i = 0; i < COUNT(on_others); i++)
		assert_stream(on_others[i], misplaced);
	assert_stream(SLICE("\xa1\x80"), reserved);
	assert_stream(SLICE("\xf1\x80"), reserved);
	assert_stream(SLICE(FRAME("\x41", "\x81", "a") "\xc0\x80"), misplaced);
	assert_stream(SLICE(FRAME("\x01", "\x81", "a") "\xc0\x80"), misplaced);
	deflate = false;
	assert_stream(SLICE("\xc1\x80"), reserved);
}

/* A compressed message may be longer than it will be; how much longer has an end. */
static void test_compressed_size_limit(void **unused)
{
	struct buffer stream = {0};
	char *log;

	(void)unused;
	deflate = true;
	buffer_append(&stream, "\xc2\xfe\x04\xa5" Z, 8); /* 1189 = 1000 + 125 + 64 */
	memset(buffer_reserve(&stream, 1189), 'x', 1189);
	stream.len += 1189;
	log = run_stream(buffer_slice(&stream), stream.len, 1);
	assert_string_equal(log, "deflated binary[1189]xxxxxxxxxxxxxxxxxxxxxxxx; ");
	free(log);
	stream.data[3]++;
	assert_stream(slice_from(stream.data, 8), "error 1009 message is too big");
	/* A fragment more. */
	stream.data[0] = '\x42';
	stream.data[3]--;
	buffer_append(&stream, "\x80\x81" Z "x", 7);
	log = run_stream(buffer_slice(&stream), stream.len, 1);
	assert_string_equal(log, "error 1009 message is too big");
	free(log);
	buffer_free(&stream);
	deflate = false;
}

static void test_reserved_opcodes(void **unused)
{
	(void)unused;
	for (int opcode = 0x3; opcode <= 0x7; opcode++) {
		char stream[] = {(char)(0x80 | opcode), '\x80', 0, 0, 0, 0};

		assert_stream(slice_from(stream, 6), "error 1002 unknown data frame");
	}
	for (int opcode = 0xb; opcode <= 0xf; opcode++) {
		char stream[] = {(char)(0x80 | opcode), '\x80', 0, 0, 0, 0};

		assert_stream(slice_from(stream, 6), "error 1002 unknown control frame");
	}
}

static void test_fragmentation(void **unused)
{
	static const struct stream_case cases[] = {
		{SLICE(FRAME("\x01", "\x83", "abc") FRAME("\x00", "\x82", "de")
			       FRAME("\x80", "\x81", "f")),
		 "text[6]abcdef; "},
		{SLICE(FRAME("\x02", "\x81", "\xff") FRAME("\x80", "\x81", "\xfe")),
		 "binary[2]<ff><fe>; "},
		/* Fragments may be empty, first, middle and last. */
		{SLICE(FRAME("\x01", "\x80", "") FRAME("\x00", "\x80", "")
			       FRAME("\x80", "\x80", "")),
		 "text[0]; "},
		{SLICE(FRAME("\x01", "\x80", "") FRAME("\x00", "\x81", "a")
			       FRAME("\x80", "\x80", "")),
		 "text[1]a; "},
		/* §5.4: messages don't interleave, continuations continue something. */
		{SLICE(FRAME("\x01", "\x81", "a") FRAME("\x81", "\x81", "b")),
		 "error 1002 new message inside a message"},
		{SLICE(FRAME("\x01", "\x81", "a") FRAME("\x02", "\x81", "b")),
		 "error 1002 new message inside a message"},
		{SLICE(FRAME("\x80", "\x81", "a")), "error 1002 continuation without a message"},
		{SLICE(FRAME("\x00", "\x81", "a")), "error 1002 continuation without a message"},
		{SLICE(FRAME("\x81", "\x81", "a") FRAME("\x80", "\x81", "b")),
		 "text[1]a; error 1002 continuation without a message"},
		{SLICE(FRAME("\x01", "\x80", "") FRAME("\x80", "\x80", "")
			       FRAME("\x80", "\x80", "")),
		 "text[0]; error 1002 continuation without a message"},
		/* The next message starts afresh. */
		{SLICE(FRAME("\x01", "\x81", "a") FRAME("\x80", "\x81", "b") FRAME(
			 "\x82", "\x81", "c") FRAME("\x01", "\x80", "") FRAME("\x80", "\x81", "d")),
		 "text[2]ab; binary[1]c; text[1]d; "},
	};

	(void)unused;
	check_cases(cases, COUNT(cases));
}

static void test_control_frames(void **unused)
{
	static const struct stream_case cases[] = {
		{SLICE(FRAME("\x89", "\x80", "")), "ping[0]; "},
		{SLICE(FRAME("\x89", "\x82", "hi")), "ping[2]hi; "},
		{SLICE(FRAME("\x8a", "\x82", "hi")), "pong[2]hi; "},
		{SLICE("\x89\x82\1\2\3\4`\x60"), "ping[2]ab; "},
		/* §5.5.2: a ping's payload is any bytes. */
		{SLICE(FRAME("\x89", "\x82", "\xff\xfe")), "ping[2]<ff><fe>; "},
		/* §5.4: between the fragments of a message, §5.5: never fragmented. */
		{SLICE(FRAME("\x01", "\x81", "a") FRAME("\x89", "\x81", "p") FRAME(
			 "\x00", "\x81", "b") FRAME("\x8a", "\x80", "") FRAME("\x80", "\x81", "c")),
		 "ping[1]p; pong[0]; text[3]abc; "},
		/* Also between the two halves of a character. */
		{SLICE(FRAME("\x01", "\x81", "\xc3") FRAME("\x89", "\x81", "\xff")
			       FRAME("\x80", "\x81", "\xa9")),
		 "ping[1]<ff>; text[2]<c3><a9>; "},
		{SLICE(FRAME("\x09", "\x80", "")), "error 1002 fragmented control frame"},
		{SLICE(FRAME("\x0a", "\x80", "")), "error 1002 fragmented control frame"},
		{SLICE(FRAME("\x08", "\x80", "")), "error 1002 fragmented control frame"},
		/* §5.5: at most 125 bytes, said by the length byte alone. */
		{SLICE("\x89\xfe"), "error 1002 control frame is too long"},
		{SLICE("\x8a\xff"), "error 1002 control frame is too long"},
		{SLICE("\x88\xfe"), "error 1002 control frame is too long"},
		/* Incomplete ones wait, whole. */
		{SLICE(FRAME("\x89", "\x82", "h")), "waiting"},
		{SLICE("\x89\x80\0\0\0"), "waiting"},
	};

	(void)unused;
	check_cases(cases, COUNT(cases));
}

static void test_longest_control_frame(void **unused)
{
	char stream[6 + WEBSOCKET_CONTROL_LIMIT] = "\x89\xfd";

	(void)unused;
	memset(stream + 6, 'x', WEBSOCKET_CONTROL_LIMIT);
	assert_stream(slice_from(stream, sizeof(stream)), "ping[125]xxxxxxxxxxxxxxxxxxxxxxxx; ");
}

static void test_close_frames(void **unused)
{
	static const struct stream_case cases[] = {
		{SLICE(FRAME("\x88", "\x80", "")), "1005 close[0]; "},
		{SLICE(FRAME("\x88", "\x82", "\x03\xe8")), "1000 close[2]<03><e8>; "},
		{SLICE(FRAME("\x88", "\x85",
			     "\x03\xe8"
			     "bye")),
		 "1000 close[5]<03><e8>bye; "},
		{SLICE(FRAME("\x88", "\x84", "\x0f\xa0\xc3\xa9")),
		 "4000 close[4]<0f><a0><c3><a9>; "},
		/* Inside a message too. */
		{SLICE(FRAME("\x01", "\x81", "a") FRAME("\x88", "\x80", "")), "1005 close[0]; "},
		/* §5.5.1: a code has two bytes, its reason is UTF-8. */
		{SLICE(FRAME("\x88", "\x81", "\x03")), "error 1002 close frame with half a code"},
		{SLICE(FRAME("\x88", "\x83", "\x03\xe8\xff")),
		 "error 1007 close reason is not UTF-8"},
		{SLICE(FRAME("\x88", "\x83", "\x03\xe8\xc3")),
		 "error 1007 close reason is not UTF-8"},
		{SLICE(FRAME("\x88", "\x82", "\x03\xe7")),
		 "error 1002 close frame with an invalid code"},
	};

	(void)unused;
	check_cases(cases, COUNT(cases));
}

static void test_close_codes(void **unused)
{
	(void)unused;
	for (unsigned code = 0; code <= UINT16_MAX; code++) {
		/* §7.4.1 and the registry up to 1014; §7.4.2 3000 to 4999. */
		bool valid = (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
			     (code >= 3000 && code <= 4999);
		char stream[] = {'\x88', '\x82', 0, 0, 0, 0, (char)(code >> 8), (char)code};
		char *log = run_stream(slice_from(stream, 8), 8, 8);

		assert_int_equal(websocket_close_code_valid((uint16_t)code), valid);
		assert_int_equal(strncmp(log, "error 1002", 10) != 0, valid);
		free(log);
	}
}

static void test_utf8_in_text(void **unused)
{
	static const struct stream_case cases[] = {
		{SLICE(FRAME("\x81", "\x82", "\xc3\xa9")), "text[2]<c3><a9>; "},
		/* §5.6: a character may lie across fragments. */
		{SLICE(FRAME("\x01", "\x81", "\xf0") FRAME("\x00", "\x82", "\x9f\x98")
			       FRAME("\x80", "\x81", "\x80")),
		 "text[4]<f0><9f><98><80>; "},
		{SLICE(FRAME("\x81", "\x81", "\xff")), "error 1007 text is not UTF-8"},
		{SLICE(FRAME("\x81", "\x82", "\xc0\x80")), "error 1007 text is not UTF-8"},
		{SLICE(FRAME("\x81", "\x83", "\xed\xa0\x80")), "error 1007 text is not UTF-8"},
		/* Not before the message ends, but then. */
		{SLICE(FRAME("\x81", "\x81", "\xc3")), "error 1007 text ends inside a character"},
		{SLICE(FRAME("\x01", "\x81", "\xc3") FRAME("\x80", "\x80", "")),
		 "error 1007 text ends inside a character"},
		{SLICE(FRAME("\x01", "\x81", "\xc3") FRAME("\x80", "\x81", "a")),
		 "error 1007 text is not UTF-8"},
		/* §8.1 at once: the rest of the frame, of the message never comes. */
		{SLICE(FRAME("\x81", "\x85", "a\xff")), "error 1007 text is not UTF-8"},
		{SLICE(FRAME("\x01", "\x81", "\xff")), "error 1007 text is not UTF-8"},
		/* Binary is any bytes, and the state doesn't leak into the next text. */
		{SLICE(FRAME("\x82", "\x82", "\xff\xc3") FRAME("\x81", "\x81", "a")),
		 "binary[2]<ff><c3>; text[1]a; "},
		{SLICE(FRAME("\x02", "\x81", "\xc3") FRAME("\x80", "\x81", "a")),
		 "binary[2]<c3>a; "},
		{SLICE(FRAME("\x81", "\x81", "a") FRAME("\x81", "\x81", "\xa9")),
		 "text[1]a; error 1007 text is not UTF-8"},
	};

	(void)unused;
	check_cases(cases, COUNT(cases));
}

static void test_payload_length_forms(void **unused)
{
	static const struct stream_case cases[] = {
		/* §5.2: the minimal number of bytes must be used. */
		{SLICE("\x82\xfe\x00\x7d"), "error 1002 frame length is not in its shortest form"},
		{SLICE("\x82\xfe\x00\x00"), "error 1002 frame length is not in its shortest form"},
		{SLICE("\x82\xff\0\0\0\0\0\0\xff\xff"),
		 "error 1002 frame length is not in its shortest form"},
		{SLICE("\x82\xff\0\0\0\0\0\0\0\0"),
		 "error 1002 frame length is not in its shortest form"},
		/* §5.2: the most significant bit must be 0. */
		{SLICE("\x82\xff\x80\0\0\0\0\0\0\0"),
		 "error 1002 frame length has its top bit set"},
		{SLICE("\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
		 "error 1002 frame length has its top bit set"},
		/* Empty messages are messages. */
		{SLICE(FRAME("\x81", "\x80", "") FRAME("\x82", "\x80", "")),
		 "text[0]; binary[0]; "},
		{SLICE("\x82\xfe\x00"), "waiting"},
		{SLICE("\x82\x81\0\0\0"), "waiting"},
		{SLICE(""), ""},
		{SLICE("\x82"), "waiting"},
	};

	(void)unused;
	check_cases(cases, COUNT(cases));
}

static void test_message_size_limit(void **unused)
{
	static const struct stream_case cases[] = {
		/* §10.4, 1009 as soon as the length is there: 1001, 65536, 2^63 - 1. */
		{SLICE("\x82\xfe\x03\xe9"), "error 1009 message is too big"},
		{SLICE("\x81\xff\0\0\0\0\0\x01\0\0"), "error 1009 message is too big"},
		{SLICE("\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff"),
		 "error 1009 message is too big"},
		/* The fragments of a message count together. */
		{SLICE(FRAME("\x01", "\x81", "a") "\x00\xfe\x03\xe8"),
		 "error 1009 message is too big"},
		{SLICE(FRAME("\x01", "\x81", "a") FRAME("\x80", "\x81", "b") "\x01\xfe\x03\xe9"),
		 "text[2]ab; error 1009 message is too big"},
	};
	struct buffer stream = {0};

	(void)unused;
	check_cases(cases, COUNT(cases));
	/* Exactly the limit passes, whole and in fragments with a ping between. */
	for (size_t first = 0; first <= LIMIT; first += 250) {
		static const char payload[LIMIT];

		buffer_reset(&stream);
		websocket_write_masked_frame(&stream, WEBSOCKET_BINARY, false,
					     slice_from(payload, first), (const uint8_t *)"abcd");
		websocket_write_masked_frame(&stream, WEBSOCKET_PING, true, SLICE("1234567"),
					     (const uint8_t *)"efgh");
		websocket_write_masked_frame(&stream, WEBSOCKET_CONTINUATION, true,
					     slice_from(payload, LIMIT - first),
					     (const uint8_t *)"ijkl");
		assert_log(buffer_slice(&stream), stream.len, 1,
			   "ping[7]1234567; binary[1000]<00><00><00><00><00><00><00><00><00><00>"
			   "<00><00><00><00><00><00><00><00><00><00><00><00><00><00>; ");
	}
	buffer_free(&stream);
}

static void test_every_payload_length_around_the_forms(void **unused)
{
	static const size_t lengths[] = {0,   1,   15,  16,  17,  124, 125,
					 126, 127, 128, 255, 256, 999, 1000};
	static const uint8_t mask[4] = {0x12, 0x9f, 0x00, 0xe7};
	char payload[LIMIT];

	(void)unused;
	for (size_t i = 0; i < sizeof(payload); i++)
		payload[i] = (char)('a' + i % 26);
	for (size_t i = 0; i < COUNT(lengths); i++) {
		struct buffer stream = {0}, expected = {0};

		websocket_write_masked_frame(&stream, WEBSOCKET_TEXT, true,
					     slice_from(payload, lengths[i]), mask);
		log_bytes(&expected, "text", slice_from(payload, lengths[i]));
		assert_stream(buffer_slice(&stream), buffer_cstr(&expected));
		buffer_free(&stream);
		buffer_free(&expected);
	}
}

/* ---- cutting long streams ---- */

static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return *seed >> 8;
}

/* A stream of messages, fragments and control frames, now and then broken in one byte. */
static void make_stream(struct buffer *stream, uint32_t *seed)
{
	static const char text[] =
		"plain, \xc3\xa9, \xe2\x82\xac and \xf0\x9f\x98\x80, again and again";
	bool in_message = false;

	for (int i = 0; i < 12; i++) {
		uint32_t mask = next_random(seed) * 2654435761u;
		size_t len = next_random(seed) % sizeof(text);
		bool fin = next_random(seed) % 2;
		enum websocket_opcode opcode =
			in_message ? WEBSOCKET_CONTINUATION : 1 + next_random(seed) % 2;

		if (next_random(seed) % 4 == 0) {
			opcode = WEBSOCKET_PING + next_random(seed) % 2;
			fin = true;
		} else {
			in_message = !fin;
		}
		websocket_write_masked_frame(stream, opcode, fin, slice_from(text, len),
					     (const uint8_t *)&mask);
	}
	if (next_random(seed) % 2)
		stream->data[next_random(seed) % stream->len] ^=
			(char)(1u << next_random(seed) % 8);
}

static void test_long_streams_at_every_cut(void **unused)
{
	(void)unused;
	for (uint32_t seed = 1; seed <= 60; seed++) {
		struct buffer stream = {0};
		uint32_t state = seed;
		char *log;

		make_stream(&stream, &state);
		log = run_stream(buffer_slice(&stream), stream.len, 1);
		assert_stream(buffer_slice(&stream), log);
		free(log);
		buffer_free(&stream);
	}
}

/* ---- the state itself ---- */

static void test_pieces_tell_start_and_end(void **unused)
{
	const struct websocket_limits limits = {.message_size = 10};
	const uint8_t stream[] = "\x81\x82\0\0\0\0ab";
	struct websocket_reader reader = {0};
	struct websocket_piece piece;
	uint8_t out[8];

	(void)unused;
	/* The header without payload, then the payload in two pieces. */
	assert_int_equal(websocket_read(&reader, &limits, stream, 6, out, &piece), WEBSOCKET_DATA);
	assert_int_equal(piece.consumed, 6);
	assert_int_equal(piece.payload.len, 0);
	assert_true(piece.message_start && !piece.message_complete);
	assert_int_equal(websocket_read(&reader, &limits, stream, 0, out, &piece),
			 WEBSOCKET_NEED_MORE);
	assert_int_equal(websocket_read(&reader, &limits, stream + 6, 1, out, &piece),
			 WEBSOCKET_DATA);
	assert_true(slice_is(piece.payload, "a"));
	assert_true(!piece.message_start && !piece.message_complete);
	assert_int_equal(websocket_read(&reader, &limits, stream + 7, 1, out, &piece),
			 WEBSOCKET_DATA);
	assert_true(slice_is(piece.payload, "b"));
	assert_true(!piece.message_start && piece.message_complete);
	/* And at once. */
	assert_int_equal(websocket_read(&reader, &limits, stream, 8, out, &piece), WEBSOCKET_DATA);
	assert_true(piece.message_start && piece.message_complete);
}

static void test_impossible_states_are_found(void **unused)
{
	const struct websocket_reader good = {.payload_remaining = 5,
					      .message_length = 7,
					      .message_opcode = WEBSOCKET_TEXT,
					      .frame_opcode = WEBSOCKET_TEXT,
					      .mask_phase = 2,
					      .utf8_state = 1};
	struct websocket_reader bad[13];

	(void)unused;
	assert_true(websocket_reader_valid(&good));
	assert_true(websocket_reader_valid(&(struct websocket_reader){0}));
	for (size_t i = 0; i < COUNT(bad); i++)
		bad[i] = good;
	bad[0].payload_remaining = 8;
	bad[1].message_opcode = 0;
	bad[2].message_opcode = 3;
	bad[3].frame_opcode = WEBSOCKET_BINARY;
	bad[4].fin = 2;
	bad[5].mask_phase = 4;
	bad[6].utf8_state = 8;
	bad[7].reserved[5] = 1;
	bad[8].fin = 1;
	bad[8].payload_remaining = 0;
	bad[9].message_opcode = bad[9].frame_opcode = WEBSOCKET_BINARY;
	bad[10] = (struct websocket_reader){.fin = 1};
	bad[11].compressed = 2;
	bad[12].compressed = 1; /* its text is not looked at */
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_false(websocket_reader_valid(&bad[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_masking),
		cmocka_unit_test(test_reserved_bits),
		cmocka_unit_test(test_compressed_messages),
		cmocka_unit_test(test_compressed_size_limit),
		cmocka_unit_test(test_reserved_opcodes),
		cmocka_unit_test(test_fragmentation),
		cmocka_unit_test(test_control_frames),
		cmocka_unit_test(test_longest_control_frame),
		cmocka_unit_test(test_close_frames),
		cmocka_unit_test(test_close_codes),
		cmocka_unit_test(test_utf8_in_text),
		cmocka_unit_test(test_payload_length_forms),
		cmocka_unit_test(test_message_size_limit),
		cmocka_unit_test(test_every_payload_length_around_the_forms),
		cmocka_unit_test(test_long_streams_at_every_cut),
		cmocka_unit_test(test_pieces_tell_start_and_end),
		cmocka_unit_test(test_impossible_states_are_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
