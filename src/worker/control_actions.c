/* SPDX-License-Identifier: ISC */
/*
 * What the admin socket makes this worker do. Run by the worker. Everything goes
 * through the same calls that clients and the HTTP API use.
 */
#include <jansson.h>
#include <stdlib.h>

#include "keepsock/alloc.h"
#include "keepsock/channel_name.h"
#include "keepsock/crash_points.h"
#include "keepsock/redis_scripts.h"
#include "worker/client_server_side.h"
#include "worker/control.h"
#include "worker/deposits.h"
#include "worker/publish.h"
#include "worker/purge.h"

json_t *control_disconnect(struct worker *w, uint64_t id, json_t *args)
{
	struct connection *c =
		control_find_client(w, json_string_value(json_object_get(args, "client")));
	json_int_t code = json_integer_value(json_object_get(args, "code"));
	const char *reason = json_string_value(json_object_get(args, "reason"));
	bool open = c && (connection_passport(c)->state == PASSPORT_STATE_CONNECTED ||
			  connection_passport(c)->state == PASSPORT_STATE_UNAUTHENTICATED ||
			  connection_passport(c)->state == PASSPORT_STATE_ECHO);

	(void)id;
	if (open)
		connection_disconnect(c, code ? (uint16_t)code : CLIENT_DISCONNECT_FORCE_DISCONNECT,
				      reason && reason[0] ? reason : NULL);
	return control_row(json_pack("{s:i}", "closed", open ? 1 : 0));
}

json_t *control_unsubscribe(struct worker *w, uint64_t id, json_t *args)
{
	const char *channel = json_string_value(json_object_get(args, "channel"));
	struct connection *c =
		control_find_client(w, json_string_value(json_object_get(args, "client")));
	bool done = c && connection_passport(c)->state == PASSPORT_STATE_CONNECTED &&
		    client_server_unsubscribe(c, slice_str(channel ? channel : ""));

	(void)id;
	return control_row(json_pack("{s:b, s:b}", "found", c != NULL, "unsubscribed", done));
}

struct publish_request {
	struct worker *worker;
	uint64_t id;
};

static void on_published(void *ctx, const struct redis_publish_result *result)
{
	struct publish_request *request = ctx;
	struct worker *w = request->worker;

	publish_count(w, result);
	if (result->outcome.code == REDIS_RESULT_OK) {
		control_reply(w, request->id,
			      control_row(json_pack("{s:I, s:o}", "offset",
						    (json_int_t)result->channels[0].offset, "epoch",
						    control_text(result->channels[0].epoch))));
	} else {
		control_reply(w, request->id, control_refusal(result->outcome.error));
	}
	free(request);
}

/* NULL: the answer comes later. */
json_t *control_publish(struct worker *w, uint64_t id, json_t *args)
{
	const char *name = json_string_value(json_object_get(args, "channel"));
	const char *data = json_string_value(json_object_get(args, "data"));
	struct slice channel = slice_str(name ? name : "");
	struct publish_order order = {
		.channels = &channel,
		.n_channels = 1,
		.body.data = slice_str(data ? data : ""),
	};
	const struct channel_options *options;
	enum channel_verdict verdict = channel_check(&w->settings, channel, &options);
	struct publish_request *request;

	if (verdict != CHANNEL_OK && verdict != CHANNEL_PRIVATE)
		return control_refusal(client_error_message(channel_verdict_error(verdict)));
	if (!json_validate(order.body.data))
		return control_refusal("the data is not valid JSON");
	request = xcalloc(1, sizeof(*request));
	request->worker = w;
	request->id = id;
	publish_start(w, id, &order, on_published, request);
	return NULL;
}

struct purge_request {
	struct worker *worker;
	uint64_t id;
};

static void on_purged(void *ctx, const char *error, uint64_t workers, uint64_t members)
{
	struct purge_request *request = ctx;

	control_reply(request->worker, request->id,
		      error ? control_refusal(error)
			    : control_row(json_pack("{s:I, s:I}", "workers", (json_int_t)workers,
						    "members", (json_int_t)members)));
	free(request);
}

/* NULL: the answer comes later. */
json_t *control_purge(struct worker *w, uint64_t id, json_t *args)
{
	const char *node = json_string_value(json_object_get(args, "node"));
	struct purge_request *request;

	if (!node || !node[0])
		return control_refusal("which node?");
	request = xcalloc(1, sizeof(*request));
	request->worker = w;
	request->id = id;
	purge_node(w, slice_str(node), on_purged, request);
	return NULL;
}

#ifdef KEEPSOCK_CRASH_POINTS
json_t *control_crash_after(struct worker *w, uint64_t id, json_t *args)
{
	const char *point = json_string_value(json_object_get(args, "point"));
	json_int_t count = json_integer_value(json_object_get(args, "count"));

	(void)w;
	(void)id;
	if (!point || !crash_point_arm(point, (unsigned)count))
		return control_refusal("no such crash point");
	return control_row(json_pack("{s:s}", "armed", point));
}

json_t *control_deposit_anew(struct worker *w, uint64_t id, json_t *args)
{
	(void)id;
	(void)args;
	deposits_anew(w);
	return control_row(json_object());
}
#endif
