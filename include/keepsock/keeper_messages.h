/* SPDX-License-Identifier: ISC */
/*
 * The messages of a keeper: with the master, which starts it, and with its
 * worker, which it starts. One table of types with who may send them, and the
 * contents; the transport is ipc.h. Contents are plain structs: all ends are on
 * one host, and each side checks version and length before it looks at one.
 *
 * A worker's descriptor 3 is its channel to the keeper (these messages), its
 * descriptor 4 the one to the master (ipc_messages.h). Over the first comes
 * KEEPER_START with what the master wants the worker to know; over the second
 * everything else.
 *
 *   fresh start              KEEPER_START ──►          ◄── ARENA, then DEPOSIT, RELEASE, COUNT
 *   start of a successor     KEEPER_START (ADOPT) ──►  ◄── NEXT   or ADOPT_REFUSED: as fresh
 *                            HAND_OVER ──►             ◄── NEXT   (once for each batch)
 *                            HAND_OVER_END ──►         ◄── ADOPTED, then RELEASE, COUNT ...
 *                                                      (ARENA before that: it was converted)
 *   the keeper was replaced  (its socket)              ◄── HELLO, ORIGIN, ARENA, DEPOSIT ..., COUNT
 *   the master was replaced  CHANNEL ──►               (as soon as the worker runs on its arena)
 *
 * A master that follows a dead one comes by the keeper's socket: MASTER, answered by STATE, then
 * by what else there is to tell (DEATH, WORKER, STATUS).
 *
 * A takeover, `old` running and `new` about to:
 *
 *   new: prepares            START (TAKEOVER) ──►      ◄── NEXT   or ADOPT_REFUSED: old goes on
 *                            HAND_OVER, TAKEN_BACK ──► ◄── NEXT   (once for each batch)
 *                            HAND_OVER_END ──►         ◄── READY
 *   old: finishes its turn   FREEZE ──►                ◄── FROZEN
 *   new: what was deposited  HAND_OVER, TAKEN_BACK ──► ◄── NEXT   (once for each batch)
 *        meanwhile, the swap COMMIT ──►                ◄── COMMITTED, then RELEASE, COUNT ...
 *   old: is done             LEAVE ──►                 (exits)
 *   or it goes on            THAW ──►                  ◄── THAWED (or it exits: it lost)
 *
 * Who owns the arena is decided by compare-and-swap on its ownership word alone:
 * old makes it FROZEN, new makes it RUNNING(new), or old makes it RUNNING(old)
 * again. Whoever loses leaves at once and never writes the arena. THAW only asks
 * for an attempt, and so does the death of the keeper.
 */
#ifndef KEEPSOCK_KEEPER_MESSAGES_H
#define KEEPSOCK_KEEPER_MESSAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keepsock/ipc.h"
#include "keepsock/slice.h"

struct buffer;

/* In KEEPER_SETUP, KEEPER_START and KEEPER_HELLO: other versions are refused. */
#define KEEPER_PROTOCOL_VERSION 3u

#define WORKER_FD_KEEPER 3
#define WORKER_FD_MASTER 4

enum keeper_direction {
	MASTER_TO_KEEPER,
	KEEPER_TO_MASTER,
	WORKER_TO_KEEPER,
	KEEPER_TO_WORKER,
};

