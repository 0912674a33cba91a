/* SPDX-License-Identifier: ISC */
/*
 * The roles of a node as its supervisor sees them, and every way from one to
 * another: one static table, a reason for each row. Pure: it knows no clock and
 * no socket; the supervisor turns what it sees into events and does what the row
 * says.
 *
 *             ┌──────────── MAINTENANCE_OFF ───────────── MAINTENANCE
 *             ▼                                              ▲
 *         STARTING ── NODE_GOOD ──► STANDBY ── MAINTENANCE_ON ┤
 *          │    │                   ▲ │  ▲ │                 │
 *          │    └─ NODE_BAD ──► FAULT ┘  │ └── NODE_BAD ──► FAULT
 *       RESUMED               NODE_GOOD  │
 *          │                          ELECTED
 *          │        ┌────────────────────┘
 *          ▼        ▼
 *          PROMOTING ── PROMOTED ──► PRIMARY
 *              │                       │
 *              └──────► DEMOTING ◄─────┘   anything that goes wrong, or is asked for
 *                          │
 *                       DEMOTED ──► STANDBY
 *
 * Only PROMOTING, PRIMARY and DEMOTING may hold the lease and the address.
 * DEMOTING ends in STANDBY alone, which whatever was wrong then leaves at once.
 */
#ifndef KEEPSOCK_SUPERVISOR_HA_STATE_H
#define KEEPSOCK_SUPERVISOR_HA_STATE_H

#include <stddef.h>

/* X(symbol, name) */
#define HA_STATES(X)                                                      \
	X(STARTING, "starting")   /* nothing is known of the node yet */  \
	X(STANDBY, "standby")     /* healthy, and not the primary */      \
	X(PROMOTING, "promoting") /* has the lease, is not serving yet */ \
	X(PRIMARY, "primary")                                             \
	X(DEMOTING, "demoting") /* gives up address, node and lease */    \
	X(FAULT, "fault")       /* the node is unhealthy */               \
	X(MAINTENANCE, "maintenance")

/* X(symbol, name) */
#define HA_EVENTS(X)                                                                         \
	X(NODE_GOOD, "node good")   /* the node runs and all its checks are good */          \
	X(NODE_BAD, "node bad")     /* beyond its budget, or a check has fallen */           \
	X(RESUMED, "resumed")       /* the lease of the supervisor before us is ours */      \
	X(ELECTED, "elected")       /* we have acquired the lease */                         \
	X(PROMOTED, "promoted")     /* node and address have followed */                     \
	X(REFUSED, "refused")       /* ... or not in time */                                 \
	X(LEASE_LOST, "lease lost") /* neither Redis nor the peers give it to us any more */ \
	X(VIP_LOST, "vip lost")     /* somebody or the kernel took the address */            \
	X(OUTVOTED, "outvoted")     /* a peer is primary with a higher epoch */              \
	X(DEMOTE, "demote")         /* an operator, or a peer that is to be primary */       \
	X(STOP, "stop")             /* we are told to end */                                 \
	X(DEMOTED, "demoted")       /* nothing of the role is left */                        \
	X(MAINTENANCE_ON, "maintenance on")                                                  \
	X(MAINTENANCE_OFF, "maintenance off")

/* What a transition makes the supervisor do, beyond being in the new state. X(symbol, name) */
#define HA_ACTIONS(X)                                                                \
	X(NOTHING, "nothing")                                                        \
	X(PROMOTE, "promote")     /* fence, address, node */                         \
	X(HAND_OVER, "hand over") /* node first, while lease and address are kept */ \
	X(STEP_DOWN, "step down") /* address and lease at once; the node when it can */

enum ha_state {
#define X(symbol, name) HA_##symbol,
	HA_STATES(X)
#undef X
		HA_STATE_COUNT
};

enum ha_event {
#define X(symbol, name) HA_ON_##symbol,
	HA_EVENTS(X)
#undef X
		HA_EVENT_COUNT
};

enum ha_action {
#define X(symbol, name) HA_DO_##symbol,
	HA_ACTIONS(X)
#undef X
		HA_ACTION_COUNT
};

struct ha_transition {
	enum ha_state from;
	enum ha_event event;
	enum ha_state to;
	enum ha_action action;
	const char *reason;
};

extern const struct ha_transition ha_transitions[];
extern const size_t ha_transition_count;

/* NULL: the event means nothing in that state. */
const struct ha_transition *ha_find_transition(enum ha_state from, enum ha_event event);

const char *ha_state_name(enum ha_state state);
const char *ha_event_name(enum ha_event event);
const char *ha_action_name(enum ha_action action);

/* The state of that name; -1 when there is none. */
int ha_state_parse(const char *name);

#endif
