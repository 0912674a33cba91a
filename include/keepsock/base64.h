/* SPDX-License-Identifier: ISC */
/*
 * Base64 (RFC 4648) read strictly: one spelling per sequence of bytes, so that a
 * text can't be changed and still mean the same. Runs in every process; it
 * knows nothing of what the bytes are.
 */
#ifndef KEEPSOCK_BASE64_H
#define KEEPSOCK_BASE64_H

#include <stdbool.h>

#include "keepsock/buffer.h"
#include "keepsock/slice.h"

/*
 * Appends the decoded bytes: 3 for every 4 characters at most. False, with out
 * unchanged, on a character of the other alphabet, white space, an impossible
 * length, or unused bits that are not zero. The empty text is valid.
 */
bool base64_decode(struct slice text, struct buffer *out);    /* §4: "+/", padded with = */
bool base64url_decode(struct slice text, struct buffer *out); /* §5: "-_", without padding */

#endif
