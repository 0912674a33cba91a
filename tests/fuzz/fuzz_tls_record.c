/* SPDX-License-Identifier: ISC */
/*
 * Fuzz target for the TLS record layer and for what is in front of it. The first
 * byte chooses:
 *
 *	00..3f	a connection with one of eight suites; the rest is what happens to
 *		it, see enum step. Both ends are followed: what we accept is what the
 *		peer said, and the keys of both stay the same
 *	40..7f	a state as an arena might hold it: taken for none, or usable
 *	80..ff	bytes for a handshake, in pieces of different sizes: they fail for
 *		the same reason, however they are cut
 */
#include <openssl/ssl.h>

#include "../unit/tls_craft.h"
#include "fuzz.h"
#include "keepsock/tls_handshake.h"
#include "keepsock/tls_record.h"
#include "net/tls_format.h"
#include "net/tls_keys.h"

enum step {
	STEP_CRAFTED, /* type, padding, length, content: a record that the peer can make */
	STEP_RAW,     /* length, bytes: what somebody without the keys can send */
	STEP_FLIPPED, /* type, where, length, content: a record with a wrong bit */
	STEP_SEAL,    /* two bytes of length: our data */
	STEP_BLOCK,   /* the same, for many */
	STEP_ALERT,   /* which */
	STEP_UPDATE,  /* whether the peer is to answer: our KeyUpdate */
	STEP_TIME,    /* tenths of a second */
	STEP_COUNT
};

struct world {
	struct tls_state state, peer;
	uint64_t now_ms;
	const uint8_t *data;
	size_t size;
	bool over; /* refused, or given up by the peer */
};

static struct tls_ciphers *ciphers;

static uint8_t next_byte(struct world *world)
{
	struct slice byte = take_input(&world->data, &world->size, 1);

	return byte.len > 0 ? (uint8_t)byte.data[0] : 0;
}

/* ---- reading ---- */

/* Opens in memory of exactly the input's length, and checks what is promised in any case. */
static enum tls_event open_checked(struct tls_state *state, uint64_t now_ms, struct slice input,
				   uint8_t *out, struct tls_opened *opened)
{
	struct slice exact = exact_copy(input.data, input.len);
	struct tls_state before = *state, again = *state;
	struct tls_opened second;
	enum tls_event event = tls_record_open(ciphers, state, slice_from(exact.data, exact.len),
					       now_ms, out, opened);

	require(event == opened->event && tls_state_valid(state));
	require(slice_equal(exact, input));
	require(lies_in(opened->plaintext, slice_from(out, TLS_RECORD_MAX)));
	if (event == TLS_NEED_MORE || event == TLS_REFUSED)
		require(opened->consumed == 0 && memcmp(&before, state, sizeof(before)) == 0);
	else
		require(opened->consumed > 0 && opened->consumed <= input.len);
	require(event != TLS_NEED_MORE ||
		(opened->needed > input.len && opened->needed <= TLS_RECORD_MAX));
	require(event != TLS_REFUSED || (opened->refusal > TLS_REFUSED_NONE &&
					 opened->alert == tls_refusal_alert(opened->refusal)));
	/* The successor of a dead worker finds the same. */
	require(tls_record_open(ciphers, &again, exact, now_ms, out, &second) == event);
	require(second.consumed == opened->consumed && memcmp(&again, state, sizeof(again)) == 0);
	free((void *)(uintptr_t)exact.data);
	return event;
}

static void crafted(struct world *world, bool flipped)
{
	unsigned type = next_byte(world), detail = next_byte(world);
	struct slice content = take_input(&world->data, &world->size, next_byte(world));
	uint8_t out[TLS_RECORD_MAX];
	struct buffer record = {0};
	struct tls_opened opened;
	enum tls_event event;

	tls_craft_record(ciphers, &world->peer, type, content, flipped ? 0 : detail, &record);
	if (flipped)
		record.data[detail % record.len] ^= (char)(1 << detail % 8);
	event = open_checked(&world->state, world->now_ms, buffer_slice(&record), out, &opened);
	if (flipped)
		require(event == TLS_REFUSED || event == TLS_NEED_MORE ||
			(world->state.flags & TLS_CLOSE_NOTIFY_READ));
	/* Without a type, the content's last byte is taken for it. */
	if (event == TLS_DATA && type != 0)
		require(slice_equal(opened.plaintext, content) && type == TLS_APPLICATION_DATA);
	if (event == TLS_KEY_UPDATE)
		require(tls_keys_update(tls_suite_find(world->peer.suite), &world->peer.write));
	world->over = event == TLS_REFUSED || event == TLS_NEED_MORE || event == TLS_PEER_ALERT ||
		      event == TLS_CLOSE_NOTIFY;
	if (!world->over)
		require(memcmp(&world->state.read, &world->peer.write, sizeof(world->peer.write)) ==
			0);
	buffer_free(&record);
}

