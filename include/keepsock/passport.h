/* SPDX-License-Identifier: ISC */
/*
 * The passport: the durable half of a connection, 256 bytes in the arena
 * (DESIGN §3). A fact lives either here or in the heap, never in both.
 *
 * One field table drives the layout, its versions and their conversion, the
 * admin view and the completeness test. Changing it changes the arena's layout:
 * raise ARENA_LAYOUT_VERSION.
 *
 * A passport is changed through a draft: copy, change the copy, commit. All
 * words that differ go into one commit together with whatever else the caller
 * adds, so a death leaves the old state or the new one.
 */
#ifndef KEEPSOCK_PASSPORT_H
#define KEEPSOCK_PASSPORT_H

#include "keepsock/arena.h"
#include "keepsock/buffer.h"
#include "keepsock/slice.h"
#include "keepsock/tls_record.h"

/*
 * A queue of bytes in a chunk list, addressed by stream offset. `done` is what
 * was taken out, `end` what was put in; the queue is empty when done >= end (a
 * fan-out that sends directly moves `done` alone, in one store). An empty queue
 * holds no chunk.
 */
struct stream_queue {
	uint64_t done;
	uint64_t end;
	arena_ref head, tail;
};

/*
 * The message queue: each message is this word, its payload as the peer sent it
 * (unmasked, maybe still compressed), and padding to 8 bytes. The word of an
 * incomplete message is 0, so its payload's length need not be known. It tells
 * when the message was complete, in ms of CLOCK_BOOTTIME modulo 2^24 (4.6 h).
 */
#define MESSAGE_COMPLETE             ((uint64_t)1 << 63)
#define MESSAGE_COMPRESSED           ((uint64_t)1 << 60)
#define MESSAGE_WORD(opcode, length) (MESSAGE_COMPLETE | (uint64_t)(opcode) << 56 | (length))
#define MESSAGE_ARRIVED(now_ms)      (((now_ms)&MESSAGE_CLOCK) << 32)
#define MESSAGE_CLOCK                (((uint64_t)1 << 24) - 1)
#define MESSAGE_OPCODE(word)         ((unsigned)((word) >> 56) & 0xf)
#define MESSAGE_LENGTH(word)         ((word)&UINT32_MAX)
#define MESSAGE_WAITED(word, now_ms) (((now_ms) - ((word) >> 32)) & MESSAGE_CLOCK)
#define MESSAGE_PADDED(length)       (((length) + 7) & ~(uint64_t)7)

/* 32 bytes of struct websocket_reader, kept opaque here so that the arena's layout is our own. */
struct passport_reader {
	uint64_t word[4];
};

struct passport_address {
	uint8_t bytes[16]; /* IPv6, or IPv4-mapped */
};

struct passport_id {
	uint8_t bytes[16]; /* UUID */
};

/* See arena.h for the tables. In groups, so that the layouts of test builds can be made of them. */
#define PASSPORT_FIELDS_HEAD(FIELD, ARRAY)                            \
	FIELD(uint32_t, magic, 3, HEX, "PASSPORT_MAGIC while in use") \
	FIELD(uint16_t, version, 3, NUMBER, "layout version")         \
	FIELD(uint8_t, kind, 3, NUMBER, "enum passport_kind")         \
	FIELD(uint8_t, state, 3, STATE, "enum passport_state")        \
	FIELD(uint64_t, generation, 3, NUMBER, "distinguishes successive users of the slot")

#define PASSPORT_FIELDS_PEER(FIELD, ARRAY)                                                \
	FIELD(struct passport_id, id, 3, UUID, "client id; for HTTP the connection's id") \
	FIELD(uint64_t, accepted_at, 3, NUMBER, "CLOCK_BOOTTIME ms")                      \
	FIELD(struct passport_address, peer, 3, ADDRESS, "peer address")                  \
	FIELD(uint16_t, peer_port, 3, NUMBER, "peer port")                                \
	FIELD(uint16_t, local_port, 3, NUMBER, "port it came in by")                      \
	FIELD(uint32_t, flags, 3, HEX, "enum passport_flags")

