/* SPDX-License-Identifier: ISC */
/*
 * HTTP/1.1 messages as a server sees them (RFC 9110, 9112): a strict parser of
 * request heads and bodies, and a writer of responses. Runs in workers. Request
 * slices point into the caller's input, which is never modified; parsing a head
 * never allocates. What two implementations could read in two ways (bare LF,
 * folded lines, blanks before a colon, two lengths) is refused, never repaired.
 */
#ifndef KEEPSOCK_HTTP_H
#define KEEPSOCK_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keepsock/slice.h"

struct buffer;

/* Fields in one head; one more is answered 431. */
#define HTTP_HEADER_LIMIT 64
/* Bytes of a request target (RFC 9112 §3 asks for at least 8000); one more is answered 414. */
#define HTTP_TARGET_LIMIT 8192
/* Bytes of a method; a longer one is answered 501 (RFC 9112 §3). */
#define HTTP_METHOD_LIMIT 32
/* The interim response for a request with expect_continue (RFC 9110 §10.1.1). */
#define HTTP_CONTINUE "HTTP/1.1 100 Continue\r\n\r\n"

enum http_result { HTTP_COMPLETE, HTTP_INCOMPLETE, HTTP_ERROR };

enum http_method {
	HTTP_METHOD_GET,
	HTTP_METHOD_HEAD,
	HTTP_METHOD_POST,
	HTTP_METHOD_PUT,
	HTTP_METHOD_DELETE,
	HTTP_METHOD_OPTIONS,
	HTTP_METHOD_PATCH,
	HTTP_METHOD_TRACE,
	HTTP_METHOD_OTHER, /* any other token: the caller answers 405 or 501 */
};

struct http_header {
	struct slice name;  /* as sent; names compare without case */
	struct slice value; /* without the blanks around it; no NUL, CR or LF inside */
};

struct http_request {
	enum http_method method;
	int minor_version; /* 0 or 1 */
	struct slice method_name;
	struct slice target;    /* as sent */
	struct slice path;      /* raw, starts with '/', or is "*" (OPTIONS) */
	struct slice query;     /* raw, without '?'; empty when there is none */
	struct slice host;      /* host[:port] of an absolute target, else of Host; maybe empty */
	int64_t content_length; /* -1 when not given */
	bool chunked;
	bool keep_alive;        /* what the client asks for, by version and Connection */
	bool upgrade_websocket; /* HTTP/1.1, Connection names upgrade, Upgrade names websocket */
	bool expect_continue;
	size_t header_count;
	struct http_header headers[HTTP_HEADER_LIMIT]; /* only header_count of them are set */
};

/*
 * Parses the request head at the start of input (one empty line before it is
 * skipped, RFC 9112 §2.2). limit: bytes the whole head may have, its final
 * empty line included.
 *   HTTP_COMPLETE   *request is set, *consumed is the head's length.
 *   HTTP_INCOMPLETE call again from the start once there is more.
 *   HTTP_ERROR      answer *status and close: 400, 413 (a length beyond int64),
 *                   414, 417, 431, 501 (coding or method), 505.
 * What bytes arrive together never changes the outcome, and an error is told at
 * the first byte that shows it. *request is undefined unless complete.
 */
enum http_result http_parse_head(struct slice input, size_t limit, struct http_request *request,
				 size_t *consumed, int *status);

/* True when name (without case) is there; *value (may be NULL) is the first field's. */
bool http_header_find(const struct http_request *request, const char *name, struct slice *value);

/* How many fields have this name. */
size_t http_header_count(const struct http_request *request, const char *name);

/* True when the comma-separated lists of all fields of this name hold token, without case. */
bool http_header_has_token(const struct http_request *request, const char *name, const char *token);

/*
 * Walks a comma-separated list (RFC 9110 §5.6.1, empty elements skipped): the
 * next element without blanks, cut off the front of *list; false at the end.
 */
bool http_list_next(struct slice *list, struct slice *element);

/* ASCII equality without case. */
bool http_equal_nocase(struct slice a, struct slice b);

/* Decoder of a chunked body (RFC 9112 §7.1). All zero is its start; no pointers, for passports. */
struct http_chunked {
	uint64_t remaining; /* of the chunk being read; its size so far while that is read */
	uint64_t length;    /* decoded bytes so far */
	uint64_t overhead;  /* framing bytes so far */
	uint8_t state;
	uint8_t digits;  /* of the chunk size */
	uint16_t status; /* of the error, 0 before */
	uint32_t reserved;
};

/*
 * Decodes what there is of in, appending to out. limit: decoded bytes the body
 * may have. COMPLETE: *consumed ends behind the last CRLF, the trailer fields
 * are dropped. INCOMPLETE: everything was consumed. ERROR: answer
 * chunked->status (400, 413) and close; what was appended is to be thrown away.
 * Framing may cost 8 bytes a decoded byte and 16 KiB besides; beyond it is 400.
 */
enum http_result http_chunked_feed(struct http_chunked *chunked, struct slice in, size_t *consumed,
				   struct buffer *out, size_t limit);

/*
 * The body of request at once; input starts behind the head. limit: bytes it
 * may have. COMPLETE: *body is the body (in input, or in decoded when chunked,
 * which is reset first), *consumed its length on the wire. INCOMPLETE: call
 * again from the start. ERROR: answer *status (400, 413) and close.
 */
enum http_result http_parse_body(struct slice input, const struct http_request *request,
				 size_t limit, struct buffer *decoded, struct slice *body,
				 size_t *consumed, int *status);

/*
 * Appends the decoded value of the first parameter called name ("%41" and '+'
 * decoded, in names too). False when there is none or its encoding is broken;
 * out is then as it was.
 */
bool http_query_get(struct slice query, const char *name, struct buffer *out);

/*
 * Appends a request's path, percent-decoded, for looking up a file. False (out
 * is as it was) for what must not reach a file system: a broken escape, a NUL
 * or other control byte, a ".." segment however encoded, no leading '/'.
 * The result has no NUL at its end.
 */
bool http_path_decode(struct slice path, struct buffer *out);

/* The reason phrase of a status, never NULL. */
const char *http_status_text(int status);

/*
 * Appends a response: status line, Date, Content-Type (unless NULL),
 * Content-Length, Connection, extra_headers (NULL or lines each ending in
 * CRLF), the body. A 1xx, 204 or 304 gets neither body nor length.
 */
void http_response(struct buffer *out, int status, const char *content_type, struct slice body,
		   bool keep_alive, const char *extra_headers);

/* The same without the body, which follows from elsewhere or not at all (HEAD). */
void http_response_head(struct buffer *out, int status, const char *content_type,
			uint64_t content_length, bool keep_alive, const char *extra_headers);

#endif
