/* SPDX-License-Identifier: ISC */
/*
 * What the files of the worker room share: the worker itself and the calls
 * between its parts. Nothing outside src/worker includes this.
 */
#ifndef KEEPSOCK_WORKER_INTERNAL_H
#define KEEPSOCK_WORKER_INTERNAL_H

#include <event2/event.h>

#include "keepsock/arena.h"
#include "keepsock/buffer.h"
#include "keepsock/client_protocol.h"
#include "keepsock/http.h"
#include "keepsock/hub.h"
#include "keepsock/ipc_messages.h"
#include "keepsock/metrics.h"
#include "keepsock/node_page.h"
#include "keepsock/passport.h"
#include "keepsock/redis_command.h"
#include "keepsock/redis_keys.h"
#include "keepsock/settings.h"
#include "worker/connection.h"
#include "worker/loop_watch.h"
#include "worker/poller.h"
#include "worker/timer_wheel.h"
#include "worker/users.h"

struct deflate;
struct deposits;
struct fanout;
struct redis_shard;
struct sessions;
struct poller;
struct remains;
struct move_in;
struct move_out;
struct role_raise;
struct redis_subscription;
struct survey;
struct tls_accepting;
struct tls_link;
struct tls_ciphers;
struct tls_context;
struct token_verifier;
struct redis_publication;
struct connecting;
struct server_side_attempt;
struct subscribing;

/* What is served at once at most: a read, and what of the one before could not be. */
#define WORKER_INPUT_MAX   (ARENA_READ_SCRATCH + WEBSOCKET_REST_MAX)
#define WEBSOCKET_REST_MAX 1024u /* an unfinished header or control frame is shorter */

struct listener {
	struct event *event; /* owned */
	struct worker *worker;
	int fd; /* owned */
	uint16_t port;
	bool shared;             /* one socket of all workers, while the node is the primary */
	struct tls_context *tls; /* the worker's; NULL: it has no TLS */
	const struct settings_tls *tls_settings; /* of the worker's settings; NULL without */
	bool held;                               /* not watched: too many handshakes */
	uint32_t handshakes;                     /* under way */
	int64_t handshake_credit;                /* thousandths of a handshake that may begin */
	uint64_t credited_at;                    /* boottime ms */
};

struct worker {
	struct event_base *base;
	struct settings settings;
	struct ipc_start start;  /* node, slot, Redis endpoint, API key */
	const char *worker_name; /* "<node>.<slot>.<incarnation>"; lies in the arena */
	struct node_page *page;
	uint64_t restarts; /* how often this slot's worker was replaced */
	int page_fd;       /* owned, as the next: for a master that finds nobody else */
	int settings_fd;
	int tls_fd;                        /* the certificates in force, for the same master */
	uint64_t tls_generation;           /* of these */
	struct tls_context **tls_contexts; /* owned; one for each of settings.listeners, or NULL */
	char *tls_error; /* why newer ones are not in force; owned, NULL = there are none */
	int ipc_fd;      /* to the master; -1: it is dead, the next one comes by the keeper */
	struct event *ipc_event;
	struct deposits *deposits;  /* owned; what the keeper has of us */
	bool deposits_due;          /* some are to be sent before this turn's replies */
	struct listener *listeners; /* owned; room for SETTINGS_LISTENERS_MAX */
	size_t listener_count;
	struct event *accept_again; /* after running out of descriptors */
	bool accept_paused;
	struct poller *poller; /* client sockets */

	struct arena *arena;
	struct passport_draft draft;
	struct hub hub;
	struct users users;
	struct fanout *fanout;
	struct redis_shard *shards; /* owned */
	unsigned shard_count;
	struct survey *survey;
	uint64_t control_sequence; /* of the last question to all workers that was heard */
	uint32_t move_rounds;      /* of all moves, so that channels tell them apart */
	struct move_in *move_in;   /* owned; connections that come from another worker */
	struct move_out *move_out; /* owned; connections that go to another worker */
	struct sessions *sessions;
	struct remains *remains;                    /* owned; after an adoption, for a while */
	struct token_verifier *connection_tokens;   /* owned */
	struct token_verifier *subscription_tokens; /* owned, unless it is the same */

	struct timer_wheel wheel;
	struct event *tick;            /* TIMER_WHEEL_TICK_MS: wheel, loop lag, relief */
	struct event *turn;            /* end of a loop turn: scheduled connections, reaping */
	struct connection *turn_first; /* connections with work left */
	struct connection *closed;     /* to be freed at the turn's end */
	/* Connections served in this round of the poller whose answers go out at its end. */
	arena_ref unsent[POLLER_ROUND_MAX];
	unsigned unsent_count;
	bool in_round;
	uint64_t now_ms; /* CLOCK_BOOTTIME, taken at the start of each callback */
	uint64_t started_ms;
	struct loop_watch watch;