/* KEEPER(name, direction, what it carries). Types are numbered from 1, in this order. */
/* clang-format off */
#define KEEPER_MESSAGES_TABLE(KEEPER)                                                              \
	KEEPER(SETUP,         MASTER_TO_KEEPER, "struct keeper_setup; fd: the pidfd of the worker that runs already, if one does") \
	KEEPER(ORDER,         MASTER_TO_KEEPER, "struct keeper_order, JSON struct ipc_start; fds: program, those of ipc_start. For all workers started from now on; the first order starts the first one") \
	KEEPER(LOG_LEVEL,     MASTER_TO_KEEPER, "the level's name")                                \
	KEEPER(STOP,          MASTER_TO_KEEPER, "nothing: start no worker any more, end with the one that runs") \
	KEEPER(ADOPTION,      MASTER_TO_KEEPER, "a byte, in test builds: 0 = those that follow a dead worker start with nothing, 1 = they adopt") \
	KEEPER(TAKEOVER,      MASTER_TO_KEEPER, "struct keeper_takeover: a worker by the newest order takes over from the one that runs") \
	KEEPER(CRASH_POINT,   MASTER_TO_KEEPER, "struct keeper_crash_point, in test builds")      \
	KEEPER(MASTER,        MASTER_TO_KEEPER, "struct keeper_hello, by the socket: a master that goes on for a dead one") \
	KEEPER(WORKER,        KEEPER_TO_MASTER, "struct keeper_worker; fds: the master's end of its channel, pidfd") \
	KEEPER(DEATH,         KEEPER_TO_MASTER, "struct keeper_death; fd, in test builds: the arena as the worker left it") \
	KEEPER(STATUS,        KEEPER_TO_MASTER, "struct keeper_status")                            \
	KEEPER(TAKEN_OVER,    KEEPER_TO_MASTER, "struct keeper_taken_over, text: why it was not")  \
	KEEPER(STATE,         KEEPER_TO_MASTER, "struct keeper_state; fds: those of the order, if there was one: program, those of ipc_start") \
	KEEPER(HELLO,         WORKER_TO_KEEPER, "struct keeper_hello: forget what was deposited, everything follows anew") \
	KEEPER(ORIGIN,        WORKER_TO_KEEPER, "fds: those of ipc_start, behind HELLO: for a master that finds no keeper") \
	KEEPER(ARENA,         WORKER_TO_KEEPER, "fd: the arena's memfd")                           \
	KEEPER(DEPOSIT,       WORKER_TO_KEEPER, "n struct keeper_item, in the order of their n fds") \
	KEEPER(RELEASE,       WORKER_TO_KEEPER, "n struct keeper_item: they are closed")           \
	KEEPER(COUNT,         WORKER_TO_KEEPER, "struct keeper_count: what is deposited, as the worker counts") \
	KEEPER(NEXT,          WORKER_TO_KEEPER, "nothing: the last batch arrived, hand the next one over") \
	KEEPER(ADOPTED,       WORKER_TO_KEEPER, "struct keeper_adopted: the successor runs on the arena") \
	KEEPER(ADOPT_REFUSED, WORKER_TO_KEEPER, "text, why: the kept connections end, the worker starts fresh") \
	KEEPER(READY,         WORKER_TO_KEEPER, "struct keeper_turn, new: prepared, holds what it was handed over") \
	KEEPER(FROZEN,        WORKER_TO_KEEPER, "struct keeper_frozen, old: serves nobody, everything is deposited; fd, if handshakes are under way: a channel to new for them") \
	KEEPER(THAWED,        WORKER_TO_KEEPER, "struct keeper_turn, old: owns the arena and goes on") \
	KEEPER(COMMITTED,     WORKER_TO_KEEPER, "struct keeper_committed, new: owns the arena and serves") \
	KEEPER(START,         KEEPER_TO_WORKER, "struct keeper_start, JSON struct ipc_start; fds: with ADOPT or TAKEOVER first the arena, then those of ipc_start") \
	KEEPER(HAND_OVER,     KEEPER_TO_WORKER, "n struct keeper_item, in the order of their n fds") \
	KEEPER(HAND_OVER_END, KEEPER_TO_WORKER, "struct keeper_hand_over_end")                     \
	KEEPER(DEPOSIT_AGAIN, KEEPER_TO_WORKER, "nothing: the counts differ, begin again with HELLO") \
	KEEPER(TAKEN_BACK,    KEEPER_TO_WORKER, "n struct keeper_item, to new: closed since they were handed over") \
	KEEPER(FREEZE,        KEEPER_TO_WORKER, "struct keeper_turn, to old: finish the loop turn, then serve nobody") \
	KEEPER(THAW,          KEEPER_TO_WORKER, "struct keeper_turn, to old: go on if the arena is still yours") \
	KEEPER(COMMIT,        KEEPER_TO_WORKER, "struct keeper_turn, to new: everything is handed over, take the arena; fd: that of FROZEN, if there was one") \
	KEEPER(LEAVE,         KEEPER_TO_WORKER, "struct keeper_turn, to old: touch nothing any more, and exit") \
	KEEPER(CHANNEL,       KEEPER_TO_WORKER, "fd: the channel to a master that goes on for a dead one")

enum keeper_type {
	KEEPER_NONE,
#define KEEPER(name, direction, doc) KEEPER_##name,
	KEEPER_MESSAGES_TABLE(KEEPER)
#undef KEEPER
	KEEPER_TYPE_COUNT
};
/* clang-format on */

/* "SETUP" …; "unknown" for a number that is no type. */
const char *keeper_type_name(uint32_t type);

/* Whether a message of this type may travel in this direction. */
bool keeper_type_allowed(uint32_t type, enum keeper_direction direction);

/* --- with the master --- */

/* Four strings follow, each with its NUL: node, config_name, run_dir, log_target. */
struct keeper_setup {
	uint32_t version;
	uint32_t slot;
	uint32_t log_level;  /* enum log_level */
	uint32_t log_format; /* enum log_format */
	uint64_t restarts;   /* of the slot's worker so far */
	int32_t worker;      /* pid of the worker that runs already; 0 = none */
	uint32_t flags;      /* enum keeper_setup_flags */
};

