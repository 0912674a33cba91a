/* SPDX-License-Identifier: ISC */
/*
 * The parser of request heads (RFC 9112 §2–§6). Runs in workers on whatever a
 * peer sends, so it is strict: each byte is judged in order, the first one that
 * does not fit decides, and nothing is repaired. It must never allocate, modify
 * its input or give an outcome that depends on how the bytes were cut into reads.
 */
#include "keepsock/hex.h"
#include "keepsock/http.h"

#include "http_chars.h"

/* What a step of the parser returns besides an HTTP status to answer. */
enum { STEP_DONE = 0, STEP_NEED_MORE = -1 };

struct head_parser {
	const char *p, *end;
	struct http_request *request;
	bool in_fields; /* behind the request line */
	bool host_seen;
	bool coding_seen, coding_chunked; /* Transfer-Encoding */
	bool expect_seen;
	bool connection_close, connection_keep_alive, connection_upgrade;
	bool upgrade_websocket;
};

/* The end of the run of bytes of this class that starts at p and is at most limit bytes long. */
static const char *scan_class(const char *p, const char *end, size_t limit,
			      enum http_char_class set)
{
	if ((size_t)(end - p) > limit)
		end = p + limit;
	while (p < end && http_char_is(*p, set))
		p++;
	return p;
}

/*
 * The end of the run of field value bytes. Eight at a time while none of them
 * is a control byte: (w - 0x20…) & ~w sets a byte's top bit when it is below
 * 0x20, the same trick with w ^ 0x7f… and 1 finds DEL.
 */
static const char *scan_field_value(const char *p, const char *end)
{
	const uint64_t ones = UINT64_C(0x0101010101010101), tops = ones << 7;

	while (end - p >= 8) {
		uint64_t w, del;

		memcpy(&w, p, sizeof(w));
		del = w ^ (ones * 0x7f);
		if ((((w - ones * 0x20) & ~w) | ((del - ones) & ~del)) & tops)
			break;
		p += 8;
	}
	while (p < end && http_char_is(*p, HTTP_CHAR_FIELD))
		p++;
	return p;
}

/* Takes exactly these bytes; which of them are there already does not matter. */
static int take_literal(struct head_parser *h, const char *literal)
{
	for (; *literal != '\0'; literal++, h->p++) {
		if (h->p == h->end)
			return STEP_NEED_MORE;
		if (*h->p != *literal)
			return 400;
	}
	return STEP_DONE;
}

static int take_digit(struct head_parser *h, int *digit)
{
	if (h->p == h->end)
		return STEP_NEED_MORE;
	if (!http_char_is(*h->p, HTTP_CHAR_DIGIT))
		return 400;
	*digit = *h->p++ - '0';
	return STEP_DONE;
}

/* Takes a non-empty run of one class ended by the byte stop; status when it is too long. */
static int take_word(struct head_parser *h, enum http_char_class set, size_t limit, char stop,
		     int too_long, struct slice *word)
{
	const char *start = h->p;
	const char *last = scan_class(start, h->end, limit + 1, set);

	if ((size_t)(last - start) > limit)
		return too_long;
	if (last == h->end)
		return STEP_NEED_MORE;
	if (*last != stop || last == start)
		return 400;
	*word = slice_from(start, (size_t)(last - start));
	h->p = last + 1;
	return STEP_DONE;
}

/* host = uri-host [":" port], RFC 9110 §7.2: a name, an IPv4 address or an IP literal in brackets.
 */
static bool host_is_valid(struct slice host)
{
	const char *p = host.data, *end = host.data + host.len;

	if (p < end && *p == '[') {
		const char *start = ++p;

		while (p < end && (hex_value(*p) >= 0 || *p == ':' || *p == '.'))
			p++;
		if (p == end || *p != ']' || p - start < 2)
			return false;
		p++;
	} else {
		while (p < end && (http_char_is(*p, HTTP_CHAR_HOST) || *p == '%')) {
			if (*p == '%' &&
			    (end - p < 3 || hex_value(p[1]) < 0 || hex_value(p[2]) < 0))
				return false;
			p += *p == '%' ? 3 : 1;
		}
	}
	if (p == end)
		return true;
	if (*p != ':' || p == host.data)
		return false;
	p++;
	return end - p <= 5 && scan_class(p, end, 5, HTTP_CHAR_DIGIT) == end;
}

static enum http_method method_of(struct slice name)
{
	static const struct {
		struct slice name;
		enum http_method method;
	} methods[] = {
		{{"GET", 3}, HTTP_METHOD_GET},       {{"POST", 4}, HTTP_METHOD_POST},
		{{"HEAD", 4}, HTTP_METHOD_HEAD},     {{"PUT", 3}, HTTP_METHOD_PUT},
		{{"DELETE", 6}, HTTP_METHOD_DELETE}, {{"OPTIONS", 7}, HTTP_METHOD_OPTIONS},
		{{"PATCH", 5}, HTTP_METHOD_PATCH},   {{"TRACE", 5}, HTTP_METHOD_TRACE},
	};

	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		if (slice_equal(name, methods[i].name))
			return methods[i].method;
	}
	return HTTP_METHOD_OTHER;
}

