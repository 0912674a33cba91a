/* SPDX-License-Identifier: ISC */
/*
 * The allocation family that does not fail. Runs in every process. It must
 * never allocate while reporting that there is nothing left to allocate.
 */
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keepsock/alloc.h"

/* glibc's malloc() keeps so many freed pieces of each size up to that one for the next that is
 * wanted; malloc_trim() leaves them alone. Elsewhere replacing them does no harm. */
#define CACHED_COUNT 7
#define CACHED_MAX   1032u
#define CACHED_STEP  16u

static _Noreturn void abort_out_of_memory(void)
{
	static const char text[] = "level=error event=out_of_memory\n";

	/* Nothing is left to do about a failing stderr: we abort either way. */
	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		abort();
	abort();
}

void *xmalloc(size_t size)
{
	void *p = malloc(size ? size : 1);

	if (!p)
		abort_out_of_memory();
	return p;
}

void *xcalloc(size_t count, size_t size)
{
	void *p = calloc(count ? count : 1, size ? size : 1);

	if (!p)
		abort_out_of_memory();
	return p;
}

void *xrealloc(void *old, size_t size)
{
	void *p = realloc(old, size ? size : 1);

	if (!p)
		abort_out_of_memory();
	return p;
}

char *xstrdup(const char *text)
{
	return xstrndup(text, strlen(text));
}

char *xstrndup(const char *text, size_t len)
{
	size_t used = strnlen(text, len);
	char *copy = xmalloc(used + 1);

	memcpy(copy, text, used);
	copy[used] = '\0';
	return copy;
}

char *xasprintf(const char *fmt, ...)
{
	char *text;
	va_list args;

	va_start(args, fmt);
	if (vasprintf(&text, fmt, args) < 0)
		abort_out_of_memory();
	va_end(args);
	return text;
}

/*
 * A freed piece that is kept for the next one holds its page. Others take the
 * places of these; they come from the smallest gaps, which are between what is
 * in use anyway.
 */
static void replace_cached(size_t size)
{
	void *volatile old[CACHED_COUNT];
	void *volatile fresh[CACHED_COUNT];

	for (int i = 0; i < CACHED_COUNT; i++)
		old[i] = malloc(size);
	for (int i = 0; i < CACHED_COUNT; i++)
		fresh[i] = malloc(size);
	for (int i = 0; i < CACHED_COUNT; i++)
		free(fresh[i]);
	for (int i = 0; i < CACHED_COUNT; i++)
		free(old[i]);
}

void alloc_trim(void)
{
	/* What the first time made room for is used by the second. */
	for (int round = 0; round < 2; round++) {
		for (size_t size = CACHED_MAX; size >= CACHED_STEP; size -= CACHED_STEP)
			replace_cached(size);
	}
	malloc_trim(0);
}