	struct event *drain; /* owned; the next step of sending clients away */
	struct {
		uint64_t look_at_ms; /* boottime of the next look at the epochs in Redis */
		unsigned looking;    /* ... answers due */
		struct role_raise *raises;
	} role;

	struct deflate *deflate;         /* owned; NULL: compression is off */
	struct buffer frame;             /* one frame or response being built */
	struct buffer payload;           /* its payload */
	struct buffer message;           /* a message or request copied flat */
	struct buffer decode;            /* decoded strings of the command being served */
	struct buffer body;              /* a decoded request body */
	struct buffer scratch;           /* short-lived text: keys, ids */
	struct buffer packed;            /* a payload compressed */
	struct buffer unpacked;          /* a message decompressed */
	size_t unpacked_kept;            /* bytes of decompressed messages kept by connections */
	uint8_t *unmasked;               /* WORKER_INPUT_MAX bytes; owned */
	uint8_t *opened;                 /* as many; plaintext of TLS records; owned */
	struct buffer sealed;            /* TLS records being made */
	uint64_t spare_looked_at;        /* boottime ms, of spare_memory_tick() */
	struct tls_ciphers *ciphers;     /* owned */
	struct tls_accepting *accepting; /* owned; TLS handshakes under way */
	uint64_t handshake_count;
	struct tls_link *handshakes_from; /* owned; of the worker that this one took over from */
	int handshakes_to;                /* owned; to the one that takes over; -1 = none */

	struct channel *lost_first; /* channels with subscribers to be told (lost_subscribers.c) */
	struct event *lost_event;   /* owned */

	/* A removal that client_unsubscribe_settle() has yet to follow up. */
	struct channel *removed_channel;
	bool removed_presence;
	struct subscribing *subscribing;      /* subscriptions in preparation */
	struct connecting *connecting;        /* connect commands that wait for Redis */
	struct server_side_attempt *attempts; /* owned; subscriptions to be tried again */
	uint32_t attempt_count;

	uint64_t position_check_at; /* boottime ms of the next walk over the channels */
	double presence_credit;
	arena_ref presence_cursor; /* where the presence refresh goes on */
	uint64_t connection_max;   /* descriptors for clients */
	uint64_t connection_count;
	uint64_t turned_away; /* of them, those over the limit */
	uint64_t turned_away_max;
	uint64_t takeover; /* number of the one that this worker began with; 0 = none */
	uint64_t freeze;   /* of the one for which it is to freeze; 0 = none */
	bool frozen;
	bool stopping;
	bool ready; /* the master is told, and told again when it is another one */
	uint64_t stop_deadline;
	enum {
		FAREWELL_NONE,
		FAREWELL_SENT,
		FAREWELL_DONE
	} farewell; /* taking ourselves out of Redis */
	int exit_status;
};

static inline struct passport *connection_passport(const struct connection *c)
{
	return arena_at(c->worker->arena, c->passport);
}

/* Something a connection waits for. Freed by whoever answers; connection is NULL once it closed. */
struct pending {
	struct worker *worker;
	struct connection *connection;
};

/* Of the namespace that the channel's name says; NULL when it is unknown. */
static inline const struct channel_options *worker_channel_options(const struct worker *w,
								   struct slice channel)
{
	return settings_channel_options(&w->settings, channel);
}

/* Of a channel with subscribers: never NULL, even if its namespace is not configured any more. */
static inline const struct channel_options *worker_options_of(const struct worker *w,
							      const struct channel *channel)
{
	const struct channel_options *options =
		worker_channel_options(w, hub_name(&w->hub, channel));

	return options ? options : &w->settings.channel;
}

void worker_now(struct worker *w);
/* Does what the callbacks of this loop turn left for its end. */
void worker_end_turn(struct worker *w);
/* Counts in the slot from now on; its gauges begin anew. */
void worker_claim_slot(struct worker *w);
/* It is another's: what this process dies of is no concern of it any more. */
void worker_disown_arena(void);
/* While a takeover is under way nobody new is let in. */
void worker_pause_accepting(struct worker *w, bool pause);
/* Accepts from it from now on; takes fd over. */
void worker_listener_open(struct worker *w, int fd, bool shared);
void worker_listener_close(struct listener *listener);
/* Ends the loop once the last connection is gone. */
void worker_stop_check(struct worker *w);

