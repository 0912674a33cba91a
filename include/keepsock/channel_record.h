/* SPDX-License-Identifier: ISC */
/*
 * A channel's record in the arena (128 bytes) and what a subscriber array is
 * made of. The hub (hub.h) owns what they hold.
 */
#ifndef KEEPSOCK_CHANNEL_RECORD_H
#define KEEPSOCK_CHANNEL_RECORD_H

#include "keepsock/arena.h"

#define CHANNEL_EPOCH_MAX 24

/* absent is the state of a free record. Each transition and its RESP bytes are one commit. */
enum channel_state { CHANNEL_ABSENT, CHANNEL_JOINING, CHANNEL_JOINED, CHANNEL_LEAVING };

#define CHANNEL_MAGIC 0x4c4e4843u /* "CHNL" */

#define CHANNEL_FIELDS_HEAD(FIELD, ARRAY)                            \
	FIELD(uint32_t, magic, 3, HEX, "CHANNEL_MAGIC while in use") \
	FIELD(uint8_t, state, 3, NUMBER, "enum channel_state")       \
	FIELD(uint8_t, epoch_length, 3, NUMBER, "bytes")             \
	FIELD(uint16_t, name_length, 3, NUMBER, "bytes")

#define CHANNEL_FIELDS_NAME(FIELD, ARRAY)                     \
	FIELD(uint32_t, reserved_link, 3, HEX, "0")           \
	FIELD(arena_ref, name, 3, REF, "chunk with the name") \
	FIELD(uint64_t, unconfirmed, 3, NUMBER, "SUBSCRIBE and UNSUBSCRIBE sent and not confirmed")

#define CHANNEL_FIELDS_POSITION(FIELD, ARRAY)                                                      \
	FIELD(uint64_t, positioned, 3, NUMBER, "1 once epoch, offset and last_sequence are known") \
	FIELD(uint64_t, offset, 3, NUMBER, "of the last publication served, 0 without history")    \
	FIELD(uint64_t, last_sequence, 3, NUMBER, "of the last message served")                    \
	ARRAY(char, epoch, CHANNEL_EPOCH_MAX, 3, TEXT, "of the offset; epoch_length bytes of it")

#define CHANNEL_FIELDS_ARRAY(FIELD, ARRAY)                                           \
	FIELD(arena_ref, subscribers, 3, REF, "first block of the subscriber array") \
	FIELD(uint32_t, blocks, 3, NUMBER, "of the subscriber array")                \
	FIELD(uint32_t, count, 3, NUMBER, "entries in use or tombstones")            \
	FIELD(uint32_t, tombstones, 3, NUMBER, "entries emptied during a fan-out")

#define CHANNEL_FIELDS_MORE(FIELD, ARRAY)                                                \
	FIELD(uint64_t, history, 3, NUMBER, "1 if its publications carry offsets")       \
	FIELD(uint64_t, unplaced, 3, NUMBER, "subscriptions with SUBSCRIPTION_UNPLACED") \
	FIELD(uint64_t, behind, 3, NUMBER,                                               \
	      "1 while what was missed is read from history and served")

#define CHANNEL_FIELDS_SPARE(FIELD, ARRAY) ARRAY(uint64_t, reserved, 2, 3, HEX, "0")

#define CHANNEL_FIELDS_TEST(FIELD, ARRAY) ARRAY(uint64_t, test_words, 2, 1001, HEX, "0")

/* Layouts of test builds: the same fields, elsewhere; the first word stays the first. */
#define CHANNEL_FIELDS_0(FIELD, ARRAY)        \
	CHANNEL_FIELDS_HEAD(FIELD, ARRAY)     \
	CHANNEL_FIELDS_NAME(FIELD, ARRAY)     \
	CHANNEL_FIELDS_POSITION(FIELD, ARRAY) \
	CHANNEL_FIELDS_ARRAY(FIELD, ARRAY)    \
	CHANNEL_FIELDS_MORE(FIELD, ARRAY)     \
	CHANNEL_FIELDS_SPARE(FIELD, ARRAY)
#define CHANNEL_FIELDS_1(FIELD, ARRAY)        \
	CHANNEL_FIELDS_HEAD(FIELD, ARRAY)     \
	CHANNEL_FIELDS_ARRAY(FIELD, ARRAY)    \
	CHANNEL_FIELDS_TEST(FIELD, ARRAY)     \
	CHANNEL_FIELDS_POSITION(FIELD, ARRAY) \
	CHANNEL_FIELDS_MORE(FIELD, ARRAY)     \
	CHANNEL_FIELDS_NAME(FIELD, ARRAY)
#define CHANNEL_FIELDS_2(FIELD, ARRAY)        \
	CHANNEL_FIELDS_HEAD(FIELD, ARRAY)     \
	CHANNEL_FIELDS_MORE(FIELD, ARRAY)     \
	CHANNEL_FIELDS_NAME(FIELD, ARRAY)     \
	CHANNEL_FIELDS_ARRAY(FIELD, ARRAY)    \
	CHANNEL_FIELDS_POSITION(FIELD, ARRAY) \
	CHANNEL_FIELDS_TEST(FIELD, ARRAY)
#define CHANNEL_FIELDS(FIELD, ARRAY) ARENA_JOIN(CHANNEL_FIELDS_, ARENA_TEST_LAYOUT)(FIELD, ARRAY)

struct channel_record {
	CHANNEL_FIELDS(ARENA_DEFINE_FIELD, ARENA_DEFINE_ARRAY)
};

_Static_assert(sizeof(struct channel_record) == 128, "a channel record is 128 bytes");

/* An entry of a subscriber array; one word. Both 0 = tombstone. */
struct subscriber {
	arena_ref passport;
	arena_ref subscription;
};

#endif
