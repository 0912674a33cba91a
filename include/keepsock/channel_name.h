/* SPDX-License-Identifier: ISC */
/*
 * What a channel's name may look like and which namespace it belongs to. Used by
 * the workers for every channel a client or the HTTP API names. It only reads the
 * name: permissions and options are decided elsewhere.
 */
#ifndef KEEPSOCK_CHANNEL_NAME_H
#define KEEPSOCK_CHANNEL_NAME_H

#include <stddef.h>
#include <stdint.h>

#include "keepsock/settings.h"
#include "keepsock/slice.h"

enum channel_verdict {
	CHANNEL_OK,
	CHANNEL_EMPTY,             /* disconnect 3501 for a client, error 107 in the HTTP API */
	CHANNEL_TOO_LONG,          /* error 107 */
	CHANNEL_BAD,               /* error 107: a byte that is not printable ASCII */
	CHANNEL_UNKNOWN_NAMESPACE, /* error 102 */
	CHANNEL_PRIVATE,           /* error 103 for a subscribe without token; else like OK */
};

/*
 * Checks in the order in which a client has to see the errors: empty, too long,
 * unknown namespace, bad byte, private. No namespace is defined yet, so every
 * name with a boundary belongs to an unknown one. max_length is in bytes.
 */
enum channel_verdict channel_name_check(struct slice name, size_t max_length);

/* The error code of PROTOCOL's table for a verdict; 0 for OK. CHANNEL_EMPTY gives 107. */
uint32_t channel_verdict_error(enum channel_verdict verdict);

#endif
