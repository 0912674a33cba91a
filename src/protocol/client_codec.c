/* SPDX-License-Identifier: ISC */
/*
 * The JSON codec as one object: how commands are cut out of a transport message
 * and how messages are put into a frame, beside the decoder and the encoders.
 * Also the texts that belong to codes. Runs in the workers; keeps no state.
 */
#include "client_codec.h"

/* Where a message slice points once its last command is out. */
static const char message_end[1];

static bool json_next_command(struct slice *message, struct slice *command)
{
	const char *feed;

	if (message->data == message_end)
		return false;
	feed = message->len > 0 ? memchr(message->data, '\n', message->len) : NULL;
	if (feed == NULL) {
		*command = *message;
		*message = slice_from(message_end, 0);
		return true;
	}
	*command = slice_from(message->data, (size_t)(feed - message->data));
	*message = slice_from(feed + 1, message->len - command->len - 1);
	if (message->len == 0) /* the one line feed allowed at the end */
		message->data = message_end;
	return true;
}

static void json_encode_ping(struct buffer *out)
{
	buffer_append(out, "{}", 2);
}

static void json_join(struct buffer *out)
{
	buffer_append(out, "\n", 1);
}

const struct message_codec json_codec = {
	.name = "json",
	.next_command = json_next_command,
	.decode = client_command_decode,
	.encode_reply = client_reply_encode,
	.encode_push = client_push_encode,
	.encode_ping = json_encode_ping,
	.join = json_join,
};

const char *client_method_name(enum client_method method)
{
	static const char *const names[CLIENT_METHOD_COUNT] = {
		[CLIENT_METHOD_UNKNOWN] = "unknown",
#define X(name, wire) [CLIENT_METHOD_##name] = wire,
		CLIENT_METHOD_TABLE(X)
#undef X
			[CLIENT_METHOD_PONG] = "pong",
	};

	return method < CLIENT_METHOD_COUNT ? names[method] : names[CLIENT_METHOD_UNKNOWN];
}

const char *client_error_message(uint32_t code)
{
	switch (code) {
#define X(name, number, message, temporary) \
	case number: return message;
		CLIENT_ERROR_TABLE(X)
#undef X
	default: return "application error";
	}
}

bool client_error_temporary(uint32_t code)
{
	switch (code) {
#define X(name, number, message, temporary) \
	case number: return temporary;
		CLIENT_ERROR_TABLE(X)
#undef X
	default: return false;
	}
}

const char *client_disconnect_reason(uint32_t code)
{
	switch (code) {
#define X(name, number, reason) \
	case number: return reason;
		CLIENT_DISCONNECT_TABLE(X)
#undef X
	default: return "closed by the application";
	}
}

const char *client_unsubscribe_reason(uint32_t code)
{
	switch (code) {
#define X(name, number, reason) \
	case number: return reason;
		CLIENT_UNSUBSCRIBE_TABLE(X)
#undef X
	default: return "unsubscribed by the application";
	}
}
