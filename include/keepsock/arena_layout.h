/* SPDX-License-Identifier: ISC */
/*
 * Versions of the arena's layout, and making an arena of today's from one that
 * a program of an older one left. Run by a worker that takes an arena over.
 *
 * Today's layout is made from the tables of fields (arena.h, passport.h,
 * channel_record.h). Each older one that was released is kept as a frozen table
 * in a file of its own. A record is converted by the names of its fields: they
 * are copied from where the old layout has them, and what is new is 0. Records
 * keep their sizes and places, so that references stay what they are; what has
 * no table (chunks, queues, message words, enums) never changes.
 */
#ifndef KEEPSOCK_ARENA_LAYOUT_H
#define KEEPSOCK_ARENA_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* RECORD(symbol, struct, fields) */
#define ARENA_RECORDS(RECORD)                                          \
	RECORD(HEADER, arena_header, HEADER_FIELDS)                    \
	RECORD(WORK, work_slot, WORK_FIELDS)                           \
	RECORD(FANOUT, fanout_record, FANOUT_FIELDS)                   \
	RECORD(SHARD, shard_record, SHARD_FIELDS)                      \
	RECORD(BLAME, blame_record, BLAME_FIELDS)                      \
	RECORD(PASSPORT, passport, PASSPORT_FIELDS)                    \
	RECORD(CHANNEL, channel_record, CHANNEL_FIELDS)                \
	RECORD(SUBSCRIPTION, subscription_record, SUBSCRIPTION_FIELDS) \
	RECORD(TLS, passport_tls, PASSPORT_TLS_FIELDS)

enum arena_record {
	ARENA_RECORD_NONE,
#define RECORD(symbol, type, fields) ARENA_RECORD_##symbol,
	ARENA_RECORDS(RECORD)
#undef RECORD
		ARENA_RECORD_COUNT
};

struct arena_field {
	const char *name;
	uint32_t offset, size; /* in its record; of all elements of an array */
	uint32_t count;        /* elements; 1 where it is no array */
	uint32_t record;       /* enum arena_record: what it, or each element, is */
	uint32_t since;        /* layout version */
};

struct arena_record_layout {
	const char *name;
	uint32_t size; /* of the header: without the classes of pages behind it */
	uint32_t field_count;
	const struct arena_field *fields;
};

struct arena_layout {
	uint32_t version;
	struct arena_record_layout records[ARENA_RECORD_COUNT];
};

extern const struct arena_layout arena_layout_today;
/* One whose arenas can be adopted or converted; NULL: unknown. */
const struct arena_layout *arena_layout_of(uint32_t version);
/* The frozen table of a released layout, even of today's; NULL: there is none. */
const struct arena_layout *arena_layout_frozen(uint32_t version);
/* NULL: that record has no such field. */
const struct arena_field *arena_layout_field(const struct arena_layout *layout,
					     enum arena_record record, const char *name);

/* One record of an older layout, or of today's; from and to don't overlap. */
void arena_convert_record(const struct arena_layout *old, enum arena_record record,
			  const void *from, void *to);

enum arena_conversion {
	ARENA_CONVERSION_NEEDLESS, /* it is of today's layout */
	ARENA_CONVERSION_DONE,
	ARENA_CONVERSION_REFUSED
};

/*
 * Makes an arena of today's layout from one of an older layout, in a memfd of its
 * own: *converted is then the caller's. The commit under way is completed in it.
 * The old one is only read and stays the one that counts until the caller has
 * made the new one known; so dying here, or afterwards, costs nothing. Nobody
 * may write it meanwhile. REFUSED: *error says why, of a newer layout among
 * others.
 */
enum arena_conversion arena_convert(int fd, int *converted, const char **error);

#endif