static void raw(struct world *world)
{
	struct slice bytes = take_input(&world->data, &world->size, next_byte(world));
	struct tls_state copy = world->state;
	uint8_t out[TLS_RECORD_MAX];
	struct tls_opened opened;

	if (bytes.len > 0)
		require(open_checked(&copy, world->now_ms, bytes, out, &opened) != TLS_DATA);
}

/* ---- writing ---- */

/* The peer takes all of it, and gets what was said. */
static void peer_reads(struct world *world, struct slice wire, struct slice expected)
{
	uint8_t out[TLS_RECORD_MAX];
	struct buffer got = {0};

	while (wire.len > 0) {
		struct tls_opened opened;
		enum tls_event event =
			open_checked(&world->peer, world->now_ms, wire, out, &opened);

		/* Our own floods are not what this is about. */
		world->peer.fruitless = 0;
		world->peer.key_updates_until = 0;
		require(event != TLS_NEED_MORE && event != TLS_REFUSED);
		buffer_append_slice(&got, opened.plaintext);
		wire = slice_from(wire.data + opened.consumed, wire.len - opened.consumed);
	}
	require(slice_equal(buffer_slice(&got), expected));
	require(memcmp(&world->state.write, &world->peer.read, sizeof(world->peer.read)) == 0);
	buffer_free(&got);
}

static struct buffer some_data(struct world *world)
{
	struct buffer data = {0};
	size_t length = (size_t)next_byte(world) << 8;

	length |= next_byte(world);
	memset(buffer_reserve(&data, length + 1), next_byte(world), length);
	data.len = length;
	return data;
}

static void sealed(struct world *world, enum tls_seal result, const struct tls_state *before,
		   struct buffer *out, struct slice expected)
{
	require(tls_state_valid(&world->state));
	if (result == TLS_SEALED && !(before->flags & TLS_CLOSE_SEALED))
		peer_reads(world, buffer_slice(out), expected);
	else
		require(out->len == 0 && memcmp(before, &world->state, sizeof(*before)) == 0);
	buffer_free(out);
}

static void seal(struct world *world)
{
	struct buffer data = some_data(world), out = {0};
	struct tls_state before = world->state;
	size_t length = tls_record_sealed_length(&before, data.len);
	bool ready = tls_record_seal_ready(&before, data.len);
	enum tls_seal result = tls_record_seal(ciphers, &world->state, buffer_slice(&data), &out);

	require(!ready || (result == TLS_SEALED && out.len == length));
	sealed(world, result, &before, &out, buffer_slice(&data));
	buffer_free(&data);
}

static void block(struct world *world)
{
	struct buffer data = some_data(world);
	struct tls_block_entry entries[3] = {
		{.state = &world->state}, {.state = NULL}, {.state = &world->state}};
	size_t length = tls_record_sealed_length(&world->state, data.len);
	size_t size = 2 * length - (next_byte(world) & 1 && length > 0);
	uint8_t *scratch = malloc(size > 0 ? size : 1);
	size_t done;

	require(scratch != NULL);
	done = tls_record_seal_block(ciphers, buffer_slice(&data), entries, 3, scratch, size);
	require(done == 3 || (done == 2 && size < 2 * length));
	for (size_t i = 0; i < done; i++) {
		bool ready = entries[i].state && data.len > 0 &&
			     tls_record_seal_ready(entries[i].state, data.len);

		require(entries[i].records.len == (ready ? length : 0));
	}
	/* The first of them is sent, and what a batch commits for it. */
	if (entries[0].records.len > 0) {
		world->state.write.sequence = entries[0].sequence;
		peer_reads(world, entries[0].records, buffer_slice(&data));
	}
	free(scratch);
	buffer_free(&data);
}

