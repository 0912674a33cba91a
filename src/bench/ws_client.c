/* SPDX-License-Identifier: ISC */
/*
 * The WebSocket client of keepsock-bench. Reads go to the loop's one scratch
 * buffer; a connection keeps bytes of its own only while a frame is incomplete,
 * so that tens of thousands of idle ones stay small.
 */
#include "ws_client.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "http_reply.h"
#include "keepsock/random.h"

/* A frame announcing more than this is not one of ours coming back. */
#define FRAME_LIMIT (64u << 20)

static void client_end(struct ws_client *client, const char *reason)
{
	const struct ws_client_handler *handler = client->handler;

	ws_client_close(client);
	handler->on_closed(client, reason);
}

void ws_client_close(struct ws_client *client)
{
	client->state = WS_CLIENT_CLOSED;
	wire_end(&client->wire);
	loop_unwatch(client->loop, &client->watch);
	buffer_free(&client->input);
	buffer_free(&client->output);
	buffer_free(&client->message);
	client->fragmented = false;
}

/* ---- writing ---- */

/*
 * Masking keys have to be unpredictable for browsers, because of proxies
 * (RFC 6455 §10.3); a load generator only needs different ones, cheaply.
 */
static void next_mask(uint8_t mask[4])
{
	static uint32_t state;

	while (state == 0)
		state = random_u32();
	state ^= state << 13;
	state ^= state >> 17;
	state ^= state << 5;
	memcpy(mask, &state, 4);
}

static void append_frame(struct buffer *out, enum websocket_opcode opcode, struct slice payload)
{
	uint8_t mask[4];

	next_mask(mask);
	websocket_write_masked_frame(out, opcode, true, payload, mask);
}

void ws_client_frame(struct buffer *out, struct slice payload)
{
	append_frame(out, WEBSOCKET_TEXT, payload);
}

/* Sends what it can of output; waits for room as long as something is left. */
static void flush_output(struct ws_client *client)
{
	while (client->output.len > 0) {
		ssize_t sent = wire_send(&client->wire, client->watch.fd, client->output.data,
					 client->output.len);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && errno == EAGAIN)
			return;
		if (sent < 0) {
			client_end(client, strerror(errno));
			return;
		}
		buffer_consume(&client->output, (size_t)sent);
	}
	(void)loop_rewatch(client->loop, &client->watch, EPOLLIN);
}

void ws_client_send(struct ws_client *client, struct slice frames)
{
	bool waiting = client->output.len > 0;
	ssize_t sent = 0;

	assert(client->magic == WS_CLIENT_MAGIC && client->state == WS_CLIENT_OPEN);
	if (!waiting)
		sent = wire_send(&client->wire, client->watch.fd, frames.data, frames.len);
	if (sent < 0 && errno != EAGAIN && errno != EINTR) {
		client_end(client, strerror(errno));
		return;
	}
	sent = sent < 0 ? 0 : sent;
	if ((size_t)sent == frames.len)
		return;
	buffer_append(&client->output, frames.data + sent, frames.len - (size_t)sent);
	if (!waiting)
		(void)loop_rewatch(client->loop, &client->watch, EPOLLIN | EPOLLOUT);
}

/* ---- the handshake ---- */

static void base64_encode(const uint8_t *in, size_t len, char *out)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < len; i += 3) {
		uint32_t group = (uint32_t)in[i] << 16;

		group |= i + 1 < len ? (uint32_t)in[i + 1] << 8 : 0;
		group |= i + 2 < len ? (uint32_t)in[i + 2] : 0;
		*out++ = digits[group >> 18];
		*out++ = digits[group >> 12 & 63];
		*out++ = i + 1 < len ? digits[group >> 6 & 63] : '=';
		*out++ = i + 2 < len ? digits[group & 63] : '=';
	}
	*out = '\0';
}

