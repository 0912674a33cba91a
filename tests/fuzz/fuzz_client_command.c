/* SPDX-License-Identifier: ISC */
/*
 * Fuzz target: any bytes as a transport message of the client protocol: split, decoded twice,
 * and what comes out is checked against the invariants that the worker relies on,
 * then sent back through the encoders, whose output has to be one line of JSON.
 */
#include "fuzz.h"
#include "keepsock/channel_name.h"
#include "keepsock/client_protocol.h"

static void check_text(struct slice text, struct slice raw, const struct buffer *scratch)
{
	require(lies_in(text, raw) || lies_in(text, buffer_slice(scratch)));
}

static void check_raw(struct slice value, struct slice raw)
{
	require(lies_in(value, raw));
	require(value.len == 0 || json_validate(value));
	require(value.len == 0 || json_kind_of(value) != JSON_KIND_NULL);
}

static void check_command(const struct client_command *c, struct slice raw,
			  const struct buffer *scratch)
{
	require(json_validate(raw));
	require(c->method > CLIENT_METHOD_UNKNOWN && c->method < CLIENT_METHOD_COUNT);
	require(c->method == CLIENT_METHOD_PONG ? c->id == 0
						: c->id != 0 || c->method == CLIENT_METHOD_SEND);
	require(c->method != CLIENT_METHOD_SUBSCRIBE || c->channel.len > 0);
	check_text(c->channel, raw, scratch);
	check_text(c->token, raw, scratch);
	check_text(c->name, raw, scratch);
	check_text(c->version, raw, scratch);
	check_text(c->rpc_method, raw, scratch);
	check_text(c->epoch, raw, scratch);
	check_text(c->delta, raw, scratch);
	check_text(c->since.epoch, raw, scratch);
	check_raw(c->data, raw);
	check_raw(c->subs, raw);
	check_raw(c->headers, raw);
	check_raw(c->tf, raw);
}

static void check_subs(const struct client_command *c)
{
	struct json_walk it;
	struct client_sub sub;
	struct buffer scratch;

	if (c->subs.len == 0)
		return;
	buffer_init(&scratch);
	json_object_begin(&it, c->subs);
	while (client_sub_next(&it, &scratch, &sub)) {
		check_text(sub.channel, c->subs, &scratch);
		check_text(sub.epoch, c->subs, &scratch);
		check_text(sub.delta, c->subs, &scratch);
	}
	require(json_walk_ok(&it));
	buffer_free(&scratch);
}

static void check_line(struct buffer *out)
{
	require(json_validate(buffer_slice(out)));
	require(memchr(out->data, '\n', out->len) == NULL);
	buffer_reset(out);
}

/* True if data may stand six levels down, as in the messages below, and still be valid. */
static bool is_shallow(struct slice data)
{
	struct buffer text;

	if (data.len == 0)
		return true;
	buffer_init(&text);
	buffer_append_str(&text, "[[[[[[");
	buffer_append_slice(&text, data);
	buffer_append_str(&text, "]]]]]]");
	bool shallow = json_validate(buffer_slice(&text));
	buffer_free(&text);
	return shallow;
}

static void check_encoders(const struct client_command *c)
{
	struct buffer out, info;
	struct client_reply reply = {.id = c->id, .method = CLIENT_METHOD_CONNECT};
	struct client_push push = {.kind = CLIENT_PUSH_PUBLICATION, .channel = c->channel};

	buffer_init(&out);
	buffer_init(&info);
	client_info_encode(&info, c->token, c->name, c->data, c->headers);
	reply.connect.client = c->name;
	reply.connect.data = c->data;
	json_codec.encode_reply(&out, &reply);
	check_line(&out);
	reply.error = (struct client_error){CLIENT_ERROR_INTERNAL, c->token, false};
	json_codec.encode_reply(&out, &reply);
	check_line(&out);
	push.publication.data = c->data;
	push.publication.info = buffer_slice(&info);
	push.publication.tags = c->headers;
	push.publication.offset = c->offset;
	push.publication.epoch = c->epoch;
	json_codec.encode_push(&out, &push);
	check_line(&out);
	buffer_free(&info);
	buffer_free(&out);
}

/* Two namespaces, one of them with an expression; nothing is allowed in any. */
static const struct settings *settings_of_the_node(void)
{
	static char chat[] = "chat", room[] = "room", none[] = "", digits[] = "^[0-9]+$";
	static regex_t regex;
	static struct settings_namespace namespaces[] = {
		{.name = chat, .options = {.channel_regex = none}},
		{.name = room, .options = {.channel_regex = digits, .regex = &regex}},
	};
	static struct settings settings = {
		.client.channel_max_length = 255,
		.channel.channel_regex = none,
		.personal_channel.namespace = chat,
		.namespaces = namespaces,
		.namespace_count = 2,
	};
	static bool ready;

	if (!ready)
		require(regcomp(&regex, digits, REG_EXTENDED | REG_NOSUB) == 0);
	ready = true;
	return &settings;
}

static void check_channel(struct slice name)
{
	const struct settings *settings = settings_of_the_node();
	const struct channel_options *options;
	enum channel_verdict verdict = channel_check(settings, name, &options);
	struct buffer personal;

	require((options != NULL) == (verdict == CHANNEL_OK || verdict == CHANNEL_PRIVATE));
	require(verdict != CHANNEL_PRIVATE || channel_name_is_private(name));
	require(!channel_name_users_contain(name, SLICE("42")) || channel_name_has_users(name));
	/* The name as a user's. */
	buffer_init(&personal);
	if (channel_personal_name(&personal, settings, name)) {
		require(channel_check(settings, buffer_slice(&personal), &options) == CHANNEL_OK);
		require(channel_name_users_contain(buffer_slice(&personal), name));
	} else {
		require(personal.len == 0);
	}
	buffer_free(&personal);
}

static void check_one(struct slice raw)
{
	struct buffer scratch, again_scratch;
	struct client_command command, again;

	buffer_init(&scratch);
	buffer_init(&again_scratch);
	enum client_decode_result result = json_codec.decode(raw, &scratch, &command);
	require(json_codec.decode(raw, &again_scratch, &again) == result);
	if (result == CLIENT_DECODE_OK) {
		require(command.method == again.method && command.id == again.id &&
			slice_equal(command.channel, again.channel));
		check_command(&command, raw, &scratch);
		check_subs(&command);
		if (is_shallow(command.data))
			check_encoders(&command);
		check_channel(command.channel);
	}
	buffer_free(&scratch);
	buffer_free(&again_scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice message = slice_from(data, size);
	struct slice command;
	size_t total = 0, lines = 0;

	while (json_codec.next_command(&message, &command)) {
		check_one(command);
		total += command.len + 1;
		lines++;
	}
	/* Every byte belongs to a command or is a line feed between two, or the last one. */
	require(lines > 0 && (total == size + 1 || total == size));
	return 0;
}