enum keeper_setup_flags {
	KEEPER_SETUP_CHANNEL = 1u << 0, /* the master has no channel to the worker that runs */
};

struct keeper_setup_text {
	const char *node, *config_name, *run_dir, *log_target;
};

struct keeper_order {
	uint64_t number; /* the master's, rising; a worker's is repeated in KEEPER_WORKER */
};

/* Positions of the fds in KEEPER_ORDER; those of ipc_start follow. */
#define KEEPER_ORDER_FD_PROGRAM 0
#define KEEPER_ORDER_FD_START   1

/* What a keeper without a master has. */
struct keeper_state {
	uint32_t version;
	uint32_t slot;
	uint64_t order;    /* number of the last one; 0 = none, and no descriptors */
	uint64_t restarts; /* how often the slot's worker was replaced */
	int32_t worker;    /* pid of the one that runs; 0 = none does at the moment */
	uint32_t layout;   /* of the arena that is kept; 0 = there is none */
};

enum keeper_worker_flags {
	KEEPER_WORKER_ADOPTS = 1u << 0,     /* it is offered what the one before it left */
	KEEPER_WORKER_TAKES_OVER = 1u << 1, /* it is the slot's worker if TAKEN_OVER says so */
};

struct keeper_worker {
	int32_t pid;
	uint32_t flags;    /* enum keeper_worker_flags */
	uint64_t restarts; /* how often the slot's worker was replaced */
	uint64_t order;    /* number of the order it was started with */
};

#define KEEPER_FD_WORKER_CHANNEL 0
#define KEEPER_FD_WORKER_PIDFD   1

#define KEEPER_NO_STATUS INT32_MIN  /* it was not the keeper's child */
#define KEEPER_NO_START  UINT32_MAX /* there is no next one */

struct keeper_death {
	int32_t pid;
	int32_t status;       /* as of waitpid(); KEEPER_NO_STATUS */
	uint32_t fault;       /* the signal whose handler wrote it into the arena, 0 = none */
	uint32_t next_in_ms;  /* until the next one starts; KEEPER_NO_START */
	uint64_t lived_ms;    /* since it had adopted, or was started fresh */
	uint32_t descriptors; /* kept for the next one */
	uint32_t reserved;
};

struct keeper_status {
	int32_t worker;        /* pid it is about; 0 = none runs */
	uint32_t is_protected; /* 1: the arena is here and both counts agree */
	uint32_t descriptors;  /* kept, the arena not counted */
	uint32_t reserved;
};

/* Why a worker is to be taken over from. */
enum takeover_reason {
	TAKEOVER_RELOAD = 1, /* other settings */
	TAKEOVER_UPGRADE,    /* another program */
	TAKEOVER_ROLLBACK,   /* back to the settings or the program before that */
	TAKEOVER_TEST,
};

/*
 * The reason of a takeover that is not done because the worker began with HELLO again: worth
 * another one, once the slot is protected. Told by its text, which every version's keeper sends:
 * a master of another version would refuse an outcome that it does not know.
 */
#define KEEPER_REASON_ANEW "the worker deposits everything anew"

struct keeper_takeover {
	uint64_t number;   /* the master's, rising */
	uint32_t reason;   /* enum takeover_reason */
	uint32_t limit_ms; /* for everything before the commit; then the old one is to go on */
};

enum takeover_outcome {
	TAKEOVER_DONE,        /* the new worker serves; the old one is leaving */
	TAKEOVER_NOT_DONE,    /* the old worker goes on */
	TAKEOVER_WORKER_DIED, /* whoever had the arena died meanwhile: KEEPER_DEATH says the rest */
};

/*
 * The end of a takeover, told once for each. The worker that KEEPER_WORKER had
 * announced is the slot's with TAKEOVER_DONE, and gone otherwise; of one that
 * left or was refused no KEEPER_DEATH is told.
 */
struct keeper_taken_over {
	uint64_t number;
	uint32_t outcome; /* enum takeover_outcome */
	int32_t old_pid;
	int32_t new_pid;      /* 0: none was started */
	uint32_t connections; /* that live on */
	uint32_t late;        /* that follow later */
	uint32_t lost;        /* that did not fit together */
	uint64_t prepare_us;  /* until the old one was asked to freeze */
	uint64_t freeze_us;   /* from the old one's last turn to the new one's first */
};

/* Who dies at that point. */
enum keeper_crash_target {
	KEEPER_CRASH_KEEPER,
	KEEPER_CRASH_NEXT_WORKER, /* the next one that is started */
};

#define KEEPER_CRASH_NAME_MAX 32u