/* The connection's affinity for the command pool. */
uint64_t connection_affinity(const struct passport *passport);
/* Its id as text; the result lies in `out`. */
struct slice connection_id(const struct passport *passport, char out[37]);

/* --- control.c: the master's requests --- */
void control_open(struct worker *w);
void control_close(struct worker *w);
/* A master goes on for a dead one; takes over the channel to it. */
void control_attach(struct worker *w, int fd);
/* Tells the master that clients may come. */
void control_ready(struct worker *w);

/* --- http_session.c --- */
void http_session_process(struct connection *c);
/* Answers the request under way and consumes it; goes on with the next one in this loop turn. */
void http_session_respond(struct connection *c, int status, const char *content_type,
			  struct slice body, const char *extra_headers);

/* Whatever it has sent or not, that is the answer, and the connection ends with it. */
void http_session_refuse(struct connection *c, int status);
/* The request under way is answered 500, and the connection ends with it. */
void http_session_fail(struct connection *c);

/* --- websocket_session.c --- */
/* Serves `length` bytes of input, the first `kept` of which are in the input queue too, in the
 * draft that is open, and commits it. The input is in the read scratch or the buffer for plaintext.
 */
void websocket_session_process(struct connection *c, const uint8_t *input, size_t kept,
			       size_t length);

/* --- client_session.c --- */
/* The first waiting message's commands, one at a time, as long as none waits for Redis. */
void client_session_pump(struct connection *c);
/* A reply for the command under way: consumes the command in the draft that is open and commits.
 * False if the connection is gone. */
bool client_session_finish(struct connection *c);
/* In the work slot: whom to blame for what follows, until the next commit that clears it. */
void client_session_announce(struct connection *c);
/* After the finish of a command that waited: the next commands, then what is to be written. */
void client_session_continue(struct connection *c);
const struct message_codec *client_session_codec(const struct passport *passport);
void client_session_append_reply(struct connection *c, const struct client_reply *reply);
void client_session_append_error(struct connection *c, const struct client_command *command,
				 uint32_t code);
void client_session_append_push(struct connection *c, const struct client_push *push);
/* Gives back what is kept of the message under way. */
void client_session_forget_message(struct connection *c);
/* Another worker has it now: what is known of it here is forgotten, but not what Redis knows. */
void client_session_leave(struct connection *c);
/* Called when the connection closes: subscriptions, presence, remembered commands. */
void client_session_end(struct connection *c);
void client_session_ping(struct connection *c);

/* --- client_commands.c --- */
enum command_outcome {
	COMMAND_DONE,    /* the draft holds the reply */
	COMMAND_WAITS,   /* c->pending is set, the draft is to be dropped */
	COMMAND_REFUSED, /* close_code is set: disconnect */
};
enum command_outcome client_command_execute(struct connection *c,
					    const struct client_command *command,
					    uint16_t *close_code);

/* For the callbacks of Redis calls. Answered: the connection, with a draft open, or NULL if it is
 * gone. Resume: commits the reply in the draft and goes on with the next command; frees `pending`.
 */
struct connection *client_command_answered(struct pending *pending);
void client_command_resume(struct connection *c, struct pending *pending);
/* As the protocol layer wants them; the result is the caller's to free. */
struct publication *client_publications(const struct redis_publication *from, size_t count);

/* --- client_unsubscribe.c --- */
enum command_outcome client_unsubscribe(struct connection *c, const struct client_command *command);
/* After the commit of a subscription's removal: its channel may be empty now, its presence is void.
 */
void client_unsubscribe_settle(struct connection *c);
/* All of the connection's subscriptions, without a word to it. */
void client_unsubscribe_all(struct connection *c);
/* The same of a connection that another worker has now: they go on there. */
void client_unsubscribe_moved(struct connection *c);
/* Takes a subscription away and tells the client so. */
void client_unsubscribe_push(struct connection *c, arena_ref subscription, uint32_t code);

/* --- http_routes.c, http_api.c, http_files.c --- */
void http_route(struct connection *c, const struct http_request *request, struct slice body);
void http_api(struct connection *c, const struct http_request *request, struct slice path,
	      struct slice body);
/* 503: the node's role, or a drain, is in the way. */
void http_refuse_for_role(struct connection *c, const char *reason);
bool http_files_serve(struct connection *c, const struct http_request *request);
/* NULL: could take clients, as far as its role goes; otherwise the reason why not. */
const char *worker_unhealthy_reason(const struct worker *w);
/* In the metrics: whether this worker may take clients. */
void worker_update_readiness(struct worker *w);

#endif
