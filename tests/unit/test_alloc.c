/* SPDX-License-Identifier: ISC */
/* Giving memory back after a burst: what was freed goes, what is in use stays as it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "keepsock/alloc.h"

/* A sanitizer keeps what was freed. */
#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#if !defined(SANITIZED) && defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define PAGE      4096u
#define PIECES    40000u
#define PIECE_MAX 1032u

static uint8_t *pieces[PIECES];

static size_t size_of(size_t i)
{
	return 24 + i * 16 % (PIECE_MAX - 24);
}

/* Pages of the heap between the two that are in memory. */
static size_t resident_pages(const uint8_t *from, const uint8_t *to)
{
	uintptr_t start = (uintptr_t)from & ~(uintptr_t)(PAGE - 1);
	size_t length = (uintptr_t)to - start, count = 0;
	unsigned char *there = xmalloc(length / PAGE + 1);

	assert_int_equal(mincore((void *)start, length, there), 0);
	for (size_t i = 0; i < (length + PAGE - 1) / PAGE; i++)
		count += there[i] & 1;
	free(there);
	return count;
}

/* In no order, so that what malloc() keeps lies all over. The last one stays. */
static void free_most(void)
{
	for (size_t i = 0; i + 1 < PIECES; i++) {
		size_t other = i + (size_t)random() % (PIECES - 1 - i);
		uint8_t *piece = pieces[other];

		pieces[other] = pieces[i];
		free(piece);
	}
}

static void test_a_burst_leaves_little(void **state)
{
	uint8_t *first, *last;
	size_t before, after;

	(void)state;
	if (SANITIZED)
		skip();
	srandom(4711);
	for (size_t i = 0; i < PIECES; i++) {
		pieces[i] = xmalloc(size_of(i));
		memset(pieces[i], (int)i, size_of(i));
	}
	first = pieces[0];
	last = pieces[PIECES - 1];
	assert_true(first < last);
	before = resident_pages(first, last);
	free_most();
	alloc_trim();
	after = resident_pages(first, last);
	print_message("pages: %zu, then %zu\n", before, after);
	assert_true(before > PIECES / 16);
	/* 448 pieces are kept: each would hold a page. */
	assert_true(after < 224);
	for (size_t i = 0; i < size_of(PIECES - 1); i++)
		assert_int_equal(last[i], (uint8_t)(PIECES - 1));
	free(last);
}

static void test_nothing_to_give_back(void **state)
{
	char *text = xstrdup("stays");

	(void)state;
	alloc_trim();
	alloc_trim();
	assert_string_equal(text, "stays");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_burst_leaves_little),
		cmocka_unit_test(test_nothing_to_give_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