static void ask_for_upgrade(struct ws_client *client)
{
	uint8_t nonce[16];
	char key[25];

	random_bytes(nonce, sizeof(nonce));
	base64_encode(nonce, sizeof(nonce), key);
	if (!websocket_accept_key(slice_str(key), client->accept)) {
		client_end(client, "no SHA-1 in the crypto library");
		return;
	}
	client->state = WS_CLIENT_UPGRADING;
	buffer_printf(&client->output,
		      "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\n"
		      "Connection: Upgrade\r\nSec-WebSocket-Key: %s\r\n"
		      "Sec-WebSocket-Version: 13\r\n\r\n",
		      client->target->path, client->target->authority, key);
	flush_output(client);
}

static void secure(struct ws_client *client)
{
	switch (wire_shake_hands(&client->wire)) {
	case WIRE_DONE: ask_for_upgrade(client); break;
	case WIRE_WANTS_READ: (void)loop_rewatch(client->loop, &client->watch, EPOLLIN); break;
	case WIRE_WANTS_WRITE: (void)loop_rewatch(client->loop, &client->watch, EPOLLOUT); break;
	case WIRE_FAILED: client_end(client, wire_error()); break;
	}
}

static void on_connected(struct ws_client *client)
{
	const struct target *target = client->target;
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(client->watch.fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
		error = errno;
	if (error != 0) {
		client_end(client, strerror(error));
	} else if (!target->tls) {
		ask_for_upgrade(client);
	} else if (wire_secure(&client->wire, target->tls, client->watch.fd, target->host)) {
		client->state = WS_CLIENT_SECURING;
		secure(client);
	} else {
		client_end(client, wire_error());
	}
}

/* How much of input the upgrade's answer used up; 0 when it is not there yet or was wrong. */
static size_t read_upgrade(struct ws_client *client, struct slice input)
{
	struct http_reply reply;
	enum http_result result = http_reply_parse(input, &reply);
	char text[64];

	if (result == HTTP_INCOMPLETE)
		return 0;
	if (result == HTTP_ERROR) {
		client_end(client, "the answer to the upgrade is not HTTP");
		return 0;
	}
	if (reply.status != 101) {
		snprintf(text, sizeof(text), "the upgrade was answered with HTTP %u", reply.status);
		client_end(client, text);
		return 0;
	}
	if (!slice_is(reply.accept, client->accept)) {
		client_end(client, "Sec-WebSocket-Accept is wrong");
		return 0;
	}
	client->state = WS_CLIENT_OPEN;
	client->handler->on_open(client);
	return reply.head_length;
}

/* ---- reading ---- */

static void on_close_frame(struct ws_client *client, struct slice payload)
{
	char text[192];
	unsigned code = WEBSOCKET_CLOSE_NO_STATUS;

	if (payload.len >= 2) {
		code = (unsigned)(uint8_t)payload.data[0] << 8 | (uint8_t)payload.data[1];
		payload = slice_from(payload.data + 2, payload.len - 2);
	}
	snprintf(text, sizeof(text), "closed by the server: %u %.*s", code, SLICE_ARG(payload));
	client_end(client, text);
}

static void on_control(struct ws_client *client, const struct websocket_server_frame *frame)
{
	struct buffer pong = {0};

	if (frame->opcode == WEBSOCKET_CLOSE) {
		on_close_frame(client, frame->payload);
	} else if (frame->opcode == WEBSOCKET_PING) {
		append_frame(&pong, WEBSOCKET_PONG, frame->payload);
		ws_client_send(client, buffer_slice(&pong));
		buffer_free(&pong);
	}
}

static void on_data(struct ws_client *client, const struct websocket_server_frame *frame)
{
	if ((frame->opcode == WEBSOCKET_CONTINUATION) != client->fragmented) {
		client_end(client, "fragments out of order");
		return;
	}
	if (frame->fin && !client->fragmented) {
		client->handler->on_message(client, frame->payload);
		return;
	}
	buffer_append_slice(&client->message, frame->payload);
	client->fragmented = !frame->fin;
	if (frame->fin) {
		client->handler->on_message(client, buffer_slice(&client->message));
		buffer_reset(&client->message);
	}
}

/* One frame, or the upgrade's answer. The bytes used up; 0: nothing more can be done. */
static size_t read_one(struct ws_client *client, struct slice input)
{
	struct websocket_server_frame frame;

	if (client->state == WS_CLIENT_UPGRADING)
		return read_upgrade(client, input);
	switch (websocket_parse_server_frame(input, &frame)) {
	case WEBSOCKET_NEED_MORE:
		if (frame.header_length > 0 && frame.payload_length > FRAME_LIMIT)
			client_end(client, "a frame of more than 64 MiB");
		return 0;
	case WEBSOCKET_CONTROL: on_control(client, &frame); return frame.consumed;
	case WEBSOCKET_DATA: on_data(client, &frame); return frame.consumed;
	case WEBSOCKET_ERROR: break;
	}
	client_end(client, "not a frame a server may send");
	return 0;
}

/* Serves what is whole in input; returns what is left. */
static struct slice serve_input(struct ws_client *client, struct slice input)
{
	while (input.len > 0) {
		size_t used = read_one(client, input);

		if (used == 0 || client->state == WS_CLIENT_CLOSED || loop_failed(client->loop))
			break;
		input = slice_from(input.data + used, input.len - used);
	}
	return input;
}

static void take_input(struct ws_client *client, struct slice fresh)
{
	struct buffer kept = client->input;
	struct slice rest;

	if (kept.len > 0) {
		buffer_append_slice(&kept, fresh);
		client->input = (struct buffer){0}; /* survives a close inside */
		rest = serve_input(client, buffer_slice(&kept));
		if (client->state == WS_CLIENT_CLOSED) {
			buffer_free(&kept);
			return;
		}
		buffer_consume(&kept, kept.len - rest.len);
		client->input = kept;
		if (kept.len == 0)
			buffer_free(&client->input);
		return;
	}
	rest = serve_input(client, fresh);
	if (client->state != WS_CLIENT_CLOSED && rest.len > 0)
		buffer_append_slice(&client->input, rest);
}

static void on_readable(struct ws_client *client)
{
	char *scratch = client->loop->scratch;

	do {
		ssize_t got =
			wire_read(&client->wire, client->watch.fd, scratch, LOOP_SCRATCH_SIZE);

		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (got <= 0) {
			client_end(client, got == 0 ? "the server hung up" : strerror(errno));
			return;
		}
		client->loop->progress++;
		take_input(client, slice_from(scratch, (size_t)got));
	} while (client->state != WS_CLIENT_CLOSED && wire_has_more(&client->wire));
}

static void on_ready(struct loop_watch *watch, uint32_t events)
{
	struct ws_client *client = (struct ws_client *)watch;

	assert(client->magic == WS_CLIENT_MAGIC);
	if (client->state == WS_CLIENT_CONNECTING) {
		on_connected(client);
		return;
	}
	if (client->state == WS_CLIENT_SECURING) {
		secure(client);
		return;
	}
	if (events & EPOLLOUT)
		flush_output(client);
	if (client->state != WS_CLIENT_CLOSED && (events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
		on_readable(client);
}

int ws_client_open(struct ws_client *client, struct loop *loop, const struct target *target,
		   const struct ws_client_handler *handler, size_t index)
{
	*client = (struct ws_client){
		.watch = {.fd = target_dial(target, index), .on_ready = on_ready},
		.magic = WS_CLIENT_MAGIC,
		.state = WS_CLIENT_CONNECTING,
		.loop = loop,
		.target = target,
		.handler = handler,
	};
	if (client->watch.fd < 0) {
		client->state = WS_CLIENT_CLOSED;
		loop_fail(loop, "connecting to %s: %s", target->authority, strerror(errno));
		return -1;
	}
	return loop_watch(loop, &client->watch, EPOLLOUT);
}
