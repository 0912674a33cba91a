/* SPDX-License-Identifier: ISC */
/*
 * The supervisor's one object and what its parts call each other for:
 * supervisor.c is its life, decide.c turns what is seen into events and events
 * into states, role.c carries a change of role out, word.c speaks with the peers,
 * commands.c with the operator, story.c tells what happened.
 *
 * One process, one loop, no call that blocks but for writing a small file when
 * the role changes.
 */
#ifndef KEEPSOCK_SUPERVISOR_SUPERVISOR_H
#define KEEPSOCK_SUPERVISOR_SUPERVISOR_H

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

#include "keepsock/settings.h"
#include "supervisor/addresses.h"
#include "supervisor/checks.h"
#include "supervisor/crowd.h"
#include "supervisor/ha_state.h"
#include "supervisor/lease.h"
#include "supervisor/node_admin.h"
#include "supervisor/node_watch.h"
#include "supervisor/notify.h"
#include "supervisor/peers.h"
#include "supervisor/program.h"
#include "supervisor/supervisor_metrics.h"

struct admin;
struct admin_request;
struct buffer;
struct metrics_server;

#define SUPERVISOR_MAGIC    UINT32_C(0x52505553) /* "SUPR" */
#define SUPERVISOR_SIGNALS  2
#define SUPERVISOR_TEXT_MAX 240
#define STORY_KEPT          128u
#define WAITERS_MAX         16
#define QUESTIONS_KEPT      16u

/* Where a promotion or demotion is. */
enum role_step {
	ROLE_IDLE,
	ROLE_FENCE,   /* promoting: the fence program runs */
	ROLE_ADDRESS, /* promoting: the addresses are being taken */
	ROLE_NODE,    /* promoting, handing over: the node has been told */
	ROLE_QUIT,    /* stepping down: all is given up but the node's word is missing */
	ROLE_DONE,
	ROLE_FAILED,
};

/* What a node has been told since it came up. */
enum node_role { NODE_ROLE_UNKNOWN, NODE_ROLE_STANDBY, NODE_ROLE_PRIMARY };

/* One change of state, or another event worth telling. */
struct story_entry {
	uint64_t number; /* from 1; 0 = none */
	uint64_t at_ms;  /* wall clock */
	enum ha_state from, to;
	uint64_t epoch;
	char reason[SUPERVISOR_TEXT_MAX];
};

enum waiter_kind {
	WAITER_NONE,
	WAITER_PROMOTE,
	WAITER_SUCCESSOR, /* to be demoted as soon as another node can follow */
	WAITER_DEMOTE,
	WAITER_MAINTENANCE,
	WAITER_MONITOR,
	WAITER_EVENTS, /* Redis owes the answer */
};

/* A request of the admin socket without its answer, or with one that goes on. */
struct waiter {
	struct supervisor *supervisor;
	enum waiter_kind kind;
	struct admin_request *request;
	uint64_t deadline_ms;
};

struct supervisor {
	uint32_t magic;
	const char *config_name;
	struct settings settings;
	struct settings_timing timing;
	struct event_base *base; /* owned, as all objects below */
	struct event *signals[SUPERVISOR_SIGNALS];
	struct event *tick;
	struct event *beat;
	struct lease *lease;
	struct peers *peers;
	struct node_watch *node;
	struct checks *checks;
	struct notify *notify;
	struct addresses *addresses;
	struct admin *admin;
	struct metrics_server *metrics_server; /* NULL = none is wanted */
	int lock_fd;
	int exit_status;
	uint64_t metrics[SUPERVISOR_METRIC_COUNT];

	/* The state. */
	enum ha_state state;
	uint64_t promoting_since_ms;
	uint64_t state_since_ms; /* boottime, as all times here unless said otherwise */
	char state_reason[SUPERVISOR_TEXT_MAX];
	uint64_t epoch;       /* of the role we have or had last, 0 = never */
	uint64_t known_epoch; /* the highest anybody has told, and what the file holds */
	bool deciding, decide_again;

	/* What keeps us from acquiring the lease. */
	uint64_t started_ms;
	uint64_t last_tick_ms;
	uint64_t tilt_until_ms;
	uint64_t not_before_ms;     /* after a demotion, or a promotion that failed */
	unsigned failed_promotions; /* in a row */
	uint64_t promise_until_ms;  /* a peer lease that we granted */
	uint64_t free_since_ms;     /* since when it could be acquired; 0: it can't */
	uint64_t jitter_ms;
	uint64_t redis_since_ms; /* since when Redis answers without a gap; 0: it does not */
	char hindrance[SUPERVISOR_TEXT_MAX]; /* for status: why we don't try, "" = we do */
	char last_holder[PEER_NAME_MAX + 1]; /* the node that held the lease last, but ours */
	uint64_t handed_over_ms;             /* when a peer named us its heir; 0: none did since */