#define PASSPORT_FIELDS_QUEUES(FIELD, ARRAY)                                                       \
	FIELD(struct stream_queue, in, 3, QUEUE, "bytes read and not consumed")                    \
	FIELD(struct stream_queue, messages, 3, QUEUE, "messages waiting or incomplete, unmasked") \
	FIELD(struct stream_queue, out, 3, QUEUE, "bytes committed and not written")

#define PASSPORT_FIELDS_PROGRESS(FIELD, ARRAY)                                              \
	FIELD(struct passport_reader, reader, 3, READER, "WebSocket reader in mid-stream")  \
	FIELD(uint64_t, command_number, 3, NUMBER,                                          \
	      "commands consumed; kind REDIS: the last sequence")                           \
	FIELD(uint32_t, command_index, 3, NUMBER,                                           \
	      "commands consumed of the first waiting message")                             \
	FIELD(uint16_t, close_code, 3, NUMBER, "WebSocket close code we sent or will send") \
	FIELD(uint8_t, codec, 3, NUMBER, "message codec, 0 = JSON; below PASSPORT_CODECS")

#define PASSPORT_FIELDS_SPARE(FIELD, ARRAY) FIELD(uint8_t, reserved_byte, 5, HEX, "0")

#define PASSPORT_FIELDS_TEST(FIELD, ARRAY) FIELD(uint8_t, test_byte, 1001, NUMBER, "0")

#define PASSPORT_FIELDS_PARTIAL(FIELD, ARRAY) \
	FIELD(uint64_t, partial_message, 3, NUMBER, "queue offset of the incomplete message's head")

#define PASSPORT_FIELDS_TIMES(FIELD, ARRAY)                                                     \
	FIELD(uint64_t, ping_at, 3, NUMBER, "CLOCK_BOOTTIME ms of the next ping, 0 = none")     \
	FIELD(uint64_t, pong_deadline, 3, NUMBER, "CLOCK_BOOTTIME ms, 0 = no ping outstanding") \
	FIELD(uint64_t, deadline, 3, NUMBER, "CLOCK_BOOTTIME ms at which the state ends, 0 = none")

#define PASSPORT_FIELDS_OWNED(FIELD, ARRAY)                                            \
	FIELD(arena_ref, identity, 3, REF, "chunk with user, info and name, 0 = none") \
	FIELD(arena_ref, subscriptions, 3, REF, "first subscription record, 0 = none") \
	FIELD(uint32_t, subscription_count, 3, NUMBER, "subscriptions")                \
	FIELD(arena_ref, tls, 5, REF, "struct passport_tls, 0 = plain")

#define PASSPORT_FIELDS_TOKEN(FIELD, ARRAY)                                                    \
	FIELD(uint64_t, expires_at, 3, NUMBER, "of the connection: Unix time in s, 0 = never") \
	FIELD(uint64_t, token_subs, 3, HEX, "digest of the channels in its token, 0 = none")

#define PASSPORT_FIELDS_MOVE(FIELD, ARRAY) \
	FIELD(uint64_t, move, 4, HEX, "PASSPORT_MOVE(): it is about to change the worker; 0 = not")

/* Layouts of test builds: the same fields, elsewhere; the first word stays the first. */
#define PASSPORT_FIELDS_0(FIELD, ARRAY)        \
	PASSPORT_FIELDS_HEAD(FIELD, ARRAY)     \
	PASSPORT_FIELDS_PEER(FIELD, ARRAY)     \
	PASSPORT_FIELDS_QUEUES(FIELD, ARRAY)   \
	PASSPORT_FIELDS_PROGRESS(FIELD, ARRAY) \
	PASSPORT_FIELDS_SPARE(FIELD, ARRAY)    \
	PASSPORT_FIELDS_PARTIAL(FIELD, ARRAY)  \
	PASSPORT_FIELDS_TIMES(FIELD, ARRAY)    \
	PASSPORT_FIELDS_OWNED(FIELD, ARRAY)    \
	PASSPORT_FIELDS_TOKEN(FIELD, ARRAY)    \
	PASSPORT_FIELDS_MOVE(FIELD, ARRAY)
