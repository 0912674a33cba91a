/* SPDX-License-Identifier: ISC */
/*
 * What the admin socket shows of this worker: connections, channels, the worker
 * itself. Run by the worker. It reads passports and changes nothing.
 */
#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "keepsock/random.h"
#include "worker/control.h"
#include "worker/deposits.h"

/* --- passports --- */

static json_t *address_of(const struct passport *passport)
{
	char text[CONNECTION_PEER_TEXT];

	return json_string(connection_peer(passport, text));
}

static json_t *id_of(const struct passport *passport)
{
	char text[37];

	connection_id(passport, text);
	return json_string(text);
}

bool control_is_client(const struct passport *passport)
{
	return passport->magic == PASSPORT_MAGIC && passport->kind == PASSPORT_CLIENT;
}

static const char *tls_name(const struct worker *w, const struct passport *passport)
{
	const struct passport_tls *tls = passport_tls(w->arena, passport);

	return tls ? tls_version_name(tls->state.version) : "";
}

json_t *control_connection_row(struct worker *w, const struct passport *passport)
{
	json_t *row = json_object();

	json_object_set_new(row, "id", id_of(passport));
	json_object_set_new(row, "peer", address_of(passport));
	json_object_set_new(row, "state", json_string(passport_state_name(passport->state)));
	json_object_set_new(row, "user", control_text(passport_user(w->arena, passport)));
	json_object_set_new(row, "subscriptions", json_integer(passport->subscription_count));
	json_object_set_new(row, "queued_bytes",
			    json_integer((json_int_t)queue_length(&passport->out)));
	json_object_set_new(row, "tls", json_string(tls_name(w, passport)));
	json_object_set_new(row, "age_s",
			    json_integer((json_int_t)((w->now_ms - passport->accepted_at) / 1000)));
	return row;
}

json_t *control_show_connections(struct worker *w, uint64_t id, json_t *args)
{
	json_t *rows = json_array();
	arena_ref ref = 0;

	(void)id;
	(void)args;
	while ((ref = arena_record_next(w->arena, ARENA_PASSPORT, ref)) &&
	       json_array_size(rows) < CONTROL_ROWS_MAX) {
		const struct passport *passport = arena_at(w->arena, ref);

		if (control_is_client(passport) && connection_at(w, ref)->fd >= 0)
			json_array_append_new(rows, control_connection_row(w, passport));
	}
	return control_rows(rows);
}

#define SHOW_NUMBER(value)  json_integer((json_int_t)(value))
#define SHOW_HEX(value)     json_sprintf("0x%llx", (unsigned long long)(value))
#define SHOW_STATE(value)   json_string(passport_state_name(value))
#define SHOW_UUID(value)    id_of(passport)
#define SHOW_ADDRESS(value) address_of(passport)
#define SHOW_REF(value)     json_integer((json_int_t)(value))
#define SHOW_QUEUE(value)                                                    \
	json_pack("{s:I, s:I}", "done", (json_int_t)(value).done, "waiting", \
		  (json_int_t)queue_length(&(value)))
/* Never the keys. */
#define SHOW_TLS(value)                                                                          \
	json_pack("{s:s, s:s, s:I, s:I}", "version", tls_version_name((value).version), "suite", \
		  tls_suite_name((value).suite), "read_sequence",                                \
		  (json_int_t)(value).read.sequence, "write_sequence",                           \
		  (json_int_t)(value).write.sequence)
#define SHOW_READER(value)                                                                     \
	json_sprintf("%llx %llx %llx %llx", (unsigned long long)(value).word[0],               \
		     (unsigned long long)(value).word[1], (unsigned long long)(value).word[2], \
		     (unsigned long long)(value).word[3])

#define SHOW_ARRAY_TEXT(value) \
	control_text(          \
		slice_from((const char *)(value), strnlen((const char *)(value), sizeof(value))))
#define SHOW_ARRAY_HEX(value) words_of((value), sizeof(value))

