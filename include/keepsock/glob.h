/* SPDX-License-Identifier: ISC */
/*
 * Patterns for names: '*' is any text, '?' any character. Pure; the time is at
 * most pattern times text, whoever wrote the pattern.
 */
#ifndef KEEPSOCK_GLOB_H
#define KEEPSOCK_GLOB_H

#include <stdbool.h>

#include "keepsock/slice.h"

/*
 * Whether all of text matches. Besides, [a-z] is one of a set, [!a-z] one outside
 * of it, '\' takes the next character as it is, and a '[' without its ']' stands
 * for itself.
 */
bool glob_match(struct slice pattern, struct slice text);

/* The same for texts that may have brackets in them, as origins have: these stand
 * for themselves, and ASCII letters match in either case. */
bool glob_match_origin(struct slice pattern, struct slice text);

#endif