#define PASSPORT_FIELDS_1(FIELD, ARRAY)        \
	PASSPORT_FIELDS_HEAD(FIELD, ARRAY)     \
	PASSPORT_FIELDS_TOKEN(FIELD, ARRAY)    \
	PASSPORT_FIELDS_OWNED(FIELD, ARRAY)    \
	PASSPORT_FIELDS_MOVE(FIELD, ARRAY)     \
	PASSPORT_FIELDS_TIMES(FIELD, ARRAY)    \
	PASSPORT_FIELDS_PROGRESS(FIELD, ARRAY) \
	PASSPORT_FIELDS_TEST(FIELD, ARRAY)     \
	PASSPORT_FIELDS_PARTIAL(FIELD, ARRAY)  \
	PASSPORT_FIELDS_QUEUES(FIELD, ARRAY)   \
	PASSPORT_FIELDS_PEER(FIELD, ARRAY)
#define PASSPORT_FIELDS_2(FIELD, ARRAY)        \
	PASSPORT_FIELDS_HEAD(FIELD, ARRAY)     \
	PASSPORT_FIELDS_QUEUES(FIELD, ARRAY)   \
	PASSPORT_FIELDS_TIMES(FIELD, ARRAY)    \
	PASSPORT_FIELDS_PEER(FIELD, ARRAY)     \
	PASSPORT_FIELDS_TOKEN(FIELD, ARRAY)    \
	PASSPORT_FIELDS_PROGRESS(FIELD, ARRAY) \
	PASSPORT_FIELDS_TEST(FIELD, ARRAY)     \
	PASSPORT_FIELDS_PARTIAL(FIELD, ARRAY)  \
	PASSPORT_FIELDS_MOVE(FIELD, ARRAY)     \
	PASSPORT_FIELDS_OWNED(FIELD, ARRAY)
#define PASSPORT_FIELDS(FIELD, ARRAY) ARENA_JOIN(PASSPORT_FIELDS_, ARENA_TEST_LAYOUT)(FIELD, ARRAY)

struct passport {
	PASSPORT_FIELDS(ARENA_DEFINE_FIELD, ARENA_DEFINE_ARRAY)
};

_Static_assert(sizeof(struct passport) == 256, "a passport is 256 bytes");

#define PASSPORT_MAGIC   0x54525350u /* "PSRT" */
#define PASSPORT_VERSION 1u
#define PASSPORT_CODECS  1u /* there are */

/* A move's number (node_moves.h), which says who has the connection, and which end this one is. */
enum passport_move { PASSPORT_STAYS = 0, PASSPORT_LEAVING = 1, PASSPORT_ARRIVING = 2 };
#define PASSPORT_MOVE(number, end) ((uint64_t)(number) << 8 | (uint64_t)(end))
#define PASSPORT_MOVE_NUMBER(move) ((move) >> 8)
#define PASSPORT_MOVE_END(move)    ((enum passport_move)((move)&0xff))

enum passport_kind { PASSPORT_CLIENT = 1, PASSPORT_REDIS = 2 };

/* PASSPORT_STATE(symbol, name) */
#define PASSPORT_STATES(STATE)                                                                 \
	STATE(FREE, "free")                                                                    \
	STATE(HTTP, "http")           /* reading or answering HTTP requests */                 \
	STATE(ECHO, "echo")           /* WebSocket on /echo */                                 \
	STATE(UNAUTHENTICATED, "new") /* WebSocket, waiting for the connect command */         \
	STATE(CONNECTED, "connected") /* WebSocket, connected */                               \
	STATE(UNUSABLE, "unusable")   /* connect was refused with an error; waits for close */ \
	STATE(CLOSING, "closing")     /* our close frame is queued; waits for the peer's */    \
	STATE(DRAINING, "draining")   /* output is written out, then closed */                 \
	STATE(REDIS, "redis")         /* subscription connection */

enum passport_state {
#define STATE(symbol, name) PASSPORT_STATE_##symbol,
	PASSPORT_STATES(STATE)
#undef STATE
		PASSPORT_STATE_COUNT
};

