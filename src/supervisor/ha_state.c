/* SPDX-License-Identifier: ISC */
/*
 * The table of the states, see ha_state.h. Runs in the supervisor; it decides
 * nothing and calls nobody.
 */
#include "supervisor/ha_state.h"

#include <string.h>

#define ROW(from, event, to, action, reason)                                 \
	{                                                                    \
		HA_##from, HA_ON_##event, HA_##to, HA_DO_##action, (reason), \
	}

/* clang-format off */
const struct ha_transition ha_transitions[] = {
	ROW(STARTING,    NODE_GOOD,       STANDBY,     NOTHING,   "the node is healthy"),
	ROW(STARTING,    RESUMED,         PROMOTING,   PROMOTE,   "the lease of the supervisor before is still ours"),
	ROW(STARTING,    NODE_BAD,        FAULT,       NOTHING,   "the node did not become healthy"),
	ROW(STARTING,    MAINTENANCE_ON,  MAINTENANCE, NOTHING,   "asked for by an operator"),

	ROW(STANDBY,     ELECTED,         PROMOTING,   PROMOTE,   "the lease was free and no peer vouched for a primary"),
	ROW(STANDBY,     NODE_BAD,        FAULT,       NOTHING,   "the node is not healthy any more"),
	ROW(STANDBY,     MAINTENANCE_ON,  MAINTENANCE, NOTHING,   "asked for by an operator"),

	ROW(PROMOTING,   PROMOTED,        PRIMARY,     NOTHING,   "node and address have followed"),
	ROW(PROMOTING,   REFUSED,         DEMOTING,    STEP_DOWN, "node or address did not follow"),
	ROW(PROMOTING,   NODE_BAD,        DEMOTING,    STEP_DOWN, "the node failed while it was promoted"),
	ROW(PROMOTING,   LEASE_LOST,      DEMOTING,    STEP_DOWN, "the lease was lost during the promotion"),
	ROW(PROMOTING,   VIP_LOST,        DEMOTING,    STEP_DOWN, "the address was lost during the promotion"),
	ROW(PROMOTING,   OUTVOTED,        DEMOTING,    STEP_DOWN, "a peer is primary with a higher epoch"),
	ROW(PROMOTING,   DEMOTE,          DEMOTING,    STEP_DOWN, "asked to hand over during the promotion"),
	ROW(PROMOTING,   STOP,            DEMOTING,    STEP_DOWN, "the supervisor is told to end"),
	ROW(PROMOTING,   MAINTENANCE_ON,  DEMOTING,    STEP_DOWN, "maintenance asked for by an operator"),

	ROW(PRIMARY,     NODE_BAD,        DEMOTING,    STEP_DOWN, "the node is not healthy any more"),
	ROW(PRIMARY,     LEASE_LOST,      DEMOTING,    STEP_DOWN, "neither Redis nor the peers renewed the lease in time"),
	ROW(PRIMARY,     VIP_LOST,        DEMOTING,    STEP_DOWN, "the address is gone"),
	ROW(PRIMARY,     OUTVOTED,        DEMOTING,    STEP_DOWN, "a peer is primary with a higher epoch"),
	ROW(PRIMARY,     DEMOTE,          DEMOTING,    HAND_OVER, "asked to hand over"),
	ROW(PRIMARY,     STOP,            DEMOTING,    HAND_OVER, "the supervisor is told to end"),
	ROW(PRIMARY,     MAINTENANCE_ON,  DEMOTING,    HAND_OVER, "maintenance asked for by an operator"),

	ROW(DEMOTING,    DEMOTED,         STANDBY,     NOTHING,   "address, node and lease are given up"),

	ROW(FAULT,       NODE_GOOD,       STANDBY,     NOTHING,   "the node is healthy again"),
	ROW(FAULT,       MAINTENANCE_ON,  MAINTENANCE, NOTHING,   "asked for by an operator"),

	ROW(MAINTENANCE, MAINTENANCE_OFF, STARTING,    NOTHING,   "maintenance ended by an operator"),
};
/* clang-format on */

const size_t ha_transition_count = sizeof(ha_transitions) / sizeof(ha_transitions[0]);

const struct ha_transition *ha_find_transition(enum ha_state from, enum ha_event event)
{
	for (size_t i = 0; i < ha_transition_count; i++) {
		if (ha_transitions[i].from == from && ha_transitions[i].event == event)
			return &ha_transitions[i];
	}
	return NULL;
}

#define X(symbol, name) name,
static const char *const state_names[] = {HA_STATES(X)};
static const char *const event_names[] = {HA_EVENTS(X)};
static const char *const action_names[] = {HA_ACTIONS(X)};
#undef X

const char *ha_state_name(enum ha_state state)
{
	return state_names[state];
}

const char *ha_event_name(enum ha_event event)
{
	return event_names[event];
}

const char *ha_action_name(enum ha_action action)
{
	return action_names[action];
}

int ha_state_parse(const char *name)
{
	for (int i = 0; i < HA_STATE_COUNT; i++) {
		if (strcmp(state_names[i], name) == 0)
			return i;
	}
	return -1;
}
