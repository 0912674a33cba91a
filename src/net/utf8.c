/* SPDX-License-Identifier: ISC */
/*
 * Incremental UTF-8 validation. Used by workers on every text message, so
 * stretches of ASCII pass eight bytes at a time; everything else goes through
 * an automaton of nine states. Never allocates, never looks behind len.
 */
#include "keepsock/utf8.h"

#include <string.h>

/*
 * What the next byte must be. The states are stored in passports: their
 * numbers stay.
 */
enum utf8_state {
	STATE_START = 0,  /* the first byte of a character */
	STATE_LAST = 1,   /* the last continuation byte, 80..bf */
	STATE_TWO = 2,    /* two more, any */
	STATE_THREE = 3,  /* three more, any */
	STATE_E0 = 4,     /* a0..bf (no overlong form), then one */
	STATE_ED = 5,     /* 80..9f (no surrogate), then one */
	STATE_F0 = 6,     /* 90..bf (no overlong form), then two */
	STATE_F4 = 7,     /* 80..8f (up to U+10FFFF), then two */
	STATE_REJECT = 8, /* nothing repairs it */
};

static enum utf8_state utf8_lead(uint8_t byte)
{
	if (byte < 0x80)
		return STATE_START;
	if (byte < 0xc2)
		return STATE_REJECT;
	if (byte < 0xe0)
		return STATE_LAST;
	if (byte < 0xf0)
		return byte == 0xe0 ? STATE_E0 : byte == 0xed ? STATE_ED : STATE_TWO;
	if (byte == 0xf0)
		return STATE_F0;
	if (byte < 0xf4)
		return STATE_THREE;
	return byte == 0xf4 ? STATE_F4 : STATE_REJECT;
}

static enum utf8_state utf8_step(uint32_t state, uint8_t byte)
{
	static const struct {
		uint8_t low, high, next;
	} continuation[] = {
		[STATE_LAST] = {0x80, 0xbf, STATE_START}, [STATE_TWO] = {0x80, 0xbf, STATE_LAST},
		[STATE_THREE] = {0x80, 0xbf, STATE_TWO},  [STATE_E0] = {0xa0, 0xbf, STATE_LAST},
		[STATE_ED] = {0x80, 0x9f, STATE_LAST},    [STATE_F0] = {0x90, 0xbf, STATE_TWO},
		[STATE_F4] = {0x80, 0x8f, STATE_TWO},
	};

	if (state == STATE_START)
		return utf8_lead(byte);
	if (state >= STATE_REJECT)
		return STATE_REJECT;
	if (byte < continuation[state].low || byte > continuation[state].high)
		return STATE_REJECT;
	return continuation[state].next;
}

/* How many of the next bytes are ASCII for certain: a multiple of eight. */
static size_t utf8_ascii_run(const uint8_t *bytes, size_t len)
{
	size_t run = 0;

	while (len - run >= 8) {
		uint64_t word;

		memcpy(&word, bytes + run, sizeof(word));
		if (word & UINT64_C(0x8080808080808080))
			break;
		run += 8;
	}
	return run;
}

bool utf8_feed(uint32_t *state, const void *data, size_t len)
{
	const uint8_t *bytes = data;
	uint32_t current = *state;
	size_t i = 0;

	while (i < len) {
		if (current == STATE_START && bytes[i] < 0x80) {
			size_t run = utf8_ascii_run(bytes + i, len - i);

			i += run > 0 ? run : 1;
			continue;
		}
		current = utf8_step(current, bytes[i++]);
		if (current == STATE_REJECT)
			break;
	}
	*state = current < STATE_REJECT ? current : STATE_REJECT;
	return current < STATE_REJECT;
}

bool utf8_complete(uint32_t state)
{
	return state == STATE_START;
}

bool utf8_valid(const void *data, size_t len)
{
	uint32_t state = UTF8_START;

	return utf8_feed(&state, data, len) && utf8_complete(state);
}