struct keeper_crash_point {
	char name[KEEPER_CRASH_NAME_MAX]; /* with its NUL */
	uint32_t hits;                    /* as in crash_point_arm_signal() */
	uint32_t signal;
	uint32_t target; /* enum keeper_crash_target */
	uint32_t reserved;
};

/* --- with the worker --- */

/* What a descriptor is. */
enum keeper_kind {
	KEEPER_KIND_CLIENT = 1,
	KEEPER_KIND_REDIS = 2, /* a shard's subscription connection */
};

/* A descriptor, by the passport it belongs to. */
struct keeper_item {
	uint32_t ref;  /* arena_ref of the passport */
	uint32_t kind; /* KEEPER_KIND(); 0 in RELEASE */
	uint64_t generation;
};

#define KEEPER_KIND(kind, shard)     ((uint32_t)(kind) | (uint32_t)(shard) << 8)
#define KEEPER_KIND_OF(kind_word)    ((enum keeper_kind)((kind_word)&0xff))
#define KEEPER_KIND_SHARD(kind_word) ((kind_word) >> 8)

#define KEEPER_ITEMS_MAX (IPC_PAYLOAD_MAX / sizeof(struct keeper_item))

struct keeper_hello {
	uint32_t version;
	uint32_t slot;
};

struct keeper_count {
	uint32_t descriptors;
	uint32_t reserved;
};

enum keeper_start_flags {
	KEEPER_START_ADOPT = 1u << 0,    /* there is an arena, and descriptors are handed over */
	KEEPER_START_TAKEOVER = 1u << 1, /* the same, but its owner still runs */
};

struct keeper_start {
	uint32_t version;
	uint32_t flags;
	uint64_t restarts;                     /* how often the slot's worker was replaced */
	uint64_t takeover;                     /* its number; 0 = none */
	struct keeper_crash_point crash_point; /* in test builds; name "" = none */
};

struct keeper_hand_over_end {
	uint32_t descriptors; /* handed over in all */
	int32_t pid;          /* of the predecessor */
	int32_t status;       /* its end, as of waitpid(); KEEPER_NO_STATUS */
	uint32_t fault;       /* as in keeper_death */
};

struct keeper_adopted {
	uint32_t connections; /* that live on */
	uint32_t lost;        /* passports and descriptors that did not fit together */
};

/* Part of every message of a takeover: what belongs to an earlier one is passed over. */
struct keeper_turn {
	uint64_t takeover; /* its number */
};

struct keeper_frozen {
	uint64_t takeover;
	uint64_t at_ns;       /* CLOCK_BOOTTIME: nobody was served from then on */
	uint32_t descriptors; /* deposited, as the worker counts */
	uint32_t reserved;
};

struct keeper_committed {
	uint64_t takeover;
	uint64_t at_ns; /* CLOCK_BOOTTIME: from then on clients are served */
	uint32_t connections, late, lost;
	uint32_t reserved;
};

/* --- encoding and checking --- */

/* Appends struct and strings. */
void keeper_setup_encode(struct buffer *out, const struct keeper_setup *setup,
			 const struct keeper_setup_text *text);
/* The strings point into the payload. False: of another version, or malformed. */
bool keeper_setup_decode(struct slice payload, struct keeper_setup *setup,
			 struct keeper_setup_text *text);

/* Copies a payload that is exactly one such struct; false when its length differs. */
bool keeper_payload_take(struct slice payload, void *out, size_t size);
/* The same for a struct with more behind it, which *rest gets. */
bool keeper_payload_take_head(struct slice payload, void *out, size_t size, struct slice *rest);

/* False unless its name ends within its room. */
bool keeper_crash_point_valid(const struct keeper_crash_point *point);

/* The head, and the reason, at most `KEEPER_REASON_MAX` bytes of it. */
#define KEEPER_REASON_MAX 256u
void keeper_taken_over_encode(struct buffer *out, const struct keeper_taken_over *taken_over,
			      const char *reason);
/* *reason points into the payload. False: malformed, or an outcome that is none. */
bool keeper_taken_over_decode(struct slice payload, struct keeper_taken_over *taken_over,
			      struct slice *reason);
bool keeper_takeover_decode(struct slice payload, struct keeper_takeover *takeover);

/* "reload" ...; "unknown" for a number that is none. */
const char *takeover_reason_name(uint32_t reason);
/* "done", "not done", "worker died"; "unknown". */
const char *takeover_outcome_name(uint32_t outcome);

/* How many items a payload holds; SIZE_MAX when it is not a whole number of them. */
size_t keeper_items_count(struct slice payload);
struct keeper_item keeper_items_at(struct slice payload, size_t index);

/* "signal 11 (Segmentation fault)", "exit status 1", or what is known of one that nobody waited
 * for. */
void keeper_describe_death(struct buffer *out, int32_t status, uint32_t fault);

#endif
