/* SPDX-License-Identifier: ISC */
/*
 * What a supervisor counts, for its `show metrics` and /metrics. One row each:
 * name, kind, help, as Prometheus has them; the prefix keepsock_supervisor_ is not
 * written here.
 */
#ifndef KEEPSOCK_SUPERVISOR_METRICS_H
#define KEEPSOCK_SUPERVISOR_METRICS_H

#include <stdint.h>

/* X(name, kind, help) */
#define SUPERVISOR_METRICS(X)                                                                    \
	X(state, GAUGE, "The state, numbered from 0 in the order of the manual page.")           \
	X(primary, GAUGE, "1 while this node is the primary.")                                   \
	X(epoch, GAUGE, "The epoch of the role this node has or had last.")                      \
	X(lease_left_milliseconds, GAUGE, "How long the lease lets this node be the primary.")   \
	X(peers_connected, GAUGE, "Peers that are connected.")                                   \
	X(checks_bad, GAUGE, "Checks that are bad, of those that are judged.")                   \
	X(notify_waiting, GAUGE, "Changes that the notify program has yet to hear of.")          \
	X(requests_waiting, GAUGE, "Requests of the admin socket without their whole answer.")   \
	X(redis_connected, GAUGE, "1 while Redis answers the supervisor.")                       \
	X(node_up, GAUGE, "1 while the node's master runs.")                                     \
	X(transitions_total, COUNTER, "Changes of state.")                                       \
	X(promotions_total, COUNTER, "Times this node became the primary.")                      \
	X(failovers_total, COUNTER,                                                              \
	  "Promotions after a primary that was lost, not one that handed over.")                 \
	X(promotion_milliseconds, GAUGE,                                                         \
	  "How long the last promotion took, from the lease to the role.")                       \
	X(nodes_killed_total, COUNTER,                                                           \
	  "Times all of the node's processes were killed, as it did not obey or had no master.") \
	X(clients_woken_total, COUNTER,                                                          \
	  "Clients of a lost host that were sent a packet, so that they come back.")             \
	X(demotions_total, COUNTER, "Times this node ceased to be the primary.")                 \
	X(node_restarts_total, COUNTER, "Times the node's master ended while it was watched.")   \
	X(peer_leases_total, COUNTER, "Peer leases that were granted to this node.")             \
	X(peer_leases_given_total, COUNTER, "Peer leases that this node granted.")               \
	X(tilts_total, COUNTER, "Times the supervisor was held up, and observed for a while.")

enum supervisor_metric {
#define X(name, kind, help) SUPERVISOR_METRIC_##name,
	SUPERVISOR_METRICS(X)
#undef X
		SUPERVISOR_METRIC_COUNT
};

struct buffer;
struct supervisor;

const char *supervisor_metric_name(enum supervisor_metric metric);
uint64_t supervisor_metric_value(const struct supervisor *s, enum supervisor_metric metric,
				 uint64_t now);

/* All of them, and each check and peer, in the text format of Prometheus. */
void supervisor_metrics_write(const struct supervisor *s, struct buffer *out);

#endif
