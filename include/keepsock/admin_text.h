/* SPDX-License-Identifier: ISC */
/*
 * Answers of the admin socket as text for people. What came from clients is
 * made harmless for a terminal: control characters are shown as \xNN.
 */
#ifndef KEEPSOCK_ADMIN_TEXT_H
#define KEEPSOCK_ADMIN_TEXT_H

#include <jansson.h>

struct buffer;

/*
 * An array of objects as a table: a column for each key of the first object,
 * in its order; numbers to the right. "(none)" when there are no rows.
 */
void admin_text_rows(struct buffer *out, const json_t *rows);

/* An object as aligned lines `key  value`. */
void admin_text_object(struct buffer *out, const json_t *object);

/* An object as one line `key=value key=value ...`. */
void admin_text_line(struct buffer *out, const json_t *object);

#endif
