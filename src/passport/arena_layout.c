/* SPDX-License-Identifier: ISC */
/*
 * The layouts that this program knows: today's, from the tables of fields, and
 * the frozen ones, see arena_layout.h. Data only.
 */
#include "keepsock/arena_layout.h"

#include <string.h>

#include "keepsock/channel_record.h"
#include "keepsock/passport.h"
#include "passport/arena_layouts.h"

#define RECORD_OF(type)                                       \
	_Generic((type *)NULL, struct work_slot *             \
		 : ARENA_RECORD_WORK, struct fanout_record *  \
		 : ARENA_RECORD_FANOUT, struct shard_record * \
		 : ARENA_RECORD_SHARD, struct blame_record *  \
		 : ARENA_RECORD_BLAME, default                \
		 : ARENA_RECORD_NONE)

#define FIELD(type, name, since, show, doc) \
	{#name, offsetof(struct THIS, name), sizeof(type), 1, RECORD_OF(type), since},
#define ARRAY(type, name, count, since, show, doc) \
	{#name, offsetof(struct THIS, name), sizeof(type) * (count), count, RECORD_OF(type), since},

#define THIS arena_header
static const struct arena_field arena_header_fields[] = {HEADER_FIELDS(FIELD, ARRAY)};
#undef THIS
#define THIS work_slot
static const struct arena_field work_slot_fields[] = {WORK_FIELDS(FIELD, ARRAY)};
#undef THIS
#define THIS fanout_record
static const struct arena_field fanout_record_fields[] = {FANOUT_FIELDS(FIELD, ARRAY)};
#undef THIS
#define THIS shard_record
static const struct arena_field shard_record_fields[] = {SHARD_FIELDS(FIELD, ARRAY)};
#undef THIS
#define THIS blame_record
static const struct arena_field blame_record_fields[] = {BLAME_FIELDS(FIELD, ARRAY)};
#undef THIS
#define THIS passport
static const struct arena_field passport_fields[] = {PASSPORT_FIELDS(FIELD, ARRAY)};
#undef THIS
#define THIS channel_record
static const struct arena_field channel_record_fields[] = {CHANNEL_FIELDS(FIELD, ARRAY)};
#undef THIS
#define THIS subscription_record
static const struct arena_field subscription_record_fields[] = {SUBSCRIPTION_FIELDS(FIELD, ARRAY)};
#undef THIS
#define THIS passport_tls
static const struct arena_field passport_tls_fields[] = {PASSPORT_TLS_FIELDS(FIELD, ARRAY)};
#undef THIS

_Static_assert(offsetof(struct arena_header, page_class) == sizeof(struct arena_header),
	       "the classes of pages follow at once");

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

const struct arena_layout arena_layout_today = {
	.version = ARENA_LAYOUT_VERSION,
	.records =
		{
#define RECORD(symbol, type, fields) \
	[ARENA_RECORD_##symbol] = {#type, sizeof(struct type), COUNT(type##_fields), type##_fields},
			ARENA_RECORDS(RECORD)
#undef RECORD
		},
};

#if ARENA_TEST_LAYOUT > 1
/* Test layouts can be converted into later ones, too. */
struct header_1 {
	HEADER_FIELDS_1(ARENA_DEFINE_FIELD, ARENA_DEFINE_ARRAY)
};
struct passport_1 {
	PASSPORT_FIELDS_1(ARENA_DEFINE_FIELD, ARENA_DEFINE_ARRAY)
};
struct channel_1 {
	CHANNEL_FIELDS_1(ARENA_DEFINE_FIELD, ARENA_DEFINE_ARRAY)
};
struct subscription_1 {
	SUBSCRIPTION_FIELDS_1(ARENA_DEFINE_FIELD, ARENA_DEFINE_ARRAY)
};
struct passport_tls_1 {
	PASSPORT_TLS_FIELDS_1(ARENA_DEFINE_FIELD, ARENA_DEFINE_ARRAY)
};

#define THIS header_1
static const struct arena_field header_1_fields[] = {HEADER_FIELDS_1(FIELD, ARRAY)};
#undef THIS
#define THIS passport_1
static const struct arena_field passport_1_fields[] = {PASSPORT_FIELDS_1(FIELD, ARRAY)};
#undef THIS
#define THIS channel_1
static const struct arena_field channel_1_fields[] = {CHANNEL_FIELDS_1(FIELD, ARRAY)};
#undef THIS
#define THIS subscription_1
static const struct arena_field subscription_1_fields[] = {SUBSCRIPTION_FIELDS_1(FIELD, ARRAY)};
#undef THIS
#define THIS passport_tls_1
static const struct arena_field passport_tls_1_fields[] = {PASSPORT_TLS_FIELDS_1(FIELD, ARRAY)};
#undef THIS

#define SAME(symbol, type) \
	[ARENA_RECORD_##symbol] = {#type, sizeof(struct type), COUNT(type##_fields), type##_fields}

static const struct arena_layout test_layout_1 = {
	.version = 1001,
	.records =
		{
			[ARENA_RECORD_HEADER] = {"arena_header", sizeof(struct header_1),
						 COUNT(header_1_fields), header_1_fields},
			SAME(WORK, work_slot),
			SAME(FANOUT, fanout_record),
			SAME(SHARD, shard_record),
			SAME(BLAME, blame_record),
			[ARENA_RECORD_PASSPORT] = {"passport", sizeof(struct passport_1),
						   COUNT(passport_1_fields), passport_1_fields},
			[ARENA_RECORD_CHANNEL] = {"channel_record", sizeof(struct channel_1),
						  COUNT(channel_1_fields), channel_1_fields},
			[ARENA_RECORD_SUBSCRIPTION] = {"subscription_record",
						       sizeof(struct subscription_1),
						       COUNT(subscription_1_fields),
						       subscription_1_fields},
			[ARENA_RECORD_TLS] = {"passport_tls", sizeof(struct passport_tls_1),
					      COUNT(passport_tls_1_fields), passport_tls_1_fields},
		},
};
#endif

const struct arena_layout *arena_layout_frozen(uint32_t version)
{
	static const struct arena_layout *const frozen[] = {
		&arena_layout_3,
		&arena_layout_4,
		&arena_layout_5,
#if ARENA_TEST_LAYOUT > 1
		&test_layout_1,
#endif
	};

	for (size_t i = 0; i < COUNT(frozen); i++) {
		if (frozen[i]->version == version)
			return frozen[i];
	}
	return NULL;
}

const struct arena_layout *arena_layout_of(uint32_t version)
{
	return version == arena_layout_today.version ? &arena_layout_today
						     : arena_layout_frozen(version);
}

const struct arena_field *arena_layout_field(const struct arena_layout *layout,
					     enum arena_record record, const char *name)
{
	const struct arena_record_layout *in = &layout->records[record];

	for (uint32_t i = 0; i < in->field_count; i++) {
		if (strcmp(in->fields[i].name, name) == 0)
			return &in->fields[i];
	}
	return NULL;
}
