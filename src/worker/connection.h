/* SPDX-License-Identifier: ISC */
/*
 * Connections: sockets, the read phase, the write phase and closing. Phases do
 * not nest (DESIGN §3 rule 2): read and parse, then append output, then write.
 */
#ifndef KEEPSOCK_WORKER_CONNECTION_H
#define KEEPSOCK_WORKER_CONNECTION_H

#include <netinet/in.h>
#include <sys/types.h>

#include "keepsock/passport.h"
#include "worker/timer_wheel.h"

struct worker;
struct pending;
struct unpacked_message;
struct subscribing;

/* The heap half of a connection: only what can be rebuilt. Thousands are idle: every word counts.
 */
struct connection {
	union {
		struct timer_entry timer;       /* open: at the earliest of the passport's times */
		struct connection *next_closed; /* closed: in the list of those to be freed */
	};
	struct worker *worker;
	struct pending *pending; /* a command or request that waits for Redis; owned by its call */
	struct connection *next_turn; /* list of connections with work left for this loop turn */
	union {
		struct subscribing *subscribing; /* subscriptions in preparation, not ready yet */
		char *http_cors; /* state HTTP: headers for the answer under way; owned */
	};
	uint64_t remembered; /* bit i: shard i remembers a command of this client */
	union {
		uint64_t http_length; /* bytes of the request under way */
		struct {
			uint32_t message_length; /* payload of the message under way */
			uint32_t failed_at;      /* boottime ms modulo 2^32: the last error 100 */
		};
	};
	/* That message decompressed, kept while its commands wait; owned, NULL: not kept. */
	struct unpacked_message *unpacked;
	arena_ref passport;
	arena_ref user_next, user_previous; /* passports of the user's others, 0 = none */
	int fd;                             /* owned; -1 = closed */
	uint32_t sub_expires_at; /* wall s: no subscription expires before, 0 = none does */
	short watched;           /* what the poller watches it for */
	bool paused : 1;         /* not reading: too much input waits */
	bool writing : 1;        /* waits for the socket to take more output */
	bool over_limit : 1;     /* came beyond what the worker can hold: is told so, and closed */
	bool admitted : 1;       /* counted as a client connection */
	bool deposited : 1;      /* the keeper has a duplicate of its socket */
	bool in_turn : 1;
	bool announced : 1; /* all workers heard of it, where a user may have one connection */
	bool http_keep_alive : 1;
	bool http_head_only : 1; /* a HEAD request: no body in the response */
	bool last_command : 1;   /* the command under way is its message's last */
	bool session_due : 1;    /* its entry in the registry is to be written */
	bool leaving : 1;        /* to another worker: begins nothing new here */
	bool session_known : 1;  /* it has one there, or will have */
	bool tls : 1;            /* its passport has a record layer */
	bool indexed : 1;        /* in the index of users */
};

/* Those of a page of passports fill whole pages of memory. */
_Static_assert(sizeof(struct connection) <= 96, "every word counts");

/* A socket from accept(): passport, deposit, timers. Takes the fd over in any case. */
void connection_accept(struct worker *w, int fd, const struct sockaddr_storage *peer,
		       uint16_t local_port);

/*
 * The same once a TLS handshake is over, with its record layer and the bytes of
 * its peer's certificate; `sent` bytes of the stream were written. NULL: it came
 * to no passport and is closed.
 */
struct connection *connection_accept_tls(struct worker *w, int fd,
					 const struct sockaddr_storage *peer, uint16_t local_port,
					 const struct passport_tls *tls, struct slice certificate,
					 uint64_t sent);

/*
 * A predecessor's passport gets its heap half, and its socket (taken over; -1:
 * it has none). Nothing happens to it yet; then it is adopted or buried.
 */
struct connection *connection_attach(struct worker *w, arena_ref passport, int fd);
/* Serves it from now on, beginning with what waits in its passport. */
void connection_adopt(struct connection *c);
/* Without a socket there is nobody to serve: cleans up behind it, its passport goes. */
void connection_bury(struct connection *c);

