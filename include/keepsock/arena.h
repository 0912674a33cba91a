/* SPDX-License-Identifier: ISC */
/*
 * The arena: one memfd per worker slot that holds everything a successor needs
 * (DESIGN §3): the work slot, the fan-out record, fixed-size records
 * (passports, channels) and chunks. Run by the worker, adopted by its successor;
 * mapped read-only by the crash checker.
 *
 * The file contains no pointer: records name each other by `ref`, the byte
 * offset divided by 64 (0 = none). Free lists live in the free space itself and
 * are anchored in the heap; nothing reachable ever depends on them, so a
 * successor rebuilds them by marking what is reachable.
 *
 * Nothing here may be changed but through arena_commit(), except bytes that no
 * committed reference reaches yet.
 *
 * Records are defined by tables, a line for each field in layout order,
 * naturally aligned and without holes:
 *
 *   FIELD(type, name, since, how to show it, doc)
 *   ARRAY(type, name, count, since, how to show it, doc)
 *
 * `since` is the first layout version that has the field. How versions differ,
 * and how an arena of an older one is converted, is in arena_layout.h; whoever
 * changes a table raises the version (tests/unit/test_golden_arena.c says how).
 */
#ifndef KEEPSOCK_ARENA_H
#define KEEPSOCK_ARENA_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* 0, or the number of the changed layout of a test build (configure --enable-test-layout). */
#ifndef ARENA_TEST_LAYOUT
#define ARENA_TEST_LAYOUT 0
#endif

#define ARENA_MAGIC          0x414b434f534b4b50ull /* "PKKSOCKA" */
#define ARENA_LAYOUT_VERSION (ARENA_TEST_LAYOUT ? 1000u + ARENA_TEST_LAYOUT : 5u)
#define ARENA_PAGE_SIZE      65536u
#define ARENA_REF_SIZE       64u
#define ARENA_GROW_PAGES     16u /* 1 MiB at a time */
#define ARENA_READ_SCRATCH   (2u * ARENA_PAGE_SIZE)
#define ARENA_REDO_MAX       96u /* a whole passport, its TLS keys both ways, and more */
#define ARENA_SHARDS_MAX     64u
#define ARENA_RUN_MAX        72u
#define ARENA_GENERATION_MAX 8u
#define ARENA_NAME_MAX       64u /* bytes of a worker's name, its end included */

typedef uint32_t arena_ref;

/* What a page of 64 KiB is cut into. Stored in the arena: do not renumber. */
enum arena_class {
	ARENA_FREE = 0,
	ARENA_RESERVED, /* header and scratch */
	ARENA_PASSPORT, /* 256 B records */
	ARENA_CHANNEL,  /* 128 B records */
	ARENA_CHUNK_64,
	ARENA_CHUNK_128,
	ARENA_CHUNK_256,
	ARENA_CHUNK_512,
	ARENA_CHUNK_1K,
	ARENA_CHUNK_2K,
	ARENA_CHUNK_4K,
	ARENA_CHUNK_8K,
	ARENA_CHUNK_16K,
	ARENA_CHUNK_32K,
	ARENA_CHUNK_64K,
	ARENA_CLASSES
};

/* Every chunk starts with this; its payload follows. */
struct arena_chunk {
	arena_ref
		next;  /* the chunk behind it in its list, meaningful only before the list's tail */
	uint32_t used; /* payload bytes, where the list itself does not tell */
	uint64_t base; /* stream offset of its first payload byte, where it belongs to a queue */
	uint8_t data[];
};

enum work_syscall { WORK_SYSCALL_NONE = 0, WORK_SYSCALL_READ = 1, WORK_SYSCALL_WRITE = 2 };
enum work_serving { WORK_SERVING_NONE = 0, WORK_SERVING_CONNECTION = 1, WORK_SERVING_BATCH = 2 };

struct work_redo {
	uint64_t offset; /* of the word, from the arena's start */
	uint64_t value;  /* absolute: applying it twice is harmless */
};

#define ARENA_DEFINE_FIELD(type, name, since, show, doc)        type name;
#define ARENA_DEFINE_ARRAY(type, name, count, since, show, doc) type name[count];

