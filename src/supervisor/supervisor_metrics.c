/* SPDX-License-Identifier: ISC */
/*
 * The supervisor's metrics: their values, and the text of /metrics. Runs in the
 * supervisor; it changes nothing.
 */
#include "supervisor/supervisor_metrics.h"

#include <inttypes.h>

#include "keepsock/buffer.h"
#include "keepsock/clock.h"
#include "supervisor/supervisor.h"

#define PREFIX "keepsock_supervisor_"

static const struct {
	const char *name, *kind, *help;
} definitions[SUPERVISOR_METRIC_COUNT] = {
#define GAUGE               "gauge"
#define COUNTER             "counter"
#define X(name, kind, help) {#name, kind, help},
	SUPERVISOR_METRICS(X)
#undef X
#undef GAUGE
#undef COUNTER
};

const char *supervisor_metric_name(enum supervisor_metric metric)
{
	return definitions[metric].name;
}

uint64_t supervisor_metric_value(const struct supervisor *s, enum supervisor_metric metric,
				 uint64_t now)
{
	struct lease_view lease;
	struct node_view node;
	struct check_view check;
	struct peer_view peer;
	uint64_t hold_until = supervisor_hold_until(s);
	uint64_t count = 0;

	lease_get_view(s->lease, &lease);
	node_watch_get_view(s->node, &node);
	switch (metric) {
	case SUPERVISOR_METRIC_state: return (uint64_t)s->state;
	case SUPERVISOR_METRIC_primary: return s->state == HA_PRIMARY;
	case SUPERVISOR_METRIC_epoch: return s->epoch;
	case SUPERVISOR_METRIC_lease_left_milliseconds:
		return hold_until > now ? hold_until - now : 0;
	case SUPERVISOR_METRIC_peers_connected:
		for (size_t i = 0; i < peers_count(s->peers); i++) {
			peers_get_view(s->peers, i, &peer);
			count += peer.connected;
		}
		return count;
	case SUPERVISOR_METRIC_checks_bad:
		for (unsigned i = 0; checks_get_view(s->checks, i, &check); i++)
			count += check.judged && !check.good;
		return count;
	case SUPERVISOR_METRIC_requests_waiting:
		for (unsigned i = 0; i < WAITERS_MAX; i++)
			count += s->waiters[i].kind != WAITER_NONE;
		return count;
	case SUPERVISOR_METRIC_notify_waiting: return notify_waiting(s->notify);
	case SUPERVISOR_METRIC_redis_connected: return lease.connected;
	case SUPERVISOR_METRIC_node_up: return node.up;
	case SUPERVISOR_METRIC_node_restarts_total: return node.restarts_total;
	case SUPERVISOR_METRIC_clients_woken_total: return addresses_tickled(s->addresses);
	default: return s->metrics[metric];
	}
}

/* ---- /metrics ---- */

static void write_head(struct buffer *out, const char *name, const char *kind, const char *help)
{
	buffer_printf(out, "# HELP " PREFIX "%s %s\n# TYPE " PREFIX "%s %s\n", name, help, name,
		      kind);
}

/* A label's value: the name of a script may hold anything. */
static void write_labelled(struct buffer *out, const char *name, const char *label,
			   const char *text, uint64_t value)
{
	buffer_printf(out, PREFIX "%s{%s=\"", name, label);
	for (; *text; text++) {
		if (*text == '\n') {
			buffer_append_str(out, "\\n");
			continue;
		}
		if (*text == '"' || *text == '\\')
			buffer_append_char(out, '\\');
		buffer_append_char(out, *text);
	}
	buffer_printf(out, "\"} %" PRIu64 "\n", value);
}

static void write_checks(const struct supervisor *s, struct buffer *out)
{
	struct check_view check;

	write_head(out, "check_good", "gauge", "1 while the check is good, or not judged.");
	for (unsigned i = 0; checks_get_view(s->checks, i, &check); i++)
		write_labelled(out, "check_good", "check", check.name, check.good || !check.judged);
	write_head(out, "check_failures_total", "counter", "Runs of the check that failed.");
	for (unsigned i = 0; checks_get_view(s->checks, i, &check); i++)
		write_labelled(out, "check_failures_total", "check", check.name, check.failures);
}

static void write_peers(const struct supervisor *s, struct buffer *out)
{
	struct peer_view peer;

	if (peers_count(s->peers) == 0)
		return;
	write_head(out, "peer_connected", "gauge", "1 while the peer is connected.");
	for (size_t i = 0; i < peers_count(s->peers); i++) {
		peers_get_view(s->peers, i, &peer);
		write_labelled(out, "peer_connected", "node", peer.name, peer.connected);
	}
}

void supervisor_metrics_write(const struct supervisor *s, struct buffer *out)
{
	uint64_t now = clock_boottime_ms();

	for (int i = 0; i < SUPERVISOR_METRIC_COUNT; i++) {
		write_head(out, definitions[i].name, definitions[i].kind, definitions[i].help);
		buffer_printf(out, PREFIX "%s %" PRIu64 "\n", definitions[i].name,
			      supervisor_metric_value(s, (enum supervisor_metric)i, now));
	}
	write_checks(s, out);
	write_peers(s, out);
}
