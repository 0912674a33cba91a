/* SPDX-License-Identifier: ISC */
/*
 * Counting different strings, see distinct.h. Run by the worker. It never holds
 * more than twice the limit, whatever is added.
 */
#include "worker/distinct.h"

#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"

#define WORD_DIGITS 16u

void distinct_init(struct distinct *distinct, size_t limit)
{
	*distinct = (struct distinct){.limit = limit, .ceiling = UINT64_MAX};
}

void distinct_free(struct distinct *distinct)
{
	free(distinct->hashes);
	*distinct = (struct distinct){0};
}

/* FNV-1a, then mixed: the estimate needs hashes that are even over all 64 bits. */
static uint64_t hash_text(struct slice text)
{
	uint64_t hash = 0xcbf29ce484222325u;

	for (size_t i = 0; i < text.len; i++)
		hash = (hash ^ (uint8_t)text.data[i]) * 0x100000001b3u;
	hash = (hash ^ hash >> 30) * 0xbf58476d1ce4e5b9u;
	hash = (hash ^ hash >> 27) * 0x94d049bb133111ebu;
	return hash ^ hash >> 31;
}

static int compare_hashes(const void *a, const void *b)
{
	uint64_t left, right;

	memcpy(&left, a, sizeof(left));
	memcpy(&right, b, sizeof(right));
	return left < right ? -1 : left > right;
}

/* Sorts, drops duplicates and what lies above the ceiling, and keeps `limit` of them. */
static void settle(struct distinct *distinct)
{
	size_t kept = 0;

	if (distinct->count > 0)
		qsort(distinct->hashes, distinct->count, sizeof(*distinct->hashes), compare_hashes);
	for (size_t i = 0; i < distinct->count; i++) {
		uint64_t hash = distinct->hashes[i];

		if (hash <= distinct->ceiling && (kept == 0 || distinct->hashes[kept - 1] != hash))
			distinct->hashes[kept++] = hash;
	}
	if (kept > distinct->limit) {
		kept = distinct->limit;
		distinct->ceiling = distinct->hashes[kept - 1];
	}
	distinct->count = kept;
}

static void add_hash(struct distinct *distinct, uint64_t hash)
{
	if (hash > distinct->ceiling)
		return;
	if (distinct->count == distinct->capacity) {
		distinct->capacity = distinct->capacity ? distinct->capacity * 2 : 64;
		distinct->hashes =
			xrealloc(distinct->hashes, distinct->capacity * sizeof(*distinct->hashes));
	}
	distinct->hashes[distinct->count++] = hash;
	if (distinct->count >= distinct->limit * 2)
		settle(distinct);
}

void distinct_add(struct distinct *distinct, struct slice text)
{
	add_hash(distinct, hash_text(text));
}

static void append_word(struct buffer *out, uint64_t word)
{
	static const char digits[] = "0123456789abcdef";
	char *at = buffer_reserve(out, WORD_DIGITS);

	for (unsigned i = 0; i < WORD_DIGITS; i++)
		at[i] = digits[word >> (60 - 4 * i) & 15];
	out->len += WORD_DIGITS;
}

void distinct_write(struct distinct *distinct, struct buffer *out)
{
	settle(distinct);
	append_word(out, distinct->ceiling);
	for (size_t i = 0; i < distinct->count; i++)
		append_word(out, distinct->hashes[i]);
}

static uint64_t read_word(const char *at)
{
	uint64_t word = 0;

	for (unsigned i = 0; i < WORD_DIGITS; i++)
		word = word << 4 | (uint64_t)(at[i] <= '9' ? at[i] - '0' : at[i] - 'a' + 10);
	return word;
}

static bool is_written(struct slice text)
{
	if (text.len == 0 || text.len % WORD_DIGITS != 0)
		return false;
	for (size_t i = 0; i < text.len; i++)
		if (!((text.data[i] >= '0' && text.data[i] <= '9') ||
		      (text.data[i] >= 'a' && text.data[i] <= 'f')))
			return false;
	return true;
}

bool distinct_merge(struct distinct *distinct, struct slice written)
{
	uint64_t ceiling;

	if (!is_written(written))
		return false;
	ceiling = read_word(written.data);
	if (ceiling < distinct->ceiling)
		distinct->ceiling = ceiling;
	for (size_t at = WORD_DIGITS; at < written.len; at += WORD_DIGITS)
		add_hash(distinct, read_word(written.data + at));
	return true;
}

uint64_t distinct_count(struct distinct *distinct)
{
	settle(distinct);
	if (distinct->ceiling == UINT64_MAX || distinct->ceiling == 0 || distinct->count == 0)
		return distinct->count;
	/* The k-th smallest of n even hashes lies at about k / n of the range. */
	return (uint64_t)((double)(distinct->count - 1) /
				  ((double)distinct->ceiling / 18446744073709551616.0) +
			  0.5);
}