static void set_path_and_query(struct http_request *request, struct slice rest)
{
	const char *mark = rest.len > 0 ? memchr(rest.data, '?', rest.len) : NULL;
	size_t path_len = mark != NULL ? (size_t)(mark - rest.data) : rest.len;

	request->path = path_len > 0 ? slice_from(rest.data, path_len) : SLICE("/");
	request->query = mark != NULL ? slice_from(mark + 1, rest.len - path_len - 1) : SLICE("");
}

/* absolute-form, RFC 9112 §3.2.2: its authority replaces Host. */
static int parse_absolute_target(struct http_request *request)
{
	struct slice target = request->target;
	size_t start = 0;

	for (size_t i = 0; i < 2 && start == 0; i++) {
		struct slice scheme = i == 0 ? SLICE("http://") : SLICE("https://");

		if (target.len >= scheme.len &&
		    http_equal_nocase(slice_from(target.data, scheme.len), scheme))
			start = scheme.len;
	}
	if (start == 0)
		return 400;

	size_t last = start;

	while (last < target.len && target.data[last] != '/' && target.data[last] != '?')
		last++;
	request->host = slice_from(target.data + start, last - start);
	if (request->host.len == 0 || !host_is_valid(request->host))
		return 400;
	set_path_and_query(request, slice_from(target.data + last, target.len - last));
	return STEP_DONE;
}

/* Which of the four forms of RFC 9112 §3.2 the target has. */
static int parse_target(struct http_request *request)
{
	request->host = SLICE("");
	request->query = SLICE("");
	/* CONNECT, alone in having an authority as target, is for proxies. */
	if (slice_is(request->method_name, "CONNECT"))
		return 501;
	if (request->target.data[0] == '/') {
		set_path_and_query(request, request->target);
		return STEP_DONE;
	}
	if (slice_is(request->target, "*")) {
		request->path = request->target;
		return request->method == HTTP_METHOD_OPTIONS ? STEP_DONE : 400;
	}
	return parse_absolute_target(request);
}

static int parse_version(struct head_parser *h)
{
	int major, minor, step;

	if (h->end - h->p >= 10 && memcmp(h->p, "HTTP/1.1\r\n", 10) == 0) {
		h->request->minor_version = 1;
		h->p += 10;
		return STEP_DONE;
	}
	if ((step = take_literal(h, "HTTP/")) != STEP_DONE ||
	    (step = take_digit(h, &major)) != STEP_DONE ||
	    (step = take_literal(h, ".")) != STEP_DONE ||
	    (step = take_digit(h, &minor)) != STEP_DONE)
		return step;
	if (major != 1 || minor > 1)
		return 505;
	h->request->minor_version = minor;
	return take_literal(h, "\r\n");
}

static int parse_request_line(struct head_parser *h)
{
	struct http_request *request = h->request;
	int step;

	/* An empty line before the request is an old client's slip, RFC 9112 §2.2. */
	if (h->p < h->end && *h->p == '\r' && (step = take_literal(h, "\r\n")) != STEP_DONE)
		return step;
	step = take_word(h, HTTP_CHAR_TOKEN, HTTP_METHOD_LIMIT, ' ', 501, &request->method_name);
	if (step != STEP_DONE)
		return step;
	step = take_word(h, HTTP_CHAR_TARGET, HTTP_TARGET_LIMIT, ' ', 414, &request->target);
	if (step != STEP_DONE)
		return step;
	if ((step = parse_version(h)) != STEP_DONE)
		return step;
	request->method = method_of(request->method_name);
	return parse_target(request);
}

/* RFC 9110 §8.6. Given twice it is refused even when equal: which one counts is a matter of taste.
 */
static int on_content_length(struct head_parser *h, struct slice value)
{
	int64_t length = 0;

	if (h->request->content_length >= 0 || value.len == 0)
		return 400;
	for (size_t i = 0; i < value.len; i++) {
		if (!http_char_is(value.data[i], HTTP_CHAR_DIGIT))
			return 400;
	}
	for (size_t i = 0; i < value.len; i++) {
		if (__builtin_mul_overflow(length, 10, &length) ||
		    __builtin_add_overflow(length, value.data[i] - '0', &length))
			return 413;
	}
	h->request->content_length = length;
	return STEP_DONE;
}

static int on_transfer_encoding(struct head_parser *h, struct slice value)
{
	h->coding_chunked = !h->coding_seen && http_equal_nocase(value, SLICE("chunked"));
	h->coding_seen = true;
	return STEP_DONE;
}