	/* The peer lease that we have. */
	uint64_t question;                         /* the number of the last one */
	uint64_t question_sent_ms[QUESTIONS_KEPT]; /* of question % QUESTIONS_KEPT */
	uint64_t granted_until_ms[PEERS_MAX];      /* by each peer */

	/* What is wanted. */
	bool maintenance;
	bool stopping;
	bool ending; /* ... and nothing of a role is left */
	bool demote_asked;
	bool claim; /* an operator wants us to be the primary */
	uint64_t claim_until_ms;
	char heir[PEER_NAME_MAX + 1]; /* to whom we hand over, "" = to anybody */
	uint64_t heir_until_ms;

	/* The change of role under way. */
	enum role_step step;
	bool handing_over;
	bool address_given_up;
	uint64_t address_until_ms; /* what the addresses were renewed to */
	uint64_t step_deadline_ms;
	struct node_call *role_call;
	struct program *fence;
	char role_error[SUPERVISOR_TEXT_MAX];
	uint64_t node_since_ms; /* since when it is up or down, as of the last look */
	enum node_role node_role;
	uint64_t node_role_retry_ms;
	unsigned node_refusals; /* in a row, outside of a change of role */
	bool node_fenced;       /* while stepping down: it did not obey, and is ended */
	/* After a node that was lost (inherit.h). */
	char inherited[PEER_NAME_MAX + 1]; /* "" = there is none */
	uint64_t inherited_ms;
	struct node_call *purge_call;
	unsigned purge_attempts; /* left */
	uint64_t purge_retry_ms;
	struct crowd *crowd;

	char *resume; /* the lease of our predecessor; NULL = none, or not any more */

	struct story_entry story[STORY_KEPT];
	uint64_t story_count;
	struct waiter waiters[WAITERS_MAX];
};

static inline bool ha_may_hold(enum ha_state state)
{
	return state == HA_PROMOTING || state == HA_PRIMARY || state == HA_DEMOTING;
}

static inline void supervisor_count(struct supervisor *s, enum supervisor_metric metric)
{
	s->metrics[metric]++;
}

/* supervisor.c */
struct supervisor_options {
	const char *config_name;
	struct settings settings; /* becomes the supervisor's */
};
/* Runs until it is told to end; the exit status. */
int supervisor_run(struct supervisor_options *options);
/* The files that its settings name can be used; 0, or -1 with error. */
int supervisor_check_files(const struct settings *settings, struct buffer *error);
/* Nothing of a role is left, and we are told to end. */
void supervisor_end(struct supervisor *s);
/* Held up for too long, all we know is from before: nothing is begun or judged for a while. */
void supervisor_note_time(struct supervisor *s, uint64_t now);

/* decide.c: looks at everything and does what follows; from anywhere, at any time. */
void supervisor_decide(struct supervisor *s);
/* Until when the lease, by Redis or the peers, lets us be the primary; 0: it does not. */
uint64_t supervisor_hold_until(const struct supervisor *s);
/* The one that our epoch may not be below. Remembers it on the disk if it is new. */
bool supervisor_learn_epoch(struct supervisor *s, uint64_t epoch);
/* Its workers don't all serve yet, which is no failure so soon after its start. */
bool supervisor_node_is_starting(const struct supervisor *s, uint64_t now);
/* Redis answers and has done so long enough for the node to have found it too. */
bool supervisor_redis_is_there(void *ctx);

/* role.c */
void role_begin(struct supervisor *s, enum ha_action action);
void role_progress(struct supervisor *s, uint64_t now);
void role_on_node_up(struct supervisor *s);
void role_free(struct supervisor *s);

/* word.c */
extern const struct peers_callbacks word_callbacks;
void word_send(struct supervisor *s);
/* What we would say now. */
struct peer_beat word_of(const struct supervisor *s, uint64_t now);
/* A fresh word of a peer that has the role; NULL: nobody vouches. */
const char *word_voucher(const struct supervisor *s, uint64_t now);
/* A peer is primary with an epoch above ours; its name, or NULL. */
const char *word_outvoted(const struct supervisor *s, uint64_t now);
/* Somebody else is to have the lease next; its name, or NULL. */
const char *word_other_heir(const struct supervisor *s, uint64_t now);
/* How many healthy standbys go before us. */
unsigned word_rank(const struct supervisor *s, uint64_t now);
/* The healthy standby that is to follow us; its name, or NULL. */
const char *word_successor(const struct supervisor *s, uint64_t now);
/* There may be one soon: not all of them are in maintenance. */
bool word_may_have_successor(const struct supervisor *s);
/* Appends why none of the peers is it, "b is in fault, c is not connected". */
void word_explain_successor(const struct supervisor *s, uint64_t now, struct buffer *out);

/* story.c */
void story_tell(struct supervisor *s, enum ha_state from, enum ha_state to, const char *reason);

/* commands.c */
struct admin *commands_open(struct supervisor *s, struct buffer *error);
/* Answers those whose outcome is known now. */
void commands_look(struct supervisor *s, uint64_t now);
void commands_monitor(struct supervisor *s, const struct story_entry *entry);

#endif
