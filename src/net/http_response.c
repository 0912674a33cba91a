/* SPDX-License-Identifier: ISC */
/*
 * The writer of HTTP responses. Runs in workers. It frames by Content-Length
 * only; the caller decides what is said and whether the connection stays.
 */
#include "keepsock/http.h"

#include <time.h>

#include "keepsock/buffer.h"

static const struct {
	int status;
	const char *text;
} statuses[] = {
	{100, "Continue"},
	{101, "Switching Protocols"},
	{200, "OK"},
	{204, "No Content"},
	{206, "Partial Content"},
	{301, "Moved Permanently"},
	{302, "Found"},
	{304, "Not Modified"},
	{307, "Temporary Redirect"},
	{308, "Permanent Redirect"},
	{400, "Bad Request"},
	{401, "Unauthorized"},
	{403, "Forbidden"},
	{404, "Not Found"},
	{405, "Method Not Allowed"},
	{408, "Request Timeout"},
	{409, "Conflict"},
	{411, "Length Required"},
	{413, "Content Too Large"},
	{414, "URI Too Long"},
	{415, "Unsupported Media Type"},
	{416, "Range Not Satisfiable"},
	{417, "Expectation Failed"},
	{426, "Upgrade Required"},
	{429, "Too Many Requests"},
	{431, "Request Header Fields Too Large"},
	{500, "Internal Server Error"},
	{501, "Not Implemented"},
	{502, "Bad Gateway"},
	{503, "Service Unavailable"},
	{504, "Gateway Timeout"},
	{505, "HTTP Version Not Supported"},
};

const char *http_status_text(int status)
{
	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
		if (statuses[i].status == status)
			return statuses[i].text;
	}
	return "Unknown";
}

/* Date, RFC 9110 §5.6.7. Not by strftime, whose names follow the locale. */
static void append_date(struct buffer *out)
{
	static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
	static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
					   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	time_t now = time(NULL);
	struct tm tm;

	if (now == (time_t)-1 || gmtime_r(&now, &tm) == NULL)
		return; /* a server without a clock sends none */
	buffer_printf(out, "Date: %s, %02d %s %04d %02d:%02d:%02d GMT\r\n", days[tm.tm_wday],
		      tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min,
		      tm.tm_sec);
}

static bool status_has_body(int status)
{
	return status >= 200 && status != 204 && status != 304;
}

void http_response_head(struct buffer *out, int status, const char *content_type,
			uint64_t content_length, bool keep_alive, const char *extra_headers)
{
	buffer_printf(out, "HTTP/1.1 %d %s\r\n", status, http_status_text(status));
	append_date(out);
	if (content_type != NULL)
		buffer_printf(out, "Content-Type: %s\r\n", content_type);
	if (status_has_body(status)) {
		buffer_append_str(out, "Content-Length: ");
		buffer_append_u64(out, content_length);
		buffer_append_str(out, "\r\n");
	}
	buffer_append_str(out, keep_alive ? "Connection: keep-alive\r\n" : "Connection: close\r\n");
	if (extra_headers != NULL)
		buffer_append_str(out, extra_headers);
	buffer_append_str(out, "\r\n");
}

void http_response(struct buffer *out, int status, const char *content_type, struct slice body,
		   bool keep_alive, const char *extra_headers)
{
	http_response_head(out, status, content_type, body.len, keep_alive, extra_headers);
	if (status_has_body(status))
		buffer_append_slice(out, body);
}
