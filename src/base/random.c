/* SPDX-License-Identifier: ISC */
/*
 * Random bytes and UUIDs. Runs in every process; keeps no state at all.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "keepsock/hex.h"
#include "keepsock/random.h"

void random_bytes(void *p, size_t n)
{
	char *at = p;

	while (n > 0) {
		ssize_t got = getrandom(at, n, 0);

		if (got < 0) {
			if (errno == EINTR)
				continue;
			abort(); /* predictable ids would be worse than none */
		}
		at += got;
		n -= (size_t)got;
	}
}

uint32_t random_u32(void)
{
	uint32_t value;

	random_bytes(&value, sizeof(value));
	return value;
}

uint32_t random_below(uint32_t bound)
{
	uint32_t value, tail;

	if (bound == 0)
		return 0;
	/* The first 2^32 mod bound values are one too many for some results: draw again. */
	tail = (0u - bound) % bound;
	do {
		value = random_u32();
	} while (value < tail);
	return value % bound;
}

uint64_t random_backoff_ms(unsigned attempt, uint64_t first_ms, uint64_t max_ms)
{
	uint64_t delay = first_ms;

	while (attempt-- > 0 && delay < max_ms)
		delay *= 2;
	if (delay > max_ms)
		delay = max_ms;
	return delay / 2 + random_below((uint32_t)(delay / 2 + 1));
}

void uuid_generate(struct uuid *u)
{
	random_bytes(u->bytes, sizeof(u->bytes));
	u->bytes[6] = (uint8_t)((u->bytes[6] & 0x0f) | 0x40);
	u->bytes[8] = (uint8_t)((u->bytes[8] & 0x3f) | 0x80);
}

static bool is_dash_position(size_t at)
{
	return at == 8 || at == 13 || at == 18 || at == 23;
}

void uuid_format(const struct uuid *u, char out[UUID_TEXT_LEN + 1])
{
	static const char digits[] = "0123456789abcdef";
	size_t at = 0;

	for (size_t i = 0; i < sizeof(u->bytes); i++) {
		if (is_dash_position(at))
			out[at++] = '-';
		out[at++] = digits[u->bytes[i] >> 4];
		out[at++] = digits[u->bytes[i] & 0x0f];
	}
	out[at] = '\0';
}

bool uuid_parse(struct slice s, struct uuid *u)
{
	struct uuid parsed;
	size_t byte = 0;

	if (s.len != UUID_TEXT_LEN)
		return false;
	for (size_t at = 0; at < s.len;) {
		int high, low;

		if (is_dash_position(at)) {
			if (s.data[at++] != '-')
				return false;
			continue;
		}
		high = hex_value(s.data[at]);
		low = hex_value(s.data[at + 1]);
		if (high < 0 || low < 0)
			return false;
		parsed.bytes[byte++] = (uint8_t)(high << 4 | low);
		at += 2;
	}
	*u = parsed;
	return true;
}
