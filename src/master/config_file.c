/* SPDX-License-Identifier: ISC */
/*
 * The configuration's file, see config_file.h. Runs in the master; it knows no
 * setting.
 */
#include "master/config_file.h"

#include <jansson.h>
#include <stdbool.h>
#include <string.h>

#include "keepsock/buffer.h"
#include "keepsock/text_file.h"

#define CONFIG_SIZE_MAX ((size_t)1024 * 1024)

/* Names and values travel between processes as JSON, so they must be UTF-8, without zero bytes. */
static bool is_text(const char *text, size_t length)
{
	json_t *value = json_stringn(text, length);
	bool valid = value && strlen(text) == length;

	json_decref(value);
	return valid;
}

int config_file_read(const char *path, struct buffer *text, struct buffer *error)
{
	if (text_file_read(path, CONFIG_SIZE_MAX, text, error) < 0)
		return -1;
	if (is_text(buffer_cstr(text), text->len) && is_text(path, strlen(path)))
		return 0;
	buffer_printf(error, "%s: name and contents must be UTF-8 text", path);
	return -1;
}