static void alert(struct world *world)
{
	struct tls_state before = world->state;
	struct buffer out = {0};
	enum tls_seal result =
		tls_record_seal_alert(ciphers, &world->state, next_byte(world), &out);

	sealed(world, result, &before, &out, SLICE(""));
}

static void update(struct world *world)
{
	struct tls_state before = world->state;
	struct buffer out = {0};
	enum tls_seal result =
		tls_record_seal_key_update(ciphers, &world->state, next_byte(world) & 1, &out);

	require(result != TLS_SEALED || before.version == TLS_VERSION_1_3);
	sealed(world, result, &before, &out, SLICE(""));
}

static void check_connection(unsigned choice, const uint8_t *data, size_t size)
{
	static const unsigned suites[] = {AES_128_GCM_1_3, AES_256_GCM_1_3, CHACHA20_1_3,
					  CCM_1_3,         CCM_8_1_3,       AES_128_GCM_1_2,
					  CHACHA20_1_2,    CCM_8_1_2};
	struct world world = {.data = data, .size = size};

	world.state = tls_craft_state(suites[choice % 8]);
	if (choice & 8)
		world.state.max_plaintext = 512;
	/* Just ahead of what one key may protect. */
	if (choice & 16)
		world.state.write.sequence = ((uint64_t)1 << (choice & 32 ? 23 : 24)) - 2;
	world.peer = tls_craft_mirror(&world.state);
	while (world.size > 0 && !world.over) {
		switch ((enum step)(next_byte(&world) % STEP_COUNT)) {
		case STEP_CRAFTED: crafted(&world, false); break;
		case STEP_RAW: raw(&world); break;
		case STEP_FLIPPED: crafted(&world, true); break;
		case STEP_SEAL: seal(&world); break;
		case STEP_BLOCK: block(&world); break;
		case STEP_ALERT: alert(&world); break;
		case STEP_UPDATE: update(&world); break;
		case STEP_TIME: world.now_ms += 100u * next_byte(&world); break;
		case STEP_COUNT: break;
		}
	}
}

/* ---- a state from outside ---- */

static void check_state(const uint8_t *data, size_t size)
{
	struct tls_state state = {0};
	struct slice bytes = take_input(&data, &size, sizeof(state));
	struct buffer out = {0};
	uint8_t plain[TLS_RECORD_MAX];
	struct tls_opened opened;

	memcpy(&state, bytes.data, bytes.len);
	if (!tls_state_valid(&state))
		return;
	if (size > 0)
		open_checked(&state, 1, slice_from(data, size), plain, &opened);
	tls_record_seal(ciphers, &state, SLICE("some data"), &out);
	tls_record_seal_alert(ciphers, &state, TLS_ALERT_CLOSE_NOTIFY, &out);
	require(tls_state_valid(&state));
	buffer_free(&out);
}

/* ---- a handshake ---- */

static enum tls_handshake_failure shake(SSL_CTX *context, const uint8_t *data, size_t size,
					size_t step)
{
	struct tls_handshake *handshake = tls_handshake_create(context);
	enum tls_handshake_failure failure;
	struct buffer out = {0};

	require(handshake != NULL);
	for (size_t at = 0; at < size; at += step) {
		struct slice piece = exact_copy(data + at, step < size - at ? step : size - at);

		require(tls_handshake_feed(handshake, piece, &out) != TLS_HANDSHAKE_DONE);
		free((void *)(uintptr_t)piece.data);
	}
	failure = tls_handshake_failure(handshake);
	tls_handshake_free(handshake);
	buffer_free(&out);
	return failure;
}

static void check_handshake(unsigned step, const uint8_t *data, size_t size)
{
	static SSL_CTX *context;

	if (!context) {
		context = SSL_CTX_new(TLS_server_method());
		require(context && tls_handshake_prepare_context(context));
	}
	require(shake(context, data, size, size + 1) == shake(context, data, size, step));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *error;

	if (!ciphers)
		ciphers = tls_ciphers_create(&error);
	require(ciphers != NULL);
	if (size == 0)
		return 0;
	if (data[0] & 0x80)
		check_handshake((data[0] & 0x7f) + 1, data + 1, size - 1);
	else if (data[0] & 0x40)
		check_state(data + 1, size - 1);
	else
		check_connection(data[0], data + 1, size - 1);
	return 0;
}
