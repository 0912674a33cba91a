/* SPDX-License-Identifier: ISC */
/*
 * Layout 5, frozen; made by `test_golden_arena --freeze`. Data only; must never
 * change, since programs that had it have been released.
 */
#include "passport/arena_layouts.h"

static const struct arena_field arena_header[] = {
	{"magic", 0, 8, 1, 0, 3},          {"layout_version", 8, 4, 1, 0, 3},
	{"page_count", 12, 4, 1, 0, 3},    {"owner", 16, 8, 1, 0, 3},
	{"fault", 24, 8, 1, 0, 3},         {"generation", 32, 8, 1, 0, 3},
	{"worker_name", 40, 64, 64, 0, 3}, {"last_blamed", 104, 24, 1, 5, 3},
	{"shards", 128, 6144, 64, 4, 3},   {"work", 6272, 1576, 1, 2, 3},
	{"fanout", 7848, 136, 1, 3, 3},
};

static const struct arena_field work_slot[] = {
	{"serving", 0, 8, 1, 0, 3},     {"serving_item", 8, 8, 1, 0, 3},
	{"syscall", 16, 8, 1, 0, 3},    {"read_base", 24, 8, 1, 0, 3},
	{"redo_count", 32, 8, 1, 0, 3}, {"redo", 40, 1536, 96, 0, 3},
};

static const struct arena_field fanout_record[] = {
	{"batch", 0, 8, 1, 0, 3},
	{"channel", 8, 8, 1, 0, 3},
	{"frame", 16, 8, 1, 0, 3},
	{"frame_length", 24, 8, 1, 0, 3},
	{"deflated", 32, 8, 1, 0, 3},
	{"deflated_length", 40, 8, 1, 0, 3},
	{"deflated_window", 48, 8, 1, 0, 3},
	{"end", 56, 8, 1, 0, 3},
	{"cursor", 64, 8, 1, 0, 3},
	{"first_sequence", 72, 8, 1, 0, 3},
	{"last_sequence", 80, 8, 1, 0, 3},
	{"last_offset", 88, 8, 1, 0, 3},
	{"messages", 96, 8, 1, 0, 3},
	{"sequences", 104, 8, 1, 0, 3},
	{"kind", 112, 8, 1, 0, 3},
	{"last_batch", 120, 8, 1, 0, 3},
	{"last_sequence_served", 128, 8, 1, 0, 3},
};

static const struct arena_field shard_record[] = {
	{"passport", 0, 8, 1, 0, 3},
	{"max_seen", 8, 8, 1, 0, 3},
	{"run", 16, 72, 72, 0, 3},
	{"generation", 88, 8, 8, 0, 3},
};

static const struct arena_field blame_record[] = {
	{"serving", 0, 8, 1, 0, 3},
	{"item", 8, 8, 1, 0, 3},
	{"deaths", 16, 8, 1, 0, 3},
};

static const struct arena_field passport[] = {
	{"magic", 0, 4, 1, 0, 3},
	{"version", 4, 2, 1, 0, 3},
	{"kind", 6, 1, 1, 0, 3},
	{"state", 7, 1, 1, 0, 3},
	{"generation", 8, 8, 1, 0, 3},
	{"id", 16, 16, 1, 0, 3},
	{"accepted_at", 32, 8, 1, 0, 3},
	{"peer", 40, 16, 1, 0, 3},
	{"peer_port", 56, 2, 1, 0, 3},
	{"local_port", 58, 2, 1, 0, 3},
	{"flags", 60, 4, 1, 0, 3},
	{"in", 64, 24, 1, 0, 3},
	{"messages", 88, 24, 1, 0, 3},
	{"out", 112, 24, 1, 0, 3},
	{"reader", 136, 32, 1, 0, 3},
	{"command_number", 168, 8, 1, 0, 3},
	{"command_index", 176, 4, 1, 0, 3},
	{"close_code", 180, 2, 1, 0, 3},
	{"codec", 182, 1, 1, 0, 3},
	{"reserved_byte", 183, 1, 1, 0, 5},
	{"partial_message", 184, 8, 1, 0, 3},
	{"ping_at", 192, 8, 1, 0, 3},
	{"pong_deadline", 200, 8, 1, 0, 3},
	{"deadline", 208, 8, 1, 0, 3},
	{"identity", 216, 4, 1, 0, 3},
	{"subscriptions", 220, 4, 1, 0, 3},
	{"subscription_count", 224, 4, 1, 0, 3},
	{"tls", 228, 4, 1, 0, 5},
	{"expires_at", 232, 8, 1, 0, 3},
	{"token_subs", 240, 8, 1, 0, 3},
	{"move", 248, 8, 1, 0, 4},
};

static const struct arena_field channel_record[] = {
	{"magic", 0, 4, 1, 0, 3},         {"state", 4, 1, 1, 0, 3},
	{"epoch_length", 5, 1, 1, 0, 3},  {"name_length", 6, 2, 1, 0, 3},
	{"reserved_link", 8, 4, 1, 0, 3}, {"name", 12, 4, 1, 0, 3},
	{"unconfirmed", 16, 8, 1, 0, 3},  {"positioned", 24, 8, 1, 0, 3},
	{"offset", 32, 8, 1, 0, 3},       {"last_sequence", 40, 8, 1, 0, 3},
	{"epoch", 48, 24, 24, 0, 3},      {"subscribers", 72, 4, 1, 0, 3},
	{"blocks", 76, 4, 1, 0, 3},       {"count", 80, 4, 1, 0, 3},
	{"tombstones", 84, 4, 1, 0, 3},   {"history", 88, 8, 1, 0, 3},
	{"unplaced", 96, 8, 1, 0, 3},     {"behind", 104, 8, 1, 0, 3},
	{"reserved", 112, 16, 2, 0, 3},
};

static const struct arena_field subscription_record[] = {
	{"next", 0, 4, 1, 0, 3},
	{"passport", 4, 4, 1, 0, 3},
	{"channel", 8, 4, 1, 0, 3},
	{"position", 12, 4, 1, 0, 3},
	{"start_sequence", 16, 8, 1, 0, 3},
	{"flags", 24, 4, 1, 0, 3},
	{"info", 28, 4, 1, 0, 3},
	{"previous", 32, 4, 1, 0, 3},
	{"reserved_words", 36, 12, 3, 0, 3},
	{"expires_at", 48, 8, 1, 0, 3},
	{"reserved_tail", 56, 8, 1, 0, 3},
};

static const struct arena_field passport_tls[] = {
	{"in", 0, 24, 1, 0, 5},
	{"state", 24, 232, 1, 0, 5},
};

#define FIELDS(record) (sizeof(record) / sizeof((record)[0])), record

const struct arena_layout arena_layout_5 = {
	.version = 5,
	.records =
		{
			[1] = {"arena_header", 7984, FIELDS(arena_header)},
			[2] = {"work_slot", 1576, FIELDS(work_slot)},
			[3] = {"fanout_record", 136, FIELDS(fanout_record)},
			[4] = {"shard_record", 96, FIELDS(shard_record)},
			[5] = {"blame_record", 24, FIELDS(blame_record)},
			[6] = {"passport", 256, FIELDS(passport)},
			[7] = {"channel_record", 128, FIELDS(channel_record)},
			[8] = {"subscription_record", 64, FIELDS(subscription_record)},
			[9] = {"passport_tls", 256, FIELDS(passport_tls)},
		},
};