/*
 * Whom to blame, about whom to ask the kernel, and the commit in progress
 * (DESIGN §3 rule 1).
 */
#define WORK_FIELDS(FIELD, ARRAY)                                                               \
	FIELD(_Atomic uint64_t, serving, 3, HEX,                                                \
	      "WORK_WORD(enum work_serving, passport or channel)")                              \
	FIELD(_Atomic uint64_t, serving_item, 3, NUMBER, "command number, or batch number")     \
	FIELD(_Atomic uint64_t, syscall, 3, HEX, "WORK_WORD(enum work_syscall, passport)")      \
	FIELD(uint64_t, read_base, 3, NUMBER, "stream offset of the read scratch's first byte") \
	FIELD(_Atomic uint64_t, redo_count, 3, NUMBER,                                          \
	      "the commit: non-zero = apply the pairs again")                                   \
	ARRAY(struct work_redo, redo, ARENA_REDO_MAX, 3, HEX, "the pairs")

struct work_slot {
	WORK_FIELDS(ARENA_DEFINE_FIELD, ARENA_DEFINE_ARRAY)
};

#define WORK_WORD(kind, ref) ((uint64_t)(kind) << 32 | (uint64_t)(ref))
#define WORK_KIND(word)      ((unsigned)((word) >> 32))
#define WORK_REF(word)       ((arena_ref)(word))

/*
 * The fan-out under way (DESIGN §3 rule 6). The frame is a chunk list written
 * before `batch` is committed; that of those who agreed to compression is
 * written and committed when the first of them is due. The cursor names the one subscriber in
 * doubt: index << 32 | low 32 bits of its output position before the send, so that the kernel's
 * count tells whether the send happened; FANOUT_SETTLED in the index says that this subscriber took
 * the queue path, committed with the cursor.
 */
#define FANOUT_FIELDS(FIELD, ARRAY)                                                                \
	FIELD(uint64_t, batch, 3, NUMBER, "number of the batch under way, 0 = none")               \
	FIELD(uint64_t, channel, 3, REF, "the channel record")                                     \
	FIELD(uint64_t, frame, 3, REF, "the first chunk")                                          \
	FIELD(uint64_t, frame_length, 3, NUMBER, "bytes")                                          \
	FIELD(uint64_t, deflated, 3, REF, "the same messages compressed, 0 = not made (yet)")      \
	FIELD(uint64_t, deflated_length, 3, NUMBER, "bytes")                                       \
	FIELD(uint64_t, deflated_window, 3, NUMBER, "bits of the smallest window that reads them") \
	FIELD(uint64_t, end, 3, NUMBER, "subscribers at the start; later ones are not served")     \
	FIELD(_Atomic uint64_t, cursor, 3, HEX, "the one in doubt, see above")                     \
	FIELD(uint64_t, first_sequence, 3, NUMBER, "of the first message")                         \
	FIELD(uint64_t, last_sequence, 3, NUMBER, "of the last message")                           \
	FIELD(uint64_t, last_offset, 3, NUMBER, "0 = channel without history")                     \
	FIELD(uint64_t, messages, 3, NUMBER, "how many the batch has, all of one kind")            \
	FIELD(uint64_t, sequences, 3, REF,                                                         \
	      "first chunk with their sequences, 0 = only one message")                            \
	FIELD(uint64_t, kind, 3, NUMBER, "enum channel_message_kind: which subscribers it is for") \
	FIELD(uint64_t, last_batch, 3, NUMBER, "number of the last batch begun")                   \
	FIELD(uint64_t, last_sequence_served, 3, NUMBER, "of the last batch that ended")

struct fanout_record {
	FANOUT_FIELDS(ARENA_DEFINE_FIELD, ARENA_DEFINE_ARRAY)
};

#define FANOUT_SETTLED       (1ull << 63)
#define FANOUT_NONE          (~0ull) /* begun, nobody served yet */
#define FANOUT_INDEX(cursor) ((uint32_t)(((cursor) & ~FANOUT_SETTLED) >> 32))

/*
 * What a successor has to know of a Redis shard besides its subscription
 * connection's passport: how far it was followed, and in which run.
 */