static int on_host(struct head_parser *h, struct slice value)
{
	if (h->host_seen || !host_is_valid(value))
		return 400;
	h->host_seen = true;
	/* An absolute target has named the host already. */
	if (h->request->host.len == 0)
		h->request->host = value;
	return STEP_DONE;
}

static int on_connection(struct head_parser *h, struct slice value)
{
	struct slice element;

	while (http_list_next(&value, &element)) {
		if (http_equal_nocase(element, SLICE("close")))
			h->connection_close = true;
		else if (http_equal_nocase(element, SLICE("keep-alive")))
			h->connection_keep_alive = true;
		else if (http_equal_nocase(element, SLICE("upgrade")))
			h->connection_upgrade = true;
	}
	return STEP_DONE;
}

static int on_upgrade(struct head_parser *h, struct slice value)
{
	struct slice element;

	while (http_list_next(&value, &element)) {
		if (http_equal_nocase(element, SLICE("websocket")))
			h->upgrade_websocket = true;
	}
	return STEP_DONE;
}

static int on_expect(struct head_parser *h, struct slice value)
{
	h->expect_seen = true;
	return http_equal_nocase(value, SLICE("100-continue")) ? STEP_DONE : 417;
}

/* The fields that decide about framing and routing. */
static const struct {
	struct slice name;
	int (*on_field)(struct head_parser *h, struct slice value);
} known_fields[] = {
	{{"Host", 4}, on_host},
	{{"Connection", 10}, on_connection},
	{{"Upgrade", 7}, on_upgrade},
	{{"Content-Length", 14}, on_content_length},
	{{"Transfer-Encoding", 17}, on_transfer_encoding},
	{{"Expect", 6}, on_expect},
};

static int parse_field(struct head_parser *h)
{
	struct http_request *request = h->request;
	struct http_header *header = &request->headers[request->header_count];
	int step = take_word(h, HTTP_CHAR_TOKEN, SIZE_MAX - 1, ':', 431, &header->name);

	if (step != STEP_DONE)
		return step;
	while (h->p < h->end && http_char_is_blank(*h->p))
		h->p++;

	const char *start = h->p, *last = scan_field_value(start, h->end);

	h->p = last;
	if ((step = take_literal(h, "\r\n")) != STEP_DONE)
		return step;
	while (last > start && http_char_is_blank(last[-1]))
		last--;
	header->value = slice_from(start, (size_t)(last - start));
	request->header_count++;
	for (size_t i = 0; i < sizeof(known_fields) / sizeof(known_fields[0]); i++) {
		if (http_equal_nocase(header->name, known_fields[i].name))
			return known_fields[i].on_field(h, header->value);
	}
	return STEP_DONE;
}

static int parse_fields(struct head_parser *h)
{
	for (;;) {
		int step;

		if (h->p == h->end)
			return STEP_NEED_MORE;
		if (*h->p == '\r')
			return take_literal(h, "\r\n");
		if (h->request->header_count == HTTP_HEADER_LIMIT)
			return 431;
		if ((step = parse_field(h)) != STEP_DONE)
			return step;
	}
}

/* What only the whole head can tell; first of all the ways to smuggle a request, RFC 9112 §6.3. */
static int check_head(struct head_parser *h)
{
	struct http_request *request = h->request;
	bool is_1_1 = request->minor_version == 1;

	if (h->coding_seen && (request->content_length >= 0 || !is_1_1))
		return 400;
	if (h->coding_seen && !h->coding_chunked)
		return 501;
	if (is_1_1 && !h->host_seen)
		return 400;
	request->chunked = h->coding_chunked;
	request->keep_alive = !h->connection_close && (is_1_1 || h->connection_keep_alive);
	request->upgrade_websocket = is_1_1 && h->connection_upgrade && h->upgrade_websocket;
	request->expect_continue =
		is_1_1 && h->expect_seen && (request->chunked || request->content_length > 0);
	return STEP_DONE;
}

static int parse_head(struct head_parser *h)
{
	int step = parse_request_line(h);

	if (step != STEP_DONE)
		return step;
	h->in_fields = true;
	step = parse_fields(h);
	return step == STEP_DONE ? check_head(h) : step;
}

enum http_result http_parse_head(struct slice input, size_t limit, struct http_request *request,
				 size_t *consumed, int *status)
{
	size_t len = input.len < limit ? input.len : limit;
	struct head_parser h = {.p = input.data, .end = input.data + len, .request = request};
	int step;

	if (input.len == 0)
		return HTTP_INCOMPLETE;
	request->header_count = 0;
	request->content_length = -1;
	step = parse_head(&h);
	if (step == STEP_NEED_MORE && input.len < limit)
		return HTTP_INCOMPLETE;
	if (step == STEP_NEED_MORE)
		step = h.in_fields ? 431 : 414;
	if (step != STEP_DONE) {
		*status = step;
		return HTTP_ERROR;
	}
	*consumed = (size_t)(h.p - input.data);
	return HTTP_COMPLETE;
}
