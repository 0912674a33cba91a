/* SPDX-License-Identifier: ISC */
/*
 * The health checks, see checks.h. One timer; at each of its ticks every check
 * that is not still running is made. Three of them read one answer of the
 * master, show metrics, and are made together.
 */
#include "supervisor/checks.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/clock.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/settings.h"
#include "supervisor/check_http.h"
#include "supervisor/check_place.h"
#include "supervisor/node_admin.h"
#include "supervisor/program.h"
#include "supervisor/rise_fall.h"

#define CHECKS_MAGIC UINT32_C(0x534b4843) /* "CHKS" */
#define CHECK_MAGIC  UINT32_C(0x4b454843) /* "CHEK" */
#define SCRIPTS_MAX  8
#define FIXED        ((unsigned)CHECK_ECHO_TLS) /* as many checks of which there is one each */
#define CHECKS_MAX   (FIXED + 1 + SCRIPTS_MAX)

struct check {
	uint32_t magic;
	enum check_kind kind;
	struct checks *checks;
	char *script; /* NULL = not a script; the settings' own */
	struct rise_fall verdict;
	bool known; /* there is a verdict */
	unsigned failed_in_row;
	unsigned late_in_row; /* of those, the last that had no result in time */
	uint64_t started_ms;  /* boottime; 0 = not under way */
	uint64_t runs, failures, took_ms, at_ms;
	char text[CHECK_TEXT_MAX];
	struct check_http *http;
	struct program *program;
};

struct checks {
	uint32_t magic;
	struct checks_options options;
	struct program_user user;
	struct check_places places;
	struct event *timer;
	struct node_call *metrics; /* under way */
	struct check checks[CHECKS_MAX];
	unsigned count;
	json_int_t loop_lag; /* microseconds; the last one judged */
	uint64_t excused_until_ms;
};

static const char *kind_name(enum check_kind kind)
{
#define X(symbol, name, help) name,
	static const char *const names[] = {CHECK_KINDS(X)};
#undef X

	return names[kind];
}

static void format_name(const struct check *check, char *out, size_t size)
{
	const char *slash = check->script ? strrchr(check->script, '/') : NULL;

	if (slash)
		snprintf(out, size, "%s:%s", kind_name(check->kind), slash + 1);
	else
		snprintf(out, size, "%s", kind_name(check->kind));
}

/* Redis's own absence is nobody's fault here, and no other node would do better. */
static bool is_judged(const struct check *check)
{
	const struct checks *checks = check->checks;

	switch (check->kind) {
	case CHECK_DELIVERY: return checks->options.redis_is_there(checks->options.ctx);
	case CHECK_READY:
		return checks->places.ready.address &&
		       checks->options.redis_is_there(checks->options.ctx);
	case CHECK_ECHO: return checks->options.settings->http.echo && checks->places.echo.address;
	case CHECK_ECHO_TLS: return checks->options.settings->http.echo;
	case CHECK_MASTER:
	case CHECK_LOOP:
	case CHECK_SCRIPT: break;
	}
	return true;
}

/* We or the node were held up, or it has just been started, which its master answers and says. */
static bool is_excused(const struct check *check, uint64_t now)
{
	const struct checks *checks = check->checks;

	return now < checks->excused_until_ms ||
	       (check->kind != CHECK_MASTER && check->kind != CHECK_SCRIPT &&
		checks->options.is_starting(checks->options.ctx));
}

/* error: NULL = it went well. */
static void take_result(struct check *check, const char *error)
{
	uint64_t now = clock_boottime_ms();
	char name[64];
	bool changed;

	check->took_ms = now - check->started_ms;
	check->started_ms = 0;
	check->at_ms = now;
	check->runs++;
	check->failures += error != NULL;
	if (error)
		snprintf(check->text, sizeof(check->text), "%s", error);
	if (error && (!is_judged(check) || is_excused(check, now)))
		return;
	check->late_in_row = error && check->took_ms >= (uint64_t)check->checks->options.settings
								->cluster.check_timeout
				     ? check->late_in_row + 1
				     : 0;
	check->failed_in_row = error ? check->failed_in_row + 1 : 0;
	changed = rise_fall_add(&check->verdict, error == NULL);
	check->known = check->known || changed || check->failed_in_row >= check->verdict.fall;
	if (!changed)
		return;
	format_name(check, name, sizeof(name));
	if (error)
		log_warning("check name=%s change=good->bad reason=%s ms=%llu", name,
			    log_value_str(error), (unsigned long long)check->took_ms);
	else
		log_info("check name=%s change=bad->good ms=%llu", name,
			 (unsigned long long)check->took_ms);
	check->checks->options.on_change(check->checks->options.ctx);
}

