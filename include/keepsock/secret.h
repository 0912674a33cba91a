/* SPDX-License-Identifier: ISC */
/*
 * Handling of keys and passwords: comparing them without telling by the time
 * taken how much matched, and wiping them in a way the compiler keeps.
 */
#ifndef KEEPSOCK_SECRET_H
#define KEEPSOCK_SECRET_H

#include <stdbool.h>
#include <stddef.h>

#include "keepsock/slice.h"

/* The time depends on the lengths only, never on the contents. */
bool secret_equal(struct slice a, struct slice b);

void secret_wipe(void *p, size_t len);

#endif