enum passport_flags {
	PASSPORT_FRAME_PINGS = 1u << 0,   /* cf_ws_frame_ping_pong: RFC 6455 pings instead of {} */
	PASSPORT_PEER_CLOSED = 1u << 1,   /* the peer's close frame was consumed */
	PASSPORT_PEER_FIN = 1u << 2,      /* the peer's FIN was read */
	PASSPORT_SHUT = 1u << 3,          /* we shut down our sending side */
	PASSPORT_REQUEST_BEGUN = 1u << 6, /* part of a request is here, its time is running */
	PASSPORT_CONTINUE_SENT = 1u << 5, /* 100 Continue was answered for this request */
	PASSPORT_DEFLATE = 1u << 7,       /* permessage-deflate was negotiated */
	PASSPORT_WINDOW = 7u << 8,        /* 15 - the window bits we may compress with */
	PASSPORT_ADMITTED = 1u << 11,     /* counted as a client connection */
	PASSPORT_REDIS_LIVE = 1u << 12    /* kind REDIS: signed in, settled, hearing its channels */
};

#define PASSPORT_WINDOW_SHIFT 8

static inline uint32_t passport_window_flags(unsigned window_bits)
{
	return (15u - window_bits) << PASSPORT_WINDOW_SHIFT & PASSPORT_WINDOW;
}

/* The largest window the peer reads compressed messages with, 8 to 15 bits; 0: it reads none. */
static inline unsigned passport_window_bits(uint32_t flags)
{
	return flags & PASSPORT_DEFLATE ? 15u - ((flags & PASSPORT_WINDOW) >> PASSPORT_WINDOW_SHIFT)
					: 0;
}

/* Which of a fan-out's two frames is for a subscriber; it follows from the arena alone. */
static inline bool passport_takes_deflated(const struct fanout_record *fanout, uint32_t flags)
{
	return fanout->deflated != 0 && passport_window_bits(flags) >= fanout->deflated_window;
}

const char *passport_state_name(unsigned state);

/* What varies and rarely changes: one chunk, written before the commit that names it. */
struct passport_identity {
	uint16_t user_length, name_length, version_length, reserved;
	uint32_t info_length;
	uint32_t data_length; /* all of the strings, behind each other */
	char data[];
};

struct slice passport_user(const struct arena *arena, const struct passport *passport);
struct slice passport_info(const struct arena *arena, const struct passport *passport);
struct slice passport_version(const struct arena *arena, const struct passport *passport);
struct slice passport_name(const struct arena *arena, const struct passport *passport);
/* A new identity chunk, 0 when the arena is full or the strings exceed 16 KiB. */
arena_ref passport_identity_make(struct arena *arena, struct slice user, struct slice name,
				 struct slice version, struct slice info);

/* Subscription flags. */
enum subscription_flags {
	SUBSCRIPTION_POSITIONED = 1u << 0,
	SUBSCRIPTION_RECOVERABLE = 1u << 1,
	SUBSCRIPTION_PRESENCE = 1u << 2,
	SUBSCRIPTION_JOIN_LEAVE = 1u << 3,  /* joins and leaves are pushed to it */
	SUBSCRIPTION_ANNOUNCED = 1u << 4,   /* its own join and leave are published */
	SUBSCRIPTION_SERVER_SIDE = 1u << 5, /* made by the server, not by a subscribe command */
	SUBSCRIPTION_LOST = 1u << 6 /* lost continuity: told soon, delivered nothing any more */
};

/*
 * Not in its channel's array, which was damaged when the arena was adopted:
 * nothing is delivered to it, and its client is to be told so (2500).
 */
#define SUBSCRIPTION_UNPLACED UINT32_MAX

/* One subscription of one connection: a 64-byte chunk, linked from its passport. */
#define SUBSCRIPTION_FIELDS_LIST(FIELD, ARRAY)                                         \
	FIELD(arena_ref, next, 3, REF, "the connection's next subscription, 0 = none") \
	FIELD(arena_ref, passport, 3, REF, "the connection")

#define SUBSCRIPTION_FIELDS_PLACE(FIELD, ARRAY)                 \
	FIELD(arena_ref, channel, 3, REF, "the channel record") \
	FIELD(uint32_t, position, 3, NUMBER,                    \
	      "index in the channel's subscriber array, or _UNPLACED")