/* ---- what the master tells ---- */

/* The master shows a lateness for a second after it: once is a failure, the same again tells
 * nothing. */
static void judge_loop(struct checks *checks, const json_t *metrics)
{
	json_int_t lag = json_integer_value(json_object_get(metrics, "loop_lag_microseconds"));
	bool late = lag / 1000 > checks->options.settings->cluster.check_loop_lag;
	bool known = lag == checks->loop_lag;
	char text[CHECK_TEXT_MAX];

	checks->loop_lag = lag;
	if (late && known)
		return;
	snprintf(text, sizeof(text), "a worker's event loop is %lld ms late",
		 (long long)lag / 1000);
	take_result(&checks->checks[CHECK_LOOP], late ? text : NULL);
}

static void judge_delivery(struct checks *checks, const json_t *metrics)
{
	json_int_t age =
		json_integer_value(json_object_get(metrics, "redis_probe_age_milliseconds"));
	char text[CHECK_TEXT_MAX];

	snprintf(text, sizeof(text), "no delivery probe was heard for %lld ms", (long long)age);
	take_result(&checks->checks[CHECK_DELIVERY],
		    age > checks->options.settings->redis.probe_timeout ? text : NULL);
}

static void on_metrics(void *ctx, const json_t *answer, const char *error)
{
	struct checks *checks = ctx;

	MAGIC_CHECK(checks, CHECKS_MAGIC);
	checks->metrics = NULL;
	take_result(&checks->checks[CHECK_MASTER], answer ? NULL : error);
	/* A master that says nothing says nothing of the others. */
	if (answer) {
		judge_loop(checks, answer);
		judge_delivery(checks, answer);
	}
	checks->checks[CHECK_LOOP].started_ms = checks->checks[CHECK_DELIVERY].started_ms = 0;
}

/* ---- the others ---- */

static void on_ready_done(void *ctx, const char *error, bool standby)
{
	struct check *check = ctx;
	struct checks *checks = check->checks;

	MAGIC_CHECK(check, CHECK_MAGIC);
	check->http = NULL;
	if (standby && checks->options.is_primary(checks->options.ctx))
		error = "/ready: the node believes to be a standby";
	take_result(check, error);
}

static void on_echo_done(void *ctx, const char *error, bool standby)
{
	struct check *check = ctx;

	(void)standby;
	MAGIC_CHECK(check, CHECK_MAGIC);
	check->http = NULL;
	take_result(check, error);
}

static void on_script_done(void *ctx, bool good, const char *how)
{
	struct check *check = ctx;

	MAGIC_CHECK(check, CHECK_MAGIC);
	check->program = NULL;
	take_result(check, good ? NULL : how);
}

static void start_echo(struct check *check, const struct check_place *place)
{
	const struct checks_options *options = &check->checks->options;

	if (options->settings->http.echo && place->address)
		check->http = check_echo_start(options->base, place,
					       options->settings->cluster.check_timeout,
					       on_echo_done, check);
}

static void start_script(struct check *check)
{
	char *argv[] = {check->script, NULL};
	struct buffer error = {0};

	check->program = program_start(check->checks->options.base, &check->checks->user, argv,
				       check->checks->options.settings->cluster.check_timeout,
				       on_script_done, check, &error);
	if (!check->program)
		take_result(check, buffer_cstr(&error));
	buffer_free(&error);
}

static void start_check(struct check *check)
{
	struct checks *checks = check->checks;
	const struct settings *settings = checks->options.settings;
	int64_t limit = settings->cluster.check_timeout;

	check->started_ms = clock_boottime_ms();
	switch (check->kind) {
	case CHECK_MASTER:
		checks->metrics = node_call_start(checks->options.base, settings->admin.socket,
						  "show metrics", limit, on_metrics, checks);
		break;
	case CHECK_LOOP:
	case CHECK_DELIVERY: break; /* with the master's */
	case CHECK_READY:
		if (checks->places.ready.address)
			check->http = check_ready_start(checks->options.base, &checks->places.ready,
							limit, on_ready_done, check);
		break;
	case CHECK_ECHO: start_echo(check, &checks->places.echo); break;
	case CHECK_ECHO_TLS: start_echo(check, &checks->places.echo_tls); break;
	case CHECK_SCRIPT: start_script(check); break;
	}
}

static void on_tick(evutil_socket_t fd, short what, void *ctx)
{
	struct checks *checks = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(checks, CHECKS_MAGIC);
	for (unsigned i = 0; i < checks->count; i++) {
		if (checks->checks[i].started_ms == 0)
			start_check(&checks->checks[i]);
	}
}

/* ---- from outside ---- */

