/* SPDX-License-Identifier: ISC */
/*
 * Guards for objects that cross a `void *`: the first member is
 * `uint32_t magic`, set on creation, checked in every callback, cleared on
 * release. A wrong one is a broken invariant of ours, never a peer's doing.
 */
#ifndef KEEPSOCK_MAGIC_H
#define KEEPSOCK_MAGIC_H

#include <stdint.h>
#include <stdlib.h>

#include "keepsock/log.h"

#define MAGIC_CHECK(object, expected)                                                      \
	do {                                                                               \
		if (!(object) || (object)->magic != (expected)) {                          \
			log_error("broken_object where=%s:%d wanted=" #expected, __FILE__, \
				  __LINE__);                                               \
			abort();                                                           \
		}                                                                          \
	} while (0)

#endif
