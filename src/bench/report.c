/* SPDX-License-Identifier: ISC */
/*
 * Builds both forms of the result as the figures come in; prints one of them.
 */
#include "report.h"

#include <stdio.h>

#include "keepsock/json.h"

void report_free(struct report *report)
{
	buffer_free(&report->text);
	buffer_free(&report->json);
}

static void append_name(struct report *report, const char *name)
{
	size_t width = 48;

	buffer_append_str(&report->json, report->json.len == 0 ? "{" : ",");
	json_append_string(&report->json, slice_str(name));
	buffer_append_str(&report->json, ":");
	for (const char *c = name; *c; c++, width -= width > 0)
		buffer_append_char(&report->text, *c == '_' ? ' ' : *c);
	do
		buffer_append_char(&report->text, ' ');
	while (width-- > 1);
}

void report_text(struct report *report, const char *name, const char *value)
{
	append_name(report, name);
	json_append_string(&report->json, slice_str(value));
	buffer_printf(&report->text, "%s\n", value);
}

void report_count(struct report *report, const char *name, uint64_t value)
{
	append_name(report, name);
	buffer_append_u64(&report->json, value);
	buffer_printf(&report->text, "%llu\n", (unsigned long long)value);
}

void report_figure(struct report *report, const char *name, double value, int decimals)
{
	append_name(report, name);
	buffer_printf(&report->json, "%.*f", decimals, value);
	buffer_printf(&report->text, "%.*f\n", decimals, value);
}

int report_print(const struct report *report, bool json)
{
	const struct buffer *out = json ? &report->json : &report->text;

	fwrite(out->data, 1, out->len, stdout);
	if (json)
		fputs("}\n", stdout);
	return fflush(stdout) == 0 && !ferror(stdout) ? 0 : -1;
}