#define SUBSCRIPTION_FIELDS_START(FIELD, ARRAY) \
	FIELD(uint64_t, start_sequence, 3, NUMBER, "only later messages are for it")

#define SUBSCRIPTION_FIELDS_KIND(FIELD, ARRAY)                                        \
	FIELD(uint32_t, flags, 3, HEX, "enum subscription_flags")                     \
	FIELD(arena_ref, info, 3, REF,                                                \
	      "chunk with its chan_info, as long as it is used; 0 = none")            \
	FIELD(arena_ref, previous, 3, REF, "the connection's previous one, 0 = none") \
	ARRAY(uint32_t, reserved_words, 3, 3, HEX, "0")

#define SUBSCRIPTION_FIELDS_EXPIRY(FIELD, ARRAY) \
	FIELD(uint64_t, expires_at, 3, NUMBER, "wall seconds, 0 = never")

#define SUBSCRIPTION_FIELDS_SPARE(FIELD, ARRAY) FIELD(uint64_t, reserved_tail, 3, HEX, "0")

#define SUBSCRIPTION_FIELDS_TEST(FIELD, ARRAY) FIELD(uint64_t, test_word, 1001, NUMBER, "0")

/* Layouts of test builds, as with passports. */
#define SUBSCRIPTION_FIELDS_0(FIELD, ARRAY)      \
	SUBSCRIPTION_FIELDS_LIST(FIELD, ARRAY)   \
	SUBSCRIPTION_FIELDS_PLACE(FIELD, ARRAY)  \
	SUBSCRIPTION_FIELDS_START(FIELD, ARRAY)  \
	SUBSCRIPTION_FIELDS_KIND(FIELD, ARRAY)   \
	SUBSCRIPTION_FIELDS_EXPIRY(FIELD, ARRAY) \
	SUBSCRIPTION_FIELDS_SPARE(FIELD, ARRAY)
#define SUBSCRIPTION_FIELDS_1(FIELD, ARRAY)      \
	SUBSCRIPTION_FIELDS_EXPIRY(FIELD, ARRAY) \
	SUBSCRIPTION_FIELDS_KIND(FIELD, ARRAY)   \
	SUBSCRIPTION_FIELDS_LIST(FIELD, ARRAY)   \
	SUBSCRIPTION_FIELDS_TEST(FIELD, ARRAY)   \
	SUBSCRIPTION_FIELDS_START(FIELD, ARRAY)  \
	SUBSCRIPTION_FIELDS_PLACE(FIELD, ARRAY)
#define SUBSCRIPTION_FIELDS_2(FIELD, ARRAY)      \
	SUBSCRIPTION_FIELDS_PLACE(FIELD, ARRAY)  \
	SUBSCRIPTION_FIELDS_TEST(FIELD, ARRAY)   \
	SUBSCRIPTION_FIELDS_LIST(FIELD, ARRAY)   \
	SUBSCRIPTION_FIELDS_EXPIRY(FIELD, ARRAY) \
	SUBSCRIPTION_FIELDS_START(FIELD, ARRAY)  \
	SUBSCRIPTION_FIELDS_KIND(FIELD, ARRAY)
#define SUBSCRIPTION_FIELDS(FIELD, ARRAY) \
	ARENA_JOIN(SUBSCRIPTION_FIELDS_, ARENA_TEST_LAYOUT)(FIELD, ARRAY)

struct subscription_record {
	SUBSCRIPTION_FIELDS(ARENA_DEFINE_FIELD, ARENA_DEFINE_ARRAY)
};

_Static_assert(sizeof(struct subscription_record) == 64, "a subscription is one small chunk");

/* Raw JSON; empty for NULL and for one without. */
struct slice subscription_info(const struct arena *arena,
			       const struct subscription_record *subscription);

/*
 * What a TLS connection has besides: its record layer and the ciphertext that
 * was read and can't be opened yet. Then `out` of the passport is ciphertext,
 * `in` and `messages` are plaintext. A record of its own in a 256-byte chunk,
 * without the head that other chunks have.
 */
#define PASSPORT_TLS_FIELDS_INPUT(FIELD, ARRAY) \
	FIELD(struct stream_queue, in, 5, QUEUE, "ciphertext read and not opened")

