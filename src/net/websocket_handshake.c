/* SPDX-License-Identifier: ISC */
/*
 * The server's half of the WebSocket opening handshake (RFC 6455 §4.2). Runs in
 * workers once per connection. Origin, limits and the choice of a sub-protocol
 * are the caller's decisions.
 */
#include "keepsock/websocket.h"

#include <openssl/evp.h>

#include "http_chars.h"
#include "keepsock/buffer.h"
#include "keepsock/http.h"

#define KEY_LENGTH  24 /* base64 of 16 bytes */
#define SHA1_LENGTH 20

/* Base64 of exactly 16 bytes: 22 digits and "==", §4.2.1. */
static bool key_is_valid(struct slice key)
{
	if (key.len != KEY_LENGTH || memcmp(key.data + 22, "==", 2) != 0)
		return false;
	for (size_t i = 0; i < 22; i++) {
		char c = key.data[i], letter = (char)(c | 0x20);

		if (!(letter >= 'a' && letter <= 'z') && !http_char_is(c, HTTP_CHAR_DIGIT) &&
		    c != '+' && c != '/')
			return false;
	}
	return true;
}

bool websocket_accept_key(struct slice key, char accept[29])
{
	static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	unsigned char text[KEY_LENGTH + sizeof(guid) - 1], digest[SHA1_LENGTH];

	if (key.len != KEY_LENGTH)
		return false;
	memcpy(text, key.data, KEY_LENGTH);
	memcpy(text + KEY_LENGTH, guid, sizeof(guid) - 1);
	if (EVP_Digest(text, sizeof(text), digest, NULL, EVP_sha1(), NULL) != 1)
		return false;
	return EVP_EncodeBlock((unsigned char *)accept, digest, SHA1_LENGTH) == 28;
}

int websocket_check_upgrade(const struct http_request *request, char accept[29])
{
	struct slice key, version;

	if (request->method != HTTP_METHOD_GET)
		return 405;
	if (!request->upgrade_websocket)
		return 426;
	/* A body would be read as frames. */
	if (request->chunked || request->content_length > 0)
		return 400;
	if (http_header_count(request, "Sec-WebSocket-Version") > 1 ||
	    http_header_count(request, "Sec-WebSocket-Key") > 1 ||
	    http_header_count(request, "Origin") > 1)
		return 400;
	if (!http_header_find(request, "Sec-WebSocket-Version", &version) ||
	    !slice_is(version, "13"))
		return 426;
	if (!http_header_find(request, "Sec-WebSocket-Key", &key) || !key_is_valid(key))
		return 400;
	return websocket_accept_key(key, accept) ? 0 : 500;
}

void websocket_append_upgrade(struct buffer *out, const char *accept, const char *protocol,
			      struct slice extensions)
{
	buffer_append_str(out, "HTTP/1.1 101 Switching Protocols\r\n"
			       "Upgrade: websocket\r\nConnection: Upgrade\r\n"
			       "Sec-WebSocket-Accept: ");
	buffer_append_str(out, accept);
	if (protocol != NULL) {
		buffer_append_str(out, "\r\nSec-WebSocket-Protocol: ");
		buffer_append_str(out, protocol);
	}
	if (extensions.len > 0) {
		buffer_append_str(out, "\r\nSec-WebSocket-Extensions: ");
		buffer_append_slice(out, extensions);
	}
	buffer_append_str(out, "\r\n\r\n");
}

bool websocket_protocol_offered(const struct http_request *request, const char *protocol)
{
	for (size_t i = 0; i < request->header_count; i++) {
		struct slice list = request->headers[i].value, element;

		if (!http_equal_nocase(request->headers[i].name, SLICE("Sec-WebSocket-Protocol")))
			continue;
		while (http_list_next(&list, &element)) {
			if (slice_is(element, protocol))
				return true;
		}
	}
	return false;
}
