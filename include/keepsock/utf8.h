/* SPDX-License-Identifier: ISC */
/*
 * Incremental UTF-8 validation (RFC 3629: no surrogates, no overlong forms,
 * nothing above U+10FFFF). The state is one small number, so it can live in a
 * passport and a text message may be checked piece by piece as it arrives. Used
 * by workers; it never looks at what the text means and never allocates.
 */
#ifndef KEEPSOCK_UTF8_H
#define KEEPSOCK_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The state before the first byte and after every complete character; every state fits a byte. */
#define UTF8_START 0u

/*
 * Checks the next len bytes. False as soon as they cannot be the continuation
 * of valid UTF-8; *state is then meaningless (a further feed also fails). A
 * state that was never given out by this function is refused the same way.
 */
bool utf8_feed(uint32_t *state, const void *data, size_t len);

/* True when the text may end here: no character is left unfinished. */
bool utf8_complete(uint32_t state);

/* Checks a whole text at once. */
bool utf8_valid(const void *data, size_t len);

#endif