#define PASSPORT_TLS_FIELDS_STATE(FIELD, ARRAY) \
	FIELD(struct tls_state, state, 5, TLS, "keys and sequences")

#define PASSPORT_TLS_FIELDS_0(FIELD, ARRAY)     \
	PASSPORT_TLS_FIELDS_INPUT(FIELD, ARRAY) \
	PASSPORT_TLS_FIELDS_STATE(FIELD, ARRAY)
#define PASSPORT_TLS_FIELDS_1(FIELD, ARRAY)     \
	PASSPORT_TLS_FIELDS_STATE(FIELD, ARRAY) \
	PASSPORT_TLS_FIELDS_INPUT(FIELD, ARRAY)
#define PASSPORT_TLS_FIELDS_2(FIELD, ARRAY) PASSPORT_TLS_FIELDS_0(FIELD, ARRAY)
#define PASSPORT_TLS_FIELDS(FIELD, ARRAY) \
	ARENA_JOIN(PASSPORT_TLS_FIELDS_, ARENA_TEST_LAYOUT)(FIELD, ARRAY)

struct passport_tls {
	PASSPORT_TLS_FIELDS(ARENA_DEFINE_FIELD, ARENA_DEFINE_ARRAY)
};

_Static_assert(sizeof(struct passport_tls) == 256, "it fills a chunk");

/* NULL: not a TLS connection. */
static inline struct passport_tls *passport_tls(const struct arena *arena,
						const struct passport *passport)
{
	return passport->tls ? arena_at(arena, passport->tls) : NULL;
}

/* The queue that ends where the kernel's count of bytes read is. */
static inline const struct stream_queue *passport_read_queue(const struct arena *arena,
							     const struct passport *passport)
{
	const struct passport_tls *tls = passport_tls(arena, passport);

	return tls ? &tls->in : &passport->in;
}

/*
 * What is known of a client's certificate lies behind the record, which then has
 * a larger chunk. It never changes.
 */
enum passport_peer_text {
	PASSPORT_PEER_SUBJECT,
	PASSPORT_PEER_ISSUER,
	PASSPORT_PEER_COMMON_NAME,
	PASSPORT_PEER_SERIAL,
	PASSPORT_PEER_DNS_NAME,
	PASSPORT_PEER_EMAIL,
	PASSPORT_PEER_URI,
	PASSPORT_PEER_TEXTS
};

struct passport_peer {
	int64_t not_after;       /* Unix time in s */
	int32_t verify_result;   /* 0 = trusted */
	uint8_t fingerprint[32]; /* SHA-256 */
	uint16_t length[PASSPORT_PEER_TEXTS];
	uint16_t reserved[3];
	char data[]; /* the texts behind each other */
};

_Static_assert(offsetof(struct passport_peer, data) == sizeof(struct passport_peer), "no hole");

/* Appends the bytes of one, with everything but the texts from *head. */
void passport_peer_append(struct buffer *out, const struct passport_peer *head,
			  const struct slice texts[PASSPORT_PEER_TEXTS]);
/* NULL: there was no certificate. */
const struct passport_peer *passport_peer(const struct arena *arena,
					  const struct passport *passport);
struct slice passport_peer_text(const struct passport_peer *peer, enum passport_peer_text which);
/* Bytes it takes. */
size_t passport_peer_length(const struct passport_peer *peer);

/*
 * A copy of *fresh in a chunk that nobody reaches yet, with the bytes of its
 * peer's certificate ("" = none); 0 when the arena is full.
 */
arena_ref passport_tls_make(struct arena *arena, const struct passport_tls *fresh,
			    struct slice peer);
/* The other way round, only for what no committed word reaches. */
void passport_tls_free(struct arena *arena, arena_ref tls);
/* False: it is no chunk that can hold one, or its certificate does not fit into it. */
bool passport_tls_fits(const struct arena *arena, arena_ref tls);

/*
 * A new passport from *fresh, in which magic, version and generation are filled
 * in: nobody's until its last store. 0 when the arena is full.
 */
arena_ref passport_create(struct arena *arena, struct passport *fresh);

/* The next passport in use after `previous` (0 = start), 0 at the end. */
arena_ref passport_next(const struct arena *arena, arena_ref previous);