#define SHARD_FIELDS(FIELD, ARRAY)                                                            \
	FIELD(uint64_t, passport, 3, REF, "the subscription connection's passport, 0 = none") \
	FIELD(uint64_t, max_seen, 3, NUMBER,                                                  \
	      "highest shard sequence received or acknowledged in that run")                  \
	ARRAY(char, run, ARENA_RUN_MAX, 3, TEXT,                                              \
	      "the run of Redis settled last, empty = none yet")                              \
	ARRAY(char, generation, ARENA_GENERATION_MAX, 3, TEXT, "of the epochs known since then")

struct shard_record {
	SHARD_FIELDS(ARENA_DEFINE_FIELD, ARENA_DEFINE_ARRAY)
};

/*
 * For whose sake workers of this slot died (DESIGN §3 rule 8): what `serving`
 * said at the last death that was put down to somebody, and how often in a row.
 */
#define BLAME_FIELDS(FIELD, ARRAY)                                          \
	FIELD(uint64_t, serving, 3, HEX, "as in the work slot, 0 = nobody") \
	FIELD(uint64_t, item, 3, NUMBER, "command number, or batch number") \
	FIELD(uint64_t, deaths, 3, NUMBER, "in a row with the same under way")

struct blame_record {
	BLAME_FIELDS(ARENA_DEFINE_FIELD, ARENA_DEFINE_ARRAY)
};

/* These stand where they stand in every layout: keepers and programs of other versions read them.
 */
#define HEADER_FIELDS_FIXED(FIELD, ARRAY)                                                          \
	FIELD(uint64_t, magic, 3, HEX, "ARENA_MAGIC")                                              \
	FIELD(uint32_t, layout_version, 3, NUMBER, "of everything in the arena")                   \
	FIELD(uint32_t, page_count, 3, NUMBER, "pages in the mapping")                             \
	FIELD(_Atomic uint64_t, owner, 3, HEX, "state << 32 | pid; the takeover's ownership word") \
	FIELD(_Atomic uint64_t, fault, 3, NUMBER,                                                  \
	      "signal that killed the owner, written by its handler")

#define HEADER_FIELDS_WORKER(FIELD, ARRAY)                                                       \
	FIELD(uint64_t, generation, 3, NUMBER, "the last one given to a passport")               \
	ARRAY(char, worker_name, ARENA_NAME_MAX, 3, TEXT,                                        \
	      "under which Redis knows this slot's worker: a successor goes by it too; empty = " \
	      "none yet")                                                                        \
	FIELD(struct blame_record, last_blamed, 3, RECORD, "for whose sake workers died")

#define HEADER_FIELDS_SHARDS(FIELD, ARRAY) \
	ARRAY(struct shard_record, shards, ARENA_SHARDS_MAX, 3, RECORD, "by shard")

#define HEADER_FIELDS_WORK(FIELD, ARRAY)                                   \
	FIELD(struct work_slot, work, 3, RECORD, "the commit in progress") \
	FIELD(struct fanout_record, fanout, 3, RECORD, "the fan-out under way")

#define HEADER_FIELDS_TEST(FIELD, ARRAY) \
	ARRAY(uint64_t, test_words, 5, 1001, HEX, "0; moves what is behind it")

/* Layouts of test builds: the same fields, elsewhere. */
#define HEADER_FIELDS_0(FIELD, ARRAY)      \
	HEADER_FIELDS_FIXED(FIELD, ARRAY)  \
	HEADER_FIELDS_WORKER(FIELD, ARRAY) \
	HEADER_FIELDS_SHARDS(FIELD, ARRAY) \
	HEADER_FIELDS_WORK(FIELD, ARRAY)
#define HEADER_FIELDS_1(FIELD, ARRAY)      \
	HEADER_FIELDS_FIXED(FIELD, ARRAY)  \
	HEADER_FIELDS_TEST(FIELD, ARRAY)   \
	HEADER_FIELDS_WORK(FIELD, ARRAY)   \
	HEADER_FIELDS_WORKER(FIELD, ARRAY) \
	HEADER_FIELDS_SHARDS(FIELD, ARRAY)
