/* SPDX-License-Identifier: ISC */
/*
 * Patterns for channel names: '*' is any text, '?' any character, [a-z] one of a
 * set, [!a-z] one outside of it, '\' takes the next character as it is. Pure;
 * the time is at most pattern times text, whoever wrote the pattern.
 */
#ifndef KEEPSOCK_WORKER_GLOB_H
#define KEEPSOCK_WORKER_GLOB_H

#include <stdbool.h>

#include "keepsock/slice.h"

/* Whether all of text matches. A '[' without its ']' stands for itself. */
bool glob_match(struct slice pattern, struct slice text);

#endif