/*
 * On offer to another worker: not watched, no timer, in no index. Its socket is the
 * caller's until it comes back (connection_return()) or is gone: then its passport
 * goes with connection_reap(), and its peer notices nothing.
 */
int connection_lend(struct connection *c);
void connection_return(struct connection *c, int fd);
void connection_gone(struct connection *c);
/* The same of one that was not counted here yet: of a predecessor's, or one that did not arrive. */
void connection_forget(struct connection *c, bool of_predecessor);
/* From another worker, with a passport of its own by now. */
struct connection *connection_arrive(struct worker *w, arena_ref passport, int fd);

/* A poller_callback: the socket is ready. */
void connection_ready(void *worker, arena_ref passport, short what);
/* A poller_round_end: writes what waited for it. */
void connection_round_end(void *worker);

struct connection *connection_at(struct worker *w, arena_ref passport);
/* For a reference from earlier, which may have been given up. NULL: its page is free or holds
 * something else by now. Else it is whoever has that slot now, if anybody (its magic says). */
struct connection *connection_maybe_at(struct worker *w, arena_ref passport);
/* The peer's address and port as text, in `out`. */
#define CONNECTION_PEER_TEXT 64
const char *connection_peer(const struct passport *passport, char out[CONNECTION_PEER_TEXT]);
/* Counts it as a client connection; false: a limit is reached, the answer is 503. */
bool connection_admit(struct connection *c);
/* The open connection with this client id, NULL if there is none here. */
struct connection *connection_find(struct worker *w, const struct passport_id *id);

/*
 * The work slot says whom to blame from now on (DESIGN §3 rule 8), until a commit
 * clears `serving`. The item is the number of a command or request, or where its
 * input stands.
 */
void connection_announce(struct connection *c, uint64_t item);
#define CONNECTION_INPUT(offset) ((uint64_t)1 << 63 | (offset))

/* Begins a draft of its passport. */
struct passport_draft *connection_draft(struct connection *c);
/* Commits it; false: the arena is full and the connection is closed. */
bool connection_commit(struct connection *c);

/* Writes what is committed, as far as the socket takes it. */
void connection_flush(struct connection *c);
/* The same for short answers that may wait for the end of the poller's round. */
void connection_flush_soon(struct connection *c);
/* Appends a WebSocket frame to the draft's output, compressed where that was agreed and pays. */
void connection_append_frame(struct connection *c, unsigned opcode, struct slice payload);
/* Committed output beyond client.queue_max_size: disconnects with 3008. */
bool connection_check_queue(struct connection *c);

/* WebSocket: queues a close frame and waits for the peer's; nothing else is served any more. */
void connection_disconnect(struct connection *c, uint16_t code, const char *reason);
/* The same, but what it has sent is not even looked at: it ends once the close frame is written. */
void connection_fail(struct connection *c, uint16_t code, const char *reason);
/* In an open draft: nothing more is read; what is queued is written, then the peer may close. */
void connection_drain(struct connection *c);
/* Closes the socket at once and gives everything back; `why` is for the log. */
void connection_close(struct connection *c, const char *why);

/*
 * Waits for what it can use: input unless it is paused, room for output if it lacks.
 * False: the kernel has no room for another one, and it is about to end.
 */
bool connection_watch(struct connection *c);
/* The times in the passport changed: arms the timer anew. */
void connection_arm(struct connection *c);
/* Reading stops while too much input waits. */
void connection_set_paused(struct connection *c, bool paused);
/* read() returned `got`, which is 0 or less. */
void connection_on_end(struct connection *c, ssize_t got);
/* The peer has said all it had, in a way that TCP does not know of. */
void connection_end_of_input(struct connection *c);
/* A WebSocket's input queue holds bytes that came with the upgrade request: serves them. */
void connection_process_input(struct connection *c);
/* Lets it work on what waits in its passport once more, in this loop turn. */
void connection_schedule(struct connection *c);
/* Its turn has come. */
void connection_resume(struct connection *c);

/* Periodic: closes the longest queues when the arena is nearly full. */
void connection_relieve_arena(struct worker *w);
/* Frees what was closed in this loop turn. */
void connection_reap(struct worker *w);

#endif