#define HEADER_FIELDS_2(FIELD, ARRAY)      \
	HEADER_FIELDS_FIXED(FIELD, ARRAY)  \
	HEADER_FIELDS_SHARDS(FIELD, ARRAY) \
	HEADER_FIELDS_TEST(FIELD, ARRAY)   \
	HEADER_FIELDS_WORKER(FIELD, ARRAY) \
	HEADER_FIELDS_WORK(FIELD, ARRAY)

#define ARENA_JOIN_NAMES(a, b)      a##b
#define ARENA_JOIN(a, b)            ARENA_JOIN_NAMES(a, b)
#define HEADER_FIELDS(FIELD, ARRAY) ARENA_JOIN(HEADER_FIELDS_, ARENA_TEST_LAYOUT)(FIELD, ARRAY)

struct arena_header {
	HEADER_FIELDS(ARENA_DEFINE_FIELD, ARENA_DEFINE_ARRAY)
	_Atomic uint8_t page_class[]; /* enum arena_class of each page */
};

_Static_assert(offsetof(struct arena_header, fault) == 24, "fixed for good");

enum arena_owner_state { ARENA_OWNER_NONE = 0, ARENA_OWNER_RUNNING = 1, ARENA_OWNER_FROZEN = 2 };

struct arena_page; /* heap half of a page */

struct arena {
	struct arena_header *header; /* the mapping's start; owned */
	uint8_t *scratch;            /* ARENA_READ_SCRATCH bytes, what read() fills */
	size_t size;                 /* bytes mapped */
	int fd;                      /* owned */
	bool outdated;               /* of an older layout, and only mapped */
	bool converted;              /* ... and then taken, as another file with another fd */
	uint32_t first_page;         /* behind header and scratch */
	uint32_t backed_end; /* pages below are backed by memory (or were, see arena_page) */
	uint32_t pages_used;
	uint32_t pages_lost; /* had a class that is none of ours when the arena was adopted */
	uint32_t class_pages[ARENA_CLASSES]; /* pages of each class */
	struct arena_page *pages;            /* owned, page_count of them */
	uint32_t partial[ARENA_CLASSES];     /* first page with free space of a class, 0 = none */
	uint32_t free_pages;                 /* head of the list of free backed pages, 0 = none */
	uint32_t free_page_count;
};

/*
 * Creates a sealed memfd of `cap` bytes (rounded down to pages, at least 4 MiB),
 * maps it whole and backs it in steps. NULL with *error set (static text or
 * strerror) if the kernel refuses.
 */
struct arena *arena_create(uint64_t cap, const char **error);
/*
 * Maps what somebody else left, for looking at: a private copy-on-write view, in
 * which a commit that was under way is completed. The fd is duplicated. Checks
 * magic, version and size.
 */
struct arena *arena_attach(int fd, const char **error);
/* The layout version of the arena behind fd, which any version may have made; 0: it is none. */
uint32_t arena_version(int fd);
/*
 * Takes over what a dead owner left: maps it shared, checks magic, version and
 * size, makes this process its owner, completes the commit that was under way
 * and frees pages of a class that is none of ours. The fd is duplicated. Nothing
 * can be allocated before arena_rebuild(); hub_adopt() calls that. The caller
 * knows that the old owner is gone. NULL with *error set: the arena is of no use,
 * or of a layout that this program does not know, and nothing was changed.
 */
struct arena *arena_adopt(int fd, const char **error);
/*
 * The other way round, while the owner still runs: maps it read-only, checks
 * magic, version and size, and touches what it holds so that it is mapped in
 * full. NULL with *error set as above. Until arena_take() its contents change. One
 * of an older layout will do: it is converted when it is taken.
 */
struct arena *arena_prepare(int fd, const char **error);
/* What has come to it since; worth doing shortly before it is taken. */
void arena_prefault(struct arena *arena);
/* Memory for the heap companion of a passport that may be there when it is taken. */
void arena_prepare_companion(struct arena *arena, arena_ref ref, size_t size);

/*
 * The ownership word. Each of these is one compare-and-swap, and false says that
 * it was not as it had to be: then this process has lost the arena, or never had
 * it, and must not write it.
 */