/* --- drafts --- */
#define PASSPORT_SCRAP_MAX 8
struct passport_draft {
	struct arena *arena;
	struct passport *live;
	struct passport now;  /* change this */
	arena_ref *allocated; /* owned; chunks to give back if the draft is dropped */
	size_t allocated_count, allocated_capacity;
	arena_ref *released; /* owned; chunks to free once the draft is committed */
	size_t released_count, released_capacity;
	struct arena_commit commit; /* add other words here */
	bool failed;                /* the arena was full: commit is refused */
	/* Of a TLS connection; see passport_draft_tls() and passport_draft_output(). */
	struct passport_tls *tls_live; /* NULL: not loaded */
	struct passport_tls tls;
	struct buffer output; /* owned; plaintext that waits to be sealed */
	/* Makes records of it at the commit; sets `failed` if it can't. The worker's. */
	void (*seal)(void *context, struct passport_draft *draft);
	void *seal_context;
	arena_ref cleanse; /* a passport_tls that is released: overwritten before it is free */
};

void passport_draft_init(struct passport_draft *draft, struct arena *arena);
void passport_draft_free(struct passport_draft *draft);
/* One draft at a time: begin, then commit or drop. */
void passport_draft_begin(struct passport_draft *draft, arena_ref passport);
/* Chunks that must vanish with the draft, or be freed after the commit. */
arena_ref passport_draft_chunk(struct passport_draft *draft, size_t payload);
/* A chunk allocated elsewhere belongs to the draft from now on. */
void passport_draft_own(struct passport_draft *draft, arena_ref chunk);
void passport_draft_release(struct passport_draft *draft, arena_ref chunk);
/* A TLS connection's half of the draft: change it like `now`. */
struct passport_tls *passport_draft_tls(struct passport_draft *draft);
/* Appends output for the peer; what a TLS connection sends is sealed when the draft is committed.
 */
void passport_draft_output(struct passport_draft *draft, const void *data, size_t length);
/* True: committed. False: the arena was full, nothing changed, everything given back. */
bool passport_draft_commit(struct passport_draft *draft);
void passport_draft_drop(struct passport_draft *draft);

/*
 * Without a draft: `length` bytes of the passport's output, at least one, are
 * written; *announced, the word that said so, becomes 0 in the same commit.
 */
void passport_commit_written(struct passport_draft *draft, arena_ref passport, uint64_t length,
			     void *announced);

/*
 * Frees a passport with its queues, identity and TLS keys (its subscriptions are gone
 * before); `forget`, if not NULL, is a word that becomes 0 in the same commit.
 */
void passport_destroy(struct passport_draft *draft, arena_ref passport, void *forget);

/* --- queues of a draft --- */
static inline uint64_t queue_end(const struct stream_queue *queue)
{
	return queue->end > queue->done ? queue->end : queue->done;
}

static inline uint64_t queue_length(const struct stream_queue *queue)
{
	return queue->end > queue->done ? queue->end - queue->done : 0;
}

/* Appends; sets draft->failed when the arena is full. */
void queue_append(struct passport_draft *draft, struct stream_queue *queue, const void *data,
		  size_t length);
/* Takes `length` bytes out of the front (at most what is in it). */
void queue_consume(struct passport_draft *draft, struct stream_queue *queue, uint64_t length);
/* The bytes at stream offset `offset`, as far as they lie in one piece; empty at the end. Works on
 * a live passport's queue as well. */
struct slice queue_peek(const struct arena *arena, const struct stream_queue *queue,
			uint64_t offset);
/* Copies [offset, offset + length) into a flat buffer. */
void queue_copy(const struct arena *arena, const struct stream_queue *queue, uint64_t offset,
		size_t length, void *out);
/* The 8-byte word at stream offset `offset` (a multiple of 8 from a chunk's start), for a commit.
 */
uint64_t *queue_word(const struct arena *arena, const struct stream_queue *queue, uint64_t offset);

/* Gives the bytes of a live queue as up to `max` pieces; returns how many. */
struct iovec;
int queue_pieces(const struct arena *arena, const struct stream_queue *queue, struct iovec *pieces,
		 int max);

#endif
