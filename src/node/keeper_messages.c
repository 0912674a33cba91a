/* SPDX-License-Identifier: ISC */
/*
 * What travels to and from a keeper: the table of message types and the checks
 * of their contents. Runs in master, keeper and worker; nothing is looked at
 * before its length is known to be right.
 */
#include "keepsock/keeper_messages.h"

#include <string.h>

#include "keepsock/buffer.h"
#include "keepsock/child.h"

struct keeper_definition {
	const char *name;
	enum keeper_direction direction;
};

static const struct keeper_definition definitions[KEEPER_TYPE_COUNT] = {
#define KEEPER(type, type_direction, doc) [KEEPER_##type] = {#type, type_direction},
	KEEPER_MESSAGES_TABLE(KEEPER)
#undef KEEPER
};

const char *keeper_type_name(uint32_t type)
{
	if (type == KEEPER_NONE || type >= KEEPER_TYPE_COUNT)
		return "unknown";
	return definitions[type].name;
}

bool keeper_type_allowed(uint32_t type, enum keeper_direction direction)
{
	return type != KEEPER_NONE && type < KEEPER_TYPE_COUNT &&
	       definitions[type].direction == direction;
}

static void append_string(struct buffer *out, const char *text)
{
	buffer_append(out, text, strlen(text) + 1);
}

void keeper_setup_encode(struct buffer *out, const struct keeper_setup *setup,
			 const struct keeper_setup_text *text)
{
	buffer_append(out, setup, sizeof(*setup));
	append_string(out, text->node);
	append_string(out, text->config_name);
	append_string(out, text->run_dir);
	append_string(out, text->log_target);
}

/* The next string of a payload that ends with a NUL; NULL when there is none. */
static const char *take_string(struct slice *payload)
{
	const char *text = payload->data;
	size_t length;

	if (payload->len == 0)
		return NULL;
	length = strlen(text) + 1;
	*payload = slice_from(payload->data + length, payload->len - length);
	return text;
}

bool keeper_setup_decode(struct slice payload, struct keeper_setup *setup,
			 struct keeper_setup_text *text)
{
	if (!keeper_payload_take_head(payload, setup, sizeof(*setup), &payload) ||
	    setup->version != KEEPER_PROTOCOL_VERSION || payload.len == 0 ||
	    payload.data[payload.len - 1] != '\0')
		return false;
	text->node = take_string(&payload);
	text->config_name = take_string(&payload);
	text->run_dir = take_string(&payload);
	text->log_target = take_string(&payload);
	return text->log_target && payload.len == 0;
}

bool keeper_payload_take(struct slice payload, void *out, size_t size)
{
	if (payload.len != size)
		return false;
	memcpy(out, payload.data, size);
	return true;
}

bool keeper_payload_take_head(struct slice payload, void *out, size_t size, struct slice *rest)
{
	if (payload.len < size)
		return false;
	memcpy(out, payload.data, size);
	*rest = slice_from(payload.data + size, payload.len - size);
	return true;
}

bool keeper_crash_point_valid(const struct keeper_crash_point *point)
{
	return memchr(point->name, '\0', sizeof(point->name)) != NULL;
}

void keeper_taken_over_encode(struct buffer *out, const struct keeper_taken_over *taken_over,
			      const char *reason)
{
	buffer_append(out, taken_over, sizeof(*taken_over));
	buffer_append(out, reason, strnlen(reason, KEEPER_REASON_MAX));
}

bool keeper_taken_over_decode(struct slice payload, struct keeper_taken_over *taken_over,
			      struct slice *reason)
{
	return keeper_payload_take_head(payload, taken_over, sizeof(*taken_over), reason) &&
	       taken_over->outcome <= TAKEOVER_WORKER_DIED && reason->len <= KEEPER_REASON_MAX;
}

bool keeper_takeover_decode(struct slice payload, struct keeper_takeover *takeover)
{
	return keeper_payload_take(payload, takeover, sizeof(*takeover)) && takeover->number > 0 &&
	       takeover->reason >= TAKEOVER_RELOAD && takeover->reason <= TAKEOVER_TEST &&
	       takeover->limit_ms > 0;
}

const char *takeover_reason_name(uint32_t reason)
{
	static const char *const names[] = {
		[TAKEOVER_RELOAD] = "reload",
		[TAKEOVER_UPGRADE] = "upgrade",
		[TAKEOVER_ROLLBACK] = "rollback",
		[TAKEOVER_TEST] = "test",
	};

	return reason >= TAKEOVER_RELOAD && reason <= TAKEOVER_TEST ? names[reason] : "unknown";
}

const char *takeover_outcome_name(uint32_t outcome)
{
	static const char *const names[] = {
		[TAKEOVER_DONE] = "done",
		[TAKEOVER_NOT_DONE] = "not done",
		[TAKEOVER_WORKER_DIED] = "worker died",
	};

	return outcome <= TAKEOVER_WORKER_DIED ? names[outcome] : "unknown";
}

size_t keeper_items_count(struct slice payload)
{
	if (payload.len % sizeof(struct keeper_item) != 0)
		return SIZE_MAX;
	return payload.len / sizeof(struct keeper_item);
}

struct keeper_item keeper_items_at(struct slice payload, size_t index)
{
	struct keeper_item item;

	memcpy(&item, payload.data + index * sizeof(item), sizeof(item));
	return item;
}

void keeper_describe_death(struct buffer *out, int32_t status, uint32_t fault)
{
	if (status != KEEPER_NO_STATUS)
		child_describe_exit(out, status);
	else if (fault)
		buffer_printf(out, "signal %u (%s)", fault, strsignal((int)fault));
	else
		buffer_append_str(out, "killed, or ended by itself: nobody waited for it");
}