static void stop_all(struct checks *checks)
{
	node_call_cancel(checks->metrics);
	for (unsigned i = 0; i < checks->count; i++) {
		struct check *check = &checks->checks[i];

		check_http_cancel(check->http);
		program_end(check->program);
	}
}

void checks_forget(struct checks *checks)
{
	for (unsigned i = 0; i < checks->count; i++) {
		checks->checks[i].verdict.count = 0;
		checks->checks[i].failed_in_row = checks->checks[i].late_in_row = 0;
		checks->checks[i].known = false;
	}
}

void checks_excuse(struct checks *checks, uint64_t until_ms)
{
	checks->excused_until_ms = until_ms;
	for (unsigned i = 0; i < checks->count; i++)
		checks->checks[i].failed_in_row = checks->checks[i].late_in_row = 0;
}

bool checks_bad(const struct checks *checks, const char **worst)
{
	for (unsigned i = 0; i < checks->count; i++) {
		const struct check *check = &checks->checks[i];

		if (is_judged(check) && check->known && !rise_fall_good(&check->verdict)) {
			*worst = check->text;
			return true;
		}
	}
	return false;
}

bool checks_hang(const struct checks *checks, const char **worst)
{
	unsigned fall = (unsigned)checks->options.settings->cluster.check_fall;

	for (unsigned i = 0; i < checks->count; i++) {
		const struct check *check = &checks->checks[i];
		bool echo = check->kind == CHECK_ECHO || check->kind == CHECK_ECHO_TLS;

		if (((check->kind == CHECK_MASTER || check->kind == CHECK_LOOP) &&
		     check->failed_in_row >= fall) ||
		    (echo && is_judged(check) && check->late_in_row >= fall)) {
			*worst = check->text;
			return true;
		}
	}
	return false;
}

bool checks_good(const struct checks *checks, const char **worst)
{
	*worst = "";
	for (unsigned i = 0; i < checks->count; i++) {
		const struct check *check = &checks->checks[i];

		if (is_judged(check) && !rise_fall_good(&check->verdict)) {
			*worst = check->runs ? check->text : "not checked yet";
			return false;
		}
	}
	return true;
}

bool checks_get_view(const struct checks *checks, unsigned index, struct check_view *view)
{
	const struct check *check;

	if (index >= checks->count)
		return false;
	check = &checks->checks[index];
	*view = (struct check_view){
		.good = rise_fall_good(&check->verdict),
		.judged = is_judged(check),
		.runs = check->runs,
		.failures = check->failures,
		.took_ms = check->took_ms,
		.at_ms = check->at_ms,
		.text = check->text,
	};
	format_name(check, view->name, sizeof(view->name));
	return true;
}

static void add_check(struct checks *checks, enum check_kind kind, char *script)
{
	const struct settings *settings = checks->options.settings;

	checks->checks[checks->count++] = (struct check){
		.magic = CHECK_MAGIC,
		.kind = kind,
		.checks = checks,
		.script = script,
		.verdict = {.rise = (unsigned)settings->cluster.check_rise,
			    .fall = (unsigned)settings->cluster.check_fall},
	};
}

struct checks *checks_create(const struct checks_options *options, struct buffer *error)
{
	int64_t interval = options->settings->cluster.check_interval;
	struct timeval every = {(time_t)(interval / 1000), (suseconds_t)(interval % 1000 * 1000)};
	struct checks *checks = xcalloc(1, sizeof(*checks));
	const struct settings_list *scripts = &options->settings->cluster.check_scripts;

	checks->magic = CHECKS_MAGIC;
	checks->options = *options;
	checks->timer = event_new(options->base, -1, EV_PERSIST, on_tick, checks);
	if (!checks->timer)
		abort(); /* only out of memory */
	if (program_find_user(options->settings, &checks->user, error) < 0 ||
	    check_places_find(options->settings, &checks->places, error) < 0) {
		checks_free(checks);
		return NULL;
	}
	for (unsigned kind = 0; kind < FIXED; kind++)
		add_check(checks, (enum check_kind)kind, NULL);
	if (checks->places.echo_tls.address)
		add_check(checks, CHECK_ECHO_TLS, NULL);
	for (size_t i = 0; i < scripts->count && i < SCRIPTS_MAX; i++)
		add_check(checks, CHECK_SCRIPT, scripts->items[i]);
	if (event_add(checks->timer, &every) != 0)
		abort(); /* only out of memory */
	event_active(checks->timer, EV_TIMEOUT, 1);
	return checks;
}

void checks_free(struct checks *checks)
{
	if (!checks)
		return;
	MAGIC_CHECK(checks, CHECKS_MAGIC);
	stop_all(checks);
	check_places_free(&checks->places);
	event_free(checks->timer);
	checks->magic = 0;
	free(checks);
}
