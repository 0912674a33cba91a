/* SPDX-License-Identifier: ISC */
/*
 * Heap allocation that does not fail: out of memory is a broken invariant
 * (limits keep us far from it), so these log one line and abort instead of
 * returning NULL. Every process uses them. Free the results with free().
 */
#ifndef KEEPSOCK_ALLOC_H
#define KEEPSOCK_ALLOC_H

#include <stddef.h>

void *xmalloc(size_t size) __attribute__((malloc, returns_nonnull, warn_unused_result));

/* count elements of size bytes, zeroed; an overflowing product aborts. */
void *xcalloc(size_t count, size_t size)
	__attribute__((malloc, returns_nonnull, warn_unused_result));

void *xrealloc(void *old, size_t size) __attribute__((returns_nonnull, warn_unused_result));

char *xstrdup(const char *text) __attribute__((malloc, returns_nonnull, warn_unused_result));

/* At most len bytes of text, always terminated; text need not be. */
char *xstrndup(const char *text, size_t len)
	__attribute__((malloc, returns_nonnull, warn_unused_result));

/* printf into a fresh string. */
char *xasprintf(const char *fmt, ...)
	__attribute__((malloc, returns_nonnull, warn_unused_result, format(printf, 1, 2)));

/*
 * Gives what was freed back to the system, what malloc() would keep for the
 * calling thread too. Walks the whole heap: for when a burst of work is over.
 */
void alloc_trim(void);

#endif
