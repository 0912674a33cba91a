/* SPDX-License-Identifier: ISC */
/*
 * Looking up the fields of a parsed request head. Runs in workers. Reads the
 * request only; what a field's value means is its caller's business.
 */
#include "keepsock/http.h"

#include "http_chars.h"

static char ascii_lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

bool http_equal_nocase(struct slice a, struct slice b)
{
	if (a.len != b.len)
		return false;
	for (size_t i = 0; i < a.len; i++) {
		if (ascii_lower(a.data[i]) != ascii_lower(b.data[i]))
			return false;
	}
	return true;
}

bool http_header_find(const struct http_request *request, const char *name, struct slice *value)
{
	struct slice wanted = slice_str(name);

	for (size_t i = 0; i < request->header_count; i++) {
		if (!http_equal_nocase(request->headers[i].name, wanted))
			continue;
		if (value != NULL)
			*value = request->headers[i].value;
		return true;
	}
	return false;
}

size_t http_header_count(const struct http_request *request, const char *name)
{
	struct slice wanted = slice_str(name);
	size_t count = 0;

	for (size_t i = 0; i < request->header_count; i++)
		count += http_equal_nocase(request->headers[i].name, wanted);
	return count;
}

bool http_list_next(struct slice *list, struct slice *element)
{
	const char *p = list->data, *end = list->data + list->len;

	while (p < end && (*p == ',' || http_char_is_blank(*p)))
		p++;
	if (p == end) {
		*list = slice_from(end, 0);
		return false;
	}

	const char *comma = memchr(p, ',', (size_t)(end - p));
	const char *last = comma != NULL ? comma : end;

	*list = slice_from(last, (size_t)(end - last));
	while (http_char_is_blank(last[-1]))
		last--;
	*element = slice_from(p, (size_t)(last - p));
	return true;
}

bool http_header_has_token(const struct http_request *request, const char *name, const char *token)
{
	struct slice wanted_name = slice_str(name), wanted = slice_str(token);

	for (size_t i = 0; i < request->header_count; i++) {
		struct slice list = request->headers[i].value, element;

		if (!http_equal_nocase(request->headers[i].name, wanted_name))
			continue;
		while (http_list_next(&list, &element)) {
			if (http_equal_nocase(element, wanted))
				return true;
		}
	}
	return false;
}
