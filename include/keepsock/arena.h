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
 */
#ifndef KEEPSOCK_ARENA_H
#define KEEPSOCK_ARENA_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARENA_MAGIC          0x414b434f534b4b50ull /* "PKKSOCKA" */
#define ARENA_LAYOUT_VERSION 3u
#define ARENA_PAGE_SIZE      65536u
#define ARENA_REF_SIZE       64u
#define ARENA_GROW_PAGES     16u /* 1 MiB at a time */
#define ARENA_READ_SCRATCH   (2u * ARENA_PAGE_SIZE)
#define ARENA_REDO_MAX       32u
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

/*
 * Whom to blame, about whom to ask the kernel, and the commit in progress
 * (DESIGN §3 rule 1).
 */
struct work_slot {
	_Atomic uint64_t serving;      /* kind << 32 | passport or channel ref */
	_Atomic uint64_t serving_item; /* command number, or batch number */
	_Atomic uint64_t syscall;      /* kind << 32 | passport ref */
	uint64_t read_base;            /* stream offset of the first byte of the read scratch */
	_Atomic uint64_t redo_count;   /* the commit: non-zero = apply the pairs again */
	struct work_redo redo[ARENA_REDO_MAX];
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
struct fanout_record {
	uint64_t batch;           /* number of the batch under way, 0 = none */
	uint64_t channel;         /* ref of the channel record */
	uint64_t frame;           /* ref of the first chunk */
	uint64_t frame_length;    /* bytes */
	uint64_t deflated;        /* the same messages compressed, 0 = not made (yet) */
	uint64_t deflated_length; /* bytes */
	uint64_t deflated_window; /* bits of the smallest window that reads them */
	uint64_t end;             /* subscribers at the start; later ones are not served */
	_Atomic uint64_t cursor;
	uint64_t first_sequence, last_sequence;
	uint64_t last_offset; /* 0 = channel without history */
	uint64_t messages;    /* how many the batch has, all of one kind */
	uint64_t sequences;  /* ref of the first chunk with their sequences, 0 = only one message */
	uint64_t kind;       /* enum channel_message_kind: which subscribers it is for */
	uint64_t last_batch; /* number of the last batch begun */
	uint64_t last_sequence_served;
};

#define FANOUT_SETTLED       (1ull << 63)
#define FANOUT_NONE          (~0ull) /* begun, nobody served yet */
#define FANOUT_INDEX(cursor) ((uint32_t)(((cursor) & ~FANOUT_SETTLED) >> 32))

/*
 * What a successor has to know of a Redis shard besides its subscription
 * connection's passport: how far it was followed, and in which run.
 */
struct shard_record {
	uint64_t passport; /* ref of the subscription connection's passport, 0 = none */
	uint64_t max_seen; /* the highest shard sequence received or acknowledged in that run */
	char run[ARENA_RUN_MAX]; /* names the run of Redis settled last, "" = none yet */
	char generation[ARENA_GENERATION_MAX]; /* of the epochs known since then */
};

/*
 * For whose sake workers of this slot died (DESIGN §3 rule 8): what `serving`
 * said at the last death that was put down to somebody, and how often in a row.
 */
struct blame_record {
	uint64_t serving; /* as in the work slot, 0 = nobody */
	uint64_t item;
	uint64_t deaths;
};

struct arena_header {
	uint64_t magic;
	uint32_t layout_version;
	uint32_t page_count;    /* pages in the mapping */
	_Atomic uint64_t owner; /* state << 32 | pid; the takeover's ownership word */
	_Atomic uint64_t fault; /* signal that killed the owner, written by its handler */
	uint64_t generation;    /* the last one given to a passport */
	/* Under which Redis knows this slot's worker: a successor goes by it too. "" = none yet. */
	char worker_name[ARENA_NAME_MAX];
	struct blame_record last_blamed;
	struct shard_record shards[ARENA_SHARDS_MAX];
	struct work_slot work;
	struct fanout_record fanout;
	_Atomic uint8_t page_class[];
};

enum arena_owner_state { ARENA_OWNER_NONE = 0, ARENA_OWNER_RUNNING = 1, ARENA_OWNER_FROZEN = 2 };

struct arena_page; /* heap half of a page */

struct arena {
	struct arena_header *header; /* the mapping's start; owned */
	uint8_t *scratch;            /* ARENA_READ_SCRATCH bytes, what read() fills */
	size_t size;                 /* bytes mapped */
	int fd;                      /* owned */
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