bool arena_freeze(struct arena *arena); /* RUNNING(this process) -> FROZEN */
bool arena_thaw(struct arena *arena);   /* FROZEN(this process) -> RUNNING */
enum arena_taken {
	ARENA_TAKEN,
	ARENA_LOST,       /* its owner goes on, or is another one */
	ARENA_DAMAGED,    /* the commit under way makes no sense; nothing was changed */
	ARENA_UNCONVERTED /* there is no room for a converted one; nothing was changed */
};
/* FROZEN(another one) -> RUNNING(this process); then it is as after arena_adopt(). */
enum arena_taken arena_take(struct arena *arena);

/*
 * Makes free lists, page lists and counts anew: whatever `in_use` denies is
 * free, and pages without anything in use belong to nobody. It is asked once
 * about each record and chunk of each page. For the owner only.
 */
void arena_rebuild(struct arena *arena, bool (*in_use)(void *context, arena_ref ref),
		   void *context);
void arena_destroy(struct arena *arena);

size_t arena_class_size(enum arena_class class);
enum arena_class arena_class_of(const struct arena *arena, arena_ref ref);

static inline void *arena_at(const struct arena *arena, arena_ref ref)
{
	return (uint8_t *)arena->header + (size_t)ref * ARENA_REF_SIZE;
}

static inline arena_ref arena_ref_of(const struct arena *arena, const void *p)
{
	return (arena_ref)((size_t)((const uint8_t *)p - (const uint8_t *)arena->header) /
			   ARENA_REF_SIZE);
}

static inline struct arena_chunk *arena_chunk_at(const struct arena *arena, arena_ref ref)
{
	return arena_at(arena, ref);
}

/* Payload bytes a chunk holds. */
size_t arena_chunk_capacity(const struct arena *arena, arena_ref ref);

/*
 * A chunk for `payload` bytes, or the largest (64 KiB) if more is asked; 0 when
 * the arena is full. Unreachable until a commit names it.
 */
arena_ref arena_chunk_alloc(struct arena *arena, size_t payload);
/* Only for what no committed word reaches any more. */
void arena_chunk_free(struct arena *arena, arena_ref ref);

/* A record of a fixed-size class; its bytes are what the last user left (zero on a new page). */
arena_ref arena_record_alloc(struct arena *arena, enum arena_class class);
void arena_record_free(struct arena *arena, arena_ref ref);

/*
 * The heap companion of a record: `size` bytes per record, allocated per page
 * and zeroed; the same size must be given for every record of a class. Lives as
 * long as the page keeps its class.
 */
void *arena_companion(struct arena *arena, arena_ref ref, size_t size);

/* True where a record or chunk of that class can begin: nothing is said about what it holds. */
bool arena_ref_valid(const struct arena *arena, arena_ref ref, enum arena_class class);

/* The next record of a class after `previous` (0 = start), whether in use or not; 0 at the end.
 * `previous` may have been freed meanwhile. */
arena_ref arena_record_next(const struct arena *arena, enum arena_class class, arena_ref previous);

/* How many records of a class there are, in use or not. */
uint64_t arena_records(const struct arena *arena, enum arena_class class);

/* Bytes in pages that hold something, and the cap. */
uint64_t arena_bytes_used(const struct arena *arena);
uint64_t arena_bytes_cap(const struct arena *arena);

/* --- the commit (DESIGN §3 rule 1) --- */
struct arena_commit {
	struct arena *arena;
	unsigned count;
	struct work_redo words[ARENA_REDO_MAX];
};

static inline void arena_commit_begin(struct arena_commit *commit, struct arena *arena)
{
	commit->arena = arena;
	commit->count = 0;
}

/* Names a word (8-aligned, inside the arena) and its new value; a word that has it already is left
 * out. Naming a word twice keeps the later value. */
void arena_commit_add(struct arena_commit *commit, void *word, uint64_t value);
/* All of the words or none, whatever kills the process meanwhile. */
void arena_commit_apply(struct arena_commit *commit);

/* Completes the commit under way, if there is one; false when its pairs make no sense. */
bool arena_redo(struct arena *arena);

static inline void arena_store(void *word, uint64_t value)
{
	atomic_store_explicit((_Atomic uint64_t *)word, value, memory_order_release);
}

#endif