/* FIELD and ARRAY of a record's table, with `row` and `record` in scope. */
#define SHOW_FIELD(type, name, since, show, doc) \
	json_object_set_new(row, #name, SHOW_##show(record->name));
#define SHOW_ARRAY(type, name, count, since, show, doc) \
	json_object_set_new(row, #name, SHOW_ARRAY_##show(record->name));

/* Spare words as one number: 0 unless somebody wrote there. */
static json_t *words_of(const void *bytes, size_t length)
{
	const uint8_t *byte = bytes;
	uint64_t any = 0;

	for (size_t i = 0; i < length; i++)
		any |= (uint64_t)byte[i] << i % 8 * 8;
	return SHOW_HEX(any);
}

static json_t *subscription_row(struct worker *w, const struct subscription_record *record)
{
	const struct channel *channel = hub_channel_at(&w->hub, record->channel);
	json_t *row = json_object();

	SUBSCRIPTION_FIELDS(SHOW_FIELD, SHOW_ARRAY)
	json_object_set_new(row, "channel", control_text(hub_name(&w->hub, channel)));
	return row;
}

static json_t *subscriptions_of(struct worker *w, const struct passport *passport)
{
	json_t *list = json_array();
	arena_ref ref = passport->subscriptions;

	while (ref) {
		const struct subscription_record *subscription = arena_at(w->arena, ref);

		json_array_append_new(list, subscription_row(w, subscription));
		ref = subscription->next;
	}
	return list;
}

static json_t *certificate_row(const struct passport_peer *peer)
{
	static const char *const names[PASSPORT_PEER_TEXTS] = {
		[PASSPORT_PEER_SUBJECT] = "subject",
		[PASSPORT_PEER_ISSUER] = "issuer",
		[PASSPORT_PEER_COMMON_NAME] = "common_name",
		[PASSPORT_PEER_SERIAL] = "serial",
		[PASSPORT_PEER_DNS_NAME] = "dns_name",
		[PASSPORT_PEER_EMAIL] = "email",
		[PASSPORT_PEER_URI] = "uri",
	};
	char fingerprint[2 * sizeof(peer->fingerprint) + 1];
	json_t *row = json_object();

	for (unsigned i = 0; i < PASSPORT_PEER_TEXTS; i++)
		json_object_set_new(row, names[i], control_text(passport_peer_text(peer, i)));
	for (size_t i = 0; i < sizeof(peer->fingerprint); i++)
		snprintf(fingerprint + 2 * i, 3, "%02x", peer->fingerprint[i]);
	json_object_set_new(row, "fingerprint", json_string(fingerprint));
	json_object_set_new(row, "not_after", json_integer((json_int_t)peer->not_after));
	json_object_set_new(row, "verify_result", json_integer(peer->verify_result));
	return row;
}

static json_t *tls_row(const struct passport_tls *record)
{
	json_t *row = json_object();

	PASSPORT_TLS_FIELDS(SHOW_FIELD, SHOW_ARRAY)
	return row;
}

static json_t *passport_row(struct worker *w, const struct passport *passport)
{
	const struct passport *record = passport;
	json_t *row = json_object();

	PASSPORT_FIELDS(SHOW_FIELD, SHOW_ARRAY)
	json_object_set_new(row, "user", control_text(passport_user(w->arena, passport)));
	json_object_set_new(row, "name", control_text(passport_name(w->arena, passport)));
	json_object_set_new(row, "subscribed", subscriptions_of(w, passport));
	if (passport->tls)
		json_object_set_new(row, "tls", tls_row(passport_tls(w->arena, passport)));
	if (passport_peer(w->arena, passport))
		json_object_set_new(row, "certificate",
				    certificate_row(passport_peer(w->arena, passport)));
	return row;
}

struct connection *control_find_client(struct worker *w, const char *text)
{
	struct uuid uuid;
	struct passport_id id;

	if (!text || !uuid_parse(slice_str(text), &uuid))
		return NULL;
	memcpy(id.bytes, uuid.bytes, sizeof(id.bytes));
	return connection_find(w, &id);
}

json_t *control_show_connection(struct worker *w, uint64_t id, json_t *args)
{
	struct connection *c =
		control_find_client(w, json_string_value(json_object_get(args, "id")));

	(void)id;
	return c ? control_row(passport_row(w, connection_passport(c)))
		 : control_rows(json_array());
}

/* --- channels --- */

static json_t *channel_row(struct worker *w, const struct channel *channel)
{
	const struct channel_record *record = hub_record(&w->hub, channel);
	static const char *const states[] = {"absent", "joining", "joined", "leaving"};

	return json_pack("{s:o, s:I, s:I, s:o, s:s}", "name",
			 control_text(hub_name(&w->hub, channel)), "subscribers",
			 (json_int_t)hub_subscribers(&w->hub, channel), "offset",
			 (json_int_t)record->offset, "epoch", control_text(hub_epoch(record)),
			 "state", states[record->state]);
}

static json_t *channel_record_row(const struct channel_record *record)
{
	json_t *row = json_object();

	CHANNEL_FIELDS(SHOW_FIELD, SHOW_ARRAY)
	return row;
}

json_t *control_show_channels(struct worker *w, uint64_t id, json_t *args)
{
	json_t *rows = json_array();
	struct channel *channel = NULL;

	(void)id;
	(void)args;
	while ((channel = hub_next(&w->hub, channel)) && json_array_size(rows) < CONTROL_ROWS_MAX)
		json_array_append_new(rows, channel_row(w, channel));
	return control_rows(rows);
}

json_t *control_show_channel(struct worker *w, uint64_t id, json_t *args)
{
	const char *name = json_string_value(json_object_get(args, "name"));
	struct channel *channel = name ? hub_find(&w->hub, slice_str(name)) : NULL;
	const struct channel_record *record;
	json_t *row;

	(void)id;
	if (!channel)
		return control_rows(json_array());
	record = hub_record(&w->hub, channel);
	row = channel_row(w, channel);
	json_object_set_new(row, "last_sequence", json_integer((json_int_t)record->last_sequence));
	json_object_set_new(row, "positioned", json_boolean(record->positioned));
	json_object_set_new(row, "unconfirmed", json_integer((json_int_t)record->unconfirmed));
	json_object_set_new(row, "waiting", json_integer(channel->waiting));
	json_object_set_new(row, "held_bytes", json_integer((json_int_t)channel->held_bytes));
	json_object_set_new(row, "record", channel_record_row(record));
	return control_row(row);
}

/* --- worker, Redis --- */

json_t *control_show_worker(struct worker *w, uint64_t id, json_t *args)
{
	const char *reason = worker_unhealthy_reason(w);

	(void)id;
	(void)args;
	return control_row(json_pack(
		"{s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:b}", "pid", (int)getpid(),
		"connections", (json_int_t)w->connection_count, "subscriptions",
		(json_int_t)w->hub.subscription_count, "channels", (json_int_t)w->hub.channel_count,
		"arena_used", (json_int_t)arena_bytes_used(w->arena), "arena_cap",
		(json_int_t)arena_bytes_cap(w->arena), "loop_lag_us",
		(json_int_t)metric_get(METRIC_loop_lag_microseconds), "uptime_s",
		(json_int_t)((w->now_ms - w->started_ms) / 1000), "redis", reason ? reason : "ok",
		"settled", (int)deposits_settled(w)));
}

/* Of this process, the one that looks not counted; -1 = nobody knows. */
static json_int_t count_descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	json_int_t count = -3; /* "." and "..", and the directory itself */

	if (!directory)
		return -1;
	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

json_t *control_show_fds(struct worker *w, uint64_t id, json_t *args)
{
	struct rlimit limit = {.rlim_cur = 0};

	(void)id;
	(void)args;
	(void)getrlimit(RLIMIT_NOFILE, &limit);
	return control_row(
		json_pack("{s:i, s:I, s:I, s:I, s:I, s:I, s:I}", "pid", (int)getpid(), "open",
			  count_descriptors(), "limit", (json_int_t)limit.rlim_cur, "clients",
			  (json_int_t)w->connection_count, "client_limit",
			  (json_int_t)w->connection_max, "listeners", (json_int_t)w->listener_count,
			  "deposited", (json_int_t)deposits_kept(w)));
}
